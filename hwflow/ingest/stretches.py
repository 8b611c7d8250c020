# SPDX-License-Identifier: Apache-2.0
"""Finding the node functions of a table network: what lies between codes and a quantiser.

A stretch is all nodes between one tensor of codes and a quantiser, where each output channel
depends on a few input channels alone: first moves that hand each node its children, then
arithmetic that never mixes two nodes, whatever it is. On few bits it is a table (tables.py).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto

from hwflow.ingest.fold import shapes
from hwflow.ingest.layers import is_patches
from hwflow.ingest.layout import MOVES as PLAIN_MOVES
from hwflow.ingest.reader import MALFORMED, Reader, attributes_of, layer_name, malformed

ENDS = ("Quant", "IntQuant", "BipolarQuant")
QUANTISERS = (*ENDS, "MultiThreshold", "Trunc", "DequantizeLinear")
# Moves inside of a stretch, which bring children to their nodes.
MOVES = (
    "Gather", "Reshape", "Transpose", "Slice", "Split", "Unsqueeze", "Squeeze", "Expand", "Concat",
    "Identity", "Flatten",
)  # fmt: skip
ELEMENTWISE = (
    "Abs", "Add", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast",
    "Ceil", "Celu", "Clip", "Cos", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu",
    "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu",
    "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign",
    "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Where", "Xor",
)  # fmt: skip
REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip


@dataclass(frozen=True)
class Stretch:
    """Nodes between the codes `source` and `quantiser`, in order.

    `moves` bring the codes to `entries`; `nodes` compute from these alone. `pixels`: how many of
    the last axes are those of a map (2, or 0 for vectors). `widest`: numbers in its largest tensor.
    """

    name: str
    source: str
    moves: tuple[NodeProto, ...]
    nodes: tuple[NodeProto, ...]
    entries: tuple[str, ...]
    quantiser: NodeProto
    pixels: int
    widest: int


@dataclass(frozen=True)
class _File:
    """The file by name: which tensors are constant, carry codes, and their shapes."""

    reader: Reader
    constant: frozenset[str]
    carrying: frozenset[str]
    producers: Mapping[str, NodeProto]
    shapes: Mapping[str, list[int]]

    def data(self, node: NodeProto) -> list[str]:
        """The inputs of a node that are no constants."""
        return [i for i in node.input if i and i not in self.constant]

    def rank(self, name: str) -> int:
        """The rank of a tensor."""
        return len(self.shapes[name])


def find(reader: Reader) -> tuple[list[Stretch], list[str]]:
    """The stretches of a file, and one line for each node that keeps one from being tables.

    Nodes that cannot be made sense of are in none; support.py names them.
    """
    ends = [n for n in reader.nodes if n.op_type in ENDS and n.input and n.output]
    if not any(_special(reader, n) for n in reader.nodes):
        return [], []
    constant = _constants(reader)
    known = {**shapes(reader.model), **{k: list(a.shape) for k, a in reader.constants.items()}}
    producers = {o: n for n in reader.nodes for o in n.output if o}
    file = _File(reader, constant, _carrying(reader, constant, known), producers, known)
    found: list[Stretch] = []
    lines: list[str] = []
    for end in ends:
        if end.input[0] in constant or end.input[0] in file.carrying:
            continue
        try:
            stretch, wrong = _stretch(file, end)
        except MALFORMED as error:
            stretch, wrong = None, [malformed(end, error)]
        lines += wrong
        if stretch is not None:
            found.append(stretch)
    return found, [*dict.fromkeys(lines), *_leaks(reader, found)]


def _special(reader: Reader, node: NodeProto) -> bool:
    """Whether only a table can hold a node: no other part of the flow reads it."""
    try:
        return _only_in_tables(reader, node)
    except MALFORMED:
        return False


def _only_in_tables(reader: Reader, node: NodeProto) -> bool:
    if node.op_type == "Gather" and len(node.input) == 2:
        index = reader.constants.get(node.input[1])
        axis = int(attributes_of(node).get("axis", 0))
        if index is None or index.dtype.kind not in "iu" or index.ndim != 1 or axis != 1:
            return True
        return not np.array_equal(index, np.arange(index[0], index[0] + len(index)))
    return node.op_type in (*ELEMENTWISE, *REDUCTIONS, "Expand", "Softmax") and (
        node.op_type not in _READ_ELSEWHERE
    )


# Layers of other networks, which say themselves what they need.
_SUMS = ("Conv", "DeformConv", "Gemm", "AveragePool", "GlobalAveragePool", "MaxPool")
_READ_ELSEWHERE = (
    "Add", "Sub", "Mul", "Div", "Neg", "Relu", "Clip", "Identity", "Dropout", "ReduceMean",
)  # fmt: skip


def _constants(reader: Reader) -> frozenset[str]:
    """Constants, and what quantisers and moves make of them."""
    constant = {*reader.constants, ""}
    for node in reader.nodes:
        if node.input and all(i in constant for i in node.input):
            constant.update(node.output)
    return frozenset(constant)


def _carrying(
    reader: Reader, constant: frozenset[str], known: Mapping[str, list[int]]
) -> frozenset[str]:
    """The tensors that carry codes, from the quantisers on through moves of vectors and maps."""
    carrying = {i.name for i in reader.model.graph.input}
    for node in reader.nodes:
        data = [i for i in node.input if i and i not in constant]
        moved = node.op_type in (*PLAIN_MOVES, "Identity") and not _special(reader, node)
        moved = moved or _patches(reader, node)
        ranks = all(len(known.get(o, ())) in (2, 4) for o in node.output)
        quantises = node.op_type in QUANTISERS and set(node.input[:1]) - constant
        if quantises or (moved and ranks and data and all(i in carrying for i in data)):
            carrying.update(node.output)
    return frozenset(carrying)


def _patches(reader: Reader, node: NodeProto) -> bool:
    try:
        return is_patches(reader, node)
    except MALFORMED:
        return False


def _stretch(file: _File, end: NodeProto) -> tuple[Stretch | None, list[str]]:
    """The stretch that ends in a quantiser; None, perhaps with reasons, where it is no table."""
    cone, sources = _cone(file, end)
    if not any(_special(file.reader, n) for n in cone):
        return None, []
    moved: set[str] = set(sources)
    moves, nodes = [], []
    for node in cone:
        data = file.data(node)
        if node.op_type in MOVES and all(i in moved for i in data) and _by_constant(node, data):
            moves.append(node)
            moved.update(node.output)
        else:
            nodes.append(node)
    wired = any(n.op_type == "Gather" and _special(file.reader, n) for n in moves)
    name = _name(cone, end)
    lines = []
    if len(sources) != 1:
        lines.append(
            f"{name}: {end.op_type}: reads codes of {len(sources)} tensors ({', '.join(sources)}); "
            "nearest: Concat them before the Gather"
        )
    else:
        pixels = file.rank(sources[0]) - 2
        count = file.shapes[end.input[0]][1]
        for node in nodes:
            reason = _mixes(file, node, count, pixels)
            if reason is not None:
                lines.append(
                    f"{layer_name(node)}: {node.op_type}: in the node function of {name} "
                    f"{reason}; nearest: elementwise operations, and sums over axis 2 "
                    "(the children of a node)"
                )
        needed = {i for n in nodes for i in file.data(n)} | {end.input[0]}
        entries = tuple(dict.fromkeys(i for i in sorted(needed) if i in moved))
        for entry in entries:
            if file.shapes[entry][1] != count:
                lines.append(
                    f"{name}: {end.op_type}: gives {count} channels from children of "
                    f"{file.shapes[entry][1]} nodes; nearest: one channel a node"
                )
        if not lines:
            area = math.prod(file.shapes[end.input[0]][2:])
            made = [o for n in (*nodes, end) for o in n.output if o]
            widest = max(math.prod(file.shapes[o]) for o in made) // area
            parts = (tuple(moves), tuple(nodes), entries)
            return Stretch(name, sources[0], *parts, end, pixels, widest), []
    sums = any(n.op_type in _SUMS for n in nodes)
    return None, lines if wired and not sums else []


def _cone(file: _File, end: NodeProto) -> tuple[list[NodeProto], list[str]]:
    """The nodes above a quantiser down to tensors of codes, in order, and these tensors."""
    reached: set[str] = set()
    sources: list[str] = []
    pending = [end.input[0]]
    while pending:
        name = pending.pop()
        if name in reached or name in file.constant:
            continue
        reached.add(name)
        node = file.producers.get(name)
        if name in file.carrying or node is None:
            sources.append(name)
        else:
            pending += node.input
    return [n for n in file.reader.nodes if reached.intersection(n.output)
            and not set(n.output) & file.carrying], sorted(sources)  # fmt: skip


def _by_constant(node: NodeProto, data: list[str]) -> bool:
    """Whether a move is told by constants where to move: only the first input is data."""
    return node.op_type == "Concat" or list(data) == [node.input[0]]


def _name(cone: list[NodeProto], end: NodeProto) -> str:
    """What the names of the nodes share: layers.0 of layers.0.gather and layers.0.quant."""
    parts = [layer_name(n).split(".") for n in (*cone, end)]
    shared: list[str] = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return ".".join(shared) or layer_name(end)


def _leaks(reader: Reader, found: list[Stretch]) -> list[str]:
    """One line for each value inside of a stretch that something else needs."""
    inner = {o for s in found for n in (*s.moves, *s.nodes) for o in n.output}
    makers = {id(n) for s in found for n in (*s.moves, *s.nodes, s.quantiser)}
    lines = [
        f"{layer_name(n)}: {n.op_type}: reads '{i}' out of the middle of a node function; nearest: "
        "a quantiser before it"
        for n in reader.nodes if id(n) not in makers for i in n.input if i in inner
    ]  # fmt: skip
    return lines + [
        f"output '{o.name}' is the middle of a node function; nearest: the quantiser's output"
        for o in reader.model.graph.output if o.name in inner
    ]  # fmt: skip


# --- what never mixes two nodes ----------------------------------------------------------------


def _mixes(file: _File, node: NodeProto, count: int, pixels: int) -> str | None:
    """Why a node's result for one table node may depend on another's children; None if it cannot.

    Axis 1 counts the table nodes, the last `pixels` axes are those of a map, axis 0 is the batch;
    only the axes between may be touched.
    """
    data = file.data(node)
    if any(i not in file.shapes for i in (*data, *node.output[:1])):
        return "has an unknown shape"
    out = file.shapes[node.output[0]]
    if len(out) < 2 or out[:2] != [1, count]:
        return f"gives the shape {out}, not (1, {count}, ...)"
    if any(file.shapes[i][:2] != [1, count] for i in data):
        return f"reads a shape that is not (1, {count}, ...)"
    check = CHECKS.get(node.op_type)
    if check is None:
        return "cannot be proven to keep the nodes apart"
    return check(file, node, data, pixels)


def _elementwise(file: _File, node: NodeProto, data: list[str], pixels: int) -> str | None:
    ranks = {file.rank(i) for i in data}
    if len(ranks) > 1:
        return f"joins tensors of {sorted(ranks)} axes"
    for name in node.input:
        shape = file.shapes.get(name, []) if name in file.constant else []
        if len(shape) > max(ranks) or (len(shape) == max(ranks) and shape[0] != 1):
            return f"has a constant of shape {shape}"
    return None


def _middle(file: _File, axes: list[int], rank: int, pixels: int) -> bool:
    return all(2 <= a % rank < rank - pixels for a in axes if -rank <= a < rank) and all(
        -rank <= a < rank for a in axes
    )


def _axes(file: _File, node: NodeProto, place: int) -> list[int]:
    """Axes from an attribute, or from the input at `place`."""
    given = attributes_of(node).get("axes")
    if given is not None:
        return [int(a) for a in given]
    if len(node.input) > place and node.input[place] in file.reader.constants:
        return [int(a) for a in file.reader.constants[node.input[place]].ravel()]
    return []


def _reduction(file: _File, node: NodeProto, data: list[str], pixels: int) -> str | None:
    axes = _axes(file, node, 1)
    if not axes or not _middle(file, axes, file.rank(node.input[0]), pixels):
        return f"sums over axes {axes}"
    return None


def _axis(file: _File, node: NodeProto, data: list[str], pixels: int) -> str | None:
    axis = int(attributes_of(node).get("axis", -1 if node.op_type == "Softmax" else 0))
    wrong = not _middle(file, [axis], file.rank(data[0]), pixels)
    return f"works along axis {axis}" if wrong else _same_rank(file, data)


def _same_rank(file: _File, data: list[str]) -> str | None:
    return None if len({file.rank(i) for i in data}) == 1 else "joins tensors of different ranks"


def _gather(file: _File, node: NodeProto, data: list[str], pixels: int) -> str | None:
    """Children of a computed tensor, or a table of constants looked up."""
    if node.input[0] not in file.constant:
        return _axis(file, node, data, pixels) if _by_constant(node, data) else "looks up data"
    axis = int(attributes_of(node).get("axis", 0))
    table = file.shapes[node.input[0]]
    if len(table) != 1 or axis not in (0, -1):
        return f"looks up a constant of shape {table} along axis {axis}"
    return None


def _batchnorm(file: _File, node: NodeProto, data: list[str], pixels: int) -> str | None:
    return None if data == [node.input[0]] else "has parameters that are no constants"


def _squeeze(file: _File, node: NodeProto, data: list[str], pixels: int) -> str | None:
    wide = max(file.rank(node.input[0]), file.rank(node.output[0]))
    axes = _axes(file, node, 1)
    return None if axes and _middle(file, axes, wide, pixels) else f"touches axes {axes}"


def _slice(file: _File, node: NodeProto, data: list[str], pixels: int) -> str | None:
    axes = _axes(file, node, 3)
    wrong = not axes or not _middle(file, axes, file.rank(node.input[0]), pixels)
    return f"cuts axes {axes}" if wrong else None


def _reshape(file: _File, node: NodeProto, data: list[str], pixels: int) -> str | None:
    old, new = file.shapes[node.input[0]], file.shapes[node.output[0]]
    if data != [node.input[0]] or (pixels and old[-pixels:] != new[-pixels:]):
        return f"turns {old} into {new}"
    rest = [math.prod(s[2 : len(s) - pixels]) for s in (old, new)]
    return None if rest[0] == rest[1] or node.op_type == "Expand" else f"turns {old} into {new}"


def _transpose(file: _File, node: NodeProto, data: list[str], pixels: int) -> str | None:
    rank = file.rank(node.input[0])
    perm = list(attributes_of(node).get("perm", list(range(rank))[::-1]))
    fixed = [0, 1, *range(rank - pixels, rank)]
    return None if all(perm[a] == a for a in fixed) else f"turns the axes to {perm}"


def _matmul(file: _File, node: NodeProto, data: list[str], pixels: int) -> str | None:
    """Batched over the nodes: (1, N, ..., 1, k) by (N, k, h)."""
    rank = file.rank(data[0])
    shape = file.shapes[node.input[1]]
    if data != [node.input[0]] or rank < 4 or pixels or len(shape) > rank:
        return f"multiplies matrices of shapes {file.shapes[data[0]]} and {shape}"
    return f"has a constant of shape {shape}" if len(shape) == rank and shape[0] != 1 else None


Check = Callable[[_File, NodeProto, list[str], int], str | None]
CHECKS: Mapping[str, Check] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Concat", "ArgMax", "ArgMin", "Split"), _axis),
    "Gather": _gather,
    "BatchNormalization": _batchnorm,
    "Squeeze": _squeeze,
    "Unsqueeze": _squeeze,
    "Slice": _slice,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Expand": _reshape,
    "Transpose": _transpose,
    "MatMul": _matmul,
}


def opsets(model: onnx.ModelProto) -> dict[str, Any]:
    """The versions of the operator sets of a file."""
    return {o.domain: o.version for o in model.opset_import}
