# SPDX-License-Identifier: Apache-2.0
"""A thousand random programs through the whole accelerator: every word equals the integer graph.

Shapes, channel counts (1 and primes among them), strides, dilations 0 to 7, borders and stalls are
drawn; every second program is compiled for hardly any memory, so that it is cut into bands and
chunks and its maps pass through DDR.
"""

from pathlib import Path

import numpy as np
import pytest

from hwflow import interp
from hwflow.emit import engine
from hwflow.errors import ResourceError
from hwflow.ir import Graph
from hwflow.sim.engine import simulate
from tests.engine_graphs import KINDS, small_network
from tests.graphs import random_image

PROGRAMS = 1008  # in all
SEEDS = range(1000, 1000 + PROGRAMS // len(KINDS))
PARTS = 8  # tests a kind, so that several processes can share them


def compiled(graph: Graph, small: bool) -> engine.Program:
    """The program; with `small` for the first of growing memories that it fits."""
    if small:
        for act_words in range(128, 4096, 128):
            try:
                return engine.compile_graph(graph, engine.EngineParams(act_words=act_words))
            except ResourceError:
                continue
    return engine.compile_graph(graph)


def check(kind: str, seed: int, folder: Path) -> None:
    """Runs one program on one image; raises VerifyError naming what differs first."""
    graph = small_network(kind, seed)
    program = compiled(graph, small=seed % 2 == 1)
    image = random_image(graph.tensors["image"].shape, seed).astype(np.uint8)
    size = int(np.prod(graph.tensors["last"].shape))
    result = simulate(
        program.stream, [image], folder, layout=program.layout(),
        stall_percent=(0, 0, 20, 60)[seed % 4], output_bytes=size,
    )  # fmt: skip
    frame = result.frames[0]
    expected = interp.run(graph, {"image": image}, keep=True)
    engine.check_trace(program, graph, frame.tags, frame.addrs, frame.data, expected)
    stored = frame.output.view(np.int8).reshape(graph.tensors["last"].shape)
    assert np.array_equal(stored, expected["last"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", KINDS)
def test_random_programs(kind: str, part: int, tmp_path: Path) -> None:
    for seed in SEEDS[part::PARTS]:
        check(kind, seed, tmp_path / str(seed % 2))


@pytest.mark.parametrize("kind", KINDS)
def test_one_in_hardly_any_memory(kind: str, tmp_path: Path) -> None:
    check(kind, 7, tmp_path)
