# SPDX-License-Identifier: Apache-2.0
"""Reading QONNX: the graph it gives, and every way a file can be wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hwflow import ingest, interp
from hwflow.errors import GraphError
from tests.qonnx_models import free_scales, plain_stack, save, small_detector


def find(model: onnx.ModelProto, name: str) -> NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def set_attribute(model: onnx.ModelProto, name: str, key: str, value: object) -> None:
    node = find(model, name)
    kept = [a for a in node.attribute if a.name != key]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(key, value)])


def set_constant(model: onnx.ModelProto, name: str, value: object) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    old = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, dtype=old.dtype), name))


def test_names_are_those_of_the_layers(tmp_path: Path) -> None:
    graph = ingest.read(save(small_detector(0), tmp_path / "net.onnx"))
    names = {n.name for n in graph.nodes}
    for name in (
        "layer0.conv",
        "layer0.pool",
        "layer1.0.b1.dw",
        "layer1.0.concat",
        "layer1.0.shuffle",
        "layer1.1.split0",
        "layer1.1.split1",
        "layer4",
        "up0.scale",
        "up0.ddw",
        "up0.up",
        "hm.pw2",
    ):
        assert name in names
    assert graph.inputs == ("image",)
    assert graph.outputs == ("hm.pw2.quant", "wh.pw2.quant", "reg.pw2.quant")
    assert graph.meta["output.hm"] == "hm.pw2.quant"
    assert graph.meta["onnx.hm.pw2.quant"] == "hm"
    assert graph.meta["onnx.layer1.1.split0"] == "layer1.0.shuffle.split.0"
    assert graph.meta["scale.image"] == 2.0**-8


@pytest.mark.parametrize("build", [small_detector, plain_stack])
def test_the_quant_level_computes_what_qonnx_does(
    tmp_path: Path, build: Callable[[int], onnx.ModelProto]
) -> None:
    """Every tensor of the graph as read, in float32, against the executor."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    path = save(build(2), tmp_path / "net.onnx")
    graph = ingest.read(path)
    image = np.random.default_rng(5).integers(0, 256, graph.tensors["image"].shape)
    feed = {"image": image[None].astype(np.float32) / 256}
    reals = execute_onnx(ModelWrapper(str(path)), feed, return_full_exec_context=True)
    every = interp.run(graph, {"image": image}, keep=True)
    compared = 0
    for name, array in every.items():
        if f"onnx.{name}" in graph.meta:
            expected = reals[graph.meta[f"onnx.{name}"]][0]
            assert np.array_equal(array, expected), name
            compared += 1
    assert compared == len(graph.nodes)


def test_integers_of_constants_lie_within_half_a_step(tmp_path: Path) -> None:
    model = small_detector(3)
    graph = ingest.read(save(model, tmp_path / "net.onnx"))
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for name, exact in (("layer0", "layer0.conv"), ("layer4", "layer4"), ("up1.ddw", "up1.ddw")):
        node = graph.node(exact)
        scale = values[f"{name}.weight_quant.scale"]
        units = values[f"{name}.weight"] / scale
        weight = graph.const(node, "weight")
        assert abs(units - weight).max() <= 0.5
        assert len(np.unique(weight)) > 5
        assert np.array_equal(graph.const(node, "weight_scale"), scale.ravel())


def test_a_narrow_quantiser_never_gives_the_lowest_value(tmp_path: Path) -> None:
    model = small_detector(0)
    value = next(t for t in model.graph.initializer if t.name == "layer4.weight")
    value.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(value) * -100, value.name))
    graph = ingest.read(save(model, tmp_path / "net.onnx"))
    weight = graph.const(graph.node("layer4"), "weight")
    assert (weight.min(), weight.max()) == (-7, 7)


def qcdq(model: onnx.ModelProto) -> None:
    node = find(model, "layer4.quant")
    node.op_type, node.domain = "QuantizeLinear", ""
    del node.attribute[:]


def bipolar(model: onnx.ModelProto) -> None:
    find(model, "layer4.weight_quant").op_type = "BipolarQuant"


def made_bias(model: onnx.ModelProto) -> None:
    find(model, "layer4").input[2] = "layer0"


def wide_weights(model: onnx.ModelProto) -> None:
    set_constant(model, "layer4.weight_quant.bits", 16)
    value = next(t for t in model.graph.initializer if t.name == "layer4.weight")
    value.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(value) * 1000, value.name))


def float_weight(model: onnx.ModelProto) -> None:
    find(model, "layer4").input[1] = "layer4.weight"


def no_op(model: onnx.ModelProto) -> None:
    find(model, "layer4.relu").op_type = "Sin"


