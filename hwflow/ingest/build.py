# SPDX-License-Identifier: Apache-2.0
"""Each supported ONNX node as nodes of the graph; constants behind Quant as scaled integers."""

from collections.abc import Callable, Mapping

import numpy as np
from onnx import NodeProto

from hwflow.errors import GraphError
from hwflow.ingest.reader import Parameter, Reader, attributes_of, layer_name
from hwflow.ingest.support import EXPORT
from hwflow.ir import Graph, IntType, RealType
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
    attributes = attributes_of(node)
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
            f"{layer_name(node)}: scale of shape {scale.shape} for a constant of "
            f"shape {value.shape}; "
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
        raise GraphError(f"{layer_name(node)}: weights are {weight.kind}; signed, 8 bits at most")
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
    a = attributes_of(node)
    consts, bits = _parameters(reader, node, node.input[2] if len(node.input) > 2 else "")
    attrs = RealConvAttrs(
        kernel=a["kernel_shape"][0],
        stride=a.get("strides", [1])[0],
        pad=a.get("pads", [0])[0],
        groups=a.get("group", 1),
        weight_bits=bits,
    )
    _add(reader, node, "real_conv", layer_name(node), node.input[:1], attrs, consts)


def _build_deform(reader: Reader, node: NodeProto) -> None:
    consts, bits = _parameters(reader, node, node.input[3] if len(node.input) > 3 else "")
    inputs = [node.input[0], node.input[2]]
    _add(reader, node, "real_deform", layer_name(node), inputs, RealDeformAttrs(bits), consts)


def _build_relu(reader: Reader, node: NodeProto) -> None:
    name = f"{reader.names[node.input[0]]}.relu"
    _add(reader, node, "relu", name, node.input, ReluAttrs())


def _build_pool(reader: Reader, node: NodeProto) -> None:
    a = attributes_of(node)
    kernel, stride, pad = (
        a.get(k, [d])[0] for k, d in (("kernel_shape", 1), ("strides", 1), ("pads", 0))
    )
    _add(reader, node, "maxpool", layer_name(node), node.input, MaxpoolAttrs(kernel, stride, pad))


def _build_resize(reader: Reader, node: NodeProto) -> None:
    factor = int(reader.constants[node.input[2]][2])
    name = layer_name(node)
    if name.endswith(".resize"):
        name = name.removesuffix("resize") + "up"
    _add(reader, node, "upsample", name, node.input[:1], UpsampleAttrs(factor))


def _build_concat(reader: Reader, node: NodeProto) -> None:
    _add(reader, node, "concat", layer_name(node), node.input, ConcatAttrs())


def _build_split(reader: Reader, node: NodeProto) -> None:
    source = reader.source(node.input[0])
    channels, parts = source.shape[0], len(node.output)
    if len(node.input) > 1 and node.input[1]:
        sizes = [int(n) for n in reader.constants[node.input[1]].ravel()]
    else:
        size = -(-channels // parts)
        sizes = [size] * (parts - 1) + [channels - size * (parts - 1)]
    if len(sizes) != parts:
        raise GraphError(f"{layer_name(node)}: Split into {parts} outputs with {len(sizes)} sizes")
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
                    users.append(layer_name(user).split(".")[:-1])
    common: list[str] = []
    for parts in zip(*users, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common) + ".split" if common else f"{layer_name(node)}."


def _build_slice(reader: Reader, node: NodeProto) -> None:
    source = reader.source(node.input[0])
    starts, stops, *rest = (reader.constants[i].ravel() for i in node.input[1:] if i)
    axes = rest[0] if rest else np.arange(len(starts))
    steps = rest[1] if len(rest) > 1 else np.ones(len(starts))
    if len(starts) != 1 or int(axes[0]) not in (1, -3) or int(steps[0]) != 1:
        raise GraphError(f"{layer_name(node)}: Slice; only of channels, with step 1, is supported")
    start, stop, _ = slice(int(starts[0]), int(stops[0])).indices(source.shape[0])
    _add(reader, node, "slice", layer_name(node), node.input[:1], SliceAttrs(start, stop))


def _build_gather(reader: Reader, node: NodeProto) -> None:
    source = reader.source(node.input[0])
    indices = reader.constants[node.input[1]].astype(np.int64).ravel() % source.shape[0]
    start, count = int(indices[0]), len(indices)
    if np.array_equal(indices, np.arange(start, start + count)):
        _add(
            reader,
            node,
            "slice",
            layer_name(node),
            node.input[:1],
            SliceAttrs(start, start + count),
        )
        return
    raise GraphError(
        f"{layer_name(node)}: Gather of channels {indices[:8].tolist()}...; nearest: Slice "
        "of channels in order, or Reshape, Transpose, Reshape as channel shuffle"
    )


def _build_reshape(reader: Reader, node: NodeProto) -> None:
    source = reader.source(node.input[0])
    wanted = [int(n) for n in reader.constants[node.input[1]].ravel()]
    old = (1, *source.shape)
    if not attributes_of(node).get("allowzero", 0):
        wanted = [old[i] if n == 0 and i < len(old) else n for i, n in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = int(np.prod([n for n in wanted if n != -1]))
        wanted[wanted.index(-1)] = int(np.prod(old)) // max(rest, 1)
    if not wanted or wanted[0] != 1 or min(wanted) < 1:
        raise GraphError(f"{layer_name(node)}: Reshape to {wanted}; the batch axis must stay 1")
    _add(reader, node, "reshape", layer_name(node), node.input[:1], ReshapeAttrs(tuple(wanted[1:])))


def _build_transpose(reader: Reader, node: NodeProto) -> None:
    source = reader.source(node.input[0])
    default = list(range(len(source.shape) + 1))[::-1]
    perm = list(attributes_of(node).get("perm", default))
    if not perm or perm[0] != 0:
        raise GraphError(f"{layer_name(node)}: Transpose {perm}; the batch axis must stay first")
    attrs = TransposeAttrs(tuple(p - 1 for p in perm[1:]))
    _add(reader, node, "transpose", layer_name(node), node.input, attrs)


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
        raise GraphError(f"{layer_name(node)}: {node.op_type} with a constant of {value.shape}")
    else:
        value = value.reshape((1,) * (len(source.shape) - value.ndim) + value.shape)
    op, attrs = ("multiply", MultiplyAttrs()) if node.op_type == "Mul" else ("add", AddAttrs())
    _add(reader, node, op, layer_name(node), [node.input[1 - constant]], attrs, {"value": value})


def _build_identity(reader: Reader, node: NodeProto) -> None:
    reader.names[node.output[0]] = reader.names[node.input[0]]


def _build_nothing(reader: Reader, node: NodeProto) -> None:
    """Constants were collected by the reader."""


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
    "Constant": _build_nothing,
}


def build_graph(reader: Reader) -> Graph:
    """The graph of a file whose nodes are all supported."""
    _input(reader)
    for node in reader.model.graph.node:
        BUILD[node.op_type](reader, node)
    outputs = []
    for info in reader.model.graph.output:
        if info.name not in reader.names:
            raise GraphError(f"output '{info.name}' is made by no node")
        tensor = reader.names[info.name]
        outputs.append(tensor)
        reader.builder.meta[f"output.{info.name}"] = tensor
    return reader.builder.build(outputs)
