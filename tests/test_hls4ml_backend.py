# SPDX-License-Identifier: Apache-2.0
"""hls4ml as second backend: exact on small quantised networks, a clear error on others."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from brevitas.export import export_qonnx
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
from brevitas.quant import Int32Bias
from brevitas.quant.fixed_point import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPoint,
)
from torch import nn

from hwflow import ingest, interp, passes, verify
from hwflow.emit import hls4ml_backend
from hwflow.errors import GraphError
from hwflow.report import schema


class Pixel(Uint8ActPerTensorFixedPoint):
    """Scale 2^-8: pixel / 256 goes through unchanged."""

    scaling_impl_type = "const"
    scaling_init = 1.0


def linear(inputs: int, outputs: int, bias: type | None = Int32Bias) -> nn.Module:
    return QuantLinear(
        inputs, outputs, bias=bias is not None, bias_quant=bias,
        weight_quant=Int8WeightPerTensorFixedPoint, weight_bit_width=4,
    )  # fmt: skip


def conv(inputs: int, outputs: int, groups: int = 1) -> nn.Module:
    return QuantConv2d(
        inputs, outputs, 3, padding=1, groups=groups, bias=True, bias_quant=Int32Bias,
        weight_quant=Int8WeightPerTensorFixedPoint, weight_bit_width=4,
    )  # fmt: skip


def relu() -> nn.Module:
    return QuantReLU(
        act_quant=Uint8ActPerTensorFixedPoint, bit_width=4, return_quant_tensor=True
    )


def mlp() -> list[nn.Module]:
    """The first layer has no bias: its Gemm has two inputs."""
    return [linear(16, 32, None), relu(), linear(32, 16), relu(), linear(16, 5)]


def cnn() -> list[nn.Module]:
    """Maps keep different height and width, so that a swapped axis cannot pass."""
    return [conv(3, 6), relu(), conv(6, 6, 6), relu(), nn.MaxPool2d(2), conv(6, 5)]


def export(layers: list[nn.Module], shape: tuple[int, ...], path: Path) -> np.ndarray:
    """Write the QONNX file of a calibrated network; vectors for it (N, ...)."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    first = QuantIdentity(act_quant=Pixel, return_quant_tensor=True)
    model = nn.Sequential(first, *layers, QuantIdentity(act_quant=Int8ActPerTensorFixedPoint))
    vectors = torch.randint(0, 256, (24, *shape)).float() / 256
    model.train()
    model(vectors)
    model.eval()
    with torch.no_grad():
        export_qonnx(model, vectors[:1], export_path=str(path))
    return vectors.numpy()


@pytest.mark.parametrize(
    ("make", "shape", "out"), [(mlp, (16,), (5,)), (cnn, (3, 6, 10), (5, 3, 5))]
)
def test_small_networks_are_exact(make, shape, out, tmp_path: Path) -> None:  # noqa: ANN001
    vectors = export(make(), shape, tmp_path / "net.onnx")
    result = hls4ml_backend.write_and_csim(tmp_path / "net.onnx", tmp_path / "out", vectors)
    assert result.outputs.shape == (24, *out)
    assert np.array_equal(result.outputs, result.expected)
    assert (result.vectors, result.mismatches, result.first) == (24, 0, None)
    assert result.values == 24 * np.prod(out)
    assert len(np.unique(result.outputs)) > 20
    assert (result.project / "firmware" / "net.cpp").is_file()


def test_windows_may_leave_out_what_onnx_lets_them(tmp_path: Path) -> None:
    """Strides, dilations, group, pads and the kernel's sides have defaults in ONNX."""
    path = tmp_path / "net.onnx"
    vectors = export([conv(3, 4), relu(), nn.MaxPool2d(2)], (3, 4, 6), path)[:4]
    graph = passes.lower(ingest.read(path))
    model = onnx.load(path)
    left_out = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "MaxPool"):
            kept = [a for a in node.attribute if (node.op_type, a.name) in (
                ("Conv", "pads"), ("MaxPool", "kernel_shape"), ("MaxPool", "strides"))]
            left_out += len(node.attribute) - len(kept)
            del node.attribute[:]
            node.attribute.extend(kept)
    assert left_out >= 5
    onnx.save(model, path)
    result = hls4ml_backend.write_and_csim(path, tmp_path / "out", vectors)
    assert (result.values, result.mismatches) == (4 * 4 * 2 * 3, 0)
    source, out = graph.inputs[0], graph.outputs[0]
    for vector, expected in zip(vectors, result.expected, strict=True):
        integers = interp.run(graph, {source: np.rint(vector * 256).astype(np.int64)})[out]
        assert np.array_equal(verify.reals(graph, out, integers), expected)


