# SPDX-License-Identifier: Apache-2.0
"""The engine's operations in numpy, straight from docs/engine.md, for the benches of the core.

A plane is a map in row-major bytes, 16 to an activation word; maps are (H, W) integer arrays.
Nothing here looks at how the engine works: no windows, no passes, no tiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
CLAMP = {"u8": (0, 255), "i8": (-128, 127), "u3": (0, 7)}


def requant(acc: Ints, bias: int, shift: int, out_type: str) -> Ints:
    """clamp(round_half_even((acc + bias) / 2**shift)); shift may be negative; exact."""
    scaled = np.rint((acc + bias).astype(np.float64) * 2.0**-shift).astype(np.int64)
    return np.clip(scaled, *CLAMP[out_type])


def tap(image: Ints, rows: Ints, cols: Ints, fill: int) -> Ints:
    """image[rows, cols] with `fill` outside; rows and cols broadcast to the result's (H, W)."""
    height, width = image.shape
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    return np.where(inside, image[rows.clip(0, height - 1), cols.clip(0, width - 1)], fill)


def taps(
    image: Ints, shape: tuple[int, int], stride: int, y0: int = 0,
    dilation: Ints | int = 1, fill: int = 0,
) -> Ints:
    """The nine taps (3, 3, H, W) of every output pixel; rows start at output row y0."""
    ys = (y0 + np.arange(shape[0]))[:, None] * stride
    xs = np.arange(shape[1])[None, :] * stride
    dil = np.broadcast_to(np.asarray(dilation), shape)
    return np.stack([
        np.stack([tap(image, ys + (i - 1) * dil, xs + (j - 1) * dil, fill) for j in range(3)])
        for i in range(3)
    ])


def upsampled(image: Ints) -> Ints:
    """Nearest upsampling by 2 of (H, W)."""
    return image.repeat(2, axis=0).repeat(2, axis=1)


def peaks(
    logits: Ints, regressions: Sequence[Ints], limit: int
) -> list[tuple[int, int, int, int, int, int, int, int]]:
    """The first `limit` peaks of (classes, H, W) by (logit descending, row, column, class).

    Each is (logit, class, y, x, and the four regression values at the place).
    """
    classes, height, width = logits.shape
    found = []
    for c in range(classes):
        best = taps(logits[c], (height, width), 1, fill=-128).max(axis=(0, 1))
        for y, x in zip(*np.nonzero(best == logits[c]), strict=True):
            found.append((-int(logits[c, y, x]), int(y), int(x), c))
    return [
        (-key, c, y, x, *(int(plane[y, x]) for plane in regressions))
        for key, y, x, c in sorted(found)[:limit]
    ]
