# SPDX-License-Identifier: Apache-2.0
"""fetch: the taps of every geometry, against the map itself padded with the fill.

The requests are made by the rules of docs/engine.md, "Geometry"; what must come out is not: it is
the pixel of the (upsampled) map at the tap's row and column, or the fill outside of it.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cocotb
import numpy as np
import pytest
from bench import engine_constant, pack, play, unpack

from hwflow.sim.runner import build_and_test

LANES = 16
SOURCES = ["engine/engine_pkg.sv", "lib/ram_sdp.sv", "engine/act_mem.sv", "engine/fetch.sv"]
# engine_pkg::fetch_t from its lowest bit up
FIELDS = {
    "fill_min": 1, "in_signed": 1, "linear": 1, "narrow": 1, "at_right": 1, "at_left": 1,
    "lane_ok": 16, "dil": 48, "mode": 2, "pre": 1, "center": 16, "valid": 1,
}


def request(**values: int) -> int:
    word = at = 0
    for name, width in FIELDS.items():
        value = values.pop(name, 0)
        assert 0 <= value < 1 << width, f"{name} = {value}"
        word |= value << at
        at += width
    assert not values, f"no field {sorted(values)}"
    return word


@dataclass(frozen=True)
class Geometry:
    """A map in memory and how it is walked; in_h as stored."""

    in_w: int
    in_h: int
    stride: int = 1
    up: bool = False
    signed: bool = False
    fill_min: bool = False

    @property
    def seen_w(self) -> int:
        return self.in_w * (2 if self.up else 1)

    @property
    def narrow(self) -> bool:
        return self.seen_w // self.stride == 8


GEOMETRIES = [
    Geometry(16, 9), Geometry(48, 5, signed=True), Geometry(32, 4, fill_min=True),
    Geometry(8, 10), Geometry(8, 6, signed=True, fill_min=True),
    Geometry(8, 6, up=True), Geometry(16, 5, up=True, signed=True), Geometry(24, 4, up=True),
    Geometry(32, 8, stride=2), Geometry(64, 6, stride=2, signed=True, fill_min=True),
    Geometry(16, 12, stride=2), Geometry(16, 8, stride=2, signed=True, fill_min=True),
    Geometry(64, 8, stride=4), Geometry(128, 8, stride=4, signed=True),
    Geometry(32, 16, stride=4),
]


def passes(geometry: Geometry, plane: int, rng: random.Random) -> Iterator[tuple[int, list]]:
    """Requests of one random output word, each with (row, column, takes part) of its 48 taps."""
    g = geometry
    rows = g.in_h * (2 if g.up else 1) // g.stride
    row_words = max(1, g.seen_w // g.stride // LANES)
    y = rng.randrange(0, rows, 2 if g.narrow else 1)
    xo = rng.randrange(row_words)
    for i in range(3):
        one_d = rng.randrange(8)
        if g.stride > 1:
            dil = [1] * LANES
        else:  # as DDW does: in the centre row each lane has its own
            dil = [rng.randrange(8) if i == 1 else one_d for _ in range(LANES)]
        joins = [rng.randrange(8) > 0 for _ in range(LANES)]
        halves = [range(8), range(8, 16)] if g.stride == 4 or (g.narrow and g.stride == 2) else [
            range(16)
        ]
        for number, half in enumerate(halves):
            vrow = y * g.stride + (i - 1) * dil[0] * (i != 1)
            second_row = g.narrow and number == 1
            if second_row:
                vrow += g.stride
            first = (vrow >> g.up) * g.in_w + ((LANES * xo * g.stride) >> g.up)
            center = plane + (first >> 4)
            if number == 1:
                center += -1 if g.stride == 2 else 0 if second_row else 2
            taps, lane_ok = [], 0
            for x in range(LANES):
                lane_row = y + (g.narrow and x >= 8)
                row = lane_row * g.stride + (i - 1) * dil[x]
                part = joins[x] and x in half and 0 <= row < g.in_h * (2 if g.up else 1)
                lane_ok |= part << x
                column = ((x & 7) if g.narrow else LANES * xo + x) * g.stride
                taps.append((row, column, dil[x], part))
            mode = {1: 1 if g.up else 0, 2: 2, 4: 3}[g.stride]
            yield request(
                valid=1, center=center % 65536, pre=(first >> 3) & 1, mode=mode,
                dil=pack(dil if g.stride == 1 else [rng.randrange(8) for _ in dil], 3),
                lane_ok=lane_ok, at_left=xo == 0, at_right=xo == row_words - 1, narrow=g.narrow,
                in_signed=g.signed, fill_min=g.fill_min,
            ), taps


def expected(g: Geometry, memory: np.ndarray, plane: int, taps: list) -> list[int]:
    """The 48 taps, column by column."""
    words = g.in_w * g.in_h // LANES
    values = memory[plane : plane + words].reshape(g.in_h, g.in_w)
    values = (values.astype(np.int8) if g.signed else values).astype(int)
    if g.up:
        values = values.repeat(2, 0).repeat(2, 1)
    fill = -128 if g.signed and g.fill_min else 0
    out = []
    for j in range(3):
        for row, column, d, part in taps:
            at = column + (j - 1) * d
            inside = part and 0 <= at < values.shape[1]
            out.append(int(values[row, at]) if inside else fill)
    return out


def load(memory: np.ndarray) -> list[dict]:
    """A write to every word."""
    return [
        {"wr_en": 1, "wr_addr": a, "wr_data": pack(row, 8)} for a, row in enumerate(memory.tolist())
    ]


def check(seen: list[dict[str, int]], due: dict[int, tuple[str, list[int]]]) -> None:
    for cycle, row in enumerate(seen):
        assert row["out_valid"] == (cycle in due), f"out_valid in cycle {cycle}"
        if cycle not in due:
            continue
        what, want = due[cycle]
        got = unpack(row["taps"], 9, 48, True)
        if what == "linear":
            got = got[16:32]
            assert unpack(row["word"], 8, 16) == [v % 256 for v in want], f"cycle {cycle}: word"
        wrong = [k for k, (a, b) in enumerate(zip(got, want, strict=True)) if a != b]
        assert not wrong, (
            f"cycle {cycle}, {what}: tap {wrong[0] // 16} of lane {wrong[0] % 16} is "
            f"{got[wrong[0]]}, not {want[wrong[0]]}"
        )


OUTPUTS = ["out_valid", "taps", "word"]


@cocotb.test()
async def all_geometries(dut):  # noqa: ANN001, ANN201
    """Words of every geometry anywhere in the memory, mixed in random order with gaps."""
    rng = random.Random(6)
    count = int(os.environ["PARAM_WORDS"])
    memory = np.random.default_rng(6).integers(0, 256, (count, LANES), dtype=np.uint8)
    beats = load(memory)
    due = {}
    latency = engine_constant("FETCH_LAT")
    for _ in range(1500):
        g = rng.choice(GEOMETRIES)
        plane = rng.randrange(count - g.in_w * g.in_h // LANES + 1)
        for word, taps in passes(g, plane, rng):
            if rng.randrange(6) == 0:
                beats.append({"req": rng.getrandbits(89)})  # not valid
            due[len(beats) + latency] = (f"{g} plane {plane}", expected(g, memory, plane, taps))
            beats.append({"req": word})
    assert {what.split(" plane")[0] for what, _ in due.values()} == {str(g) for g in GEOMETRIES}
    check(await play(dut, beats, OUTPUTS, latency + 1), due)


@cocotb.test()
async def linear_words_while_writing(dut):  # noqa: ANN001, ANN201
    """The plain word whatever the other fields say, soon after it was written, through a reset."""
    rng = random.Random(9)
    count = int(os.environ["PARAM_WORDS"])
    memory = np.random.default_rng(9).integers(0, 256, (count, LANES), dtype=np.uint8)
    beats = load(memory)
    due = {}
    latency, after = engine_constant("FETCH_LAT"), engine_constant("ACT_WR_LAT")
    recent = [-1] * 3  # words read in these last cycles
    written = []
    reset_at = len(beats) + 700
    for _ in range(2500):
        beat = {}
        center = -9
        if rng.randrange(4):
            pool = written[-1 - after : -after] if rng.randrange(2) else []
            center = rng.choice(pool or [rng.randrange(count)])
            signed = rng.getrandbits(1)
            beat["req"] = request(
                valid=1, center=center, linear=1, in_signed=signed, lane_ok=rng.getrandbits(16),
                dil=rng.getrandbits(48), mode=rng.getrandbits(2), pre=rng.getrandbits(1),
                narrow=rng.getrandbits(1), at_left=rng.getrandbits(1), at_right=1,
                fill_min=rng.getrandbits(1),
            )
            if not reset_at - latency < len(beats) <= reset_at:
                values = memory[center].astype(np.int8) if signed else memory[center]
                due[len(beats) + latency] = ("linear", [int(v) for v in values])
        recent = [*recent[1:], center]
        target = rng.randrange(count)
        if all(abs((target - c + 2) % 65536 - 2) > 1 for c in recent) and len(beats) != reset_at:
            memory[target] = rng.randbytes(LANES)[0]
            beat |= {"wr_en": 1, "wr_addr": target, "wr_data": pack(memory[target].tolist(), 8)}
            written.append(target)
        else:
            written.append(0)
        beats.append(beat)
    check(await play(dut, beats, OUTPUTS, latency + 1, reset_at), due)


@pytest.mark.parametrize("words", [512, 1552])
def test_fetch(words: int, tmp_path: Path) -> None:
    """A power of two, and a bank made of three RAMs."""
    build_and_test(
        "fetch", [Path(name) for name in SOURCES], Path(__file__), {"WORDS": words},
        run_dir=tmp_path,
    )
