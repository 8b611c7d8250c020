# SPDX-License-Identifier: Apache-2.0
"""seq_lane: the entries of every column and channel in order, then the empty ones."""

import random
from pathlib import Path

import cocotb
from bench import fields, power_up, settle, struct, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.emit import isa
from hwflow.sim.runner import build_and_test

REQUEST, ENTRY, META = (
    struct_layout("seq_pkg", name) for name in ("lane_request_t", "entry_t", "meta_t")
)
# REQUEST is without `meta`, which lies below
META_W = sum(META.values())
RING_LAT = 3


def random_entry(rng: random.Random, last: bool) -> dict[str, int]:
    widths = {name: width for name, width in ENTRY.items() if name != "last"}
    return {**{name: rng.getrandbits(width) for name, width in widths.items()}, "last": int(last)}


def expected(records: list[dict[str, int]], entries: list[dict[str, int]]) -> list[dict[str, int]]:
    """All that must come out before the empty entries: channel, entry."""
    out = []
    for record in records:
        for entry in entries:
            out.append({
                "read": 1, "insert": 1, "raw": 0, "plane": record["src"], "base8": entry["base8"],
                **{name: entry[name] for name in ("emit", "half", "v", "at_left", "at_right")},
                "weights": record["weights"], "bias": record["bias"] & ((1 << 25) - 1),
                "shift": record["shift"], "addr": (record["dst"] + entry["offset"]) & 0xFFFF,
            })  # fmt: skip
    return out


@cocotb.test()
@cocotb.parametrize(reach=[1, 7], hurried=[0, 1])
async def rows(dut, reach, hurried):  # noqa: ANN001, ANN201
    """Several operations; ring, walk and memory keep up, or come and go. Then an entry a cycle."""
    rng = random.Random(f"{reach}{hurried}")
    await power_up(dut, ("start", "reach", "channels", "hold", "avail", "ring_rd_data",
                         "entry_valid", "entry"))  # fmt: skip
    dut.reach.value = reach
    for _ in range(14):
        count, size = rng.choice([1, 2, 5]), rng.choice([1, 2, 3, 9, 20])
        records = [
            {"weights": rng.getrandbits(36), "src": rng.getrandbits(16),
             "dst": rng.getrandbits(16), "bias": rng.randrange(-(1 << 24), 1 << 24),
             "shift": rng.randrange(32)} for _ in range(count)
        ]  # fmt: skip
        entries = [random_entry(rng, n == size - 1) for n in range(size)]
        want, got, flushed = expected(records, entries), [], 0
        ring = [isa.pack(isa.DW_RECORD, record, "bench") for record in records]
        asked: list[int | None] = [None] * RING_LAT
        hidden = taken = 0  # hidden: cycles in which the ring's count reads 0 after a pop
        cycles: list[int] = []
        held = [0, 0, 0]
        dut.channels.value, dut.start.value = count, 1
        await FallingEdge(dut.clk)
        dut.start.value = 0
        for cycle in range(4000):
            valid = hurried or rng.random() < 0.5
            dut.entry_valid.value = int(valid)
            dut.entry.value = struct(ENTRY, **entries[taken % size])
            there = len(ring) if (hurried or rng.random() < 0.3) and not hidden else 0
            dut.avail.value = there
            hidden = max(0, hidden - 1)
            held.append(int(not hurried and rng.random() < 0.2))
            dut.hold.value = held[-1]
            answer = asked.pop(0)
            dut.ring_rd_data.value = rng.getrandbits(128) if answer is None else answer
            await settle()
            word = int(dut.request.value)
            row = {**fields(META, word & ((1 << META_W) - 1)), **fields(REQUEST, word >> META_W)}
            if row["insert"]:
                assert not held[-3], "sent although held for two cycles"
                cycles.append(cycle)
                if row["read"]:
                    assert not flushed
                    row.pop("dil")
                    got.append(row)
                else:
                    assert not row["emit"]
                    flushed += 1
            else:
                assert not row["read"]
            asked.append(ring.pop(0) if int(dut.ring_rd_en.value) else None)
            hidden = 2 if asked[-1] is not None else hidden
            taken += int(dut.entry_take.value) & int(dut.entry_valid.value)
            finished = int(dut.done.value)
            await FallingEdge(dut.clk)
            if finished and cycle > 3:
                break
        # the last empty entry is on the output in the cycle after
        flushed += fields(REQUEST, int(dut.request.value) >> META_W)["insert"]
        assert got == want, next(
            (n, a, b) for n, (a, b) in enumerate(zip([*got, None], [*want, None], strict=False))
            if a != b
        )
        assert flushed == reach
        assert taken == count * size and not ring
        if hurried and size >= 7:  # long enough to hide the next record
            assert cycles[-1] - cycles[0] + 1 == len(cycles), "a cycle was lost"
        for _ in range(3):
            await FallingEdge(dut.clk)
            assert not fields(REQUEST, int(dut.request.value) >> META_W)["insert"]


def test_seq_lane(tmp_path: Path) -> None:
    build_and_test(
        "seq_lane",
        [Path(f"{name}.sv") for name in ("engine/isa_pkg", "engine/seq_pkg", "lib/delay",
                                         "engine/seq_lane")],
        Path(__file__), run_dir=tmp_path,
    )
