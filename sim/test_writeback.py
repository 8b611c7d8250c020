# SPDX-License-Identifier: Apache-2.0
"""writeback: sixteen lanes at once, addresses and dilation map in step, against `requantise`."""

import random
from pathlib import Path

import cocotb
import numpy as np
from bench import engine_constant, pack, play, unpack

from hwflow.emit.isa import OUT_TYPES, SHIFT_BIAS
from hwflow.ops.arith import requantise
from hwflow.ops.types import IntType
from hwflow.sim.runner import build_and_test

LANES = 16
TYPES = {"u8": IntType(8, False), "i8": IntType(8, True), "u3": IntType(3, False)}
OUTPUTS = ["wr_en", "wr_addr", "wr_data", "smap_we", "smap_idx", "smap_data"]


def golden(acc: list[int], bias: int, shift: int, kind: str) -> list[int]:
    consts = {
        "mul": np.ones(1, np.int64), "bias": np.array([bias], np.int64),
        "shift": np.array([shift], np.int8),
    }
    return requantise(np.array([acc], np.int64), consts, TYPES[kind], 26)[0].tolist()


def words(count: int, seed: int) -> tuple[list[dict], dict[int, dict]]:
    """Beats, and cycle -> what is written."""
    rng = random.Random(seed)
    latency = engine_constant("WB_LAT")
    beats: list[dict] = []
    due = {}
    for _ in range(count):
        kind, shift = rng.choice(list(OUT_TYPES)), rng.randrange(-SHIFT_BIAS, 25)
        reach = min(1 << 25, 300 << max(shift, 0))
        acc = [rng.randrange(-reach, reach) for _ in range(LANES)]
        bias = rng.randrange(-min(reach, 1 << 24), min(reach, 1 << 24))
        beat = {
            "valid": int(rng.randrange(4) > 0), "acc": pack(acc, 26), "bias": bias % (1 << 25),
            "shift": shift + SHIFT_BIAS, "out_type": OUT_TYPES[kind],
            "addr": rng.getrandbits(16), "smap_we_in": rng.getrandbits(1),
            "smap_idx_in": rng.getrandbits(10),
        }
        if beat["valid"]:
            due[len(beats) + latency] = beat | {"q": golden(acc, bias, shift, kind)}
        beats.append(beat)
    return beats, due


def check(seen: list[dict[str, int]], due: dict[int, dict]) -> None:
    for cycle, row in enumerate(seen):
        want = due.get(cycle)
        assert row["wr_en"] == (want is not None), f"wr_en in cycle {cycle}"
        assert row["smap_we"] == (want is not None and want["smap_we_in"]), f"cycle {cycle}"
        if want is not None:
            assert row["wr_addr"] == want["addr"], f"wr_addr in cycle {cycle}"
            assert row["smap_idx"] == want["smap_idx_in"], f"smap_idx in cycle {cycle}"
            got = unpack(row["wr_data"], 8, LANES)
            assert got == [v % 256 for v in want["q"]], f"cycle {cycle}: {got} not {want['q']}"
            assert unpack(row["smap_data"], 3, LANES) == [v % 8 for v in want["q"]], f"{cycle}"


@cocotb.test()
async def writes(dut):  # noqa: ANN001, ANN201
    """Constants and types change every cycle; with gaps."""
    beats, due = words(5000, 3)
    check(await play(dut, beats, OUTPUTS, engine_constant("WB_LAT") + 1), due)


@cocotb.test()
async def reset_forgets(dut):  # noqa: ANN001, ANN201
    """Words in flight at a reset are not written, later ones are."""
    at = 25
    beats, due = words(60, 5)
    beats[at] = {}
    latency = engine_constant("WB_LAT")
    for cycle in range(at + 1, at + latency + 1):
        due.pop(cycle, None)
    check(await play(dut, beats, OUTPUTS, latency + 1, reset_at=at), due)


def test_writeback(tmp_path: Path) -> None:
    sources = ["engine/engine_pkg.sv", "lib/requant.sv", "engine/writeback.sv"]
    build_and_test(
        "writeback", [Path(name) for name in sources], Path(__file__), run_dir=tmp_path
    )
