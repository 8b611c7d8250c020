# SPDX-License-Identifier: Apache-2.0
"""The arrays of a trained network of lookup tables (docs/tables.md), and what they compute.

Thresholds, wires and contents are plain integers, those of the integer graph, for layers that read
all of their input and for those that slide over it. From them come the torch modules (`network`)
and fast scores for whole data sets (`scores`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hwflow.errors import ConfigError, DataError

if TYPE_CHECKING:
    from hwflow.models.tables import TableNetwork


@dataclass(frozen=True)
class Window:
    """A square window that slides over a map: its side, its steps, zeros around the map."""

    kernel: int
    stride: int = 1
    pad: int = 0

    def outputs(self, side: int) -> int:
        """Windows along a side of the map, less than 1 where none fits."""
        return (side + 2 * self.pad - self.kernel) // self.stride + 1


@dataclass(frozen=True)
class Layer:
    """wires int32 (N, K): the bit of the input at each address bit. values int16 (N, 2**K): codes.

    bits: of a code of the output, two's complement if `signed`. window: of the map (C, H, W) that
    it reads, position by position; its elements are taps (c * kernel + i) * kernel + j. None: the
    whole map at once, element (c * H + y) * W + x. Bits are numbered element * bits + bit. pool:
    behind it the greatest of pool x pool codes of a channel, side by side.
    """

    wires: np.ndarray
    values: np.ndarray
    bits: int = 1
    signed: bool = False
    window: Window | None = None
    pool: int = 1

    def shape(self, before: tuple[int, int, int]) -> tuple[int, int, int]:
        """The map (C, H, W) behind it."""
        if self.window is None:
            return len(self.wires), 1, 1
        sides = [self.window.outputs(side) // self.pool for side in before[1:]]
        return len(self.wires), sides[0], sides[1]


@dataclass(frozen=True)
class Tables:
    """A trained network of tables; all integers, nothing learned is elsewhere.

    thresholds: int64 (F, L), each row rising. Channel l * F + f of the encoder is one bit: whether
    element f of the image (row-major, 0 to 255) reaches thresholds[f, l]; or with F channels of the
    image a map of such bits, for layers with windows. linear: channel f is a code of B bits, how
    many of its 2**B - 1 thresholds element f reaches; the first layer reads bits of these. groups:
    of the last layer that are summed, or 0: its codes are the scores.
    """

    shape: tuple[int, int, int]
    thresholds: np.ndarray
    layers: tuple[Layer, ...]
    groups: int
    linear: bool = False

    def __post_init__(self) -> None:
        _check(self)

    @property
    def flat(self) -> bool:
        """Whether each element of an image has its own thresholds."""
        return len(self.thresholds) == math.prod(self.shape)

    @property
    def encoded(self) -> tuple[int, int, int]:
        """The map (C, H, W) of codes behind the encoder."""
        if self.linear:
            return len(self.thresholds), 1, 1
        return self.thresholds.size, *((1, 1) if self.flat else self.shape[1:])

    @property
    def code_bits(self) -> int:
        """Of the codes behind the encoder."""
        return self.thresholds.shape[1].bit_length() if self.linear else 1


def _check(net: Tables) -> None:
    rule = "the arrays are no network of tables"
    t = net.thresholds
    if t.dtype != np.int64 or t.ndim != 2 or not t.shape[1] or t.shape[0] not in (
        math.prod(net.shape), net.shape[0]
    ):  # fmt: skip
        raise DataError(f"{rule}: thresholds {t.dtype} {t.shape} for images {net.shape}")
    if (np.diff(t, axis=1) < 0).any():
        raise DataError(f"{rule}: thresholds of an element fall")
    if t.size and (t.min() < 0 or t.max() > 256):
        raise DataError(f"{rule}: thresholds {t.min()}..{t.max()}, a byte has 0 to 256")
    if not net.layers:
        raise DataError(f"{rule}: there is no layer")
    if net.linear and (not net.flat or t.shape[1] > 255 or t.shape[1] & (t.shape[1] + 1)):
        raise DataError(f"{rule}: a linear encoder with thresholds {t.shape} for images "
                        f"{net.shape}")
    before, code = net.encoded, net.code_bits
    for place, layer in enumerate(net.layers):
        w, v = layer.wires, layer.values
        window = layer.window
        if not 1 + layer.signed <= layer.bits <= 8:
            raise DataError(f"{rule}: layer {place} has codes of {layer.bits} bits")
        if layer.pool < 1 or (window and (min(window.kernel, window.stride) < 1 or window.pad < 0)):
            raise DataError(f"{rule}: layer {place} has {window} and a pool of {layer.pool}")
        elements = math.prod(before) if window is None else before[0] * window.kernel**2
        bits = elements * code
        if w.dtype != np.int32 or w.ndim != 2 or v.dtype != np.int16 or not 1 <= w.shape[1] <= 16 \
                or v.shape != (w.shape[0], 1 << w.shape[1]):  # fmt: skip
            raise DataError(f"{rule}: layer {place} has wires {w.dtype} {w.shape}, values "
                            f"{v.dtype} {v.shape}")
        if not w.size:
            raise DataError(f"{rule}: layer {place} has no tables")
        if w.min() < 0 or w.max() >= bits:
            raise DataError(f"{rule}: layer {place} reads bits {w.min()}..{w.max()} of {bits}")
        low = -(1 << (layer.bits - 1)) if layer.signed else 0
        if v.min() < low or v.max() >= low + (1 << layer.bits):
            raise DataError(f"{rule}: codes of layer {place} do not fit {layer.bits} bits")
        before, code = layer.shape(before), layer.bits
        if min(before) < 1 or (layer.pool != 1 and window is None):
            raise DataError(f"{rule}: layer {place} makes a map {before}")
    if before[1:] != (1, 1):
        raise DataError(f"{rule}: the last layer makes a map {before}")
    if net.groups < 0 or (net.groups and net.layers[-1].wires.shape[0] % net.groups):
        raise DataError(f"{rule}: {net.layers[-1].wires.shape[0]} roots in {net.groups} groups")


def encode(net: Tables, images: np.ndarray) -> np.ndarray:
    """Images uint8 (N, C, H, W) -> the encoder's codes uint8 (channels, height, width, N)."""
    count = len(images)
    planes = images.reshape(count, len(net.thresholds), -1).transpose(1, 2, 0)
    if net.linear:
        codes = np.zeros(planes.shape, np.uint8)
        for level in net.thresholds.T:
            codes += planes >= level[:, None, None]
        return codes.reshape(*net.encoded, count)
    bits = np.concatenate([planes >= net.thresholds[:, level, None, None]
                           for level in range(net.thresholds.shape[1])])
    return bits.astype(np.uint8).reshape(*net.encoded, count)


