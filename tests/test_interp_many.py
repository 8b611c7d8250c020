# SPDX-License-Identifier: Apache-2.0
"""Many frames at once give what one frame after the other gives."""

import numpy as np
import pytest

from hwflow import interp
from hwflow.errors import GraphError
from hwflow.ir import Graph, GraphBuilder, IntType
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.tables import TablesAttrs
from tests.graphs import random_small_graph
from tests.table_models import random_table_graph


def compare(graph: Graph, frames: dict[str, np.ndarray]) -> None:
    many = interp.run_many(graph, frames, keep=True, at_once=5)
    assert set(many) == set(graph.tensors)
    for number in range(len(next(iter(frames.values())))):
        one = interp.run(graph, {k: a[number] for k, a in frames.items()}, keep=True)
        for name, wanted in one.items():
            assert np.array_equal(many[name][number], wanted), name
    outputs = interp.run_many(graph, frames)
    assert set(outputs) == set(graph.outputs)
    for name, array in outputs.items():
        assert np.array_equal(array, many[name])


def random_frames(graph: Graph, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    tensors = [graph.tensors[name] for name in graph.inputs]
    return {t.name: rng.integers(t.dtype.lo, t.dtype.hi + 1, (count, *t.shape)) for t in tensors}


@pytest.mark.parametrize("seed", range(6))
def test_tables(seed: int) -> None:
    graph = random_table_graph(seed)
    compare(graph, random_frames(graph, 13))


@pytest.mark.parametrize("seed", range(3))
def test_other_networks(seed: int) -> None:
    graph = random_small_graph(seed)
    compare(graph, random_frames(graph, 3))


def test_maps_of_tables_and_wide_argmax() -> None:
    """More channels than a code can count: the index must not be squeezed into the code's type."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("maps")
    x = b.input("x", (3, 4, 5), IntType(2, True))
    consts = {
        "wires": rng.integers(0, 6, (400, 3)).astype(np.int32),
        "values": rng.integers(-2, 2, (400, 8)).astype(np.int16),
    }
    y = b.add("y", "tables", [x], TablesAttrs(2, IntType(2, True)), consts)
    best = b.add("best", "argmax", [y], ArgmaxAttrs(last=True))
    graph = b.build([best])
    compare(graph, random_frames(graph, 7))
    assert interp.run_many(graph, random_frames(graph, 7))["best"].max() > 255


def test_bad_frames_are_refused() -> None:
    graph = random_table_graph(0)
    with pytest.raises(GraphError, match="no frames"):
        interp.run_many(graph, {"x": np.zeros((0, 4, 1, 1), np.int64)})
    with pytest.raises(GraphError, match="is missing"):
        interp.run_many(graph, {"y": np.zeros((2, 4, 1, 1), np.int64)})
    with pytest.raises(GraphError, match="outside u2"):
        interp.run_many(graph, {"x": np.full((2, 4, 1, 1), 4)})
