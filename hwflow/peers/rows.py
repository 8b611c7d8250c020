# SPDX-License-Identifier: Apache-2.0
"""The designs that `hwflow bench tables` measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hwflow.peers import hgq_lut, mlp, ours, trees
from hwflow.peers.design import Data, Design, Place

Build = Callable[[Data, Mapping[str, Any], Place], Design]
Recipe = Callable[[Data, Mapping[str, Any], Place], Mapping[str, Any]]
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Row:
    """One method on one data set. settings: what `build` gets besides the seed. recipe: all that
    decides what `build` makes, defaults and versions of packages included."""

    name: str
    method: str
    who: Literal["ours", "peer"]
    data: str
    build: Build
    recipe: Recipe
    settings: Mapping[str, Any]
    seeds: tuple[int, ...] = (0,)


def _shipped(size: str) -> Row:
    return Row(size, f"tables, {size}", "ours", "mnist", ours.shipped,
               ours.shipped_recipe, {"file": f"dtnn_{size}_mnist.safetensors"})


def _mnist(luts: int) -> Row:
    """A preset as it was trained for shipping, with every seed."""
    return Row(f"tables-{luts}", f"tables, {luts:,} LUT", "ours", "mnist", ours.build, ours.recipe,
               {"luts": luts, "levels": 1, "validation": 1 / 12}, SEEDS)


def _trees(data: str, size: str, **settings: float) -> Row:
    return Row(f"trees-{size}", f"boosted trees, {size}", "peer", data, trees.build,
               trees.recipe, settings)


def _hgq(data: str, kind: str, hidden: tuple[int, ...], **settings: object) -> Row:
    name, method = ("hgq-lut", "HGQ-LUT") if kind == "tables" else ("hgq", "HGQ multipliers")
    return Row(name, method, "peer", data, hgq_lut.build, hgq_lut.recipe,
               {"kind": kind, "hidden": hidden, **settings})


def _mlp(data: str, hidden: tuple[int, ...], **settings: float) -> Row:
    return Row("mlp", "quantised MLP", "peer", data, mlp.build, mlp.recipe,
               {"hidden": hidden, **settings})


def _ours(data: str, luts: int, levels: int, **settings: int) -> Row:
    return Row(f"tables-{luts}", f"tables, {luts} LUT", "ours", data, ours.build, ours.recipe,
               {"luts": luts, "levels": levels, **settings}, SEEDS)


DIGITS, MAGIC = "keel:optdigits", "keel:magic"
# Boosted trees on MNIST have the rounds, depth and bits of the published TreeLUT designs. All other
# settings were chosen on a fifth of the training rows.
ROWS: tuple[Row, ...] = (
    *(_shipped(size) for size in ("small", "medium", "large")),
    *(_mnist(luts) for luts in (700, 1550, 3900)),
    _trees("mnist", "I", rounds=30, depth=5),
    _trees("mnist", "II", rounds=30, depth=4),
    _hgq("mnist", "tables", (16,), epochs=15, rate=5e-3, beta=(1e-6, 1e-4)),
    _hgq("mnist", "dense", (32,), epochs=15, input_bits=1, learn_input=False, beta=(1e-7, 3e-5)),
    _mlp("mnist", (16,), input_bits=2, epochs=10, batch=128),
    _ours(DIGITS, 400, 3),
    _ours(DIGITS, 700, 3),
    _trees(DIGITS, "small", rounds=10, depth=4, feature_bits=2, leaf_bits=4),
    _trees(DIGITS, "large", rounds=30, depth=3, feature_bits=2, leaf_bits=4),
    _hgq(DIGITS, "tables", (16,), epochs=60, batch=128, rate=5e-3, beta=(1e-6, 1e-4)),
    _hgq(DIGITS, "dense", (24,), epochs=60, batch=128, rate=5e-3, beta=(1e-7, 1e-4)),
    _mlp(DIGITS, (16,)),
    _ours(MAGIC, 200, 12, precision=6, sweeps=8, epochs=0),
    _ours(MAGIC, 400, 24, precision=6, sweeps=8, epochs=0),
    _ours(MAGIC, 800, 24, precision=6, sweeps=8, epochs=0),
    _trees(MAGIC, "small", rounds=10, depth=5, eta=0.6, feature_bits=8),
    _trees(MAGIC, "large", rounds=40, depth=5, eta=0.3, feature_bits=8),
    _hgq(MAGIC, "tables", (16,), epochs=60, batch=128, rate=5e-3, beta=(1e-7, 1e-5), input_bits=6),
    _mlp(MAGIC, (16,), input_bits=8, weight_bits=6, data_bits=6, batch=128, rate=5e-3, evened=True),
)  # fmt: skip
