# SPDX-License-Identifier: Apache-2.0
"""The definition: what a graph computes, op by op, in numpy, every width checked on the way."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hwflow.errors import GraphError
from hwflow.ir import Graph
from hwflow.ops import OPS
from hwflow.ops.types import IntType, Tensor

MOST_NUMBERS = 1 << 24  # of a tensor, in all frames that are run at once
# Ops whose result at a pixel comes from that pixel of their inputs alone, whatever the map's size.
PIXELWISE = ("tables", "group_sum", "threshold", "argmax", "slice", "concat", "shuffle")


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


def run_many(
    graph: Graph, inputs: Mapping[str, np.ndarray], keep: bool = False, at_once: int = 512
) -> dict[str, np.ndarray]:
    """What `run` gives for each of many frames: arrays (B, ...), integers in their own types.

    Ops that look at each pixel alone get the frames as more columns of one wide map, `at_once` at a
    time (fewer where tensors are large); the others get one frame after the other. GraphError as
    `run`, for graphs of level integer.
    """
    frames = {len(array) for array in inputs.values()}
    if len(frames) != 1:
        raise GraphError(f"the inputs have {sorted(frames)} frames; give equally many of each")
    count, parts = frames.pop(), []
    largest = max(math.prod(t.shape) for t in graph.tensors.values())
    at_once = max(1, min(at_once, MOST_NUMBERS // largest))
    for start in range(0, count, at_once):
        chosen = {name: array[start : start + at_once] for name, array in inputs.items()}
        parts.append(_run_some(graph, chosen, keep))
    if not parts:
        raise GraphError("no frames; give at least one")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _run_some(graph: Graph, inputs: Mapping[str, np.ndarray], keep: bool) -> dict[str, np.ndarray]:
    """`run_many` of a few frames."""
    values: dict[str, np.ndarray] = {}
    for name in graph.inputs:
        if name not in inputs:
            raise GraphError(f"input '{name}' is missing; given: {', '.join(inputs) or 'none'}")
        frames = [_input(graph, name, {name: frame}) for frame in inputs[name]]
        values[name] = _narrow(np.stack(frames), graph.tensors[name])
    last_use = _last_uses(graph)
    for index, node in enumerate(graph.nodes):
        arrays = [values[i] for i in node.inputs]
        tensor, consts = graph.tensors[node.output], graph.consts(node)
        try:
            if node.op in PIXELWISE:
                wide = tuple(
                    np.moveaxis(a, 0, -1).reshape(*a.shape[1:3], -1).astype(np.int64)
                    for a in arrays
                )
                found = OPS[node.op].golden(wide, node.attrs, consts)
                check_range(found, replace(tensor, shape=(*tensor.shape[:2], wide[0].shape[2])))
                sides = (*tensor.shape, len(arrays[0]))
                out = np.moveaxis(_narrow(found, tensor).reshape(sides), -1, 0)
            else:
                each = []
                for frame in zip(*arrays, strict=True):
                    integers = tuple(part.astype(np.int64) for part in frame)
                    made = OPS[node.op].golden(integers, node.attrs, consts)
                    check_range(made, tensor)
                    each.append(_narrow(made, tensor))
                out = np.stack(each)
        except GraphError as error:
            raise GraphError(f"node '{node.name}' ({node.op}): {error}") from error
        values[node.output] = out
        if not keep:
            for name in node.inputs:
                if last_use[name] == index:
                    values.pop(name, None)
    return values if keep else {name: values[name] for name in graph.outputs}


def _narrow(array: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The integers in the smallest numpy type that holds those of the tensor."""
    if not isinstance(tensor.dtype, IntType):
        raise GraphError(f"'{tensor.name}' is {tensor.dtype}; many frames are run at level integer")
    letter, bits = "i" if tensor.dtype.signed else "u", tensor.dtype.bits
    return array.astype(f"{letter}{next(n for n in (1, 2, 4, 8) if 8 * n >= bits)}")


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