def scores(net: Tables, images: np.ndarray, batch: int | None = None) -> np.ndarray:
    """Scores int64 (N, classes) of images uint8 (N, C, H, W), by numpy alone."""
    batch = batch or (2000 if net.flat else 100)
    return np.concatenate([
        _scores(net, images[at : at + batch]) for at in range(0, len(images), batch)
    ])


def _scores(net: Tables, images: np.ndarray) -> np.ndarray:
    x, before, code = encode(net, images), net.encoded, net.code_bits
    for layer in net.layers:
        rows = _elements(x, layer.window)  # (elements, positions, N)
        address: np.ndarray = np.zeros((len(layer.wires), *rows.shape[1:]), np.uint16)
        for place, wire in enumerate(layer.wires.T):
            element, bit = np.divmod(wire, code)
            read = rows[element] >> bit[:, None, None].astype(np.uint8) & 1
            address |= read.astype(np.uint16) << np.uint16(place)
        row = np.arange(len(layer.wires))[:, None, None]
        codes = layer.values[row, address]
        sides = [layer.window.outputs(n) for n in before[1:]] if layer.window else [1, 1]
        codes = _pooled(codes.reshape(len(codes), *sides, -1), layer.pool)
        before, code = layer.shape(before), layer.bits
        x = (codes & ((1 << code) - 1)).astype(np.uint8)
    total = codes.reshape(len(codes), -1).astype(np.int64)
    if net.groups:
        total = total.reshape(net.groups, -1, total.shape[1]).sum(axis=1)
    return np.ascontiguousarray(total.T)


