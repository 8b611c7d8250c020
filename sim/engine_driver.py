# SPDX-License-Identifier: Apache-2.0
"""cocotb half of test_engine_axi: the host driver and hostile traffic on the whole accelerator.

Programs here are LOADs and STOREs made by hand, so that expected bytes need no model: what was
loaded from one place must lie at another.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import cocotb
import numpy as np
from cocotb.handle import HierarchyObject
from cocotb.task import bridge, resume
from cocotb.triggers import Timer

from hwflow import boards
from hwflow.driver import Accelerator, DriverError, Layout, regmap
from hwflow.emit import isa
from hwflow.sim.ddr import Ddr
from hwflow.sim.engine import DEFAULT_BOARD, layout_of
from hwflow.sim.host import CLOCK_NS, DDR_BASE, SimMemory, SimRegisters, access, power_up

SHAPE = (3, 32, 64)
WORDS = 3 * 32 * 64 // 16
OUTPUT = 1 << 14
ACT_PLACE = 2000  # activation words that a copy has to itself
ARRAY_TAGS = (4000, 4001)  # HEAD and END of the array stream
HASH = 0x0123456789ABCDEF


@dataclass(frozen=True)
class Copy:
    """LOAD of `runs` runs of `words` words from the image, STORE of each but for `skip` words.

    source, target: word in image and output; the strides lead from one run to the next.
    """

    source: int
    words: int
    runs: int
    source_stride: int
    act_stride: int
    skip: int
    target: int
    target_stride: int

    def loaded(self) -> list[int]:
        """Words of the image, in the order of the LOAD."""
        return [
            self.source + run * self.source_stride + word
            for run in range(self.runs)
            for word in range(self.words)
        ]


def head(queue: int, tag: int = 0, **changes: int) -> bytes:
    """HEAD of a stream."""
    fields = {"isa_version": isa.ISA_VERSION, "magic": isa.MAGIC, "hash": HASH, "queue": queue}
    return isa.descriptor("HEAD", tag, "head", **{**fields, **changes})


def array_stream(tail: int = 0) -> bytes:
    """One without work; `tail` words follow its END."""
    begin, end = ARRAY_TAGS
    return head(0, begin) + isa.descriptor("END", end, "end") + bytes(16 * tail)


def program_of(copies: list[Copy], tail: int = 0) -> bytes:
    """Array stream of nothing, lanes stream with the copies; `tail` words follow both."""
    parts = [array_stream(tail), head(1)]
    for number, copy in enumerate(copies):
        at = ACT_PLACE * number + 7
        common = {"runs": copy.runs, "act_stride": copy.act_stride}
        parts.append(isa.descriptor(
            "LOAD", 2 * number + 1, "load", words=copy.words, act_addr=at,
            region=isa.REGIONS["image"], ddr_offset=16 * copy.source,
            ddr_stride=copy.source_stride, **common,
        ))  # fmt: skip
        parts.append(isa.descriptor(
            "STORE", 2 * number + 2, "store", words=copy.words - copy.skip,
            act_addr=at + copy.skip, region=isa.REGIONS["output"], ddr_offset=16 * copy.target,
            ddr_stride=copy.target_stride, **common,
        ))  # fmt: skip
    end = isa.descriptor("END", 2 * len(copies) + 1, "end")
    return b"".join([*parts, end, bytes(16 * tail)])


def random_copies(rng: np.random.Generator, count: int) -> list[Copy]:
    """Random lengths, runs and alignments in image and output; runs may overlap in the image."""
    copies = []
    for _ in range(count):
        runs = int(rng.choice([1, 1, 2, 7, 23]))
        words = int(rng.integers(1, 200 // runs))
        skip = int(rng.integers(0, min(words, 30)))
        target_stride = words + int(rng.integers(0, 10))
        source_stride = int(rng.integers(0, 1 + (WORDS - words) // runs))
        span = (runs - 1) * source_stride + words
        source = int(rng.integers(0, WORDS - span + 1))
        span = (runs - 1) * target_stride + words
        target = int(rng.integers(0, OUTPUT // 16 - span + 1))
        act_stride = words + int(rng.integers(0, 40))
        copies.append(
            Copy(source, words, runs, source_stride, act_stride, skip, target, target_stride)
        )
    return copies


def expected(before: np.ndarray, image: np.ndarray, copies: list[Copy]) -> np.ndarray:
    """The output region after the copies."""
    after, flat = before.reshape(-1, 16).copy(), image.transpose(2, 0, 1).reshape(-1, 16)
    for copy in copies:
        for run in range(copy.runs):
            begin = copy.source + run * copy.source_stride
            at = copy.target + run * copy.target_stride
            after[at : at + copy.words - copy.skip] = flat[begin + copy.skip : begin + copy.words]
    return after.reshape(-1)


class Host:
    """Driver with one program on the bench, and what it needs for checks. Blocking code."""

    def __init__(self, dut: HierarchyObject, stream: bytes, watchdog: int = 0) -> None:
        self.dut = dut
        self.registers = SimRegisters(dut)
        self.memory = SimMemory(dut, Path(os.environ["HWFLOW_MAILBOX"]))
        layout = Layout.of(layout_of(stream, SHAPE, self.array_bytes(stream)))
        self.accelerator = Accelerator(
            self.registers, self.memory, stream, layout, watchdog=watchdog, timeout_s=0.01
        )
        self.output_at = self.registers.read(regmap.OUTPUT_ADDR)
        self.image_at = self.registers.read(regmap.IMAGE_ADDR)

    @staticmethod
    def array_bytes(stream: bytes) -> int:
        """Where the second HEAD begins."""
        return stream.index(head(1)[:8], 16)

    def output(self) -> np.ndarray:
        return self.accelerator.output(OUTPUT)

    def put(self, rng: np.random.Generator) -> np.ndarray:
        """Random bytes in the output region."""
        data = rng.integers(0, 256, OUTPUT, dtype=np.uint8)
        self.memory.write(self.output_at, data)
        return data

    def stall(self, percent: int) -> None:
        resume(self._set)("h_stall_percent", percent)

    def fault(self, address: int | None, response: int = 2) -> None:
        """Answer accesses to the 128 bytes around `address` with SLVERR (2) or DECERR (3)."""
        resume(self._set)("h_fault_addr", address or 0)
        resume(self._set)("h_fault_resp", response)
        resume(self._set)("h_fault_on", int(address is not None))

    async def _set(self, name: str, value: int) -> None:
        getattr(self.dut, name).value = value
        await Timer(CLOCK_NS, "ns")

    def cycles(self, count: int) -> None:
        if count:
            resume(self._cycles)(count)

    async def _cycles(self, count: int) -> None:
        await Timer(count * CLOCK_NS, "ns")


def random_image(rng: np.random.Generator) -> np.ndarray:
    _, height, width = SHAPE
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def good_frame(host: Host, copies: list[Copy], rng: np.random.Generator) -> int:
    """One frame through the driver, every byte of the output region compared; its cycles."""
    image, before = random_image(rng), host.put(rng)
    frame = host.accelerator.run(image)
    assert np.array_equal(host.output(), expected(before, image, copies))
    loaded = 16 * sum(copy.words * copy.runs for copy in copies)
    stream = host.accelerator.layout.stream_bytes + host.accelerator.layout.lane_bytes
    assert loaded + 32 * (2 * len(copies) + 4) <= frame.rd_bytes <= loaded + stream
    assert frame.wr_bytes == 16 * sum((copy.words - copy.skip) * copy.runs for copy in copies)
    assert len(frame.candidates) == 0
    return frame.cycles


@cocotb.test()
async def back_to_back(dut: HierarchyObject) -> None:
    """Frames without a reset in between, without and with stalls on all channels."""
    await power_up(dut)

    def script() -> None:
        rng = np.random.default_rng(1)
        copies = random_copies(rng, 9)
        host = Host(dut, program_of(copies, 500))
        calm = [good_frame(host, copies, rng) for _ in range(3)]
        assert max(calm) - min(calm) < 250, calm  # refresh falls elsewhere
        for percent in (20, 70):
            host.stall(percent)
            assert good_frame(host, copies, rng) > max(calm)

    await bridge(script)()
    assert int(dut.h_most_reads.value) == 8


@cocotb.test()
async def bandwidth(dut: HierarchyObject) -> None:
    """Long LOADs move at the board's rate less refresh, latency hidden: one run, and 58 of 40."""
    await power_up(dut)
    ddr = Ddr.of(boards.load(DEFAULT_BOARD))

    def script() -> None:
        rng = np.random.default_rng(2)
        for words, runs, stride in ((20_000, 1, 0), (40, 58, 64)):
            load = isa.descriptor(
                "LOAD", 1, "", act_addr=0, words=words, runs=runs, act_stride=words,
                ddr_offset=0, ddr_stride=stride, region=isa.REGIONS["image"],
            )  # fmt: skip
            stream = array_stream() + head(1) + load + isa.descriptor("END", 2, "")
            frame = Host(dut, stream).accelerator.run(random_image(rng))
            moved = 16 * words * runs + len(stream)
            # nothing can be faster; a refresh may be still to come
            bound = moved / float(ddr.rate) * ddr.refresh_every
            bound /= ddr.refresh_every - ddr.refresh_for
            assert bound - ddr.refresh_for < frame.cycles < 1.01 * bound + 150, (words, frame)
            dut._log.info(f"LOAD of {runs} runs of {words}: {frame.cycles}, bound {bound:.0f}")

    await bridge(script)()


