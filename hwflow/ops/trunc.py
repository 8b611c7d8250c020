# SPDX-License-Identifier: Apache-2.0
"""trunc (level quant): drop low bits of an integer that lies on a grid (Trunc of QONNX).

y = round_half_even(x / scale + zero) / 2**drop, clamped to `limits` where there are some, rounded
by `rounding`; out = (y - out_zero) * out_scale, all in float32.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.quant import rounded
from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, need, no_macs


@dataclass(frozen=True)
class TruncAttrs:
    """Bits dropped, zero point before and after, rounding, limits of the result (or none)."""

    drop: int
    zero: int
    out_zero: int
    rounding: str = "FLOOR"
    limits: tuple[int, int] | None = None


def infer(tensors: tuple[Tensor, ...], attrs: TruncAttrs, consts: Consts) -> Tensor:
    """Same shape, real."""
    need(len(tensors) == 1, f"takes one input, not {len(tensors)}")
    need(set(consts) == {"scale", "out_scale"}, "needs the constants 'scale' and 'out_scale'")
    for role in ("scale", "out_scale"):
        scale = consts[role]
        need(scale.shape == () and scale.dtype == np.float32, f"{role} is not one float32")
        need(bool(np.isfinite(scale) and scale > 0), f"{role} {scale} is not above 0")
    need(-30 <= attrs.drop <= 30, f"drops {attrs.drop} bits")
    return Tensor("", tensors[0].shape, RealType())


def units(x: np.ndarray, attrs: TruncAttrs, consts: Consts) -> np.ndarray:
    """The integers, zero point included, as float32."""
    y = np.rint(x / consts["scale"] + np.float32(attrs.zero))
    y = y / np.float32(2.0**attrs.drop)
    if attrs.limits is not None:
        lo, hi = attrs.limits
        y = np.clip(y, np.float32(lo), np.float32(hi))
    return np.asarray(rounded(y, attrs.rounding))


def golden(arrays: Arrays, attrs: TruncAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    y = units(arrays[0], attrs, consts)
    return np.asarray((y - np.float32(attrs.out_zero)) * consts["out_scale"])


OP = Op("trunc", TruncAttrs, infer, golden, no_macs, "quant")
