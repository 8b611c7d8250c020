# SPDX-License-Identifier: Apache-2.0
"""tables_stream, as tables_axis instantiates it, around a small random convolutional core: full
speed, gaps, back-pressure, reset, wrong lengths."""

import os
from pathlib import Path

import cocotb
import pytest
from class_stream import all_differ, emitted, scenarios, start
from cocotb.triggers import FallingEdge

from hwflow.emit.tables import emit
from hwflow.emit.tables.stream import MODULES
from hwflow.emit.tables.write import TARGETS
from hwflow.ir import Graph, IntType
from hwflow.sim.runner import build_and_test, lint
from hwflow.sim.tables import reference
from tests.table_convs import Conv, Pool, blobs, conv_network
from tests.table_graphs import Layer

AROUND = (*MODULES, "tables/tables_stream.sv")
CHANNELS, EARLY = "HWFLOW_TEST_CHANNELS", "HWFLOW_TEST_EARLY"


def graph(channels: int, early: bool = False) -> Graph:
    """6 x 7 positions, a window that hangs out of the map on all sides, a pool, four classes.

    early: 12 x 7 positions, of which no window takes the last four rows, so that the class of a
    frame is there before its last bytes.
    """
    stages: list[Conv | Pool] = [Conv(6, 4, (3, 3), pads=(1, 1, 1, 1)), Pool()]
    if early:
        stages = [Conv(8, 4, (3, 3), (5, 1), pads=(0, 1, 0, 1))]
    return conv_network(
        stages, shape=(channels, 12 if early else 6, 7), seed=3,
        thresholds=(70, 128, 180), dense=(Layer(16, 5, IntType(2, False)),), groups=4,
    )


def wanted(count: int, seed: int) -> tuple[list[bytes], list[int]]:
    """Frames, channel by channel, and their classes from the integer graph."""
    chosen = graph(int(os.environ.get(CHANNELS, "1")), bool(os.environ.get(EARLY)))
    pictures = blobs(count, chosen, seed)
    classes, _ = reference(chosen, pictures)
    assert len(set(classes.tolist())) > 2
    return [f.tobytes() for f in pictures], classes.tolist()


@cocotb.test()
async def full_speed(dut):  # noqa: ANN001, ANN201
    """A byte a cycle, images without a gap."""
    stream = await start(dut)
    frames, classes = wanted(60, 1)
    await stream.send(frames)
    first = await stream.receive(1)
    begin = cocotb.utils.get_sim_time("ns")
    assert first + await stream.receive(58) == classes[:59]
    assert cocotb.utils.get_sim_time("ns") - begin == 58 * len(frames[0]) * 10
    assert await stream.receive(1) == classes[59:]  # sooner: nothing follows it


random_stalls, wrong_lengths, reset_in_a_frame = scenarios(
    wanted, 40, (0, 50, 99, 98), rest=200, step=7
)


@cocotb.test()
async def alone(dut):  # noqa: ANN001, ANN201
    """Each class comes though nothing follows the frame."""
    stream = await start(dut)
    frames, classes = (part[:20] for part in wanted(40, 5))
    for i, (frame, answer) in enumerate(zip(frames, classes, strict=True)):
        await stream.send([frame])
        assert await stream.receive(1) == [answer]
        for _ in range(3 * i):
            await FallingEdge(dut.clk)
        assert stream.sink.empty()


@pytest.mark.parametrize(
    ("lanes", "channels", "early"), [(1, 1, False), (4, 1, False), (5, 3, False), (4, 1, True)]
)
def test_tables_stream(
    lanes: int, channels: int, early: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHANNELS, str(channels))
    monkeypatch.setenv(EARLY, "1" if early else "")
    build_and_test(
        "tables_axis", emitted(tmp_path, graph(channels, early), "xilinx", *AROUND), Path(__file__),
        {"BYTES": lanes}, run_dir=tmp_path / "run",
    )


def test_a_class_before_its_frame_ends() -> None:
    """The network of the bench above is one: nothing else pairs classes with late marks."""
    assert emit(graph(1, True)).latency < 0 < emit(graph(1)).latency


def test_expectations_differ_between_frames() -> None:
    assert all_differ(wanted)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_lint(target: str, tmp_path: Path) -> None:
    """-Wall on wrapper, emitted text, its modules and the models of the cells."""
    for channels in (1, 2):
        folder = tmp_path / str(channels)
        folder.mkdir()
        lint("tables_axis", emitted(folder, graph(channels), target, *AROUND), {"BYTES": 4})


@pytest.mark.parametrize(
    "params",
    [{}, {"KH": 1, "KW": 1}, {"MAP_W": 1, "KW": 1, "MAP_H": 9}, {"TOP": 1, "RIGHT": 2, "BITS": 3}],
)
def test_lint_of_windows(params: dict[str, int]) -> None:
    """-Wall on the modules alone, at the edges of their parameters."""
    lint("line_window", [Path("tables/line_window.sv")], params)
