# SPDX-License-Identifier: Apache-2.0
"""The ops that foreign networks need, each against onnxruntime, QONNX or exact fractions."""

from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hwflow.errors import GraphError
from hwflow.ingest.exact import exact_sums, needs_exact_sums
from hwflow.ops import OPS
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.arith import proven_acc_bits
from hwflow.ops.batchnorm import BatchnormAttrs
from hwflow.ops.bipolar import BipolarAttrs
from hwflow.ops.chain import Chain, Step
from hwflow.ops.clip import ClipAttrs
from hwflow.ops.conv2d import Conv2dAttrs
from hwflow.ops.divide import DivideAttrs
from hwflow.ops.maxpool2d import Maxpool2dAttrs
from hwflow.ops.multithreshold import MultithresholdAttrs
from hwflow.ops.quant import ROUNDINGS, QuantAttrs
from hwflow.ops.real_add import RealAddAttrs
from hwflow.ops.real_avgpool import RealAvgpoolAttrs
from hwflow.ops.real_conv2d import RealConv2dAttrs
from hwflow.ops.rearrange import RearrangeAttrs
from hwflow.ops.relu import ReluAttrs
from hwflow.ops.residual import ResidualAttrs, proven_bits
from hwflow.ops.resize import ResizeAttrs
from hwflow.ops.threshold import ThresholdAttrs
from hwflow.ops.trunc import TruncAttrs
from hwflow.ops.types import IntType, RealType, Tensor
from tests.test_ops import draw_map, fraction_requantise

U8, I8, I4 = IntType(8, False), IntType(8, True), IntType(4, True)
SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.sampled_from([1, 2, 3, 5, 7, 11, 13])
EXAMPLES = settings(max_examples=40, deadline=None)


