# SPDX-License-Identifier: Apache-2.0
"""real_deform (level quant): depthwise 3x3 deformable convolution with free integer offsets.

Inputs x (C, H, W) and offsets (18, H, W): the (dy, dx) pairs of the taps in row-major order, added
to the pixel's own 3x3 neighbourhood; zero outside. The offsets carry integers (as the quantiser
of every supported model makes them); others are an error, not interpolated.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.errors import GraphError
from hwflow.ops.real_conv import check_parameters, dequantised
from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, need


@dataclass(frozen=True)
class RealDeformAttrs:
    """Bits of the weights."""

    weight_bits: int
    kernel: int = 3


def infer(tensors: tuple[Tensor, ...], attrs: RealDeformAttrs, consts: Consts) -> Tensor:
    """(C, H, W), (18, H, W) -> (C, H, W)."""
    need(len(tensors) == 2, f"takes a map and its offsets, not {len(tensors)} inputs")
    x, offsets = tensors
    need(len(x.shape) == 3, f"input shape {x.shape} is not (C, H, W)")
    need(offsets.shape == (18, *x.shape[1:]), f"offsets {offsets.shape} are not (18, H, W)")
    need(attrs.kernel == 3, "only kernel 3 is supported")
    check_parameters(consts, x.shape[0])
    need(consts["weight"].shape == (x.shape[0], 1, 3, 3), "weight is not (C, 1, 3, 3)")
    return Tensor("", x.shape, RealType())


def golden(arrays: Arrays, attrs: RealDeformAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    x, offsets = arrays[0].astype(np.float64), arrays[1]
    if not (offsets == np.rint(offsets)).all():
        raise GraphError("offsets are not integers")
    h, w = x.shape[1:]
    weight, bias = dequantised(consts)
    rows, columns = np.indices((h, w))
    acc = np.zeros(x.shape)
    for k in range(9):
        y = rows + k // 3 - 1 + offsets[2 * k].astype(np.int64)
        z = columns + k % 3 - 1 + offsets[2 * k + 1].astype(np.int64)
        inside = (y >= 0) & (y < h) & (z >= 0) & (z < w)
        tap = np.where(inside, x[:, np.clip(y, 0, h - 1), np.clip(z, 0, w - 1)], 0)
        acc += tap * weight[:, 0, k // 3, k % 3, None, None]
    return np.asarray(acc + bias[:, None, None], dtype=np.float32)


def macs(inputs: tuple[Tensor, ...], output: Tensor, attrs: RealDeformAttrs) -> int:
    """Every output takes 9 products."""
    return int(np.prod(output.shape)) * 9


OP = Op("real_deform", RealDeformAttrs, infer, golden, macs, "quant")
