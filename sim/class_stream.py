# SPDX-License-Identifier: Apache-2.0
"""Both ends of `tables_axis` in cocotb: frames of bytes in, classes out; and the tests that both
forms of the core within pass."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cocotb
from bench import power_up
from cocotb.triggers import FallingEdge, with_timeout
from cocotbext.axi import AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from hwflow.emit.tables import Options, emit
from hwflow.ir import Graph
from hwflow.sim.runner import sim_dir


class ClassStream:
    """A device under test with the ends of its streams; lanes: bytes of a beat."""

    def __init__(self, dut) -> None:  # noqa: ANN001
        self.dut, self.lanes = dut, len(dut.s_axis_tdata) // 8
        bus = AxiStreamBus.from_prefix(dut, "s_axis")
        self.source = AxiStreamSource(bus, dut.clk, dut.rst, byte_lanes=self.lanes)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst)
        self.source.log.setLevel("WARNING")
        self.sink.log.setLevel("WARNING")

    async def send(self, frames: Sequence[bytes]) -> None:
        """Queue frames, the last beat filled up with rubbish."""
        for frame in frames:
            fill = bytes([0xA5]) * (-len(frame) % self.lanes)
            await self.source.send(AxiStreamFrame(frame + fill))

    async def receive(self, count: int) -> list[int]:
        """The next classes."""
        found = []
        for _ in range(count):
            frame = await with_timeout(self.sink.recv(), 200_000, "ns")
            assert len(frame.tdata) == 1
            found.append(frame.tdata[0])
        return found

    async def stalled(
        self, frames: Sequence[bytes], classes: list[int], seed: int, gaps: int, stops: int
    ) -> None:
        """Gaps before beats and back-pressure in so many of 100 cycles."""
        rng = random.Random(seed)
        self.source.set_pause_generator(_rate(rng, gaps))
        self.sink.set_pause_generator(_rate(rng, stops))
        await self.send(frames)
        assert await self.receive(len(classes)) == classes, f"gaps {gaps}, stops {stops}"
        self.source.clear_pause_generator()
        self.sink.clear_pause_generator()

    async def wrong_lengths(self, frames: Sequence[bytes], classes: list[int], rest: int) -> None:
        """Among good frames such that are too short or too long: they vanish, each with a flag.

        rest: cycles after the last class in which nothing may come.
        """
        errors, lanes, size = 0, self.lanes, len(frames[0])

        async def watch() -> None:
            nonlocal errors
            while True:
                await FallingEdge(self.dut.clk)
                errors += int(self.dut.frame_error.value)

        watcher = cocotb.start_soon(watch())
        sent, wrong = [], 0
        for i, frame in enumerate(frames):
            bad = [frame[: size - lanes], frame + bytes(lanes), frame[:lanes], frame * 3][i % 4]
            if bad and -(-len(bad) // lanes) != -(-size // lanes):
                sent.append(bad)
                wrong += 1
            sent.append(frame)
        assert wrong >= len(frames) // 2
        await self.send(sent)
        assert await self.receive(len(classes)) == classes
        for _ in range(rest):
            await FallingEdge(self.dut.clk)
        assert self.sink.empty()
        assert errors == wrong
        watcher.cancel()

    async def resets(self, frames: Sequence[bytes], classes: list[int], step: int) -> None:
        """Reset in frame i after 3 + step * i cycles; the next frame is right."""
        for i, (frame, answer) in enumerate(zip(frames, classes, strict=True)):
            await self.send([frame, frames[0]])
            for _ in range(3 + step * i):
                await FallingEdge(self.dut.clk)
            self.dut.rst.value = 1
            await FallingEdge(self.dut.clk)
            await FallingEdge(self.dut.clk)
            self.source.clear()
            self.sink.clear()
            self.dut.rst.value = 0
            await FallingEdge(self.dut.clk)
            await self.send([frame])
            assert await self.receive(1) == [answer], f"reset {i}"
            assert self.sink.empty()


async def start(dut) -> ClassStream:  # noqa: ANN001
    """Reset, and the ends of both streams."""
    stream = ClassStream(dut)
    await power_up(dut, ["rst"])
    return stream


Wanted = Callable[[int, int], tuple[list[bytes], list[int]]]


def scenarios(
    wanted: Wanted, frames: int, stops: Sequence[int], rest: int, step: int
) -> tuple[object, object, object]:
    """The tests that every form of the core passes: stalls, frames of wrong lengths, resets.

    wanted: so many frames and their classes, from a seed. frames: that are stalled. stops: of 100
    cycles without a class taken, beside gaps in the input of 50, 0, 0 and 30.
    """

    @cocotb.test()
    async def random_stalls(dut):  # noqa: ANN001, ANN202
        """Gaps before beats, back-pressure, and both."""
        stream = await start(dut)
        for seed, (gaps, stop) in enumerate(zip((50, 0, 0, 30), stops, strict=True)):
            await stream.stalled(*wanted(frames, 10 + seed), seed, gaps, stop)

    @cocotb.test()
    async def wrong_lengths(dut):  # noqa: ANN001, ANN202
        """Frames that are too short or too long vanish; each raises the flag once."""
        stream = await start(dut)
        await stream.wrong_lengths(*wanted(40, 5), rest=rest)

    @cocotb.test()
    async def reset_in_a_frame(dut):  # noqa: ANN001, ANN202
        """What was under way is gone, the next frame is right."""
        stream = await start(dut)
        await stream.resets(*wanted(12, 7), step=step)

    return random_stalls, wrong_lengths, reset_in_a_frame


def emitted(folder: Path, graph: Graph, target: str, *around: str) -> list[Path]:
    """Sources of a core for a chip, written to a folder, and of `tables_axis` around it."""
    for name, text in emit(graph, Options(target=target)).files.items():
        (folder / name).write_text(text)
    package = folder / "tables_pkg.sv"
    models = sim_dir() / "models" / f"cells_{target}.sv"
    return [
        package, *sorted(p for p in folder.glob("*.sv") if p != package),
        *([models] if models.is_file() else []),
        *map(Path, ("lib/fifo.sv", *around, "tables/tables_axis.sv")),
    ]  # fmt: skip


def all_differ(wanted: Wanted) -> bool:
    """Whether no frame comes twice: a bench that answers one constant cannot pass."""
    return len(set(wanted(40, 5)[0])) == 40


def _rate(rng: random.Random, percent: int) -> Iterator[bool]:
    """True in so many of 100 cycles: a pause generator."""
    return (rng.randrange(100) < percent for _ in itertools.count())
