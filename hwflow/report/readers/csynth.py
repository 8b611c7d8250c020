# SPDX-License-Identifier: Apache-2.0
"""csynth.xml of Vitis HLS and Vivado HLS: what the C synthesis estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import defusedxml.ElementTree as Xml
from defusedxml.common import DefusedXmlException

from hwflow.errors import ToolError
from hwflow.report.readers.part import Part, because, halves, number, resources
from hwflow.report.schema import Kind, Performance, Timing, Used

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

KIND: Kind = "HLS estimate"
# Names of one resource, the newer first.
ROWS = {"lut": ("LUT",), "ff": ("FF",), "bram36": ("BRAM_18K",), "dsp": ("DSP", "DSP48E")}
OTHER = ("URAM",)


def matches(text: str) -> bool:
    """True of an XML text with the element of a C synthesis report."""
    return text.lstrip()[:1] == "<" and "<profile" in text


def read(text: str) -> Part:
    """Resources, clock and interval of the top function.

    `cycles_per_frame` is Interval-max, the cycles from one call to the next, so that `fps` is the
    rate at the target clock; `fmax_mhz` is the estimated clock.
    """
    try:
        root: Element = Xml.fromstring(text)
    except DefusedXmlException as error:
        raise ToolError(
            "is not the csynth.xml of an HLS tool: it declares entities, which are never followed; "
            "give the file as the tool wrote it"
        ) from error
    except (Xml.ParseError, ValueError, RecursionError) as error:
        raise ToolError(
            f"is not the csynth.xml of an HLS tool: {error}; give the file as the tool wrote it"
        ) from error
    if root.tag != "profile" or root.find("AreaEstimates") is None:
        raise ToolError(
            "is not the csynth.xml of an HLS tool: no element AreaEstimates below profile"
        )
    tool, missing = _tool(root)
    timing, performance = _speed(root, tool, missing)
    rows: dict[str, Used | None] = {}
    gaps = list(missing)
    for key, names in ROWS.items():
        rows[key] = _used(root, names, gaps)
    if rows["bram36"] is not None:
        rows["bram36"] = halves(rows["bram36"])
    # A chip without such cells has 0 of 0.
    other = {name: one for name in OTHER
             if (one := _used(root, (name,), [])) is not None and one.available is not None}
    return Part(
        "csynth.xml", _text(root, "UserAssignments/TopModelName"),
        _text(root, "UserAssignments/Part"), resources(rows, gaps, KIND, tool, other),
        timing, performance,
    )


def _tool(root: Element) -> tuple[str | None, list[str]]:
    version = _text(root, "ReportVersion/Version")
    if version is None or not version[:4].isdecimal():
        return None, ["the report does not name the version of the HLS tool"]
    return f"{'Vivado' if int(version[:4]) < 2020 else 'Vitis'} HLS {version}", []


def _speed(root: Element, tool: str | None, missing: list[str]) -> tuple[Timing, Performance]:
    where = "PerformanceEstimates/SummaryOf"
    estimated = _positive(root, f"{where}TimingAnalysis/EstimatedClockPeriod")
    target = _positive(root, "UserAssignments/TargetClockPeriod")
    interval = _positive(root, f"{where}OverallLatency/Interval-max")
    unit = _text(root, "UserAssignments/unit") or "ns"
    if unit != "ns":
        estimated = target = None
    late = list(missing)
    if estimated is None:
        late.append(f"no EstimatedClockPeriod in ns (the unit is {unit!r})")
    timing = Timing(
        kind=KIND, tool=tool, reason=because(late),
        fmax_mhz=None if estimated is None else round(1e3 / estimated, 3),
    )
    gaps = [*missing, "csynth.xml counts no multiplications and no memory traffic"]
    if target is None:
        gaps.append(f"no TargetClockPeriod in ns (the unit is {unit!r})")
    if interval is None or interval % 1:
        gaps.append("Interval-max is not a number of cycles: "
                    f"{_text(root, f'{where}OverallLatency/Interval-max') or 'missing'}")
        interval = None
    fps = None if target is None or interval is None else round(1e9 / target / interval, 3)
    return timing, Performance(
        kind=KIND, tool=tool, reason=because(gaps), fps=fps,
        cycles_per_frame=None if interval is None else int(interval),
        clock_mhz=None if target is None else round(1e3 / target, 3),
    )


def _used(root: Element, names: tuple[str, ...], missing: list[str]) -> Used | None:
    for name in names:
        used = number(_text(root, f"AreaEstimates/Resources/{name}"))
        if used is None or used < 0:
            continue
        available = number(_text(root, f"AreaEstimates/AvailableResources/{name}"))
        if available is None or available <= 0:
            missing.append(f"AvailableResources has no number {name}")
            available = None
        return Used(used=used, available=available)
    missing.append(f"AreaEstimates has no number {' or '.join(names)}")
    return None


def _positive(root: Element, path: str) -> float | None:
    found = number(_text(root, path))
    return float(found) if found is not None and found > 0 else None


def _text(root: Element, path: str) -> str | None:
    """The text of an element; None when it is missing, empty, or there twice."""
    found = root.findall(path)
    return (found[0].text or "").strip() or None if len(found) == 1 else None
