# SPDX-License-Identifier: Apache-2.0
"""uart_tx: the line cycle by cycle against the bits written out in Python."""

import os
import random
from pathlib import Path

import cocotb
import pytest
from bench import power_up
from cocotb.triggers import FallingEdge

from hwflow.sim.runner import build_and_test


@cocotb.test()
async def line(dut):  # noqa: ANN001, ANN201
    """Bytes without a pause and with pauses: every cycle of the line, and when one is taken."""
    cycles = int(os.environ["PARAM_CYCLES"])
    await power_up(dut, ["valid", "data"])
    rng = random.Random(4)
    left: list[int] = []  # of the line, from this cycle on
    for number in range(120):
        byte = rng.choice((0x00, 0xFF, rng.randrange(256)))
        wait = 0 if number % 3 else rng.randrange(3 * cycles)
        offered = 0
        while True:
            offer = offered >= wait
            dut.valid.value, dut.data.value = offer, byte if offer else rng.randrange(256)
            assert int(dut.ready.value) == (len(left) <= 1), number
            assert int(dut.tx.value) == (left[0] if left else 1), number
            taken = offer and len(left) <= 1
            await FallingEdge(dut.clk)
            left = left[1:]
            if taken:
                bits = [0, *(byte >> bit & 1 for bit in range(8)), 1]
                left = [bit for bit in bits for _ in range(cycles)]
                break
            offered += 1
    dut.valid.value = 0
    for _ in range(cycles):  # reset in mid-byte: the line goes high
        await FallingEdge(dut.clk)
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    assert int(dut.tx.value) == 1
    assert int(dut.ready.value) == 1


@pytest.mark.parametrize("cycles", [2, 7])
def test_uart_tx(cycles: int, tmp_path: Path) -> None:
    build_and_test(
        "uart_tx", [Path("shell/uart_tx.sv")], Path(__file__), {"CYCLES": cycles}, run_dir=tmp_path
    )
