# SPDX-License-Identifier: Apache-2.0
"""From head maps to boxes: the reference decode. numpy only; the hardware must equal it exactly.

A peak is a cell whose logit equals the maximum of the 3x3 cells around it in its class (cells
outside the map do not take part, and so equal neighbours are all peaks). Of all peaks of all
classes the best k by logit are kept; equal logits go by row, then column, then class. The sigmoid
does not change an order and is applied to the survivors only.
"""

import numpy as np

from hwflow.driver.decode import COLUMNS, HeadScales, boxes
from hwflow.errors import GraphError

__all__ = ["COLUMNS", "HeadScales", "boxes", "candidates", "peaks"]


def peaks(hm: np.ndarray) -> np.ndarray:
    """bool (C, H, W): the cells of hm (C, H, W) that equal their 3x3 maximum."""
    _, height, width = hm.shape
    peak = np.ones(hm.shape, dtype=bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            here = np.s_[:, max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
            there = np.s_[:, max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
            peak[here] &= hm[here] >= hm[there]
    return peak


def candidates(hm: np.ndarray, wh: np.ndarray, reg: np.ndarray, k: int = 100) -> np.ndarray:
    """The best k peaks of one image as rows of COLUMNS, best first.

    hm: (C, H, W) logits. wh: (2, H, W), channels w, h. reg: (2, H, W), channels x, y. Integer maps
    give int64 rows, others float64. At most k rows; fewer if there are fewer peaks.
    """
    _, height, width = hm.shape
    for name, array in (("wh", wh), ("reg", reg)):
        if array.shape != (2, height, width):
            raise GraphError(
                f"decode: {name} has shape {array.shape}, the heat map asks for "
                f"{(2, height, width)}; give the three maps of one image"
            )
    integral = all(np.issubdtype(array.dtype, np.integer) for array in (hm, wh, reg))
    dtype = np.int64 if integral else np.float64
    cls, y, x = np.nonzero(peaks(hm))
    logit = hm[cls, y, x].astype(dtype)
    best = np.lexsort((cls, x, y, -logit))[:k]
    cls, y, x = cls[best], y[best], x[best]
    columns = (logit[best], cls, y, x, wh[0, y, x], wh[1, y, x], reg[0, y, x], reg[1, y, x])
    return np.stack([column.astype(dtype) for column in columns], axis=1)
