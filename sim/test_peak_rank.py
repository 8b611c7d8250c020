# SPDX-License-Identifier: Apache-2.0
"""peak_rank: threshold, ties and total of many lists of logits, against a sorted list."""

import random
from pathlib import Path

import cocotb
from bench import power_up
from cocotb.triggers import FallingEdge

from hwflow.emit.isa import CANDIDATES
from hwflow.sim.runner import build_and_test


def expected(values: list[int]) -> tuple[int, int, int]:
    """(threshold, ties that fit, total)."""
    ranked = sorted(values, reverse=True)
    threshold = ranked[CANDIDATES - 1] if len(ranked) >= CANDIDATES else -128
    above = sum(value > threshold for value in ranked)
    return threshold, CANDIDATES - above, min(len(ranked), CANDIDATES)


def lists(rng: random.Random) -> list[list[int]]:
    """None, few, exactly enough, many, all alike (beyond the counters' end), and at the ends."""
    out = [[], [5], [-128] * 3, [127] * 100, [-1] * 99, [0] * 700, [127] * 99 + [-128] * 2,
           [1] * 60 + [0] * 40 + [-1] * 5, [1] * 60 + [0] * 41, [-128] * 300, [7] * 128 + [8] * 99]
    for _ in range(12):
        middle, spread = rng.randint(-128, 127), rng.choice([1, 5, 60])
        size = rng.choice([50, 99, 100, 101, 400])
        out.append([max(-128, min(127, round(rng.gauss(middle, spread)))) for _ in range(size)])
    return out


@cocotb.test()
async def ranks(dut):  # noqa: ANN001, ANN201
    """One list after the other; counting with gaps; nothing of the last list stays."""
    rng = random.Random(9)
    await power_up(dut, ("clear", "count", "value", "search"))
    for values in lists(rng):
        for cycle in range(300):
            if not int(dut.clearing.value):
                break
            await FallingEdge(dut.clk)
            assert cycle < 260, "clearing does not end"
        for value in rng.sample(values, len(values)):
            while rng.randrange(4) == 0:
                dut.count.value, dut.value.value = 0, rng.randrange(256)
                await FallingEdge(dut.clk)
            dut.count.value, dut.value.value = 1, value & 255
            await FallingEdge(dut.clk)
        dut.count.value, dut.search.value = 0, 1
        await FallingEdge(dut.clk)
        dut.search.value = 0
        for cycle in range(300):
            if int(dut.found.value):
                break
            await FallingEdge(dut.clk)
            assert cycle < 260, "the search does not end"
        for _ in range(3):  # good until the next search
            got = tuple(int(getattr(dut, name).value) for name in ("threshold", "ties", "total"))
            threshold, ties, total = expected(values)
            assert got == (threshold & 255, ties, total), (len(values), got)
            await FallingEdge(dut.clk)
            assert not int(dut.found.value)
        dut.clear.value = 1
        await FallingEdge(dut.clk)
        dut.clear.value = 0
    # after a reset no candidates of the program before are left to read
    assert int(dut.total.value)
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    assert not int(dut.total.value)


def test_peak_rank(tmp_path: Path) -> None:
    build_and_test(
        "peak_rank", [Path("engine/isa_pkg.sv"), Path("engine/peak_rank.sv")], Path(__file__),
        run_dir=tmp_path,
    )
