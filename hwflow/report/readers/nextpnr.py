# SPDX-License-Identifier: Apache-2.0
"""The JSON that nextpnr writes with --report: cells of the routed design and its clocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hwflow.errors import ToolError
from hwflow.report.readers.part import (
    Part,
    because,
    count,
    halves,
    measure,
    parse_object,
    resources,
)
from hwflow.report.schema import Kind, Resources, Timing, Used

KIND: Kind = "post-route"  # the file is written after routing


@dataclass(frozen=True)
class Family:
    """Which of nextpnr's cells is which resource. `why`: of the resources that have no cell.

    `half_brams`: its block memories of 18 kbit, two of which are counted as one of 36 kbit.
    """

    name: str
    mark: str
    lut: str | None = None
    ff: str | None = None
    dsp: str | None = None
    half_brams: str | None = None
    why: Mapping[str, str] = field(default_factory=dict)


FAMILIES = (
    Family("ECP5", "TRELLIS_IO", "TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D", "DP16KD"),
    Family(
        "iCE40", "ICESTORM_LC", dsp="ICESTORM_DSP",
        why={
            "lut": "an iCE40 is counted in cells of one LUT and one flip-flop, ICESTORM_LC",
            "ff": "an iCE40 is counted in cells of one LUT and one flip-flop, ICESTORM_LC",
            "bram36": "the memories of an iCE40, ICESTORM_RAM, have 4 kbit",
        },
    ),
    Family(
        "Gowin", "BSRAM", "LUT4", "DFF", half_brams="BSRAM",
        why={"dsp": "a Gowin chip has multipliers of several sizes, each counted on its own"},
    ),
)


def matches(body: Mapping[str, object]) -> bool:
    """True of an object with the keys of such a report."""
    return isinstance(body.get("utilization"), dict)


def read(text: str, clock: str | None = None) -> Part:
    """Cells and the clock reached; nextpnr writes neither the design's nor the chip's name."""
    body = parse_object(text, "a report of nextpnr")
    cells = body.get("utilization")
    if not isinstance(cells, dict) or not cells:
        raise ToolError("is not a report of nextpnr: it has no object 'utilization' with cells")
    found = [family for family in FAMILIES if family.mark in cells]
    family = found[0] if len(found) == 1 else None
    tool = "nextpnr" if family is None else f"nextpnr ({family.name})"
    return Part("nextpnr --report", resources=_resources(cells, family, tool),
                timing=_timing(body.get("fmax"), clock, tool))


def _resources(cells: Mapping[str, object], family: Family | None, tool: str) -> Resources:
    other: dict[str, Used] = {}
    missing: list[str] = []
    for name, row in sorted(cells.items()):
        used = count(row.get("used")) if isinstance(row, dict) else None
        available = count(row.get("available")) if isinstance(row, dict) else None
        if used is None:
            missing.append(f"the cells {name} have no count 'used'")
        elif used or (family and name in (family.lut, family.ff, family.dsp, family.half_brams)):
            other[name] = Used(used=used, available=available or None)
            if not available:
                missing.append(f"the cells {name} have no count 'available'")
    rows: dict[str, Used | None] = {}
    if family is None:
        missing.append("the cells are of no family hwflow knows (ECP5, iCE40, Gowin)")
        return resources(rows, missing, KIND, tool, other)
    kinds = {"lut": family.lut, "ff": family.ff, "dsp": family.dsp, "bram36": family.half_brams}
    for key, cell in kinds.items():
        one = other.get(cell) if cell else None
        rows[key] = halves(one) if one is not None and key == "bram36" else one
        if one is None:
            missing.append(family.why.get(key, f"the report has no cells {cell}"))
        elif key != "bram36":
            del other[str(cell)]
    return resources(rows, missing, KIND, tool, other)


def _timing(clocks: object, clock: str | None, tool: str) -> Timing:
    reached: dict[str, float] = {}
    for name, row in clocks.items() if isinstance(clocks, dict) else ():
        mhz = measure(row.get("achieved")) if isinstance(row, dict) else None
        if mhz is not None and clock in (None, name):
            reached[name] = mhz
    missing = []
    if not reached:
        missing.append("the report has no clock with a frequency" if clock is None
                       else f"the report has no clock {clock!r} with a frequency")
    elif len(reached) > 1:
        names = ", ".join(f"{name} ({mhz:g} MHz)" for name, mhz in sorted(reached.items()))
        missing.append(f"there are several clocks: {names}; choose with --clock")
    fmax = round(next(iter(reached.values())), 3) if len(reached) == 1 else None
    return Timing(kind=KIND, tool=tool, fmax_mhz=fmax, reason=because(missing))
