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

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwflow.models.dtnn import DtnnConfig, Layer, Tables, Window
from hwflow.training_tables import wiring
from hwflow.training_tables.copies import Copies
from hwflow.training_tables.encoders import Encoder
from hwflow.training_tables.kernels import load as load_kernels
from hwflow.training_tables.loops import CELLS, PINS, addresses
from hwflow.training_tables.options import TableTraining
from hwflow.training_tables.run import (
    COPY,
    Progress,
    ProgressCallback,
    identity_of,
    load_state,
    save_state,
)
from hwflow.training_tables.window_loops import LANES, Level, NumpyLoops, load, windows

SLOPE = np.float32(1 / 127)  # a slope of 1 is the byte 127
SMOOTH = 0.5  # share of a slope that counts at an address that differs by one more pin
START_WEIGHT, START_NOISE = 0.25, 0.05  # of the contents at first
SPARSE = 2.5  # a pooled table's first threshold, so that about half of the pools are set
VOTES_A_NAT = 0.8  # times the square root of the votes of a class
JUDGED, MATCHED = 4, 16  # times 64 samples that say what pins are worth, and where to move them
LEAST_SPREAD = 1e-2  # of a tap that hardly changes
POSITIONS = 16  # of a map, in each of them


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


def train(
    cfg: DtnnConfig, images: np.ndarray, labels: np.ndarray, encoder: Encoder, out: Path,
    cache: Path, options: TableTraining, progress: ProgressCallback | None,
) -> Tables:  # fmt: skip
    """Train options.epochs epochs; go on with what is left in `out` of the same run."""
    loops = load(cache)
    fee = options.lut_weight * encoder.luts() if options.lut_weight else None
    guide = None
    if options.distil:
        from hwflow.training_tables.teachers import teacher  # torch is wanted for this alone

        guide = teacher(images, labels, cfg.classes, options)
    copies = Copies(load_kernels(cache), images, labels, cfg.classes, options, guide)
    levels = build(cfg, options.seed)
    identity = identity_of(cfg, options, images, labels, loops.name)
    done = _resume(out, identity, levels)
    net = Network(levels, loops, encoder.thresholds, cfg.classes, options.temperature)
    blocks = options.batch // LANES
    steps = len(images) // LANES // blocks
    start = time.monotonic()
    for epoch in range(done, options.epochs):
        share = wiring.share(cfg, epoch, options.epochs)
        total, moved, drawn = 0.0, 0, copies.blocks(epoch)
        for step in range(steps):
            if share and wiring.due(step, steps):
                moved += rewire(net, copies, options.epochs + epoch * steps + step, share,
                                fee)  # fmt: skip
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
    return tables(levels, cfg, encoder.thresholds)


def rewire(
    net: Network, copies: Copies, step: int, share: float, fee: np.ndarray | None = None
) -> int:
    """Move the least useful pins of each level; how many.

    fee: float (P,), nats a sample that a channel of the encoder must save to be read.
    """
    rng = np.random.default_rng([copies.options.seed, COPY, step, 1])
    net.sharpen()
    worth = [np.zeros(level.wires.size, np.float32) for level in net.levels]
    drawn = copies.blocks(step, JUDGED + MATCHED)

    def judge(place: int, x: np.ndarray, grad: np.ndarray) -> None:
        level = net.levels[place]
        rows, pins = _pins(level, x, grad, rng)
        own = rows[level.wires.reshape(-1)].astype(np.float32)
        own -= own.mean(axis=1, keepdims=True)
        worth[place] += np.abs(pins() * own).mean(axis=1)

    for _ in range(JUDGED):
        net.descend(*next(drawn), judge)
    cost = None
    if fee is not None:
        cost = _fees(net, fee)
        worth[0] -= JUDGED * cost.leave
    chosen = [wiring.weakest(value.argsort(kind="stable"), share, PINS) for value in worth]
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
    for place, (level, some, found, p) in enumerate(
        zip(net.levels, chosen, match, often, strict=True)
    ):
        gain, saved = np.abs(found), np.zeros(len(some), np.float32)
        if cost is not None and place == 0:
            gain -= MATCHED * cost.seen * cost.enter
            saved = MATCHED * cost.seen * cost.leave[some]
        spread = np.sqrt(p * (1 - p)) + LEAST_SPREAD
        taps, gained = wiring.regrown(some, level.wires, gain / spread)
        good = gained * spread[taps] + saved >= 0
        for row in np.flatnonzero(good):
            tap, sign = taps[row], found[row, taps[row]]
            table, pin = divmod(int(some[row]), PINS)
            level.wires[table, pin] = tap
            if sign > 0:  # the loss rises with the tap: turn the input over
                turned = np.arange(CELLS) ^ (1 << pin)
                for array in (level.values, level.tables, level.m, level.v):
                    array[table] = array[table, turned]
        moved += int(good.sum())
    return moved


@dataclass(frozen=True)
class _Fees:
    """Of the first level, in the unit of `_pins`: what each tap costs a pin that comes, enter (T,),
    and what each pin saves that goes, leave (N * 6,). seen: samples and positions of 64 images."""

    enter: np.ndarray
    leave: np.ndarray
    seen: int


def _fees(net: Network, fee: np.ndarray) -> _Fees:
    first = net.levels[0]
    channels = np.arange(first.taps) // math.prod(first.kernel)
    wires = channels[first.wires.reshape(-1)]
    enter, leave = wiring.fees(fee, np.bincount(wires, minlength=len(fee)), wires, shared=True)
    # a gradient there is of the loss times the temperature, a slope of 1 is 127; the loss of a
    # sample is the sum over all positions, of which _pins gives the mean over a few
    places = math.prod(first.sides)
    unit = np.float32(net.temperature / (SLOPE * places))
    return _Fees(unit * enter[channels], unit * leave, min(POSITIONS, places) * LANES)


def _pins(
    level: Level, x: np.ndarray, grad: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, Callable[..., np.ndarray]]:
    """At some positions: bits (taps, n), and a function from pins to gradients there (pins, n)."""
    places = rng.choice(len(grad), min(POSITIONS, len(grad)), replace=False)
    rows = np.concatenate(list(windows(level, x, places)), axis=1)
    g = np.concatenate([grad[place] for place in places], axis=1)
    at = addresses(rows, level.wires)

    def of(pins: np.ndarray | None = None) -> np.ndarray:
        some = np.arange(level.wires.size) if pins is None else pins
        steep = level.slopes.reshape(-1, CELLS)[some[:, None], at[some // PINS]]
        found: np.ndarray = steep.astype(np.float32) * g[some // PINS]
        return found

    return rows, of


# --- an interrupted run ------------------------------------------------------------------------

KEPT = ("wires", "values", "tables", "m", "v")


def _save(out: Path, identity: str, done: int, levels: list[Level]) -> None:
    save_state(out, identity, done, {
        f"{name}.{place}": getattr(level, name)
        for place, level in enumerate(levels) for name in KEPT
    })  # fmt: skip


def _resume(out: Path, identity: str, levels: list[Level]) -> int:
    """Epochs done, the levels as they were then."""
    found = load_state(out, identity, [f"{name}.{place}" for place in range(len(levels))
                                       for name in KEPT])  # fmt: skip
    if found is None:
        return 0
    done, arrays = found
    for place, level in enumerate(levels):
        for name in KEPT:
            getattr(level, name)[:] = arrays[f"{name}.{place}"]
    return done
