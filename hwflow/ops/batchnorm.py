# SPDX-License-Identifier: Apache-2.0
"""batchnorm (level quant): x * factor + offset with factor = gamma / sqrt(variance + epsilon).

In float32, in the order in which onnxruntime computes it: factor = (1 / sqrt(variance + epsilon)) *
gamma, offset = beta - mean * factor.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, Op, RealType, Tensor, need, no_macs

ROLES = {"gamma", "beta", "mean", "variance"}


@dataclass(frozen=True)
class BatchnormAttrs:
    """What is added to the variance."""

    epsilon: float


def infer(tensors: tuple[Tensor, ...], attrs: BatchnormAttrs, consts: Consts) -> Tensor:
    """Same shape, real; the constants are float32 (C,)."""
    need(len(tensors) == 1, f"takes one input, not {len(tensors)}")
    need(set(consts) == ROLES, f"constants are {sorted(consts)}, not {sorted(ROLES)}")
    channels = tensors[0].shape[0]
    for role in sorted(ROLES):
        array = consts[role]
        fits = array.shape == (channels,) and array.dtype == np.float32
        need(fits, f"{role} is not (C,) float32")
        need(bool(np.isfinite(array).all()), f"{role} is not finite")
    need(bool((consts["variance"] + np.float32(attrs.epsilon) > 0).all()), "variance is below 0")
    return Tensor("", tensors[0].shape, RealType())


def factors(attrs: BatchnormAttrs, consts: Consts) -> tuple[np.ndarray, np.ndarray]:
    """Factor and offset (C,), float32."""
    inverse = np.float32(1) / np.sqrt(consts["variance"] + np.float32(attrs.epsilon))
    factor = inverse * consts["gamma"]
    return factor, consts["beta"] - consts["mean"] * factor


def golden(arrays: Arrays, attrs: BatchnormAttrs, consts: Consts) -> np.ndarray:
    """One frame."""
    x = arrays[0]
    column = (-1,) + (1,) * (x.ndim - 1)
    factor, offset = (a.reshape(column) for a in factors(attrs, consts))
    return np.asarray(x * factor + offset)


OP = Op("batchnorm", BatchnormAttrs, infer, golden, no_macs, "quant")