@cocotb.test()
async def reset_in_mid_frame(dut: HierarchyObject) -> None:
    """A reset at any moment ends quietly on the bus, and the next frame is right."""
    await power_up(dut)

    def script() -> None:
        rng = np.random.default_rng(3)
        copies = random_copies(rng, 6)
        host = Host(dut, program_of(copies))
        for delay in (0, 1, 2, 3, 7, 20, 45, 60, *rng.integers(80, 2500, 12)):
            host.stall(int(rng.choice([0, 40])))
            host.accelerator.start(random_image(rng))
            host.cycles(int(delay))
            host.registers.write(regmap.CTRL, 1 << regmap.CTRL_RESET[0])
            waits = 0
            while host.registers.read(regmap.STATUS) & 1:
                waits += 1
                assert waits < 200
            assert host.registers.read(regmap.STATUS) == 0
            moved = host.registers.read(regmap.RD_BYTES)
            host.cycles(200)
            assert host.registers.read(regmap.RD_BYTES) == moved
            assert not int(dut.h_irq.value)
            good_frame(host, copies, rng)
        # A start that comes while a frame runs is ignored
        image, before = random_image(rng), host.put(rng)
        host.accelerator.start(image)
        host.cycles(300)
        host.registers.write(regmap.CTRL, 1 << regmap.CTRL_START[0])
        host.accelerator.finish()
        host.cycles(100)
        assert host.registers.read(regmap.STATUS) == 0b010
        assert np.array_equal(host.output(), expected(before, image, copies))

    await bridge(script)()


