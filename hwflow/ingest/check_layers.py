# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a layer of a file: its weights, windows, constants or limits."""

from typing import Any

import numpy as np
from onnx import NodeProto

from hwflow.ingest.advice import EXPORT
from hwflow.ingest.layers import is_patches
from hwflow.ingest.reader import Reader


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


def conv(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], quantised: set[str]
) -> list[str]:
    """A convolution: its weights and its window; patches need no quantiser."""
    swept = window(reader, node, attributes, quantised)
    if is_patches(reader, node):
        return swept
    bias = node.input[2] if len(node.input) > 2 else ""
    return _weight_problems(reader, node.input[1], bias, quantised, False) + swept


def deform(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], quantised: set[str]
) -> list[str]:
    """A deformable convolution: 3 x 3, padded by one, without a mask."""
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


def window(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    """A window: two dimensions, and sizes that are sizes."""
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


def matrix(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], quantised: set[str]
) -> list[str]:
    """A dense layer: its weights."""
    bias = node.input[2] if len(node.input) > 2 else ""
    return _weight_problems(reader, node.input[1], bias, quantised, False)


def batchnorm(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    """A batch norm whose statistics are fixed."""
    if any(i not in reader.constants for i in node.input[1:]):
        return ["scale, bias, mean and variance must be constants; export in eval mode"]
    return []


def resize(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    """An enlargement by constants, of the map alone."""
    scales = reader.constants.get(node.input[2]) if len(node.input) > 2 else None
    sizes = reader.constants.get(node.input[3]) if len(node.input) > 3 else None
    if scales is not None and scales.shape == (4,):
        if not np.isfinite(scales).all() or not (scales[:2] == 1).all() or min(scales) <= 0:
            return [f"scales {scales.tolist()} are not supported; nearest: [1, 1, 2, 2]"]
        return []
    if sizes is not None and sizes.shape == (4,) and min(sizes) >= 1:
        return []
    return ["needs constant scales or sizes; nearest: scales [1, 1, 2, 2]"]


def constant_input(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], _: set[str]
) -> list[str]:
    """An op whose inputs behind the first are constants."""
    indices = range(1, len(node.input))
    missing = [node.input[i] for i in indices if node.input[i] not in reader.constants]
    return [f"'{name}' must be a constant" for name in missing if name]


def binary(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], quantised: set[str]
) -> list[str]:
    """Arithmetic of a tensor with a constant, or an addition of two."""
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


def clip(
    reader: Reader, node: NodeProto, attributes: dict[str, Any], quantised: set[str]
) -> list[str]:
    """Limits that are one number each."""
    lines = constant_input(reader, node, attributes, quantised)
    limits = [reader.constants[i] for i in node.input[1:] if i in reader.constants]
    return lines + (["its limits are not one number each"] if any(v.size != 1 for v in limits)
                    else [])  # fmt: skip
