# SPDX-License-Identifier: Apache-2.0
"""report.html: one static file, everything inside it, readable on a phone, printable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from hwflow import boards
from hwflow.emit.engine import ARRAY_MACS, DW_MACS
from hwflow.report import figures
from hwflow.report.schema import Report

_TEMPLATES = Path(__file__).parent / "templates"


def render(report: Report, extras: Mapping[str, Any]) -> str:
    """The page of a report. extras: `frames` (image, boxes, scores, truth) and what stages made."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined,
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )
    layers = [layer.model_dump() for layer in report.layers]
    bytes_per_cycle = boards.load(report.board).bytes_per_cycle
    drawn = {
        "photographs": [figures.photograph(**frame) for frame in extras.get("frames", [])],
        "timeline": figures.timeline(layers) if layers else None,
        "losses": figures.losses(layers) if layers else None,
        "roofline": figures.roofline(layers, ARRAY_MACS + DW_MACS, bytes_per_cycle)
        if layers else None,
        "resources": figures.resources(report.resources) if report.resources.lut else None,
    }
    return environment.get_template("report.html.j2").render(
        report=report, figures=drawn, origins=origins(report), cards=cards(report),
        made=extras.get("made", {}), layers=layers,
    )


def cards(report: Report) -> list[dict[str, str]]:
    """The few numbers at the top."""
    rows = []

    def card(title: str, value: str | None, note: str) -> None:
        rows.append({"title": title, "value": value or "not measured", "note": note,
                     "state": "" if value else "missing"})

    speed = report.performance
    card("frames a second", f"{speed.fps:.1f}" if speed.fps is not None else None,
         f"{speed.cycles_per_frame:,} cycles at {speed.clock_mhz:g} MHz, {speed.kind}"
         if speed.fps is not None else str(speed.reason))
    found = [report.verify.qonnx.mismatches, report.verify.hls.mismatches,
             report.verify.rtl.mismatches]
    shown = [("?" if value is None else str(value)) for value in found]
    card("mismatches", " / ".join(shown) if any(v is not None for v in found) else None,
         "QONNX / HLS C++ / RTL against the integer graph, every layer")
    accuracy = report.accuracy
    card("accuracy", f"{100 * accuracy.value:.1f} %" if accuracy.value is not None else None,
         f"{accuracy.metric}, float "
         + (f"{100 * accuracy.float_value:.1f} %" if accuracy.float_value is not None else "n/a")
         if accuracy.value is not None else str(accuracy.reason))
    used = report.resources
    card("logic", f"{100 * used.lut.used / used.lut.available:.0f} % LUT" if used.lut else None,
         f"{used.lut.used:,} of {used.lut.available:,}, {used.kind}" if used.lut
         else str(used.reason))
    return rows


def origins(report: Report) -> list[tuple[str, str, str, str]]:
    """Every number with the tool that gave it and what kind it is: (what, value, tool, kind)."""
    rows: list[tuple[str, str, str, str]] = []

    def row(what: str, value: object, tool: str | None, kind: str | None, why: str | None) -> None:
        if value is None:
            rows.append((what, "null", "", why or ""))
        else:
            shown = f"{value:,}" if isinstance(value, int | float) else str(value)
            rows.append((what, shown, tool or "", kind or ""))

    versions = "qonnx executor (onnxruntime)"
    for name, tool in (("qonnx", versions), ("hls", "g++"), ("rtl", report.performance.tool)):
        checked = getattr(report.verify, name)
        count = getattr(checked, "images", None) if name != "rtl" else checked.frames
        row(f"{name}: {'frames' if name == 'rtl' else 'images'}", count, tool, "counted",
            checked.reason)
        row(f"{name}: mismatches", checked.mismatches, tool, "exact comparison", checked.reason)
    accuracy = report.accuracy
    row(f"accuracy, {accuracy.metric or 'AP50'}", accuracy.value, "torch, Brevitas",
        f"measured on {accuracy.images} images", accuracy.reason)
    row("accuracy of the float network", accuracy.float_value, "torch",
        "recorded in the checkpoint by its training", accuracy.reason)
    speed = report.performance
    for name in ("cycles_per_frame", "fps", "clock_mhz", "macs_per_frame", "mac_utilisation",
                 "ddr_bytes_per_frame"):
        row(name.replace("_", " "), getattr(speed, name), speed.tool, speed.kind, speed.reason)
    used = report.resources
    for name in ("lut", "ff", "bram36", "dsp"):
        one = getattr(used, name)
        row(name.upper(), f"{one.used:,} of {one.available:,}" if one else None, used.tool,
            used.kind, used.reason)
    row("Fmax, MHz", report.timing.fmax_mhz, report.timing.tool, report.timing.kind,
        report.timing.reason)
    return rows
