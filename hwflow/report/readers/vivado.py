# SPDX-License-Identifier: Apache-2.0
"""Text reports of Vivado (2013 to 2024, 7 series to Versal), read by the names in them.

No column number and no line number is assumed: tables lost and gained columns ("Prohibited"),
names changed ("Slice LUTs", "CLB LUTs*"), and files are cut. What is not found is null.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from hwflow.errors import ToolError
from hwflow.report.readers.part import Part, because, number, resources
from hwflow.report.schema import Kind, Power, Resources, Timing, Used

# "Design State" in lower case. An optimised netlist is still one of synthesis.
STATES: Mapping[str, Kind] = {
    "synthesized": "post-synthesis estimate",
    "optimized": "post-synthesis estimate",
    "partially placed": "pre-route estimate",
    "placed": "pre-route estimate",
    "fully placed": "pre-route estimate",
    "physopt postplace": "pre-route estimate",
    "partially routed": "pre-route estimate",
    "routed": "post-route",
    "fully routed": "post-route",
    "physopt postroute": "post-route",
}
# Names of one row, the series 7, UltraScale and Versal after each other.
ROWS: Mapping[str, tuple[str, ...]] = {
    "lut": ("Slice LUTs", "CLB LUTs"),
    "ff": ("Slice Registers", "CLB Registers", "Registers"),
    "bram36": ("Block RAM Tile",),
    "dsp": ("DSPs", "DSP Slices"),
}
OTHER = ("URAM",)
HEAD_LINES = 100


@dataclass(frozen=True)
class Clock:
    """A clock with paths inside of itself: its period and its worst setup slack, in ns."""

    name: str
    period_ns: float
    slack_ns: float

    @property
    def fmax_mhz(self) -> float | None:
        """The frequency at which the slack would be 0."""
        return _fmax(self.period_ns, self.slack_ns)


def matches(text: str) -> bool:
    """True of a text that Vivado's reports begin like."""
    return "Vivado v." in text[:4000] and "| Tool Version" in text[:4000]


def read(text: str, clock: str | None = None) -> Part:
    """Whichever of the three reports the text is; ToolError if it is another one."""
    command = head(text).get("Command", "").split()
    name = command[0] if command else ""
    what = {"report_utilization": utilisation, "report_power": power}
    design, device = head(text).get("Design"), head(text).get("Device")
    if name == "report_timing_summary" or "WNS(ns)" in text:
        found, _ = timing(text, clock)
        return Part("report_timing_summary", design, device, timing=found)
    if name == "report_power" or "Total On-Chip Power (W)" in text:
        return Part("report_power", design, device, power=power(text))
    if name == "report_utilization" or "Util%" in text:
        return Part("report_utilization", design, device, resources=utilisation(text))
    raise ToolError(
        f"is a report of Vivado ({name or 'no command is named'}) that holds no number hwflow "
        f"reads; give the text of {', '.join(what)} or report_timing_summary"
    )


def head(text: str) -> dict[str, str]:
    """The lines `| Name : value` of the head."""
    found: dict[str, str] = {}
    for line in text.splitlines()[:HEAD_LINES]:
        name, colon, value = line.partition(": ")
        if colon and name.startswith("|"):
            found.setdefault(name[1:].strip(), value.strip().removesuffix("|").strip())
    return found


def utilisation(text: str) -> Resources:
    """Resources out of the text of `report_utilization`."""
    rows: dict[str, set[tuple[str, str]]] = {}
    for header, row in _rows(text):
        if {"Used", "Available"} <= set(header):
            cells = dict(zip(header, row, strict=True))
            rows.setdefault(row[0].rstrip("*").strip(), set()).add(
                (cells["Used"], cells["Available"])
            )
    known = {name for names in ROWS.values() for name in names}
    if not known & rows.keys():
        raise ToolError(
            "no table with the columns Used and Available has one of the rows "
            f"{', '.join(sorted(known))}; is it the text of report_utilization (not of "
            "-hierarchical)?"
        )
    kind, tool, missing = _origin(text)
    values: dict[str, Used | None] = {}
    for key, names in ROWS.items():
        values[key] = _used(rows, names, missing)
    other = {name: one for name in OTHER
             if (one := _used(rows, (name,), [])) is not None and one.available is not None}
    return resources(values, missing, kind, tool, other)


