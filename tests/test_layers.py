# SPDX-License-Identifier: Apache-2.0
"""Deformable operators against onnxruntime, their gradients against finite differences."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from brevitas.nn import QuantIdentity
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor, nn

from hwflow.errors import ConfigError
from hwflow.models.layers import (
    VARIANTS,
    ConvUnit,
    DeformDw,
    DeformVariant,
    Dilation,
    DilQ,
    InQ,
    InwardClamp,
    QuantAct,
    quantise_conv,
)

TAPS = np.array([(i - 1, j - 1) for i in range(3) for j in range(3)], np.float32)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def onnx_deform(x: np.ndarray, weight: np.ndarray, offset: np.ndarray, group: int) -> np.ndarray:
    """onnxruntime's DeformConv: kernel 3x3, pad 1."""
    node = helper.make_node(
        "DeformConv",
        ["x", "w", "o"],
        ["y"],
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
        group=group,
        offset_group=1,
    )
    arrays = {"x": x, "w": weight, "o": offset}
    inputs = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape)
              for k, v in arrays.items()]
    shape = (x.shape[0], weight.shape[0], *x.shape[2:])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph([node], "deform", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(["y"], arrays)[0]


def naive(x: np.ndarray, weight: np.ndarray, s: np.ndarray) -> np.ndarray:
    """The definition in loops; s may be any integer, negative too."""
    n, c, h, w = x.shape
    out = np.zeros(x.shape)
    for b in range(n):
        for y in range(h):
            for z in range(w):
                for k, (dy, dx) in enumerate(TAPS.astype(int)):
                    yy, zz = y + dy * s[b, 0, y, z], z + dx * s[b, 0, y, z]
                    if 0 <= yy < h and 0 <= zz < w:
                        out[b, :, y, z] += weight.reshape(c, 9)[:, k] * x[b, :, yy, zz]
    return out


@given(
    n=st.integers(1, 3),
    c=st.integers(1, 9),
    h=st.integers(1, 17),
    w=st.integers(1, 17),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_integer_dilation_equals_onnxruntime(n: int, c: int, h: int, w: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (n, c, h, w)).astype(np.float32)
    weight = rng.integers(-7, 8, (c, 1, 3, 3)).astype(np.float32)
    s = rng.integers(0, 8, (n, 1, h, w)).astype(np.float32)
    s.flat[0] = 0
    s.flat[-1] = 7
    offset = (s - 1) * TAPS.reshape(1, 18, 1, 1)
    expected = onnx_deform(x, weight, offset, c)
    got = torch.ops.hwflow.deform_dw(*map(torch.from_numpy, (x, weight, s)))
    assert np.array_equal(got.numpy(), expected)


@pytest.mark.parametrize(("h", "w"), [(3, 5), (1, 4), (9, 11), (17, 2)])
def test_gradients_equal_finite_differences(h: int, w: int) -> None:
    rng = np.random.default_rng(h * 100 + w)
    n, c = 2, 3
    x = rng.integers(-128, 128, (n, c, h, w)).astype(np.float64)
    weight = rng.integers(-7, 8, (c, 1, 3, 3)).astype(np.float64)
    s = rng.integers(0, 8, (n, 1, h, w))
    s.flat[0], s.flat[-1] = 0, 7
    g = rng.integers(-9, 10, x.shape).astype(np.float64)
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, weight, s)]
    torch.ops.hwflow.deform_dw(*tensors).backward(torch.from_numpy(g))

    # One-sided differences are exact: the operator is linear in x and in the weight.
    base = (naive(x, weight, s) * g).sum()
    for array, tensor in ((x, tensors[0]), (weight, tensors[1])):
        expected = np.empty(array.shape)
        for i in range(array.size):
            array.flat[i] += 1
            expected.flat[i] = (naive(x, weight, s) * g).sum() - base
            array.flat[i] -= 1
        assert np.array_equal(tensor.grad.numpy(), expected)
    central = (naive(x, weight, s + 1) - naive(x, weight, s - 1)) / 2
    assert np.array_equal(tensors[2].grad.numpy(), (central * g).sum(1, keepdims=True))


def test_gradient_descent_finds_the_dilation_that_made_the_target() -> None:
    generator = torch.Generator().manual_seed(3)
    rows = torch.arange(24.0)
    ramp = ((rows - 11.5) ** 2).view(1, 1, 24, 1).expand(1, 4, 24, 24) / 64
    weight = torch.rand(4, 1, 3, 3, generator=generator)
    target = torch.ops.hwflow.deform_dw(ramp, weight, torch.full((1, 1, 24, 24), 4.0))
    raw = torch.ones(1, requires_grad=True)
    dilation = Dilation()
    optimiser = torch.optim.Adam([raw], 0.2)
    for _ in range(60):
        optimiser.zero_grad()
        s = dilation(raw.view(1, 1, 1, 1).expand(1, 1, 24, 24))
        out = torch.ops.hwflow.deform_dw(ramp, weight, s)
        inner = (out - target)[..., 8:16, 8:16]
        inner.square().mean().backward()
        optimiser.step()
    assert float(dilation(raw.detach())) == 4.0


