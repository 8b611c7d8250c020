# SPDX-License-Identifier: Apache-2.0
"""peak_emit: each candidate becomes one record with the four bytes at its place."""

import random
from pathlib import Path

import cocotb
import numpy as np
from bench import power_up, settle, struct, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.driver.decode import candidates
from hwflow.sim.runner import build_and_test

FOUND = struct_layout("seq_pkg", "found_t")
READ_LAT = 13  # seq_pkg::PIPE_LAT + 1
ON_THE_WAY = 8  # candidates that may come after `room` has fallen


def word_of(part: int, g: int) -> int:
    """16 bytes of plane `part` at word g: any function of both."""
    return random.Random(8192 * part + g).getrandbits(128)


def byte(part: int, g: int, lane: int) -> int:
    value = word_of(part, g) >> (8 * lane) & 255
    return value - 256 if value > 127 else value


@cocotb.test()
@cocotb.parametrize(narrow=[0, 1])
async def records(dut, narrow):  # noqa: ANN001, ANN201
    """Bursts of candidates beyond `room`, a writer that comes and goes."""
    rng = random.Random(30 + narrow)
    inputs = ("narrow", "in_valid", "in_found", "word_valid", "word", "st_ready")
    await power_up(dut, inputs)
    dut.narrow.value = narrow
    pipe: list[int | None] = [None] * READ_LAT
    wanted, got, late = [], [], 0
    for cycle in range(6000):
        room = int(dut.room.value)
        late = 0 if room else late + 1
        offer = rng.random() < (0.9 if room else 0.6) and len(wanted) < 400 and late <= ON_THE_WAY
        offer = offer and cycle % 300 < 200
        dut.in_valid.value = int(offer)
        if offer:
            g, lane = rng.randrange(1 << 13), rng.randrange(16)
            values = {"logit": rng.randint(-128, 127), "class_id": rng.randrange(256), "g": g,
                      "y": rng.randrange(1023), "xo": rng.randrange(64), "lane": lane}  # fmt: skip
            dut.in_found.value = struct(FOUND, **values)
            y = values["y"] + (lane // 8 if narrow else 0)
            x = 16 * values["xo"] + (lane % 8 if narrow else lane)
            bytes_at = [byte(part, g, lane) for part in range(4)]
            wanted.append((values["logit"], values["class_id"], y, x, *bytes_at))
        answer = pipe.pop(0)
        dut.word_valid.value = int(answer is not None)
        dut.word.value = answer or 0
        dut.st_ready.value = int(rng.random() < (0.95 if cycle // 500 % 2 else 0.05))
        await settle()
        asked = int(dut.read.value)
        pipe.append(word_of(int(dut.read_part.value), int(dut.read_g.value)) if asked else None)
        if int(dut.st_valid.value):
            got.append(int(dut.st_data.value))
        await FallingEdge(dut.clk)
        if len(got) == 400:
            break
    assert len(got) == len(wanted) == 400
    # the driver's decoder sorts, so records are compared one by one
    for record, want in zip(got, wanted, strict=True):
        raw = np.frombuffer(record.to_bytes(16, "little"), "u1")
        assert tuple(candidates(raw)[0]) == want


def test_peak_emit(tmp_path: Path) -> None:
    build_and_test(
        "peak_emit",
        [Path(f"{name}.sv") for name in ("engine/isa_pkg", "engine/engine_pkg", "engine/seq_pkg",
                                         "lib/delay", "lib/fifo", "engine/peak_emit")],
        Path(__file__), run_dir=tmp_path,
    )
