# SPDX-License-Identifier: Apache-2.0
"""Straight-through training in torch, of any network of hwflow/models/tables.py.

Wires are learned by prune and regrow (wiring.py): a pin is worth its loss gradient times its input.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
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
from hwflow.training_tables.encoders import Encoder
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
) -> Tables:  # fmt: skip
    """Train options.epochs epochs and enumerate the nodes; goes on with what is left in `out`."""
    model = train_network(cfg, images, labels, encoder, cache, options, progress, out)
    return enumerate_tables(model, cfg)


def train_network(
    cfg: DtnnConfig, images: np.ndarray, labels: np.ndarray, encoder: Encoder, cache: Path,
    options: TableTraining, progress: ProgressCallback | None = None, out: Path | None = None,
) -> TableNetwork:  # fmt: skip
    """The same, but the torch modules, in evaluation mode. out: None keeps nothing to go on with.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    allowed = None
    if cfg.wiring == "patches":
        allowed = wiring.patches(cfg, cfg.widths[0], options.seed)
    learn = options.learn_thresholds
    model = build(cfg, encoder, options.seed, allowed, learn).train()
    guide = teacher(images, labels, cfg.classes, options) if options.distil else None
    kernels = load_kernels(cache)
    copies = Copies(kernels, images, labels, cfg.classes, options, guide)
    votes = cfg.widths[-1] // cfg.classes if cfg.head == "sum" else 1
    top = (1 << cfg.bits[-1]) - 1
    if options.temperature:
        temperature = options.temperature
    else:
        temperature = top * (descent.temperature(votes, 1) if cfg.head == "sum" else 0.1)
    groups = [
        {"params": list(node.parameters()),
         "lr": options.rate * (node.code.hi if isinstance(node, LookupNode) else 1)}
        for node in map(_node_of, _layers(model))
    ]  # fmt: skip
    if learn:
        groups.append({"params": list(model.encoder.parameters()),
                       "lr": options.rate * THRESHOLD_RATE})  # fmt: skip
    optimiser = torch.optim.Adam(groups, betas=options.betas)
    rates = [float(group["lr"]) for group in optimiser.param_groups]
    identity = identity_of(cfg, options, images, labels, kernels.name)
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
        x, q = torch.from_numpy(read), torch.from_numpy(targets)
        batch = min(options.batch, x.shape[1])
        steps = x.shape[1] // batch
        share = wiring.share(cfg, epoch, options.epochs)
        total, moved = 0.0, 0
        for step in range(steps):
            if share and wiring.due(step, steps):
                few = slice(step * batch, step * batch + REGROW_SAMPLES)
                moved += _regrow(model, _bits(model, x[:, few]).detach(), q[:, few].T, temperature,
                                 share, allowed)  # fmt: skip
            at = slice(step * batch, (step + 1) * batch)
            optimiser.zero_grad()
            loss = _loss(model, _bits(model, x[:, at]), q[:, at].T, temperature)
            loss.backward()
            optimiser.step()
            total += float(loss.detach())
        if out is not None:
            _save(out, identity, epoch + 1, model, optimiser)
        if progress is not None:
            seconds = time.monotonic() - start
            progress(Progress("epoch", epoch + 1, options.epochs, total / steps, moved, seconds))
    return model.eval()


def _bits(model: TableNetwork, columns: Tensor) -> Tensor:
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
    arrays = {name: value.detach().numpy() for name, value in _state(model, optimiser).items()}
    save_state(out, identity, done, arrays)


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
            optimiser.state[parameter] = {name: tensors[f"{name}.{number}"] for name in MOMENTS}
            number += 1
    return done


def _loss(model: TableNetwork, bits: Tensor, q: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of bits (B, P) behind the encoder against q (B, classes)."""
    for layer in model.layers:
        bits = layer(bits)
    scores = model.head(bits) if model.head is not None else bits
    return -(q * F.log_softmax(scores / temperature, dim=1)).sum(1).mean()


def _regrow(
    model: TableNetwork, bits: Tensor, q: Tensor, temperature: float, share: float,
    allowed: np.ndarray | None,
) -> int:  # fmt: skip
    """Wire the least useful pins of each layer anew; how many."""
    seen: list[tuple[Tensor, Tensor]] = []
    sources: list[Tensor] = []

    def source(_: nn.Module, args: tuple[Tensor]) -> None:
        sources.append(args[0].detach())

    def children(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        at = args[0]
        if at.requires_grad:
            at.retain_grad()
        else:
            at = at.detach().requires_grad_()
        seen.append((at, at.detach()))
        return (at,)

    layers = _layers(model)
    hooks = [layer.register_forward_pre_hook(source) for layer in layers]
    hooks += [_node_of(layer).register_forward_pre_hook(children) for layer in layers]
    _loss(model, bits, q, temperature).backward()
    for hook in hooks:
        hook.remove()
    model.zero_grad()
    moved = 0
    for place, (layer, (at, _), x) in enumerate(zip(layers, seen, sources, strict=True)):
        wires = cast(Tensor, layer.wires)
        inputs = wires.shape[1]
        assert at.grad is not None
        grad = at.grad.reshape(len(bits), -1)  # (B, N * k)
        centred = x - x.mean(0)
        gain = (grad.T @ centred).abs()  # (N * k, C)
        size = centred.std(0) + 1e-3
        own = at.detach().reshape(len(bits), -1)
        value = (grad * (own - own.mean(0))).abs().mean(0)
        chosen = wiring.weakest(value.argsort().numpy(), share, inputs)
        best, gained = wiring.regrown(
            chosen, wires.numpy(), (gain / size).numpy()[chosen], None if place else allowed
        )
        good = gained > 0
        wires.view(-1)[torch.from_numpy(chosen[good])] = torch.from_numpy(best[good])
        moved += int(good.sum())
    return moved


def _layers(model: TableNetwork) -> list[TableLayer]:
    return cast(list[TableLayer], list(model.layers))


def _node_of(layer: TableLayer) -> LookupNode | ArithmeticNode:
    return cast(LookupNode | ArithmeticNode, layer.get_submodule("node"))


@torch.no_grad()
def enumerate_tables(model: TableNetwork, cfg: DtnnConfig) -> Tables:
    """Every node at every address: the arrays of the network."""
    model.eval()
    layers, read = [], Code(1)
    for layer in _layers(model):
        at = cast(Tensor, layer.wires)
        count, inputs = at.shape
        node = _node_of(layer)
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
    encoder = model.encoder
    assert isinstance(encoder, Thresholds | LinearCodes)
    groups = cfg.classes if model.head is not None else 0
    thresholds = np.ascontiguousarray(encoder.whole().numpy())
    return Tables(cfg.shape, thresholds, tuple(layers), groups, cfg.linear)
