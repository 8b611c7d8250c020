# SPDX-License-Identifier: Apache-2.0
"""The figures of the page, as text to put into it: SVG, or PNG in base64 for photographs."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hwflow.report.schema import Resources

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

PALETTE = {
    "conv": "#7b3294", "pw": "#2166ac", "dw": "#1b9e77", "deform_dw": "#d95f02",
    "maxpool": "#a6761d", "peaks": "#e7298a", "load": "#737373", "store": "#737373",
}
OTHER = "#9e9ac8"
INK, GRID, FOUND, TRUTH = "#1f2933", "#d5dbe1", "#00e676", "#ffffff"
SCORE, MOST = 0.3, 10
STYLE: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": GRID, "axes.spines.top": False,
    "axes.spines.right": False, "svg.hashsalt": "hwflow", "svg.fonttype": "none",
}


def photograph(
    image: np.ndarray, boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray | None = None
) -> dict[str, str]:
    """A photograph uint8 (3, H, W) with its boxes: {"png": base64, "caption"}."""
    kept = scores >= SCORE
    rule = f"score of at least {SCORE}"
    if not kept.any():
        kept = np.zeros(len(scores), bool)
        kept[np.argsort(-scores, kind="stable")[:MOST]] = True
        rule = f"the best {MOST}: no score reaches {SCORE}"
    height, width = image.shape[1:]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 4.2 * height / width), dpi=160)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(image.transpose(1, 2, 0), interpolation="lanczos")
        for box in truth if truth is not None else ():
            axes.add_patch(_box(box, TRUTH, 1.0, (0, (2, 2))))
        for box, score in zip(boxes[kept], scores[kept], strict=True):
            axes.add_patch(_box(box, FOUND, 1.6, "solid"))
            axes.text(box[0] + 1, box[1] + 1, f"{score:.2f}", color="black", fontsize=5, va="top",
                      bbox={"facecolor": FOUND, "edgecolor": "none", "pad": 0.6})
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.axis("off")
        data = io.BytesIO()
        figure.savefig(data, format="png", metadata={"Software": None})
    caption = f"{int(kept.sum())} boxes of the simulated hardware ({rule})"
    if truth is not None:
        caption += f", dashed: the {len(truth)} annotated ones"
    return {"png": base64.b64encode(data.getvalue()).decode(), "caption": caption}


def _box(box: np.ndarray, colour: str, width: float, style: Any) -> Rectangle:  # noqa: ANN401
    x0, y0, x1, y1 = box
    return Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=width,
                     linestyle=style)


def timeline(layers: Sequence[Mapping[str, Any]]) -> str:
    """When each layer ran, one lane an op."""
    lanes: dict[str, list[tuple[int, int]]] = {}
    at = 0
    for layer in layers:
        if layer["cycles"]:
            lanes.setdefault(layer["op"], []).append((at, layer["cycles"]))
        at += layer["cycles"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.42 * len(lanes) + 0.9))
        axes = figure.add_subplot()
        for row, (op, spans) in enumerate(lanes.items()):
            axes.broken_barh(spans, (row - 0.38, 0.76), facecolors=_colour(op), linewidth=0)
        shares = [sum(c for _, c in spans) / max(at, 1) for spans in lanes.values()]
        axes.set_yticks(range(len(lanes)), [
            f"{op}  {100 * share:.1f} %" for op, share in zip(lanes, shares, strict=True)
        ])
        axes.invert_yaxis()
        axes.set_xlim(0, max(at, 1))
        axes.set_xlabel("clock cycles of one frame")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        return _svg(figure)


def losses(layers: Sequence[Mapping[str, Any]], most: int = 18) -> str:
    """The costliest layers: measured cycles against the bound of the arithmetic."""
    top = sorted(layers, key=lambda layer: -layer["cycles"])[:most]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.26 * len(top) + 0.9))
        axes = figure.add_subplot()
        rows = np.arange(len(top))
        axes.barh(rows, [layer["cycles"] for layer in top], 0.72,
                  color=[_colour(layer["op"]) for layer in top], alpha=0.35)
        axes.barh(rows, [layer["ideal_cycles"] for layer in top], 0.36,
                  color=[_colour(layer["op"]) for layer in top])
        axes.set_yticks(rows, [f"{layer['name']} ({layer['op']})" for layer in top], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("cycles: measured (light), bound of the arithmetic (dark)")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        return _svg(figure)


def roofline(
    layers: Sequence[Mapping[str, Any]], peak_macs: int, bytes_per_cycle: float
) -> str:
    """MACs a cycle over MACs a byte of DDR, below the two roofs of the engine."""
    work = [layer for layer in layers if layer["macs"] and layer["ddr_bytes"] and layer["cycles"]]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.2))
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.set_yscale("log")
        intensity = [layer["macs"] / layer["ddr_bytes"] for layer in work] or [1.0]
        x = np.geomspace(min(*intensity, 1.0) / 2, max(*intensity, 200.0) * 2, 200)
        axes.plot(x, np.minimum(x * bytes_per_cycle, peak_macs), color=INK, linewidth=1.4)
        axes.annotate(f"{peak_macs} multipliers", (x[-1], peak_macs), ha="right", va="bottom",
                      fontsize=8, xytext=(0, 3), textcoords="offset points")
        axes.annotate(f"DDR, {bytes_per_cycle:g} bytes a cycle", (x[20], x[20] * bytes_per_cycle),
                      ha="left", va="top", fontsize=8, xytext=(8, -2), textcoords="offset points")
        for op in dict.fromkeys(layer["op"] for layer in work):
            mine = [layer for layer in work if layer["op"] == op]
            axes.scatter(
                [layer["macs"] / layer["ddr_bytes"] for layer in mine],
                [layer["macs"] / layer["cycles"] for layer in mine],
                s=[8 + layer["cycles"] / 150 for layer in mine], color=_colour(op), alpha=0.75,
                linewidths=0, label=op,
            )
        totals = {key: sum(layer[key] for layer in layers) for key in ("macs", "cycles",
                                                                     "ddr_bytes")}
        if totals["cycles"] and totals["ddr_bytes"]:
            axes.scatter([totals["macs"] / totals["ddr_bytes"]],
                         [totals["macs"] / totals["cycles"]], marker="*", s=220, color=INK,
                         zorder=5, label="whole network")
        axes.set_xlabel("MACs for each byte of DDR traffic")
        axes.set_ylabel("MACs a cycle")
        axes.grid(color=GRID, linewidth=0.6)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        return _svg(figure)


def resources(used: Resources) -> str:
    """Share of the chip that is used."""
    rows = [(name.upper(), one) for name in ("lut", "ff", "bram36", "dsp")
            if (one := getattr(used, name)) is not None]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.42 * len(rows) + 0.5))
        axes = figure.add_subplot()
        for row, (_, one) in enumerate(rows):
            share = 100 * one.used / one.available
            axes.barh(row, 100, 0.6, color="#eef1f4")
            axes.barh(row, share, 0.6, color="#2166ac")
            axes.text(101, row, f"{one.used:,} of {one.available:,} ({share:.0f} %)", va="center",
                      fontsize=9)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 135)
        axes.set_xticks([])
        axes.spines[["bottom", "left"]].set_visible(False)
        return _svg(figure)


def _colour(op: str) -> str:
    return PALETTE.get(op, OTHER)


def _svg(figure: Figure) -> str:
    """The figure as an <svg> element that fits its column."""
    data = io.StringIO()
    figure.savefig(data, format="svg", bbox_inches="tight", transparent=True,
                   metadata={"Date": None, "Creator": None})
    text = data.getvalue()
    text = text[text.index("<svg"):]
    return re.sub(r'(<svg[^>]*?) width="[^"]+" height="[^"]+"|(<svg[^>]*?) height="[^"]+"',
                  lambda m: m[1] or m[2], text, count=1)
