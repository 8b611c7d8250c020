# SPDX-License-Identifier: Apache-2.0
"""What a network of tables takes before there is one: to choose its size for a budget.

The numbers are those of the emitter for tables of random contents that share nothing; a trained
network, whose tables depend on fewer inputs or repeat, takes less. `emit` and `estimate` count the
cells of a graph itself.
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


@dataclass(frozen=True)
class Width:
    """One layer: `count` tables of `address_bits`, each giving a code of `code_bits`."""

    count: int
    address_bits: int
    code_bits: int = 1


def table_luts(address_bits: int, code_bits: int = 1, to: str = "xilinx") -> int:
    """Lookup tables of one table, at most: 2**(n-6) for each output bit of n > 6 address bits
    where there are wide multiplexers; two outputs of at most five share one."""
    fabric = target(to).fabric
    if fabric.dual and address_bits < fabric.inputs:
        return -(-code_bits // 2)
    excess = address_bits - fabric.inputs
    if excess <= fabric.joins:
        return code_bits << max(0, excess)
    return code_bits * _random(address_bits, to)


@functools.lru_cache(maxsize=64)
def _random(address_bits: int, to: str) -> int:
    values = np.random.default_rng(0).integers(0, 2, 1 << address_bits).astype(bool)
    return Forms(target(to).fabric).find(values).cost


@functools.lru_cache(maxsize=256)
def sum_luts(codes: int, code_bits: int = 1, to: str = "xilinx", carry: bool = True) -> int:
    """Lookup tables of the sum of so many unsigned codes."""
    chosen = target(to)
    builder = Builder(chosen.fabric)
    bit = iter(range(codes * code_bits))
    heap = [[builder.input(next(bit)) for _ in range(codes)] for _ in range(code_bits)]
    bits = (codes * ((1 << code_bits) - 1)).bit_length()
    total = heads.sum_by_chains if carry and chosen.carry else heads.sum_by_adders
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


def luts_for(
    widths: Sequence[Width], classes: int = 10, *, sums: bool = True,
    thresholds: Sequence[int] = (), to: str = "xilinx",
) -> Mapping[str, int]:
    """Lookup tables of a network by part: encoder, layer1 ..., sums, argmax, total.

    thresholds: the level of every encoder bit that is read (a pixel of three levels counts three).
    sums: the codes of the last layer are summed in `classes` groups; else they are the scores.
    ConfigError when the last layer cannot be split so.
    """
    last = widths[-1]
    if last.count % classes or (not sums and last.count != classes):
        raise ConfigError(
            f"a last layer of {last.count} tables and {classes} classes: give "
            + (f"a multiple of {classes}" if sums else f"{classes} tables, or sums")
        )
    parts = {"encoder": sum(threshold_luts(t, 8, to) for t in thresholds)}
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
    before: Sequence[Width] = (), thresholds: Sequence[int] = (), to: str = "xilinx",
) -> int:
    """The largest last layer, a multiple of `classes`, with which a network with sums stays within
    `budget` lookup tables; ConfigError when not even one table a class does."""
    low, high = 0, max(1, budget // classes) + 1
    while high - low > 1:  # the cost rises with the size, but for single tables at its steps
        middle = (low + high) // 2
        widths = [*before, Width(middle * classes, address_bits, code_bits)]
        if luts_for(widths, classes, thresholds=thresholds, to=to)["total"] <= budget:
            low = middle
        else:
            high = middle
    if low == 0:
        raise ConfigError(
            f"{budget} lookup tables do not hold {classes} tables of {address_bits} address bits "
            "and an argmax: give a larger budget"
        )
    return low * classes

