# SPDX-License-Identifier: Apache-2.0
"""Random networks of tables, as large as trained ones, for tests of what is emitted from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwflow.ir import Graph, GraphBuilder, IntType
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.group_sum import GroupSumAttrs
from hwflow.ops.rearrange import RearrangeAttrs
from hwflow.ops.tables import TablesAttrs
from hwflow.ops.threshold import ThresholdAttrs

BIT = IntType(1, False)


@dataclass(frozen=True)
class Layer:
    """`count` tables of `inputs` codes each, with outputs of type `out`."""

    count: int
    inputs: int
    out: IntType = BIT


def network(
    layers: Sequence[Layer], *, seed: int = 0, shape: tuple[int, int] = (28, 28),
    thresholds: Sequence[int] = (128,), groups: int = 10, last: bool = False, trained: bool = False,
) -> Graph:
    """image -> threshold -> tables ... -> [group_sum] -> argmax; without groups (0) no sums.

    trained: contents are quantised weighted sums of the inputs, as nodes of a network are, not
    random ones.
    """
    rng = np.random.default_rng(seed)
    builder = GraphBuilder("random")
    pixels = shape[0] * shape[1]
    x = builder.input("image", (1, *shape), IntType(8, False))
    x = builder.add("flat", "rearrange", [x], RearrangeAttrs((pixels,), (0,), (pixels, 1, 1)))
    code = IntType(len(thresholds).bit_length(), False)
    levels = np.tile(np.array(thresholds, np.int64), (pixels, 1))
    x = builder.add("bits", "threshold", [x], ThresholdAttrs(0, code), {"thresholds": levels})
    channels = pixels
    for i, layer in enumerate(layers):
        picked = np.stack([rng.choice(channels, layer.inputs, False) for _ in range(layer.count)])
        wires = (picked[:, :, None] * code.bits + np.arange(code.bits)).reshape(layer.count, -1)
        address = np.arange(1 << wires.shape[1])
        if trained:
            codes = np.stack(
                [address >> (code.bits * j) & ((1 << code.bits) - 1) for j in range(layer.inputs)]
            )
            total = rng.normal(size=(layer.count, layer.inputs)) @ (codes - codes.mean())
            scale = layer.out.hi - layer.out.lo + 1
            rank = np.argsort(np.argsort(total, axis=1), axis=1)
            values = layer.out.lo + rank * scale // len(address)
        else:
            values = rng.integers(layer.out.lo, layer.out.hi + 1, (layer.count, len(address)))
        x = builder.add(
            f"tables{i}", "tables", [x], TablesAttrs(code.bits, layer.out),
            {"wires": wires.astype(np.int32), "values": values.astype(np.int16)},
        )
        channels, code = layer.count, layer.out
    if groups:
        x = builder.add("scores", "group_sum", [x], GroupSumAttrs(groups))
    x = builder.add("class", "argmax", [x], ArgmaxAttrs(last))
    return builder.build([x])


def images(count: int, graph: Graph, seed: int = 0) -> np.ndarray:
    """Images uint8 (count, pixels), half of them of few values, so that codes repeat."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(graph.tensors[graph.inputs[0]].shape))
    made = rng.integers(0, 256, (count, size))
    made[::2] = rng.choice([0, 60, 127, 128, 255], made[::2].shape)
    return made.astype(np.uint8)
