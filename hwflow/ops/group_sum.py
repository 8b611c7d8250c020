# SPDX-License-Identifier: Apache-2.0
"""group_sum: sums of equally many consecutive channels; the popcount head of a table network."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, IntType, Op, Tensor, int_type, need, no_macs, one_map


@dataclass(frozen=True)
class GroupSumAttrs:
    """How many sums."""

    groups: int


def infer(tensors: tuple[Tensor, ...], attrs: GroupSumAttrs, consts: Consts) -> Tensor:
    """(C, H, W) -> (groups, H, W) of the narrowest type that holds every sum; integers only."""
    x = one_map(tensors)
    kind = int_type(x)
    channels = x.shape[0]
    need(attrs.groups >= 1 and channels % attrs.groups == 0,
         f"{channels} channels are not {attrs.groups} equal groups")  # fmt: skip
    size = channels // attrs.groups
    span = max(size * kind.hi, -size * kind.lo - 1)
    out = IntType(max(1, span.bit_length()) + kind.signed, kind.signed)
    return Tensor("", (attrs.groups, *x.shape[1:]), out)


def golden(arrays: Arrays, attrs: GroupSumAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    x = arrays[0]
    return np.asarray(x.reshape(attrs.groups, -1, *x.shape[1:]).sum(axis=1), dtype=np.int64)


OP = Op("group_sum", GroupSumAttrs, infer, golden, no_macs, "integer")
