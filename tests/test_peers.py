# SPDX-License-Identifier: Apache-2.0
"""The peers of `hwflow bench tables`: their RTL says what their integer models say."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hwflow import bench_tables
from hwflow.data.samples import Samples
from hwflow.errors import ConfigError, ToolError
from hwflow.ir import GraphBuilder, IntType
from hwflow.ops.pw import PwAttrs
from hwflow.peers import hgq_lut, mlp, ours, outside, trees
from hwflow.peers.design import Data, Design, NotInstalled, Place, argmax
from hwflow.plan import execute
from hwflow.toolchain import netlist

COUNT = 151
RNG = np.random.default_rng(8)
BYTES = RNG.integers(0, 256, (COUNT, 6)).astype(np.uint8)


def run(
    tmp_path: Path, text: str, top: str, port: str, x: np.ndarray, out: str
) -> tuple[np.ndarray, int | None]:
    """The numbers at an output of a synthesised design for bytes (N, F), and its stage."""
    made = Design({"design.sv": text}, top, port, {}, out, 0, np.zeros(len(x)), None, "")
    execute(bench_tables.plan(made), tmp_path)
    bits = np.unpackbits(x, axis=1, bitorder="little").T
    flat = netlist.read(tmp_path / "netlist.json", top)
    width = len(flat.inputs[port])
    held = {name: 0 for name in flat.inputs if name != port}
    found = netlist.evaluate(flat, {port: np.ascontiguousarray(bits[:width])}, held)[out]
    return found.numbers, found.stage


# ---- boosted trees


def leaf(value: float) -> tuple[float]:
    return (value,)


Node = tuple[float] | tuple[int, float, "Node", "Node"]  # leaf, or feature, condition, below, above
TREES: tuple[tuple[int, Node], ...] = (
    (0, (0, 3.5, leaf(-0.5), (1, 9.0, leaf(0.25), leaf(1.5)))),
    (1, (2, 8.0, (0, 3.5, leaf(0.75), leaf(-0.25)), leaf(0.125))),
    (2, (5, 15.5, (3, 0.0, leaf(0.0), leaf(1.0)), leaf(0.2))),  # some leaves are never reached
    (0, (4, 1.25, leaf(0.0), leaf(0.75))),
    (1, leaf(0.5)),
    (2, (1, 12.0, (2, 8.0, leaf(-1.0), leaf(1.0)), (5, 6.0, leaf(0.4), leaf(-0.2)))),
)


def as_xgboost(nodes: Node) -> dict[str, list[float]]:
    """A tree as `save_model` writes it: nodes numbered, -1 for no child, leaves as conditions."""
    out: dict[str, list[float]] = {name: [] for name in (
        "left_children", "right_children", "split_indices", "split_conditions")}  # fmt: skip

    def add(node: Node) -> int:
        number = len(out["left_children"])
        inner = len(node) == 4
        for name in out:
            out[name].append(-1)
        out["split_indices"][number] = node[0] if inner else 0
        out["split_conditions"][number] = node[1] if inner else node[0]
        if inner:
            out["left_children"][number] = add(node[2])
            out["right_children"][number] = add(node[3])
        return number

    add(nodes)
    return out


def write_model(path: Path, chosen: tuple[tuple[int, Node], ...]) -> None:
    body = {"tree_info": [group for group, _ in chosen],
            "trees": [as_xgboost(tree) for _, tree in chosen]}  # fmt: skip
    path.write_text(json.dumps({"learner": {"gradient_booster": {"model": body}}}))


def leaves(node: Node) -> list[float]:
    return [node[0]] if len(node) == 1 else leaves(node[2]) + leaves(node[3])


def walk(node: Node, features: np.ndarray) -> float:
    while len(node) == 4:
        node = node[2] if features[node[0]] < node[1] else node[3]
    return node[0]


def expected_class(chosen: tuple[tuple[int, Node], ...], x: np.ndarray, feature_bits: int,
                   leaf_bits: int, classes: int) -> int:  # fmt: skip
    """By fractions and recursion: leaf codes, biases, sums, the first of the largest."""
    half = Fraction(1, 2)
    span = max(Fraction(max(leaves(tree))) - Fraction(min(leaves(tree))) for _, tree in chosen)
    scale = Fraction(2**leaf_bits - 1) / span
    groups = 1 if classes == 2 else classes
    bias, sums = [Fraction(0)] * groups, [0] * groups
    for group, tree in chosen:
        least = Fraction(min(leaves(tree)))
        bias[group] += least
        value = Fraction(walk(tree, x // 2 ** (8 - feature_bits)))
        sums[group] += (scale * (value - least) + half).__floor__()
    scores = [total + (scale * b + half).__floor__() for total, b in zip(sums, bias, strict=True)]
    return int(scores[0] >= 0) if classes == 2 else scores.index(max(scores))


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> trees.Forest:
    path = tmp_path_factory.mktemp("model") / "model.json"
    write_model(path, TREES)
    return trees.quantise(trees.read(path), 4, 3, 3)


def test_trees_predict_what_fractions_say(forest: trees.Forest) -> None:
    expected = [expected_class(TREES, row.astype(int), 4, 3, 3) for row in BYTES]
    assert len(set(expected)) == 3
    np.testing.assert_array_equal(trees.predict(forest, BYTES), expected)
    # The upper half of each byte is all they read.
    np.testing.assert_array_equal(trees.predict(forest, BYTES | 15), expected)


@pytest.mark.parametrize("registers", [(False, True), (True, False)])
def test_the_rtl_of_trees_is_their_model(
    tmp_path: Path, forest: trees.Forest, registers: tuple[bool, bool]
) -> None:
    text, stages = trees.verilog(forest, 6, registers)
    found, stage = run(tmp_path, text, "boosted_trees", "pixels", BYTES, "out_class")
    np.testing.assert_array_equal(found, trees.predict(forest, BYTES))
    assert stage == stages == 2


def test_two_classes_need_one_sum(tmp_path: Path) -> None:
    chosen = (*((0, tree) for group, tree in TREES if group != 2), (0, leaf(-1.25)))
    write_model(tmp_path / "model.json", chosen)
    two = trees.quantise(trees.read(tmp_path / "model.json"), 4, 3, 2)
    expected = [expected_class(chosen, row.astype(int), 4, 3, 2) for row in BYTES]
    assert set(expected) == {0, 1}
    np.testing.assert_array_equal(trees.predict(two, BYTES), expected)
    text, _ = trees.verilog(two, 6, (False, False))
    found, _ = run(tmp_path, text, "boosted_trees", "pixels", BYTES, "out_class")
    np.testing.assert_array_equal(found, expected)


def test_leaf_codes_are_the_nearest(forest: trees.Forest) -> None:
    span = max(max(leaves(tree)) - min(leaves(tree)) for _, tree in TREES)
    step = span / 7
    for tree, codes in zip(forest.trees, forest.codes, strict=True):
        ends = tree.left < 0
        values = tree.leaf[ends] - tree.leaf[ends].min()
        assert codes.min() == 0 and codes.max() <= 7
        assert np.abs(codes[ends] * step - values).max() <= step / 2 + 1e-12


@pytest.mark.parametrize("text", ["", "[]", '{"learner": {"gradient_booster": {"model": 3}}}'])
def test_a_file_that_is_no_model(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ToolError, match="is not a model of boosted trees"):
        trees.read(tmp_path / "model.json")


# ---- what all share


@pytest.mark.parametrize("classes,width,signed", [(5, 3, True), (7, 4, False), (2, 2, True)])
def test_argmax_takes_the_first_of_the_largest(
    tmp_path: Path, classes: int, width: int, signed: bool
) -> None:
    total = classes * width
    x = RNG.integers(0, 256, (COUNT, -(-total // 8))).astype(np.uint8)
    found, _ = run(tmp_path, argmax("top", classes, width, signed), "top", "scores", x, "best")
    whole = [int.from_bytes(row.tobytes(), "little") for row in x]
    fields = [[number >> width * n & (1 << width) - 1 for n in range(classes)] for number in whole]
    if signed:
        fields = [[f - (f >> width - 1 << width) for f in row] for row in fields]
    np.testing.assert_array_equal(found, [row.index(max(row)) for row in fields])


def test_scores_of_unlike_formats_are_aligned(tmp_path: Path) -> None:
    """Three scores as da4ml packs them: s1.2 bits, unsigned 3.0 bits, and one that is always 0.

    The network takes 0.8 bits of the first pixel, none of the second, 0.4 of the third.
    """
    images = BYTES[:, :3, None, None]
    split = Samples("made", "test", ("a", "b", "c"), "", None, 0, images, np.zeros(COUNT, np.int64))
    formats: Mapping[str, np.ndarray] = {
        "sign": np.array([1, 0, 0]), "whole": np.array([1, 3, 0]), "part": np.array([2, 0, 0]),
        "in_whole": np.array([0, 0, 0]), "in_part": np.array([8, 0, 4])}
    text, registers = hgq_lut.top(Data("made", split, split), formats)
    fake = """module network (input logic clk, input logic [11:0] model_inp,
      output logic [6:0] model_out);
      always_ff @(posedge clk) model_out <= {model_inp[10:8], model_inp[3:0]};
    endmodule
    """
    found, stage = run(tmp_path, fake + text, "hgq_top", "pixels", BYTES[:, :3], "out_class")
    low = BYTES[:, 0].astype(int)
    first = [Fraction((b & 15) - (16 if b & 8 else 0), 4) for b in low]
    second = [Fraction(b >> 4 & 7) for b in BYTES[:, 2].astype(int)]
    expected = [[a, b, Fraction(0)].index(max(a, b, 0)) for a, b in zip(first, second, strict=True)]
    assert set(expected) == {0, 1}  # the third never wins: the second is never below it
    np.testing.assert_array_equal(found, expected)
    assert (registers, stage) == (1, 2)


def test_a_package_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match=r"no-such-thing-xyz not installed: pip install"):
        outside.versions(Path(sys.executable), ("numpy", "no-such-thing-xyz"), tmp_path)
    found = outside.versions(Path(sys.executable), ("numpy",), tmp_path)
    assert found == {"numpy": np.__version__}


def test_an_interpreter_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="there is no such interpreter"):
        outside.versions(tmp_path / "python", ("numpy",), tmp_path)


def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "row", tmp_path / "cache", Path(sys.executable))


def small(features: int = 6) -> Data:
    """Two classes by the sum of the first two bytes."""
    rng = np.random.default_rng(2)

    def split(name: str, count: int) -> Samples:
        images = rng.integers(0, 256, (count, features, 1, 1)).astype(np.uint8)
        labels = (images[:, :2].astype(int).sum(axis=(1, 2, 3)) > 255).astype(np.int64)
        return Samples("made", name, ("a", "b"), "", None, 0, images, labels)

    return Data("made", split("train", 640), split("test", COUNT))


def test_a_network_of_ours_is_trained_once(tmp_path: Path) -> None:
    settings = {"luts": 60, "levels": 3, "sweeps": 2, "epochs": 1, "seed": 4}
    first = ours.build(small(), settings, place(tmp_path))
    file = tmp_path / "row/train/dtnn.safetensors"
    before = file.stat().st_mtime_ns
    again = ours.build(small(), settings, place(tmp_path))
    assert file.stat().st_mtime_ns == before
    np.testing.assert_array_equal(first.predicted, again.predicted)
    assert (first.predicted == small().test.labels).mean() > 0.75
    # what lies there of another size is no training of this one
    larger = ours.build(small(), {**settings, "luts": 120}, place(tmp_path))
    assert file.stat().st_mtime_ns != before and sum(larger.parts.values()) <= 120
    assert sum(first.parts.values()) <= 60
    # nor is one by another recipe
    before = file.stat().st_mtime_ns
    ours.build(small(), {**settings, "luts": 120, "sweeps": 1}, place(tmp_path))
    assert file.stat().st_mtime_ns != before


def test_a_shipped_network_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is for 784 bytes a sample, made has 6"):
        ours.shipped(small(), {"file": "dtnn_small_mnist.safetensors"}, place(tmp_path))


@pytest.mark.skipif(importlib.util.find_spec("xgboost") is None, reason="extra `peers`")
def test_xgboost_itself(tmp_path: Path) -> None:
    """Leaves of 12 bits: the class is that of XGBoost's own floats."""
    import xgboost

    data = small()
    settings = {"rounds": 12, "depth": 3, "feature_bits": 6, "leaf_bits": 12, "seed": 0}
    made = trees.build(data, settings, place(tmp_path))
    model = xgboost.Booster(model_file=tmp_path / "row/model.json")
    x = (data.test.images.reshape(COUNT, -1) >> 2).astype(np.float32)
    sure = np.abs(model.predict(xgboost.DMatrix(x)) - 0.5) > 0.01
    own = model.predict(xgboost.DMatrix(x)) > 0.5
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(made.predicted[sure], own[sure])


