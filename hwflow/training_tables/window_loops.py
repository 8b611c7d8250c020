# SPDX-License-Identifier: Apache-2.0
"""Inner loops of tables that slide over maps: C++ (templates/windows.cpp) or numpy.

A map is bytes 0 or 1, a gradient float32, of 64 samples at a time: (positions, channels, 64).
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hwflow.models.dtnn import Window
from hwflow.training_tables.loops import (
    CELLS,
    PINS,
    TEMPLATES,
    Betas,
    adam,
    addresses,
    argument,
    library,
)

LANES = 64
SOURCE = TEMPLATES / "windows.cpp"
TINY = 1e-12  # what a size of 0 counts: a gradient here may be small in every step


@dataclass
class Level:
    """A layer in training. before: (C, H, W) of the map it reads; made: of what it makes, before
    the pool. wires int32 (N, 6) taps; values float32 (N, 64), tables uint8 their signs; m and v:
    Adam's moments; slopes int8 (N, 6, 64), sums float32 (N, 64) of the gradient.
    """

    before: tuple[int, int, int]
    window: Window | None
    pool: int
    wires: np.ndarray
    values: np.ndarray
    tables: np.ndarray = field(init=False)
    m: np.ndarray = field(init=False)
    v: np.ndarray = field(init=False)
    slopes: np.ndarray = field(init=False)
    sums: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.tables = (self.values > 0).astype(np.uint8)
        self.m, self.v, self.sums = (np.zeros_like(self.values) for _ in range(3))
        self.slopes = np.zeros((self.count, PINS, CELLS), np.int8)

    @property
    def count(self) -> int:
        """Tables."""
        return len(self.wires)

    @property
    def kernel(self) -> tuple[int, int]:
        """Sides of what a table may read."""
        return self.before[1:] if self.window is None else (self.window.kernel,) * 2

    @property
    def taps(self) -> int:
        """Elements a table may read."""
        return self.before[0] * math.prod(self.kernel)

    @property
    def sides(self) -> tuple[int, int]:
        """Positions down and across."""
        if self.window is None:
            return 1, 1
        return self.window.outputs(self.before[1]), self.window.outputs(self.before[2])

    @property
    def made(self) -> tuple[int, int, int]:
        """(C, H, W) behind the tables."""
        return self.count, *self.sides

    @property
    def after(self) -> tuple[int, int, int]:
        """(C, H, W) behind the pool."""
        return self.count, self.sides[0] // self.pool, self.sides[1] // self.pool

    def geometry(self) -> np.ndarray:
        """What the loops want to know, int64 (11,)."""
        window = self.window or Window(1)
        return np.array(
            [*self.before, *self.kernel, *(window.stride,) * 2, *(window.pad,) * 2, *self.sides],
            np.int64,
        )


# --- the loops ---------------------------------------------------------------------------------


class NumpyLoops:
    """The loops in numpy: for machines without a compiler, and what the compiled are held to."""

    name = "numpy"

    def forward(self, level: Level, x: np.ndarray, out: np.ndarray) -> None:
        """Bits of the map before -> out, bits behind the tables."""
        row = np.arange(level.count)[:, None]
        for place, rows in enumerate(windows(level, x, range(len(out)))):
            out[place] = level.tables[row, addresses(rows, level.wires)]

    def slopes(self, level: Level, share: float) -> None:
        """Make level.slopes of level.tables: how the output changes with each pin, times 127, and
        `share` of the change at addresses that differ by one more pin, its square by two ..."""
        cells = level.tables.astype(np.float32).reshape(level.count, *(2,) * PINS)
        for pin in range(PINS):
            axis = PINS - pin
            change: np.ndarray = np.diff(cells, axis=axis)
            for other in range(1, PINS + 1):
                if other != axis:
                    change = (change + np.float32(share) * np.flip(change, other)) / np.float32(
                        1 + share
                    )
            flat = np.broadcast_to(change, cells.shape).reshape(level.count, CELLS)
            level.slopes[:, pin] = np.rint(flat * 127)

    def backward(
        self, level: Level, x: np.ndarray, grad: np.ndarray, to: np.ndarray | None
    ) -> None:
        """Add to level.sums, and to the gradient `to` of x (times 127)."""
        channels, height, width = level.before
        kh, kw = level.kernel
        window = level.window or Window(1)
        row = np.arange(level.count)[:, None]
        channel, i, j = np.unravel_index(level.wires, (channels, kh, kw))
        for place, rows in enumerate(windows(level, x, range(len(grad)))):
            at, g = addresses(rows, level.wires), grad[place]
            np.add.at(level.sums, (row, at), g)
            if to is None:
                continue
            y, across = divmod(place, level.sides[1])
            py, px = y * window.stride - window.pad + i, across * window.stride - window.pad + j
            inside = (py >= 0) & (py < height) & (px >= 0) & (px < width)
            for pin in range(PINS):
                n = np.flatnonzero(inside[:, pin])
                step = g[n] * level.slopes[n[:, None], pin, at[n]].astype(np.float32)
                np.add.at(to, (py[n, pin] * width + px[n, pin], channel[n, pin]), step)

    def pool(self, level: Level, x: np.ndarray, out: np.ndarray) -> None:
        """The greatest bits of pool x pool -> out."""
        out[:] = _squares(level, x).max(axis=(1, 3)).reshape(out.shape)

    def pool_back(
        self, level: Level, x: np.ndarray, grad: np.ndarray, out: np.ndarray
    ) -> None:
        """The gradient before the pool -> out: where no other bit of the square is set."""
        squares = _squares(level, x)
        total = squares.sum(axis=(1, 3), keepdims=True, dtype=np.uint8)
        tall, wide = level.after[1:]
        g = grad.reshape(tall, 1, wide, 1, level.count, LANES)
        part = np.where(total == squares, g, np.float32(0))
        out[:] = 0
        out.reshape(*level.sides, level.count, LANES)[: tall * level.pool, : wide * level.pool] = (
            part.reshape(tall * level.pool, wide * level.pool, level.count, LANES)
        )

    def adam(self, level: Level, rate: float, done: int, betas: Betas) -> None:
        """One step with level.sums."""
        adam(level.values, level.m, level.v, level.tables, level.sums, rate, done, betas, TINY)


class CompiledLoops(NumpyLoops):
    """The same loops, compiled."""

    name = "compiled"

    def __init__(self, found: ctypes.CDLL) -> None:
        self.lib = found

    def _call(self, name: str, *args: np.ndarray | int | float | None) -> None:
        getattr(self.lib, name)(*map(argument, args))

    def forward(self, level: Level, x: np.ndarray, out: np.ndarray) -> None:
        self._call("forward", x, level.geometry(), level.wires, level.tables, level.count, out)

    def slopes(self, level: Level, share: float) -> None:
        self._call("slopes", level.tables, level.count, float(share), level.slopes)

    def backward(
        self, level: Level, x: np.ndarray, grad: np.ndarray, to: np.ndarray | None
    ) -> None:
        self._call("backward", x, level.geometry(), level.wires, level.slopes, level.count, grad,
                   level.sums, to)  # fmt: skip

    def pool(self, level: Level, x: np.ndarray, out: np.ndarray) -> None:
        self._call("pool", x, *level.made, level.pool, out)

    def pool_back(
        self, level: Level, x: np.ndarray, grad: np.ndarray, out: np.ndarray
    ) -> None:
        self._call("pool_back", x, *level.made, level.pool, grad, out)

    def adam(self, level: Level, rate: float, done: int, betas: Betas) -> None:
        self._call("adam", level.values, level.m, level.v, level.tables, level.sums, level.count,
                   float(rate), done, *map(float, betas))  # fmt: skip


def load(cache: Path) -> NumpyLoops:
    """The compiled loops, built into the cache folder at first; numpy's without a compiler."""
    found = library(SOURCE, cache)
    return NumpyLoops() if found is None else CompiledLoops(found)


def windows(level: Level, x: np.ndarray, places: range | np.ndarray) -> Iterator[np.ndarray]:
    """What the tables of a level read at each place: bits (taps, 64)."""
    channels, height, width = level.before
    window, (kh, kw) = level.window or Window(1), level.kernel
    pad = window.pad
    framed = np.pad(x.reshape(height, width, channels, LANES), ((pad, pad), (pad, pad), (0, 0),
                                                                (0, 0)))  # fmt: skip
    for place in places:
        y, across = (int(n) * window.stride for n in divmod(place, level.sides[1]))
        part = framed[y : y + kh, across : across + kw]
        yield part.transpose(2, 0, 1, 3).reshape(level.taps, LANES)


def _squares(level: Level, x: np.ndarray) -> np.ndarray:
    """(positions, N, 64) as (tall, pool, wide, pool, N, 64)."""
    (_, tall, wide), size = level.after, level.pool
    maps = x.reshape(*level.sides, level.count, LANES)[: tall * size, : wide * size]
    made: np.ndarray = maps.reshape(tall, size, wide, size, level.count, LANES)
    return made
