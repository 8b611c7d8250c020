# SPDX-License-Identifier: Apache-2.0
"""Average precision of a detector, as VOC 2007 and as COCO define it. Written from the definitions.

Detections and truths are given an image each. Boxes are x0 y0 x1 y1 in continuous pixels, so that
an area is (x1 - x0) * (y1 - y0).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COCO_IOUS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
COCO_MAX_DETECTIONS = 100


@dataclass(frozen=True)
class Detections:
    """Found in one image. boxes: float (K, 4); scores: float (K,); labels: int (K,)."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Truth:
    """Present in one image. boxes: float (K, 4); labels: int (K,); difficult: bool (K,)."""

    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair, (A, B); 0 where a box has no area."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    area_a = np.clip(a[:, 2:] - a[:, :2], 0, None).prod(axis=1)
    area_b = np.clip(b[:, 2:] - b[:, :2], 0, None).prod(axis=1)
    union = area_a[:, None] + area_b[None, :] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def voc07_ap(
    found: Sequence[Detections], truths: Sequence[Truth], classes: int, threshold: float = 0.5
) -> float | None:
    """Mean over the classes of the VOC 2007 average precision, 0 to 1.

    Each class: the mean, over recalls 0, 0.1 ... 1, of the best precision at that recall or more.
    In order of score over all images, a detection is judged by the truth it overlaps most: a hit
    if IoU >= threshold and that truth has not been hit before, left out if that truth is difficult,
    else a false alarm. Classes without a truth that counts do not enter; None if none does.
    """
    values = []
    for label in range(classes):
        curve = _voc_curve(found, truths, label, threshold)
        if curve is None:
            continue
        recall, precision = curve
        grid = np.arange(11) / 10
        best = [precision[recall >= r - 1e-12].max(initial=0.0) for r in grid]
        values.append(float(np.mean(best)))
    return float(np.mean(values)) if values else None


def coco_ap(
    found: Sequence[Detections],
    truths: Sequence[Truth],
    classes: int,
    thresholds: Sequence[float] = COCO_IOUS,
) -> float | None:
    """Mean over IoU thresholds and classes of the COCO average precision, 0 to 1.

    Each class and threshold: the mean over 101 recalls of the precision made monotonic. In each
    image at most the 100 best detections count; in order of score each takes the free truth it
    overlaps most, an ordinary one before a difficult one; detections that take a difficult one are
    left out. Classes without a truth that counts do not enter; None if none does.
    """
    values = []
    for label in range(classes):
        for threshold in thresholds:
            curve = _coco_curve(found, truths, label, threshold)
            if curve is None:
                continue
            recall, precision = curve
            envelope = np.maximum.accumulate(precision[::-1])[::-1]
            at = np.searchsorted(recall, np.arange(101) / 100 - 1e-12, side="left")
            padded = np.append(envelope, 0.0)
            values.append(float(padded[np.minimum(at, len(envelope))].mean()))
    return float(np.mean(values)) if values else None


def _voc_curve(
    found: Sequence[Detections], truths: Sequence[Truth], label: int, threshold: float
) -> tuple[np.ndarray, np.ndarray] | None:
    wanted = [_of_class(truth, label) for truth in truths]
    positives = sum(int((~hard).sum()) for _, hard in wanted)
    if positives == 0:
        return None
    taken = [np.zeros(len(boxes), dtype=bool) for boxes, _ in wanted]
    entries = []
    for image, detections in enumerate(found):
        mine = detections.labels == label
        entries += [
            (score, image, box)
            for score, box in zip(detections.scores[mine], detections.boxes[mine], strict=True)
        ]
    entries.sort(key=lambda entry: -entry[0])
    hits = []
    for _, image, box in entries:
        boxes, hard = wanted[image]
        overlaps = iou(box[None], boxes)[0]
        best = int(overlaps.argmax()) if len(boxes) else -1
        if best < 0 or overlaps[best] < threshold:
            hits.append(False)
        elif not hard[best]:
            hits.append(not taken[image][best])
            taken[image][best] = True
    return _curve(np.array(hits, dtype=bool), positives)


def _coco_curve(
    found: Sequence[Detections], truths: Sequence[Truth], label: int, threshold: float
) -> tuple[np.ndarray, np.ndarray] | None:
    scores, hits = [], []
    positives = 0
    for detections, truth in zip(found, truths, strict=True):
        boxes, hard = _of_class(truth, label)
        positives += int((~hard).sum())
        mine = np.flatnonzero(detections.labels == label)
        order = mine[np.argsort(-detections.scores[mine], kind="stable")][:COCO_MAX_DETECTIONS]
        overlaps = iou(detections.boxes[order], boxes)
        free = np.ones(len(boxes), dtype=bool)
        for row, index in enumerate(order):
            judged, hit = True, False
            for candidates in (free & ~hard, free & hard):
                near = np.where(candidates, overlaps[row], -1.0)
                best = int(near.argmax()) if len(near) else -1
                if best >= 0 and near[best] >= threshold - 1e-10:
                    free[best] = False
                    hit, judged = True, not hard[best]
                    break
            if judged:
                scores.append(detections.scores[index])
                hits.append(hit)
    if positives == 0:
        return None
    ranked = np.argsort(-np.array(scores, dtype=np.float64), kind="stable")
    return _curve(np.array(hits, dtype=bool)[ranked], positives)


def _curve(hits: np.ndarray, positives: int) -> tuple[np.ndarray, np.ndarray]:
    true = np.cumsum(hits)
    return true / positives, true / np.arange(1, len(hits) + 1)


def _of_class(truth: Truth, label: int) -> tuple[np.ndarray, np.ndarray]:
    mine = truth.labels == label
    return truth.boxes[mine], truth.difficult[mine]
