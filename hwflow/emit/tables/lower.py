# SPDX-License-Identifier: Apache-2.0
"""From the integer graph to a netlist: encoder, layers of tables, sums, argmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hwflow.emit.tables import heads
from hwflow.emit.tables.netlist import Builder, Cell, alive, paired, spread
from hwflow.emit.tables.write import Target
from hwflow.errors import GraphError
from hwflow.ir import Graph, IntType, Node
from hwflow.ops import OPS
from hwflow.ops.types import int_type

MOST_CODE_BITS = 12
MOVES = ("rearrange", "slice", "concat")
Bits = tuple[int, ...]


@dataclass(frozen=True)
class Lowered:
    """A network as cells.

    inputs: net -> bit of the input. class_nets and score_nets: literals, lowest bit first; scores
    are unsigned, `score_offset` more than the graph's. The stages are their latencies.
    """

    cells: tuple[Cell, ...]
    inputs: dict[int, int]
    class_bits: tuple[int, ...]
    scores: tuple[Bits, ...]
    score_offset: int
    class_stage: int
    score_stage: int
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Codes:
    """Layers without a head as cells: `outputs` are the literals of each channel's code, lowest bit
    first, behind registers (where there is any cell), all of one stage."""

    cells: tuple[Cell, ...]
    inputs: dict[int, int]
    outputs: tuple[Bits, ...]
    stage: int
    parts: tuple[str, ...]


@dataclass
class _Walk:
    """The nodes that have been lowered, and what is known of their values."""

    builder: Builder
    graph: Graph
    table_levels: int
    head_levels: int
    carry: bool
    layers: int  # of tables so far
    encoders: int
    registered: bool = False  # the bits of the input, before anything reads them
    values: dict[str, list[Bits]] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)  # of tensors made unsigned
    parts: list[str] = field(default_factory=list)
    found: tuple[int, ...] | None = None
    scores: list[Bits] = field(default_factory=list)
    offset: int = 0

    def part(self, name: str) -> None:
        """New cells belong to this part."""
        self.builder.part = name
        if name not in self.parts:
            self.parts.append(name)

    def source(self) -> None:
        """The bits of the graph's input."""
        graph, builder = self.graph, self.builder
        if len(graph.inputs) != 1:
            raise GraphError(
                f"graph '{graph.name}' has {len(graph.inputs)} inputs; tables take one"
            )
        source = graph.tensors[graph.inputs[0]]
        kind, size = int_type(source), int(np.prod(source.shape))
        bits = [builder.input(bit) for bit in range(size * kind.bits)]
        if self.registered:
            self.part("image")
            bits = [builder.register(bit) for bit in bits]
        self.values[source.name] = [
            tuple(bits[e * kind.bits : (e + 1) * kind.bits]) for e in range(size)
        ]

    def node(self, node: Node) -> None:
        """Lower one node; GraphError if it is not of a network of tables."""
        builder, graph, values, offsets = self.builder, self.graph, self.values, self.offsets
        before = [values[i] for i in node.inputs]
        builder.limit = self.table_levels
        if self.found is not None:
            raise GraphError(f"node '{node.name}' ({node.op}): nothing may follow the argmax")
        if node.op != "argmax" and node.op not in MOVES and node.inputs[0] in offsets:
            raise GraphError(f"node '{node.name}' ({node.op}) reads sums; only an argmax may")
        if node.op == "threshold":
            self.encoders += 1
            self.part("encoder" if self.encoders == 1 else f"encoder{self.encoders}")
            values[node.output] = _encode(builder, graph, node, before[0])
        elif node.op == "tables":
            self.layers += 1
            self.part(f"layer{self.layers}")
            values[node.output] = _tables(builder, graph, node, before[0])
        elif node.op in MOVES:
            values[node.output] = _moved(graph, node, before)
            moved = {offsets.get(i) for i in node.inputs}
            if len(moved) > 1:
                raise GraphError(f"node '{node.name}' ({node.op}) joins sums and codes")
            if moved != {None}:
                offsets[node.output] = offsets[node.inputs[0]]
        elif node.op == "group_sum":
            builder.limit = self.head_levels
            self.part("sums")
            sums, offsets[node.output] = _sums(builder, graph, node, before[0], self.carry)
            values[node.output] = sums
        elif node.op == "argmax":
            builder.limit = self.head_levels
            self.scores, self.offset = _scores(graph, node.inputs[0], before[0], offsets)
            self.part("argmax")
            self.found = tuple(heads.argmax(builder, self.scores, node.attrs.last))
            values[node.output] = [self.found]
        else:
            raise GraphError(
                f"node '{node.name}' ({node.op}) is not of a network of tables: threshold, tables, "
                "group_sum, argmax, rearrange, slice and concat are, and patches and maxpool in "
                "front of them; enumerate the others to tables"
            )


