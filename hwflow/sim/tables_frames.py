# SPDX-License-Identifier: Apache-2.0
"""The cocotb half of `hwflow.sim.tables.simulate`: starts the bench and sleeps until it is done."""

import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, with_timeout


@cocotb.test()
async def images(dut: Any) -> None:  # noqa: ANN401
    """All images of the file; the number of clocks is written beside it."""
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    dut.rst.value = 1
    for _ in range(4):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    await with_timeout(RisingEdge(dut.finished), int(os.environ["HWFLOW_CLOCKS"]) * 10, "ns")
    await FallingEdge(dut.clk)
    Path(os.environ["HWFLOW_RESULT"]).write_text(str(int(dut.clocks.value)))
