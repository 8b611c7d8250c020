# SPDX-License-Identifier: Apache-2.0
"""DTNN-style classifiers (docs/tables.md): what there is to choose, presets, sizes for a budget.

What training makes of a configuration is `Tables` (table_arrays.py), which a checkpoint keeps
(table_checkpoints.py); both are reached from here, too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwflow.errors import ConfigError
from hwflow.models.shapes import DTNN
from hwflow.models.table_arrays import Layer, Tables, Window, accuracy, encode, network, scores
from hwflow.models.table_checkpoints import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from hwflow.emit.tables import Encoder

__all__ = [
    "CONVOLUTIONS", "DTNN", "PRESET_LUTS", "Conv", "DtnnConfig", "Layer", "Tables", "Window",
    "accuracy", "config", "cost", "describe", "encode", "encoder_luts", "from_description",
    "load_checkpoint", "network", "save_checkpoint", "scores", "sized",
]  # fmt: skip

MNIST = (1, 28, 28)
NODES = ("lookup", "affine", "polynomial", "mlp")
WIRINGS = ("learned", "random", "patches")
HEADS = ("sum", "codes")
ENCODERS = ("thermometer", "linear")
TABLE_INPUTS = 6
MOST_LEVELS = 255  # thresholds that part the values of a byte
LINEAR_LEVELS = tuple((1 << bits) - 1 for bits in range(1, 9))
TOP_BIT = 128  # a pixel reaches it when its top bit is set: the comparison is a wire
MOST_LUTS = 1_000_000

PRESET_LUTS: Mapping[str, int] = {"small": 700, "medium": 1550, "large": 3900}


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
    quantiles of the training data. encoder: "thermometer" (a bit for each threshold) or "linear"
    (2**B - 1 of them in equal steps; the B bits of their count are what tables read). precision:
    upper bits of a pixel that thresholds look at; a comparison of six bits takes half of one of
    eight. convs: layers that slide over the image, of codes of one bit; with them a channel has one
    set of thresholds. widths: nodes in each layer behind, the last one in equal groups, one a
    class. inputs: children of a node; bits: of the codes of each layer of widths. node: what a node
    computes, "lookup" (its contents are learned), "affine", "polynomial" or "mlp". head: "sum" of a
    class's codes, or "codes": one root a class. luts: the budget it was sized for.
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
    encoder: str = "thermometer"

    def __post_init__(self) -> None:
        if not self.bits:
            object.__setattr__(self, "bits", (1,) * len(self.widths))
        for what, value, known in (
            ("node", self.node, NODES), ("wiring", self.wiring, WIRINGS),
            ("head", self.head, HEADS), ("encoder", self.encoder, ENCODERS),
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
        if not self.linear and self.levels > MOST_LEVELS:
            raise ConfigError(f"dtnn of {self.levels} thresholds: a byte has 1 to {MOST_LEVELS}")
        if self.linear and self.levels not in LINEAR_LEVELS:
            raise ConfigError(f"a dtnn with a linear encoder of {self.levels} thresholds: give a "
                              "power of two less one, 1 to 255 (codes of 1 to 8 bits)")
        if self.linear and self.convs:
            raise ConfigError("a dtnn with convolutions has a thermometer for each channel; leave "
                              "the linear encoder out, or the convolutions")
        roots = self.widths[-1]
        if roots % self.classes or (self.head == "codes" and roots != self.classes):
            raise ConfigError(f"dtnn with {roots} roots for {self.classes} classes: give equally "
                              "many a class, and one a class without a sum")
        if min(self.bits) < 1 or max(self.bits) > 8:
            raise ConfigError(f"dtnn codes of {self.bits} bits: give 1 to 8 each")
        if self.inputs < 1:
            raise ConfigError(f"dtnn nodes of {self.inputs} children: give 1 or more")
        if max((1, *self.bits[:-1])) * self.inputs > 16:
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
    def linear(self) -> bool:
        """Whether tables read the bits of codes, and not a bit for each threshold."""
        return self.encoder == "linear"

    @property
    def bits_an_element(self) -> int:
        """What the encoder makes of an element of the image."""
        return self.levels.bit_length() if self.linear else self.levels

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
                       levels=made.levels if levels is None else levels)
    return replace(sized(PRESET_LUTS[name], shape, classes, 1 if levels is None else levels),
                   name=name)


def sized(
    luts: int, shape: tuple[int, int, int] = MNIST, classes: int = 10, levels: int = 1,
    precision: int = 8, thresholds: np.ndarray | None = None, encoder: str = "thermometer",
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
                      precision=precision, encoder=encoder)  # fmt: skip
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

    if cfg.linear:
        if thresholds is None:
            dearest = formula.table_luts(8) if cfg.levels > 1 else 0
            return formula.Encoder((dearest,) * (cfg.features * cfg.bits_an_element))
        luts = encoder_luts(thresholds, True)
        return formula.Encoder(tuple(sorted(map(int, luts), reverse=True)))
    if thresholds is not None:
        return formula.encoder(thresholds)
    if cfg.levels == 1:
        return formula.Encoder()
    apart = cfg.shape[0] if cfg.convs else cfg.features
    return formula.encoder_of(apart, cfg.levels, cfg.precision)


def encoder_luts(thresholds: np.ndarray, linear: bool) -> np.ndarray:
    """LUT6 of each bit that an encoder makes of its elements, int64 (P,), in the order in which
    tables count them. thresholds: int64 (F, L) of bytes.

    A thermometer: bit l * F + f is a comparison. Linear: bit f * B + b is bit b of the number of
    thresholds that element f reaches.
    """
    from hwflow.emit.tables import cost as formula
    from hwflow.emit.tables.functions import Forms
    from hwflow.emit.tables.write import target

    if not linear:
        return np.array([formula.threshold_luts(int(t)) for t in thresholds.T.ravel()], np.int64)
    rows, places = np.unique(thresholds, axis=0, return_inverse=True)
    codes = np.stack([np.searchsorted(row, np.arange(256), side="right") for row in rows])
    bits = thresholds.shape[1].bit_length()
    forms = Forms(target("xilinx").fabric)
    found = [[forms.cost(code >> bit & 1 == 1) for bit in range(bits)] for code in codes]
    return np.array(found, np.int64)[places.ravel()].ravel()


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
