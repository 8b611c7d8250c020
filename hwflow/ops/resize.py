# SPDX-License-Identifier: Apache-2.0
"""resize: nearest neighbour by two lists, out[c, y, x] = in[c, rows[y], columns[x]].

Any enlargement or reduction, crop, step or mirror; whole enlargements of both sides by one number
are `upsample`.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, Tensor, need, no_macs, one_map


@dataclass(frozen=True)
class ResizeAttrs:
    """None needed: the constants `rows` and `columns` (int32) say it all."""


def infer(tensors: tuple[Tensor, ...], attrs: ResizeAttrs, consts: Consts) -> Tensor:
    """(C, H, W) -> (C, len(rows), len(columns))."""
    x = one_map(tensors)
    need(set(consts) == {"rows", "columns"}, "needs exactly the constants 'rows' and 'columns'")
    for role, side in (("rows", x.shape[1]), ("columns", x.shape[2])):
        index = consts[role]
        need(index.dtype == np.int32 and index.ndim == 1 and index.size > 0,
             f"{role} are not a list of int32")  # fmt: skip
        need(int(index.min()) >= 0 and int(index.max()) < side, f"{role} leave 0..{side - 1}")
    return Tensor("", (x.shape[0], consts["rows"].size, consts["columns"].size), x.dtype)


def golden(arrays: Arrays, attrs: ResizeAttrs, consts: Consts) -> np.ndarray:
    """One frame, integers or reals."""
    return arrays[0][:, consts["rows"]][:, :, consts["columns"]]


OP = Op("resize", ResizeAttrs, infer, golden, no_macs)
