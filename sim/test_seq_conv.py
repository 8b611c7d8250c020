# SPDX-License-Identifier: Apache-2.0
"""seq_conv: headers, words and chunks of every tile and group in order; the array's one rule."""

import random
from pathlib import Path

import cocotb
from bench import fields, power_up, settle, struct, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.emit import isa
from hwflow.sim.runner import build_and_test

REQUEST, ITEM, SIDE = (
    struct_layout("seq_pkg", name) for name in ("request_t", "item_t", "side_t")
)
RING_LAT = 3
FLAGS = ("first", "last", "chunk_first", "chunk_last", "tap_j", "weights")
# tiles, channels of the last one, weight words, groups, int8 weights, windowed
OPERATIONS = [
    (1, 1, 1, 1, 0, 0), (3, 24, 1, 1, 0, 0), (5, 2, 1, 2, 1, 0), (1, 24, 9, 6, 0, 1),
    (2, 5, 30, 3, 0, 0), (3, 12, 27, 2, 1, 1), (1, 7, 512, 2, 0, 0), (1, 24, 513, 3, 0, 0),
    (2, 1, 1030, 2, 0, 0), (4, 24, 4, 4, 0, 1),
]  # fmt: skip


def random_word(rng: random.Random) -> dict[str, int]:
    return {"weights": rng.getrandbits(96), "plane": rng.getrandbits(16), "tap_i": rng.randrange(3),
            "tap_j": rng.randrange(3), "half": rng.randrange(3)}  # fmt: skip


def expected(
    tiles: list[list[dict[str, int]]], items: list[dict[str, int]], last_oc: int, full: int,
    windowed: int,
) -> list[dict[str, int]]:  # fmt: skip
    """Every request in order: tile, group, word, cut into chunks of 512 words."""
    out = []
    for tile, words in enumerate(tiles):
        n_oc = last_oc if tile == len(tiles) - 1 else full
        for item in items:
            for k, word in enumerate(words):
                in_group_last = k == len(words) - 1
                out.append({
                    "plane": word["plane"], "vy": item["vy"], "base8": item["base8"],
                    "at_left": item["at_left"], "at_right": item["at_right"],
                    "linear": 1 - windowed,
                    "delta": (word["tap_i"] - 1) & 15 if windowed else None,
                    "half": word["half"] if windowed else 0,
                    "tap_j": word["tap_j"] if windowed else 1, "weights": word["weights"],
                    "first": int(k % isa.CHUNK == 0),
                    "last": int(k % isa.CHUNK == isa.CHUNK - 1 or in_group_last),
                    "chunk_first": int(k < isa.CHUNK), "chunk_last": int(in_group_last),
                    "side": {"g": item["g"], "bank": tile % 2, "first_tile": int(tile == 0),
                             "last_group": item["last"], "n_oc": n_oc},
                })  # fmt: skip
    return out


def same(got: dict, want: dict) -> bool:
    """delta is not looked at in linear reads, chunk flags and side only at the end of a chunk."""
    skip = {name for name, value in want.items() if value is None}
    if not want["last"]:
        skip |= {"chunk_first", "chunk_last", "side"}
    return all(got[name] == value for name, value in want.items() if name not in skip)


