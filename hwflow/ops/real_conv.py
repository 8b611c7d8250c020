# SPDX-License-Identifier: Apache-2.0
"""real_conv (level quant): convolution of reals with scaled integer weights and bias.

Weight w[c] * weight_scale[c], bias b[c] * bias_scale[c]; sums in float64, rounded to float32 once
(with power-of-two scales every order of summation in float32 gives the same).
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.conv import taps, window_shape
from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, need, one_map

ROLES = {"weight", "weight_scale", "bias", "bias_scale"}


@dataclass(frozen=True)
class RealConvAttrs:
    """Square kernel, stride and padding in pixels, channel groups, bits of the weights."""

    kernel: int
    stride: int
    pad: int
    groups: int
    weight_bits: int


def check_parameters(consts: Consts, channels: int) -> None:
    """GraphError unless all four constants are there with one scale and bias a channel."""
    need(set(consts) == ROLES, f"constants are {sorted(consts)}, not {sorted(ROLES)}")
    need(consts["weight"].dtype == np.int8, "weight is not int8")
    need(consts["bias"].dtype == np.int64, "bias is not int64")
    for role in ("weight_scale", "bias_scale"):
        scale = consts[role]
        need(scale.shape == (channels,) and scale.dtype == np.float32, f"{role}: not (OC,) float32")
        need(bool((np.isfinite(scale) & (scale > 0)).all()), f"{role} is not above 0 everywhere")
    need(consts["bias"].shape == (channels,), "bias is not (OC,)")


def infer(tensors: tuple[Tensor, ...], attrs: RealConvAttrs, consts: Consts) -> Tensor:
    """(IC, H, W) -> (OC, H', W')."""
    x = one_map(tensors)
    need("weight" in consts and consts["weight"].ndim == 4, "weight is not (OC, IC / groups, k, k)")
    h, w = window_shape(x, attrs.kernel, attrs.stride, attrs.pad)
    oc = consts["weight"].shape[0]
    groups = attrs.groups
    need(groups >= 1 and x.shape[0] % groups == 0 and oc % groups == 0, f"{groups} groups")
    shape = (oc, x.shape[0] // groups, attrs.kernel, attrs.kernel)
    need(consts["weight"].shape == shape, f"weight {consts['weight'].shape} is not {shape}")
    check_parameters(consts, oc)
    return Tensor("", (oc, h, w), RealType())


def dequantised(consts: Consts) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias as reals (float64 arrays holding float32 values)."""
    weight, scale = consts["weight"], consts["weight_scale"]
    column = scale.reshape((-1,) + (1,) * (weight.ndim - 1))
    real = weight.astype(np.float32) * column
    bias = consts["bias"].astype(np.float32) * consts["bias_scale"]
    return real.astype(np.float64), bias.astype(np.float64)


def golden(arrays: Arrays, attrs: RealConvAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    x = arrays[0].astype(np.float64)
    weight, bias = dequantised(consts)
    windows = taps(x, attrs.kernel, attrs.stride, attrs.pad)
    h, w = windows.shape[3:]
    columns = windows.transpose(2, 0, 1, 3, 4).reshape(attrs.groups, -1, h * w)
    acc = weight.reshape(attrs.groups, -1, columns.shape[1]) @ columns
    return np.asarray(acc.reshape(-1, h, w) + bias[:, None, None], dtype=np.float32)


def macs(inputs: tuple[Tensor, ...], output: Tensor, attrs: RealConvAttrs) -> int:
    """Every output takes IC / groups * k * k products."""
    per_output = inputs[0].shape[0] // attrs.groups * attrs.kernel**2
    return int(np.prod(output.shape)) * per_output


OP = Op("real_conv", RealConvAttrs, infer, golden, macs, "quant")
