# SPDX-License-Identifier: Apache-2.0
"""Small networks through the whole accelerator: every word written equals the integer graph."""

from pathlib import Path

import numpy as np
import pytest

from hwflow import interp
from hwflow.emit import engine, isa
from hwflow.sim.engine import simulate
from tests.engine_graphs import KINDS, small_network
from tests.graphs import random_image

SEED = 20


@pytest.mark.parametrize("stall_percent", [0, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_network(kind: str, stall_percent: int, tmp_path: Path) -> None:
    """Two frames back to back; with stalls every bus channel waits at random."""
    graph = small_network(kind, SEED + stall_percent)
    program = engine.compile_graph(graph)
    shape = graph.tensors["image"].shape
    images = [random_image(shape, seed).astype(np.uint8) for seed in (1, 2)]
    size = int(np.prod(graph.tensors["last"].shape))
    result = simulate(
        program.stream, images, tmp_path, layout=program.layout(),
        stall_percent=stall_percent, output_bytes=size,
    )  # fmt: skip
    for image, frame in zip(images, result.frames, strict=True):
        expected = interp.run(graph, {"image": image}, keep=True)
        engine.check_trace(program, graph, frame.tags, frame.addrs, frame.data, expected)
        stored = frame.output.view(np.int8).reshape(graph.tensors["last"].shape)
        assert np.array_equal(stored, expected["last"])
        # the traffic that reports give each layer adds up to what the engine counted
        assert sum(s.ddr_bytes for s in program.steps) == frame.rd_bytes + frame.wr_bytes


def test_cycles_follow_the_model(tmp_path: Path) -> None:
    """docs/engine.md "Cycles" within 5 %, and what the stream takes to arrive (7 bytes a cycle)."""
    for kind in ("plain", "stride", "long", "wide"):
        graph = small_network(kind, SEED)
        program = engine.compile_graph(graph)
        image = random_image(graph.tensors["image"].shape, 3).astype(np.uint8)
        frame = simulate(
            program.stream, [image], tmp_path / kind, layout=program.layout()
        ).frames[0]
        for step in program.steps:
            if step.model_cycles:
                cycles = frame.cycles_per_tag[step.tag]
                arrival = isa.WORD_BITS // 8 * step.stream_words // 7 + 100
                assert step.ideal_cycles <= cycles <= step.model_cycles * 1.05 + arrival
