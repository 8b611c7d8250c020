# SPDX-License-Identifier: Apache-2.0
"""Coordinate descent on the hard network: one table after the other gets its best contents and,
where that is worth it, one better wire.

For a table everything else is given. Then each sample has two losses (softmax cross-entropy of the
summed votes over a temperature): with the table's output 0, and with 1. Their difference, summed
over the samples at an address, tells the best content there; summed over |sums|, what the table is
worth. The same sums split by every bit of the input tell, at the price of one pass over the
samples, what the table would be worth with any pin at any bit and the best contents for it. All
this is exact on the samples it sees; these are fresh distorted copies in every sweep.

A sweep's contents are remembered with the earlier ones', decaying by `memory`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hwflow.training_tables.kernels import NumpyKernels, Stack
from hwflow.training_tables.loops import BLOCK, CELLS, PINS
from hwflow.training_tables.wiring import fees

QUIET = 0.03  # of the mean: gains below are left out where wires are judged


@dataclass(frozen=True)
class SweepOptions:
    """rewire: chance that a table may move a wire. margin: by which share the best must exceed what
    is. memory: of the sums of earlier sweeps. samples: to judge wires by, None for all.

    bit_cost: loss (summed over the samples) that a bit of the input must save to be read at all,
    float32 (P,). allowed: the bits each leaf or root of the first layer may read, uint8 (N, P).
    """

    rewire: float
    margin: float
    memory: float
    samples: int | None = None
    bit_cost: np.ndarray | None = None
    allowed: np.ndarray | None = None


def begin(
    bits: np.ndarray, leaves: int, roots: int, rng: np.random.Generator,
    allowed: np.ndarray | None = None,
) -> Stack:  # fmt: skip
    """Random wires and leaf contents, roots that say 0. bits: those of the input worth a wire."""
    def wires(count: int, among: np.ndarray, free: np.ndarray | None) -> np.ndarray:
        rows = []
        for n in range(count):
            pick = among if free is None else np.flatnonzero(free[n])
            rows.append(rng.choice(pick, PINS, replace=len(pick) < PINS))
        return np.array(rows, np.int32).reshape(count, PINS)

    leaf_wires = wires(leaves, bits, allowed)
    leaf_values = rng.normal(0, 1, (leaves, CELLS)).astype(np.float32)
    root_values = np.zeros((roots, CELLS), np.float32)
    root_wires = wires(roots, np.arange(leaves), None) if leaves else wires(roots, bits, allowed)
    zeros = [np.zeros_like(a) for a in (leaf_values, leaf_values, root_values, root_values)]
    return Stack(
        leaf_wires, leaf_values, (leaf_values > 0).astype(np.uint8), zeros[0], zeros[1],
        root_wires, root_values, np.zeros((roots, CELLS), np.uint8), zeros[2], zeros[3],
    )  # fmt: skip


def normalised(values: np.ndarray, to: float) -> np.ndarray:
    """Sums as contents in -1..1, of mean size `to` in each table."""
    size = np.abs(values).mean(axis=1, keepdims=True) + 1e-9
    made: np.ndarray = np.clip(values * (to / size), -1, 1).astype(np.float32)
    return made


class Descent:
    """A stack with samples: columns x (P, n), targets q (C, n), n a multiple of BLOCK."""

    def __init__(
        self, kernels: NumpyKernels, stack: Stack, x: np.ndarray, q: np.ndarray, temperature: float
    ) -> None:
        self.k, self.s, self.x, self.q = kernels, stack, x, q
        self.scale = 1 / temperature
        self.n = x.shape[1]
        self.x_rows = kernels.pack(x)
        self.each = len(stack.root_wires) // len(q)
        self.deep = len(stack.leaf_wires) > 0
        if self.deep:
            self.y = kernels.layer(x, stack.leaf_wires, stack.leaf_tables)
            self.y_rows = kernels.pack(self.y)
        read = self.y if self.deep else x
        self.at = np.stack([kernels.address(read, wires) for wires in stack.root_wires])
        self.out = np.stack([kernels.lookup(t, a)
                             for t, a in zip(stack.root_tables, self.at, strict=True)])  # fmt: skip
        votes = self.out.reshape(len(q), self.each, self.n).sum(axis=1, dtype=np.float32)
        # less the mean, which is the same for all classes, so that exp stays in range
        self.e = np.exp((votes - votes.mean()) * np.float32(self.scale))
        self.z = self.e.sum(axis=0)

    def loss(self) -> float:
        """Mean cross-entropy of the samples."""
        return float(-(self.q * np.log(self.e / self.z)).sum() / self.n)

    def sweep(self, options: SweepOptions, rng: np.random.Generator) -> int:
        """Visit every table once, in random order; how many wires moved."""
        roots, leaves = len(self.s.root_wires), len(self.s.leaf_wires)
        self.readers: list[set[tuple[int, int]]] = [set() for _ in range(leaves)]
        if self.deep:
            for root, wires in enumerate(self.s.root_wires):
                for pin, leaf in enumerate(wires):
                    self.readers[leaf].add((root, pin))
        first = self.s.leaf_wires if self.deep else self.s.root_wires
        self.used = np.bincount(first.ravel(), minlength=len(self.x))
        moved = 0
        for item in rng.permutation(roots + leaves):
            size = min(options.samples or self.n, self.n) // BLOCK * BLOCK or self.n
            low = int(rng.integers(0, (self.n - size) // BLOCK + 1)) * BLOCK
            window = (low, low + size) if rng.random() < options.rewire else None
            visit = self._root if item < roots else self._leaf
            moved += visit(int(item if item < roots else item - roots), window, options)
        return moved

    def _root(self, root: int, window: tuple[int, int] | None, options: SweepOptions) -> bool:
        s, k = self.s, self.k
        c = root // self.each
        read, rows = (self.y, self.y_rows) if self.deep else (self.x, self.x_rows)
        gain = k.root_gain(self.e[c], self.z, self.q[c], self.out[root], self.scale)
        wires, old = s.root_wires[root], s.root_wires[root].copy()
        first = not self.deep
        moved = self._refit(self.at[root], gain, wires, s.root_values[root], rows, len(read),
                            window, options, root if first else None)  # fmt: skip
        if moved is not None:
            self.at[root] = k.address(read, wires)
            if self.deep:
                self.readers[old[moved]].discard((root, moved))
                self.readers[wires[moved]].add((root, moved))
        s.root_tables[root] = s.root_values[root] > 0
        self._vote(root)
        return moved is not None

    def _vote(self, root: int) -> None:
        """Take what a root says now into the scores."""
        made = self.k.lookup(self.s.root_tables[root], self.at[root])
        c = root // self.each
        self.k.root_change(self.e[c], self.z, self.out[root], made, self.scale)
        self.out[root] = made

    def _leaf(self, leaf: int, window: tuple[int, int] | None, options: SweepOptions) -> bool:
        if not self.readers[leaf]:
            return False
        s, k = self.s, self.k
        pairs = np.array(sorted(self.readers[leaf]))
        readers, pins = pairs[:, 0], 1 << pairs[:, 1]
        gain = k.leaf_gain(readers, pins, readers // self.each, self.at, s.root_tables, self.e,
                           self.z, self.q, self.y[leaf], self.scale)  # fmt: skip
        wires = s.leaf_wires[leaf]
        at = k.address(self.x, wires)
        moved = self._refit(at, gain, wires, s.leaf_values[leaf], self.x_rows, len(self.x), window,
                            options, leaf)  # fmt: skip
        if moved is not None:
            at = k.address(self.x, wires)
        s.leaf_tables[leaf] = s.leaf_values[leaf] > 0
        self.y[leaf] = k.lookup(s.leaf_tables[leaf], at)
        k.put(self.y_rows, leaf, self.y[leaf])
        for root in np.unique(readers):
            self.at[root] = k.address(self.y, s.root_wires[root])
            self._vote(int(root))
        return moved is not None

    def _refit(
        self, at: np.ndarray, gain: np.ndarray, wires: np.ndarray, values: np.ndarray,
        rows: np.ndarray, bits: int, window: tuple[int, int] | None, options: SweepOptions,
        first: int | None,
    ) -> int | None:  # fmt: skip
        """New contents, and perhaps one new wire: its pin. first: which table of the first layer
        it is, None for one of the second."""
        if window is None:
            values *= options.memory
            values += self.k.cell_sums(at, gain).astype(np.float32)
            return None
        low, high = window
        size = np.abs(gain)
        # samples that are told apart already say next to nothing about wires, and are most of them
        loud = np.where(size > QUIET * size.mean(), gain, np.float32(0))
        cells = self.k.cell_bits(at, loud, low, high, rows)
        sums = self.k.cell_sums(at[low:high], loud[low:high])
        gains = self.k.pin_gains(cells, sums)[:, :bits]
        now = float(np.abs(sums).sum())
        if first is not None:
            if options.bit_cost is not None:
                share = (high - low) / self.n
                # twice: a table is worth half of what its gains differ by
                enter, leave = fees(2 * share * options.bit_cost, self.used, wires)
                gains = gains - enter
                gains += leave[:, None]
            if options.allowed is not None:
                gains = np.where(options.allowed[first], gains, -np.inf)
        gains[:, wires] = -np.inf
        pin, bit = divmod(int(gains.argmax()), bits)
        kept = (at, gain, wires, values, rows, bits, None, options, first)
        if not gains[pin, bit] > now * (1 + options.margin):
            return self._refit(*kept)
        places = np.arange(CELLS)
        zero, one = places & ~(1 << pin), places | 1 << pin
        set_ = cells[zero, bit] + cells[one, bit]
        both = sums[zero] + sums[one]
        if first is not None:
            self.used[wires[pin]] -= 1
            self.used[bit] += 1
        share = self.n / (high - low)
        values[:] = np.where(places >> pin & 1, set_, both - set_) * share
        wires[pin] = bit
        return pin


def temperature(roots: int, classes: int) -> float:
    """Votes that make e times as likely: found to do well from 20 to 200 votes a class."""
    return max(1.0, 0.33 * math.sqrt(roots / classes))
