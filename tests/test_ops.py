# SPDX-License-Identifier: Apache-2.0
"""Each op against onnxruntime or arithmetic on fractions, on random legal shapes and attributes."""

from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hwflow.errors import GraphError
from hwflow.ops import CONVOLUTIONS, OPS
from hwflow.ops.arith import dot_range, proven_acc_bits, requantise, signed_bits
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.conv import ConvAttrs
from hwflow.ops.deform_dw import DeformDwAttrs
from hwflow.ops.dw import DwAttrs
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.peaks import PeaksAttrs
from hwflow.ops.pw import PwAttrs
from hwflow.ops.quant import QuantAttrs
from hwflow.ops.real_conv import RealConvAttrs
from hwflow.ops.real_deform import RealDeformAttrs
from hwflow.ops.shuffle import ShuffleAttrs
from hwflow.ops.slice import SliceAttrs
from hwflow.ops.types import IntType, RealType, Tensor
from hwflow.ops.upsample import UpsampleAttrs

U8, I8, U3 = IntType(8, False), IntType(8, True), IntType(3, False)
SIDES = st.integers(1, 17)
CHANNELS = st.integers(1, 23)
SEEDS = st.integers(0, 2**32 - 1)
EXAMPLES = settings(max_examples=40, deadline=None)


def onnx_run(
    op: str, inputs: list[np.ndarray], opset: int = 20, **attributes: object
) -> np.ndarray:
    """One ONNX node in onnxruntime; float32 inputs get a batch axis, the output loses it."""
    feeds, names = {}, []
    for i, array in enumerate(inputs):
        names.append(f"i{i}")
        feeds[f"i{i}"] = array
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
    infos = [helper.make_tensor_value_info(n, kinds[a.dtype], a.shape) for n, a in feeds.items()]
    node = helper.make_node(op, names, ["o"], **attributes)
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", infos, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)[0]


def floats(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32)[None]


def fraction_requantise(
    acc: np.ndarray, mul: np.ndarray, bias: np.ndarray, shift: np.ndarray, out: IntType
) -> np.ndarray:
    """The requantiser in exact arithmetic; Python rounds a Fraction half to even."""
    result = np.zeros(acc.shape, dtype=np.int64)
    for index in np.ndindex(*acc.shape):
        c = index[0]
        value = Fraction(int(acc[index]) * int(mul[c]) + int(bias[c])) / Fraction(2) ** int(
            shift[c]
        )
        result[index] = min(max(round(value), out.lo), out.hi)
    return result


def draw_map(rng: np.random.Generator, shape: tuple[int, ...], kind: IntType) -> np.ndarray:
    """Values of a type, both its ends among them."""
    x = rng.integers(kind.lo, kind.hi + 1, shape)
    x[rng.random(shape) < 0.1] = kind.hi
    x[rng.random(shape) < 0.1] = kind.lo
    return x


def draw_consts(
    rng: np.random.Generator, shape: tuple[int, ...], bits: int, x: IntType
) -> dict[str, np.ndarray]:
    """Weights over the narrow range and requantisers whose shift gives many exact ties."""
    oc, limit = shape[0], (1 << (bits - 1)) - 1
    weight = rng.integers(-limit, limit + 1, shape).astype(np.int8)
    return {
        "weight": weight,
        "bias": rng.integers(-2000, 2001, oc),
        "mul": np.ones(oc, dtype=np.int64),
        "shift": rng.integers(-2, 9, oc).astype(np.int8),
    }


def check_against_onnx(
    op: str, arrays: tuple[np.ndarray, ...], attrs: object, consts: dict, acc: np.ndarray
) -> None:
    """The op's golden equals onnxruntime's accumulators, requantised in fractions."""
    assert np.array_equal(acc, np.rint(acc))
    acc = acc[0].astype(np.int64)
    expected = fraction_requantise(acc, consts["mul"], consts["bias"], consts["shift"], attrs.out)
    tensors = tuple(Tensor(f"x{i}", a.shape, U3 if i else kind_of(a)) for i, a in enumerate(arrays))
    inferred = OPS[op].infer(tensors, attrs, consts)
    got = OPS[op].golden(arrays, attrs, consts)
    assert inferred.shape == got.shape == expected.shape
    assert got.dtype == np.int64
    assert np.array_equal(got, expected)


