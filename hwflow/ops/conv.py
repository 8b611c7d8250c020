# SPDX-License-Identifier: Apache-2.0
"""conv: dense k x k convolution with zero padding and requantiser (the network's first layer)."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.arith import check_conv, requantise
from hwflow.ops.types import Arrays, Consts, IntType, Op, Tensor, int_type, need, one_map


@dataclass(frozen=True)
class ConvAttrs:
    """Square kernel, stride and padding in pixels; widths of weights, accumulator and output."""

    kernel: int
    stride: int
    pad: int
    weight_bits: int
    acc_bits: int
    out: IntType


def out_side(side: int, kernel: int, stride: int, pad: int) -> int:
    """The output length of a sliding window over `side` pixels."""
    return (side + 2 * pad - kernel) // stride + 1


def window_shape(x: Tensor, kernel: int, stride: int, pad: int) -> tuple[int, int]:
    """Output (height, width) of a window; GraphError when there is no output."""
    need(kernel >= 1 and stride >= 1 and 0 <= pad < kernel, "kernel, stride or pad out of range")
    h, w = (out_side(n, kernel, stride, pad) for n in x.shape[1:])
    need(h >= 1 and w >= 1, f"no output: {kernel} x {kernel} window over {x.shape[1:]}")
    return h, w


def infer(tensors: tuple[Tensor, ...], attrs: ConvAttrs, consts: Consts) -> Tensor:
    """(IC, H, W) -> (OC, H', W')."""
    x = one_map(tensors)
    h, w = window_shape(x, attrs.kernel, attrs.stride, attrs.pad)
    need("weight" in consts and consts["weight"].ndim == 4, "weight is not (OC, IC, k, k)")
    oc = consts["weight"].shape[0]
    shape = (oc, x.shape[0], attrs.kernel, attrs.kernel)
    check_conv(consts, shape, int_type(x), attrs.weight_bits, attrs.acc_bits)
    return Tensor("", (oc, h, w), attrs.out)


def taps(x: np.ndarray, kernel: int, stride: int, pad: int) -> np.ndarray:
    """The windows of zero-padded x (C, H, W) as (k, k, C, H', W') views."""
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
    return view[:, ::stride, ::stride].transpose(3, 4, 0, 1, 2)


def golden(arrays: Arrays, attrs: ConvAttrs, consts: Consts) -> np.ndarray:
    """One frame; exact in float64 because acc_bits <= 32."""
    windows = taps(arrays[0].astype(np.float64), attrs.kernel, attrs.stride, attrs.pad)
    columns = windows.transpose(2, 0, 1, 3, 4)
    h, w = columns.shape[3:]
    weight = consts["weight"].astype(np.float64)
    acc = weight.reshape(weight.shape[0], -1) @ columns.reshape(-1, h * w)
    return requantise(acc.reshape(-1, h, w), consts, attrs.out, attrs.acc_bits)


def macs(inputs: tuple[Tensor, ...], output: Tensor, attrs: ConvAttrs) -> int:
    """Every output takes IC * k * k products."""
    return int(np.prod(output.shape)) * inputs[0].shape[0] * attrs.kernel**2


OP = Op("conv", ConvAttrs, infer, golden, macs, "integer")
