# SPDX-License-Identifier: Apache-2.0
"""fifo: order, level, fullness and reset under random traffic, against a Python deque."""

import os
import random
from collections import deque
from pathlib import Path

import cocotb
import pytest
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from hwflow.sim.runner import build_and_test


@cocotb.test()
async def equals_a_queue(dut):  # noqa: ANN001, ANN201
    """Every traffic pattern, reset in the middle included."""
    rng = random.Random(1)
    width, depth = int(os.environ["PARAM_WIDTH"]), int(os.environ["PARAM_DEPTH"])
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    dut.rst.value, dut.in_valid.value, dut.out_ready.value = 1, 0, 0
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    model: deque[int] = deque()
    full = 0
    for cycle in range(4000):
        # The rates change so that the fifo fills up, empties, and runs in between
        put_rate, take_rate = ((9, 1), (1, 9), (5, 5), (10, 10))[cycle // 100 % 4]
        put, take = rng.randrange(10) < put_rate, rng.randrange(10) < take_rate
        value = rng.getrandbits(width)
        dut.in_valid.value, dut.in_data.value, dut.out_ready.value = put, value, take
        dut.rst.value = reset = rng.randrange(500) == 0
        await FallingEdge(dut.clk)  # the rising edge in between has done it
        accepted = put and len(model) < depth
        if take and model:
            model.popleft()
        if accepted:
            model.append(value)
        if reset:
            model.clear()
        full += len(model) == depth
        assert int(dut.level.value) == len(model), f"cycle {cycle}"
        assert int(dut.out_valid.value) == bool(model), f"cycle {cycle}"
        assert int(dut.in_ready.value) == (len(model) < depth), f"cycle {cycle}"
        if model:
            assert int(dut.out_data.value) == model[0], f"cycle {cycle}"
    assert full > 100


@pytest.mark.parametrize(("width", "depth"), [(1, 2), (65, 16)])
def test_fifo(width: int, depth: int, tmp_path: Path) -> None:
    build_and_test(
        "fifo", [Path("lib/fifo.sv")], Path(__file__), {"WIDTH": width, "DEPTH": depth},
        run_dir=tmp_path,
    )
