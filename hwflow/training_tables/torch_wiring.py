# SPDX-License-Identifier: Apache-2.0
"""Wiring of the torch modules: what pins and channels say, and prune and regrow by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwflow.models.tables import ArithmeticNode, LookupNode, TableLayer, TableNetwork
from hwflow.training_tables import wiring

LEAST_SPREAD = 1e-3  # of a channel that hardly changes


@dataclass(frozen=True)
class Signals:
    """Of a layer, by `samples` of them. worth (N * k,): of each pin, the size of its gradient times
    its input, nats / samples. gains (N * k, C): nats that each channel at each pin would change the
    loss by, if the node took it as it is. spread (C,): deviation of each channel."""

    samples: int
    worth: Tensor
    gains: Tensor
    spread: Tensor


def layers_of(model: TableNetwork) -> list[TableLayer]:
    """Its layers of nodes."""
    return cast(list[TableLayer], list(model.layers))


def node_of(layer: TableLayer) -> LookupNode | ArithmeticNode:
    """Its node function."""
    return cast(LookupNode | ArithmeticNode, layer.get_submodule("node"))


def loss_of(model: TableNetwork, bits: Tensor, q: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of bits (B, P) behind the encoder against q (B, classes)."""
    for layer in model.layers:
        bits = layer(bits)
    scores = model.head(bits) if model.head is not None else bits
    return -(q * F.log_softmax(scores / temperature, dim=1)).sum(1).mean()


def signals(
    model: TableNetwork, bits: Tensor, q: Tensor, temperature: float
) -> list[Signals]:
    """Of each layer, by samples: bits (B, P) behind the encoder, targets (B, classes)."""
    seen: list[Tensor] = []
    sources: list[Tensor] = []

    def source(_: nn.Module, args: tuple[Tensor]) -> None:
        sources.append(args[0].detach())

    def children(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        at = args[0]
        if at.requires_grad:
            at.retain_grad()
        else:
            at = at.detach().requires_grad_()
        seen.append(at)
        return (at,)

    layers = layers_of(model)
    hooks = [layer.register_forward_pre_hook(source) for layer in layers]
    hooks += [node_of(layer).register_forward_pre_hook(children) for layer in layers]
    loss_of(model, bits, q, temperature).backward()
    for hook in hooks:
        hook.remove()
    model.zero_grad()
    found = []
    for at, x in zip(seen, sources, strict=True):
        assert at.grad is not None
        grad = at.grad.reshape(len(bits), -1)  # (B, N * k), of the mean loss
        own = at.detach().reshape(len(bits), -1)
        centred = x - x.mean(0)
        worth = (grad * (own - own.mean(0))).abs().mean(0)
        found.append(Signals(len(bits), worth, (grad.T @ centred).abs(), centred.std(0)))
    return found


def regrow(
    model: TableNetwork, bits: Tensor, q: Tensor, temperature: float, share: float,
    allowed: np.ndarray | None = None, fee: np.ndarray | None = None,
) -> int:  # fmt: skip
    """Wire the least useful pins of each layer anew; how many.

    allowed: uint8 (N, P), what the first layer may read; fee: float (P,), nats that a bit of the
    encoder must save to be read.
    """
    moved = 0
    found = signals(model, bits, q, temperature)
    for place, (layer, one) in enumerate(zip(layers_of(model), found, strict=True)):
        wires, worth, gains = cast(Tensor, layer.wires), one.worth, one.gains
        old = wires.cpu().numpy()
        saved = np.zeros(old.size, np.float32)
        if fee is not None and place == 0:
            used = np.bincount(old.ravel(), minlength=len(fee))
            enter, saved = wiring.fees(fee, used, old.ravel(), shared=True)
            worth = one.samples * worth - torch.from_numpy(saved).to(bits.device)
            gains = gains - torch.from_numpy(enter).to(bits.device)
        spread = one.spread + LEAST_SPREAD
        chosen = wiring.weakest(worth.argsort().cpu().numpy(), share, old.shape[1])
        rows = gains[torch.from_numpy(chosen).to(bits.device)] / spread
        best, gained = wiring.regrown(chosen, old, rows.cpu().numpy(), None if place else allowed)
        good = gained * spread.cpu().numpy()[best] + saved[chosen] > 0
        pins, channels = (torch.from_numpy(part[good]).to(bits.device) for part in (chosen, best))
        wires.view(-1)[pins] = channels
        moved += int(good.sum())
    return moved
