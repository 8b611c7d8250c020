# SPDX-License-Identifier: Apache-2.0
"""Files as strangers bring them: odd, but legal, ones are read; the others get one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hwflow import cli, ingest, passes, verify
from hwflow.errors import GraphError
from hwflow.ir import Graph
from tests.import_models import Net
from tests.test_import_tfc import Dense

Change = Callable[[onnx.ModelProto], object]


def small() -> onnx.ModelProto:
    """A quantiser, a convolution and a quantiser on a (1, 3, 9, 7) image."""
    net = Net(np.random.default_rng(0))
    net.x = net.quant(net.x, 2.0**-8, 8, False)
    net.conv()
    return net.model((1, 3, 9, 7))


def lowered(model: onnx.ModelProto, path: Path) -> Graph:
    onnx.save(model, path)
    return passes.lower(ingest.read(path))


def exact(graph: Graph, path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (2, *graph.tensors[graph.inputs[0]].shape))
    result = verify.against_qonnx(graph, path, image)
    assert result["mismatches"] == 0 and result["tensors"] >= 2


@pytest.mark.parametrize("batch", ["N", None])
@pytest.mark.parametrize("kind", ["map", "reshape by Shape"])
def test_a_free_batch_is_one(batch: str | None, kind: str, tmp_path: Path) -> None:
    build = small if kind == "map" else lambda: Dense("1W2A", seed=4).model((784, 9, 5))
    fixed = lowered(build(), tmp_path / "fixed.onnx")
    model = build()
    for info in (*model.graph.input, *model.graph.output):
        dims = info.type.tensor_type.shape.dim
        if dims:
            dims[0].Clear()
            if batch is not None:
                dims[0].dim_param = batch
    path = tmp_path / "net.onnx"
    graph = lowered(model, path)
    assert graph.table() == fixed.table()
    exact(graph, path)


def test_functions_of_a_file_are_put_in_place(tmp_path: Path) -> None:
    model = small()
    last = model.graph.node[-1]
    inner, last.input[0] = last.input[0], "doubled"
    nodes = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Neg", ["r"], ["b"])]
    model.functions.append(
        helper.make_function("mine", "Twice", ["a"], ["b"], nodes, [helper.make_opsetid("", 18)])
    )
    model.graph.node.insert(
        len(model.graph.node) - 1,
        helper.make_node("Twice", [inner], ["doubled"], name="call", domain="mine"),
    )
    model.opset_import.append(helper.make_opsetid("mine", 1))
    path = tmp_path / "net.onnx"
    exact(lowered(model, path), path)


@pytest.mark.parametrize("field", ["input", "output"])
def test_a_quantiser_of_nothing_is_named(field: str, tmp_path: Path) -> None:
    """Where a file has tables, or shapes it computes, nodes are looked at before their problems."""
    for op in ("Sin", "Shape"):
        model = small()
        quantiser = model.graph.node[0]
        assert quantiser.op_type == "Quant"
        model.graph.node.append(helper.make_node(op, ["image"], ["more"], name="more"))
        del getattr(quantiser, field)[:]
        onnx.save(model, tmp_path / "net.onnx")
        with pytest.raises(GraphError, match=f"{quantiser.name}: Quant: has"):
            ingest.read(tmp_path / "net.onnx")


@pytest.mark.timeout(20)
def test_a_clip_of_itself_ends(tmp_path: Path) -> None:
    net = Net(np.random.default_rng(0), style="qcdq")
    net.x = net.quant(net.x, 2.0**-8, 4, False)
    net.conv()
    model = net.model((1, 3, 9, 7))
    clip = next(n for n in model.graph.node if n.op_type == "Clip")
    onnx.save(model, tmp_path / "net.onnx")
    assert ingest.read(tmp_path / "net.onnx").nodes
    clip.input[0], clip.output[0] = clip.output[0], clip.input[0]
    clip.output[0] = clip.input[0]
    model.graph.node[0].output[0] = clip.input[0]
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(GraphError, match="is there already"):
        ingest.read(tmp_path / "net.onnx")


@pytest.mark.parametrize("name", ["net.json", "net.onnxtxt", "net.textproto", "a b ü.onnx"])
def test_a_network_is_read_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    onnx.save(small(), tmp_path / "net.onnx")
    shutil.copyfile(tmp_path / "net.onnx", tmp_path / name)
    exact(passes.lower(ingest.read(tmp_path / name)), tmp_path / name)
    (tmp_path / name).write_text('{"schema": 1}')
    with pytest.raises(GraphError, match="not a readable ONNX file"):
        ingest.read(tmp_path / name)


@pytest.mark.parametrize("command", ["inspect", "estimate"])
def test_a_report_is_no_network(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"schema": 1}')
    monkeypatch.setattr("sys.argv", ["hwflow", command, str(path)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert "report.json: not a readable ONNX file" in capsys.readouterr().err


def opset(version: int) -> Change:
    return lambda m: setattr(m.opset_import[0], "version", version)


def kind(number: int) -> Change:
    return lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", number)


def side(at: int, value: str | int) -> Change:
    field = "dim_param" if isinstance(value, str) else "dim_value"
    return lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[at], field, value)


def attribute(op: str, name: str, value: object) -> Change:
    def change(model: onnx.ModelProto) -> None:
        node = next(n for n in model.graph.node if n.op_type == op)
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def unnamed(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.input[0].name = ""


def twice(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = model.graph.node[0].output[0]


def scaled(model: onnx.ModelProto) -> None:
    scale = next(t for t in model.graph.initializer if t.name == model.graph.node[0].input[1])
    scale.CopyFrom(onnx.numpy_helper.from_array(np.float32(1e38), scale.name))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (opset(1), ["opset 1 is not supported; nearest: 7 to 26", "convert_version"]),
        (opset(99), ["opset 99 is not supported"]),
        (kind(TensorProto.STRING), ["input 'image' is STRING; nearest: FLOAT"]),
        (kind(TensorProto.FLOAT16), ["input 'image' is FLOAT16; nearest: FLOAT"]),
        (kind(77), ["input 'image' is of type 77"]),
        (side(0, 4), ["shape (4, 3, 9, 7)", "an input of one image"]),
        (side(2, "height"), ["shape (1, 3, height, 7)", "make_dynamic_shape_fixed"]),
        (lambda m: m.graph.initializer.append(m.graph.initializer[0]), ["is there 2 times"]),
        (unnamed, ["an input has no name"]),
        (twice, ["its output 'quant4' is there already; nearest: another name"]),
        (scaled, ["scale 1e+38 is too large"]),
        (attribute("Conv", "strides", [0, 0]), ["strides=[0, 0]", "2 numbers of 1 or more"]),
        (attribute("Conv", "strides", [1]), ["strides=[1]", "nearest: two dimensions"]),
    ],
)
def test_what_is_wrong_with_a_file(change: Change, words: list[str], tmp_path: Path) -> None:
    model = small()
    change(model)
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(GraphError) as caught:
        ingest.read(tmp_path / "net.onnx")
    for word in ("net.onnx", *words):
        assert word in str(caught.value)
