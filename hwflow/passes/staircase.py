# SPDX-License-Identifier: Apache-2.0
"""The quantisers of level quant as functions from a real value to an integer on a grid."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hwflow.errors import GraphError
from hwflow.ir import Graph, IntType, Node
from hwflow.ops import bipolar, multithreshold, quant, trunc
from hwflow.ops.arith import signed_bits
from hwflow.passes.structure import Grid

Units = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Staircase:
    """`units` gives integers (float32, zero point included) of reals (C, ...).

    The grid of the integers is known, but for a truncation without limits: its type then follows
    from the values it is given. `plain` is the quantiser when it is a Quant that rounds half to
    even with zero point 0 and the limits of its type.
    """

    units: Units
    scale: float
    zero: int
    lo: int | None
    hi: int | None
    plain: quant.QuantAttrs | None = None
    per_tensor: bool = True

    def grid(self, lo: int, hi: int) -> Grid:
        """The grid of outputs lo..hi."""
        if self.plain is not None:
            return Grid(self.scale, self.plain.out, self.zero)
        kind = narrowest(lo, hi)
        limits = None if (lo, hi) == (kind.lo, kind.hi) else (lo, hi)
        return Grid(self.scale, kind, self.zero, limits)


def narrowest(lo: int, hi: int) -> IntType:
    """The narrowest type that holds lo..hi."""
    if lo >= 0:
        return IntType(max(1, hi.bit_length()), False)
    return IntType(signed_bits(lo, hi), True)


def staircase(graph: Graph, node: Node) -> Staircase:
    """What a quantiser node computes."""
    consts, a = graph.consts(node), node.attrs
    if node.op == "quant":
        plain = a.limits is None and a.zero == 0 and a.rounding in ("ROUND", "HALF_EVEN")
        return Staircase(
            lambda x: quant.units(x, a, consts), float(consts["scale"]), a.zero, a.lo, a.hi,
            a if plain else None,
        )  # fmt: skip
    if node.op == "bipolar":
        return Staircase(
            lambda x: bipolar.units(x, a, consts), float(consts["scale"]), 0, -1, 1
        )
    if node.op == "trunc":
        lo, hi = a.limits or (None, None)
        return Staircase(
            lambda x: trunc.units(x, a, consts), float(consts["out_scale"]), a.out_zero, lo, hi
        )
    return _thresholds(node, consts["thresholds"])


def _thresholds(node: Node, table: np.ndarray) -> Staircase:
    """The integers are counts moved by the offset, in half units where the offset needs it."""
    a, levels = node.attrs, table.shape[1]
    step = 1 if a.out_bias / a.out_scale == np.rint(a.out_bias / a.out_scale) else 2
    start = int(np.rint(step * a.out_bias / a.out_scale))
    if abs(start) > 1 << 16:
        raise GraphError(f"node '{node.name}': out_bias {a.out_bias} is too far from 0")

    def units(x: np.ndarray) -> np.ndarray:
        counted = multithreshold.count(x, {"thresholds": table})
        return np.asarray(counted * np.float32(step) + np.float32(start))

    return Staircase(
        units, float(np.float32(a.out_scale / step)), 0, start, start + step * levels,
        per_tensor=table.shape[0] == 1,
    )  # fmt: skip
