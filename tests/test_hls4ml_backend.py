# SPDX-License-Identifier: Apache-2.0
"""hls4ml as second backend: exact on small quantised networks, a clear error on others."""

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

from hwflow.emit import hls4ml_backend
from hwflow.errors import GraphError, VerifyError


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
    assert (result.vectors, result.mismatches) == (24, 0)
    assert len(np.unique(result.outputs)) > 20
    assert (result.project / "firmware" / "net.cpp").is_file()
    # A changed result does not pass the comparison.
    wrong = result.outputs.copy()
    wrong[3].flat[2] += 1
    with pytest.raises(VerifyError, match=r"1 of .* first in vector 3"):
        hls4ml_backend._compare(result.outputs, wrong, tmp_path / "net.onnx")


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
    with pytest.raises(GraphError, match=r"2 nodes: .*\(Erf\), .*\(Asin\); use"):
        hls4ml_backend.write_and_csim(
            tmp_path / "odd.onnx", tmp_path / "out", np.zeros((2, 4), np.float32)
        )


def test_wrong_files_and_inputs_are_errors(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"none\.onnx"):
        hls4ml_backend.write_and_csim(tmp_path / "none.onnx", tmp_path, np.zeros((1, 4)))
    vectors = export(mlp(), (16,), tmp_path / "net.onnx")
    with pytest.raises(GraphError, match=r"\(N, 16\)"):
        hls4ml_backend.write_and_csim(tmp_path / "net.onnx", tmp_path, vectors[:, :5])
