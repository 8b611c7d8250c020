# SPDX-License-Identifier: Apache-2.0
"""Thresholds for samples, and the bits that they make of them."""

from __future__ import annotations

import numpy as np

from hwflow.models.dtnn import TOP_BIT, DtnnConfig

RARE = 0.005  # a bit that is set, or not set, less often is no wire to begin with


def thresholds_of(cfg: DtnnConfig, images: np.ndarray) -> np.ndarray:
    """Thresholds int64 (F, levels): the top bit, or quantiles of what a feature is in the samples.

    A feature is an element of the image; of a network with convolutions, a channel of all pixels. A
    value that fills more than its share (the black of most pixels) is one quantile only. They are
    multiples of what cfg.precision leaves out, and of the greatest power of two that parts the
    samples alike.
    """
    flat = images.reshape(len(images), -1)
    if cfg.convs:
        flat = images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1])
    if cfg.levels == 1:
        return np.full((flat.shape[1], 1), TOP_BIT, np.int64)
    step = 1 << (8 - cfg.precision)
    out = np.empty((flat.shape[1], cfg.levels), np.int64)
    places = np.arange(1, cfg.levels + 1) / (cfg.levels + 1)
    for feature, values in enumerate(flat.T):
        above = values[values > values.min()]
        crowded = len(above) < len(values) * cfg.levels / (cfg.levels + 1)
        among = above if crowded and len(above) else values
        chosen = np.ceil(np.quantile(among, places))
        if step > 1:
            chosen = np.minimum(step * np.rint(chosen / step), 256 - step)
        levels = np.maximum(step, chosen).astype(np.int64)
        occurring = np.unique(values)
        out[feature] = [_simplest(occurring, int(level)) for level in levels]
    return np.sort(out, axis=1)


def _simplest(values: np.ndarray, level: int) -> int:
    """The threshold of fewest bits that parts the same values (rising) as `level` does."""
    at = int(np.searchsorted(values, level))
    if at in (0, len(values)):
        return level
    low, high = int(values[at - 1]), int(values[at])
    return max(range(low + 1, high + 1), key=lambda one: (one & -one, -abs(one - level)))


def telling(images: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which thresholds (F, L) part the samples at all, bool: only these are worth a wire."""
    flat = images.reshape(len(images), -1)
    often = np.stack([(flat >= row).mean(axis=0) for row in thresholds.T], axis=1)
    found: np.ndarray = (often > RARE) & (often < 1 - RARE)
    return found


def columns(
    images: np.ndarray, thresholds: np.ndarray, bits: np.ndarray | None = None
) -> np.ndarray:
    """Images uint8 (n, C, H, W) -> their bits uint8 (P, n): bit l * F + f is whether element f
    reaches its threshold l of thresholds (F, L). bits: those that are wanted, None for all."""
    flat = images.reshape(len(images), -1)
    made = np.concatenate([np.ascontiguousarray((flat >= row).T) for row in thresholds.T])
    return (made if bits is None else made[bits]).view(np.uint8)