def _used(
    rows: Mapping[str, set[tuple[str, str]]], names: tuple[str, ...], missing: list[str]
) -> Used | None:
    there = [name for name in names if name in rows]
    if not there:
        missing.append(f"the report has no row {' or '.join(map(repr, names))}")
        return None
    cells = {pair for name in there for pair in rows[name]}
    if len(cells) > 1:
        missing.append(f"the report has several different rows {' or '.join(map(repr, there))}")
        return None
    used, available = (number(cell) for cell in next(iter(cells)))
    if used is None or used < 0:
        missing.append(f"the row {there[0]!r} has no number in its column Used")
        return None
    if available is None or available <= 0:
        missing.append(f"the row {there[0]!r} has no number in its column Available")
        available = None
    return Used(used=used, available=available)


def timing(
    text: str, clock: str | None = None, clock_mhz: float | None = None
) -> tuple[Timing, float | None]:
    """Fmax and the worst setup slack (ns) out of the text of `report_timing_summary`.

    Fmax is that of `clock`, or of the only clock with setup paths; with `clock_mhz` that of the
    whole design, which then has one clock of that frequency. Null if the design has no constraint.
    """
    found, worst = clocks(text), _design_slack(text)
    if worst is None and not found and "WNS(ns)" not in text:
        raise ToolError("has no table with the column WNS(ns); is it the text of "
                        "report_timing_summary?")
    kind, tool, missing = _origin(text)
    fmax: float | None = None
    if clock_mhz is not None:
        fmax = None if worst is None else _fmax(1e3 / clock_mhz, worst)
        if fmax is None:
            missing.append("the row below WNS(ns) has no setup slack")
    else:
        chosen = [one for one in found if clock in (None, one.name)]
        lost = _lost(text, {one.name for one in found}) if clock is None else None
        names = ", ".join(f"{one.name} ({1e3 / one.period_ns:g} MHz)" for one in found)
        if len(chosen) == 1 and lost:
            missing.append(f"{lost}; choose a clock with --clock: {names}")
        elif len(chosen) == 1:
            fmax, worst = chosen[0].fmax_mhz, chosen[0].slack_ns
            if fmax is None:
                missing.append(f"the slack of {chosen[0].name} is not less than its period")
        elif not found:
            missing.append("no clock in the report has both a period and a setup slack")
        elif clock is None:
            missing.append(f"several clocks have setup paths: {names}; choose with --clock")
        else:
            missing.append(f"no clock {clock!r} with setup paths; there are: {names}")
    return Timing(kind=kind, tool=tool, fmax_mhz=fmax, reason=because(missing)), worst


def clocks(text: str) -> tuple[Clock, ...]:
    """The clocks of the tables Clock Summary and Intra Clock Table."""
    periods: dict[str, set[float]] = {}
    for name, period in _periods(text):
        if period is not None:
            periods.setdefault(name, set()).add(period)
    found = []
    for names, row in _columns(text):
        if names[0] == "Clock" and "WNS(ns)" in names:
            slack, own = number(row.get("WNS(ns)")), periods.get(row["Clock"], set())
            if slack is not None and len(own) == 1:
                found.append(Clock(row["Clock"], next(iter(own)), float(slack)))
    return tuple(found)


def _periods(text: str) -> Iterator[tuple[str, float | None]]:
    """Name and period of each line `name {0.000 2.500} 5.000 200.000` of the Clock Summary."""
    for line in text.splitlines():
        name, brace, rest = line.partition("{")
        words = rest.partition("}")[2].split()
        if not brace or len(name.split()) != 1 or len(words) != 2:
            continue
        ns, mhz = number(words[0]), number(words[1])
        # A cut line gives itself away: its two numbers do not belong together.
        whole = ns and mhz and ns > 0 and abs(1e3 / ns - mhz) <= 0.001 * mhz + 0.001
        yield name.strip(), float(ns) if ns and whole else None


def _lost(text: str, known: Container[str]) -> str | None:
    """Why there may be more clocks with setup paths than those known."""
    if "| Inter Clock Table" not in text.partition("| Intra Clock Table")[2]:
        return "the report ends before its Inter Clock Table"
    rows = {row["Clock"]: row for names, row in _columns(text) if "WNS(ns)" in names
            and names[0] == "Clock"}
    gone = {name for name, _ in _periods(text)} - rows.keys()
    gone |= {name for name, row in rows.items() if "WNS(ns)" in row and name not in known}
    return f"not all is there of the clock {', '.join(sorted(gone))}" if gone else None


