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

from hwflow.driver import Accelerator, DriverError, Layout, regmap
from hwflow.emit import isa
from hwflow.sim.engine import layout_of
from hwflow.sim.host import CLOCK_NS, DDR_BASE, SimMemory, SimRegisters, access, power_up

SHAPE = (3, 32, 64)
WORDS = 3 * 32 * 64 // 16
OUTPUT = 1 << 14


@dataclass(frozen=True)
class Copy:
    """LOAD from word `source` of the image, STORE from `skip` words later to word `target`."""

    source: int
    words: int
    skip: int
    target: int


def program_of(copies: list[Copy], tail: bytes = b"") -> bytes:
    """HEAD, the copies, END."""
    head = {"isa_version": isa.ISA_VERSION, "magic": isa.MAGIC, "hash": 0x0123456789ABCDEF}
    parts, tag = [isa.descriptor("HEAD", 0, "head", **head)], 0
    for number, copy in enumerate(copies):
        at = 1000 * number + 7
        common = {"words": copy.words, "act_addr": at, "region": isa.REGIONS["image"]}
        tag += 1
        parts.append(isa.descriptor("LOAD", tag, "load", ddr_offset=16 * copy.source, **common))
        tag += 1
        common = {"words": copy.words - copy.skip, "act_addr": at + copy.skip,
                  "region": isa.REGIONS["output"]}  # fmt: skip
        parts.append(isa.descriptor("STORE", tag, "store", ddr_offset=16 * copy.target, **common))
    return b"".join([*parts, isa.descriptor("END", tag + 1, "end"), tail])


