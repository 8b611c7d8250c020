# SPDX-License-Identifier: Apache-2.0
"""tables_axis around a small random core: full speed, gaps, back-pressure, reset, wrong lengths."""

from pathlib import Path

import cocotb
import numpy as np
import pytest
from class_stream import start

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


@cocotb.test()
async def full_speed(dut):  # noqa: ANN001, ANN201
    """A beat a cycle, whatever the beat is wide."""
    stream = await start(dut)
    frames, classes = wanted(100, 1)
    beats = -(-len(frames[0]) // stream.lanes)
    await stream.send(frames)
    first = await stream.receive(1)
    begin = cocotb.utils.get_sim_time("ns")
    assert first + await stream.receive(99) == classes
    assert cocotb.utils.get_sim_time("ns") - begin == 99 * beats * 10


@cocotb.test()
async def random_stalls(dut):  # noqa: ANN001, ANN201
    """Gaps before beats, back-pressure, and both."""
    stream = await start(dut)
    for seed, (gaps, stops) in enumerate([(50, 0), (0, 50), (0, 97), (30, 90)]):
        await stream.stalled(*wanted(60, 10 + seed), seed, gaps, stops)


@cocotb.test()
async def wrong_lengths(dut):  # noqa: ANN001, ANN201
    """Frames that are too short or too long vanish; each raises the flag once."""
    stream = await start(dut)
    await stream.wrong_lengths(*wanted(40, 5), rest=60)


@cocotb.test()
async def reset_in_a_frame(dut):  # noqa: ANN001, ANN201
    """What was under way is gone, the next frame is right."""
    stream = await start(dut)
    await stream.resets(*wanted(12, 7), step=5)


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
