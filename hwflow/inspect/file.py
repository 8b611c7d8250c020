# SPDX-License-Identifier: Apache-2.0
"""A file that does not lower: its nodes as they stand, each with what is said of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from hwflow import boards
from hwflow.ingest.reader import Reader, attributes_of, layer_name
from hwflow.inspect.record import SCHEMA, Inspection, Layer, Port, packed_bytes, totals

QUANTISERS = ("Quant", "IntQuant", "BipolarQuant", "FloatQuant", "Trunc", "MultiThreshold")
# What only passes a constant on, on its way to the node that multiplies by it.
CARRIERS = (*QUANTISERS, "Transpose", "Reshape", "Identity")
# Input of the weight, input of the bias.
WEIGHTED: Mapping[str, tuple[int, int]] = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "DeformConv": (1, 3), "Gemm": (1, 2), "MatMul": (1, 9),
}


def of_file(reader: Reader, title: str, board: boards.Board, reason: str) -> Inspection:
    """The nodes of a file as they stand, each with what is said of it in `reason`."""
    shapes = _shapes(reader.model)
    makers = {name: node for node in reader.model.graph.node for name in node.output}
    constant = _constants(reader)
    layers = []
    for node in reader.model.graph.node:
        if node.output and all(name in constant for name in node.output):
            continue  # a weight on its way to the node that reads it
        layers.append(_file_layer(reader, node, shapes, makers, _said_of(node, reason)))
    graph = reader.model.graph
    inputs, outputs = (
        tuple(Port(i.name, shapes.get(i.name), "f32") for i in infos if i.name not in constant)
        for infos in (graph.input, graph.output)
    )
    rows = tuple(layers)
    short = "it does not lower to integers"
    return Inspection(
        SCHEMA, title, board.name, "file", reason, short, short, short, inputs, outputs, rows,
        totals(rows),
    )


def _said_of(node: onnx.NodeProto, reason: str) -> str | None:
    """The lines of a list of faults that name the node."""
    name = layer_name(node)
    head = f"{name}: {node.op_type}: "
    lines = [line.strip().removeprefix(head) for line in reason.splitlines()
             if line.strip().startswith(head)]
    if not lines and re.search(rf"(node '{re.escape(name)}'|^{re.escape(name)}:)", reason):
        lines = [reason]
    return "; ".join(lines) or None


def _constants(reader: Reader) -> set[str]:
    """Names of all tensors that are known before the network runs."""
    known = set(reader.constants) | {""}
    for node in reader.model.graph.node:
        if all(name in known for name in node.input):
            known.update(node.output)
    return known


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes without the batch axis of all tensors whose shape can be told."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        if node.op_type in QUANTISERS and node.input:
            # They keep the shape, which ONNX does not know of other people's ops.
            first = node.input[0]
            del node.input[:], node.attribute[:]
            node.op_type, node.domain = "Identity", ""
            node.input.append(first)
    try:
        plain = onnx.shape_inference.infer_shapes(plain, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError):
        plain = model  # what the file itself declares
    shapes = {}
    for info in (*plain.graph.value_info, *plain.graph.input, *plain.graph.output):
        dims = info.type.tensor_type.shape.dim
        sides = tuple(d.dim_value for d in dims[1:])
        if len(dims) and all(side > 0 for side in sides):
            shapes[info.name] = sides
    return shapes


def _file_layer(
    reader: Reader,
    node: onnx.NodeProto,
    shapes: Mapping[str, tuple[int, ...]],
    makers: Mapping[str, onnx.NodeProto],
    fault: str | None,
) -> Layer:
    weight_at, bias_at = WEIGHTED.get(node.op_type, (len(node.input), 0))
    weight, bits = _constant(reader, makers, node.input, weight_at)
    bias, _ = _constant(reader, makers, node.input, bias_at)
    source, made = (node.input[0] if node.input else ""), (node.output[0] if node.output else "")
    macs: int | None = 0
    if node.op_type in WEIGHTED:
        macs = _macs(node, shapes.get(made), weight)
    weights = 0 if weight is None else int(weight.size)
    biases = 0 if bias is None or weight is None else int(bias.size)
    return Layer(
        layer_name(node), node.op_type, tuple(i for i in node.input if i in shapes or i in makers),
        shapes.get(source), "f32", shapes.get(made), "f32", bits if weights else None, macs,
        weights + biases, packed_bytes(weights, bits or 32), None, "none", fault, fault,
    )


def _constant(
    reader: Reader, makers: Mapping[str, onnx.NodeProto], inputs: Sequence[str], at: int
) -> tuple[np.ndarray | None, int | None]:
    """The constant array behind an input, through its quantiser, and the bits of that."""
    name = inputs[at] if at < len(inputs) else ""
    bits: int | None = None
    seen: set[str] = set()
    while name and name not in reader.constants and name not in seen:
        seen.add(name)
        node = makers.get(name)
        if node is None or node.op_type not in CARRIERS or not node.input:
            return None, None
        bits = _bits(reader, node) or bits
        name = node.input[0]
    return reader.constants.get(name), bits


def _bits(reader: Reader, node: onnx.NodeProto) -> int | None:
    if node.op_type == "BipolarQuant":
        return 1
    if node.op_type in ("Quant", "IntQuant") and len(node.input) > 3:
        width = reader.constants.get(node.input[3])
        if width is not None and width.size == 1 and 0 < float(width.ravel()[0]) < 64:
            return math.ceil(float(width.ravel()[0]))
    return None


def _macs(
    node: onnx.NodeProto, out: tuple[int, ...] | None, weight: np.ndarray | None
) -> int | None:
    """Products of one frame; None where the output's shape or the weight is not known."""
    if out is None or weight is None:
        return None
    if node.op_type in ("Conv", "DeformConv"):
        return math.prod(out) * math.prod(weight.shape[1:])
    if node.op_type == "ConvTranspose":
        groups = max(1, int(attributes_of(node).get("group", 1)))
        return math.prod(out) * math.prod(weight.shape[2:]) * int(weight.shape[0]) // groups
    if not out or not out[-1]:
        return None
    return math.prod(out) * int(weight.size) // out[-1]  # the matrix's other axis
