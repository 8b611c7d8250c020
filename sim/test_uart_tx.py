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
    """Bytes that wait and bytes that come late: every cycle of the line, when one is taken."""
    cycles = int(os.environ["PARAM_CYCLES"])
    await power_up(dut, ["valid", "data"])
    rng = random.Random(4)
    left: list[int] = []  # of the line, from this cycle on
    quiet = 2  # cycles since it ended, this one included; the second one is ready
    for number in range(120):
        byte = rng.choice((0x00, 0xFF, rng.randrange(256)))
        wait = 0 if number % 3 else rng.randrange(3 * cycles)
        offered = 0
        while True:
            offer = offered >= wait
            dut.valid.value, dut.data.value = offer, byte if offer else rng.randrange(256)
            assert int(dut.ready.value) == (quiet >= 2), number
            assert int(dut.tx.value) == (left[0] if left else 1), number
            taken = offer and quiet >= 2
            await FallingEdge(dut.clk)
            left = left[1:]
            quiet = quiet + 1 if not left else 0
            if taken:
                bits = [0, *(byte >> bit & 1 for bit in range(8)), 1]
                left = [bit for bit in bits for _ in range(cycles)]
                quiet = 0
                break
            offered += 1
    dut.valid.value = 0
    for _ in range(cycles):  # reset in mid-byte: the line goes high
        await FallingEdge(dut.clk)
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    assert int(dut.tx.value) == 1
    assert int(dut.ready.value) == 0


@pytest.mark.parametrize("cycles", [2, 7])
def test_uart_tx(cycles: int, tmp_path: Path) -> None:
    build_and_test(
        "uart_tx", [Path("shell/uart_tx.sv")], Path(__file__), {"CYCLES": cycles}, run_dir=tmp_path
    )