def run(op: str, inputs: list[np.ndarray], opset: int = 18, **attributes: object) -> np.ndarray:
    """One ONNX node in onnxruntime, on arrays with their batch axis."""
    names = [f"i{i}" for i in range(len(inputs))]
    kinds = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in inputs]
    infos = [
        helper.make_tensor_value_info(n, k, a.shape)
        for n, k, a in zip(names, kinds, inputs, strict=True)
    ]
    integer = {"ArgMax": TensorProto.INT64, "QuantizeLinear": kinds[-1]}
    out = helper.make_tensor_value_info("o", integer.get(op, TensorProto.FLOAT), None)
    node = helper.make_node(op, names, ["o"], **attributes)
    model = helper.make_model(
        helper.make_graph([node], "one", infos, [out]),
        opset_imports=[helper.make_opsetid("", opset)], ir_version=9,
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


def floats(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32)[None]


def draw_window(rng: np.random.Generator, h: int, w: int) -> dict[str, tuple[int, ...]]:
    """A window over h x w that fits, prime sizes among them."""
    while True:
        kernel = (int(rng.choice([1, 2, 3, 5, 7])), int(rng.choice([1, 2, 3, 4])))
        dilation = (int(rng.choice([1, 1, 2, 3])), int(rng.choice([1, 1, 2])))
        pads = tuple(int(n) for n in rng.integers(0, 4, 4))
        stride = (int(rng.choice([1, 2, 3])), int(rng.choice([1, 2, 5])))
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        if h + pads[0] + pads[2] >= reach[0] and w + pads[1] + pads[3] >= reach[1]:
            return {"kernel": kernel, "stride": stride, "pads": pads, "dilation": dilation}


def onnx_window(window: dict[str, tuple[int, ...]]) -> dict[str, list[int]]:
    names = {"kernel": "kernel_shape", "stride": "strides", "pads": "pads", "dilation": "dilations"}
    return {names[key]: list(value) for key, value in window.items()}


# --- level integer -----------------------------------------------------------------------------


@EXAMPLES
@given(SEEDS, SIDES, SIDES, st.sampled_from([1, 1, 2, 3, 5]), st.booleans())
def test_conv2d(seed: int, h: int, w: int, groups: int, whole: bool) -> None:
    """Any window against Conv of integers less the zero point; whole: the kernel is the map."""
    rng = np.random.default_rng(seed)
    kind, out = (U8, I8, I4)[seed % 3], (I8, U8, IntType(3, True))[seed % 3]
    window = draw_window(rng, h, w)
    if whole:
        window |= {"kernel": (h, w), "pads": (0, 0, 0, 0), "dilation": (1, 1)}
    ic, oc = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    x = draw_map(rng, (ic, h, w), kind)
    zero = int(rng.integers(kind.lo, kind.hi + 1)) if rng.random() < 0.5 else 0
    weight = rng.integers(-7, 8, (oc, ic // groups, *window["kernel"])).astype(np.int8)
    mul = rng.integers(0, 60, oc)
    consts = {
        "weight": weight, "bias": rng.integers(-4000, 4000, oc), "mul": mul,
        "shift": rng.integers(-2, 12, oc).astype(np.int8),
    }  # fmt: skip
    lo, hi = sorted(int(n) for n in rng.integers(out.lo, out.hi + 1, 2))
    bits = proven_acc_bits(weight, consts["bias"], mul, kind)
    attrs = Conv2dAttrs(**window, groups=groups, pad_value=zero, weight_bits=4, acc_bits=bits,
                        lo=lo, hi=hi, out=out)  # fmt: skip
    # Outside the map lies the zero point: Conv pads with 0, so it sees x - zero.
    acc = run("Conv", [floats(x - zero), weight.astype(np.float32)], group=groups,
              **onnx_window(window))[0]  # fmt: skip
    raw = acc.astype(np.int64) + zero * weight.astype(np.int64).reshape(oc, -1).sum(1)[
        :, None, None
    ]
    expected = fraction_requantise(raw, mul, consts["bias"], consts["shift"], IntType(40, True))
    got = OPS["conv2d"].golden((x,), attrs, consts)
    assert np.array_equal(got, np.clip(expected, lo, hi))
    inferred = OPS["conv2d"].infer((Tensor("x", x.shape, kind),), attrs, consts)
    assert (inferred.shape, inferred.dtype) == (got.shape, out)
    macs = OPS["conv2d"].macs((Tensor("x", x.shape, kind),), inferred, attrs)
    assert macs == got.size * weight[0].size


@EXAMPLES
@given(SEEDS, SIDES, SIDES)
def test_maxpool2d(seed: int, h: int, w: int) -> None:
    rng = np.random.default_rng(seed)
    window = draw_window(rng, h, w)
    window["pads"] = tuple(
        min(p, window["kernel"][i % 2] - 1) for i, p in enumerate(window["pads"])
    )
    x = draw_map(rng, (3, h, w), I8)
    attrs, tensor = Maxpool2dAttrs(**window), Tensor("x", x.shape, I8)
    try:
        inferred = OPS["maxpool2d"].infer((tensor,), attrs, {})
    except GraphError as error:
        assert "no output" in str(error) or "wholly outside" in str(error)
        assume(False)
    expected = run("MaxPool", [floats(x)], **onnx_window(window))[0]
    assert np.array_equal(OPS["maxpool2d"].golden((x,), attrs, {}), expected)
    assert np.array_equal(OPS["maxpool2d"].golden((floats(x)[0],), attrs, {}), expected)
    assert inferred.shape == expected.shape


def test_a_window_wholly_outside_is_refused() -> None:
    attrs = Maxpool2dAttrs((1, 1), (1, 1), (2, 0, 0, 0))
    with pytest.raises(GraphError, match="wholly outside"):
        OPS["maxpool2d"].infer((Tensor("x", (1, 3, 3), U8),), attrs, {})


@EXAMPLES
@given(SEEDS, SIDES, SIDES, st.integers(-300, 300), st.integers(-300, 300))
def test_residual(seed: int, h: int, w: int, first: int, second: int) -> None:
    rng = np.random.default_rng(seed)
    c, types = int(rng.integers(1, 6)), (U8, I8) if seed % 2 else (I4, U8)
    a, b = (draw_map(rng, (c, h, w), t) for t in types)
    consts = {
        "mul": rng.integers(0, 400, c), "bias": rng.integers(-9999, 9999, c),
        "shift": rng.integers(-1, 16, c).astype(np.int8),
    }  # fmt: skip
    bits = proven_bits((first, second), types)
    attrs = ResidualAttrs((first, second), bits, -100, 90, I8)
    # Mul and Add of onnxruntime on numbers far below 2**24 are exact.
    parts = [run("Mul", [floats(x), np.float32([n])]) for x, n in ((a, first), (b, second))]
    acc = run("Add", parts)[0].astype(np.int64)
    expected = fraction_requantise(acc, *consts.values(), IntType(50, True))
    assert np.array_equal(OPS["residual"].golden((a, b), attrs, consts),
                          np.clip(expected, -100, 90))  # fmt: skip
    tensors = tuple(Tensor("x", (c, h, w), t) for t in types)
    assert OPS["residual"].infer(tensors, attrs, consts) == Tensor("", (c, h, w), I8)
    reach = [abs(n * v) for n, t in zip((first, second), types, strict=True)
             for v in (t.lo, t.hi)]  # fmt: skip
    assert max(reach) <= 1 << (bits - 1)
    if bits > 2:
        with pytest.raises(GraphError, match="the inputs need"):
            OPS["residual"].infer(tensors, ResidualAttrs((first, second), bits - 1, 0, 1, I8),
                                  consts)  # fmt: skip


@EXAMPLES
@given(SEEDS, SIDES, st.sampled_from([1, 2, 3, 15, 255]), st.integers(-20, 5))
def test_threshold(seed: int, side: int, levels: int, lo: int) -> None:
    """Against MultiThreshold of QONNX, which compares with every threshold."""
    from qonnx.custom_op.general.multithreshold import multithreshold

    rng = np.random.default_rng(seed)
    kind = (I8, IntType(20, True))[seed % 2]
    x = draw_map(rng, (3, side, 4), kind)
    table = np.sort(rng.integers(kind.lo - 3, kind.hi + 4, (3, levels)), axis=1)
    table[:, : levels // 3] = table[:, :1]  # equal ones
    table = np.sort(table, axis=1)
    expected = multithreshold(x[None], table, out_bias=lo)[0]
    attrs = ThresholdAttrs(lo, IntType(10, True))
    got = OPS["threshold"].golden((x,), attrs, {"thresholds": table})
    assert np.array_equal(got, expected)
    tensor = Tensor("x", x.shape, kind)
    assert OPS["threshold"].infer((tensor,), attrs, {"thresholds": table}).shape == x.shape
    with pytest.raises(GraphError, match="thresholds of a channel fall"):
        falling = np.sort(table, axis=1)[:, ::-1] - np.arange(levels)
        assume(levels > 1)
        OPS["threshold"].infer((tensor,), attrs, {"thresholds": np.ascontiguousarray(falling)})


@EXAMPLES
@given(SEEDS, st.integers(1, 40), SIDES, st.booleans())
def test_argmax(seed: int, channels: int, side: int, last: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (channels, side, 3))
    expected = run("ArgMax", [floats(x)], axis=1, select_last_index=int(last))[0]
    got = OPS["argmax"].golden((x,), ArgmaxAttrs(last), {})
    assert np.array_equal(got, expected)
    out = OPS["argmax"].infer((Tensor("x", x.shape, I4),), ArgmaxAttrs(last), {})
    assert out.shape == got.shape and got.max() <= out.dtype.hi
    assert channels == 1 or out.dtype.hi < 2 * (channels - 1)


@EXAMPLES
@given(SEEDS, SIDES, SIDES, st.integers(1, 3))
def test_resize_by_lists(seed: int, h: int, w: int, parts: int) -> None:
    """Against Gather along both axes."""
    rng = np.random.default_rng(seed)
    x = draw_map(rng, (2, h, w), I8)
    rows, columns = (rng.integers(0, n, parts * n).astype(np.int32) for n in (h, w))
    tall = run("Gather", [floats(x), rows.astype(np.int64)], axis=2)
    expected = run("Gather", [tall, columns.astype(np.int64)], axis=3)[0]
    consts = {"rows": rows, "columns": columns}
    assert np.array_equal(OPS["resize"].golden((x,), ResizeAttrs(), consts), expected)
    with pytest.raises(GraphError, match=r"rows leave 0\.\."):
        OPS["resize"].infer(
            (Tensor("x", x.shape, I8),), ResizeAttrs(), {**consts, "rows": rows + np.int32(h)}
        )


@EXAMPLES
@given(SEEDS, st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3),
       st.sampled_from(["DCR", "CRD"]))  # fmt: skip
def test_rearrange_is_depth_to_space(
    seed: int, deep: int, h: int, w: int, size: int, mode: str
) -> None:
    from hwflow.ingest.layout import _blocks

    x = draw_map(np.random.default_rng(seed), (deep * size**2, h, w), I8)
    attrs = _blocks("DepthToSpace", Tensor("x", x.shape, I8), size, mode.encode())
    expected = run("DepthToSpace", [floats(x)], blocksize=size, mode=mode)[0]
    assert np.array_equal(OPS["rearrange"].golden((x,), attrs, {}), expected)
    back = _blocks("SpaceToDepth", Tensor("x", expected.shape, I8), size, b"DCR")
    wide = run("SpaceToDepth", [expected[None]], blocksize=size)[0]
    assert np.array_equal(OPS["rearrange"].golden((expected,), back, {}), wide)


@EXAMPLES
@given(SEEDS, st.permutations([0, 1, 2]), SIDES, SIDES)
def test_rearrange_is_transpose_and_reshape(seed: int, perm: list[int], h: int, w: int) -> None:
    x = draw_map(np.random.default_rng(seed), (4, h, w), U8)
    turned = run("Transpose", [floats(x)], perm=[0, *(p + 1 for p in perm)])
    wanted = np.array([1, -1, 2, 1], np.int64)
    expected = run("Reshape", [turned, wanted])[0]
    attrs = RearrangeAttrs(x.shape, tuple(perm), expected.shape)
    assert np.array_equal(OPS["rearrange"].golden((x,), attrs, {}), expected)
    assert OPS["rearrange"].infer((Tensor("x", x.shape, U8),), attrs, {}).shape == expected.shape
    with pytest.raises(GraphError, match="differ in size"):
        wrong = RearrangeAttrs(x.shape, tuple(perm), (3, *expected.shape))
        OPS["rearrange"].infer((Tensor("x", x.shape, U8),), wrong, {})


# --- level quant -------------------------------------------------------------------------------


@EXAMPLES
@given(SEEDS, st.integers(1, 40), st.sampled_from([(1, 1), (3, 5), (8, 8)]))
def test_batchnorm(seed: int, c: int, sides: tuple[int, int]) -> None:
    """Bit by bit, as onnxruntime rounds."""
    rng = np.random.default_rng(seed)
    x = (rng.integers(-30000, 30000, (c, *sides)) * rng.choice([1.0, 2**-7, 0.37])).astype("f4")
    consts = {
        "gamma": rng.normal(0, 2, c), "beta": rng.normal(0, 2, c), "mean": rng.normal(0, 90, c),
        "variance": rng.uniform(1e-3, 4000, c),
    }  # fmt: skip
    consts = {role: value.astype(np.float32) for role, value in consts.items()}
    expected = run("BatchNormalization", [x[None], *consts.values()], opset=9, epsilon=1e-5)[0]
    got = OPS["batchnorm"].golden((x,), BatchnormAttrs(float(np.float32(1e-5))), consts)
    assert np.array_equal(got, expected)


@EXAMPLES
@given(SEEDS, SIDES, SIDES, st.sampled_from([1.0, 2**-8, 0.25]))
def test_real_avgpool(seed: int, h: int, w: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    window = draw_window(rng, h, w)
    del window["dilation"]
    pads = tuple(min(p, window["kernel"][i % 2] - 1) for i, p in enumerate(window["pads"]))
    window["pads"] = pads
    assume(h + pads[0] + pads[2] >= window["kernel"][0])
    assume(w + pads[1] + pads[3] >= window["kernel"][1])
    x = (draw_map(rng, (4, h, w), U8) * scale).astype(np.float32)
    fields = onnx_window(window)
    expected = run("AveragePool", [x[None]], count_include_pad=1, **fields)[0]
    assert np.array_equal(
        OPS["real_avgpool"].golden((x,), RealAvgpoolAttrs(**window), {}), expected
    )
    whole = RealAvgpoolAttrs((h, w), (1, 1), (0, 0, 0, 0))
    mean = OPS["real_avgpool"].golden((x,), whole, {})
    assert np.array_equal(mean, run("GlobalAveragePool", [x[None]])[0])
    axes = np.array([2, 3], np.int64)
    assert np.array_equal(mean, run("ReduceMean", [x[None], axes])[0])


@EXAMPLES
@given(SEEDS, SIDES, SIDES, st.sampled_from([1, 2, 3]))
def test_real_conv2d(seed: int, h: int, w: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    window = draw_window(rng, h, w)
    x = (draw_map(rng, (groups * 2, h, w), U8) / 16).astype(np.float32)
    consts = {
        "weight": rng.integers(-7, 8, (groups * 3, 2, *window["kernel"])).astype(np.int8),
        "weight_scale": np.exp2(rng.integers(-6, 0, groups * 3)).astype(np.float32),
        "bias": rng.integers(-50, 50, groups * 3),
        "bias_scale": np.full(groups * 3, 2**-8, np.float32),
    }
    weight = consts["weight"] * consts["weight_scale"][:, None, None, None]
    bias = (consts["bias"] * consts["bias_scale"]).astype(np.float32)
    expected = run("Conv", [x[None], weight, bias], group=groups, **onnx_window(window))[0]
    attrs = RealConv2dAttrs(**window, groups=groups, weight_bits=4)
    assert np.array_equal(OPS["real_conv2d"].golden((x,), attrs, consts), expected)


@EXAMPLES
@given(SEEDS, st.floats(-2, 0), st.floats(0, 2))
def test_elementwise(seed: int, low: float, high: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(0, 2, (3, 4, 5)).astype(np.float32) for _ in range(2))
    lo, hi = np.float32(low), np.float32(high)
    expected = run("Clip", [x[None], np.array(lo), np.array(hi)])[0]
    assert np.array_equal(OPS["clip"].golden((x,), ClipAttrs(float(lo), float(hi)), {}), expected)
    value = rng.uniform(0.1, 3, (3, 1, 1)).astype(np.float32)
    expected = run("Div", [x[None], value])[0]
    assert np.array_equal(OPS["divide"].golden((x,), DivideAttrs(), {"value": value}), expected)
    expected = run("Add", [x[None], y[None]])[0]
    assert np.array_equal(OPS["real_add"].golden((x, y), RealAddAttrs(), {}), expected)


@EXAMPLES
@given(SEEDS, st.integers(2, 8), st.booleans(), st.booleans(), st.sampled_from(sorted(ROUNDINGS)),
       st.floats(1e-3, 10))  # fmt: skip
def test_quant_with_zero_point_and_limits(
    seed: int, bits: int, signed: bool, narrow: bool, mode: str, scale: float
) -> None:
    from qonnx.custom_op.general.intquant import int_quant

    rng, kind, step = np.random.default_rng(seed), IntType(bits, signed), np.float32(scale)
    lo, hi = kind.lo + (narrow and signed), kind.hi - (narrow and not signed)
    zero = int(rng.integers(lo, hi + 1))
    x = ((rng.integers(2 * lo - 9, 2 * hi + 10, (2, 4, 9)) / 2) - zero).astype(np.float32) * step
    attrs = QuantAttrs(kind, (lo, hi), zero, mode)
    consts = {"scale": np.array(step)}
    args = (np.float32(zero), np.float32(bits), int(signed), int(narrow), mode)
    got = OPS["quant"].golden((x,), attrs, consts)
    assert np.array_equal(got, int_quant(x, step, *args))
    assert OPS["quant"].infer((Tensor("x", x.shape, RealType()),), attrs, consts).shape == x.shape


@EXAMPLES
@given(SEEDS, st.booleans(), st.floats(1e-3, 10))
def test_linear_quant_rounds_before_the_zero_point(seed: int, signed: bool, scale: float) -> None:
    rng, kind, step = np.random.default_rng(seed), IntType(8, signed), np.float32(scale)
    dtype = np.int8 if signed else np.uint8
    zero = int(rng.integers(kind.lo, kind.hi + 1))
    x = (rng.integers(-600, 600, (2, 4, 9)) / 2).astype(np.float32) * step
    code = run("QuantizeLinear", [x, np.array(step), np.array(zero, dtype)], opset=13)
    expected = run("DequantizeLinear", [code, np.array(step), np.array(zero, dtype)], opset=13)
    attrs = QuantAttrs(kind, None, zero, linear=True)
    assert np.array_equal(OPS["quant"].golden((x,), attrs, {"scale": np.array(step)}), expected)


@EXAMPLES
@given(SEEDS, st.floats(1e-3, 10), st.integers(1, 7))
def test_bipolar_and_multithreshold(seed: int, scale: float, levels: int) -> None:
    from qonnx.custom_op.general.bipolar_quant import binary_quant
    from qonnx.custom_op.general.multithreshold import multithreshold

    rng, step = np.random.default_rng(seed), np.float32(scale)
    x = rng.integers(-3, 4, (3, 5, 2)).astype(np.float32) * step
    got = OPS["bipolar"].golden((x,), BipolarAttrs(), {"scale": np.array(step)})
    assert np.array_equal(got, binary_quant(x, step))
    table = rng.choice(x.ravel(), (3, levels)).astype(np.float32)
    expected = multithreshold(x[None], table, 0.5, -1.5)[0]
    attrs = MultithresholdAttrs(0.5, -1.5)
    assert np.array_equal(
        OPS["multithreshold"].golden((x,), attrs, {"thresholds": table}), expected
    )
    one = OPS["multithreshold"].golden((x,), attrs, {"thresholds": table[:1]})
    assert np.array_equal(one, multithreshold(x[None], table[:1], 0.5, -1.5)[0])


@EXAMPLES
@given(SEEDS, st.integers(1, 6), st.sampled_from(sorted(ROUNDINGS)), st.booleans())
def test_trunc(seed: int, drop: int, mode: str, signed: bool) -> None:
    from qonnx.custom_op.general.trunc import trunc_v1, trunc_v2

    rng, scale = np.random.default_rng(seed), np.float32(0.125)
    x = rng.integers(-128, 128, (2, 4, 9)).astype(np.float32) * scale
    args = (np.float32(0), np.float32(8))
    first = trunc_v1(x, scale, *args, np.float32(8 - drop), mode)
    consts = {"scale": np.array(scale), "out_scale": np.array(scale)}
    got = OPS["trunc"].golden((x,), TruncAttrs(drop, 0, 0, mode), consts)
    assert np.array_equal(got, first)
    out, kind = np.float32(scale * 2**drop), IntType(max(2, 8 - drop), signed)
    second = trunc_v2(x, scale, *args, 0, signed, out, np.float32(kind.bits), mode)
    attrs = TruncAttrs(drop, 0, 0, mode, (kind.lo, kind.hi))
    got = OPS["trunc"].golden((x,), attrs, {**consts, "out_scale": np.array(out)})
    assert np.array_equal(got, second)


# --- chains ------------------------------------------------------------------------------------


def test_a_chain_is_its_steps_and_survives_as_text() -> None:
    rng = np.random.default_rng(1)
    column = rng.uniform(0.2, 3, (4, 1, 1)).astype(np.float32)
    steps = (
        Step("add", OPS["add"].attrs(), {"value": column}),
        Step("relu", ReluAttrs(), {}),
        Step("clip", ClipAttrs(0.0, 5.5), {}),
        Step("divide", DivideAttrs(), {"value": np.array(3.0, np.float32)}),
    )
    sign, offset = np.array([1, -1, 1, 1]), np.array([0, 3, -9, 100])
    unit, bias = (rng.uniform(0.01, 0.1, 4).astype(np.float32) for _ in range(2))
    chain = Chain(sign, offset, unit, bias, 6, steps)
    acc = rng.integers(-900, 900, (4, 5, 7))
    for c in range(4):
        for a, got in zip(acc[c].ravel(), chain(acc)[c].ravel(), strict=True):
            value = np.float32(np.float32(int(a) * sign[c] - offset[c]) / np.float32(6))
            value = np.float32(np.float32(value * unit[c]) + bias[c])
            value = np.float32(value + column[c, 0, 0])
            value = np.float32(min(max(value, np.float32(0)), np.float32(5.5)))
            assert np.float32(value / np.float32(3)) == got
        assert np.array_equal(chain.channel(c)(acc[c : c + 1])[0], chain(acc)[c])
    again = Chain.from_json(chain.to_json())
    assert np.array_equal(again(acc), chain(acc)) and again.to_json() == chain.to_json()
    assert not chain.alike() and Chain(sign[:1], offset[:1], unit[:1], bias[:1]).alike()
    for text in ("", "{}", '{"sign": 1}', chain.to_json().replace("relu", "none")):
        with pytest.raises(GraphError, match="no chain of float steps"):
            Chain.from_json(text)


def test_exact_sums_are_what_fractions_give() -> None:
    """A file with free scales: its exact form is the sum of integers, each product exact."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    from tests.import_models import Net

    net = Net(np.random.default_rng(5), free=True)
    net.x = start = net.quant(net.x, 0.0137, 8, False)
    net.x = net.node("Conv", [net.x, net.weight((4, 3, 3, 3), 0)], kernel_shape=[3, 3])
    net.shape = (1, 4, 7, 5)
    file = net.model((1, 3, 9, 7))
    assert needs_exact_sums(file)
    model = ModelWrapper(exact_sums(file)).transform(InferShapes())
    image = np.random.default_rng(0).uniform(0, 3, (1, 3, 9, 7)).astype(np.float32)
    found = execute_onnx(model, {"image": image}, return_full_exec_context=True)
    scale = np.float32(0.0137)
    x = np.rint(found[start][0] / scale).astype(int)
    weight = next(n for n in file.graph.node if n.op_type in ("Quant", "BipolarQuant")
                  and n.output[0] != start)  # fmt: skip
    steps = next(t for t in file.graph.initializer if t.name == weight.input[1])
    from onnx import numpy_helper

    column = np.broadcast_to(numpy_helper.to_array(steps).astype(np.float32), (4, 1, 1, 1))
    w = np.rint(found[weight.output[0]] / column).astype(int)
    for o in range(4):
        for y in range(7):
            for z in range(5):
                total = sum(
                    Fraction(int(a) * int(b))
                    for a, b in zip(x[:, y : y + 3, z : z + 3].ravel(), w[o].ravel(), strict=True)
                )
                unit = np.float32(scale * column[o, 0, 0, 0])
                assert found[net.x][0, o, y, z] == np.float32(np.float32(int(total)) * unit)