def kind_of(array: np.ndarray) -> IntType:
    return I8 if array.min() < 0 else U8


@EXAMPLES
@given(SEEDS, st.integers(1, 4), st.integers(1, 9), SIDES, SIDES, st.sampled_from([1, 2, 4]))
def test_conv(seed: int, ic: int, oc: int, h: int, w: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    x = draw_map(rng, (ic, h, w), U8)
    consts = draw_consts(rng, (oc, ic, 3, 3), 8, U8)
    bits = proven_acc_bits(consts["weight"], consts["bias"], consts["mul"], U8)
    attrs = ConvAttrs(3, stride, 1, 8, bits, U8)
    acc = onnx_run(
        "Conv", [floats(x), consts["weight"].astype(np.float32)], strides=[stride] * 2, pads=[1] * 4
    )
    check_against_onnx("conv", (x,), attrs, consts, acc)


@EXAMPLES
@given(SEEDS, st.integers(1, 300), CHANNELS, st.integers(1, 9), SIDES, st.booleans())
def test_pw(seed: int, ic: int, oc: int, h: int, w: int, signed: bool) -> None:
    rng = np.random.default_rng(seed)
    kind = I8 if signed else U8
    x = draw_map(rng, (ic, h, w), kind)
    x.flat[0] = kind.lo if signed else x.flat[0]
    consts = draw_consts(rng, (oc, ic), 4, kind)
    bits = proven_acc_bits(consts["weight"], consts["bias"], consts["mul"], kind)
    attrs = PwAttrs(4, bits, I8 if seed % 2 else U8)
    weight = consts["weight"].astype(np.float32)[:, :, None, None]
    check_against_onnx("pw", (x,), attrs, consts, onnx_run("Conv", [floats(x), weight]))


@EXAMPLES
@given(SEEDS, CHANNELS, SIDES, SIDES, st.sampled_from([1, 2]))
def test_dw(seed: int, c: int, h: int, w: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    x = draw_map(rng, (c, h, w), U8)
    consts = draw_consts(rng, (c, 3, 3), 4, U8)
    bits = proven_acc_bits(consts["weight"], consts["bias"], consts["mul"], U8)
    attrs = DwAttrs(stride, 4, bits, I8)
    weight = consts["weight"].astype(np.float32)[:, None]
    acc = onnx_run("Conv", [floats(x), weight], strides=[stride] * 2, pads=[1] * 4, group=c)
    check_against_onnx("dw", (x,), attrs, consts, acc)


def anchor_offsets(s: np.ndarray) -> np.ndarray:
    """(18, H, W): (dy, dx) of each tap beyond its place in a plain 3x3 window."""
    pairs = [(i - 1, j - 1) for i in range(3) for j in range(3)]
    return np.concatenate([np.stack((dy * (s[0] - 1), dx * (s[0] - 1))) for dy, dx in pairs])


@EXAMPLES
@given(SEEDS, CHANNELS, SIDES, SIDES)
def test_deform_dw(seed: int, c: int, h: int, w: int) -> None:
    rng = np.random.default_rng(seed)
    x, s = draw_map(rng, (c, h, w), U8), draw_map(rng, (1, h, w), U3)
    consts = draw_consts(rng, (c, 3, 3), 4, U8)
    bits = proven_acc_bits(consts["weight"], consts["bias"], consts["mul"], U8)
    attrs = DeformDwAttrs(4, bits, I8)
    weight = consts["weight"].astype(np.float32)[:, None]
    acc = onnx_run(
        "DeformConv",
        [floats(x), weight, floats(anchor_offsets(s))],
        opset=19,
        pads=[1] * 4,
        group=c,
        offset_group=1,
    )
    check_against_onnx("deform_dw", (x, s), attrs, consts, acc)


@EXAMPLES
@given(SEEDS, CHANNELS, SIDES, SIDES, st.sampled_from([(3, 2, 1), (3, 1, 1), (2, 2, 0), (1, 1, 0)]))
def test_maxpool(seed: int, c: int, h: int, w: int, window: tuple[int, int, int]) -> None:
    kernel, stride, pad = window
    h, w = max(h, kernel), max(w, kernel)
    x = draw_map(np.random.default_rng(seed), (c, h, w), I8)
    expected = onnx_run(
        "MaxPool", [floats(x)], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4
    )
    attrs = MaxpoolAttrs(kernel, stride, pad)
    got = OPS["maxpool"].golden((x,), attrs, {})
    assert np.array_equal(got, expected[0])
    assert OPS["maxpool"].infer((Tensor("x", x.shape, I8),), attrs, {}).shape == got.shape
    reals = OPS["maxpool"].golden((x.astype(np.float32),), attrs, {})
    assert np.array_equal(reals, expected[0])


@EXAMPLES
@given(SEEDS, CHANNELS, SIDES, SIDES, st.integers(1, 3))
def test_upsample(seed: int, c: int, h: int, w: int, factor: int) -> None:
    x = draw_map(np.random.default_rng(seed), (c, h, w), I8)
    expected = onnx_run_resize(x, factor)
    got = OPS["upsample"].golden((x,), UpsampleAttrs(factor), {})
    assert np.array_equal(got, expected)


def onnx_run_resize(x: np.ndarray, factor: int) -> np.ndarray:
    node = helper.make_node(
        "Resize",
        ["x", "", "s"],
        ["o"],
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    scales = helper.make_tensor("s", TensorProto.FLOAT, [4], [1, 1, factor, factor])
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, *x.shape))
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", [info], [out], [scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": floats(x)})[0][0]


