# SPDX-License-Identifier: Apache-2.0
"""A mapped netlist of Yosys (`write_json`, xc7 cells), run on many samples at once.

For feed-forward pipelines: every net carries one bit a sample and the number of registers it lies
behind the inputs. A cell whose inputs lie behind different numbers of registers would mix samples
of different cycles and is refused, so that the value of an output is the one the hardware gives
`stages` cycles later, for any sequence of samples. Nothing is shared with the simulator.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwflow.errors import ToolError, VerifyError

Bit = int | str  # the number of a net, or "0", "1", "x"
REGISTERS = {"FDRE": "R", "FDCE": "CLR", "FDSE": "S", "FDPE": "PRE"}  # and the pin that resets
SETS = ("FDSE", "FDPE")
TABLES = frozenset(f"LUT{n}" for n in range(1, 7))
WIRES = {"BUFG": ("I", "O"), "IBUF": ("I", "O"), "OBUF": ("I", "O")}
SHIFTS = ("SRL16E", "SRLC32E")
MOST_CELLS = 5_000_000


@dataclass(frozen=True)
class Cell:
    """A primitive: its parameters as bit strings, and the bits at its pins."""

    name: str
    kind: str
    parameters: Mapping[str, str]
    pins: Mapping[str, tuple[Bit, ...]]

    def pin(self, name: str) -> Bit:
        """The single bit at a pin; 0 where nothing is connected."""
        bits = self.pins.get(name) or ("0",)
        return bits[0]


@dataclass(frozen=True)
class Netlist:
    """One flat module."""

    top: str
    inputs: Mapping[str, tuple[Bit, ...]]
    outputs: Mapping[str, tuple[Bit, ...]]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Net:
    """One bit of every sample, packed; stage: registers behind the inputs, None if it is held."""

    packed: np.ndarray
    stage: int | None


@dataclass(frozen=True)
class Output:
    """bits: uint8 (width, N), bit 0 first. stage: registers behind the inputs, None if held."""

    bits: np.ndarray
    stage: int | None

    @property
    def numbers(self) -> np.ndarray:
        """The bits of each sample as an unsigned number, int64 (N,)."""
        weights = 1 << np.arange(len(self.bits), dtype=np.int64)
        return np.asarray((self.bits * weights[:, None]).sum(axis=0), np.int64)


def read(path: Path, top: str) -> Netlist:
    """A module out of a file of `write_json`; ToolError if it is not there or not flat."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        modules = body["modules"]
        module = modules[top]
        cells = tuple(
            Cell(name, cell["type"], cell.get("parameters", {}),
                 {pin: tuple(bits) for pin, bits in cell["connections"].items()})
            for name, cell in module["cells"].items() if cell["type"] != "$scopeinfo"
        )  # fmt: skip
        ports = module["ports"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolError(
            f"{path}: is no netlist of {top} ({error}); write it with `write_json` after `flatten`"
        ) from error
    if len(cells) > MOST_CELLS:
        raise ToolError(f"{path}: {len(cells):,} cells; at most {MOST_CELLS:,} are evaluated")

    def named(direction: str) -> dict[str, tuple[Bit, ...]]:
        return {name: tuple(port["bits"]) for name, port in ports.items()
                if port["direction"] == direction}  # fmt: skip

    return Netlist(top, named("input"), named("output"), cells)


def evaluate(
    netlist: Netlist, samples: Mapping[str, np.ndarray], held: Mapping[str, int]
) -> dict[str, Output]:
    """Every output port for N samples.

    samples: port -> uint8 (width, N) of zeros and ones, bit 0 first. held: port -> the number it
    always has (enable, reset, clock). VerifyError names a port that is in neither, an unknown
    cell, a register that is not always enabled, feedback, and a cell whose inputs come from
    different cycles.
    """
    return _Run(netlist, samples, held).outputs()


class _Run:
    """The nets of one evaluation."""

    def __init__(
        self, netlist: Netlist, samples: Mapping[str, np.ndarray], held: Mapping[str, int]
    ) -> None:
        self.netlist = netlist
        self.count = _count(netlist, samples, held)
        size = -(-self.count // 8)
        self.low = np.zeros(size, np.uint8)
        self.high = np.full(size, 255, np.uint8)
        zero, one = Net(self.low, None), Net(self.high, None)
        self.nets: dict[Bit, Net] = {"0": zero, "1": one, "x": zero, "z": zero}
        for port, bits in netlist.inputs.items():
            for place, bit in enumerate(bits):
                if port in held:
                    self.nets[bit] = one if held[port] >> place & 1 else zero
                else:
                    self.nets[bit] = Net(np.packbits(samples[port][place]), 0)
        self.drivers: dict[Bit, Cell] = {}
        for cell in netlist.cells:
            for bit in _driven(cell):
                if bit in self.drivers or bit in self.nets:
                    raise VerifyError(f"{netlist.top}: net {bit} has two drivers, one is "
                                      f"{cell.name}; the netlist is broken")
                self.drivers[bit] = cell

    def outputs(self) -> dict[str, Output]:
        found = {}
        for port, bits in self.netlist.outputs.items():
            nets = [self.net(bit) for bit in bits]
            stage = self.common(port, nets)
            found[port] = Output(
                np.array([np.unpackbits(net.packed, count=self.count) for net in nets], np.uint8),
                stage,
            )
        return found

    def net(self, bit: Bit) -> Net:
        """A net's value; everything it depends on is computed first, without recursion."""
        if bit in self.nets:
            return self.nets[bit]
        waiting, open_cells = [bit], set()
        while waiting:
            last = waiting[-1]
            if last in self.nets:
                waiting.pop()
                continue
            cell = self.drivers.get(last)
            if cell is None:
                raise VerifyError(f"{self.netlist.top}: nothing drives net {last}; the netlist "
                                  "has an undriven net")
            missing = [one for one in self.needs(cell) if one not in self.nets]
            if not missing:
                self.compute(cell)
                open_cells.discard(cell.name)
                waiting.pop()
            elif cell.name in open_cells:
                raise VerifyError(
                    f"{self.netlist.top}: {cell.kind} {cell.name} is in a loop; only feed-forward "
                    "pipelines can be evaluated, others have to be simulated"
                )
            else:
                open_cells.add(cell.name)
                waiting += missing
        return self.nets[bit]

    def needs(self, cell: Cell) -> list[Bit]:
        """What decides the outputs of a cell: of a table not what held inputs leave without effect.

        So the way back from a register to itself, for when it is not enabled, is no loop.
        """
        bits = _read(cell)
        if cell.kind not in TABLES:
            return bits
        init = self.restricted(cell, bits)
        return [bit for place, bit in enumerate(bits) if _depends(init, place, len(bits))]

    def restricted(self, cell: Cell, bits: list[Bit]) -> int:
        """A table's contents, those at addresses that held inputs rule out replaced by others."""
        init = _number(cell, "INIT")
        for place, bit in enumerate(bits):
            net = self.nets.get(bit)
            if net is not None and net.stage is None:
                init = _fixed(init, place, len(bits), bool(net.packed[0] & 128))
        return init

    def common(self, name: str, nets: Iterable[Net]) -> int | None:
        """The one stage of all nets that are not held."""
        stages = sorted({net.stage for net in nets if net.stage is not None})
        if len(stages) > 1:
            raise VerifyError(
                f"{self.netlist.top}: {name} mixes values from behind {stages[0]} and {stages[-1]} "
                "registers; the pipeline is not balanced"
            )
        return stages[0] if stages else None

    def compute(self, cell: Cell) -> None:
        """Set what a cell drives."""
        if cell.kind.startswith("LUT"):
            self.table(cell)
        elif cell.kind in REGISTERS:
            self.register(cell)
        elif cell.kind in SHIFTS:
            self.shift(cell)
        elif cell.kind == "CARRY4":
            self.carry(cell)
        else:
            ways: dict[str, Callable[[list[np.ndarray]], np.ndarray]] = {
                "INV": lambda x: ~x[0],
                "MUXF7": lambda x: (x[2] & x[1]) | (~x[2] & x[0]),
                "MUXF8": lambda x: (x[2] & x[1]) | (~x[2] & x[0]),
                "GND": lambda x: self.low, "VCC": lambda x: self.high,
                **dict.fromkeys(WIRES, lambda x: x[0]),
            }
            nets = [self.nets[bit] for bit in _read(cell)]
            value = ways[cell.kind]([net.packed for net in nets])
            (out,) = _driven(cell)
            self.nets[out] = Net(value, self.common(f"{cell.kind} {cell.name}", nets))

    def table(self, cell: Cell) -> None:
        bits = _read(cell)
        if cell.kind in TABLES:
            free = Net(self.low, None)  # where the table does not depend on the input
            needs = set(self.needs(cell))
            nets = [self.nets[bit] if bit in needs else free for bit in bits]
            init = self.restricted(cell, bits)
        else:
            nets = [self.nets[bit] for bit in bits]
            init = _number(cell, "INIT")
        stage = self.common(f"{cell.kind} {cell.name}", nets)
        inputs = [net.packed for net in nets]
        if cell.kind == "LUT6_2":
            for pin, width in (("O6", 6), ("O5", 5)):
                for bit in cell.pins.get(pin, ()):
                    part = init & ((1 << (1 << width)) - 1)
                    self.nets[bit] = Net(self.mux(part, inputs[:width]), stage)
            return
        self.nets[cell.pin("O")] = Net(self.mux(init, inputs), stage)

    def mux(self, init: int, inputs: list[np.ndarray]) -> np.ndarray:
        """A table by Shannon's expansion about its last input."""
        size = 1 << len(inputs)
        if init == 0:
            return self.low
        if init == (1 << size) - 1:
            return self.high
        half = size // 2
        zero, one = init & ((1 << half) - 1), init >> half
        *rest, last = inputs
        if zero == one:
            return self.mux(zero, rest)
        low, high = self.mux(zero, rest), self.mux(one, rest)
        return np.asarray((last & high) | (~last & low))

    def register(self, cell: Cell) -> None:
        pin = REGISTERS[cell.kind]
        data, reset, enable = (self.nets[cell.pin(name)] for name in ("D", pin, "CE"))
        self.enabled(cell, enable)
        if cell.kind in ("FDCE", "FDPE") and reset.packed.any():
            raise VerifyError(f"{self.netlist.top}: {cell.kind} {cell.name} is reset by a sample")
        stage = self.common(f"{cell.kind} {cell.name}", (data, reset))
        force = reset.packed
        value = data.packed | force if cell.kind in SETS else data.packed & ~force
        self.nets[cell.pin("Q")] = Net(value, None if stage is None else stage + 1)

    def enabled(self, cell: Cell, enable: Net) -> None:
        if (np.unpackbits(enable.packed, count=self.count) == 0).any():
            raise VerifyError(f"{self.netlist.top}: {cell.kind} {cell.name} is not enabled in "
                              "every cycle; hold the enable of the pipeline at 1")

    def shift(self, cell: Cell) -> None:
        data = self.nets[cell.pin("D")]
        self.enabled(cell, self.nets[cell.pin("CE")])
        names = ("A0", "A1", "A2", "A3") if cell.kind == "SRL16E" else ("A",)
        address = [bit for name in names for bit in cell.pins.get(name, ())]
        if any(bit not in ("0", "1") for bit in address):
            raise VerifyError(f"{self.netlist.top}: {cell.kind} {cell.name} has a length that is "
                              "not constant")
        length = 1 + sum((bit == "1") << place for place, bit in enumerate(address))
        for pin, delay in (("Q", length), ("Q31", 32)):
            for bit in cell.pins.get(pin, ()):
                stage = None if data.stage is None else data.stage + delay
                self.nets[bit] = Net(data.packed, stage)

    def carry(self, cell: Cell) -> None:
        read = [self.nets[bit] for bit in _read(cell)]
        stage = self.common(f"CARRY4 {cell.name}", read)
        carry = self.nets[cell.pin("CI")].packed | self.nets[cell.pin("CYINIT")].packed
        for place in range(4):
            select, data = (self.nets[_bus(cell, pin, place)].packed for pin in ("S", "DI"))
            total = select ^ carry
            carry = np.asarray((select & carry) | (~select & data))
            for pin, value in (("O", total), ("CO", carry)):
                bits = cell.pins.get(pin, ())
                if place < len(bits):
                    self.nets[bits[place]] = Net(value, stage)


def _count(
    netlist: Netlist, samples: Mapping[str, np.ndarray], held: Mapping[str, int]
) -> int:
    wrong = sorted(netlist.inputs.keys() ^ (samples.keys() | held.keys()))
    if wrong or not samples:
        raise VerifyError(
            f"{netlist.top}: the input ports are {', '.join(netlist.inputs)}; give each of them, "
            f"and no other ({', '.join(wrong)}), samples or a number to hold"
        )
    for port, bits in samples.items():
        if bits.ndim != 2 or len(bits) != len(netlist.inputs[port]):
            raise VerifyError(f"{netlist.top}: port {port} has {len(netlist.inputs[port])} bits, "
                              f"the samples {bits.shape}")
    counts = {bits.shape[1] for bits in samples.values()}
    if len(counts) != 1 or counts == {0}:
        raise VerifyError(f"{netlist.top}: the ports have {sorted(counts)} samples")
    return int(counts.pop())


def _number(cell: Cell, name: str) -> int:
    """A parameter; `x` counts as 0, as in the bitstream."""
    try:
        return int(cell.parameters[name].replace("x", "0"), 2)
    except (KeyError, ValueError) as error:
        raise VerifyError(f"{cell.kind} {cell.name} has no parameter {name} of bits") from error


def _column(place: int, width: int) -> int:
    """The contents of a table of `width` inputs that repeats its input `place`."""
    size, half = 1 << width, 1 << place
    return sum(((1 << half) - 1) << at for at in range(half, size, 2 * half))


def _fixed(init: int, place: int, width: int, value: bool) -> int:
    """A table's contents as they are with one input fixed, for both values of that input."""
    column, half = _column(place, width), 1 << place
    kept = init & column if value else init & ~column
    return kept | (kept >> half if value else kept << half)


def _depends(init: int, place: int, width: int) -> bool:
    return _fixed(init, place, width, False) != _fixed(init, place, width, True)


def _bus(cell: Cell, pin: str, place: int) -> Bit:
    bits = cell.pins.get(pin, ())
    return bits[place] if place < len(bits) else "0"


def _read(cell: Cell) -> list[Bit]:
    """The bits a cell reads, in the order in which it is computed."""
    kind = cell.kind
    if kind == "LUT6_2":
        return [cell.pin(f"I{n}") for n in range(6)]
    if kind in TABLES:
        return [cell.pin(f"I{n}") for n in range(int(kind[3:]))]
    if kind in REGISTERS:
        return [cell.pin("D"), cell.pin("CE"), cell.pin(REGISTERS[kind])]
    if kind in SHIFTS:
        return [cell.pin("D"), cell.pin("CE")]
    if kind in ("MUXF7", "MUXF8"):
        return [cell.pin("I0"), cell.pin("I1"), cell.pin("S")]
    if kind == "CARRY4":
        pins = [_bus(cell, pin, place) for pin in ("S", "DI") for place in range(4)]
        return [cell.pin("CI"), cell.pin("CYINIT"), *pins]
    if kind in WIRES or kind == "INV":
        return [cell.pin("I")]
    if kind in ("GND", "VCC"):
        return []
    raise VerifyError(
        f"{kind} {cell.name} cannot be evaluated: known are LUT1 to LUT6, LUT6_2, MUXF7, MUXF8, "
        f"CARRY4, INV, {', '.join((*REGISTERS, *SHIFTS))}; simulate designs with memories"
    )


def _driven(cell: Cell) -> list[Bit]:
    """The bits a cell drives."""
    _read(cell)
    pins = {"GND": ("G",), "VCC": ("P",), "LUT6_2": ("O6", "O5"), "CARRY4": ("O", "CO"),
            "SRLC32E": ("Q", "Q31"), "SRL16E": ("Q",), **dict.fromkeys(REGISTERS, ("Q",))}
    return [bit for pin in pins.get(cell.kind, ("O",)) for bit in cell.pins.get(pin, ())]
