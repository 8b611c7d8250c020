# SPDX-License-Identifier: Apache-2.0
"""Pre-route timing of a netlist mapped to 7-series cells, speed grade -1 (docs/timing.md).

`python -m hwflow.toolchain.timing NETLIST TOP [RESULT]` prints the slowest paths. With RESULT (JSON
of fmax_mhz, critical_path, hops) the netlist, which is large, is removed.

The longest path between registers, by the delays of the cells and an allowance for every wire that
depends on its fan-out. Read it as an estimate: nothing has been placed.

Netlist: `write_json` of Yosys after `synth_xilinx -flatten`. Times are nanoseconds.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwflow.errors import ToolError

# Cells of a slice: the cell library of Yosys, which has them from the slow corner of prjxray-db.
LUT = (0.124,) * 6
FF_CLK_Q = 0.52  # DS187, -1
FF_SETUP = {"D": 0.05, "CE": 0.21, "R": 0.52, "S": 0.52}
SRL_CLK_Q = {"SRL16E": 1.63, "SRLC32E": 1.63}
SRL_SETUP = {"D": 0.17, "CE": 0.21}
RAM_CLK_O = 1.32
RAM_SETUP = {"ADDRD": 0.36, "DI": 0.46, "WE": 0.65}
RAM_READ = {"RAM32M": (0.642, 0.631, 0.472, 0.407, 0.238),
            "RAM64M": (0.642, 0.631, 0.472, 0.407, 0.238, 0.127)}
MUX = {"MUXF7": (0.30, 0.23), "MUXF8": (0.28, 0.11)}  # select, data
# LUT RAM of one bit: from 128 words on several LUTs behind the muxes of a slice
RAM_BIT = re.compile(r"RAM(?:32|64|128|256)X1[SD]")
RAM_BIT_READ = (*RAM_READ["RAM64M"], MUX["MUXF7"][0] + MUX["MUXF8"][1], MUX["MUXF8"][0])
RAM_BIT_SETUP = {"A": 0.36, "D": 0.46, "WE": 0.65}
CARRY_CYINIT = {"CO": (0.536, 0.494, 0.592, 0.580), "O": (0.482, 0.598, 0.584, 0.642)}
CARRY_CI = {"CO": (0.271, 0.157, 0.228, 0.114), "O": (0.222, 0.334, 0.239, 0.313)}
CARRY_S = {"CO": (0.340, 0.469, 0.548, 0.550), "O": (0.223, 0.400, 0.558, 0.618)}
CARRY_DI = {"CO": (0.379, 0.465, 0.540, 0.526), "O": (0.0, 0.407, 0.556, 0.615)}
# Block RAM and DSP of the -1 part: slow corner of prjxray-db
BRAM_CLK_DO = {False: 2.45, True: 0.88}  # by its output register
BRAM_SETUP = {"ADDR": 0.57, "WE": 0.53, "EN": 0.44, "DI": 0.74, "REGCE": 0.44, "RST": 0.44}
DSP_INPUT = {"AREG": 0.36, "MREG": 1.93, "PREG": 3.72}  # A or B, by the first register it meets
DSP_C = {True: 0.23, False: 1.70}  # by CREG
DSP_CONTROL = 2.0  # OPMODE, INMODE, ALUMODE without a register: no figure found, so the slow way
DSP_ENABLE = 0.45  # clock enables and resets
DSP_CLK_P = {"PREG": 0.43, "MREG": 2.31, "AREG": 4.01}
DSP_COMB = {"A": 3.72 + 0.43, "B": 3.72 + 0.43, "C": 1.70 + 0.43, "D": 3.72 + 0.43}

# What is not in the netlist
WIRE = 0.50  # of a wire to one place ...
WIRE_PER_DOUBLING = 0.10  # ... more for every doubling of the places it goes to ...
WIRE_MOST = 1.00  # ... up to this: what goes to many places is copied by any placer
UNCERTAINTY = 0.20  # skew and jitter of the clock
PORT_IN = 1.50  # the processor's ports, after the clock
PORT_OUT = 1.00  # and before it

SEQUENTIAL_FF = re.compile(r"FD[RSCP]E")
IGNORED = {"$scopeinfo", "GND", "VCC", "BUFG", "IBUF", "OBUF"}
Bit = int


@dataclass(frozen=True)
class Hop:
    """One cell on a path: what it is, its delay, and the wire that led to it."""

    cell: str
    net: str
    wire_ns: float
    cell_ns: float
    fanout: int


@dataclass(frozen=True)
class TimingPath:
    """A path from a register (or port) to a register (or port)."""

    start: str
    end: str
    ns: float  # with set-up and uncertainty: the least period
    levels: int  # LUTs, carries and multiplexers between
    hops: tuple[Hop, ...]

    def __str__(self) -> str:
        return f"{self.ns:.2f} ns, {self.levels} cells between: {self.start} -> {self.end}"


@dataclass(frozen=True)
class Estimate:
    """The slowest path, and the slowest of each pair of registers, slowest first."""

    worst: TimingPath
    paths: tuple[TimingPath, ...]

    @property
    def fmax_mhz(self) -> float:
        return 1000.0 / self.worst.ns


@dataclass(frozen=True)
class _Cell:
    name: str
    kind: str
    inputs: tuple[tuple[str, int, Bit], ...]  # pin, index in the pin, net
    outputs: tuple[tuple[str, int, Bit], ...]
    parameters: Mapping[str, str]


def _flag(cell: _Cell, name: str) -> bool:
    value = cell.parameters.get(name, "0")
    return bool(int(value, 2)) if set(value) <= {"0", "1"} else value not in ("NONE", "FALSE")


def _is_clock(pin: str) -> bool:
    return pin in {"C", "CLK", "WCLK"} or pin.startswith("CLK")


def _launch(cell: _Cell, pin: str) -> float | None:
    """Clock to this output; None of a cell that no clock drives."""
    if SEQUENTIAL_FF.fullmatch(cell.kind):
        return FF_CLK_Q
    if cell.kind in SRL_CLK_Q:
        return SRL_CLK_Q[cell.kind]
    if cell.kind in RAM_READ or RAM_BIT.fullmatch(cell.kind):
        return RAM_CLK_O
    if cell.kind.startswith("RAMB"):
        return BRAM_CLK_DO[_flag(cell, "DOA_REG" if pin.startswith(("DOA", "DOPA")) else "DOB_REG")]
    if cell.kind == "DSP48E1":
        for register in ("PREG", "MREG", "AREG"):
            if _flag(cell, register):
                return DSP_CLK_P[register]
    return None


def _setup(cell: _Cell, pin: str) -> float | None:
    """Before the clock at this input; None where no register is met."""
    kind = cell.kind
    if _is_clock(pin):
        return None
    if SEQUENTIAL_FF.fullmatch(kind):
        return FF_SETUP[pin]
    if kind in SRL_CLK_Q:
        return SRL_SETUP.get(pin)
    if kind in RAM_READ:
        return next((ns for name, ns in RAM_SETUP.items() if pin.startswith(name)), None)
    if RAM_BIT.fullmatch(kind):
        return None if pin.startswith("DPRA") else RAM_BIT_SETUP[pin.rstrip("0123456789")]
    if kind.startswith("RAMB"):
        return next((ns for name, ns in BRAM_SETUP.items() if pin.startswith(name)), 0.5)
    if kind == "DSP48E1":
        if pin in ("A", "B"):
            first = pin + "REG"
            if _flag(cell, first):
                return DSP_INPUT["AREG"]
            return next((DSP_INPUT[r] for r in ("MREG", "PREG") if _flag(cell, r)), None)
        if pin in ("C", "D"):
            if _flag(cell, "CREG") or _flag(cell, "PREG"):
                return DSP_C[_flag(cell, "CREG")]
            return None
        if pin.startswith(("CE", "RST")):
            return DSP_ENABLE
        return DSP_CONTROL if _flag(cell, "PREG") else None
    return None


def _arcs(cell: _Cell) -> Iterator[tuple[str, Bit, Bit, float]]:
    """(input pin, its net, output net, delay) through a cell without a register."""
    kind = cell.kind
    if kind.startswith("LUT") and kind[3:].isdigit():
        delays = LUT[6 - int(kind[3:]):]
        for pin, _, bit in cell.inputs:
            yield pin, bit, cell.outputs[0][2], delays[int(pin[1:])]
    elif kind == "INV":
        yield cell.inputs[0][0], cell.inputs[0][2], cell.outputs[0][2], LUT[-1]
    elif kind in MUX:
        select, data = MUX[kind]
        for pin, _, bit in cell.inputs:
            yield pin, bit, cell.outputs[0][2], select if pin == "S" else data
    elif kind == "CARRY4":
        for pin, index, bit in cell.inputs:
            table = {"CI": CARRY_CI, "CYINIT": CARRY_CYINIT, "S": CARRY_S, "DI": CARRY_DI}[pin]
            for out, position, net in cell.outputs:
                if (pin == "DI" and out == "O" and position <= index) or position < index:
                    continue
                yield pin, bit, net, table[out][position]
    elif kind in RAM_READ:
        for pin, index, bit in cell.inputs:
            if pin.startswith("ADDR"):
                for out, _, net in cell.outputs:
                    if out == "DO" + pin[4]:
                        yield pin, bit, net, RAM_READ[kind][index]
    elif RAM_BIT.fullmatch(kind):
        reads = {"O": "A", "SPO": "A", "DPO": "DPRA"}
        for pin, index, bit in cell.inputs:
            name = pin.rstrip("0123456789")
            place = int(pin.removeprefix(name) or index)
            for out, _, net in cell.outputs:
                if reads[out] == name:
                    yield pin, bit, net, RAM_BIT_READ[place]
    elif kind in SRL_CLK_Q:
        for pin, index, bit in cell.inputs:
            if pin.startswith("A") and cell.outputs:
                place = int(pin[1:]) if pin[1:] else index
                yield pin, bit, cell.outputs[0][2], LUT[min(place, 5)]
    elif kind == "DSP48E1" and not any(_flag(cell, r) for r in ("AREG", "MREG", "PREG")):
        for pin, _, bit in cell.inputs:
            if pin in DSP_COMB:
                for _, _, net in cell.outputs:
                    yield pin, bit, net, DSP_COMB[pin]


def _cells(module: Mapping[str, Any]) -> list[_Cell]:
    """Cells of the module; constants are not connections. ToolError for an unknown cell."""
    found: list[_Cell] = []
    for name, body in module["cells"].items():
        kind = body["type"]
        if kind in IGNORED:
            continue
        sides: dict[str, list[tuple[str, int, Bit]]] = {"input": [], "output": []}
        for pin, bits in body["connections"].items():
            if body["port_directions"][pin] in sides:
                sides[body["port_directions"][pin]] += [
                    (pin, i, bit) for i, bit in enumerate(bits) if isinstance(bit, int)]
        cell = _Cell(name, kind, tuple(sides["input"]), tuple(sides["output"]),
                     body.get("parameters", {}))
        known = (kind in MUX or kind in RAM_READ or kind in SRL_CLK_Q or kind == "INV"
                 or kind in ("CARRY4", "DSP48E1") or kind.startswith(("LUT", "RAMB"))
                 or SEQUENTIAL_FF.fullmatch(kind) or RAM_BIT.fullmatch(kind))
        if not known:
            raise ToolError(f"no delays are known for the cell {kind} ({name}); add it to "
                            "hwflow/toolchain/timing.py")
        found.append(cell)
    return found


def _names(module: Mapping[str, Any]) -> dict[Bit, str]:
    """A readable name of each net: of a register if there is one, the deepest one of several."""
    names: dict[Bit, tuple[tuple[bool, bool, int], str]] = {}
    for name, body in module["netnames"].items():
        rank = (not body.get("hide_name"), "_q" in name.rsplit(".", 1)[-1], name.count("."))
        several = len(body["bits"]) > 1
        for i, bit in enumerate(body["bits"]):
            if isinstance(bit, int) and (bit not in names or rank > names[bit][0]):
                names[bit] = rank, f"{name}[{i}]" if several else name
    return {bit: name for bit, (_, name) in names.items()}


def _family(name: str) -> str:
    """The register without its indices, so that a bus is one place."""
    return re.sub(r"\[\d+\]", "[]", re.sub(r"(\.\d+)+(?=\.|$)", "", name))


def load(path: Path, top: str) -> Mapping[str, Any]:
    """The flattened module `top` of a netlist; ToolError when it is not in it."""
    modules = json.loads(path.read_text()).get("modules", {})
    if top not in modules:
        raise ToolError(f"{path}: no module {top}; write it with `write_json` after `-flatten`")
    module: Mapping[str, Any] = modules[top]
    return module


def estimate(module: Mapping[str, Any]) -> Estimate:
    """Longest paths of a flattened module.

    ToolError: a cell without known delays, a loop without a register, nothing to time.
    """
    cells, names = _cells(module), _names(module)
    fanout: Counter[Bit] = Counter(
        bit for cell in cells for pin, _, bit in cell.inputs if not _is_clock(pin))

    # Nets that a register, a memory or a port starts
    at: dict[Bit, float] = {}
    came: dict[Bit, tuple[Bit, Hop] | None] = {}
    origin: dict[Bit, str] = {}
    for port in module["ports"].values():
        if port["direction"] == "input":
            for bit in port["bits"]:
                if isinstance(bit, int):
                    at[bit], came[bit] = PORT_IN, None
                    origin[bit] = f"port {names.get(bit, '?')}"
    for cell in cells:
        for pin, _, bit in cell.outputs:
            launch = _launch(cell, pin)
            if launch is not None:
                at[bit], came[bit] = launch, None
                origin[bit] = _register(cell, names)

    # Cells in an order in which every input is known first
    arcs = [(cell, list(_arcs(cell))) for cell in cells]
    waiting: Counter[int] = Counter()
    users: dict[Bit, list[int]] = {}
    driven = {net for _, found in arcs for _, _, net, _ in found}
    for i, (_, found) in enumerate(arcs):
        for bit in {bit for _, bit, _, _ in found}:
            if bit in driven and bit not in origin:
                waiting[i] += 1
                users.setdefault(bit, []).append(i)
    ready = [i for i, (_, found) in enumerate(arcs) if found and not waiting[i]]
    seen = 0
    while ready:
        cell, found = arcs[ready.pop()]
        seen += 1
        for pin, bit, net, delay in found:
            wire = _wire(cell.kind, pin, fanout[bit])
            time = at.get(bit, 0.0) + wire + delay
            if time > at.get(net, -1.0):
                at[net] = time
                came[net] = bit, Hop(cell.kind, names.get(net, "?"), wire, delay, fanout[bit])
        for net in {net for _, _, net, _ in found}:
            for user in users.get(net, ()):
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)
    if seen != sum(1 for _, found in arcs if found):
        raise ToolError("the netlist has a loop without a register; no path can be timed")

    ends: dict[tuple[str, str], tuple[float, Bit, str, float, float]] = {}

    def end(bit: Bit, wire: float, setup: float, name: str) -> None:
        first = bit
        time = at.get(bit, 0.0) + wire + setup + UNCERTAINTY
        while (step := came.get(first)) is not None:
            first = step[0]
        key = _family(origin.get(first, "constant")), _family(name)
        if key not in ends or time > ends[key][0]:
            ends[key] = time, bit, name, wire, setup

    for cell in cells:
        for pin, _, bit in cell.inputs:
            setup = _setup(cell, pin)
            if setup is not None:
                end(bit, _wire(cell.kind, pin, fanout[bit]), setup,
                    f"{_register(cell, names)}.{pin}")
    for port in module["ports"].values():
        if port["direction"] == "output":
            for bit in port["bits"]:
                if isinstance(bit, int):
                    end(bit, WIRE, PORT_OUT, f"port {names.get(bit, '?')}")
    if not ends:
        raise ToolError("the netlist has no register and no port; nothing can be timed")

    paths = []
    for time, bit, name, wire, setup in sorted(ends.values(), reverse=True)[:200]:
        hops = [Hop("set-up", name, wire, setup, fanout[bit])]
        while (step := came.get(bit)) is not None:
            hops.append(step[1])
            bit = step[0]
        hops.append(Hop("start", origin.get(bit, "constant"), 0.0, at.get(bit, 0.0), fanout[bit]))
        hops.reverse()
        paths.append(TimingPath(hops[0].net, name, time, len(hops) - 2, tuple(hops)))
    return Estimate(paths[0], tuple(paths))


def _register(cell: _Cell, names: Mapping[Bit, str]) -> str:
    """Name of a cell with a clock: of what it holds, or its own."""
    if SEQUENTIAL_FF.fullmatch(cell.kind) or cell.kind in SRL_CLK_Q:
        for _, _, bit in cell.outputs:
            if bit in names:
                return names[bit]
    return f"{cell.kind} {cell.name}"


def _wire(kind: str, pin: str, fanout: int) -> float:
    """Allowance for the wire to this pin. A carry and the LUT before it are neighbours."""
    if kind == "CARRY4" and (pin == "CI" or (pin in ("S", "DI") and fanout == 1)):
        return 0.0
    if kind in MUX and pin != "S" and fanout == 1:
        return 0.0
    if SEQUENTIAL_FF.fullmatch(kind) and pin == "D" and fanout == 1:
        return 0.0  # the flip-flop behind the LUT
    return min(WIRE + WIRE_PER_DOUBLING * math.log2(max(fanout, 1)), WIRE_MOST)


def main(arguments: list[str]) -> int:
    """Print the slowest path of each pair of registers, and the cells of the slowest of all."""
    if not 2 <= len(arguments) <= 3:
        sys.stderr.write("usage: python -m hwflow.toolchain.timing NETLIST TOP [RESULT]\n")
        return 2
    found = estimate(load(Path(arguments[0]), arguments[1]))
    for path in found.paths[:40]:
        sys.stdout.write(f"{path}\n")
    sys.stdout.write(f"{found.fmax_mhz:.1f} MHz:\n")
    for hop in found.worst.hops:
        sys.stdout.write(f"  {hop.wire_ns:5.2f} to {hop.fanout:4d}  {hop.cell_ns:5.2f} "
                         f"{hop.cell:8s} {hop.net}\n")
    if len(arguments) == 3:
        Path(arguments[2]).write_text(json.dumps({
            "fmax_mhz": round(found.fmax_mhz, 1), "critical_path": str(found.worst),
            "hops": [asdict(hop) for hop in found.worst.hops],
        }, indent=1) + "\n")
        Path(arguments[0]).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
