# SPDX-License-Identifier: Apache-2.0
"""Inner loops of the training of six-input tables: C++ where there is a compiler, else numpy.

A column is a bit of many samples, uint8 0 or 1; a table is 64 of them. Both versions compute the
same up to the rounding of float32 sums, so that a run repeats bit by bit on one machine, not across
machines. Drawn augmentations are the same in both but for that rounding.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwflow.training_tables.loops import (
    CELLS,
    COMPILERS,
    PINS,
    TEMPLATES,
    Betas,
    adam,
    addresses,
    argument,
    library,
)
from hwflow.training_tables.warps import Warp, warped

WORD = 16
SOURCE = TEMPLATES / "kernels.cpp"


@dataclass
class Stack:
    """One or two layers of six-input tables in training; leaves may be none (roots read the input).

    wires int32 (N, 6); values float32 (N, 64) in -1..1, of which tables uint8 are the signs; m and
    v: Adam's moments.
    """

    leaf_wires: np.ndarray
    leaf_values: np.ndarray
    leaf_tables: np.ndarray
    leaf_m: np.ndarray
    leaf_v: np.ndarray
    root_wires: np.ndarray
    root_values: np.ndarray
    root_tables: np.ndarray
    root_m: np.ndarray
    root_v: np.ndarray


class NumpyKernels:
    """The loops in numpy: for machines without a compiler, and what the compiled are held to."""

    name = "numpy"

    def address(self, x: np.ndarray, wires: np.ndarray) -> np.ndarray:
        """Columns (P, n), wires (6,) -> addresses uint8 (n,)."""
        out: np.ndarray = x[wires[0]].copy()
        for place in range(1, PINS):
            out |= x[wires[place]] << np.uint8(place)
        return out

    def lookup(self, table: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The table's content at each address."""
        return np.ascontiguousarray(table[at])

    def layer(self, x: np.ndarray, wires: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """Columns (P, n) -> columns (N, n)."""
        out = np.empty((len(wires), x.shape[1]), np.uint8)
        for place, (wire, table) in enumerate(zip(wires, tables, strict=True)):
            out[place] = self.lookup(table, self.address(x, wire))
        return out

    def cell_sums(self, at: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Sums of g by address, float64 (64,)."""
        sums: np.ndarray = np.bincount(at, weights=g, minlength=CELLS)
        return sums

    def pack(self, x: np.ndarray) -> np.ndarray:
        """Columns (P, n) -> bits of each sample, 16 in a word: uint16 (n, words)."""
        rows = np.zeros((x.shape[1], words_of(len(x)) * WORD), np.uint8)
        rows[:, : len(x)] = x.T
        packed: np.ndarray = np.packbits(rows, axis=1, bitorder="little").view("<u2")
        return packed

    def put(self, rows: np.ndarray, bit: int, column: np.ndarray) -> None:
        """Replace a bit of each sample."""
        word, place = divmod(bit, WORD)
        kept = rows[:, word] & np.uint16(0xFFFF ^ (1 << place))
        rows[:, word] = kept | (column.astype(np.uint16) << np.uint16(place))

    def cell_bits(
        self, at: np.ndarray, g: np.ndarray, low: int, high: int, rows: np.ndarray
    ) -> np.ndarray:
        """Sums of g over samples low..high by address and set bit: float32 (64, words * 16)."""
        order = low + np.argsort(at[low:high], kind="stable")
        bits = np.unpackbits(rows[order].view(np.uint8), axis=1, bitorder="little")
        weighted = bits.astype(np.float32) * g[order, None]
        out = np.zeros((CELLS, bits.shape[1]), np.float32)
        cells, first = np.unique(at[order], return_index=True)
        out[cells] = np.add.reduceat(weighted, first, axis=0)
        return out

    def pin_gains(self, cells: np.ndarray, sums: np.ndarray) -> np.ndarray:
        """Sum over the cells of |sum of g| for each pin and each bit it may be wired to.

        cells (64, P) of cell_bits, sums (64,) over the same samples -> float32 (6, P).
        """
        out = np.zeros((PINS, cells.shape[1]), np.float32)
        for pin in range(PINS):
            zero = np.array([k for k in range(CELLS) if not k >> pin & 1])
            one = cells[zero] + cells[zero | 1 << pin]
            both = (sums[zero] + sums[zero | 1 << pin]).astype(np.float32)
            out[pin] = (np.abs(one) + np.abs(both[:, None] - one)).sum(axis=0)
        return out

    def root_gain(
        self, e: np.ndarray, z: np.ndarray, q: np.ndarray, y: np.ndarray, scale: float
    ) -> np.ndarray:
        """Cross-entropy with the root's output 0 less that with 1, float32 (n,).

        e: exp(scale * score) of its class; z: its sum over classes; q: target; y: output now.
        """
        e0 = np.where(y, e * np.float32(math.exp(-scale)), e)
        z0 = z - e + e0
        rise = np.log1p(e0 * np.float32(math.expm1(scale)) / z0)
        gain: np.ndarray = (q * np.float32(scale) - rise).astype(np.float32)
        return gain

    def root_change(
        self, e: np.ndarray, z: np.ndarray, old: np.ndarray, made: np.ndarray, scale: float
    ) -> None:
        """Take a root's new output into e and z."""
        step = made.astype(np.int8) - old.astype(np.int8)
        change = e * np.expm1(step * np.float32(scale))
        e += change
        z += change

    def leaf_gain(
        self, readers: np.ndarray, pins: np.ndarray, classes: np.ndarray, at: np.ndarray,
        tables: np.ndarray, e: np.ndarray, z: np.ndarray, q: np.ndarray, y: np.ndarray,
        scale: float,
    ) -> np.ndarray:  # fmt: skip
        """The same of a leaf. readers: roots, ascending; pins: 1 << pin; classes of the readers.

        at (R, n), tables (R, 64), e and q (C, n).
        """
        change, wanted = np.zeros_like(z), np.zeros_like(z)
        for c in np.unique(classes):
            step = np.zeros(len(z), np.int16)
            for reader, pin in zip(readers[classes == c], pins[classes == c], strict=True):
                table = tables[reader].astype(np.int8)
                step += (table[np.arange(CELLS) ^ pin] - table)[at[reader]]
            change += e[c] * np.expm1(step * np.float32(scale))
            wanted += q[c] * step
        rise = np.log1p(change / z) - wanted * np.float32(scale)
        gain: np.ndarray = np.where(y, rise, -rise).astype(np.float32)
        return gain

    def epoch(
        self, x: np.ndarray, stack: Stack, q: np.ndarray, scale: float, batch: int,
        rates: tuple[float, float], done: int, betas: Betas,
    ) -> float:  # fmt: skip
        """One pass of minibatches, straight through the hard tables; the mean loss.

        x (P, n), q (C, n); the rate goes linearly from rates[0] to rates[1]; done: steps before.
        """
        s = stack
        classes, leaves, roots = len(q), len(s.leaf_wires), len(s.root_wires)
        steps, each = x.shape[1] // batch, roots // classes
        owner = np.arange(roots) // each
        leaf_row, root_row = (np.arange(k)[:, None] * CELLS for k in (leaves, roots))
        total = 0.0
        for step in range(steps):
            part = slice(step * batch, (step + 1) * batch)
            rate = rates[0] + (rates[1] - rates[0]) * step / steps
            read = x[:, part]
            if leaves:
                leaf_at = leaf_row + addresses(read, s.leaf_wires)
                read = s.leaf_tables.reshape(-1)[leaf_at]
            root_at = addresses(read, s.root_wires)
            out = s.root_tables.reshape(-1)[root_row + root_at]
            score = out.reshape(classes, each, batch).sum(axis=1, dtype=np.float32)
            shifted = (score - score.max(axis=0)) * np.float32(scale)
            g = np.exp(shifted)
            z = g.sum(axis=0)
            total -= float((q[:, part] * (shifted - np.log(z))).sum())
            g = (g / z - q[:, part])[owner]
            sums = _sums(root_row + root_at, g, roots)
            if leaves:
                to_leaf = np.zeros((leaves, batch), np.float32)
                for pin in range(PINS):
                    bit = 1 << pin
                    ones = s.root_tables.reshape(-1)[root_row + (root_at | bit)].astype(np.int8)
                    zeros = s.root_tables.reshape(-1)[root_row + (root_at & ~bit)]
                    np.add.at(to_leaf, s.root_wires[:, pin], g * (ones - zeros.astype(np.int8)))
            adam(s.root_values, s.root_m, s.root_v, s.root_tables, sums, rate, done + step, betas)
            if leaves:
                sums = _sums(leaf_at, to_leaf, leaves)
                adam(s.leaf_values, s.leaf_m, s.leaf_v, s.leaf_tables, sums, rate, done + step,
                      betas)  # fmt: skip
        return float(total / max(1, steps * batch))

    def augment(
        self, images: np.ndarray, picked: np.ndarray, warp: Warp, seed: int
    ) -> np.ndarray:
        """Changed copies uint8 (n, C, H, W) of images[picked]; the seed decides all."""
        out = np.empty((len(picked), *images.shape[1:]), np.uint8)
        for place, which in enumerate(picked):
            out[place] = warped(images[which], warp, seed + place * 0x51ED27F)
        return out


def _sums(at: np.ndarray, g: np.ndarray, count: int) -> np.ndarray:
    sums = np.bincount(at.reshape(-1), weights=g.reshape(-1), minlength=count * CELLS)
    made: np.ndarray = sums.reshape(count, CELLS).astype(np.float32)
    return made


def words_of(bits: int) -> int:
    """Words of 16 bits for so many, a multiple of four."""
    return -(-bits // (4 * WORD)) * 4


class CompiledKernels(NumpyKernels):
    """The same loops, compiled."""

    name = "compiled"

    def __init__(self, library: ctypes.CDLL) -> None:
        self.lib = library
        library.epoch.restype = ctypes.c_double

    def _call(self, name: str, *args: np.ndarray | int | float) -> float:
        given = [argument(one) for one in args]
        return float(getattr(self.lib, name)(*given) or 0)

    def address(self, x: np.ndarray, wires: np.ndarray) -> np.ndarray:
        out = np.empty(x.shape[1], np.uint8)
        self._call("address", x, x.shape[1], wires, out)
        return out

    def lookup(self, table: np.ndarray, at: np.ndarray) -> np.ndarray:
        out = np.empty(len(at), np.uint8)
        self._call("lookup", table, at, len(at), out)
        return out

    def layer(self, x: np.ndarray, wires: np.ndarray, tables: np.ndarray) -> np.ndarray:
        out = np.empty((len(wires), x.shape[1]), np.uint8)
        self._call("layer", x, x.shape[1], wires, tables, len(wires), out)
        return out

    def cell_sums(self, at: np.ndarray, g: np.ndarray) -> np.ndarray:
        out = np.empty(CELLS, np.float64)
        self._call("cell_sums", at, g, len(at), out)
        return out

    def pack(self, x: np.ndarray) -> np.ndarray:
        rows = np.empty((x.shape[1], words_of(len(x))), np.uint16)
        self._call("pack", x, x.shape[1], len(x), rows.shape[1], rows)
        return rows

    def put(self, rows: np.ndarray, bit: int, column: np.ndarray) -> None:
        self._call("put", rows, rows.shape[1], bit, column, len(column))

    def cell_bits(
        self, at: np.ndarray, g: np.ndarray, low: int, high: int, rows: np.ndarray
    ) -> np.ndarray:
        out = np.empty((CELLS, rows.shape[1] * WORD), np.float32)
        self._call("cell_bits", at, g, low, high, rows, rows.shape[1], rows.shape[1], out)
        return out

    def pin_gains(self, cells: np.ndarray, sums: np.ndarray) -> np.ndarray:
        out = np.empty((PINS, cells.shape[1]), np.float32)
        self._call("pin_gains", cells, sums, cells.shape[1] // WORD, out)
        return out

    def root_gain(
        self, e: np.ndarray, z: np.ndarray, q: np.ndarray, y: np.ndarray, scale: float
    ) -> np.ndarray:
        out = np.empty(len(z), np.float32)
        self._call("root_gain", e, z, q, y, len(z), scale, out)
        return out

    def root_change(
        self, e: np.ndarray, z: np.ndarray, old: np.ndarray, made: np.ndarray, scale: float
    ) -> None:
        self._call("root_change", e, z, old, made, len(z), scale)

    def leaf_gain(
        self, readers: np.ndarray, pins: np.ndarray, classes: np.ndarray, at: np.ndarray,
        tables: np.ndarray, e: np.ndarray, z: np.ndarray, q: np.ndarray, y: np.ndarray,
        scale: float,
    ) -> np.ndarray:  # fmt: skip
        out = np.empty(len(z), np.float32)
        self._call("leaf_gain", len(readers), *(_int32(a) for a in (readers, pins, classes)), at,
                   tables, e, z, q, y, len(z), scale, out)  # fmt: skip
        return out

    def epoch(
        self, x: np.ndarray, stack: Stack, q: np.ndarray, scale: float, batch: int,
        rates: tuple[float, float], done: int, betas: Betas,
    ) -> float:  # fmt: skip
        s = stack
        return self._call(
            "epoch", x, x.shape[1], len(s.leaf_wires), len(s.root_wires), len(q), s.leaf_wires,
            s.leaf_values, s.leaf_m, s.leaf_v, s.leaf_tables, s.root_wires, s.root_values, s.root_m,
            s.root_v, s.root_tables, q, scale, batch, *rates, done, *betas,
        )

    def augment(
        self, images: np.ndarray, picked: np.ndarray, warp: Warp, seed: int
    ) -> np.ndarray:
        out = np.empty((len(picked), *images.shape[1:]), np.uint8)
        moves = [float(m) for m in (warp.shift, warp.turn, warp.scale, warp.shear, warp.elastic,
                                    warp.share)]  # fmt: skip
        self._call("augment", np.ascontiguousarray(images), _int32(picked), len(picked),
                   *images.shape[1:], *moves, seed, out)  # fmt: skip
        return out


def _int32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.int32)


def load(cache: Path, compilers: Sequence[str] = COMPILERS) -> NumpyKernels:
    """The compiled loops, built into the cache folder at first; numpy's without a compiler."""
    found = library(SOURCE, cache, compilers)
    return NumpyKernels() if found is None else CompiledKernels(found)
