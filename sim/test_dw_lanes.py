# SPDX-License-Identifier: Apache-2.0
"""dw_lanes: sums of nine products, against numpy."""

import random
from pathlib import Path

import cocotb
import numpy as np
from bench import engine_constant, pack, play, unpack

from hwflow.sim.runner import build_and_test

LANES = 16
BIAS_ENDS = [-(1 << 24), (1 << 24) - 1]


def words(count: int, seed: int) -> tuple[list[dict], dict[int, list[int]]]:
    """Beats of `count` output words, and cycle -> the sums of the lanes with their bias."""
    rng, np_rng = random.Random(seed), np.random.default_rng(seed)
    latency = engine_constant("DW_LAT")
    beats: list[dict] = [{}]
    due: dict[int, list[int]] = {}
    for number in range(count):
        signed = number >= count // 2
        if number == count // 2:  # as between two operations
            beats += [{"in_signed": 1}] * latency
        low, high = rng.choice(
            [(-128, 127), (-2, 1), (-128, -128), (127, 127)] if signed
            else [(0, 255), (0, 1), (255, 255)]
        )
        taps = np_rng.integers(low, high + 1, (9, LANES))
        weights = np_rng.integers(-8, 8, 9)
        if number % 7 == 0:
            weights[:] = rng.choice([-8, -7, 7])
        bias = rng.choice([*BIAS_ENDS, rng.randrange(*BIAS_ENDS)])
        while rng.randrange(4) == 0:
            beats.append({"in_signed": signed, "taps": rng.getrandbits(9 * LANES * 8)})
        beats[-1] = beats[-1] | {"weights": pack(weights, 4)}
        beats.append({
            "in_signed": signed, "valid": 1, "taps": pack(taps.reshape(-1), 8),
            "bias": bias % (1 << 25), "weights": rng.getrandbits(36),
        })
        due[len(beats) - 1 + latency] = ((weights[:, None] * taps).sum(axis=0) + bias).tolist()
    return beats, due


OUTPUTS = ["out_valid", "acc", "base"]


def check(seen: list[dict[str, int]], due: dict[int, list[int]]) -> None:
    """Everything due is there in its cycle, and nothing else."""
    for cycle, row in enumerate(seen):
        assert row["out_valid"] == (cycle in due), f"out_valid in cycle {cycle}"
        if cycle in due:
            (base,) = unpack(row["base"], 26, 1, True)
            got = [acc + base for acc in unpack(row["acc"], 16, LANES, True)]
            assert got == due[cycle], f"cycle {cycle}: {got} not {due[cycle]}"


@cocotb.test()
async def sums(dut):  # noqa: ANN001, ANN201
    """Unsigned, then signed pixels; back to back and with gaps."""
    beats, due = words(4000, 4)
    check(await play(dut, beats, OUTPUTS, engine_constant("DW_LAT") + 2), due)


@cocotb.test()
async def every_weight(dut):  # noqa: ANN001, ANN201
    """Each weight at each tap with pixels of both signs' ends."""
    latency = engine_constant("DW_LAT")
    beats: list[dict] = []
    due: dict[int, list[int]] = {}
    for signed, pixels in ((0, [0, 1, 127, 128, 254, 255]), (1, [-128, -127, -1, 0, 1, 127])):
        lanes = (pixels * 3)[:LANES]
        beats += [{"in_signed": signed}] * (latency + 1)
        for tap in range(9):
            for weight in range(-8, 8):
                beats[-1] = beats[-1] | {"weights": (weight & 15) << (4 * tap)}
                beats.append({
                    "in_signed": signed, "valid": 1, "taps": pack(lanes, 8) << (tap * 8 * LANES),
                })
                due[len(beats) - 1 + latency] = [weight * pixel for pixel in lanes]
        beats += [{"in_signed": signed}] * latency
    check(await play(dut, beats, OUTPUTS, latency + 2), due)


@cocotb.test()
async def reset_forgets(dut):  # noqa: ANN001, ANN201
    """Words in flight at a reset do not come out, later ones do."""
    beats, due = words(20, 8)
    again, due_again = words(20, 9)
    at = sorted(due)[9] - 1
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
