# SPDX-License-Identifier: Apache-2.0
"""Training of lookup tables: kernels, coordinate descent, sizes, checkpoints, whole runs."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hwflow import interp
from hwflow.data import samples
from hwflow.emit.tables import core, planner
from hwflow.errors import ConfigError, DataError
from hwflow.models import dtnn
from hwflow.models.dtnn import DtnnConfig, Layer, Tables
from hwflow.peers import ours
from hwflow.train_tables import Progress, TableTraining, train
from hwflow.training_tables import descent, gradient, loops
from hwflow.training_tables.copies import Copies
from hwflow.training_tables.encoders import encoder_of
from hwflow.training_tables.kernels import CompiledKernels, NumpyKernels, Stack, load
from hwflow.training_tables.warps import Warp
from hwflow.training_tables.wiring import patches

SMALL = (1, 8, 8)
CHECKPOINTS = Path(dtnn.__file__).parents[1] / "checkpoints"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> NumpyKernels:
    kernels = load(tmp_path_factory.mktemp("kernels"))
    if not isinstance(kernels, CompiledKernels):
        pytest.skip("no C++ compiler here")
    return kernels


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    one, two = (samples.load("digits", split, Path()) for split in ("train", "test"))
    return one.images, one.labels, two.images, two.labels


def stack(leaves: int, roots: int, inputs: int, seed: int = 0) -> Stack:
    rng = np.random.default_rng(seed)
    made = descent.begin(np.arange(inputs), leaves, roots, rng)
    made.root_values[:] = rng.uniform(-1, 1, made.root_values.shape)
    made.root_tables[:] = made.root_values > 0
    return made


def columns(inputs: int, n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = (rng.random((inputs, n)) < 0.4).astype(np.uint8)
    return x, np.eye(classes, dtype=np.float32)[rng.integers(0, classes, n)].T.copy()


def losses(s: Stack, x: np.ndarray, q: np.ndarray, temperature: float) -> np.ndarray:
    """Cross-entropy of each sample, straight from the definition."""
    def layer(read: np.ndarray, wires: np.ndarray, tables: np.ndarray) -> np.ndarray:
        at = sum(read[wires[:, j]].astype(int) << j for j in range(6))
        return np.take_along_axis(tables, at, 1)

    y = layer(x, s.leaf_wires, s.leaf_tables) if len(s.leaf_wires) else x
    out = layer(y, s.root_wires, s.root_tables)
    scores = out.reshape(len(q), -1, x.shape[1]).sum(1) / temperature
    return np.log(np.exp(scores).sum(0)) - (q * scores).sum(0)


# --- kernels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [7, 64, 410, 784])
def test_compiled_loops_equal_those_of_numpy(compiled: NumpyKernels, bits: int) -> None:
    plain = NumpyKernels()
    x = columns(bits, 640, 4)[0]
    s = stack(12, 20, bits)
    for wires, table in zip(s.leaf_wires, s.leaf_tables, strict=True):
        at = plain.address(x, wires)
        assert np.array_equal(compiled.address(x, wires), at)
        assert np.array_equal(compiled.lookup(table, at), plain.lookup(table, at))
    y = plain.layer(x, s.leaf_wires, s.leaf_tables)
    assert np.array_equal(compiled.layer(x, s.leaf_wires, s.leaf_tables), y)
    rows = plain.pack(x)
    assert np.array_equal(compiled.pack(x), rows)
    other = rows.copy()
    compiled.put(rows, bits - 1, y[0])
    plain.put(other, bits - 1, y[0])
    assert np.array_equal(rows, other)
    g = np.random.default_rng(1).normal(size=640).astype(np.float32)
    sums, cells = plain.cell_sums(at, g), plain.cell_bits(at, g, 64, 512, rows)
    assert np.allclose(compiled.cell_sums(at, g), sums, atol=1e-4)
    assert np.allclose(compiled.cell_bits(at, g, 64, 512, rows), cells, atol=1e-4)
    assert np.allclose(compiled.pin_gains(cells, sums), plain.pin_gains(cells, sums), atol=1e-2)


@pytest.mark.parametrize("leaves", [0, 12])
def test_compiled_epoch_equals_that_of_numpy(compiled: NumpyKernels, leaves: int) -> None:
    x, q = columns(50, 640, 4)
    stacks = [stack(leaves, 20, 50) for _ in range(2)]
    found = [k.epoch(x, s, q, 0.5, 128, (0.01, 0.005), 3, (0.9, 0.999))
             for k, s in zip((compiled, NumpyKernels()), stacks, strict=True)]  # fmt: skip
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    for field in dataclasses.fields(Stack):
        a, b = (getattr(s, field.name) for s in stacks)
        # Adam divides by the size of the gradient: a rounding error may turn a sign of one near 0
        assert a.size == 0 or np.isclose(a, b, atol=1e-4).mean() > 0.99


def test_distortions_are_the_same_in_both(compiled: NumpyKernels) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 12, 10), dtype=np.uint8)
    picked = np.array([4, 0, 0, 3, 2, 1], np.int32)
    warp = Warp(2.0, 0.3, 0.1, 0.1, 1.0, 0.7)
    one, two = (k.augment(images, picked, warp, 77) for k in (compiled, NumpyKernels()))
    assert np.abs(one.astype(int) - two).max() <= 1
    changed = (one != images[picked]).any((1, 2, 3))
    assert 0 < changed.sum() < len(picked)
    still = compiled.augment(images, picked, Warp(0, 0, 0, 0, 0, 0), 77)
    assert np.array_equal(still, images[picked])


def test_loops_are_built_again_when_a_header_changes(tmp_path: Path) -> None:
    folder, cache = tmp_path / "templates", tmp_path / "cache"
    shutil.copytree(loops.TEMPLATES, folder)
    found = []
    for change in ("", "", "// changed"):
        with (folder / "common.h").open("a") as file:
            file.write(change)
        if loops.library(folder / "windows.cpp", cache) is None:
            pytest.skip("no C++ compiler here")
        found.append(sorted(cache.glob("windows-*.so")))
    assert len(found[0]) == 1 and found[0] == found[1]
    assert len(found[2]) == 2


def test_parts_of_the_training_do_not_import_its_way_in() -> None:
    parts = sorted(Path(loops.__file__).parent.glob("*.py"))
    assert len(parts) > 10
    assert not [part.name for part in parts if "hwflow.train_tables import" in part.read_text()]


# --- coordinate descent --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["compiled", "numpy"])
def test_gains_are_differences_of_the_loss(name: str, compiled: NumpyKernels) -> None:
    kernels = compiled if name == "compiled" else NumpyKernels()
    x, q = columns(40, 192, 4)
    s = stack(9, 16, 40)
    work = descent.Descent(kernels, s, x, q, 1.7)
    assert work.loss() == pytest.approx(losses(s, x, q, 1.7).mean(), rel=1e-4)
    for root in (0, 7, 15):
        gain = kernels.root_gain(work.e[root // 4], work.z, q[root // 4], work.out[root], 1 / 1.7)
        kept, both = s.root_tables[root].copy(), []
        for value in (0, 1):
            s.root_tables[root] = value
            both.append(losses(s, x, q, 1.7))
        s.root_tables[root] = kept
        assert np.allclose(gain, both[0] - both[1], atol=1e-4)
    for leaf in range(9):
        readers, pins = np.nonzero(s.root_wires == leaf)
        gain = kernels.leaf_gain(readers, 1 << pins, readers // 4, work.at, s.root_tables, work.e,
                                 work.z, q, work.y[leaf], 1 / 1.7)  # fmt: skip
        kept, both = s.leaf_tables[leaf].copy(), []
        for value in (0, 1):
            s.leaf_tables[leaf] = value
            both.append(losses(s, x, q, 1.7))
        s.leaf_tables[leaf] = kept
        assert np.allclose(gain, both[0] - both[1], atol=1e-4)


def test_pin_gains_are_those_of_the_wires_tried_one_by_one() -> None:
    kernels = NumpyKernels()
    x, _ = columns(20, 320, 2)
    g = np.random.default_rng(3).normal(size=320).astype(np.float32)
    wires = np.array([0, 3, 5, 7, 11, 13], np.int32)
    at = kernels.address(x, wires)
    gains = kernels.pin_gains(
        kernels.cell_bits(at, g, 0, 320, kernels.pack(x)), kernels.cell_sums(at, g)
    )
    for pin in range(6):
        for bit in range(20):
            tried = wires.copy()
            tried[pin] = bit
            sums = kernels.cell_sums(kernels.address(x, tried), g)
            assert gains[pin, bit] == pytest.approx(np.abs(sums).sum(), rel=1e-4)


@pytest.mark.parametrize("leaves", [0, 15])
@pytest.mark.parametrize("rewire", [0.0, 1.0])
def test_sweeps_without_memory_only_lower_the_loss(leaves: int, rewire: float) -> None:
    x, q = columns(40, 320, 4)
    s = stack(leaves, 16, 40)
    how = descent.SweepOptions(rewire=rewire, margin=1e-4, memory=0.0)
    found = [losses(s, x, q, 1.5).mean()]
    rng = np.random.default_rng(0)
    for _ in range(4):
        work = descent.Descent(NumpyKernels(), s, x, q, 1.5)
        before = s.root_wires.copy()
        moved = work.sweep(how, rng)
        assert (moved > 0) == bool(rewire) or moved == 0
        assert rewire or np.array_equal(before, s.root_wires)
        found.append(losses(s, x, q, 1.5).mean())
        assert found[-1] == pytest.approx(work.loss(), rel=1e-3)
    assert np.diff(found).max() < 1e-5
    assert found[-1] < 0.8 * found[0]


def test_a_bit_that_costs_more_than_it_saves_is_not_read() -> None:
    x, q = columns(40, 640, 2)
    q[0] = x[7]  # the class is bit 7, and bit 8 is the same bit
    q[1] = 1 - q[0]
    x[8] = x[7]
    for dear, wanted in ((7, 8), (8, 7)):
        s = descent.begin(np.arange(20, 40), 0, 2, np.random.default_rng(1))
        cost = np.zeros(40, np.float32)
        cost[dear] = 1e6
        how = descent.SweepOptions(rewire=1.0, margin=0.0, memory=0.0, bit_cost=cost)
        descent.Descent(NumpyKernels(), s, x, q, 1.0).sweep(how, np.random.default_rng(0))
        assert wanted in s.root_wires and dear not in s.root_wires


# --- sizes and forms -----------------------------------------------------------------------------


@pytest.mark.parametrize("luts", [150, 700, 999, 1000, 1550, 3900, 20_000])
def test_a_budget_is_used_up_and_kept(luts: int) -> None:
    cfg = dtnn.sized(luts)
    assert 0 <= luts - dtnn.cost(cfg) <= 40
    assert cfg.luts == luts and cfg.widths[-1] % 10 == 0


def test_wrong_sizes_are_refused() -> None:
    for luts in (0, 20, 10**7):
        with pytest.raises(ConfigError, match="LUT"):
            dtnn.sized(luts)
    with pytest.raises(ConfigError, match="small, medium, large"):
        dtnn.config("tiny")
    with pytest.raises(ConfigError, match="16 address bits"):
        DtnnConfig("x", (20, 10), bits=(3, 1))
    with pytest.raises(ConfigError, match="one a class"):
        DtnnConfig("x", (20,), head="codes")
    with pytest.raises(ConfigError, match="choose lookup"):
        DtnnConfig("x", (20,), node="neuron")
    with pytest.raises(ConfigError, match="nodes of 0 children: give 1 or more"):
        DtnnConfig("x", (20,), inputs=0)
    for bits in ((0,), (9,)):
        with pytest.raises(ConfigError, match="bits: give 1 to 8 each"):
            DtnnConfig("x", (20,), inputs=1, bits=bits)
    with pytest.raises(ConfigError, match="0 threads: give 1 or more"):
        TableTraining(threads=0)
    with pytest.raises(ConfigError, match="of 256 thresholds: a byte has 1 to 255"):
        DtnnConfig("x", (20,), levels=256)
    for name in ("small", "lenet5"):  # 0 is no "as usual"
        with pytest.raises(ConfigError, match="0 thresholds: each must be positive"):
            dtnn.config(name, levels=0)


def random_tables(cfg: DtnnConfig, seed: int = 0) -> Tables:
    rng = np.random.default_rng(seed)
    thresholds = np.sort(rng.integers(0, 257, (cfg.features, cfg.levels)), axis=1)
    layers, bits = [], thresholds.size
    for count, wide in zip(cfg.widths, cfg.bits, strict=True):
        wires = rng.integers(0, bits, (count, 6)).astype(np.int32)
        layers.append(Layer(wires, rng.integers(0, 1 << wide, (count, 64)).astype(np.int16), wide))
        bits = count * wide
    return Tables(cfg.shape, thresholds, tuple(layers), cfg.classes if cfg.head == "sum" else 0)


@pytest.mark.parametrize("cfg", [
    DtnnConfig("flat", (30,), SMALL),
    DtnnConfig("deep", (25, 30), SMALL, levels=3),
    DtnnConfig("codes", (20, 10), SMALL, bits=(1, 4), head="codes"),
    DtnnConfig("votes", (20, 30), SMALL, bits=(1, 3)),
], ids=lambda cfg: cfg.name)  # fmt: skip
def test_numpy_torch_and_the_integer_graph_agree(cfg: DtnnConfig) -> None:
    net = random_tables(cfg)
    images = np.random.default_rng(1).integers(0, 256, (9, *SMALL), dtype=np.uint8)
    found = dtnn.scores(net, images)
    with torch.no_grad():
        assert np.array_equal(dtnn.network(net)(torch.from_numpy(images).float() / 256), found)
    graph = ours.graph(net)
    for image, row in zip(images, found, strict=True):
        out = interp.run(graph, {"image": image.astype(np.int64)})
        scores, chosen = (out[name].ravel() for name in graph.outputs)
        assert np.array_equal(scores, row) and chosen.tolist() == [row.argmax()]


@pytest.mark.parametrize("signed", [False, True])
def test_torch_reads_whole_codes_of_several_bits(signed: bool) -> None:
    """A second layer of two children of three bits, or of the same bits in another order."""
    rng = np.random.default_rng(4)
    first = Layer(rng.integers(0, 81, (12, 6)).astype(np.int32),
                  rng.integers(-4 * signed, 8 - 4 * signed, (12, 64)).astype(np.int16), 3, signed)
    wires = (3 * rng.integers(0, 12, (20, 2))[:, :, None] + np.arange(3)).reshape(20, 6)
    second = Layer(wires.astype(np.int32), rng.integers(0, 2, (20, 64)).astype(np.int16))
    thresholds = rng.integers(0, 257, (81, 1))
    net = Tables((1, 9, 9), thresholds, (first, second), 10)
    images = rng.integers(0, 256, (40, 1, 9, 9), dtype=np.uint8)
    with torch.no_grad():
        found = dtnn.network(net)(torch.from_numpy(images).float() / 256)
    assert np.array_equal(found, dtnn.scores(net, images))
    mixed = dataclasses.replace(second, wires=np.ascontiguousarray(second.wires[:, ::-1]))
    with pytest.raises(ConfigError, match="layer 1 reads single bits of codes of 3"):
        dtnn.network(dataclasses.replace(net, layers=(first, mixed)))


def test_checkpoints_come_back_and_damaged_ones_do_not(tmp_path: Path) -> None:
    cfg = DtnnConfig("deep", (25, 30), SMALL, levels=3)
    net, path = random_tables(cfg), tmp_path / "x.safetensors"
    dtnn.save_checkpoint(net, path, {"config": dtnn.describe(cfg), "seed": 3})
    back, meta = dtnn.load_checkpoint(path)
    assert meta["seed"] == 3 and dtnn.from_description(meta["config"]) == cfg
    assert np.array_equal(back.thresholds, net.thresholds) and back.groups == 10
    for a, b in zip(back.layers, net.layers, strict=True):
        assert np.array_equal(a.wires, b.wires) and np.array_equal(a.values, b.values)
        assert (a.wires.dtype, a.values.dtype, a.bits) == (np.int32, np.int16, 1)
    whole = path.read_bytes()
    for damaged in (whole[:100], whole.replace(b'"dtnn\\"', b'"dxnn\\"'), b"", b"x" * 50):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"x\.safetensors"):
            dtnn.load_checkpoint(path)
    with pytest.raises(DataError, match="no such checkpoint"):
        dtnn.load_checkpoint(tmp_path / "none")
    far = dataclasses.replace(net.layers[0], wires=net.layers[0].wires + 10_000)
    with pytest.raises(DataError, match="layer 0 reads bits"):
        dataclasses.replace(net, layers=(far, net.layers[1]))


# --- whole runs ----------------------------------------------------------------------------------

QUICK = TableTraining(sweeps=6, copies=1, epochs=4, rate=0.01, batch=64, validation=0.1, threads=1)


def test_a_run_learns_and_repeats(
    digits: tuple[np.ndarray, ...], compiled: NumpyKernels, tmp_path: Path
) -> None:
    images, labels, test_images, test_labels = digits
    cfg = DtnnConfig("x", (100,), SMALL)
    seen: list[Progress] = []
    runs = [
        train(cfg, images, labels, tmp_path / name, tmp_path, QUICK, seen.append)
        for name in ("a", "b")
    ]
    # logistic regression on the same bits reaches 0.87, chance is 0.10
    assert dtnn.accuracy(runs[0].net, test_images, test_labels) > 0.87
    assert [p.phase for p in seen[:10]] == ["sweep"] * 6 + ["epoch"] * 4
    assert runs[0].checkpoint.read_bytes()[-6000:] == runs[1].checkpoint.read_bytes()[-6000:]
    net, meta = dtnn.load_checkpoint(runs[0].checkpoint)
    held = round(len(images) * 0.1)
    assert meta["validation_samples"] == held
    assert meta["validation_accuracy"] == dtnn.accuracy(net, images[-held:], labels[-held:])


class _Stop(Exception):
    pass


@pytest.mark.parametrize("at", [3, 8])
def test_an_interrupted_run_goes_on(
    digits: tuple[np.ndarray, ...], compiled: NumpyKernels, tmp_path: Path, at: int
) -> None:
    images, labels = digits[0][:640], digits[1][:640]
    cfg = DtnnConfig("x", (30, 40), SMALL)

    def stop(progress: Progress) -> None:
        if progress.step == at:
            raise _Stop

    whole = train(cfg, images, labels, tmp_path / "whole", tmp_path, QUICK)
    with pytest.raises(_Stop):
        train(cfg, images, labels, tmp_path / "cut", tmp_path, QUICK, stop)
    seen: list[Progress] = []
    rest = train(cfg, images, labels, tmp_path / "cut", tmp_path, QUICK, seen.append)
    assert seen[0].step == at + 1
    for a, b in zip(whole.net.layers, rest.net.layers, strict=True):
        assert np.array_equal(a.wires, b.wires) and np.array_equal(a.values, b.values)


def test_wiring_is_what_was_asked(
    digits: tuple[np.ndarray, ...], compiled: NumpyKernels, tmp_path: Path
) -> None:
    images, labels = digits[0][:640], digits[1][:640]
    found = {}
    for wiring in ("random", "patches", "learned"):
        cfg = DtnnConfig("x", (40,), SMALL, wiring=wiring)
        found[wiring] = train(cfg, images, labels, tmp_path / wiring, tmp_path, QUICK).net
    allowed = patches(DtnnConfig("x", (40,), SMALL), 40, 0)
    for node, wires in enumerate(found["patches"].layers[0].wires):
        assert allowed[node, wires].all()
        rows, cols = wires // 8, wires % 8
        assert np.ptp(rows) < 3 and np.ptp(cols) < 3
    start = descent.begin(np.arange(64), 0, 40, np.random.default_rng(0)).root_wires
    assert found["random"].layers[0].wires.shape == start.shape
    right = {w: dtnn.accuracy(net, images, labels) for w, net in found.items()}
    assert right["learned"] > right["random"]


@pytest.mark.parametrize("node", ["affine", "polynomial", "mlp", "lookup"])
def test_nodes_that_compute_train_and_become_tables(
    digits: tuple[np.ndarray, ...], tmp_path: Path, node: str
) -> None:
    images, labels, test_images, test_labels = digits
    cfg = DtnnConfig("x", (60, 60), SMALL, inputs=3, bits=(2, 2), node=node)
    options = TableTraining(epochs=12, batch=64, rate=0.02, threads=1)
    encoder = encoder_of(cfg, images)
    model = gradient.train_network(cfg, images, labels, encoder, tmp_path, options)
    net = gradient.enumerate_tables(model, cfg)
    with torch.no_grad():
        found = model(torch.from_numpy(test_images).float() / 256)
    assert np.array_equal(found, dtnn.scores(net, test_images))
    with torch.no_grad():  # and lookups of the same contents
        assert np.array_equal(dtnn.network(net)(torch.from_numpy(test_images).float() / 256), found)
    assert dtnn.accuracy(net, test_images, test_labels) > 0.6


def test_lookups_of_six_bits_train_by_gradient_alone(
    digits: tuple[np.ndarray, ...], tmp_path: Path
) -> None:
    images, labels, test_images, test_labels = digits
    right = {}
    for wiring in ("random", "learned"):
        cfg = DtnnConfig("x", (60,), SMALL, wiring=wiring)
        options = TableTraining(epochs=15, batch=64, rate=0.03, threads=1, method="gradient")
        net = train(cfg, images, labels, tmp_path / wiring, tmp_path, options).net
        right[wiring] = dtnn.accuracy(net, test_images, test_labels)
    assert 0.6 < right["random"] < right["learned"]


def test_root_codes_train_without_a_sum(digits: tuple[np.ndarray, ...], tmp_path: Path) -> None:
    images, labels, test_images, test_labels = digits
    cfg = DtnnConfig("x", (180, 60, 10), SMALL, inputs=3, bits=(2, 2, 4), node="affine",
                     head="codes")  # fmt: skip
    options = TableTraining(epochs=15, batch=64, rate=0.02, threads=1)
    found = train(cfg, images, labels, tmp_path / "run", tmp_path, options)
    assert found.net.groups == 0
    assert dtnn.accuracy(found.net, test_images, test_labels) > 0.6


def test_quantiles_part_the_samples_evenly() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (1000, 2, 1, 1), dtype=np.uint8)
    values[:900, 1] = 0  # mostly black: the quantiles are those of the rest
    cfg = DtnnConfig("x", (20,), (2, 1, 1), levels=3)
    found = encoder_of(cfg, values).thresholds
    shares = [(values[:, 0].ravel() >= t).mean() for t in found[0]]
    assert np.allclose(shares, [0.75, 0.5, 0.25], atol=0.03)
    assert np.allclose(found[1], [64, 128, 192], atol=25)
    assert (encoder_of(dataclasses.replace(cfg, levels=1), values).thresholds == 128).all()


def test_copies_follow_seed_and_step(digits: tuple[np.ndarray, ...]) -> None:
    images, labels = digits[0][:128], digits[1][:128]
    made = [Copies(NumpyKernels(), images, labels, 10, TableTraining(seed=seed))
            for seed in (0, 0, 1)]
    first, again, other = (c.draw(5, 1.0) for c in made)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], made[0].draw(6, 1.0)[0])
    assert first[0].shape == (128, *SMALL) and first[1].shape == (10, 128)
    assert np.array_equal(np.sort(first[1].argmax(0)), np.sort(labels))


def test_wrong_samples_are_refused(tmp_path: Path) -> None:
    cfg = DtnnConfig("x", (20,), SMALL)
    images, labels = np.zeros((100, *SMALL), np.uint8), np.zeros(100, np.int64)
    for a, b, what in (
        (images.astype(np.int32), labels, "uint8"), (images[:, :, 1:], labels, "uint8"),
        (images, labels[1:], "labels"), (images, labels + 10, "labels"),
        (images[:20], labels[:20], "to train with"), (images, labels, "nothing to learn"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=what):
            train(cfg, a, b, tmp_path / "out", tmp_path, QUICK)


# --- what is shipped -----------------------------------------------------------------------------

SHIPPED = [p for p in dtnn.DTNN if (CHECKPOINTS / f"dtnn_{p}_mnist.safetensors").is_file()]


@pytest.mark.parametrize("name", [name for name in SHIPPED if name in dtnn.PRESET_LUTS])
def test_shipped_networks_are_as_large_as_said(name: str) -> None:
    net, meta = dtnn.load_checkpoint(CHECKPOINTS / f"dtnn_{name}_mnist.safetensors")
    cfg = dtnn.from_description(meta["config"])
    found = sum(part.luts for part in core.estimate(ours.graph(net)).values())
    assert found <= dtnn.cost(cfg) <= dtnn.PRESET_LUTS[name]
    assert tuple(len(layer.wires) for layer in net.layers) == cfg.widths


@pytest.mark.parametrize(("name", "data"), [("lenet5", "mnist"), ("vgg", "cifar10")])
def test_shipped_convolutions_are_as_large_as_said(name: str, data: str) -> None:
    """Tables and sums; `dtnn.cost` leaves out the line buffers."""
    net, meta = dtnn.load_checkpoint(CHECKPOINTS / f"dtnn_{name}_{data}.safetensors")
    cfg = dtnn.from_description(meta["config"])
    assert cfg == dtnn.config(name, net.shape)
    parts = planner.estimate(ours.graph(net))
    tables = sum(part.luts for name, part in parts.items()
                 if not name.startswith("window") and name != "map")  # fmt: skip
    assert 0.8 * dtnn.cost(cfg) < tables <= dtnn.cost(cfg)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_networks_are_as_good_as_said(name: str) -> None:
    from hwflow.data import default_cache, mnist

    if not (default_cache() / mnist.ARCHIVE.file).is_file():
        pytest.skip("MNIST is not in the cache")
    net, meta = dtnn.load_checkpoint(CHECKPOINTS / f"dtnn_{name}_mnist.safetensors")
    images, labels = mnist.load("test", default_cache())
    assert dtnn.accuracy(net, images, labels) == meta["test_accuracy"]


def test_compiled_kernels_leave_the_arithmetic_of_the_process(tmp_path: Path) -> None:
    """A library linked with -ffast-math makes numbers next to 0 vanish everywhere."""
    code = (
        "import sys\nimport numpy as np\nfrom pathlib import Path\n"
        "from hwflow.models.dtnn import DtnnConfig\n"
        "from hwflow.train_tables import TableTraining, train\n"
        "from hwflow.training_tables.kernels import CompiledKernels, load\n"
        "folder = Path(sys.argv[1])\nprint(isinstance(load(folder), CompiledKernels))\n"
        "rng = np.random.default_rng(0)\n"
        "x, y = rng.integers(0, 256, (128, 1, 9, 9), dtype=np.uint8), rng.integers(0, 10, 128)\n"
        "train(DtnnConfig('net', (20,), (1, 9, 9)), x, y, folder / 'run', folder,\n"
        "      TableTraining(sweeps=1, epochs=1, batch=64))\n"
        "print(float(np.float32(1e-40)) > 0, float(np.float32(2e-38) * np.float32(0.25)) > 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True,
                          text=True, check=True, timeout=200)  # fmt: skip
    compiled, kept = done.stdout.splitlines()
    if compiled != "True":
        pytest.skip("no compiler")
    assert kept == "True True"
