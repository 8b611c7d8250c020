# SPDX-License-Identifier: Apache-2.0
"""Reading a QONNX file into a graph at level quant.

Everything that is not supported is found first, all of it, with the nearest supported form. Then
each ONNX node becomes one node here; constants behind Quant become integers with a scale.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import NodeProto, numpy_helper

from hwflow.errors import GraphError
from hwflow.ir import Graph, GraphBuilder, IntType, RealType, Tensor
from hwflow.ops.add import AddAttrs
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.multiply import MultiplyAttrs
from hwflow.ops.quant import QuantAttrs, to_integers
from hwflow.ops.real_conv import RealConvAttrs
from hwflow.ops.real_deform import RealDeformAttrs
from hwflow.ops.relu import ReluAttrs
from hwflow.ops.reshape import ReshapeAttrs
from hwflow.ops.slice import SliceAttrs
from hwflow.ops.transpose import TransposeAttrs
from hwflow.ops.upsample import UpsampleAttrs

QUANT_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
EXPORT = "export with hwflow.export.export_qonnx or brevitas.export.export_qonnx"
FOREIGN = {
    "QuantizeLinear": f"this is QCDQ; {EXPORT}",
    "DequantizeLinear": f"this is QCDQ; {EXPORT}",
    "QLinearConv": f"this is the quantised-operator form; {EXPORT}",
    "ConvInteger": f"this is the quantised-operator form; {EXPORT}",
    "MultiThreshold": f"this is FINN-ONNX; {EXPORT}",
    "BipolarQuant": "nearest: Quant of 2 bits, signed, narrow (weights -1, 0, 1)",
    "Trunc": "nearest: Quant",
    "FloatQuant": "nearest: Quant (integers)",
    "BatchNormalization": "fold it into the convolution before quantisation-aware training",
    "Gemm": "nearest: Conv with a 1x1 kernel",
    "MatMul": "nearest: Conv with a 1x1 kernel",
    "ConvTranspose": "nearest: Resize (nearest, x2) and Conv",
    "AveragePool": "nearest: MaxPool",
    "GlobalAveragePool": "nearest: MaxPool",
    "Upsample": "nearest: Resize",
    "LeakyRelu": "nearest: Relu",
    "Clip": "nearest: Relu (the quantiser clamps above)",
}
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


def read(path: Path) -> Graph:
    """The network of a QONNX file at level quant; GraphError lists everything unsupported."""
    model = _load(path)
    try:
        reader = _reader(model, path.stem)
        problems = _problems(reader)
        if problems:
            listed = "\n".join(f"  {line}" for line in problems)
            raise GraphError(f"{len(problems)} unsupported:\n{listed}")
        _input(reader)
        for node in model.graph.node:
            BUILD[node.op_type](reader, node)
        return _finish(reader)
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise GraphError(f"{path}: no such file; give a QONNX file")
    try:
        model = onnx.load(path)
    except (DecodeError, ValueError, OSError, onnx.checker.ValidationError) as error:
        raise GraphError(f"{path}: not a readable ONNX file ({error}); export it again") from error
    if not model.graph.node or not model.opset_import:
        raise GraphError(f"{path}: not an ONNX network (no nodes); export it again")
    return model


def _reader(model: onnx.ModelProto, name: str) -> Reader:
    graph = model.graph
    constants = {t.name: _array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attr in node.attribute:
                value = onnx.helper.get_attribute_value(attr)
                is_tensor = isinstance(value, onnx.TensorProto)
                array = _array(value) if is_tensor else np.array(value)
                constants[node.output[0]] = (
                    array.astype(np.float32) if array.dtype.kind == "f" else array
                )
    users: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for i in node.input:
            users.setdefault(i, []).append(node)
    return Reader(model, constants, users, GraphBuilder(graph.name or name))


def _array(tensor: onnx.TensorProto) -> np.ndarray:
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise GraphError(f"constant '{tensor.name}' is damaged ({error})") from error


def _attributes(node: NodeProto) -> dict:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _name(node: NodeProto) -> str:
    return RENAMED.get(node.name, node.name) or (node.output[0] if node.output else node.op_type)


# --- what is supported -------------------------------------------------------------------------


def _problems(reader: Reader) -> list[str]:
    """One line for every unsupported node: layer, op, attribute, nearest supported form."""
    lines = []
    quantised: set[str] = set()
    made = {i.name for i in reader.model.graph.input} | set(reader.constants) | {""}
    for node in reader.model.graph.node:
        for i in node.input:
            if i not in made:
                lines.append(f"{_name(node)}: {node.op_type}: input '{i}' is made by no node above")
        made.update(node.output)
        for problem in _node_problems(reader, node, quantised):
            lines.append(f"{_name(node)}: {node.op_type}: {problem}")
        if node.op_type in ("Quant", "IntQuant") and node.input[0] in reader.constants:
            quantised.add(node.output[0])
    return lines


def _node_problems(reader: Reader, node: NodeProto, quantised: set[str]) -> list[str]:
    op = node.op_type
    if op in FOREIGN:
        return [f"not supported; {FOREIGN[op]}"]
    if op not in BUILD:
        return [f"not supported; supported: {', '.join(sorted(BUILD))}"]
    wanted = QUANT_DOMAINS if op in ("Quant", "IntQuant") else ("", "ai.onnx")
    if node.domain not in wanted:
        return [f"domain '{node.domain}' is unknown; nearest: domain '{wanted[0]}'"]
    least, most = ARITY[op]
    if not least <= len(node.input) <= most or not node.output:
        return [f"has {len(node.input)} inputs; {least} to {most} are supported"]
    attributes = _attributes(node)
    lines = [
        f"{key}={attributes[key]} is not supported; nearest: {_show(allowed)}"
        for key, allowed in ATTRIBUTES.get(op, {}).items()
        if key in attributes and attributes[key] not in allowed
    ]
    return lines + CHECKS.get(op, lambda *_: [])(reader, node, attributes, quantised)


def _show(allowed: tuple) -> str:
    shown = [a.decode() if isinstance(a, bytes) else str(a) for a in allowed]
    return " or ".join(shown)


def _check_quant(reader: Reader, node: NodeProto, attributes: dict, _: set[str]) -> list[str]:
    lines = []
    constants = [reader.constants.get(i) for i in node.input[1:]]
    if any(c is None for c in constants):
        return ["scale, zero point and bits must be constants; freeze the quantiser"]
    scale, zero, bits = constants
    if np.any(zero != 0):
        lines.append("zero point is not 0; nearest: a symmetric quantiser (zero point 0)")
    if bits.size != 1 or float(bits.ravel()[0]) != int(bits.ravel()[0]):
        lines.append("bits is not one integer")
    elif not 1 <= int(bits.ravel()[0]) <= 32:
        lines.append(f"{int(bits.ravel()[0])} bits; 1 to 32 are supported")
    if not np.all(np.isfinite(scale)) or np.any(scale <= 0):
        lines.append("scale is not above 0 everywhere")
    if attributes.get("signed") not in (0, 1):
        lines.append("attribute signed must be 0 or 1")
    if node.input[0] not in reader.constants:
        if scale.size != 1:
            lines.append(
                "an activation's scale must be one number; nearest: a per-tensor quantiser"
            )
        if attributes.get("narrow", 0) and attributes.get("signed", 1):
            lines.append("narrow=1 on an activation; nearest: narrow=0")
        if not lines and int(bits.ravel()[0]) > 16:
            lines.append(f"{int(bits.ravel()[0])} bits on an activation; nearest: 16")
    return lines


def _check_conv(
    reader: Reader, node: NodeProto, attributes: dict, quantised: set[str]
) -> list[str]:
    lines = []
    deform = node.op_type == "DeformConv"
    if node.input[1] not in quantised:
        lines.append(f"weight '{node.input[1]}' has no quantiser; {EXPORT}")
    bias = node.input[3 if deform else 2] if len(node.input) > (3 if deform else 2) else ""
    if bias and bias not in quantised:
        lines.append(
            f"bias '{bias}' is a float without quantiser; give the layer bias_quant=Int32Bias "
            "(scale = input scale * weight scale)"
        )
    kernel = attributes.get("kernel_shape")
    if not kernel or len(kernel) != 2 or kernel[0] != kernel[1]:
        lines.append(f"kernel_shape={kernel} is not supported; nearest: a square kernel")
    elif deform and kernel != [3, 3]:
        lines.append(f"kernel_shape={kernel} is not supported; nearest: [3, 3]")
    for key in ("strides", "pads"):
        if len(set(attributes.get(key, [0]))) > 1:
            lines.append(f"{key}={attributes[key]} is not supported; nearest: one number for all")
    if deform and attributes.get("pads") != [1, 1, 1, 1]:
        lines.append(f"pads={attributes.get('pads')} is not supported; nearest: [1, 1, 1, 1]")
    if deform and len(node.input) > 4 and node.input[4]:
        lines.append("mask is not supported; nearest: no mask")
    return lines


def _check_pool(reader: Reader, node: NodeProto, attributes: dict, _: set[str]) -> list[str]:
    lines = []
    for key in ("kernel_shape", "strides", "pads"):
        if len(set(attributes.get(key, [0]))) > 1:
            lines.append(f"{key}={attributes[key]} is not supported; nearest: one number for all")
    return lines


def _check_resize(reader: Reader, node: NodeProto, attributes: dict, _: set[str]) -> list[str]:
    scales = reader.constants.get(node.input[2]) if len(node.input) > 2 else None
    if scales is None or scales.shape != (4,):
        return ["needs constant scales; nearest: scales [1, 1, 2, 2]"]
    whole = scales[2] == scales[3] == np.rint(scales[2]) and scales[2] >= 1
    if not (scales[0] == scales[1] == 1 and whole):
        return [f"scales {scales.tolist()} are not supported; nearest: [1, 1, 2, 2]"]
    return []


def _check_constant_input(
    reader: Reader, node: NodeProto, attributes: dict, _: set[str]
) -> list[str]:
    indices = range(1, len(node.input))
    missing = [node.input[i] for i in indices if node.input[i] not in reader.constants]
    return [f"'{name}' must be a constant" for name in missing if name]


def _check_binary(reader: Reader, node: NodeProto, attributes: dict, _: set[str]) -> list[str]:
    constant = [i in reader.constants for i in node.input]
    if sum(constant) != 1:
        return ["one input must be a constant, the other not; nearest: Concat"]
    if node.op_type == "Sub" and constant[0]:
        return ["constant minus tensor is not supported; nearest: tensor minus constant"]
    return []


CHECKS: Mapping[str, Callable[[Reader, NodeProto, dict, set[str]], list[str]]] = {
    "Quant": _check_quant,
    "IntQuant": _check_quant,
    "Conv": _check_conv,
    "DeformConv": _check_conv,
    "MaxPool": _check_pool,
    "Resize": _check_resize,
    "Reshape": _check_constant_input,
    "Split": _check_constant_input,
    "Slice": _check_constant_input,
    "Gather": _check_constant_input,
    "Add": _check_binary,
    "Sub": _check_binary,
    "Mul": _check_binary,
}
ATTRIBUTES: Mapping[str, Mapping[str, tuple]] = {
    "Quant": {"rounding_mode": (b"ROUND", b"HALF_EVEN")},
    "IntQuant": {"rounding_mode": (b"ROUND", b"HALF_EVEN")},
    "Conv": {"dilations": ([1, 1],), "auto_pad": (b"NOTSET",)},
    "DeformConv": {"dilations": ([1, 1],), "strides": ([1, 1],), "offset_group": (1,)},
    "MaxPool": {
        "dilations": ([1, 1],),
        "auto_pad": (b"NOTSET",),
        "ceil_mode": (0,),
        "storage_order": (0,),
    },
    "Resize": {
        "mode": (b"nearest",),
        "coordinate_transformation_mode": (b"asymmetric",),
        "nearest_mode": (b"floor",),
    },
    "Concat": {"axis": (1, -3)},
    "Split": {"axis": (1, -3)},
    "Gather": {"axis": (1, -3)},
}
ARITY: Mapping[str, tuple[int, int]] = {
    "Quant": (4, 4),
    "IntQuant": (4, 4),
    "Conv": (2, 3),
    "DeformConv": (3, 5),
    "Relu": (1, 1),
    "MaxPool": (1, 1),
    "Resize": (3, 4),
    "Concat": (1, 1000),
    "Split": (1, 2),
    "Slice": (4, 5),
    "Gather": (2, 2),
    "Reshape": (2, 2),
    "Transpose": (1, 1),
    "Add": (2, 2),
    "Sub": (2, 2),
    "Mul": (2, 2),
    "Identity": (1, 1),
    "Constant": (0, 0),
}


# --- building ----------------------------------------------------------------------------------


def _input(reader: Reader) -> None:
    """Declare the only input; its first quantiser gives its scale."""
    graph = reader.model.graph
    inputs = [i for i in graph.input if i.name not in reader.constants]
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs) or "none"
        raise GraphError(f"has the inputs {names}; exactly one is supported")
    shape = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim]
    if len(shape) != 4 or shape[0] != 1 or min(shape) < 1:
        raise GraphError(
            f"input '{inputs[0].name}' has shape {shape}; (1, C, H, W) with fixed numbers is needed"
        )
    name = inputs[0].name
    users = reader.users.get(name, [])
    if len(users) != 1 or users[0].op_type not in ("Quant", "IntQuant"):
        raise GraphError(f"input '{name}' must go into one Quant (u8, scale 2**-8); {EXPORT}")
    reader.builder.input(name, shape[1:], RealType())
    reader.names[name] = name
    reader.builder.meta[f"scale.{name}"] = float(reader.constants[users[0].input[1]].ravel()[0])


def _build_quant(reader: Reader, node: NodeProto) -> None:
    scale, _, bits = (reader.constants[i] for i in node.input[1:])
    attributes = _attributes(node)
    kind = IntType(int(bits.ravel()[0]), bool(attributes["signed"]))
    if node.input[0] in reader.constants:
        value = reader.constants[node.input[0]].astype(np.float32)
        narrow = bool(attributes.get("narrow", 0)) and kind.signed
        reader.parameters[node.output[0]] = _parameter(node, value, scale, kind, narrow)
        return
    consts = {"scale": np.array(scale.ravel()[0], dtype=np.float32)}
    source = reader.source(node.input[0])
    # Named after what it quantises: the convolution, not the ReLU between.
    name = reader.fresh(f"{source.name.removesuffix('.relu')}.quant")
    reader.define(
        node.output[0], reader.builder.add(name, "quant", [source], QuantAttrs(kind), consts)
    )


def _parameter(
    node: NodeProto, value: np.ndarray, scale: np.ndarray, kind: IntType, narrow: bool
) -> Parameter:
    """The integers of a constant (OC, ...) and one scale a channel."""
    channels = value.shape[0] if value.ndim else 1
    column = scale.astype(np.float32)
    if column.size not in (1, channels) or (column.size > 1 and column.shape[0] != channels):
        raise GraphError(
            f"{_name(node)}: scale of shape {scale.shape} for a constant of shape {value.shape}; "
            "one number, or one for each output channel, is supported"
        )
    per_channel = np.broadcast_to(column.ravel(), (channels,)).copy()
    units = np.concatenate(
        [to_integers(v.ravel(), s, kind) for v, s in zip(value, per_channel, strict=True)]
    ).reshape(value.shape)
    integers = units.astype(np.int64)
    if narrow:
        integers = np.maximum(integers, kind.lo + 1)
    return Parameter(integers, per_channel, kind)


def _parameters(reader: Reader, node: NodeProto, bias: str) -> tuple[dict[str, np.ndarray], int]:
    """The four constants of a convolution, and the bits of its weights."""
    weight = reader.parameters[node.input[1]]
    if weight.kind.bits > 8 or not weight.kind.signed:
        raise GraphError(f"{_name(node)}: weights are {weight.kind}; signed, 8 bits at most")
    channels = weight.values.shape[0]
    consts = {"weight": weight.values.astype(np.int8), "weight_scale": weight.scale}
    if bias:
        consts["bias"] = reader.parameters[bias].values
        consts["bias_scale"] = reader.parameters[bias].scale
    else:
        consts["bias"] = np.zeros(channels, np.int64)
        consts["bias_scale"] = np.ones(channels, np.float32)
    return consts, max(2, weight.kind.bits)


def _build_conv(reader: Reader, node: NodeProto) -> None:
    a = _attributes(node)
    consts, bits = _parameters(reader, node, node.input[2] if len(node.input) > 2 else "")
    attrs = RealConvAttrs(
        kernel=a["kernel_shape"][0],
        stride=a.get("strides", [1])[0],
        pad=a.get("pads", [0])[0],
        groups=a.get("group", 1),
        weight_bits=bits,
    )
    _add(reader, node, "real_conv", _name(node), node.input[:1], attrs, consts)


def _build_deform(reader: Reader, node: NodeProto) -> None:
    consts, bits = _parameters(reader, node, node.input[3] if len(node.input) > 3 else "")
    inputs = [node.input[0], node.input[2]]
    _add(reader, node, "real_deform", _name(node), inputs, RealDeformAttrs(bits), consts)


def _build_relu(reader: Reader, node: NodeProto) -> None:
    name = f"{reader.names[node.input[0]]}.relu"
    _add(reader, node, "relu", name, node.input, ReluAttrs())


def _build_pool(reader: Reader, node: NodeProto) -> None:
    a = _attributes(node)
    kernel, stride, pad = (
        a.get(k, [d])[0] for k, d in (("kernel_shape", 1), ("strides", 1), ("pads", 0))
    )
    _add(reader, node, "maxpool", _name(node), node.input, MaxpoolAttrs(kernel, stride, pad))


def _build_resize(reader: Reader, node: NodeProto) -> None:
    factor = int(reader.constants[node.input[2]][2])
    name = _name(node)
    if name.endswith(".resize"):
        name = name.removesuffix("resize") + "up"
    _add(reader, node, "upsample", name, node.input[:1], UpsampleAttrs(factor))


def _build_concat(reader: Reader, node: NodeProto) -> None:
    _add(reader, node, "concat", _name(node), node.input, ConcatAttrs())


def _build_split(reader: Reader, node: NodeProto) -> None:
    source = reader.source(node.input[0])
    channels, parts = source.shape[0], len(node.output)
    if len(node.input) > 1 and node.input[1]:
        sizes = [int(n) for n in reader.constants[node.input[1]].ravel()]
    else:
        size = -(-channels // parts)
        sizes = [size] * (parts - 1) + [channels - size * (parts - 1)]
    if len(sizes) != parts:
        raise GraphError(f"{_name(node)}: Split into {parts} outputs with {len(sizes)} sizes")
    base = _split_name(reader, node)
    start = 0
    for i, (output, size) in enumerate(zip(node.output, sizes, strict=True)):
        name = reader.fresh(f"{base}{i}")
        attrs = SliceAttrs(start, start + size)
        reader.define(output, reader.builder.add(name, "slice", [source], attrs))
        start += size


def _split_name(reader: Reader, node: NodeProto) -> str:
    """layer1.1.split for a split whose parts are all used inside layer1.1."""
    users: list[list[str]] = []
    for output in node.output:
        pending = [output]
        while pending:
            for user in reader.users.get(pending.pop(), []):
                if user.op_type in ("Relu", "Quant", "IntQuant"):
                    pending.extend(user.output)
                else:
                    users.append(_name(user).split(".")[:-1])
    common: list[str] = []
    for parts in zip(*users, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common) + ".split" if common else f"{_name(node)}."


def _build_slice(reader: Reader, node: NodeProto) -> None:
    source = reader.source(node.input[0])
    starts, stops, *rest = (reader.constants[i].ravel() for i in node.input[1:] if i)
    axes = rest[0] if rest else np.arange(len(starts))
    steps = rest[1] if len(rest) > 1 else np.ones(len(starts))
    if len(starts) != 1 or int(axes[0]) not in (1, -3) or int(steps[0]) != 1:
        raise GraphError(f"{_name(node)}: Slice; only of channels, with step 1, is supported")
    start, stop, _ = slice(int(starts[0]), int(stops[0])).indices(source.shape[0])
    _add(reader, node, "slice", _name(node), node.input[:1], SliceAttrs(start, stop))


def _build_gather(reader: Reader, node: NodeProto) -> None:
    source = reader.source(node.input[0])
    indices = reader.constants[node.input[1]].astype(np.int64).ravel() % source.shape[0]
    start, count = int(indices[0]), len(indices)
    if np.array_equal(indices, np.arange(start, start + count)):
        _add(reader, node, "slice", _name(node), node.input[:1], SliceAttrs(start, start + count))
        return
    raise GraphError(
        f"{_name(node)}: Gather of channels {indices[:8].tolist()}...; nearest: Slice of channels "
        "in order, or Reshape, Transpose, Reshape as channel shuffle"
    )


def _build_reshape(reader: Reader, node: NodeProto) -> None:
    source = reader.source(node.input[0])
    wanted = [int(n) for n in reader.constants[node.input[1]].ravel()]
    old = (1, *source.shape)
    if not _attributes(node).get("allowzero", 0):
        wanted = [old[i] if n == 0 and i < len(old) else n for i, n in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = int(np.prod([n for n in wanted if n != -1]))
        wanted[wanted.index(-1)] = int(np.prod(old)) // max(rest, 1)
    if not wanted or wanted[0] != 1 or min(wanted) < 1:
        raise GraphError(f"{_name(node)}: Reshape to {wanted}; the batch axis must stay 1")
    _add(reader, node, "reshape", _name(node), node.input[:1], ReshapeAttrs(tuple(wanted[1:])))


def _build_transpose(reader: Reader, node: NodeProto) -> None:
    source = reader.source(node.input[0])
    default = list(range(len(source.shape) + 1))[::-1]
    perm = list(_attributes(node).get("perm", default))
    if not perm or perm[0] != 0:
        raise GraphError(f"{_name(node)}: Transpose {perm}; the batch axis must stay first")
    attrs = TransposeAttrs(tuple(p - 1 for p in perm[1:]))
    _add(reader, node, "transpose", _name(node), node.input, attrs)


def _build_binary(reader: Reader, node: NodeProto) -> None:
    constant = 0 if node.input[0] in reader.constants else 1
    source = reader.source(node.input[1 - constant])
    value = reader.constants[node.input[constant]].astype(np.float32)
    if node.op_type == "Sub":
        value = -value
    if value.size == 1:
        value = value.reshape(())
    elif value.ndim == len(source.shape) + 1 and value.shape[0] == 1:
        value = value[0]
    elif value.ndim > len(source.shape):
        raise GraphError(f"{_name(node)}: {node.op_type} with a constant of {value.shape}")
    else:
        value = value.reshape((1,) * (len(source.shape) - value.ndim) + value.shape)
    op, attrs = ("multiply", MultiplyAttrs()) if node.op_type == "Mul" else ("add", AddAttrs())
    _add(reader, node, op, _name(node), [node.input[1 - constant]], attrs, {"value": value})


def _build_identity(reader: Reader, node: NodeProto) -> None:
    reader.names[node.output[0]] = reader.names[node.input[0]]


def _add(
    reader: Reader,
    node: NodeProto,
    op: str,
    name: str,
    inputs: list[str],
    attrs: object,
    consts: Mapping[str, np.ndarray] | None = None,
) -> None:
    sources = [reader.source(i) for i in inputs]
    tensor = reader.builder.add(reader.fresh(name), op, sources, attrs, consts or {})
    reader.define(node.output[0], tensor)


BUILD: Mapping[str, Callable[[Reader, NodeProto], None]] = {
    "Quant": _build_quant,
    "IntQuant": _build_quant,
    "Conv": _build_conv,
    "DeformConv": _build_deform,
    "Relu": _build_relu,
    "MaxPool": _build_pool,
    "Resize": _build_resize,
    "Concat": _build_concat,
    "Split": _build_split,
    "Slice": _build_slice,
    "Gather": _build_gather,
    "Reshape": _build_reshape,
    "Transpose": _build_transpose,
    "Add": _build_binary,
    "Sub": _build_binary,
    "Mul": _build_binary,
    "Identity": _build_identity,
    "Constant": lambda reader, node: None,
}


def _finish(reader: Reader) -> Graph:
    outputs = []
    for info in reader.model.graph.output:
        if info.name not in reader.names:
            raise GraphError(f"output '{info.name}' is made by no node")
        tensor = reader.names[info.name]
        outputs.append(tensor)
        reader.builder.meta[f"output.{info.name}"] = tensor
    return reader.builder.build(outputs)
