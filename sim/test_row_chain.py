# SPDX-License-Identifier: Apache-2.0
"""row_chain: the nine taps of every lane, against the (upsampled) map itself, padded."""

import random
from pathlib import Path

import cocotb
import numpy as np
from bench import fields, pack, play, unpack
from lane_ops import META, Walk, entries, memory, mode_word

from hwflow.sim.runner import build_and_test

LANES = 16
REACH = 7
ROW_LATENCY, LATENCY = 2, 3
OUTPUTS = ["row_valid", "row", "weights", "valid", "taps", "above", "below", "half", "bias",
           "shift", "addr"]
WALKS = [
    Walk(16, 5, 0, 5), Walk(48, 6, 1, 4), Walk(8, 8, 0, 8), Walk(8, 12, 4, 6),
    Walk(32, 8, 0, 4, stride=2), Walk(96, 10, 2, 2, stride=2), Walk(16, 12, 2, 4, stride=2),
    Walk(8, 4, 0, 8, up=True), Walk(24, 5, 3, 5, up=True), Walk(16, 1, 0, 1),
    Walk(16, 20, 0, 20, reach=7), Walk(48, 17, 5, 3, reach=7), Walk(8, 18, 6, 8, reach=7),
    Walk(24, 10, 4, 16, up=True, reach=7), Walk(16, 1, 0, 1, reach=7),
]


def operation(
    walk: Walk, signed: bool, maximum: bool, gaps: bool, seed: int
) -> tuple[list[dict], dict[int, dict]]:
    """Beats, and what comes out by the cycle of the entry that brings a row to the centre."""
    rng, np_rng = random.Random(seed), np.random.default_rng(seed)
    x = np_rng.integers(0, 256, (2, walk.in_h, walk.in_w))
    seen = x.repeat(2, 1).repeat(2, 2) if walk.up else x
    dil = np_rng.integers(0, 8, seen.shape[1:])
    records = [
        {"weights": rng.getrandbits(36), "bias": rng.getrandbits(25), "shift": rng.getrandbits(5),
         "dst": rng.getrandbits(16)} for _ in x
    ]
    fill = 0x80 if maximum and signed else 0
    constants = {"mode": mode_word(walk, signed, 0, maximum)}
    padded = np.pad(seen, ((0, 0), (REACH, REACH), (REACH, REACH)), constant_values=fill)
    beats = [constants]
    at: list[int] = []
    due: dict[int, dict] = {}  # by number of the entry
    for entry in entries(walk, memory(x, np_rng), records, dil, rng):
        while gaps and rng.randrange(3) == 0:
            beats.append(constants | {"ins_meta": rng.getrandbits(sum(META.values()))})
        at.append(len(beats))
        beats.append(constants | {
            "ins_valid": 1, "ins_meta": entry.meta, "ins_pick": entry.pick,
            "window": entry.window,
        })
        if entry.center is None:
            continue
        channel, r, xo = entry.center
        y = (walk.y0 + r) * walk.stride
        want = fields(META, entry.meta)
        want |= {"above": y == 0, "below": y == walk.seen_h - 1, "lanes": min(16, walk.out_w)}
        taps = np.zeros((3, 3, 16), int)
        rows = np.zeros((3, 16), int)  # the row after the centre, as it enters, for d = 1
        for lane in range(want["lanes"]):
            column = (16 * xo + lane) * walk.stride
            d = dil[y, column] if walk.reach == 7 else 1
            for i in range(3):
                for j in range(3):
                    row = y + (i - 1) * d + REACH
                    value = padded[channel, row, column + (j - 1) * d + REACH]
                    taps[i, j, lane] = value if 0 <= row - REACH < walk.seen_h else 0
            rows[:, lane] = padded[channel, y + 1 + REACH, column + REACH - 1 :][:3]
        want |= {"taps": taps, "row": rows}
        due[len(at) - 1] = want
    return (
        beats + [constants] * (LATENCY + 1),
        {at[index + walk.reach]: want for index, want in due.items()},
    )


async def compare(dut, gaps: bool, seed: int) -> None:  # noqa: ANN001
    """All walks with all fills, one after the other."""
    beats: list[dict] = []
    due: dict[int, tuple[dict, bool]] = {}
    inserted = set()
    for walk in WALKS:
        for signed, maximum in ((False, False), (True, True), (True, False)):
            if maximum and walk.reach == 7:
                continue
            more, rows = operation(walk, signed, maximum, gaps, seed + len(beats))
            inserted |= {len(beats) + c for c, beat in enumerate(more) if "ins_valid" in beat}
            for cycle, want in rows.items():
                due[len(beats) + cycle + LATENCY] = want, maximum
            beats += more
    seen = await play(dut, beats, OUTPUTS, 2)
    for cycle, row in enumerate(seen):
        assert row["row_valid"] == (cycle - ROW_LATENCY in inserted), f"row_valid in {cycle}"
        assert row["valid"] == (cycle in due), f"valid in cycle {cycle}"
        if cycle not in due:
            continue
        want, maximum = due[cycle]
        lanes = want["lanes"]
        for name in ("half", "bias", "shift", "addr"):
            assert row[name] == want[name], f"{name} in cycle {cycle}"
        assert seen[cycle - 1]["weights"] == want["weights"], f"weights in cycle {cycle - 1}"
        if maximum:
            assert (row["above"], row["below"]) == (want["above"], want["below"]), f"{cycle}"
            if not want["below"]:
                got = np.array(unpack(seen[cycle - 1]["row"], 8, 48)).reshape(3, 16)
                assert (got == want["row"])[:, :lanes].all(), f"row in cycle {cycle - 1}"
        else:
            got = np.array(unpack(row["taps"], 8, 144)).reshape(3, 3, 16)
            wrong = np.argwhere((got != want["taps"])[..., :lanes])
            assert not len(wrong), f"taps (i, j, lane) {wrong[:4].tolist()} in cycle {cycle}"


@cocotb.test()
async def without_pause(dut):  # noqa: ANN001, ANN201
    """One entry a cycle."""
    await compare(dut, False, 3)


@cocotb.test()
async def with_gaps(dut):  # noqa: ANN001, ANN201
    """Entries in any rhythm."""
    await compare(dut, True, 4)


@cocotb.test()
async def weights_of_both_channels_meet(dut):  # noqa: ANN001, ANN201
    """Columns of two channels stand in the chain at once, and neither takes from the other."""
    walk = Walk(16, 4, 0, 4, reach=7)
    beats, due = operation(walk, False, False, False, 9)
    seen = await play(dut, beats, OUTPUTS, 2)
    got = [seen[cycle + LATENCY]["taps"] for cycle in due]
    assert got == [pack(want["taps"].reshape(-1), 8) for want in due.values()]
    assert len({seen[cycle + LATENCY - 1]["weights"] for cycle in due}) == 2


def test_row_chain(tmp_path: Path) -> None:
    build_and_test(
        "row_chain",
        [Path("engine/engine_pkg.sv"), Path("engine/seq_pkg.sv"), Path("engine/row_chain.sv")],
        Path(__file__), run_dir=tmp_path,
    )
