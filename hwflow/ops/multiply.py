# SPDX-License-Identifier: Apache-2.0
"""multiply (level quant): x * value, the constant broadcast along the channels or the pixels."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.add import broadcast_shape
from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, no_macs


@dataclass(frozen=True)
class MultiplyAttrs:
    """None needed."""


def infer(tensors: tuple[Tensor, ...], attrs: MultiplyAttrs, consts: Consts) -> Tensor:
    """The broadcast shape, real."""
    return Tensor("", broadcast_shape(tensors, consts), RealType())


def golden(arrays: Arrays, attrs: MultiplyAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    return arrays[0] * consts["value"]


OP = Op("multiply", MultiplyAttrs, infer, golden, no_macs, "quant")
