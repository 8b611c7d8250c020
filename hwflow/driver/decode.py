# SPDX-License-Identifier: Apache-2.0
"""From the accelerator's candidate records to boxes. numpy only, runs on a board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

COLUMNS = ("logit", "class", "y", "x", "w", "h", "reg_x", "reg_y")
RECORD = np.dtype(
    [
        ("logit", "i1"), ("class", "u1"), ("y", "<u2"), ("x", "<u2"), ("w", "i1"), ("h", "i1"),
        ("reg_x", "i1"), ("reg_y", "i1"), ("padding", "V6"),
    ]
)  # fmt: skip
"""What the engine writes for one candidate: `CANDIDATE` of hwflow/emit/isa.py, 16 bytes."""


@dataclass(frozen=True)
class HeadScales:
    """What one unit of each map is worth: hm in logits, wh and reg in cells of the map."""

    hm: float = 1.0
    wh: float = 1.0
    reg: float = 1.0

    @classmethod
    def of(cls, scales: Mapping[str, float]) -> HeadScales:
        """Those of a program's layout. Raises KeyError when one of hm, wh, reg is missing."""
        return cls(float(scales["hm"]), float(scales["wh"]), float(scales["reg"]))


def candidates(records: np.ndarray) -> np.ndarray:
    """int64 (K, 8), columns COLUMNS, best first, of uint8 (K * 16,) as the engine wrote them.

    The engine writes them in any order; the order is logit descending, then row, column, class.
    """
    table = np.ascontiguousarray(records, dtype=np.uint8).view(RECORD)
    rows = np.stack([table[name].astype(np.int64) for name in COLUMNS], axis=1)
    order = np.lexsort((rows[:, 1], rows[:, 3], rows[:, 2], -rows[:, 0]))
    return rows[order]


def boxes(
    rows: np.ndarray, scales: HeadScales, stride: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of candidates as boxes in input pixels.

    Returns boxes float64 (K, 4) x0 y0 x1 y1, scores float64 (K,) in 0..1 and labels int64 (K,).
    The centre is the cell plus reg; width and height are wh; both in cells of stride pixels.
    """
    values = rows.astype(np.float64)
    logit, cls, y, x = values[:, 0] * scales.hm, values[:, 1], values[:, 2], values[:, 3]
    half = values[:, 4:6] * (scales.wh / 2)
    centre = np.stack([x, y], axis=1) + values[:, 6:8] * scales.reg
    corners = np.concatenate([centre - half, centre + half], axis=1) * stride
    tail = np.exp(-np.abs(logit))  # never overflows
    scores = np.where(logit >= 0, 1 / (1 + tail), tail / (1 + tail))
    return corners, scores, cls.astype(np.int64)
