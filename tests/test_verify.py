# SPDX-License-Identifier: Apache-2.0
"""Verification: equality with the qonnx executor, and that a wrong number cannot slip through."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwflow import ingest, interp, passes, verify
from hwflow.errors import GraphError, VerifyError
from hwflow.ir import Graph
from hwflow.ops.shuffle import ShuffleAttrs
from tests.graphs import random_image, random_small_graph
from tests.qonnx_models import plain_stack, save, small_detector


def lowered(path: Path) -> Graph:
    return passes.lower(ingest.read(path))


def images(graph: Graph, count: int, seed: int = 0) -> np.ndarray:
    shape = graph.tensors["image"].shape
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(3))
def test_the_integers_are_those_of_qonnx(tmp_path: Path, seed: int) -> None:
    path = save(small_detector(seed), tmp_path / "net.onnx")
    graph = lowered(path)
    result = verify.against_qonnx(graph, path, images(graph, 3, seed))
    assert result["images"] == 3
    assert result["mismatches"] == 0
    # All tensors have a counterpart but the candidates, which no QONNX node computes.
    assert result["tensors"] == len(graph.tensors) - 1
    every = interp.run(graph, {"image": images(graph, 1, seed)[0]}, keep=True)
    assert len(np.unique(every["up0.scale"])) > 2
    assert len(np.unique(every["hm.pw2"])) > 50


def test_other_shapes_and_an_output_behind_a_moved_convolution(tmp_path: Path) -> None:
    path = save(plain_stack(1), tmp_path / "net.onnx")
    graph = lowered(path)
    assert graph.outputs == ("third.up", "fourth")
    assert verify.against_qonnx(graph, path, images(graph, 2))["mismatches"] == 0


def changed(graph: Graph, node: str, role: str, index: tuple[int, ...], by: int) -> Graph:
    """One constant off by `by`; the accumulator is declared wide enough for any."""
    key = graph.node(node).consts[role]
    constants = {k: v.copy() for k, v in graph.constants.items()}
    constants[key][index] += by
    nodes = tuple(
        replace(n, attrs=replace(n.attrs, acc_bits=32)) if n.name == node else n
        for n in graph.nodes
    )
    return graph.rebuilt(nodes=nodes, constants=constants)


@pytest.mark.parametrize(
    ("node", "role", "rest"),
    [
        ("layer0.conv", "weight", (1, 1, 1)),
        ("layer1.0.b2.pw1", "bias", ()),
        ("layer1.1.b2.dw", "shift", ()),
        ("up0.ddw", "weight", (1, 1)),
        ("up1.scale", "bias", ()),
        ("wh.pw1", "weight", (3,)),
        ("reg.pw2", "bias", ()),
    ],
)
def test_a_wrong_constant_is_found_where_it_is(
    tmp_path: Path, node: str, role: str, rest: tuple[int, ...]
) -> None:
    path = save(small_detector(0), tmp_path / "net.onnx")
    graph = lowered(path)
    picture = images(graph, 1)
    every = interp.run(graph, {"image": picture[0]}, keep=True)
    # The liveliest channel: one that is 0 everywhere would hide the change.
    channel = int(every[node].std(axis=(1, 2)).argmax())
    index = (channel, *rest)
    size = 4 << int(graph.const(graph.node(node), "shift")[channel])
    old = int(graph.const(graph.node(node), role)[index])
    by = {"weight": -4 if old > 0 else 4, "shift": 1, "bias": size}[role]
    wrong = changed(graph, node, role, index, by)
    message = rf"image 0, net\.onnx: '{node}' channel {channel}, pixel \(y \d+, x \d+\): "
    with pytest.raises(VerifyError, match=message):
        verify.against_qonnx(wrong, path, picture)


def test_a_swap_of_channels_is_found(tmp_path: Path) -> None:
    """The wrong order of a shuffle holds the same values."""
    path = save(small_detector(0), tmp_path / "net.onnx")
    graph = lowered(path)
    nodes = tuple(
        replace(n, attrs=ShuffleAttrs(7)) if n.name == "layer1.0.shuffle" else n
        for n in graph.nodes
    )
    with pytest.raises(VerifyError, match=r"'layer1\.0\.shuffle' channel 1"):
        verify.against_qonnx(graph.rebuilt(nodes=nodes), path, images(graph, 1))


def test_misuse_is_one_sentence(tmp_path: Path) -> None:
    path = save(small_detector(0), tmp_path / "net.onnx")
    graph = lowered(path)
    with pytest.raises(VerifyError, match="no images"):
        verify.against_qonnx(graph, path, [])
    with pytest.raises(GraphError, match=r"gone\.onnx: no such file"):
        verify.against_qonnx(graph, tmp_path / "gone.onnx", images(graph, 1))
    with pytest.raises(GraphError, match="no counterparts"):
        verify.against_qonnx(random_small_graph(0), path, images(graph, 1))
    other = save(plain_stack(0), tmp_path / "other.onnx")
    with pytest.raises(GraphError, match="lowered from another file"):
        verify.against_qonnx(graph, other, images(graph, 1))


def test_compare_names_layer_channel_and_pixel() -> None:
    a = np.arange(24).reshape(2, 3, 4)
    b = a.copy()
    verify.compare(a, b, "x")
    b[1, 2, 3] += 1
    b[1, 0, 2] -= 3
    with pytest.raises(
        VerifyError, match=r"'x' channel 1, pixel \(y 0, x 2\): 11, expected 14 \(2 of 24"
    ):
        verify.compare(a, b, "x")
    with pytest.raises(VerifyError, match=r"shape \(2, 3, 3\), expected \(2, 3, 4\)"):
        verify.compare(a, b[:, :, :3], "x")
    with pytest.raises(VerifyError, match=r"index \(0, 1\): 5, expected 1"):
        verify.compare(np.array([[0, 1]]), np.array([[0, 5]]), "peaks")


def test_compare_all_wants_every_tensor() -> None:
    graph = random_small_graph(3)
    image = random_image(graph.tensors["image"].shape, 1)
    every = interp.run(graph, {"image": image}, keep=True)
    assert verify.compare_all(graph, every, dict(every)) == len(graph.tensors)
    last = list(every)[-1]
    with pytest.raises(VerifyError, match=f"'{last}'"):
        verify.compare_all(graph, every, {**every, last: every[last] + 1})
    less = {name: array for name, array in every.items() if name != last}
    with pytest.raises(VerifyError, match=f"'{last}' is missing among the actual"):
        verify.compare_all(graph, every, less)
    with pytest.raises(VerifyError, match=f"'{last}' is missing among the expected"):
        verify.compare_all(graph, less, every)


def test_legal_levels(tmp_path: Path) -> None:
    quant = ingest.read(save(plain_stack(0), tmp_path / "net.onnx"))
    integer = passes.lower(quant)
    verify.legal(quant, "quant")
    verify.legal(integer, "integer")
    with pytest.raises(GraphError, match=r"node 'image\.quant' \(quant\) is not legal at"):
        verify.legal(quant, "integer")
    with pytest.raises(GraphError, match="is not legal at level quant"):
        verify.legal(integer, "quant")
    with pytest.raises(GraphError, match="no level 'stream'"):
        verify.legal(integer, "stream")


def test_the_exported_codenet(tmp_path: Path) -> None:
    """Torch, the qonnx executor and the integers agree on the whole network of configuration b."""
    torch = pytest.importorskip("torch")
    from hwflow.export import export_qonnx, to_input
    from hwflow.models.codenet import CoDeNet, calibrate, config, quantise

    torch.set_num_threads(1)
    torch.manual_seed(3)
    model = CoDeNet(config("b", 2))
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias, 0, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        if name.endswith("scale.conv"):
            torch.nn.init.normal_(module.weight, 0, 0.05)
            torch.nn.init.constant_(module.bias, 3.0)
    model = quantise(model.eval())
    pictures = np.random.default_rng(4).integers(0, 256, (2, 3, 64, 64)).astype(np.uint8)
    calibrate(model, [to_input(pictures)])
    path = tmp_path / "codenet.onnx"
    export_qonnx(model.eval(), path, 64)
    graph = lowered(path)
    assert len(graph.nodes) == 141
    assert graph.outputs == ("hm.pw2", "wh.pw2", "reg.pw2", "peaks")
    result = verify.against_qonnx(graph, path, pictures)
    assert result["mismatches"] == 0
    assert result["tensors"] == 141
    with torch.no_grad():
        reals = [model(to_input(pictures[i : i + 1])) for i in range(2)]
    for i, picture in enumerate(pictures):
        integers = interp.run(graph, {"image": picture})
        for head, real in zip(("hm", "wh", "reg"), reals[i], strict=True):
            scale = np.float32(graph.meta[f"scale.{head}"])
            got = integers[graph.meta[f"output.{head}"]].astype(np.float32) * scale
            assert np.array_equal(got, real[0].numpy()), head
