# SPDX-License-Identifier: Apache-2.0
"""Foreign files from end to end.

The integers, and the C++, of random networks of every op are those of the qonnx executor; what is
not supported is said at once, with the way out.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwflow import ingest, interp, passes, verify
from hwflow.emit import hls
from hwflow.errors import GraphError
from hwflow.ir import Graph
from tests.graphs import random_small_graph
from tests.import_models import DOMAIN, Net, random_net
from tests.test_hls import WIDE

CASES = [
    (style, free, seed)
    for style, free, first in (
        ("qonnx", False, 100), ("qonnx", True, 200), ("qcdq", False, 300), ("qcdq", True, 400),
    )
    for seed in range(first, first + 12)
]  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of an engine of shape WIDE."""
    folder = tmp_path_factory.mktemp("engine")
    hls.write(random_small_graph(0), folder, shape=WIDE)
    return hls.build(folder)


def images(graph: Graph, count: int, seed: int) -> np.ndarray:
    tensor = graph.tensors[graph.inputs[0]]
    lo, hi = tensor.dtype.lo, tensor.dtype.hi + 1
    return np.random.default_rng(seed).integers(lo, hi, (count, *tensor.shape))


def lowered(model: onnx.ModelProto, path: Path) -> Graph:
    onnx.save(model, path)
    return passes.lower(ingest.read(path))


@pytest.mark.parametrize(("style", "free", "seed"), CASES)
def test_random_network(
    style: str, free: bool, seed: int, engine: Path, tmp_path: Path
) -> None:
    """Every tensor with a counterpart against the executor, every tensor against the C++."""
    model, _ = random_net(seed, free, style)
    path = tmp_path / "net.onnx"
    try:
        graph = lowered(model, path)
    except GraphError as error:
        assert "nearest: one scale for all, or a quantiser before it" in str(error)
        assert "argmax" in str(error) and free
        return
    batch = images(graph, 3, seed)
    result = verify.against_qonnx(graph, path, batch)
    assert result["mismatches"] == 0
    assert result["tensors"] >= 2
    assert result["exact_sums"] == free
    frame = {graph.inputs[0]: batch[0]}
    hls.write(graph, tmp_path / "hls", inputs=frame, shape=WIDE)
    actual = hls.run(tmp_path / "hls", frame, engine)
    assert verify.compare_all(graph, interp.run(graph, frame, keep=True), actual)


def test_the_random_networks_hold_every_op(tmp_path: Path) -> None:
    files, integers = set(), set()
    for style, free, seed in CASES:
        model, net = random_net(seed, free, style)
        files.update(net.ops)
        try:
            integers.update(n.op for n in lowered(model, tmp_path / "net.onnx").nodes)
        except GraphError:
            continue
    assert files >= {
        "Add", "ArgMax", "AveragePool", "BatchNormalization", "BipolarQuant", "Clip", "Concat",
        "Conv", "DepthToSpace", "DequantizeLinear", "Div", "Flatten", "Gather", "Gemm",
        "GlobalAveragePool", "MatMul", "MaxPool", "Mul", "MultiThreshold", "Quant",
        "QuantizeLinear", "ReduceMean", "Relu", "Reshape", "Resize", "Shape", "Slice",
        "SpaceToDepth", "Sub", "Transpose", "Trunc",
    }  # fmt: skip
    assert integers >= {
        "argmax", "concat", "conv", "conv2d", "dw", "maxpool", "maxpool2d", "pw", "rearrange",
        "residual", "resize", "slice", "threshold", "upsample",
    }  # fmt: skip


def test_outputs_as_reals(tmp_path: Path) -> None:
    """What a user sees: scores that no quantiser ends, as the file's own floats."""
    model, _ = random_net(0)
    for seed in range(20):
        model, net = random_net(seed)
        if net.ops[-1] in ("Gemm", "MatMul"):
            break
    path = tmp_path / "net.onnx"
    graph = lowered(model, path)
    assert f"chain.{graph.outputs[0]}" in graph.meta
    again = tmp_path / "graph"
    graph.save(again)
    assert Graph.load(again).digest() == graph.digest()
    image = images(graph, 1, 5)
    out = interp.run(graph, {graph.inputs[0]: image[0]})[graph.outputs[0]]
    scores = verify.reals(graph, graph.outputs[0], out)
    assert scores.dtype == np.float32 and scores.shape == out.shape
    assert verify.against_qonnx(graph, path, image)["mismatches"] == 0


def test_a_changed_weight_is_found(tmp_path: Path) -> None:
    """The comparison would see a wrong lowering."""
    for seed in range(100, 110):
        model, _ = random_net(seed)
        path = tmp_path / "net.onnx"
        graph = lowered(model, path)
        nodes = [n for n in graph.nodes if n.op in ("conv2d", "pw") and f"onnx.{n.output}"
                 in graph.meta]  # fmt: skip
        if not nodes:
            continue
        node = nodes[-1]
        constants = dict(graph.constants)
        bias = constants[node.consts["bias"]].copy()
        shift = int(graph.const(node, "shift")[0])
        bias[0] += 1 << (max(shift, 0) + 1)
        constants[node.consts["bias"]] = bias
        broken = graph.rebuilt(constants=constants)
        with pytest.raises(verify.VerifyError, match=r"channel 0|index"):
            verify.against_qonnx(broken, path, images(graph, 20, 1))
        return
    raise AssertionError("no network with such a node")


