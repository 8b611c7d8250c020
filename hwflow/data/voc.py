# SPDX-License-Identifier: Apache-2.0
"""Reader for any folder in the Pascal VOC layout, and its letterbox to the square input."""

import hashlib
import logging
import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from PIL import Image

from hwflow import pictures
from hwflow.data.dataset import Dataset
from hwflow.errors import DataError

LOG = logging.getLogger(__name__)

# The challenge's own order of classes, so that a label number means the same everywhere.
VOC20 = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
SPLIT_FILES = {"train": ("trainval", "train"), "test": ("test",)}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
IN_MEMORY_BYTES = 2**31


@dataclass(frozen=True)
class Annotation:
    """The objects of one XML file. boxes: float64 (K, 4) as written; difficult: bool (K,)."""

    filename: str
    boxes: np.ndarray
    names: tuple[str, ...]
    difficult: np.ndarray


def parse_annotation(xml: bytes, name: str) -> Annotation:
    """Read one annotation; name is the file for messages. Raises DataError on anything malformed.

    Coordinates stay as written (the challenge counts pixels from 1, both ends included).
    """
    try:
        root: Element = fromstring(xml)
    except (ParseError, DefusedXmlException) as error:
        raise DataError(
            f"{name}: not a readable annotation ({error}); restore the file from its archive"
        ) from error
    boxes, names, difficult = [], [], []
    for index, item in enumerate(root.iter("object")):
        try:
            box = [float(_text(item, f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
            hard = int(item.findtext("difficult", "0")) != 0
            label = _text(item, "name").strip()
        except ValueError as error:
            raise DataError(
                f"{name}: object {index}: {error}; an object needs name, bndbox/xmin, ymin, xmax, "
                "ymax as numbers, and difficult (if given) as 0 or 1"
            ) from error
        if not all(math.isfinite(value) for value in box):
            raise DataError(f"{name}: object {index}: a coordinate is not finite; correct the file")
        boxes.append(box)
        names.append(label)
        difficult.append(hard)
    return Annotation(
        root.findtext("filename", "").strip(),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        tuple(names),
        np.array(difficult, dtype=bool),
    )


def _text(item: Element, path: str) -> str:
    text = item.findtext(path)
    if text is None:
        raise ValueError(f"{path} is missing")
    return text


def clip_boxes(boxes: np.ndarray, width: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Clip (K, 4) boxes to the picture; also a bool (K,) of those that still have an area."""
    clipped = np.empty_like(boxes)
    clipped[:, 0::2] = np.clip(boxes[:, 0::2], 0, width)
    clipped[:, 1::2] = np.clip(boxes[:, 1::2], 0, height)
    solid = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    return clipped, solid


def decode_image(data: bytes, name: str) -> Image.Image:
    """Decode a photograph to RGB; DataError names the file if it is damaged or truncated."""
    return pictures.decode(data, name)


def letterbox(image: Image.Image, size: int) -> tuple[np.ndarray, float, float, float]:
    """Scale so that the longer side is size, centre on black; uint8 (3, size, size).

    Also the factor and the offsets in x and y: a point p of the photograph lies at
    p * factor + offset.
    """
    factor = size / max(image.size)
    width = max(1, round(image.width * factor))
    height = max(1, round(image.height * factor))
    left, top = (size - width) // 2, (size - height) // 2
    square = Image.new("RGB", (size, size))
    square.paste(image.resize((width, height), Image.Resampling.BILINEAR), (left, top))
    pixels = np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))
    return pixels, factor, float(left), float(top)


def find_roots(path: Path) -> tuple[Path, ...]:
    """Folders that hold Annotations: path itself, its VOC* children, or those of its VOCdevkit."""
    if not path.is_dir():
        raise DataError(f"voc:{path}: no such folder; give the folder that holds Annotations")
    for base in (path, path / "VOCdevkit"):
        if (base / "Annotations").is_dir():
            return (base,)
        roots = tuple(
            child for child in sorted(base.glob("VOC*")) if (child / "Annotations").is_dir()
        )
        if roots:
            return roots
    raise DataError(
        f"voc:{path}: no Annotations folder in it, in VOC* or in VOCdevkit/VOC* below it; "
        "give the folder that holds Annotations, JPEGImages and ImageSets"
    )


def split_ids(roots: Iterable[Path], split: str) -> list[tuple[Path, str]]:
    """(root, image id) of a split: ImageSets/Main/trainval.txt (or train.txt), or test.txt."""
    found: list[tuple[Path, str]] = []
    roots = tuple(roots)
    for root in roots:
        files = [root / "ImageSets" / "Main" / f"{name}.txt" for name in SPLIT_FILES[split]]
        present = [file for file in files if file.is_file()]
        if not present:
            LOG.warning("%s has no list of the %s split and is left out of it", root, split)
            continue
        found += [(root, image_id) for image_id in _ids(present[0])]
    if not found:
        wanted = " or ".join(f"ImageSets/Main/{name}.txt" for name in SPLIT_FILES[split])
        raise DataError(
            f"voc: the {split} split is empty: {', '.join(map(str, roots))} need {wanted} "
            "with one image id a line"
        )
    return found


def _ids(file: Path) -> list[str]:
    """The image ids of a list, each the name of a file and nothing more."""
    try:
        lines = _read(file).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not UTF-8 text; write one image id a line") from error
    ids = [line.split()[0] for line in lines if line.strip()]
    for image_id in ids:
        if not image_id.isprintable() or set(image_id) & set("/\\:") or image_id in (".", ".."):
            raise DataError(
                f"{file}: {image_id!r} is not an image id; give names of files in JPEGImages, "
                "without folder and ending"
            )
    return ids


def load(path: Path, split: str, size: int) -> Dataset:
    """Read one split of a VOC-layout folder; images letterboxed to size.

    Classes are the challenge's twenty if every name is one of them, else all names found in the
    folder, sorted. Boxes that leave the picture are clipped, those without area are dropped; both
    are counted in the log. The checksum covers the ids, XML files and photographs of the split.
    """
    roots = find_roots(path)
    ids = split_ids(roots, split)
    classes = _classes(roots)
    index = {name: i for i, name in enumerate(classes)}
    images = _allocate((len(ids), 3, size, size))
    digest, total, clipped_count, dropped = hashlib.sha256(), 0, 0, 0
    boxes, labels, difficult = [], [], []
    for number, (root, image_id) in enumerate(ids):
        xml_file = root / "Annotations" / f"{image_id}.xml"
        xml = _read(xml_file)
        annotation = parse_annotation(xml, str(xml_file))
        image_file = _image_file(root, image_id, annotation.filename)
        data = _read(image_file)
        for part in (image_id.encode(), xml, data):
            digest.update(len(part).to_bytes(8, "little") + part)
        total += len(xml) + len(data)
        image = decode_image(data, str(image_file))
        images[number], factor, left, top = letterbox(image, size)
        # Pixel 1 is the first one and both ends belong to the box.
        continuous = annotation.boxes - np.array([1.0, 1.0, 0.0, 0.0])
        kept, solid = clip_boxes(continuous, *image.size)
        dropped += int((~solid).sum())
        clipped_count += int((solid & (kept != continuous).any(axis=1)).sum())
        boxes.append(kept[solid] * factor + np.array([left, top, left, top]))
        names = np.array([index[name] for name in annotation.names], dtype=np.int64)
        labels.append(names[solid])
        difficult.append(annotation.difficult[solid])
    if clipped_count or dropped:
        LOG.warning(
            "%s, %s: %d boxes clipped to the picture, %d without area dropped",
            path, split, clipped_count, dropped,
        )  # fmt: skip
    return Dataset(
        name=f"voc:{path}", split=split, classes=classes, source=str(path.resolve()),
        sha256=digest.hexdigest(), bytes=total, images=images, boxes=tuple(boxes),
        labels=tuple(labels), difficult=tuple(difficult),
    )  # fmt: skip


def _classes(roots: tuple[Path, ...]) -> tuple[str, ...]:
    names: set[str] = set()
    for root in roots:
        for file in sorted((root / "Annotations").glob("*.xml")):
            names.update(parse_annotation(_read(file), str(file)).names)
    if not names:
        raise DataError(f"voc: no object in any annotation of {', '.join(map(str, roots))}")
    return VOC20 if names <= set(VOC20) else tuple(sorted(names))


def _image_file(root: Path, image_id: str, filename: str) -> Path:
    folder = root / "JPEGImages"
    names = [f"{image_id}{suffix}" for suffix in IMAGE_SUFFIXES]
    if filename and Path(filename).name == filename:
        names.append(filename)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"{folder / image_id}: the photograph of a listed id is missing (looked for "
        f"{', '.join(names)}); restore it or take the id out of ImageSets/Main"
    )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); restore the file") from error


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
    """An uint8 array; in an unnamed temporary file if it is too large to hold in memory."""
    if math.prod(shape) <= IN_MEMORY_BYTES:
        return np.empty(shape, dtype=np.uint8)
    with tempfile.TemporaryFile() as file:  # the mapping keeps the unlinked file alive
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
