# SPDX-License-Identifier: Apache-2.0
"""Straight-through training in torch, of any network of hwflow/models/tables.py.

Wires are learned by prune and regrow (torch_wiring.py).
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from hwflow.errors import ConfigError, DataError
from hwflow.models.dtnn import DtnnConfig, Layer, Tables
from hwflow.models.tables import (
    AffineNode,
    ArithmeticNode,
    Code,
    GroupSum,
    LinearCodes,
    LookupNode,
    MlpNode,
    PolynomialNode,
    TableLayer,
    TableNetwork,
    Thresholds,
)
from hwflow.training_tables import descent, wiring
from hwflow.training_tables.copies import Copies
from hwflow.training_tables.encoders import Encoder, simplest
from hwflow.training_tables.kernels import load as load_kernels
from hwflow.training_tables.options import TableTraining
from hwflow.training_tables.run import (
    RESUME,
    Progress,
    ProgressCallback,
    identity_of,
    load_state,
    save_state,
)
from hwflow.training_tables.teachers import teacher
from hwflow.training_tables.torch_wiring import layers_of, loss_of, node_of, regrow

CPU = torch.device("cpu")
REGROW_SAMPLES = 1024
THRESHOLD_RATE = 64.0  # thresholds are in pixels
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def build(
    cfg: DtnnConfig, encoder: Encoder, seed: int, allowed: np.ndarray | None = None,
    learn: bool = False,
) -> TableNetwork:  # fmt: skip
    """An untrained network with random wires; allowed: uint8 (nodes, bits) of the first layer.
    learn: its encoder is trained."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    layers: list[nn.Module] = []
    channels, code = encoder.bits, Code(1)
    for count, bits in zip(cfg.widths, cfg.bits, strict=True):
        made = Code(bits)
        free = allowed if not layers else None
        wires = np.stack([
            rng.choice(np.flatnonzero(free[n]) if free is not None else channels, cfg.inputs,
                       replace=channels < cfg.inputs)
            for n in range(count)
        ])  # fmt: skip
        layers.append(TableLayer(torch.from_numpy(wires), _node(cfg, count, code, made)))
        channels, code = count, made
    head = GroupSum(cfg.classes) if cfg.head == "sum" else None
    return TableNetwork(_encoder(cfg, encoder, learn), layers, head)


def _encoder(cfg: DtnnConfig, encoder: Encoder, learn: bool) -> Thresholds | LinearCodes:
    if encoder.ends is None:
        return Thresholds(torch.from_numpy(encoder.thresholds).float(), True, learn)
    low, high = (torch.from_numpy(end).float() for end in encoder.ends)
    grid = 1 << (8 - cfg.precision)
    return LinearCodes(low, high, cfg.bits_an_element, cfg.features, learn, grid)


def _node(
    cfg: DtnnConfig, count: int, read: Code, made: Code
) -> LookupNode | ArithmeticNode:
    if cfg.node == "lookup":
        size = 1 << (cfg.inputs * read.bits)
        # the mean of the children is a table to begin with, and a random part on top of it
        codes = torch.arange(size)[:, None] >> (read.bits * torch.arange(cfg.inputs)) & read.hi
        mean = codes.float().mean(1) / read.hi
        signs = torch.where(torch.rand(count, 1) < 0.5, -1.0, 1.0)
        values = (0.5 + signs * (mean - 0.5) + 0.3 * torch.randn(count, size)) * made.hi
        return LookupNode(values, cfg.inputs, read, made)
    if cfg.node == "affine":
        return AffineNode(count, cfg.inputs, made)
    if cfg.node == "polynomial":
        return PolynomialNode(count, cfg.inputs, made)
    return MlpNode(count, cfg.inputs, made)


