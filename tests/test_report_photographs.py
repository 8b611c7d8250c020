# SPDX-License-Identifier: Apache-2.0
"""Photographs come back from a run directory as they were saved; damaged ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hwflow import cli
from hwflow.errors import DataError
from hwflow.report import photographs
from tests import reports


def saved(folder: Path, **changes: np.ndarray) -> Path:
    """A run directory with the photographs of two frames, the second one without annotation."""
    found = reports.frames(2)
    held = {"images": np.stack([frame["image"] for frame in found])}
    for n, frame in enumerate(found):
        held |= {f"boxes{n}": frame["boxes"], f"scores{n}": frame["scores"]}
    for name in ("sim", "data"):
        (folder / name).mkdir()
    np.savez(folder / "sim" / "frames.npz", **{**held, **changes})
    return folder


def test_photographs_of_a_run_directory(tmp_path: Path) -> None:
    assert photographs.read(tmp_path) == []
    folder = saved(tmp_path)
    np.savez(folder / "data" / "tiles.npz", boxes=np.ones((3, 4)), counts=np.array([3]))
    first, second = photographs.read(folder)
    for found, frame in zip((first, second), reports.frames(2), strict=True):
        for name in ("image", "boxes", "scores"):
            assert np.array_equal(found[name], frame[name])
    assert np.array_equal(first["truth"], np.ones((3, 4)))
    assert "truth" not in second
    assert all("truth" not in frame for frame in photographs.read(folder, annotated=False))


@pytest.mark.parametrize(("change", "message"), [
    ({"images": np.zeros((2, 3, 8), np.uint8)}, "has no photographs"),
    ({"images": np.zeros((2, 3, 8, 8), np.float32)}, "has no photographs"),
    ({"boxes1": np.zeros((4, 3))}, "boxes1"),
    ({"scores0": np.zeros(3)}, "scores0"),
    ({"scores0": np.full(4, np.nan)}, "scores0"),
    ({"scores1": np.array(["a", "b", "c", "d"])}, "scores1"),
])
def test_damaged_photographs(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        photographs.read(saved(tmp_path, **change))


@pytest.mark.parametrize("counts", [[2], [4, -1], [1.5, 1.5], [[3]]])
def test_damaged_annotation(tmp_path: Path, counts: list) -> None:
    folder = saved(tmp_path)
    np.savez(folder / "data" / "tiles.npz", boxes=np.ones((3, 4)), counts=np.array(counts))
    with pytest.raises(DataError, match=r"tiles\.npz"):
        photographs.read(folder)


def test_pages_made_later_have_the_photographs(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run = saved(tmp_path / "run")
    (run / "report.json").write_text(json.dumps(reports.run()))
    (tmp_path / "other.json").write_text(json.dumps(reports.run(config="c", queued=True)))
    runner = CliRunner()
    for words, photos, text in (
        (("report", run, "--html"), 2, "codenet b on"),
        (("report", tmp_path / "other.json", "--html"), 0, "codenet c on"),
        (("compare", run, tmp_path / "other.json", "--format", "html", "--out"), 2,
         "A: run beside B: other.json"),
    ):
        out = tmp_path / "page.html"
        done = runner.invoke(cli.app, [*map(str, words), str(out)])
        assert done.exit_code == 0, done.output
        page = out.read_text()
        assert page.count("<img ") == photos
        assert text in page
        out.unlink()
