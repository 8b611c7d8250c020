# SPDX-License-Identifier: Apache-2.0
"""real_tables (level quant): tables between scaled codes, before and after in float32."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops import tables
from hwflow.ops.tables import TablesAttrs
from hwflow.ops.types import Arrays, Consts, IntType, Op, RealType, Tensor, need, no_macs, one_map


@dataclass(frozen=True)
class RealTablesAttrs:
    """The codes that are read and those that are given: their types, and the reals of code 1."""

    code: IntType
    code_scale: float
    out: IntType
    out_scale: float


def infer(tensors: tuple[Tensor, ...], attrs: RealTablesAttrs, consts: Consts) -> Tensor:
    """(C, H, W) real -> (N, H, W) real; constants as those of `tables`."""
    x = one_map(tensors)
    need(min(attrs.code_scale, attrs.out_scale) > 0, "a scale is not above 0")
    codes = Tensor(x.name, x.shape, attrs.code)
    made = tables.infer((codes,), TablesAttrs(attrs.code.bits, attrs.out), consts)
    return Tensor("", made.shape, RealType())


def golden(arrays: Arrays, attrs: RealTablesAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    codes = np.rint(arrays[0] / np.float32(attrs.code_scale)).astype(np.int64)
    found = tables.golden((codes,), TablesAttrs(attrs.code.bits, attrs.out), consts)
    return np.asarray(found.astype(np.float32) * np.float32(attrs.out_scale), dtype=np.float32)


OP = Op("real_tables", RealTablesAttrs, infer, golden, no_macs, "quant")