@cocotb.test()
@cocotb.parametrize(number=range(len(OPERATIONS)), hurried=[0, 1])
async def words(dut, number, hurried):  # noqa: ANN001, ANN201
    """The ring fills and the walk goes on at random, or both keep up."""
    rng = random.Random(100 * hurried + number)
    inputs = ("start", "linear", "w8", "k_words", "tiles", "last_oc", "avail", "ring_rd_data",
              "item_valid", "item", "drained")  # fmt: skip
    await power_up(dut, inputs)
    count, last_oc, k_words, groups, w8, windowed = OPERATIONS[number]
    headers = [[rng.getrandbits(128) for _ in range(isa.HEADER_WORDS)] for _ in range(count)]
    tiles = [[random_word(rng) for _ in range(k_words)] for _ in range(count)]
    items = [
        {"g": g, "last": int(g == groups - 1), "vy": rng.randrange(1 << 13),
         "base8": rng.randrange(1 << 17), "at_left": rng.randrange(2),
         "at_right": rng.randrange(2)} for g in range(groups)
    ]  # fmt: skip
    ring = [
        word
        for header, tile in zip(headers, tiles, strict=True)
        for word in [*header, *(isa.pack(isa.WEIGHT_WORD, word, "bench") for word in tile)]
    ]
    want = expected(tiles, items, last_oc, 12 if w8 else 24, windowed)
    for name, value in zip(inputs[1:6], (1 - windowed, w8, k_words, count, last_oc), strict=True):
        getattr(dut, name).value = value
    await FallingEdge(dut.clk)
    dut.start.value = 1
    await FallingEdge(dut.clk)
    dut.start.value = 0
    asked: list[int | None] = [None] * RING_LAT
    there = hidden = taken = drained = 0
    lasts: list[tuple[int, int]] = []
    due: list[int] = []  # cycles in which a tile's last channel comes out
    written, got = [], []
    for cycle in range(20000):
        there = len(ring) if hurried else min(len(ring), there + (rng.random() < 0.8))
        dut.avail.value = 0 if hidden else min(there, 4095)
        hidden = max(0, hidden - 1)
        valid = hurried or rng.random() < 0.7
        dut.item_valid.value, dut.item.value = int(valid), struct(ITEM, **items[taken % groups])
        free = bool(due) and due[0] <= cycle
        if free:
            due.pop(0)
            drained += 1
        dut.drained.value = int(free)
        answer = asked.pop(0)
        dut.ring_rd_data.value = rng.getrandbits(128) if answer is None else answer
        await settle()
        if int(dut.header_we.value):
            place = (int(dut.header_bank.value), int(dut.header_idx.value))
            assert len(written) // isa.HEADER_WORDS - 2 < drained, "the bank is still in use"
            written.append((*place, answer))
        request = fields(REQUEST, int(dut.request.value))
        if request.pop("valid"):
            side = fields(SIDE, int(dut.side.value))
            row = {**request, **{name: int(getattr(dut, name).value) for name in FLAGS},
                   "side": side}  # fmt: skip
            assert len(got) < len(want), "too many words"
            assert same(row, want[len(got)]), f"word {len(got)}: {row}, not {want[len(got)]}"
            got.append(row)
            if row["last"]:
                if lasts:
                    assert cycle - lasts[-1][0] >= lasts[-1][1], "the array is not read out yet"
                lasts.append((cycle, side["n_oc"]))
                if side["last_group"] and row["chunk_last"]:
                    due.append(cycle + 25 + side["n_oc"] + rng.randrange(30))
        if int(dut.ring_rd_en.value):
            offset = int(dut.ring_rd_off.value)
            assert not hidden and offset < there, "the ring does not hold this word"
            asked.append(ring[offset])
        else:
            asked.append(None)
        if int(dut.ring_pop.value):
            size = int(dut.ring_pop_n.value)
            del ring[:size]
            there, hidden = there - size, 2
        taken += int(dut.item_take.value)
        await FallingEdge(dut.clk)
        assert not int(dut.issued.value) or taken == count * groups
        assert int(dut.done.value) <= (int(dut.issued.value) and drained == count)
        if len(got) == len(want) and int(dut.done.value) and drained == count:
            break
    assert len(got) == len(want) and taken == count * groups and not ring
    assert written == [
        (tile % 2, index, word)
        for tile, header in enumerate(headers)
        for index, word in enumerate(header)
    ]


def test_seq_conv(tmp_path: Path) -> None:
    build_and_test(
        "seq_conv",
        [Path(f"{name}.sv") for name in ("engine/isa_pkg", "engine/engine_pkg", "engine/seq_pkg",
                                         "lib/delay", "engine/seq_conv")],
        Path(__file__), run_dir=tmp_path,
    )
