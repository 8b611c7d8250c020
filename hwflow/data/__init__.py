# SPDX-License-Identifier: Apache-2.0
"""Photographs with boxes: `trees` (default), `voc:PATH`, `digits[:SCENES]`.

Data with one class a sample is read by `hwflow.data.samples`; `get` fetches it, too.
"""

from pathlib import Path

from hwflow.data import digits, samples, trees, voc
from hwflow.data.dataset import Dataset, Scene
from hwflow.errors import DataError
from hwflow.resources import default_cache

__all__ = ["SPLITS", "Dataset", "Scene", "default_cache", "get", "load"]

SPLITS = ("train", "test")


def get(spec: str, cache: Path | None = None) -> Path | None:
    """Make the raw data of a source present and checked; its path, or None if it is generated."""
    kind = spec.partition(":")[0]
    if kind in samples.ARCHIVES:
        archive = samples.ARCHIVES[kind]
        if spec != kind:
            samples.check(spec)
        return archive.get(cache or default_cache())
    kind, path = _parse(spec)
    if kind == "trees":
        return trees.ARCHIVE.get(cache or default_cache())
    return Path(path) if kind == "voc" else None


def load(spec: str, split: str, size: int, cache: Path | None = None) -> Dataset:
    """Read one split of a source at one input size in pixels (a multiple of 32).

    Raises DataError if the source is unknown, cannot be had or is damaged; no other source ever
    takes its place.
    """
    if spec.partition(":")[0] in (*samples.ARCHIVES, "csv"):
        raise DataError(
            f"{spec} has no boxes, a detector cannot use it; use trees, voc:PATH, digits"
        )
    kind, argument = _parse(spec)
    if split not in SPLITS:
        raise DataError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
    if size <= 0 or size % 32:
        raise DataError(f"size {size}: the network's input must be a positive multiple of 32")
    if kind == "trees":
        return trees.load(split, size, cache or default_cache())
    if kind == "voc":
        return voc.load(Path(argument), split, size)
    return digits.load(split, size, int(argument) if argument else None)


def _parse(spec: str) -> tuple[str, str]:
    kind, colon, argument = spec.partition(":")
    known = {
        "trees": not colon,
        "voc": bool(argument),
        "digits": not colon or argument.isdecimal(),
    }
    if not known.get(kind, False):
        raise DataError(
            f"data {spec!r}: unknown source; use trees, voc:PATH (a folder in the Pascal VOC "
            "layout) or digits[:SCENES]"
        )
    return kind, argument
