# SPDX-License-Identifier: Apache-2.0
"""sequencer: every descriptor's fields reach the right unit once; the wrong ones are refused."""

import random
from pathlib import Path

import cocotb
from bench import fields, power_up, settle, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.driver import regmap
from hwflow.emit import isa
from hwflow.sim.runner import build_and_test

GEOM = struct_layout("seq_pkg", "geom_t")
RING_LAT = 3
STARTS = ("walk_start", "conv_start", "dw_start", "mem_start", "peak_start")
DONES = ("conv_done", "dw_done", "mem_done", "peak_done")
UNIT = {"CONV": "conv", "DW": "dw", "DDW": "dw", "POOL": "dw", "LOAD": "mem", "STORE": "mem",
        "PEAK": "peak"}  # fmt: skip
DRAIN = {"CONV": 64, "DW": 40, "DDW": 40, "POOL": 40, "LOAD": 40, "STORE": 40, "PEAK": 40}
HEAD = {"isa_version": isa.ISA_VERSION, "magic": isa.MAGIC, "hash": 0xFEDCBA9876543210}
CODE = {name: number for number, name in enumerate(("HEAD", "OPCODE", "MEMORY", "FIRST", "FIELDS"),
                                                   1)}  # fmt: skip


def legal(op: str, rng: random.Random) -> dict[str, int]:
    """Random fields that go together (docs/engine.md)."""
    if op in ("LOAD", "STORE"):
        return {"act_addr": rng.randrange(1 << 16), "words": rng.randint(1, 65535),
                "ddr_offset": 16 * rng.randrange(1 << 28), "region": rng.randrange(3)}  # fmt: skip
    stride = rng.choice({"CONV": [0, 1, 2], "DW": [0, 1], "POOL": [0, 1]}.get(op, [0]))
    narrow = rng.randrange(2) and stride < 2
    up = int(op in ("CONV", "DW", "DDW") and stride == 0 and not narrow and rng.randrange(2))
    row_words = 1 if narrow else rng.randint(1, 15)
    in_w = 8 << stride if narrow else (16 * row_words << stride) >> up
    values = {
        "groups": rng.randint(1, 1024), "in_signed": rng.randrange(2),
        "out_type": rng.randrange(3), "stride_log2": stride, "up": up, "narrow": int(narrow),
        "in_w": in_w, "in_h": rng.randint(1, 1023), "y0": 2 * rng.randrange(512),
        "row_words": row_words,
    }  # fmt: skip
    if op == "CONV":
        w8 = rng.randrange(2)
        values |= {"windowed": rng.randrange(2), "w8": w8, "to_smap": rng.randrange(2),
                   "k_words": rng.randint(1, 4052), "tiles": rng.randint(1, 255),
                   "last_oc": rng.randint(1, 12 if w8 else 24)}  # fmt: skip
    elif op == "PEAK":
        values |= {name: rng.randrange(1 << 16) for name in ("hm", "w", "h", "reg_x", "reg_y")}
        values |= {"classes": rng.randint(1, 255), "in_signed": 1, "y0": 0}
    else:
        values["channels"] = rng.randint(1, 4095)
    return values


