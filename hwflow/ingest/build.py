# SPDX-License-Identifier: Apache-2.0
"""Each supported ONNX node as nodes of the graph; constants behind quantisers as scaled integers.

The nodes that compute are in layers.py, those that only move values in layout.py.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from onnx import NodeProto

from hwflow.errors import GraphError
from hwflow.ingest import layers, layout, tables
from hwflow.ingest.advice import EXPORT
from hwflow.ingest.reader import (
    MALFORMED,
    PIXEL_SCALE,
    Code,
    Parameter,
    Reader,
    annotated,
    attributes_of,
    layer_name,
    malformed,
)
from hwflow.ingest.stretches import Stretch
from hwflow.ingest.tables import limits_of, quant_attrs
from hwflow.ir import Graph, IntType, RealType
from hwflow.ops.arith import signed_bits
from hwflow.ops.bipolar import BipolarAttrs
from hwflow.ops.bipolar import units as bipolar_units
from hwflow.ops.multithreshold import MultithresholdAttrs
from hwflow.ops.quant import QuantAttrs, rounded
from hwflow.ops.trunc import TruncAttrs

BIPOLAR = IntType(2, True)
# What may lie between a picture and its first quantiser.
BEFORE_QUANTISER = (
    "Add", "Sub", "Mul", "Div", "Neg", "Clip", "Relu", "BatchNormalization", "Identity", "Dropout",
    *layout.MOVES,
)  # fmt: skip


def _input(reader: Reader) -> None:
    """Declare the only input; its first quantiser gives its scale, or it is a picture."""
    graph = reader.model.graph
    inputs = [i for i in graph.input if i.name not in reader.constants]
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs) or "none"
        raise GraphError(f"has the inputs {names}; exactly one is supported")
    dims = inputs[0].type.tensor_type.shape.dim
    shape = [d.dim_value for d in dims]
    if len(shape) not in (2, 4) or shape[0] != 1 or min(shape) < 1:
        given = ", ".join(d.dim_param or (str(d.dim_value) if d.dim_value else "?") for d in dims)
        raise GraphError(
            f"input '{inputs[0].name}' has shape ({given}); (1, C, H, W) or (1, N) with fixed "
            "numbers is needed; export it with an input of one image, or fix the numbers "
            "(onnxruntime.tools.make_dynamic_shape_fixed)"
        )
    name = inputs[0].name
    users = reader.users.get(name, [])
    quantisers = ("Quant", "IntQuant", "QuantizeLinear")
    if users and all(u.op_type in quantisers for u in users):
        scale = float(reader.constants[users[0].input[1]].astype(np.float32).ravel()[0])
    elif users and all(
        u.op_type in (*BEFORE_QUANTISER, *quantisers, "BipolarQuant", "MultiThreshold")
        for u in users
    ):
        scale = float(np.float32(PIXEL_SCALE))
    else:
        raise GraphError(f"input '{name}' must go into one Quant (u8, scale 2**-8); {EXPORT}")
    sides = shape[1:] if len(shape) == 4 else [shape[1], 1, 1]
    tensor = reader.builder.input(name, sides, RealType())
    reader.names[name] = tensor.name
    if len(shape) == 2:
        reader.ranks[name] = 2
    reader.builder.meta[f"scale.{name}"] = scale
    zero = _zero_of(reader, users[0])
    if zero:
        reader.builder.meta[f"zero.{name}"] = zero


def _zero_of(reader: Reader, node: NodeProto) -> int:
    if node.op_type not in ("Quant", "IntQuant", "QuantizeLinear") or len(node.input) < 3:
        return 0
    return int(reader.constants[node.input[2]].ravel()[0]) if node.input[2] else 0


def _quantised(reader: Reader, node: NodeProto, op: str, attrs: object, **consts: object) -> None:
    """Append a quantiser, named after what it quantises: the convolution, not the ReLU between."""
    source = reader.source(node.input[0])
    name = reader.fresh(f"{source.name.removesuffix('.relu')}.quant")
    arrays = {role: np.asarray(value, dtype=np.float32) for role, value in consts.items()}
    tensor = reader.builder.add(name, op, [source], attrs, arrays)
    reader.define(node.output[0], tensor, reader.rank(node.input[0]))


def _build_quant(reader: Reader, node: NodeProto) -> None:
    scale, zero, _ = (reader.constants[i] for i in node.input[1:])
    attrs = quant_attrs(reader, node)
    if attrs.out == IntType(1, True):  # QONNX means -1 and 1 by one signed bit
        _build_bipolar(reader, node)
        return
    if node.input[0] in reader.constants:
        value = reader.constants[node.input[0]].astype(np.float32)
        reals: np.ndarray = np.divide(value, scale, dtype=np.float32) + zero.astype(np.float32)
        units = rounded(np.clip(reals, attrs.lo, attrs.hi), attrs.rounding).astype(np.int64)
        reader.parameters[node.output[0]] = _parameter(units, scale, zero, attrs.out)
        return
    _quantised(reader, node, "quant", attrs, scale=scale.ravel()[0])


def _parameter(units: np.ndarray, scale: np.ndarray, zero: np.ndarray, kind: IntType) -> Parameter:
    """Integers less their zero point, whose type grows by a bit where there is one."""
    column = np.asarray(scale, dtype=np.float32)
    if column.ndim == 1 and column.size > 1 and units.ndim > 1 and column.size != units.shape[-1]:
        column = column.reshape(-1, *[1] * (units.ndim - 1))
    try:
        np.broadcast_to(column.reshape(()) if column.size == 1 else column, units.shape)
    except ValueError as error:
        raise GraphError(
            f"scale of shape {scale.shape} for a constant of shape {units.shape}; "
            "one number, or one for each output channel, is supported"
        ) from error
    column = column.reshape(()) if column.size == 1 else column
    if (zero != 0).any():
        units = units - zero.astype(np.int64)
        kind = IntType(signed_bits(int(units.min(initial=0)), int(units.max(initial=0))), True)
    return Parameter(units.astype(np.int64), column, kind)


def _build_bipolar(reader: Reader, node: NodeProto) -> None:
    scale = reader.constants[node.input[1]].astype(np.float32)
    if node.input[0] in reader.constants:
        value = reader.constants[node.input[0]].astype(np.float32)
        units = bipolar_units(value, BipolarAttrs(), {}).astype(np.int64)
        zero = np.zeros((), np.int64)
        reader.parameters[node.output[0]] = _parameter(units, scale, zero, BIPOLAR)
        return
    if scale.size != 1:
        raise GraphError("an activation's scale must be one number; nearest: a per-tensor one")
    _quantised(reader, node, "bipolar", BipolarAttrs(), scale=scale.ravel()[0])


def _build_trunc(reader: Reader, node: NodeProto) -> None:
    values = [reader.constants[i].astype(np.float64).ravel()[0] for i in node.input[1:]]
    attributes = attributes_of(node)
    mode = attributes.get("rounding_mode", b"FLOOR").decode().upper()
    scale, zero, bits = np.float32(values[0]), int(values[1]), int(values[2])
    if len(values) == 4:
        attrs = TruncAttrs(bits - int(values[3]), zero, zero, mode)
        _quantised(reader, node, "trunc", attrs, scale=scale, out_scale=scale)
        return
    out_scale, kind = np.float32(values[3]), IntType(int(values[4]), bool(attributes["signed"]))
    drop = int(np.rint(np.log2(out_scale / scale)))
    if zero % (1 << max(drop, 0)):
        raise GraphError(f"zero point {zero} is no multiple of 2**{drop}; nearest: zero point 0")
    limits = limits_of(kind, bool(attributes.get("narrow", 0)))
    attrs = TruncAttrs(drop, zero, int(zero / 2.0**drop), mode, limits)
    _quantised(reader, node, "trunc", attrs, scale=scale, out_scale=out_scale)


def _build_thresholds(reader: Reader, node: NodeProto) -> None:
    a = attributes_of(node)
    attrs = MultithresholdAttrs(float(a.get("out_scale", 1)), float(a.get("out_bias", 0)))
    table = reader.constants[node.input[1]].astype(np.float32)
    _quantised(reader, node, "multithreshold", attrs, thresholds=table)


def _build_quantize_linear(reader: Reader, node: NodeProto) -> None:
    scale, zero = _scale_and_zero(reader, node)
    kind = np.iinfo(zero.dtype)
    reader.source(node.input[0])
    code = Code(node.input[0], scale, zero, int(kind.min), int(kind.max))
    reader.codes[node.output[0]] = code


def _scale_and_zero(reader: Reader, node: NodeProto) -> tuple[np.ndarray, np.ndarray]:
    scale = reader.constants[node.input[1]].astype(np.float32)
    given = len(node.input) > 2 and node.input[2]
    return scale, reader.constants[node.input[2]] if given else np.zeros((), np.uint8)


def _build_dequantize_linear(reader: Reader, node: NodeProto) -> None:
    scale, zero = _scale_and_zero(reader, node)
    if node.input[0] in reader.constants:
        units = reader.constants[node.input[0]]
        column = scale
        if scale.size > 1:
            axis = attributes_of(node).get("axis", 1)
            sides = [1] * units.ndim
            if not -units.ndim <= axis < units.ndim:
                raise GraphError(f"axis={axis} of a constant of shape {units.shape}")
            sides[axis] = scale.size
            column = scale.reshape(sides)
            zero = zero.reshape(sides) if zero.size > 1 else zero
        wide = units.astype(np.int64)
        bits = signed_bits(int(wide.min(initial=0)), int(wide.max(initial=0)))
        reader.parameters[node.output[0]] = _parameter(wide, column, zero, IntType(bits, True))
        return
    code = reader.codes.get(node.input[0])
    if code is None:
        raise GraphError("reads no QuantizeLinear; nearest: QuantizeLinear, DequantizeLinear")
    if code.scale.ravel()[0] != scale.ravel()[0] or code.zero.ravel()[0] != zero.ravel()[0]:
        raise GraphError("its scale or zero point is not that of its QuantizeLinear")
    kind = _narrowest(code.lo, code.hi)
    limits = None if (code.lo, code.hi) == (kind.lo, kind.hi) else (code.lo, code.hi)
    attrs = QuantAttrs(kind, limits, int(zero.ravel()[0]), linear=True)
    source = reader.source(code.source)
    name = reader.fresh(f"{source.name.removesuffix('.relu')}.quant")
    consts = {"scale": np.array(scale.ravel()[0], dtype=np.float32)}
    tensor = reader.builder.add(name, "quant", [source], attrs, consts)
    reader.define(node.output[0], tensor, reader.rank(code.source))


def _narrowest(lo: int, hi: int) -> IntType:
    """The narrowest type that holds lo..hi."""
    if lo >= 0:
        return IntType(max(1, hi.bit_length()), False)
    return IntType(signed_bits(lo, hi), True)


def _build_clip(reader: Reader, node: NodeProto) -> None:
    """Of integers between QuantizeLinear and DequantizeLinear, or of reals."""
    code = reader.codes.get(node.input[0])
    if code is None:
        layers.build_clip(reader, node)
        return
    limits = [reader.constants[i] if i else None for i in node.input[1:]]
    low = limits[0] if limits else None
    high = limits[1] if len(limits) > 1 else None
    lo = code.lo if low is None else max(code.lo, int(low.ravel()[0]))
    hi = code.hi if high is None else min(code.hi, int(high.ravel()[0]))
    if lo > hi:
        raise GraphError(f"limits {lo}..{hi} leave no value")
    reader.codes[node.output[0]] = Code(code.source, code.scale, code.zero, lo, hi)


def _build_identity(reader: Reader, node: NodeProto) -> None:
    if node.input[0] in reader.codes:
        reader.codes[node.output[0]] = reader.codes[node.input[0]]
        return
    reader.names[node.output[0]] = reader.source(node.input[0]).name
    if node.input[0] in reader.ranks:
        reader.ranks[node.output[0]] = reader.ranks[node.input[0]]


def _build_nothing(reader: Reader, node: NodeProto) -> None:
    """Constants were collected by the reader."""


BUILD: Mapping[str, Callable[[Reader, NodeProto], None]] = {
    **layers.BUILD,
    **layout.BUILD,
    "Quant": _build_quant,
    "IntQuant": _build_quant,
    "BipolarQuant": _build_bipolar,
    "Trunc": _build_trunc,
    "MultiThreshold": _build_thresholds,
    "QuantizeLinear": _build_quantize_linear,
    "DequantizeLinear": _build_dequantize_linear,
    "Clip": _build_clip,
    "Identity": _build_identity,
    "Dropout": _build_identity,
    "Constant": _build_nothing,
    "ReduceSum": tables.build_group_sum,
}


def _of_parameter(reader: Reader, node: NodeProto) -> bool:
    """Transpose, Reshape or Identity of a constant behind a quantiser; True when it was one."""
    parameter = reader.parameters.get(node.input[0]) if node.input else None
    if parameter is None:
        return False
    values, scale = parameter.values, parameter.scale
    if node.op_type == "Transpose":
        perm = attributes_of(node).get("perm", list(range(values.ndim))[::-1])
        if sorted(perm) != list(range(values.ndim)):
            raise GraphError(f"Transpose {perm} of a constant of shape {values.shape}")
        scale = scale if scale.ndim == 0 else scale.transpose(perm)
        values = values.transpose(perm)
    elif node.op_type == "Reshape":
        wanted = [int(n) for n in reader.constants[node.input[1]].ravel()]
        sides = [values.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
        try:
            scale = scale if scale.ndim == 0 else np.broadcast_to(scale, values.shape)
            scale = scale if scale.ndim == 0 else scale.reshape(sides)
            values = values.reshape(sides)
        except (ValueError, IndexError) as error:
            raise GraphError(f"Reshape of a constant {values.shape} to {wanted}") from error
    elif node.op_type != "Identity":
        return False
    reader.parameters[node.output[0]] = Parameter(values, scale, parameter.kind)
    return True


def _annotated_parameters(reader: Reader) -> None:
    """Integer constants that a FINN datatype names as such: their scale is 1."""
    for name, text in reader.annotations.items():
        kind, values = annotated(text), reader.constants.get(name)
        if kind is None or values is None:
            continue
        units = np.rint(values.astype(np.float64))
        if (units == values).all() and (units >= kind.lo).all() and (units <= kind.hi).all():
            one = np.ones((), np.float32)
            reader.parameters[name] = Parameter(units.astype(np.int64), one, kind)


def _reads(node: NodeProto, ends: Mapping[str, Stretch]) -> tuple[str, ...]:
    """What a node is made from: of a whole node function, the codes it reads."""
    end = ends.get(node.output[0]) if node.output else None
    return (end.source,) if end is not None else tuple(node.input)


def build_graph(reader: Reader, found: Sequence[Stretch] = ()) -> Graph:
    """The graph of a file whose nodes are all supported, with the node functions found in it;
    GraphError lists what is wrong inside."""
    ends = {s.quantiser.output[0]: s for s in found}
    _input(reader)
    _annotated_parameters(reader)
    lines: list[str] = []
    broken: set[str] = set()
    for node in reader.nodes:
        if broken.intersection(_reads(node, ends)):
            broken.update(node.output)
            continue
        try:
            if reader.inside.intersection(node.output):
                continue
            if node.output and node.output[0] in ends:
                tables.build_stretch(reader, ends[node.output[0]])
            elif not _of_parameter(reader, node):
                BUILD[node.op_type](reader, node)
        except GraphError as error:
            lines.append(f"{layer_name(node)}: {node.op_type}: {error}")
            broken.update(node.output)
        except MALFORMED as error:
            lines.append(malformed(node, error))
            broken.update(node.output)
    if lines:
        listed = "\n".join(f"  {line}" for line in lines)
        raise GraphError(f"{len(lines)} unsupported:\n{listed}")
    outputs = []
    for info in reader.model.graph.output:
        if info.name not in reader.names:
            raise GraphError(f"output '{info.name}' is made by no node")
        tensor = reader.names[info.name]
        outputs.append(tensor)
        reader.builder.meta[f"output.{info.name}"] = tensor
    return reader.builder.build(outputs)
