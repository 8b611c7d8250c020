# SPDX-License-Identifier: Apache-2.0
"""The DDR model keeps the figures it states: latency, rate, turns of the bus, refresh."""

import itertools
import os
import random
from fractions import Fraction
from pathlib import Path

import cocotb
import pytest
from bench import power_up
from cocotb.triggers import FallingEdge

from hwflow.errors import ToolError
from hwflow.sim.runner import build_and_test

BASE, SIZE = 0x1000_0000, 1 << 14
FIGURES = {  # plusarg -> bytes a cycle, latency, turn, refresh interval and length, outstanding
    "7,1,40,10,1170,40,8": (Fraction(7), 40, 10, 1170, 40, 8),
    "10,3,40,10,1170,40,8": (Fraction(10, 3), 40, 10, 1170, 40, 8),
    "8,1,40,10,1170,40,16": (Fraction(8), 40, 10, 1170, 40, 16),
    "5,2,23,0,0,0,3": (Fraction(5, 2), 23, 0, 0, 0, 3),
}
RATE, LATENCY, TURN, REFRESH_EVERY, REFRESH_FOR, OUTSTANDING = FIGURES.get(
    os.environ.get("FIGURES", ""), next(iter(FIGURES.values()))
)
INPUTS = (
    "stall_percent", "fault_on", "fault_addr", "fault_resp",
    "host_req", "host_write", "host_addr", "host_bytes",
    "s_axi_awaddr", "s_axi_awlen", "s_axi_awsize", "s_axi_awburst", "s_axi_awvalid",
    "s_axi_wdata", "s_axi_wstrb", "s_axi_wlast", "s_axi_wvalid", "s_axi_bready",
    "s_axi_araddr", "s_axi_arlen", "s_axi_arsize", "s_axi_arburst", "s_axi_arvalid",
    "s_axi_rready",
)  # fmt: skip


class Port:
    """A master that is always ready; notes the cycle of every beat and response."""

    def __init__(self, dut) -> None:  # noqa: ANN001
        self.dut = dut
        self.cycle = 0
        self.beats: list[tuple[int, int, int]] = []  # cycle, data, response
        self.answers: list[tuple[int, int]] = []  # cycle, response
        dut.s_axi_bready.value = dut.s_axi_rready.value = 1
        for side in ("ar", "aw"):
            getattr(dut, f"s_axi_{side}size").value = 3
            getattr(dut, f"s_axi_{side}burst").value = 1
        dut.s_axi_wstrb.value = 255

    async def step(self) -> None:
        dut = self.dut
        await FallingEdge(dut.clk)
        self.cycle += 1
        if int(dut.s_axi_rvalid.value):
            self.beats.append(
                (self.cycle, int(dut.s_axi_rdata.value), int(dut.s_axi_rresp.value))
            )
        if int(dut.s_axi_bvalid.value):
            self.answers.append((self.cycle, int(dut.s_axi_bresp.value)))

    async def ask(self, side: str, address: int, beats: int) -> int:
        """An address; the cycle in which it is taken."""
        dut = self.dut
        getattr(dut, f"s_axi_{side}addr").value = address
        getattr(dut, f"s_axi_{side}len").value = beats - 1
        getattr(dut, f"s_axi_{side}valid").value = 1
        while not int(getattr(dut, f"s_axi_{side}ready").value):
            await self.step()
        await self.step()
        getattr(dut, f"s_axi_{side}valid").value = 0
        return self.cycle - 1

    async def write(self, address: int, words: list[int]) -> int:
        """A burst; the cycle of its last beat."""
        dut = self.dut
        await self.ask("aw", address, len(words))
        for number, word in enumerate(words):
            dut.s_axi_wdata.value, dut.s_axi_wvalid.value = word, 1
            dut.s_axi_wlast.value = int(number == len(words) - 1)
            while not int(dut.s_axi_wready.value):
                await self.step()
            await self.step()
        dut.s_axi_wvalid.value = 0
        return self.cycle - 1

    async def wait(self, cycles: int) -> None:
        for _ in range(cycles):
            await self.step()


async def bench(dut) -> Port:  # noqa: ANN001
    await power_up(dut, INPUTS)
    return Port(dut)


@cocotb.test()
async def latency(dut):  # noqa: ANN001, ANN201
    """From address to first beat, and from last beat to response, on a quiet bus."""
    port, rng = await bench(dut), random.Random(3)
    words = [rng.getrandbits(64) for _ in range(16)]
    last = await port.write(BASE + 128, words)
    await port.wait(60)
    assert [at - last for at, _ in port.answers] == [LATENCY]
    for turn in (TURN, 0):  # the bus turns once the first read is due
        port.beats = []
        taken = await port.ask("ar", BASE + 128, 16)
        await port.wait(150)
        assert [word for _, word, _ in port.beats] == words
        assert port.beats[0][0] - taken == LATENCY + turn


@cocotb.test()
async def turns(dut):  # noqa: ANN001, ANN201
    """A write right behind a read waits for the turn of the bus, and no longer."""
    port = await bench(dut)
    await port.write(BASE, [1] * 16)
    await port.wait(60)
    await port.ask("ar", BASE, 16)
    while not port.beats:
        await port.step()
    await port.ask("aw", BASE + 1024, 1)
    dut.s_axi_wdata.value, dut.s_axi_wvalid.value, dut.s_axi_wlast.value = 2, 1, 1
    while not int(dut.s_axi_wready.value):
        await port.step()
    sent = port.cycle
    await port.step()
    dut.s_axi_wvalid.value = 0
    assert len(port.beats) == 16
    # the last beat was on the bus of the DRAM one cycle before the port showed it
    idle = sent - (port.beats[-1][0] - 1) - 1
    assert TURN <= idle <= TURN + (1 if TURN else 4), idle


