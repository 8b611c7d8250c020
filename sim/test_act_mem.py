# SPDX-License-Identifier: Apache-2.0
"""act_mem: any window of three words, in memories of one and of several RAMs a bank."""

import os
import random
from pathlib import Path

import cocotb
import pytest
from bench import engine_constant, play, unpack

from hwflow.sim.runner import build_and_test

SOURCES = ["engine/engine_pkg.sv", "lib/ram_sdp.sv", "engine/act_mem.sv"]


@cocotb.test()
async def windows(dut):  # noqa: ANN001, ANN201
    """Every word is in slot 0, 1 and 2; addresses beyond the end are neither read nor written."""
    rng = random.Random(3)
    words = int(os.environ["PARAM_WORDS"])
    memory = [rng.getrandbits(128) for _ in range(words)]
    beats = [{"wr_en": 1, "wr_addr": a, "wr_data": v} for a, v in enumerate(memory)]
    if words < 1 << 16:
        beats += [{"wr_en": 1, "wr_addr": a, "wr_data": 0}
                  for a in [*range(words, min(words + 9, 1 << 16)), (1 << 16) - 1]]
    beats += [{"wr_addr": a, "wr_data": 0} for a in rng.sample(range(words), 9)]  # no wr_en
    latency = engine_constant("ACT_LAT")
    due = {}
    held = None
    centers = [*range(words), *(rng.randrange(words) for _ in range(500)), *(rng.randrange(words),)]
    for center in centers:
        while rng.randrange(8) == 0:
            beats.append({"rd_center": rng.getrandbits(16)})
            if held is not None:
                due[len(beats) - 1 + latency] = held
        held = center
        due[len(beats) + latency] = center
        beats.append({"rd_en": 1, "rd_center": center})
    seen = await play(dut, beats, ["window"], latency + 1)
    for cycle, center in due.items():
        slots = unpack(seen[cycle]["window"], 128, 3)
        for slot, word in enumerate(slots):
            at = center + slot - 1
            if 0 <= at < words:
                assert word == memory[at], f"slot {slot} of the window around {center}"


@pytest.mark.parametrize("words", [16, 1024, 3184])
def test_act_mem(words: int, tmp_path: Path) -> None:
    """Banks of 4, of 256 and of 512 + 256 + 16 + 8 + 4 rows."""
    build_and_test(
        "act_mem", [Path(name) for name in SOURCES], Path(__file__), {"WORDS": words},
        run_dir=tmp_path,
    )
