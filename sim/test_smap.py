# SPDX-License-Identifier: Apache-2.0
"""smap: dilations of the lanes as stored, of rows of 8 pixels, and upsampled."""

import random
from pathlib import Path

import cocotb
import numpy as np
from bench import pack, play, unpack

from hwflow.sim.runner import build_and_test

LATENCY, WORDS, LANES = 3, 1024, 16  # seq_pkg::SMAP_LAT


@cocotb.test()
@cocotb.parametrize(up=[0, 1])
async def looks_up(dut, up):  # noqa: ANN001, ANN201
    """The whole map written, read at random with gaps, some words written again."""
    rng = random.Random(3 + up)
    kinds = [range(8), [0], [7], [2, 5], [0, 7]]
    memory = np.array([[rng.choice(kinds[i % 5]) for _ in range(LANES)] for i in range(WORDS)])
    beats = [{"wr_en": 1, "wr_idx": i, "wr_data": pack(row, 3)} for i, row in enumerate(memory)]
    due = {}
    for _ in range(1500):
        index, half = rng.randrange(WORDS), rng.randrange(2)
        beat = {"up": up, "rd_idx": index, "rd_half": half}
        if rng.randrange(4):
            beat["rd_en"] = 1
            pixels = memory[index]
            if up:  # lane x sees pixel 8 * half + x / 2
                pixels = pixels[8 * half : 8 * half + 8].repeat(2)
            elif half:  # a row of 8 pixels, for lanes 0-7
                pixels = pixels[8:]
            due[len(beats) + LATENCY] = pixels.tolist()
        if rng.randrange(10) == 0:
            other = (index + 1 + rng.randrange(WORDS - 1)) % WORDS
            memory[other] = [rng.randrange(8) for _ in range(LANES)]
            beat |= {"wr_en": 1, "wr_idx": other, "wr_data": pack(memory[other], 3)}
        beats.append(beat)
    beats += [{"up": up}] * LATENCY
    seen = await play(dut, beats, ["dil"], 1)
    for cycle, pixels in due.items():
        assert unpack(seen[cycle]["dil"], 3, len(pixels)) == pixels, f"cycle {cycle}"


def test_smap(tmp_path: Path) -> None:
    build_and_test(
        "smap", [Path(f"{name}.sv") for name in ("lib/delay", "lib/ram_sdp", "engine/smap")],
        Path(__file__), run_dir=tmp_path,
    )
