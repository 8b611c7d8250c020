# SPDX-License-Identifier: Apache-2.0
"""Straight-through training: interrupted runs, thresholds that are trained, the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hwflow.cli import app
from hwflow.data import samples
from hwflow.errors import ConfigError, DataError
from hwflow.models import dtnn
from hwflow.models.dtnn import DtnnConfig
from hwflow.train_tables import RESUME, Progress, TableTraining, train
from hwflow.training_tables import gradient

SMALL = (1, 8, 8)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    found = samples.load("digits", "train", Path())
    return found.images[:640], found.labels[:640]


class _Stop(Exception):
    pass


@pytest.mark.parametrize(("cfg", "learn"), [
    (DtnnConfig("x", (40, 20), SMALL, inputs=3, bits=(2, 1)), False),
    (DtnnConfig("x", (30, 10), SMALL, inputs=2, bits=(2, 3), node="affine", head="codes"), False),
    (DtnnConfig("x", (30,), SMALL, levels=2), True),
])  # fmt: skip
def test_an_interrupted_run_goes_on(
    digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, cfg: DtnnConfig, learn: bool
) -> None:
    images, labels = digits
    options = TableTraining(epochs=4, batch=64, rate=0.02, threads=1, method="gradient",
                            learn_thresholds=learn)  # fmt: skip
    whole = train(cfg, images, labels, tmp_path / "whole", tmp_path, options)
    steps: list[int] = []

    def stop(now: Progress) -> None:
        if now.step == 2:
            raise _Stop

    with pytest.raises(_Stop):
        train(cfg, images, labels, tmp_path / "part", tmp_path, options, stop)
    assert (tmp_path / "part" / RESUME).is_file()
    found = train(cfg, images, labels, tmp_path / "part", tmp_path, options,
                  lambda now: steps.append(now.step))  # fmt: skip
    assert steps == [3, 4] and not (tmp_path / "part" / RESUME).is_file()
    np.testing.assert_array_equal(found.net.thresholds, whole.net.thresholds)
    for one, other in zip(found.net.layers, whole.net.layers, strict=True):
        np.testing.assert_array_equal(one.wires, other.wires)
        np.testing.assert_array_equal(one.values, other.values)


def test_a_damaged_state_is_refused_and_another_one_left_alone(
    digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    images, labels = digits
    cfg = DtnnConfig("x", (20,), SMALL, inputs=3, node="affine")
    options = TableTraining(epochs=2, batch=64, threads=1)

    def stop(now: Progress) -> None:
        raise _Stop

    with pytest.raises(_Stop):
        train(cfg, images, labels, tmp_path, tmp_path, options, stop)
    path = tmp_path / RESUME
    kept = path.read_bytes()
    path.write_bytes(kept[:500])
    with pytest.raises(DataError, match="cannot be read"):
        train(cfg, images, labels, tmp_path, tmp_path, options)
    path.write_bytes(kept)
    seen: list[int] = []
    other = TableTraining(epochs=2, batch=64, threads=1, seed=1)
    train(cfg, images, labels, tmp_path, tmp_path, other, lambda now: seen.append(now.step))
    assert seen == [1, 2]  # begun anew


def test_thresholds_move_to_where_they_tell(tmp_path: Path) -> None:
    """Two classes parted at 70, and a top bit that says next to nothing of them."""
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 256, (2048, 6, 1, 1), dtype=np.uint8)
    labels = (rows[:, 0, 0, 0] >= 70).astype(np.int64)
    cfg = DtnnConfig("x", (6,), (6, 1, 1), 2)
    accuracy = {}
    for learn in (False, True):
        options = TableTraining(epochs=30, batch=64, rate=0.02, threads=1, method="gradient",
                                learn_thresholds=learn)  # fmt: skip
        found = train(cfg, rows, labels, tmp_path / str(learn), tmp_path, options)
        accuracy[learn] = dtnn.accuracy(found.net, rows, labels)
    # 58 of 256 values lie between 70 and 128
    assert accuracy[False] < 0.8 and accuracy[True] > 0.93
    assert abs(int(found.net.thresholds[0, 0]) - 70) < 16
    assert found.estimate > dtnn.cost(cfg)  # comparisons are no wires any more


@pytest.mark.parametrize("encoder", ["thermometer", "linear"])
def test_learned_thresholds_are_the_simplest_for_the_samples(
    digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, encoder: str
) -> None:
    """Pixels of the digits are 255 and multiples of 16: what is learned between two of these is the
    upper one."""
    images, labels = digits
    assert ((images % 16 == 0) | (images == 255)).all()
    cfg = DtnnConfig("x", (30,), SMALL, levels=3, encoder=encoder)
    options = TableTraining(epochs=3, batch=64, rate=0.02, threads=1, method="gradient",
                            learn_thresholds=True)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient, "simplest", lambda thresholds, *_: thresholds)
        raw = train(cfg, images, labels, tmp_path / "raw", tmp_path, options).net
    net = train(cfg, images, labels, tmp_path / "run", tmp_path, options).net
    assert (raw.thresholds % 16).any()
    assert np.array_equal(dtnn.encode(net, images), dtnn.encode(raw, images))
    luts = [dtnn.encoder_luts(one.thresholds, one.linear).sum() for one in (net, raw)]
    assert luts[0] < luts[1]
    if encoder == "thermometer":
        pixels = images.reshape(640, 64)
        low, high = pixels.min(0)[:, None], np.minimum(240, pixels.max(0))[:, None]
        inside = (net.thresholds > low) & (net.thresholds <= high)
        assert inside.any() and not (net.thresholds[inside] % 16).any()


def test_thresholds_are_learned_by_gradient_alone(
    digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    for cfg, method in ((DtnnConfig("x", (20,), SMALL), "descent"),
                        (DtnnConfig("x", (20,), SMALL, levels=2, precision=4), "gradient")):
        options = TableTraining(learn_thresholds=True, method=method)
        with pytest.raises(ConfigError, match=r"^--learn-thresholds: .* leave it out, or"):
            train(cfg, *digits, tmp_path, tmp_path, options)


@pytest.mark.parametrize("given", [
    ["--learn-thresholds", "--epochs", "1", "--levels", "2"],
    ["--distil", "0.5", "--teachers", "2", "--teacher-epochs", "1", "--lut-weight", "1e-4",
     "--levels", "3", "--precision", "5", "--sweeps", "1", "--epochs", "0"],
])  # fmt: skip
def test_the_command_reaches_every_option(given: list[str], tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["train", "dtnn", "--data", "digits", "--luts", "300",
                                     "--threads", "1", "--cache", str(tmp_path), "--out",
                                     str(tmp_path / "run"), *given])  # fmt: skip
    assert found.exit_code == 0, found.output
    _, meta = dtnn.load_checkpoint(tmp_path / "run" / "dtnn.safetensors")
    options, cfg = meta["options"], meta["config"]
    if "--distil" in given:
        assert (options["distil"], options["teachers"], options["teacher_epochs"],
                options["lut_weight"], cfg["precision"]) == (0.5, 2, 1, 1e-4, 5)  # fmt: skip
    else:
        assert options["learn_thresholds"] and options["method"] == "gradient"
        assert cfg["precision"] == 8
