# SPDX-License-Identifier: Apache-2.0
"""tables: at each pixel a lookup table for each output channel, addressed by bits of the input.

A layer of a network of lookup tables (docs/tables.md): no multiplier, no adder, no weights.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, IntType, Op, Tensor, int_type, need, no_macs, one_map

MOST_ADDRESS_BITS = 16


@dataclass(frozen=True)
class TablesAttrs:
    """Bits of the codes that are read, and the type of those the tables hold."""

    code_bits: int
    out: IntType


def infer(tensors: tuple[Tensor, ...], attrs: TablesAttrs, consts: Consts) -> Tensor:
    """(C, H, W) of b-bit codes -> (N, H, W).

    Constants: `wires` int32 (N, K), where bit j of the address of table n is bit `wires[n, j]` of
    the input, bits numbered channel * b + bit, the least significant one first; `values` int16
    (N, 2**K), the code at each address.
    """
    x = one_map(tensors)
    need(int_type(x).bits == attrs.code_bits,
         f"the input is {x.dtype}, not of {attrs.code_bits} bits")  # fmt: skip
    bits = x.shape[0] * attrs.code_bits
    need(set(consts) == {"wires", "values"}, "needs exactly the constants 'wires' and 'values'")
    wires, values = consts["wires"], consts["values"]
    need(wires.dtype == np.int32 and wires.ndim == 2, "wires are not int32 (N, K)")
    count, width = wires.shape
    need(1 <= width <= MOST_ADDRESS_BITS,
         f"{width} address bits; a table has 1 to {MOST_ADDRESS_BITS}: give its nodes fewer or "
         "narrower inputs")  # fmt: skip
    need(values.dtype == np.int16 and values.shape == (count, 1 << width),
         f"values {values.dtype} {values.shape} are not int16 ({count}, {1 << width})")  # fmt: skip
    need(bool(((wires >= 0) & (wires < bits)).all()), f"a wire is not one of 0..{bits - 1}")
    need(attrs.out.lo <= int(values.min()) and int(values.max()) <= attrs.out.hi,
         f"codes {values.min()}..{values.max()} leave {attrs.out}")  # fmt: skip
    return Tensor("", (count, *x.shape[1:]), attrs.out)


def addresses(x: np.ndarray, bits: int, wires: np.ndarray) -> np.ndarray:
    """The address of each table, int32 (N, ...), from `bits`-bit codes (C, ...)."""
    found = np.zeros((wires.shape[0], *x.shape[1:]), np.int32)
    for place in range(wires.shape[1]):
        channel, bit = np.divmod(wires[:, place], bits)
        shift = bit.reshape(-1, *[1] * (x.ndim - 1))
        found |= (((x[channel] >> shift) & 1) << place).astype(np.int32)
    return found


def golden(arrays: Arrays, attrs: TablesAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    x, values = arrays[0], consts["values"]
    rows = np.arange(len(values)).reshape(-1, *[1] * (x.ndim - 1))
    return np.asarray(values[rows, addresses(x, attrs.code_bits, consts["wires"])], dtype=np.int64)


OP = Op("tables", TablesAttrs, infer, golden, no_macs, "integer")
