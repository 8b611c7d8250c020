# SPDX-License-Identifier: Apache-2.0
"""report.html: one static file, everything inside it, readable on a phone, printable."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from hwflow import boards
from hwflow.boards import Board
from hwflow.errors import ConfigError
from hwflow.report import compare as comparing
from hwflow.report import figures
from hwflow.report.schema import Performance, Report, Tree, TreeCells, Used

_TEMPLATES = Path(__file__).parent / "templates"
NOT_RECORDED = "not recorded"
_SPEED = {
    "cycles_per_frame": "cycles a frame", "fps": "frames a second", "clock_mhz": "clock, MHz",
    "macs_per_frame": "MACs a frame", "mac_utilisation": "share of multipliers at work",
    "ddr_bytes_per_frame": "DDR bytes a frame",
}
# Tool and kind of what stands among the simulated numbers and is none.
_GIVEN: Mapping[str, tuple[str, str]] = {
    "clock_mhz": ("board file", "set for the board, not measured"),
    "macs_per_frame": ("integer graph", "counted"),
}

@dataclass(frozen=True)
class Run:
    """A run on the page. extras: `frames` (image, boxes, scores, truth), `made` (by stage)."""

    label: str
    report: Report
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A cell of a table; `sort` is what its column sorts by, the text if it is None."""

    text: str
    sort: float | None = None
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A table one can sort by any column, search, and narrow to one value of column `choose`."""

    name: str
    caption: str
    titles: tuple[str, ...]
    numeric: frozenset[int]
    rows: tuple[tuple[Cell, ...], ...]
    choose: int | None = None

    @property
    def choices(self) -> tuple[str, ...]:
        """What the column `choose` holds."""
        found = [] if self.choose is None else [row[self.choose].text for row in self.rows]
        return tuple(dict.fromkeys(text for text in found if text))


@dataclass(frozen=True)
class Card:
    """A number at the top; state is "", "missing" or "bad"."""

    title: str
    value: str
    note: str
    state: str = ""


@dataclass(frozen=True)
class Proof:
    """One of the engines held to the integer graph."""

    name: str
    verdict: str
    note: str
    state: str


@dataclass(frozen=True)
class View:
    """All that the page shows of one run."""

    label: str
    report: Report
    board: Board | None
    cards: tuple[Card, ...]
    proofs: tuple[Proof, ...]
    photos: tuple[figures.Photo, ...]
    timeline: figures.Timeline | None
    roofline: figures.Roofline | None
    costs: tuple[figures.Cost, ...]
    losses: tuple[Any, ...]
    stages: Table
    layers: Table | None
    origins: Table


def render(report: Report, extras: Mapping[str, Any]) -> str:
    """The page of a report. extras: `frames` (image, boxes, scores, truth) and what stages made."""
    return compare([Run(_name(report), report, extras)])


def compare(runs: Sequence[Run], breaches: Sequence[str] = (), limits: int = 0) -> str:
    """The page of one run, or of several: then each beside the first, with the differences.

    breaches: a sentence for each of the `limits` that does not hold; they come first.
    """
    if not runs:
        raise ConfigError("a page needs at least one report; name a run directory")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined,
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )
    table = None
    if len(runs) > 1:
        table = comparing.comparison([comparing.Run(run.label, run.report) for run in runs])
        runs = [Run(f"{letter}: {run.label}", run.report, run.extras)
                for letter, run in zip(comparing.LETTERS, runs, strict=False)]
    span = max(
        figures.timeline(run.report.layers, run.report.performance.cycles_per_frame, None).cycles
        for run in runs
    )
    views = [_view(run, n, span) for n, run in enumerate(runs)]
    several = len(runs) > 1
    first = views[0]
    shares = first.board.limits.model_dump() if first.board else {}
    return environment.get_template("report.html.j2").render(
        views=views, several=several, remarks=table.remarks() if table else (),
        breaches=breaches, limits=limits,
        title=" beside ".join(view.label for view in views) if several else first.label,
        gauges=figures.gauges(
            [(run.label, run.report) for run in runs],
            {name.removesuffix("_percent"): share for name, share in shares.items()},
        ),
        differences=_differences(
            table, {"numbers": "numbers", "stages": "stage times"}, "differences", "Differences"),
        layer_differences=_differences(
            table, {"layers": "cycles"}, "layer-differences", "Cycles of each layer"),
        changes=[
            (run.label, figures.changes(runs[0].report.layers, run.report.layers))
            for run in runs[1:]
        ],
    )


def _name(report: Report) -> str:
    return " ".join(part for part in (report.model, report.config) if part)


def _view(run: Run, number: int, span: int) -> View:
    report = run.report
    speed, layers = report.performance, report.layers
    board = boards.load(report.board) if report.board in boards.names() else None
    peak = peak_macs(speed)
    return View(
        label=run.label, report=report, board=board, cards=cards(report), proofs=proofs(report),
        photos=tuple(figures.annotate(**frame) for frame in run.extras.get("frames", [])),
        timeline=figures.timeline(layers, speed.cycles_per_frame, speed.clock_mhz, span)
        if layers else None,
        roofline=figures.roofline(layers, speed.cycles_per_frame, peak, board.bytes_per_cycle)
        if board and peak else None,
        costs=figures.costs(layers), losses=figures.losses(layers),
        stages=_stages(report, run.extras.get("made", {}), number),
        layers=_layers(report, number) if layers else None,
        origins=_origins(report, number),
    )


def peak_macs(speed: Performance) -> int | None:
    """Multiplications a cycle of the engine that ran, which may not be the engine of today.

    The report has them only within the utilisation, which is rounded to four digits; from 0.1 up
    that is enough for every whole number below 1000.
    """
    if not (speed.macs_per_frame and speed.cycles_per_frame and speed.mac_utilisation):
        return None
    return round(speed.macs_per_frame / (speed.cycles_per_frame * speed.mac_utilisation))


def cards(report: Report) -> tuple[Card, ...]:
    """The few numbers at the top."""
    rows = []

    def card(title: str, value: str | None, note: str, reason: str | None) -> None:
        rows.append(Card(title, value, note) if value
                    else Card(title, "not measured", str(reason), "missing"))

    speed = report.performance
    card("frames a second", None if speed.fps is None else f"{speed.fps:,.1f}",
         f"at {_shown(speed.clock_mhz)} MHz, {speed.kind}", speed.reason)
    card("cycles a frame", _shown_or_none(speed.cycles_per_frame),
         f"multipliers busy {_percent(speed.mac_utilisation)}, {speed.kind}", speed.reason)
    accuracy = report.accuracy
    card(accuracy.metric or "accuracy",
         None if accuracy.value is None else f"{100 * accuracy.value:.1f} %",
         f"on {_shown(accuracy.images)} samples" + (
             "" if accuracy.float_value is None
             else f"; float network {_percent(accuracy.float_value)}"),
         accuracy.reason)
    used = report.resources
    card("logic", _logic(used.lut) if used.lut else None,
         f"{figures.amount(used.lut)}, {used.kind}" if used.lut else "", used.reason)
    card("clock the design reaches", None if report.timing.fmax_mhz is None
         else f"{report.timing.fmax_mhz:,.1f} MHz", str(report.timing.kind), report.timing.reason)
    tree = report.tree
    if tree is not None:
        apart = "no sums" if tree.sums is None else f"sums apart: {_tree_cells(tree.sums)}"
        card("DSP, carry, memory of the trees", _tree_cells(tree), f"{tree.kind}; {apart}",
             tree.reason)
    return tuple(rows)


def _tree_cells(found: Tree | TreeCells) -> str | None:
    counts = (found.dsp, found.carry, found.memory)
    return None if None in counts else ", ".join(f"{n:,}" for n in counts)


def _logic(lut: Used) -> str:
    return f"{100 * lut.used / lut.available:.0f} % LUT" if lut.available else f"{lut.used:,} LUT"


def proofs(report: Report) -> tuple[Proof, ...]:
    """Whether QONNX, HLS C++ and RTL compute the integers of the integer graph."""
    rows = []
    for name, unit, checked, count in (
        ("QONNX", "images", report.verify.qonnx, report.verify.qonnx.images),
        ("HLS C++", "images", report.verify.hls, report.verify.hls.images),
        ("RTL", "simulated frames", report.verify.rtl, report.verify.rtl.frames),
    ):
        if checked.mismatches is None:
            rows.append(Proof(name, "not checked", str(checked.reason), "missing"))
        elif checked.mismatches:
            rows.append(Proof(name, f"{checked.mismatches:,} mismatches",
                              f"in {_shown(count)} {unit}", "bad"))
        else:
            rows.append(Proof(name, "0 mismatches", f"every layer of {_shown(count)} {unit} equal",
                              "good"))
    return tuple(rows)


def _stages(report: Report, made: Mapping[str, str], number: int) -> Table:
    rows = tuple(
        (
            Cell(stage.name),
            Cell("done" if stage.status == "cached" else stage.status, style=stage.status),
            Cell(f"{stage.seconds:,.1f}", stage.seconds),
            Cell(" ".join(part for part in (made.get(stage.name), stage.reason) if part)),
        )
        for stage in report.stages
    )
    return Table(f"stages{number}", "Stages of the build",
                 ("stage", "status", "seconds", "what it made"), frozenset({2}), rows, 1)


def _layers(report: Report, number: int) -> Table:
    queued = any(layer.queue for layer in report.layers)
    frame = report.performance.cycles_per_frame or sum(layer.cycles for layer in report.layers)
    rows = []
    for n, layer in enumerate(report.layers, start=1):
        share = 100 * layer.cycles / frame if frame else 0.0
        used = 100 * layer.ideal_cycles / layer.cycles if layer.cycles else None
        cells = [Cell(str(n), n), Cell(layer.name), Cell(layer.op)]
        if queued:
            cells += [Cell(layer.queue or ""), _number(layer.start_cycle), _number(layer.end_cycle)]
        cells += [
            _number(layer.cycles), Cell(f"{share:.1f} %", share), _number(layer.ideal_cycles),
            _number(layer.cycles - layer.ideal_cycles),
            Cell("", None) if used is None else Cell(f"{used:.0f} %", used),
            _number(layer.macs), _number(layer.ddr_bytes),
        ]
        rows.append(tuple(cells))
    placed = ("queue", "start", "end") if queued else ()
    titles = ("#", "layer", "op", *placed, "cycles", "of frame", "ideal", "lost", "ideal / cycles",
              "MACs", "DDR bytes")
    words = {titles.index(title) for title in ("layer", "op", *placed[:1])}
    return Table(f"layers{number}", "All layers, in the order they ran", titles,
                 frozenset(range(len(titles))) - words, tuple(rows), 2)


def _origins(report: Report, number: int) -> Table:
    """Every number with the tool that gave it, its version and kind, or why there is none."""
    rows: list[tuple[Cell, ...]] = []

    def row(group: str, what: str, value: float | None, tool: str | None, kind: str | None,
            why: str | None, text: str | None = None) -> None:
        if value is None:
            rows.append((Cell(what), Cell(group), Cell("null", style="null"), Cell(""), Cell(""),
                         Cell(why or NOT_RECORDED)))
            return
        name, version = _tool(tool or "")
        rows.append((Cell(what), Cell(group), Cell(text or f"{value:,}", value), Cell(name),
                     Cell(version), Cell(kind or NOT_RECORDED)))

    speed = report.performance
    for name, unit, checked, count, tool in (
        ("QONNX", "images", report.verify.qonnx, report.verify.qonnx.images, "qonnx executor"),
        ("HLS C++", "images", report.verify.hls, report.verify.hls.images, "C++ compiler"),
        ("RTL", "frames", report.verify.rtl, report.verify.rtl.frames, speed.tool),
    ):
        tool = checked.tool or tool
        row("verification", f"{name}: {unit}", count, tool, "counted", checked.reason)
        row("verification", f"{name}: mismatches", checked.mismatches, tool, "exact comparison",
            checked.reason)
    accuracy = report.accuracy
    kind = f"measured on {_shown(accuracy.images)} images of {accuracy.dataset or 'the data'}"
    row("accuracy", accuracy.metric or "accuracy", accuracy.value,
        accuracy.tool or "torch, Brevitas", kind, accuracy.reason,
        _percent(accuracy.value, 2))
    row("accuracy", f"{accuracy.metric or 'accuracy'} of the float network", accuracy.float_value,
        "torch", "recorded in the checkpoint by its training", accuracy.reason,
        _percent(accuracy.float_value, 2))
    for name, shown in _SPEED.items():
        origin: tuple[str | None, str | None] = (speed.tool, speed.kind)
        if speed.kind == "measured in simulation" and name in _GIVEN:
            origin = (f"{_GIVEN[name][0]} of hwflow {report.hwflow_version}", _GIVEN[name][1])
        row("speed", shown, getattr(speed, name), *origin, speed.reason)
    used = report.resources
    cells = figures.cells(used)
    for shown in dict.fromkeys((*figures.RESOURCES.values(), *cells)):
        one = cells.get(shown)
        row("resources", shown, one.used if one else None, used.tool, used.kind, used.reason,
            figures.amount(one) if one else None)
    tree = report.tree
    for what, part in (("trees", tree), ("sums", tree.sums if tree is not None else None)):
        if tree is not None and part is not None:
            for name, shown in (("dsp", "DSP"), ("carry", "carry"), ("memory", "memory")):
                row("tree part", f"{shown} of {what}", getattr(part, name), tree.tool, tree.kind,
                    tree.reason)
    power = report.power
    for shown, watts in (("power, W", power.total_w), ("power, dynamic, W", power.dynamic_w),
                         ("power, static, W", power.static_w)):
        row("power", shown, watts, power.tool, power.kind, power.reason)
    row("timing", "Fmax, MHz", report.timing.fmax_mhz, report.timing.tool, report.timing.kind,
        report.timing.reason)
    for stage in report.stages:
        row("stage times", f"{stage.name}, seconds", stage.seconds,
            f"hwflow {report.hwflow_version}", "wall clock of the stage's last run", None)
    return Table(f"origins{number}", "Every number and its origin",
                 ("number", "group", "value", "tool", "version", "kind, or why there is none"),
                 frozenset({2}), tuple(rows), 1)


def _differences(
    table: comparing.Comparison | None, groups: Mapping[str, str], name: str, caption: str
) -> Table | None:
    """Each number of the runs side by side, with the change from the first one.

    groups: those of the comparison that the table holds, with the words the page has for them.
    """
    if table is None:
        return None
    letters = comparing.LETTERS[:len(table.runs)]
    rows = []
    for row in [row for group in groups for row in table.visible(group)]:
        cells = [Cell(row.title), Cell(groups[row.group])]
        cells += [
            Cell("null", style="null") if number.value is None
            else Cell(comparing.shown(number.value), number.value) for number in row.numbers
        ]
        for change in row.changes:
            cells += _change(change)
        notes = [change.mixed for change in row.changes if change and change.mixed]
        notes += [f"{letter}: {number.reason}"
                  for letter, number in zip(letters, row.numbers, strict=True)
                  if number.value is None]
        rows.append((*cells, Cell("; ".join(notes))))
    titles = ["number", "group", *letters]
    for letter in letters[1:]:
        titles += [f"{letter} - A", f"{letter} - A in %"]
    titles.append("note")
    return Table(name, caption, tuple(titles), frozenset(range(2, len(titles) - 1)), tuple(rows), 1)


def _change(change: comparing.Change | None) -> tuple[Cell, Cell]:
    if change is None:
        return Cell(""), Cell("")
    style = {True: "better", False: "worse", None: ""}[change.better]
    sign = "+" if change.absolute > 0 else ""
    absolute = Cell(sign + comparing.shown(change.absolute), change.absolute, style)
    if change.relative is None:
        return absolute, Cell("")
    percent = 100 * change.relative
    return absolute, Cell(f"{percent:+.1f} %" if percent else "0 %", percent, style)


def _tool(text: str) -> tuple[str, str]:
    """Names and versions out of `Yosys 0.70` or `torch 2.13.0, Brevitas 0.13.4`."""
    names, versions = [], []
    for part in filter(None, text.split(", ")):
        found = re.fullmatch(r"(.*?)\s+(v?\.?\d\S*.*)", part)
        names.append(found[1] if found else part)
        versions.append(found[2] if found else NOT_RECORDED)
    return ", ".join(names), ", ".join(dict.fromkeys(versions)) or NOT_RECORDED


def _number(value: float | None) -> Cell:
    return Cell("") if value is None else Cell(f"{value:,}", value)


def _shown(value: float | None) -> str:
    return "null" if value is None else f"{value:,}"


def _shown_or_none(value: float | None) -> str | None:
    return None if value is None else f"{value:,}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "null" if value is None else f"{100 * value:.{digits}f} %"
