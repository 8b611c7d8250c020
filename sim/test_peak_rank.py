# SPDX-License-Identifier: Apache-2.0
"""peak_rank: threshold and numbers of many lists of logits, against a sorted list."""

import random
from pathlib import Path

import cocotb
from bench import power_up
from cocotb.triggers import FallingEdge

from hwflow.emit.isa import CANDIDATES
from hwflow.sim.runner import build_and_test

LATE = 2  # counts that may come after `busy` has risen


def expected(values: list[int]) -> tuple[int, int, bool]:
    """(threshold, peaks above it, whether those at it all fit as well)."""
    ranked = sorted(values, reverse=True)
    threshold = ranked[CANDIDATES - 1] if len(ranked) >= CANDIDATES else -128
    above = sum(value > threshold for value in ranked)
    return threshold, above, sum(value >= threshold for value in ranked) <= CANDIDATES


def lists(rng: random.Random) -> list[list[int]]:
    """None, few, exactly enough, many, all alike (beyond the counters' end), and at the ends."""
    out = [[], [5], [-128] * 3, [127] * 100, [-1] * 99, [0] * 700, [127] * 99 + [-128] * 2,
           [1] * 60 + [0] * 40 + [-1] * 5, [1] * 60 + [0] * 41, [-128] * 300, [7] * 128 + [8] * 99,
           [126] * 300 + [127] * 99, [*range(-128, 128)] * 3]  # fmt: skip
    for _ in range(12):
        middle, spread = rng.randint(-128, 127), rng.choice([1, 5, 60])
        size = rng.choice([50, 99, 100, 101, 400])
        out.append([max(-128, min(127, round(rng.gauss(middle, spread)))) for _ in range(size)])
    return out


@cocotb.test()
async def ranks(dut):  # noqa: ANN001, ANN201
    """One list after the other in random and in rising order; with gaps; with what is left out."""
    rng = random.Random(9)
    await power_up(dut, ("clear", "count", "value"))
    for number, values in enumerate(lists(rng) * 2):
        for cycle in range(300):
            if not int(dut.clearing.value):
                break
            await FallingEdge(dut.clk)
            assert cycle < 260, "clearing does not end"
        late = 0
        order = rng.sample(values, len(values)) if number % 3 else sorted(values)
        for value in order:
            threshold = int(dut.threshold.value)
            threshold -= 256 if threshold > 127 else 0
            if value < threshold and rng.randrange(2):
                continue  # it does not matter any more
            while rng.randrange(4) == 0 or (int(dut.busy.value) and late == LATE):
                dut.count.value, dut.value.value = 0, rng.randrange(256)
                await FallingEdge(dut.clk)
                late = late if int(dut.busy.value) else 0
            late = late + 1 if int(dut.busy.value) else 0
            dut.count.value, dut.value.value = 1, value & 255
            await FallingEdge(dut.clk)
        dut.count.value = 0
        for cycle in range(300):
            await FallingEdge(dut.clk)
            if not int(dut.busy.value):
                break
            assert cycle < 260, "the threshold does not stop"
        threshold, above, fit = expected(values)
        at = int(dut.equal.value)
        assert int(dut.threshold.value) == threshold & 255, len(values)
        assert (int(dut.above.value), above + at <= CANDIDATES) == (above, fit), len(values)
        if above + at <= CANDIDATES:
            assert at == values.count(threshold)
        dut.clear.value = 1
        await FallingEdge(dut.clk)
        dut.clear.value = 0


def test_peak_rank(tmp_path: Path) -> None:
    build_and_test(
        "peak_rank", [Path("engine/isa_pkg.sv"), Path("engine/peak_rank.sv")], Path(__file__),
        run_dir=tmp_path,
    )
