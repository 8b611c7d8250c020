# SPDX-License-Identifier: Apache-2.0
"""What the benches of the engine's datapath share: cycle-exact play, and packing of vectors.

The datapath never stalls, so a bench is a list of input words, one a cycle, and what came out in
each cycle; where a result must appear follows from the module's fixed latency.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer

from hwflow.sim.runner import hdl_dir

Beat = Mapping[str, int]


def engine_constant(name: str) -> int:
    """A localparam of engine_pkg.sv, such as FETCH_LAT: a number or the name of another one."""
    text = (hdl_dir() / "engine" / "engine_pkg.sv").read_text()
    found = re.search(rf"\b{name} = (\w+);", text)
    if found is None:
        raise KeyError(f"engine_pkg.sv has no localparam {name} that is a number or a name")
    value = found.group(1)
    return int(value) if value.isdecimal() else engine_constant(value)


def pack(values: Iterable[int], width: int) -> int:
    """Values of `width` bits each (two's complement if negative), the first one lowest."""
    word = 0
    mask = (1 << width) - 1
    for i, value in enumerate(values):
        word |= (int(value) & mask) << (i * width)
    return word


def unpack(word: int, width: int, count: int, signed: bool = False) -> list[int]:
    """The inverse of `pack` for `count` values."""
    mask, sign = (1 << width) - 1, (1 << (width - 1)) if signed else 0
    return [(((word >> (i * width)) & mask) ^ sign) - sign for i in range(count)]


async def play(
    dut: cocotb.handle.HierarchyObject,
    beats: Sequence[Beat],
    outputs: Sequence[str],
    tail: int,
    reset_at: int | None = None,
) -> list[dict[str, int]]:
    """Drive one beat a cycle from cycle 0 on, then `tail` idle cycles; what the outputs were.

    A name that a beat does not mention is 0 in its cycle. Item c of the answer holds the outputs in
    cycle c, before its clock edge, so that a result of latency N of beat c is in item c + N.
    reset_at: `rst` is high in this cycle. The design is reset before cycle 0.
    """
    names = sorted({name for beat in beats for name in beat})
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    has_reset = hasattr(dut, "rst")
    for name in names:
        getattr(dut, name).value = 0
    if has_reset:
        dut.rst.value = 1
    for _ in range(3):
        await FallingEdge(dut.clk)
    if has_reset:
        dut.rst.value = 0
    inputs = {name: getattr(dut, name) for name in names}
    watched = {name: getattr(dut, name) for name in outputs}
    driven = dict.fromkeys(names, 0)
    seen = []
    for cycle in range(len(beats) + tail):
        beat = beats[cycle] if cycle < len(beats) else {}
        for name in names:
            value = beat.get(name, 0)
            if driven[name] != value:
                inputs[name].value = driven[name] = value
        if has_reset and reset_at is not None and cycle in (reset_at, reset_at + 1):
            dut.rst.value = cycle == reset_at
        # Registered outputs: what they are at the falling edge they are for the whole cycle
        seen.append({name: int(handle.value) for name, handle in watched.items()})
        await FallingEdge(dut.clk)
    return seen


def struct_layout(package: str, name: str) -> dict[str, int]:
    """Widths of the fields of a packed struct of a package in hdl/engine, lowest field first."""
    text = (hdl_dir() / "engine" / f"{package}.sv").read_text()
    for body, found in re.findall(r"typedef struct packed \{(.*?)\} (\w+);", text, re.DOTALL):
        if found == name:
            fields = re.findall(r"^\s*logic\s*((?:\[\d+:0\])*)\s*(\w+);", body, re.MULTILINE)
            widths = {
                field: math.prod(int(high) + 1 for high in re.findall(r"\[(\d+):0\]", ranges))
                for ranges, field in fields
            }
            return dict(reversed(widths.items()))
    raise KeyError(f"{package}.sv has no packed struct {name}")


def struct(layout: Mapping[str, int], **values: int) -> int:
    """The word of a packed struct; fields that are not given are 0, negative ones wrap."""
    word = at = 0
    for name, width in layout.items():
        word |= (int(values.pop(name, 0)) & ((1 << width) - 1)) << at
        at += width
    if values:
        raise KeyError(f"no field {', '.join(values)}")
    return word


def fields(layout: Mapping[str, int], word: int) -> dict[str, int]:
    """The inverse of `struct`."""
    out = {}
    for name, width in layout.items():
        out[name] = word & ((1 << width) - 1)
        word >>= width
    return out


async def settle() -> None:
    """Let inputs set at the falling edge reach the combinational outputs."""
    await Timer(1, "ns")


async def power_up(dut: cocotb.handle.HierarchyObject, inputs: Iterable[str]) -> None:
    """Start the clock with all inputs at 0, and leave the reset at a falling edge."""
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    for name in inputs:
        getattr(dut, name).value = 0
    if hasattr(dut, "rst"):
        dut.rst.value = 1
    for _ in range(4):
        await FallingEdge(dut.clk)
    if hasattr(dut, "rst"):
        dut.rst.value = 0
    await FallingEdge(dut.clk)
