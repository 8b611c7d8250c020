# SPDX-License-Identifier: Apache-2.0
"""Layers of a network as `gather_pw` nodes whose words are bytes: requantisers that only shift.

The engine makes clamp(round_half_even((acc + bias) / 2**shift), 0, 255). So a word is a value less
its *base*; a base that is even (or a shift of 0) leaves the rounding as it is. What else a
requantiser does is made of several such steps, each exact:

* limits lo..hi: a base of lo clamps below, one of hi - 255 clamps above; a step of shift 0 from one
  base to another does both.
* multipliers: what is no power of two goes into the weights, as far as the accumulators hold it.
* thresholds, and multipliers beyond that: a word of 0 or 1 for each step, acc >= t, which is
  round_half_even((acc + 2**(s-1) + 1 - t) / 2**s) > 0; the result stays below 2 when
  acc_max - t + 1 < 2**s. Many steps are added up to one word again.
* sums wider than a byte: digits, each the rounded rest of the sum less the digits before it.
* the greatest of two words: a + clamp(b - a) (engine_pool.py).
* weights beyond int8: several words of the same value.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from hwflow.emit.isa import LANES
from hwflow.ir import GraphBuilder
from hwflow.ops.arith import proven_acc_bits, round_shift
from hwflow.ops.gather_pw import GatherPwAttrs
from hwflow.ops.types import IntType
from hwflow.passes.engine_values import (
    NONE,
    FaultError,
    Sums,
    Values,
    each,
    order,
    summed,
    together,
    whole,
)

U8, I8 = IntType(8, False), IntType(8, True)
BYTE = 255
ACC_BITS = 26  # of the array
BIAS_BITS = 25
MOST_SHIFT = 24
MOST_TAPS = 4052  # weight words of a tile
MOST_STEPS = 255
FEW_STEPS = 3  # steps of a value that are not added up
STEP_WORDS = 2048  # steps of a place that are there at a time
MOST_STEP_WORDS = 10_000_000  # a layer of more takes minutes to place, and no program holds it
LONG_SUM = 40  # words; from there on many steps of a sum take its digits
MOST_COPIES = 64  # words of a value, for a weight beyond int8
DIGIT = 7  # bits of the digits below the first
MOST_UNIT = 16  # bits of what a first digit counts: it is taken off in weights of int8
BLOCK = 2048  # words of a map that are made and kept together


@dataclass(frozen=True)
class Layer:
    """Sums and their activation; one mul, bias and shift an output."""

    name: str
    sums: Sums
    mul: np.ndarray
    bias: np.ndarray
    shift: np.ndarray
    lo: int
    hi: int
    phases: int
    table: np.ndarray | None = None  # (outputs, levels), thresholds behind the requantiser
    table_lo: int = 0
    block: int = 0  # places that are made together; 0: as many as fit

    def raw(self, acc: np.ndarray) -> np.ndarray:
        """The requantiser without its limits."""
        return round_shift(acc * self.mul + self.bias, self.shift)

    def activation(self, acc: np.ndarray) -> np.ndarray:
        """The outputs of accumulators (..., outputs), one for each output."""
        out = np.clip(self.raw(acc), self.lo, self.hi)
        if self.table is None:
            return np.asarray(out)
        return np.asarray((self.table <= out[..., None]).sum(axis=-1) + self.table_lo)

    def part(self, rows: slice) -> "Layer":
        """Some of the outputs."""
        sums = replace(
            self.sums, weight=self.sums.weight[rows], offset=self.sums.offset[rows],
            low=self.sums.low[rows], high=self.sums.high[rows],
        )  # fmt: skip
        table = None if self.table is None else self.table[rows]
        return replace(self, sums=sums, mul=self.mul[rows], bias=self.bias[rows],
                       shift=self.shift[rows], table=table)  # fmt: skip

    def shifted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(scale, bias, shift) of the same requantiser with the least scale, shifts 0 or more."""
        twos = np.where(self.mul == 0, 1, np.gcd(np.gcd(self.mul, self.bias), 1 << 30))
        shift = self.shift - np.round(np.log2(twos)).astype(np.int64)
        up = np.int64(1) << np.maximum(-shift, 0)
        return self.mul // twos * up, self.bias // twos * up, np.maximum(shift, 0)


