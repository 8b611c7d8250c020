# SPDX-License-Identifier: Apache-2.0
"""pw: 1x1 convolution with requantiser."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.arith import check_conv, requantise
from hwflow.ops.types import Arrays, Consts, IntType, Op, Tensor, int_type, need, one_map


@dataclass(frozen=True)
class PwAttrs:
    """Widths of weights, accumulator and output."""

    weight_bits: int
    acc_bits: int
    out: IntType


def infer(tensors: tuple[Tensor, ...], attrs: PwAttrs, consts: Consts) -> Tensor:
    """(IC, H, W) -> (OC, H, W)."""
    x = one_map(tensors)
    need("weight" in consts and consts["weight"].ndim == 2, "weight is not (OC, IC)")
    oc = consts["weight"].shape[0]
    shape = (oc, x.shape[0])
    check_conv(consts, shape, int_type(x), attrs.weight_bits, attrs.acc_bits)
    return Tensor("", (oc, *x.shape[1:]), attrs.out)


def golden(arrays: Arrays, attrs: PwAttrs, consts: Consts) -> np.ndarray:
    """One frame; exact in float64 because acc_bits <= 32."""
    x = arrays[0]
    acc = consts["weight"].astype(np.float64) @ x.reshape(x.shape[0], -1).astype(np.float64)
    return requantise(acc.reshape(-1, *x.shape[1:]), consts, attrs.out, attrs.acc_bits)


def macs(inputs: tuple[Tensor, ...], output: Tensor, attrs: PwAttrs) -> int:
    """Every output takes IC products."""
    return int(np.prod(output.shape)) * inputs[0].shape[0]


OP = Op("pw", PwAttrs, infer, golden, macs, "integer")
