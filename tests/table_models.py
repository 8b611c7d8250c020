# SPDX-License-Identifier: Apache-2.0
"""Random table networks in torch, and table graphs, for tests."""

import numpy as np
import torch
from torch import nn

from hwflow.ir import Graph, GraphBuilder, IntType, Tensor
from hwflow.models.tables import (
    AffineNode,
    ArithmeticNode,
    Code,
    GroupSum,
    LookupNode,
    MlpNode,
    PolynomialNode,
    TableLayer,
    TableNetwork,
    Thresholds,
)
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.group_sum import GroupSumAttrs
from hwflow.ops.tables import TablesAttrs

ARITHMETIC = {"affine": AffineNode, "polynomial": PolynomialNode, "mlp": MlpNode}


def make_node(kind: str, count: int, inputs: int, before: Code, code: Code) -> nn.Module:
    """A node function with random contents; batch norms as after some training."""
    if kind == "lookup":
        values = torch.rand(count, 1 << (inputs * before.bits)) * (code.hi - code.lo) + code.lo
        return LookupNode(values, inputs, before, code)
    if kind == "free":
        node: ArithmeticNode = AffineNode(count, inputs, code, "free", 0.3)
    else:
        more = {"hidden": 3} if kind == "mlp" else {}
        node = ARITHMETIC[kind](count, inputs, code, **more)
    with torch.no_grad():
        bn = node.norm.bn
        bn.running_mean.normal_()
        bn.running_var.uniform_(0.5, 2)
        bn.weight.mul_(torch.randn(count))
    return node


def make_network(
    kinds: tuple[str, ...],
    code: Code,
    inputs: int,
    seed: int = 0,
    *,
    sizes: tuple[int, ...] = (12, 10),
    levels: int = 1,
    thermometer: bool = False,
    groups: int | None = 5,
    shape: tuple[int, int, int] = (1, 5, 5),
) -> TableNetwork:
    """One layer for each kind of node; eval mode."""
    torch.manual_seed(seed)
    pixels = int(np.prod(shape))
    encoder = Thresholds(torch.rand(pixels, levels) * 256, thermometer)
    before, channels, layers = encoder.code, encoder.channels, []
    for kind, count in zip(kinds, sizes, strict=True):
        node = make_node(kind, count, inputs, before, code)
        layers.append(TableLayer(torch.randint(0, channels, (count, inputs)), node))
        before, channels = code, count
    return TableNetwork(encoder, layers, GroupSum(groups) if groups else None).eval()


def random_tables(
    builder: GraphBuilder,
    rng: np.random.Generator,
    name: str,
    x: Tensor,
    count: int,
    width: int,
    out: IntType,
) -> Tensor:
    """Append tables with random wires and contents, among them constant, equal and complemented
    ones, and some that do not read all of their wires."""
    assert isinstance(x.dtype, IntType)
    bits = x.dtype.bits
    wires = rng.integers(0, x.shape[0] * bits, (count, width)).astype(np.int32)
    values = rng.integers(out.lo, out.hi + 1, (count, 1 << width)).astype(np.int16)
    for n in range(count):
        kind, other = rng.integers(8), int(rng.integers(count))
        address = np.arange(1 << width)
        if kind == 0:
            values[n] = values[n, 0]
        elif kind == 1:
            wires[n], values[n] = wires[other], values[other]
        elif kind == 2:
            wires[n], values[n] = wires[other], out.lo + out.hi - values[other]
        elif kind == 3:
            values[n] = values[n, address & ~(1 << int(rng.integers(width)))]
        elif kind == 4:  # the same function with its inputs in another order
            order = rng.permutation(width)
            moved = sum(((address >> j) & 1) << int(order[j]) for j in range(width))
            wires[n] = wires[other][order]
            values[n] = values[other][moved]
    consts = {"wires": wires, "values": values}
    return builder.add(name, "tables", [x], TablesAttrs(bits, out), consts)


def random_table_graph(seed: int, inputs: int = 4, kind: str = "u2") -> Graph:
    """A few layers of tables on a map of few bits, with a skip through a concatenation."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder("tables")
    dtype = IntType.parse(kind)
    x: Tensor = b.input("x", (inputs, 1, 1), dtype)
    bits = int(rng.integers(1, 4))
    signed = bool(rng.random() < 0.5) and bits > 1
    for layer in range(int(rng.integers(2, 5))):
        out = IntType(bits, signed)
        width = int(rng.integers(2, 7))
        count = 2 * int(rng.integers(3, 10))
        y = random_tables(b, rng, f"layer{layer}", x, count, width, out)
        if layer and rng.random() < 0.5:
            y = b.add(f"join{layer}", "concat", [x, y], ConcatAttrs())
        x = y
    if x.shape[0] % 2 == 0 and rng.random() < 0.5:
        x = b.add("sums", "group_sum", [x], GroupSumAttrs(2))
    best = b.add("best", "argmax", [x], ArgmaxAttrs())
    return b.build([x, best])
