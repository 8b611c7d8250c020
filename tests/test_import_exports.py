# SPDX-License-Identifier: Apache-2.0
"""Files as other tools write them: Brevitas' two exports, and onnxruntime's static quantisation."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwflow import ingest, passes, verify
from hwflow.emit import hls
from hwflow.ir import Graph


def check(path: Path, count: int = 3) -> Graph:
    """The lowered graph, after every tensor of it equals the executor's."""
    graph = passes.lower(ingest.read(path))
    tensor = graph.tensors[graph.inputs[0]]
    lo, hi = tensor.dtype.lo, tensor.dtype.hi + 1
    batch = np.random.default_rng(0).integers(lo, hi, (count, *tensor.shape))
    result = verify.against_qonnx(graph, path, batch)
    assert (result["mismatches"], result["images"], result["exact_sums"]) == (0, count, 1)
    assert result["tensors"] >= 5
    return graph


@pytest.mark.parametrize("form", ["qonnx", "qcdq"])
@pytest.mark.parametrize("bits", [2, 4])
def test_default_quantisers_of_brevitas(form: str, bits: int, tmp_path: Path) -> None:
    """A small residual CNN with free scales, batch norm, groups, float biases, max pool, dense."""
    torch = pytest.importorskip("torch")
    qnn = pytest.importorskip("brevitas.nn")
    from brevitas import export

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            wide = {"weight_bit_width": bits}
            act = {"bit_width": bits, "return_quant_tensor": True}
            self.first = qnn.QuantIdentity(bit_width=8, return_quant_tensor=True)
            self.conv = qnn.QuantConv2d(1, 8, 3, padding=1, bias=True, **wide)
            self.norm = torch.nn.BatchNorm2d(8)
            self.relu = qnn.QuantReLU(**act)
            self.grouped = qnn.QuantConv2d(8, 8, 3, stride=2, padding=1, groups=2, **wide)
            self.relu2 = qnn.QuantReLU(**act)
            self.pointwise = qnn.QuantConv2d(8, 8, 1, bias=False, **wide)
            self.shared = qnn.QuantIdentity(**act)
            self.dense = qnn.QuantLinear(72, 10, bias=True, **wide)

        def forward(self, x: object) -> object:
            x = self.relu(self.norm(self.conv(self.first(x))))
            x = torch.nn.functional.max_pool2d(x, 2)
            x = self.relu2(self.grouped(x))
            x = self.shared(self.shared(self.pointwise(x)) + self.shared(x))
            return self.dense(torch.flatten(x, 1))

    torch.set_num_threads(1)
    torch.manual_seed(bits)
    model = Net().train()
    for _ in range(5):
        model(torch.rand(8, 1, 12, 12) * 2 - 1)
    path = tmp_path / f"{form}.onnx"
    write = export.export_qonnx if form == "qonnx" else export.export_onnx_qcdq
    write(model.eval(), args=torch.rand(1, 1, 12, 12), export_path=str(path))
    graph = check(path)
    ops = {node.op for node in graph.nodes}
    assert {"conv2d", "maxpool", "residual"} <= ops
    assert graph.tensors[graph.outputs[0]].shape == (10, 1, 1)


@pytest.mark.parametrize("per_channel", [False, True])
def test_static_quantisation_of_onnxruntime(per_channel: bool, tmp_path: Path) -> None:
    """Zero points, one or one scale a channel, int32 biases, residual addition, global mean."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    rng = np.random.default_rng(0)
    values = {
        "w1": rng.normal(0, 0.4, (6, 3, 3, 3)), "b1": rng.normal(0, 0.1, 6),
        "w2": rng.normal(0, 0.4, (6, 6, 1, 1)), "b2": rng.normal(0, 0.1, 6),
        "w3": rng.normal(0, 0.4, (5, 6)), "b3": rng.normal(0, 0.1, 5),
    }  # fmt: skip
    held = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in values.items()]
    layers = [
        ("Conv", ["x", "w1", "b1"], "a", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("Relu", ["a"], "r", {}),
        ("MaxPool", ["r"], "p", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Conv", ["p", "w2", "b2"], "c", {"kernel_shape": [1, 1]}),
        ("Add", ["c", "p"], "s", {}),
        ("GlobalAveragePool", ["s"], "g", {}),
        ("Flatten", ["g"], "f", {}),
        ("Gemm", ["f", "w3", "b3"], "y", {"transB": 1}),
    ]
    nodes = [helper.make_node(op, ins, [out], name=out, **a) for op, ins, out, a in layers]
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])
    graph = helper.make_graph(nodes, "float", [info], [out], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "float.onnx")

    class Frames(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            frames = rng.normal(0, 1, (8, 1, 3, 8, 8)).astype(np.float32)
            self.frames = iter([{"x": frame} for frame in frames])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.frames, None)

    kind = quantization.QuantType
    quantization.quantize_static(
        str(tmp_path / "float.onnx"), str(tmp_path / "qdq.onnx"), Frames(),
        quant_format=quantization.QuantFormat.QDQ, per_channel=per_channel,
        activation_type=kind.QUInt8 if per_channel else kind.QInt8, weight_type=kind.QInt8,
    )  # fmt: skip
    lowered = check(tmp_path / "qdq.onnx")
    assert any(lowered.meta.get(f"zero.{n}") for n in lowered.tensors)
    frame = np.random.default_rng(1).integers(0, 128, (3, 8, 8))
    hls.write(lowered, tmp_path / "hls", inputs={lowered.inputs[0]: frame})
    hls.build(tmp_path / "hls")
    from hwflow import interp

    expected = interp.run(lowered, {lowered.inputs[0]: frame}, keep=True)
    assert verify.compare_all(lowered, expected, hls.run(tmp_path / "hls", frame))
