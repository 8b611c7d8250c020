# SPDX-License-Identifier: Apache-2.0
"""Training of tables that slide over maps: loops, gradients, wiring, whole runs, checkpoints."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from hwflow import ingest, interp, passes
from hwflow.data import samples
from hwflow.errors import ConfigError, DataError
from hwflow.export_tables import export_qonnx
from hwflow.models import dtnn
from hwflow.models.dtnn import Conv, DtnnConfig, Layer, Tables, Window
from hwflow.peers import ours
from hwflow.train_tables import Progress, TableTraining, recipe, train
from hwflow.training_tables import teachers, window_loops, windows
from hwflow.training_tables.warps import Warp

CONFIG = DtnnConfig(
    "odd", (40,), (2, 9, 8), levels=2, convs=(Conv(7, Window(3, pad=1), 2), Conv(9, Window(2))),
)  # fmt: skip
THRESHOLDS = np.array([[80, 150], [90, 200]])


def network(
    loops: window_loops.NumpyLoops, cfg: DtnnConfig = CONFIG, seed: int = 3
) -> windows.Network:
    net = windows.Network(windows.build(cfg, seed), loops, THRESHOLDS, cfg.classes, 1.5)
    net.sharpen()
    return net


def batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    q = np.eye(10, dtype=np.float32)[rng.integers(0, 10, windows.LANES)].T.copy()
    return rng.integers(0, 256, (windows.LANES, *CONFIG.shape)).astype(np.uint8), q


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> window_loops.NumpyLoops:
    loops = window_loops.load(tmp_path_factory.mktemp("loops"))
    if not isinstance(loops, window_loops.CompiledLoops):
        pytest.skip("no C++ compiler here")
    return loops


@pytest.mark.parametrize("stride", [1, 2])
def test_compiled_loops_equal_those_of_numpy(
    compiled: window_loops.NumpyLoops, stride: int
) -> None:
    first = Conv(7, Window(3, stride, 1), 2)
    cfg = DtnnConfig("steps", (40,), (2, 9, 8), levels=2, convs=(first, Conv(9, Window(2))))
    nets = [network(loops, cfg) for loops in (window_loops.NumpyLoops(), compiled)]
    losses = [net.descend(*batch()) for net in nets]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for one, two in zip(nets[0].levels, nets[1].levels, strict=True):
        assert np.array_equal(one.slopes, two.slopes)
        assert np.abs(one.sums).max() > 0.1
        assert np.allclose(one.sums, two.sums, atol=1e-4)
    for net in nets:
        for level in net.levels:
            net.loops.adam(level, 0.02, 3, (0.9, 0.999))
    for one, two in zip(nets[0].levels, nets[1].levels, strict=True):
        assert np.isclose(one.values, two.values, atol=1e-5).mean() > 0.99


def test_gradient_of_contents_is_the_change_of_the_loss() -> None:
    """Of the last layer, whose contents the loss depends on without a threshold between: the sum at
    a cell is the derivative to a vote, so that turning the cell over changes the loss by it, but
    for the curvature (small at a high temperature)."""
    net = network(window_loops.NumpyLoops())
    net.temperature = 1e4
    images, q = batch()
    before = net.descend(images, q)
    last = net.levels[-1]
    sums = last.sums.astype(np.float64) / net.temperature
    tried = 0
    for table, cell in zip(*np.nonzero(np.abs(sums) > 0), strict=True):
        if tried == 20:
            break
        change = 1 - 2 * int(last.tables[table, cell])
        last.tables[table, cell] ^= 1
        net.sharpen()
        assert net.descend(images, q) - before == pytest.approx(
            change * sums[table, cell], rel=0.05, abs=2e-5
        )
        last.tables[table, cell] ^= 1
        tried += 1
    assert tried == 20


def test_slopes_are_differences() -> None:
    """A table that copies its third pin: slope 1 there, 0 at the others, whatever is smoothed."""
    level = network(window_loops.NumpyLoops()).levels[0]
    level.tables[:] = np.arange(64) >> 2 & 1
    window_loops.NumpyLoops().slopes(level, 0.5)
    assert (level.slopes[:, 2] == 127).all()
    assert not level.slopes[:, [0, 1, 3, 4, 5]].any()


def test_all_forms_of_a_network_agree(compiled: window_loops.NumpyLoops, tmp_path: Path) -> None:
    """Loops, arrays, torch, and the integer graph of the QONNX file."""
    net = network(compiled)
    arrays = windows.tables(net.levels, CONFIG, THRESHOLDS)
    images, _ = batch(1)
    votes, _ = net.scores(net.encode(images))
    found = dtnn.scores(arrays, images)
    built = ours.graph(arrays)
    summed = built.rebuilt(outputs=(built.nodes[-1].inputs[0],))
    straight = interp.run_many(summed, {built.inputs[0]: images})
    assert np.array_equal(found, next(iter(straight.values())).reshape(len(images), -1))
    assert np.array_equal(found, votes.T) and len(np.unique(found)) > 3
    model = dtnn.network(arrays)
    with torch.no_grad():
        wanted = model(torch.from_numpy(images.astype(np.float32)) / 256).numpy()
    assert np.array_equal(found, wanted)
    export_qonnx(model, tmp_path / "net.onnx", CONFIG.shape)
    graph = passes.lower(ingest.read(tmp_path / "net.onnx"))
    scored = graph.rebuilt(outputs=(graph.nodes[-1].inputs[0],))
    made = interp.run_many(scored, {graph.inputs[0]: images})
    assert np.array_equal(found, next(iter(made.values())).reshape(len(images), -1))


def test_checkpoint(tmp_path: Path) -> None:
    net = windows.tables(windows.build(CONFIG, 0), CONFIG, THRESHOLDS)
    path = tmp_path / "net.safetensors"
    dtnn.save_checkpoint(net, path, {"config": dtnn.describe(CONFIG)})
    found, meta = dtnn.load_checkpoint(path)
    assert [one.window for one in found.layers] == [Window(3, 1, 1), Window(2), None]
    assert [one.pool for one in found.layers] == [2, 1, 1]
    assert dtnn.from_description(meta["config"]) == CONFIG
    images, _ = batch()
    assert np.array_equal(dtnn.scores(found, images), dtnn.scores(net, images))


def test_checkpoints_of_before_windows_are_read(tmp_path: Path) -> None:
    """Format 1 has no windows and pools."""
    shipped = Path(dtnn.__file__).parents[1] / "checkpoints" / "dtnn_small_mnist.safetensors"
    with safe_open(shipped, framework="numpy") as file:
        header = json.loads(file.metadata()["hwflow"])
    assert header["format"] == 1 and "windows" not in header
    net, _ = dtnn.load_checkpoint(shipped)
    assert {one.window for one in net.layers} == {None} and net.flat
    header["format"] = 4
    save_file(load_file(shipped), tmp_path / "new.safetensors", {"hwflow": json.dumps(header)})
    with pytest.raises(DataError, match=r"of format 4; .* of format 1 to 3 .a newer hwflow"):
        dtnn.load_checkpoint(tmp_path / "new.safetensors")


def _layer(count: int, taps: int, window: Window | None = None, pool: int = 1) -> Layer:
    wires = np.arange(count * 6, dtype=np.int32).reshape(count, 6) % taps
    return Layer(wires, np.zeros((count, 64), np.int16), window=window, pool=pool)


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        ((_layer(4, 19, Window(3)), _layer(10, 9)), "reads bits 0..18 of 18"),
        ((_layer(4, 18, Window(3)),), "the last layer makes a map"),
        ((_layer(4, 18, Window(3), pool=9), _layer(10, 4)), "layer 0 makes a map"),
        ((_layer(10, 9, None, 2),), "layer 0 makes a map"),
    ],
)
def test_arrays_that_are_no_network(layers: tuple[Layer, ...], what: str) -> None:
    with pytest.raises(DataError, match=what):
        Tables((2, 6, 6), np.full((2, 1), 128), layers, 10)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"bits": 0}, "codes of 0 bits"), ({"bits": 9}, "codes of 9 bits"),
        ({"bits": 1, "signed": True}, "codes of 1 bits"),
        ({"window": Window(3, stride=0)}, "stride=0"), ({"window": Window(0)}, "kernel=0"),
        ({"window": Window(3, pad=-1)}, "pad=-1"), ({"pool": 0}, "a pool of 0"),
        ({"wires": np.zeros((0, 6), np.int32), "values": np.zeros((0, 64), np.int16)}, "no tables"),
    ],
)
def test_layers_that_are_none(change: dict[str, Any], what: str) -> None:
    first = dataclasses.replace(_layer(4, 18, Window(3)), **change)
    with pytest.raises(DataError, match=rf"layer 0 has .*{what}"):
        Tables((2, 6, 6), np.full((2, 1), 128), (first, _layer(10, 9)), 10)


@pytest.mark.parametrize("level", [-1, 257])
def test_thresholds_are_those_of_a_byte(level: int) -> None:
    with pytest.raises(DataError, match=f"thresholds {level}..{level}, a byte has 0 to 256"):
        Tables((2, 1, 1), np.full((2, 1), level), (_layer(10, 2),), 10)


@pytest.mark.parametrize("change", [
    {"groups": 1e999}, {"windows": [{"kernel": 3, "stride": 0, "pad": 0}, None]}, {"pools": [0, 1]},
    {"windows": [{"side": 3}, None]}, {"bits": 3}, {"shape": [2, 6]}, {"meta": []},
    {"format": "3"}, {"shape": None},
])  # fmt: skip
def test_checkpoints_with_a_damaged_header_are_refused(
    change: dict[str, Any], tmp_path: Path
) -> None:
    net = Tables((2, 6, 6), np.full((2, 1), 128), (_layer(4, 18, Window(3)), _layer(10, 64)), 10)
    path = tmp_path / "net.safetensors"
    dtnn.save_checkpoint(net, path, {})
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["hwflow"])
    save_file(load_file(path), path, {"hwflow": json.dumps(header | change)})
    with pytest.raises(DataError, match=r"net\.safetensors: (expected a|the arrays|a dtnn)"):
        dtnn.load_checkpoint(path)


def test_configurations_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="does not fit the map"):
        dtnn.config("vgg", (3, 8, 8))
    with pytest.raises(ConfigError, match="has nodes 'lookup'"):
        DtnnConfig("root", (10,), convs=(Conv(4, Window(3)),), head="codes")
    assert dtnn.config("vgg", (3, 32, 32)).levels == 7
    assert dtnn.config("lenet5", (1, 28, 28), 26).widths[-1] % 26 == 0


def test_rewiring_finds_the_pixel_that_decides(tmp_path: Path) -> None:
    """Labels are one bit of the image, at a place that no table reads at first."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (2048, 1, 6, 6)).astype(np.uint8)
    labels = (images[:, 0, 2, 3] >= 128).astype(np.int64)
    found = {}
    for wiring in ("random", "learned"):
        cfg = DtnnConfig("find", (4,), (1, 6, 6), 2, convs=(Conv(2, Window(1)),), wiring=wiring)
        assert not np.isin(windows.build(cfg, 2)[-1].wires % 36, [2 * 6 + 3]).any()
        options = TableTraining(epochs=9, batch=64, rate=0.05, warp=Warp(share=0.0), seed=2)
        made = train(cfg, images, labels, tmp_path / wiring, tmp_path, options)
        found[wiring] = made.train_accuracy
    assert found["learned"] > 0.95 and found["random"] < 0.7


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """Interrupted after two epochs: the same tables as of a run in one go. And it learns."""
    data, test = (samples.load("digits", split, Path()) for split in ("train", "test"))
    cfg = DtnnConfig("digits", (200,), data.shape, convs=(Conv(24, Window(3)),))
    options = recipe(cfg, {"epochs": 6, "seed": 2, "batch": 64})
    assert (options.epochs, options.flip) == (6, False)
    steps: list[Progress] = []

    class Stop(Exception):
        pass

    def stop(now: Progress) -> None:
        if now.step == 2:
            raise Stop

    with pytest.raises(Stop):
        train(cfg, data.images, data.labels, tmp_path / "a", tmp_path, options, stop)
    one = train(cfg, data.images, data.labels, tmp_path / "a", tmp_path, options, steps.append)
    two = train(cfg, data.images, data.labels, tmp_path / "b", tmp_path, options)
    assert [p.step for p in steps] == [3, 4, 5, 6]
    for first, second in zip(one.net.layers, two.net.layers, strict=True):
        assert np.array_equal(first.wires, second.wires)
        assert np.array_equal(first.values, second.values)
    assert not (tmp_path / "a" / "resume.safetensors").exists()
    assert dtnn.accuracy(one.net, test.images, test.labels) > 0.85


