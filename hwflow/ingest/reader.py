# SPDX-License-Identifier: Apache-2.0
"""What the parts of ingest share: the ONNX graph by name, and the graph being built."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from hwflow.errors import GraphError
from hwflow.ingest.fold import fold
from hwflow.ir import GraphBuilder, IntType, Tensor

# What a wrong type, a missing number or an absurd size in an attribute ends in. Every node of a
# stranger's file is looked at under these, so that each of them is answered with its name.
MALFORMED = (
    TypeError, ValueError, IndexError, KeyError, AttributeError, ArithmeticError, MemoryError,
)

# Names the layer table uses where the module is called otherwise.
RENAMED = {"layer0": "layer0.conv", "pool": "layer0.pool"}
# A network input that meets arithmetic before its first quantiser is a picture: its integers are
# pixels, and the real value of a pixel is 1 / 255, as the loaders of pictures make it.
PIXEL_SCALE = 1 / 255


@dataclass(frozen=True)
class Parameter:
    """A constant behind a quantiser: integers times a scale that broadcasts, and their type."""

    values: np.ndarray
    scale: np.ndarray
    kind: IntType

    def along(self, axis: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Values with `axis` first, and one scale for each index of it; GraphError otherwise."""
        values = np.moveaxis(self.values, axis, 0)
        scale = np.moveaxis(np.broadcast_to(self.scale, self.values.shape), axis, 0)
        rows = scale.reshape(values.shape[0], -1)
        if (rows != rows[:, :1]).any():
            raise GraphError(
                f"{name}: scale of shape {self.scale.shape} for a constant of shape "
                f"{self.values.shape}; one number, or one for each output channel, is supported"
            )
        return np.ascontiguousarray(values), np.ascontiguousarray(rows[:, 0], dtype=np.float32)


@dataclass(frozen=True)
class Code:
    """The integers between a QuantizeLinear and its DequantizeLinear."""

    source: str
    scale: np.ndarray
    zero: np.ndarray
    lo: int
    hi: int


@dataclass
class Reader:
    """The ONNX graph by name, and the graph being built.

    `ranks` holds the rank an ONNX tensor has there, where it is not that of the graph's tensor
    plus the batch axis: a vector (1, N) is a map of N channels and one pixel here. `inside` are the
    tensors in the middle of node functions (stretches.py), which become tables as a whole.
    """

    model: onnx.ModelProto
    nodes: list[NodeProto]
    constants: dict[str, np.ndarray]
    users: dict[str, list[NodeProto]]
    builder: GraphBuilder
    annotations: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    inside: set[str] = field(default_factory=set)

    def define(self, output: str, tensor: Tensor, rank: int | None = None) -> None:
        """Note that an ONNX tensor is carried by a tensor of the graph."""
        self.names[output] = tensor.name
        self.builder.meta.setdefault(f"onnx.{tensor.name}", output)
        if rank is not None and rank != len(tensor.shape) + 1:
            self.ranks[output] = rank

    def source(self, name: str) -> Tensor:
        """The graph's tensor of an ONNX tensor."""
        if name not in self.names:
            raise GraphError(f"tensor '{name}' is a constant or integers where a map is needed")
        return self.builder.tensors[self.names[name]]

    def rank(self, name: str) -> int:
        """The rank of an ONNX tensor, batch axis included."""
        return self.ranks.get(name, len(self.source(name).shape) + 1)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an ONNX tensor, batch axis included."""
        shape = self.source(name).shape
        return (1, shape[0]) if self.rank(name) == 2 else (1, *shape)

    def fresh(self, name: str) -> str:
        """The name, or with a number behind it where it is taken."""
        taken, count, candidate = self.builder.tensors, 1, name
        while candidate in taken:
            count += 1
            candidate = f"{name}_{count}"
        return candidate


def make_reader(model: onnx.ModelProto, name: str) -> Reader:
    """A reader of a file; `name` serves where the network in it has none."""
    graph = model.graph
    constants = {t.name: to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            for attr in node.attribute:
                value = onnx.helper.get_attribute_value(attr)
                is_tensor = isinstance(value, onnx.TensorProto)
                array = to_array(value) if is_tensor else np.array(value)
                constants[node.output[0]] = (
                    array.astype(np.float32) if array.dtype.kind == "f" else array
                )
    nodes, constants = fold(model, constants)
    users: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for i in node.input:
            users.setdefault(i, []).append(node)
    annotations = {
        note.tensor_name: pair.value
        for note in graph.quantization_annotation
        for pair in note.quant_parameter_tensor_names
        if pair.key == "finn_datatype"
    }
    builder = GraphBuilder(graph.name or name)
    return Reader(model, nodes, constants, users, builder, annotations)


def annotated(text: str) -> IntType | None:
    """The integer type that a FINN datatype names; None when it is none."""
    fixed = {"BIPOLAR": "i2", "TERNARY": "i2", "BINARY": "u1"}
    if text in fixed:
        return IntType.parse(fixed[text])
    match = re.fullmatch(r"(U?)INT([1-9]|[12][0-9]|3[0-2])", text)
    return IntType(int(match[2]), not match[1]) if match else None


def to_array(tensor: onnx.TensorProto) -> np.ndarray:
    """The values of a constant; GraphError when they are damaged."""
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise GraphError(f"constant '{tensor.name}' is damaged ({error})") from error


def malformed(node: NodeProto, error: Exception) -> str:
    """One line on a node whose attributes or constants cannot be made sense of."""
    what = f"{type(error).__name__}: {str(error)[:200]}"
    return (
        f"{layer_name(node)}: {node.op_type}: an attribute or constant has a wrong type or size "
        f"({what}); export the file again"
    )


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node by name."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def layer_name(node: NodeProto) -> str:
    """What the graph calls a node."""
    return RENAMED.get(node.name, node.name) or (node.output[0] if node.output else node.op_type)
