# SPDX-License-Identifier: Apache-2.0
"""stream_ring: random fills, reads, pops and flushes against a Python list."""

import os
import random
from pathlib import Path

import cocotb
import pytest
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from hwflow.sim.runner import build_and_test


@cocotb.test()
async def equals_a_list(dut):  # noqa: ANN001, ANN201
    """Words read back by offset, counts, wrap round, reuse after a flush."""
    rng = random.Random(7)
    depth = int(os.environ["PARAM_DEPTH"])
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    for name in ("flush", "alloc", "alloc_words", "s_valid", "s_data", "rd_en", "rd_off", "pop",
                 "pop_n"):
        getattr(dut, name).value = 0
    dut.rst.value = 1
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    held: list[int] = []  # words that may be read
    under_way = 0  # reserved, not yet there
    expected: list[int | None] = [None, None]  # of the reads of the last two cycles
    filled = reads = 0
    for cycle in range(6000):
        assert int(dut.avail.value) == len(held), f"cycle {cycle}"
        space = depth - len(held) - under_way
        assert int(dut.space.value) == space, f"cycle {cycle}"
        if expected[0] is not None:
            assert int(dut.rd_data.value) == expected[0], f"cycle {cycle}"
        filled += space == 0
        eager = (9, 1, 5, 10)[cycle // 300 % 4]

        flush = rng.randrange(2000) == 0
        alloc_words = rng.randint(1, 8)
        alloc = rng.randrange(10) < eager and alloc_words <= space
        deliver = under_way > 0 and rng.randrange(10) < 9
        word = rng.getrandbits(128)
        read = bool(held) and rng.randrange(10) < 8
        offset = rng.randrange(len(held)) if read else rng.randrange(depth)
        pop_n = rng.randint(1, max(1, min(len(held), 40)))
        pop = bool(held) and rng.randrange(100) >= 40 + 5 * eager

        dut.flush.value = flush
        dut.alloc.value, dut.alloc_words.value = alloc, alloc_words
        dut.s_valid.value, dut.s_data.value = deliver, word
        dut.rd_en.value, dut.rd_off.value = read, offset
        dut.pop.value, dut.pop_n.value = pop, pop_n
        expected = [expected[1], held[offset] if read else None]
        reads += read
        await FallingEdge(dut.clk)
        if alloc:
            under_way += alloc_words
        if deliver:
            held.append(word)
            under_way -= 1
        if pop:
            del held[:pop_n]
        if flush:
            held.clear()
            under_way = 0
    assert filled > 100 and reads > 1000


@pytest.mark.parametrize("depth", [16, 128])
def test_stream_ring(depth: int, tmp_path: Path) -> None:
    build_and_test(
        "stream_ring", [Path("engine/stream_ring.sv")], Path(__file__), {"DEPTH": depth},
        run_dir=tmp_path,
    )
