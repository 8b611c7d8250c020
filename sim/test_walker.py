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


@dataclass(frozen=True)
class Walk:
    """in_w as stored; groups words from row y0 on."""

    in_w: int
    groups: int
    y0: int = 0
    stride_log2: int = 0
    up: int = 0
    linear: int = 0
    pair: int = 0

    @property
    def items(self) -> int:
        return self.groups // (1 + self.pair)

    @property
    def narrow(self) -> int:
        return int((self.in_w << self.up) >> self.stride_log2 == 8)

    @property
    def row_words(self) -> int:
        return max(1, ((self.in_w << self.up) >> self.stride_log2) // 16)

    def item(self, number: int) -> dict[str, int]:
        """Word `number`, or pair of words."""
        g = number * (1 + self.pair)
        if self.linear:
            return {"g": g, "last": int(number == self.items - 1), "base8": 2 * g}
        row = self.y0 + (2 * g if self.narrow else g // self.row_words)
        xo = 0 if self.narrow else g % self.row_words
        vy = row << self.stride_log2
        first = (vy >> self.up) * self.in_w + ((16 * xo << self.stride_log2) >> self.up)
        return {
            "g": g, "last": int(g == self.groups - 1), "vy": vy,
            "base8": first // 8 % (1 << 17), "at_left": int(xo == 0),
            "at_right": int(xo == self.row_words - 1),
        }


WALKS = [
    Walk(16, 5), Walk(48, 3 * 7), Walk(8, 6), Walk(8, 3, y0=4), Walk(16, 1), Walk(64, 40, y0=801),
    Walk(8, 4, up=1), Walk(24, 3 * 8, up=1, y0=5), Walk(32, 8, stride_log2=1),
    Walk(16, 6, stride_log2=1, y0=2), Walk(64, 9, stride_log2=2, y0=3),
    Walk(960, 75, y0=1000, stride_log2=2), Walk(48, 70, linear=1), Walk(16, 1, linear=1),
    Walk(16, 2, linear=1, pair=1), Walk(48, 70, linear=1, pair=1),
]


@cocotb.test()
async def walks(dut):  # noqa: ANN001, ANN201
    """Two and a half passes of each map, taken eagerly and slowly; then the next one."""
    rng = random.Random(21)
    await power_up(dut, ("geom", "linear", "pair", "start", "stop", "item_take"))

    async def step() -> None:
        await FallingEdge(dut.clk)

    for walk in WALKS:
        dut.geom.value = struct(
            GEOM, groups=walk.groups, stride_log2=walk.stride_log2, up=walk.up, narrow=walk.narrow,
            in_w8=walk.in_w // 8, y0=walk.y0, row_words=walk.row_words,
        )
        dut.linear.value, dut.pair.value = walk.linear, walk.pair
        for _ in range(3):  # constants of the operation are registered
            await step()
        dut.start.value = 1
        await step()
        dut.start.value = 0
        for pace in (1.1, 0.3):
            taken = waited = 0
            total = walk.items * 2 + walk.items // 2 + 1
            while taken < total:
                ready = rng.random() < pace
                dut.item_take.value = int(ready)
                if int(dut.item_valid.value):
                    want = walk.item(taken % walk.items)
                    got = fields(ITEM, int(dut.item.value))
                    got = {name: got[name] for name in want}
                    assert got == want, f"{walk}, item {taken}: {got}, not {want}"
                    taken += ready
                else:
                    waited += 1
                    assert taken == 0 or pace < 1, f"{walk}: a cycle without an item"
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
        [Path(f"{name}.sv") for name in ("engine/seq_pkg", "engine/walker")],
        Path(__file__), run_dir=tmp_path,
    )
