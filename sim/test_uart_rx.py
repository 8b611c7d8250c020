# SPDX-License-Identifier: Apache-2.0
"""uart_rx: bytes at every small error of the rate, breaks, disturbances, reset."""

import os
import random
from pathlib import Path

import cocotb
import pytest
from bench import power_up
from cocotb.triggers import FallingEdge, Timer
from uart_line import BITS, SerialLine

from hwflow.sim.runner import build_and_test

SOURCES = [Path("shell/uart_rx.sv")]


class Taken:
    """What the receiver gave: bytes, and None for a broken one."""

    def __init__(self, dut) -> None:  # noqa: ANN001
        self.items: list[int | None] = []
        cocotb.start_soon(self._watch(dut))

    async def _watch(self, dut) -> None:  # noqa: ANN001
        while True:
            await FallingEdge(dut.clk)
            assert not (int(dut.valid.value) and int(dut.broken.value))
            if int(dut.valid.value):
                self.items.append(int(dut.data.value))
            if int(dut.broken.value):
                self.items.append(None)


async def start(dut, factor: float = 1.0) -> tuple[SerialLine, Taken]:  # noqa: ANN001
    line = SerialLine(dut.rx, None, 10 * int(os.environ["PARAM_CYCLES"]) * factor)
    await power_up(dut, [])
    dut.rx.value = 1
    await line.wait(2)
    return line, Taken(dut)


@cocotb.test()
@cocotb.parametrize(percent=[-2.0, -0.7, 0.0, 1.3, 2.0])
async def rates(dut, percent):  # noqa: ANN001, ANN201
    """Without a pause between bytes, and with any: every byte, once."""
    line, taken = await start(dut, 1 + percent / 100)
    rng = random.Random(2)
    sent = bytes(rng.choice((0x00, 0xFF, 0x55, rng.randrange(256))) for _ in range(300))
    await line.send(sent[:150])
    for byte in sent[150:]:
        await line.wait(3 * rng.random())
        await line.send([byte])
    await line.wait(2)
    assert taken.items == list(sent)


@cocotb.test()
async def breaks(dut):  # noqa: ANN001, ANN201
    """A line held low gives one broken byte, however long; what follows is received."""
    line, taken = await start(dut)
    for bits in (BITS + 0.5, 37, 200):
        dut.rx.value = 0
        await line.wait(bits)
        dut.rx.value = 1
        await line.wait(1)
        await line.send(b"\x00\xa5")
    await line.wait(2)
    assert taken.items == [None, 0x00, 0xA5] * 3


@cocotb.test()
async def disturbances(dut):  # noqa: ANN001, ANN201
    """Low for less than half a bit is no start."""
    line, taken = await start(dut)
    for share in (0.05, 0.2, 0.3):
        dut.rx.value = 0
        await line.wait(share)
        dut.rx.value = 1
        await line.wait(1.5)
    await line.send(b"\x3c")
    await line.wait(2)
    assert taken.items == [0x3C]


@cocotb.test()
async def reset_in_a_byte(dut):  # noqa: ANN001, ANN201
    line, taken = await start(dut)
    sender = cocotb.start_soon(line.send(b"\x00"))
    await line.wait(4)
    dut.rst.value = 1
    await Timer(30, "ns")
    dut.rst.value = 0
    await sender
    await line.wait(1)
    await line.send(b"\x96")
    await line.wait(2)
    assert taken.items == [0x96]


@pytest.mark.parametrize("cycles", [5, 16, 104])
def test_uart_rx(cycles: int, tmp_path: Path) -> None:
    build_and_test("uart_rx", SOURCES, Path(__file__), {"CYCLES": cycles}, run_dir=tmp_path)
