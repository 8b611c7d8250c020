# SPDX-License-Identifier: Apache-2.0
"""DTNN-style classifiers (docs/tables.md): sizes, the arrays of a trained network, checkpoints.

What training makes of lookup tables is `Tables`: thresholds, wires and contents as plain arrays,
those of the integer graph, for layers that read all of their input and for those that slide over
it. From them come the torch modules (`network`) and fast scores for whole data sets (`scores`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwflow.errors import ConfigError, DataError
from hwflow.models.shapes import DTNN

if TYPE_CHECKING:
    from hwflow.emit.tables import Encoder
    from hwflow.models.tables import TableNetwork

FORMAT = 2  # 1 knew no windows
MNIST = (1, 28, 28)
NODES = ("lookup", "affine", "polynomial", "mlp")
WIRINGS = ("learned", "random", "patches")
HEADS = ("sum", "codes")
TABLE_INPUTS = 6
TOP_BIT = 128  # a pixel reaches it when its top bit is set: the comparison is a wire
MOST_LUTS = 1_000_000

PRESET_LUTS: Mapping[str, int] = {"small": 700, "medium": 1550, "large": 3900}


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
class Conv:
    """Nodes that slide over a map, and the greatest of pool x pool of their codes, side by side."""

    count: int
    window: Window
    pool: int = 1

    def shape(self, before: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of the map behind it."""
        sides = [self.window.outputs(side) // self.pool for side in before[1:]]
        return self.count, sides[0], sides[1]


@dataclass(frozen=True)
class DtnnConfig:
    """A classifier before it is trained.

    shape: of an image (C, H, W), bytes. levels: thresholds a pixel; 1 is the top bit, more are
    quantiles of the training data. precision: upper bits of a pixel that thresholds look at; a
    comparison of six bits takes half of one of eight. convs: layers that slide over the image, of
    codes of one bit; with them a channel has one set of thresholds. widths: nodes in each layer
    behind, the last one in equal groups, one a class. inputs: children of a node; bits: of the
    codes of each layer of widths. node: what a node computes,
    "lookup" (its contents are learned), "affine", "polynomial" or "mlp". head: "sum" of a class's
    codes, or "codes": one root a class. luts: the budget it was sized for.
    """

    name: str
    widths: tuple[int, ...]
    shape: tuple[int, int, int] = MNIST
    classes: int = 10
    levels: int = 1
    convs: tuple[Conv, ...] = ()
    inputs: int = TABLE_INPUTS
    bits: tuple[int, ...] = ()
    node: str = "lookup"
    wiring: str = "learned"
    head: str = "sum"
    luts: int | None = None
    precision: int = 8

    def __post_init__(self) -> None:
        if not self.bits:
            object.__setattr__(self, "bits", (1,) * len(self.widths))
        for what, value, known in (
            ("node", self.node, NODES), ("wiring", self.wiring, WIRINGS), ("head", self.head, HEADS)
        ):  # fmt: skip
            if value not in known:
                raise ConfigError(f"dtnn {what} {value!r}: choose {', '.join(known)}")
        if not self.widths or min(self.widths) < 1 or len(self.bits) != len(self.widths):
            raise ConfigError(f"dtnn of layers {self.widths} with codes of {self.bits} bits: give "
                              "at least one layer, and a width of codes for each")
        if not 1 <= self.precision <= 8:
            raise ConfigError(f"dtnn thresholds of {self.precision} bits: a pixel has 1 to 8")
        if self.classes < 2 or min(self.shape) < 1 or self.levels < 1:
            raise ConfigError(f"dtnn for images {self.shape}, {self.classes} classes, "
                              f"{self.levels} thresholds: each must be positive, classes 2 or more")
        roots = self.widths[-1]
        if roots % self.classes or (self.head == "codes" and roots != self.classes):
            raise ConfigError(f"dtnn with {roots} roots for {self.classes} classes: give equally "
                              "many a class, and one a class without a sum")
        if self.inputs < 1 or max((1, *self.bits[:-1])) * self.inputs > 16:
            raise ConfigError(f"dtnn nodes of {self.inputs} children have more than 16 address "
                              "bits: give them fewer or narrower children")

        if self.convs and (self.wiring == "patches" or set(self.bits) != {1} or (
            self.node, self.inputs, self.head) != ("lookup", TABLE_INPUTS, "sum")):  # fmt: skip
            raise ConfigError(f"a dtnn with convolutions has nodes 'lookup' of {TABLE_INPUTS} "
                              "children, codes of one bit, learned or random wiring and a head "
                              "'sum'; leave the other choices out")
        for before, conv in zip(self.maps, self.convs, strict=False):
            if conv.count < 1 or min(conv.shape(before)) < 1 or 2 * conv.window.pad >= (
                conv.window.kernel + (conv.window.kernel == 1)
            ):  # fmt: skip
                raise ConfigError(f"a dtnn for images {self.shape}: {conv} does not fit the map "
                                  f"{before} before it; take larger images or fewer layers")

    @property
    def features(self) -> int:
        """Elements of an image."""
        return math.prod(self.shape)

    @property
    def maps(self) -> tuple[tuple[int, int, int], ...]:
        """The maps (C, H, W) of bits behind the encoder and behind each of convs."""
        found = [(self.shape[0] * self.levels, *self.shape[1:])]
        for conv in self.convs:
            found.append(conv.shape(found[-1]))
        return tuple(found)


CONVOLUTIONS: Mapping[str, DtnnConfig] = {
    "lenet5": DtnnConfig(
        "lenet5", (1200,), convs=(Conv(48, Window(5, pad=2), 2), Conv(128, Window(5), 2)),
    ),
    "vgg": DtnnConfig(
        "vgg", (4000,), (3, 32, 32), levels=7,
        convs=(Conv(96, Window(3), 2), Conv(192, Window(3), 2), Conv(256, Window(3))),
    ),
}  # fmt: skip


def config(
    name: str, shape: tuple[int, int, int] = MNIST, classes: int = 10, levels: int | None = None
) -> DtnnConfig:
    """A preset by its name (small, medium, large: 700, 1,550 and 3,900 LUT6; lenet5 and vgg:
    convolutions). levels: None for the preset's, which is 1 but for vgg."""
    if name not in DTNN:
        raise ConfigError(f"unknown dtnn size {name!r}: choose one of {', '.join(DTNN)}")
    if name in CONVOLUTIONS:
        made = CONVOLUTIONS[name]
        widths = tuple(n // made.classes * classes for n in made.widths)
        return replace(made, shape=shape, classes=classes, widths=widths,
                       levels=levels or made.levels)
    return replace(sized(PRESET_LUTS[name], shape, classes, levels or 1), name=name)


def sized(
    luts: int, shape: tuple[int, int, int] = MNIST, classes: int = 10, levels: int = 1,
    precision: int = 8, thresholds: np.ndarray | None = None,
) -> DtnnConfig:  # fmt: skip
    """The largest classifier that takes at most `luts` LUT6, everything counted: one layer of
    tables, which did better than two of the same size (docs/dtnn-training.md).

    thresholds: int64 (F, L), as training will choose them from the samples (`encoders`); None
    takes the dearest. Raises ConfigError for a budget that does not hold one root a class.
    """
    from hwflow.emit.tables import most_tables

    if not 0 < luts <= MOST_LUTS:
        raise ConfigError(f"a budget of {luts} LUTs: give 1 to {MOST_LUTS:,}")
    made = DtnnConfig(f"{luts}-luts", (classes,), shape, classes, levels, luts=luts,
                      precision=precision)  # fmt: skip
    roots = most_tables(luts, classes, comparators=_comparators(made, thresholds))
    return replace(made, widths=(roots,))


def cost(cfg: DtnnConfig, thresholds: np.ndarray | None = None) -> int:
    """LUT6 of the network on a 7-series chip, an upper estimate, everything counted but the line
    buffers of convolutions (`hwflow.emit.tables.estimate` counts them).

    thresholds: int64 (F, L), those of a channel with convolutions; None takes the dearest.
    """
    from hwflow.emit.tables import Encoder, Width, luts_for

    encoder = _comparators(cfg, thresholds)
    widths = [Width(count, cfg.inputs * read, bits)
              for count, bits, read in zip(cfg.widths, cfg.bits, (1, *cfg.bits), strict=False)]
    parts = luts_for(widths, cfg.classes, sums=cfg.head == "sum",
                     comparators=Encoder() if cfg.convs else encoder)  # fmt: skip
    if not cfg.convs:
        return parts["total"]
    # a table, and the greatest of its bits: pool * pool to one
    pools = [math.ceil((conv.pool**2 - 1) / (TABLE_INPUTS - 1)) for conv in cfg.convs]
    maps = sum(conv.count * (1 + pool) for conv, pool in zip(cfg.convs, pools, strict=True))
    return parts["total"] + maps + sum(encoder.luts)


def _comparators(cfg: DtnnConfig, thresholds: np.ndarray | None) -> Encoder:
    """Of the thresholds of each feature, or of each channel in front of convolutions."""
    from hwflow.emit.tables import cost as formula

    if thresholds is not None:
        return formula.encoder(thresholds)
    if cfg.levels == 1:
        return formula.Encoder()
    apart = cfg.shape[0] if cfg.convs else cfg.features
    return formula.encoder_of(apart, cfg.levels, cfg.precision)


# --- what training makes ------------------------------------------------------------------------


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
        return Conv(len(self.wires), self.window, self.pool).shape(before)


@dataclass(frozen=True)
class Tables:
    """A trained network of tables; all integers, nothing learned is elsewhere.

    thresholds: int64 (F, L), each row rising. Channel l * F + f of the encoder is one bit: whether
    element f of the image (row-major, 0 to 255) reaches thresholds[f, l]; or with F channels of the
    image a map of such bits, for layers with windows. groups: of the last layer that are summed, or
    0: its codes are the scores.
    """

    shape: tuple[int, int, int]
    thresholds: np.ndarray
    layers: tuple[Layer, ...]
    groups: int

    def __post_init__(self) -> None:
        _check(self)

    @property
    def flat(self) -> bool:
        """Whether each element of an image has its own thresholds."""
        return len(self.thresholds) == math.prod(self.shape)

    @property
    def encoded(self) -> tuple[int, int, int]:
        """The map (C, H, W) of bits behind the encoder."""
        return self.thresholds.size, *((1, 1) if self.flat else self.shape[1:])


def _check(net: Tables) -> None:
    rule = "the arrays are no network of tables"
    t = net.thresholds
    if t.dtype != np.int64 or t.ndim != 2 or not t.shape[1] or t.shape[0] not in (
        math.prod(net.shape), net.shape[0]
    ):  # fmt: skip
        raise DataError(f"{rule}: thresholds {t.dtype} {t.shape} for images {net.shape}")
    if (np.diff(t, axis=1) < 0).any():
        raise DataError(f"{rule}: thresholds of an element fall")
    if not net.layers:
        raise DataError(f"{rule}: there is no layer")
    before, code = net.encoded, 1
    for place, layer in enumerate(net.layers):
        w, v = layer.wires, layer.values
        window = layer.window
        elements = math.prod(before) if window is None else before[0] * window.kernel**2
        bits = elements * code
        if w.dtype != np.int32 or w.ndim != 2 or v.dtype != np.int16 or not 1 <= w.shape[1] <= 16 \
                or v.shape != (w.shape[0], 1 << w.shape[1]):  # fmt: skip
            raise DataError(f"{rule}: layer {place} has wires {w.dtype} {w.shape}, values "
                            f"{v.dtype} {v.shape}")
        if not w.size or w.min() < 0 or w.max() >= bits:
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
    """Images uint8 (N, C, H, W) -> the encoder's bits uint8 (channels, height, width, N)."""
    count = len(images)
    planes = images.reshape(count, len(net.thresholds), -1).transpose(1, 2, 0)
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
    x, before, code = encode(net, images), net.encoded, 1
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

    encoder = Thresholds(torch.from_numpy(net.thresholds.copy()).float(), thermometer=True)
    layers: list[nn.Module] = []
    before, code = net.encoded, Code(1)
    for place, layer in enumerate(net.layers):
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


# --- checkpoints --------------------------------------------------------------------------------


def save_checkpoint(net: Tables, path: Path, meta: Mapping[str, Any]) -> None:
    """Write arrays and meta (JSON values) to one safetensors file, whole or not at all.

    Its tensors: thresholds int64 (F, L); wires.I int32 (N, K) and values.I int16 (N, 2**K) of layer
    I. The metadata "hwflow" is JSON: shape, groups, and of the layers bits, signs, windows (null,
    or kernel, stride and pad) and pools; meta.
    """
    from safetensors.numpy import save_file

    header = {
        "format": FORMAT, "model": "dtnn", "shape": list(net.shape), "groups": net.groups,
        "bits": [one.bits for one in net.layers], "signed": [one.signed for one in net.layers],
        "windows": [one.window and asdict(one.window) for one in net.layers],
        "pools": [one.pool for one in net.layers], "meta": dict(meta),
    }
    arrays = {"thresholds": net.thresholds}
    for place, layer in enumerate(net.layers):
        arrays |= {f"wires.{place}": layer.wires, f"values.{place}": layer.values}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    made = path.with_name(f".{path.name}")
    save_file(arrays, made, metadata={"hwflow": json.dumps(header)})
    made.replace(path)


def load_checkpoint(path: Path) -> tuple[Tables, dict[str, Any]]:
    """What `save_checkpoint` wrote: the network and meta. DataError if the file is not of ours."""
    from safetensors import SafetensorError, safe_open

    rule = "expected a checkpoint of a dtnn that `hwflow train` wrote"
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["hwflow"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["format"] not in (1, FORMAT) or header["model"] != "dtnn":
            raise DataError(f"{path}: a {header['model']} checkpoint of format {header['format']}; "
                            f"{rule} of format {FORMAT}")
        if not isinstance(header["meta"], dict):
            raise DataError(f"{path}: {rule}: its meta is no table")
        count = len(header["bits"])
        windows = header.get("windows", [None] * count)
        parts = zip(header["bits"], header["signed"], windows, header.get("pools", [1] * count),
                    strict=True)
        layers = [
            Layer(arrays[f"wires.{i}"], arrays[f"values.{i}"], int(bits), bool(signed),
                  window and Window(**{key: int(n) for key, n in window.items()}), int(pool))
            for i, (bits, signed, window, pool) in enumerate(parts)
        ]  # fmt: skip
        shape = tuple(int(side) for side in header["shape"])
        if len(shape) != 3:
            raise DataError(f"{path}: {rule}: images of shape {shape}")
        net = Tables(shape, arrays["thresholds"], tuple(layers), int(header["groups"]))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such checkpoint; train the model first") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: {rule}: {error}") from error
    return net, header["meta"]


def describe(cfg: DtnnConfig) -> dict[str, Any]:
    """The configuration as JSON values."""
    return json.loads(json.dumps(asdict(cfg)))  # type: ignore[no-any-return]


def from_description(values: Mapping[str, Any]) -> DtnnConfig:
    """What `describe` gave."""
    fixed = {k: tuple(v) if isinstance(v, Sequence) and not isinstance(v, str) else v
             for k, v in values.items()}
    convs = [Conv(one["count"], Window(**one["window"]), one["pool"])
             for one in values.get("convs", ())]
    return DtnnConfig(**fixed | {"convs": tuple(convs)})
