# SPDX-License-Identifier: Apache-2.0
"""Finding the integer requantiser of a float quantiser, and proving that it is the same function.

Both are steps that never fall in the accumulator, so they are equal over a whole range when they
agree at its ends and on both sides of every step of the float one. The float function is
evaluated in float32 as a runtime does: acc * scale, + bias, ReLU, / out_scale, clamp, round.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hwflow.errors import GraphError
from hwflow.ops.arith import round_shift
from hwflow.ops.types import IntType

FLOAT32_EXACT = 1 << 24
MAX_SHIFT = 46


class NoMultiplierError(GraphError):
    """No multiplier reproduces every step of a quantiser; a table of thresholds does."""


class Quantiser(Protocol):
    """Output integers of accumulators, never falling; `lo` and `hi` limit the output."""

    @property
    def lo(self) -> int: ...
    @property
    def hi(self) -> int: ...
    @property
    def out(self) -> IntType: ...
    def __call__(self, acc: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class FloatQuantiser:
    """Accumulator to output integer in float32: scale and bias (C,), ReLU, the quantiser."""

    scale: np.ndarray
    bias: np.ndarray
    relu: bool
    out_scale: np.float32
    kind: IntType

    def __call__(self, acc: np.ndarray) -> np.ndarray:
        """Output integers (C, N) of accumulators (C, N), both int64."""
        value: np.ndarray = acc.astype(np.float32) * self.scale[:, None] + self.bias[:, None]
        if self.relu:
            value = np.maximum(value, np.float32(0))
        units: np.ndarray = np.clip(value / self.out_scale, self.kind.lo, self.kind.hi)
        return np.asarray(np.rint(units), dtype=np.int64)

    @property
    def out(self) -> IntType:
        """The type of the integers; a signed quantiser behind a ReLU loses its sign bit."""
        if self.relu and self.kind.signed:
            return IntType(self.kind.bits - 1, False)
        return self.kind

    @property
    def lo(self) -> int:
        """The least output."""
        return self.out.lo

    @property
    def hi(self) -> int:
        """The greatest output."""
        return self.out.hi


@dataclass(frozen=True)
class Requantiser:
    """clamp(round_half_even((acc * mul + bias) / 2**shift), lo, hi), all (C,) int64.

    lo and hi are the `limits`, or those of the output type.
    """

    mul: np.ndarray
    bias: np.ndarray
    shift: np.ndarray
    out: IntType
    limits: tuple[int, int] | None = None

    def __call__(self, acc: np.ndarray) -> np.ndarray:
        """Output integers (C, N) of accumulators (C, N)."""
        value = acc * self.mul[:, None] + self.bias[:, None]
        rounded = round_shift(value, self.shift[:, None])
        lo, hi = self.limits or (self.out.lo, self.out.hi)
        return np.asarray(np.clip(rounded, lo, hi))


def find(
    f: FloatQuantiser, low: np.ndarray, high: np.ndarray, name: str, mul_bits: int = 31
) -> Requantiser:
    """The integer requantiser equal to f on accumulators low..high (C,), proven per channel.

    With power-of-two scales mul is 1 (or a power of two, where the bias lies on a finer grid than
    the accumulator); else mul of up to 16 bits is sought, then wider ones up to `mul_bits`.
    GraphError naming node and channel when a bound is broken or none fits.
    """
    _check_exact(f, low, high, name)
    steps = find_steps(f, low, high)
    mul, bias, shift, known = _powers_of_two(f)
    for c in np.flatnonzero(~known):
        found = _search(f, int(c), steps[c], int(low[c]), int(high[c]), mul_bits)
        if found is None:
            raise NoMultiplierError(
                f"node '{name}' channel {c}: no multiplier of up to {mul_bits} bits reproduces "
                f"every step of its quantiser (scale {f.scale[c]}, output scale {f.out_scale}); "
                "use power-of-two scales"
            )
        mul[c], bias[c], shift[c] = found
    requantiser = Requantiser(mul, bias, shift, f.out)
    prove(f, requantiser, steps, low, high, name)
    return requantiser


def fit(
    f: Quantiser, low: np.ndarray, high: np.ndarray, steps: np.ndarray, missed: np.ndarray,
    name: str, mul_bits: int = 16,
) -> Requantiser:  # fmt: skip
    """The requantiser of any rising quantiser, from its steps alone; proven by the caller.

    steps (C, lo + 1..hi): the least accumulator that reaches a level, above high where none does;
    missed: the greatest that does not. NoMultiplierError naming node and channel when none fits.
    """
    count = len(steps)
    mul, bias, shift = (np.zeros(count, np.int64) for _ in range(3))
    levels = np.arange(f.lo + 1, f.hi + 1)
    for c in range(count):
        found = _fit_channel(levels, steps[c], missed[c], int(low[c]), int(high[c]), mul_bits)
        if found is None:
            raise NoMultiplierError(
                f"node '{name}' channel {c}: no multiplier of up to {mul_bits} bits reproduces "
                "every step of its quantiser; use power-of-two scales"
            )
        mul[c], bias[c], shift[c] = found
    return Requantiser(mul, bias, shift, f.out, (f.lo, f.hi))


def _fit_channel(
    levels: np.ndarray, steps: np.ndarray, missed: np.ndarray, low: int, high: int, mul_bits: int
) -> tuple[int, int, int] | None:
    inside = np.flatnonzero((steps > low) & (steps <= high))
    if not inside.size:
        return 0, int(levels[0] - 1 + (steps <= low).sum()), 0
    for mul, shift in _candidates(levels, steps, missed, low, high, inside, mul_bits):
        nominal = float(levels[inside[0]]) - 0.5 - float(steps[inside[0]]) * mul / 2.0**shift
        bias = _bias(levels, steps, mul, shift, low, high, nominal, missed)
        if bias is not None:
            return mul, bias, shift
    return None


def _candidates(
    levels: np.ndarray, steps: np.ndarray, missed: np.ndarray, low: int, high: int,
    inside: np.ndarray, mul_bits: int,
) -> Iterator[tuple[int, int]]:  # fmt: skip
    """(mul, shift), few bits first: about the mean slope, then from the interval that fits."""
    first, last = inside[0], inside[-1]
    run = float(steps[last] - steps[first])
    mean = float(levels[last] - levels[first]) / run if run else float(inside.size)
    for shift in range(1, MAX_SHIFT + 1):
        mul = round(mean * 2.0**shift)
        if 1 <= mul < 1 << mul_bits:
            yield mul, shift
    yield from _multipliers(
        levels, steps, low, high, (1e-9, 2.0 * levels.size + 2.0), mul_bits, missed
    )


def find_steps(f: Quantiser, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(C, levels): the least accumulator that reaches each level above the lowest; high + 1 where
    none does. By bisection, all channels and levels at once."""
    levels = np.arange(f.lo + 1, f.hi + 1)[None, :]
    left = np.repeat(low[:, None], levels.size, axis=1)
    right = np.repeat(high[:, None] + 1, levels.size, axis=1)
    while (left < right).any():
        middle = (left + right) >> 1
        reached = f(middle) >= levels
        open_ = left < right
        right = np.where(open_ & reached, middle, right)
        left = np.where(open_ & ~reached, middle + 1, left)
    return left


