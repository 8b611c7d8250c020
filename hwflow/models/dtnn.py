# SPDX-License-Identifier: Apache-2.0
"""DTNN-style classifiers (docs/tables.md): sizes, the arrays of a trained network, checkpoints.

What training makes of lookup tables is `Tables`: thresholds, wires and contents as plain arrays,
those of the integer graph. From them come the torch modules (`network`) and fast scores for whole
data sets (`scores`).
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
    from hwflow.models.tables import TableNetwork

FORMAT = 1
MNIST = (1, 28, 28)
NODES = ("lookup", "affine", "polynomial", "mlp")
WIRINGS = ("learned", "random", "patches")
HEADS = ("sum", "codes")
TABLE_INPUTS = 6
TOP_BIT = 128  # a pixel reaches it when its top bit is set: the comparison is a wire

# LUT6 of a 7-series chip for each bit that is summed, and for the choice among ten sums: measured
# with the compressors of hwflow/emit/tables (tests/test_train_tables.py holds them to it).
LUTS_A_VOTE = 0.5
LUTS_A_SCORE_BIT = 1.0
MOST_LUTS = 1_000_000

PRESET_LUTS: Mapping[str, int] = {"small": 700, "medium": 1550, "large": 3900}


@dataclass(frozen=True)
class DtnnConfig:
    """A classifier before it is trained.

    shape: of an image (C, H, W), bytes. levels: thresholds a pixel; 1 is the top bit, more are
    quantiles of the training data. widths: nodes in each layer, the last one in equal groups, one a
    class. inputs: children of a node; bits: of the codes of each layer. node: what a node computes,
    "lookup" (its contents are learned), "affine", "polynomial" or "mlp". head: "sum" of a class's
    codes, or "codes": one root a class. luts: the budget it was sized for.
    """

    name: str
    widths: tuple[int, ...]
    shape: tuple[int, int, int] = MNIST
    classes: int = 10
    levels: int = 1
    inputs: int = TABLE_INPUTS
    bits: tuple[int, ...] = ()
    node: str = "lookup"
    wiring: str = "learned"
    head: str = "sum"
    luts: int | None = None

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

    @property
    def features(self) -> int:
        """Elements of an image."""
        return math.prod(self.shape)


def config(
    name: str, shape: tuple[int, int, int] = MNIST, classes: int = 10, levels: int = 1
) -> DtnnConfig:
    """A preset by its name (small, medium, large: 700, 1,550 and 3,900 LUT6)."""
    if name not in DTNN:
        raise ConfigError(f"unknown dtnn size {name!r}: choose one of {', '.join(DTNN)}")
    return replace(sized(PRESET_LUTS[name], shape, classes, levels), name=name)


def sized(
    luts: int, shape: tuple[int, int, int] = MNIST, classes: int = 10, levels: int = 1
) -> DtnnConfig:
    """The largest classifier that takes at most `luts` LUT6, everything counted: one layer of
    tables, which did better than two of the same size (docs/dtnn-training.md).

    Raises ConfigError for a budget that does not hold one root a class.
    """
    if not 0 < luts <= MOST_LUTS:
        raise ConfigError(f"a budget of {luts} LUTs: give 1 to {MOST_LUTS:,}")
    best: DtnnConfig | None = None
    low, high = 1, MOST_LUTS // classes
    while low <= high:  # the roots of a class, by halving: the cost rises with them
        roots = (low + high) // 2
        made = DtnnConfig(f"{luts}-luts", (roots * classes,), shape, classes, levels, luts=luts)
        if cost(made) <= luts:
            best, low = made, roots + 1
        else:
            high = roots - 1
    if best is None:
        least = cost(DtnnConfig("least", (classes,), shape, classes, levels))
        raise ConfigError(f"{luts} LUTs hold no network of {classes} classes: give at least "
                          f"{least}")
    return best


def cost(cfg: DtnnConfig) -> int:
    """LUT6 of the network on a 7-series chip, an upper estimate, everything counted."""
    width = cfg.inputs
    before = 1 if cfg.levels == 1 else 0
    total = 0.0
    for count, bits, read in zip(cfg.widths, cfg.bits, (1, *cfg.bits), strict=False):
        address = width * read
        total += count * bits * (1 if address <= TABLE_INPUTS else 2 ** (address - TABLE_INPUTS))
    if not before:
        # each threshold that is used is a comparison; at most every pin of the first layer has one
        total += min(cfg.features * cfg.levels, cfg.widths[0] * width)
    votes = cfg.widths[-1] // cfg.classes
    top = votes * ((1 << cfg.bits[-1]) - 1) if cfg.head == "sum" else (1 << cfg.bits[-1]) - 1
    if cfg.head == "sum":
        total += LUTS_A_VOTE * cfg.widths[-1] * cfg.bits[-1]
    choice = LUTS_A_SCORE_BIT * (cfg.classes - 1) * top.bit_length() + cfg.classes / 3
    return math.ceil(total + choice)


# --- what training makes ------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """wires int32 (N, K): the bit of the input at each address bit. values int16 (N, 2**K): codes.

    bits: of a code of the output, two's complement if `signed`.
    """

    wires: np.ndarray
    values: np.ndarray
    bits: int = 1
    signed: bool = False


@dataclass(frozen=True)
class Tables:
    """A trained network of tables; all integers, nothing learned is elsewhere.

    thresholds: int64 (F, L), each row rising. Channel l * F + f of the encoder is one bit: whether
    element f of the image (row-major, 0 to 255) reaches thresholds[f, l]. classes: groups of the
    last layer that are summed, or 0: its codes are the scores.
    """

    shape: tuple[int, int, int]
    thresholds: np.ndarray
    layers: tuple[Layer, ...]
    groups: int

    def __post_init__(self) -> None:
        _check(self)


def _check(net: Tables) -> None:
    rule = "the arrays are no network of tables"
    t = net.thresholds
    if t.dtype != np.int64 or t.ndim != 2 or t.shape[0] != math.prod(net.shape) or not t.shape[1]:
        raise DataError(f"{rule}: thresholds {t.dtype} {t.shape} for images {net.shape}")
    if (np.diff(t, axis=1) < 0).any():
        raise DataError(f"{rule}: thresholds of an element fall")
    if not net.layers:
        raise DataError(f"{rule}: there is no layer")
    bits = t.size
    for place, layer in enumerate(net.layers):
        w, v = layer.wires, layer.values
        if w.dtype != np.int32 or w.ndim != 2 or v.dtype != np.int16 or not 1 <= w.shape[1] <= 16 \
                or v.shape != (w.shape[0], 1 << w.shape[1]):  # fmt: skip
            raise DataError(f"{rule}: layer {place} has wires {w.dtype} {w.shape}, values "
                            f"{v.dtype} {v.shape}")
        if not w.size or w.min() < 0 or w.max() >= bits:
            raise DataError(f"{rule}: layer {place} reads bits {w.min()}..{w.max()} of {bits}")
        low = -(1 << (layer.bits - 1)) if layer.signed else 0
        if v.min() < low or v.max() >= low + (1 << layer.bits):
            raise DataError(f"{rule}: codes of layer {place} do not fit {layer.bits} bits")
        bits = w.shape[0] * layer.bits
    if net.groups < 0 or (net.groups and net.layers[-1].wires.shape[0] % net.groups):
        raise DataError(f"{rule}: {net.layers[-1].wires.shape[0]} roots in {net.groups} groups")


def encode(net: Tables, images: np.ndarray) -> np.ndarray:
    """Images uint8 (N, C, H, W) -> the encoder's bits uint8 (L * F, N)."""
    flat = images.reshape(len(images), -1).T
    return np.concatenate([flat >= net.thresholds[:, level : level + 1]
                           for level in range(net.thresholds.shape[1])]).astype(np.uint8)


