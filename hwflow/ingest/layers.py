# SPDX-License-Identifier: Apache-2.0
"""The ONNX nodes that compute: convolutions, dense layers, pools, and arithmetic with constants."""

from collections.abc import Callable, Mapping

import numpy as np
from onnx import NodeProto

from hwflow.errors import GraphError
from hwflow.ingest.reader import Reader, attributes_of, layer_name
from hwflow.ir import Tensor
from hwflow.ops.add import AddAttrs
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.batchnorm import BatchnormAttrs
from hwflow.ops.clip import ClipAttrs
from hwflow.ops.divide import DivideAttrs
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.maxpool2d import Maxpool2dAttrs
from hwflow.ops.multiply import MultiplyAttrs
from hwflow.ops.patches import PatchesAttrs
from hwflow.ops.real_add import RealAddAttrs
from hwflow.ops.real_avgpool import RealAvgpoolAttrs
from hwflow.ops.real_conv import RealConvAttrs
from hwflow.ops.real_conv2d import RealConv2dAttrs
from hwflow.ops.real_deform import RealDeformAttrs
from hwflow.ops.relu import ReluAttrs

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


def add_node(
    reader: Reader,
    node: NodeProto,
    op: str,
    name: str,
    inputs: list[str],
    attrs: object,
    consts: Mapping[str, np.ndarray] | None = None,
    rank: int | None = None,
) -> Tensor:
    """Append a node and let it carry the node's first output."""
    sources = [reader.source(i) for i in inputs]
    tensor = reader.builder.add(reader.fresh(name), op, sources, attrs, consts or {})
    reader.define(node.output[0], tensor, rank)
    return tensor


