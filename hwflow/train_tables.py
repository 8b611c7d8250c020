# SPDX-License-Identifier: Apache-2.0
"""Training of classifiers made of lookup tables (docs/dtnn-training.md): wires and contents.

Binary six-input tables in one or two layers with summed votes are trained by coordinate descent on
the hard network (hwflow/training_tables/descent.py), then by minibatches straight through it. Those
that slide over maps are trained by minibatches alone (hwflow/training_tables/windows.py), all other
networks (nodes that compute, wider codes, more layers, root codes) by torch
(hwflow/training_tables/gradient.py). What a step draws depends on the seed and the step alone, so
that an interrupted run goes on as if it had not been interrupted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from hwflow import __version__
from hwflow.emit.tables.cost import threshold_luts
from hwflow.errors import ConfigError, DataError
from hwflow.models import dtnn
from hwflow.models.dtnn import DtnnConfig, Layer, Tables
from hwflow.training_tables import descent
from hwflow.training_tables.kernels import CELLS, NumpyKernels, Stack, Warp
from hwflow.training_tables.kernels import load as load_kernels

LOG = logging.getLogger(__name__)

RESUME = "resume.safetensors"
CHECKPOINT = "dtnn.safetensors"
METHODS = ("descent", "gradient")
RARE = 0.005  # a bit that is set, or not set, less often is no wire to begin with
MIDDLE = (0.16, 0.84)  # one deviation to either side
SWEEP, EPOCH, COPY, START = range(4)  # what a random generator is for


@dataclass(frozen=True)
class TableTraining:
    """All that decides a run; None is chosen from the configuration and the data. The defaults are
    the recipe of the shipped networks, chosen on the last sixth of MNIST's 60,000.

    seed. sweeps: of coordinate descent, each over so many distorted `copies` of the samples.
    judged: share of the samples that judge wires. margins: what a moved wire must gain, first and
    last sweep. memory: of earlier sweeps' sums, first and last. temperature: votes per nat.
    contents: mean size of the contents that minibatches start with. epochs, batch, rate, betas: of
    the minibatches (Adam, the rate falls as a cosine). warp: distortions. flip: half of the images
    from left to right; jitter: whole pixels that images move, at most (both with convolutions
    only). noise: on the elements of rows of a table, its deviation as a share of the range that
    holds the middle two thirds of their values. lut_weight: loss a LUT of a comparison must save,
    nats a sample. validation: share of the samples, the last ones, that are not trained
    with but measured at the end. distil: weight of a float teacher's classes in the targets,
    teachers: of so many the mean, teacher_epochs: of training each. method: "descent" where
    `binary` allows it, or "gradient": torch in any case, with wiring by prune and regrow;
    learn_thresholds: with this method alone. threads of torch.
    """

    seed: int = 0
    sweeps: int = 20
    copies: float = 3.0
    judged: float = 1.0
    margins: tuple[float, float] = (0.002, 0.02)
    memory: tuple[float, float] = (0.5, 0.9)
    temperature: float | None = None
    contents: float = 0.3
    epochs: int = 60
    batch: int = 256
    rate: float = 0.008
    betas: tuple[float, float] = (0.9, 0.999)
    warp: Warp | None = None
    flip: bool = False
    jitter: int = 0
    noise: float = 0.0
    lut_weight: float = 0.0
    validation: float = 0.0
    distil: float = 0.0
    teachers: int = 1
    teacher_epochs: int = 4
    method: str = "descent"
    learn_thresholds: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed}: give 0 or more")
        if self.batch < descent.BLOCK or self.batch % descent.BLOCK:
            raise ConfigError(f"batch {self.batch}: give a multiple of {descent.BLOCK}")
        if min(self.sweeps, self.epochs) < 0 or self.copies <= 0:
            raise ConfigError(f"{self.sweeps} sweeps of {self.copies} copies, {self.epochs} epochs:"
                              " give none or more of each, and a share of a copy or more")
        if self.method not in METHODS:
            raise ConfigError(f"method {self.method!r}: choose {', '.join(METHODS)}")
        if not (0 <= self.validation < 1 and 0 <= self.distil <= 1):
            raise ConfigError(f"validation {self.validation} and distil {self.distil} are shares: "
                              "give 0 to 1")
        if self.noise < 0 or self.lut_weight < 0 or min(self.teachers, self.teacher_epochs) < 1:
            raise ConfigError(f"noise {self.noise}, LUT weight {self.lut_weight}, {self.teachers} "
                              f"teachers of {self.teacher_epochs} epochs: give 0 or more noise and "
                              "weight, a teacher or more")


# Rows of a table overfit without new copies of them; what noise makes of them a teacher must label.
ROWS: Mapping[str, Any] = MappingProxyType({
    "sweeps": 16, "epochs": 20, "noise": 0.15, "distil": 1.0, "teachers": 3, "teacher_epochs": 40,
    "lut_weight": 1e-4,
})  # fmt: skip


# Options that the roads of training know nothing of
BY_TORCH = ("sweeps", "lut_weight")
BY_WINDOWS = (*BY_TORCH, "distil", "teachers", "teacher_epochs", "noise", "threads",
              "learn_thresholds")  # fmt: skip


def recipe(cfg: DtnnConfig, given: Mapping[str, Any]) -> TableTraining:
    """How a configuration is trained unless told otherwise: the options in `given` go first.

    ConfigError when one of them has no meaning for networks of this kind.
    """
    by_torch = given.get("method") == "gradient" or not binary(cfg)
    without = BY_WINDOWS if cfg.convs else BY_TORCH if by_torch else ()
    if unused := [f"--{name.replace('_', '-')}" for name in without if name in given]:
        kind = "convolutional networks" if cfg.convs else "networks that torch trains"
        raise ConfigError(f"{', '.join(unused)}: means nothing for {kind} of tables; leave it out")
    if not cfg.convs:
        rows = cfg.shape[1:] == (1, 1) and binary(cfg)
        return TableTraining(**{**(ROWS if rows else {}), **given})
    chosen: dict[str, Any] = {"epochs": 12, "batch": 128, "rate": 0.04}
    if cfg.shape[0] > 1:  # photographs: a warp would blur them
        chosen |= {"warp": Warp(share=0.0), "flip": True, "jitter": 2}
    return TableTraining(**chosen | dict(given))


@dataclass(frozen=True)
class Progress:
    """Sent to the callback. phase: "sweep" or "epoch"; moved: wires that moved in a sweep."""

    phase: str
    step: int
    steps: int
    loss: float
    moved: int
    seconds: float


@dataclass(frozen=True)
class TrainResult:
    """checkpoint: the file written. train and validation accuracy, 0 to 1 (None: none held back).

    estimate: LUT6 by dtnn.cost. seconds: of training.
    """

    checkpoint: Path
    net: Tables
    train_accuracy: float
    validation_accuracy: float | None
    estimate: int
    seconds: float


ProgressCallback = Callable[[Progress], None]


def train(
    cfg: DtnnConfig, images: np.ndarray, labels: np.ndarray, out: Path, cache: Path,
    options: TableTraining | None = None, progress: ProgressCallback | None = None,
) -> TrainResult:  # fmt: skip
    """Train a network on images uint8 (N, C, H, W) with labels int64 (N,); go on with what is left
    if `out` holds an interrupted run of the same options.

    Writes out/dtnn.safetensors. cache: folder for compiled kernels. Raises DataError where samples
    and configuration do not agree.
    """
    options = options or TableTraining()
    _check_samples(cfg, images, labels)
    by_torch = not cfg.convs and (options.method == "gradient" or not binary(cfg))
    if options.learn_thresholds and not by_torch:
        raise ConfigError("--learn-thresholds: windows and coordinate descent keep thresholds as "
                          "they are found; leave it out, or take the method 'gradient' and no "
                          "convolutions")
    if options.learn_thresholds and cfg.precision != 8:
        raise ConfigError(f"--learn-thresholds: thresholds of {cfg.precision} bits a pixel are not "
                          "learned; leave it out, or give --precision 8")
    held = round(len(images) * options.validation)
    kept = len(images) - held
    if kept < descent.BLOCK:
        raise DataError(f"{kept} samples to train with: give {descent.BLOCK} or more")
    out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    if cfg.shape[1:] == (1, 1):  # rows may come class by class
        order = np.random.default_rng(0).permutation(len(images))
        images, labels = images[order], labels[order]
    thresholds = encoder(cfg, images[:kept])
    if cfg.convs:
        from hwflow.training_tables import windows

        net = windows.train(cfg, images[:kept], labels[:kept], thresholds, out, cache, options,
                            progress)  # fmt: skip
    elif binary(cfg) and options.method == "descent":
        net = _tables(cfg, images[:kept], labels[:kept], thresholds, out, cache, options, progress)
    else:
        from hwflow.training_tables import gradient

        net = gradient.train(cfg, images[:kept], labels[:kept], thresholds, out, cache, options,
                             progress)  # fmt: skip
    seconds = time.monotonic() - start
    seen = min(kept, 10_000)
    train_accuracy = dtnn.accuracy(net, images[:seen], labels[:seen])
    found = dtnn.accuracy(net, images[kept:], labels[kept:]) if held else None
    meta = {
        "config": dtnn.describe(cfg), "options": plain(options), "seed": options.seed,
        "train_accuracy": train_accuracy, "validation_accuracy": found,
        "validation_samples": held, "seconds": round(seconds, 1), "version": __version__,
    }
    dtnn.save_checkpoint(net, out / CHECKPOINT, meta)
    (out / RESUME).unlink(missing_ok=True)
    if options.learn_thresholds:
        thresholds = net.thresholds
    return TrainResult(out / CHECKPOINT, net, train_accuracy, found, dtnn.cost(cfg, thresholds),
                       seconds)


def binary(cfg: DtnnConfig) -> bool:
    """Whether coordinate descent can train it."""
    return (cfg.node, cfg.head, cfg.inputs) == ("lookup", "sum", dtnn.TABLE_INPUTS) and (
        len(cfg.widths) <= 2 and set(cfg.bits) == {1}
    )


def encoder(cfg: DtnnConfig, images: np.ndarray) -> np.ndarray:
    """Thresholds int64 (F, levels): the top bit, or quantiles of what a feature is in the samples.

    A feature is an element of the image; of a network with convolutions, a channel of all pixels. A
    value that fills more than its share (the black of most pixels) is one quantile only. They are
    multiples of what cfg.precision leaves out, and of the greatest power of two that parts the
    samples alike.
    """
    flat = images.reshape(len(images), -1)
    if cfg.convs:
        flat = images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1])
    if cfg.levels == 1:
        return np.full((flat.shape[1], 1), dtnn.TOP_BIT, np.int64)
    step = 1 << (8 - cfg.precision)
    out = np.empty((flat.shape[1], cfg.levels), np.int64)
    places = np.arange(1, cfg.levels + 1) / (cfg.levels + 1)
    for feature, values in enumerate(flat.T):
        above = values[values > values.min()]
        crowded = len(above) < len(values) * cfg.levels / (cfg.levels + 1)
        among = above if crowded and len(above) else values
        chosen = np.ceil(np.quantile(among, places))
        if step > 1:
            chosen = np.minimum(step * np.rint(chosen / step), 256 - step)
        levels = np.maximum(step, chosen).astype(np.int64)
        occurring = np.unique(values)
        out[feature] = [_simplest(occurring, int(level)) for level in levels]
    return np.sort(out, axis=1)


def _simplest(values: np.ndarray, level: int) -> int:
    """The threshold of fewest bits that parts the same values (rising) as `level` does."""
    at = int(np.searchsorted(values, level))
    if at in (0, len(values)):
        return level
    low, high = int(values[at - 1]), int(values[at])
    return max(range(low + 1, high + 1), key=lambda one: (one & -one, -abs(one - level)))


def telling(images: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which thresholds (F, L) part the samples at all, bool: only these are worth a wire."""
    flat = images.reshape(len(images), -1)
    often = np.stack([(flat >= row).mean(axis=0) for row in thresholds.T], axis=1)
    found: np.ndarray = (often > RARE) & (often < 1 - RARE)
    return found


