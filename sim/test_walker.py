# SPDX-License-Identifier: Apache-2.0
"""walker: the words of a map by the rules of docs/engine.md, "Geometry", pass after pass."""

import random
from dataclasses import dataclass
from pathlib import Path

import cocotb
from bench import fields, power_up, struct, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.sim.runner import build_and_test

GEOM, ITEM = struct_layout("seq_pkg", "geom_t"), struct_layout("seq_pkg", "item_t")
SMAP_LAT = 4


@dataclass(frozen=True)
class Walk:
    """in_w as stored; groups words from row y0 on."""

    in_w: int
    groups: int
    y0: int = 0
    stride_log2: int = 0
    up: int = 0
    linear: int = 0

    @property
    def narrow(self) -> int:
        return int((self.in_w << self.up) >> self.stride_log2 == 8)

    @property
    def row_words(self) -> int:
        return max(1, ((self.in_w << self.up) >> self.stride_log2) // 16)

    def item(self, g: int) -> dict[str, int]:
        """Word g, without its dilations."""
        if self.linear:
            return {"g": g, "last": int(g == self.groups - 1), "base8": 2 * g}
        row = self.y0 + (2 * g if self.narrow else g // self.row_words)
        xo = 0 if self.narrow else g % self.row_words
        vy = row << self.stride_log2
        first = (vy >> self.up) * self.in_w + ((16 * xo << self.stride_log2) >> self.up)
        return {
            "g": g, "last": int(g == self.groups - 1), "vy": vy, "xo": xo,
            "base8": first // 8 % (1 << 17), "at_left": int(xo == 0),
            "at_right": int(xo == self.row_words - 1),
        }


WALKS = [
    Walk(16, 5), Walk(48, 3 * 7), Walk(8, 6), Walk(8, 3, y0=4), Walk(16, 1), Walk(64, 40, y0=801),
    Walk(8, 4, up=1), Walk(24, 3 * 8, up=1, y0=5), Walk(32, 8, stride_log2=1),
    Walk(16, 6, stride_log2=1, y0=2), Walk(64, 9, stride_log2=2, y0=3),
    Walk(960, 75, y0=1000, stride_log2=2), Walk(48, 70, linear=1), Walk(16, 1, linear=1),
]


def look_up(index: int) -> dict[str, int]:
    """What the bench's dilation map holds at a place: any function of it."""
    return {"dil": index * 0x9E3779B97F4A7C15 % (1 << 48), "present": index * 37 % 256}


@cocotb.test()
async def walks(dut):  # noqa: ANN001, ANN201
    """Two and a half passes of each map, taken eagerly and slowly; then the next one."""
    rng = random.Random(21)
    await power_up(
        dut, ("geom", "linear", "start", "stop", "smap_dil", "smap_present", "item_take")
    )
    asked: list[int | None] = [None] * SMAP_LAT

    async def step() -> None:
        """A cycle; the dilation map answers SMAP_LAT cycles after it was asked."""
        index = int(dut.smap_idx.value) << 1 | int(dut.smap_half.value)
        asked.append(index if int(dut.smap_en.value) else None)
        await FallingEdge(dut.clk)
        place = asked[-SMAP_LAT]
        found = look_up(place) if place is not None else {"dil": 0, "present": 0}
        dut.smap_dil.value, dut.smap_present.value = found["dil"], found["present"]

    for walk in WALKS:
        dut.geom.value = struct(
            GEOM, groups=walk.groups, stride_log2=walk.stride_log2, up=walk.up, narrow=walk.narrow,
            in_w8=walk.in_w // 8, y0=walk.y0, row_words=walk.row_words,
        )
        dut.linear.value = walk.linear
        for _ in range(3):  # constants of the operation are registered
            await step()
        dut.start.value = 1
        await step()
        dut.start.value = 0
        for pace in (1.1, 0.3):
            taken = waited = 0
            total = walk.groups * 2 + walk.groups // 2 + 1
            while taken < total:
                ready = rng.random() < pace
                dut.item_take.value = int(ready)
                if int(dut.item_valid.value):
                    want = walk.item(taken % walk.groups)
                    want |= look_up(want["base8"] % 2048)
                    got = fields(ITEM, int(dut.item.value))
                    got = {name: got[name] for name in want}
                    assert got == want, f"{walk}, item {taken}: {got}, not {want}"
                    taken += ready
                else:
                    waited += 1
                    assert waited < 60, f"{walk}: no item {taken}"
                await step()
            dut.item_take.value = 0
            # Start without a stop: what waits is thrown away
            dut.start.value = 1
            await step()
            dut.start.value = 0
        dut.stop.value = 1
        await step()
        dut.stop.value = 0
        for _ in range(20):
            assert not int(dut.item_valid.value)
            await step()


def test_walker(tmp_path: Path) -> None:
    build_and_test(
        "walker",
        [Path(f"{name}.sv") for name in ("engine/seq_pkg", "lib/delay", "lib/fifo",
                                         "engine/walker")],
        Path(__file__), run_dir=tmp_path,
    )
