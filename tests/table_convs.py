# SPDX-License-Identifier: Apache-2.0
"""Random convolutional networks of tables, for tests of what is emitted from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwflow.ir import Graph, GraphBuilder, IntType, Tensor
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.group_sum import GroupSumAttrs
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.maxpool2d import Maxpool2dAttrs
from hwflow.ops.patches import PatchesAttrs
from hwflow.ops.rearrange import RearrangeAttrs
from hwflow.ops.tables import TablesAttrs
from hwflow.ops.threshold import ThresholdAttrs
from tests.table_graphs import BIT, Layer

Pair = tuple[int, int]
Quad = tuple[int, int, int, int]


@dataclass(frozen=True)
class Conv:
    """`count` tables of `inputs` codes out of a window."""

    count: int
    inputs: int
    kernel: Pair
    stride: Pair = (1, 1)
    pads: Quad = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    out: IntType = BIT


@dataclass(frozen=True)
class Pool:
    """A max pool; square with equal pads all around as the op `maxpool`."""

    kernel: Pair = (2, 2)
    stride: Pair = (2, 2)
    pads: Quad = (0, 0, 0, 0)


def conv_network(
    stages: Sequence[Conv | Pool | Layer], *, seed: int = 0,
    shape: tuple[int, int, int] = (1, 28, 28), thresholds: Sequence[int] = (128,),
    dense: Sequence[Layer] = (), groups: int = 10, last: bool = False,
) -> Graph:  # fmt: skip
    """image -> threshold -> stages (a Layer is of one position) -> flattened -> dense ->
    [group_sum] -> argmax. Contents are quantised weighted sums of the children, as in nodes."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder("convolutions")
    x = b.input("image", shape, IntType(8, False))
    code = IntType(len(thresholds).bit_length(), False)
    levels = np.tile(np.array(thresholds, np.int64), (shape[0], 1))
    x = b.add("bits", "threshold", [x], ThresholdAttrs(0, code), {"thresholds": levels})
    for i, stage in enumerate(stages):
        if isinstance(stage, Pool):
            square = stage.kernel[0] == stage.kernel[1] and stage.stride[0] == stage.stride[1]
            if square and len(set(stage.pads)) == 1:
                attrs = MaxpoolAttrs(stage.kernel[0], stage.stride[0], stage.pads[0])
                x = b.add(f"pool{i}", "maxpool", [x], attrs)
            else:
                pool = Maxpool2dAttrs(stage.kernel, stage.stride, stage.pads)
                x = b.add(f"pool{i}", "maxpool2d", [x], pool)
            continue
        if isinstance(stage, Conv):
            window = PatchesAttrs(stage.kernel, stage.stride, stage.pads, stage.dilation)
            x = b.add(f"window{i}", "patches", [x], window)
        x = _tables(b, rng, f"tables{i}", x, Layer(stage.count, stage.inputs, stage.out))
    if dense:
        size = int(np.prod(x.shape))
        x = b.add("flat", "rearrange", [x], RearrangeAttrs((size,), (0,), (size, 1, 1)))
    for i, layer in enumerate(dense):
        x = _tables(b, rng, f"dense{i}", x, layer)
    if groups:
        x = b.add("scores", "group_sum", [x], GroupSumAttrs(groups))
    return b.build([b.add("class", "argmax", [x], ArgmaxAttrs(last))])


def _tables(
    b: GraphBuilder, rng: np.random.Generator, name: str, x: Tensor, layer: Layer
) -> Tensor:
    assert isinstance(x.dtype, IntType)
    code, out = x.dtype, layer.out
    inputs = min(layer.inputs, x.shape[0])
    picked = np.stack([rng.choice(x.shape[0], inputs, False) for _ in range(layer.count)])
    wires = (picked[:, :, None] * code.bits + np.arange(code.bits)).reshape(layer.count, -1)
    address = np.arange(1 << wires.shape[1])
    codes = np.stack(
        [address >> (code.bits * j) & ((1 << code.bits) - 1) for j in range(inputs)]
    )
    total = rng.normal(size=(layer.count, inputs)) @ (codes - codes.mean())
    rank = np.argsort(np.argsort(total, axis=1), axis=1)
    values = out.lo + rank * (out.hi - out.lo + 1) // len(address)
    return b.add(
        name, "tables", [x], TablesAttrs(code.bits, out),
        {"wires": wires.astype(np.int32), "values": values.astype(np.int16)},
    )  # fmt: skip


LENET = (
    Conv(6, 6, (5, 5), pads=(2, 2, 2, 2)), Pool(), Conv(16, 6, (5, 5)), Pool(),
)  # fmt: skip
LENET_DENSE = (Layer(120, 6), Layer(84, 6), Layer(10, 6, IntType(3, False)))


def lenet(seed: int = 0) -> Graph:
    """LeNet-5-style, 6 @ 5 x 5, 16 @ 5 x 5, 120, 84, 10 nodes of six bits: root codes, no adder."""
    return conv_network(LENET, seed=seed, dense=LENET_DENSE, groups=0)


def blobs(count: int, graph: Graph, seed: int = 0) -> np.ndarray:
    """Images uint8 (count, pixels): noise, and every other one smooth shapes."""
    rng = np.random.default_rng(seed)
    channels, height, width = graph.tensors[graph.inputs[0]].shape
    noise = rng.normal(size=(count, channels, height, width))
    smooth = np.fft.ifft2(
        np.fft.fft2(noise)
        * np.exp(-20 * (np.fft.fftfreq(height)[:, None] ** 2 + np.fft.fftfreq(width) ** 2))
    ).real
    smooth /= smooth.std(axis=(1, 2, 3), keepdims=True)
    made = np.clip(128 + 90 * smooth, 0, 255)
    made[::2] = rng.integers(0, 256, made[::2].shape)
    return made.reshape(count, -1).astype(np.uint8)