# --- wrong files -------------------------------------------------------------------------------


def file_of(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])
    out = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    held = [numpy_helper.from_array(a, n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "file", [info], [out], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


ONES = {"w": np.ones((2, 2, 1, 1), np.float32)}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            file_of([helper.make_node("Conv", ["x", "w"], ["y"])], ONES),
            ["float file without quantisers", "brevitas.export.export_qonnx(", "has no quantiser"],
        ),
        (
            file_of(
                [helper.make_node("QLinearConv", ["x"], ["y"], name="q")], {}
            ),
            ["quantised-operator form", "export_onnx_qcdq(", "QuantFormat.QDQ", "q: QLinearConv"],
        ),
        (
            file_of(
                [helper.make_node("MVAU_hls", ["x"], ["y"], name="m",
                                  domain="finn.custom_op.fpgadataflow.hls")], {}
            ),
            ["FINN dataflow file", "brevitas.export.export_qonnx(", "m: MVAU_hls"],
        ),
    ],
)  # fmt: skip
def test_wrong_flavours_are_told_the_way_out(
    tmp_path: Path, model: onnx.ModelProto, words: list[str]
) -> None:
    path = tmp_path / "file.onnx"
    onnx.save(model, path)
    with pytest.raises(GraphError) as caught:
        ingest.read(path)
    for word in words:
        assert word in str(caught.value)


def test_weights_in_another_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "file.onnx"
    model = file_of([helper.make_node("Conv", ["x", "w"], ["y"])], ONES)
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(GraphError, match=r"weights lie in another file.*save_as_external"):
        ingest.read(path)


def test_everything_unsupported_at_once(tmp_path: Path) -> None:
    """Of the nodes themselves, before shapes are looked at; then of shapes and axes."""
    net = Net(np.random.default_rng(0))
    net.x = net.quant(net.x, 2.0**-8, 8, False)
    net.x = net.node("Sigmoid", [net.x])
    net.x = net.node("LeakyRelu", [net.x])
    net.x = net.node("AveragePool", [net.x], kernel_shape=[2, 2], pads=[1, 1, 1, 1])
    net.x = net.node("TopK", [net.x, net.constant([1], np.int64)])
    onnx.save(net.model((1, 3, 9, 7)), tmp_path / "a.onnx")
    with pytest.raises(GraphError) as caught:
        ingest.read(tmp_path / "a.onnx")
    message = str(caught.value)
    assert "4 unsupported:" in message
    for words in ("Sigmoid: not supported; nearest", "LeakyRelu: not supported; nearest: Relu",
                  "count_include_pad=0 with pads", "TopK: not supported; nearest: ArgMax"):
        assert words in message  # fmt: skip
    net = Net(np.random.default_rng(0))
    start = net.x = net.quant(net.x, 2.0**-8, 8, False)
    one = net.node("Concat", [start, start], axis=2)
    two = net.node("Gather", [start, net.constant([2, 0], np.int64)], axis=1)
    net.x = net.node("ArgMax", [start], axis=3)
    net.x = net.node("Add", [one, two])
    onnx.save(net.model((1, 3, 9, 7)), tmp_path / "b.onnx")
    with pytest.raises(GraphError) as caught:
        ingest.read(tmp_path / "b.onnx")
    message = str(caught.value)
    assert "3 unsupported:" in message
    for words in ("Concat: axis=2", "Gather of channels [2, 0]", "ArgMax: axis=3"):
        assert words in message


def test_finn_datatypes_name_integer_constants(tmp_path: Path) -> None:
    """A network of MultiThreshold and integer weights, as qonnx converts it for FINN."""
    rng = np.random.default_rng(3)
    table = np.array([[0.1, 0.3, 0.8]], np.float32)
    weight = rng.integers(-1, 2, (3, 2, 1, 1)).astype(np.float32)
    fields = {"out_dtype": "UINT2", "out_scale": 1.0, "out_bias": 0.0, "domain": DOMAIN}
    last = np.sort(rng.integers(-6, 9, (3, 3)), axis=1).astype(np.float32)
    nodes = [
        helper.make_node("MultiThreshold", ["x", "t"], ["a"], name="a", **fields),
        helper.make_node("Conv", ["a", "w"], ["b"], name="b", kernel_shape=[1, 1]),
        helper.make_node("MultiThreshold", ["b", "u"], ["c"], name="c", **fields),
    ]
    model = file_of(nodes, {"t": table, "w": weight, "u": last})
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    note = model.graph.quantization_annotation.add()
    note.tensor_name = "w"
    note.quant_parameter_tensor_names.add(key="finn_datatype", value="TERNARY")
    path = tmp_path / "net.onnx"
    graph = lowered(model, path)
    assert [n.op for n in graph.nodes if n.op != "threshold"] == ["conv2d", "pw"]
    result = verify.against_qonnx(graph, path, images(graph, 5, 0))
    assert result["tensors"] == 2 and result["mismatches"] == 0
