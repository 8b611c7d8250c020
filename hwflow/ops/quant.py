# SPDX-License-Identifier: Apache-2.0
"""quant (level quant): round reals to multiples of a scale within an integer range.

out = (round_half_even(clamp(x / scale + zero, lo, hi)) - zero) * scale, in float32 as QONNX defines
Quant; with `linear` the rounding comes before the zero point, as ONNX defines QuantizeLinear.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, IntType, Op, RealType, Tensor, need, no_macs


def _away(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.sign(x) * np.ceil(np.abs(x)))


def _half_away(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.sign(x) * np.floor(np.abs(x) + np.float32(0.5)))


def _half_to_zero(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.sign(x) * np.ceil(np.abs(x) - np.float32(0.5)))


ROUNDINGS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "UP": _away,
    "DOWN": np.trunc,
    "HALF_UP": _half_away,
    "HALF_DOWN": _half_to_zero,
}


@dataclass(frozen=True)
class QuantAttrs:
    """The integers' type, their limits (those of the type where None), the zero point, rounding.

    The scale is the constant `scale`, one float32 for the tensor.
    """

    out: IntType
    limits: tuple[int, int] | None = None
    zero: int = 0
    rounding: str = "ROUND"
    linear: bool = False

    @property
    def lo(self) -> int:
        """The least integer."""
        return self.out.lo if self.limits is None else self.limits[0]

    @property
    def hi(self) -> int:
        """The greatest integer."""
        return self.out.hi if self.limits is None else self.limits[1]


def infer(tensors: tuple[Tensor, ...], attrs: QuantAttrs, consts: Consts) -> Tensor:
    """Same shape, real."""
    need(len(tensors) == 1, f"takes one input, not {len(tensors)}")
    need(set(consts) == {"scale"}, "needs exactly the constant 'scale'")
    scale = consts["scale"]
    need(scale.shape == () and scale.dtype == np.float32, "scale is not one float32")
    need(bool(np.isfinite(scale) and scale > 0), f"scale {scale} is not above 0")
    need(attrs.out.lo <= attrs.lo <= attrs.zero <= attrs.hi <= attrs.out.hi,
         f"limits {attrs.lo}..{attrs.hi} with zero point {attrs.zero} leave {attrs.out}")
    need(attrs.rounding in ROUNDINGS, f"rounding {attrs.rounding}: use {', '.join(ROUNDINGS)}")
    return Tensor("", tensors[0].shape, RealType())


def rounded(x: np.ndarray, mode: str) -> np.ndarray:
    """x rounded to integers by one of ROUNDINGS."""
    return np.asarray(ROUNDINGS[mode](x))


def units(x: np.ndarray, attrs: QuantAttrs, consts: Consts) -> np.ndarray:
    """The integers of reals x, zero point included, as float32."""
    reals: np.ndarray = np.divide(x, consts["scale"], dtype=np.float32)
    lo, hi, zero = (np.float32(n) for n in (attrs.lo, attrs.hi, attrs.zero))
    if attrs.linear:
        return np.asarray(np.clip(rounded(reals, attrs.rounding) + zero, lo, hi))
    return rounded(np.clip(reals + zero, lo, hi), attrs.rounding)


def golden(arrays: Arrays, attrs: QuantAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    integers = units(arrays[0], attrs, consts).astype(np.float32)
    return np.asarray((integers - np.float32(attrs.zero)) * consts["scale"], dtype=np.float32)


OP = Op("quant", QuantAttrs, infer, golden, no_macs, "quant")
