# SPDX-License-Identifier: Apache-2.0
"""uart_shell with the host's own code on the line; a core of Python answers its frames.

The core's class is a sum over the frame that depends on the order of its bytes. What it saw is
compared with what was sent: nothing wrong may ever reach it.
"""

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import cocotb
import numpy as np
import pytest
from bench import power_up
from cocotb.task import bridge
from cocotb.triggers import FallingEdge
from uart_line import BITS, SerialLine

from hwflow.driver import uart
from hwflow.sim.runner import build_and_test, lint

SOURCES = [Path("shell/uart_pkg.sv"),
           *(Path(f"shell/uart_{name}.sv") for name in
             ("crc", "rx", "tx", "request", "answer", "shell"))]  # fmt: skip
CLOCK_NS = 10


def parameter(name: str) -> int:
    return int(os.environ[f"PARAM_{name}"])


def answer_of(frame: bytes) -> bytes:
    """What the core says of a frame: ANSWER bytes."""
    total = sum((i + 1) * byte for i, byte in enumerate(frame))
    return bytes((total + 31 * i) % 251 for i in range(parameter("ANSWER")))


@dataclass
class Core:
    """Takes frames from m_axis and answers on s_axis, with pauses where `stall` is not 0."""

    dut: object
    rng: random.Random
    stall: float = 0.0
    hold: bool = False  # does not answer
    seen: list[bytes] = field(default_factory=list)

    async def run(self) -> None:
        dut, frame, answer = self.dut, bytearray(), bytearray()
        held = None  # what was on m_axis and had to wait: it may not change
        while True:
            # The outputs are registers: what they are at the falling edge meets the inputs set here
            # at the rising edge after it
            await FallingEdge(dut.clk)
            ready = self.rng.random() >= self.stall
            offer = bool(answer) and not self.hold and self.rng.random() >= self.stall
            dut.m_axis_tready.value = ready
            dut.s_axis_tvalid.value = offer
            dut.s_axis_tdata.value = answer[0] if offer else self.rng.randrange(256)
            if int(dut.rst.value) or int(dut.core_rst.value):
                frame.clear()
                answer.clear()
                held = None
                continue
            valid = int(dut.m_axis_tvalid.value)
            beat = (int(dut.m_axis_tdata.value), int(dut.m_axis_tlast.value)) if valid else None
            if held is not None:
                assert beat == held, "a beat changed while it waited"
            held = beat if valid and not ready else None
            if valid and ready:
                frame.append(beat[0])
                if beat[1]:
                    self.seen.append(bytes(frame))
                    answer += answer_of(frame)
                    frame.clear()
            if offer and int(dut.s_axis_tready.value):
                del answer[0]


@dataclass
class Bench:
    line: SerialLine
    core: Core
    rng: random.Random

    def frame(self) -> bytes:
        """Random bytes; often those that start a request."""
        chosen = self.rng.choice(((0xA5, 0x5A), range(256)))
        return bytes(self.rng.choice(chosen) for _ in range(parameter("BYTES")))


async def start(dut, factor: float = 1.0, stall: float = 0.0) -> Bench:  # noqa: ANN001
    rng = random.Random(8)
    bit = CLOCK_NS * parameter("CYCLES") * factor
    dut.rx.value = 1
    await power_up(dut, ["m_axis_tready", "s_axis_tvalid", "s_axis_tdata"])
    bench = Bench(SerialLine(dut.rx, dut.tx, bit, 60 * BITS * bit), Core(dut, rng, stall), rng)
    cocotb.start_soon(bench.core.run())
    await bench.line.wait(BITS)
    return bench


async def good(bench: Bench, count: int = 1) -> None:
    """Frames by the host's own code; the classes are the core's, nothing else reached it."""

    def script() -> list[tuple[bytes, uart.Classified]]:
        link = uart.Link(bench.line)
        frames = [bench.frame() for _ in range(count)]
        return [(one, link.classify(np.frombuffer(one, np.uint8))) for one in frames]

    before = len(bench.core.seen)
    for number, (frame, found) in enumerate(await bridge(script)()):
        expected = answer_of(frame)
        assert (found.index, found.scores) == (expected[0], expected[1:])
        assert bench.core.seen[before + number] == frame
    assert len(bench.core.seen) == before + count
    assert bench.line.broken == 0