# ---- the MLP


def test_signed_digits_make_the_number() -> None:
    for value in range(-130, 131):
        found = mlp.signed_digits(value)
        assert sum(digit << place for place, digit in found) == value
        places = [place for place, _ in found]
        assert all(after - before >= 2 for before, after in pairwise(places))


@pytest.mark.parametrize("downs", [(3, 3, 3, 3, 3), (3, 2, 9, 7, 4)])
def test_the_rtl_of_an_mlp_is_its_integer_graph(tmp_path: Path, downs: tuple[int, ...]) -> None:
    """Random layers with ties in their rounding, and a neuron whose sum is less than half of a
    step; the expected class by Python's own round()."""
    rng = np.random.default_rng(12)
    builder = GraphBuilder("net")
    x = builder.input("input", (6, 1, 1), IntType(4, False))
    sizes, shifts = (6, 5, 3), (downs, (0, 0, 0))
    rows, layer = BYTES.astype(int) // 16, []
    for n, down in enumerate(shifts):
        weight = rng.integers(-8, 8, (sizes[n + 1], sizes[n])).astype(np.int8)
        bias = rng.integers(-20, 40, sizes[n + 1]).astype(np.int64)
        count = sizes[n + 1]
        out = IntType(4, False) if n == 0 else IntType(12, True)
        x = builder.add(f"dense{n}", "pw", [x], PwAttrs(4, 16, out), {
            "weight": weight, "bias": bias, "mul": np.ones(count, np.int64),
            "shift": np.array(down, np.int8)})  # fmt: skip
        layer.append((weight.astype(int), bias.astype(int)))
    graph = builder.build([x])
    expected = []
    for row in rows:
        hidden = [min(15, max(0, round(Fraction(int(w @ row) + int(b), 1 << n))))
                  for w, b, n in zip(*layer[0], downs, strict=True)]  # fmt: skip
        scores = [int(w @ hidden) + int(b) for w, b in zip(*layer[1], strict=True)]
        expected.append(scores.index(max(scores)))
    np.testing.assert_array_equal(mlp.predict(graph, BYTES, 4), expected)
    text, stages = mlp.verilog(graph, 4, 3)
    found, stage = run(tmp_path, text, "mlp", "pixels", BYTES, "out_class")
    np.testing.assert_array_equal(found, expected)
    assert stage == stages == 3 and len(set(expected)) > 1
