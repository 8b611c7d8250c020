# SPDX-License-Identifier: Apache-2.0
"""Distorted copies of the samples, and their targets: the same draws for the same seed and step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from hwflow.training_tables.kernels import NumpyKernels
from hwflow.training_tables.loops import BLOCK
from hwflow.training_tables.options import TableTraining
from hwflow.training_tables.run import COPY
from hwflow.training_tables.warps import default_warp

MIDDLE = (0.16, 0.84)  # one deviation to either side

Teacher = Callable[[np.ndarray], np.ndarray]


class Copies:
    """Of samples uint8 (N, C, H, W) with labels int64 (N,), as the options say; a teacher's
    probabilities may stand in for a part of the labels."""

    def __init__(
        self, kernels: NumpyKernels, images: np.ndarray, labels: np.ndarray, classes: int,
        options: TableTraining, teacher: Teacher | None = None,
    ) -> None:  # fmt: skip
        self.kernels, self.labels, self.classes = kernels, labels, classes
        self.images = np.ascontiguousarray(images)
        self.options, self.teacher = options, teacher
        self.warp = options.warp or default_warp(images.shape[1:])
        if options.noise:
            low, high = np.quantile(self.images, MIDDLE, axis=0)
            self.noise = (options.noise * (high - low)).astype(np.float32)

    def draw(self, step: int, times: float) -> tuple[np.ndarray, np.ndarray]:
        """So many times the samples, shuffled: images uint8 (n, C, H, W) and targets float32
        (classes, n); n is a multiple of BLOCK."""
        rng = self._random(step)
        count = len(self.images)
        order = np.concatenate([rng.permutation(count) for _ in range(math.ceil(times))])
        wanted = min(len(order), max(BLOCK, round(times * count)))
        return self._copied(order[: wanted // BLOCK * BLOCK], rng)

    def blocks(
        self, step: int, count: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same, BLOCK samples at a time: all samples once, or so many blocks."""
        rng = self._random(step)
        order = rng.permutation(len(self.images))
        for block in range(len(order) // BLOCK if count is None else count):
            places = np.arange(block * BLOCK, (block + 1) * BLOCK)
            yield self._copied(order.take(places, mode="wrap"), rng)

    def _random(self, step: int) -> np.random.Generator:
        return np.random.default_rng([self.options.seed, COPY, step])

    def _copied(
        self, picked: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the samples `picked` and their targets."""
        options = self.options
        made = self.images[picked]
        if self.warp.share > 0:
            seed = int(rng.integers(1 << 60))
            made = self.kernels.augment(self.images, picked, self.warp, seed)
        if options.noise:
            moved = made + self.noise * rng.standard_normal(made.shape, np.float32)
            made = np.clip(np.rint(moved), 0, 255).astype(np.uint8)
        if options.jitter:
            made = _moved(made, options.jitter, rng)
        if options.flip:
            turned = rng.random(len(made)) < 0.5
            made[turned] = made[turned, :, :, ::-1]
        q: np.ndarray = np.zeros((self.classes, len(picked)), np.float32)
        q[self.labels[picked], np.arange(len(picked))] = 1
        if self.teacher is not None:
            weight = np.float32(options.distil)
            q = (1 - weight) * q + weight * self.teacher(made).T
        return made, np.ascontiguousarray(q, np.float32)


def _moved(images: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Each image moved by whole pixels, at most so many, its edges reflected."""
    framed = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)), mode="reflect")
    views = np.lib.stride_tricks.sliding_window_view(framed, images.shape[2:], (2, 3))
    down, across = rng.integers(0, 2 * most + 1, (2, len(images)))
    made: np.ndarray = views[np.arange(len(images)), :, down, across]
    return made