def decoded(op: str, values: dict[str, int]) -> dict[str, object]:
    """What the outputs must show while the operation runs."""
    if op in ("LOAD", "STORE"):
        return {**values, "linear": 1}
    geom = {name: values[name] for name in isa.GEOMETRY if name != "in_w"}
    out: dict[str, object] = {
        "geom": {**geom, "in_w8": values["in_w"] // 8},
        "two_halves": int(values["narrow"] and values["stride_log2"] == 1),
        "linear": int(op == "CONV" and not values["windowed"]),
    }
    if op == "CONV":
        out |= {n: values[n] for n in ("w8", "to_smap", "k_words", "tiles", "last_oc")}
    elif op == "PEAK":
        parts = [values[name] for name in ("w", "h", "reg_x", "reg_y")]
        out |= {"classes": values["classes"], "hm": values["hm"],
                "parts": sum(value << 16 * i for i, value in enumerate(parts))}  # fmt: skip
    else:
        out["channels"] = values["channels"]
    return out


class Bench:
    """The ring as a list of words, and the units as counters."""

    def __init__(self, dut, seed: int) -> None:  # noqa: ANN001
        self.dut, self.rng = dut, random.Random(seed)
        self.asked: list[int | None] = [None] * RING_LAT
        self.hidden = 0
        self.ring: list[int] = []

    async def begin(self, stream: bytes) -> None:
        """Start a frame."""
        self.ring = [int.from_bytes(stream[i : i + 16], "little")
                     for i in range(0, len(stream), 16)]  # fmt: skip
        self.dut.start.value = 1
        await self.step()
        self.dut.start.value = 0

    async def step(self) -> dict[str, int]:
        """A cycle; the start pulses that were high in it."""
        dut = self.dut
        dut.avail.value = 0 if self.hidden or self.rng.random() < 0.3 else min(len(self.ring), 4095)
        self.hidden = max(0, self.hidden - 1)
        answer = self.asked.pop(0)
        dut.ring_rd_data.value = self.rng.getrandbits(128) if answer is None else answer
        await settle()
        asked = int(dut.ring_rd_en.value)
        self.asked.append(self.ring[int(dut.ring_rd_off.value)] if asked else None)
        if int(dut.ring_pop.value):
            del self.ring[: int(dut.ring_pop_n.value)]
            self.hidden = 2
        pulses = {name: int(getattr(dut, name).value) for name in STARTS}
        await FallingEdge(dut.clk)
        return pulses

    async def until_start(self) -> dict[str, int]:
        for _ in range(300):
            pulses = await self.step()
            if any(pulses.values()):
                return pulses
        raise AssertionError("no unit is started")

    async def finish(self) -> None:
        for _ in range(100):
            if not int(self.dut.busy.value):
                return
            await self.step()
        raise AssertionError("still busy")


async def bench(dut, seed: int) -> Bench:  # noqa: ANN001
    await power_up(dut, ("start", "mem_error", "avail", "ring_rd_data", *DONES))
    for name in DONES:
        getattr(dut, name).value = 1
    return Bench(dut, seed)


async def run_one(it: Bench, op: str, values: dict[str, int], tag: int) -> None:
    """The next operation: its start, its fields all the time, its end."""
    dut, unit = it.dut, UNIT[op]
    want = decoded(op, values)
    pulses = await it.until_start()
    walks = op not in ("LOAD", "STORE")
    assert pulses == {n: int(n == f"{unit}_start" or (walks and n == "walk_start")) for n in STARTS}
    getattr(dut, f"{unit}_done").value = 0
    runs = it.rng.randint(2, 40)
    for cycle in range(runs + DRAIN[op]):
        if cycle == runs:
            getattr(dut, f"{unit}_done").value = 1
        assert int(dut.op.value) == isa.OPCODES[op] and int(dut.tag.value) == tag
        assert int(dut.busy.value) and not int(dut.abort.value)
        for name, value in want.items():
            got = int(getattr(dut, name).value)
            assert (fields(GEOM, got) if name == "geom" else got) == value, (op, name)
        assert not any((await it.step()).values())


@cocotb.test()
async def programs(dut):  # noqa: ANN001, ANN201
    """Every opcode, in random order; a second program after END."""
    it = await bench(dut, 5)
    for frame in range(3):
        ops = [op for op in UNIT for _ in range(4)]
        it.rng.shuffle(ops)
        steps = [(op, legal(op, it.rng), it.rng.randrange(1 << 12)) for op in ops]
        head = {**HEAD, "hash": HEAD["hash"] + frame}
        parts = [isa.descriptor("HEAD", 0xFFF, "bench", **head)]
        parts += [isa.descriptor(op, tag, op, **values) for op, values, tag in steps]
        await it.begin(b"".join([*parts, isa.descriptor("END", 9, "bench")]))
        assert not int(dut.done.value)
        for op, values, tag in steps:
            await run_one(it, op, values, tag)
        await it.finish()
        assert (int(dut.done.value), int(dut.error.value), int(dut.tag.value)) == (1, 0, 9)
        assert int(dut.prog_hash.value) == head["hash"] and not it.ring


def wrong(rng: random.Random) -> list[tuple[str, dict[str, int]]]:
    """An operation each in which one thing does not go together."""
    def dw(**change: int) -> dict[str, int]:
        return {"groups": 4, "in_w": 16, "in_h": 4, "row_words": 1, "channels": 1, **change}

    def conv(**change: int) -> dict[str, int]:
        return {"groups": 4, "k_words": 1, "tiles": 1, "last_oc": 1, **change}

    def peak(**change: int) -> dict[str, int]:
        return {"groups": 4, "in_w": 16, "in_h": 4, "row_words": 1, "classes": 1, "in_signed": 1,
                **change}  # fmt: skip

    window = {"windowed": 1, "in_w": 64, "in_h": 8, "row_words": 1}
    return [
        *(("DW", dw(**change)) for change in (
            {"groups": 0}, {"row_words": 0}, {"in_w": 0}, {"in_w": 20}, {"stride_log2": 2},
            {"stride_log2": 3}, {"stride_log2": 1, "in_w": 24}, {"up": 1, "stride_log2": 1},
            {"up": 1, "narrow": 1, "in_w": 8}, {"narrow": 1}, {"channels": 0},
            {"narrow": 1, "in_w": 8, "row_words": 2})),
        ("DDW", dw(stride_log2=1, in_w=32)), ("DDW", dw(narrow=1, in_w=8, y0=1)),
        ("POOL", dw(channels=0)),
        *(("CONV", conv(**change)) for change in (
            {"groups": 0}, {"k_words": 0}, {"k_words": 4053}, {"tiles": 0}, {"last_oc": 0},
            {"last_oc": 25}, {"w8": 1, "last_oc": 13}, {"to_smap": 1, "groups": 1025},
            {**window, "in_w": 0}, {**window, "stride_log2": 3},
            {**window, "narrow": 1, "stride_log2": 2, "in_w": 32})),
        *(("PEAK", peak(**change)) for change in (
            {"classes": 0}, {"in_signed": 0}, {"up": 1}, {"y0": 2}, {"stride_log2": 1, "in_w": 32},
            {"in_w": 32})),
        ("LOAD", {"words": 0}), ("STORE", {"words": 0}), ("STORE", {"words": 1, "region": 3}),
        ("LOAD", {"words": 1, "ddr_offset": 16 * rng.randrange(99) + 8}),
    ]  # fmt: skip


@cocotb.test()
async def refusals(dut):  # noqa: ANN001, ANN201
    """Code and descriptor stay; no unit is started; the next program runs."""
    it = await bench(dut, 6)
    head = isa.descriptor("HEAD", 1, "bench", **HEAD)
    end = isa.descriptor("END", 3, "bench")
    cases = [(head, op, values, CODE["FIELDS"]) for op, values in wrong(it.rng)]
    cases += [
        (b"", "END", {}, CODE["FIRST"]), (b"", "DW", legal("DW", it.rng), CODE["FIRST"]),
        (b"", "HEAD", {**HEAD, "magic": isa.MAGIC ^ 1}, CODE["HEAD"]),
        (b"", "HEAD", {**HEAD, "isa_version": isa.ISA_VERSION + 1}, CODE["HEAD"]),
    ]
    bad = [(start, isa.descriptor(op, 77, op, **values), code, (op, values))
           for start, op, values, code in cases]  # fmt: skip
    used = set(isa.OPCODES.values())
    bad += [(head, (opcode | 77 << 4).to_bytes(32, "little"), CODE["OPCODE"], opcode)
            for opcode in set(range(16)) - used]  # fmt: skip
    for start, block, code, what in bad:
        await it.begin(start + block + end * 3)
        for _ in range(120):
            assert not any((await it.step()).values()), what
        assert (int(dut.busy.value), int(dut.done.value), int(dut.error.value)) == (0, 0, 1), what
        assert (int(dut.error_code.value), int(dut.tag.value)) == (code, 77), what
        await it.begin(head + end)
        await it.finish()
        assert (int(dut.done.value), int(dut.error.value), int(dut.error_code.value)) == (1, 0, 0)


@cocotb.test()
async def memory_errors(dut):  # noqa: ANN001, ANN201
    """An error of the bus while a unit runs: it is told to forget, the frame is over."""
    it = await bench(dut, 7)
    head = isa.descriptor("HEAD", 1, "bench", **HEAD)
    for op, unit in UNIT.items():
        values = legal(op, it.rng)
        await it.begin(head + isa.descriptor(op, 55, op, **values) * 3)
        await it.until_start()
        getattr(dut, f"{unit}_done").value = 0
        for _ in range(it.rng.randint(1, 30)):
            await it.step()
        dut.mem_error.value = 1
        await settle()
        assert int(dut.abort.value)
        await it.step()
        dut.mem_error.value = 0
        getattr(dut, f"{unit}_done").value = 1
        assert (int(dut.busy.value), int(dut.done.value), int(dut.error.value)) == (0, 0, 1)
        assert (int(dut.error_code.value), int(dut.tag.value)) == (CODE["MEMORY"], 55)
        for _ in range(5):
            await it.step()
    await it.begin(head + isa.descriptor("END", 3, "bench"))
    await it.finish()
    assert int(dut.done.value)


def test_codes_are_those_of_the_map() -> None:
    assert set(CODE.values()) <= set(regmap.ERRORS)


def test_sequencer(tmp_path: Path) -> None:
    build_and_test(
        "sequencer",
        [Path(f"{name}.sv") for name in ("engine/isa_pkg", "engine/seq_pkg", "lib/delay",
                                         "engine/sequencer")],
        # `abort` is a port: Verilator minds it on the top module only
        Path(__file__), run_dir=tmp_path, build_args=["-Wno-SYMRSVDWORD"],
    )
