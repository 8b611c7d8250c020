# SPDX-License-Identifier: Apache-2.0
"""Training of classifiers made of lookup tables (docs/dtnn-training.md): wires and contents.

Binary six-input tables in one or two layers with summed votes are trained by coordinate descent on
the hard network, then by minibatches straight through it (hwflow/training_tables/sweeps.py). Those
that slide over maps are trained by minibatches alone (hwflow/training_tables/windows.py), all other
networks (nodes that compute, wider codes, more layers, root codes) by torch
(hwflow/training_tables/gradient.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwflow import __version__
from hwflow.errors import ConfigError, DataError
from hwflow.models import dtnn
from hwflow.models.dtnn import DtnnConfig, Tables
from hwflow.training_tables import sweeps
from hwflow.training_tables.encoders import Encoder, encoder_of
from hwflow.training_tables.loops import BLOCK
from hwflow.training_tables.options import TableTraining, binary, plain, recipe
from hwflow.training_tables.run import RESUME, Progress, ProgressCallback

__all__ = [
    "CHECKPOINT", "RESUME", "Progress", "ProgressCallback", "TableTraining", "TrainResult",
    "binary", "plain", "recipe", "sized", "train",
]  # fmt: skip

CHECKPOINT = "dtnn.safetensors"


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


def train(
    cfg: DtnnConfig, images: np.ndarray, labels: np.ndarray, out: Path, cache: Path,
    options: TableTraining | None = None, progress: ProgressCallback | None = None,
    device: str = "auto",
) -> TrainResult:  # fmt: skip
    """Train a network on images uint8 (N, C, H, W) with labels int64 (N,); go on with what is left
    if `out` holds an interrupted run of the same options.

    Writes out/dtnn.safetensors. cache: folder for compiled kernels. device: auto, cpu or cuda: what
    torch trains goes there, the other roads are for the CPU. Raises DataError where samples and
    configuration do not agree, ConfigError for options that the road does not have.
    """
    options = options or TableTraining()
    _check_samples(cfg, images, labels)
    by_torch = not cfg.convs and (options.method == "gradient" or not binary(cfg))
    if not by_torch and device not in ("auto", "cpu"):
        raise ConfigError(f"device {device!r}: coordinate descent and windows run on the CPU "
                          "(their loops are C++); use cpu or auto, or the method 'gradient' and "
                          "no convolutions")
    if options.learn_thresholds and not by_torch:
        raise ConfigError("--learn-thresholds: windows and coordinate descent keep thresholds as "
                          "they are found; leave it out, or take the method 'gradient' and no "
                          "convolutions")
    if options.learn_thresholds and cfg.precision != 8:
        raise ConfigError(f"--learn-thresholds: thresholds of {cfg.precision} bits a pixel are not "
                          "learned; leave it out, or give --precision 8")
    held = round(len(images) * options.validation)
    kept = len(images) - held
    if kept < BLOCK:
        raise DataError(f"{kept} samples to train with: give {BLOCK} or more")
    where = None
    if by_torch:
        from hwflow.models.devices import device_of

        where = device_of(device)
    out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    if cfg.shape[1:] == (1, 1):  # rows may come class by class
        order = np.random.default_rng(0).permutation(len(images))
        images, labels = images[order], labels[order]
    encoder = encoder_of(cfg, images[:kept])
    if cfg.convs:
        from hwflow.training_tables import windows

        net = windows.train(cfg, images[:kept], labels[:kept], encoder, out, cache, options,
                            progress)  # fmt: skip
    elif where is None:
        net = sweeps.train(cfg, images[:kept], labels[:kept], encoder, out, cache, options,
                           progress)  # fmt: skip
    else:
        from hwflow.training_tables import gradient

        net = gradient.train(cfg, images[:kept], labels[:kept], encoder, out, cache, options,
                             progress, where)  # fmt: skip
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
    made = Encoder(net.thresholds, net.linear)
    estimate = dtnn.cost(cfg, made.thresholds if cfg.convs else _read(made, images[:kept]))
    return TrainResult(out / CHECKPOINT, net, train_accuracy, found, estimate, seconds)


def sized(luts: int, cfg: DtnnConfig, images: np.ndarray) -> DtnnConfig:
    """The largest network of one layer of binary tables for a budget, with the shape, classes and
    encoder of cfg: what `encoder_of` finds in the samples it is trained with, so that its
    comparators are known and not only bounded."""
    read = _read(encoder_of(cfg, images), images)
    return dtnn.sized(luts, cfg.shape, cfg.classes, cfg.levels, cfg.precision, read, cfg.encoder)


def _read(encoder: Encoder, images: np.ndarray) -> np.ndarray:
    """Its thresholds, with a top bit, which costs nothing, for those that part no samples: these
    are not read."""
    if encoder.linear:
        return encoder.thresholds
    telling = encoder.telling(images).reshape(encoder.thresholds.shape[::-1]).T
    found: np.ndarray = np.where(telling, encoder.thresholds, dtnn.TOP_BIT)
    return found


def _check_samples(cfg: DtnnConfig, images: np.ndarray, labels: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != cfg.shape:
        raise DataError(f"images {images.dtype} {images.shape} for a dtnn of {cfg.shape}: give "
                        f"uint8 (N, {', '.join(map(str, cfg.shape))})")
    if not len(images):
        raise DataError(f"no samples to train with: give {BLOCK} or more")
    if labels.shape != (len(images),) or labels.min() < 0 or labels.max() >= cfg.classes:
        raise DataError(f"labels {labels.shape} of {labels.min()}..{labels.max()} for "
                        f"{len(images)} images of {cfg.classes} classes")
