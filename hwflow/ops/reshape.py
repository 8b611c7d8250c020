# SPDX-License-Identifier: Apache-2.0
"""reshape (level quant): the same elements in row-major order under another shape."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, Tensor, need, no_macs


@dataclass(frozen=True)
class ReshapeAttrs:
    """The new shape, without batch axis."""

    shape: tuple[int, ...]


def infer(tensors: tuple[Tensor, ...], attrs: ReshapeAttrs, consts: Consts) -> Tensor:
    """Any shape -> attrs.shape."""
    need(len(tensors) == 1, f"takes one input, not {len(tensors)}")
    old = tensors[0].shape
    need(int(np.prod(old)) == int(np.prod(attrs.shape)), f"{old} does not reshape to {attrs.shape}")
    return Tensor("", attrs.shape, tensors[0].dtype)


def golden(arrays: Arrays, attrs: ReshapeAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    return arrays[0].reshape(attrs.shape)


OP = Op("reshape", ReshapeAttrs, infer, golden, no_macs, "quant")
