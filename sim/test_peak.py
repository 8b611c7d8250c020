# SPDX-License-Identifier: Apache-2.0
"""peak: the records of small heat maps, against the op's golden model.

The bench stands for walker, window and lanes: for each word and class it answers with the logits
and with the cells that equal their 3x3 maximum (the maxpool op), after the lanes' latency.
"""

import random
from pathlib import Path

import cocotb
import numpy as np
from bench import engine_constant, fields, pack, power_up, settle, struct, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.driver.decode import candidates
from hwflow.ops import maxpool, peaks
from hwflow.sim.runner import build_and_test

GEOM, ITEM, REQUEST = (
    struct_layout("seq_pkg", name) for name in ("geom_t", "item_t", "request_t")
)
PIPE_LAT = 12
LANES = 16
HM, PARTS = 1000, (9000, 9500, 10000, 10500)
MAPS = [  # classes, height, width, logits and their chances
    (1, 4, 16, [-128], None), (3, 8, 32, [-100, -60, -70], None), (5, 10, 48, range(-20, 20), None),
    (7, 16, 16, [-3, 5, 9], [0.9, 0.08, 0.02]), (9, 6, 16, [-128], None),
    (20, 12, 8, [-100, 0, 1, 2], [0.7, 0.1, 0.1, 0.1]), (60, 4, 8, [0, 1], [0.3, 0.7]),
    (2, 8, 16, range(-128, 128), None), (25, 4, 16, [7], None), (3, 34, 8, [-1, 127], [0.95, 0.05]),
]  # fmt: skip


async def find(dut, logits: np.ndarray, rest: np.ndarray, rng: random.Random) -> np.ndarray:  # noqa: ANN001
    """One PEAK on (classes, H, W) logits and (4, H, W) regressions: the rows that are stored."""
    classes, height, width = logits.shape
    narrow, groups = width == 8, -(-height * width // LANES)
    row_words = 1 if narrow else width // LANES
    best = maxpool.golden((np.asarray(logits),), maxpool.MaxpoolAttrs(3, 1, 1), {})
    flat, is_peak = (a.reshape(classes, -1, LANES) for a in (logits, logits == best))
    planes = rest.reshape(4, -1, LANES)
    dut.geom.value = struct(
        GEOM, groups=groups, in_signed=1, narrow=narrow, in_w8=width // 8, in_h=height,
        row_words=row_words,
    )
    dut.classes.value, dut.hm.value, dut.parts.value = classes, HM, pack(PARTS, 16)
    dut.start.value = 1
    await FallingEdge(dut.clk)
    dut.start.value = 0
    raw_pipe: list[int | None] = [None] * PIPE_LAT
    lanes_pipe: list[tuple[int, int] | None] = [None] * (PIPE_LAT + engine_constant("DW_LAT"))
    taken, announced, stored, rows_asked = 0, None, [], []
    for _ in range(60_000):
        raw, lanes = raw_pipe.pop(0), lanes_pipe.pop(0)
        dut.raw_valid.value, dut.word.value = int(raw is not None), raw or 0
        dut.lanes_valid.value = int(lanes is not None)
        dut.lanes_center.value, dut.lanes_peak.value = lanes or (0, 0)
        g = taken % groups
        y, xo = (2 * g, 0) if narrow else divmod(g, row_words)
        dut.item.value = struct(
            ITEM, g=g, last=g == groups - 1, vy=y, xo=xo, base8=2 * g, at_left=xo == 0,
            at_right=xo == row_words - 1,
        )
        dut.item_valid.value = int(rng.random() < 0.9)
        dut.st_ready.value = int(rng.random() < 0.8)
        done = announced is not None and len(stored) == announced
        dut.st_done.value = int(done)
        await settle()
        if int(dut.st_req.value):
            assert announced is None
            announced = int(dut.st_words.value)
        if int(dut.st_valid.value):
            assert announced is not None
            stored.append(int(dut.st_data.value))
        request = fields(REQUEST, int(dut.request.value))
        raw_answer = lanes_answer = None
        if request["valid"] and int(dut.raw.value):
            part = PARTS.index(request["plane"])
            assert request["linear"]
            raw_answer = pack(planes[part, request["base8"] // 2].tolist(), 8)
        elif request["valid"]:
            place = (request["plane"], request["base8"], request["at_left"], request["at_right"])
            rows_asked.append((place, request["delta"]))
            if int(dut.last.value):
                assert rows_asked == [(place, delta) for delta in (15, 0, 1)]
                rows_asked = []
                number, offset = divmod(request["plane"] - HM, groups)
                word = request["base8"] // 2
                assert offset == 0
                assert place[2:] == (word % row_words == 0, word % row_words == row_words - 1)
                lanes_answer = (
                    pack(flat[number, word].tolist(), 9), pack(is_peak[number, word].tolist(), 1)
                )
        raw_pipe.append(raw_answer)
        lanes_pipe.append(lanes_answer)
        taken += int(dut.item_take.value)
        finished = int(dut.done.value)
        await FallingEdge(dut.clk)
        if finished:
            break
    else:
        raise AssertionError("PEAK does not end")
    assert len(stored) == (announced or 0) == int(dut.cand_count.value)
    data = b"".join(record.to_bytes(16, "little") for record in stored)
    return candidates(np.frombuffer(data, np.uint8))


@cocotb.test()
@cocotb.parametrize(number=range(len(MAPS)))
async def equals_the_op(dut, number):  # noqa: ANN001, ANN201
    """Two maps of a kind, one after the other."""
    rng = random.Random(number)
    await power_up(dut, ("start", "geom", "classes", "hm", "parts", "item_valid", "item",
                         "raw_valid", "word", "lanes_valid", "lanes_center", "lanes_peak",
                         "st_ready", "st_done"))  # fmt: skip
    classes, height, width, values, chances = MAPS[number]
    draw = np.random.default_rng(number)
    for _ in range(2):
        logits = draw.choice(list(values), (classes, height, width), p=chances).astype(np.int64)
        rest = draw.integers(-128, 128, (4, height, width))
        rows = peaks.golden((logits, rest[:2], rest[2:]), peaks.PeaksAttrs(100), {})
        want = rows[rows[:, 1] >= 0]
        got = await find(dut, logits, rest, rng)
        assert got.shape == want.shape and (got == want).all(), f"{got}\n{want}"


def test_peak(tmp_path: Path) -> None:
    build_and_test(
        "peak",
        [Path(f"{name}.sv") for name in (
            "engine/isa_pkg", "engine/engine_pkg", "engine/seq_pkg", "lib/delay", "lib/fifo",
            "engine/peak_rank", "engine/peak_emit", "engine/peak")],
        Path(__file__), run_dir=tmp_path,
    )  # fmt: skip