def failure(host: Host, image: np.ndarray) -> str:
    """The message of the frame's DriverError."""
    try:
        host.accelerator.run(image)
    except DriverError as error:
        return str(error)
    raise AssertionError("the frame should have failed")


@cocotb.test()
async def errors_are_reported(dut: HierarchyObject) -> None:
    """Bus errors, watchdog, wrong addresses: reason and descriptor, then a good frame."""
    await power_up(dut)

    def script() -> None:
        rng = np.random.default_rng(4)
        copies = random_copies(rng, 4)
        host = Host(dut, program_of(copies, 200))
        image = random_image(rng)
        good_frame(host, copies, rng)
        at = host.registers.read(regmap.PROG_ADDR)
        lanes_at = at + host.accelerator.layout.stream_bytes
        for response in (2, 3):
            # LOAD: the line that holds the middle of the second copy's source
            middle = copies[1].loaded()[copies[1].words * copies[1].runs // 2]
            host.fault(host.image_at + 16 * middle, response)
            message = failure(host, image)
            assert "read" in message and "0x10" in message
            hit = next(
                number for number, copy in enumerate(copies)
                if any(_same_line(host.image_at, middle, word) for word in copy.loaded())
            )  # fmt: skip
            assert f"descriptor {1 + 2 * hit}" in message, message
            host.fault(None)
            good_frame(host, copies, rng)
            # STORE
            host.fault(host.output_at + 16 * copies[2].target, response)
            message = failure(host, image)
            assert "write" in message and "0x11" in message
            host.fault(None)
            good_frame(host, copies, rng)
            # Both streams, where they begin and far into what is only prefetched
            for place in (at, at + 1600, lanes_at + 32, lanes_at + 1600):
                host.fault(place, response)
                assert "0x10" in failure(host, image)
                host.fault(None)
                good_frame(host, copies, rng)
        # An address without memory (DECERR)
        right = host.registers.read(regmap.IMAGE_ADDR)
        host.registers.write(regmap.IMAGE_ADDR, DDR_BASE - 4096)
        assert "0x10" in failure(host, image)
        # Addresses that do not fit, refused before anything is read
        for name, value in (("IMAGE_ADDR", right + 4), ("PROG_ADDR", 8), ("OUTPUT_ADDR", 1),
                            ("SCRATCH_ADDR", 2), ("PROG_WORDS", 0), ("PROG_WORDS", 1 << 28),
                            ("LANE_WORDS", 0), ("LANE_WORDS", 1 << 28)):
            register = getattr(regmap, name)
            kept = host.registers.read(register)
            host.registers.write(register, value)
            assert "0x13" in failure(host, image), name
            host.registers.write(register, kept)
        host.registers.write(regmap.IMAGE_ADDR, right)
        good_frame(host, copies, rng)
        # Watchdog
        host.registers.write(regmap.WATCHDOG, 300)
        message = failure(host, image)
        assert "0x12" in message and "lanes at 1" in message
        assert any(f"array at descriptor {tag}," in message for tag in ARRAY_TAGS), message
        assert host.registers.read(regmap.CYCLES) in range(300, 310)
        host.registers.write(regmap.WATCHDOG, 1 << 30)
        good_frame(host, copies, rng)

    await bridge(script)()


def _same_line(base: int, one: int, other: int) -> bool:
    return (base + 16 * one) // 128 == (base + 16 * other) // 128


@cocotb.test()
async def wrong_programs_are_refused(dut: HierarchyObject) -> None:
    """By the core (descriptors, HEADs, cut off) and by the driver (version, hash, length)."""
    await power_up(dut)

    def script() -> None:
        rng = np.random.default_rng(5)
        copies = random_copies(rng, 3)
        good = program_of(copies)
        image = random_image(rng)
        lanes = len(array_stream())
        host = Host(dut, good, watchdog=20_000)
        at = host.registers.read(regmap.PROG_ADDR)
        load = {"act_addr": 0, "words": 1, "region": 0, "ddr_offset": 0, "runs": 1}
        far = {"act_addr": 26_000, "words": 1000, "runs": 9, "act_stride": 1000}
        # Written over a good program: place, descriptor, code, tag
        cases = (
            (0, head(1, 77), regmap.CODE_HEAD, 77),
            (0, head(0, 78, magic=1), regmap.CODE_HEAD, 78),
            (0, head(0, 79, isa_version=isa.ISA_VERSION + 1), regmap.CODE_HEAD, 79),
            (0, isa.descriptor("END", 80, ""), regmap.CODE_FIRST, 80),
            (32, isa.descriptor("LOAD", 81, "", **load), regmap.CODE_OPCODE, 81),
            (lanes, head(0, 83), regmap.CODE_HEAD, 83),
            (lanes, isa.descriptor("LOAD", 84, "", **load), regmap.CODE_FIRST, 84),
            (lanes + 64, (85 << 4 | 13).to_bytes(32, "little"), regmap.CODE_OPCODE, 85),
            (lanes + 64, isa.descriptor("CONV", 86, ""), regmap.CODE_OPCODE, 86),
            (lanes + 96, isa.descriptor("LOAD", 87, "", **{**load, "runs": 0}),
             regmap.CODE_FIELDS, 87),
            (lanes + 96, isa.descriptor("LOAD", 88, "", **{**load, **far}),
             regmap.CODE_FIELDS, 88),
        )  # fmt: skip
        for place, descriptor, code, tag in cases:
            host.memory.write(at + place, np.frombuffer(descriptor, np.uint8))
            message = failure(host, image)
            assert f"(code {code:#04x}), descriptor {tag}" in message, (place, tag, message)
            host.memory.write(at, np.frombuffer(good, np.uint8))
            good_frame(host, copies, rng)
        # Cut off: the core waits for more, the watchdog ends it
        for register in (regmap.PROG_WORDS, regmap.LANE_WORDS):
            kept = host.registers.read(register)
            host.registers.write(register, 2)
            # A shorter array stream moves the lanes stream: it begins with the array's END
            code = regmap.CODE_FIRST if register == regmap.PROG_WORDS else regmap.CODE_WATCHDOG
            assert f"{code:#04x}" in failure(host, image)
            host.registers.write(register, kept)
            good_frame(host, copies, rng)
        # A token that never comes
        waits = isa.descriptor("LOAD", 91, "", wait=1, **load)
        host.memory.write(at + lanes + 64, np.frombuffer(waits, np.uint8))
        assert "0x12" in failure(host, image)
        host.memory.write(at, np.frombuffer(good, np.uint8))
        # The host's own patience: the driver resets, and goes on working
        kept = host.registers.read(regmap.LANE_WORDS)
        host.registers.write(regmap.LANE_WORDS, 2)
        host.registers.write(regmap.WATCHDOG, 0)
        host.accelerator.timeout_s = 1e-4
        assert "no answer" in failure(host, image)
        host.registers.write(regmap.LANE_WORDS, kept)
        host.accelerator.timeout_s = 0.01
        good_frame(host, copies, rng)

        layout = layout_of(good, SHAPE)
        wrong = (
            ({"isa_version": 99}, "instruction set"),
            ({"hash": "00" * 8}, "not the one of layout.json"),
            ({"stream_bytes": 16}, "not the one of layout.json"),
            ({"peak_act_words": 60_000}, "activation memory"),
        )
        for change, reason in wrong:
            try:
                Accelerator(host.registers, host.memory, good, Layout.of({**layout, **change}))
            except DriverError as error:
                assert reason in str(error)
            else:
                raise AssertionError(f"{change} should have been refused")
        for shape in ((32, 64), (64, 32, 3), (32, 64, 4)):
            try:
                host.accelerator.run(np.zeros(shape, np.uint8))
            except DriverError as error:
                assert "takes uint8 (32, 64, 3)" in str(error)
            else:
                raise AssertionError(f"{shape} should have been refused")

    await bridge(script)()


@cocotb.test()
async def hard_reset(dut: HierarchyObject) -> None:
    """After aresetn the registers are at zero and an interrupt cannot be pending."""
    await power_up(dut)

    def script() -> None:
        rng = np.random.default_rng(6)
        copies = random_copies(rng, 2)
        host = Host(dut, program_of(copies))
        good_frame(host, copies, rng)

    await bridge(script)()
    assert (await access(dut, False, regmap.IRQ_ENABLE))[0] == 0b11
    dut.h_reset_n.value = 0
    await Timer(3 * CLOCK_NS, "ns")
    dut.h_reset_n.value = 1
    await Timer(3 * CLOCK_NS, "ns")
    for name in ("IRQ_ENABLE", "IRQ_STATUS", "STATUS", "PROG_ADDR", "WATCHDOG", "CTRL"):
        assert await access(dut, False, getattr(regmap, name)) == (0, 0), name
    assert (await access(dut, False, 0xFC))[1] == 2
    await bridge(script)()
