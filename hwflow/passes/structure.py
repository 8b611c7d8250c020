# SPDX-License-Identifier: Apache-2.0
"""Passes over the shape of the network: shuffles, and quantisers that change nothing."""

from dataclasses import dataclass, replace

from hwflow.ir import Graph, IntType, Node
from hwflow.ops.shuffle import ShuffleAttrs

LAYOUT = (
    "slice", "concat", "shuffle", "upsample", "maxpool", "maxpool2d", "resize", "rearrange",
    "reshape", "transpose",
)  # fmt: skip
# The ops after which a tensor carries integers.
QUANTISERS = ("quant", "bipolar", "multithreshold", "trunc")


@dataclass(frozen=True)
class Grid:
    """What values a tensor can hold: scale times the integers of a type, less a zero point.

    `limits` are those of the integers where they are narrower than the type's.
    """

    scale: float
    kind: IntType
    zero: int = 0
    limits: tuple[int, int] | None = None

    @property
    def wide(self) -> "Grid":
        """The same grid with the limits of its type."""
        return replace(self, limits=None)


def grid_of(graph: Graph, node: Node) -> Grid:
    """The grid of a quant node's output."""
    a = node.attrs
    return Grid(float(graph.const(node, "scale")), a.out, a.zero, a.limits)


def trace_grid(graph: Graph, tensor: str) -> Grid | None:
    """The grid a tensor lies on, traced through ops that only move values; None if none."""
    node = graph.producer(tensor)
    if node is None:
        return None
    if node.op == "quant":
        return grid_of(graph, node)
    if node.op not in LAYOUT:
        return None
    grids = {trace_grid(graph, i) for i in node.inputs}
    return grids.pop() if len(grids) == 1 else None


def rewire(nodes: list[Node], moved: dict[str, str]) -> list[Node]:
    """The nodes with every input that is a key of `moved` replaced by its value (transitively)."""

    def final(name: str) -> str:
        while name in moved:
            name = moved[name]
        return name

    return [
        Node(n.name, n.op, tuple(final(i) for i in n.inputs), n.output, n.attrs, n.consts)
        for n in nodes
    ]


def drop_dead(nodes: list[Node], outputs: tuple[str, ...]) -> list[Node]:
    """The nodes that some output needs."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if node.output in needed:
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def recognise_shuffles(graph: Graph) -> Graph:
    """Reshape, transpose, reshape becomes shuffle, because it is only an order of channels."""
    nodes = []
    for node in graph.nodes:
        found = _shuffle(graph, node)
        if found is not None:
            source, groups = found
            attrs = ShuffleAttrs(groups)
            node = Node(node.name, "shuffle", (source,), node.output, attrs)
        nodes.append(node)
    return graph.rebuilt(nodes=drop_dead(nodes, graph.outputs))


def _shuffle(graph: Graph, node: Node) -> tuple[str, int] | None:
    """The tensor and the groups, when `node` ends a channel shuffle."""
    if node.op != "reshape":
        return None
    transpose = graph.producer(node.inputs[0])
    if transpose is None or transpose.op != "transpose":
        return None
    first = graph.producer(transpose.inputs[0])
    if first is None or first.op != "reshape":
        return None
    start = graph.tensors[first.inputs[0]].shape
    inner = graph.tensors[first.output].shape
    same_map = len(start) == 3 and len(inner) == 4 and inner[2:] == start[1:]
    if not same_map or graph.tensors[node.output].shape != start:
        return None
    return (first.inputs[0], inner[0]) if transpose.attrs.perm == (1, 0, 2, 3) else None


def drop_idempotent_quantisers(graph: Graph) -> Graph:
    """A quantiser of values already on its grid (with or without ReLU) becomes nothing, because
    rounding a shared quantiser's own integers again is the identity."""
    moved: dict[str, str] = {}
    for node in graph.nodes:
        if node.op != "quant" or node.output in graph.outputs:
            continue
        source = graph.producer(node.inputs[0])
        relu = source is not None and source.op == "relu"
        before = source.inputs[0] if source is not None and relu else node.inputs[0]
        have, want = trace_grid(graph, before), grid_of(graph, node)
        if have == want and (not relu or want.kind.lo >= 0):
            moved[node.output] = before
    nodes = [n for n in graph.nodes if n.output not in moved]
    return graph.rebuilt(nodes=drop_dead(rewire(nodes, moved), graph.outputs))