@pytest.mark.parametrize(
    ("x", "grad", "kept"),
    [
        (3.2, 1.0, True),
        (3.2, -1.0, True),
        (9.0, 1.0, True),
        (9.0, -1.0, False),
        (-2.0, 1.0, False),
        (-2.0, -1.0, True),
        (0.0, 1.0, True),
        (7.4, -1.0, True),
    ],
)
@pytest.mark.parametrize("quantised", [False, True])
def test_dilation_gradient_points_inwards(
    x: float, grad: float, kept: bool, quantised: bool
) -> None:
    value = torch.full((1, 1, 1, 1), x, requires_grad=True)
    layer = QuantIdentity(act_quant=DilQ) if quantised else Dilation()
    layer(value).backward(torch.full((1, 1, 1, 1), grad))
    assert float(value.grad) == (grad if kept else 0.0)


@pytest.mark.parametrize("quantised", [False, True])
def test_dilation_rounds_half_to_even_and_clamps(quantised: bool) -> None:
    x = torch.tensor([-3.0, -0.5, 0.5, 1.5, 2.5, 3.49, 6.5, 7.5, 100.0])
    layer = QuantIdentity(act_quant=DilQ) if quantised else Dilation()
    assert layer(x).tolist() == [0, 0, 0, 2, 2, 3, 6, 7, 7]


def test_inward_clamp_forward() -> None:
    x = torch.linspace(-3, 3, 25)
    got = InwardClamp()(x, torch.tensor(-1.0), torch.tensor(2.0))
    assert torch.equal(got, x.clamp(-1, 2))


