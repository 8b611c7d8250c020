# SPDX-License-Identifier: Apache-2.0
"""peak: the candidates of small heat maps, against the op's golden model.

The bench stands for the walk over the rows and for the lanes: entries enter a chain of three
rows, and the one at its centre is answered with its logits and with the cells that equal their 3x3
maximum (the maxpool op), after the lanes' latency. A chain whose neighbours are not the rows above
and below is answered with garbage.
"""

import random
from pathlib import Path

import cocotb
import numpy as np
from bench import engine_constant, fields, pack, power_up, settle, struct, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.emit.engine.peak_cycles import peak_cycles
from hwflow.ops import maxpool, peaks
from hwflow.sim.runner import build_and_test

GEOM, ENTRY, REQUEST, META, FOUND = (
    struct_layout("seq_pkg", name)
    for name in ("geom_t", "entry_t", "lane_request_t", "meta_t", "found_t")
)
META_W = sum(META.values())  # below the fields of REQUEST
INSERT_LAT = 7
LANES = 16
HM = 1000
FULL = 1  # of MAPS: its peaks fill the queue while the threshold rises
MAPS = [  # classes, height, width, logits and their chances
    (1, 4, 16, [-128], None), (3, 8, 32, [-100, -60, -70], None), (5, 10, 48, range(-20, 20), None),
    (7, 16, 16, [-3, 5, 9], [0.9, 0.08, 0.02]), (9, 6, 16, [-128], None),
    (20, 6, 16, [-100, 0, 1, 2], [0.7, 0.1, 0.1, 0.1]), (60, 2, 16, [0, 1], [0.3, 0.7]),
    (2, 8, 16, range(-128, 128), None), (25, 4, 16, [7], None),
    (3, 16, 16, [-1, 127], [0.95, 0.05]), (4, 12, 32, [-128, -127], [0.98, 0.02]),
    (1, 1, 16, range(-5, 5), None),
]  # fmt: skip


async def find(
    dut, logits: np.ndarray, rng: random.Random, hurried: bool  # noqa: ANN001
) -> tuple[list[tuple], int]:
    """One PEAK on (classes, H, W) logits: (logit, class, y, x) of the list, sorted; its cycles."""
    classes, height, width = logits.shape
    words, groups = width // LANES, height * width // LANES
    best = maxpool.golden((np.asarray(logits),), maxpool.MaxpoolAttrs(3, 1, 1), {})
    is_peak = logits == best
    walk = [
        {"emit": 1, "last": int(xo == words - 1 and y == height - 1), "v": y, "xo": xo,
         "base8": 2 * (y * words + xo), "offset": y * words + xo, "at_left": int(xo == 0),
         "at_right": int(xo == words - 1)} for xo in range(words) for y in range(height)
    ]  # fmt: skip
    dut.geom.value = struct(
        GEOM, groups=groups, in_signed=1, in_w8=width // 8, in_h=height, row_words=words
    )
    dut.classes.value, dut.hm.value = classes, HM
    dut.start.value = 1
    await FallingEdge(dut.clk)
    dut.start.value = 0
    pipe: list[tuple[int, int] | None] = [None] * (INSERT_LAT + engine_constant("LANE_LAT"))
    chain: list[dict[str, int] | None] = [None] * 3  # the centre is [1]
    taken, found, held = 0, {}, [0, 0, 0]
    for cycles in range(60_000):  # noqa: B007
        answer = pipe.pop(0)
        dut.lanes_valid.value = int(answer is not None)
        dut.lanes_center.value, dut.lanes_peak.value = answer or (rng.getrandbits(144), 0xFFFF)
        dut.entry.value = struct(ENTRY, **walk[taken % len(walk)])
        dut.entry_valid.value = int(hurried or rng.random() < 0.9)
        held.append(int(not hurried and rng.random() < 0.1))
        dut.hold.value = held[-1]
        await settle()
        if int(dut.list_we.value):
            found[int(dut.list_index.value)] = fields(FOUND, int(dut.list_found.value))
        word = int(dut.request.value)
        request = {**fields(META, word & ((1 << META_W) - 1)), **fields(REQUEST, word >> META_W)}
        answer = None
        if request["insert"]:
            assert not held[-3], "sent although held for two cycles"
            assert not request["raw"]
            chain = [*chain[1:], request if request["read"] else None]
            if chain[1] is not None and chain[1]["emit"]:
                answer = _lanes(chain, logits, is_peak, rng)
        else:
            assert not request["read"]
        pipe.append(answer)
        taken += int(dut.entry_take.value) & int(dut.entry_valid.value)
        finished = int(dut.done.value)
        count = int(dut.list_count.value)
        await FallingEdge(dut.clk)
        if finished:
            break
    else:
        raise AssertionError("PEAK does not end")
    rows = []
    for index in range(count):
        at = found[index]
        x = 16 * at["xo"] + at["lane"]
        assert at["g"] == at["y"] * words + at["xo"]
        rows.append((at["logit"] - 256 * (at["logit"] > 127), at["class_id"], at["y"], x))
    return sorted(rows, key=lambda row: (-row[0], row[2], row[3], row[1])), cycles


