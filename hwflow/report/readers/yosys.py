# SPDX-License-Identifier: Apache-2.0
"""The cell counts of Yosys (`stat -json`) in the resources of a chip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hwflow.errors import ToolError
from hwflow.report.readers.part import Part, count, parse_object, resources
from hwflow.report.schema import Kind, Resources, Used

KIND: Kind = "post-synthesis estimate"


@dataclass(frozen=True)
class Family:
    """What each cell of a chip family takes.

    luts: sites of lookup tables. ffs: flip-flops. half_brams: units of 18 kbit, None where the
    blocks of the family are no multiple of them. dsps: None where there is not one kind. free: part
    of a slice or of the edge that is never what runs out first.
    """

    name: str
    luts: Mapping[str, int]
    ffs: frozenset[str]
    half_brams: Mapping[str, int]
    dsps: frozenset[str]
    free: frozenset[str]
    uncounted: Mapping[str, str]

    @property
    def known(self) -> frozenset[str]:
        """Every cell whose size is known."""
        return frozenset(
            {*self.luts, *self.ffs, *self.half_brams, *self.dsps, *self.free, *ALWAYS_FREE}
        )


ALWAYS_FREE = frozenset({"GND", "VCC", "$scopeinfo", "IBUF", "OBUF", "IOBUF"})


def _names(*words: str) -> frozenset[str]:
    return frozenset(name for word in words for name in word.split())


# A RAM32M is four LUTs, a dual-port bit two (UG953); an inverter that is left over takes one like
# any LUT1.
XC7 = Family(
    "xc7",
    luts={
        **{f"LUT{n}": 1 for n in range(1, 7)},
        "LUT6_2": 1,  # one table with both of its outputs
        "INV": 1,
        "SRL16E": 1, "SRLC32E": 1, "SRLC16E": 1,
        "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4,
        "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4,
        "RAM32M": 4, "RAM64M": 4,
    },
    ffs=_names("FDRE FDSE FDCE FDPE FDRE_1 FDSE_1 FDCE_1 FDPE_1"),
    half_brams={"RAMB36E1": 2, "RAMB18E1": 1},
    dsps=_names("DSP48E1"),
    free=_names(
        "CARRY4 MUXF7 MUXF8 BUFG BUFGCTRL BUFGCE BUFH BUFR BUFIO OBUFT IBUFG IBUFDS OBUFDS",
        "MMCME2_ADV MMCME2_BASE PLLE2_ADV PLLE2_BASE PS7 STARTUPE2 BSCANE2",
    ),
    uncounted={},
)
# A TRELLIS_DPR16X4 is four LUTs of a slice used as memory; a carry cell takes both of its LUTs.
ECP5 = Family(
    "ecp5", luts={"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4}, ffs=_names("TRELLIS_FF"),
    half_brams={"DP16KD": 1, "PDPW16KD": 1}, dsps=_names("MULT18X18D"),
    free=_names("PFUMX L6MUX21 TRELLIS_IO EHXPLLL DCCA OSCG"), uncounted={},
)
# The carry of an iCE40 is in the cell of its LUT.
ICE40 = Family(
    "ice40", luts={"SB_LUT4": 1},
    ffs=frozenset(
        f"SB_DFF{edge}{kind}" for edge in ("", "N")
        for kind in ("", "E", "SR", "R", "SS", "S", "ESR", "ER", "ESS", "ES")
    ),
    half_brams={}, dsps=_names("SB_MAC16"),
    free=_names("SB_CARRY SB_IO SB_GB SB_GB_IO SB_HFOSC SB_LFOSC SB_RGBA_DRV SB_PLL40_CORE "
                "SB_PLL40_PAD SB_WARMBOOT SB_SPRAM256KA SB_RAM40_4K SB_RAM40_4KNR SB_RAM40_4KNW "
                "SB_RAM40_4KNRNW"),
    uncounted={"bram36": "the memories of an iCE40 have 4 kbit"},
)
GOWIN = Family(
    "gowin", luts={**{f"LUT{n}": 1 for n in range(1, 5)}, "ALU": 1, "RAM16S4": 4, "RAM16SDP4": 4},
    ffs=frozenset(f"DFF{edge}{kind}" for edge in ("", "N")
                  for kind in ("", "E", "S", "SE", "R", "RE", "P", "PE", "C", "CE")),
    half_brams=dict.fromkeys(("SP", "SPX9", "SDPB", "SDPX9B", "DPB", "DPX9B", "pROM", "pROMX9"), 1),
    dsps=frozenset(),
    free=_names("MUX2_LUT5 MUX2_LUT6 MUX2_LUT7 MUX2_LUT8 TBUF rPLL GSR",
                "MULT9X9 MULT18X18 MULT36X36 MULTALU18X18 MULTALU36X18 MULTADDALU18X18"),
    uncounted={"dsp": "a Gowin chip has multipliers of several sizes"},
)
FAMILIES = (XC7, ECP5, ICE40, GOWIN)


def matches(body: Mapping[str, object]) -> bool:
    """True of an object with the keys of `stat -json`."""
    return str(body.get("creator", "")).startswith("Yosys") or isinstance(body.get("modules"), dict)


def cells(text: str) -> dict[str, int]:
    """Cells of the whole design by type; ToolError if the text does not say."""
    body = parse_object(text, "a file written by `stat -json` of Yosys")
    design, modules = body.get("design"), body.get("modules")
    if not isinstance(design, dict):
        if not isinstance(modules, dict) or len(modules) != 1:
            raise ToolError(
                "the cell counts of Yosys cannot be read: neither a total of the design nor one "
                "single module; write it with `stat -json -top TOP` or after `flatten`"
            )
        design = next(iter(modules.values()))
    found = design.get("num_cells_by_type") if isinstance(design, dict) else None
    if not isinstance(found, dict):
        raise ToolError("the cell counts of Yosys cannot be read: no object 'num_cells_by_type'")
    counts: dict[str, int] = {}
    for name, value in found.items():
        # With a liberty file each count is an object.
        one = count(value.get("count") if isinstance(value, dict) else value)
        if one is None:
            raise ToolError(f"the cell counts of Yosys cannot be read: {name} has {value!r}")
        counts[name] = one
    return counts


def sites(counts: Mapping[str, int], family: Family) -> dict[str, int | float]:
    """lut, ff, bram36, dsp that the cells take; cells the family does not know count nothing."""
    def total(weights: Mapping[str, int]) -> int:
        return sum(weights[name] * n for name, n in counts.items() if name in weights)

    halves = total(family.half_brams)
    taken: dict[str, int | float] = {
        "lut": total(family.luts), "ff": total(dict.fromkeys(family.ffs, 1)),
        "bram36": halves // 2 if halves % 2 == 0 else halves / 2,
        "dsp": total(dict.fromkeys(family.dsps, 1)),
    }
    return {name: value for name, value in taken.items() if name not in family.uncounted}


def read(text: str, family: str | None = None) -> Part:
    """Resources by the family to which the cells belong; null where that is not known."""
    counts = cells(text)
    if not counts:
        raise ToolError("the file of Yosys holds no cell at all; is the design empty?")
    body = parse_object(text, "a file written by `stat -json` of Yosys")
    words = str(body.get("creator", "")).split()
    tool = f"Yosys {words[1]}" if len(words) > 1 and words[0] == "Yosys" else None
    modules = body.get("modules")
    names = [str(name) for name in modules] if isinstance(modules, dict) else []
    found = _resources(counts, tool, family)
    return Part("stat -json", names[0].removeprefix("\\") if len(names) == 1 else None,
                resources=found)


def _resources(counts: Mapping[str, int], tool: str | None, name: str | None) -> Resources:
    families = [one for one in FAMILIES if one.name == name] or list(FAMILIES)
    possible = [family for family in families if counts.keys() <= family.known]
    missing = [] if tool else ["the file does not name the version of Yosys"]
    if tool and len(possible) == 1 and possible[0] is not XC7:
        tool = f"{tool} ({possible[0].name})"  # its tables of 4 inputs are not those of 6
    rows: dict[str, Used | None] = {}
    own: set[str] = set()
    if not possible:
        nearest = min(families, key=lambda family: len(counts.keys() - family.known))
        unknown = _some(sorted(counts.keys() - nearest.known))
        missing.append(f"cells whose size is not known ({unknown}; nearest family {nearest.name})")
    for key in ("lut", "ff", "bram36", "dsp"):
        values = {sites(counts, family).get(key) for family in possible}
        if len(values) == 1 and (value := values.pop()) is not None:
            rows[key] = Used(used=value, available=None)
            missing.append("`stat -json` does not name the chip; give --board")
        elif len(possible) == 1:
            missing.append(possible[0].uncounted[key])
        elif possible:
            missing.append("the cells may be of "
                           f"{' or '.join(family.name for family in possible)}; give --board")
    for family in possible:
        own |= family.luts.keys() | family.ffs | family.dsps
    other = {name: Used(used=n, available=None) for name, n in sorted(counts.items())
             if n and name not in own}
    return resources(rows, missing, KIND, tool, other)


def _some(names: Iterable[str], most: int = 8) -> str:
    words = list(names)
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
