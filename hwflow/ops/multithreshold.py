# SPDX-License-Identifier: Apache-2.0
"""multithreshold (level quant): out_scale * count + out_bias, count = thresholds that x reaches."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, need, no_macs


@dataclass(frozen=True)
class MultithresholdAttrs:
    """Factor and offset of the count."""

    out_scale: float
    out_bias: float


def infer(tensors: tuple[Tensor, ...], attrs: MultithresholdAttrs, consts: Consts) -> Tensor:
    """Same shape, real; the constant `thresholds` is float32 (C, levels) or (1, levels)."""
    need(len(tensors) == 1, f"takes one input, not {len(tensors)}")
    need(set(consts) == {"thresholds"}, "needs exactly the constant 'thresholds'")
    table = consts["thresholds"]
    need(table.ndim == 2 and table.dtype == np.float32, "thresholds are not float32 (C, levels)")
    need(table.shape[0] in (1, tensors[0].shape[0]), f"thresholds {table.shape}: not one a channel")
    need(attrs.out_scale > 0, f"out_scale {attrs.out_scale} is not above 0")
    return Tensor("", tensors[0].shape, RealType())


def count(x: np.ndarray, consts: Consts) -> np.ndarray:
    """How many thresholds each value reaches, as float32."""
    table = consts["thresholds"]
    table = np.broadcast_to(table, (x.shape[0], table.shape[1]))
    rows = [
        np.searchsorted(np.sort(row), plane.ravel(), side="right").reshape(plane.shape)
        for row, plane in zip(table, x, strict=True)
    ]
    return np.stack(rows).astype(np.float32)


def golden(arrays: Arrays, attrs: MultithresholdAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    counted = count(arrays[0], consts)
    return np.asarray(np.float32(attrs.out_scale) * counted + np.float32(attrs.out_bias))


OP = Op("multithreshold", MultithresholdAttrs, infer, golden, no_macs, "quant")
