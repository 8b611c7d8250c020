# SPDX-License-Identifier: Apache-2.0
"""Wiring: where nodes may read, and prune and regrow, on whatever road.

Learned wiring is prune and regrow: the pins that say least are wired anew, each to the channel that
the gradient at the pin goes with best. How many falls to none in the first two thirds of the
epochs.
"""

from __future__ import annotations

import numpy as np

from hwflow.models.dtnn import DtnnConfig
from hwflow.training_tables.run import START

REGROWN = 0.3  # share of the pins wired anew at first
REGROW_UNTIL = 2 / 3
REGROWS_AN_EPOCH = 2


def share(cfg: DtnnConfig, epoch: int, epochs: int) -> float:
    """Of the pins, to wire anew in an epoch, each time."""
    part = epoch / (REGROW_UNTIL * epochs)
    return REGROWN * (1 - part) if cfg.wiring != "random" and part < 1 else 0.0


def due(step: int, steps: int) -> bool:
    """Whether wires move before this step of an epoch's."""
    return step % max(1, steps // REGROWS_AN_EPOCH) == 0


def weakest(order: np.ndarray, share: float, inputs: int) -> np.ndarray:
    """The pins to wire anew: the first share of `order` (all N * inputs pins, that of least worth
    first), but at most one of a node, lest two of them take the same channel."""
    chosen = order[: int(share * len(order))]
    _, first = np.unique(chosen // inputs, return_index=True)
    kept: np.ndarray = chosen[np.sort(first)]
    return kept


def regrown(
    pins: np.ndarray, wires: np.ndarray, gains: np.ndarray, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The best channel for each of the pins, and what it gains.

    wires int (N, inputs); gains float (pins, C) of each channel, overwritten. allowed: the channels
    that each node may read, (N, C).
    """
    nodes = pins // wires.shape[1]
    np.put_along_axis(gains, wires[nodes], -np.inf, axis=1)  # what the node reads already
    if allowed is not None:
        gains[allowed[nodes] == 0] = -np.inf
    best = gains.argmax(axis=1)
    return best, gains[np.arange(len(pins)), best]


def fees(
    fee: np.ndarray, used: np.ndarray, wires: np.ndarray, shared: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """What channels cost (C,) that are read by one pin more, and what pins save that leave theirs.

    fee (C,): loss that a channel must save to be read at all (its comparator takes LUTs). used:
    pins that read it. wires: the channels of the pins. The first pin of a channel pays for it, and
    the last one saves that; `shared`: all its pins pay alike, for pins that move at once.
    """
    if shared:
        enter, leave = fee / (used + 1), fee[wires] / np.maximum(1, used[wires])
    else:
        enter, leave = np.where(used == 0, fee, 0), np.where(used[wires] == 1, fee[wires], 0)
    return enter.astype(np.float32), leave.astype(np.float32)


def patches(cfg: DtnnConfig, count: int, seed: int) -> np.ndarray:
    """For structured wiring: which encoder bits each of `count` nodes may read, uint8 (count, P).

    Each has a window of a quarter of the image's sides (at least three pixels) of its own.
    """
    planes, height, width = cfg.shape
    rng = np.random.default_rng([seed, START, 1])
    allowed = np.zeros((count, planes, height, width), np.uint8)
    tall, wide = min(height, max(3, height // 4)), min(width, max(3, width // 4))
    tops = rng.integers(0, height - tall + 1, count)
    lefts = rng.integers(0, width - wide + 1, count)
    for node, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        allowed[node, :, top : top + tall, left : left + wide] = 1
    flat = allowed.reshape(count, -1)
    bits = cfg.bits_an_element
    return np.repeat(flat, bits, axis=1) if cfg.linear else np.tile(flat, (1, bits))