def random_copies(rng: np.random.Generator, count: int) -> list[Copy]:
    """Random lengths and alignments, within image and output."""
    copies = []
    for _ in range(count):
        words = int(rng.integers(1, 200))
        skip = int(rng.integers(0, min(words, 30)))
        source = int(rng.integers(0, WORDS - words + 1))
        copies.append(Copy(source, words, skip, int(rng.integers(0, OUTPUT // 16 - words))))
    return copies


def expected(before: np.ndarray, image: np.ndarray, copies: list[Copy]) -> np.ndarray:
    """The output region after the copies."""
    after, flat = before.copy(), image.transpose(2, 0, 1).reshape(-1)
    for copy in copies:
        begin, end = 16 * (copy.source + copy.skip), 16 * (copy.source + copy.words)
        after[16 * copy.target : 16 * copy.target + end - begin] = flat[begin:end]
    return after


class Host:
    """Driver with one program on the bench, and what it needs for checks. Blocking code."""

    def __init__(self, dut: HierarchyObject, stream: bytes, **options: float) -> None:
        self.dut = dut
        self.registers = SimRegisters(dut)
        self.memory = SimMemory(dut, Path(os.environ["HWFLOW_MAILBOX"]))
        layout = Layout.of(layout_of(stream, SHAPE))
        self.accelerator = Accelerator(self.registers, self.memory, stream, layout, **options)
        self.output_at = self.registers.read(regmap.OUTPUT_ADDR)
        self.image_at = self.registers.read(regmap.IMAGE_ADDR)

    def output(self) -> np.ndarray:
        return self.accelerator.output(OUTPUT)

    def put(self, rng: np.random.Generator) -> np.ndarray:
        """Random bytes in the output region."""
        data = rng.integers(0, 256, OUTPUT, dtype=np.uint8)
        self.memory.write(self.output_at, data)
        return data

    def stall(self, percent: int) -> None:
        resume(self._set)("h_stall_percent", percent)

    def fault(self, address: int | None) -> None:
        resume(self._set)("h_fault_addr", address or 0)
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
    loaded = 16 * sum(copy.words for copy in copies)
    stream = host.accelerator.layout.stream_bytes
    assert loaded + 32 * (2 * len(copies) + 2) <= frame.rd_bytes <= loaded + stream
    assert frame.wr_bytes == 16 * sum(copy.words - copy.skip for copy in copies)
    assert len(frame.candidates) == 0
    return frame.cycles


@cocotb.test()
async def back_to_back(dut: HierarchyObject) -> None:
    """Frames without a reset in between, without and with stalls on all channels."""
    await power_up(dut)

    def script() -> None:
        rng = np.random.default_rng(1)
        copies = random_copies(rng, 9)
        host = Host(dut, program_of(copies, bytes(16 * 500)))
        calm = [good_frame(host, copies, rng) for _ in range(3)]
        assert max(calm) - min(calm) < 250, calm  # refresh falls elsewhere
        for percent in (20, 70):
            host.stall(percent)
            assert good_frame(host, copies, rng) > max(calm)

    await bridge(script)()
    assert int(dut.h_most_reads.value) == 8


@cocotb.test()
async def bandwidth(dut: HierarchyObject) -> None:
    """A long LOAD moves at the stated rate: 7 bytes a cycle less refresh, latency hidden."""
    await power_up(dut)
    words = 24_000

    def script() -> None:
        head = {"isa_version": isa.ISA_VERSION, "magic": isa.MAGIC, "hash": 1}
        stream = b"".join(
            (
                isa.descriptor("HEAD", 0, "", **head),
                isa.descriptor("LOAD", 1, "", act_addr=0, words=words, ddr_offset=0, region=0),
                isa.descriptor("END", 2, ""),
            )
        )
        frame = Host(dut, stream).accelerator.run(random_image(np.random.default_rng(2)))
        bound = 16 * words / 7 * 1170 / (1170 - 40)  # nothing can be faster
        assert bound < frame.cycles < 1.02 * bound, (frame.cycles, bound)

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
        host = Host(dut, program_of(copies))
        image = random_image(rng)
        good_frame(host, copies, rng)
        # Read: the line that holds the middle of the second copy's source
        host.fault(host.image_at + 16 * (copies[1].source + copies[1].words // 2))
        message = failure(host, image)
        assert "read" in message and "0x10" in message
        first_hit = next(
            number for number, copy in enumerate(copies)
            if _touches(host.image_at + 16 * copy.source, 16 * copy.words,
                        host.image_at + 16 * (copies[1].source + copies[1].words // 2))
        )  # fmt: skip
        assert f"descriptor {1 + 2 * first_hit}" in message, message
        host.fault(None)
        good_frame(host, copies, rng)
        # Write
        host.fault(host.output_at + 16 * copies[2].target)
        message = failure(host, image)
        assert "write" in message and "0x11" in message
        host.fault(None)
        good_frame(host, copies, rng)
        # An address without memory (DECERR)
        right = host.registers.read(regmap.IMAGE_ADDR)
        host.registers.write(regmap.IMAGE_ADDR, DDR_BASE - 4096)
        assert "0x10" in failure(host, image)
        # Addresses that do not fit, refused before anything is read
        for name, value in (("IMAGE_ADDR", right + 4), ("PROG_ADDR", 8), ("OUTPUT_ADDR", 1),
                            ("SCRATCH_ADDR", 2), ("PROG_WORDS", 0), ("PROG_WORDS", 1 << 28)):
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
        assert "0x12" in message and "descriptor 1" in message
        assert host.registers.read(regmap.CYCLES) in range(300, 310)
        host.registers.write(regmap.WATCHDOG, 1 << 30)
        good_frame(host, copies, rng)

    await bridge(script)()


def _touches(start: int, size: int, address: int) -> bool:
    return start < (address | 127) + 1 and start + size > address & ~127


@cocotb.test()
async def wrong_programs_are_refused(dut: HierarchyObject) -> None:
    """By the core (opcode, no HEAD, cut off) and by the driver (version, hash, length)."""
    await power_up(dut)

    def script() -> None:
        rng = np.random.default_rng(5)
        copies = random_copies(rng, 3)
        good = program_of(copies)
        image = random_image(rng)
        bad = bytearray(good)
        bad[64] = bad[64] & 0xF0 | 9  # the opcode of the third descriptor
        host = Host(dut, bytes(bad))
        message = failure(host, image)
        assert "opcode" in message and "descriptor 2" in message
        host = Host(dut, good)
        good_frame(host, copies, rng)
        # Cut off: the core waits for more, the watchdog ends it
        host.registers.write(regmap.PROG_WORDS, 6)
        host.registers.write(regmap.WATCHDOG, 20_000)
        assert "0x12" in failure(host, image)
        # The host's own patience: the driver resets, and goes on working
        host.registers.write(regmap.WATCHDOG, 0)
        host.accelerator.timeout_s = 1e-4
        assert "no answer" in failure(host, image)
        host.registers.write(regmap.PROG_WORDS, len(good) // 16)
        host.accelerator.timeout_s = 1.0
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