def test_a_teacher_stands_in_for_labels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Labels that say nothing, and a teacher that says on which side an image is brighter."""
    def side(images: np.ndarray) -> np.ndarray:
        sums = images.astype(int).sum(axis=(1, 2))
        return (sums[:, 4:].sum(1) > sums[:, :4].sum(1)).astype(int)

    monkeypatch.setattr(teachers, "teacher", lambda *_: lambda x: np.eye(2)[side(x)])
    rng = np.random.default_rng(1)
    images = rng.integers(0, 200, (1280, 1, 8, 8)).astype(np.uint8)
    brighter = np.arange(1280) % 2
    images[:, 0, :, :4] += 50 * (1 - brighter[:, None, None]).astype(np.uint8)
    images[:, 0, :, 4:] += 50 * brighter[:, None, None].astype(np.uint8)
    labels = rng.integers(0, 2, 1280)
    cfg = DtnnConfig("side", (80,), (1, 8, 8), 2, convs=(Conv(8, Window(2), 2),))
    right = {}
    for weight in (0.0, 1.0):
        options = TableTraining(epochs=5, batch=64, rate=0.04, distil=weight,
                                warp=Warp(share=0.0))  # fmt: skip
        net = train(cfg, images, labels, tmp_path / str(weight), tmp_path, options).net
        right[weight] = dtnn.accuracy(net, images, side(images))
    assert right[1.0] > 0.8 and right[0.0] < 0.65
