# SPDX-License-Identifier: Apache-2.0
"""concat: inputs of one type and size, one behind the other along the channels."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, Tensor, need, no_macs


@dataclass(frozen=True)
class ConcatAttrs:
    """None needed."""


def infer(tensors: tuple[Tensor, ...], attrs: ConcatAttrs, consts: Consts) -> Tensor:
    """(C0, H, W), (C1, H, W), ... -> (C0 + C1 + ..., H, W)."""
    need(len(tensors) >= 1, "takes at least one input")
    first = tensors[0]
    for x in tensors:
        need(len(x.shape) == 3, f"input shape {x.shape} is not (C, H, W)")
        need(x.shape[1:] == first.shape[1:], f"inputs differ in size: {first.shape}, {x.shape}")
        need(x.dtype == first.dtype, f"inputs differ in type: {first.dtype}, {x.dtype}")
    return Tensor("", (sum(x.shape[0] for x in tensors), *first.shape[1:]), first.dtype)


def golden(arrays: Arrays, attrs: ConcatAttrs, consts: Consts) -> np.ndarray:
    """One frame, integers or reals."""
    return np.concatenate(arrays)


OP = Op("concat", ConcatAttrs, infer, golden, no_macs)
