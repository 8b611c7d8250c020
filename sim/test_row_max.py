# SPDX-License-Identifier: Apache-2.0
"""row_max: maxima of rows that come in any rhythm, against numpy."""

import random
from pathlib import Path

import cocotb
import numpy as np
from bench import pack, play

from hwflow.sim.runner import build_and_test

LANES = 16
LATENCY = 3  # from above, below
OUTPUTS = ["best", "center", "peak"]


@cocotb.test()
async def maxima(dut):  # noqa: ANN001, ANN201
    """Rows back to back and with gaps; every row but the first two may be the last of a 3x3."""
    rng, np_rng = random.Random(12), np.random.default_rng(12)
    beats: list[dict] = [{}]
    due: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for signed in (0, 1, 0):
        beats += [{"in_signed": signed}] * (LATENCY + 2)
        low, high = (-128, 127) if signed else (0, 255)
        rows: list[np.ndarray] = []
        for number in range(1500):
            a, b = rng.choice([(low, high), (low, low + 2), (high - 2, high), (low, low)])
            rows.append(np_rng.integers(a, b + 1, (3, LANES)))
            while number > 800 and rng.randrange(3) == 0:
                beats.append({"in_signed": signed, "row": rng.getrandbits(3 * LANES * 8)})
            beats[-1] = beats[-1] | {"row_valid": 1, "row": pack(rows[-1].reshape(-1), 8)}
            above, below = rng.randrange(8) == 0, rng.randrange(8) == 0
            beats.append({"in_signed": signed, "above": above, "below": below})
            if number >= 2:
                count = [rows[-2]] + [rows[-1]] * (not below) + [rows[-3]] * (not above)
                best = np.stack(count).max(axis=(0, 1))
                due[len(beats) - 1 + LATENCY] = best, rows[-2][1]
        beats += [{"in_signed": signed}] * LATENCY
    seen = await play(dut, beats, OUTPUTS, LATENCY + 1)
    for cycle, (best, center) in due.items():
        assert seen[cycle]["best"] == pack(best, 8), f"best in cycle {cycle}"
        assert seen[cycle]["center"] == pack(center, 8), f"center in cycle {cycle}"
        assert seen[cycle]["peak"] == pack(best == center, 1), f"peak in cycle {cycle}"


def test_row_max(tmp_path: Path) -> None:
    build_and_test("row_max", [Path("engine/row_max.sv")], Path(__file__), run_dir=tmp_path)
