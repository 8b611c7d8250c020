# SPDX-License-Identifier: Apache-2.0
"""frame_ctl: how a frame begins, what it counts, and every way in which it can end."""

import random
from pathlib import Path

import cocotb
from bench import power_up, settle
from cocotb.triggers import FallingEdge

from hwflow.driver import regmap
from hwflow.sim.runner import build_and_test

CODES = {name: code for code, name in {
    0x10: "BUS_READ", 0x11: "BUS_WRITE", 0x12: "WATCHDOG", 0x13: "CONFIG"}.items()}  # fmt: skip
INPUTS = (
    "start", "soft_reset", "prog_words", "lane_words", "low_bits", "watchdog", "read_idle",
    "write_idle", "read_error", "read_error_array", "write_error", "read_beat", "write_beat",
    "core_done", "core_error", "core_error_code", "core_error_tag", "a_tag", "b_tag",
)  # fmt: skip


TAGS = ("core_error_tag", "a_tag", "b_tag")


class Frame:
    """Drives the inputs; counts the pulses that come out."""

    def __init__(self, dut) -> None:  # noqa: ANN001
        self.dut = dut
        self.pulses = dict.fromkeys(("begin_stream", "core_start", "irq_done", "irq_error"), 0)

    async def step(self, **inputs: int) -> None:
        """One cycle; the inputs named have this value in it only, and are 0 afterwards."""
        for name, value in inputs.items():
            getattr(self.dut, name).value = value
        await settle()
        for name in self.pulses:
            self.pulses[name] += int(getattr(self.dut, name).value)
        await FallingEdge(self.dut.clk)
        for name in inputs:
            getattr(self.dut, name).value = 0

    async def begin(self) -> None:
        """A start, up to the core's first cycle."""
        self.pulses = dict.fromkeys(self.pulses, 0)
        await self.step(start=1)
        for _ in range(5):
            if self.pulses["core_start"]:
                return
            assert int(self.dut.busy.value)
            await self.step()
        raise AssertionError("the core is not started")

    async def drain(self, rng: random.Random) -> None:
        """The bus owes answers for a while: busy until then, and nothing new may begin."""
        dut = self.dut
        dut.read_idle.value, dut.write_idle.value = 0, 1
        for _ in range(rng.randint(1, 20)):
            await self.step()
            assert int(dut.stop.value) and int(dut.busy.value)
            assert not self.pulses["irq_done"] and not self.pulses["irq_error"]
        dut.read_idle.value, dut.write_idle.value = 1, rng.randrange(2)
        await self.step()
        dut.write_idle.value = 1
        for _ in range(4):
            await self.step()
        assert not int(dut.busy.value) and not int(dut.stop.value)

    def status(self) -> tuple[int, int]:
        return int(self.dut.done.value), int(self.dut.error.value)


async def bench(dut) -> tuple[Frame, random.Random]:  # noqa: ANN001
    await power_up(dut, INPUTS)
    dut.prog_words.value, dut.lane_words.value = 100, 20
    dut.read_idle.value, dut.write_idle.value = 1, 1
    return Frame(dut), random.Random(44)


@cocotb.test()
async def good_frames(dut):  # noqa: ANN001, ANN201
    """Cycles from start to done, bytes of the beats, one interrupt; the core is not reset."""
    frame, rng = await bench(dut)
    for _ in range(6):
        await frame.begin()
        assert frame.pulses["begin_stream"] == 1 and frame.status() == (0, 0)
        cycles, reads, writes = rng.randint(2, 200), 0, 0
        for _ in range(cycles - 1):
            read, write, again = rng.randrange(2), rng.randrange(2), rng.randrange(2)
            reads, writes = reads + read, writes + write
            await frame.step(read_beat=read, write_beat=write, start=again)
            assert not int(dut.stop.value) and not int(dut.core_rst.value)
        dut.core_done.value = 1
        await frame.step()
        assert not int(dut.core_rst.value)
        dut.read_idle.value = 0
        await frame.drain(rng)
        dut.core_done.value = 0
        assert frame.status() == (1, 0)
        assert frame.pulses == {"begin_stream": 1, "core_start": 1, "irq_done": 1, "irq_error": 0}
        assert int(dut.cycles.value) == cycles + 1  # with the one in which the core was started
        assert (int(dut.rd_bytes.value), int(dut.wr_bytes.value)) == (8 * reads, 8 * writes)


