# SPDX-License-Identifier: Apache-2.0
"""What the parts of ingest share: the ONNX graph by name, and the graph being built."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from hwflow.errors import GraphError
from hwflow.ir import GraphBuilder, IntType, Tensor

# Names the layer table uses where the module is called otherwise.
RENAMED = {"layer0": "layer0.conv", "pool": "layer0.pool"}


@dataclass(frozen=True)
class Parameter:
    """A constant behind Quant: integers, one float32 scale a channel, the quantiser's type."""

    values: np.ndarray
    scale: np.ndarray
    kind: IntType


@dataclass
class Reader:
    """The ONNX graph by name, and the graph being built."""

    model: onnx.ModelProto
    constants: dict[str, np.ndarray]
    users: dict[str, list[NodeProto]]
    builder: GraphBuilder
    names: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)

    def define(self, output: str, tensor: Tensor) -> None:
        """Note that an ONNX tensor is carried by a tensor of the graph."""
        self.names[output] = tensor.name
        self.builder.meta.setdefault(f"onnx.{tensor.name}", output)

    def source(self, name: str) -> Tensor:
        """The graph's tensor of an ONNX tensor."""
        return self.builder.tensors[self.names[name]]

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
        if node.op_type == "Constant":
            for attr in node.attribute:
                value = onnx.helper.get_attribute_value(attr)
                is_tensor = isinstance(value, onnx.TensorProto)
                array = to_array(value) if is_tensor else np.array(value)
                constants[node.output[0]] = (
                    array.astype(np.float32) if array.dtype.kind == "f" else array
                )
    users: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for i in node.input:
            users.setdefault(i, []).append(node)
    return Reader(model, constants, users, GraphBuilder(graph.name or name))


def to_array(tensor: onnx.TensorProto) -> np.ndarray:
    """The values of a constant; GraphError when they are damaged."""
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise GraphError(f"constant '{tensor.name}' is damaged ({error})") from error


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node by name."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def layer_name(node: NodeProto) -> str:
    """What the graph calls a node."""
    return RENAMED.get(node.name, node.name) or (node.output[0] if node.output else node.op_type)
