# SPDX-License-Identifier: Apache-2.0
"""Minibatches straight through hard networks of six-input tables of any depth, convolutions too.

Contents in -1..1 are the parameters, their signs the tables. The gradient to an input of a table is
the difference of its contents there, smoothed over the neighbouring addresses. Wires are learned by
prune and regrow: the pins whose gradient times input says least move to the tap that the gradient
at the pin goes with best; the table turns that input over where the sign asks for it.

The loops are C++ (templates/windows.cpp) where there is a compiler, else numpy. A map is bytes 0 or
1, a gradient float32, of 64 samples at a time: (positions, channels, 64).
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwflow.models.dtnn import DtnnConfig, Layer, Tables, Window
from hwflow.training_tables.kernels import CELLS, PINS, argument, library
from hwflow.training_tables.kernels import load as load_kernels

if TYPE_CHECKING:
    from hwflow.train_tables import ProgressCallback, TableTraining

LANES = 64
SOURCE = Path(__file__).parent / "templates" / "windows.cpp"
SLOPE = np.float32(1 / 127)  # a slope of 1 is the byte 127
SMOOTH = 0.5  # share of a slope that counts at an address that differs by one more pin
START_WEIGHT, START_NOISE = 0.25, 0.05  # of the contents at first
SPARSE = 2.5  # a pooled table's first threshold, so that about half of the pools are set
VOTES_A_NAT = 0.8  # times the square root of the votes of a class
REGROWN, REGROW_UNTIL, REGROWS_AN_EPOCH = 0.3, 2 / 3, 2
JUDGED, MATCHED = 4, 16  # times 64 samples that say what pins are worth, and where to move them
POSITIONS = 16  # of a map, in each of them


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
        for place, rows in enumerate(_windows(level, x, range(len(out)))):
            out[place] = level.tables[row, _addresses(level, rows)]

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
        for place, rows in enumerate(_windows(level, x, range(len(grad)))):
            at, g = _addresses(level, rows), grad[place]
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

    def adam(self, level: Level, rate: float, done: int, betas: tuple[float, float]) -> None:
        """One step with level.sums."""
        b1, b2 = (np.float32(b) for b in betas)
        level.m[:] = b1 * level.m + (1 - b1) * level.sums
        level.v[:] = b2 * level.v + (1 - b2) * level.sums**2
        size = np.sqrt(level.v / (1 - b2 ** (done + 1))) + np.float32(1e-12)
        level.values -= np.float32(rate) * (level.m / (1 - b1 ** (done + 1))) / size
        np.clip(level.values, -1, 1, out=level.values)
        level.tables[:] = level.values > 0


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

    def adam(self, level: Level, rate: float, done: int, betas: tuple[float, float]) -> None:
        self._call("adam", level.values, level.m, level.v, level.tables, level.sums, level.count,
                   float(rate), done, *map(float, betas))  # fmt: skip


def load(cache: Path) -> NumpyLoops:
    """The compiled loops, built into the cache folder at first; numpy's without a compiler."""
    found = library(SOURCE, cache)
    return NumpyLoops() if found is None else CompiledLoops(found)


def _windows(level: Level, x: np.ndarray, places: range | np.ndarray) -> Iterator[np.ndarray]:
    """What the tables read at each place: bits (taps, 64)."""
    channels, height, width = level.before
    window, (kh, kw) = level.window or Window(1), level.kernel
    pad = window.pad
    framed = np.pad(x.reshape(height, width, channels, LANES), ((pad, pad), (pad, pad), (0, 0),
                                                                (0, 0)))  # fmt: skip
    for place in places:
        y, across = (int(n) * window.stride for n in divmod(place, level.sides[1]))
        part = framed[y : y + kh, across : across + kw]
        yield part.transpose(2, 0, 1, 3).reshape(level.taps, LANES)


def _addresses(level: Level, rows: np.ndarray) -> np.ndarray:
    """Bits (taps, n) -> the address of each table (N, n)."""
    at: np.ndarray = rows[level.wires[:, 0]].astype(np.intp)
    for pin in range(1, PINS):
        at |= rows[level.wires[:, pin]].astype(np.intp) << pin
    return at


def _squares(level: Level, x: np.ndarray) -> np.ndarray:
    """(positions, N, 64) as (tall, pool, wide, pool, N, 64)."""
    (_, tall, wide), size = level.after, level.pool
    maps = x.reshape(*level.sides, level.count, LANES)[: tall * size, : wide * size]
    made: np.ndarray = maps.reshape(tall, size, wide, size, level.count, LANES)
    return made