def prove(
    f: Quantiser,
    g: Callable[[np.ndarray], np.ndarray],
    steps: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    name: str,
) -> None:
    """GraphError naming node, channel and accumulator unless f and g agree on low..high."""
    points = np.concatenate((low[:, None], high[:, None], steps, steps - 1), axis=1)
    points = np.clip(points, low[:, None], high[:, None])
    wrong = np.argwhere(f(points) != g(points))
    if wrong.size:
        c, i = (int(n) for n in wrong[0])
        raise GraphError(
            f"node '{name}' channel {c}: at accumulator {int(points[c, i])} the float quantiser "
            f"gives {int(f(points)[c, i])}, the integer one does not; use power-of-two scales"
        )


def _check_exact(f: FloatQuantiser, low: np.ndarray, high: np.ndarray, name: str) -> None:
    check_exact(low, high, f.bias, f.scale, name)


def check_exact(
    low: np.ndarray, high: np.ndarray, bias: np.ndarray, scale: np.ndarray, name: str
) -> None:
    """|accumulator| + |bias| < 2**24 in every channel, so that float32 sums are exact."""
    reach = np.maximum(-low, high) + np.ceil(abs(bias.astype(np.float64)) / scale)
    if (reach >= FLOAT32_EXACT).any():
        c = int(np.argmax(reach))
        raise GraphError(
            f"node '{name}' channel {c}: |accumulator| + |bias| reaches {int(reach[c])}; below "
            "2**24 is needed for float32 to be exact; bound weights and bias in training"
        )


