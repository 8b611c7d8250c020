# SPDX-License-Identifier: Apache-2.0
"""real_avgpool (level quant): mean over a window, pixels outside the map counted as 0.0.

The global mean is one whose kernel is the whole map.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.conv2d import Pads, Pair, window_size, windows
from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, no_macs, one_map


@dataclass(frozen=True)
class RealAvgpoolAttrs:
    """Window in (height, width), pads as (top, left, bottom, right) in pixels."""

    kernel: Pair
    stride: Pair
    pads: Pads


def infer(tensors: tuple[Tensor, ...], attrs: RealAvgpoolAttrs, consts: Consts) -> Tensor:
    """(C, H, W) -> (C, H', W')."""
    x = one_map(tensors)
    h, w = window_size(x, attrs.kernel, attrs.stride, attrs.pads, (1, 1))
    return Tensor("", (x.shape[0], h, w), RealType())


def golden(arrays: Arrays, attrs: RealAvgpoolAttrs, consts: Consts) -> np.ndarray:
    """One frame; the sum in float64, rounded to float32 once before the division."""
    x = arrays[0].astype(np.float64)
    taps = windows(x, attrs.kernel, attrs.stride, attrs.pads, (1, 1), 0)
    total = taps.sum(axis=(0, 1)).astype(np.float32)
    return np.asarray(total / np.float32(attrs.kernel[0] * attrs.kernel[1]))


OP = Op("real_avgpool", RealAvgpoolAttrs, infer, golden, no_macs, "quant")