async def flow(dut, port: Port, beats: int, length: int) -> int:  # noqa: ANN001
    """Reads of `length` beats without a pause; the cycles from the first to the last beat."""
    asked = 0
    dut.s_axi_arlen.value, dut.s_axi_arvalid.value = length - 1, 1
    while len(port.beats) < beats:
        dut.s_axi_araddr.value = BASE + 128 * (asked % (SIZE // 128))
        asked += int(dut.s_axi_arready.value)
        await port.step()
    dut.s_axi_arvalid.value = 0
    return port.beats[-1][0] - port.beats[0][0]


def least_cycles(beats: int) -> float:
    """What the rate and the refreshes leave."""
    cycles = float(8 * beats / RATE)
    return cycles * REFRESH_EVERY / (REFRESH_EVERY - REFRESH_FOR) if REFRESH_EVERY else cycles


@cocotb.test()
async def rate_and_refresh(dut):  # noqa: ANN001, ANN201
    """Reads without a pause: the rate less the refreshes, never more."""
    port = await bench(dut)
    beats = 6000 if OUTSTANDING >= 8 else 1500
    spent = await flow(dut, port, beats, 16)
    least = least_cycles(beats)
    if OUTSTANDING * 128 / (LATENCY + 3) > RATE:  # else the latency shows
        assert 0.995 * least < spent < 1.02 * least, (spent, least)
    times = [cycle for cycle, _, _ in port.beats]
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    if REFRESH_EVERY:
        long_gaps = [gap for gap in gaps if gap >= REFRESH_FOR]
        assert abs(len(long_gaps) - spent / REFRESH_EVERY) < 1.5
    else:
        assert max(gaps) <= -(-8 // RATE)


@cocotb.test()
async def shared_by_both_directions(dut):  # noqa: ANN001, ANN201
    """Reads and writes at once: together they never move more than the rate."""
    port = await bench(dut)
    dut.s_axi_arlen.value, dut.s_axi_arvalid.value = 15, 1
    dut.s_axi_awlen.value, dut.s_axi_awvalid.value = 15, 1
    dut.s_axi_wvalid.value = 1
    reads = writes = 0
    cycles = 4000
    for _ in range(cycles):
        dut.s_axi_araddr.value = dut.s_axi_awaddr.value = BASE
        dut.s_axi_wlast.value = int(writes % 16 == 15)
        writes += int(dut.s_axi_wready.value)
        await port.step()
    reads = len(port.beats)
    assert reads > 0.3 * (reads + writes) and writes > 0.3 * (reads + writes)
    spent = least_cycles(reads + writes)
    assert spent <= cycles + 8
    # four bursts, then a turn
    assert spent > cycles * 0.98 * 512 / (512 + float(RATE) * (TURN + 2)) - LATENCY


@cocotb.test()
async def outstanding(dut):  # noqa: ANN001, ANN201
    """No more addresses are taken than may be outstanding, on either side."""
    port = await bench(dut)
    dut.s_axi_rready.value = 0
    dut.s_axi_arlen.value = dut.s_axi_awlen.value = 15
    dut.s_axi_arvalid.value = dut.s_axi_awvalid.value = 1
    dut.s_axi_araddr.value = dut.s_axi_awaddr.value = BASE
    taken = {"ar": 0, "aw": 0}
    for _ in range(200):
        for side in taken:
            taken[side] += int(getattr(dut, f"s_axi_{side}ready").value)
        await port.step()
    assert taken == {"ar": OUTSTANDING, "aw": OUTSTANDING}


@cocotb.test()
async def errors(dut):  # noqa: ANN001, ANN201
    """The error asked for at the place of the fault, DECERR outside of the memory, each way."""
    port = await bench(dut)
    dut.fault_on.value, dut.fault_addr.value = 1, BASE + 256
    cases = ((BASE + 128, 2, 0), (BASE + 256, 2, 2), (BASE + 256, 3, 3), (BASE + SIZE, 2, 3),
             (BASE - 128, 2, 3))  # fmt: skip
    for address, fault, response in cases:
        dut.fault_resp.value = fault
        port.beats, port.answers = [], []
        await port.write(address, [7] * 2)
        await port.ask("ar", address, 2)
        await port.wait(120)
        assert [code for _, code in port.answers] == [response], hex(address)
        assert [code for _, _, code in port.beats] == [response] * 2, hex(address)


def run_bench(tmp_path: Path, figures: str) -> None:
    build_and_test(
        "ddr", [Path(__file__).parent / "models" / "ddr.sv"], Path(__file__), {"BYTES": SIZE},
        run_dir=tmp_path, plusargs=[f"+host_file={tmp_path / 'mailbox.bin'}", f"+ddr={figures}"],
        env={"FIGURES": figures},
    )


@pytest.mark.parametrize("figures", FIGURES)
def test_ddr(figures: str, tmp_path: Path) -> None:
    run_bench(tmp_path, figures)


@pytest.mark.parametrize(
    "figures", ["", "7,1,40,10,1170,40", "9,1,40,10,1170,40,8", "7,1,40,10,1170,40,17"]
)
def test_impossible_figures_end_the_simulation(figures: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"ddr: \+ddr="):
        run_bench(tmp_path, figures)
