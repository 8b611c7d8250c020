# SPDX-License-Identifier: Apache-2.0
"""Targets and losses of a detector that finds objects as centre points; knows no model.

Heat map: penalty-reduced focal loss. Size and centre offset: L1 at the centres. (Zhou et al.,
"Objects as Points", 2019; the radius of a target is the rule of Law and Deng, "CornerNet", 2018.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

HM_WEIGHT, WH_WEIGHT, REG_WEIGHT = 1.0, 0.1, 1.0
MIN_OVERLAP = 0.7
PROBABILITY_FLOOR = 1e-4


@dataclass(frozen=True)
class Targets:
    """What the heads should say for a batch.

    hm: float32 (N, C, H, W), 1 at centres. care: float32 (N, 1, H, W), 0 where the heat map is not
    judged. covered: float32 (N, 1, H, W), 1 where a cell's middle lies in an object. image, y, x:
    int64 (K,), the cells of the K centres. wh, reg: float32 (K, 2).
    """

    hm: Tensor
    care: Tensor
    covered: Tensor
    image: Tensor
    y: Tensor
    x: Tensor
    wh: Tensor
    reg: Tensor

    def to(self, device: torch.device) -> "Targets":
        """The same on another device."""
        return Targets(**{name: value.to(device) for name, value in vars(self).items()})


def radius(height: float, width: float, overlap: float = MIN_OVERLAP) -> float:
    """How far a box of this size may be displaced and still overlap it by `overlap`.

    The three roots are those of the published detector, which divides each by 2 whatever the
    leading coefficient is; the targets are wider for it than the exact rule would make them.
    """
    total, area = height + width, height * width
    roots = (
        (1.0, total, area * (1 - overlap) / (1 + overlap), 1.0),
        (4.0, 2 * total, area * (1 - overlap), 1.0),
        (4 * overlap, 2 * overlap * total, (overlap - 1) * area, -1.0),
    )
    return min((sign * b + math.sqrt(b * b - 4 * a * c)) / 2 for a, b, c, sign in roots)


def make_targets(
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    ignored: Sequence[np.ndarray],
    classes: int,
    size: int,
    stride: int = 4,
) -> Targets:
    """Targets of a batch of square inputs; boxes are float (K, 4) xyxy in input pixels.

    The centre cell is the floor of the centre. Gaussians have sigma = diameter / 6 and take the
    maximum where they overlap. Inside an ignored box nothing is judged but true centres.
    """
    side = size // stride
    hm = np.zeros((len(boxes), classes, side, side), dtype=np.float32)
    care = np.ones((len(boxes), 1, side, side), dtype=np.float32)
    covered = np.zeros((len(boxes), 1, side, side), dtype=np.float32)
    rows: list[tuple[int, int, int]] = []
    sizes, offsets = [], []
    for image, (image_boxes, image_labels, skip) in enumerate(
        zip(boxes, labels, ignored, strict=True)
    ):
        for x0, y0, x1, y1 in image_boxes[skip] / stride:
            care[image, 0, _cells(y0, y1, side), _cells(x0, x1, side)] = 0
        wanted = image_boxes[~skip] / stride
        for (x0, y0, x1, y1), label in zip(wanted, image_labels[~skip], strict=True):
            width, height = x1 - x0, y1 - y0
            cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
            column, row = min(int(cx), side - 1), min(int(cy), side - 1)
            reach = max(0, int(radius(math.ceil(height), math.ceil(width))))
            _splat(hm[image, label], row, column, reach)
            covered[image, 0, _middles(y0, y1, side), _middles(x0, x1, side)] = 1
            rows.append((image, row, column))
            sizes.append((width, height))
            offsets.append((cx - column, cy - row))
    for image, row, column in rows:
        care[image, 0, row, column] = 1
    where = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)
    return Targets(
        torch.from_numpy(hm),
        torch.from_numpy(care),
        torch.from_numpy(covered),
        where[:, 0],
        where[:, 1],
        where[:, 2],
        torch.tensor(sizes, dtype=torch.float32).reshape(-1, 2),
        torch.tensor(offsets, dtype=torch.float32).reshape(-1, 2),
    )


def _cells(low: float, high: float, side: int) -> slice:
    return slice(max(0, math.floor(low)), min(side, math.ceil(high)))


def _middles(low: float, high: float, side: int) -> slice:
    return slice(max(0, math.ceil(low - 0.5)), min(side, math.ceil(high - 0.5)))


def _splat(plane: np.ndarray, row: int, column: int, reach: int) -> None:
    """Draw a Gaussian of peak 1 into one heat map plane, maximum where something is already."""
    sigma = (2 * reach + 1) / 6
    ys = np.arange(max(0, row - reach), min(plane.shape[0], row + reach + 1))
    xs = np.arange(max(0, column - reach), min(plane.shape[1], column + reach + 1))
    squares = (ys[:, None] - row) ** 2 + (xs[None, :] - column) ** 2
    window = plane[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    np.maximum(window, np.exp(-squares / (2 * sigma**2)), out=window)


def focal(logits: Tensor, target: Tensor, care: Tensor) -> Tensor:
    """Penalty-reduced focal loss over (N, C, H, W), divided by the number of centres (at least 1).

    At centres -(1 - p)^2 log p; elsewhere -(1 - t)^4 p^2 log(1 - p); p is held in
    [1e-4, 1 - 1e-4]. care (N, 1, H, W) switches cells off.
    """
    p = torch.sigmoid(logits.float()).clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    centre = (target == 1).to(p.dtype)
    at_centre = centre * (1 - p) ** 2 * torch.log(p)
    elsewhere = (1 - centre) * (1 - target) ** 4 * p**2 * torch.log(1 - p)
    return -(care * (at_centre + elsewhere)).sum() / centre.sum().clamp(min=1)


def centre_l1(maps: Tensor, targets: Targets, wanted: Tensor) -> Tensor:
    """Mean absolute difference of maps (N, 2, H, W) at the K centres from wanted (K, 2)."""
    if wanted.numel() == 0:
        return maps.sum() * 0
    got = maps[targets.image, :, targets.y, targets.x].float()
    return (got - wanted).abs().mean()


def detection_loss(
    hm: Tensor, wh: Tensor, reg: Tensor, targets: Targets
) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum of the three losses, and each one as a number by name."""
    parts = {
        "hm": focal(hm, targets.hm, targets.care),
        "wh": centre_l1(wh, targets, targets.wh),
        "reg": centre_l1(reg, targets, targets.reg),
    }
    total = HM_WEIGHT * parts["hm"] + WH_WEIGHT * parts["wh"] + REG_WEIGHT * parts["reg"]
    return total, {name: float(part.detach()) for name, part in parts.items()}
