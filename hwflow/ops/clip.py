# SPDX-License-Identifier: Apache-2.0
"""clip (level quant): min(max(x, lo), hi) in float32."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, need, no_macs


@dataclass(frozen=True)
class ClipAttrs:
    """The limits; infinite where there is none."""

    lo: float
    hi: float


def infer(tensors: tuple[Tensor, ...], attrs: ClipAttrs, consts: Consts) -> Tensor:
    """Same shape, real."""
    need(len(tensors) == 1, f"takes one input, not {len(tensors)}")
    need(attrs.lo <= attrs.hi, f"limits {attrs.lo}..{attrs.hi} cross")
    return Tensor("", tensors[0].shape, RealType())


def golden(arrays: Arrays, attrs: ClipAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    lo, hi = np.float32(attrs.lo), np.float32(attrs.hi)
    return np.asarray(np.minimum(np.maximum(arrays[0], lo), hi))


OP = Op("clip", ClipAttrs, infer, golden, no_macs, "quant")
