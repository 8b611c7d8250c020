# SPDX-License-Identifier: Apache-2.0
"""real_deform_dw (level quant): real_deform whose offsets are proven to be one dilation a pixel."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops import real_deform
from hwflow.ops.real_conv import check_parameters
from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, need

# (dy, dx) of the nine taps, row-major: tap position = anchor * dilation.
ANCHORS = np.array([(i - 1, j - 1) for i in range(3) for j in range(3)]).reshape(18)


@dataclass(frozen=True)
class RealDeformDwAttrs:
    """Bits of the weights."""

    weight_bits: int
    kernel: int = 3


def infer(tensors: tuple[Tensor, ...], attrs: RealDeformDwAttrs, consts: Consts) -> Tensor:
    """(C, H, W), dilations (1, H, W) -> (C, H, W)."""
    need(len(tensors) == 2, f"takes a map and its dilations, not {len(tensors)} inputs")
    x, s = tensors
    need(len(x.shape) == 3, f"input shape {x.shape} is not (C, H, W)")
    need(s.shape == (1, *x.shape[1:]), f"dilations {s.shape} are not (1, H, W)")
    need(attrs.kernel == 3, "only kernel 3 is supported")
    check_parameters(consts, x.shape[0])
    need(consts["weight"].shape == (x.shape[0], 1, 3, 3), "weight is not (C, 1, 3, 3)")
    return Tensor("", x.shape, RealType())


def golden(arrays: Arrays, attrs: RealDeformDwAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    x, s = arrays
    offsets = ANCHORS[:, None, None] * (s - 1)
    return real_deform.golden((x, offsets), real_deform.RealDeformAttrs(attrs.weight_bits), consts)


OP = Op("real_deform_dw", RealDeformDwAttrs, infer, golden, real_deform.macs, "quant")
