# SPDX-License-Identifier: Apache-2.0
"""burst_split: runs of any length and place become bursts within 128 bytes, one every 2 cycles."""

import random
from pathlib import Path

import cocotb
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
    """All alignments, lengths 0 to 40, takers of every patience; some runs are given up."""
    rng = random.Random(6)
    await power_up(dut, ("load", "load_addr", "load_words", "take"))
    given_up = 0
    for number in range(300):
        address, words = 128 * rng.randrange(1 << 24) + 16 * (number % 8), rng.randrange(41)
        dut.load.value, dut.load_addr.value, dut.load_words.value = 1, address, words
        await FallingEdge(dut.clk)
        dut.load.value = 0
        assert int(dut.left.value) == (words > 0)
        patience, stop_after = rng.choice([0, 3]), rng.choice([99, 99, 2])
        for count, (at, size) in enumerate(bursts(address, words)):
            if count == stop_after:
                given_up += 1
                break
            assert not int(dut.valid.value)
            await FallingEdge(dut.clk)
            for wait in range(patience + 1):
                assert int(dut.valid.value) and int(dut.left.value)
                assert (int(dut.addr.value), int(dut.words.value)) == (at, size)
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


def test_burst_split(tmp_path: Path) -> None:
    build_and_test(
        "burst_split", [Path("engine/burst_split.sv")], Path(__file__), {"WORDS_W": 16},
        run_dir=tmp_path,
    )
