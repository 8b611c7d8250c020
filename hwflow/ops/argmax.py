# SPDX-License-Identifier: Apache-2.0
"""argmax: the channel of the greatest value at each pixel; the first one of equals, or the last."""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.types import Arrays, Consts, IntType, Op, RealType, Tensor, no_macs, one_map


@dataclass(frozen=True)
class ArgmaxAttrs:
    """Which of equal channels wins."""

    last: bool = False


def infer(tensors: tuple[Tensor, ...], attrs: ArgmaxAttrs, consts: Consts) -> Tensor:
    """(C, H, W) -> (1, H, W), unsigned and just wide enough; real as long as its input is."""
    x = one_map(tensors)
    kind = IntType(max(1, (x.shape[0] - 1).bit_length()), False)
    dtype = RealType() if isinstance(x.dtype, RealType) else kind
    return Tensor("", (1, *x.shape[1:]), dtype)


def golden(arrays: Arrays, attrs: ArgmaxAttrs, consts: Consts) -> np.ndarray:
    """One frame, integers or reals."""
    x = arrays[0]
    best = x.shape[0] - 1 - np.argmax(x[::-1], axis=0) if attrs.last else np.argmax(x, axis=0)
    return np.asarray(best[None], dtype=x.dtype)


OP = Op("argmax", ArgmaxAttrs, infer, golden, no_macs)
