# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST, 60,000 + 10,000 pictures of clothing, out of one pinned Debian package.

`dataset-fashion-mnist` (MIT) holds the four gzipped IDX files. The package is fetched with
`apt-get download` and read as an archive.
"""

import gzip
import io
import lzma
import tarfile
import zlib
from pathlib import Path

import numpy as np

from hwflow.data.archive import Archive
from hwflow.data.mnist import IMAGES, LABELS, STEMS, read_idx
from hwflow.errors import DataError

ARCHIVE = Archive(
    "fashion", "apt", "dataset-fashion-mnist",
    "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0", 30_900_652,
)
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
           "ankle boot")  # fmt: skip
FOLDER = "./usr/share/datasets/fashion-mnist"
HEADER = 60  # of a member of an `ar` archive: name 16, times and rights 32, size 10, end 2
MOST_BYTES = 1 << 28


def load(split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 1, 28, 28) and labels int64 (N,) of "train" or "test"."""
    if split not in STEMS:
        raise DataError(f"split {split!r}: must be one of {', '.join(STEMS)}")
    path, stem = ARCHIVE.get(cache), STEMS[split]
    try:
        with tarfile.open(fileobj=io.BytesIO(_payload(path.read_bytes())), mode="r:*") as tar:
            images = _member(tar, f"{FOLDER}/{stem}-images-idx3-ubyte.gz")
            labels = _member(tar, f"{FOLDER}/{stem}-labels-idx1-ubyte.gz")
    except (tarfile.TarError, KeyError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ARCHIVE.damaged(path, error) from error
    pixels, classes = read_idx(images, IMAGES), read_idx(labels, LABELS)
    if pixels.shape != (len(classes), 28, 28):
        raise ARCHIVE.damaged(path, f"{pixels.shape} images, {len(classes)} labels")
    return pixels[:, None], classes.astype(np.int64)


def _payload(package: bytes) -> bytes:
    """The member data.tar of a Debian package (an `ar` archive)."""
    at = len(b"!<arch>\n")
    while at + HEADER <= len(package):
        name = package[at : at + 16].decode("latin-1").strip().rstrip("/")
        digits = package[at + 48 : at + 58].strip()
        if not digits.isdigit():
            break
        size = int(digits)
        at += HEADER
        if name.startswith("data.tar"):
            return package[at : at + size]
        at += size + size % 2
    raise KeyError("data.tar")


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    stream = tar.extractfile(name)
    if stream is None:
        raise KeyError(name)
    with gzip.open(stream) as unpacked:
        found = unpacked.read(MOST_BYTES)
    return found
