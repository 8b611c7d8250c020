# SPDX-License-Identifier: Apache-2.0
"""Encoders: thresholds for samples, and the bits that they make of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwflow.models.dtnn import TOP_BIT, DtnnConfig, encoder_luts

RARE = 0.005  # a bit that is set, or not set, less often is no wire to begin with
AT_ONCE = 4096  # samples


@dataclass(frozen=True)
class Encoder:
    """thresholds: int64 (F, L). Its bits, numbered as the tables of the first layer count them: bit
    l * F + f is whether element f reaches its threshold l; linear: bit f * B + b is bit b of the
    number of thresholds that element f reaches, L = 2**B - 1; these part the range from ends[0] to
    ends[1] into equal steps, of all elements together int64 (1,), or of each (F,)."""

    thresholds: np.ndarray
    linear: bool = False
    ends: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def bits(self) -> int:
        """How many."""
        features, levels = self.thresholds.shape
        return int(features * (levels.bit_length() if self.linear else levels))

    def columns(self, images: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
        """Images uint8 (n, C, H, W) -> bits uint8 (P, n), those wanted (None: all)."""
        flat = images.reshape(len(images), -1)
        if self.linear:
            codes = np.zeros(flat.shape[::-1], np.uint8)
            for row in self.thresholds.T:
                codes += (flat >= row).T
            shifts = np.arange(self.thresholds.shape[1].bit_length(), dtype=np.uint8)
            made = (codes[:, None] >> shifts[:, None] & 1).reshape(-1, len(images))
        else:
            made = np.concatenate([np.ascontiguousarray((flat >= row).T)
                                   for row in self.thresholds.T])  # fmt: skip
        found: np.ndarray = (made if wanted is None else made[wanted]).view(np.uint8)
        return found

    def telling(self, images: np.ndarray) -> np.ndarray:
        """Which bits part the samples at all, bool (P,): only these are worth a wire."""
        often = np.zeros(self.bits)
        for at in range(0, len(images), AT_ONCE):
            often += self.columns(images[at : at + AT_ONCE]).sum(axis=1, dtype=np.int64)
        often /= len(images)
        found: np.ndarray = (often > RARE) & (often < 1 - RARE)
        return found

    def luts(self) -> np.ndarray:
        """LUT6 of each bit, int64 (P,)."""
        return encoder_luts(self.thresholds, self.linear)


def encoder_of(cfg: DtnnConfig, images: np.ndarray) -> Encoder:
    """The encoder of a network for the samples that it is trained with.

    A feature is an element of the image; of a network with convolutions, a channel of all pixels.
    """
    if not cfg.linear:
        return Encoder(_quantiles(cfg, images))
    low, high = _range(cfg, images)
    made = uniform(low, high, cfg.levels, cfg.precision)
    if len(made) == cfg.features:  # else the elements of images share theirs
        made = simplest(made, images, True)
    return Encoder(np.broadcast_to(made, (cfg.features, cfg.levels)).copy(), True, (low, high))


def _range(cfg: DtnnConfig, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the samples fill, int64: of all elements of images together, (1,), or of each column of
    a table but for its rarest values, (F,)."""
    if cfg.shape[1:] == (1, 1):
        flat = images.reshape(len(images), -1)
        low, high = np.quantile(flat, (RARE, 1 - RARE), axis=0)
    else:
        low, high = (np.array([end]) for end in (images.min(), images.max()))
    return np.floor(low).astype(np.int64), np.ceil(high).astype(np.int64) + 1


def uniform(low: np.ndarray, high: np.ndarray, levels: int, precision: int = 8) -> np.ndarray:
    """What parts low..high (F,) into levels + 1 steps, as thresholds int64 (F, levels) of whole
    pixels, multiples of 2**(8 - precision)."""
    places = np.arange(1, levels + 1) / (levels + 1)
    real = low[:, None] + places * (high - low)[:, None]
    step = 1 << (8 - precision)
    made: np.ndarray = np.clip(step * np.ceil(real / step), 0, 256).astype(np.int64)
    return made


def _quantiles(cfg: DtnnConfig, images: np.ndarray) -> np.ndarray:
    """Thresholds int64 (F, levels): the top bit, or quantiles of what a feature is in the samples.

    A value that fills more than its share (the black of most pixels) is one quantile only. They are
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


def simplest(thresholds: np.ndarray, images: np.ndarray, linear: bool) -> np.ndarray:
    """Thresholds (F, L), one row an element of images (N, C, H, W), each moved to the one of fewest
    bits that parts these samples alike; those of a linear encoder where that takes fewer LUTs."""
    flat = images.reshape(len(images), -1)
    made = np.array([
        [_simplest(occurring, int(level)) for level in row]
        for row, occurring in zip(thresholds, map(np.unique, flat.T), strict=True)
    ], np.int64)  # fmt: skip
    if not linear:
        return made
    before, after = (encoder_luts(one, True).reshape(len(made), -1).sum(axis=1)
                     for one in (thresholds, made))  # fmt: skip
    found: np.ndarray = np.where((after < before)[:, None], made, thresholds)
    return found


def _simplest(values: np.ndarray, level: int) -> int:
    """The threshold of fewest bits that parts the same values (rising) as `level` does."""
    at = int(np.searchsorted(values, level))
    if at in (0, len(values)):
        return level
    low, high = int(values[at - 1]), int(values[at])
    return max(range(low + 1, high + 1), key=lambda one: (one & -one, -abs(one - level)))