@cocotb.test()
async def errors(dut):  # noqa: ANN001, ANN201
    """Core, bus, watchdog: code and descriptor of the first reason, then a good frame."""
    frame, rng = await bench(dut)
    core = {"core_error": 1, "core_error_code": 5}
    cases = [  # inputs in one cycle, code, where the descriptor comes from
        (core, 5, "core_error_tag"),
        ({"read_error": 1, "read_error_array": 1}, CODES["BUS_READ"], "a_tag"),
        ({"read_error": 1}, CODES["BUS_READ"], "b_tag"),
        ({"write_error": 1}, CODES["BUS_WRITE"], "b_tag"),
        ({"write_error": 1, "read_error_array": 1}, CODES["BUS_WRITE"], "b_tag"),
        ({"read_error": 1, "write_error": 1, **core}, CODES["BUS_READ"], "b_tag"),
        ({"read_error": 1, "read_error_array": 1, **core}, CODES["BUS_READ"], "a_tag"),
        ({"write_error": 1, "core_done": 1}, CODES["BUS_WRITE"], "b_tag"),
        ({}, CODES["WATCHDOG"], "b_tag"),
    ]
    for inputs, code, source in cases:
        await frame.begin()
        limit = rng.randint(5, 60)
        tags = dict(zip(TAGS, rng.sample(range(1 << 12), 3), strict=True))
        for name, tag in tags.items():
            getattr(dut, name).value = tag
        if inputs:
            for _ in range(limit):
                await frame.step()
            await frame.step(**inputs)
        else:
            dut.watchdog.value = limit
            for cycle in range(limit + 4):
                if int(dut.stop.value):
                    assert cycle >= limit - 1
                    break
                await frame.step()
            assert int(dut.stop.value), "the watchdog does not bite"
            dut.watchdog.value = 0
        assert int(dut.core_rst.value)
        for name, tag in tags.items():
            getattr(dut, name).value = 1 + tag & 0xFFF
        await frame.step(read_error=1)  # what still comes changes nothing
        await frame.drain(rng)
        assert frame.status() == (0, 1), inputs
        assert (int(dut.error_code.value), int(dut.error_tag.value)) == (code, tags[source])
        assert frame.pulses == {"begin_stream": 1, "core_start": 1, "irq_done": 0, "irq_error": 1}
        await frame.begin()
        await frame.step(core_done=1)
        await frame.drain(rng)
        assert frame.status() == (1, 0)


@cocotb.test()
async def addresses_are_checked(dut):  # noqa: ANN001, ANN201
    """Each address off by a byte, no words and too many: refused before the stream begins."""
    frame, rng = await bench(dut)
    bad = [(100, 20, 1 << bit) for bit in range(16)]
    bad += [(0, 20, 0), (1 << 28, 20, 0), (1 << 31, 20, 0)]
    bad += [(100, 0, 0), (100, 1 << 28, 0), (100, 1 << 31, 0)]
    for words, lane_words, low_bits in bad:
        frame.pulses = dict.fromkeys(frame.pulses, 0)
        dut.prog_words.value, dut.lane_words.value = words, lane_words
        dut.low_bits.value = low_bits
        await frame.step(start=1)
        await frame.step()
        await frame.drain(rng)
        assert frame.status() == (0, 1)
        assert int(dut.error_code.value) == CODES["CONFIG"] and int(dut.error_tag.value) == 0
        assert frame.pulses == {"begin_stream": 0, "core_start": 0, "irq_done": 0, "irq_error": 1}
    dut.prog_words.value = dut.lane_words.value = (1 << 28) - 1
    dut.low_bits.value = 0
    await frame.begin()


@cocotb.test()
async def soft_reset(dut):  # noqa: ANN001, ANN201
    """In every state: the core is reset, nothing is reported, and the next frame runs."""
    frame, rng = await bench(dut)
    for delay in (0, 1, 2, 3, 4, 9, 30):
        await frame.step(start=1)
        for _ in range(delay):
            await frame.step()
        frame.pulses = dict.fromkeys(frame.pulses, 0)
        await frame.step(soft_reset=1)
        assert int(dut.stop.value) and int(dut.core_rst.value)
        await frame.drain(rng)
        assert frame.status() == (0, 0)
        assert frame.pulses["irq_done"] == frame.pulses["irq_error"] == 0
        await frame.begin()
        dut.read_idle.value = 0
        await frame.step(core_done=1)
        await frame.step(soft_reset=delay % 2)  # also while the bus drains
        await frame.drain(rng)
        assert frame.status() == (1 - delay % 2, 0)
    frame.pulses = dict.fromkeys(frame.pulses, 0)
    await frame.step(soft_reset=1)  # and with no frame
    await frame.drain(rng)
    assert frame.status() == (0, 0)


def test_codes_are_those_of_the_map() -> None:
    assert set(CODES.values()) <= set(regmap.ERRORS)


def test_frame_ctl(tmp_path: Path) -> None:
    build_and_test(
        "frame_ctl", [Path("shell/regs_pkg.sv"), Path("shell/frame_ctl.sv")], Path(__file__),
        run_dir=tmp_path,
    )