def lower_codes(
    graph: Graph, to: Target, table_levels: int, layers: int = 0, encoders: int = 0
) -> Codes:
    """The netlist of layers whose output, (C, 1, 1) codes, is no class yet.

    layers, encoders: how many are in front of the graph; parts are numbered from there.
    """
    builder = Builder(to.fabric)
    walk = _Walk(builder, graph, table_levels, 0, False, layers, encoders)
    walk.source()
    for node in graph.nodes:
        walk.node(node)
    codes = walk.values[graph.outputs[0]]
    flat = builder.aligned([x for code in codes for x in code])
    stage = max((builder.stage[x >> 1] for x in flat), default=0)
    if any(builder.depth[x >> 1] for x in flat if builder.stage[x >> 1] == stage):
        stage += 1
    flat = builder.aligned(flat, stage)
    cells = alive(builder.cells, [x >> 1 for x in flat])
    if to.fabric.dual:
        cells = paired(cells, builder.stage)
    width = len(codes[0])
    outputs = tuple(tuple(flat[i : i + width]) for i in range(0, len(flat), width))
    return Codes(tuple(cells), builder.inputs, outputs, stage, tuple(walk.parts))


def lower(
    graph: Graph, to: Target, table_levels: int, head_levels: int, carry: bool,
    layers: int = 0, encoders: int = 0, fan_out: int = 0,
) -> Lowered:  # fmt: skip
    """The netlist of a network of tables.

    table_levels, head_levels: cells between registers in the tables and behind them, 0 for none.
    fan_out: the bits of the input go through registers, each read by at most so many functions, as
    are all others; 0: cells read the input itself.
    layers, encoders: how many are in front of the graph; parts are numbered from there.
    Raises GraphError naming the node that is not of such a network.
    """
    builder = Builder(to.fabric)
    walk = _Walk(builder, graph, table_levels, head_levels, carry, layers, encoders, fan_out > 0)
    walk.source()
    for node in graph.nodes:
        walk.node(node)
    found, scores, offset = walk.found, walk.scores, walk.offset
    if found is None:
        builder.limit = head_levels
        final = graph.nodes[-1].output
        scores, offset = _scores(graph, final, walk.values[final], walk.offsets)
        walk.part("argmax")
        found = tuple(heads.argmax(builder, scores, False))
    flat = builder.aligned([x for score in scores for x in score])
    width = len(scores[0])
    scores = [tuple(flat[i : i + width]) for i in range(0, len(flat), width)]
    score_stage = max((builder.stage[x >> 1] for x in flat), default=0)
    stage = max((builder.stage[x >> 1] for x in found), default=0)
    if max((builder.depth[x >> 1] for x in found), default=0) or stage == 0:
        stage += 1
    found = tuple(builder.aligned(found, stage))
    nets = [x >> 1 for x in (*found, *flat)]
    cells = alive(builder.cells, nets)
    if to.fabric.dual:
        cells = paired(cells, builder.stage)
    if fan_out:
        cells = spread(cells, fan_out, len(builder.stage))
    return Lowered(
        tuple(cells), builder.inputs, found, tuple(scores), offset, stage, score_stage,
        tuple(walk.parts),
    )


def _elements(graph: Graph, tensor: str) -> np.ndarray:
    """The numbers of the elements of a tensor, in its shape."""
    shape = graph.tensors[tensor].shape
    return np.arange(int(np.prod(shape))).reshape(shape)