async def answers(bench: Bench) -> list[uart.Answer]:
    """All that come until the line falls silent, and nothing but answers."""
    data = await bench.line.receive(10**6)
    found = []
    while data:
        one, data, _ = uart.take(data)
        assert one is not None, data
        found.append(one)
    return found


@cocotb.test()
@cocotb.parametrize((("percent", "stall"), [(-2.0, 0.6), (0.0, 0.0), (2.0, 0.6)]))
async def host(dut, percent, stall):  # noqa: ANN001, ANN201
    """Images one after the other, the host's clock off by so much."""
    await good(await start(dut, 1 + percent / 100, stall), 12)


@cocotb.test()
async def size(dut):  # noqa: ANN001, ANN201
    """The size is told; a frame of another one is refused with a sentence, and costs nothing."""
    bench = await start(dut)
    count = parameter("BYTES")

    def script() -> None:
        link = uart.Link(bench.line)
        assert link.frame_bytes() == count
        for other in {1, count - 1, count + 1, 2 * count} - {0, count}:
            with pytest.raises(uart.LinkError, match=f"has {other} bytes, .* takes {count};"):
                link.classify(bytes(other))

    await bridge(script)()
    assert bench.core.seen == []
    await good(bench)


@cocotb.test()
@cocotb.parametrize(percent=[-2.0, 2.0])
async def back_to_back(dut, percent):  # noqa: ANN001, ANN201
    """Requests without a pause, none waiting for an answer: each is answered, in order.

    Where answers are longer than requests, the pause is what they are longer, and two percent.
    """
    bench = await start(dut, 1 + percent / 100)
    frames = [bench.frame() for _ in range(25)]
    longer = parameter("ANSWER") - parameter("BYTES")
    for tag, frame in enumerate(frames):
        await bench.line.send(uart.request(frame, tag + 100))
        if longer > 0:
            await bench.line.wait(BITS * (longer + 0.02 * (longer + 10)) + 2)
    expected = [uart.Answer(uart.OK, tag + 100, answer_of(f)) for tag, f in enumerate(frames)]
    assert await answers(bench) == expected
    assert bench.core.seen == frames


@cocotb.test()
async def busy(dut):  # noqa: ANN001, ANN201
    """While the core works on one frame, another one is refused; the first one is not lost."""
    bench = await start(dut)
    first, second = bench.frame(), bench.frame()
    bench.core.hold = True
    await bench.line.send(uart.request(first, 1) + uart.request(second, 2))
    size = parameter("BYTES").to_bytes(2, "little")
    assert await answers(bench) == [uart.Answer(uart.BUSY, 2, size)]
    bench.core.hold = False
    assert await answers(bench) == [uart.Answer(uart.OK, 1, answer_of(first))]
    assert bench.core.seen == [first]
    await good(bench, 2)


@cocotb.test()
async def the_core_is_slow(dut):  # noqa: ANN001, ANN201
    """Bytes that it does not take in time cost the frame, and are not mixed with the next one."""
    bench = await start(dut)
    frame = bench.frame()
    bench.core.stall = 1.0
    await bench.line.send(uart.request(frame, 1))
    found = await answers(bench)
    if parameter("BYTES") > 1:
        assert [(one.status, one.tag) for one in found] == [(uart.BUSY, 1)]
        assert bench.core.seen == []
    else:
        assert found == []  # it waits for as long as the core likes
    bench.core.stall = 0.0
    await answers(bench)
    bench.core.seen.clear()
    await good(bench, 2)


