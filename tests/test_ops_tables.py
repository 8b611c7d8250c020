# SPDX-License-Identifier: Apache-2.0
"""tables and group_sum against ONNX nodes in onnxruntime, with widths that are no powers of two."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwflow.errors import GraphError
from hwflow.ops import OPS
from hwflow.ops.group_sum import GroupSumAttrs
from hwflow.ops.patches import PatchesAttrs
from hwflow.ops.tables import TablesAttrs
from hwflow.ops.types import IntType, Tensor
from tests.test_ops_import import run

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(
    SEEDS, st.integers(1, 13), st.integers(1, 5), st.integers(1, 4), st.integers(1, 7),
    st.integers(1, 9), st.booleans(), st.sampled_from([(1, 1), (3, 2)]),
)
def test_tables_are_lookups_at_bits_of_codes(
    seed: int, channels: int, bits: int, width: int, count: int, out_bits: int, signed: bool,
    sides: tuple[int, int],
) -> None:
    rng = np.random.default_rng(seed)
    kind = IntType(bits, signed and bits > 1)
    out = IntType(out_bits, signed)
    x = rng.integers(kind.lo, kind.hi + 1, (channels, *sides))
    wires = rng.integers(0, channels * bits, (count, width)).astype(np.int32)
    values = rng.integers(out.lo, out.hi + 1, (count, 1 << width)).astype(np.int16)
    consts = {"wires": wires, "values": values}
    attrs = TablesAttrs(bits, out)
    made = OPS["tables"].infer((Tensor("x", x.shape, kind),), attrs, consts)
    assert (made.shape, made.dtype) == ((count, *sides), out)
    found = OPS["tables"].golden((x,), attrs, consts)
    # the address in decimal, digit by digit of the two's complement written as text
    text = np.vectorize(lambda v: np.binary_repr(v, bits)[::-1])(x)
    for n, y, column in np.ndindex(count, *sides):
        flat = "".join(text[:, y, column])
        address = int("".join(flat[w] for w in wires[n])[::-1], 2)
        expected = run("Gather", [values.astype(np.float32), np.array([address])], axis=1)[n, 0]
        assert found[n, y, column] == expected


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 11), st.integers(1, 7), st.integers(1, 4), st.booleans())
def test_group_sum_is_reduce_sum(
    seed: int, groups: int, size: int, bits: int, signed: bool
) -> None:
    rng = np.random.default_rng(seed)
    kind = IntType(bits, signed)
    x = rng.choice([kind.lo, kind.hi], (groups * size, 2, 3))
    attrs = GroupSumAttrs(groups)
    made = OPS["group_sum"].infer((Tensor("x", x.shape, kind),), attrs, {})
    parts = x.reshape(groups, size, 2, 3).astype(np.float32)
    expected = run("ReduceSum", [parts, np.array([1])], keepdims=0)
    found = OPS["group_sum"].golden((x,), attrs, {})
    assert np.array_equal(found, expected)
    assert isinstance(made.dtype, IntType)
    low, high = size * kind.lo, size * kind.hi
    assert made.dtype.lo <= low and high <= made.dtype.hi
    if made.dtype.bits > 1 + signed:
        less = IntType(made.dtype.bits - 1, signed)
        assert low < less.lo or high > less.hi


@settings(max_examples=40, deadline=None)
@given(
    SEEDS, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3),
    st.integers(1, 2), st.integers(1, 2), st.lists(st.integers(0, 2), min_size=4, max_size=4),
)
def test_patches_are_a_convolution_with_zeros_and_ones(
    seed: int, channels: int, height: int, width: int, step: int, aside: int, apart: int,
    pads: list[int],
) -> None:
    rng = np.random.default_rng(seed)
    kind = IntType(4, True)
    x = rng.integers(kind.lo, kind.hi + 1, (channels, 7, 6))
    attrs = PatchesAttrs((height, width), (step, aside), tuple(pads), (apart, 3 - apart))
    made = OPS["patches"].infer((Tensor("x", x.shape, kind),), attrs, {})
    weight = np.zeros((channels, height, width, 1, height, width), np.float32)
    for i, j in np.ndindex(height, width):
        weight[:, i, j, 0, i, j] = 1
    expected = run(
        "Conv", [x[None].astype(np.float32), weight.reshape(-1, 1, height, width)],
        group=channels, strides=[step, aside], pads=pads, dilations=[apart, 3 - apart],
    )[0]
    found = OPS["patches"].golden((x,), attrs, {})
    assert np.array_equal(found, expected)
    assert (made.shape, made.dtype) == (expected.shape, kind)


@pytest.mark.parametrize(
    ("attrs", "words"),
    [
        (PatchesAttrs((5, 1), (1, 1), (0, 0, 0, 0), (1, 1)), "does not fit"),
        (PatchesAttrs((0, 1), (1, 1), (0, 0, 0, 0), (1, 1)), "too small"),
        (PatchesAttrs((1, 1), (1, 0), (0, 0, 0, 0), (1, 1)), "too small"),
        (PatchesAttrs((1, 1), (1, 1), (0, -1, 0, 0), (1, 1)), "too small"),
    ],
)
def test_patches_refuse(attrs: PatchesAttrs, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        OPS["patches"].infer((Tensor("x", (2, 4, 4), IntType(2, False)),), attrs, {})


@pytest.mark.parametrize(
    ("consts", "words"),
    [
        ({"wires": np.zeros((2, 17), np.int32)}, "17 address bits"),
        ({"wires": np.full((1, 1), 4, np.int32)}, "not one of 0..3"),
        ({"wires": np.full((1, 1), -1, np.int32)}, "not one of 0..3"),
        ({"values": np.full((1, 2), 2, np.int16)}, "leave u1"),
        ({"values": np.zeros((1, 3), np.int16)}, r"not int16 \(1, 2\)"),
        ({"wires": np.zeros((1, 1), np.int64)}, "not int32"),
        ({"more": np.zeros((1, 1), np.int64)}, "exactly"),
    ],
)
def test_tables_refuse(consts: dict[str, np.ndarray], words: str) -> None:
    good = {"wires": np.zeros((1, 1), np.int32), "values": np.zeros((1, 2), np.int16)}
    x = Tensor("x", (2, 1, 1), IntType(2, False))
    OPS["tables"].infer((x,), TablesAttrs(2, IntType(1, False)), good)
    with pytest.raises(GraphError, match=words):
        OPS["tables"].infer((x,), TablesAttrs(2, IntType(1, False)), {**good, **consts})


def test_groups_are_equal() -> None:
    x = Tensor("x", (7, 1, 1), IntType(1, False))
    with pytest.raises(GraphError, match="7 channels are not 2 equal groups"):
        OPS["group_sum"].infer((x,), GroupSumAttrs(2), {})