@EXAMPLES
@given(SEEDS, st.integers(1, 12), st.integers(1, 12), SIDES)
def test_slice_and_concat(seed: int, left: int, right: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (draw_map(rng, (n, side, 3), I8) for n in (left, right))
    both = OPS["concat"].golden((a, b), ConcatAttrs(), {})
    assert np.array_equal(both, onnx_run("Concat", [floats(a), floats(b)], axis=1)[0])
    cut = [np.array([n]) for n in (left, left + right, 1)]
    part = OPS["slice"].golden((both,), SliceAttrs(left, left + right), {})
    assert np.array_equal(part, onnx_run("Slice", [floats(both), *cut])[0])
    assert np.array_equal(part, b)


@EXAMPLES
@given(SEEDS, st.integers(1, 6), st.integers(1, 6), SIDES)
def test_shuffle(seed: int, groups: int, width: int, side: int) -> None:
    x = draw_map(np.random.default_rng(seed), (groups * width, side, 2), U8)
    steps = floats(x).reshape(1, groups, width, side, 2)
    expected = onnx_run("Transpose", [steps], perm=[0, 2, 1, 3, 4]).reshape(x.shape)
    got = OPS["shuffle"].golden((x,), ShuffleAttrs(groups), {})
    assert np.array_equal(got, expected)
    for g in range(groups):
        for k in range(width):
            assert np.array_equal(got[k * groups + g], x[g * width + k])


def slow_peaks(hm: list, wh: list, reg: list, k: int) -> list[list[int]]:
    """Cell by cell, from the definition."""
    rows = []
    height, width = len(hm[0]), len(hm[0][0])
    for y in range(height):
        for x in range(width):
            for label, plane in enumerate(hm):
                window = [
                    plane[v][u]
                    for v in range(max(0, y - 1), min(height, y + 2))
                    for u in range(max(0, x - 1), min(width, x + 2))
                ]
                if all(plane[y][x] >= other for other in window):
                    rows.append((plane[y][x], label, y, x, wh[0][y][x], wh[1][y][x],
                                 reg[0][y][x], reg[1][y][x]))  # fmt: skip
    # The list is in (y, x, class) order and Python's sort is stable: ties keep that order.
    rows.sort(key=lambda row: row[0], reverse=True)
    return [list(r) for r in rows[:k]] + [[0, -1, 0, 0, 0, 0, 0, 0]] * max(0, k - len(rows))


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.integers(1, 5), SIDES, SIDES, st.sampled_from([1, 2, 4, 128]), st.integers(1, 120))
def test_peaks(seed: int, classes: int, h: int, w: int, spread: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    hm = rng.integers(-spread, spread, (classes, h, w))
    wh, reg = (rng.integers(-128, 128, (2, h, w)) for _ in range(2))
    got = OPS["peaks"].golden((hm, wh, reg), PeaksAttrs(k), {})
    assert got.tolist() == slow_peaks(hm.tolist(), wh.tolist(), reg.tolist(), k)


def test_peaks_when_more_than_k_qualify() -> None:
    """A constant map: every cell of every class is a peak; the first cells win, class by class."""
    hm, other = np.zeros((20, 16, 16), np.int64), np.ones((2, 16, 16), np.int64)
    rows = OPS["peaks"].golden((hm, other, other), PeaksAttrs(100), {})
    expected = [[0, i % 20, 0, i // 20, 1, 1, 1, 1] for i in range(100)]
    assert rows.tolist() == expected


# --- arithmetic --------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.data(),
    st.integers(0, 2**31 - 1) | st.just(1) | st.sampled_from([2, 3, 65535]),
    st.integers(-7, 40) | st.integers(1, 4),
    st.sampled_from([U8, I8, U3, IntType(7, False)]),
)
def test_requantise_equals_fractions(
    data: st.DataObject, mul: int, shift: int, out: IntType
) -> None:
    bias = data.draw(st.integers(-(2**40), 2**40) | st.integers(-300, 300))
    near = data.draw(st.integers(out.lo - 2, out.hi + 2))
    # Accumulators about a tie between two outputs, and anywhere.
    tie = ((2 * near + 1) * 2**shift // 2 - bias) // max(mul, 1) if shift >= 0 else 0
    tie = min(max(int(tie), -(2**23) + 2), 2**23 - 3)
    acc = [tie + d for d in (-2, -1, 0, 1, 2)] + data.draw(
        st.lists(st.integers(-(2**23), 2**23 - 1), max_size=5)
    )
    consts = {
        "mul": np.array([mul]),
        "bias": np.array([bias]),
        "shift": np.array([shift], dtype=np.int8),
    }
    expected = fraction_requantise(
        np.array([acc]), consts["mul"], consts["bias"], consts["shift"], out
    )
    assert np.array_equal(requantise(np.array([acc]), consts, out, 24), expected)
    assert np.array_equal(requantise(np.array([acc], dtype=np.float64), consts, out, 24), expected)


def test_requantise_ties_go_to_the_even_neighbour() -> None:
    acc = np.array([[-5, -3, -1, 1, 3, 5, 7]])
    consts = {"mul": np.array([1]), "bias": np.array([0]), "shift": np.array([1], np.int8)}
    assert requantise(acc, consts, I8, 8).tolist() == [[-2, -2, 0, 0, 2, 2, 4]]


def test_requantise_catches_an_accumulator_beyond_its_bits() -> None:
    consts = {"mul": np.array([1]), "bias": np.array([0]), "shift": np.array([0], np.int8)}
    assert requantise(np.array([[127]]), consts, U8, 8).tolist() == [[127]]
    with pytest.raises(GraphError, match="128 leaves its proven i8"):
        requantise(np.array([[128]]), consts, U8, 8)


@EXAMPLES
@given(SEEDS, st.integers(1, 6), st.integers(1, 12), st.booleans())
def test_dot_range_is_reached_and_not_passed(seed: int, oc: int, n: int, signed: bool) -> None:
    rng = np.random.default_rng(seed)
    kind = IntType(4, signed)
    weight = rng.integers(-7, 8, (oc, n)).astype(np.int8)
    low, high = dot_range(weight, kind)
    wide = weight.astype(np.int64)
    least = np.where(wide > 0, kind.lo, kind.hi)
    most = np.where(wide > 0, kind.hi, kind.lo)
    assert np.array_equal((wide * least).sum(1), low)
    assert np.array_equal((wide * most).sum(1), high)
    for _ in range(50):
        x = rng.integers(kind.lo, kind.hi + 1, n)
        assert (low <= wide @ x).all() and (wide @ x <= high).all()


def test_proven_bits_hold_the_bias_only_where_it_is_preloaded() -> None:
    weight, one, two = np.full((1, 2), 7, np.int8), np.array([1]), np.array([2])
    bias = np.array([100])
    assert proven_acc_bits(weight, 0 * bias, one, U8) == signed_bits(0, 3570) == 13
    assert proven_acc_bits(weight, bias * 10, one, U8) == signed_bits(0, 4570) == 14
    assert proven_acc_bits(weight, bias * 10, two, U8) == 13
    assert proven_acc_bits(weight, -bias * 50, one, U8) == signed_bits(-5000, 3570) == 14


@pytest.mark.parametrize(
    ("lo", "hi", "bits"),
    [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-128, 127, 8), (-129, 127, 9), (-1, 128, 9)],
)
def test_signed_bits(lo: int, hi: int, bits: int) -> None:
    assert signed_bits(lo, hi) == bits


# --- what is refused ---------------------------------------------------------------------------


def pw_case(**changes: object) -> tuple[tuple[Tensor, ...], PwAttrs, dict]:
    consts = {
        "weight": np.full((2, 3), 7, np.int8),
        "bias": np.zeros(2, np.int64),
        "mul": np.ones(2, np.int64),
        "shift": np.zeros(2, np.int8),
    }
    fields = {"weight_bits": 4, "acc_bits": 14, "out": U8}
    x = Tensor("x", (3, 4, 5), U8)
    for key, value in changes.items():
        if key in consts:
            consts[key] = value
        elif key == "x":
            x = value
        else:
            fields[key] = value
    return (x,), PwAttrs(**fields), consts


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"weight": np.full((2, 4), 7, np.int8)}, r"weight shape \(2, 4\) is not \(2, 3\)"),
        ({"weight": np.full((2, 3), 7, np.int64)}, "weight is int64, not int8"),
        ({"weight": np.full((2, 3), 8, np.int8)}, "leave i4"),
        ({"bias": np.zeros(3, np.int64)}, "bias shape"),
        ({"bias": np.zeros(2, np.float64)}, "bias is float64"),
        ({"mul": -np.ones(2, np.int64)}, "mul leaves"),
        ({"shift": np.full(2, 63, np.int8)}, "shift leaves"),
        ({"acc_bits": 13}, "acc_bits 13, but its weights and inputs need 14"),
        ({"x": Tensor("x", (3, 4), U8)}, r"is not \(C, H, W\)"),
        ({"x": Tensor("x", (3, 4, 5), RealType())}, "an integer tensor is needed"),
        ({"bias": np.array([1 << 61, 0]), "mul": np.array([2, 2])}, "channel 0: acc"),
    ],
)
def test_a_broken_convolution_is_refused(changes: dict, rule: str) -> None:
    assert OPS["pw"].infer(*pw_case()) == Tensor("", (2, 4, 5), U8)
    with pytest.raises(GraphError, match=rule):
        OPS["pw"].infer(*pw_case(**changes))


