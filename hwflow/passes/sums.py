# SPDX-License-Identifier: Apache-2.0
"""Sums of integers that wait for their quantiser, and the integer nodes they end as.

An accumulator becomes a real by a chain of float32 ops, and an integer by the quantiser behind.
That function never falls (channels in which it does are turned round by negative weights), so its
steps are found by bisection, and a requantiser, or else a table of thresholds, is proven equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from hwflow.errors import GraphError
from hwflow.ir import GraphBuilder, IntType, Node, Tensor
from hwflow.ops.arith import dot_range, proven_acc_bits, signed_bits
from hwflow.ops.chain import Chain, Step
from hwflow.ops.conv import ConvAttrs
from hwflow.ops.conv2d import Conv2dAttrs
from hwflow.ops.deform_dw import DeformDwAttrs
from hwflow.ops.dw import DwAttrs
from hwflow.ops.pw import PwAttrs
from hwflow.ops.residual import ResidualAttrs, proven_bits, sum_range
from hwflow.ops.threshold import ThresholdAttrs
from hwflow.passes.requantiser import (
    FLOAT32_EXACT,
    FloatQuantiser,
    NoMultiplierError,
    Requantiser,
    check_exact,
    find,
    find_steps,
    fit,
    prove,
)
from hwflow.passes.staircase import Staircase
from hwflow.passes.structure import Grid

MUL_BITS = 16  # wider multipliers give way to thresholds
MAX_LEVELS = 1 << 8
MAX_PAIRS = 1 << 20
Pair = tuple[int, int]


@dataclass(frozen=True)
class Moved:
    """An integer tensor, and the reals it stands for."""

    tensor: Tensor
    grid: Grid

    @property
    def kind(self) -> IntType:
        """The type of the integers."""
        assert isinstance(self.tensor.dtype, IntType)
        return self.tensor.dtype


@dataclass(frozen=True)
class WeightedSum:
    """A convolution of any kind: weight (OC, IC / groups, kh, kw) int8, and what it stands for."""

    sources: tuple[Moved, ...]
    weight: np.ndarray
    weight_bits: int
    unit: np.ndarray
    bias: np.ndarray
    kernel: Pair
    stride: Pair
    pads: tuple[int, int, int, int]
    dilation: Pair
    groups: int
    count: int = 1
    deform: bool = False


@dataclass(frozen=True)
class PairSum:
    """The sum of two tensors."""

    a: Moved
    b: Moved


@dataclass(frozen=True)
class Pending:
    """A sum and the elementwise ops behind it, not quantised yet."""

    total: WeightedSum | PairSum
    name: str
    shape: tuple[int, ...]
    steps: tuple[Step, ...] = ()


def of_convolution(
    sources: tuple[Moved, ...], node: Node, consts: Mapping[str, np.ndarray]
) -> WeightedSum:
    """real_conv, real_conv2d and real_deform_dw."""
    a, x = node.attrs, sources[0]
    unit = np.float32(x.grid.scale) * consts["weight_scale"]
    bias = consts["bias"].astype(np.float32) * consts["bias_scale"]
    weight = consts["weight"]
    deform = node.op == "real_deform_dw"
    if deform:
        fields: tuple[Pair, Pair, tuple[int, int, int, int], Pair, int]
        fields = ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), weight.shape[0])
    elif node.op == "real_conv":
        fields = ((a.kernel,) * 2, (a.stride,) * 2, (a.pad,) * 4, (1, 1), a.groups)
    else:
        fields = (a.kernel, a.stride, a.pads, a.dilation, a.groups)
    return WeightedSum(sources, weight, a.weight_bits, unit, bias, *fields, deform=deform)


def of_each(x: Moved) -> WeightedSum:
    """Every value by itself: a depthwise 1x1 convolution of weight 1."""
    return _ones(x, (1, 1), (1, 1), (0, 0, 0, 0))


def of_pool(x: Moved, node: Node) -> WeightedSum:
    """real_avgpool: a depthwise convolution of weight 1, divided by the pixels of the window."""
    a = node.attrs
    total = _ones(x, a.kernel, a.stride, a.pads)
    return replace(total, count=a.kernel[0] * a.kernel[1])


def _ones(x: Moved, kernel: Pair, stride: Pair, pads: tuple[int, int, int, int]) -> WeightedSum:
    channels = x.tensor.shape[0]
    weight = np.ones((channels, 1, *kernel), np.int8)
    unit = np.full(channels, x.grid.scale, np.float32)
    zero = np.zeros(channels, np.float32)
    return WeightedSum((x,), weight, 2, unit, zero, kernel, stride, pads, (1, 1), channels)


@dataclass(frozen=True)
class _Function:
    """Output integers of accumulators (C, N): a chain and the quantiser behind it."""

    chain: Chain
    units: Staircase
    lo: int
    hi: int

    @property
    def out(self) -> IntType:
        """The type of the output."""
        return self.units.grid(self.lo, self.hi).kind

    def __call__(self, acc: np.ndarray) -> np.ndarray:
        return self.units.units(self.chain(acc)[:, :, None])[:, :, 0].astype(np.int64)


@dataclass(frozen=True)
class _Steps:
    """A never falling function by its steps (C, levels)."""

    steps: np.ndarray
    lo: int
    hi: int
    out: IntType

    def __call__(self, acc: np.ndarray) -> np.ndarray:
        rows = [np.searchsorted(s, a, side="right") for s, a in zip(self.steps, acc, strict=True)]
        return np.stack(rows).astype(np.int64) + self.lo


def _chain_of(total: WeightedSum, steps: tuple[Step, ...], sign: np.ndarray) -> Chain:
    weight = total.weight.astype(np.int64)
    offset = total.sources[0].grid.zero * weight.reshape(weight.shape[0], -1).sum(axis=1)
    return Chain(sign, offset, total.unit, total.bias, total.count, steps)


def _check_range(total: WeightedSum, low: np.ndarray, high: np.ndarray, name: str) -> None:
    offset = _chain_of(total, (), np.ones(len(low), np.int64)).offset
    reach = np.maximum(high - offset, offset - low)
    check_exact(-reach, reach, total.bias, total.unit, name)


def quantise(
    builder: GraphBuilder, value: Pending, quantiser: Staircase, name: str
) -> tuple[Tensor, Grid]:
    """Append the integer form of a weighted sum with its quantiser; its tensor and grid."""
    total = value.total
    assert isinstance(total, WeightedSum)
    low, high = dot_range(total.weight, total.sources[0].kind)
    try:
        g = _plain(total, value.steps, quantiser, low, high, name)
        if g is not None:
            return _emit(builder, total, g, name), Grid(quantiser.scale, g.out, quantiser.zero)
    except NoMultiplierError:
        pass  # the search below looks at every slope, and thresholds always fit
    _check_range(total, low, high, name)
    ones = np.ones(len(low), np.int64)
    chain = _chain_of(total, value.steps, ones)
    ends = quantiser.units(chain(np.stack((low, high), axis=1))[:, :, None])[:, :, 0]
    falls = ends[:, 0] > ends[:, 1]
    if falls.any():
        total, sign = _negated(total, falls, name), np.where(falls, -1, 1)
        low, high = np.where(falls, -high, low), np.where(falls, -low, high)
        chain = replace(chain, sign=sign)
    lo = int(ends.min()) if quantiser.lo is None else quantiser.lo
    hi = int(ends.max()) if quantiser.hi is None else quantiser.hi
    f = _Function(chain, quantiser, lo, hi)
    if lo == hi:
        hi += 1  # a table or a requantiser of one value still needs a type
        f = replace(f, hi=hi)
    _check_levels(lo, hi, name)
    steps = find_steps(f, low, high)
    grid = quantiser.grid(lo, hi)
    try:
        g = fit(f, low, high, steps, steps - 1, name, MUL_BITS)
        prove(f, g, steps, low, high, name)
        return _emit(builder, total, g, name), grid
    except NoMultiplierError:
        table = _Steps(steps, lo, hi, grid.kind)
        prove(f, table, steps, low, high, name)
        acc = _emit(builder, total, _through(len(low), total), f"{name}.acc")
        return _thresholds(builder, acc, table, name), grid


def _check_levels(lo: int, hi: int, name: str) -> None:
    if hi - lo >= 1 << 16:
        raise GraphError(f"node '{name}': its quantiser has {hi - lo + 1} levels; nearest: 16 bits")


def _thresholds(builder: GraphBuilder, acc: Tensor, table: _Steps, name: str) -> Tensor:
    if table.hi - table.lo > MAX_LEVELS:
        raise GraphError(
            f"node '{name}': no multiplier of up to {MUL_BITS} bits reproduces every step of its "
            f"quantiser, and it has {table.hi - table.lo + 1} levels, too many for thresholds; "
            "nearest: 8 bits, or power-of-two scales"
        )
    consts = {"thresholds": table.steps.astype(np.int64)}
    return builder.add(name, "threshold", [acc], ThresholdAttrs(table.lo, table.out), consts)


def _plain(
    total: WeightedSum, steps: tuple[Step, ...], quantiser: Staircase, low: np.ndarray,
    high: np.ndarray, name: str,
) -> Requantiser | None:  # fmt: skip
    """The requantiser of convolution, perhaps ReLU, and a plain quantiser; None for others."""
    relu = [step.op for step in steps] == ["relu"]
    if quantiser.plain is None or total.count != 1 or total.sources[0].grid.zero:
        return None
    if steps and not relu:
        return None
    f = FloatQuantiser(
        total.unit, total.bias, relu, np.float32(quantiser.scale), quantiser.plain.out
    )
    return find(f, low, high, name, MUL_BITS)


def _negated(total: WeightedSum, falls: np.ndarray, name: str) -> WeightedSum:
    """The weights of some channels negated."""
    weight = total.weight.copy()
    if (weight[falls] == -128).any():
        raise GraphError(
            f"node '{name}': its quantiser falls where the sum rises, and a weight of -128 has no "
            "negative; nearest: narrow weights (-127 to 127)"
        )
    weight[falls] = -weight[falls]
    bits = max(total.weight_bits, signed_bits(int(weight.min()), int(weight.max())))
    return replace(total, weight=weight, weight_bits=bits)


def _through(channels: int, total: WeightedSum) -> Requantiser:
    """The requantiser that passes accumulators through."""
    one = np.ones(channels, np.int64)
    bits = proven_acc_bits(total.weight, 0 * one, one, total.sources[0].kind)
    return Requantiser(one, 0 * one, 0 * one, IntType(bits, True))


def wide(builder: GraphBuilder, value: Pending, name: str) -> tuple[Tensor, Chain]:
    """Append the accumulators of a sum as a tensor, with the chain that makes reals of them."""
    total = value.total
    if isinstance(total, PairSum):
        raise GraphError(
            f"node '{value.name}' (real_add): its result is not read by one quantiser alone; put "
            "one behind it"
        )
    low, high = dot_range(total.weight, total.sources[0].kind)
    _check_range(total, low, high, name)
    chain = _chain_of(total, value.steps, np.ones(len(low), np.int64))
    return _emit(builder, total, _through(len(low), total), name), chain


def wide_alike(builder: GraphBuilder, value: Pending, name: str) -> Tensor | None:
    """Append the scores of a convolution whose scales are powers of two as integers of one scale,
    so that channels compare; None when they are not, or where arithmetic follows."""
    total = value.total
    if isinstance(total, PairSum) or total.count != 1:
        return None
    if any(step.op != "add" for step in value.steps):
        return None
    unit = float(total.unit.min())
    terms = [total.bias, *(s.consts["value"].ravel() for s in value.steps)]
    for _ in range(16):  # down to the grid of the biases
        if all((t / unit == np.rint(t / unit)).all() for t in terms):
            break
        unit /= 2
    added = sum((term.astype(np.float64) for term in terms), np.zeros(len(total.unit)))
    mul, bias = total.unit.astype(np.float64) / unit, added / unit
    low, high = dot_range(total.weight, total.sources[0].kind)
    offset = _chain_of(total, (), np.ones(len(low), np.int64)).offset
    whole = all((t / unit == np.rint(t / unit)).all() for t in terms)
    reach = np.maximum(high - offset, offset - low) * mul
    reach = sum((abs(term) / unit for term in terms), reach)
    powers = (np.frexp(total.unit)[0] == 0.5).all()
    if not powers or not whole or reach.max() >= FLOAT32_EXACT:
        return None
    scale, start = mul.astype(np.int64), bias.astype(np.int64) - offset * mul.astype(np.int64)
    bits = signed_bits(int((low * scale + start).min()), int((high * scale + start).max()))
    g = Requantiser(scale, start, 0 * scale, IntType(bits, True))
    return _emit(builder, total, g, name)


def _emit(builder: GraphBuilder, total: WeightedSum, g: Requantiser, name: str) -> Tensor:
    """The node of a weighted sum with its requantiser, in the plainest form that fits."""
    x = total.sources[0]
    lo, hi = g.limits or (g.out.lo, g.out.hi)
    op, shape, fields = _form(total, (lo, hi) == (g.out.lo, g.out.hi))
    if op == "conv2d":
        fields = {**fields, "pad_value": x.grid.zero, "lo": lo, "hi": hi}
    attrs_of = {
        "conv": ConvAttrs, "pw": PwAttrs, "dw": DwAttrs, "deform_dw": DeformDwAttrs,
        "conv2d": Conv2dAttrs,
    }  # fmt: skip
    attrs = attrs_of[op](
        weight_bits=total.weight_bits,
        acc_bits=proven_acc_bits(total.weight, g.bias, g.mul, x.kind),
        out=g.out,
        **fields,
    )
    weight = np.ascontiguousarray(total.weight.reshape(shape))
    roles = {"weight": weight, "bias": g.bias, "mul": g.mul, "shift": g.shift.astype(np.int8)}
    return builder.add(name, op, [s.tensor for s in total.sources], attrs, roles)


def _form(total: WeightedSum, full: bool) -> tuple[str, tuple[int, ...], dict[str, object]]:
    """The integer op of a sum, its weight's shape and its further attributes.

    `full`: the limits of the output are those of its type.
    """
    x, weight = total.sources[0], total.weight
    (kernel, same), (stride, step), pad = total.kernel, total.stride, total.pads[0]
    if total.deform:
        if not full or x.grid.zero:
            raise GraphError("a deformable convolution takes and gives zero point 0 and full range")
        return "deform_dw", (weight.shape[0], 3, 3), {}
    square = kernel == same and stride == step and len(set(total.pads)) == 1
    plain = square and full and total.dilation == (1, 1) and not (x.grid.zero and pad)
    if plain and total.groups == 1 and (kernel, stride, pad) == (1, 1, 0):
        return "pw", weight.shape[:2], {}
    if plain and total.groups == 1 and pad < kernel:
        return "conv", weight.shape, {"kernel": kernel, "stride": stride, "pad": pad}
    depthwise = total.groups == x.tensor.shape[0] == weight.shape[0]
    if plain and depthwise and (kernel, pad) == (3, 1):
        return "dw", (weight.shape[0], 3, 3), {"stride": stride}
    return "conv2d", weight.shape, {
        "kernel": total.kernel, "stride": total.stride, "pads": total.pads,
        "dilation": total.dilation, "groups": total.groups,
    }  # fmt: skip


# --- sums of two tensors -----------------------------------------------------------------------


def quantise_pairs(
    builder: GraphBuilder, value: Pending, quantiser: Staircase, name: str
) -> tuple[Tensor, Grid]:
    """Append the integer form of a residual addition: every pair of inputs is looked at.

    Small integer factors are sought under which the output is a rising function of the weighted
    sum; their steps then are requantised or compared as those of a convolution.
    """
    total = value.total
    assert isinstance(total, PairSum)
    a, b = total.a, total.b
    pairs = 1 << (a.kind.bits + b.kind.bits)
    if pairs > MAX_PAIRS:
        raise GraphError(
            f"node '{name}' (real_add): its inputs are {a.kind} and {b.kind}; nearest: 20 bits "
            "together"
        )
    outs = _outputs(total, value, quantiser)
    lo = int(outs.min()) if quantiser.lo is None else quantiser.lo
    hi = int(outs.max()) if quantiser.hi is None else quantiser.hi
    hi = max(hi, lo + 1)
    _check_levels(lo, hi, name)
    grid = quantiser.grid(lo, hi)
    for coef in _factors(a.grid.scale, b.grid.scale, outs):
        found = _steps_of_pairs(outs, coef, (a.kind, b.kind), lo, hi)
        if found is not None:
            break
    else:
        raise GraphError(
            f"node '{name}' (real_add): no small factors make its output a function of the sum "
            f"(scales {a.grid.scale}, {b.grid.scale}); use one shared quantiser for both inputs"
        )
    steps, missed = (np.broadcast_to(s, (value.shape[0], s.shape[1])) for s in found)
    low, high = sum_range(coef, (a.kind, b.kind))
    least, most = (np.full(value.shape[0], n, np.int64) for n in (low, high))
    table = _Steps(np.ascontiguousarray(steps), lo, hi, grid.kind)
    bits = proven_bits(coef, (a.kind, b.kind))
    sources = [a.tensor, b.tensor]
    try:
        g = fit(table, least, most, table.steps, missed, name, MUL_BITS)
        _prove_pairs(outs, coef, (a.kind, b.kind), g, name)
    except NoMultiplierError:
        one = np.ones(value.shape[0], np.int64)
        roles: dict[str, np.ndarray] = {"mul": one, "bias": 0 * one}
        roles["shift"] = np.zeros(len(one), np.int8)
        kind = IntType(bits, True)
        attrs = ResidualAttrs(coef, bits, kind.lo, kind.hi, kind)
        acc = builder.add(f"{name}.acc", "residual", sources, attrs, roles)
        return _thresholds(builder, acc, table, name), grid
    roles = {"mul": g.mul, "bias": g.bias, "shift": g.shift.astype(np.int8)}
    attrs = ResidualAttrs(coef, bits, lo, hi, grid.kind)
    return builder.add(name, "residual", sources, attrs, roles), grid


def _outputs(total: PairSum, value: Pending, quantiser: Staircase) -> np.ndarray:
    """Output integers (C or 1, values of a, values of b) of every pair."""
    reals = []
    for moved in (total.a, total.b):
        integers = np.arange(moved.kind.lo, moved.kind.hi + 1) - moved.grid.zero
        reals.append(integers.astype(np.float32) * np.float32(moved.grid.scale))
    added = (reals[0][:, None] + reals[1][None, :])[None]
    alike = quantiser.per_tensor and all(step.per_tensor for step in value.steps)
    rows = []
    for c in range(1 if alike else value.shape[0]):
        chain = _steps_chain(value.shape[0], value.steps)
        one = chain if alike else chain.channel(c)
        values = added.reshape(1, -1, 1)
        for step in one.steps:
            values = step(values)
        if not alike and not quantiser.per_tensor:
            values = np.broadcast_to(values, (value.shape[0], *values.shape[1:]))
            rows.append(quantiser.units(values)[c].reshape(added.shape[1:]))
        else:
            rows.append(quantiser.units(values)[0].reshape(added.shape[1:]))
    return np.stack(rows).astype(np.int64)


def _steps_chain(channels: int, steps: tuple[Step, ...]) -> Chain:
    one = np.ones(channels, np.int64)
    return Chain(one, 0 * one, np.ones(channels, np.float32), np.zeros(channels, np.float32), 1,
                 steps)  # fmt: skip


def _factors(a: float, b: float, outs: np.ndarray) -> list[Pair]:
    """Pairs of factors about the ratio of the scales, small ones first; both negative where the
    output falls."""
    sign = -1 if (outs[:, 0, 0] > outs[:, -1, -1]).any() else 1
    ratio, swap = Fraction(a) / Fraction(b), a > b
    found: list[Pair] = []
    for power in range(15):
        near = (1 / ratio if swap else ratio).limit_denominator(1 << power)
        if near > 0:
            small, large = sign * near.numerator, sign * near.denominator
            pair = (large, small) if swap else (small, large)
            if pair not in found:
                found.append(pair)
    return found


def _steps_of_pairs(
    outs: np.ndarray, coef: Pair, types: tuple[IntType, IntType], lo: int, hi: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """(C, levels) the least sum that reaches each level, and the greatest that does not; None when
    the output is no rising function of the sum."""
    acc = _sums(coef, types).ravel()
    order = np.argsort(acc, kind="stable")
    ordered = acc[order]
    low, high = sum_range(coef, types)
    levels = np.arange(lo + 1, hi + 1)
    steps, missed = [], []
    for row in outs.reshape(outs.shape[0], -1):
        values = row[order]
        same = ordered[1:] == ordered[:-1]
        change = np.diff(values)
        if (change < 0).any() or (change[same] != 0).any():
            return None
        at = np.searchsorted(values, levels, side="left")
        steps.append(np.where(at < len(values), ordered[np.minimum(at, len(values) - 1)], high + 1))
        missed.append(np.where(at > 0, ordered[np.maximum(at - 1, 0)], low - 1))
    return np.stack(steps), np.stack(missed)


def _sums(coef: Pair, types: tuple[IntType, IntType]) -> np.ndarray:
    a, b = (np.arange(t.lo, t.hi + 1) * c for t, c in zip(types, coef, strict=True))
    return np.asarray(a[:, None] + b[None, :])


def _prove_pairs(
    outs: np.ndarray, coef: Pair, types: tuple[IntType, IntType], g: Requantiser, name: str
) -> None:
    """GraphError unless the requantised sum of every pair is the float output."""
    acc = _sums(coef, types).reshape(1, -1)
    for c in range(len(g.mul)):
        part = slice(c, c + 1)
        one = Requantiser(g.mul[part], g.bias[part], g.shift[part], g.out, g.limits)
        wanted = outs[min(c, len(outs) - 1)].reshape(1, -1)
        if not np.array_equal(one(acc), wanted):
            raise GraphError(f"node '{name}' channel {c}: the requantised sum is not the float one")
        if len(outs) == 1 and (g.mul == g.mul[0]).all() and (g.bias == g.bias[0]).all():
            return
