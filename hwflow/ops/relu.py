# SPDX-License-Identifier: Apache-2.0
"""relu (level quant): max(x, 0)."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, need, no_macs


@dataclass(frozen=True)
class ReluAttrs:
    """None needed."""


def infer(tensors: tuple[Tensor, ...], attrs: ReluAttrs, consts: Consts) -> Tensor:
    """Same shape, real."""
    need(len(tensors) == 1, f"takes one input, not {len(tensors)}")
    return Tensor("", tensors[0].shape, RealType())


def golden(arrays: Arrays, attrs: ReluAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    return np.maximum(arrays[0], np.float32(0))


OP = Op("relu", ReluAttrs, infer, golden, no_macs, "quant")
