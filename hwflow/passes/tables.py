# SPDX-License-Identifier: Apache-2.0
"""Passes over tables: comparators among them, and tables that say the same with less."""

import numpy as np

from hwflow.ir import Graph, IntType, Node
from hwflow.ops.tables import TablesAttrs
from hwflow.ops.threshold import ThresholdAttrs

LEAST_COMPARED_BITS = 7
"""Codes up to six bits stay tables: one LUT6 an output bit."""


def recognise_thresholds(graph: Graph) -> Graph:
    """Tables of one wide code each that rise with it become thresholds, because then a comparator
    is all that an encoder needs."""
    nodes, constants = [], dict(graph.constants)
    for node in graph.nodes:
        found = _thresholds(graph, node) if node.op == "tables" else None
        if found is not None:
            lo, table = found
            key = f"{node.name}.thresholds"
            constants[key] = table
            attrs = ThresholdAttrs(lo, node.attrs.out)
            node = Node(
                node.name, "threshold", node.inputs, node.output, attrs, {"thresholds": key}
            )
        nodes.append(node)
    return graph.rebuilt(nodes=nodes, constants=constants)


def _thresholds(graph: Graph, node: Node) -> tuple[int, np.ndarray] | None:
    """The least code and the thresholds (C, levels), when table c rises with channel c alone."""
    a: TablesAttrs = node.attrs
    kind = graph.tensors[node.inputs[0]].dtype
    assert isinstance(kind, IntType)
    wires, values = graph.const(node, "wires"), graph.const(node, "values")
    channels = graph.tensors[node.inputs[0]].shape[0]
    own = np.arange(channels)[:, None] * a.code_bits + np.arange(a.code_bits)
    if a.code_bits < LEAST_COMPARED_BITS or not np.array_equal(wires, own):
        return None
    # two's complement addresses in the order of the codes
    ordered = np.roll(values, (1 << (a.code_bits - 1)) if kind.signed else 0, axis=1)
    if (np.diff(ordered, axis=1) < 0).any():
        return None
    lo, hi = int(ordered.min()), int(ordered.max())
    levels = np.arange(lo + 1, max(hi, lo + 1) + 1)
    if levels[-1] > a.out.hi:  # constant at the top of the type: one level below it is reached
        lo, levels = lo - 1, levels - 1
    reached = np.stack([np.searchsorted(row, levels, side="left") for row in ordered])
    return lo, np.ascontiguousarray(reached.astype(np.int64) + kind.lo)
