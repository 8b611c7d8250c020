# SPDX-License-Identifier: Apache-2.0
"""What the figures of the page show, in numbers; the templates draw them.

Places are in percent of the drawing: the browser stretches it to the page and leaves the size of
the text alone, so that one figure serves a wide screen, a phone and paper. Colours are names of the
style sheet, because dark mode has others.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from hwflow.report.schema import Layer, Report, Resources, Used

OPS = ("conv", "pw", "dw", "deform_dw", "maxpool", "peaks", "load", "store")  # have own colours
QUEUES = ("array", "lanes")
RESOURCES = {"lut": "LUT", "ff": "FF", "bram36": "BRAM36", "dsp": "DSP"}
FOUND, TRUTH = "#00e676", "#ffffff"
SIDE_PX = 768  # of a picture with boxes drawn in, about
SCORE, MOST = 0.3, 10
COSTLIEST, CHANGED = 12, 12
FINEST = 4000  # parts of a timeline that can be told from each other, enlarged


@dataclass(frozen=True)
class Box:
    """A box on a photograph, in pixels; score is None for an annotated one."""

    x: float
    y: float
    width: float
    height: float
    score: float | None = None


@dataclass(frozen=True)
class Photo:
    """A photograph (PNG in base64) and its boxes; those of at least `least` show at first."""

    png: str
    width: int
    height: int
    found: tuple[Box, ...]
    truth: tuple[Box, ...]
    least: float
    rule: str

    @property
    def shown(self) -> int:
        """How many boxes show at first."""
        return sum(box.score is not None and box.score >= self.least for box in self.found)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, at a percentage of it."""

    at: float
    text: str
    more: str = ""


@dataclass(frozen=True)
class Bar:
    """A layer on a track; `tip` is what the page says when one points at it."""

    x: float
    width: float
    name: str
    style: str
    tip: str


@dataclass(frozen=True)
class Track:
    """One queue of the engine, and the share of the frame it is busy, in percent.

    A bar is one turn of one of the `layers`.
    """

    name: str
    bars: tuple[Bar, ...]
    busy: float
    layers: int


@dataclass(frozen=True)
class Share:
    """An operation's cycles, and their share of all layers' cycles in percent."""

    op: str
    style: str
    cycles: int
    percent: float


@dataclass(frozen=True)
class Timeline:
    """When each layer ran in a frame of `cycles`, which end at `width` percent of the drawing.

    Both queues work during `overlap` percent of the frame; `unplaced` layers name no queue.
    """

    tracks: tuple[Track, ...]
    ticks: tuple[Tick, ...]
    shares: tuple[Share, ...]
    cycles: int
    width: float
    overlap: float | None
    unplaced: int


@dataclass(frozen=True)
class Cost:
    """A layer's cycles beside the bound of the arithmetic, in percent of the longest."""

    name: str
    op: str
    style: str
    cycles: int
    ideal_cycles: int
    measured: float
    bound: float

    @property
    def lost(self) -> int:
        """Cycles above the bound."""
        return self.cycles - self.ideal_cycles


@dataclass(frozen=True)
class Point:
    """A layer below the roofs, in percent of the drawing (y downwards); radius in pixels."""

    x: float
    y: float
    radius: float
    style: str
    tip: str


