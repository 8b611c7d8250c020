# SPDX-License-Identifier: Apache-2.0
"""Yosys: the synthesis plan, and its cell counts against a board."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import hwflow
from hwflow import resources
from hwflow.boards import Board
from hwflow.errors import ConfigError, ResourceError, ToolError
from hwflow.plan import PYTHON, Command, Plan, sha256
from hwflow.report.readers import yosys as reader
from hwflow.report.readers.part import resources as resources_of
from hwflow.report.schema import Resources, Used
from hwflow.toolchain import timing
from hwflow.toolchain.render import render

# Families of boards and what their cells take.
CELLS: Mapping[str, reader.Family] = {"xc7": reader.XC7}


def version() -> str:
    """The Yosys in use."""
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
        "ACT_WORDS": board.engine_size.act_words,
        "RING_WORDS": board.engine_size.stream_words,
        "OUTSTANDING": board.ddr.outstanding,
    }


def plan(
    files: Mapping[str, Path],
    top: str,
    board: Board,
    values: Mapping[str, int],
    timeout_s: float = 1800.0,
    cells: bool = False,
) -> Plan:
    """Synthesis of `top` for a board, and its clock before routing.

    cells: the sources use cells of the chip by name.

    Products: stat.json (cell counts), stat.txt, timing.json (timing.Estimate as its command says).
    """
    if board.family not in CELLS:
        raise ConfigError(
            f"board {board.name}: no synthesis for family {board.family!r}; "
            f"families: {', '.join(CELLS)}"
        )
    packed: dict[str, str | bytes] = {f"hdl/{name}": path.read_bytes() for name, path in
                                      files.items()}
    packed["synth.ys"] = render(
        "synth_xilinx.ys.j2", top=top, part=board.part, family=board.family,
        sources=[f"hdl/{name}" for name in files if name.endswith((".sv", ".v"))],
        parameters=dict(values), cells=cells, hwflow_version=hwflow.__version__,
    )
    command = Command(
        (PYTHON, "-m", "hwflow.toolchain.yosys_run", "synth.ys"), "yosys.log",
        timeout_s=timeout_s, version=version(),
    )
    clock = Command(
        (PYTHON, "-m", "hwflow.toolchain.timing", "netlist.json", top, "timing.json"),
        "timing.log", timeout_s=timeout_s,
        version=f"hwflow {hwflow.__version__}, timing.py {sha256(Path(timing.__file__))[:16]}",
    )
    return Plan(packed, (command, clock), ("stat.json", "stat.txt", "timing.json"), "yosys")


def count(stat: str, board: Board) -> Resources:
    """Resources out of the text of `stat -json`; a cell nobody knows is an error, never free."""
    counts, family = reader.cells(stat), CELLS[board.family]
    unknown = sorted(counts.keys() - family.known)
    if unknown:
        raise ToolError(
            f"Yosys left cells whose size is not known: {', '.join(unknown)}; add them to "
            "hwflow/report/readers/yosys.py with the sites they take"
        )
    taken, chip = reader.sites(counts, family), board.resources
    rows: dict[str, Used | None] = {
        name: Used(used=n, available=getattr(chip, name)) for name, n in taken.items()
    }
    return resources_of(rows, [], reader.KIND, f"Yosys {metadata.version('pyosys')}")


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
