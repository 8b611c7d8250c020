# SPDX-License-Identifier: Apache-2.0
"""Arrays from archives: what numpy wrote comes back, anything else is one clear error."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hwflow import arrays
from hwflow.errors import DataError


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_wrote_comes_back(save, tmp_path: Path) -> None:  # noqa: ANN001
    rng = np.random.default_rng(0)
    there = {
        "a": rng.integers(0, 256, (3, 4, 5), np.uint8), "b": np.asfortranarray(rng.random((6, 7))),
        "c": np.array(7), "d": np.empty((0, 3), np.float32), "e": np.array(["x", "yz"]),
        "f": np.arange(5, dtype=">i4"), "g": rng.random((70, 90, 3)) < 0.5,
    }
    save(tmp_path / "x.npz", **there)
    found = arrays.read(tmp_path / "x.npz")
    assert list(found) == list(there)
    for name, array in there.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
        found[name][...] = found[name]  # writable
    assert list(arrays.read(tmp_path / "x.npz", ("g", "c"))) == ["g", "c"]


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros(100))
    with pytest.raises(DataError, match=r"x\.npz: has no array 'b' \(it has: a\)"):
        arrays.read(path, ("b",))
    with pytest.raises(DataError, match="928 bytes, at most 900 are read"):
        arrays.read(path, most_bytes=900)
    with pytest.raises(DataError, match="no such file"):
        arrays.read(tmp_path / "none.npz")
    np.savez_compressed(path, a=np.zeros(1000))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") - 4] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"not a whole \.npz file"):
        arrays.read(path)


def test_a_header_cannot_ask_for_memory_that_is_not_there(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846976,), }"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        size = len(header).to_bytes(2, "little")
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + size + header + bytes(800))
    with pytest.raises(DataError, match="but has 800 bytes"):
        arrays.read(tmp_path / "x.npz")


def test_damage_in_an_archive_packed_by_lzma(tmp_path: Path) -> None:
    """numpy never packs so, other programs do."""
    whole, path = io.BytesIO(), tmp_path / "x.npz"
    array = io.BytesIO()
    np.save(array, np.arange(200))
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", array.getvalue())
    path.write_bytes(whole.getvalue())
    assert np.array_equal(arrays.read(path)["x"], np.arange(200))
    failed = 0
    for place in range(len(whole.getvalue())):
        body = bytearray(whole.getvalue())
        body[place] ^= 0xFF
        path.write_bytes(body)
        try:
            arrays.read(path)
        except DataError:
            failed += 1
    assert failed > 100
