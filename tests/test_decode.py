# SPDX-License-Identifier: Apache-2.0
"""The reference decode against a plain loop written from its definition."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwflow.decode import COLUMNS, HeadScales, boxes, candidates, peaks
from hwflow.errors import GraphError


def slow_candidates(hm: list, wh: list, reg: list, k: int) -> list[list[int]]:
    """Cell by cell: collect the peaks in order of (logit down, y, x, class), take k."""
    rows = []
    for c, plane in enumerate(hm):
        for y, line in enumerate(plane):
            for x, logit in enumerate(line):
                around = [
                    plane[y + dy][x + dx]
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                    if 0 <= y + dy < len(plane) and 0 <= x + dx < len(line)
                ]
                if logit == max(around):
                    size, offset = (wh[0][y][x], wh[1][y][x]), (reg[0][y][x], reg[1][y][x])
                    rows.append([logit, c, y, x, *size, *offset])
    rows.sort(key=lambda row: (-row[0], row[2], row[3], row[1]))
    return rows[:k]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    levels=st.sampled_from([1, 2, 3, 8, 256]),
    k=st.integers(1, 120),
)
def test_equals_the_slow_loop_with_many_ties(
    seed: int, shape: tuple[int, int, int], levels: int, k: int
) -> None:
    rng = np.random.default_rng(seed)
    hm = rng.integers(-levels, levels, size=shape)
    wh = rng.integers(-128, 128, size=(2, *shape[1:]))
    reg = rng.integers(-128, 128, size=(2, *shape[1:]))
    expected = slow_candidates(hm.tolist(), wh.tolist(), reg.tolist(), k)
    got = candidates(hm, wh, reg, k)
    assert got.dtype == np.int64
    assert got.tolist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_more_than_a_hundred_qualify(seed: int) -> None:
    """64 x 64 cells of three values, 20 classes: thousands of peaks, cut among equals."""
    rng = np.random.default_rng(seed)
    hm = rng.integers(-1, 2, size=(20, 64, 64)).astype(np.int8)
    wh = rng.integers(0, 256, size=(2, 64, 64))
    reg = rng.integers(-128, 128, size=(2, 64, 64))
    assert peaks(hm).sum() > 1000
    expected = slow_candidates(hm.tolist(), wh.tolist(), reg.tolist(), 100)
    assert candidates(hm, wh, reg).tolist() == expected
    assert len(expected) == 100


def test_float_maps_and_integer_maps_agree() -> None:
    rng = np.random.default_rng(5)
    hm, wh, reg = (rng.integers(-128, 128, size=(n, 16, 16)) for n in (3, 2, 2))
    whole = candidates(hm, wh, reg)
    scaled = candidates(hm / 16.0, wh / 4.0, (reg / 128.0).astype(np.float32))
    assert scaled.dtype == np.float64
    assert (scaled * [16, 1, 1, 1, 4, 4, 128, 128] == whole).all()
    from_rows = boxes(whole, HeadScales(hm=1 / 16, wh=1 / 4, reg=1 / 128))
    from_floats = boxes(scaled, HeadScales())
    for a, b in zip(from_rows, from_floats, strict=True):
        assert (a == b).all()


def test_all_equal_map_is_all_peaks_in_reading_order() -> None:
    hm = np.full((2, 3, 4), -7)
    rows = candidates(hm, np.zeros((2, 3, 4), int), np.zeros((2, 3, 4), int))
    places = [tuple(row[[2, 3, 1]]) for row in rows]
    assert places == [(y, x, c) for y in range(3) for x in range(4) for c in range(2)]


def test_box_geometry_by_hand() -> None:
    """Cell (y 5, x 3), offset (1/2, 1/4), size 6 x 2: centre (3.5, 5.25), times 4."""
    hm = np.full((1, 8, 8), -9.0)
    wh, reg = np.zeros((2, 8, 8)), np.zeros((2, 8, 8))
    hm[0, 5, 3] = 0.0
    wh[:, 5, 3] = (6, 2)
    reg[:, 5, 3] = (0.5, 0.25)
    row = candidates(hm, wh, reg, k=1)
    assert dict(zip(COLUMNS, row[0], strict=True)) == {
        "logit": 0, "class": 0, "y": 5, "x": 3, "w": 6, "h": 2, "reg_x": 0.5, "reg_y": 0.25,
    }  # fmt: skip
    corners, scores, labels = boxes(row, HeadScales())
    assert corners.tolist() == [[2.0, 17.0, 26.0, 25.0]]
    assert scores.tolist() == [0.5]
    assert labels.tolist() == [0]


@pytest.mark.parametrize("logit", [-1000.0, -2.19, 0.0, 3.0, 1000.0])
def test_score_is_the_sigmoid(logit: float) -> None:
    _, scores, _ = boxes(np.array([[logit, 0, 0, 0, 1, 1, 0, 0]]), HeadScales())
    expected = 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
    assert scores[0] == pytest.approx(expected, rel=1e-12, abs=0)


def test_maps_of_different_images_are_refused() -> None:
    with pytest.raises(GraphError, match="wh has shape"):
        candidates(np.zeros((1, 4, 4)), np.zeros((2, 4, 5)), np.zeros((2, 4, 4)))


def test_decoding_needs_no_torch() -> None:
    code = "import sys, hwflow.decode; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
