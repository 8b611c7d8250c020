# SPDX-License-Identifier: Apache-2.0
"""Arithmetic shared by the convolutions: bounds of accumulators, and the requantiser.

Everywhere: out = clamp(round_half_even((acc * mul[c] + bias[c]) / 2**shift[c]), lo, hi).
Integers are carried in float64 where every intermediate is proven below 2**53 (float64 BLAS is
far faster than integer matmul); beyond that bound int64 is used.
"""

import numpy as np

from hwflow.errors import GraphError
from hwflow.ops.types import Consts, IntType, need

FLOAT64_EXACT = 1 << 53
ROLES = ("weight", "bias", "mul", "shift")


def dot_range(weight: np.ndarray, x: IntType) -> tuple[np.ndarray, np.ndarray]:
    """Per output channel the least and greatest dot product of `weight` (OC, ...) with values of x.

    Both x ranges hold 0, so every partial sum in any order lies in the same interval.
    """
    flat = weight.reshape(weight.shape[0], -1)
    positive = np.maximum(flat, 0).sum(axis=1, dtype=np.int64)
    negative = np.minimum(flat, 0).sum(axis=1, dtype=np.int64)
    return positive * x.lo + negative * x.hi, positive * x.hi + negative * x.lo


def signed_bits(lo: int, hi: int) -> int:
    """The bits of the narrowest signed type that holds lo..hi."""
    return max((hi if hi >= 0 else ~hi).bit_length(), (lo if lo >= 0 else ~lo).bit_length()) + 1


def proven_acc_bits(weight: np.ndarray, bias: np.ndarray, mul: np.ndarray, x: IntType) -> int:
    """Signed bits that hold every partial sum, and with the bias preloaded where mul is 1."""
    return _acc_bits(*dot_range(weight, x), bias, mul)


def _acc_bits(low: np.ndarray, high: np.ndarray, bias: np.ndarray, mul: np.ndarray) -> int:
    preload = np.where(mul == 1, bias, 0)
    lo = int(min(low.min(initial=0), (low + preload).min(initial=0)))
    hi = int(max(high.max(initial=0), (high + preload).max(initial=0)))
    return signed_bits(lo, hi)


def check_conv(
    consts: Consts, shape: tuple[int, ...], x: IntType, weight_bits: int, acc_bits: int
) -> None:
    """GraphError unless the constants of a convolution have their shapes, types and bounds."""
    need(set(consts) == set(ROLES), f"constants are {sorted(consts)}, not {sorted(ROLES)}")
    weight = consts["weight"]
    need(weight.shape == shape, f"weight shape {weight.shape} is not {shape}")
    need(weight.dtype == np.int8, f"weight is {weight.dtype}, not int8")
    need(2 <= weight_bits <= 8, f"weight_bits {weight_bits} is not 2 to 8")
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    limit = IntType(weight_bits, True)
    need(limit.lo <= low and high <= limit.hi, f"weights {low}..{high} leave {limit}")
    low_dot, high_dot = dot_range(weight, x)
    check_scales(consts, set(ROLES), low_dot, high_dot)
    needed = _acc_bits(low_dot, high_dot, consts["bias"], consts["mul"])
    need(acc_bits >= needed, f"acc_bits {acc_bits}, but its weights and inputs need {needed}")
    need(acc_bits <= 32, f"acc_bits {acc_bits} is over 32")


def check_scales(consts: Consts, roles: set[str], low: np.ndarray, high: np.ndarray) -> None:
    """GraphError unless the constants of a requantiser fit accumulators low..high (C,)."""
    need(set(consts) == roles, f"constants are {sorted(consts)}, not {sorted(roles)}")
    for role, dtype in (("bias", np.int64), ("mul", np.int64), ("shift", np.int8)):
        need(
            consts[role].shape == low.shape,
            f"{role} shape {consts[role].shape} is not one a channel",
        )
        need(consts[role].dtype == dtype, f"{role} is {consts[role].dtype}, not {np.dtype(dtype)}")
    mul, shift, bias = consts["mul"], consts["shift"].astype(np.int64), consts["bias"]
    need(bool((mul >= 0).all() and (mul < 1 << 31).all()), "mul leaves 0 to 2**31 - 1")
    need(bool((abs(shift) <= 62).all()), "shift leaves -62 to 62")
    need(bool((abs(bias) < 1 << 62).all()), "bias leaves 62 bits")
    reach = np.maximum(-low, high).astype(np.float64) * mul + abs(bias)
    reach *= np.exp2(np.maximum(0, -shift))
    if (reach >= 2.0**61).any():
        c = int(np.argmax(reach))
        need(False, f"channel {c}: acc * mul + bias reaches {reach[c]:.3g}, over 61 bits")


def round_shift(value: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """round_half_even(value / 2**shift) in int64; a negative shift multiplies."""
    right = np.maximum(shift, 0)
    floor: np.ndarray = value >> right
    rest = value - (floor << right)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), np.iinfo(np.int64).max)
    floor += (rest > half) | ((rest == half) & ((floor & 1) == 1))
    return np.asarray(floor << np.maximum(-shift, 0))


def requantise(acc: np.ndarray, consts: Consts, out: IntType, acc_bits: int) -> np.ndarray:
    """The output integers of accumulators `acc` (OC, ...), float64 or int64, as int64.

    GraphError when an accumulator leaves its proven bits.
    """
    proven = IntType(acc_bits, True)
    low, high = acc.min(initial=0), acc.max(initial=0)
    if low < proven.lo or high > proven.hi:
        raise GraphError(f"accumulator {int(low)}..{int(high)} leaves its proven {proven}")
    column = (-1,) + (1,) * (acc.ndim - 1)
    mul, bias = consts["mul"].reshape(column), consts["bias"].reshape(column)
    shift = consts["shift"].astype(np.int64).reshape(column)
    reach = max(-int(low), int(high)) * int(mul.max(initial=0)) + int(abs(bias).max(initial=0))
    if reach < FLOAT64_EXACT:
        # float64 holds acc * mul + bias exactly, scaling by a power of two is exact, and rint
        # rounds half to even: three passes instead of eight.
        value: np.ndarray = acc.astype(np.float64)
        if (mul != 1).any():
            value *= mul
        value += bias
        value *= np.exp2(-shift.astype(np.float64))
        np.rint(value, out=value)
        np.clip(value, out.lo, out.hi, out=value)
        return value.astype(np.int64)
    rounded = round_shift(acc.astype(np.int64) * mul + bias, shift)
    return np.asarray(np.clip(rounded, out.lo, out.hi))
