# SPDX-License-Identifier: Apache-2.0
"""The designs that `hwflow bench tables` measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hwflow.peers import trees
from hwflow.peers.design import Data, Design, Place

Build = Callable[[Data, Mapping[str, Any], Place], Design]


@dataclass(frozen=True)
class Row:
    """One method on one data set. settings: what `build` gets besides the seed."""

    name: str
    method: str
    who: Literal["ours", "peer"]
    data: str
    build: Build
    settings: Mapping[str, Any]
    seeds: tuple[int, ...] = (0,)


# Rounds and depth of the published TreeLUT designs on MNIST; those of the tables were chosen on
# part of the training rows.
ROWS: tuple[Row, ...] = (
    Row("trees-30x5", "boosted trees, depth 5", "peer", "mnist", trees.build,
        {"rounds": 30, "depth": 5}),
    Row("trees-30x4", "boosted trees, depth 4", "peer", "mnist", trees.build,
        {"rounds": 30, "depth": 4}),
    Row("trees", "boosted trees", "peer", "keel:optdigits", trees.build,
        {"rounds": 20, "depth": 4}),
    Row("trees", "boosted trees", "peer", "keel:magic", trees.build,
        {"rounds": 30, "depth": 5, "feature_bits": 8}),
)  # fmt: skip