def _powers_of_two(
    f: FloatQuantiser,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """mul, bias, shift and which channels they serve: those where output scale over accumulator
    scale is a power of two and the bias a multiple of the accumulator's scale over 2**15."""
    ratio = np.float64(f.out_scale) / f.scale.astype(np.float64)
    shift = np.log2(ratio)
    bias = f.bias.astype(np.float64) / f.scale
    mul = np.ones(len(bias))
    for _ in range(15):
        mul = np.where(bias * mul == np.rint(bias * mul), mul, mul * 2)
    whole = np.rint(bias * mul)
    known = (shift == np.rint(shift)) & (abs(shift) <= 40) & (bias * mul == whole)
    shift = np.where(known, shift + np.log2(mul), 0)
    as_int = [np.where(known, a, 0).astype(np.int64) for a in (mul, whole, shift)]
    return as_int[0], as_int[1], as_int[2], known


def _search(
    f: FloatQuantiser, c: int, steps: np.ndarray, low: int, high: int, mul_bits: int
) -> tuple[int, int, int] | None:
    """mul, bias, shift of one channel, narrow multipliers first; None when there is none."""
    levels = np.arange(f.out.lo + 1, f.out.hi + 1)
    inside = (steps > low) & (steps <= high)
    if not inside.any():
        # One output value over the whole range: no accumulator is needed.
        return 0, int(f.out.lo + (steps <= low).sum()), 0
    ratio = float(f.scale[c]) / float(f.out_scale)
    nominal = float(f.bias[c]) / float(f.out_scale)
    wide = _multipliers(levels, steps, low, high, (ratio * 0.9, ratio * 1.1), mul_bits)
    for mul, shift in (*_short_multipliers(ratio), *wide):
        bias = _bias(levels, steps, mul, shift, low, high, nominal)
        if bias is not None:
            return mul, bias, shift
    return None


def _short_multipliers(ratio: float) -> list[tuple[int, int]]:
    """(mul, shift) of few bits equal to the ratio up to float32 rounding: only these reproduce the
    exact ties that such ratios have."""
    found = []
    for bits in range(1, 17):
        shift = bits - int(np.floor(np.log2(ratio))) - 1
        mul = round(ratio * 2.0**shift)
        if 1 <= shift <= MAX_SHIFT and abs(mul / (ratio * 2.0**shift) - 1) < 2.0**-20:
            found.append((mul, shift))
    return found


def _multipliers(
    levels: np.ndarray,
    steps: np.ndarray,
    low: int,
    high: int,
    slopes: tuple[float, float],
    mul_bits: int,
    missed: np.ndarray | None = None,
) -> list[tuple[int, int]]:
    """(mul, shift), 16 bits first, from the interval of slopes whose line passes between the
    accumulators below and at every step."""
    below = steps - 1 if missed is None else missed
    reached, unmet = steps <= high, steps > low
    edge = levels - 0.5

    def slack(slope: float) -> float:
        """Room for the bias at this slope; concave, and above 0 where a line fits."""
        least = (edge - slope * steps)[reached].max(initial=-np.inf)
        return float((edge - slope * below)[unmet].min(initial=np.inf) - least)

    # The steps themselves fix the slope to about one part in their number.
    left, right = slopes
    best = _peak(slack, left, right)
    if not slack(best) > 0:
        return []
    left, right = _crossing(slack, left, best), _crossing(slack, right, best)
    found = []
    for bits in range(min(16, mul_bits), mul_bits + 1):
        shift = int(np.floor(np.log2(((1 << bits) - 1) / right)))
        if not 1 <= shift <= MAX_SHIFT:
            continue
        first, last = int(np.ceil(left * 2.0**shift)), int(np.floor(right * 2.0**shift))
        if first <= last:
            found.append((min(max(round(best * 2.0**shift), first), last), shift))
    return found


def _peak(concave: Callable[[float], float], left: float, right: float) -> float:
    """Where a concave function is greatest."""
    for _ in range(120):
        a, b = left + (right - left) / 3, right - (right - left) / 3
        if concave(a) < concave(b):
            left = a
        else:
            right = b
    return (left + right) / 2


def _crossing(f: Callable[[float], float], outside: float, inside: float) -> float:
    """The border of f > 0 between a point outside (or also inside) and one inside."""
    if f(outside) > 0:
        return outside
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (outside, middle) if f(middle) > 0 else (middle, inside)
    return inside


def _bias(
    levels: np.ndarray,
    steps: np.ndarray,
    mul: int,
    shift: int,
    low: int,
    high: int,
    nominal: float,
    below: np.ndarray | None = None,
) -> int | None:
    """The bias nearest the nominal one that puts every step in its place; None if none does.

    Level L is reached when 2 * (acc * mul + bias) >= (2L - 1) * 2**shift, equality counting only
    for even L (a tie goes to the even neighbour).
    """
    edge = (2 * levels - 1) * (1 << (shift - 1))
    odd = levels % 2
    below = steps - 1 if below is None else below
    reached, missed = steps <= high, steps > low
    least = (edge + odd - steps * mul)[reached]
    most = (edge + odd - 1 - below * mul)[missed]
    floor = int(least.max()) if least.size else -(1 << 60)
    ceiling = int(most.min()) if most.size else 1 << 60
    if floor > ceiling:
        return None
    return min(max(round(nominal * 2.0**shift), floor), ceiling)