def sized(luts: int, cfg: DtnnConfig, images: np.ndarray) -> DtnnConfig:
    """The largest network of one layer of binary tables for a budget, with the shape, classes and
    thresholds of cfg: those that `encoder` finds in the samples it is trained with, so that their
    comparators are known and not only bounded."""
    thresholds = encoder(cfg, images)
    read = np.where(telling(images, thresholds), thresholds, dtnn.TOP_BIT)
    return dtnn.sized(luts, cfg.shape, cfg.classes, cfg.levels, cfg.precision, read)


def patches(shape: tuple[int, int, int], levels: int, count: int, seed: int) -> np.ndarray:
    """For structured wiring: which encoder bits each node may read, uint8 (count, levels * F).

    Each has a window of a quarter of the image's sides (at least three pixels) of its own.
    """
    planes, height, width = shape
    rng = np.random.default_rng([seed, START, 1])
    allowed = np.zeros((count, levels, planes, height, width), np.uint8)
    tall, wide = min(height, max(3, height // 4)), min(width, max(3, width // 4))
    tops = rng.integers(0, height - tall + 1, count)
    lefts = rng.integers(0, width - wide + 1, count)
    for node, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        allowed[node, :, :, top : top + tall, left : left + wide] = 1
    return allowed.reshape(count, -1)


def _check_samples(cfg: DtnnConfig, images: np.ndarray, labels: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != cfg.shape:
        raise DataError(f"images {images.dtype} {images.shape} for a dtnn of {cfg.shape}: give "
                        f"uint8 (N, {', '.join(map(str, cfg.shape))})")
    if labels.shape != (len(images),) or labels.min() < 0 or labels.max() >= cfg.classes:
        raise DataError(f"labels {labels.shape} of {labels.min()}..{labels.max()} for "
                        f"{len(images)} images of {cfg.classes} classes")


def plain(options: TableTraining) -> dict[str, Any]:
    """Options as a checkpoint keeps them."""
    return json.loads(json.dumps(dataclasses.asdict(options)))  # type: ignore[no-any-return]


def default_warp(shape: tuple[int, int, int]) -> Warp:
    """Distortions for images of this size; none for rows of a table."""
    small = min(shape[1:])
    if small < 4:
        return Warp(0, 0, 0, 0, 0, 0)
    return Warp(shift=1.5 * small / 28)


class Copies:
    """Distorted copies of the samples: encoder bits as columns, and targets."""

    def __init__(
        self, kernels: NumpyKernels, images: np.ndarray, labels: np.ndarray, classes: int,
        thresholds: np.ndarray, options: TableTraining, teacher: Callable[[np.ndarray], np.ndarray]
        | None, worth: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.kernels, self.labels, self.classes, self.worth = kernels, labels, classes, worth
        self.images = np.ascontiguousarray(images)
        self.thresholds, self.options, self.teacher = thresholds, options, teacher
        self.warp = options.warp or default_warp(images.shape[1:])
        if options.noise:
            low, high = np.quantile(self.images, MIDDLE, axis=0)
            self.noise = (options.noise * (high - low)).astype(np.float32)

    def draw(
        self, step: int, times: float, whole: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bits uint8 (P, n), those that are worth it, or whole elements of the images (F, n), and
        targets float32 (classes, n), shuffled; n is a multiple of BLOCK."""
        rng = np.random.default_rng([self.options.seed, COPY, step])
        count = len(self.images)
        order = np.concatenate([rng.permutation(count) for _ in range(math.ceil(times))])
        wanted = min(len(order), max(descent.BLOCK, round(times * count)))
        order = order[: wanted // descent.BLOCK * descent.BLOCK]
        picked = self.images[order]
        if self.warp.share > 0:
            picked = self.kernels.augment(
                self.images, order, self.warp, int(rng.integers(1 << 60))
            )
        if self.options.noise:
            moved = picked + self.noise * rng.standard_normal(picked.shape, np.float32)
            picked = np.clip(np.rint(moved), 0, 255).astype(np.uint8)
        flat = picked.reshape(len(order), -1)
        if whole:
            bits = np.ascontiguousarray(flat.T)
        else:
            bits = np.concatenate([np.ascontiguousarray((flat >= row).T)
                                   for row in self.thresholds.T])  # fmt: skip
            bits = bits if self.worth is None else bits[self.worth]
        q: np.ndarray = np.zeros((self.classes, len(order)), np.float32)
        q[self.labels[order], np.arange(len(order))] = 1
        if self.teacher is not None:
            weight = np.float32(self.options.distil)
            q = (1 - weight) * q + weight * self.teacher(picked).T
        return bits.view(np.uint8), np.ascontiguousarray(q, np.float32)


def _tables(
    cfg: DtnnConfig, images: np.ndarray, labels: np.ndarray, thresholds: np.ndarray, out: Path,
    cache: Path, options: TableTraining, progress: ProgressCallback | None,
) -> Tables:  # fmt: skip
    kernels = load_kernels(cache)
    teacher = None
    if options.distil:
        from hwflow.training_tables import teachers

        teacher = teachers.teacher(images, labels, cfg.classes, options)
    worth = np.flatnonzero(telling(images, thresholds).T.ravel())
    if not len(worth):
        raise DataError("no element of the images changes: there is nothing to learn from")
    if cfg.wiring == "patches":  # which name bits by their place in the image
        worth = np.arange(thresholds.size)
    copies = Copies(kernels, images, labels, cfg.classes, thresholds, options, teacher, worth)
    leaves, roots = (0, *cfg.widths)[-2:]
    first = leaves or roots
    allowed = None
    if cfg.wiring == "patches":
        allowed = patches(cfg.shape, cfg.levels, first, options.seed)
    identity = identity_of(cfg, options, images, labels, kernels.name)
    state = _resume(out, identity)
    if state is None:
        rng = np.random.default_rng([options.seed, START])
        done, stack = 0, descent.begin(np.arange(len(worth)), leaves, roots, rng, allowed)
    else:
        done, stack = state
    votes = options.temperature or descent.temperature(roots, cfg.classes)
    fee = None
    if options.lut_weight:
        luts = np.array([threshold_luts(int(level)) for level in thresholds.T.ravel()])
        fee = options.lut_weight * luts[worth]
    total = options.sweeps + options.epochs
    start = time.monotonic()
    for step in range(done, total):
        moved = 0
        if step < options.sweeps:
            loss, moved = _sweep(kernels, stack, copies, cfg, options, step, votes, fee, allowed)
            if step == options.sweeps - 1:
                _soften(stack, options.contents)
        else:
            at = step - options.sweeps
            if step == 0:
                _soften(stack, options.contents)
            x, q = copies.draw(step, 1)
            batch = min(options.batch, x.shape[1])
            rates = (_cosine(options.rate, at, options.epochs),
                     _cosine(options.rate, at + 1, options.epochs))  # fmt: skip
            loss = kernels.epoch(x, stack, q, 1 / votes, batch, rates, at * (x.shape[1] // batch),
                                 options.betas)  # fmt: skip
        _save(out, identity, step + 1, stack)
        if progress is not None:
            phase = "sweep" if step < options.sweeps else "epoch"
            progress(Progress(phase, step + 1, total, loss, moved, time.monotonic() - start))
    tables = [(stack.leaf_wires, stack.leaf_tables)] if leaves else []
    tables.append((stack.root_wires, stack.root_tables))
    tables[0] = (worth.astype(np.int32)[tables[0][0]], tables[0][1])
    layers = [Layer(wires, contents.astype(np.int16)) for wires, contents in tables]
    return Tables(cfg.shape, thresholds, tuple(layers), cfg.classes)


def _soften(stack: Stack, to: float) -> None:
    stack.root_values[:] = descent.normalised(stack.root_values, to)
    if len(stack.leaf_values):
        stack.leaf_values[:] = descent.normalised(stack.leaf_values, to)


def _cosine(rate: float, step: int, steps: int) -> float:
    return rate * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _sweep(
    kernels: NumpyKernels, stack: Stack, copies: Copies, cfg: DtnnConfig, options: TableTraining,
    step: int, votes: float, fee: np.ndarray | None, allowed: np.ndarray | None,
) -> tuple[float, int]:  # fmt: skip
    """One sweep: the loss after it on its own samples, wires that moved."""
    part = step / max(1, options.sweeps - 1)
    x, q = copies.draw(step, options.copies if step > 2 else min(1.0, options.copies))
    (m0, m1), (r0, r1) = options.margins, options.memory
    how = descent.SweepOptions(
        rewire=0.0 if cfg.wiring == "random" else min(1.0, 2 * (1 - part)),
        margin=m0 * (m1 / m0) ** part if m0 else m1 * part, memory=r0 + (r1 - r0) * part,
        samples=round(options.judged * x.shape[1]), allowed=allowed,
        bit_cost=None if fee is None else (fee * x.shape[1]).astype(np.float32),
    )  # fmt: skip
    work = descent.Descent(kernels, stack, x, q, votes)
    moved = work.sweep(how, np.random.default_rng([options.seed, SWEEP, step]))
    return work.loss(), moved


# --- an interrupted run -------------------------------------------------------------------------


def identity_of(
    cfg: DtnnConfig, options: TableTraining, images: np.ndarray, labels: np.ndarray, loops: str
) -> str:
    """What decides a run, as a digest. loops: the name of the kernels."""
    body = json.dumps([dtnn.describe(cfg), plain(options), loops, len(images)])
    digest = hashlib.sha256(body.encode())
    digest.update(images.tobytes())
    digest.update(labels.tobytes())
    return digest.hexdigest()


def save_state(out: Path, identity: str, done: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep what an interrupted run needs to go on after so many steps."""
    from safetensors.numpy import save_file

    made = out / f".{RESUME}"
    save_file({name: np.array(array, order="C") for name, array in arrays.items()}, made,
              metadata={"identity": identity, "done": str(done)})  # fmt: skip
    made.replace(out / RESUME)


def load_state(
    out: Path, identity: str, names: Sequence[str]
) -> tuple[int, dict[str, np.ndarray]] | None:
    """Steps done and their arrays, if the folder holds an interrupted run of this identity."""
    from safetensors import SafetensorError, safe_open

    path = out / RESUME
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            meta = file.metadata() or {}
            if meta.get("identity") != identity:
                LOG.warning("%s is of a run with other options or data: training starts anew", path)
                return None
            arrays = {name: np.array(file.get_tensor(name), order="C") for name in names}
            return int(meta["done"]), arrays
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it to start anew") from error


def _save(out: Path, identity: str, done: int, stack: Stack) -> None:
    save_state(out, identity, done, {f.name: getattr(stack, f.name)
                                     for f in dataclasses.fields(Stack)})  # fmt: skip


def _resume(out: Path, identity: str) -> tuple[int, Stack] | None:
    """Steps done and their stack, if the folder holds an interrupted run of this identity."""
    found = load_state(out, identity, [f.name for f in dataclasses.fields(Stack)])
    if found is None:
        return None
    done, arrays = found
    stack = Stack(**arrays)
    if stack.root_values.shape[1] != CELLS:
        raise DataError(f"{out / RESUME}: is damaged; delete it")
    return done, stack
