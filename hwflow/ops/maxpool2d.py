# SPDX-License-Identifier: Apache-2.0
"""maxpool2d: greatest value of any window; pixels outside the map are ignored.

The global maximum is one whose kernel is the whole map.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.conv2d import Pads, Pair, window_size, windows
from hwflow.ops.types import Arrays, Consts, Op, Tensor, need, no_macs, one_map


@dataclass(frozen=True)
class Maxpool2dAttrs:
    """Window in (height, width), pads as (top, left, bottom, right) in pixels."""

    kernel: Pair
    stride: Pair
    pads: Pads
    dilation: Pair = (1, 1)


def infer(tensors: tuple[Tensor, ...], attrs: Maxpool2dAttrs, consts: Consts) -> Tensor:
    """(C, H, W) -> (C, H', W'); no window may lie wholly outside the map."""
    x = one_map(tensors)
    h, w = window_size(x, attrs.kernel, attrs.stride, attrs.pads, attrs.dilation)
    for axis, count in enumerate((h, w)):
        taps = np.arange(attrs.kernel[axis]) * attrs.dilation[axis] - attrs.pads[axis]
        places = np.arange(count)[:, None] * attrs.stride[axis] + taps
        inside = (places >= 0) & (places < x.shape[1 + axis])
        need(bool(inside.any(axis=1).all()), "a window lies wholly outside the map")
    return Tensor("", (x.shape[0], h, w), x.dtype)


def golden(arrays: Arrays, attrs: Maxpool2dAttrs, consts: Consts) -> np.ndarray:
    """One frame, integers or reals."""
    x = arrays[0]
    least = np.iinfo(x.dtype).min if x.dtype.kind == "i" else -np.inf
    taps = windows(x, attrs.kernel, attrs.stride, attrs.pads, attrs.dilation, least)
    return np.asarray(taps.max(axis=(0, 1)))


OP = Op("maxpool2d", Maxpool2dAttrs, infer, golden, no_macs)