def _encode(builder: Builder, graph: Graph, node: Node, x: Sequence[Bits]) -> list[Bits]:
    kind = int_type(graph.tensors[node.inputs[0]])
    out = int_type(graph.tensors[node.output])
    if kind.bits > MOST_CODE_BITS:
        raise GraphError(
            f"node '{node.name}': a threshold of {kind.bits} bits; scale the input to at most "
            f"{MOST_CODE_BITS}"
        )
    table = graph.const(node, "thresholds")
    codes = np.arange(1 << kind.bits)
    if kind.signed:
        codes = np.where(codes > kind.hi, codes - (1 << kind.bits), codes)
    places = _elements(graph, node.inputs[0])
    result: list[Bits] = [()] * len(x)
    for channel, row in enumerate(table):
        levels = np.searchsorted(row, codes, side="right") + node.attrs.lo
        for e in places[channel].ravel():
            result[e] = tuple(
                builder.function(x[e], (levels >> b & 1).astype(bool)) for b in range(out.bits)
            )
    return result


def _tables(builder: Builder, graph: Graph, node: Node, x: Sequence[Bits]) -> list[Bits]:
    out = node.attrs.out
    wires, contents = graph.const(node, "wires"), graph.const(node, "values")
    channels, bits = np.divmod(wires, node.attrs.code_bits)
    before = _elements(graph, node.inputs[0])
    area = before[0].size
    result: list[Bits] = []
    for n in range(len(wires)):
        functions = [(contents[n] >> b & 1).astype(bool) for b in range(out.bits)]
        for place in range(area):
            address = [
                x[before[c].ravel()[place]][b]
                for c, b in zip(channels[n], bits[n], strict=True)
            ]
            code = [builder.function(address, f) for f in functions[:-1]]
            if out.signed:  # heads read the sign inverted; a net of its own it then is
                result.append((*code, builder.function(address, ~functions[-1]) ^ 1))
            else:
                result.append((*code, builder.function(address, functions[-1])))
    return result


def _moved(graph: Graph, node: Node, before: Sequence[Sequence[Bits]]) -> list[Bits]:
    flat = [e for x in before for e in x]
    arrays, start = [], 0
    for name in node.inputs:
        numbers = _elements(graph, name)
        arrays.append(numbers + start)
        start += numbers.size
    order = OPS[node.op].golden(tuple(arrays), node.attrs, graph.consts(node))
    return [flat[int(i)] for i in order.ravel()]


def _unsigned(kind: IntType, x: Bits) -> Bits:
    """The literals of x + 2**(bits - 1) of a signed number; those of an unsigned one."""
    return (*x[:-1], x[-1] ^ 1) if kind.signed else x


def _sums(
    builder: Builder, graph: Graph, node: Node, x: Sequence[Bits], carry: bool
) -> tuple[list[Bits], int]:
    kind = int_type(graph.tensors[node.inputs[0]])
    shape = graph.tensors[node.inputs[0]].shape
    if shape[1:] != (1, 1):
        raise GraphError(f"node '{node.name}': sums of a map {shape}; sums are of (C, 1, 1)")
    size = shape[0] // node.attrs.groups
    bits = (size * ((1 << kind.bits) - 1)).bit_length()
    result: list[Bits] = []
    for group in range(node.attrs.groups):
        codes = [_unsigned(kind, c) for c in x[group * size : (group + 1) * size]]
        heap = [[c[r] for c in codes] for r in range(kind.bits)]
        total = heads.sum_by_chains if carry else heads.sum_by_adders
        result.append(tuple(total(builder, heap, bits)))
    return result, size << (kind.bits - 1) if kind.signed else 0


def _scores(
    graph: Graph, tensor: str, x: Sequence[Bits], offsets: dict[str, int]
) -> tuple[list[Bits], int]:
    shape = graph.tensors[tensor].shape
    if shape[1:] != (1, 1):
        raise GraphError(f"tensor '{tensor}': scores are {shape}; they must be (classes, 1, 1)")
    if tensor in offsets:
        return list(x), offsets[tensor]
    kind = int_type(graph.tensors[tensor])
    return [_unsigned(kind, c) for c in x], 1 << (kind.bits - 1) if kind.signed else 0
