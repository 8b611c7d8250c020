# SPDX-License-Identifier: Apache-2.0
"""Networks that the engine runs for 16 images at a time: images in, the network's outputs out.

What stands where is in the program's host.npz (hwflow/passes/engine_host.py writes it): a word of
16 bytes holds one value of each image, and an output is an offset plus some words times their
factors. numpy only, runs on a board.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .accelerator import Accelerator, DriverError

LANES = 16


class Batch:
    """Host side of one such program. Raises DriverError when host.npz is not whole."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        try:
            self.shape = tuple(int(n) for n in arrays["input.shape"])
            self.map = tuple(int(n) for n in arrays["input.map"])
            self.names = tuple(str(n) for n in arrays["names"])
            self.output_bytes = int(arrays["output.bytes"])
            self._where, self._low = arrays["input.where"], int(arrays["input.low"])
            self._parts = {
                name: {role: arrays[f"{name}.{role}"] for role in
                       ("at", "factor", "offset", "best", "order", "shape")}
                for name in self.names
            }  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise DriverError(
                f"host.npz is not one of a program ({error!r}); copy it with its program.bin"
            ) from error

    @classmethod
    def load(cls, path: Path) -> Batch:
        """From a file. Raises DriverError when it is no .npz or lacks something."""
        try:
            with np.load(path, allow_pickle=False) as held:
                return cls({name: held[name] for name in held.files})
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DriverError(f"{path} cannot be read: {error}; copy it again") from error

    def pack(self, images: np.ndarray) -> np.ndarray:
        """1 to 16 images, integers (N, C, H, W), as the picture of one frame, uint8 (P, 16, C)."""
        if not 1 <= len(images) <= LANES or images.shape[1:] != self.shape:
            raise DriverError(
                f"images {images.shape}: one frame takes 1 to {LANES} of {self.shape}"
            )
        values = images.reshape(len(images), -1).astype(np.int64) - self._low
        if values.min() < 0 or values.max() > 255:
            raise DriverError(f"values {images.min()}..{images.max()} are not those of the input")
        words = np.zeros((self.map[0] * self.map[1], LANES), np.uint8)
        words[self._where, : len(images)] = values.T
        return words.reshape(self.map).transpose(1, 2, 0)

    def unpack(self, output: np.ndarray, count: int) -> dict[str, np.ndarray]:
        """int64 (count, *shape) of each output of the network, from the output region, uint8."""
        words = output[: self.output_bytes].reshape(-1, LANES)[:, :count].astype(np.int64)
        held = np.concatenate([words, np.zeros((1, count), np.int64)])
        found = {}
        for name, part in self._parts.items():
            values = (held[part["at"]] * part["factor"][..., None]).sum(axis=0)
            values = values + part["offset"][..., None]
            best = int(part["best"])
            if best:  # the first or the last of the greatest, along the channels
                flipped = values if best == 1 else values[::-1]
                place = flipped.argmax(axis=0)
                values = (place if best == 1 else len(values) - 1 - place)[None]
            flat = values.reshape(-1, count)[part["order"]]
            found[name] = flat.T.reshape(count, *(int(n) for n in part["shape"]))
        return found

    def run(self, accelerator: Accelerator, images: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs of any number of images, (N, *shape) each."""
        made = []
        for first in range(0, len(images), LANES):
            some = images[first : first + LANES]
            accelerator.run(self.pack(some))
            made.append(self.unpack(accelerator.output(self.output_bytes), len(some)))
        return {name: np.concatenate([one[name] for one in made]) for name in self.names}
