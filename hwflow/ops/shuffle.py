# SPDX-License-Identifier: Apache-2.0
"""shuffle: channel shuffle, out[k * groups + g] = in[g * (C / groups) + k]."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, Tensor, need, no_macs, one_map


@dataclass(frozen=True)
class ShuffleAttrs:
    """How many groups of channels are interleaved."""

    groups: int = 2


def infer(tensors: tuple[Tensor, ...], attrs: ShuffleAttrs, consts: Consts) -> Tensor:
    """(C, H, W) -> (C, H, W)."""
    x = one_map(tensors)
    need(
        attrs.groups >= 1 and x.shape[0] % attrs.groups == 0,
        f"{x.shape[0]} channels do not divide into {attrs.groups} groups",
    )
    return Tensor("", x.shape, x.dtype)


def golden(arrays: Arrays, attrs: ShuffleAttrs, consts: Consts) -> np.ndarray:
    """One frame, integers or reals."""
    x = arrays[0]
    grouped = x.reshape(attrs.groups, -1, *x.shape[1:])
    return np.ascontiguousarray(grouped.swapaxes(0, 1)).reshape(x.shape)


OP = Op("shuffle", ShuffleAttrs, infer, golden, no_macs)
