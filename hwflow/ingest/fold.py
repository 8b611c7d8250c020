# SPDX-License-Identifier: Apache-2.0
"""Folding what is constant: shapes, indices and numbers that a file computes while it runs.

Exporters write `x.reshape(x.shape[0], -1)` as Shape, Gather, Unsqueeze and Concat, and constants as
small sums; none of it is a layer. Quantisers of constants stay: they carry scales.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper

LARGEST = 1 << 26  # elements of a folded constant: a file cannot make us fill the memory

Folder = Callable[[list[np.ndarray], dict[str, Any]], np.ndarray]


def fold(
    model: onnx.ModelProto, constants: dict[str, np.ndarray]
) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    """The nodes that are left, and all constants, the folded ones included."""
    known = dict(constants)
    sides = shapes(model) if any(n.op_type == "Shape" for n in model.graph.node) else {}
    left = []
    for node in model.graph.node:
        value = _value(node, known, sides)
        if value is None:
            left.append(node)
        else:
            known[node.output[0]] = value
    return left, known


def _value(
    node: NodeProto, known: Mapping[str, np.ndarray], sides: Mapping[str, list[int]]
) -> np.ndarray | None:
    """The value of a node's only output if it is constant."""
    if len(node.output) != 1 or node.domain not in ("", "ai.onnx") or not node.input:
        return None
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Shape" and node.input[0] in sides:
        shape = np.array(sides[node.input[0]], dtype=np.int64)
        return shape[attributes.get("start", 0) : attributes.get("end")]
    folder = FOLDERS.get(node.op_type)
    if folder is None or any(i and i not in known for i in node.input):
        return None
    try:
        with np.errstate(all="ignore"):
            value = folder([known[i] for i in node.input if i], attributes)
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError):
        return None  # reported later as a node that is not supported
    return value if value.size <= LARGEST else None


def shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Tensor shapes by name, as far as ONNX infers them with the quantisers taken as identities."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        if node.domain not in ("", "ai.onnx") and node.input and node.output:
            identity = helper.make_node("Identity", [node.input[0]], [node.output[0]])
            node.CopyFrom(identity)
    try:
        inferred = onnx.shape_inference.infer_shapes(plain)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}
    found = {}
    for info in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        sides = [d.dim_value for d in info.type.tensor_type.shape.dim]
        if sides and min(sides) >= 1:
            found[info.name] = sides
    return found


def _axes(values: list[np.ndarray], attributes: dict[str, Any]) -> list[int]:
    return [int(a) for a in (values[1].ravel() if len(values) > 1 else attributes["axes"])]


def _unsqueeze(values: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    return np.expand_dims(values[0], tuple(_axes(values, attributes)))


def _squeeze(values: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    if len(values) > 1 or "axes" in attributes:
        return np.squeeze(values[0], tuple(_axes(values, attributes)))
    return np.squeeze(values[0])


def _slice(values: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    data, starts, ends, *rest = values
    axes = rest[0].ravel() if rest else range(len(starts))
    steps = rest[1].ravel() if len(rest) > 1 else [1] * len(starts)
    cut: list[slice] = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts.ravel(), ends.ravel(), steps, strict=True):
        cut[int(axis)] = slice(int(start), int(end), int(step))
    return data[tuple(cut)]


def _reshape(values: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    data, wanted = values[0], [int(n) for n in values[1].ravel()]
    return data.reshape([data.shape[i] if n == 0 else n for i, n in enumerate(wanted)])


def _cast(values: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    return values[0].astype(helper.tensor_dtype_to_np_dtype(attributes["to"]))


def _clip(values: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    low = values[1] if len(values) > 1 else attributes.get("min", -np.inf)
    high = values[2] if len(values) > 2 else attributes.get("max", np.inf)
    return np.asarray(np.clip(values[0], low, high), dtype=values[0].dtype)


def _quantize(values: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """QuantizeLinear of a constant: the integers of weights that a file keeps as floats."""
    x, scale, zero = values
    axis = attributes.get("axis", 1)
    column = [1] * x.ndim
    if scale.size > 1:
        column[axis] = scale.size
    limits = np.iinfo(zero.dtype)
    units = np.rint(x.astype(np.float32) / scale.reshape(column)) + zero.reshape(column)
    return np.asarray(np.clip(units, limits.min, limits.max), dtype=zero.dtype)


def _binary(function: Callable[[Any, Any], Any]) -> Folder:
    def apply(values: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
        a, b = values
        return np.asarray(function(a, b), dtype=a.dtype)

    return apply


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a // b if a.dtype.kind in "iu" else a / b)


FOLDERS: Mapping[str, Folder] = {
    "Gather": lambda v, a: np.take(v[0], v[1].astype(np.int64), axis=a.get("axis", 0)),
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Concat": lambda v, a: np.concatenate(v, axis=a["axis"]),
    "Slice": _slice,
    "Reshape": _reshape,
    "Transpose": lambda v, a: v[0].transpose(a.get("perm")),
    "Cast": _cast,
    "Identity": lambda v, a: v[0],
    "Neg": lambda v, a: np.negative(v[0]),
    "Sqrt": lambda v, a: np.sqrt(v[0]),
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(_divide),
    "Pow": _binary(np.power),
    "Clip": _clip,
    "QuantizeLinear": _quantize,
}
