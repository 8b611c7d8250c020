# SPDX-License-Identifier: Apache-2.0
"""lane_write: sixteen lanes at once, and two rows of eight in a word, against `requantise`."""

import random
from pathlib import Path

import cocotb
import numpy as np
from bench import engine_constant, pack, play

from hwflow.emit.isa import OUT_TYPES, SHIFT_BIAS
from hwflow.ops.arith import requantise
from hwflow.ops.types import IntType
from hwflow.sim.runner import build_and_test

LANES = 16
LATENCY = engine_constant("REQUANT_LAT") + 1
TYPES = {"u8": IntType(8, False), "i8": IntType(8, True), "u3": IntType(3, False)}
OUTPUTS = ["wb_valid", "wb_addr", "wb_data"]


def golden(acc: list[int], base: int, shift: int, kind: str) -> list[int]:
    consts = {
        "mul": np.ones(1, np.int64), "bias": np.array([base], np.int64),
        "shift": np.array([shift], np.int8),
    }
    return requantise(np.array([acc], np.int64), consts, TYPES[kind], 26)[0].tolist()


def operation(rng: random.Random, count: int, start: int) -> tuple[list[dict], dict[int, tuple]]:
    """Beats of one operation, and cycle -> address and word."""
    narrow, kind = rng.randrange(2), rng.choice(list(OUT_TYPES))
    constants = {"narrow": narrow, "out_type": OUT_TYPES[kind]}
    beats: list[dict] = []
    due = {}
    halves: list[int] = []
    for number in range(count):
        while rng.randrange(4) == 0:
            beats.append(constants | {
                "acc": rng.getrandbits(256), "half": rng.getrandbits(1),
                "addr": rng.getrandbits(16),
            })
        shift = rng.randrange(-SHIFT_BIAS, 25)
        reach = min(1 << 15, 300 << max(shift, 0))
        acc = [rng.randrange(-reach, reach) for _ in range(LANES)]
        far = min(300 << max(shift, 0), (1 << 24) + 9)
        base = rng.choice([rng.randrange(-far, far), -(1 << 24), (1 << 24) + 8])
        half = number % 2 if narrow else rng.getrandbits(1)
        addr = rng.getrandbits(16)
        beats.append(constants | {
            "valid": 1, "half": half, "acc": pack(acc, 16), "base": base % (1 << 26),
            "shift": shift + SHIFT_BIAS, "addr": addr,
        })
        pixels = golden(acc, base, shift, kind)
        if narrow:
            pixels = halves[:8] + pixels[:8] if half else pixels
            halves = pixels
        if half or not narrow:
            due[start + len(beats) - 1 + LATENCY] = addr, pack(pixels, 8)
    return [*beats, *([constants] * LATENCY)], due


def check(seen: list[dict[str, int]], due: dict[int, tuple]) -> None:
    for cycle, row in enumerate(seen):
        assert row["wb_valid"] == (cycle in due), f"wb_valid in cycle {cycle}"
        if cycle in due:
            assert (row["wb_addr"], row["wb_data"]) == due[cycle], f"word in cycle {cycle}"


@cocotb.test()
async def writes(dut):  # noqa: ANN001, ANN201
    """Constants change every cycle, types and rows of eight between operations; with gaps."""
    rng = random.Random(3)
    beats: list[dict] = []
    due: dict[int, tuple] = {}
    for _ in range(40):
        more, words = operation(rng, 2 * rng.randrange(1, 50), len(beats))
        beats += more
        due |= words
    check(await play(dut, beats, OUTPUTS, 2), due)


@cocotb.test()
async def reset_forgets(dut):  # noqa: ANN001, ANN201
    """Words in flight at a reset are not written, later ones are."""
    before, early = operation(random.Random(5), 60, 0)
    at = 25
    after, late = operation(random.Random(6), 60, at + 1)
    seen = await play(dut, [*before[:at], {}, *after], OUTPUTS, 2, reset_at=at)
    early = {cycle: word for cycle, word in early.items() if cycle <= at}
    assert early
    check(seen, early | late)


def test_lane_write(tmp_path: Path) -> None:
    build_and_test(
        "lane_write",
        [Path("engine/engine_pkg.sv"), Path("lib/delay.sv"), Path("lib/requant.sv"),
         Path("engine/lane_write.sv")],
        Path(__file__), run_dir=tmp_path,
    )
