# SPDX-License-Identifier: Apache-2.0
"""burst_split: runs of any length and place become bursts within 128 bytes, one every 2 cycles."""

import os
import random
from pathlib import Path

import cocotb
import pytest
from bench import power_up
from cocotb.triggers import FallingEdge

from hwflow.sim.runner import build_and_test


def bursts(address: int, words: int) -> list[tuple[int, int]]:
    """(address, words) of each: cut at every multiple of 128 bytes."""
    out: list[tuple[int, int]] = []
    for at in range(address, address + 16 * words, 16):
        if out and at % 128:
            out[-1] = (out[-1][0], out[-1][1] + 1)
        else:
            out.append((at, 1))
    return out


@cocotb.test()
async def cuts_at_boundaries(dut):  # noqa: ANN001, ANN201
    """All alignments, lengths 0 to 40, runs 0 to 7, takers of every patience; some are given up."""
    rng = random.Random(6)
    two_d = os.environ.get("PARAM_TWO_D") != "0"
    await power_up(dut, ("load", "load_addr", "load_words", "load_runs", "load_stride", "take"))
    given_up = 0
    for number in range(300):
        address, words = 128 * rng.randrange(1 << 24) + 16 * (number % 8), rng.randrange(41)
        runs, stride = rng.randrange(8), rng.choice([rng.randrange(64), rng.randrange(1 << 24)])
        dut.load.value, dut.load_addr.value, dut.load_words.value = 1, address, words
        dut.load_runs.value, dut.load_stride.value = runs, stride
        want = [
            burst
            for run in range(runs if two_d else 1)
            for burst in bursts((address + 16 * run * stride) % (1 << 32), words)
        ]
        await FallingEdge(dut.clk)
        dut.load.value = 0
        assert int(dut.left.value) == bool(want)
        patience, stop_after = rng.choice([0, 3]), rng.choice([999, 999, 2])
        for count, (at, size) in enumerate(want):
            if count == stop_after:
                given_up += 1
                break
            assert not int(dut.valid.value)
            await FallingEdge(dut.clk)
            for wait in range(patience + 1):
                assert int(dut.valid.value) and int(dut.left.value)
                assert (int(dut.addr.value), int(dut.words.value)) == (at % (1 << 32), size)
                dut.take.value = 0
                if wait < patience:
                    await FallingEdge(dut.clk)
            dut.take.value = 1
            await FallingEdge(dut.clk)
            dut.take.value = 0
        else:
            for _ in range(3):
                assert not int(dut.valid.value) and not int(dut.left.value)
                await FallingEdge(dut.clk)
    assert given_up > 20


@pytest.mark.parametrize("two_d", [0, 1])
def test_burst_split(two_d: int, tmp_path: Path) -> None:
    build_and_test(
        "burst_split", [Path("engine/burst_split.sv")], Path(__file__),
        {"WORDS_W": 16, "TWO_D": two_d}, run_dir=tmp_path,
    )
