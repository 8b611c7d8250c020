# SPDX-License-Identifier: Apache-2.0
"""Boolean functions as vectors of their values, and the cheapest form of one in lookup tables.

A function of k inputs is a bool array of 2**k values; input j is bit j of the index. Forms are
found by Shannon expansion, wide multiplexers of the fabric, and Ashenhurst-Curtis decomposition:
a bound set of inputs whose columns have few distinct contents is replaced by the number of the
content.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

# Beyond these widths the search takes the first good variable instead of trying all.
WIDEST_DECOMPOSED = 9
WIDEST_TRIED = 8


@dataclass(frozen=True)
class Fabric:
    """What one lookup table of a chip can be.

    inputs: of one table; joins: how many levels of multiplexers behind tables cost no table
    (MUXF7 and MUXF8 are two); dual: two functions of one input fewer share a table.
    """

    inputs: int
    joins: int
    dual: bool


@dataclass(frozen=True, eq=False)
class Form:
    """How a function is put together.

    kind "table": one lookup table of all inputs (also a wire or a constant). "join": the fabric's
    multiplexer number `level`, selected by input `pick`, between parts[0] (pick = 0) and parts[1].
    "mux": the same by a table, into which side `level` is taken (-1: neither).
    "codes": `parts` are functions of the inputs `bound`; `last` is a function of these, then of the
    inputs `free`. cost: lookup tables.
    """

    kind: str
    values: np.ndarray
    cost: int
    pick: int = -1
    level: int = 0
    parts: tuple[Form, ...] = ()
    bound: tuple[int, ...] = ()
    free: tuple[int, ...] = ()
    last: Form | None = None


def inputs_of(values: np.ndarray) -> int:
    """How many inputs a vector of values has."""
    return len(values).bit_length() - 1


def cofactor(values: np.ndarray, pick: int, value: int) -> np.ndarray:
    """The function of the other inputs when input `pick` is `value`."""
    low = 1 << pick
    return np.ascontiguousarray(values.reshape(-1, 2, low)[:, value, :]).reshape(-1)


def support(values: np.ndarray) -> tuple[int, ...]:
    """The inputs a function depends on, rising."""
    return tuple(
        j for j in range(inputs_of(values))
        if (values.reshape(-1, 2, 1 << j)[:, 0] != values.reshape(-1, 2, 1 << j)[:, 1]).any()
    )


def reduced(values: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """The function of the inputs `kept` (rising), the others at 0."""
    for j in range(inputs_of(values) - 1, -1, -1):
        if j not in kept:
            values = cofactor(values, j, 0)
    return values


def number(values: np.ndarray) -> int:
    """The values as an integer, that of index 0 in bit 0."""
    return int.from_bytes(np.packbits(values, bitorder="little").tobytes(), "little")


def vector(table: int, inputs: int) -> np.ndarray:
    """The inverse of `number` for a function of so many inputs."""
    return np.array([(table >> a) & 1 for a in range(1 << inputs)], dtype=bool)


@dataclass
class Forms:
    """Finds forms for one fabric and remembers them."""

    fabric: Fabric
    known: dict[bytes, Form] = field(default_factory=dict)

    def find(self, values: np.ndarray) -> Form:
        """The cheapest form known of a function; inputs it does not depend on are left alone."""
        key = values.tobytes()
        form = self.known.get(key)
        if form is None:
            form = self.known[key] = self._find(values)
        return form

    def cost(self, values: np.ndarray) -> int:
        """Lookup tables of a function: 0 for a wire, its inverse or a constant."""
        kept = support(values)
        return 0 if len(kept) < 2 else self.find(reduced(values, kept)).cost

    def _find(self, values: np.ndarray) -> Form:
        width, fabric = inputs_of(values), self.fabric
        if width <= fabric.inputs:
            return Form("table", values, 1)
        choices = [form for form in (self._wide(values, width - fabric.inputs),) if form]
        bound = 2 if width == fabric.inputs + 1 else 0  # below this no form can be
        if not choices or choices[0].cost > max(bound, 2):
            if width <= WIDEST_DECOMPOSED:
                choices += self._coded(values)
            choices += self._shannon(values)
        return min(choices, key=lambda form: form.cost)

    def _wide(self, values: np.ndarray, level: int) -> Form | None:
        """Tables joined by the fabric's multiplexers; None if it has too few of them."""
        if level == 0:
            return Form("table", values, 1)
        if level > self.fabric.joins:
            return None
        pick = inputs_of(values) - 1
        parts = [self._wide(cofactor(values, pick, v), level - 1) for v in (0, 1)]
        assert parts[0] is not None and parts[1] is not None
        return Form(
            "join", values, parts[0].cost + parts[1].cost, pick, level, (parts[0], parts[1])
        )

    def _shannon(self, values: np.ndarray) -> list[Form]:
        width = inputs_of(values)
        split = [(j, cofactor(values, j, 0), cofactor(values, j, 1)) for j in range(width)]
        if width > WIDEST_TRIED:
            split.sort(key=lambda s: len(support(s[1])) + len(support(s[2])))
            split = split[:1]
        found = []
        for j, low, high in split:
            sides = [low, high]
            needs = [support(side) for side in sides]
            # a side of few inputs is taken into the table of the multiplexer
            small = [v for v in (0, 1) if len(needs[v]) <= self.fabric.inputs - 2]
            cost = 1
            taken = max(small, key=lambda v: self.cost(sides[v]), default=None)
            for v in (0, 1):
                if v != taken:
                    cost += self.cost(sides[v])
            found.append(Form("mux", values, cost, j, -1 if taken is None else taken))
        return found

    def _coded(self, values: np.ndarray) -> list[Form]:
        width, most = inputs_of(values), self.fabric.inputs
        cube = values.reshape([2] * width)
        found: list[Form] = []
        best = None
        for size in range(most, 1, -1):
            frees = width - size
            room = most - frees
            if room < 1 or room >= size:
                continue
            for bound in itertools.combinations(range(width), size):
                free = tuple(j for j in range(width) if j not in bound)
                # axis of input j is width - 1 - j
                axes = [width - 1 - j for j in (*bound[::-1], *free[::-1])]
                rows = cube.transpose(axes).reshape(1 << size, 1 << frees)
                packed = np.packbits(rows, axis=1).tobytes()
                step = len(packed) >> size
                seen = [packed[i : i + step] for i in range(0, len(packed), step)]
                contents = list(dict.fromkeys(seen))
                codes = max(1, (len(contents) - 1).bit_length())
                if codes > room or (best is not None and codes >= best):
                    continue
                best = codes
                index = {content: i for i, content in enumerate(contents)}
                which = np.array([index[row] for row in seen])
                parts = tuple(
                    Form("table", (which >> bit & 1).astype(bool), 1) for bit in range(codes)
                )
                table = np.zeros((1 << frees, 1 << codes), bool)
                for i, content in enumerate(contents):
                    table[:, i] = rows[seen.index(content)]
                for i in range(len(contents), 1 << codes):  # never read
                    table[:, i] = table[:, 0]
                last = Form("table", table.reshape(-1), 1)
                found.append(
                    Form("codes", values, codes + 1, parts=parts, bound=bound, free=free, last=last)
                )
        return found