def dyadic(rng: np.random.Generator, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    """Random multiples of 1/4: bilinear sampling of integers at them is exact in float32."""
    return (rng.integers(low * 4, high * 4 + 1, shape) / 4).astype(np.float32)


def expected_offsets(variant: str, raw: np.ndarray) -> np.ndarray:
    if variant == "bounded":
        return np.clip(raw, -8, 8)
    if variant == "rounded":
        return np.round(raw)
    if variant == "square":
        return TAPS.reshape(1, 18, 1, 1) * np.clip(raw, 0, 8)
    return raw


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_variants_equal_onnxruntime(variant: str, depthwise: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, cin, cout = 2, int(rng.integers(1, 5)), int(rng.integers(1, 6))
    h, w = (int(v) for v in rng.integers(1, 14, 2))
    layer = DeformVariant(cin, cout, variant, depthwise)
    x = rng.integers(0, 16, (n, cin, h, w)).astype(np.float32)
    weight = rng.integers(-7, 8, layer.conv.weight.shape).astype(np.float32)
    raw = dyadic(rng, (n, layer.offset.out_channels, h, w), -11, 11)
    sampled = x
    with torch.no_grad():
        layer.conv.weight.copy_(torch.from_numpy(weight))
        if depthwise:
            pw = rng.integers(-3, 4, (cout, cin)).astype(np.float32)
            layer.pw.weight.copy_(torch.from_numpy(pw)[:, :, None, None])
            sampled = np.einsum("oc,nchw->nohw", pw, x)
        layer.offset.forward = lambda _: torch.from_numpy(raw)
        got = layer(torch.from_numpy(x)).numpy()
    offset = expected_offsets(variant, raw)
    expected = onnx_deform(sampled, weight, offset, cout if depthwise else 1)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_start_as_plain_convolution(variant: str) -> None:
    generator = torch.Generator().manual_seed(1)
    layer = DeformVariant(3, 5, variant, depthwise=False)
    with torch.no_grad():
        shape = layer.conv.weight.shape
        layer.conv.weight.copy_(torch.randint(-7, 8, shape, generator=generator).float())
        x = torch.randint(0, 99, (1, 3, 7, 9), generator=generator).float()
        assert torch.equal(layer(x), layer.conv(x))


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_train_their_offsets(variant: str) -> None:
    torch.manual_seed(2)
    layer = DeformVariant(3, 4, variant, depthwise=True)
    nn.init.constant_(layer.offset.bias, 0.25)
    layer(torch.randn(1, 3, 9, 9)).square().sum().backward()
    assert float(layer.offset.bias.grad.abs().sum()) > 0


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(ConfigError, match="square"):
        DeformVariant(1, 1, "round", depthwise=True)


def image_quantiser() -> QuantIdentity:
    return QuantIdentity(act_quant=InQ, return_quant_tensor=True)


def test_input_quantiser_returns_the_pixel() -> None:
    pixels = torch.arange(256).float()
    out = image_quantiser()(pixels / 256)
    assert torch.equal(out.int().float(), pixels)
    assert float(out.scale) == 2.0**-8


@pytest.mark.parametrize("bits", [4, 8])
def test_fold_and_quantise_follow_their_definitions(bits: int) -> None:
    torch.manual_seed(bits)
    conv, bn = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
    with torch.no_grad():
        bn.weight.uniform_(0.5, 2)
        bn.bias.normal_()
        bn.running_mean.normal_()
        bn.running_var.uniform_(0.2, 3)
    factor = bn.weight.detach().numpy() / np.sqrt(bn.running_var.numpy() + np.float32(bn.eps))
    folded = conv.weight.detach().numpy() * factor[:, None, None, None]
    bias = bn.bias.detach().numpy() - bn.running_mean.numpy() * factor
    out = quantise_conv(conv, bn, bits)
    top = 2 ** (bits - 1)
    peak = np.abs(folded).reshape(6, -1).max(1)
    scale = 2.0 ** np.ceil(np.log2(peak)) / top
    if bits == 4:  # of all powers of two, the one of least squared error
        errors = {}
        for exponent in range(-12, 4):
            grid = np.clip(np.round(folded / 2.0**exponent), -7, 7) * 2.0**exponent
            errors[exponent] = ((grid - folded) ** 2).reshape(6, -1).sum(1)
        table = np.array(list(errors.values()))
        scale = 2.0 ** np.array(list(errors))[table.argmin(0)]
    assert np.array_equal(out.quant_weight().scale.detach().numpy().ravel(), scale)
    integers = np.clip(np.round(folded / scale[:, None, None, None]), 1 - top, top - 1)
    assert np.array_equal(out.quant_weight().int().numpy(), integers)
    result = out(image_quantiser()(torch.zeros(1, 3, 2, 2))).value
    grid = np.round(bias / (scale / 256)) * (scale / 256)
    assert np.array_equal(result[0, :, 0, 0].detach().numpy(), grid.astype(np.float32))


def test_all_zero_weights_keep_the_bias() -> None:
    unit = ConvUnit(8, 1, bn=False, act="dilation")
    nn.init.zeros_(unit.conv.weight)
    nn.init.ones_(unit.conv.bias)
    unit.quantise()
    out = unit(image_quantiser()(torch.rand(1, 8, 3, 3)))
    assert torch.equal(out.value, torch.ones(1, 1, 3, 3))


@pytest.mark.parametrize(
    ("signed", "relu", "steps"), [(False, True, 256), (True, False, 128)]
)
@pytest.mark.parametrize("top", [0.3, 1.0, 5.0, 300.0])
def test_calibration_covers_a_uniform_range(
    signed: bool, relu: bool, steps: int, top: float
) -> None:
    act = QuantAct(signed, relu)
    x = torch.linspace(-top, top, 4001)
    act.start()
    act(x)
    act.settle()
    # Uniform data: clipping costs more than the finer step saves, unless the clipped part is tiny.
    assert float(act(x).scale.detach()) == 2.0 ** np.ceil(np.log2(top)) / steps


def test_calibration_clips_a_rare_outlier() -> None:
    act = QuantAct(signed=True, relu=False)
    x = torch.linspace(-1, 1, 200001)
    x[0] = 3.0
    act.start()
    act(x)
    act.settle()
    assert float(act(x).scale.detach()) == 2.0**-7


@pytest.mark.parametrize(("signed", "relu"), [(False, True), (True, False)])
def test_activation_equals_brevitas_own_path(signed: bool, relu: bool) -> None:
    """Value, scale and both gradients, at every rounding tie and beyond both ends."""
    act = QuantAct(signed, relu).train()
    act.set_exponent(2)
    x = torch.arange(-600, 601).float() / 128
    grad = torch.from_numpy(np.random.default_rng(4).integers(-9, 10, 1201).astype(np.float32))
    results = []
    for path in (act, act.quant):
        leaf = x.clone().requires_grad_()
        act.zero_grad()
        out = path(leaf)
        out.value.backward(grad)
        slope = act.exponent_parameter().grad.clone()
        results.append((out.value.detach(), out.scale.detach(), leaf.grad, slope))
        assert (int(out.bit_width), bool(out.signed), float(out.zero_point)) == (8, signed, 0.0)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
        assert float(a.abs().sum()) > 0


def numbers(x: Tensor) -> np.ndarray:
    return x.detach().numpy()


def test_deform_layer_quantises_weights_and_output() -> None:
    torch.manual_seed(5)
    layer = DeformDw(6)
    layer.quantise()
    x = image_quantiser()(torch.randint(0, 256, (2, 6, 9, 7)) / 256)
    s = torch.randint(0, 8, (2, 1, 9, 7)).float()
    layer.act.start()
    layer(x, s)
    layer.act.settle()
    out = layer(x, s)
    weight = layer.conv.quant_weight()
    acc = naive(numbers(x.int()), numbers(weight.int()), numbers(s).astype(int))
    exact = acc * numbers(weight.scale).reshape(1, 6, 1, 1) / 256 / float(out.scale.detach())
    assert np.array_equal(numbers(out.int()), np.clip(np.round(exact), -128, 127))
