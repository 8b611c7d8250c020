# SPDX-License-Identifier: Apache-2.0
"""Passes over tables: the same outputs on every input, and less to do it with."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from hwflow import ingest, interp, passes, verify
from hwflow.errors import GraphError
from hwflow.export_tables import export_qonnx
from hwflow.ir import Graph, GraphBuilder, IntType
from hwflow.models.tables import Code
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.slice import SliceAttrs
from hwflow.ops.tables import TablesAttrs
from hwflow.ops.threshold import ThresholdAttrs
from hwflow.passes.table_forms import (
    SIMPLIFY,
    fill_unreachable,
    simplify_tables,
    support,
)
from hwflow.passes.table_reach import reachable
from hwflow.passes.table_unseen import fill_unseen
from hwflow.passes.tables import recognise_thresholds
from tests.table_models import make_network, random_table_graph, random_tables

BIT, U8 = IntType(1, False), IntType(8, False)


def every_input(graph: Graph) -> np.ndarray:
    """All frames (256, 4, 1, 1) of a graph of four inputs of two bits."""
    tensor = graph.tensors["x"]
    codes = range(tensor.dtype.lo, tensor.dtype.hi + 1)
    return np.array(list(product(codes, repeat=tensor.shape[0])))[:, :, None, None]


@pytest.mark.parametrize("step", [*SIMPLIFY, simplify_tables, recognise_thresholds])
@pytest.mark.parametrize("seed", range(12))
def test_outputs_stay_the_same_on_every_input(step: Callable[[Graph], Graph], seed: int) -> None:
    graph = random_table_graph(seed, kind=("u2", "i2")[seed % 2])
    frames = every_input(graph)
    before = interp.run_many(graph, {"x": frames})
    after = interp.run_many(step(graph), {"x": frames})
    assert set(before) == set(after)
    for name, array in before.items():
        assert np.array_equal(after[name], array)


@pytest.mark.parametrize("seed", range(12))
def test_addresses_that_occur_are_reachable(seed: int) -> None:
    """All inputs are run; the addresses they form, as text of bits, are among the reachable."""
    graph = random_table_graph(seed)
    frames = every_input(graph)
    values = interp.run_many(graph, {"x": frames}, keep=True)
    for name, care in reachable(graph).items():
        node = graph.node(name)
        codes, bits = values[node.inputs[0]][:, :, 0, 0], node.attrs.code_bits
        for frame in codes[::7]:
            flat = "".join(np.binary_repr(int(v), bits)[::-1] for v in frame)
            for n, row in enumerate(graph.const(node, "wires")):
                assert care[n, int("".join(flat[w] for w in row)[::-1], 2)]


def tables(
    b: GraphBuilder, name: str, x: object, wires: list[list[int]], texts: list[str]
) -> object:
    """Tables of one bit from their contents as text, address 0 first."""
    bits = [[int(c) for c in text] for text in texts]
    consts = {"wires": np.array(wires, np.int32), "values": np.array(bits, np.int16)}
    return b.add(name, "tables", [x], TablesAttrs(1, BIT), consts)


def test_thermometer_bits_never_contradict() -> None:
    """pixel >= 100 and not pixel >= 50 does not occur."""
    b = GraphBuilder("thermometer")
    x = b.input("x", (2, 1, 1), U8)
    parts = [
        b.add(f"t{t}", "threshold", [x], ThresholdAttrs(0, BIT),
              {"thresholds": np.full((2, 1), t)})
        for t in (50, 100)
    ]  # fmt: skip
    joined = b.add("joined", "concat", parts, ConcatAttrs())
    y = tables(b, "y", joined, [[0, 2], [0, 1]], ["0101", "0101"])
    graph = b.build([y])
    assert reachable(graph)["y"].tolist() == [[True, True, False, True], [True] * 4]


def test_children_that_share_an_input() -> None:
    """a = x0 and x1, b = x0 or x1: a without b does not occur, two layers up neither."""
    b = GraphBuilder("shared")
    x = b.input("x", (2, 1, 1), BIT)
    y = tables(b, "y", x, [[0, 1], [0, 1]], ["0001", "0111"])
    z = tables(b, "z", y, [[0, 1], [1, 0]], ["0110", "0110"])
    graph = b.build([z])
    assert reachable(graph)["z"].tolist() == [[True, False, True, True], [True, True, False, True]]
    found = fill_unreachable(graph)
    assert interp.run(found, {"x": np.array([1, 0])[:, None, None]})["z"].ravel().tolist() == [1, 1]


def test_codes_that_a_child_never_gives() -> None:
    """A child with codes 0 and 3 alone: its two bits are one, and the reader needs one wire."""
    b = GraphBuilder("codes")
    x = b.input("x", (3, 1, 1), BIT)
    two = IntType(2, False)
    consts = {"wires": np.array([[0, 1]], np.int32), "values": np.array([[0, 3, 3, 0]], np.int16)}
    y = b.add("y", "tables", [x], TablesAttrs(1, two), consts)
    consts = {"wires": np.array([[0, 1]], np.int32), "values": np.array([[1, 0, 0, 2]], np.int16)}
    z = b.add("z", "tables", [y], TablesAttrs(2, two), consts)
    graph = b.build([z])
    assert reachable(graph)["z"].tolist() == [[True, False, False, True]]
    small = simplify_tables(graph)
    assert graph.const(graph.node("z"), "wires").shape == (1, 2)
    assert small.const(small.node("z"), "wires").shape == (1, 1)


def test_equal_and_complemented_tables_are_one() -> None:
    """Six tables: an and, the same with wires turned, its complement, a constant, an or that
    nobody reads, and an exclusive or; the readers are left with two of them."""
    b = GraphBuilder("equals")
    x = b.input("x", (3, 1, 1), BIT)
    y = tables(
        b, "y", x, [[0, 1], [1, 0], [0, 1], [0, 1], [0, 1], [1, 2]],
        ["0001", "0001", "1110", "1111", "0111", "0110"],
    )  # fmt: skip
    z = tables(b, "z", y, [[0, 2, 5], [1, 3, 5], [0, 1, 2]], ["01101001", "00010111", "10010110"])
    graph = b.build([z])
    small = simplify_tables(graph)
    assert small.const(small.node("y"), "wires").tolist() == [[0, 1], [1, 2]]
    assert small.meta["channels.y"] == "0 5"
    # the third reader has one wire left, and needs it
    wires, values = (small.const(small.node("z"), r) for r in ("wires", "values"))
    assert support(values).sum(axis=1).tolist() == [1, 2, 1]
    assert wires[2, 0] == 0
    for frame in product((0, 1), repeat=3):
        image = {"x": np.array(frame)[:, None, None]}
        assert np.array_equal(interp.run(graph, image)["z"], interp.run(small, image)["z"])


def test_tables_read_by_others_stay() -> None:
    """Outputs keep all of their channels, though two tables are equal."""
    b = GraphBuilder("outputs")
    x = b.input("x", (2, 1, 1), BIT)
    y = tables(b, "y", x, [[0, 1], [0, 1]], ["0001", "0001"])
    z = tables(b, "z", y, [[0, 1]], ["0110"])
    small = simplify_tables(b.build([y, z]))
    assert small.tensors["y"].shape == (2, 1, 1)
    assert not support(small.const(small.node("z"), "values")).any()


@pytest.mark.parametrize("seed", range(6))
def test_forms_are_canonical(seed: int) -> None:
    """Wires rise as far as they are needed, no table of a layer repeats another's bit, and nothing
    changes any more."""
    small = simplify_tables(random_table_graph(seed))
    assert simplify_tables(small).digest() == small.digest()
    for node in (n for n in small.nodes if n.op == "tables"):
        wires, values = small.const(node, "wires"), small.const(node, "values")
        needs = support(values)
        assert needs.sum(axis=1).max() == wires.shape[1] or wires.shape[1] == 1
        for row, needed in zip(wires, needs, strict=True):
            count = int(needed.sum())
            assert needed[:count].all()
            assert (np.diff(row[:count]) > 0).all() and (row[count:] == row[0]).all()


@pytest.mark.parametrize("lo", [-3, 0, 2])
@pytest.mark.parametrize("kind", ["u8", "i7"])
def test_rising_tables_are_thresholds(lo: int, kind: str) -> None:
    rng = np.random.default_rng(lo + 9)
    b = GraphBuilder("encoder")
    source = IntType.parse(kind)
    x = b.input("x", (5, 1, 1), source)
    steps = np.sort(rng.integers(0, 3, (5, 1 << source.bits)), axis=1)
    steps[0], steps[1] = 0, 2
    order = np.arange(1 << source.bits) - (source.lo if source.signed else 0)
    values = (lo + steps[:, order % (1 << source.bits)]).astype(np.int16)
    wires = np.arange(5 * source.bits).reshape(5, -1).astype(np.int32)
    attrs = TablesAttrs(source.bits, IntType(4, True))
    y = b.add("y", "tables", [x], attrs, {"wires": wires, "values": values})
    graph = b.build([y])
    found = recognise_thresholds(graph)
    assert [n.op for n in found.nodes] == ["threshold"]
    frames = np.arange(source.lo, source.hi + 1)[:, None, None, None].repeat(5, axis=1)
    expected = interp.run_many(graph, {"x": frames})["y"]
    assert np.array_equal(interp.run_many(found, {"x": frames})["y"], expected)


@pytest.mark.parametrize("top", [0, 1])
def test_constant_encoders_are_thresholds(top: int) -> None:
    b = GraphBuilder("constant")
    x = b.input("x", (2, 1, 1), U8)
    wires = np.arange(16).reshape(2, 8).astype(np.int32)
    consts = {"wires": wires, "values": np.full((2, 256), top, np.int16)}
    y = b.add("y", "tables", [x], TablesAttrs(8, BIT), consts)
    found = recognise_thresholds(b.build([y]))
    assert found.nodes[0].op == "threshold"
    frames = np.arange(256)[:, None, None, None].repeat(2, axis=1)
    assert (interp.run_many(found, {"x": frames})["y"] == top).all()


def test_other_tables_are_no_thresholds() -> None:
    rng = np.random.default_rng(0)
    b = GraphBuilder("no")
    x = b.input("x", (3, 1, 1), U8)
    y = random_tables(b, rng, "y", x, 3, 8, BIT)
    graph = b.build([y])
    assert recognise_thresholds(graph).nodes[0].op == "tables"


def test_slices_are_seen_through() -> None:
    b = GraphBuilder("slices")
    x = b.input("x", (2, 1, 1), BIT)
    y = tables(b, "y", x, [[0, 1], [0, 1], [1, 1]], ["0110", "0001", "0011"])
    part = b.add("part", "slice", [y], SliceAttrs(1, 3))
    z = tables(b, "z", part, [[0, 1]], ["0110"])
    graph = b.build([z])
    # x0 and x1 without x1 does not occur
    assert reachable(graph)["z"].tolist() == [[True, False, True, True]]
    assert simplify_tables(graph).tensors["y"].shape == (3, 1, 1)


@pytest.mark.parametrize("seed", range(4))
def test_unseen_addresses_cost_nothing(seed: int) -> None:
    """The frames that were shown give the same, fewer wires are needed, and the graph says so."""
    graph = simplify_tables(random_table_graph(seed))
    every = every_input(graph)
    shown = every[np.random.default_rng(seed).choice(len(every), 3, replace=False)]
    filled = fill_unseen(graph, shown)
    small = filled.graph
    # what can be reached is what all inputs show: bins of one graph against those of the other
    everything = fill_unseen(graph, every)
    assert (filled.frames, filled.least) == (3, 1) and everything.free >= 0
    assert everything.free < filled.free <= filled.addresses == everything.addresses
    before, after = (interp.run_many(g, {"x": shown}) for g in (graph, small))
    for name, array in before.items():
        assert np.array_equal(after[name], array)
    needed = [
        sum(int(support(g.const(n, "values")).sum()) for n in g.nodes if n.op == "tables")
        for g in (graph, small)
    ]
    assert needed[1] < needed[0]
    assert small.meta["statistical_dont_cares"].startswith("3 frames")
    assert "statistical_dont_cares" not in graph.meta
    # with all inputs shown nothing is left to choose
    whole = everything.graph
    for name, array in interp.run_many(graph, {"x": every}).items():
        assert np.array_equal(interp.run_many(whole, {"x": every})[name], array)
    with pytest.raises(GraphError, match="limit 0"):
        fill_unseen(graph, shown, 0)


def test_lowered_networks_still_equal_their_files(tmp_path: Path) -> None:
    """Merged and dead tables gone, each layer is compared with what is left of the file's."""
    net = make_network(
        ("lookup", "lookup", "lookup"), Code(1), 4, sizes=(60, 30, 10), levels=3,
        thermometer=True, shape=(1, 3, 3),
    )  # fmt: skip
    path = tmp_path / "net.onnx"
    export_qonnx(net, path, (1, 3, 3))
    graph = passes.lower(ingest.read(path))
    assert any(key.startswith("channels.") for key in graph.meta)
    images = np.random.default_rng(0).integers(0, 256, (12, 1, 3, 3))
    result = verify.against_qonnx(graph, path, images)
    assert result["mismatches"] == 0 and result["tensors"] == 11