# --- a network ---------------------------------------------------------------------------------


def build(cfg: DtnnConfig, seed: int) -> list[Level]:
    """An untrained network: random wires, contents of random weighted sums."""
    rng = np.random.default_rng(seed)
    levels = []
    before = cfg.maps[0] if cfg.convs else (cfg.levels * cfg.features, 1, 1)
    signs = 2.0 * (np.arange(CELLS) >> np.arange(PINS)[:, None] & 1) - 1
    layers: list[tuple[int, Window | None, int]] = [
        *((conv.count, conv.window, conv.pool) for conv in cfg.convs),
        *((width, None, 1) for width in cfg.widths),
    ]
    for count, window, pool in layers:
        kernel = before[1:] if window is None else (window.kernel,) * 2
        taps = before[0] * math.prod(kernel)
        wires = np.stack([rng.choice(taps, PINS, replace=taps < PINS) for _ in range(count)])
        weights = rng.normal(size=(count, PINS))
        total = weights @ signs + rng.normal(size=(count, 1)) / 2 - (SPARSE if pool > 1 else 0)
        total /= np.linalg.norm(weights, axis=1, keepdims=True)
        values = START_WEIGHT * total + START_NOISE * rng.normal(size=total.shape)
        values = np.clip(values, -1, 1).astype(np.float32)
        levels.append(Level(before, window, pool, wires.astype(np.int32), values))
        before = levels[-1].after
    return levels


Visit = Callable[[int, np.ndarray, np.ndarray], None]


class Network:
    """Levels in a row, with summed votes at the end."""

    def __init__(
        self, levels: list[Level], loops: NumpyLoops, thresholds: np.ndarray, classes: int,
        temperature: float | None = None,
    ) -> None:  # fmt: skip
        self.levels, self.loops, self.classes = levels, loops, classes
        self.thresholds = thresholds
        self.votes = levels[-1].count // classes
        self.temperature = temperature or max(1.0, VOTES_A_NAT * math.sqrt(self.votes))
        # of 64 images at a time, used again and again: behind tables and pools, and gradients there
        self.made = [np.empty(_memory(level.made), np.uint8) for level in levels]
        self.pooled = [np.empty(_memory(level.after), np.uint8) for level in levels]
        self.to_made = [np.empty(_memory(level.made), np.float32) for level in levels]
        self.to_pooled = [np.empty(_memory(level.after), np.float32) for level in levels]

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 (64, C, H, W) -> bits (positions, channels, 64)."""
        channels, height, width = self.levels[0].before
        planes = images.reshape(LANES, len(self.thresholds), -1).transpose(2, 1, 0)
        bits = [planes >= level[:, None] for level in self.thresholds.T]
        made = np.concatenate(bits, axis=1).view(np.uint8)
        return np.ascontiguousarray(made.reshape(height * width, channels, LANES))

    def scores(self, bits: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Votes float32 (classes, 64), and what each level read."""
        seen = []
        x = bits
        for level, made, pooled in zip(self.levels, self.made, self.pooled, strict=True):
            self.loops.forward(level, x, made)
            seen.append(x)
            x = made
            if level.pool > 1:
                self.loops.pool(level, made, pooled)
                x = pooled
        votes = x.reshape(self.classes, self.votes, LANES).sum(axis=1, dtype=np.int32)
        return votes.astype(np.float32), seen

    def sharpen(self) -> None:
        """Slopes of the tables as they are, and sums of 0."""
        for level in self.levels:
            self.loops.slopes(level, SMOOTH)
            level.sums[:] = 0

    def descend(
        self, images: np.ndarray, q: np.ndarray, visit: Visit | None = None
    ) -> float:
        """Add the gradient of 64 images with targets q float32 (classes, 64) to the sums; the sum
        of their losses. visit(place, read, gradient of what it made) sees each level."""
        votes, seen = self.scores(self.encode(images))
        shifted = (votes - votes.max(axis=0)) / np.float32(self.temperature)
        e = np.exp(shifted)
        z = e.sum(axis=0)
        loss = float((q * (np.log(z) - shifted)).sum())
        grad: np.ndarray = np.repeat(e / z - q, self.votes, axis=0)[None].astype(np.float32)
        for place in reversed(range(len(self.levels))):
            level, x = self.levels[place], seen[place]
            if level.pool > 1:
                self.loops.pool_back(level, self.made[place], grad, self.to_made[place])
                grad = self.to_made[place]
            if visit is not None:
                visit(place, x, grad)
            to = None
            if place:
                to = self.to_pooled[place - 1].reshape(x.shape)
                to[:] = 0
            self.loops.backward(level, x, grad, to)
            if to is not None:
                to *= SLOPE
                grad = to
        return loss


