# SPDX-License-Identifier: Apache-2.0
"""peaks: the k best local maxima of a heat map, with size and offset read at each.

A cell equal to the greatest of its 3x3 neighbours of the same class is a peak. The overall best
k by logit are kept; ties go to the earlier position in row-major order, then the lower class.
Rows: (logit, class, y, x, w, h, reg_x, reg_y), sorted by (logit descending, y, x, class); unused
rows are 0 with class -1.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops import maxpool
from hwflow.ops.types import Arrays, Consts, IntType, Op, Tensor, int_type, need, no_macs

COLUMNS = ("logit", "class", "y", "x", "w", "h", "reg_x", "reg_y")
OUT = IntType(16, True)


@dataclass(frozen=True)
class PeaksAttrs:
    """How many candidates are kept."""

    k: int = 100


def infer(tensors: tuple[Tensor, ...], attrs: PeaksAttrs, consts: Consts) -> Tensor:
    """(classes, H, W), (2, H, W), (2, H, W) -> (k, 8)."""
    need(len(tensors) == 3, f"takes hm, wh and reg, not {len(tensors)} inputs")
    need(attrs.k >= 1, f"k {attrs.k} is below 1")
    hm, wh, reg = tensors
    for x in tensors:
        need(len(x.shape) == 3, f"input shape {x.shape} is not (C, H, W)")
        dtype = int_type(x)
        need(OUT.lo <= dtype.lo and dtype.hi <= OUT.hi, f"input type {dtype} is not within i16")
    size = hm.shape[1:]
    need(max(hm.shape) <= OUT.hi, f"heat map {hm.shape} is too large for i16 coordinates")
    need(wh.shape == (2, *size), f"wh shape {wh.shape} is not {(2, *size)}")
    need(reg.shape == (2, *size), f"reg shape {reg.shape} is not {(2, *size)}")
    return Tensor("", (attrs.k, len(COLUMNS)), OUT)


def golden(arrays: Arrays, attrs: PeaksAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    hm, wh, reg = arrays
    best = maxpool.golden((hm,), maxpool.MaxpoolAttrs(3, 1, 1), {})
    label, y, x = np.nonzero(hm == best)
    logit = hm[label, y, x]
    order = np.lexsort((label, x, y, -logit))[: attrs.k]
    label, y, x, logit = label[order], y[order], x[order], logit[order]
    rows = np.zeros((attrs.k, len(COLUMNS)), dtype=np.int64)
    rows[:, 1] = -1
    rows[: len(order)] = np.stack(
        (logit, label, y, x, wh[0, y, x], wh[1, y, x], reg[0, y, x], reg[1, y, x]), axis=1
    )
    return rows


OP = Op("peaks", PeaksAttrs, infer, golden, no_macs, "integer")
