# SPDX-License-Identifier: Apache-2.0
"""tables_axis around a small random core: full speed, gaps, back-pressure, reset, wrong lengths."""

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import cocotb
import numpy as np
import pytest
from bench import power_up
from cocotb.triggers import FallingEdge, with_timeout
from cocotbext.axi import AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from hwflow.emit.tables import Options, emit
from hwflow.emit.tables.write import TARGETS
from hwflow.ir import Graph
from hwflow.sim.runner import build_and_test, lint, sim_dir
from hwflow.sim.tables import reference
from tests.table_graphs import Layer, images, network

PIXELS = (4, 7)


def graph() -> Graph:
    """28 pixels, two layers, four classes."""
    return network([Layer(40, 6), Layer(24, 4)], shape=PIXELS, groups=4)


def wanted(count: int, seed: int) -> tuple[list[bytes], list[int]]:
    """Frames and their classes, from the integer graph."""
    pictures = images(count, graph(), seed)
    classes, _ = reference(graph(), pictures)
    assert len(set(classes.tolist())) > 2
    return [p.tobytes() for p in pictures], classes.tolist()


def rate(rng: random.Random, percent: int) -> Iterator[bool]:
    """True in so many of 100 cycles: a pause generator."""
    return (rng.randrange(100) < percent for _ in itertools.count())


async def start(dut):  # noqa: ANN001, ANN201
    """Reset, and the ends of both streams."""
    lanes = int(os.environ["PARAM_BYTES"])
    bus = AxiStreamBus.from_prefix(dut, "s_axis")
    source = AxiStreamSource(bus, dut.clk, dut.rst, byte_lanes=lanes)
    sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst)
    source.log.setLevel("WARNING")
    sink.log.setLevel("WARNING")
    await power_up(dut, ["rst"])
    return source, sink


async def send(source, frames) -> None:  # noqa: ANN001
    """Queue frames, the last beat filled up with rubbish."""
    lanes = int(os.environ["PARAM_BYTES"])
    for frame in frames:
        fill = bytes(-len(frame) % lanes)
        await source.send(AxiStreamFrame(frame + bytes(0xA5 for _ in fill)))


async def receive(sink, count: int) -> list[int]:  # noqa: ANN001
    """The next classes."""
    found = []
    for _ in range(count):
        frame = await with_timeout(sink.recv(), 200_000, "ns")
        assert len(frame.tdata) == 1
        found.append(frame.tdata[0])
    return found


@cocotb.test()
async def full_speed(dut):  # noqa: ANN001, ANN201
    """A beat a cycle, whatever the beat is wide."""
    source, sink = await start(dut)
    frames, classes = wanted(100, 1)
    beats = -(-len(frames[0]) // int(os.environ["PARAM_BYTES"]))
    await send(source, frames)
    first = await receive(sink, 1)
    begin = cocotb.utils.get_sim_time("ns")
    assert first + await receive(sink, 99) == classes
    assert cocotb.utils.get_sim_time("ns") - begin == 99 * beats * 10


@cocotb.test()
async def random_stalls(dut):  # noqa: ANN001, ANN201
    """Gaps before beats, back-pressure, and both."""
    source, sink = await start(dut)
    for seed, (gaps, stops) in enumerate([(50, 0), (0, 50), (0, 97), (30, 90)]):
        rng = random.Random(seed)
        source.set_pause_generator(rate(rng, gaps))
        sink.set_pause_generator(rate(rng, stops))
        frames, classes = wanted(60, 10 + seed)
        await send(source, frames)
        assert await receive(sink, 60) == classes, f"gaps {gaps}, stops {stops}"
        source.clear_pause_generator()
        sink.clear_pause_generator()


@cocotb.test()
async def wrong_lengths(dut):  # noqa: ANN001, ANN201
    """Frames that are too short or too long vanish; each raises the flag once."""
    source, sink = await start(dut)
    lanes = int(os.environ["PARAM_BYTES"])
    frames, classes = wanted(40, 5)
    errors = 0

    async def watch() -> None:
        nonlocal errors
        while True:
            await FallingEdge(dut.clk)
            errors += int(dut.frame_error.value)

    watcher = cocotb.start_soon(watch())
    size = len(frames[0])
    sent, wrong = [], 0
    for i, frame in enumerate(frames):
        bad = [frame[: size - lanes], frame + bytes(lanes), frame[:lanes], frame * 3]
        picked = bad[i % 4]
        beats = -(-len(picked) // lanes)
        if picked and beats != -(-size // lanes):
            sent.append(picked)
            wrong += 1
        sent.append(frame)
    assert wrong >= 20
    await send(source, sent)
    assert await receive(sink, 40) == classes
    for _ in range(60):
        await FallingEdge(dut.clk)
    assert sink.empty()
    assert errors == wrong
    watcher.cancel()


@cocotb.test()
async def reset_in_a_frame(dut):  # noqa: ANN001, ANN201
    """What was under way is gone, the next frame is right."""
    frames, classes = wanted(12, 7)
    source, sink = await start(dut)
    for i, (frame, answer) in enumerate(zip(frames, classes, strict=True)):
        await send(source, [frame, frames[0]])
        for _ in range(3 + 5 * i):
            await FallingEdge(dut.clk)
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
        source.clear()
        sink.clear()
        dut.rst.value = 0
        await FallingEdge(dut.clk)
        await send(source, [frame])
        assert await receive(sink, 1) == [answer], f"reset {i}"
        assert sink.empty()


@pytest.mark.parametrize("lanes", [1, 4, 5, 28])
def test_tables_axis(lanes: int, tmp_path: Path) -> None:
    build_and_test(
        "tables_axis", _sources(tmp_path, "xilinx"), Path(__file__), {"BYTES": lanes},
        run_dir=tmp_path / "run",
    )


def test_expectations_differ_between_frames() -> None:
    """A bench that answers one constant cannot pass."""
    assert len({np.frombuffer(f, np.uint8).tobytes() for f in wanted(40, 5)[0]}) == 40


def _sources(folder: Path, target: str) -> list[Path]:
    """The emitted core and what is around it."""
    design = emit(graph(), Options(target=target))
    for name, text in design.files.items():
        (folder / name).write_text(text)
    package = folder / "tables_pkg.sv"
    models = sim_dir() / "models" / f"cells_{target}.sv"
    return [
        package, *sorted(p for p in folder.glob("*.sv") if p != package),
        *([models] if models.is_file() else []),
        Path("lib/fifo.sv"), Path("tables/tables_axis.sv"),
    ]  # fmt: skip


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_lint(target: str, tmp_path: Path) -> None:
    """-Wall on wrapper, emitted text and the models of the cells."""
    lint("tables_axis", _sources(tmp_path, target), {"BYTES": 4})
