# SPDX-License-Identifier: Apache-2.0
"""Training of lookup tables on rows of a table: thresholds, noise, teachers, sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hwflow.data import samples
from hwflow.errors import ConfigError
from hwflow.models import dtnn
from hwflow.models.dtnn import Conv, DtnnConfig, Window
from hwflow.train_tables import TableTraining, recipe, sized, train
from hwflow.training_tables import teachers
from hwflow.training_tables.copies import Copies
from hwflow.training_tables.encoders import Encoder, encoder_of
from hwflow.training_tables.kernels import NumpyKernels

SMALL = (1, 8, 8)


def test_thresholds_are_as_simple_as_the_samples_allow() -> None:
    rng = np.random.default_rng(0)
    values = np.zeros((2000, 3, 1, 1), np.uint8)
    values[:, 0, 0, 0] = 16 * rng.integers(0, 16, 2000)  # nothing between multiples of 16
    values[:, 1, 0, 0] = rng.integers(0, 256, 2000)
    values[:, 2, 0, 0] = rng.integers(100, 110, 2000)
    cfg = DtnnConfig("x", (20,), (3, 1, 1), levels=5)
    found = encoder_of(cfg, values).thresholds
    assert (found[0] % 16 == 0).all() and (found[1] % 16 != 0).any()
    exact = np.ceil(np.quantile(values[:, 0], np.arange(1, 6) / 6))
    for at, simple in zip(exact, found[0], strict=True):
        assert ((values[:, 0] >= at) == (values[:, 0] >= simple)).all()
    for precision in (1, 4, 6):
        coarse = encoder_of(dataclasses.replace(cfg, precision=precision), values).thresholds
        step = 2 ** (8 - precision)
        assert (coarse % step == 0).all() and coarse.min() >= step and coarse.max() < 256
    with pytest.raises(ConfigError, match="1 to 8"):
        DtnnConfig("x", (20,), (3, 1, 1), levels=5, precision=9)


def test_noise_moves_elements_as_far_as_they_spread() -> None:
    rng = np.random.default_rng(0)
    images = np.stack([rng.normal(100, 20, 6400), np.full(6400, 60)], 1).clip(0, 255)
    images = images.astype(np.uint8)[:, :, None, None]
    thresholds = np.arange(1, 256)[None].repeat(2, 0)

    def drawn(noise: float) -> np.ndarray:
        options = TableTraining(noise=noise)
        made, _ = Copies(NumpyKernels(), images, np.zeros(6400, int), 2, options).draw(0, 1.0)
        bits = Encoder(thresholds).columns(made)
        assert np.array_equal(bits.reshape(255, 2, -1).sum(0), made.reshape(-1, 2).T)
        return made.reshape(-1, 2).T

    still, moved = drawn(0.0), drawn(0.5)
    assert np.array_equal(still[1], moved[1])  # what never changes has no spread
    # 20 is the deviation, 40 the middle two thirds, half of that the noise
    assert abs((moved[0].astype(int) - still[0]).std() - 20) < 1


def test_a_teacher_evens_out_the_elements_of_a_row() -> None:
    """A class that one element of tiny spread decides, beside one of large spread."""
    rng = np.random.default_rng(1)
    rows = np.stack([rng.integers(0, 256, 3000), rng.integers(100, 104, 3000)], 1).astype(np.uint8)
    labels = (rows[:, 1] >= 102).astype(np.int64)
    images = rows[:, :, None, None]
    options = TableTraining(distil=1.0, teachers=2, teacher_epochs=4, threads=1)
    ask = teachers.teacher(images, labels, 2, options)
    found = ask(images)
    assert found.shape == (3000, 2) and np.allclose(found.sum(1), 1, atol=1e-5)
    assert (found.argmax(1) == labels).mean() > 0.98
    alone = teachers.teacher(images, labels, 2, dataclasses.replace(options, teachers=1))(images)
    assert not np.allclose(alone, found, atol=1e-4)  # the second one has a seed of its own


def test_options_of_another_road_are_refused() -> None:
    torch = dataclasses.replace(DtnnConfig("x", (20,), SMALL), node="affine")
    with pytest.raises(ConfigError, match=r"^--sweeps: means nothing for networks"):
        recipe(torch, {"sweeps": 3, "lut_weight": 0.1})
    windows = DtnnConfig("x", (20,), (1, 8, 8), convs=(Conv(4, Window(3)),))
    with pytest.raises(ConfigError, match=r"^--sweeps: means nothing for convolutional"):
        recipe(windows, {"sweeps": 3, "noise": 0.1, "epochs": 3})
    assert recipe(windows, {"distil": 0.3}).distil == 0.3
    assert recipe(DtnnConfig("x", (20,), SMALL), {"sweeps": 3}).sweeps == 3
    for cfg in (torch, windows, DtnnConfig("x", (20,), SMALL)):
        assert recipe(cfg, {"lut_weight": 0.1}).lut_weight == 0.1
        with pytest.raises(ConfigError, match=r"^--lut-weight: .* random ones stay"):
            recipe(dataclasses.replace(cfg, wiring="random"), {"lut_weight": 0.1})


def test_rows_of_a_table_have_a_recipe_of_their_own(tmp_path: Path) -> None:
    cfg = DtnnConfig("x", (20,), (4, 1, 1), 2, levels=3)
    assert recipe(cfg, {}).distil == 1 and recipe(cfg, {"distil": 0.0}).distil == 0
    assert recipe(DtnnConfig("x", (20,), SMALL), {}) == TableTraining()
    assert recipe(dataclasses.replace(cfg, node="affine"), {}) == TableTraining()
    # rows that come class by class: both are in what is held back
    rows = np.zeros((640, 4, 1, 1), np.uint8)
    rows[320:] = 200
    rows += np.random.default_rng(0).integers(0, 50, rows.shape, dtype=np.uint8)
    labels = np.arange(640) // 320
    options = recipe(cfg, {"validation": 0.3, "teacher_epochs": 20, "sweeps": 3, "epochs": 2,
                           "batch": 64, "threads": 1})  # fmt: skip
    found = train(cfg, rows, labels, tmp_path / "run", tmp_path, options)
    assert found.validation_accuracy is not None and found.validation_accuracy > 0.95


def test_what_training_says_of_its_size_keeps_the_budget(tmp_path: Path) -> None:
    data = samples.load("digits", "train", tmp_path)
    cfg = sized(400, DtnnConfig("x", (10,), SMALL, levels=3), data.images)
    quick = TableTraining(sweeps=1, epochs=0, batch=64, threads=1)
    found = train(cfg, data.images, data.labels, tmp_path / "run", tmp_path, quick)
    assert 360 <= found.estimate <= 400


def test_the_size_of_a_budget_follows_the_samples() -> None:
    rows = np.zeros((500, 12, 1, 1), np.uint8)
    rows[:, :3] = np.random.default_rng(0).integers(0, 256, (500, 3, 1, 1), dtype=np.uint8)
    cfg = DtnnConfig("x", (2,), (12, 1, 1), 2, levels=9)
    known, unknown = sized(150, cfg, rows), dtnn.sized(150, (12, 1, 1), 2, 9)
    assert known.widths > unknown.widths and (known.levels, known.luts) == (9, 150)


@pytest.mark.parametrize("wrong", [{"noise": -1.0}, {"teachers": 0}, {"lut_weight": -1e-3}])
def test_wrong_options_of_distillation(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="give 0 or more noise"):
        TableTraining(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["noise", "lut_weight", "rate", "temperature", "validation"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_options_are_finite(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match="give a finite number"):
        TableTraining(**{name: value})  # type: ignore[arg-type]


def test_a_teacher_that_is_not_there_is_not_set_up() -> None:
    images, rows = DtnnConfig("x", (20,), SMALL), DtnnConfig("x", (20,), (4, 1, 1), 2)
    with pytest.raises(ConfigError, match=r"^--teachers 3: there is no teacher; give --distil"):
        recipe(images, {"teachers": 3})
    with pytest.raises(ConfigError, match=r"^--teacher-epochs 9: there is no teacher"):
        recipe(rows, {"teacher_epochs": 9, "distil": 0.0})
    assert recipe(images, {"teachers": 3, "distil": 0.5}).teachers == 3
    assert recipe(rows, {"teachers": 2}).teachers == 2  # their recipe has some


def test_a_method_is_the_one_that_trains() -> None:
    cfg = DtnnConfig("x", (20,), SMALL)
    windows = dataclasses.replace(cfg, convs=(Conv(4, Window(3)),))
    for method in ("descent", "gradient"):
        with pytest.raises(ConfigError, match=rf"^--method {method}: convolutional networks"):
            recipe(windows, {"method": method})
        assert recipe(cfg, {"method": method}).method == method
    affine = dataclasses.replace(cfg, node="affine")
    with pytest.raises(ConfigError, match=r"^--method descent: takes one layer or two of lookup"):
        recipe(affine, {"method": "descent"})
    assert recipe(affine, {"method": "gradient"}).method == "gradient"
