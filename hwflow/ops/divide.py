# SPDX-License-Identifier: Apache-2.0
"""divide (level quant): x / value, the constant broadcast along the channels or the pixels."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.add import broadcast_shape
from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, need, no_macs


@dataclass(frozen=True)
class DivideAttrs:
    """None needed."""


def infer(tensors: tuple[Tensor, ...], attrs: DivideAttrs, consts: Consts) -> Tensor:
    """The broadcast shape, real."""
    shape = broadcast_shape(tensors, consts)
    need(bool((consts["value"] != 0).all()), "divides by 0")
    return Tensor("", shape, RealType())


def golden(arrays: Arrays, attrs: DivideAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    return np.asarray(arrays[0] / consts["value"])


OP = Op("divide", DivideAttrs, infer, golden, no_macs, "quant")
