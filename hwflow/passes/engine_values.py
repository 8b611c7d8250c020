# SPDX-License-Identifier: Apache-2.0
"""Values of a network as words of the engine, and sums of such words.

A word holds one value of 16 images (engine_form.py). Where a value stands is a matter of numbers
alone: whatever only moves values moves these numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwflow.errors import GraphError
from hwflow.ir import Graph, Node
from hwflow.ops import OPS
from hwflow.ops.conv2d import windows
from hwflow.ops.types import Consts

NONE = -1  # no word: reads zero
LEAST = -(1 << 40)  # below every value
LEAST_RUN = 4  # columns of a phase


class FaultError(GraphError):
    """One node has no form on the engine."""


@dataclass(frozen=True)
class Values:
    """A tensor of any shape: each value is offset + the sum over k of factor[k] * word[at[k]].

    at: numbers of words, int64 (K, *shape), NONE for fewer; factor: int64 (K, *shape), 0 there;
    low, high: limits of each value.
    """

    at: np.ndarray
    factor: np.ndarray
    offset: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.offset.shape)

    def of(self, words: np.ndarray) -> np.ndarray:
        """The values (N, *shape) that words (words, N) stand for."""
        held = np.concatenate([words, np.zeros((1, words.shape[1]), words.dtype)])
        total = (held[self.at] * self.factor[..., None]).sum(axis=0) + self.offset[..., None]
        return np.asarray(np.moveaxis(total, -1, 0))


def moved(inputs: Sequence[Values], node: Node, consts: Consts) -> Values:
    """What an op that only moves values makes of them."""

    def move(*arrays: np.ndarray) -> np.ndarray:
        return np.asarray(OPS[node.op].golden(arrays, node.attrs, consts))

    terms = max(len(v.at) for v in inputs)
    spare = [np.full((terms, *v.shape), NONE, np.int64) for v in inputs]
    zeros = [np.zeros((terms, *v.shape), np.int64) for v in inputs]
    for v, at, factor in zip(inputs, spare, zeros, strict=True):
        at[: len(v.at)], factor[: len(v.at)] = v.at, v.factor
    offset = move(*(v.offset for v in inputs))
    empty = np.zeros((0, *offset.shape), np.int64)
    return Values(
        np.stack([move(*(a[k] for a in spare)) for k in range(terms)]) if terms else empty,
        np.stack([move(*(a[k] for a in zeros)) for k in range(terms)]) if terms else empty,
        offset, move(*(v.low for v in inputs)), move(*(v.high for v in inputs)),
    )  # fmt: skip


def together(parts: Sequence[Values]) -> Values:
    """Maps of one word a value, one behind the other along the channels."""
    arrays = [(v.at, v.factor, v.offset, v.low, v.high) for v in parts]
    at, factor = (np.concatenate([a[n] for a in arrays], axis=1) for n in (0, 1))
    offset, low, high = (np.concatenate([a[n] for a in arrays]) for n in (2, 3, 4))
    return Values(at, factor, offset, low, high)


@dataclass(frozen=True)
class Window:
    """A convolution's or a pool's window, whatever op says it; weight is (OC, IC / groups, kh, kw),
    empty for a pool."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    pad_value: int
    weight: np.ndarray

    @staticmethod
    def of(graph: Graph, node: Node) -> "Window":
        a = node.attrs
        weight = np.zeros((0, 0, 0, 0), np.int64)
        if "weight" in node.consts:
            weight = graph.const(node, "weight").astype(np.int64)
        if node.op in ("conv2d", "maxpool2d"):
            groups, value = getattr(a, "groups", 1), getattr(a, "pad_value", 0)
            return Window(a.kernel, a.stride, a.pads, a.dilation, groups, value, weight)
        if node.op == "pw":
            return Window((1, 1), (1, 1), (0,) * 4, (1, 1), 1, 0, weight[:, :, None, None])
        groups = 1
        if node.op == "dw":
            groups, weight = len(weight), weight[:, None]
        side, step = (a.kernel,) * 2, (a.stride,) * 2
        return Window(side, step, (a.pad,) * 4, (1, 1), groups, 0, weight)

    def over(self, x: np.ndarray, fill: int) -> np.ndarray:
        """x (C, H, W) as taps (C, kh * kw, H', W')."""
        taps = windows(x, self.kernel, self.stride, self.pads, self.dilation, fill)
        kh, kw, *rest = taps.shape
        return np.asarray(taps.transpose(2, 0, 1, 3, 4).reshape(rest[0], kh * kw, *rest[1:]))