def ties(path: Path, bias: float = 2.0**-17) -> Path:
    """Three dense layers; the second has a bias of 2**-17, finer than hls4ml's fixed<32,16>.

    Its quantiser's step is 2**-7, its inputs are multiples of 2**-8: an odd one lies on a tie,
    which the bias tips upwards in the file; hls4ml loses the bias, and the tie goes to even.
    """
    arrays: dict[str, object] = {"zero": 0, "eight": 8, "four": 4, "one": 1,
                                 "fine": 2.0**-8, "coarse": 2.0**-7}
    nodes = []

    def node(op: str, name: str, *inputs: str, **fields: object) -> str:
        nodes.append(onnx.helper.make_node(op, list(inputs), [name], name=f"my_{name}", **fields))
        return name

    def quant(name: str, x: str, scale: str, bits: str, signed: int) -> str:
        return node("Quant", name, x, scale, "zero", bits, domain="qonnx.custom_op.general",
                    signed=signed, narrow=0, rounding_mode="ROUND")

    x = quant("pixel", "x", "fine", "eight", 0)
    for number, (weight, scale) in enumerate(
        ((np.eye(4, 3), "fine"), (np.eye(3), "coarse"), (np.ones((3, 2)), "coarse")), 1
    ):
        arrays[f"w{number}"] = weight
        weights = quant(f"wq{number}", f"w{number}", "one", "four", 1)
        x = node("MatMul", f"dense{number}", x, weights)
        if number == 2:
            arrays["bias"] = [0, bias, 0]
            x = node("Add", "sum", x, "bias")
        name = "y" if number == 3 else f"act{number}"
        x = quant(name, node("Relu", f"relu{number}", x), scale, "eight", 0)
    graph = onnx.helper.make_graph(
        nodes, "ties", [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2])],
        [onnx.numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in arrays.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 17),
              onnx.helper.make_opsetid("qonnx.custom_op.general", 2)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


TIED = np.array([[2, 4, 6, 1], [4, 5, 6, 0], [1, 3, 2, 0]], np.float32) / 256


def test_a_difference_is_found_in_its_first_layer(tmp_path: Path) -> None:
    """In vector 1 5/256 + 2**-17 is 2.5 steps and a little: 3 in the file, 2 in hls4ml.

    The sums before that quantiser differ in every vector, also where the outputs are equal.
    """
    path = ties(tmp_path / "ties.onnx")
    result = hls4ml_backend.write_and_csim(path, tmp_path / "out", TIED)
    assert result.mismatches == 2  # both outputs of vector 1; 3/256 is 1.5 steps, 2 in both
    first = result.first
    assert first is not None
    assert (first.vector, first.channel, first.index) == (0, 1, (1,))
    assert (first.expected, first.actual) == (4 / 256 + 2**-17, 4 / 256)
    assert first.node == "my_dense2"
    assert first.before >= 2  # the input and the first dense layer
    assert "layer 'my_dense2'" in str(first)
    assert "channel 1, index (1,): 0.015625, the file says 0.01563262939453125" in str(first)


