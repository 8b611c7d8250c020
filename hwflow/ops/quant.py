# SPDX-License-Identifier: Apache-2.0
"""quant (level quant): round reals to multiples of a scale within an integer range.

out = round_half_even(clamp(x / scale, lo, hi)) * scale, in float32 as QONNX defines it.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, IntType, Op, RealType, Tensor, need, no_macs


@dataclass(frozen=True)
class QuantAttrs:
    """The integers' type; the scale is the constant `scale`, one float32 for the tensor."""

    out: IntType


def infer(tensors: tuple[Tensor, ...], attrs: QuantAttrs, consts: Consts) -> Tensor:
    """Same shape, real."""
    need(len(tensors) == 1, f"takes one input, not {len(tensors)}")
    need(set(consts) == {"scale"}, "needs exactly the constant 'scale'")
    scale = consts["scale"]
    need(scale.shape == () and scale.dtype == np.float32, "scale is not one float32")
    need(bool(np.isfinite(scale) and scale > 0), f"scale {scale} is not above 0")
    return Tensor("", tensors[0].shape, RealType())


def to_integers(x: np.ndarray, scale: np.float32, kind: IntType) -> np.ndarray:
    """The integers of reals x, as float32."""
    units: np.ndarray = np.divide(x, scale, dtype=np.float32)
    return np.asarray(np.rint(np.clip(units, kind.lo, kind.hi)))


def golden(arrays: Arrays, attrs: QuantAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    scale = np.float32(consts["scale"])
    return to_integers(arrays[0], scale, attrs.out).astype(np.float32) * scale


OP = Op("quant", QuantAttrs, infer, golden, no_macs, "quant")