@dataclass(frozen=True)
class Sums:
    """acc[o, p] = offset[o, p] + the sum over t of weight[o, t] * factor[t, p] * word[at[t, p]].

    p counts the places of the output, (height, width) row-major; low, high: limits, (outputs,).
    """

    at: np.ndarray  # (T, P)
    factor: np.ndarray  # (T, P)
    weight: np.ndarray  # (outputs, T)
    offset: np.ndarray  # (outputs, P)
    low: np.ndarray
    high: np.ndarray
    sides: tuple[int, int]

    def less(self, words: np.ndarray, base: np.ndarray, unit: np.ndarray) -> "Sums":
        """Without unit * (word + base) of one word for each output: words (outputs, P)."""
        count = len(self.weight)
        return replace(
            self,
            at=np.concatenate([self.at, words]),
            factor=np.concatenate([self.factor, np.ones_like(words)]),
            weight=np.hstack([self.weight, -np.diag(unit)]),
            offset=self.offset - (unit * base)[:, None],
            low=np.full(count, LEAST), high=np.full(count, -LEAST),
        )  # fmt: skip


def whole(values: Values) -> tuple[int, int]:
    """Height and width of what values stand in."""
    shape = values.shape
    return (shape[1], shape[2]) if len(shape) == 3 else (1, math.prod(shape[1:]))


def summed(parts: Sequence[tuple[Values, Window]], sides: tuple[int, int]) -> Sums:
    """The sum of convolutions of the same outputs."""
    ats, factors, weights = [], [], []
    places = sides[0] * sides[1]
    outputs = len(parts[0][1].weight)
    offset = np.zeros((outputs, places))
    low, high = np.zeros(outputs), np.zeros(outputs)
    for values, window in parts:
        pad = window.pad_value
        dense = _dense(window, values.shape[0])
        for k in range(len(values.at)):
            ats.append(window.over(values.at[k], NONE).reshape(-1, places))
            factors.append(window.over(values.factor[k], 0).reshape(-1, places))
            weights.append(dense)
        exact = dense.astype(np.float64)  # integers below 2**53
        up, down = np.maximum(exact, 0), np.minimum(exact, 0)
        flat = [window.over(a, pad).reshape(-1, places).astype(np.float64)
                for a in (values.offset, values.low, values.high)]  # fmt: skip
        one = 1 if (flat[0] == flat[0][:, :1]).all() else places  # alike in all places
        offset += exact @ flat[0][:, :one]
        least, most = flat[1].min(axis=1), flat[2].max(axis=1)
        low += up @ least + down @ most
        high += up @ most + down @ least
    if ats:
        at, factor, weight = np.concatenate(ats), np.concatenate(factors), np.hstack(weights)
    else:
        at = factor = np.zeros((0, places), np.int64)
        weight = np.zeros((outputs, 0), np.int64)
    return Sums(
        at, factor, weight, offset.astype(np.int64), low.astype(np.int64), high.astype(np.int64),
        sides,
    )  # fmt: skip


def each(values: Values, coef: int = 1) -> tuple[Values, Window]:
    """Every channel by itself, times a number."""
    channels = values.shape[0]
    weight = np.full((channels, 1, 1, 1), coef, np.int64)
    return values, Window((1, 1), (1, 1), (0,) * 4, (1, 1), channels, 0, weight)


def _dense(window: Window, channels: int) -> np.ndarray:
    """Weights over all channels and taps, those of other groups 0: (outputs, channels * taps)."""
    outputs, inputs = window.weight.shape[:2]
    taps = window.kernel[0] * window.kernel[1]
    dense = np.zeros((outputs, channels * taps), np.int64)
    for group in range(window.groups):
        rows = slice(group * (outputs // window.groups), (group + 1) * (outputs // window.groups))
        first = group * inputs * taps
        dense[rows, first : first + inputs * taps] = window.weight[rows].reshape(-1, inputs * taps)
    return dense


def phases(graph: Graph, strides: dict[str, int]) -> dict[str, int]:
    """For each tensor in how many phases its columns are best kept: those that a stride leaves out
    lie apart, so that what it takes lies side by side.

    strides: horizontal stride of each node that reads places in order, by the node's name.
    """
    found = dict.fromkeys(graph.tensors, 1)
    for node in reversed(graph.nodes):
        step = strides.get(node.name)
        if step is None or len(graph.tensors[node.output].shape) != 3:
            continue
        wanted = step * found[node.output]
        for name in node.inputs:
            if len(graph.tensors[name].shape) == 3:
                width = graph.tensors[name].shape[2]
                found[name] = _useful(math.lcm(found[name], wanted), width)
    return found


def _useful(count: int, width: int) -> int:
    while count > 1 and width // count < LEAST_RUN:
        count //= next(n for n in range(2, count + 1) if count % n == 0)
    return count


def order(sides: tuple[int, int], count: int) -> np.ndarray:
    """The places of a map in the order in which they lie in memory: rows, in `count` phases."""
    columns = np.concatenate([np.arange(n, sides[1], count) for n in range(min(count, sides[1]))])
    return np.asarray((np.arange(sides[0])[:, None] * sides[1] + columns).ravel())
