# SPDX-License-Identifier: Apache-2.0
"""The DDR model keeps the figures it states: latency, rate, turns of the bus, refresh."""

import itertools
import random
from pathlib import Path

import cocotb
from bench import power_up
from cocotb.triggers import FallingEdge

from hwflow.sim.runner import build_and_test

BASE, SIZE = 0x1000_0000, 1 << 14
LATENCY, RATE, TURN, REFRESH_EVERY, REFRESH_FOR = 40, 7, 10, 1170, 40  # cycles, bytes
INPUTS = (
    "stall_percent", "fault_on", "fault_addr", "host_req", "host_write", "host_addr", "host_bytes",
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
    for turn in (TURN + 1, 0):  # the bus turns once the first read is due
        port.beats = []
        taken = await port.ask("ar", BASE + 128, 16)
        await port.wait(90)
        assert [word for _, word, _ in port.beats] == words
        assert port.beats[0][0] - taken == LATENCY + turn


@cocotb.test()
async def turns(dut):  # noqa: ANN001, ANN201
    """A write right behind a read waits for the turn of the bus."""
    port = await bench(dut)
    await port.write(BASE, [1] * 16)
    await port.wait(60)
    await port.ask("ar", BASE, 16)
    while not port.beats:
        await port.step()
    sent = await port.write(BASE + 1024, [2] * 2)
    while len(port.beats) < 16:
        await port.step()
    assert sent - port.beats[-1][0] >= TURN + 1


@cocotb.test()
async def rate_and_refresh(dut):  # noqa: ANN001, ANN201
    """Reads without a pause: 7 bytes a cycle less 40 cycles of refresh in 1170, never more."""
    port = await bench(dut)
    asked = 0
    dut.s_axi_arlen.value, dut.s_axi_arvalid.value = 15, 1
    while len(port.beats) < 6000:
        dut.s_axi_araddr.value = BASE + 128 * (asked % (SIZE // 128))
        asked += int(dut.s_axi_arready.value)
        await port.step()
    times = [cycle for cycle, _, _ in port.beats]
    spent = times[-1] - times[0]
    least = 8 * 6000 / RATE * REFRESH_EVERY / (REFRESH_EVERY - REFRESH_FOR)
    assert 0.995 * least < spent < 1.02 * least, (spent, least)
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    long_gaps = [gap for gap in gaps if gap >= REFRESH_FOR]
    assert abs(len(long_gaps) - spent / REFRESH_EVERY) < 1.5


@cocotb.test()
async def errors(dut):  # noqa: ANN001, ANN201
    """SLVERR at the place of the fault, DECERR outside of the memory, each way."""
    port = await bench(dut)
    dut.fault_on.value, dut.fault_addr.value = 1, BASE + 256
    for address, response in ((BASE + 128, 0), (BASE + 256, 2), (BASE + SIZE, 3), (BASE - 128, 3)):
        port.beats, port.answers = [], []
        await port.write(address, [7] * 2)
        await port.ask("ar", address, 2)
        await port.wait(120)
        assert [code for _, code in port.answers] == [response], hex(address)
        assert [code for _, _, code in port.beats] == [response] * 2, hex(address)


def test_ddr(tmp_path: Path) -> None:
    build_and_test(
        "ddr", [Path(__file__).parent / "models" / "ddr.sv"], Path(__file__), {"BYTES": SIZE},
        run_dir=tmp_path, plusargs=[f"+host_file={tmp_path / 'mailbox.bin'}"],
    )
