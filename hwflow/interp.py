# SPDX-License-Identifier: Apache-2.0
"""The definition: what a graph computes, op by op, in numpy, every width checked on the way."""

from collections.abc import Mapping

import numpy as np

from hwflow.errors import GraphError
from hwflow.ir import Graph
from hwflow.ops import OPS
from hwflow.ops.types import IntType, Tensor


def run(
    graph: Graph, inputs: Mapping[str, np.ndarray], keep: bool = False
) -> dict[str, np.ndarray]:
    """The outputs of one frame, or every tensor when `keep`; int64 arrays (float32 where real).

    Inputs are integer arrays of the declared shapes, (C, H, W) without batch axis. A real input
    (level quant) takes the integers too: they are multiplied by the graph's "scale.<input>".
    GraphError when a value leaves its type or an accumulator its proven bits.
    """
    values = {name: _input(graph, name, inputs) for name in graph.inputs}
    last_use = _last_uses(graph)
    for index, node in enumerate(graph.nodes):
        arrays = tuple(values[i] for i in node.inputs)
        try:
            out = OPS[node.op].golden(arrays, node.attrs, graph.consts(node))
            check_range(out, graph.tensors[node.output])
        except GraphError as error:
            raise GraphError(f"node '{node.name}' ({node.op}): {error}") from error
        values[node.output] = out
        if not keep:
            for name in node.inputs:
                if last_use[name] == index:
                    values.pop(name, None)
    return values if keep else {name: values[name] for name in graph.outputs}


def check_range(array: np.ndarray, tensor: Tensor) -> None:
    """GraphError unless the array has the tensor's shape and its values lie in its type."""
    if array.shape != tensor.shape:
        raise GraphError(f"'{tensor.name}' has shape {array.shape}, not {tensor.shape}")
    if isinstance(tensor.dtype, IntType) and array.size:
        low, high = int(array.min()), int(array.max())
        if low < tensor.dtype.lo or high > tensor.dtype.hi:
            raise GraphError(f"'{tensor.name}' holds {low}..{high}, outside {tensor.dtype}")


def _input(graph: Graph, name: str, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    tensor = graph.tensors[name]
    if name not in inputs:
        raise GraphError(f"input '{name}' is missing; given: {', '.join(inputs) or 'none'}")
    array = np.asarray(inputs[name])
    if array.dtype.kind not in "iu":
        raise GraphError(f"input '{name}' is {array.dtype}; give integers")
    array = array.astype(np.int64)
    check_range(array, tensor)
    if isinstance(tensor.dtype, IntType):
        return array
    scale = graph.meta.get(f"scale.{name}")
    if scale is None:
        raise GraphError(f"real input '{name}' has no scale; ingest gives one")
    zero = int(graph.meta.get(f"zero.{name}", 0))
    return (array - zero).astype(np.float32) * np.float32(scale)


def _last_uses(graph: Graph) -> dict[str, int]:
    """Per tensor the index of the last node that reads it; outputs are never dropped."""
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    return {**last, **dict.fromkeys(graph.outputs, len(graph.nodes))}
