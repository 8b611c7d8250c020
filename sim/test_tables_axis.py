# SPDX-License-Identifier: Apache-2.0
"""tables_axis around a small random core: full speed, gaps, back-pressure, reset, wrong lengths."""

from pathlib import Path

import cocotb
import pytest
from class_stream import all_differ, emitted, scenarios, start

from hwflow.emit.tables.write import TARGETS
from hwflow.ir import Graph
from hwflow.sim.runner import build_and_test, lint
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


random_stalls, wrong_lengths, reset_in_a_frame = scenarios(
    wanted, 60, (0, 50, 97, 90), rest=60, step=5
)


@pytest.mark.parametrize("lanes", [1, 4, 5, 28])
def test_tables_axis(lanes: int, tmp_path: Path) -> None:
    build_and_test(
        "tables_axis", emitted(tmp_path, graph(), "xilinx"), Path(__file__), {"BYTES": lanes},
        run_dir=tmp_path / "run",
    )


def test_expectations_differ_between_frames() -> None:
    assert all_differ(wanted)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_lint(target: str, tmp_path: Path) -> None:
    """-Wall on wrapper, emitted text and the models of the cells."""
    lint("tables_axis", emitted(tmp_path, graph(), target), {"BYTES": 4})