def test_wrong_inputs_of_moving_ops_are_refused() -> None:
    x, y = Tensor("x", (4, 3, 3), U8), Tensor("y", (4, 3, 3), I8)
    cases = [
        ("concat", (x, y), ConcatAttrs(), "differ in type"),
        ("concat", (x, Tensor("z", (4, 3, 2), U8)), ConcatAttrs(), "differ in size"),
        ("slice", (x,), SliceAttrs(2, 2), "not within 4"),
        ("slice", (x,), SliceAttrs(0, 5), "not within 4"),
        ("shuffle", (x,), ShuffleAttrs(3), "do not divide"),
        ("upsample", (x,), UpsampleAttrs(0), "below 1"),
        ("maxpool", (x,), MaxpoolAttrs(7, 1, 0), "no output"),
        ("peaks", (x, x, x), PeaksAttrs(), "wh shape"),
    ]
    for op, tensors, attrs, rule in cases:
        with pytest.raises(GraphError, match=rule):
            OPS[op].infer(tensors, attrs, {})


def test_dilations_must_be_u3_of_the_same_size() -> None:
    x = Tensor("x", (2, 3, 3), U8)
    for s, rule in (
        (Tensor("s", (1, 3, 3), U8), "not u3"),
        (Tensor("s", (1, 3, 2), U3), "dilation shape"),
    ):
        with pytest.raises(GraphError, match=rule):
            OPS["deform_dw"].infer((x, s), DeformDwAttrs(4, 14, I8), {})


