# SPDX-License-Identifier: Apache-2.0
"""The record of an inspection, as it is written: docs/inspect.md has the keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

SCHEMA = 1


@dataclass(frozen=True)
class Range:
    """Every value an accumulator can take, partial sums in any order and the bias included."""

    min: int
    max: int
    bits: int


@dataclass(frozen=True)
class Layer:
    """One layer. Shapes have no batch axis; types are "u8", "i8" ..., or "f32" before lowering.

    parameters: weights, biases and thresholds. weight_bytes: the weights packed at weight_bits.
    accumulator: None where nothing is summed, or nothing proven because the file does not lower.
    runs_on: "engine" (all of the network does), else "tables", else "hls" (all of it does), else
    "none"; `engine` and `hls` say what keeps this layer from it, None where nothing does.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    input_shape: tuple[int, ...] | None
    input_type: str | None
    output_shape: tuple[int, ...] | None
    output_type: str | None
    weight_bits: int | None
    macs: int | None
    parameters: int
    weight_bytes: int
    accumulator: Range | None
    runs_on: str
    engine: str | None
    hls: str | None


@dataclass(frozen=True)
class Port:
    """An input or output of the network."""

    name: str
    shape: tuple[int, ...] | None
    type: str | None


@dataclass(frozen=True)
class Totals:
    """Sums over the layers; accumulator_bits is the widest proven one. macs is None where the
    shape of a layer that multiplies is unknown."""

    layers: int
    macs: int | None
    parameters: int
    weight_bytes: int
    accumulator_bits: int | None


@dataclass(frozen=True)
class Inspection:
    """A network. level: "integer" or "file" (then `reason` says why it does not lower).

    engine, hls, tables: None where that hardware runs the whole network on the board, else why not.
    """

    schema: int
    model: str
    board: str
    level: str
    reason: str | None
    engine: str | None
    hls: str | None
    tables: str | None
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    layers: tuple[Layer, ...]
    totals: Totals

    def to_json(self) -> str:
        """The same as JSON text; docs/inspect.md has the keys."""
        return json.dumps(asdict(self), indent=1) + "\n"


def packed_bytes(weights: int, bits: int | None) -> int:
    """Bytes of that many weights, packed."""
    return -(-weights * (bits or 0) // 8)


def totals(layers: Sequence[Layer]) -> Totals:
    """The sums over some layers."""
    macs = [layer.macs for layer in layers]
    widths = [layer.accumulator.bits for layer in layers if layer.accumulator]
    return Totals(
        len(layers), None if None in macs else sum(n for n in macs if n is not None),
        sum(layer.parameters for layer in layers), sum(layer.weight_bytes for layer in layers),
        max(widths, default=None),
    )
