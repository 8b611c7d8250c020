# SPDX-License-Identifier: Apache-2.0
"""Whole graphs against a slow second implementation in plain Python, and the checks on the way."""

from fractions import Fraction

import numpy as np
import pytest

from hwflow import interp
from hwflow.errors import GraphError
from hwflow.ir import Graph, GraphBuilder, IntType, Node
from hwflow.ops.pw import PwAttrs
from hwflow.ops.upsample import UpsampleAttrs
from tests.graphs import random_codenet_graph, random_image, random_small_graph

U8 = IntType(8, False)


def pixel(plane: list, y: int, x: int) -> int:
    inside = 0 <= y < len(plane) and 0 <= x < len(plane[0])
    return plane[y][x] if inside else 0


def requantised(graph: Graph, node: Node, c: int, acc: int) -> int:
    mul, bias, shift = (int(graph.const(node, role)[c]) for role in ("mul", "bias", "shift"))
    value = round(Fraction(acc * mul + bias) / Fraction(2) ** shift)
    return min(max(value, node.attrs.out.lo), node.attrs.out.hi)


def convolution(graph: Graph, node: Node, x: list, s: list | None, c: int, y: int, z: int) -> int:
    """One output of any of the four convolutions, from its definition."""
    weight = graph.const(node, "weight").astype(int).tolist()[c]
    if node.op == "pw":
        acc = sum(w * plane[y][z] for w, plane in zip(weight, x, strict=True))
    elif node.op == "conv":
        a, k = node.attrs, range(node.attrs.kernel)
        acc = sum(
            weight[n][i][j] * pixel(x[n], y * a.stride + i - a.pad, z * a.stride + j - a.pad)
            for n in range(len(x))
            for i in k
            for j in k
        )
    else:
        step = node.attrs.stride if node.op == "dw" else 1
        far = s[0][y][z] if s else 1
        acc = sum(
            weight[i][j] * pixel(x[c], y * step + (i - 1) * far, z * step + (j - 1) * far)
            for i in range(3)
            for j in range(3)
        )
    return requantised(graph, node, c, acc)


def best(plane: list, y: int, x: int) -> int:
    rows = [r for r in range(2 * y - 1, 2 * y + 2) if 0 <= r < len(plane)]
    columns = [c for c in range(2 * x - 1, 2 * x + 2) if 0 <= c < len(plane[0])]
    return max(plane[r][c] for r in rows for c in columns)


