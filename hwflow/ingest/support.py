# SPDX-License-Identifier: Apache-2.0
"""Which ONNX nodes are supported: every problem of a file at once, with the nearest form."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto

from hwflow.ingest.layers import is_patches
from hwflow.ingest.reader import (
    MALFORMED,
    Reader,
    annotated,
    attributes_of,
    layer_name,
    malformed,
)
from hwflow.ops.quant import ROUNDINGS

QUANT_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
OPSETS = range(7, 27)  # that onnxruntime runs, whose numbers are compared with
LARGEST_SCALE = 2.0**64  # integers of it stay far below what float32 holds
QUANTISERS = ("Quant", "IntQuant", "BipolarQuant")
CUSTOM = (*QUANTISERS, "Trunc", "MultiThreshold")
EXPORT = "export with hwflow.export.export_qonnx or brevitas.export.export_qonnx"
INTEGER_OPS = (
    "QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm", "ConvInteger", "MatMulInteger",
    "QLinearGlobalAveragePool", "DynamicQuantizeLinear",
)  # fmt: skip
# What a file consists of when quantisers were forgotten, or something else went in.
FLAVOURS = {
    "finn": (
        "this is a FINN dataflow file: its layers are FPGA kernels already; give the QONNX file "
        "it was made from (brevitas.export.export_qonnx(model, args=x, export_path=...))"
    ),
    "operators": (
        "this is the quantised-operator form; write it as QCDQ: "
        "brevitas.export.export_onnx_qcdq(model, args=x, export_path=...), or "
        "onnxruntime.quantization.quantize_static(..., quant_format=QuantFormat.QDQ)"
    ),
    "float": (
        "this is a float file without quantisers: train it with Brevitas layers (QuantConv2d, "
        "QuantReLU ...) and export it with brevitas.export.export_qonnx(model, args=x, "
        "export_path=...)"
    ),
}
FOREIGN = {
    **dict.fromkeys(INTEGER_OPS, f"this is the quantised-operator form; {EXPORT}"),
    "FloatQuant": "nearest: Quant (integers)",
    "ConvTranspose": "nearest: Resize (nearest, x2) and Conv",
    "LeakyRelu": "nearest: Relu",
    "PRelu": "nearest: Relu",
    "Elu": "nearest: Relu",
    "HardSigmoid": "nearest: Clip, with Mul and Add",
    "HardSwish": "nearest: Relu",
    "Sigmoid": "nearest: leave a last one out (the order stays); inside, Clip",
    "Tanh": "nearest: Clip from -1 to 1",
    "Softmax": "nearest: leave it out, ArgMax of its input is the same",
    "LogSoftmax": "nearest: leave it out, ArgMax of its input is the same",
    "TopK": "nearest: ArgMax",
    "Pad": "nearest: the pads of Conv, MaxPool or AveragePool",
    "LSTM": "nearest: Conv",
    "GRU": "nearest: Conv",
    "LayerNormalization": "nearest: BatchNormalization",
    "InstanceNormalization": "nearest: BatchNormalization",
    "Upsample": "nearest: Resize",
}


def flavour(reader: Reader) -> str | None:
    """What a file is when it cannot be a quantised network; one sentence with the way out."""
    nodes = reader.model.graph.node
    if any("fpgadataflow" in n.domain for n in nodes):
        return FLAVOURS["finn"]
    kinds = {n.op_type for n in nodes}
    if kinds & set(INTEGER_OPS):
        return FLAVOURS["operators"]
    if not kinds & {*CUSTOM, "QuantizeLinear", "DequantizeLinear"}:
        return FLAVOURS["float"]
    return None


def problems(reader: Reader) -> list[str]:
    """One line for every unsupported node: layer, op, attribute, nearest supported form."""
    lines = _file_problems(reader.model)
    quantised = {
        name for name, text in reader.annotations.items()
        if name in reader.constants and annotated(text) is not None
    }  # fmt: skip
    made = {i.name for i in reader.model.graph.input} | set(reader.constants) | {""}
    for node in reader.nodes:
        for i in node.input:
            if i not in made:
                lines.append(
                    f"{layer_name(node)}: {node.op_type}: input '{i}' is made by no node above"
                )
        if node.op_type != "Constant":  # which is among the constants already
            twice = [o for o in node.output if o and o in made]
            lines += [f"{layer_name(node)}: {node.op_type}: its output '{o}' is there already; "
                      "nearest: another name" for o in twice]  # fmt: skip
        made.update(node.output)
        if reader.inside.intersection(node.output):
            continue
        try:
            found = _node_problems(reader, node, quantised)
        except MALFORMED as error:
            lines.append(malformed(node, error))
            continue
        lines += [f"{layer_name(node)}: {node.op_type}: {problem}" for problem in found]
        if node.input and node.output and _makes_parameter(reader, node, quantised):
            quantised.add(node.output[0])
    return lines


def _file_problems(model: onnx.ModelProto) -> list[str]:
    """What is wrong with the file rather than with one of its nodes."""
    lines = []
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version not in OPSETS:
            lines.append(
                f"opset {opset.version} is not supported; nearest: {OPSETS.start} to "
                f"{OPSETS.stop - 1} (onnx.version_converter.convert_version, or opset_version=13 "
                "of the export)"
            )
    names = Counter(tensor.name for tensor in model.graph.initializer)
    lines += [f"constant '{name}' is there {times} times; nearest: another name"
              for name, times in names.items() if times > 1]  # fmt: skip
    for info in model.graph.input:
        kind = info.type.tensor_type.elem_type
        if info.name in names:
            continue
        if not info.name:
            lines.append("an input has no name; nearest: any name")
        if kind not in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.FLOAT):
            known = onnx.TensorProto.DataType.DESCRIPTOR.values_by_number.get(kind)
            what = known.name if known else f"of type {kind}"
            lines.append(f"input '{info.name}' is {what}; nearest: FLOAT")
    return lines


def _makes_parameter(reader: Reader, node: NodeProto, quantised: set[str]) -> bool:
    """A constant behind a quantiser, or one in another layout."""
    if node.op_type in (*QUANTISERS, "DequantizeLinear"):
        return node.input[0] in reader.constants
    return node.op_type in ("Transpose", "Reshape", "Identity") and node.input[0] in quantised


def _node_problems(reader: Reader, node: NodeProto, quantised: set[str]) -> list[str]:
    op = node.op_type
    if op in FOREIGN:
        return [f"not supported; {FOREIGN[op]}"]
    if op not in ARITY:
        return [f"not supported; supported: {', '.join(sorted(ARITY))}"]
    wanted = QUANT_DOMAINS if op in CUSTOM else ("", "ai.onnx")
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


def _check_quant(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
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


def _check_bipolar(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    if node.input[1] not in reader.constants:
        return ["the scale must be a constant; freeze the quantiser"]
    scale = reader.constants[node.input[1]]
    return _real_problems(reader, node) + _scale_problems(scale, node.input[0] in reader.constants)


def _check_trunc(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
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


def _check_thresholds(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
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


def _check_quantize_linear(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
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


def _check_dequantize_linear(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    if any(i not in reader.constants for i in node.input[1:] if i):
        return ["scale and zero point must be constants; freeze the quantiser"]
    weight = reader.constants.get(node.input[0])
    lines = _scale_problems(reader.constants[node.input[1]], weight is not None)
    if weight is not None and weight.dtype.kind not in "iu":
        lines.append("its constant is not of integers")
    return lines


def _weight_problems(
    reader: Reader, weight: str, bias: str, quantised: set[str], deform: bool
) -> list[str]:
    lines = []
    if weight not in quantised:
        lines.append(f"weight '{weight}' has no quantiser; {EXPORT}")
    if bias and bias not in quantised and (deform or bias not in reader.constants):
        lines.append(
            f"bias '{bias}' is not a constant, or a float one where a quantiser is needed; give "
            "the layer bias_quant=Int32Bias (scale = input scale * weight scale)"
        )
    return lines


def _check_conv(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], quantised: set[str]
) -> list[str]:
    window = _check_window(reader, node, attributes, quantised)
    if is_patches(reader, node):
        return window
    bias = node.input[2] if len(node.input) > 2 else ""
    return _weight_problems(reader, node.input[1], bias, quantised, False) + window


def _check_deform(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], quantised: set[str]
) -> list[str]:
    bias = node.input[3] if len(node.input) > 3 else ""
    lines = _weight_problems(reader, node.input[1], bias, quantised, True)
    if attributes.get("kernel_shape") != [3, 3]:
        lines.append(
            f"kernel_shape={attributes.get('kernel_shape')} is not supported; nearest: [3, 3]"
        )
    if attributes.get("pads") != [1, 1, 1, 1]:
        lines.append(f"pads={attributes.get('pads')} is not supported; nearest: [1, 1, 1, 1]")
    if len(node.input) > 4 and node.input[4]:
        lines.append("mask is not supported; nearest: no mask")
    return lines


def _check_window(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    lines = []
    for key, count, least in (
        ("kernel_shape", 2, 1), ("strides", 2, 1), ("dilations", 2, 1), ("pads", 4, 0),
    ):  # fmt: skip
        found = attributes.get(key)
        if found is not None and (
            not isinstance(found, list) or len(found) != count or min(found) < least
        ):
            rule = "two dimensions" if not isinstance(found, list) or len(found) != count else (
                f"{count} numbers of {least} or more"
            )
            lines.append(f"{key}={found} is not supported; nearest: {rule}")
    average = node.op_type == "AveragePool"
    if average and any(attributes.get("pads", [0])) and not attributes.get("count_include_pad", 0):
        lines.append(
            "count_include_pad=0 with pads is not supported; nearest: count_include_pad=1"
        )
    return lines


def _check_matrix(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], quantised: set[str]
) -> list[str]:
    bias = node.input[2] if len(node.input) > 2 else ""
    return _weight_problems(reader, node.input[1], bias, quantised, False)


def _check_batchnorm(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    if any(i not in reader.constants for i in node.input[1:]):
        return ["scale, bias, mean and variance must be constants; export in eval mode"]
    return []


def _check_resize(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    scales = reader.constants.get(node.input[2]) if len(node.input) > 2 else None
    sizes = reader.constants.get(node.input[3]) if len(node.input) > 3 else None
    if scales is not None and scales.shape == (4,):
        if not np.isfinite(scales).all() or not (scales[:2] == 1).all() or min(scales) <= 0:
            return [f"scales {scales.tolist()} are not supported; nearest: [1, 1, 2, 2]"]
        return []
    if sizes is not None and sizes.shape == (4,) and min(sizes) >= 1:
        return []
    return ["needs constant scales or sizes; nearest: scales [1, 1, 2, 2]"]


def _check_constant_input(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    indices = range(1, len(node.input))
    missing = [node.input[i] for i in indices if node.input[i] not in reader.constants]
    return [f"'{name}' must be a constant" for name in missing if name]


def _check_binary(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], quantised: set[str]
) -> list[str]:
    constant = [i in reader.constants or i in quantised for i in node.input]
    if all(constant):
        return ["both inputs are constants"]
    if not any(constant) and node.op_type != "Add":
        return ["one input must be a constant, the other not; nearest: Add"]
    if node.op_type == "Div" and constant[0]:
        return ["constant divided by tensor is not supported; nearest: tensor times constant"]
    values = [reader.constants[i] for i in node.input if i in reader.constants]
    if any(v.dtype.kind not in "fiu" or not np.isfinite(v).all() for v in values):
        return ["its constant is not finite"]
    if node.op_type == "Div" and any((v == 0).any() for v in values):
        return ["divides by 0"]
    return []


def _check_clip(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], quantised: set[str]
) -> list[str]:
    lines = _check_constant_input(reader, node, attributes, quantised)
    limits = [reader.constants[i] for i in node.input[1:] if i in reader.constants]
    return lines + (["its limits are not one number each"] if any(v.size != 1 for v in limits)
                    else [])  # fmt: skip


Check = Callable[[Reader, NodeProto, dict[str, Any], set[str]], list[str]]
CHECKS: Mapping[str, Check] = {
    "Quant": _check_quant,
    "IntQuant": _check_quant,
    "BipolarQuant": _check_bipolar,
    "Trunc": _check_trunc,
    "MultiThreshold": _check_thresholds,
    "QuantizeLinear": _check_quantize_linear,
    "DequantizeLinear": _check_dequantize_linear,
    "Conv": _check_conv,
    "DeformConv": _check_deform,
    "Gemm": _check_matrix,
    "MatMul": _check_matrix,
    "BatchNormalization": _check_batchnorm,
    "MaxPool": _check_window,
    "AveragePool": _check_window,
    "ReduceMean": _check_constant_input,
    "ReduceSum": _check_constant_input,
    "Resize": _check_resize,
    "Reshape": _check_constant_input,
    "Squeeze": _check_constant_input,
    "Unsqueeze": _check_constant_input,
    "Split": _check_constant_input,
    "Slice": _check_constant_input,
    "Gather": _check_constant_input,
    "Clip": _check_clip,
    "Add": _check_binary,
    "Sub": _check_binary,
    "Mul": _check_binary,
    "Div": _check_binary,
}
FLAG = (0, 1)
AUTO_PAD = (b"NOTSET", b"VALID", b"SAME_UPPER", b"SAME_LOWER")
ATTRIBUTES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "Conv": {"auto_pad": AUTO_PAD},
    "DeformConv": {"dilations": ([1, 1],), "strides": ([1, 1],), "offset_group": (1,)},
    "Gemm": {"transA": (0,), "transB": FLAG, "beta": (1.0,)},
    "ReduceMean": {"keepdims": FLAG},
    "ReduceSum": {"keepdims": FLAG, "noop_with_empty_axes": FLAG},
    "ArgMax": {"keepdims": FLAG, "select_last_index": FLAG},
    "BatchNormalization": {"training_mode": (0,), "spatial": (1,)},
    "MaxPool": {"auto_pad": AUTO_PAD, "storage_order": (0,), "ceil_mode": FLAG},
    "AveragePool": {
        "auto_pad": AUTO_PAD, "dilations": ([1, 1],), "ceil_mode": (0,), "count_include_pad": FLAG,
    },
    "Quant": {"signed": FLAG, "narrow": FLAG},
    "IntQuant": {"signed": FLAG, "narrow": FLAG},
    "Trunc": {"signed": FLAG, "narrow": FLAG},
    "Reshape": {"allowzero": FLAG},
    "Resize": {
        "mode": (b"nearest",),
        "coordinate_transformation_mode": (
            b"asymmetric", b"half_pixel", b"pytorch_half_pixel", b"align_corners",
        ),
        "nearest_mode": (b"floor", b"ceil", b"round_prefer_floor", b"round_prefer_ceil"),
        "antialias": (0,),
    },
    "DepthToSpace": {"mode": (b"DCR", b"CRD")},
    "MultiThreshold": {"data_layout": (b"", b"NCHW", b"NC")},
}  # fmt: skip
ARITY: Mapping[str, tuple[int, int]] = {
    "Quant": (4, 4),
    "IntQuant": (4, 4),
    "BipolarQuant": (2, 2),
    "Trunc": (5, 6),
    "MultiThreshold": (2, 2),
    "QuantizeLinear": (2, 3),
    "DequantizeLinear": (2, 3),
    "Conv": (2, 3),
    "DeformConv": (3, 5),
    "Gemm": (2, 3),
    "MatMul": (2, 2),
    "BatchNormalization": (5, 5),
    "Relu": (1, 1),
    "Clip": (1, 3),
    "MaxPool": (1, 1),
    "AveragePool": (1, 1),
    "GlobalAveragePool": (1, 1),
    "GlobalMaxPool": (1, 1),
    "ReduceMean": (1, 2),
    "ReduceSum": (1, 2),
    "Resize": (3, 4),
    "DepthToSpace": (1, 1),
    "SpaceToDepth": (1, 1),
    "Concat": (1, 1000),
    "Split": (1, 2),
    "Slice": (4, 5),
    "Gather": (2, 2),
    "Reshape": (2, 2),
    "Flatten": (1, 1),
    "Squeeze": (1, 2),
    "Unsqueeze": (1, 2),
    "Transpose": (1, 1),
    "ArgMax": (1, 1),
    "Add": (2, 2),
    "Sub": (2, 2),
    "Mul": (2, 2),
    "Div": (2, 2),
    "Neg": (1, 1),
    "Identity": (1, 1),
    "Dropout": (1, 3),
    "Constant": (0, 0),
}
