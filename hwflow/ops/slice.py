# SPDX-License-Identifier: Apache-2.0
"""slice: channels start to stop (stop excluded)."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, Tensor, need, no_macs, one_map


@dataclass(frozen=True)
class SliceAttrs:
    """First channel, and the one behind the last."""

    start: int
    stop: int


def infer(tensors: tuple[Tensor, ...], attrs: SliceAttrs, consts: Consts) -> Tensor:
    """(C, H, W) -> (stop - start, H, W)."""
    x = one_map(tensors)
    need(
        0 <= attrs.start < attrs.stop <= x.shape[0],
        f"channels {attrs.start}..{attrs.stop} are not within {x.shape[0]}",
    )
    return Tensor("", (attrs.stop - attrs.start, *x.shape[1:]), x.dtype)


def golden(arrays: Arrays, attrs: SliceAttrs, consts: Consts) -> np.ndarray:
    """One frame, integers or reals."""
    return arrays[0][attrs.start : attrs.stop]


OP = Op("slice", SliceAttrs, infer, golden, no_macs)
