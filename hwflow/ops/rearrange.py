# SPDX-License-Identifier: Apache-2.0
"""rearrange: the same elements in another order: seen as `dims`, axes permuted, seen as `shape`.

Flatten, reshape, transpose of the layout and depth-to-space are rearrangements.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, Tensor, need, no_macs


@dataclass(frozen=True)
class RearrangeAttrs:
    """Input row-major as `dims`; axis i of the permuted is axis perm[i] of it; then `shape`."""

    dims: tuple[int, ...]
    perm: tuple[int, ...]
    shape: tuple[int, ...]


def infer(tensors: tuple[Tensor, ...], attrs: RearrangeAttrs, consts: Consts) -> Tensor:
    """Any shape -> attrs.shape."""
    need(len(tensors) == 1, f"takes one input, not {len(tensors)}")
    old = tensors[0].shape
    need(min((*attrs.dims, *attrs.shape), default=0) >= 1, "a side is below 1")
    size = int(np.prod(old))
    need(size == int(np.prod(attrs.dims)) == int(np.prod(attrs.shape)),
         f"{old}, {attrs.dims} and {attrs.shape} differ in size")  # fmt: skip
    need(sorted(attrs.perm) == list(range(len(attrs.dims))), f"perm {attrs.perm} is no order")
    return Tensor("", attrs.shape, tensors[0].dtype)


def golden(arrays: Arrays, attrs: RearrangeAttrs, consts: Consts) -> np.ndarray:
    """One frame, integers or reals."""
    ordered = arrays[0].reshape(attrs.dims).transpose(attrs.perm)
    return np.ascontiguousarray(ordered).reshape(attrs.shape)


OP = Op("rearrange", RearrangeAttrs, infer, golden, no_macs)