@dataclass(frozen=True)
class Roofline:
    """MACs a cycle over MACs a byte of DDR, below the two roofs of the engine.

    roof: the line from where the DDR's roof enters the drawing, over the ridge, to the right end.
    """

    points: tuple[Point, ...]
    whole: Point
    roof: tuple[tuple[float, float], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    peak_macs: int
    bytes_per_cycle: float
    ops: tuple[Share, ...]


@dataclass(frozen=True)
class Meter:
    """One run's use of a resource; `number` of the run; percent is None on an unknown chip."""

    number: int
    run: str
    text: str
    percent: float | None


@dataclass(frozen=True)
class Gauge:
    """A resource of the chip with the use of each run, and the board's limit in percent."""

    name: str
    limit: float | None
    meters: tuple[Meter, ...]


@dataclass(frozen=True)
class Change:
    """A layer's cycles in another run beside the first; x and width in percent of the drawing."""

    name: str
    style: str
    text: str
    x: float
    width: float
    worse: bool


def annotate(
    image: np.ndarray, boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray | None = None,
    least: float | None = None,
) -> Photo:
    """A photograph uint8 (3, H, W) with its boxes (N, 4), x0 y0 x1 y1 in pixels, and scores (N).

    least: the score from which a box shows at first; else SCORE, or less if no box has that.
    """
    rule = f"score of at least {least}"
    if least is None:
        least, rule = _threshold(scores)
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(data, "png", optimize=True)
    order = np.argsort(-scores, kind="stable")
    return Photo(
        png=base64.b64encode(data.getvalue()).decode(), width=image.shape[2],
        height=image.shape[1],
        found=tuple(_box(boxes[n], float(scores[n])) for n in order),
        truth=tuple(_box(box, None) for box in (truth if truth is not None else ())),
        least=least, rule=rule,
    )


def _threshold(scores: np.ndarray) -> tuple[float, str]:
    """From which score a box is shown; without a good one, the best ones are."""
    if len(scores) == 0 or scores.max() >= SCORE:
        return SCORE, f"score of at least {SCORE}"
    best = np.sort(scores)[::-1][:MOST]
    return float(best[-1]), f"the best {len(best)}: no score reaches {SCORE}"


def _box(box: np.ndarray, score: float | None) -> Box:
    x0, y0, x1, y1 = (float(value) for value in box)
    return Box(x0, y0, max(x1 - x0, 0.0), max(y1 - y0, 0.0), score)


def photograph(
    image: np.ndarray, boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray | None = None,
    least: float | None = None,
) -> dict[str, str]:
    """A photograph as in `annotate` with its boxes drawn in: {"png": base64, "caption"}."""
    photo = annotate(image, boxes, scores, truth, least)
    scale = max(1, round(SIDE_PX / max(photo.width, photo.height)))
    with Image.open(io.BytesIO(base64.b64decode(photo.png))) as small:
        size = (scale * photo.width, scale * photo.height)
        picture = small.resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    for box in photo.truth:
        draw.rectangle(_corners(box, scale), outline=TRUTH)
    for box in reversed(photo.found[:photo.shown]):  # the best ones on top
        draw.rectangle(_corners(box, scale), outline=FOUND, width=3)
        left, top, _, _ = _corners(box, scale)
        text = f"{box.score:.2f}"
        draw.rectangle(draw.textbbox((left + 4, top + 3), text), fill=FOUND)
        draw.text((left + 4, top + 3), text, fill="black")
    data = io.BytesIO()
    picture.save(data, "png")
    caption = f"{photo.shown} boxes of the simulated hardware ({photo.rule})"
    if truth is not None:
        caption += f", thin: the {len(truth)} annotated ones"
    return {"png": base64.b64encode(data.getvalue()).decode(), "caption": caption}


def _corners(box: Box, scale: int) -> tuple[float, float, float, float]:
    return (scale * box.x, scale * box.y, scale * (box.x + box.width),
            scale * (box.y + box.height))


def style(op: str) -> str:
    """The name of an operation's colour."""
    return f"op-{op}" if op in OPS else "op-other"


def timeline(
    layers: Sequence[Layer], frame: int | None, clock_mhz: float | None, span: int = 0
) -> Timeline:
    """One track a queue where the layers say which one ran them, else one track in their order.

    frame: cycles of the whole frame, if known. span: the axis has at least these cycles, so that
    timelines of several runs can have the same.
    """
    placed = [layer for layer in layers if layer.queue is not None]
    if placed:
        queues: dict[str, list[tuple[int, int, Layer]]] = {queue: [] for queue in QUEUES}
        for layer in placed:
            turns = layer.spans or [[layer.start_cycle or 0, layer.end_cycle or 0]]
            queues[str(layer.queue)] += [(start, end, layer) for start, end in turns]
        unplaced = sum(bool(layer.cycles) for layer in layers) - sum(map(_ran, placed))
    else:
        spans, at = [], 0
        for layer in layers:
            spans.append((at, at + layer.cycles, layer))
            at += layer.cycles
        queues, unplaced = {"engine": spans}, 0
    ends = [end for spans in queues.values() for _, end, _ in spans]
    cycles = max([*ends, frame or 0, 1])
    span = max(span, cycles)
    tracks = tuple(
        Track(name, tuple(_bar(start, end, layer, span) for start, end, layer in
                          _visible(spans, span / FINEST)), 100 * _covered(spans) / cycles,
              len({layer.name for start, end, layer in spans if end > start}))
        for name, spans in queues.items()
    )
    overlap = None
    if len(tracks) == 2:
        both = [span for spans in queues.values() for span in spans]
        busy = sum(_covered(spans) for spans in queues.values())
        overlap = 100 * (busy - _covered(both)) / cycles
    ticks = tuple(
        Tick(100 * at / span, _short(at), _milliseconds(at, clock_mhz))
        for at in range(0, span + 1, _step(span, 5))
    )
    return Timeline(tracks, ticks, shares(layers), cycles, 100 * cycles / span, overlap, unplaced)


def _visible(
    spans: Iterable[tuple[int, int, Layer]], gap: float
) -> list[tuple[int, int, Layer]]:
    """Turns that are not empty; those of a layer with less than `gap` cycles between are one."""
    found: list[tuple[int, int, Layer]] = []
    for start, end, layer in spans:
        if end <= start:
            continue
        if found and found[-1][2] is layer and start - found[-1][1] < gap:
            start = found.pop()[0]
        found.append((start, end, layer))
    return found


def _ran(layer: Layer) -> bool:
    return bool(layer.cycles)


def _bar(start: int, end: int, layer: Layer, span: int) -> Bar:
    lost = layer.cycles - layer.ideal_cycles
    turns = f" (one of {len(layer.spans)} turns)" if layer.spans and len(layer.spans) > 1 else ""
    tip = (
        f"{layer.name} ({layer.op}): cycles {start:,} to {end:,}{turns}, {layer.cycles:,} "
        f"measured, {layer.ideal_cycles:,} ideal, {lost:,} lost"
    )
    return Bar(100 * start / span, 100 * (end - start) / span, layer.name, style(layer.op), tip)


def _covered(spans: Iterable[tuple[int, int, Layer]]) -> int:
    """Cycles in which at least one of the spans runs."""
    covered, last = 0, 0
    for start, end, _ in sorted(spans, key=lambda span: span[:2]):
        covered += max(0, end - max(start, last))
        last = max(last, end)
    return covered


def shares(layers: Iterable[Layer]) -> tuple[Share, ...]:
    """Cycles of each operation, the largest first."""
    cycles: dict[str, int] = {}
    for layer in layers:
        cycles[layer.op] = cycles.get(layer.op, 0) + layer.cycles
    total = sum(cycles.values()) or 1
    return tuple(
        Share(op, style(op), count, 100 * count / total)
        for op, count in sorted(cycles.items(), key=lambda item: -item[1]) if count
    )


def costs(layers: Iterable[Layer], most: int = COSTLIEST) -> tuple[Cost, ...]:
    """The costliest layers."""
    top = sorted(layers, key=lambda layer: -layer.cycles)[:most]
    longest = max([1, *(max(layer.cycles, layer.ideal_cycles) for layer in top)])
    return tuple(
        Cost(layer.name, layer.op, style(layer.op), layer.cycles, layer.ideal_cycles,
             100 * layer.cycles / longest, 100 * layer.ideal_cycles / longest)
        for layer in top if layer.cycles
    )


def losses(layers: Iterable[Layer], most: int = 3) -> tuple[Layer, ...]:
    """The layers that lose most cycles against the bound of the arithmetic."""
    top = sorted(layers, key=lambda layer: layer.ideal_cycles - layer.cycles)[:most]
    return tuple(layer for layer in top if layer.cycles > layer.ideal_cycles)


def roofline(
    layers: Sequence[Layer], frame: int | None, peak_macs: int, bytes_per_cycle: float
) -> Roofline | None:
    """Where each layer stands below the roofs; None where no layer has work and traffic.

    frame: cycles of the whole frame, if known. peak_macs: of one cycle.
    """
    work = [layer for layer in layers if layer.macs and layer.ddr_bytes and layer.cycles]
    if not work:
        return None
    cycles = frame or sum(layer.cycles for layer in layers)
    macs = sum(layer.macs for layer in layers)
    traffic = sum(layer.ddr_bytes for layer in layers)
    ridge = peak_macs / bytes_per_cycle
    xs = [layer.macs / layer.ddr_bytes for layer in work] + [macs / traffic, ridge]
    ys = [layer.macs / layer.cycles for layer in work] + [macs / cycles, peak_macs]
    left, right = math.log10(min(*xs, ridge / 8) / 1.8), math.log10(max(xs) * 1.8)
    low, high = math.log10(min(ys) / 1.8), math.log10(max(ys) * 1.8)

    def x(value: float) -> float:
        return 100 * (math.log10(value) - left) / (right - left)

    def y(value: float) -> float:
        return 100 * (high - math.log10(value)) / (high - low)

    most = max(layer.cycles for layer in work)
    points = []
    for layer in sorted(work, key=lambda layer: -layer.cycles):  # the small ones in front
        rate, intensity = layer.macs / layer.cycles, layer.macs / layer.ddr_bytes
        roof = min(peak_macs, intensity * bytes_per_cycle)
        points.append(Point(
            x(intensity), y(rate), 3 + 11 * math.sqrt(layer.cycles / most), style(layer.op),
            f"{layer.name} ({layer.op}): {rate:,.1f} MACs a cycle, {100 * rate / roof:.0f} % of "
            f"its roof, {intensity:,.1f} MACs a byte, {layer.cycles:,} cycles",
        ))
    whole = Point(
        x(macs / traffic), y(macs / cycles), 0, "whole",
        f"whole network: {macs / cycles:,.1f} MACs a cycle of {peak_macs:,}, "
        f"{macs / traffic:,.1f} MACs a byte, {cycles:,} cycles",
    )
    start = max(10**left, 10**low / bytes_per_cycle)
    roof_line = ((x(start), y(start * bytes_per_cycle)), (x(ridge), y(peak_macs)),
                 (100.0, y(peak_macs)))
    return Roofline(
        tuple(points), whole, roof_line, _decades(left, right, x), _decades(low, high, y),
        peak_macs, bytes_per_cycle, shares(work),
    )


def gauges(runs: Sequence[tuple[str, Report]], limits: dict[str, float]) -> tuple[Gauge, ...]:
    """Each resource of the runs (label, report); limits: percent by the resource's field."""
    found: dict[str, list[Meter]] = {}
    for number, (label, report) in enumerate(runs):
        for name, used in cells(report.resources).items():
            found.setdefault(name, []).append(
                Meter(number, label, amount(used),
                      100 * used.used / used.available if used.available else None)
            )
    by_name = {name: limits.get(field) for field, name in RESOURCES.items()}
    return tuple(Gauge(name, by_name.get(name), tuple(meters)) for name, meters in found.items())


def cells(resources: Resources) -> dict[str, Used]:
    """Each resource of the report that has a number, by the name people know it by."""
    rows = {name: getattr(resources, field) for field, name in RESOURCES.items()}
    return {name: used for name, used in {**rows, **resources.other}.items() if used is not None}


def amount(used: Used) -> str:
    """A used resource in words."""
    if not used.available:
        return f"{used.used:,} (of an unknown number)"
    return f"{used.used:,} of {used.available:,} ({100 * used.used / used.available:.0f} %)"


def changes(
    first: Sequence[Layer], other: Sequence[Layer], most: int = CHANGED
) -> tuple[Change, ...]:
    """The layers of both runs whose cycles differ most: bars from the middle, right is slower."""
    before = {layer.name: layer.cycles for layer in first}
    moved = [(layer, layer.cycles - before[layer.name]) for layer in other
             if layer.name in before and layer.cycles != before[layer.name]]
    moved = sorted(moved, key=lambda pair: -abs(pair[1]))[:most]
    largest = max([1, *(abs(change) for _, change in moved)])
    rows = []
    for layer, change in moved:
        width = 50 * abs(change) / largest
        was = before[layer.name]
        percent = f", {100 * change / was:+.1f} %" if was else ""
        rows.append(Change(layer.name, style(layer.op), f"{change:+,}{percent}",
                           50.0 if change > 0 else 50.0 - width, width, change > 0))
    return tuple(rows)


def _step(span: int, most: int) -> int:
    """A round distance of marks, so that at most `most` of them lie after zero."""
    power = int(10 ** math.floor(math.log10(max(span / most, 1))))
    return next(power * k for k in (1, 2, 5, 10, 20, 50) if span / (power * k) <= most)


def _decades(low: float, high: float, place: Any) -> tuple[Tick, ...]:  # noqa: ANN401
    powers = range(math.ceil(low), math.floor(high) + 1)
    return tuple(Tick(place(10.0**power), _short(10.0**power)) for power in powers)


def _short(value: float) -> str:
    """A round number in few characters: 200k, 1.5M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


def _milliseconds(cycles: int, clock_mhz: float | None) -> str:
    return f"{cycles / clock_mhz / 1e3:.3g} ms" if clock_mhz else ""
