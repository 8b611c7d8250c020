# SPDX-License-Identifier: Apache-2.0
"""Yosys: the synthesis plan, and what its cell counts mean in the resources of a chip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import hwflow
from hwflow import resources
from hwflow.boards import Board
from hwflow.errors import ConfigError, ResourceError, ToolError
from hwflow.plan import PYTHON, Command, Plan
from hwflow.report.schema import Kind, Resources, Used
from hwflow.toolchain.render import render

FAMILIES = ("xc7",)
KIND: Kind = "post-synthesis estimate"

# LUT sites a cell takes (UG953: a RAM32M is four LUTs, a dual-port bit two); an inverter that
# is left over takes one like any LUT1.
LUTS: Mapping[str, int] = {
    **{f"LUT{n}": 1 for n in range(1, 7)},
    "INV": 1,
    "SRL16E": 1, "SRLC32E": 1, "SRLC16E": 1,
    "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4,
    "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4,
    "RAM32M": 4, "RAM64M": 4,
}
FFS = frozenset({"FDRE", "FDSE", "FDCE", "FDPE", "FDRE_1", "FDSE_1", "FDCE_1", "FDPE_1"})
HALF_BRAMS: Mapping[str, int] = {"RAMB36E1": 2, "RAMB18E1": 1}
DSPS = frozenset({"DSP48E1"})
# Part of a slice or of the routing that is never what runs out first.
FREE = frozenset({"CARRY4", "MUXF7", "MUXF8", "BUFG", "IBUF", "OBUF", "GND", "VCC", "$scopeinfo"})


def version() -> str:
    """The Yosys in use, as the report names it."""
    return f"Yosys {metadata.version('pyosys')} (pyosys)"


def sources(listing: Path | None = None) -> dict[str, Path]:
    """Files of the design in order, by their name below hdl/, from hdl/engine.f."""
    folder = resources.path("hdl")
    listing = listing or folder / "engine.f"
    if not listing.is_file():
        raise ConfigError(f"{listing} is missing; it lists the design's sources, one path a line")
    found: dict[str, Path] = {}
    for line in listing.read_text().splitlines():
        name = line.split("//")[0].split("#")[0].strip()
        if name:
            found[name] = folder / name
            if not found[name].is_file():
                raise ConfigError(f"{listing}: lists {name}, which is not in {folder}")
    return found


def parameters(board: Board) -> dict[str, int]:
    """Parameters of the module engine_axi for a board."""
    return {
        "ACT_WORDS": board.engine.act_words,
        "RING_WORDS": board.engine.stream_words,
        "OUTSTANDING": board.memory.outstanding,
    }


def plan(
    files: Mapping[str, Path],
    top: str,
    board: Board,
    values: Mapping[str, int],
    timeout_s: float = 1800.0,
) -> Plan:
    """Synthesis of `top` for a board. Products: stat.json (cell counts) and stat.txt."""
    if board.family not in FAMILIES:
        raise ConfigError(
            f"board {board.name}: no synthesis for family {board.family!r}; "
            f"families: {', '.join(FAMILIES)}"
        )
    packed: dict[str, str | bytes] = {f"hdl/{name}": path.read_bytes() for name, path in
                                      files.items()}
    packed["synth.ys"] = render(
        "synth_xilinx.ys.j2", top=top, part=board.part, family=board.family,
        sources=[f"hdl/{name}" for name in files if name.endswith((".sv", ".v"))],
        parameters=dict(values), hwflow_version=hwflow.__version__,
    )
    command = Command(
        (PYTHON, "-m", "hwflow.toolchain.yosys_run", "synth.ys"), "yosys.log",
        timeout_s=timeout_s, version=version(),
    )
    return Plan(packed, (command,), ("stat.json", "stat.txt"), "yosys")


def count(stat: str, board: Board) -> Resources:
    """Resources out of the text of `stat -json`; a cell nobody knows is an error, never free."""
    try:
        cells = json.loads(stat)["design"]["num_cells_by_type"]
        cells = {str(name): int(n) for name, n in cells.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolError(
            f"the cell counts of Yosys cannot be read ({error!r}); "
            "is this the file written by `stat -json`?"
        ) from error
    known = LUTS.keys() | FFS | HALF_BRAMS.keys() | DSPS | FREE
    unknown = sorted(cells.keys() - known)
    if unknown:
        raise ToolError(
            f"Yosys left cells whose size is not known: {', '.join(unknown)}; add them to "
            "hwflow/toolchain/yosys.py with the sites they take"
        )

    def total(weights: Mapping[str, int]) -> int:
        return sum(weights[name] * n for name, n in cells.items() if name in weights)

    halves = total(HALF_BRAMS)
    chip = board.resources
    return Resources(
        kind=KIND,
        tool=version(),
        lut=Used(used=total(LUTS), available=chip.lut),
        ff=Used(used=total(dict.fromkeys(FFS, 1)), available=chip.ff),
        bram36=Used(used=halves // 2 if halves % 2 == 0 else halves / 2, available=chip.bram36),
        dsp=Used(used=total(dict.fromkeys(DSPS, 1)), available=chip.dsp),
    )


def check_fits(used: Resources, board: Board) -> None:
    """ResourceError naming each resource of which the design takes more than the board allows."""
    problems = []
    for name in ("lut", "ff", "bram36", "dsp"):
        one = getattr(used, name)
        percent = getattr(board.limits, f"{name}_percent")
        if one is not None and one.used * 100 > percent * one.available:
            problems.append(
                f"{name.upper()}: {one.used} used, allowed {percent} % of {one.available} "
                f"= {one.available * percent // 100}"
            )
    if problems:
        raise ResourceError(
            f"the design does not fit {board.title} ({board.part}): {'; '.join(problems)}; "
            f"make [engine] of boards/{board.name}.toml smaller or choose a larger board"
        )
