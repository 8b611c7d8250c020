# SPDX-License-Identifier: Apache-2.0
"""threshold: out = lo + how many of the channel's thresholds are at most x.

The thresholds of a channel never fall; equal ones make the output jump by more than one. Behind a
convolution whose requantiser passes accumulators through, it is a quantiser that no multiplier
reproduces.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, IntType, Op, Tensor, int_type, need, no_macs, one_map


@dataclass(frozen=True)
class ThresholdAttrs:
    """The output for an x below all thresholds, and the output's type."""

    lo: int
    out: IntType


def infer(tensors: tuple[Tensor, ...], attrs: ThresholdAttrs, consts: Consts) -> Tensor:
    """(C, H, W) -> (C, H, W); the constant `thresholds` is int64 (C, levels)."""
    x = one_map(tensors)
    int_type(x)
    need(set(consts) == {"thresholds"}, "needs exactly the constant 'thresholds'")
    table = consts["thresholds"]
    need(table.dtype == np.int64 and table.ndim == 2, "thresholds are not int64 (C, levels)")
    need(table.shape[0] == x.shape[0], f"thresholds {table.shape} are not one row a channel")
    need(bool((np.diff(table, axis=1) >= 0).all()), "thresholds of a channel fall")
    need(attrs.out.lo <= attrs.lo and attrs.lo + table.shape[1] <= attrs.out.hi,
         f"outputs {attrs.lo}..{attrs.lo + table.shape[1]} leave {attrs.out}")  # fmt: skip
    return Tensor("", x.shape, attrs.out)


def golden(arrays: Arrays, attrs: ThresholdAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    x, table = arrays[0], consts["thresholds"]
    counts = [
        np.searchsorted(row, plane.ravel(), side="right").reshape(plane.shape)
        for row, plane in zip(table, x, strict=True)
    ]
    return np.stack(counts).astype(np.int64) + attrs.lo


OP = Op("threshold", ThresholdAttrs, infer, golden, no_macs, "integer")
