# SPDX-License-Identifier: Apache-2.0
"""transpose (level quant): permuted axes."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, Tensor, need, no_macs


@dataclass(frozen=True)
class TransposeAttrs:
    """Axis i of the output is axis perm[i] of the input, without batch axis."""

    perm: tuple[int, ...]


def infer(tensors: tuple[Tensor, ...], attrs: TransposeAttrs, consts: Consts) -> Tensor:
    """Axes permuted."""
    need(len(tensors) == 1, f"takes one input, not {len(tensors)}")
    shape = tensors[0].shape
    need(sorted(attrs.perm) == list(range(len(shape))), f"perm {attrs.perm} of {len(shape)} axes")
    return Tensor("", tuple(shape[axis] for axis in attrs.perm), tensors[0].dtype)


def golden(arrays: Arrays, attrs: TransposeAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    return arrays[0].transpose(attrs.perm)


OP = Op("transpose", TransposeAttrs, infer, golden, no_macs, "quant")
