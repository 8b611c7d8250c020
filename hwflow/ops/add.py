# SPDX-License-Identifier: Apache-2.0
"""add (level quant): x + value, the constant broadcast along the channels or the pixels."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, need, no_macs


@dataclass(frozen=True)
class AddAttrs:
    """None needed."""


def broadcast_shape(tensors: tuple[Tensor, ...], consts: Consts) -> tuple[int, ...]:
    """The shape of x combined with the constant `value`."""
    need(len(tensors) == 1, f"takes one input, not {len(tensors)}")
    need(set(consts) == {"value"}, "needs exactly the constant 'value'")
    value = consts["value"]
    need(value.dtype == np.float32, "value is not float32")
    need(value.ndim in (0, len(tensors[0].shape)), f"value has shape {value.shape}")
    pairs = zip(value.shape or tensors[0].shape, tensors[0].shape, strict=True)
    need(
        all(a == b or 1 in (a, b) for a, b in pairs),
        f"value {value.shape} does not broadcast with {tensors[0].shape}",
    )
    return np.broadcast_shapes(tensors[0].shape, value.shape)


def infer(tensors: tuple[Tensor, ...], attrs: AddAttrs, consts: Consts) -> Tensor:
    """The broadcast shape, real."""
    return Tensor("", broadcast_shape(tensors, consts), RealType())


def golden(arrays: Arrays, attrs: AddAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    return arrays[0] + consts["value"]


OP = Op("add", AddAttrs, infer, golden, no_macs, "quant")