def train(
    cfg: DtnnConfig, images: np.ndarray, labels: np.ndarray, encoder: Encoder, out: Path,
    cache: Path, options: TableTraining, progress: ProgressCallback | None,
    device: torch.device = CPU,
) -> Tables:  # fmt: skip
    """Train options.epochs epochs and enumerate the nodes; goes on with what is left in `out`.

    Thresholds that were learned become the simplest that part the samples alike.
    """
    model = train_network(cfg, images, labels, encoder, cache, options, progress, out, device)
    net = enumerate_tables(model, cfg)
    thresholds = encoder.thresholds
    if options.learn_thresholds:
        thresholds = simplest(net.thresholds, images, net.linear)
    return dataclasses.replace(net, thresholds=thresholds)


def train_network(
    cfg: DtnnConfig, images: np.ndarray, labels: np.ndarray, encoder: Encoder, cache: Path,
    options: TableTraining, progress: ProgressCallback | None = None, out: Path | None = None,
    device: torch.device = CPU,
) -> TableNetwork:  # fmt: skip
    """The same, but the torch modules, in evaluation mode. out: None keeps nothing to go on with.

    The network, its samples and a teacher are on the device; what is random is drawn on the CPU and
    the same everywhere. The modules come back to the CPU.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    allowed = None
    if cfg.wiring == "patches":
        allowed = wiring.patches(cfg, cfg.widths[0], options.seed)
    learn = options.learn_thresholds
    model = build(cfg, encoder, options.seed, allowed, learn).train().to(device)
    guide = teacher(images, labels, cfg.classes, options, device) if options.distil else None
    kernels = load_kernels(cache)
    copies = Copies(kernels, images, labels, cfg.classes, options, guide)
    temperature = options.temperature or _temperature(cfg)
    optimiser = _optimiser(model, options)
    rates = [float(group["lr"]) for group in optimiser.param_groups]
    loops = kernels.name if device == CPU else f"{kernels.name} {device}"
    identity = identity_of(cfg, options, images, labels, loops)
    done = 0 if out is None else _resume(out, identity, model, optimiser)
    start = time.monotonic()
    for epoch in range(done, options.epochs):
        cosine = 0.5 + 0.5 * math.cos(math.pi * epoch / options.epochs)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * cosine
        drawn, targets = copies.draw(epoch, 1)
        if learn:
            read = np.ascontiguousarray(drawn.reshape(len(drawn), -1).T)
        else:
            read = encoder.columns(drawn)
        x, q = (torch.from_numpy(part).to(device) for part in (read, targets))
        batch = min(options.batch, x.shape[1])
        steps = x.shape[1] // batch
        share = wiring.share(cfg, epoch, options.epochs)
        total, moved = torch.zeros((), dtype=torch.float64, device=device), 0
        for step in range(steps):
            if share and wiring.due(step, steps):
                few = slice(step * batch, step * batch + REGROW_SAMPLES)
                moved += regrow(model, bits_of(model, x[:, few]).detach(), q[:, few].T, temperature,
                                share, allowed, _fee(model, encoder, options))  # fmt: skip
            at = slice(step * batch, (step + 1) * batch)
            optimiser.zero_grad()
            loss = loss_of(model, bits_of(model, x[:, at]), q[:, at].T, temperature)
            loss.backward()
            optimiser.step()
            total += loss.detach()
        if out is not None:
            _save(out, identity, epoch + 1, model, optimiser)
        if progress is not None:
            loss_now, seconds = float(total) / steps, time.monotonic() - start
            progress(Progress("epoch", epoch + 1, options.epochs, loss_now, moved, seconds))
    return model.eval().cpu()


def _temperature(cfg: DtnnConfig) -> float:
    """Of the scores, unless it is told."""
    top = (1 << cfg.bits[-1]) - 1
    votes = cfg.widths[-1] // cfg.classes
    return top * (descent.temperature(votes, 1) if cfg.head == "sum" else 0.1)


def _optimiser(model: TableNetwork, options: TableTraining) -> torch.optim.Adam:
    """Contents and thresholds have rates in their own units."""
    groups = [
        {"params": list(node.parameters()),
         "lr": options.rate * (node.code.hi if isinstance(node, LookupNode) else 1)}
        for node in map(node_of, layers_of(model))
    ]  # fmt: skip
    if options.learn_thresholds:
        groups.append({"params": list(model.encoder.parameters()),
                       "lr": options.rate * THRESHOLD_RATE})  # fmt: skip
    return torch.optim.Adam(groups, betas=options.betas)


def _fee(
    model: TableNetwork, encoder: Encoder, options: TableTraining
) -> np.ndarray | None:
    """Nats that each bit of the encoder, as it is now, must save to be read: None for none."""
    if not options.lut_weight:
        return None
    if options.learn_thresholds:
        encoder = Encoder(_thresholds(model), encoder.linear)
    return options.lut_weight * encoder.luts()


def bits_of(model: TableNetwork, columns: Tensor) -> Tensor:
    """What the layers read, float (B, P), of columns uint8: the encoder's bits (P, B), or the
    elements of the images (F, B) for thresholds that are trained."""
    x = columns.T.float()
    if not any(p.requires_grad for p in model.encoder.parameters()):
        return x
    bits: Tensor = model.encoder(x / 256)
    return bits


def _state(model: TableNetwork, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything that training changes, by name."""
    found = {f"model.{name}": value for name, value in model.state_dict().items()}
    number = 0
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            kept = optimiser.state.get(parameter) or {
                "step": torch.zeros(()), "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
            found |= {f"{name}.{number}": kept[name] for name in MOMENTS}
            number += 1
    return found


def _save(
    out: Path, identity: str, done: int, model: TableNetwork, optimiser: torch.optim.Optimizer
) -> None:
    state = _state(model, optimiser)
    save_state(out, identity, done,
               {name: value.detach().cpu().numpy() for name, value in state.items()})  # fmt: skip


def _resume(
    out: Path, identity: str, model: TableNetwork, optimiser: torch.optim.Optimizer
) -> int:
    """Take up what `_save` left of the same run: epochs done."""
    wanted = _state(model, optimiser)
    found = load_state(out, identity, list(wanted))
    if found is None:
        return 0
    done, arrays = found
    if any(arrays[name].shape != tuple(value.shape) for name, value in wanted.items()):
        raise DataError(f"{out / RESUME}: is damaged; delete it")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    model.load_state_dict({name.removeprefix("model."): value for name, value in tensors.items()
                           if name.startswith("model.")})  # fmt: skip
    number = 0
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            # Adam counts steps on the CPU
            optimiser.state[parameter] = {
                name: tensors[f"{name}.{number}"].to(CPU if name == "step" else parameter.device)
                for name in MOMENTS
            }
            number += 1
    return done


@torch.no_grad()
def enumerate_tables(model: TableNetwork, cfg: DtnnConfig) -> Tables:
    """Every node at every address: the arrays of the network."""
    model.eval()
    layers, read = [], Code(1)
    for layer in layers_of(model):
        at = cast(Tensor, layer.wires)
        count, inputs = at.shape
        node = node_of(layer)
        made = node.code
        address = torch.arange(1 << (inputs * read.bits))
        codes = address[:, None] >> (read.bits * torch.arange(inputs)) & ((1 << read.bits) - 1)
        reals = codes[:, None].float().expand(-1, count, -1)
        values = torch.round(node(reals) / node.scale()).T
        wires = at[:, :, None] * read.bits + torch.arange(read.bits)
        layers.append(Layer(
            np.ascontiguousarray(wires.reshape(count, -1).numpy().astype(np.int32)),
            np.ascontiguousarray(values.numpy().astype(np.int16)), made.bits, made.signed,
        ))  # fmt: skip
        if made.signed or float(node.scale()) != 1:
            raise ConfigError("layers of dtnn have unsigned codes of scale 1")
        read = made
    groups = cfg.classes if model.head is not None else 0
    return Tables(cfg.shape, _thresholds(model), tuple(layers), groups, cfg.linear)


def _thresholds(model: TableNetwork) -> np.ndarray:
    """Of the encoder as they act, int64 (F, L)."""
    encoder = model.encoder
    assert isinstance(encoder, Thresholds | LinearCodes)
    return np.ascontiguousarray(encoder.whole().cpu().numpy())
