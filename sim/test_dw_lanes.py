# SPDX-License-Identifier: Apache-2.0
"""dw_lanes: sums and maxima of any number of rows, and peaks, against numpy."""

import random
from pathlib import Path

import cocotb
import numpy as np
from bench import engine_constant, pack, play, unpack

from hwflow.sim.runner import build_and_test

LANES = 16


def words(count: int, seed: int) -> tuple[list[dict], dict[int, dict]]:
    """Beats of `count` output words, and cycle -> what is due."""
    rng, np_rng = random.Random(seed), np.random.default_rng(seed)
    latency = engine_constant("DW_LAT")
    beats: list[dict] = []
    due: dict[int, dict] = {}
    for number in range(count):
        max_mode = rng.randrange(3) == 0
        low, high = rng.choice([(0, 255), (-128, 127), (-2, 1), (255, 255), (-128, -128)])
        rows = 3 if max_mode else rng.choice([1, 3, 3, 3, 15])
        mid = rng.randrange(rows)
        taps = np_rng.integers(low, high + 1, (rows, 3, LANES))
        weights = np_rng.integers(-8, 8, (rows, 3))
        if number % 7 == 0:
            weights[:] = rng.choice([-8, -7, 7])
        if rows == 15:  # deformable: every lane takes part in three passes
            for x in range(LANES):
                taps[rng.sample(range(rows), rows - 3), :, x] = 0
        for i in range(rows):
            while rng.randrange(5) == 0:
                beats.append({"taps": rng.getrandbits(432), "first": 1, "last": 1, "mid": 1})
            beats.append({
                "valid": 1, "first": i == 0, "last": i == rows - 1, "mid": i == mid,
                "max_mode": max_mode, "weights": pack(weights[i], 4),
                "taps": pack(taps[i].reshape(-1), 9),
            })
        best = taps.max(axis=(0, 1))
        center = taps[mid, 1]
        total = best if max_mode else (weights[:, :, None] * taps).sum(axis=(0, 1))
        due[len(beats) - 1 + latency] = {
            "max": max_mode, "acc": total.tolist(), "center": center.tolist(),
            "peaks": pack((center == best).tolist(), 1),
        }
    return beats, due


OUTPUTS = ["out_valid", "acc", "center", "peak_mask"]


def check(seen: list[dict[str, int]], due: dict[int, dict]) -> int:
    """Everything due is there in its cycle, and nothing else; how many lanes were peaks."""
    peaks = 0
    for cycle, row in enumerate(seen):
        assert row["out_valid"] == (cycle in due), f"out_valid in cycle {cycle}"
        if cycle not in due:
            continue
        want = due[cycle]
        assert unpack(row["acc"], 26, LANES, True) == want["acc"], f"acc in cycle {cycle}"
        if want["max"]:
            assert unpack(row["center"], 9, LANES, True) == want["center"], f"cycle {cycle}"
            assert row["peak_mask"] == want["peaks"], f"peak_mask in cycle {cycle}"
            peaks += want["peaks"].bit_count()
    return peaks


@cocotb.test()
async def sums_maxima_peaks(dut):  # noqa: ANN001, ANN201
    """Both modes mixed, words back to back and with gaps."""
    beats, due = words(1500, 4)
    peaks = check(await play(dut, beats, OUTPUTS, engine_constant("DW_LAT") + 2), due)
    assert 500 < peaks < 7000, "peaks or the lack of them were hardly tested"


@cocotb.test()
async def reset_forgets(dut):  # noqa: ANN001, ANN201
    """Words in flight at a reset do not come out, later ones do."""
    beats, due = words(20, 8)
    again, due_again = words(20, 9)
    at = sorted(due)[10] - 2
    seen = await play(
        dut, [*beats[:at], {}, *again], OUTPUTS, engine_constant("DW_LAT") + 2, reset_at=at
    )
    kept = {cycle: what for cycle, what in due.items() if cycle <= at}
    check(seen, kept | {cycle + at + 1: what for cycle, what in due_again.items()})


def test_dw_lanes(tmp_path: Path) -> None:
    build_and_test(
        "dw_lanes", [Path("engine/engine_pkg.sv"), Path("engine/dw_lanes.sv")], Path(__file__),
        run_dir=tmp_path,
    )
