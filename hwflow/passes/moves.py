# SPDX-License-Identifier: Apache-2.0
"""Passes over ops that only move values: rearrangements, and their place beside the quantisers."""

from dataclasses import replace

import numpy as np

from hwflow.ir import Graph, Node
from hwflow.ops.batchnorm import factors
from hwflow.ops.chain import ELEMENTWISE
from hwflow.ops.real_conv2d import RealConv2dAttrs
from hwflow.ops.rearrange import RearrangeAttrs
from hwflow.passes.structure import LAYOUT, QUANTISERS, drop_dead, rewire

POOLS = ("maxpool", "maxpool2d")
# These leave every channel where it is.
KEEP_CHANNELS = (*POOLS, "upsample", "resize")


def recognise_rearrangements(graph: Graph) -> Graph:
    """Reshape and transpose become one rearrange, because both are an order of the elements."""
    nodes: list[Node] = []
    made: dict[str, Node] = {}
    for node in graph.nodes:
        node = _as_rearrange(graph, node)
        before = made.get(node.inputs[0]) if node.inputs else None
        if node.op == "rearrange" and before is not None and before.op == "rearrange":
            merged = _merged(before.attrs, node.attrs)
            if merged is not None:
                node = replace(node, inputs=before.inputs, attrs=merged)
        nodes.append(node)
        made[node.output] = node
    return graph.rebuilt(nodes=drop_dead(nodes, graph.outputs))


def _as_rearrange(graph: Graph, node: Node) -> Node:
    if node.op not in ("reshape", "transpose"):
        return node
    old, new = graph.tensors[node.inputs[0]].shape, graph.tensors[node.output].shape
    perm = node.attrs.perm if node.op == "transpose" else tuple(range(len(old)))
    return replace(node, op="rearrange", attrs=RearrangeAttrs(old, perm, new))


def _merged(first: RearrangeAttrs, second: RearrangeAttrs) -> RearrangeAttrs | None:
    """Both in one; None unless one of them is a mere reshape."""
    if second.perm == tuple(range(len(second.perm))):
        return RearrangeAttrs(first.dims, first.perm, second.shape)
    if first.perm == tuple(range(len(first.perm))):
        return RearrangeAttrs(second.dims, second.perm, second.shape)
    return None


def flatten_into_dense(graph: Graph) -> Graph:
    """A dense layer behind a flatten becomes a convolution over the whole map, because then
    nothing has to be moved."""
    nodes, constants, meta = [], dict(graph.constants), dict(graph.meta)
    for node in graph.nodes:
        before = graph.producer(node.inputs[0]) if node.op == "real_conv" else None
        if before is not None and _flattens(graph, before) and _dense(node):
            c, h, w = graph.tensors[before.inputs[0]].shape
            weight = graph.const(node, "weight")
            key = f"{node.name}.weight.map"
            constants[key] = np.ascontiguousarray(weight.reshape(-1, c, h, w))
            if f"onnx.{before.output}" in meta:  # the same values, in another shape
                meta.setdefault(f"onnx.{before.inputs[0]}", meta[f"onnx.{before.output}"])
            attrs = RealConv2dAttrs(
                (h, w), (1, 1), (0, 0, 0, 0), (1, 1), 1, node.attrs.weight_bits
            )
            consts = {**node.consts, "weight": key}
            node = Node(node.name, "real_conv2d", before.inputs, node.output, attrs, consts)
        nodes.append(node)
    kept = drop_dead(nodes, graph.outputs)
    return graph.rebuilt(nodes=kept, constants=constants, meta=meta)


def _flattens(graph: Graph, node: Node) -> bool:
    if node.op != "rearrange" or len(graph.tensors[node.inputs[0]].shape) != 3:
        return False
    order = node.attrs.perm == tuple(range(len(node.attrs.perm)))
    return bool(order and node.attrs.shape[1:] == (1, 1))


def _dense(node: Node) -> bool:
    a = node.attrs
    return (a.kernel, a.stride, a.pad, a.groups) == (1, 1, 0, 1)


def quantise_before_moving(graph: Graph) -> Graph:
    """A pool or a move before its quantiser becomes one behind it, because a rising function of
    each value may come first and integers are cheaper to move."""
    while (moved := _swap_one(graph)) is not None:
        graph = moved
    return graph


def is_quantised(graph: Graph, tensor: str) -> bool:
    """Whether a tensor carries integers, seen through ops that only move values."""
    node = graph.producer(tensor)
    if node is None:
        return False
    if node.op in (*QUANTISERS, "argmax", "real_tables", "real_group_sum"):
        return True
    return node.op in LAYOUT and all(is_quantised(graph, i) for i in node.inputs)


def _swap_one(graph: Graph) -> Graph | None:
    for node in graph.nodes:
        if node.op not in LAYOUT or node.output in graph.outputs:
            continue
        if is_quantised(graph, node.output):
            continue
        users = graph.consumers(node.output)
        if len(users) == 1 and _commutes(graph, node, users[0]):
            return _swap(graph, node, users[0])
    return None


def _commutes(graph: Graph, move: Node, node: Node) -> bool:
    """Whether an elementwise op may come before the move."""
    if node.op not in (*ELEMENTWISE, *QUANTISERS) or len(node.inputs) != 1:
        return False
    consts = graph.consts(node)
    channels = graph.tensors[move.output].shape[0]
    sizes = {a.size for a in consts.values()}
    if node.op in ("add", "multiply", "divide"):
        column = all(a.size == 1 or a.shape == (channels, 1, 1) for a in consts.values())
        if not column:
            return False
    alike = node.op != "multithreshold" and sizes <= {1}
    if node.op == "multithreshold":
        alike = consts["thresholds"].shape[0] == 1
    if not alike and move.op not in KEEP_CHANNELS:
        return False
    return move.op not in POOLS or _rises(node, consts)


def _rises(node: Node, consts: dict[str, np.ndarray]) -> bool:
    if node.op in ("multiply", "divide"):
        return bool((consts["value"] > 0).all())
    if node.op == "batchnorm":
        return bool((factors(node.attrs, consts)[0] > 0).all())
    return True


def _swap(graph: Graph, move: Node, node: Node) -> Graph:
    """node(move(x, ...)) as move(node(x), ...); the result keeps its name."""
    nodes: list[Node] = []
    for other in graph.nodes:
        if other.name == move.name:
            early = []
            for number, name in enumerate(move.inputs):
                label = f"{node.name}.early" + (f"{number}" if len(move.inputs) > 1 else "")
                while label in graph.tensors:
                    label += "_"
                nodes.append(Node(label, node.op, (name,), label, node.attrs, node.consts))
                early.append(label)
            nodes.append(Node(node.name, move.op, tuple(early), node.output, move.attrs,
                              move.consts))  # fmt: skip
        elif other.name != node.name:
            nodes.append(other)
    return graph.rebuilt(nodes=drop_dead(rewire(nodes, {}), graph.outputs))