# --- level quant -------------------------------------------------------------------------------


@EXAMPLES
@given(SEEDS, st.sampled_from([U8, I8, U3]), st.floats(1e-3, 10))
def test_quant_is_that_of_qonnx(seed: int, kind: IntType, scale: float) -> None:
    from qonnx.custom_op.general.intquant import int_quant

    rng = np.random.default_rng(seed)
    step = np.float32(scale)
    x = (rng.integers(kind.lo - 5, kind.hi + 6, (2, 4, 4)) / 2).astype(np.float32) * step
    got = OPS["quant"].golden((x,), QuantAttrs(kind), {"scale": np.array(step)})
    args = (np.float32(0), np.float32(kind.bits), int(kind.signed), 0, "ROUND")
    assert np.array_equal(got, int_quant(x, step, *args))


@EXAMPLES
@given(SEEDS, st.sampled_from([(1, 4, 6), (2, 4, 6), (4, 4, 4)]), st.sampled_from([1, 3]))
def test_real_conv(seed: int, form: tuple[int, int, int], kernel: int) -> None:
    groups, ic, oc = form
    rng = np.random.default_rng(seed)
    x = (draw_map(rng, (ic, 7, 5), U8) / 16).astype(np.float32)
    consts = {
        "weight": rng.integers(-7, 8, (oc, ic // groups, kernel, kernel)).astype(np.int8),
        "weight_scale": np.exp2(rng.integers(-6, 0, oc)).astype(np.float32),
        "bias": rng.integers(-50, 50, oc),
        "bias_scale": np.full(oc, 2**-8, np.float32),
    }
    attrs = RealConvAttrs(kernel, 2, kernel // 2, groups, 4)
    weight = consts["weight"] * consts["weight_scale"][:, None, None, None]
    bias = (consts["bias"] * consts["bias_scale"]).astype(np.float32)
    expected = onnx_run(
        "Conv", [x[None], weight, bias], strides=[2, 2], pads=[kernel // 2] * 4, group=groups
    )
    assert np.array_equal(OPS["real_conv"].golden((x,), attrs, consts), expected[0])


@EXAMPLES
@given(SEEDS, CHANNELS, SIDES, SIDES)
def test_real_deform_with_any_integer_offsets(seed: int, c: int, h: int, w: int) -> None:
    rng = np.random.default_rng(seed)
    x = (draw_map(rng, (c, h, w), U8) / 4).astype(np.float32)
    offsets = rng.integers(-9, 10, (18, h, w)).astype(np.float32)
    consts = {
        "weight": rng.integers(-7, 8, (c, 1, 3, 3)).astype(np.int8),
        "weight_scale": np.full(c, 0.125, np.float32),
        "bias": np.zeros(c, np.int64),
        "bias_scale": np.ones(c, np.float32),
    }
    weight = (consts["weight"] * np.float32(0.125)).astype(np.float32)
    expected = onnx_run(
        "DeformConv", [x[None], weight, offsets[None]], opset=19, pads=[1] * 4, group=c
    )
    got = OPS["real_deform"].golden((x, offsets), RealDeformAttrs(4), consts)
    assert np.array_equal(got, expected[0])


def test_every_convolution_is_an_op() -> None:
    assert all(OPS[name].name == name for name in OPS)
    assert set(CONVOLUTIONS) <= set(OPS)
