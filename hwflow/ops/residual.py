# SPDX-License-Identifier: Apache-2.0
"""residual: the sum of two maps, each times a small integer, requantised.

acc = coef[0] * a + coef[1] * b, then out = clamp(round_half_even((acc * mul + bias) / 2**shift),
lo, hi) with one mul, bias and shift a channel.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.arith import check_scales, requantise, signed_bits
from hwflow.ops.types import Arrays, Consts, IntType, Op, Tensor, int_type, need, no_macs


@dataclass(frozen=True)
class ResidualAttrs:
    """The two factors; width of the accumulator; limits and type of the output."""

    coef: tuple[int, int]
    acc_bits: int
    lo: int
    hi: int
    out: IntType


def sum_range(coef: tuple[int, int], types: tuple[IntType, IntType]) -> tuple[int, int]:
    """The least and greatest accumulator."""
    ends = [sorted((c * t.lo, c * t.hi)) for c, t in zip(coef, types, strict=True)]
    return sum(e[0] for e in ends), sum(e[1] for e in ends)


def proven_bits(coef: tuple[int, int], types: tuple[IntType, IntType]) -> int:
    """Signed bits that hold both products and their sum."""
    ends = [c * v for c, t in zip(coef, types, strict=True) for v in (t.lo, t.hi)]
    low, high = sum_range(coef, types)
    return signed_bits(min(low, *ends), max(high, *ends))


def infer(tensors: tuple[Tensor, ...], attrs: ResidualAttrs, consts: Consts) -> Tensor:
    """(C, H, W), (C, H, W) -> (C, H, W)."""
    need(len(tensors) == 2, f"takes two inputs, not {len(tensors)}")
    a, b = tensors
    need(len(a.shape) == 3, f"input shape {a.shape} is not (C, H, W)")
    need(a.shape == b.shape, f"inputs differ in shape: {a.shape}, {b.shape}")
    need(attrs.out.lo <= attrs.lo <= attrs.hi <= attrs.out.hi,
         f"limits {attrs.lo}..{attrs.hi} leave {attrs.out}")  # fmt: skip
    types = (int_type(a), int_type(b))
    needed = proven_bits(attrs.coef, types)
    need(attrs.acc_bits >= needed, f"acc_bits {attrs.acc_bits}, but the inputs need {needed}")
    need(attrs.acc_bits <= 32, f"acc_bits {attrs.acc_bits} is over 32")
    low, high = sum_range(attrs.coef, types)
    ones = np.ones(a.shape[0], np.int64)
    check_scales(consts, {"mul", "bias", "shift"}, low * ones, high * ones)
    return Tensor("", a.shape, attrs.out)


def golden(arrays: Arrays, attrs: ResidualAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    a, b = arrays
    acc = attrs.coef[0] * a + attrs.coef[1] * b
    out = requantise(acc, consts, attrs.out, attrs.acc_bits)
    return np.asarray(np.clip(out, attrs.lo, attrs.hi))


OP = Op("residual", ResidualAttrs, infer, golden, no_macs, "integer")
