# SPDX-License-Identifier: Apache-2.0
"""Small networks through the whole accelerator: every word written equals the integer graph."""

from pathlib import Path

import numpy as np
import pytest

from hwflow import interp
from hwflow.emit import engine, isa
from hwflow.passes.engine_form import engine_form
from hwflow.sim.engine import simulate
from tests.engine_graphs import KINDS, random_mlp, small_network
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


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_dense_network(seed: int, tmp_path: Path) -> None:
    """16 images in one frame, then three: every word written, and the outputs of every image."""
    graph = random_mlp(seed)
    form = engine_form(graph)
    program = engine.compile_graph(form.graph)
    kind, shape = graph.tensors["image"].dtype, graph.tensors["image"].shape
    images = np.random.default_rng(seed).integers(kind.lo, kind.hi, (19, *shape), endpoint=True)
    frames = form.frames(images)
    stored = [form.graph.tensors[name] for name in form.graph.outputs]
    result = simulate(
        program.stream, list(frames.astype(np.uint8)), tmp_path, layout=program.layout(),
        stall_percent=10 * seed, output_bytes=sum(int(np.prod(t.shape)) for t in stored),
    )  # fmt: skip
    for number, frame in enumerate(result.frames):
        expected = interp.run(form.graph, {"image": frames[number]}, keep=True)
        engine.check_trace(program, form.graph, frame.tags, frame.addrs, frame.data, expected)
        outputs, at = {}, 0
        for tensor in stored:
            size = int(np.prod(tensor.shape))
            kind = np.int8 if tensor.dtype.signed else np.uint8
            outputs[tensor.name] = frame.output[at : at + size].view(kind).reshape(tensor.shape)
            at += size
        some = images[16 * number : 16 * number + 16]
        for image, found in zip(some, form.unpack(outputs, len(some)), strict=True):
            for name, array in interp.run(graph, {"image": image}).items():
                assert np.array_equal(found[name], array), (number, name)


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
                # the image comes while both rings are filled for the first time
                waiting = program.steps if step.opcode == "LOAD" else [step]
                words = sum(s.stream_words for s in waiting)
                arrival = isa.WORD_BITS // 8 * words // 7 + 100
                assert step.ideal_cycles <= cycles <= step.model_cycles * 1.05 + arrival
