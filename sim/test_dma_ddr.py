# SPDX-License-Identifier: Apache-2.0
"""The DMA on the DDR model: how many cycles transfers of every shape take against the bound."""

import os
from fractions import Fraction
from pathlib import Path

import cocotb
import pytest
from bench import power_up
from cocotb.triggers import FallingEdge

from hwflow.sim.runner import build_and_test

MODELS = Path(__file__).parent / "models"
SOURCES = [
    Path("lib/fifo.sv"),
    *(Path("engine") / f"{name}.sv" for name in ("burst_split", "stream_ring", "dma_read",
                                                 "dma_write")),
    MODELS / "dma_bench.sv", MODELS / "ddr.sv", MODELS / "dma_ddr.sv",
]  # fmt: skip
INPUTS = (
    "stop", "stall_percent", "fault_on", "fault_addr", "fault_resp", "host_req", "host_write",
    "host_addr", "host_bytes", "stream_start", "a_addr", "a_words", "a_rd_en", "a_rd_off", "a_pop",
    "a_pop_n", "b_addr", "b_words", "b_rd_en", "b_rd_off", "b_pop", "b_pop_n", "ld_req", "ld_addr",
    "ld_words", "ld_runs", "ld_stride", "ld_ready", "st_req", "st_addr", "st_words", "st_runs",
    "st_stride", "st_valid", "st_data",
)  # fmt: skip
BASE = 0x1000_0000
RATES = {"7,1": Fraction(7), "10,3": Fraction(10, 3), "8,1": Fraction(8)}
RATE = RATES[os.environ.get("RATE", "7,1")]
REFRESH = Fraction(1170, 1170 - 40)
LATENCY = 40
Shape = tuple[int, int, int, int]  # address, words in a run, runs, stride in words
SHAPES: list[Shape] = [
    (BASE, 40, 58, 40),  # a band of 58 channels, planes one after the other
    (BASE + 16 * 5, 40, 58, 64),  # the same out of larger planes, not at a burst's boundary
    (BASE + 16 * 3, 8, 116, 32),
    (BASE, 3, 200, 11),
    (BASE + 16, 1, 300, 5),
    (BASE, 2000, 1, 0),
]


def bound(words: int) -> Fraction:
    """Cycles that the memory's rate and refreshes need for so many words."""
    return 16 * words / RATE * REFRESH


def short_bursts(shape: Shape) -> Fraction:
    """Cycles for bursts so short that their latency shows: 8 under way, each LATENCY + 8 long."""
    address, words, runs, stride = shape
    if words >= 8:
        return Fraction(0)
    starts = [address + 16 * run * stride for run in range(runs)]
    count = sum((at + 16 * words - 1) // 128 - at // 128 + 1 for at in starts)
    return Fraction(LATENCY + 8, 8) * count


async def load(dut, shape: Shape) -> int:  # noqa: ANN001
    """A LOAD whose words are taken at once; cycles from the request to the last word."""
    dut.ld_addr.value, dut.ld_words.value, dut.ld_runs.value, dut.ld_stride.value = shape
    dut.ld_req.value, dut.ld_ready.value = 1, 1
    got = cycles = 0
    while got < shape[1] * shape[2]:
        await FallingEdge(dut.clk)
        dut.ld_req.value = 0
        cycles += 1
        got += int(dut.ld_valid.value)
    return cycles


async def store(dut, shape: Shape) -> int:  # noqa: ANN001
    """A STORE whose words are always there; cycles from the request to st_done."""
    dut.st_addr.value, dut.st_words.value, dut.st_runs.value, dut.st_stride.value = shape
    dut.st_req.value = 1
    left = shape[1] * shape[2]
    cycles = 0
    while not int(dut.st_done.value):
        give = left > 0 and int(dut.st_ready.value)
        dut.st_valid.value, dut.st_data.value = int(give), left
        left -= give
        await FallingEdge(dut.clk)
        dut.st_req.value = 0
        cycles += 1
    dut.st_valid.value = 0
    assert left == 0
    return cycles


@cocotb.test()
@cocotb.parametrize(number=range(len(SHAPES)))
async def loads(dut, number):  # noqa: ANN001, ANN201
    """Bursts of all runs follow each other: 2 % and the latency above the bound.

    Of very short runs the latency shows, see short_bursts.
    """
    await power_up(dut, INPUTS)
    shape = SHAPES[number]
    cycles, least = await load(dut, shape), bound(shape[1] * shape[2])
    dut._log.info(f"LOAD of {shape}: {cycles} cycles, bound {float(least):.0f}")
    assert cycles > least - 45  # the last refresh may not have come
    assert cycles < max(least * Fraction(102, 100), short_bursts(shape)) + LATENCY + 50


@cocotb.test()
@cocotb.parametrize(number=range(len(SHAPES)))
async def stores(dut, number):  # noqa: ANN001, ANN201
    """The same the other way; the response of the last burst comes LATENCY after it."""
    await power_up(dut, INPUTS)
    shape = SHAPES[number]
    cycles, least = await store(dut, shape), bound(shape[1] * shape[2])
    dut._log.info(f"STORE of {shape}: {cycles} cycles, bound {float(least):.0f}")
    assert cycles > least - 45
    assert cycles < max(least * Fraction(102, 100), short_bursts(shape)) + 2 * LATENCY + 50


@cocotb.test()
async def all_at_once(dut):  # noqa: ANN001, ANN201
    """Array stream, LOAD and STORE together keep the bus busy but for its turns."""
    await power_up(dut, INPUTS)
    dut.a_addr.value, dut.a_words.value = BASE + 0x8000, 3000
    dut.b_addr.value, dut.b_words.value = BASE + 0x10000, 200
    dut.stream_start.value = 1
    await FallingEdge(dut.clk)
    dut.stream_start.value = 0
    loading = cocotb.start_soon(load(dut, (BASE, 40, 58, 64)))
    storing = cocotb.start_soon(store(dut, (BASE + 0x40000, 20, 60, 32)))
    beats = cycles = 0
    while not (loading.done() and storing.done() and int(dut.a_avail.value) == 3000):
        await FallingEdge(dut.clk)
        cycles += 1
        beats += int(dut.read_beat.value) + int(dut.write_beat.value)
    words = 3000 + 200 + 58 * 40 + 60 * 20
    assert beats == 2 * words and int(dut.b_avail.value) == 200
    least = bound(words)
    turns = 20 * Fraction(60 * 20, 4 * 8) * Fraction(3, 2)  # two for each four full bursts written
    dut._log.info(f"all at once: {cycles}, bound {float(least):.0f}, turns {float(turns):.0f}")
    assert least < cycles < least * Fraction(102, 100) + turns + 2 * LATENCY


@pytest.mark.parametrize("rate", RATES)
def test_dma_ddr(rate: str, tmp_path: Path) -> None:
    build_and_test(
        "dma_ddr", SOURCES, Path(__file__), run_dir=tmp_path,
        plusargs=[f"+ddr={rate},{LATENCY},10,1170,40,8", f"+host_file={tmp_path / 'mailbox'}"],
        env={"RATE": rate},
    )