def slow_run(graph: Graph, image: np.ndarray) -> dict[str, list]:
    """Every tensor but `peaks`, pixel by pixel."""
    values = {"image": image.astype(int).tolist()}
    for node in graph.nodes:
        if node.op == "peaks":
            continue
        x, shape = values[node.inputs[0]], graph.tensors[node.output].shape
        if node.op == "slice":
            out = x[node.attrs.start : node.attrs.stop]
        elif node.op == "concat":
            out = [plane for name in node.inputs for plane in values[name]]
        elif node.op == "shuffle":
            width = len(x) // node.attrs.groups
            out = [x[g * width + k] for k in range(width) for g in range(node.attrs.groups)]
        else:
            s = values[node.inputs[1]] if node.op == "deform_dw" else None
            c, h, w = (range(n) for n in shape)
            if node.op == "maxpool":
                out = [[[best(x[k], i, j) for j in w] for i in h] for k in c]
            elif node.op == "upsample":
                out = [[[x[k][i // 2][j // 2] for j in w] for i in h] for k in c]
            else:
                out = [[[convolution(graph, node, x, s, k, i, j) for j in w] for i in h] for k in c]
        values[node.output] = out
    return values


@pytest.mark.parametrize("seed", range(25))
def test_equals_the_slow_implementation(seed: int) -> None:
    graph = random_small_graph(seed, max_side=7, max_channels=7)
    rng = np.random.default_rng(seed + 1000)
    image = rng.integers(0, 256, graph.tensors["image"].shape).astype(np.uint8)
    got = interp.run(graph, {"image": image}, keep=True)
    for name, expected in slow_run(graph, image).items():
        assert got[name].tolist() == expected, name


def test_keep_and_outputs_agree() -> None:
    graph = random_codenet_graph("a", 3, 5, size=64)
    image = random_image((3, 64, 64), 6)
    every = interp.run(graph, {"image": image}, keep=True)
    outputs = interp.run(graph, {"image": image})
    assert set(every) == set(graph.tensors)
    assert tuple(outputs) == graph.outputs
    for name, array in outputs.items():
        assert np.array_equal(array, every[name])
        assert array.dtype == np.int64


def test_the_random_codenet_is_alive() -> None:
    """Other tests rest on it: dilations spread, nothing saturates or vanishes."""
    graph = random_codenet_graph("b", 20, 1)
    every = interp.run(graph, {"image": random_image((3, 256, 256), 9)}, keep=True)
    for i in range(3):
        assert len(np.unique(every[f"up{i}.scale"])) >= 5
    for node in graph.nodes:
        array, kind = every[node.output], graph.tensors[node.output].dtype
        if node.op in ("conv", "pw", "dw", "deform_dw") and array.shape[0] >= 20:
            assert len(np.unique(array)) > 100, node.name
            assert (array == kind.hi).mean() < 0.05, node.name
    shifts = np.concatenate([graph.const(n, "shift") for n in graph.nodes if n.consts])
    assert shifts.min() >= 0


def one_pw(**fields: object) -> Graph:
    builder = GraphBuilder("one")
    x = builder.input("image", (1, 2, 2), U8)
    consts = {
        "weight": np.array([[7]], np.int8),
        "bias": np.array([0]),
        "mul": np.array([1]),
        "shift": np.array([0], np.int8),
    }
    builder.add(
        "pw", "pw", [x], PwAttrs(**({"weight_bits": 4, "acc_bits": 12, "out": U8} | fields)), consts
    )
    return builder.build(["pw"])


def test_wrong_inputs_are_refused() -> None:
    graph = one_pw()
    good = np.array([[[1, 2], [3, 255]]])
    assert interp.run(graph, {"image": good})["pw"].tolist() == [[[7, 14], [21, 255]]]
    for image, rule in (
        (good[:, :1], "shape"),
        (good + 1, r"1?2\.\.256, outside u8"),
        (good - 2, r"-1\.\.253, outside u8"),
        (good.astype(np.float32), "give integers"),
    ):
        with pytest.raises(GraphError, match=rule):
            interp.run(graph, {"image": image})
    with pytest.raises(GraphError, match="'image' is missing; given: picture"):
        interp.run(graph, {"picture": good})


def test_a_value_beyond_its_type_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """An op whose golden breaks its own promise is named."""
    import dataclasses
    from types import MappingProxyType

    from hwflow.ops import OPS

    broken = dataclasses.replace(OPS["pw"], golden=lambda *_: np.full((1, 2, 2), 256))
    monkeypatch.setattr(interp, "OPS", MappingProxyType({**OPS, "pw": broken}))
    with pytest.raises(GraphError, match=r"node 'pw' \(pw\): 'pw' holds 256\.\.256, outside u8"):
        interp.run(one_pw(), {"image": np.zeros((1, 2, 2), np.uint8)})


def test_a_real_input_takes_integers_and_its_scale() -> None:
    from hwflow.ir import RealType

    builder = GraphBuilder("real")
    builder.input("image", (1, 1, 2), RealType())
    builder.add("up", "upsample", ["image"], UpsampleAttrs(2))
    graph = builder.build(["up"])
    image = np.array([[[1, 3]]])
    with pytest.raises(GraphError, match="has no scale"):
        interp.run(graph, {"image": image})
    graph = graph.rebuilt(meta={"scale.image": 0.5})
    assert interp.run(graph, {"image": image})["up"].tolist() == [[[0.5, 0.5, 1.5, 1.5]] * 2]
