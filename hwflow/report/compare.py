# SPDX-License-Identifier: Apache-2.0
"""The numbers of several runs beside each other, each with its kind, and what changed.

The first run is the reference. Numbers of different kinds (post-synthesis beside post-route) or of
different tools stay in one row, but the row is marked and a sentence says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwflow.errors import ConfigError
from hwflow.report import baseline, schema
from hwflow.report.schema import Report

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TITLES: Mapping[str, str] = {
    "mismatches": "mismatches (all engines)", "mismatches.qonnx": "mismatches (QONNX)",
    "mismatches.hls": "mismatches (HLS C++)", "mismatches.rtl": "mismatches (RTL)",
    "checked.qonnx": "images compared (QONNX)", "checked.hls": "images compared (HLS C++)",
    "checked.rtl": "frames compared (RTL)", "cycles": "cycles a frame", "fps": "frames a second",
    "clock_mhz": "clock (MHz)", "macs": "MACs a frame", "mac_utilisation": "MAC utilisation",
    "ddr_bytes": "DDR bytes a frame", "lut": "LUT", "ff": "FF", "bram36": "BRAM36", "dsp": "DSP",
    "fmax": "Fmax (MHz)", "accuracy": "accuracy", "accuracy_float": "accuracy (float network)",
    "power": "power (W)", "power_dynamic": "dynamic power (W)", "power_static": "static power (W)",
    "seconds": "all stages (s)",
}
# Of these more is better, of clock_mhz, macs and what tools call `other` neither, else less.
MORE = ("fps", "mac_utilisation", "fmax", "accuracy", "accuracy_float", "checked.")
NEITHER = ("clock_mhz", "macs")
GROUPS = ("numbers", "layers", "stages")


@dataclass(frozen=True)
class Number:
    """One number of one run. `kind` and `tool` say how it was got; null ones have a reason."""

    value: int | float | None
    kind: str | None = None
    tool: str | None = None
    reason: str | None = None

    @property
    def origin(self) -> str:
        """How it was got, in words."""
        return f"{self.kind or 'of unknown kind'} ({self.tool or 'unknown tool'})"


@dataclass(frozen=True)
class Run:
    """One run of a comparison; `source` is what it was read from."""

    source: str
    report: Report

    @property
    def title(self) -> str:
        """Model, configuration and board."""
        made = " ".join(filter(None, (self.report.model, self.report.config)))
        return f"{made} on {self.report.board}"


@dataclass(frozen=True)
class Change:
    """From the reference to another run. `relative`: of the reference, None if that is 0.

    `better`: None where neither direction is. `mixed`: why the two are not the same kind of
    number; then there is no better.
    """

    absolute: int | float
    relative: float | None
    better: bool | None
    mixed: str | None


@dataclass(frozen=True)
class Row:
    """One number in every run; `changes` of all but the first, None where one of two is null."""

    name: str
    title: str
    group: str
    numbers: tuple[Number, ...]
    changes: tuple[Change | None, ...]


@dataclass(frozen=True)
class Comparison:
    """Several runs beside each other."""

    runs: tuple[Run, ...]
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row | None:
        """The row of a number."""
        return next((row for row in self.rows if row.name == name), None)

    def marked(self) -> tuple[dict[tuple[str, int], int], tuple[str, ...]]:
        """Sentences on what is null and what is mixed, and for (row, run) the one that tells."""
        where: dict[str, list[tuple[str, int]]] = {}
        for row in (row for group in GROUPS for row in self.visible(group)):
            for place, number in enumerate(row.numbers):
                if number.value is None and any(one.value is not None for one in row.numbers):
                    why = f"{LETTERS[place]} has no number: {number.reason}"
                    where.setdefault(why, []).append((row.name, place))
            for place, change in enumerate(row.changes, 1):
                if change is not None and change.mixed:
                    where.setdefault(change.mixed, []).append((row.name, place))
        marks = {at: count for count, places in enumerate(where.values(), 1) for at in places}
        titles = {row.name: row.title for row in self.rows}
        lines = [f"{_several([titles[name] for name, _ in places])}: {why}"
                 for why, places in where.items()]
        return marks, tuple(lines)

    def visible(self, group: str) -> tuple[Row, ...]:
        """The rows of a group to show: any run has a number, and of layers and stages two have."""
        rows = tuple(row for row in self.rows if row.group == group
                     and any(one.value is not None for one in row.numbers))
        compared = group == "numbers" or any(change for row in rows for change in row.changes)
        return rows if compared else ()

    def remarks(self) -> tuple[str, ...]:
        """Sentences on the whole table: other versions of a tool, numbers that no run has."""
        lines = []
        for place, run in enumerate(self.runs[1:], 1):
            versions = {
                (row.numbers[0].tool, row.numbers[place].tool)
                for row in self.rows
                if row.numbers[0].tool != row.numbers[place].tool
                and (change := row.changes[place - 1]) is not None and change.mixed is None
            }
            lines += [f"{LETTERS[0]} is of {one}, {LETTERS[place]} of {two}"
                      for one, two in sorted(versions, key=str)]
            if run.report.board != self.runs[0].report.board:
                lines.append(f"{LETTERS[0]} is on {self.runs[0].report.board}, {LETTERS[place]} on "
                             f"{run.report.board}")
        for group, what in (("layers", "cycles of each layer"), ("stages", "time of each stage")):
            rows = [row for row in self.rows if row.group == group]
            if rows and not self.visible(group):
                have = [letter for letter, *numbers in zip(
                    LETTERS, *(row.numbers for row in rows), strict=False)
                    if any(one.value is not None for one in numbers)]
                lines.append(f"{what}: only in {', '.join(have)}")
        none = [row.title for row in self.rows if all(one.value is None for one in row.numbers)]
        return (*lines, *([f"in no run: {', '.join(none)}"] if none else []))


def load(path: Path) -> Run:
    """A run: its folder, its report.json, what `report read` wrote, or a baseline."""
    if not path.exists():
        raise ConfigError(
            f"{path}: there is no such run or baseline; `hwflow build` makes a run, "
            "`hwflow compare FILE RUN --update-baseline` a baseline"
        )
    file = path if path.is_file() or path.suffix == ".json" else path / "report.json"
    if baseline.is_one(file):
        return Run(str(path), baseline.read(file))
    return Run(str(path), schema.read(file))


def load_all(paths: Sequence[Path]) -> tuple[Run, ...]:
    """The runs of a comparison; ConfigError unless there are enough of them."""
    if not 2 <= len(paths) <= len(LETTERS):
        raise ConfigError(f"compare takes 2 to {len(LETTERS)} runs, {len(paths)} given; the first "
                          "is the reference")
    return tuple(load(path) for path in paths)


def comparison(runs: Sequence[Run]) -> Comparison:
    """The runs beside each other, the first one the reference."""
    values = [numbers(run.report) for run in runs]
    names = list(dict.fromkeys(name for one in values for name in one))
    rows = []
    for name in names:
        group, title = _place(name)
        found = tuple(one.get(name) or _absent(name, run.report)
                      for one, run in zip(values, runs, strict=True))
        rows.append(Row(name, title, group, found, tuple(
            change(name, found[0], other, LETTERS[place])
            for place, other in enumerate(found[1:], 1)
        )))
    rows.sort(key=lambda row: GROUPS.index(row.group))
    return Comparison(tuple(runs), tuple(rows))


def change(name: str, one: Number, two: Number, letter: str = "B") -> Change | None:
    """From `one` to `two`; None if one of them is null."""
    if one.value is None or two.value is None:
        return None
    mixed = None
    if one.kind is None or one.kind != two.kind or _program(one.tool) != _program(two.tool):
        mixed = (f"A: {one.origin}, {letter}: {two.origin}; not the same kind of number, so the "
                 "difference is not one of the designs alone")
    absolute = two.value - one.value
    better = None
    judged = name in TITLES or name.startswith(("layer.", "seconds."))
    if absolute and not mixed and judged and name not in NEITHER:
        better = (absolute > 0) == name.startswith(MORE)
    relative = absolute / abs(one.value) if one.value else None
    return Change(absolute, relative, better, mixed)


def numbers(report: Report) -> dict[str, Number]:
    """Every number of a run that can be compared, by the name it has in a limit."""
    return dict(_numbers(report))


def _numbers(report: Report) -> Iterator[tuple[str, Number]]:
    checks: dict[str, schema.ImagesChecked | schema.FramesChecked] = {
        "qonnx": report.verify.qonnx, "hls": report.verify.hls, "rtl": report.verify.rtl,
    }
    missing: dict[str, list[str]] = {}
    for name, one in checks.items():
        if one.mismatches is None:
            missing.setdefault(str(one.reason), []).append(name)
    why = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in missing.items())
    found = [one.mismatches for one in checks.values() if one.mismatches is not None]
    total = None if missing else sum(found)
    yield "mismatches", Number(total, "exact comparison", "hwflow", why or None)
    for name, one in checks.items():
        yield f"mismatches.{name}", Number(one.mismatches, "exact comparison", "hwflow", one.reason)
    for name, one in checks.items():
        checked = one.frames if isinstance(one, schema.FramesChecked) else one.images
        yield f"checked.{name}", Number(checked, "counted", "hwflow", one.reason)
    speed = report.performance
    for name, field in (("cycles", "cycles_per_frame"), ("fps", "fps"), ("clock_mhz", "clock_mhz"),
                        ("macs", "macs_per_frame"), ("mac_utilisation", "mac_utilisation"),
                        ("ddr_bytes", "ddr_bytes_per_frame")):
        yield name, Number(getattr(speed, field), speed.kind, speed.tool, speed.reason)
    used = report.resources
    rows = {name: getattr(used, name) for name in ("lut", "ff", "bram36", "dsp")}
    rows |= {_free(name): one for name, one in used.other.items()}
    for name, row in rows.items():
        yield name, Number(row.used if row else None, used.kind, used.tool, used.reason)
    timing, power, accuracy = report.timing, report.power, report.accuracy
    yield "fmax", Number(timing.fmax_mhz, timing.kind, timing.tool, timing.reason)
    data = baseline.without_path(accuracy.dataset or "")
    measured = f"{accuracy.metric} of {accuracy.images} images of {data}"
    for name, value in (("accuracy", accuracy.value), ("accuracy_float", accuracy.float_value)):
        yield name, Number(value, measured, "hwflow", accuracy.reason)
    for name, value in (("power", power.total_w), ("power_dynamic", power.dynamic_w),
                        ("power_static", power.static_w)):
        kind = f"{power.kind}, confidence {power.confidence}" if power.kind else None
        yield name, Number(value, kind, power.tool, power.reason)
    for layer in report.layers:
        yield f"layer.{layer.name}.cycles", Number(layer.cycles, speed.kind, speed.tool)
    done = [stage for stage in report.stages if stage.status in ("done", "cached")]
    for stage in done:
        yield f"seconds.{stage.name}", Number(stage.seconds, "wall clock", "hwflow")
    if done:
        yield "seconds", Number(round(sum(one.seconds for one in done), 3), "wall clock", "hwflow")


def _free(cell: str) -> str:
    """The name of a kind of cell, which a file from outside may have called like another number."""
    taken = cell in TITLES or cell.startswith(("layer.", "seconds.", "cell."))
    return f"cell.{cell}" if taken else cell


def _absent(name: str, report: Report) -> Number:
    if name.startswith("layer."):
        why = "it has no such layer" if report.layers else "its layers were not measured"
    elif name.startswith("seconds"):
        why = "it holds no times" if not report.stages else "the stage was not run"
    else:
        read = report.resources.kind is not None
        why = "its tool counts no such cells" if read else str(report.resources.reason)
    return Number(None, reason=why)


def _place(name: str) -> tuple[str, str]:
    """Group and title of a number."""
    if name.startswith("layer."):
        return "layers", name.removeprefix("layer.").removesuffix(".cycles")
    if name.startswith("seconds"):
        return "stages", TITLES.get(name) or f"{name.removeprefix('seconds.')} (s)"
    return "numbers", TITLES.get(name, name)


def _program(tool: str | None) -> str | None:
    """The name of a tool without its version: "Yosys 0.70" and "Yosys 0.71" are one."""
    return None if tool is None else re.sub(r"\s+v?\d[\w.+-]*", "", tool)


def _several(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def shown(value: float | None) -> str:
    """A number for people: 16,765 or 130.087 or null."""
    if value is None:
        return "null"
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:,.4f}".rstrip("0").rstrip(".")
    return text if float(text.replace(",", "")) or not value else f"{value:.3g}"


def shown_change(one: Change | None) -> str:
    """A difference for people: "+100 (+10.00 %)"; nothing where there is none."""
    if one is None:
        return ""
    if not one.absolute:
        return "0"
    sign = "+" if one.absolute > 0 else "-"
    share = "" if one.relative is None else f" ({100 * one.relative:+,.2f} %)"
    return f"{sign}{shown(abs(one.absolute))}{share}"


def as_json(table: Comparison, breaches: Sequence[str] = ()) -> str:
    """The comparison for programs: every number with its origin, and what changed."""
    body = {
        "schema": 1,
        "runs": [
            {
                "name": LETTERS[place], "source": run.source, "model": run.report.model,
                "config": run.report.config, "board": run.report.board, "git": run.report.git,
                "hwflow_version": run.report.hwflow_version,
            }
            for place, run in enumerate(table.runs)
        ],
        "rows": [
            {
                "name": row.name, "title": row.title, "group": row.group,
                "numbers": [vars_of(number) for number in row.numbers],
                "changes": [None if one is None else vars_of(one) for one in row.changes],
            }
            for row in table.rows
        ],
        "remarks": list(table.remarks()),
        "breaches": list(breaches),
    }
    return json.dumps(body, indent=1) + "\n"


def vars_of(record: Number | Change) -> dict[str, object]:
    """The fields of a record, for JSON."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
