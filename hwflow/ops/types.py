# SPDX-License-Identifier: Apache-2.0
"""The words an op is described with: number types, tensors, and the record of an op."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwflow.errors import GraphError

MOST_VALUES = 1 << 31
Consts = Mapping[str, np.ndarray]
Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True, order=True)
class IntType:
    """A two's complement integer of `bits` bits; prints and parses as "u8", "i8", "u3", "i24"."""

    bits: int
    signed: bool

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 63:
            raise GraphError(f"integer type of {self.bits} bits: give 1 to 63 bits")

    @property
    def lo(self) -> int:
        """The least value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        """The greatest value."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @staticmethod
    def parse(text: str) -> "IntType":
        """The type named by `text`; GraphError when it is not of the form u8 or i8."""
        match = re.fullmatch(r"([ui])([0-9]{1,2})", text)
        if match is None:
            raise GraphError(
                f"integer type '{text}': write u or i and the number of bits, as in u8"
            )
        return IntType(int(match[2]), match[1] == "i")

    def __str__(self) -> str:
        return f"{'i' if self.signed else 'u'}{self.bits}"


@dataclass(frozen=True)
class RealType:
    """A float32 tensor; legal at level quant only, where it carries scaled integers."""

    def __str__(self) -> str:
        return "f32"


DType = IntType | RealType


@dataclass(frozen=True)
class Tensor:
    """A named value of one frame, no batch axis; feature maps are (channels, height, width)."""

    name: str
    shape: tuple[int, ...]
    dtype: DType

    def __post_init__(self) -> None:
        if min(self.shape, default=1) < 1 or math.prod(self.shape) > MOST_VALUES:
            raise GraphError(
                f"shape {self.shape}: every side must be above 0, and {MOST_VALUES:,} values are "
                "the most a tensor may have"
            )


@dataclass(frozen=True)
class Op:
    """All that is known of an op.

    infer(input tensors, attrs, consts) gives the output tensor (its name left empty) or raises
    GraphError; golden(input arrays, attrs, consts) is the meaning, on the arrays of one frame;
    macs(input tensors, output tensor, attrs) counts multiply-accumulates.
    """

    name: str
    attrs: type
    infer: Callable[[tuple[Tensor, ...], Any, Consts], Tensor]
    golden: Callable[[Arrays, Any, Consts], np.ndarray]
    macs: Callable[[tuple[Tensor, ...], Tensor, Any], int]
    level: str = "any"


def no_macs(inputs: tuple[Tensor, ...], output: Tensor, attrs: object) -> int:
    """The cost of an op that multiplies nothing."""
    return 0


def need(condition: bool, rule: str) -> None:
    """GraphError saying `rule` unless `condition`; the graph adds the node's name."""
    if not condition:
        raise GraphError(rule)


def one_map(tensors: tuple[Tensor, ...]) -> Tensor:
    """The only input, proven to be a feature map."""
    need(len(tensors) == 1, f"takes one input, not {len(tensors)}")
    need(len(tensors[0].shape) == 3, f"input shape {tensors[0].shape} is not (C, H, W)")
    return tensors[0]


def int_type(tensor: Tensor) -> IntType:
    """The integer type of a tensor; GraphError when it still carries reals."""
    if not isinstance(tensor.dtype, IntType):
        raise GraphError(f"input '{tensor.name}' is {tensor.dtype}; an integer tensor is needed")
    return tensor.dtype
