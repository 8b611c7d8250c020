# SPDX-License-Identifier: Apache-2.0
"""Which ONNX nodes are supported: every problem of a file at once, with the nearest form."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import onnx
from onnx import NodeProto

from hwflow.ingest import check_layers, check_quantisers
from hwflow.ingest.advice import FLAVOURS, FOREIGN, INTEGER_OPS
from hwflow.ingest.reader import (
    MALFORMED,
    Reader,
    annotated,
    attributes_of,
    layer_name,
    malformed,
)

QUANT_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
OPSETS = range(7, 27)  # that onnxruntime runs, whose numbers are compared with
QUANTISERS = ("Quant", "IntQuant", "BipolarQuant")
CUSTOM = (*QUANTISERS, "Trunc", "MultiThreshold")


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


Check = Callable[[Reader, NodeProto, dict[str, Any], set[str]], list[str]]
CHECKS: Mapping[str, Check] = {
    "Quant": check_quantisers.quant,
    "IntQuant": check_quantisers.quant,
    "BipolarQuant": check_quantisers.bipolar,
    "Trunc": check_quantisers.trunc,
    "MultiThreshold": check_quantisers.thresholds,
    "QuantizeLinear": check_quantisers.quantize_linear,
    "DequantizeLinear": check_quantisers.dequantize_linear,
    "Conv": check_layers.conv,
    "DeformConv": check_layers.deform,
    "Gemm": check_layers.matrix,
    "MatMul": check_layers.matrix,
    "BatchNormalization": check_layers.batchnorm,
    "MaxPool": check_layers.window,
    "AveragePool": check_layers.window,
    "ReduceMean": check_layers.constant_input,
    "ReduceSum": check_layers.constant_input,
    "Resize": check_layers.resize,
    "Reshape": check_layers.constant_input,
    "Squeeze": check_layers.constant_input,
    "Unsqueeze": check_layers.constant_input,
    "Split": check_layers.constant_input,
    "Slice": check_layers.constant_input,
    "Gather": check_layers.constant_input,
    "Clip": check_layers.clip,
    "Add": check_layers.binary,
    "Sub": check_layers.binary,
    "Mul": check_layers.binary,
    "Div": check_layers.binary,
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