def sigmoid(model: onnx.ModelProto) -> None:
    find(model, "layer4.relu").op_type = "Sigmoid"


def batch_norm(model: onnx.ModelProto) -> None:
    find(model, "layer4.relu").op_type = "BatchNormalization"


def unknown_domain(model: onnx.ModelProto) -> None:
    find(model, "layer4.quant").domain = "com.example"


def dynamic_scale(model: onnx.ModelProto) -> None:
    find(model, "layer4.quant").input[1] = "layer4"


def attribute(name: str, key: str, value: object) -> Callable[[onnx.ModelProto], None]:
    return lambda model: set_attribute(model, name, key, value)


def constant(name: str, value: object) -> Callable[[onnx.ModelProto], None]:
    return lambda model: set_constant(model, name, value)


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (qcdq, ["layer4.quant: QuantizeLinear: has 4 inputs; 2 to 3 are supported"]),
        (
            bipolar,
            [
                "layer4.weight_quant: BipolarQuant: has 4 inputs; 2 to 2 are supported",
            ],
        ),
        (made_bias, ["layer4: Conv: bias 'layer0' is not a constant", "bias_quant=Int32Bias"]),
        (float_weight, ["layer4: Conv: weight 'layer4.weight' has no quantiser"]),
        (no_op, ["layer4.relu: Sin: not supported; supported: Add, ArgMax"]),
        (sigmoid, ["layer4.relu: Sigmoid: not supported; nearest: leave a last one out"]),
        (batch_norm, ["layer4.relu: BatchNormalization: has 1 inputs; 5 to 5"]),
        (unknown_domain, ["layer4.quant: Quant: domain 'com.example' is unknown"]),
        (dynamic_scale, ["layer4.quant: Quant: scale, zero point and bits must be constants"]),
        (attribute("layer4", "dilations", [2]), ["layer4: Conv: dilations=[2]", "two dimensions"]),
        (attribute("layer4", "auto_pad", "SOME"), ["layer4: Conv: auto_pad=b'SOME'", "VALID"]),
        (attribute("layer0", "strides", [1, 0]), ["layer0.conv: Conv: strides=[1, 0]"]),
        (attribute("layer0", "kernel_shape", [3, 1]), ["layer0.conv: Conv:", "weight ("]),
        (attribute("pool", "storage_order", 1), ["layer0.pool: MaxPool: storage_order=1"]),
        (attribute("up0.resize", "mode", "linear"), ["Resize: mode=b'linear'", "nearest: nearest"]),
        (attribute("up0.ddw", "offset_group", 2), ["up0.ddw: DeformConv: offset_group=2"]),
        (attribute("up0.ddw", "pads", [0, 0, 0, 0]), ["up0.ddw: DeformConv: pads=[0, 0, 0, 0]"]),
        (attribute("layer1.0.concat", "axis", 2), ["layer1.0.concat: Concat: axis=2", "earest: 1"]),
        (attribute("layer4.quant", "rounding_mode", "ODD"), ["rounding_mode=b'ODD'", "ROUND"]),
        (attribute("layer4.quant", "signed", 3), ["signed=3 is not supported; nearest: 0 or 1"]),
        (constant("layer4.quant.zero_point", 3.5), ["zero point is not one integer; nearest: a"]),
        (constant("layer4.quant.scale", -1), ["layer4.quant: Quant: scale is not above 0"]),
        (constant("layer4.quant.scale", np.nan), ["layer4.quant: Quant: scale is not above 0"]),
        (constant("layer4.quant.scale", [1, 2]), ["an activation's scale must be one number"]),
        (constant("layer4.quant.bits", 40), ["40 bits; 1 to 32 are supported"]),
        (constant("layer4.quant.bits", 3.5), ["bits is not one integer"]),
        (constant("layer4.quant.bits", 20), ["20 bits on an activation; nearest: 16"]),
        (constant("up0.resize.scales", [1, 1, 2, -3]), ["scales [1.0, 1.0, 2.0, -3.0]"]),
        (constant("up0.resize.scales", [1, 2, 2, 2]), ["nearest: [1, 1, 2, 2]"]),
        (wide_weights, ["layer4: Conv: weights are i16; signed, 8 bits at most"]),
    ],
)
def test_what_is_not_supported(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], lines: list[str]
) -> None:
    model = small_detector(0)
    change(model)
    path = save(model, tmp_path / "net.onnx")
    with pytest.raises(GraphError) as caught:
        ingest.read(path)
    for line in (str(path), *lines):
        assert line in str(caught.value)


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    model = small_detector(0)
    for change in (qcdq, made_bias, attribute("layer0", "dilations", [2, 0])):
        change(model)
    with pytest.raises(GraphError) as caught:
        ingest.read(save(model, tmp_path / "net.onnx"))
    message = str(caught.value)
    assert "3 unsupported:" in message
    order = [message.index(n) for n in ("layer0.conv: Conv", "layer4: Conv", "layer4.quant: ")]
    assert order == sorted(order)


