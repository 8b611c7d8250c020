# SPDX-License-Identifier: Apache-2.0
"""Which ONNX nodes are supported: every problem of a file at once, with the nearest form."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import NodeProto

from hwflow.ingest.reader import Reader, attributes_of, layer_name

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


def problems(reader: Reader) -> list[str]:
    """One line for every unsupported node: layer, op, attribute, nearest supported form."""
    lines = []
    quantised: set[str] = set()
    made = {i.name for i in reader.model.graph.input} | set(reader.constants) | {""}
    for node in reader.model.graph.node:
        for i in node.input:
            if i not in made:
                lines.append(
                    f"{layer_name(node)}: {node.op_type}: input '{i}' is made by no node above"
                )
        made.update(node.output)
        for problem in _node_problems(reader, node, quantised):
            lines.append(f"{layer_name(node)}: {node.op_type}: {problem}")
        if node.op_type in ("Quant", "IntQuant") and node.input[0] in reader.constants:
            quantised.add(node.output[0])
    return lines


def _node_problems(reader: Reader, node: NodeProto, quantised: set[str]) -> list[str]:
    op = node.op_type
    if op in FOREIGN:
        return [f"not supported; {FOREIGN[op]}"]
    if op not in ARITY:
        return [f"not supported; supported: {', '.join(sorted(ARITY))}"]
    wanted = QUANT_DOMAINS if op in ("Quant", "IntQuant") else ("", "ai.onnx")
    if node.domain not in wanted:
        return [f"domain '{node.domain}' is unknown; nearest: domain '{wanted[0]}'"]
    least, most = ARITY[op]
    if not least <= len(node.input) <= most or not node.output:
        return [f"has {len(node.input)} inputs; {least} to {most} are supported"]
    attributes = attributes_of(node)
    lines = [
        f"{key}={attributes[key]} is not supported; nearest: {_show(allowed)}"
        for key, allowed in ATTRIBUTES.get(op, {}).items()
        if key in attributes and attributes[key] not in allowed
    ]
    check = CHECKS.get(op)
    return lines + (check(reader, node, attributes, quantised) if check else [])


def _show(allowed: tuple[Any, ...]) -> str:
    shown = [a.decode() if isinstance(a, bytes) else str(a) for a in allowed]
    return " or ".join(shown)


def _check_quant(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    lines = []
    if any(i not in reader.constants for i in node.input[1:]):
        return ["scale, zero point and bits must be constants; freeze the quantiser"]
    scale, zero, bits = (reader.constants[i] for i in node.input[1:])
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
    reader: Reader, node: NodeProto, attributes: dict[str, Any], quantised: set[str]
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


def _check_pool(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    lines = []
    for key in ("kernel_shape", "strides", "pads"):
        if len(set(attributes.get(key, [0]))) > 1:
            lines.append(f"{key}={attributes[key]} is not supported; nearest: one number for all")
    return lines


def _check_resize(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    scales = reader.constants.get(node.input[2]) if len(node.input) > 2 else None
    if scales is None or scales.shape != (4,):
        return ["needs constant scales; nearest: scales [1, 1, 2, 2]"]
    whole = scales[2] == scales[3] == np.rint(scales[2]) and scales[2] >= 1
    if not (scales[0] == scales[1] == 1 and whole):
        return [f"scales {scales.tolist()} are not supported; nearest: [1, 1, 2, 2]"]
    return []


def _check_constant_input(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    indices = range(1, len(node.input))
    missing = [node.input[i] for i in indices if node.input[i] not in reader.constants]
    return [f"'{name}' must be a constant" for name in missing if name]


def _check_binary(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    constant = [i in reader.constants for i in node.input]
    if sum(constant) != 1:
        return ["one input must be a constant, the other not; nearest: Concat"]
    if node.op_type == "Sub" and constant[0]:
        return ["constant minus tensor is not supported; nearest: tensor minus constant"]
    return []


CHECKS: Mapping[str, Callable[[Reader, NodeProto, dict[str, Any], set[str]], list[str]]] = {
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
ATTRIBUTES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
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
