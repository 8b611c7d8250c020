# SPDX-License-Identifier: Apache-2.0
"""seq_dw: the kernel rows of every word and channel, in the order of docs/engine.md."""

import random
from pathlib import Path

import cocotb
from bench import fields, power_up, settle, struct, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.emit import isa
from hwflow.sim.runner import build_and_test

REQUEST, ITEM = struct_layout("seq_pkg", "request_t"), struct_layout("seq_pkg", "item_t")
RING_LAT = 3
LANES = 16


def random_item(rng: random.Random, g: int, last: bool) -> dict[str, object]:
    """One output word; its dilations are a few of the eight values."""
    kinds = rng.sample(range(8), rng.choice([1, 1, 2, 3, 8]))
    return {
        "g": g, "last": int(last), "vy": rng.randrange(1 << 13), "base8": rng.randrange(1 << 17),
        "at_left": rng.randrange(2), "at_right": rng.randrange(2),
        "dil": [rng.choice(kinds) for _ in range(LANES)],
    }  # fmt: skip


def item_word(item: dict[str, object]) -> int:
    dil = item["dil"]
    values = {**item, "dil": sum(d << 3 * x for x, d in enumerate(dil)),
              "present": sum(1 << d for d in set(dil))}  # fmt: skip
    return struct(ITEM, **values)


def rows_of(item: dict[str, object], deform: bool, two_halves: bool) -> list[dict[str, int]]:
    """What is asked for one word: kernel row, rows from the centre, half, lanes."""
    every = (1 << LANES) - 1
    if deform:
        rows = [{"row": 1, "delta": 0, "half": 0, "lanes": every}]
        for d in sorted(set(item["dil"])):
            lanes = sum(1 << x for x, own in enumerate(item["dil"]) if own == d)
            rows += [{"row": row, "delta": (row - 1) * d, "half": 0, "lanes": lanes}
                     for row in (0, 2)]  # fmt: skip
        return rows
    return [
        {"row": row, "delta": row - 1, "half": half, "lanes": every}
        for half in ((1, 2) if two_halves else (0,))
        for row in range(3)
    ]


def expected(
    records: list[dict[str, int]], items: list[dict[str, object]], deform: bool, two_halves: bool
) -> list[dict[str, int]]:
    """All that must come out, in order: channel, word, row."""
    out = []
    for record in records:
        for item in items:
            rows = rows_of(item, deform, two_halves)
            for number, row in enumerate(rows):
                dil = item["dil"] if deform else [1] * LANES
                out.append({
                    "plane": record["src"], "vy": item["vy"], "base8": item["base8"],
                    "at_left": item["at_left"], "at_right": item["at_right"],
                    "delta": row["delta"] & 15, "half": row["half"], "lanes": row["lanes"],
                    "dil": sum(d << 3 * x for x, d in enumerate(dil)), "linear": 0,
                    "weights": record["weights"] >> 12 * row["row"] & 0xFFF,
                    "first": int(number == 0), "last": int(number == len(rows) - 1),
                    "bias": record["bias"] & ((1 << 25) - 1), "shift": record["shift"],
                    "addr": (record["dst"] + item["g"]) & 0xFFFF,
                })  # fmt: skip
    return out


@cocotb.test()
@cocotb.parametrize(kind=["DW", "halves", "DDW"], hurried=[0, 1])
async def rows(dut, kind, hurried):  # noqa: ANN001, ANN201
    """Several operations; ring and walk keep up, or come and go. Then a row a cycle is held."""
    rng = random.Random(f"{kind}{hurried}")
    await power_up(dut, ("start", "deform", "two_halves", "channels", "avail", "ring_rd_data",
                         "item_valid", "item"))  # fmt: skip
    deform, two_halves = kind == "DDW", kind == "halves"
    dut.deform.value, dut.two_halves.value = int(deform), int(two_halves)
    for _ in range(12):
        count, size = rng.choice([1, 2, 5]), rng.choice([1, 2, 3, 9])
        records = [
            {"weights": rng.getrandbits(36), "src": rng.getrandbits(16),
             "dst": rng.getrandbits(16), "bias": rng.randrange(-(1 << 24), 1 << 24),
             "shift": rng.randrange(32)} for _ in range(count)
        ]  # fmt: skip
        items = [random_item(rng, g, g == size - 1) for g in range(size)]
        want, got = expected(records, items, deform, two_halves), []
        ring = [isa.pack(isa.DW_RECORD, record, "bench") for record in records]
        asked: list[int | None] = [None] * RING_LAT
        hidden = 0  # cycles in which the ring's count reads 0 after a pop
        taken, begun, ended = 0, None, 0
        dut.channels.value, dut.start.value = count, 1
        await FallingEdge(dut.clk)
        dut.start.value = 0
        for cycle in range(4000):
            valid = hurried or rng.random() < 0.5
            dut.item_valid.value = int(valid)
            dut.item.value = item_word(items[taken % size])
            there = len(ring) if (hurried or rng.random() < 0.3) and not hidden else 0
            dut.avail.value = there
            hidden = max(0, hidden - 1)
            answer = asked.pop(0)
            dut.ring_rd_data.value = rng.getrandbits(128) if answer is None else answer
            await settle()
            request = fields(REQUEST, int(dut.request.value))
            if request.pop("valid"):
                begun = cycle if begun is None else begun
                ended = cycle
                row = {**request, **{name: int(getattr(dut, name).value) for name in (
                    "weights", "first", "last", "bias", "shift", "addr")}}
                got.append(row)
            asked.append(ring.pop(0) if int(dut.ring_rd_en.value) else None)
            hidden = 2 if asked[-1] is not None else hidden
            taken += int(dut.item_take.value)
            finished = int(dut.done.value)
            await FallingEdge(dut.clk)
            if finished and len(got) >= len(want):
                break
            assert not finished or cycle < 3 or len(got) + 1 >= len(want), "done too early"
        assert got == want, next(
            (n, a, b) for n, (a, b) in enumerate(zip([*got, None], [*want, None], strict=False))
            if a != b
        )
        assert taken == count * size and not ring
        if hurried and len(want) >= 7 * count:  # long enough to hide the next record
            assert ended - begun + 1 == len(want), "a cycle was lost"


def test_seq_dw(tmp_path: Path) -> None:
    build_and_test(
        "seq_dw",
        [Path(f"{name}.sv") for name in ("engine/isa_pkg", "engine/seq_pkg", "lib/delay",
                                         "engine/seq_dw")],
        Path(__file__), run_dir=tmp_path,
    )