def float_model() -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", kernel_shape=[1, 1])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 4, 4])
    w = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w")
    return helper.make_model(helper.make_graph([node], "float", [x], [y], [w]))


def test_a_float_network_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"weight 'w' has no quantiser; export with .*qonnx"):
        ingest.read(save(float_model(), tmp_path / "float.onnx"))


def test_wrong_inputs(tmp_path: Path) -> None:
    model = small_detector(0)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(GraphError, match=r"input 'image' has shape .* fixed numbers"):
        ingest.read(save(model, tmp_path / "a.onnx"))
    model = small_detector(0)
    model.graph.input.append(helper.make_tensor_value_info("two", TensorProto.FLOAT, [1]))
    with pytest.raises(GraphError, match="has the inputs image, two; exactly one"):
        ingest.read(save(model, tmp_path / "b.onnx"))
    model = small_detector(0)
    find(model, "layer0").input[0] = "image"
    with pytest.raises(GraphError, match="input 'image' must go into one Quant"):
        ingest.read(save(model, tmp_path / "c.onnx"))
    model = small_detector(0)
    model.graph.node.insert(0, model.graph.node.pop())
    with pytest.raises(GraphError, match="is made by no node above"):
        ingest.read(save(model, tmp_path / "d.onnx"))
    model = small_detector(0)
    model.graph.output[0].name = "nowhere"
    with pytest.raises(GraphError, match="output 'nowhere' is made by no node"):
        ingest.read(save(model, tmp_path / "e.onnx"))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"gone\.onnx: no such file"):
        ingest.read(tmp_path / "gone.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("text.onnx", "empty.onnx"):
        with pytest.raises(GraphError, match=name):
            ingest.read(tmp_path / name)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_bytes_are_an_error_or_a_graph(tmp_path: Path, seed: int) -> None:
    """Cut or flipped bytes: one sentence, never another exception."""
    whole = plain_stack(0).SerializeToString()
    rng = np.random.default_rng(seed)
    path = tmp_path / "net.onnx"
    for _ in range(25):
        data = bytearray(whole[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.4 else whole)
        for place in rng.integers(0, len(data), rng.integers(0, 6)):
            data[place] = rng.integers(0, 256)
        path.write_bytes(bytes(data))
        try:
            ingest.read(path)
        except GraphError as error:
            assert str(path) in str(error)


def test_constant_nodes_and_other_forms_of_the_same(tmp_path: Path) -> None:
    """Constant nodes, Identity, Split with sizes, Slice and Gather give the same network."""
    model = small_detector(4)
    plain = ingest.read(save(model, tmp_path / "a.onnx"))
    scale = next(t for t in model.graph.initializer if t.name == "layer4.quant.scale")
    model.graph.node.insert(0, helper.make_node("Constant", [], [scale.name], value=scale))
    model.graph.initializer.remove(scale)
    split = find(model, "layer1.0.shuffle.split")
    at = list(model.graph.node).index(split)
    model.graph.node.remove(split)
    cut = {"lo": [0], "mid": [7], "hi": [99], "axes": [1]}
    for key, value in cut.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), key))
    order = numpy_helper.from_array(np.arange(7, 14), "order")
    model.graph.initializer.append(order)
    source, (left, right) = split.input[0], split.output
    for node in (
        helper.make_node("Gather", ["same", "order"], [right], name="layer1.1.split1", axis=1),
        helper.make_node("Slice", ["same", "lo", "mid", "axes"], [left], name="layer1.1.split0"),
        helper.make_node("Identity", [source], ["same"], name="same"),
    ):
        model.graph.node.insert(at, node)
    other = ingest.read(save(model, tmp_path / "b.onnx"))
    image = np.random.default_rng(1).integers(0, 256, (3, 32, 32))
    a, b = (interp.run(g, {"image": image}, keep=True) for g in (plain, other))
    assert set(a) == set(b)
    for name, array in a.items():
        assert np.array_equal(array, b[name]), name


def test_free_scales_are_read_as_they_are(tmp_path: Path) -> None:
    model = free_scales(0)
    graph = ingest.read(save(model, tmp_path / "net.onnx"))
    for node in graph.nodes:
        if node.op == "quant" and node.name != "image.quant":
            scale = graph.const(node, "scale")
            assert scale.dtype == np.float32
            assert not float(np.log2(scale)).is_integer()
