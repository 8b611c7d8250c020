# SPDX-License-Identifier: Apache-2.0
"""A run of coordinate descent: sweeps over the hard tables, then minibatches straight through."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hwflow.errors import DataError
from hwflow.models.dtnn import DtnnConfig, Layer, Tables
from hwflow.training_tables import descent
from hwflow.training_tables.copies import Copies
from hwflow.training_tables.encoders import Encoder
from hwflow.training_tables.kernels import NumpyKernels, Stack, load
from hwflow.training_tables.loops import CELLS
from hwflow.training_tables.options import TableTraining
from hwflow.training_tables.run import (
    RESUME,
    START,
    SWEEP,
    Progress,
    ProgressCallback,
    identity_of,
    load_state,
    save_state,
)
from hwflow.training_tables.wiring import patches

Draw = Callable[[int, float], tuple[np.ndarray, np.ndarray]]  # bits (P, n), targets (classes, n)


def train(
    cfg: DtnnConfig, images: np.ndarray, labels: np.ndarray, encoder: Encoder, out: Path,
    cache: Path, options: TableTraining, progress: ProgressCallback | None,
) -> Tables:  # fmt: skip
    """Train options.sweeps sweeps and options.epochs epochs; go on with what is left in `out`."""
    kernels = load(cache)
    teacher = None
    if options.distil:
        from hwflow.training_tables import teachers  # torch is wanted for this alone

        teacher = teachers.teacher(images, labels, cfg.classes, options)
    worth = np.flatnonzero(encoder.telling(images))
    if not len(worth):
        raise DataError("no element of the images changes: there is nothing to learn from")
    if cfg.wiring == "patches":  # which name bits by their place in the image
        worth = np.arange(encoder.bits)
    copies = Copies(kernels, images, labels, cfg.classes, options, teacher)

    def draw(step: int, times: float) -> tuple[np.ndarray, np.ndarray]:
        drawn, q = copies.draw(step, times)
        return encoder.columns(drawn, worth), q

    leaves, roots = (0, *cfg.widths)[-2:]
    first = leaves or roots
    allowed = None
    if cfg.wiring == "patches":
        allowed = patches(cfg, first, options.seed)
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
        fee = options.lut_weight * encoder.luts()[worth]
    total = options.sweeps + options.epochs
    start = time.monotonic()
    for step in range(done, total):
        moved = 0
        if step < options.sweeps:
            loss, moved = _sweep(kernels, stack, draw, cfg, options, step, votes, fee, allowed)
            if step == options.sweeps - 1:
                _soften(stack, options.contents)
        else:
            at = step - options.sweeps
            if step == 0:
                _soften(stack, options.contents)
            x, q = draw(step, 1)
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
    return Tables(cfg.shape, encoder.thresholds, tuple(layers), cfg.classes, encoder.linear)


def _soften(stack: Stack, to: float) -> None:
    stack.root_values[:] = descent.normalised(stack.root_values, to)
    if len(stack.leaf_values):
        stack.leaf_values[:] = descent.normalised(stack.leaf_values, to)


def _cosine(rate: float, step: int, steps: int) -> float:
    return rate * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _sweep(
    kernels: NumpyKernels, stack: Stack, draw: Draw, cfg: DtnnConfig, options: TableTraining,
    step: int, votes: float, fee: np.ndarray | None, allowed: np.ndarray | None,
) -> tuple[float, int]:  # fmt: skip
    """One sweep: the loss after it on its own samples, wires that moved."""
    part = step / max(1, options.sweeps - 1)
    x, q = draw(step, options.copies if step > 2 else min(1.0, options.copies))
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