def scores(net: Tables, images: np.ndarray, batch: int = 2000) -> np.ndarray:
    """Scores int64 (N, classes) of images uint8 (N, C, H, W), by numpy alone."""
    return np.concatenate([
        _scores(net, images[at : at + batch]) for at in range(0, len(images), batch)
    ])


def _scores(net: Tables, images: np.ndarray) -> np.ndarray:
    x = encode(net, images)
    for layer in net.layers:
        address = np.zeros((layer.wires.shape[0], x.shape[1]), np.int32)
        for place in range(layer.wires.shape[1]):
            address |= x[layer.wires[:, place]].astype(np.int32) << place
        codes = np.take_along_axis(layer.values, address, axis=1)
        x = np.stack([codes >> b & 1 for b in range(layer.bits)], axis=1)
        x = x.reshape(-1, codes.shape[1]).astype(np.uint8)
    total = codes.astype(np.int64)
    if net.groups:
        total = total.reshape(net.groups, -1, total.shape[1]).sum(axis=1)
    return np.ascontiguousarray(total.T)


def accuracy(net: Tables, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images whose greatest score (the first of equals) is that of their label."""
    return float((scores(net, images).argmax(axis=1) == labels).mean())


def network(net: Tables) -> TableNetwork:
    """The network as torch modules, in evaluation mode; pixel / 256 -> scores."""
    import torch

    from hwflow.models.tables import (
        Code,
        GroupSum,
        LookupNode,
        TableLayer,
        TableNetwork,
        Thresholds,
    )

    encoder = Thresholds(torch.from_numpy(net.thresholds.copy()).float(), thermometer=True)
    layers, code = [], Code(1)
    for place, layer in enumerate(net.layers):
        wires, values = _children(layer, code.bits, code.signed, place)
        made = Code(layer.bits, layer.signed)
        node = LookupNode(torch.from_numpy(values).float(), wires.shape[1], code, made)
        layers.append(TableLayer(torch.from_numpy(wires), node))
        code = made
    return TableNetwork(encoder, layers, GroupSum(net.groups) if net.groups else None).eval()


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
    """Write arrays and meta (JSON values) to one safetensors file.

    Its tensors: thresholds int64 (F, L); wires.I int32 (N, K) and values.I int16 (N, 2**K) of layer
    I. The metadata "hwflow" is JSON: shape, groups, bits and signs of the layers, meta.
    """
    from safetensors.numpy import save_file

    header = {
        "format": FORMAT, "model": "dtnn", "shape": list(net.shape), "groups": net.groups,
        "bits": [one.bits for one in net.layers], "signed": [one.signed for one in net.layers],
        "meta": dict(meta),
    }
    arrays = {"thresholds": net.thresholds}
    for place, layer in enumerate(net.layers):
        arrays |= {f"wires.{place}": layer.wires, f"values.{place}": layer.values}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(arrays, path, metadata={"hwflow": json.dumps(header)})


def load_checkpoint(path: Path) -> tuple[Tables, dict[str, Any]]:
    """What `save_checkpoint` wrote: the network and meta. DataError if the file is not of ours."""
    from safetensors import SafetensorError, safe_open

    rule = "expected a checkpoint of a dtnn that `hwflow train` wrote"
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["hwflow"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["format"] != FORMAT or header["model"] != "dtnn":
            raise DataError(f"{path}: a {header['model']} checkpoint of format {header['format']}; "
                            f"{rule} of format {FORMAT}")
        if not isinstance(header["meta"], dict):
            raise DataError(f"{path}: {rule}: its meta is no table")
        layers = [
            Layer(arrays[f"wires.{i}"], arrays[f"values.{i}"], int(bits), bool(signed))
            for i, (bits, signed) in enumerate(zip(header["bits"], header["signed"], strict=True))
        ]
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
    return DtnnConfig(**fixed)
