# SPDX-License-Identifier: Apache-2.0
"""upsample: nearest neighbour, every pixel becomes factor x factor pixels."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, Tensor, need, no_macs, one_map


@dataclass(frozen=True)
class UpsampleAttrs:
    """Enlargement of both sides."""

    factor: int = 2


def infer(tensors: tuple[Tensor, ...], attrs: UpsampleAttrs, consts: Consts) -> Tensor:
    """(C, H, W) -> (C, factor * H, factor * W)."""
    x = one_map(tensors)
    need(attrs.factor >= 1, f"factor {attrs.factor} is below 1")
    c, h, w = x.shape
    return Tensor("", (c, h * attrs.factor, w * attrs.factor), x.dtype)


def golden(arrays: Arrays, attrs: UpsampleAttrs, consts: Consts) -> np.ndarray:
    """One frame, integers or reals."""
    return arrays[0].repeat(attrs.factor, axis=1).repeat(attrs.factor, axis=2)


OP = Op("upsample", UpsampleAttrs, infer, golden, no_macs)