def _memory(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """A map (C, H, W) as it lies in memory."""
    return shape[1] * shape[2], shape[0], LANES


def tables(levels: list[Level], cfg: DtnnConfig, thresholds: np.ndarray) -> Tables:
    """The arrays of the network."""
    layers = tuple(
        Layer(level.wires.copy(), level.tables.astype(np.int16), 1, False, level.window, level.pool)
        for level in levels
    )
    return Tables(cfg.shape, thresholds, layers, cfg.classes)


# --- training ----------------------------------------------------------------------------------


class Samples:
    """Distorted copies of the samples, 64 at a time."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, cfg: DtnnConfig, options: TableTraining,
        cache: Path,
    ) -> None:  # fmt: skip
        from hwflow.train_tables import COPY, default_warp

        self.images, self.labels, self.cfg = np.ascontiguousarray(images), labels, cfg
        self.kernels = load_kernels(cache)
        self.warp = options.warp or default_warp(cfg.shape)
        self.flip, self.jitter, self.key = options.flip, options.jitter, (options.seed, COPY)

    def draw(self, step: int, blocks: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images uint8 (64, C, H, W) and targets float32 (classes, 64), of all samples once, or of
        so many blocks of 64."""
        rng = np.random.default_rng([*self.key, step])
        order = rng.permutation(len(self.images))
        for block in range(len(order) // LANES if blocks is None else blocks):
            picked = order.take(np.arange(block * LANES, (block + 1) * LANES), mode="wrap")
            made = self.images[picked]
            if self.warp.share > 0:
                made = self.kernels.augment(
                    self.images, picked, self.warp, int(rng.integers(1 << 60))
                )
            if self.jitter:
                made = self._moved(made, rng)
            if self.flip:
                turned = rng.random(LANES) < 0.5
                made[turned] = made[turned, :, :, ::-1]
            q = np.zeros((self.cfg.classes, LANES), np.float32)
            q[self.labels[picked], np.arange(LANES)] = 1
            yield made, q

    def _moved(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Each image moved by whole pixels, its edges reflected."""
        most = self.jitter
        framed = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)), mode="reflect")
        views = np.lib.stride_tricks.sliding_window_view(framed, images.shape[2:], (2, 3))
        down, across = rng.integers(0, 2 * most + 1, (2, len(images)))
        made: np.ndarray = views[np.arange(len(images)), :, down, across]
        return made


def train(
    cfg: DtnnConfig, images: np.ndarray, labels: np.ndarray, thresholds: np.ndarray, out: Path,
    cache: Path, options: TableTraining, progress: ProgressCallback | None,
) -> Tables:  # fmt: skip
    """Train options.epochs epochs; go on with what is left in `out` of the same run."""
    from hwflow.train_tables import Progress, identity_of

    loops = load(cache)
    samples = Samples(images, labels, cfg, options, cache)
    levels = build(cfg, options.seed)
    identity = identity_of(cfg, options, images, labels, loops.name)
    done = _resume(out, identity, levels)
    net = Network(levels, loops, thresholds, cfg.classes, options.temperature)
    blocks = options.batch // LANES
    steps = len(images) // LANES // blocks
    start = time.monotonic()
    for epoch in range(done, options.epochs):
        part = epoch / (REGROW_UNTIL * options.epochs)
        share = REGROWN * (1 - part) if cfg.wiring != "random" and part < 1 else 0.0
        total, moved, drawn = 0.0, 0, samples.draw(epoch)
        for step in range(steps):
            if share and step % max(1, steps // REGROWS_AN_EPOCH) == 0:
                moved += rewire(net, samples, options.epochs + epoch * steps + step, share)
            net.sharpen()
            for _ in range(blocks):
                total += net.descend(*next(drawn))
            now = epoch * steps + step
            rate = options.rate * (0.5 + 0.5 * math.cos(math.pi * now / (options.epochs * steps)))
            for level in levels:
                loops.adam(level, rate, now, options.betas)
        _save(out, identity, epoch + 1, levels)
        if progress is not None:
            loss = total / (steps * options.batch)
            seconds = time.monotonic() - start
            progress(Progress("epoch", epoch + 1, options.epochs, loss, moved, seconds))
    return tables(levels, cfg, thresholds)


def rewire(net: Network, samples: Samples, step: int, share: float) -> int:
    """Move the least useful pins of each level; how many."""
    rng = np.random.default_rng([*samples.key, step, 1])
    net.sharpen()
    worth = [np.zeros(level.wires.size, np.float32) for level in net.levels]
    drawn = samples.draw(step, JUDGED + MATCHED)

    def judge(place: int, x: np.ndarray, grad: np.ndarray) -> None:
        level = net.levels[place]
        rows, pins = _pins(level, x, grad, rng)
        own = rows[level.wires.reshape(-1)].astype(np.float32)
        own -= own.mean(axis=1, keepdims=True)
        worth[place] += np.abs(pins() * own).mean(axis=1)

    for _ in range(JUDGED):
        net.descend(*next(drawn), judge)
    chosen = []
    for value in worth:
        weakest = value.argsort(kind="stable")[: int(share * len(value))]
        # at most one pin of a table, lest two of them take the same tap
        _, first = np.unique(weakest // PINS, return_index=True)
        chosen.append(weakest[np.sort(first)])
    match = [np.zeros((len(some), level.taps), np.float32)
             for some, level in zip(chosen, net.levels, strict=True)]
    often = [np.zeros(level.taps, np.float32) for level in net.levels]

    def correlate(place: int, x: np.ndarray, grad: np.ndarray) -> None:
        rows, pins = _pins(net.levels[place], x, grad, rng)
        bits = rows.astype(np.float32)
        mean = bits.mean(axis=1, keepdims=True)
        match[place] += pins(chosen[place]) @ (bits - mean).T
        often[place] += mean[:, 0] / MATCHED

    for _ in range(MATCHED):
        net.descend(*next(drawn), correlate)
    moved = 0
    for level, some, found, p in zip(net.levels, chosen, match, often, strict=True):
        gain = np.abs(found) / (np.sqrt(p * (1 - p)) + 1e-2)
        np.put_along_axis(gain, level.wires[some // PINS], -1.0, axis=1)  # what it reads already
        best = gain.argmax(axis=1)
        for pin, tap, sign in zip(some, best, found[np.arange(len(some)), best], strict=True):
            table, place = divmod(int(pin), PINS)
            level.wires[table, place] = tap
            if sign > 0:  # the loss rises with the tap: turn the input over
                turned = np.arange(CELLS) ^ (1 << place)
                for array in (level.values, level.tables, level.m, level.v):
                    array[table] = array[table, turned]
        moved += len(some)
    return moved


def _pins(
    level: Level, x: np.ndarray, grad: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, Callable[..., np.ndarray]]:
    """At some positions: bits (taps, n), and a function from pins to gradients there (pins, n)."""
    places = rng.choice(len(grad), min(POSITIONS, len(grad)), replace=False)
    rows = np.concatenate(list(_windows(level, x, places)), axis=1)
    g = np.concatenate([grad[place] for place in places], axis=1)
    at = _addresses(level, rows)

    def of(pins: np.ndarray | None = None) -> np.ndarray:
        some = np.arange(level.wires.size) if pins is None else pins
        steep = level.slopes.reshape(-1, CELLS)[some[:, None], at[some // PINS]]
        found: np.ndarray = steep.astype(np.float32) * g[some // PINS]
        return found

    return rows, of


# --- an interrupted run ------------------------------------------------------------------------

KEPT = ("wires", "values", "tables", "m", "v")


def _save(out: Path, identity: str, done: int, levels: list[Level]) -> None:
    from hwflow.train_tables import save_state

    save_state(out, identity, done, {
        f"{name}.{place}": getattr(level, name)
        for place, level in enumerate(levels) for name in KEPT
    })  # fmt: skip


def _resume(out: Path, identity: str, levels: list[Level]) -> int:
    """Epochs done, the levels as they were then."""
    from hwflow.train_tables import load_state

    found = load_state(out, identity, [f"{name}.{place}" for place in range(len(levels))
                                       for name in KEPT])  # fmt: skip
    if found is None:
        return 0
    done, arrays = found
    for place, level in enumerate(levels):
        for name in KEPT:
            getattr(level, name)[:] = arrays[f"{name}.{place}"]
    return done