def _elements(x: np.ndarray, window: Window | None) -> np.ndarray:
    """A map (C, H, W, N) -> what the tables of each position read: (elements, positions, N)."""
    if window is None:
        return x.reshape(-1, 1, x.shape[3])
    k, pad, stride = window.kernel, window.pad, window.stride
    framed = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(framed, (k, k), (1, 2))
    views = views[:, ::stride, ::stride]  # (C, H', W', N, k, k)
    rows: np.ndarray = views.transpose(0, 4, 5, 1, 2, 3)
    return rows.reshape(len(x) * k * k, -1, x.shape[3])


def _pooled(codes: np.ndarray, pool: int) -> np.ndarray:
    """Codes (C, H, W, N) -> the greatest of pool x pool of them."""
    channels, height, width, count = codes.shape
    tall, wide = height // pool, width // pool
    parts = codes[:, : tall * pool, : wide * pool].reshape(channels, tall, pool, wide, pool, count)
    made: np.ndarray = parts.max(axis=(2, 4))
    return made


def accuracy(net: Tables, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images whose greatest score (the first of equals) is that of their label."""
    return float((scores(net, images).argmax(axis=1) == labels).mean())


def network(net: Tables) -> TableNetwork:
    """The network as torch modules, in evaluation mode; pixel / 256 -> scores."""
    import torch
    from torch import nn

    from hwflow.models.tables import (
        Code,
        GroupSum,
        LookupNode,
        TableConv,
        TableLayer,
        TableNetwork,
        Thresholds,
    )

    encoder = Thresholds(torch.from_numpy(net.thresholds.copy()).float(), not net.linear)
    layers: list[nn.Module] = []
    before, code = net.encoded, Code(net.code_bits)
    parted = [_single_bits(net)] if net.code_bits > 1 else []
    for place, layer in enumerate([*parted, *net.layers]):
        children, values = _children(layer, code.bits, code.signed, place)
        wires, made = torch.from_numpy(children), Code(layer.bits, layer.signed)
        node = LookupNode(torch.from_numpy(values).float(), wires.shape[1], code, made)
        window = layer.window
        if window is None:
            if before[1:] != (1, 1):
                layers.append(nn.Flatten())
            layers.append(TableLayer(wires, node))
        else:
            layers.append(TableConv(wires, node, before[0], (window.kernel,) * 2,
                                    (window.stride,) * 2, (window.pad,) * 2))
        if layer.pool > 1:
            layers.append(nn.MaxPool2d(layer.pool))
        before, code = layer.shape(before), made
    head = GroupSum(net.groups) if net.groups else None
    return TableNetwork(encoder, layers, head, net.flat).eval()


def _single_bits(net: Tables) -> Layer:
    """A layer in front of all others that parts the codes of the encoder: its channel f * B + b is
    bit b of code f, so that the bits that tables read are channels."""
    bits = net.code_bits
    own = np.arange(len(net.thresholds) * bits)
    wires = own[:, None] // bits * bits + np.arange(bits)
    values = np.arange(1 << bits) >> (own % bits)[:, None] & 1
    return Layer(wires.astype(np.int32), values.astype(np.int16))


def _children(
    layer: Layer, bits: int, signed: bool, place: int
) -> tuple[np.ndarray, np.ndarray]:
    """Wires int64 (N, k) of whole codes, and contents by (code - least code) of each child.

    ConfigError where a table reads some bits of a code only, which the torch modules cannot.
    """
    if layer.wires.shape[1] % bits:
        whole = False
    else:
        parts = layer.wires.reshape(len(layer.wires), -1, bits)
        whole = bool((parts == parts[:, :, :1] + np.arange(bits)).all()
                     and (parts[:, :, 0] % bits == 0).all())  # fmt: skip
    if not whole:
        raise ConfigError(f"layer {place} reads single bits of codes of {bits}; the torch modules "
                          "read whole codes: give its nodes whole children")
    # The least code of two's complement is its top bit alone.
    flips = sum(1 << (bits * child + bits - 1) for child in range(parts.shape[1])) if signed else 0
    order = np.arange(layer.values.shape[1]) ^ flips
    return (parts[:, :, 0] // bits).astype(np.int64), np.ascontiguousarray(layer.values[:, order])
