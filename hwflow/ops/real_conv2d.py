# SPDX-License-Identifier: Apache-2.0
"""real_conv2d (level quant): conv2d of reals with scaled integer weights and bias.

As real_conv, for any kernel, stride, pads, dilation and groups; outside the map lies 0.0.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.conv2d import Pads, Pair, window_size, windows
from hwflow.ops.real_conv import check_parameters, dequantised
from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, need, one_map


@dataclass(frozen=True)
class RealConv2dAttrs:
    """Window in (height, width), pads as (top, left, bottom, right), groups, bits of weights."""

    kernel: Pair
    stride: Pair
    pads: Pads
    dilation: Pair
    groups: int
    weight_bits: int


def infer(tensors: tuple[Tensor, ...], attrs: RealConv2dAttrs, consts: Consts) -> Tensor:
    """(IC, H, W) -> (OC, H', W')."""
    x = one_map(tensors)
    h, w = window_size(x, attrs.kernel, attrs.stride, attrs.pads, attrs.dilation)
    need("weight" in consts and consts["weight"].ndim == 4, "weight is not (OC, IC/groups, kh, kw)")
    oc, groups = consts["weight"].shape[0], attrs.groups
    need(groups >= 1 and x.shape[0] % groups == 0 and oc % groups == 0, f"{groups} groups")
    shape = (oc, x.shape[0] // groups, *attrs.kernel)
    need(consts["weight"].shape == shape, f"weight {consts['weight'].shape} is not {shape}")
    check_parameters(consts, oc)
    return Tensor("", (oc, h, w), RealType())


def golden(arrays: Arrays, attrs: RealConv2dAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    weight, bias = dequantised(consts)
    taps = windows(
        arrays[0].astype(np.float64), attrs.kernel, attrs.stride, attrs.pads, attrs.dilation, 0
    )
    h, w = taps.shape[3:]
    columns = taps.transpose(2, 0, 1, 3, 4).reshape(attrs.groups, -1, h * w)
    acc = weight.reshape(attrs.groups, -1, columns.shape[1]) @ columns
    return np.asarray(acc.reshape(-1, h, w) + bias[:, None, None], dtype=np.float32)


def macs(inputs: tuple[Tensor, ...], output: Tensor, attrs: RealConv2dAttrs) -> int:
    """Every output takes IC / groups * kh * kw products."""
    depth = inputs[0].shape[0] // attrs.groups * attrs.kernel[0] * attrs.kernel[1]
    return int(np.prod(output.shape)) * depth


OP = Op("real_conv2d", RealConv2dAttrs, infer, golden, macs, "quant")
