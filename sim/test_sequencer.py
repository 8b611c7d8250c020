# SPDX-License-Identifier: Apache-2.0
"""sequencer: descriptors run once, in order, not before their token; wrong ones are refused."""

import os
import random
from pathlib import Path

import cocotb
import pytest
from bench import engine_constant, fields, power_up, settle, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.driver import regmap
from hwflow.emit import isa
from hwflow.sim.runner import build_and_test

GEOM = struct_layout("seq_pkg", "geom_t")
RING_LAT = 3
OPS = {
    "array": ("CONV",), "lanes": ("DW", "DDW", "POOL", "LOAD", "STORE", "PEAK", "EMIT")
}  # fmt: skip
RING_WORDS = {"array": 4096, "lanes": 512}
CODE = {"HEAD": 1, "OPCODE": 2, "FIRST": 4, "FIELDS": 5}
ACT_WORDS = engine_constant("ACT_WORDS")


def head(queue: str, **change: int) -> dict[str, int]:
    return {"isa_version": isa.ISA_VERSION, "magic": isa.MAGIC, "hash": 0xFEDCBA9876543210,
            "queue": isa.QUEUES[queue], **change}  # fmt: skip


def legal(op: str, rng: random.Random) -> dict[str, int]:
    """Random fields that go together (docs/engine.md)."""
    if op == "EMIT":
        return {name: rng.randrange(1 << 16) for name in isa.DESCRIPTORS["EMIT"]}
    if op in ("LOAD", "STORE"):
        runs, words = rng.choice([1, rng.randint(2, 200)]), rng.randint(1, 900)
        stride = rng.randint(0, (ACT_WORDS - words) // runs)
        last = ACT_WORDS - words - (runs - 1) * stride
        return {"act_addr": rng.choice([last, rng.randint(0, last)]), "words": words, "runs": runs,
                "act_stride": stride, "ddr_stride": rng.randrange(1 << 24),
                "ddr_offset": 16 * rng.randrange(1 << 28), "region": rng.randrange(3)}  # fmt: skip
    stride = rng.choice({"CONV": [0, 1, 2], "DW": [0, 1], "POOL": [0, 1]}.get(op, [0]))
    narrow = rng.randrange(2) and stride < 2 and op != "PEAK"
    up = int(op in ("CONV", "DW", "DDW") and stride == 0 and not narrow and rng.randrange(2))
    row_words = 1 if narrow else rng.randint(1, 15)
    in_w = 8 << stride if narrow else (16 * row_words << stride) >> up
    in_h = rng.randint(4, 1023)
    if op == "DDW":
        in_h = rng.randint(4, min(1023, (2048 // (in_w // 8)) << up))
    values = {
        "groups": 2 * rng.randint(1, 512), "in_signed": rng.randrange(2),
        "out_type": rng.randrange(3), "stride_log2": stride, "up": up, "narrow": int(narrow),
        "in_w": in_w, "in_h": in_h, "y0": 0, "row_words": row_words,
    }  # fmt: skip
    if op == "CONV":
        kind = rng.choice(["linear", "window", "w8", "pair"])
        values |= {
            "windowed": int(kind == "window"), "w8": int(kind == "w8"), "pair": int(kind == "pair"),
            "k_words": rng.randint(1, 4052), "tiles": 1 if kind == "pair" else rng.randint(1, 255),
            "last_oc": 2 * rng.randint(1, 6 if kind == "w8" else 12), "y0": rng.randrange(512),
        }  # fmt: skip
        if values["groups"] < 1024 and rng.randrange(2):
            values |= {"to_smap": 1, "smap_base": rng.randint(0, 1024 - values["groups"])}
    elif op == "PEAK":
        values |= {"classes": rng.randint(1, 255), "hm": rng.randrange(1 << 16), "in_signed": 1}
    else:
        most = (in_h - 1) // (1 << stride) + 1  # output rows of the map
        rows = rng.randint(1, most // 2) * 2
        values |= {"channels": rng.randint(1, 4095), "rows": rows,
                   "y0": 2 * rng.randint(0, (most - rows) // 2)}  # fmt: skip
    return values


class Bench:
    """The ring as a list of words, a unit that takes its time, and the other queue."""

    def __init__(self, dut, seed: int) -> None:  # noqa: ANN001
        self.dut, self.rng = dut, random.Random(seed)
        self.queue = "lanes" if os.environ["PARAM_QUEUE"] == "1" else "array"
        self.asked: list[int | None] = [None] * RING_LAT
        self.hidden = 0
        self.ring: list[int] = []

    def descriptor(self, op: str, tag: int, **values: int) -> bytes:
        return isa.descriptor(op, tag, op, **values)

    async def begin(self, stream: bytes) -> None:
        """Start a frame."""
        self.ring = [int.from_bytes(stream[i : i + 16], "little")
                     for i in range(0, len(stream), 16)]  # fmt: skip
        self.dut.start.value = 1
        await self.step()
        self.dut.start.value = 0

    async def step(self) -> bool:
        """A cycle; whether the unit was started in it."""
        dut = self.dut
        there = min(len(self.ring), RING_WORDS[self.queue])
        dut.avail.value = 0 if self.hidden or self.rng.random() < 0.3 else there
        self.hidden = max(0, self.hidden - 1)
        answer = self.asked.pop(0)
        dut.ring_rd_data.value = self.rng.getrandbits(128) if answer is None else answer
        await settle()
        asked = int(dut.ring_rd_en.value)
        self.asked.append(self.ring[int(dut.ring_rd_off.value)] if asked else None)
        if int(dut.ring_pop.value):
            del self.ring[:2]
            self.hidden = 2
        # an error stops both queues
        failed = int(dut.failed.value)
        dut.abort.value = failed
        self.code = int(dut.error_code.value) if failed else self.code if self.ring else 0
        started = bool(int(dut.unit_start.value))
        await FallingEdge(dut.clk)
        dut.abort.value = 0
        return started

    code = 0

    async def until(self, name: str, value: int, limit: int = 200) -> None:
        for _ in range(limit):
            if int(getattr(self.dut, name).value) == value:
                return
            assert not await self.step()
        raise AssertionError(f"{name} does not become {value}")


async def bench(dut, seed: int) -> Bench:  # noqa: ANN001
    await power_up(dut, ("start", "abort", "others", "avail", "ring_rd_data", "unit_issued",
                         "unit_done", "drain", "quiet"))  # fmt: skip
    dut.quiet.value = dut.unit_issued.value = dut.unit_done.value = 1
    return Bench(dut, seed)


async def run_one(
    it: Bench, op: str, values: dict[str, int], tag: int, body: int, before: int
) -> None:
    """The next operation: its token, its start, its fields all the time, its end.

    body: words of the ring that the unit takes.
    """
    dut, rng = it.dut, it.rng
    wait = values["wait"]
    if wait:
        dut.others.value = wait - 1
        for _ in range(40):
            assert not await it.step(), "started before its token"
    dut.others.value = wait + rng.choice([0, 1, 4095 - wait])
    for _ in range(200):
        if await it.step():
            break
    else:
        raise AssertionError(f"{op} is not started")
    dut.unit_issued.value = dut.unit_done.value = 0
    for cycle in range(rng.randint(3, 30) + 3 * body):
        if body and cycle >= 3 and rng.randrange(2):
            it.ring.pop(0)
            it.hidden, body = 2, body - 1
        assert int(dut.desc.value) == int.from_bytes(it.descriptor(op, tag, **values), "little")
        assert int(dut.tag.value) == tag and int(dut.running.value)
        if op not in ("LOAD", "STORE", "EMIT"):
            want = {name: values[name] for name in isa.GEOMETRY if name != "in_w"}
            assert fields(GEOM, int(dut.geom.value)) == {**want, "in_w8": values["in_w"] // 8}
        left = len(it.ring)
        assert not await it.step()
        assert len(it.ring) == left, "the next descriptor is read among the unit's words"
    del it.ring[:body]
    dut.unit_issued.value = 1
    for _ in range(rng.randint(0, 20)):
        assert not await it.step() and int(dut.running.value)
    drain = rng.randint(0, 40)
    dut.drain.value, dut.quiet.value = drain, 0
    dut.unit_done.value = 1
    dut.others.value = 0
    late = rng.choice([0, 1, 15])
    for cycle in range(drain + late + 4):
        if cycle >= drain + late:
            dut.quiet.value = 1
        if not int(dut.running.value):
            break
        assert int(dut.completed.value) == before
        assert not await it.step()
    assert not int(dut.running.value) and cycle > drain + late
    assert int(dut.completed.value) == before + 1


@cocotb.test()
async def programs(dut):  # noqa: ANN001, ANN201
    """Every opcode of the queue, in random order; more programs after END."""
    it = await bench(dut, 5)
    for _ in range(3):
        ops = [op for op in OPS[it.queue] for _number in range(24 // len(OPS[it.queue]))]
        it.rng.shuffle(ops)
        steps = [
            (op, legal(op, it.rng) | {"wait": it.rng.choice([0, it.rng.randint(1, 4000)])},
             it.rng.randrange(1 << 12)) for op in ops
        ]  # fmt: skip
        digest = it.rng.getrandbits(64)
        parts, bodies = [it.descriptor("HEAD", 0xFFF, **head(it.queue, hash=digest))], []
        for op, values, tag in steps:
            bodies.append(it.rng.randint(0, 5))
            parts += [it.descriptor(op, tag, **values), it.rng.randbytes(16 * bodies[-1])]
        dut.others.value = 0
        await it.begin(b"".join([*parts, it.descriptor("END", 9)]))
        assert not int(dut.done.value) and int(dut.completed.value) == 0
        for number, ((op, values, tag), body) in enumerate(zip(steps, bodies, strict=True)):
            await run_one(it, op, values, tag, body, number)
        await it.until("busy", 0)
        assert int(dut.done.value) and not it.ring
        assert int(dut.prog_hash.value) == digest


def wrong(queue: str, rng: random.Random) -> list[tuple[str, dict[str, int]]]:
    """An operation each in which one thing does not go together."""
    def dw(**change: int) -> dict[str, int]:
        return {"in_w": 16, "in_h": 4, "row_words": 1, "channels": 1, "rows": 4, **change}

    def conv(**change: int) -> dict[str, int]:
        return {"groups": 4, "k_words": 1, "tiles": 1, "last_oc": 2, **change}

    def peak(**change: int) -> dict[str, int]:
        return {"groups": 4, "in_w": 16, "in_h": 4, "row_words": 1, "classes": 1, "in_signed": 1,
                **change}  # fmt: skip

    def move(**change: int) -> dict[str, int]:
        return {"words": 4, "runs": 1, **change}

    window = {"windowed": 1, "in_w": 64, "in_h": 8, "row_words": 1}
    narrow = {"narrow": 1, "in_w": 8}
    if queue == "array":
        return [("CONV", conv(**change)) for change in (
            {"groups": 0}, {"k_words": 0}, {"k_words": 4053}, {"tiles": 0}, {"last_oc": 0},
            {"last_oc": 25}, {"w8": 1, "last_oc": 13}, {"to_smap": 1, "groups": 1025},
            {"to_smap": 1, "smap_base": 1021}, {**window, "in_w": 0}, {**window, "stride_log2": 3},
            {**window, "narrow": 1, "stride_log2": 2, "in_w": 32},
            {"pair": 1, "groups": 3}, {"pair": 1, "last_oc": 3}, {"pair": 1, "tiles": 2},
            {"pair": 1, "w8": 1}, {"pair": 1, **window})]  # fmt: skip
    return [
        *(("DW", dw(**change)) for change in (
            {"row_words": 0}, {"in_w": 0}, {"in_w": 20}, {"stride_log2": 2}, {"in_h": 0},
            {"stride_log2": 3}, {"stride_log2": 1, "in_w": 24}, {"up": 1, "stride_log2": 1},
            {"up": 1, **narrow}, {"narrow": 1}, {"channels": 0}, {**narrow, "row_words": 2},
            {"rows": 0}, {"rows": 5}, {"y0": 1}, {"stride_log2": 1, "in_w": 32, "rows": 3},
            {**narrow, "rows": 3}, {**narrow, "y0": 1, "rows": 2})),
        ("DDW", dw(stride_log2=1, in_w=32, rows=2)),
        ("DDW", dw(in_w=256, row_words=16, in_h=65)), ("POOL", dw(channels=0)),
        *(("PEAK", peak(**change)) for change in (
            {"classes": 0}, {"in_signed": 0}, {"up": 1, "in_w": 8}, {"y0": 2}, {"in_w": 32},
            {"stride_log2": 1, "in_w": 32}, {"groups": 0}, narrow)),
        *(("LOAD", move(**change)) for change in (
            {"words": 0}, {"runs": 0}, {"region": 3}, {"ddr_offset": 16 * rng.randrange(99) + 8},
            {"act_addr": ACT_WORDS - 3}, {"runs": 65535, "act_stride": 65535},
            {"runs": 2, "act_stride": ACT_WORDS - 3}, {"words": 65535})),
    ]  # fmt: skip


@cocotb.test()
async def refusals(dut):  # noqa: ANN001, ANN201
    """Code and tag of the descriptor; no unit is started; the next program runs."""
    it = await bench(dut, 6)
    queue = it.queue
    first = it.descriptor("HEAD", 1, **head(queue))
    end = it.descriptor("END", 3)
    cases = [(first, op, values, CODE["FIELDS"]) for op, values in wrong(queue, it.rng)]
    other = next(name for name in isa.QUEUES if name != queue)
    cases += [(first, op, legal(op, it.rng), CODE["OPCODE"]) for op in OPS[other]]
    cases += [
        (b"", "END", {}, CODE["FIRST"]),
        (b"", OPS[queue][0], legal(OPS[queue][0], it.rng), CODE["FIRST"]),
        (b"", "HEAD", head(queue, magic=isa.MAGIC ^ 1), CODE["HEAD"]),
        (b"", "HEAD", head(queue, isa_version=isa.ISA_VERSION + 1), CODE["HEAD"]),
        (b"", "HEAD", head(other), CODE["HEAD"]),
    ]
    bad = [(start, it.descriptor(op, 77, **values), code, (op, values))
           for start, op, values, code in cases]  # fmt: skip
    used = set(isa.OPCODES.values())
    bad += [(first, (opcode | 77 << 4).to_bytes(32, "little"), CODE["OPCODE"], opcode)
            for opcode in set(range(16)) - used]  # fmt: skip
    for start, block, code, what in bad:
        await it.begin(start + block + end * 3)
        it.code = 0
        codes = []
        for _ in range(120):
            assert not await it.step(), what
            codes.append(it.code)
        assert (int(dut.busy.value), int(dut.done.value)) == (0, 0), what
        assert max(codes) == code and int(dut.tag.value) == 77, what
        await it.begin(first + end)
        await it.until("busy", 0)
        assert int(dut.done.value)


@cocotb.test()
async def errors_elsewhere(dut):  # noqa: ANN001, ANN201
    """The other queue or the memory fails while a unit runs: idle at once, and not done."""
    it = await bench(dut, 7)
    first = it.descriptor("HEAD", 1, **head(it.queue))
    for op in OPS[it.queue] * 3:
        await it.begin(first + it.descriptor(op, 55, **legal(op, it.rng)) * 3)
        for _ in range(200):
            if await it.step():
                break
        dut.unit_done.value = dut.unit_issued.value = 0
        for _ in range(it.rng.randint(1, 30)):
            await it.step()
        dut.abort.value = 1
        await FallingEdge(dut.clk)
        dut.abort.value = 0
        dut.unit_done.value = dut.unit_issued.value = 1
        assert (int(dut.busy.value), int(dut.done.value), int(dut.running.value)) == (0, 0, 0)
        assert int(dut.tag.value) == 55
        it.asked = [None] * RING_LAT
        for _ in range(5):
            assert not await it.step()
    await it.begin(first + it.descriptor("END", 3))
    await it.until("busy", 0)
    assert int(dut.done.value)


def test_codes_are_those_of_the_map() -> None:
    assert set(CODE.values()) <= set(regmap.ERRORS)


@pytest.mark.parametrize("queue", [0, 1])
def test_sequencer(queue: int, tmp_path: Path) -> None:
    build_and_test(
        "sequencer",
        [Path(f"{name}.sv") for name in ("engine/isa_pkg", "engine/engine_pkg", "engine/seq_pkg",
                                         "lib/delay", "engine/sequencer")],
        Path(__file__), {"QUEUE": queue}, run_dir=tmp_path,
        # `abort` is a port: Verilator minds it on the top module only
        build_args=["-Wno-SYMRSVDWORD"],
    )  # fmt: skip