def _weights(
    reader: Reader, node: NodeProto, name: str, axis: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Integers (OC, ...) with one scale an output channel, and their bits."""
    parameter = reader.parameters.get(name)
    if parameter is None:
        raise GraphError(f"weight '{name}' is no constant behind a quantiser")
    if parameter.kind.bits > 8 and parameter.values.size and abs(parameter.values).max() > 127:
        raise GraphError(f"weights are {parameter.kind}; signed, 8 bits at most")
    if not parameter.kind.signed and parameter.values.size and parameter.values.max() > 127:
        raise GraphError(f"weights are {parameter.kind}; signed, 8 bits at most")
    values, scale = parameter.along(axis, layer_name(node))
    bits = parameter.kind.bits + (not parameter.kind.signed)
    return values.astype(np.int8), scale, max(2, min(8, bits))


def _consts(
    reader: Reader, weight: np.ndarray, scale: np.ndarray, bias: str, name: str
) -> dict[str, np.ndarray]:
    """The four constants of a convolution; the bias is 0 where it is no quantised one."""
    channels = weight.shape[0]
    consts = {"weight": weight, "weight_scale": scale}
    if bias in reader.parameters:
        values, bias_scale = reader.parameters[bias].along(0, name)
        if values.shape != (channels,):
            raise GraphError(f"bias of shape {values.shape} for {channels} channels")
        consts |= {"bias": values, "bias_scale": bias_scale}
    else:
        consts["bias"] = np.zeros(channels, np.int64)
        consts["bias_scale"] = np.ones(channels, np.float32)
    return consts


def _with_float_bias(
    reader: Reader, node: NodeProto, bias: str, sum_: tuple[str, str, list[Tensor], object],
    consts: dict[str, np.ndarray], rank: int | None = None,
) -> None:  # fmt: skip
    """Append a convolution, and an addition where its bias is a float."""
    op, name, sources, attrs = sum_
    tensor = reader.builder.add(reader.fresh(name), op, sources, attrs, consts)
    if bias and bias not in reader.parameters:
        value = reader.constants[bias].astype(np.float32).ravel()
        if value.size not in (1, tensor.shape[0]) or not np.isfinite(value).all():
            raise GraphError(f"bias of {value.size} numbers for {tensor.shape[0]} channels")
        full = np.broadcast_to(value, (tensor.shape[0],)).reshape(-1, 1, 1).copy()
        name = reader.fresh(f"{tensor.name}.bias")
        tensor = reader.builder.add(name, "add", [tensor], AddAttrs(), {"value": full})
    reader.define(node.output[0], tensor, rank)


def padding(a: Mapping[str, object], shape: tuple[int, ...], kernel: Pair) -> Pads:
    """Pads as (top, left, bottom, right) of a window over `shape` (..., H, W), auto_pad included.

    With ceil_mode the pads behind grow so that the last window fits.
    """
    stride = _pair(a.get("strides", [1, 1]))
    dilation = _pair(a.get("dilations", [1, 1]))
    pads = [int(n) for n in a.get("pads", [0, 0, 0, 0])]  # type: ignore[attr-defined]
    mode = a.get("auto_pad", b"NOTSET")
    for axis in (0, 1):
        side = shape[-2 + axis]
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        if mode == b"VALID":
            pads[axis] = pads[2 + axis] = 0
        elif mode != b"NOTSET":
            total = max(0, (-(-side // stride[axis]) - 1) * stride[axis] + reach - side)
            small, large = total // 2, total - total // 2
            upper = mode == b"SAME_UPPER"
            pads[axis], pads[2 + axis] = (small, large) if upper else (large, small)
        if a.get("ceil_mode", 0):
            room = side + pads[axis] + pads[2 + axis]
            count = -(-max(0, room - reach) // stride[axis]) + 1
            if (count - 1) * stride[axis] >= side + pads[axis]:
                count -= 1  # a window that starts behind the map is dropped
            pads[2 + axis] += max(0, (count - 1) * stride[axis] + reach - room)
    return pads[0], pads[1], pads[2], pads[3]


def _pair(values: object) -> Pair:
    first, second = (int(n) for n in values)  # type: ignore[attr-defined]
    return first, second


def _plain(kernel: Pair, stride: Pair, pads: Pads, dilation: Pair) -> bool:
    """A square window with one stride and one padding below the kernel, not dilated."""
    alike = kernel[0] == kernel[1] and stride[0] == stride[1] and len(set(pads)) == 1
    return alike and dilation == (1, 1) and pads[0] < kernel[0]


def is_patches(reader: Reader, node: NodeProto) -> bool:
    """Whether a Conv only puts the taps of its window side by side: a depthwise one without bias
    whose float weights are 1 at tap i % taps of output i and 0 elsewhere."""
    if node.op_type != "Conv" or len(node.input) != 2:
        return False
    weight = reader.constants.get(node.input[1])
    if weight is None or weight.ndim != 4 or weight.dtype.kind != "f":
        return False
    taps, groups = weight.shape[2] * weight.shape[3], int(attributes_of(node).get("group", 1))
    if weight.shape[:2] != (groups * taps, 1):
        return False
    return np.array_equal(weight.reshape(groups, taps, taps), np.stack([np.eye(taps)] * groups))


def _build_patches(reader: Reader, node: NodeProto) -> None:
    a, weight = attributes_of(node), reader.constants[node.input[1]]
    kernel, source = _pair(weight.shape[2:]), reader.source(node.input[0])
    if source.shape[0] * kernel[0] * kernel[1] != weight.shape[0]:
        raise GraphError(f"weight of shape {weight.shape} for {source.shape[0]} channels")
    stride, dilation = _pair(a.get("strides", [1, 1])), _pair(a.get("dilations", [1, 1]))
    attrs = PatchesAttrs(kernel, stride, padding(a, source.shape, kernel), dilation)
    add_node(reader, node, "patches", layer_name(node), node.input[:1], attrs)


def _build_conv(reader: Reader, node: NodeProto) -> None:
    if is_patches(reader, node):
        _build_patches(reader, node)
        return
    a = attributes_of(node)
    weight, scale, bits = _weights(reader, node, node.input[1], 0)
    if weight.ndim != 4:
        raise GraphError(f"weight of shape {weight.shape}; nearest: a two-dimensional Conv")
    kernel = _pair(a.get("kernel_shape", weight.shape[2:]))
    stride, dilation = _pair(a.get("strides", [1, 1])), _pair(a.get("dilations", [1, 1]))
    source = reader.source(node.input[0])
    pads, groups = padding(a, source.shape, kernel), int(a.get("group", 1))
    attrs: object
    if _plain(kernel, stride, pads, dilation):
        op, attrs = "real_conv", RealConvAttrs(kernel[0], stride[0], pads[0], groups, bits)
    else:
        op, attrs = "real_conv2d", RealConv2dAttrs(kernel, stride, pads, dilation, groups, bits)
    bias = node.input[2] if len(node.input) > 2 else ""
    consts = _consts(reader, weight, scale, bias, layer_name(node))
    _with_float_bias(reader, node, bias, (op, layer_name(node), [source], attrs), consts)


def _build_matrix(reader: Reader, node: NodeProto) -> None:
    """Gemm and MatMul of a vector are 1x1 convolutions of a map of one pixel."""
    a = attributes_of(node)
    weight, scale, bits = _weights(reader, node, node.input[1], 0 if a.get("transB", 0) else 1)
    source = reader.source(node.input[0])
    if weight.ndim != 2 or reader.rank(node.input[0]) != 2:
        raise GraphError("takes a vector (1, N) and a constant matrix; nearest: Flatten before it")
    alpha = float(a.get("alpha", 1.0))
    if alpha != 1.0:
        raise GraphError(f"alpha={alpha} is not supported; nearest: 1.0")
    bias = node.input[2] if len(node.input) > 2 else ""
    consts = _consts(reader, weight[:, :, None, None], scale, bias, layer_name(node))
    attrs = RealConvAttrs(1, 1, 0, 1, bits)
    _with_float_bias(
        reader, node, bias, ("real_conv", layer_name(node), [source], attrs), consts, 2
    )


def _build_deform(reader: Reader, node: NodeProto) -> None:
    weight, scale, bits = _weights(reader, node, node.input[1], 0)
    bias = node.input[3] if len(node.input) > 3 else ""
    consts = _consts(reader, weight, scale, bias, layer_name(node))
    inputs = [node.input[0], node.input[2]]
    add_node(
        reader, node, "real_deform", layer_name(node), inputs, RealDeformAttrs(bits), consts
    )


def _build_batchnorm(reader: Reader, node: NodeProto) -> None:
    roles = ("gamma", "beta", "mean", "variance")
    consts = {
        role: reader.constants[i].astype(np.float32).ravel()
        for role, i in zip(roles, node.input[1:], strict=True)
    }
    attrs = BatchnormAttrs(float(np.float32(attributes_of(node).get("epsilon", 1e-5))))
    add_node(reader, node, "batchnorm", layer_name(node), node.input[:1], attrs, consts,
             reader.rank(node.input[0]))  # fmt: skip


def _build_relu(reader: Reader, node: NodeProto) -> None:
    name = f"{reader.source(node.input[0]).name}.relu"
    rank = reader.rank(node.input[0])
    add_node(reader, node, "relu", name, node.input, ReluAttrs(), rank=rank)


def build_clip(reader: Reader, node: NodeProto) -> None:
    """Clip of reals."""
    a = attributes_of(node)
    limits = [float(a.get("min", -np.inf)), float(a.get("max", np.inf))]
    for place, name in enumerate(node.input[1:3]):
        if name:
            limits[place] = float(reader.constants[name].astype(np.float32).ravel()[0])
    attrs = ClipAttrs(float(np.float32(limits[0])), float(np.float32(limits[1])))
    add_node(reader, node, "clip", layer_name(node), node.input[:1], attrs,
             rank=reader.rank(node.input[0]))  # fmt: skip


def _build_maxpool(reader: Reader, node: NodeProto) -> None:
    if len(node.output) > 1 and node.output[1]:
        raise GraphError("gives indices too; nearest: MaxPool of one output")
    a = attributes_of(node)
    source = reader.source(node.input[0])
    kernel, stride = _pair(a.get("kernel_shape", [1, 1])), _pair(a.get("strides", [1, 1]))
    dilation = _pair(a.get("dilations", [1, 1]))
    pads = padding(a, source.shape, kernel)
    _maxpool(reader, node, kernel, stride, pads, dilation)


def _maxpool(
    reader: Reader, node: NodeProto, kernel: Pair, stride: Pair, pads: Pads, dilation: Pair
) -> None:
    op, attrs = "maxpool2d", Maxpool2dAttrs(kernel, stride, pads, dilation)  # type: tuple[str, object]
    if _plain(kernel, stride, pads, dilation) and kernel[0] <= 3 and stride[0] <= 2:
        op, attrs = "maxpool", MaxpoolAttrs(kernel[0], stride[0], pads[0])
    add_node(reader, node, op, layer_name(node), node.input[:1], attrs)


def _build_global_max(reader: Reader, node: NodeProto) -> None:
    _, h, w = reader.source(node.input[0]).shape
    _maxpool(reader, node, (h, w), (1, 1), (0, 0, 0, 0), (1, 1))


def _build_avgpool(reader: Reader, node: NodeProto) -> None:
    a = attributes_of(node)
    kernel, stride = _pair(a["kernel_shape"]), _pair(a.get("strides", [1, 1]))
    pads = padding(a, reader.source(node.input[0]).shape, kernel)
    if any(pads) and not a.get("count_include_pad", 0):
        raise GraphError("count_include_pad=0 with pads is not supported; nearest: 1")
    attrs = RealAvgpoolAttrs(kernel, stride, pads)
    add_node(reader, node, "real_avgpool", layer_name(node), node.input[:1], attrs)


def _build_global_mean(reader: Reader, node: NodeProto) -> None:
    """GlobalAveragePool, and ReduceMean over height and width."""
    rank = 4
    if node.op_type == "ReduceMean":
        a = attributes_of(node)
        given = len(node.input) > 1 and node.input[1]
        axes = reader.constants[node.input[1]].ravel() if given else a.get("axes", [])
        if sorted(int(n) % 4 for n in axes) != [2, 3] or reader.rank(node.input[0]) != 4:
            raise GraphError(f"axes={[int(n) for n in axes]} is not supported; nearest: [2, 3]")
        rank = 4 if a.get("keepdims", 1) else 2
    _, h, w = reader.source(node.input[0]).shape
    attrs = RealAvgpoolAttrs((h, w), (1, 1), (0, 0, 0, 0))
    add_node(reader, node, "real_avgpool", layer_name(node), node.input[:1], attrs, rank=rank)


def _build_argmax(reader: Reader, node: NodeProto) -> None:
    a, rank = attributes_of(node), reader.rank(node.input[0])
    if int(a.get("axis", 0)) % rank != 1:
        raise GraphError(f"axis={a.get('axis', 0)} is not supported; nearest: 1 (the channels)")
    attrs = ArgmaxAttrs(bool(a.get("select_last_index", 0)))
    kept = rank if a.get("keepdims", 1) else rank - 1
    add_node(reader, node, "argmax", layer_name(node), node.input[:1], attrs, rank=kept)


def _build_binary(reader: Reader, node: NodeProto) -> None:
    if not any(i in reader.constants or i in reader.parameters for i in node.input):
        _build_sum(reader, node)
        return
    constant = 0 if node.input[0] not in reader.names else 1
    name, other = node.input[constant], node.input[1 - constant]
    if name in reader.parameters:
        raise GraphError(f"constant '{name}' has a quantiser; nearest: a plain constant")
    source, rank = reader.source(other), reader.rank(other)
    value = _broadcast(reader.constants[name].astype(np.float32), source, rank)
    if not np.isfinite(value).all():
        raise GraphError("its constant is not finite in float32")
    op, attrs = "add", AddAttrs()  # type: tuple[str, object]
    if node.op_type in ("Mul", "Div"):
        kinds = {"Mul": ("multiply", MultiplyAttrs()), "Div": ("divide", DivideAttrs())}
        op, attrs = kinds[node.op_type]
    elif node.op_type == "Sub" and constant == 1:
        value = -value
    elif node.op_type == "Sub":  # constant - x is (-x) + constant
        minus = {"value": np.full((), -1, np.float32)}
        label = reader.fresh(f"{layer_name(node)}.negative")
        source = reader.builder.add(label, "multiply", [source], MultiplyAttrs(), minus)
    label = reader.fresh(layer_name(node))
    tensor = reader.builder.add(label, op, [source], attrs, {"value": value})
    reader.define(node.output[0], tensor, rank if rank == 2 else None)


def _broadcast(value: np.ndarray, source: Tensor, rank: int) -> np.ndarray:
    """A constant as it meets the graph's tensor, which has no batch axis."""
    if value.size == 1:
        return value.reshape(())
    axes = len(source.shape)
    if rank == 2:  # (1, N) or (N,) meets a map of N channels and one pixel
        if value.ndim <= 2 and value.size == source.shape[0] == value.shape[-1]:
            return value.reshape(-1, *[1] * (axes - 1))
        raise GraphError(f"constant of shape {value.shape} for a vector of {source.shape[0]}")
    if value.ndim == axes + 1 and value.shape[0] == 1:
        return value.reshape(value.shape[1:])
    if value.ndim > axes:
        raise GraphError(f"constant of shape {value.shape} for a map {source.shape}")
    return value.reshape((1,) * (axes - value.ndim) + value.shape)


def _build_sum(reader: Reader, node: NodeProto) -> None:
    rank = reader.rank(node.input[0])
    if node.input[0] == node.input[1] or rank != reader.rank(node.input[1]):
        raise GraphError("adds tensors of different ranks, or one to itself; nearest: Mul by 2")
    add_node(reader, node, "real_add", layer_name(node), list(node.input), RealAddAttrs(),
             rank=rank)  # fmt: skip


def _build_neg(reader: Reader, node: NodeProto) -> None:
    consts = {"value": np.full((), -1, np.float32)}
    add_node(reader, node, "multiply", layer_name(node), node.input[:1], MultiplyAttrs(), consts,
             reader.rank(node.input[0]))  # fmt: skip


BUILD: Mapping[str, Callable[[Reader, NodeProto], None]] = {
    "Conv": _build_conv,
    "DeformConv": _build_deform,
    "Gemm": _build_matrix,
    "MatMul": _build_matrix,
    "BatchNormalization": _build_batchnorm,
    "Relu": _build_relu,
    "MaxPool": _build_maxpool,
    "GlobalMaxPool": _build_global_max,
    "AveragePool": _build_avgpool,
    "GlobalAveragePool": _build_global_mean,
    "ReduceMean": _build_global_mean,
    "ArgMax": _build_argmax,
    "Add": _build_binary,
    "Sub": _build_binary,
    "Mul": _build_binary,
    "Div": _build_binary,
    "Neg": _build_neg,
}
