# SPDX-License-Identifier: Apache-2.0
"""delay: every word comes LATENCY cycles later; with RESET a reset leaves only zeros behind."""

import os
import random
from pathlib import Path

import cocotb
import pytest
from bench import play

from hwflow.sim.runner import build_and_test


@cocotb.test()
async def later(dut):  # noqa: ANN001, ANN201
    """Random words, with a reset in the middle."""
    width, latency = int(os.environ["PARAM_WIDTH"]), int(os.environ["PARAM_LATENCY"])
    clears = os.environ["PARAM_RESET"] == "1"
    rng = random.Random(2)
    words = [rng.getrandbits(width) for _ in range(200)]
    reset_at = 120
    seen = await play(dut, [{"d": word} for word in words], ["q"], latency, reset_at=reset_at)
    for cycle, word in enumerate(words):
        lost = clears and cycle <= reset_at < cycle + latency
        assert seen[cycle + latency]["q"] == (0 if lost else word), f"word of cycle {cycle}"


@pytest.mark.parametrize(("width", "latency", "reset"), [(1, 1, 0), (5, 4, 1)])
def test_delay(width: int, latency: int, reset: int, tmp_path: Path) -> None:
    build_and_test(
        "delay", [Path("lib/delay.sv")], Path(__file__),
        {"WIDTH": width, "LATENCY": latency, "RESET": reset}, run_dir=tmp_path,
    )
