# SPDX-License-Identifier: Apache-2.0
"""The linear encoder: its codes, its bits in every form of a network, its range learned, built."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from hwflow import build as runner
from hwflow import ingest, interp, passes, stages
from hwflow.cli import app
from hwflow.data import samples
from hwflow.emit.tables import estimate
from hwflow.errors import ConfigError, DataError
from hwflow.export_tables import export_qonnx
from hwflow.models import dtnn
from hwflow.models.dtnn import Conv, DtnnConfig, Layer, Tables, Window
from hwflow.models.tables import LinearCodes
from hwflow.report import schema
from hwflow.stages.options import options
from hwflow.train_tables import TableTraining, sized, train
from hwflow.training_tables.encoders import Encoder, encoder_of, uniform

SMALL = (1, 8, 8)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    found = samples.load("digits", "train", Path())
    return found.images[:640], found.labels[:640]


def steps(pixels: np.ndarray, low: int, high: int, bits: int) -> np.ndarray:
    """The step that each pixel is in, by integer division."""
    levels = 1 << bits
    found = (pixels.astype(int) - low) * levels // (high - low)
    return np.clip(found, 0, levels - 1)


def random_net(bits: int, seed: int = 0, shape: tuple[int, int, int] = SMALL) -> Tables:
    """Two layers of random tables behind a linear encoder with a range for each element."""
    rng = np.random.default_rng(seed)
    features = int(np.prod(shape))
    low = rng.integers(0, 60, features)
    thresholds = uniform(low, low + rng.integers(40, 190, features), (1 << bits) - 1)
    first = Layer(rng.integers(0, features * bits, (40, 6)).astype(np.int32),
                  rng.integers(0, 2, (40, 64)).astype(np.int16))
    second = Layer(rng.integers(0, 40, (30, 6)).astype(np.int32),
                   rng.integers(0, 2, (30, 64)).astype(np.int16))
    return Tables(shape, thresholds, (first, second), 10, linear=True)


@pytest.mark.parametrize(("low", "high", "bits"), [
    (0, 256, 4), (0, 256, 8), (0, 256, 1), (13, 200, 3), (40, 47, 5), (0, 251, 6),
])  # fmt: skip
def test_codes_are_the_steps_of_the_range(low: int, high: int, bits: int) -> None:
    pixels = np.arange(256, dtype=np.uint8)
    wanted = steps(pixels, low, high, bits)
    thresholds = uniform(np.array([low]), np.array([high]), (1 << bits) - 1)
    images = pixels.reshape(256, 1, 1, 1)
    columns = Encoder(thresholds, True).columns(images)
    assert columns.shape == (bits, 256)
    assert np.array_equal(sum(row.astype(int) << b for b, row in enumerate(columns)), wanted)
    net = Tables((1, 1, 1), thresholds,
                 (Layer(np.zeros((2, 6), np.int32), np.zeros((2, 64), np.int16)),), 2, True)
    assert np.array_equal(dtnn.encode(net, images).ravel(), wanted)
    module = LinearCodes(torch.tensor([float(low)]), torch.tensor([float(high)]), bits, 1)
    x = torch.from_numpy(pixels).float()[:, None] / 256
    for learning in (False, True):
        module.low.requires_grad_(learning)
        assert np.array_equal(module(x).detach().numpy().T, columns)
    assert np.array_equal(module.whole().numpy(), thresholds)


def test_the_range_is_that_of_the_samples() -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.integers(30, 91, 4000), rng.integers(100, 104, 4000)], 1).astype(np.uint8)
    rows[0] = 255  # too rare to stretch the range of a column
    cfg = DtnnConfig("x", (20,), (2, 1, 1), levels=3, encoder="linear")
    found = encoder_of(cfg, rows[:, :, None, None])
    # 61 and 4 wide
    assert np.array_equal(found.thresholds, [[46, 61, 76], [101, 102, 103]])
    few = np.array([0, 17, 34, 51] * 20, np.uint8).reshape(-1, 1, 1, 1)
    low = encoder_of(dataclasses.replace(cfg, shape=(1, 1, 1)), few)
    assert np.array_equal(low.thresholds, [[16, 32, 48]])  # 13, 26, 39 part these four alike
    images = np.full((10, 1, 2, 2), 8, np.uint8)
    images[0, 0, 1, 1], images[1, 0, 0, 0] = 167, 40
    one = encoder_of(dataclasses.replace(cfg, shape=(1, 2, 2)), images)
    assert np.array_equal(one.thresholds, np.tile([48, 88, 128], (4, 1)))
    coarse = dataclasses.replace(cfg, shape=(1, 2, 2), precision=3)
    assert np.array_equal(encoder_of(coarse, images).thresholds[0], [64, 96, 128])


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_all_forms_of_a_network_agree(bits: int, tmp_path: Path) -> None:
    """Arrays, torch, and the integer graph of the QONNX file, which has one threshold of codes."""
    net = random_net(bits, shape=(1, 3, 4))
    images = np.random.default_rng(1).integers(0, 256, (60, 1, 3, 4), dtype=np.uint8)
    found = dtnn.scores(net, images)
    assert len(np.unique(found)) > 3
    # from the definition: bits of codes, tables, votes
    codes = np.concatenate([(images.reshape(60, -1, 1) >= net.thresholds).sum(2)[:, :, None] >> b
                            & 1 for b in range(bits)], axis=2).reshape(60, -1)  # fmt: skip
    for layer in net.layers:
        at = (codes[:, layer.wires] << np.arange(6)).sum(2)
        codes = np.take_along_axis(layer.values.T, at, 0).astype(int)
    assert np.array_equal(found, codes.reshape(60, 10, 3).sum(2))
    model = dtnn.network(net)
    with torch.no_grad():
        assert np.array_equal(model(torch.from_numpy(images).float() / 256).numpy(), found)
    export_qonnx(model, tmp_path / "net.onnx", net.shape)
    graph = passes.lower(ingest.read(tmp_path / "net.onnx"))
    encoders = [node for node in graph.nodes if node.op == "threshold"]
    assert [graph.tensors[node.output].dtype.bits for node in encoders] == [bits]
    scored = graph.rebuilt(outputs=(graph.nodes[-1].inputs[0],))
    made = interp.run_many(scored, {graph.inputs[0]: images})
    assert np.array_equal(next(iter(made.values())).reshape(60, -1), found)


def test_the_cost_of_its_bits_bounds_what_is_emitted(tmp_path: Path) -> None:
    net = random_net(3)
    export_qonnx(dtnn.network(net), tmp_path / "net.onnx", net.shape)
    parts = estimate(passes.lower(ingest.read(tmp_path / "net.onnx")))
    luts = dtnn.encoder_luts(net.thresholds, True)
    read = np.unique(net.layers[0].wires)
    assert 0 < parts["encoder"].luts <= luts[read].sum()
    cfg = DtnnConfig("x", (40, 30), SMALL, levels=7, encoder="linear")
    total = sum(part.luts for part in parts.values())
    assert total <= dtnn.cost(cfg, net.thresholds) <= dtnn.cost(cfg)
    wires = uniform(np.zeros(64), np.full(64, 256), 7)
    assert not dtnn.encoder_luts(wires, True).any()  # the three upper bits of a pixel


def test_a_budget_is_kept(digits: tuple[np.ndarray, np.ndarray]) -> None:
    cfg = DtnnConfig("x", (10,), SMALL, levels=3, encoder="linear")
    made = sized(300, cfg, digits[0])
    assert (made.encoder, made.levels, made.luts) == ("linear", 3, 300)
    assert 0 <= 300 - dtnn.cost(made, encoder_of(made, digits[0]).thresholds) <= 40
    assert dtnn.sized(300, SMALL, levels=3, encoder="linear").widths < made.widths


def test_checkpoints_say_which_encoder(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, *SMALL), dtype=np.uint8)
    for net, form in ((random_net(2), 3), (dataclasses.replace(random_net(1), linear=False), 2)):
        path = tmp_path / f"{form}.safetensors"
        dtnn.save_checkpoint(net, path, {})
        back, _ = dtnn.load_checkpoint(path)
        assert back.linear == net.linear
        assert np.array_equal(dtnn.scores(back, images), dtnn.scores(net, images))
        with safe_open(path, framework="numpy") as file:
            assert f'"format": {form}' in file.metadata()["hwflow"]


@pytest.mark.parametrize(("method", "wiring"), [
    ("descent", "learned"), ("descent", "patches"), ("gradient", "learned"),
    ("gradient", "patches"),
])  # fmt: skip
def test_both_roads_train_it(
    digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, method: str, wiring: str
) -> None:
    images, labels = digits
    cfg = DtnnConfig("x", (60,), SMALL, levels=7, encoder="linear", wiring=wiring)
    quick = TableTraining(sweeps=4, epochs=8, batch=64, rate=0.02, threads=1, method=method)
    net = train(cfg, images, labels, tmp_path / "run", tmp_path, quick).net
    assert net.linear and net.code_bits == 3
    # windows of 3 x 3 pixels see less; chance is 0.1
    assert dtnn.accuracy(net, images, labels) > (0.7 if wiring == "learned" else 0.5)
    if wiring == "patches":
        elements = net.layers[0].wires // 3
        assert np.ptp(elements // 8, axis=1).max() < 3 and np.ptp(elements % 8, axis=1).max() < 3


def test_the_range_is_learned(tmp_path: Path) -> None:
    """A class that a narrow band of one element decides, in steps far too wide at first."""
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 256, (2048, 3, 1, 1), dtype=np.uint8)
    labels = (rows[:, 0, 0, 0] >= 100).astype(np.int64)
    cfg = DtnnConfig("x", (6,), (3, 1, 1), 2, levels=1, encoder="linear")
    found = {}
    for learn in (False, True):
        quick = TableTraining(epochs=30, batch=64, rate=0.02, threads=1, method="gradient",
                              learn_thresholds=learn)  # fmt: skip
        net = train(cfg, rows, labels, tmp_path / str(learn), tmp_path, quick).net
        found[learn] = dtnn.accuracy(net, rows, labels), int(net.thresholds[0, 0])
    # 28 of 256 values lie between 100 and 128
    assert found[False][0] < 0.92 and abs(found[False][1] - 128) < 3
    assert found[True][0] > 0.95 and abs(found[True][1] - 100) < 14


def test_a_range_turned_around_is_the_same_range() -> None:
    low, high = torch.tensor([40.0, 90.0]), torch.tensor([200.0, 10.0])
    found = LinearCodes(torch.zeros(2), torch.ones(2), 2, 2)
    found.low.data, found.high.data = low, high
    assert found.whole().tolist() == [[80, 120, 160], [30, 50, 70]]


def test_what_a_linear_encoder_cannot_be() -> None:
    for wrong, what in (({"levels": 4}, "power of two less one"),
                        ({"levels": 511}, "1 to 255"),
                        ({"levels": 3, "convs": (Conv(4, Window(3)),)}, "with convolutions"),
                        ({"encoder": "log"}, "choose thermometer, linear")):
        with pytest.raises(ConfigError, match=what):
            DtnnConfig("x", (20,), SMALL, **{"encoder": "linear", **wrong})  # type: ignore[arg-type]
    net = random_net(2)
    with pytest.raises(DataError, match="linear encoder"):
        dataclasses.replace(net, thresholds=net.thresholds[:, :2])


@pytest.mark.parametrize(("given", "what"), [
    (["--encoder", "linear", "--levels", "3"], "has --encoder-bits; leave it out"),
    (["--encoder-bits", "3"], "give --encoder linear"),
    (["--encoder", "linear", "--encoder-bits", "9"], "codes of 1 to 8 bits"),
    (["--encoder", "round"], "choose thermometer, linear"),
    (["--levels", "0"], "0 thresholds: each must be positive"),
    (["--precision", "0"], "a pixel has 1 to 8"),
    (["--lut-weight", "nan"], "lut weight nan: give a finite number"),
])  # fmt: skip
def test_options_that_contradict_each_other(given: list[str], what: str, tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["train", "dtnn", "--data", "digits", "--luts", "300", "--out",
                                     str(tmp_path / "run"), *given])  # fmt: skip
    assert isinstance(found.exception, ConfigError) and what in str(found.exception)


@pytest.mark.timeout(900)
def test_a_linear_network_is_exact_in_hls_and_rtl(tmp_path: Path) -> None:
    """Trained by the command, built from its checkpoint: all test samples, through every form."""
    done = CliRunner().invoke(app, [
        "train", "dtnn", "--data", "digits", "--luts", "200", "--encoder", "linear",
        "--encoder-bits", "3", "--sweeps", "4", "--epochs", "4", "--precision", "7", "--cache",
        str(tmp_path), "--out", str(tmp_path / "weights"),
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    weights = tmp_path / "weights" / "dtnn.safetensors"
    chosen = options("dtnn", "pynq-z2", "small", "digits", weights, cache=tmp_path)
    records = runner.build(stages.of(chosen), chosen, tmp_path / "run", "sim")
    assert {r.name: r.reason for r in records if r.status == "failed"} == {}
    report = schema.read(tmp_path / "run" / "report.json")
    assert (report.verify.hls.images, report.verify.hls.mismatches) == (397, 0)
    assert (report.verify.rtl.frames, report.verify.rtl.mismatches) == (397, 0)
