# SPDX-License-Identifier: Apache-2.0
"""The term of the loss that counts LUTs of the encoder, on every road."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwflow.data import samples
from hwflow.emit.tables.cost import threshold_luts
from hwflow.models import dtnn
from hwflow.models.dtnn import Conv, DtnnConfig, Tables, Window
from hwflow.train_tables import TableTraining, train
from hwflow.training_tables import wiring
from hwflow.training_tables.wiring import fees

SMALL = (1, 8, 8)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    found = samples.load("digits", "train", Path())
    return found.images[:640], found.labels[:640]


def read_luts(net: Tables) -> int:
    """LUTs of the comparisons that any table reads, by the formula of the emitter."""
    first = net.layers[0]
    taps = first.wires if first.window is None else first.wires // first.window.kernel**2
    count, found = len(net.thresholds), 0
    for bit in np.unique(taps):
        if net.linear:
            bits = net.code_bits
            codes = np.searchsorted(net.thresholds[bit // bits], np.arange(256), side="right")
            found += int(dtnn.encoder_luts(net.thresholds, True)[bit]) if codes.any() else 0
        else:
            found += threshold_luts(int(net.thresholds[bit % count, bit // count]))
    return found


ROADS = {
    "descent": (DtnnConfig("x", (40,), SMALL, levels=5), {"sweeps": 5, "epochs": 0}),
    "gradient": (DtnnConfig("x", (40,), SMALL, levels=5), {"method": "gradient", "rate": 0.02}),
    "learned": (DtnnConfig("x", (40,), SMALL, levels=5),
                {"method": "gradient", "rate": 0.02, "learn_thresholds": True}),
    "affine": (DtnnConfig("x", (60, 20), SMALL, levels=5, inputs=3, bits=(2, 1), node="affine"),
               {"rate": 0.02}),
    "linear": (DtnnConfig("x", (40,), SMALL, levels=7, encoder="linear"),
               {"method": "gradient", "rate": 0.02}),
    "windows": (DtnnConfig("x", (40,), SMALL, levels=11, convs=(Conv(6, Window(3)),)),
                {"rate": 0.04}),
}  # fmt: skip


@pytest.mark.parametrize("road", ROADS)
def test_a_larger_weight_takes_fewer_luts(
    digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, road: str
) -> None:
    images, labels = digits
    if road == "linear":  # a range whose steps are no powers of two
        images = np.minimum(images, 187)
    cfg, given = ROADS[road]
    found, right = [], []
    for weight in (0.0, 0.003, 0.3):
        options = TableTraining(**{"epochs": 6, "batch": 64, "threads": 1, "lut_weight": weight,
                                   **given})  # type: ignore[arg-type]
        net = train(cfg, images, labels, tmp_path / str(weight), tmp_path, options).net
        found.append(read_luts(net))
        right.append(dtnn.accuracy(net, images, labels))
    assert found[0] > found[1] > found[2]


def test_what_a_channel_costs() -> None:
    """The first reader pays, the last one saves; or all pay alike, in sum the same."""
    fee = np.array([0.0, 1.0, 2.0, 4.0])
    wires = np.array([1, 1, 2, 3, 3, 3, 3])
    used = np.bincount(wires, minlength=4)
    enter, leave = fees(fee, used, wires)
    assert enter.tolist() == [0, 0, 0, 0] and leave.tolist() == [0, 0, 2, 0, 0, 0, 0]
    enter, leave = fees(fee, used * 0, wires)
    assert enter.tolist() == fee.tolist() and not leave.any()
    enter, leave = fees(fee, used, wires, shared=True)
    assert leave.tolist() == [0.5, 0.5, 2, 1, 1, 1, 1] and leave.sum() == fee[1:].sum()
    assert np.allclose(enter, [0, 1 / 3, 1, 4 / 5])


def test_regrowth_takes_what_is_allowed_and_not_read() -> None:
    wires = np.array([[0, 1, 2], [3, 4, 5]])
    gains = np.tile(np.array([9, 8, 7, 6, 5, 4, 3, -1], np.float32), (6, 1))
    assert np.array_equal(wiring.weakest(np.array([4, 5, 1, 0, 2, 3]), 0.7, 3), [4, 1])
    best, gained = wiring.regrown(np.array([4, 1]), wires, gains[[4, 1]])
    assert best.tolist() == [0, 3] and gained.tolist() == [9, 6]
    allowed = np.ones((2, 8), np.uint8)
    allowed[1, :3], allowed[0, 3:7] = 0, 0
    best, gained = wiring.regrown(np.array([4, 1]), wires, gains[[4, 1]], allowed)
    assert best.tolist() == [6, 7] and gained.tolist() == [3, -1]