def _design_slack(text: str) -> float | None:
    for names, row in _columns(text):
        if names[0] == "WNS(ns)":
            slack = number(row.get("WNS(ns)"))
            return None if slack is None else float(slack)
    return None


def _fmax(period_ns: float, slack_ns: float) -> float | None:
    return round(1e3 / (period_ns - slack_ns), 3) if period_ns > slack_ns else None


def power(text: str) -> Power:
    """Watts out of the table "Summary" of `report_power`."""
    cells: dict[str, set[str]] = {}
    for line in text.splitlines():
        row = _cells(line)
        if len(row) == 2:
            cells.setdefault(row[0], set()).add(row[1])
    kind, tool, missing = _origin(text)
    fields = {"total_w": "Total On-Chip Power (W)", "dynamic_w": "Dynamic (W)",
              "static_w": "Device Static (W)"}
    if not set(fields.values()) & cells.keys():
        raise ToolError(
            f"has none of the rows {', '.join(fields.values())}; is it the text of report_power?"
        )
    values: dict[str, float | None] = {}
    for key, name in fields.items():
        # "25.4 (Junction temp exceeded!)"
        words = {cell.split()[0] for cell in cells.get(name, set()) if cell}
        found = number(next(iter(words))) if len(words) == 1 else None
        values[key] = None if found is None or found < 0 else float(found)
        if values[key] is None:
            missing.append(f"the report has no one number in a row {name!r}")
    levels = cells.get("Confidence Level", set())
    confidence = next(iter(levels)) if len(levels) == 1 else None
    if confidence is None:
        missing.append("the report has no row 'Confidence Level'")
    return Power(kind=kind, tool=tool, confidence=confidence, reason=because(missing), **values)


def _origin(text: str) -> tuple[Kind | None, str | None, list[str]]:
    """Kind of the numbers, tool, and why one of the two is missing."""
    missing = []
    top = head(text)
    state = top.get("Design State", "")
    kind = STATES.get(state.lower())
    if kind is None:
        missing.append(f"the state of the design is {state!r}" if state
                       else "the report has no line 'Design State'")
    version = re.match(r"Vivado v\.(\S+)", top.get("Tool Version", ""))
    if version is None:
        missing.append("the report does not name the version of Vivado")
    return kind, f"Vivado {version[1]}" if version else None, missing


def _cells(line: str) -> list[str]:
    """The cells of `| a | b |`; none if the line does not begin and end like a row."""
    line = line.strip()
    if len(line) < 2 or not (line.startswith("|") and line.endswith("|")):
        return []
    return [cell.strip() for cell in line[1:-1].split("|")]


def _rows(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """(header, row) of each row of each table drawn with | and +."""
    header: list[str] = []
    for line in text.splitlines():
        cells = _cells(line)
        if not cells:
            # A rule belongs to a table, anything else ends it.
            if not line.startswith("+"):
                header = []
        elif "Used" in cells:
            header = cells
        elif len(cells) == len(header):
            yield header, cells


def _columns(text: str) -> Iterator[tuple[list[str], dict[str, str]]]:
    """(names of the columns, row) of each table with names above a line of dashes.

    Numbers stand at the right end of their dashes, the first column at the left; an empty cell is
    left out of the row.
    """
    lines = text.splitlines()
    spans: list[tuple[int, int]] = []
    names: list[str] = []
    for index, line in enumerate(lines):
        if index and line.strip() and set(line) <= {"-", " "} and "- " in line.strip():
            spans = [found.span() for found in re.finditer("-+", line)]
            names = re.split(r"\s{2,}", lines[index - 1].strip())
            if len(names) != len(spans):
                spans = []
        elif not line.strip():
            spans = spans if index and set(lines[index - 1]) <= {"-", " "} else []
        elif spans:
            ends = {end: name for (_, end), name in zip(spans, names, strict=True)}
            row: dict[str, str] = {}
            tokens = list(re.finditer(r"\S+", line))
            if names[0] in ("Clock", "From Clock"):
                row[names[0]] = tokens.pop(0)[0]
            for token in tokens:
                if token.end() in ends:
                    row[ends[token.end()]] = token[0]
            yield names, row
