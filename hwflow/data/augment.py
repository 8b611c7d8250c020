# SPDX-License-Identifier: Apache-2.0
"""Random square crops of scenes: place, scale, mirror, quarter turns, colour. All from one seed."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hwflow.data.dataset import Scene
from hwflow.data.voc import clip_boxes

MIN_SIDE_PX = 4  # smaller remains of a box are not worth a target
KEEP_VISIBLE = 0.5  # of the area; a box cut off further is ignored, not taught
AIMED = 0.8  # share of crops that are placed around some box


@dataclass(frozen=True)
class Augment:
    """What may happen to a crop besides its place and scale.

    symmetries: 1 none, 2 mirror left to right, 8 also top to bottom and quarter turns (legal for
    pictures taken from above). colour: largest relative change of brightness, contrast, saturation.
    tint: the same of each channel by itself.
    """

    symmetries: int = 8
    colour: float = 0.4
    tint: float = 0.1


def sample_crop(
    scenes: tuple[Scene, ...],
    size: int,
    scale: tuple[float, float],
    augment: Augment,
    rng: np.random.Generator,
) -> Scene:
    """One size x size crop of a random scene, magnified by a log-uniform factor within scale.

    Boxes that are mostly cut off, or too small by then, come out difficult.
    """
    scene = scenes[int(rng.integers(len(scenes)))]
    magnify = math.exp(rng.uniform(*np.log(scale)))
    window = size / magnify
    left, top = _place(scene, window, rng)
    pixels = _cut(scene.image, left, top, window, size)
    boxes = (scene.boxes - np.array([left, top, left, top])) * magnify
    clipped, solid = clip_boxes(boxes, size, size)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    visible = (clipped[:, 2:] - clipped[:, :2]).clip(0).prod(axis=1) / area
    hard = scene.difficult | (visible < KEEP_VISIBLE)
    hard |= (clipped[:, 2:] - clipped[:, :2]).min(axis=1, initial=np.inf) < MIN_SIDE_PX
    pixels, clipped = _turn(pixels, clipped, int(rng.integers(augment.symmetries)))
    pixels = _recolour(pixels, augment, rng)
    return Scene(pixels, clipped[solid], scene.labels[solid], hard[solid])


def _place(scene: Scene, window: float, rng: np.random.Generator) -> tuple[float, float]:
    """The upper left corner of the window; inside the picture where the picture is large enough."""
    _, height, width = scene.image.shape
    aim = len(scene.boxes) > 0 and rng.random() < AIMED
    box = scene.boxes[int(rng.integers(len(scene.boxes)))] if aim else None
    corner = []
    for axis, length in ((0, width), (1, height)):
        low, high = min(0.0, length - window), max(0.0, length - window)
        if box is not None:
            centre = (box[axis] + box[axis + 2]) / 2
            value = centre - rng.uniform(0.1, 0.9) * window
            corner.append(float(np.clip(value, low, high)))
        else:
            corner.append(float(rng.uniform(low, high)))
    return corner[0], corner[1]


def _cut(image: np.ndarray, left: float, top: float, window: float, size: int) -> np.ndarray:
    """Resample a window of the picture to size x size, black outside; uint8 (3, size, size)."""
    _, height, width = image.shape
    x0, y0 = math.floor(left), math.floor(top)
    x1, y1 = math.ceil(left + window), math.ceil(top + window)
    part = np.zeros((y1 - y0, x1 - x0, 3), dtype=np.uint8)
    sy = slice(max(0, y0), min(height, y1))
    sx = slice(max(0, x0), min(width, x1))
    part[sy.start - y0 : sy.stop - y0, sx.start - x0 : sx.stop - x0] = image[:, sy, sx].transpose(
        1, 2, 0
    )
    box = (left - x0, top - y0, left - x0 + window, top - y0 + window)
    cut = Image.fromarray(part).resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(cut).transpose(2, 0, 1)


def _turn(pixels: np.ndarray, boxes: np.ndarray, which: int) -> tuple[np.ndarray, np.ndarray]:
    """One of the eight symmetries of the square: bit 0 mirrors x, bit 1 mirrors y, bit 2 swaps."""
    size = pixels.shape[-1]
    x0, y0, x1, y1 = boxes.T
    if which & 1:
        pixels, x0, x1 = pixels[:, :, ::-1], size - x1, size - x0
    if which & 2:
        pixels, y0, y1 = pixels[:, ::-1], size - y1, size - y0
    if which & 4:
        pixels, x0, y0, x1, y1 = pixels.transpose(0, 2, 1), y0, x0, y1, x1
    return np.ascontiguousarray(pixels), np.stack([x0, y0, x1, y1], axis=1)


def _recolour(pixels: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation and each channel by factors of 1 - limit to 1 + limit."""
    brightness, contrast, saturation = 1 + rng.uniform(-augment.colour, augment.colour, size=3)
    tint = 1 + rng.uniform(-augment.tint, augment.tint, size=3)
    if augment.colour == 0 and augment.tint == 0:
        return pixels
    values = pixels * (tint * brightness).astype(np.float32)[:, None, None]
    grey = np.tensordot(np.array([0.299, 0.587, 0.114], dtype=np.float32), values, axes=1)
    values = grey + (values - grey) * np.float32(saturation)
    values = grey.mean() + (values - grey.mean()) * np.float32(contrast)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
