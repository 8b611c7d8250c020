# SPDX-License-Identifier: Apache-2.0
"""real_group_sum (level quant): sums of equally many consecutive channels, in float32."""

import numpy as np

from hwflow.ops.group_sum import GroupSumAttrs
from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, need, no_macs, one_map


def infer(tensors: tuple[Tensor, ...], attrs: GroupSumAttrs, consts: Consts) -> Tensor:
    """(C, H, W) -> (groups, H, W)."""
    x = one_map(tensors)
    need(attrs.groups >= 1 and x.shape[0] % attrs.groups == 0,
         f"{x.shape[0]} channels are not {attrs.groups} equal groups")  # fmt: skip
    return Tensor("", (attrs.groups, *x.shape[1:]), RealType())


def golden(arrays: Arrays, attrs: GroupSumAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    x = arrays[0]
    return np.asarray(x.reshape(attrs.groups, -1, *x.shape[1:]).sum(axis=1), dtype=np.float32)


OP = Op("real_group_sum", GroupSumAttrs, infer, golden, no_macs, "quant")
