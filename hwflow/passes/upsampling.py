# SPDX-License-Identifier: Apache-2.0
"""The pass that moves work to the smaller side of an upsampling."""

from hwflow.ir import Graph, Node
from hwflow.passes.structure import drop_dead


def pw_before_upsample(graph: Graph) -> Graph:
    """pw(upsample(x)) becomes upsample(pw(x)), because copies of a pixel give copies of the result
    and a quarter of the products is enough."""
    while (moved := _move_one(graph)) is not None:
        graph = moved
    return graph


def _move_one(graph: Graph) -> Graph | None:
    for node in graph.nodes:
        source = graph.producer(node.inputs[0])
        if node.op == "pw" and source is not None and source.op == "upsample":
            return _move(graph, node, source)
    return None


def _move(graph: Graph, pw: Node, upsample: Node) -> Graph:
    high = f"{pw.output}.up"
    nodes = []
    for node in graph.nodes:
        if node.name == pw.name:
            nodes.append(Node(pw.name, pw.op, upsample.inputs, pw.output, pw.attrs, pw.consts))
            nodes.append(Node(high, "upsample", (pw.output,), high, upsample.attrs))
        else:
            inputs = tuple(high if i == pw.output else i for i in node.inputs)
            nodes.append(Node(node.name, node.op, inputs, node.output, node.attrs, node.consts))
    outputs = tuple(high if name == pw.output else name for name in graph.outputs)
    meta = dict(graph.meta)
    for kind in ("scale", "onnx"):
        if f"{kind}.{pw.output}" in meta:
            meta[f"{kind}.{high}"] = meta[f"{kind}.{pw.output}"]
    for key, value in graph.meta.items():
        if key.startswith("output.") and value == pw.output:
            meta[key] = high
    return graph.rebuilt(nodes=drop_dead(nodes, outputs), outputs=outputs, meta=meta)
