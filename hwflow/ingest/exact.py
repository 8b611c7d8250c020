# SPDX-License-Identifier: Apache-2.0
"""A QONNX file with its sums over integers, so that float32 computes them without rounding.

With scales that are no powers of two, a runtime's float sums depend on the order of their terms.
What the network means is the sum of the integers, times the scales: here Conv, Gemm, MatMul and the
average pools get x / scale and weight / scale (rounded to the integers that they are), and the
product of the scales is multiplied to the result. Nothing else is changed.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from hwflow.ingest.fold import fold
from hwflow.ingest.reader import annotated, attributes_of, to_array

MOVES = (
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Gather", "Resize",
    "Concat", "MaxPool", "GlobalMaxPool", "DepthToSpace", "SpaceToDepth", "Identity", "Relu",
    "Dropout",
)  # fmt: skip
POOLS = ("AveragePool", "GlobalAveragePool", "ReduceMean")


@dataclass
class _Scales:
    """The known scales of tensors, and the nodes and constants of the new file."""

    constants: dict[str, np.ndarray]
    scales: dict[str, np.ndarray] = field(default_factory=dict)
    nodes: list[NodeProto] = field(default_factory=list)
    added: dict[str, np.ndarray] = field(default_factory=dict)

    def constant(self, name: str, value: np.ndarray) -> str:
        """A new constant."""
        self.added[name] = np.asarray(value, dtype=np.float32)
        return name

    def node(self, op: str, inputs: list[str], output: str) -> str:
        """A new node of one output."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output))
        return output

    def integers(self, name: str, by: str) -> str:
        """The integers of a tensor that lies on a grid, for the node `by`."""
        scale = self.constant(f"{by}/{name}/scale", self.scales[name])
        half = self.constant(f"{by}/{name}/half", np.array(0.5))
        near = self.node("Div", [name, scale], f"{by}/{name}/units")
        up = self.node("Add", [near, half], f"{by}/{name}/up")
        return self.node("Floor", [up], f"{by}/{name}/integers")


def needs_exact_sums(model: onnx.ModelProto) -> bool:
    """Whether a scale of the file is no power of two."""
    known = _walk(model).scales.values()
    return any((np.frexp(scale)[0] != 0.5).any() for scale in known)


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose shapes are constants where the file computes them while it runs."""
    constants = {t.name: to_array(t) for t in model.graph.initializer}
    _, folded = fold(model, constants)
    made = {o for n in model.graph.node for o in n.output}
    known = {k: a for k, a in folded.items() if k in made and a.dtype.kind in "iu" and a.ndim <= 1}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:], copy.graph.value_info[:]
    left = [n for n in model.graph.node if not set(n.output) <= set(known)]
    copy.graph.node.extend(left)
    copy.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in known.items())
    return copy


def exact_sums(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the file whose sums are over integers."""
    state = _walk(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    copy.graph.node.extend(state.nodes)
    copy.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in state.added.items())
    del copy.graph.value_info[:]
    return copy


def _walk(model: onnx.ModelProto) -> _Scales:
    constants = {t.name: to_array(t) for t in model.graph.initializer}
    _, constants = fold(model, constants)
    state = _Scales(constants)
    one = np.ones((), np.float32)
    for note in model.graph.quantization_annotation:
        for pair in note.quant_parameter_tensor_names:
            if pair.key == "finn_datatype" and annotated(pair.value) and (
                note.tensor_name in constants
            ):
                state.scales[note.tensor_name] = one
    for node in model.graph.node:
        if not _rewrite(state, node):
            state.nodes.append(node)
        scale = _scale(state, node)
        if scale is not None:
            state.scales |= dict.fromkeys(node.output, scale)
    return state


def _scale(state: _Scales, node: NodeProto) -> np.ndarray | None:
    """The scale of a node's outputs, where it is known."""
    op = node.op_type
    if op in ("Quant", "IntQuant", "BipolarQuant", "DequantizeLinear"):
        scale = state.constants.get(node.input[1])
        if scale is None:
            return None
        scale = scale.astype(np.float32)
        source = state.constants.get(node.input[0])
        if op == "DequantizeLinear" and scale.size > 1 and source is not None:
            sides = [1] * source.ndim
            sides[attributes_of(node).get("axis", 1)] = scale.size
            scale = scale.reshape(sides)
        return scale.reshape(()) if scale.size == 1 else scale
    if op == "Trunc":
        return state.constants[node.input[1 if len(node.input) == 5 else 4]].astype(np.float32)
    if op == "MultiThreshold":
        a = attributes_of(node)
        step, bias = float(a.get("out_scale", 1)), float(a.get("out_bias", 0))
        return np.array(step if bias % step == 0 else step / 2, dtype=np.float32)
    if op not in MOVES:
        return None
    data = node.input if op == "Concat" else node.input[:1]
    found = [state.scales.get(i) for i in data]
    if any(s is None for s in found):
        return None
    first = found[0]
    assert first is not None
    if first.size > 1:  # of a weight: it follows a transposition
        return first.transpose(attributes_of(node).get("perm")) if op == "Transpose" else None
    return first if all(s is not None and s == first for s in found) else None


def _rewrite(state: _Scales, node: NodeProto) -> bool:
    """Append a sum over integers in the place of a node; False when it is none."""
    label = node.name or node.output[0]
    x = state.scales.get(node.input[0]) if node.input else None
    if x is None or x.size != 1:
        return False
    if node.op_type in POOLS:
        copy = _copy(node, [state.integers(node.input[0], label), *node.input[1:]], label)
        unit = state.constant(f"{label}/unit", x)
        state.nodes.append(copy)
        state.node("Mul", [copy.output[0], unit], node.output[0])
        return True
    if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in state.scales:
        return False
    weight = state.scales[node.input[1]]
    inputs = [state.integers(name, label) for name in node.input[:2]]
    copy = _copy(node, inputs, label)
    state.nodes.append(copy)
    unit = x * weight
    if weight.size > 1:
        turned = node.op_type == "Gemm" and not attributes_of(node).get("transB", 0)
        column = node.op_type == "Conv"
        unit = unit.reshape((1, -1, 1, 1) if column else (1, -1))
        assert not turned or weight.shape[0] == 1
    bias = node.input[2] if len(node.input) > 2 else ""
    target = f"{label}/scaled" if bias else node.output[0]
    state.node("Mul", [copy.output[0], state.constant(f"{label}/unit", unit)], target)
    if bias and node.op_type == "Conv":
        axes = state.node("Reshape", [bias, _shape(state, label)], f"{label}/bias")
        state.node("Add", [target, axes], node.output[0])
    elif bias:
        state.node("Add", [target, bias], node.output[0])
    return True


def _shape(state: _Scales, label: str) -> str:
    name = f"{label}/column"
    state.added[name] = np.array([1, -1, 1, 1], dtype=np.int64)
    return name


def _copy(node: NodeProto, inputs: list[str], label: str) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    del copy.input[:], copy.output[:]
    copy.input.extend(inputs)
    copy.output.append(f"{label}/sum")
    return copy