@dataclass
class Words:
    """The graph being built, and the numbers of its words: (C, P, 16) takes C * P of them."""

    builder: GraphBuilder
    starts: dict[str, int] = field(default_factory=dict)
    total: int = 0

    def begin(self, name: str, shape: tuple[int, ...], phases: int) -> np.ndarray:
        """An input (C, H, W) of the network; the numbers of its words."""
        channels, sides = shape[0], (shape[1], shape[2])
        self.builder.input(name, (channels, sides[0] * sides[1], LANES), U8)
        self.builder.meta[f"block.{name}"] = float(_block(channels, sides))
        return self._number(name, channels, sides, phases)

    def _number(self, name: str, channels: int, sides: tuple[int, int], phases: int) -> np.ndarray:
        places = sides[0] * sides[1]
        rank = np.empty(places, np.int64)
        rank[order(sides, phases)] = np.arange(places)
        self.starts[name] = self.total
        self.total += channels * places
        return self.starts[name] + np.arange(channels)[:, None] * places + rank

    def add(
        self, name: str, sums: Sums, rows: np.ndarray, scale: np.ndarray, bias: np.ndarray,
        shift: np.ndarray, phases: int, block: int = 0,
    ) -> np.ndarray:  # fmt: skip
        """A node with a channel for each of `rows`, outputs of `sums` times `scale`; the numbers of
        its words, (rows, P) in the order of the places."""
        at, factor, weight = sums.at, sums.factor, sums.weight[rows] * scale[:, None]
        offset = bias[:, None] + scale[:, None] * sums.offset[rows]
        used = (weight != 0).any(axis=0) & (at != NONE).any(axis=1)
        if used.any():
            at, factor, weight = at[used], factor[used], weight[:, used]
        else:  # a constant: any word, times 0
            at = np.zeros((1, at.shape[1]), np.int64)
            factor, weight = at + 1, np.zeros((len(rows), 1), np.int64)
        missing = at == NONE
        usual = np.take_along_axis(factor, missing.argmin(axis=1)[:, None], axis=1)[:, 0]
        signs = np.where(missing, usual[:, None], factor)
        key = offset if (signs == usual[:, None]).all() else np.concatenate([signs, offset])
        _, first, variant = np.unique(key, axis=1, return_index=True, return_inverse=True)
        weights = [weight * signs[:, n] for n in first]
        at, weights = _bytes(name, at, weights)
        every = np.stack(weights)
        biases = np.ascontiguousarray(offset[:, first].T)
        flat = every.reshape(-1, every.shape[2])
        bits = proven_acc_bits(flat, biases.reshape(-1), np.ones(len(flat), np.int64), U8)
        if bits > ACC_BITS or shift.max(initial=0) > MOST_SHIFT:
            raise FaultError(
                f"{name}: accumulators of {bits} bits, shifts to {int(shift.max(initial=0))}; the "
                f"engine has {ACC_BITS} and {MOST_SHIFT}. Train with narrower weights, fewer "
                "inputs or power-of-two scales"
            )
        sequence = order(sums.sides, phases)
        ordered, variant = at[:, sequence], variant.reshape(-1)[sequence]
        inputs, index = self._inputs(ordered)
        present = np.stack([(ordered[:, variant == v] != NONE).sum(axis=1)
                            for v in range(len(first))])  # fmt: skip
        products = int(((every != 0).sum(axis=1) * present).sum())
        narrow = int(abs(every).max(initial=0)) <= 7
        block = block or _block(len(rows), sums.sides)
        attrs = GatherPwAttrs(4 if narrow else 8, bits, U8, block, products)
        consts = {
            "index": index, "weight": every.astype(np.int8), "variant": variant.astype(np.int32),
            "bias": biases, "shift": shift.astype(np.int8),
        }  # fmt: skip
        name = self.fresh(name)
        self.builder.add(name, "gather_pw", inputs, attrs, consts)
        return self._number(name, len(rows), sums.sides, phases)

    def fresh(self, name: str) -> str:
        """A name not taken yet."""
        while name in self.builder.tensors:
            name += "_"
        return name

    def _inputs(self, at: np.ndarray) -> tuple[list[str], np.ndarray]:
        """The tensors that hold words, and the numbers counted through these alone."""
        names = list(self.starts)
        edges = np.array([*self.starts.values(), self.total])
        owner = np.searchsorted(edges, at, side="right") - 1
        index = np.full(at.shape, NONE, np.int32)
        inputs, width = [], 0
        for number in np.unique(owner[at != NONE]):
            mine = (owner == number) & (at != NONE)
            index[mine] = at[mine] - edges[number] + width
            inputs.append(names[number])
            width += int(edges[number + 1] - edges[number])
        return inputs, index

    # ---- layers

    def emit(self, layer: Layer) -> Values:
        """Adds what makes the outputs of a layer."""
        low, high = layer.sums.low, layer.sums.high
        least, most = layer.activation(low), layer.activation(high)
        levels = int((most - least).max(initial=0))
        if levels >= 2 and layer.table is None:
            for form in (self.direct, self.digits):
                found = form(layer, least, most)
                if found is not None:
                    return found
        if levels > MOST_STEPS:
            raise FaultError(
                f"{layer.name}: outputs {int(least.min())}..{int(most.max())} by a requantiser of "
                f"its own multipliers or limits; the engine makes at most {MOST_STEPS + 1} levels "
                "so. Train with power-of-two scales or fewer levels"
            )
        words = levels * len(least) * layer.sums.at.shape[-1]
        if words > MOST_STEP_WORDS:
            raise FaultError(
                f"{layer.name}: {levels} steps for each of {words // levels:,} values; the engine "
                f"makes at most {MOST_STEP_WORDS:,} steps a layer. Train with power-of-two scales "
                "or fewer levels"
            )
        if levels <= FEW_STEPS:
            return self.steps(layer, least, most, levels)
        return self.added(layer, least, most, levels)

    def added(self, layer: Layer, least: np.ndarray, most: np.ndarray, levels: int) -> Values:
        """Many steps, added up to one word a value; some outputs at a time, as a place of them is
        many words."""
        low, high = layer.sums.low, layer.sums.high
        if levels > LONG_SUM and len(layer.sums.at) > LONG_SUM:
            # the steps compare digits of the sum, which are fewer than what it is a sum of
            one = np.ones(len(low), np.int64)
            plain = Layer(f"{layer.name}.acc", layer.sums, one, 0 * one, 0 * one, int(low.min()),
                          int(high.max()), layer.phases)  # fmt: skip
            wide = self.digits(plain, low, high)
            if wide is not None:
                sums = summed([each(wide)], layer.sums.sides)
                layer = replace(layer, sums=replace(sums, low=low, high=high))
        parts = []
        some = max(1, STEP_WORDS // levels)
        for first in range(0, len(low), some):
            rows = slice(first, min(first + some, len(low)))
            part = layer.part(rows)
            found = self.steps(part, least[rows], most[rows], levels)
            block = _block(int((found.at[..., 0, 0] != NONE).sum()), layer.sums.sides)
            parts.append(self.byte(found, f"{layer.name}.sum", layer.phases, block))
        return together(parts)

    def byte(self, values: Values, name: str, phases: int, block: int = 0) -> Values:
        """The same values, each of them one word. Raises FaultError when they need more."""
        count = values.shape[0]
        zero, one = np.zeros(count, np.int64), np.ones(count, np.int64)
        sums = summed([each(values)], whole(values))
        layer = Layer(name, sums, one, zero, zero, int(values.low.min()), int(values.high.max()),
                      phases, block=block)  # fmt: skip
        found = self.direct(layer, sums.low, sums.high)
        if found is None:
            raise FaultError(f"{name}: values {layer.lo}..{layer.hi} are no byte")
        return found

    def values(
        self, words: np.ndarray, base: int, least: np.ndarray, most: np.ndarray,
        sides: tuple[int, int],
    ) -> Values:  # fmt: skip
        """One word a value: words (outputs, P)."""
        shape = (len(words), *sides)
        full = np.ones(shape, np.int64)
        return Values(
            words.reshape(1, *shape), full[None], base * full,
            least[:, None, None] * full, most[:, None, None] * full,
        )  # fmt: skip

    def direct(self, layer: Layer, least: np.ndarray, most: np.ndarray) -> Values | None:
        """By shifts and limits alone; None where these do not say it."""
        raw_low, raw_high = layer.raw(layer.sums.low), layer.raw(layer.sums.high)
        scale, bias, shift = layer.shifted()
        bases = _bases(
            int(least.min()), int(most.max()), layer.lo, layer.hi,
            below=bool((raw_low < layer.lo).any()), above=bool((raw_high > layer.hi).any()),
            rounds=bool(shift.any()),
        )  # fmt: skip
        if bases is None:
            return None
        bias = bias - (bases[0] << shift)
        if not _fits(layer.sums, scale, bias, shift):
            return None
        rows = np.arange(len(scale))
        sides = layer.sums.sides
        words = self.add(layer.name, layer.sums, rows, scale, bias, shift, layer.phases,
                         layer.block)  # fmt: skip
        found = self.values(words, bases[0], least, most, sides)
        for base in bases[1:]:
            sums = summed([each(found)], sides)
            words = self.add(f"{layer.name}.clamp", sums, rows, 0 * rows + 1, 0 * rows - base,
                             0 * rows, layer.phases)  # fmt: skip
            found = self.values(words, base, least, most, sides)
        return found

    def digits(self, layer: Layer, least: np.ndarray, most: np.ndarray) -> Values | None:
        """Outputs wider than a byte, without limits that take part."""
        raw_low, raw_high = layer.raw(layer.sums.low), layer.raw(layer.sums.high)
        if (raw_low < layer.lo).any() or (raw_high > layer.hi).any():
            return None
        scale, bias, shift = layer.shifted()
        span = int(most.max()) - int(least.min())
        first = max(1, (span // (BYTE - 2)).bit_length())
        units = [first, 0] if first <= DIGIT else [first, first - DIGIT, 0]
        if span <= BYTE or first > 2 * DIGIT or first + shift.max() > MOST_UNIT:
            return None
        top = (int(least.min()) >> first) // 2 * 2
        if not _fits(layer.sums, scale, bias - (top << shift + first), shift + first):
            return None
        rows = np.arange(len(scale))
        sums, parts = layer.sums, []
        # the requantised sum is scale * acc + bias; digits are taken off acc itself
        if (scale != 1).any():
            sums = Sums(sums.at, sums.factor, sums.weight * scale[:, None],
                        sums.offset * scale[:, None], sums.low, sums.high, sums.sides)  # fmt: skip
        for unit in units:
            base = top if unit == first else -(1 << (DIGIT - 1))
            label = layer.name if unit == first else f"{layer.name}.digit{unit}"
            words = self.add(label, sums, rows, 0 * rows + 1, bias - (base << shift + unit),
                             shift + unit, layer.phases)  # fmt: skip
            parts.append((words, base, 1 << unit))
            sums = sums.less(words, 0 * rows + base, np.int64(1) << shift + unit)
        shape = (len(rows), *layer.sums.sides)
        full = np.ones(shape, np.int64)
        return Values(
            np.stack([words.reshape(shape) for words, _, _ in parts]),
            np.stack([size * full for _, _, size in parts]),
            sum(base * size for _, base, size in parts) * full,
            least[:, None, None] * full, most[:, None, None] * full,
        )  # fmt: skip

    def steps(self, layer: Layer, least: np.ndarray, most: np.ndarray, levels: int) -> Values:
        """A word of 0 or 1 for each threshold."""
        low, high = layer.sums.low, layer.sums.high
        firsts = _first(layer, low, high, least + 1 + np.arange(levels)[:, None])
        rows, sizes = [], []  # output, threshold; how far it steps
        for o in range(len(low)):
            found: dict[int, int] = {}
            for n in range(int(most[o] - least[o])):
                t = int(firsts[n, o])
                found[t] = found.get(t, 0) + 1
            rows += [(o, t) for t in found]
            sizes += list(found.values())
        owner = np.array([o for o, _ in rows], np.int64)
        shape = (len(low), *layer.sums.sides)
        terms = int(np.bincount(owner, minlength=len(low)).max(initial=0))
        at = np.full((terms, *shape), NONE, np.int64)
        factor = np.zeros((terms, *shape), np.int64)
        if rows:
            places = np.array([t for _, t in rows], np.int64)
            bias, shift = _step(places, high[owner])
            words = self.add(layer.name, layer.sums, owner, 0 * owner + 1, bias, shift,
                             layer.phases)  # fmt: skip
            filled = np.zeros(len(low), np.int64)
            for row, (o, size) in enumerate(zip(owner, sizes, strict=True)):
                at[filled[o], o] = words[row].reshape(shape[1:])
                factor[filled[o], o] = size
                filled[o] += 1
        full = np.ones(shape, np.int64)
        least, most = least[:, None, None] * full, most[:, None, None] * full
        return Values(at, factor, least, least, most)


def _block(channels: int, sides: tuple[int, int]) -> int:
    """How many places of a map are made and kept together: all of a small one, else a row."""
    places = sides[0] * sides[1]
    if channels * places <= BLOCK:
        return places
    return sides[1] if channels * sides[1] <= 2 * BLOCK else max(1, 2 * BLOCK // channels)


def _bases(
    least: int, most: int, lo: int, hi: int, *, below: bool, above: bool, rounds: bool
) -> list[int] | None:
    """The bases of words that clamp values least..most to lo..hi, one after the other.

    below, above: values pass these limits. The first base must be even where it rounds.
    """
    if most - least > BYTE:
        return None

    def even(base: int) -> bool:
        return not rounds or base % 2 == 0

    if not below and not above:
        plain = [base for base in (0, -128) if base <= least and most <= base + BYTE]
        base = plain[0] if plain else least if even(least) else least - 1
        return [base] if most <= base + BYTE else None
    top = hi - BYTE
    if below and not above:
        if even(lo):
            return [lo]
        return [lo - 1, lo] if most <= lo - 1 + BYTE else None
    if above and not below:
        if even(top):
            return [top]
        return [top + 1, top] if least > top else None
    if top == lo:
        return [lo] if even(lo) else None
    if even(top):
        return [top, lo]
    return [lo, top] if even(lo) else [lo - 1, top, lo]


def _fits(sums: Sums, scale: np.ndarray, bias: np.ndarray, shift: np.ndarray) -> bool:
    """Whether weights, biases, accumulators and shifts are the engine's."""
    sizes = abs(sums.factor).max(axis=1, initial=0).astype(np.float64)
    weight = abs(sums.weight).astype(np.float64) * scale[:, None] * sizes
    biases = abs(bias[:, None] + scale[:, None].astype(np.float64) * sums.offset).max(axis=1)
    reach = weight.sum(axis=1) * BYTE + biases
    return bool(
        reach.max() < 1 << (ACC_BITS - 1) and biases.max() < 1 << (BIAS_BITS - 1)
        and weight.max(initial=0) <= MOST_COPIES * I8.hi and shift.max() <= MOST_SHIFT
    )  # fmt: skip


def _bytes(
    name: str, at: np.ndarray, weights: list[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Weights beyond int8 as those of several words of the same value."""
    ats: list[np.ndarray] = []
    parts: list[list[np.ndarray]] = [[] for _ in weights]
    rest, here = weights, at
    while True:
        some = [np.clip(w, -I8.hi, I8.hi) for w in rest]
        if not ats and all((w >= I8.lo).all() and (w <= I8.hi).all() for w in rest):
            some = rest
        ats.append(here)
        for held, w in zip(parts, some, strict=True):
            held.append(w)
        rest = [w - s for w, s in zip(rest, some, strict=True)]
        left = np.any([(w != 0).any(axis=0) for w in rest], axis=0)
        if not left.any():
            return np.concatenate(ats), [np.hstack(held) for held in parts]
        if sum(map(len, ats)) > 1 << 16:
            raise FaultError(f"{name}: weights far beyond int8; train with narrower weights")
        here, rest = here[left], [w[:, left] for w in rest]


def _step(at: np.ndarray, top: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bias and shift that make 1 of accumulators from `at` on, 0 of those below; none is over top.

    acc = at gives half + 1 above a half, which is 1; acc = at - 1 the half itself, which goes to
    the even 0; and top + bias stays below 1.5 * 2**shift.
    """
    rest = np.maximum(top - at + 1, 1)
    shift = np.array([int(n).bit_length() for n in rest], np.int64)
    return (np.int64(1) << (shift - 1)) + 1 - at, shift


def _first(layer: Layer, low: np.ndarray, high: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """The least accumulator whose activation is at least `goal` (levels, outputs); past high: none.
    """
    a, b = np.broadcast_to(low, goal.shape), np.broadcast_to(high + 1, goal.shape)
    while (a < b).any():
        middle = (a + b) >> 1
        reached = layer.activation(np.minimum(middle, high)) >= goal
        b = np.where((a < b) & reached, middle, b)
        a = np.where((a < b) & ~reached, middle + 1, a)
    return a
