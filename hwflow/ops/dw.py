# SPDX-License-Identifier: Apache-2.0
"""dw: depthwise 3x3 convolution with zero padding and requantiser."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.arith import check_conv, requantise
from hwflow.ops.conv import taps, window_shape
from hwflow.ops.types import Arrays, Consts, IntType, Op, Tensor, int_type, need, one_map


@dataclass(frozen=True)
class DwAttrs:
    """Stride in pixels; widths of weights, accumulator and output."""

    stride: int
    weight_bits: int
    acc_bits: int
    out: IntType
    kernel: int = 3
    pad: int = 1


def infer(tensors: tuple[Tensor, ...], attrs: DwAttrs, consts: Consts) -> Tensor:
    """(C, H, W) -> (C, H', W')."""
    x = one_map(tensors)
    need((attrs.kernel, attrs.pad) == (3, 1), "only kernel 3 with pad 1 is supported")
    h, w = window_shape(x, attrs.kernel, attrs.stride, attrs.pad)
    shape = (x.shape[0], 3, 3)
    check_conv(consts, shape, int_type(x), attrs.weight_bits, attrs.acc_bits)
    return Tensor("", (x.shape[0], h, w), attrs.out)


def golden(arrays: Arrays, attrs: DwAttrs, consts: Consts) -> np.ndarray:
    """One frame; exact in float64 because acc_bits <= 32."""
    windows = taps(arrays[0].astype(np.float64), attrs.kernel, attrs.stride, attrs.pad)
    weight = consts["weight"].astype(np.float64)
    acc = np.zeros(windows.shape[2:])
    for i in range(3):
        for j in range(3):
            acc += windows[i, j] * weight[:, i, j, None, None]
    return requantise(acc, consts, attrs.out, attrs.acc_bits)


def macs(inputs: tuple[Tensor, ...], output: Tensor, attrs: DwAttrs) -> int:
    """Every output takes 9 products."""
    return int(np.prod(output.shape)) * 9


OP = Op("dw", DwAttrs, infer, golden, macs, "integer")
