# SPDX-License-Identifier: Apache-2.0
"""The pass that proves what the offsets of a deformable convolution are."""

import numpy as np

from hwflow.errors import GraphError
from hwflow.ir import Graph, IntType, Node
from hwflow.ops import OPS
from hwflow.ops.real_deform_dw import ANCHORS, RealDeformDwAttrs
from hwflow.passes.structure import drop_dead, trace_grid

U3 = IntType(3, False)


def find_dilations(graph: Graph) -> Graph:
    """A deformable convolution with offsets A * (s - 1) becomes one with the dilation s, because
    one small integer a pixel addresses all nine taps."""
    nodes = []
    for node in graph.nodes:
        if node.op == "real_deform":
            inputs = (node.inputs[0], _dilation(graph, node))
            attrs = RealDeformDwAttrs(node.attrs.weight_bits)
            node = Node(node.name, "real_deform_dw", inputs, node.output, attrs, node.consts)
        nodes.append(node)
    return graph.rebuilt(nodes=drop_dead(nodes, graph.outputs))


def _dilation(graph: Graph, node: Node) -> str:
    """The dilation tensor s of a deformable convolution; GraphError unless its offsets are
    A * (s - 1) for each of the values 0 to 7 that s can take (all eight are tried)."""
    chain: list[Node] = []
    tensor = node.inputs[1]
    while (producer := graph.producer(tensor)) is not None and producer.op in ("add", "multiply"):
        chain.append(producer)
        tensor = producer.inputs[0]
    grid = trace_grid(graph, tensor)
    rule = (
        f"node '{node.name}' (real_deform): its offsets must be A * (s - 1), A the nine anchors "
        "and s a quantiser of scale 1, unsigned, 3 bits"
    )
    if grid is None or grid.scale != 1.0 or grid.kind != U3:
        found = f"scale {grid.scale}, {grid.kind}" if grid else "no quantiser"
        raise GraphError(f"{rule}; behind '{tensor}' there is {found}")
    values = np.arange(8, dtype=np.float32).reshape(1, 1, 8)
    offsets = values
    for step in reversed(chain):
        consts = graph.consts(step)
        if any(n != 1 for n in consts["value"].shape[1:]):
            raise GraphError(f"{rule}; '{step.name}' differs from pixel to pixel")
        offsets = OPS[step.op].golden((offsets,), step.attrs, consts)
    wanted = ANCHORS[:, None, None] * (values - 1)
    if offsets.shape != wanted.shape or not np.array_equal(offsets, wanted):
        raise GraphError(f"{rule}; they are not for some s in 0..7")
    return tensor
