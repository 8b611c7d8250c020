# SPDX-License-Identifier: Apache-2.0
"""ram_sdp: reads two cycles later, holds without a read, against a dictionary."""

import os
import random
from pathlib import Path

import cocotb
import pytest
from bench import play

from hwflow.sim.runner import build_and_test

LATENCY = 2


@cocotb.test()
async def remembers(dut):  # noqa: ANN001, ANN201
    """Random reads and writes, never both of the same address in one cycle."""
    rng = random.Random(1)
    width, depth = int(os.environ["PARAM_WIDTH"]), int(os.environ["PARAM_DEPTH"])
    model = [rng.getrandbits(width) for _ in range(depth)]
    beats = [{"wr_en": 1, "wr_addr": a, "wr_data": v} for a, v in enumerate(model)]
    due = {}
    value = None
    for _ in range(3000):
        beat = {"wr_addr": rng.randrange(depth), "wr_data": rng.getrandbits(width)}
        beat |= {"wr_en": rng.getrandbits(1), "rd_en": rng.getrandbits(1)}
        beat["rd_addr"] = rng.randrange(depth)
        if beat["rd_addr"] == beat["wr_addr"] and beat["wr_en"]:
            beat["rd_en"] = 0
        if beat["rd_en"]:
            value = model[beat["rd_addr"]]
        if value is not None:
            due[len(beats) + LATENCY] = value  # held when there is no read
        if beat["wr_en"]:
            model[beat["wr_addr"]] = beat["wr_data"]
        beats.append(beat)
    seen = await play(dut, beats, ["rd_data"], LATENCY + 1)
    for cycle, want in due.items():
        assert seen[cycle]["rd_data"] == want, f"cycle {cycle}"


@pytest.mark.parametrize(("width", "depth"), [(1, 2), (128, 3), (33, 100)])
def test_ram_sdp(width: int, depth: int, tmp_path: Path) -> None:
    build_and_test(
        "ram_sdp", [Path("lib/ram_sdp.sv")], Path(__file__), {"WIDTH": width, "DEPTH": depth},
        run_dir=tmp_path,
    )
