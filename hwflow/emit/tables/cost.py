# SPDX-License-Identifier: Apache-2.0
"""What a network of tables takes before there is one: to choose its size for a budget.

The numbers are those of the emitter for tables of random contents that share nothing, or a little
more; a trained network, whose tables depend on fewer inputs or repeat, takes less. `emit` and
`estimate` count the cells of a graph itself.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwflow.emit.tables import heads
from hwflow.emit.tables.functions import Forms
from hwflow.emit.tables.netlist import Builder, Dual, Table, alive, paired
from hwflow.emit.tables.write import target
from hwflow.errors import ConfigError

COUNTED = 32  # bits of a sum whose chains are searched here, too


@dataclass(frozen=True)
class Width:
    """One layer: `count` tables of `address_bits`, each giving a code of `code_bits`."""

    count: int
    address_bits: int
    code_bits: int = 1


def table_luts(address_bits: int, code_bits: int = 1, to: str = "xilinx") -> int:
    """Lookup tables of one table, at most: 2**(n-6) for each output bit of n = 7 or 8 address bits
    with the wide multiplexers of a 7-series chip, two halves and one more beyond these; two outputs
    of at most five share one."""
    fabric = target(to).fabric
    if fabric.dual and address_bits < fabric.inputs:
        return -(-code_bits // 2)
    excess = address_bits - fabric.inputs
    luts = 1 << min(max(0, excess), fabric.joins)
    for _ in range(excess - fabric.joins):  # two halves, and a table to choose one
        luts = 2 * luts + 1
    return code_bits * luts


@functools.lru_cache(maxsize=256)
def sum_luts(codes: int, code_bits: int = 1, to: str = "xilinx", carry: bool = True) -> int:
    """Lookup tables of the sum of so many unsigned codes; of many bits an upper bound, because the
    search for the best chains takes long (tests hold it to that search)."""
    chosen = target(to)
    count = codes * code_bits
    chains = carry and chosen.carry
    if count > COUNTED and not chains:  # a full adder takes a bit off the heap
        return count if chosen.fabric.dual else 2 * count
    if count > COUNTED:
        return (count + 3) // 2 + (count // 512 if code_bits == 1 else 2)
    builder = Builder(chosen.fabric)
    bit = iter(range(count))
    heap = [[builder.input(next(bit)) for _ in range(codes)] for _ in range(code_bits)]
    bits = (codes * ((1 << code_bits) - 1)).bit_length()
    total = heads.sum_by_chains if chains else heads.sum_by_adders
    return _count(builder, total(builder, heap, bits))


@functools.lru_cache(maxsize=256)
def argmax_luts(classes: int, score_bits: int, to: str = "xilinx") -> int:
    """Lookup tables of the class of the greatest of so many unsigned scores."""
    builder = Builder(target(to).fabric)
    scores = [
        [builder.input(c * score_bits + b) for b in range(score_bits)] for c in range(classes)
    ]
    return _count(builder, heads.argmax(builder, scores, False))


def _count(builder: Builder, outputs: Sequence[int]) -> int:
    cells = alive(builder.cells, [x >> 1 for x in outputs])
    if builder.fabric.dual:
        cells = paired(cells, builder.stage)
    return sum(isinstance(c, Table | Dual) for c in cells)


@functools.lru_cache(maxsize=1024)
def threshold_luts(level: int, bits: int = 8, to: str = "xilinx") -> int:
    """Lookup tables of "code >= level"; none for the middle, which is the top bit."""
    values = np.arange(1 << bits) >= level
    return Forms(target(to).fabric).cost(values)


@dataclass(frozen=True)
class Encoder:
    """The comparators of an encoder: lookup tables of each, the dearest first."""

    luts: tuple[int, ...] = ()

    def read(self, pins: int) -> int:
        """Lookup tables at most, when so many pins read comparators."""
        return sum(self.luts[:pins])


def encoder(thresholds: np.ndarray, to: str = "xilinx") -> Encoder:
    """That of thresholds int (F, L) of bytes; equal ones of a feature are one comparator."""
    levels = [int(t) for row in thresholds for t in np.unique(row)]
    return Encoder(tuple(sorted((threshold_luts(t, 8, to) for t in levels), reverse=True)))


def encoder_of(features: int, levels: int, precision: int = 8, to: str = "xilinx") -> Encoder:
    """That of so many thresholds a feature that are not known yet, multiples of
    2**(8 - precision): of each the dearest."""
    dearest = max(threshold_luts(t, 8, to) for t in range(0, 257, 1 << (8 - precision)))
    return Encoder((dearest,) * (features * levels))


def luts_for(
    widths: Sequence[Width], classes: int = 10, *, sums: bool = True,
    comparators: Encoder = Encoder(), to: str = "xilinx",
) -> Mapping[str, int]:  # fmt: skip
    """Lookup tables of a network by part, at most: encoder, layer1 ..., sums, argmax, total.

    sums: the codes of the last layer are summed in `classes` groups; else they are the scores.
    comparators: of the encoder, of which the pins of the first layer read some.
    ConfigError when the last layer cannot be split so.
    """
    last = widths[-1]
    if last.count % classes or (not sums and last.count != classes):
        raise ConfigError(
            f"a last layer of {last.count} tables and {classes} classes: give "
            + (f"a multiple of {classes}" if sums else f"{classes} tables, or sums")
        )
    parts = {"encoder": comparators.read(widths[0].count * widths[0].address_bits)}
    for i, w in enumerate(widths):
        parts[f"layer{i + 1}"] = w.count * table_luts(w.address_bits, w.code_bits, to)
    size, bits = last.count // classes, last.code_bits
    if sums:
        parts["sums"] = classes * sum_luts(size, bits, to)
        bits = (size * ((1 << bits) - 1)).bit_length()
    parts["argmax"] = argmax_luts(classes, bits, to)
    parts["total"] = sum(parts.values())
    return parts


def most_tables(
    budget: int, classes: int = 10, address_bits: int = 6, code_bits: int = 1, *,
    before: Sequence[Width] = (), comparators: Encoder = Encoder(),
    to: str = "xilinx",
) -> int:  # fmt: skip
    """The largest last layer, a multiple of `classes`, with which a network with sums stays within
    `budget` lookup tables; ConfigError when not even one table a class does."""

    def total(roots: int) -> int:
        widths = [*before, Width(roots * classes, address_bits, code_bits)]
        return luts_for(widths, classes, comparators=comparators, to=to)["total"]

    # A table takes half a lookup table or more: so many can never do.
    low, high = 0, 2 * max(1, budget // classes) + 1
    while high - low > 1:  # the cost rises with the size, but for single tables at its steps
        middle = (low + high) // 2
        if total(middle) <= budget:
            low = middle
        else:
            high = middle
    if low == 0:
        raise ConfigError(
            f"{budget} LUTs hold no network of {classes} classes: one table of "
            f"{address_bits} address bits for each, encoder and argmax take up to {total(1)}; "
            "give as many or more"
        )
    return low * classes
