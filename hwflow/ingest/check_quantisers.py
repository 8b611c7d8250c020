# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a quantiser of a file: its scale, zero point, bits, rounding or thresholds."""

from typing import Any

import numpy as np
from onnx import NodeProto

from hwflow.ingest.reader import Reader, layer_name
from hwflow.ops.quant import ROUNDINGS

LARGEST_SCALE = 2.0**64  # integers of it stay far below what float32 holds


def _whole(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all() and (array == np.rint(array)).all())


def _real_problems(reader: Reader, node: NodeProto) -> list[str]:
    """The parameters of QONNX ops are float32: others change how runtimes compute with them."""
    lines = [
        f"'{name}' is {reader.constants[name].dtype}; nearest: float32"
        for name in node.input[1:]
        if reader.constants[name].dtype != np.float32
    ]
    quantised = reader.constants.get(node.input[0])
    if quantised is not None and not (
        quantised.dtype.kind in "fiu" and np.isfinite(quantised).all()
    ):
        lines.append(f"its constant '{node.input[0]}' holds values that are not finite")
    return lines


def _scale_problems(scale: np.ndarray, weight: bool) -> list[str]:
    if scale.dtype.kind != "f" or not np.all(np.isfinite(scale)) or np.any(scale <= 0):
        return ["scale is not above 0 everywhere"]
    if np.any(scale > LARGEST_SCALE):
        return [f"scale {float(scale.max()):g} is too large; nearest: {LARGEST_SCALE:g}"]
    if scale.size != 1 and not weight:
        return ["an activation's scale must be one number; nearest: a per-tensor quantiser"]
    return []


def quant(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    """Quant and IntQuant: constants, one scale for an activation, 1 to 16 bits there."""
    if any(i not in reader.constants for i in node.input[1:]):
        return ["scale, zero point and bits must be constants; freeze the quantiser"]
    scale, zero, bits = (reader.constants[i] for i in node.input[1:])
    weight = node.input[0] in reader.constants
    lines = _real_problems(reader, node)
    mode = attributes.get("rounding_mode", b"ROUND")
    if not isinstance(mode, bytes) or mode.decode(errors="replace").upper() not in ROUNDINGS:
        lines.append(
            f"rounding_mode={mode!r} is not supported; nearest: {' or '.join(ROUNDINGS)}"
        )
    if not _whole(zero) or (zero.size != 1 and not weight):
        lines.append("zero point is not one integer; nearest: a symmetric quantiser (zero point 0)")
    if bits.size != 1 or not _whole(bits):
        lines.append("bits is not one integer")
    elif not 1 <= int(bits.ravel()[0]) <= 32:
        lines.append(f"{int(bits.ravel()[0])} bits; 1 to 32 are supported")
    lines += _scale_problems(scale, weight)
    if attributes.get("narrow") not in (0, 1):
        lines.append("attribute narrow must be 0 or 1")
    if not lines and not weight and int(bits.ravel()[0]) > 16:
        lines.append(f"{int(bits.ravel()[0])} bits on an activation; nearest: 16")
    return lines


def bipolar(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    """BipolarQuant: a constant scale."""
    if node.input[1] not in reader.constants:
        return ["the scale must be a constant; freeze the quantiser"]
    scale = reader.constants[node.input[1]]
    return _real_problems(reader, node) + _scale_problems(scale, node.input[0] in reader.constants)


def trunc(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    """Trunc, of four constants or five: one number each."""
    if any(i not in reader.constants for i in node.input[1:]):
        return ["scale, zero point and bits must be constants; freeze the quantiser"]
    values = [reader.constants[i] for i in node.input[1:]]
    if any(v.size != 1 for v in values):
        return ["scale, zero point and bits must be one number each"]
    scales = [values[0]] if len(values) == 4 else [values[0], values[3]]
    lines = _real_problems(reader, node)
    lines += [line for scale in scales for line in _scale_problems(scale, False)]
    rest = [values[i] for i in ((1, 2, 3) if len(values) == 4 else (1, 2, 4))]
    if not all(_whole(v) and abs(float(v.ravel()[0])) <= 32768 for v in rest):
        lines.append("zero point or bits are not whole numbers")
    mode = attributes.get("rounding_mode", b"FLOOR")
    if not isinstance(mode, bytes) or mode.decode(errors="replace").upper() not in ROUNDINGS:
        lines.append(f"rounding_mode={mode!r} is not supported; nearest: {' or '.join(ROUNDINGS)}")
    return lines


def thresholds(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    """MultiThreshold: a finite table, outputs on a grid."""
    table = reader.constants.get(node.input[1])
    if table is None or table.ndim != 2 or table.shape[1] < 1:
        return ["thresholds must be a constant of shape (channels, levels)"]
    if not np.isfinite(table).all() or table.shape[1] > 65535:
        return ["thresholds must be finite, 65535 a channel at most"]
    if lines := _real_problems(reader, node):
        return lines
    scale, bias = float(attributes.get("out_scale", 1)), float(attributes.get("out_bias", 0))
    if not np.isfinite(scale) or scale <= 0 or not np.isfinite(bias):
        return [f"out_scale={scale} is not above 0"]
    if 2 * bias / scale != np.rint(2 * bias / scale):
        return [f"out_bias={bias} is no multiple of out_scale / 2 ({scale / 2})"]
    return []


def quantize_linear(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    """QuantizeLinear, whose integers go into DequantizeLinear alone."""
    if any(i not in reader.constants for i in node.input[1:] if i):
        return ["scale and zero point must be constants; freeze the quantiser"]
    lines = _scale_problems(reader.constants[node.input[1]], False)
    zero = reader.constants[node.input[2]] if len(node.input) > 2 else np.zeros((), np.uint8)
    if zero.dtype.kind not in "iu" or zero.size != 1 or zero.dtype.itemsize > 2:
        lines.append("zero point is not one integer of 8 or 16 bits")
    names, seen = [node.output[0]], set[str]()
    while names:
        name = names.pop()
        if name in seen:  # a damaged file may lead in a circle
            continue
        seen.add(name)
        for user in reader.users.get(name, []):
            if user.op_type in ("Clip", "Identity"):
                names += user.output[:1]
            elif user.op_type != "DequantizeLinear":
                lines.append(
                    f"its integers go into {layer_name(user)} ({user.op_type}); nearest: "
                    "DequantizeLinear (the QCDQ form), as brevitas.export.export_onnx_qcdq "
                    "writes it"
                )
    return lines


def dequantize_linear(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    """DequantizeLinear: a constant scale, integers."""
    if any(i not in reader.constants for i in node.input[1:] if i):
        return ["scale and zero point must be constants; freeze the quantiser"]
    weight = reader.constants.get(node.input[0])
    lines = _scale_problems(reader.constants[node.input[1]], weight is not None)
    if weight is not None and weight.dtype.kind not in "iu":
        lines.append("its constant is not of integers")
    return lines
