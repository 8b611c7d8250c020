# SPDX-License-Identifier: Apache-2.0
"""bipolar (level quant): scale where x is at least 0, -scale elsewhere (BipolarQuant of QONNX)."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, IntType, Op, RealType, Tensor, need, no_macs

KIND = IntType(2, True)


@dataclass(frozen=True)
class BipolarAttrs:
    """None needed; the scale is the constant `scale`, one float32."""


def infer(tensors: tuple[Tensor, ...], attrs: BipolarAttrs, consts: Consts) -> Tensor:
    """Same shape, real."""
    need(len(tensors) == 1, f"takes one input, not {len(tensors)}")
    need(set(consts) == {"scale"}, "needs exactly the constant 'scale'")
    scale = consts["scale"]
    need(scale.shape == () and scale.dtype == np.float32, "scale is not one float32")
    need(bool(np.isfinite(scale) and scale > 0), f"scale {scale} is not above 0")
    return Tensor("", tensors[0].shape, RealType())


def units(x: np.ndarray, attrs: BipolarAttrs, consts: Consts) -> np.ndarray:
    """The integers -1 and 1, as float32."""
    return np.where(x >= 0, np.float32(1), np.float32(-1))


def golden(arrays: Arrays, attrs: BipolarAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    return np.asarray(units(arrays[0], attrs, consts) * consts["scale"])


OP = Op("bipolar", BipolarAttrs, infer, golden, no_macs, "quant")
