# SPDX-License-Identifier: Apache-2.0
"""deform_dw: depthwise 3x3 convolution with one dilation per output pixel, and requantiser.

Tap (i, j) of output (y, x) reads x[c, y + (i-1)*s[y, x], x + (j-1)*s[y, x]], 0 outside the map.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.arith import check_conv, requantise
from hwflow.ops.types import Arrays, Consts, IntType, Op, Tensor, int_type, need


@dataclass(frozen=True)
class DeformDwAttrs:
    """Widths of weights, accumulator and output."""

    weight_bits: int
    acc_bits: int
    out: IntType
    kernel: int = 3


def infer(tensors: tuple[Tensor, ...], attrs: DeformDwAttrs, consts: Consts) -> Tensor:
    """(C, H, W), (1, H, W) -> (C, H, W)."""
    need(len(tensors) == 2, f"takes a map and its dilations, not {len(tensors)} inputs")
    x, s = tensors
    need(len(x.shape) == 3, f"input shape {x.shape} is not (C, H, W)")
    need(s.shape == (1, *x.shape[1:]), f"dilation shape {s.shape} is not {(1, *x.shape[1:])}")
    need(s.dtype == IntType(3, False), f"dilation is {s.dtype}, not u3")
    need(attrs.kernel == 3, "only kernel 3 is supported")
    shape = (x.shape[0], 3, 3)
    check_conv(consts, shape, int_type(x), attrs.weight_bits, attrs.acc_bits)
    return Tensor("", x.shape, attrs.out)


def golden(arrays: Arrays, attrs: DeformDwAttrs, consts: Consts) -> np.ndarray:
    """One frame; exact in float64 because acc_bits <= 32."""
    x, s = arrays[0], arrays[1][0]
    margin = 7
    padded = np.pad(x.astype(np.float64), ((0, 0), (margin, margin), (margin, margin)))
    rows, columns = np.indices(s.shape) + margin
    weight = consts["weight"].astype(np.float64)
    acc = np.zeros(x.shape)
    for i in range(3):
        for j in range(3):
            tap = padded[:, rows + (i - 1) * s, columns + (j - 1) * s]
            acc += tap * weight[:, i, j, None, None]
    return requantise(acc, consts, attrs.out, attrs.acc_bits)


def macs(inputs: tuple[Tensor, ...], output: Tensor, attrs: DeformDwAttrs) -> int:
    """Every output takes 9 products."""
    return int(np.prod(output.shape)) * 9


OP = Op("deform_dw", DeformDwAttrs, infer, golden, macs, "integer")
