# SPDX-License-Identifier: Apache-2.0
"""The one shape in which every data source hands over its photographs and boxes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scene:
    """One picture of any size with its boxes; training takes random crops out of it.

    image: uint8 (3, H, W), RGB. boxes: float64 (K, 4), x0 y0 x1 y1 in pixels, continuous (a box
    over the first pixel only is 0 0 1 1). labels: int64 (K,). difficult: bool (K,); such boxes
    count neither as found nor as missed.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """One split of a data source at one input size.

    images: uint8 (N, 3, size, size), RGB. boxes, labels, difficult: one array an image, as in
    Scene. source, sha256, bytes: where the raw data came from, its checksum and its length.
    scenes: what training crops from, where that is more than the images themselves.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    source: str
    sha256: str
    bytes: int
    images: np.ndarray
    boxes: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    difficult: tuple[np.ndarray, ...]
    scenes: tuple[Scene, ...] = ()

    @property
    def size(self) -> int:
        """Side length of the images in pixels."""
        return int(self.images.shape[-1])

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def crops_from(self) -> tuple[Scene, ...]:
        """The scenes training draws from: the whole pictures if there are any, else the images."""
        if self.scenes:
            return self.scenes
        parts = zip(self.images, self.boxes, self.labels, self.difficult, strict=True)
        return tuple(Scene(*part) for part in parts)
