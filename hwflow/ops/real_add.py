# SPDX-License-Identifier: Apache-2.0
"""real_add (level quant): the sum of two tensors of one shape, in float32."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, need, no_macs


@dataclass(frozen=True)
class RealAddAttrs:
    """None needed."""


def infer(tensors: tuple[Tensor, ...], attrs: RealAddAttrs, consts: Consts) -> Tensor:
    """Same shape, real."""
    need(len(tensors) == 2, f"takes two inputs, not {len(tensors)}")
    a, b = (t.shape for t in tensors)
    need(a == b, f"inputs differ in shape: {a}, {b}; nearest: two maps of one shape")
    return Tensor("", a, RealType())


def golden(arrays: Arrays, attrs: RealAddAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    return np.asarray(arrays[0] + arrays[1])


OP = Op("real_add", RealAddAttrs, infer, golden, no_macs, "quant")
