# SPDX-License-Identifier: Apache-2.0
"""Distorted copies of images: how far they go, and the copy of one image in numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Warp:
    """Random copies of images: shift in pixels, turn in radians, scale and shear as fractions.

    elastic: largest displacement, in pixels, of the knots of a 5 x 5 grid. share: of the copies
    that are changed at all.
    """

    shift: float = 1.5
    turn: float = 0.14
    scale: float = 0.08
    shear: float = 0.08
    elastic: float = 0.0
    share: float = 1.0


def default_warp(shape: tuple[int, int, int]) -> Warp:
    """Distortions for images of this size; none for rows of a table."""
    small = min(shape[1:])
    if small < 4:
        return Warp(0, 0, 0, 0, 0, 0)
    return Warp(shift=1.5 * small / 28)


class _Draw:
    """splitmix64, as in kernels.cpp."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def within(self, bound: float) -> float:
        """Uniform in -bound..bound."""
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        return ((z >> 40) / 8388608.0 - 1.0) * bound


def warped(image: np.ndarray, warp: Warp, seed: int) -> np.ndarray:
    """One copy of an image (C, H, W)."""
    draw = _Draw(seed)
    if draw.within(0.5) + 0.5 >= warp.share:
        return image
    height, width = image.shape[1:]
    turn, sx, sy = draw.within(warp.turn), 1 + draw.within(warp.scale), 1 + draw.within(warp.scale)
    skew, dx, dy = draw.within(warp.shear), draw.within(warp.shift), draw.within(warp.shift)
    knots = np.array([[draw.within(warp.elastic) for _ in range(2)] for _ in range(25)])
    mx, my = (width - 1) / 2, (height - 1) / 2
    y, x = np.mgrid[:height, :width]
    px = math.cos(turn) * sx * (x - mx) + (skew - math.sin(turn) * sx) * (y - my) + mx + dx
    py = math.sin(turn) * sy * (x - mx) + math.cos(turn) * sy * (y - my) + my + dy
    gx, gy = x * 4 / width, y * 4 / height
    at = gy.astype(int) * 5 + gx.astype(int)
    fx, fy = gx % 1, gy % 1
    for axis, to in enumerate((px, py)):
        knot = knots[:, axis]
        upper = knot[at] * (1 - fx) + knot[at + 1] * fx
        to += upper * (1 - fy) + (knot[at + 5] * (1 - fx) + knot[at + 6] * fx) * fy
    px, py = np.clip(px, -1, width) + 2, np.clip(py, -1, height) + 2
    framed = np.pad(image, ((0, 0), (2, 2), (2, 2))).astype(np.float64)
    ix, iy = px.astype(int), py.astype(int)
    fx, fy = px - ix, py - iy
    upper = framed[:, iy, ix] * (1 - fx) + framed[:, iy, ix + 1] * fx
    lower = framed[:, iy + 1, ix] * (1 - fx) + framed[:, iy + 1, ix + 1] * fx
    made: np.ndarray = (upper * (1 - fy) + lower * fy + 0.5).astype(np.uint8)
    return made
