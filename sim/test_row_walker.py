# SPDX-License-Identifier: Apache-2.0
"""row_walker: the rows that the lanes read, by the rules of docs/engine.md, pass after pass."""

import random
from dataclasses import dataclass
from pathlib import Path

import cocotb
from bench import fields, power_up, struct, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.sim.runner import build_and_test

GEOM, ENTRY = struct_layout("seq_pkg", "geom_t"), struct_layout("seq_pkg", "entry_t")


@dataclass(frozen=True)
class Walk:
    """in_w as stored, in_h as seen; output rows y0 .. y0 + rows - 1."""

    in_w: int
    in_h: int
    rows: int
    y0: int = 0
    stride_log2: int = 0
    up: int = 0
    reach: int = 1

    @property
    def out_w(self) -> int:
        return (self.in_w << self.up) >> self.stride_log2

    def entries(self) -> list[dict[str, int]]:
        """One pass over the map."""
        stride, narrow = 1 << self.stride_log2, self.out_w == 8
        words = max(1, self.out_w // 16)
        centres = [stride * (self.y0 + r) for r in range(self.rows)]
        out = []
        for xo in range(words):
            for v in range(max(0, centres[0] - self.reach),
                           min(self.in_h - 1, centres[-1] + self.reach) + 1):  # fmt: skip
                first = (v >> self.up) * self.in_w + ((16 * xo * stride) >> self.up)
                entry = {"emit": int(v in centres), "v": v, "xo": xo, "last": 0,
                         "base8": first // 8 % (1 << 17), "at_left": int(xo == 0),
                         "at_right": int(xo == words - 1)}  # fmt: skip
                if v in centres:
                    row = centres.index(v)
                    entry["offset"] = row // 2 if narrow else row * words + xo
                    entry["half"] = row % 2 if narrow else 0
                out.append(entry)
        out[-1]["last"] = 1
        return out


WALKS = [
    Walk(16, 5, 5), Walk(48, 7, 7), Walk(8, 6, 6), Walk(8, 10, 4, y0=4), Walk(16, 1, 1),
    Walk(64, 900, 40, y0=801), Walk(8, 8, 8, up=1), Walk(24, 60, 8, up=1, y0=5),
    Walk(32, 8, 4, stride_log2=1), Walk(16, 12, 4, stride_log2=1, y0=2), Walk(16, 7, 4, 0, 1),
    Walk(960, 1023, 3, y0=1020), Walk(1008, 1022, 1, y0=510, stride_log2=1),
    Walk(16, 40, 12, y0=10, reach=7), Walk(32, 20, 20, reach=7), Walk(8, 20, 6, y0=4, reach=7),
    Walk(16, 64, 9, y0=30, up=1, reach=7), Walk(32, 40, 4, y0=36, reach=7),
    Walk(16, 16, 2, y0=7, reach=7), Walk(16, 3, 1, y0=2),
]


@cocotb.test()
async def walks(dut):  # noqa: ANN001, ANN201
    """Two and a half passes of each map, taken eagerly and slowly; then the next one."""
    rng = random.Random(21)
    await power_up(dut, ("geom", "rows", "reach", "start", "stop", "entry_take"))
    for walk in WALKS:
        want = walk.entries()
        dut.geom.value = struct(
            GEOM, stride_log2=walk.stride_log2, up=walk.up, narrow=int(walk.out_w == 8),
            in_w8=walk.in_w // 8, in_h=walk.in_h, y0=walk.y0, row_words=max(1, walk.out_w // 16),
        )
        dut.rows.value, dut.reach.value = walk.rows, walk.reach
        await FallingEdge(dut.clk)
        dut.start.value = 1
        await FallingEdge(dut.clk)
        dut.start.value = 0
        for pace in (1.1, 0.3):
            taken = waited = 0
            while taken < 2 * len(want) + len(want) // 2 + 1:
                ready = rng.random() < pace
                dut.entry_take.value = int(ready)
                if int(dut.entry_valid.value):
                    expected = want[taken % len(want)]
                    got = fields(ENTRY, int(dut.entry.value))
                    got = {name: got[name] for name in expected}
                    assert got == expected, f"{walk}, entry {taken}: {got}, not {expected}"
                    taken += ready
                else:
                    waited += 1
                    assert taken == 0, f"{walk}: a cycle without an entry"
                    assert waited < 20, f"{walk}: nothing comes"
                await FallingEdge(dut.clk)
            dut.entry_take.value = 0
            # Start without a stop: what waits is thrown away
            dut.start.value = 1
            await FallingEdge(dut.clk)
            dut.start.value = 0
        dut.stop.value = 1
        await FallingEdge(dut.clk)
        dut.stop.value = 0
        for _ in range(20):
            assert not int(dut.entry_valid.value)
            await FallingEdge(dut.clk)


def test_row_walker(tmp_path: Path) -> None:
    build_and_test(
        "row_walker", [Path("engine/seq_pkg.sv"), Path("engine/row_walker.sv")], Path(__file__),
        run_dir=tmp_path,
    )