def _lanes(
    chain: list[dict[str, int] | None], logits: np.ndarray, is_peak: np.ndarray, rng: random.Random
) -> tuple[int, int]:
    """Logits and peaks of the row at the centre, if its neighbours are the rows beside it."""
    _, height, width = logits.shape
    words = width // LANES
    below, centre, above = chain[2], chain[1], chain[0]
    place = ((centre["plane"] << 4) + 8 * centre["base8"] - (HM << 4)) // LANES
    number, g = divmod(place, height * words)
    y, xo = divmod(g, words)
    assert centre["v"] == y
    assert (centre["at_left"], centre["at_right"]) == (int(xo == 0), int(xo == words - 1))
    for row, step in ((above, -1), (below, 1)):
        if not 0 <= y + step < height:
            continue  # the lanes read the fill
        good = row is not None and row["plane"] == centre["plane"] and (
            row["base8"] == (centre["base8"] + 2 * step * words) % (1 << 17)
        )
        if not good:
            return rng.getrandbits(144), 0xFFFF
    part = slice(16 * xo, 16 * xo + 16)
    return pack(logits[number, y, part].tolist(), 9), pack(is_peak[number, y, part].tolist(), 1)


@cocotb.test()
@cocotb.parametrize(number=range(len(MAPS)), hurried=[0, 1])
async def equals_the_op(dut, number, hurried):  # noqa: ANN001, ANN201
    """Two maps of a kind, one after the other."""
    rng = random.Random(number)
    await power_up(dut, ("forget", "start", "geom", "classes", "hm", "hold", "entry_valid", "entry",
                         "lanes_valid", "lanes_center", "lanes_peak"))  # fmt: skip
    classes, height, width, values, chances = MAPS[number]
    draw = np.random.default_rng(number)
    for _ in range(2):
        logits = draw.choice(list(values), (classes, height, width), p=chances).astype(np.int64)
        rest = np.zeros((4, height, width), np.int64)
        rows = peaks.golden((logits, rest[:2], rest[2:]), peaks.PeaksAttrs(100), {})
        want = [tuple(int(v) for v in row[:4]) for row in rows[rows[:, 1] >= 0]]
        for _ in range(256):  # until the counters are clear
            await FallingEdge(dut.clk)
        found, cycles = await find(dut, logits, rng, bool(hurried))
        assert found == want
        if hurried:
            model = peak_cycles(logits)
            near = 0.1 if number == FULL else 0.03
            assert abs(model - cycles) <= near * cycles, (model, cycles)
    dut.forget.value = 1
    await FallingEdge(dut.clk)
    dut.forget.value = 0
    assert int(dut.list_count.value) == 0


def test_peak(tmp_path: Path) -> None:
    build_and_test(
        "peak",
        [Path(f"{name}.sv") for name in (
            "engine/isa_pkg", "engine/engine_pkg", "engine/seq_pkg", "lib/delay", "lib/fifo",
            "lib/ram_sdp", "engine/peak_rank", "engine/peak")],
        Path(__file__), run_dir=tmp_path,
    )  # fmt: skip