def test_a_quantised_bias_of_free_scale_converts(tmp_path: Path) -> None:
    """hls4ml fails on such a constant; as the floats it stands for it is taken."""
    path = ties(tmp_path / "ties.onnx", 2.0**-8)
    model = onnx.load(path)
    for name, value in (("wide", 32), ("free", 0.3 / 256)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    one = next(t for t in model.graph.initializer if t.name == "one")
    one.CopyFrom(onnx.numpy_helper.from_array(np.float32(0.3), "one"))
    place = next(i for i, n in enumerate(model.graph.node) if n.op_type == "Add")
    model.graph.node[place].input[1] = "quantised"
    model.graph.node.insert(place, onnx.helper.make_node(
        "Quant", ["bias", "free", "zero", "wide"], ["quantised"], signed=1, narrow=0,
        rounding_mode="ROUND", domain="qonnx.custom_op.general",
    ))  # fmt: skip
    onnx.save(model, path)
    result = hls4ml_backend.write_and_csim(path, tmp_path / "out", TIED)
    assert result.mismatches == 0
    assert len(np.unique(result.outputs)) > 1


@pytest.mark.parametrize("bias", [2.0**-17, 2.0**-8])
def test_the_build_marks_a_difference(bias: float, tmp_path: Path) -> None:
    """The stage has failed, with the numbers in the report; what follows is left out.

    A bias of 2**-8 is one that hls4ml holds: there every value is equal.
    """
    path = ties(tmp_path / "ties.onnx", bias)
    np.savez(tmp_path / "vectors.npz", x=TIED)
    done = subprocess.run(
        [sys.executable, "-m", "hwflow", "build", str(path), "--backend", "hls4ml", "--inputs",
         "vectors.npz", "--out", "run"],
        cwd=tmp_path, text=True, capture_output=True, timeout=500, check=False,
    )
    assert "Traceback" not in done.stderr
    report = schema.read(tmp_path / "run/report.json")
    status = {stage.name: stage.status for stage in report.stages}
    assert {status[name] for name in ("rtl", "sim", "synth", "bitstream")} == {"skipped"}
    assert "hls4ml" in str(report.verify.hls.tool)
    if bias == 2.0**-8:
        assert done.returncode == 0, done.stderr
        assert status["hls"] == "done"
        assert (report.verify.hls.images, report.verify.hls.mismatches) == (3, 0)
        return
    assert done.returncode == 1, done.stdout
    assert "layer 'my_dense2'" in done.stderr
    assert (report.verify.hls.images, report.verify.hls.mismatches) == (3, 2)
    assert "0.015625" in str(report.verify.hls.reason)
    assert status["hls"] == "failed"
    assert (tmp_path / "run/hls/hls4ml/firmware/net.cpp").is_file()


@pytest.mark.parametrize(
    ("kinds", "outputs", "expected"),
    [
        # A bias and a quantiser merged into the layer before them.
        (["MatMul m", "Add a", "Quant q"], ["m"], [("m", "q")]),
        # The ReLU is a layer of its own and takes the quantiser behind it.
        (["MatMul m", "Relu r", "Quant q"], ["m", "r"], [("m", "m"), ("r", "q")]),
        # A layer that only rescales: before it the value has another unit.
        (["MatMul m", "Mul s", "Quant q"], ["m", "scaled<m"], [("scaled", "q")]),
        # The same where the file has a name for it: the bias behind the scale of the weights.
        (["MatMul m", "Add a", "Relu r"], ["m", "a<m", "r"], [("a", "a"), ("r", "r")]),
        # A run of sums and products becomes the last of them.
        (["MatMul m", "Sub s", "Div d", "Add y"], ["m", "y"], [("m", "m"), ("y", "y")]),
        (["Reshape r", "Mul p", "Sub s", "Quant q", "MatMul m"], ["r", "s", "m"],
         [("r", "r"), ("s", "q"), ("m", "m")]),
        # A layer that stands for a batch norm and the sign behind it.
        (["MatMul m", "BatchNormalization b", "BipolarQuant q", "MatMul n"], ["m", "sign<m!", "n"],
         [("m", "m"), ("sign", "q"), ("n", "n")]),
    ],
)
def test_layers_and_their_counterparts(
    kinds: list[str], outputs: list[str], expected: list[tuple[str, str]]
) -> None:
    nodes, before = [], "x"
    for kind in kinds:
        op, name = kind.split()
        nodes.append(onnx.helper.make_node(op, [before], [name]))
        before = name
    layers = [{"name": "in", "kind": "Input", "inputs": [], "outputs": ["x"]}]
    for output in outputs:
        name, _, source = output.partition("<")
        kind = "ApplyAlpha" if source and not source.endswith("!") else "Dense"
        before = source.removesuffix("!") or layers[-1]["outputs"][0]
        layers.append({"name": name, "kind": kind, "outputs": [name], "inputs": [before]})
    assert hls4ml_backend.counterparts(layers, nodes) == expected


def test_bits_stand_for_signs() -> None:
    signs, bits = np.array([1.0, -1.0, 1.0]), np.array([1.0, 0.0, 1.0])
    assert hls4ml_backend.decoded(bits, signs).tolist() == [1, -1, 1]
    assert hls4ml_backend.decoded(signs, signs) is signs
    assert hls4ml_backend.decoded(bits, np.array([0.0, 1.0, 2.0])) is bits


def test_a_nan_is_equal_to_nothing() -> None:
    values = np.array([1.0, np.nan, 2.0])
    assert hls4ml_backend.count_differing(values, values) == 1


def test_unsupported_operators_are_listed(tmp_path: Path) -> None:
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4])
    nodes = [
        onnx.helper.make_node("Erf", ["x"], ["a"]),
        onnx.helper.make_node("Relu", ["a"], ["b"]),
        onnx.helper.make_node("Asin", ["b"], ["y"]),
    ]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "odd", [x], [y]),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(GraphError, match=r"2 nodes: .*\(Erf\), .*\(Asin\); leave --backend"):
        hls4ml_backend.write_and_csim(
            tmp_path / "odd.onnx", tmp_path / "out", np.zeros((2, 4), np.float32)
        )


def test_wrong_files_and_inputs_are_errors(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"none\.onnx"):
        hls4ml_backend.write_and_csim(tmp_path / "none.onnx", tmp_path, np.zeros((1, 4)))
    vectors = export(mlp(), (16,), tmp_path / "net.onnx")
    with pytest.raises(GraphError, match=r"\(N, 16\)"):
        hls4ml_backend.write_and_csim(tmp_path / "net.onnx", tmp_path, vectors[:, :5])


def test_what_hls4ml_cannot_convert_is_one_sentence(tmp_path: Path) -> None:
    """A vector that is scaled by a network's other input is beyond its front end."""
    (tmp_path / "junk.onnx").write_bytes(b"no model")
    with pytest.raises(GraphError, match=r"junk\.onnx: not "):
        hls4ml_backend.write_and_csim(tmp_path / "junk.onnx", tmp_path, np.zeros((1, 4)))
    path = ties(tmp_path / "ties.onnx")
    model = onnx.load(path)
    pool = onnx.helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2], name="odd")
    model.graph.node.insert(0, pool)
    model.graph.node[1].input[0] = "p"
    onnx.save(model, path)
    with pytest.raises(GraphError, match=r"ties\.onnx: (qonnx cannot|hls4ml \S+ cannot convert)"):
        hls4ml_backend.write_and_csim(path, tmp_path / "out", TIED)
