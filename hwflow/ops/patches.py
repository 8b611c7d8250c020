# SPDX-License-Identifier: Apache-2.0
"""patches: the taps of a sliding window as channels: out[c*kh*kw + i*kw + j, y, x] =
in[c, y*sh + i*dh - top, x*sw + j*dw - left], 0 outside of the map."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, Tensor, need, no_macs, one_map

Pair = tuple[int, int]


@dataclass(frozen=True)
class PatchesAttrs:
    """Window, steps, pads (top, left, bottom, right) and distances of the taps."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]


def _sides(shape: tuple[int, ...], attrs: PatchesAttrs) -> Pair:
    """Height and width of the result."""
    sides = []
    for axis in (0, 1):
        reach = (attrs.kernel[axis] - 1) * attrs.dilation[axis] + 1
        room = shape[1 + axis] + attrs.pads[axis] + attrs.pads[2 + axis]
        sides.append((room - reach) // attrs.stride[axis] + 1 if room >= reach else 0)
    return sides[0], sides[1]


def infer(tensors: tuple[Tensor, ...], attrs: PatchesAttrs, consts: Consts) -> Tensor:
    """(C, H, W) -> (C * kh * kw, H', W'), any type."""
    x = one_map(tensors)
    need(min(*attrs.kernel, *attrs.stride, *attrs.dilation) >= 1 and min(attrs.pads) >= 0,
         f"kernel {attrs.kernel}, stride {attrs.stride}, dilation {attrs.dilation} or pads "
         f"{attrs.pads} are too small")  # fmt: skip
    sides = _sides(x.shape, attrs)
    need(min(sides) >= 1, f"the window {attrs.kernel} does not fit the map {x.shape[1:]}")
    return Tensor("", (x.shape[0] * attrs.kernel[0] * attrs.kernel[1], *sides), x.dtype)


def golden(arrays: Arrays, attrs: PatchesAttrs, consts: Consts) -> np.ndarray:
    """One frame, integers or reals."""
    x = arrays[0]
    top, left, bottom, right = attrs.pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    (height, width), (kh, kw) = _sides(x.shape, attrs), attrs.kernel
    taps = []
    for i in range(kh):
        for j in range(kw):
            y, z = i * attrs.dilation[0], j * attrs.dilation[1]
            rows = padded[:, y : y + (height - 1) * attrs.stride[0] + 1 : attrs.stride[0]]
            taps.append(rows[:, :, z : z + (width - 1) * attrs.stride[1] + 1 : attrs.stride[1]])
    return np.stack(taps, axis=1).reshape(-1, height, width)


OP = Op("patches", PatchesAttrs, infer, golden, no_macs)
