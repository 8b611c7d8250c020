# SPDX-License-Identifier: Apache-2.0
"""conv2d: the general convolution with requantiser: rectangles, strides, pads, dilation, groups.

acc[o, y, x] = sum over i, j, k of weight[o, i, j, k] * x[g * IC/groups + i, y * sh + j * dh - top,
x * sw + k * dw - left], with g = o // (OC / groups); a tap outside the map reads `pad_value`, which
is the integer that stands for 0.0. Then out = clamp(round_half_even((acc * mul + bias) / 2**shift),
lo, hi). A dense layer is one whose kernel is the whole map, an average pool a depthwise one whose
weights are 1, a change of scale a depthwise 1x1 one.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.arith import check_conv, requantise
from hwflow.ops.types import Arrays, Consts, IntType, Op, Tensor, int_type, need, one_map

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


@dataclass(frozen=True)
class Conv2dAttrs:
    """Window in (height, width), pads as (top, left, bottom, right) in pixels; widths.

    `lo` and `hi` are the limits of the output, within the type `out`.
    """

    kernel: Pair
    stride: Pair
    pads: Pads
    dilation: Pair
    groups: int
    pad_value: int
    weight_bits: int
    acc_bits: int
    lo: int
    hi: int
    out: IntType


def window_size(
    x: Tensor, kernel: Pair, stride: Pair, pads: Pads, dilation: Pair
) -> tuple[int, int]:
    """Output (height, width) of a window; GraphError when the window is not legal."""
    numbers = (*kernel, *stride, *dilation)
    need(min(numbers) >= 1, f"kernel {kernel}, stride {stride}, dilation {dilation} are below 1")
    need(min(pads) >= 0, f"pads {pads} are below 0")
    sides = []
    for axis in (0, 1):
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        room = x.shape[1 + axis] + pads[axis] + pads[2 + axis]
        need(room >= reach, f"no output: {kernel} window (dilation {dilation}) over {x.shape[1:]}")
        sides.append((room - reach) // stride[axis] + 1)
    return sides[0], sides[1]


def windows(
    x: np.ndarray, kernel: Pair, stride: Pair, pads: Pads, dilation: Pair, value: float
) -> np.ndarray:
    """The windows of x (C, H, W) padded with `value`, as (kh, kw, C, H', W') views."""
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)), constant_values=value)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2))
    view = view[:, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    return view.transpose(3, 4, 0, 1, 2)


def infer(tensors: tuple[Tensor, ...], attrs: Conv2dAttrs, consts: Consts) -> Tensor:
    """(IC, H, W) -> (OC, H', W')."""
    x = one_map(tensors)
    h, w = window_size(x, attrs.kernel, attrs.stride, attrs.pads, attrs.dilation)
    need("weight" in consts and consts["weight"].ndim == 4, "weight is not (OC, IC/groups, kh, kw)")
    oc, ic, groups = consts["weight"].shape[0], x.shape[0], attrs.groups
    need(groups >= 1 and ic % groups == 0 and oc % groups == 0,
         f"{ic} and {oc} channels do not divide into {groups} groups")  # fmt: skip
    dtype = int_type(x)
    need(dtype.lo <= attrs.pad_value <= dtype.hi, f"pad_value {attrs.pad_value} leaves {dtype}")
    need(attrs.out.lo <= attrs.lo <= attrs.hi <= attrs.out.hi,
         f"limits {attrs.lo}..{attrs.hi} leave {attrs.out}")  # fmt: skip
    check_conv(consts, (oc, ic // groups, *attrs.kernel), dtype, attrs.weight_bits, attrs.acc_bits)
    return Tensor("", (oc, h, w), attrs.out)


def accumulators(x: np.ndarray, attrs: Conv2dAttrs, weight: np.ndarray) -> np.ndarray:
    """(OC, H', W') in float64: exact because acc_bits <= 32."""
    taps = windows(
        x.astype(np.float64), attrs.kernel, attrs.stride, attrs.pads, attrs.dilation,
        attrs.pad_value,
    )  # fmt: skip
    h, w = taps.shape[3:]
    groups = attrs.groups
    columns = taps.transpose(2, 0, 1, 3, 4).reshape(groups, -1, h * w)
    rows = weight.astype(np.float64).reshape(groups, weight.shape[0] // groups, -1)
    return np.asarray((rows @ columns).reshape(-1, h, w))


def golden(arrays: Arrays, attrs: Conv2dAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    acc = accumulators(arrays[0], attrs, consts["weight"])
    out = requantise(acc, consts, attrs.out, attrs.acc_bits)
    return np.asarray(np.clip(out, attrs.lo, attrs.hi))


def macs(inputs: tuple[Tensor, ...], output: Tensor, attrs: Conv2dAttrs) -> int:
    """Every output takes IC / groups * kh * kw products."""
    depth = inputs[0].shape[0] // attrs.groups * attrs.kernel[0] * attrs.kernel[1]
    return int(np.prod(output.shape)) * depth


OP = Op("conv2d", Conv2dAttrs, infer, golden, macs, "integer")
