# SPDX-License-Identifier: Apache-2.0
"""Generated scenes of handwritten digits: real small scans on a generated ground, no download.

The 8x8 scans come with scikit-learn. Integer arithmetic only, so that a seed gives the same bytes
on every machine.
"""

import hashlib

import numpy as np
from sklearn.datasets import load_digits

from hwflow.data.dataset import Dataset
from hwflow.errors import DataError

CLASSES = tuple("0123456789")
DEFAULT_SCENES = {"train": 256, "test": 64}
TRAIN_SCANS = 1400  # of 1,797; the rest are shown in test scenes only
MAX_DIGITS = 6
PLACING_TRIES = 20


def load(split: str, size: int, scenes: int | None = None, seed: int = 0) -> Dataset:
    """Scenes of 1 to 6 digits of 10 classes, 16 to size/2 pixels tall, that do not overlap."""
    if size < 32:
        raise DataError(f"digits: size {size} is too small; scenes need at least 32 pixels")
    scans = load_digits()
    pool = slice(0, TRAIN_SCANS) if split == "train" else slice(TRAIN_SCANS, None)
    glyphs = scans.images[pool].astype(np.int64)
    names = scans.target[pool].astype(np.int64)
    count = DEFAULT_SCENES[split] if scenes is None else scenes
    if count < 1:
        raise DataError(f"digits:{count}: at least one scene is needed")
    rng = np.random.default_rng([seed, 0 if split == "train" else 1, size])
    made = [_scene(rng, glyphs, names, size) for _ in range(count)]
    images = np.stack([image for image, _, _ in made])
    return Dataset(
        name="digits", split=split, classes=CLASSES,
        source=f"scikit-learn load_digits, generated with seed {seed}",
        sha256=hashlib.sha256(images.tobytes()).hexdigest(), bytes=images.nbytes, images=images,
        boxes=tuple(boxes for _, boxes, _ in made), labels=tuple(labels for _, _, labels in made),
        difficult=tuple(np.zeros(len(labels), dtype=bool) for _, _, labels in made),
    )  # fmt: skip


def _scene(
    rng: np.random.Generator, glyphs: np.ndarray, names: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ground = rng.integers(0, 96, size=3)
    image = ground[:, None, None] + rng.integers(0, 24, size=(3, size, size))
    taken = np.zeros((size, size), dtype=bool)
    boxes, labels = [], []
    for _ in range(int(rng.integers(1, MAX_DIGITS + 1))):
        which = int(rng.integers(len(glyphs)))
        glyph = np.kron(glyphs[which], np.ones((_zoom(rng, size),) * 2, dtype=np.int64))
        side = len(glyph)
        ink = rng.integers(96, 256, size=3)
        for _ in range(PLACING_TRIES):
            top, left = (int(v) for v in rng.integers(0, size - side + 1, size=2))
            spot = np.s_[top : top + side, left : left + side]
            if not taken[spot].any():
                break
        else:
            continue
        taken[spot] = True
        patch = image[:, *spot]
        image[:, *spot] = patch + (ink[:, None, None] - patch) * glyph // 16
        ys, xs = np.nonzero(glyph)
        boxes.append([left + xs.min(), top + ys.min(), left + xs.max() + 1, top + ys.max() + 1])
        labels.append(names[which])
    return (
        image.astype(np.uint8),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
    )


def _zoom(rng: np.random.Generator, size: int) -> int:
    return int(rng.integers(2, max(3, size // 16 + 1)))
