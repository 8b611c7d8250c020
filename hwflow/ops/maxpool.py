# SPDX-License-Identifier: Apache-2.0
"""maxpool: greatest value of a window; pixels outside the map are ignored."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.conv import window_shape
from hwflow.ops.types import Arrays, Consts, Op, Tensor, no_macs, one_map


@dataclass(frozen=True)
class MaxpoolAttrs:
    """Square window, stride and padding in pixels."""

    kernel: int = 3
    stride: int = 2
    pad: int = 1


def infer(tensors: tuple[Tensor, ...], attrs: MaxpoolAttrs, consts: Consts) -> Tensor:
    """(C, H, W) -> (C, H', W')."""
    x = one_map(tensors)
    h, w = window_shape(x, attrs.kernel, attrs.stride, attrs.pad)
    return Tensor("", (x.shape[0], h, w), x.dtype)


def golden(arrays: Arrays, attrs: MaxpoolAttrs, consts: Consts) -> np.ndarray:
    """One frame, integers or reals."""
    x, pad = arrays[0], attrs.pad
    least = np.iinfo(x.dtype).min if x.dtype.kind == "i" else -np.inf
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)), constant_values=least)
    kernel, stride = attrs.kernel, attrs.stride
    h, w = ((n + 2 * pad - kernel) // stride + 1 for n in x.shape[1:])
    best = np.full((x.shape[0], h, w), least, dtype=x.dtype)
    for i in range(kernel):
        for j in range(kernel):
            tap = padded[:, i : i + (h - 1) * stride + 1 : stride, j::stride][:, :, :w]
            np.maximum(best, tap, out=best)
    return best


OP = Op("maxpool", MaxpoolAttrs, infer, golden, no_macs)