@cocotb.test()
async def garbage(dut):  # noqa: ANN001, ANN201
    """Whatever comes before: the next frames are answered, and the core has seen no other."""
    bench = await start(dut)
    rng, line = bench.rng, bench.line
    frame = bench.frame()
    whole = uart.request(frame, 7)
    wrong = bytes([whole[-1] ^ 0x10])
    for case in range(40):
        kind = case % 8
        if kind == 0:  # noise
            await line.send(rng.randbytes(rng.randrange(1, 40)))
        elif kind == 1:  # noise of start bytes
            await line.send(rng.choices((0xA5, 0x5A), k=rng.randrange(1, 30)))
        elif kind == 2:  # a wrong code
            at = rng.randrange(5, len(whole) - 1)
            await line.send(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)])
                            + whole[at + 1 :])
        elif kind == 3:  # the code's last byte
            await line.send(whole[:-1] + wrong)
        elif kind == 4:  # only the beginning
            await line.send(whole[: rng.randrange(1, len(whole))])
        elif kind == 5:  # another length
            count = rng.choice([n for n in (0, 1, 3, 300) if n != len(frame)])
            await line.send(uart.request(rng.randbytes(count), 9))
        elif kind == 6:  # the line is pulled out in mid-frame
            await line.send(whole[: rng.randrange(len(whole))])
            dut.rx.value = 0
            await line.wait(rng.randrange(5, 60))
            dut.rx.value = 1
        else:  # another rate
            line.bit_ns *= 0.7
            await line.send(whole)
            line.bit_ns /= 0.7
            dut.rx.value = 1
        seen = list(bench.core.seen)
        await line.wait(rng.choice((0.1, 1, 3 * BITS)))
        await good(bench)
        assert bench.core.seen[: len(seen)] == seen
        line.got.clear()


@cocotb.test()
async def a_byte_is_lost(dut):  # noqa: ANN001, ANN201
    """The frame after one that lacks a byte is found although its start was taken for the rest."""
    bench = await start(dut)
    frame, then = bench.frame(), bench.frame()
    whole = uart.request(frame, 1)
    await bench.line.send(whole[:6] + whole[7:] + uart.request(then, 2))
    found = await answers(bench)
    assert found[-1] == uart.Answer(uart.OK, 2, answer_of(then)), found
    assert bench.core.seen == [then]


@cocotb.test()
async def silence(dut):  # noqa: ANN001, ANN201
    """A request that stops is given up and said so; TIMEOUT later a new one is taken."""
    bench = await start(dut)
    await bench.line.send(uart.request(bench.frame(), 3)[:-1])
    (found,) = await answers(bench)
    assert (found.status, found.tag) == (uart.SILENCE, 3)
    assert bench.core.seen == []
    await good(bench)


@cocotb.test()
async def reset(dut):  # noqa: ANN001, ANN201
    """In the middle of a request, of a frame to the core, and of an answer."""
    bench = await start(dut)
    whole = uart.request(bench.frame(), 5)
    bits = BITS * len(whole)
    for after in (bits / 2, bits + 1, bits + 3 * BITS):
        sender = cocotb.start_soon(bench.line.send(whole))
        await bench.line.wait(after)
        dut.rst.value = 1
        for _ in range(3):
            await FallingEdge(dut.clk)
        assert int(dut.tx.value) == 1
        dut.rst.value = 0
        await sender
        await bench.line.wait(30 * BITS)
        bench.line.got.clear()
        bench.line.broken = 0
        await good(bench, 2)


@pytest.mark.parametrize(("size", "answer", "cycles"), [
    (16, 1, 8), (1, 3, 13), pytest.param(37, 11, 6, marks=pytest.mark.slow),
])
def test_uart_shell(size: int, answer: int, cycles: int, tmp_path: Path) -> None:
    build_and_test(
        "uart_shell", SOURCES, Path(__file__),
        {"BYTES": size, "ANSWER": answer, "CYCLES": cycles, "TIMEOUT": 30 * BITS * cycles},
        run_dir=tmp_path,
    )


@pytest.mark.parametrize("top", ["crc", "rx", "tx", "request", "answer", "shell"])
def test_lint(top: str) -> None:
    lint(f"uart_{top}", SOURCES)
