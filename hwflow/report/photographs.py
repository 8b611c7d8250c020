# SPDX-License-Identifier: Apache-2.0
"""The photographs of a run directory, for a page made after the build."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwflow import arrays
from hwflow.errors import DataError


def read(folder: Path, annotated: bool = True) -> list[dict[str, np.ndarray]]:
    """The photographs a run simulated, with their boxes: `frames` of the page's extras.

    annotated: with the annotated boxes, where the run has them. Raises DataError on a damaged file.
    """
    path = folder / "sim" / "frames.npz"
    if not path.is_file():
        return []
    held = arrays.read(path)
    images = held.get("images")
    if images is not None and not any(name.startswith("boxes") for name in held):
        return []  # not a detector
    if images is None or images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise DataError(f"{path}: has no photographs, `images` uint8 (N, 3, H, W); simulate again")
    truths = _annotated(folder / "data" / "tiles.npz") if annotated else []
    frames = []
    for n, image in enumerate(images):
        boxes, scores = held.get(f"boxes{n}"), held.get(f"scores{n}")
        if boxes is None or scores is None:
            continue
        if boxes.shape != (*scores.shape, 4) or not (_finite(boxes) and _finite(scores)):
            raise DataError(f"{path}: boxes{n} (N, 4) and scores{n} (N) are not numbers of one "
                            "length; simulate again")
        frame = {"image": image, "boxes": boxes, "scores": scores}
        frames.append(frame | ({"truth": truths[n]} if n < len(truths) else {}))
    return frames


def _annotated(path: Path) -> list[np.ndarray]:
    """Annotated boxes (N, 4) of each photograph."""
    if not path.is_file():
        return []
    held = arrays.read(path, ("boxes", "counts"))
    boxes, counts = held["boxes"], held["counts"]
    if counts.dtype.kind not in "iu" or counts.ndim != 1 or (counts < 0).any() or boxes.shape != (
        int(counts.sum()), 4
    ) or not _finite(boxes):
        raise DataError(f"{path}: `boxes` (N, 4) does not have the rows that `counts` says; make "
                        "the stage data again")
    return np.split(boxes, np.cumsum(counts)[:-1])


def _finite(values: np.ndarray) -> bool:
    return values.dtype.kind in "iuf" and bool(np.isfinite(values).all())
