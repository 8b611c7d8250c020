# SPDX-License-Identifier: Apache-2.0
"""A netlist of lookup tables, multiplexers, carry chains and registers, built bit by bit.

A signal is a literal: twice the number of its net, plus one if it is inverted; FALSE and TRUE are
the constants. Inversions cost nothing, because whoever reads a literal takes them into its table.
Equal functions of equal signals are one cell, complemented ones, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hwflow.emit.tables.functions import (
    Fabric,
    Form,
    Forms,
    cofactor,
    number,
    reduced,
    support,
    vector,
)

FALSE, TRUE = 0, 1


@dataclass(frozen=True)
class Table:
    """One lookup table: bit a of `init` is the output at address a, inputs[0] in bit 0 of it."""

    part: str
    inputs: tuple[int, ...]
    init: int
    out: int


@dataclass(frozen=True)
class Dual:
    """One lookup table with two outputs: `six` of all inputs, `five` of the first five, and equal
    to `six` with the last input at 0. Missing inputs are net 0; with `high` the last one is 1."""

    part: str
    inputs: tuple[int, ...]
    init: int
    six: int
    five: int


@dataclass(frozen=True)
class Join:
    """A multiplexer of the fabric: out = pick ? one : zero."""

    part: str
    level: int
    zero: int
    one: int
    pick: int
    out: int


@dataclass(frozen=True)
class Carry:
    """Four positions of a carry chain: total = select ^ carry, next = select ? carry : data.

    `first` says that carry_in does not come from another chain. Unused outputs are -1.
    """

    part: str
    carry_in: int
    first: bool
    select: tuple[int, ...]
    data: tuple[int, ...]
    total: tuple[int, ...]
    carry: tuple[int, ...]


@dataclass(frozen=True)
class Register:
    """A flip-flop that moves on when the core does. twin: others hold the same on purpose."""

    part: str
    d: int
    q: int
    twin: bool = False


Cell = Table | Dual | Join | Carry | Register


def reads(cell: Cell) -> tuple[int, ...]:
    """The nets a cell reads."""
    if isinstance(cell, Table | Dual):
        return cell.inputs
    if isinstance(cell, Join):
        return (cell.zero, cell.one, cell.pick)
    if isinstance(cell, Carry):
        return (cell.carry_in, *cell.select, *cell.data)
    return (cell.d,)


def makes(cell: Cell) -> tuple[int, ...]:
    """The nets a cell drives."""
    if isinstance(cell, Table | Join):
        return (cell.out,)
    if isinstance(cell, Dual):
        return tuple(n for n in (cell.six, cell.five) if n >= 0)
    if isinstance(cell, Carry):
        return tuple(n for n in (*cell.total, *cell.carry) if n >= 0)
    return (cell.q,)


@dataclass
class Builder:
    """Collects cells. `part` names the part of the design that new cells belong to; `limit` is how
    many cells lie between registers (0: no registers but those asked for)."""

    fabric: Fabric
    part: str = ""
    limit: int = 0
    cells: list[Cell] = field(default_factory=list)
    stage: list[int] = field(default_factory=lambda: [0])  # of each net; net 0 is constant
    depth: list[int] = field(default_factory=lambda: [0])  # cells behind the last register
    inputs: dict[int, int] = field(default_factory=dict)  # net -> bit of the input port
    tables: dict[tuple[tuple[int, ...], int], int] = field(default_factory=dict)
    registers: dict[int, int] = field(default_factory=dict)
    forms: Forms = field(init=False)

    def __post_init__(self) -> None:
        self.forms = Forms(self.fabric)

    def net(self, stage: int, depth: int = 0) -> int:
        """A new net, of values that are valid `stage` registers and `depth` cells later."""
        self.stage.append(stage)
        self.depth.append(depth)
        return len(self.stage) - 1

    def _behind(self, nets: Sequence[int]) -> int:
        """A new net driven by a cell that reads aligned nets."""
        return self.net(
            max((self.stage[n] for n in nets), default=0),
            1 + max((self.depth[n] for n in nets), default=0),
        )

    def input(self, bit: int) -> int:
        """The literal of a bit of the input port."""
        net = self.net(0)
        self.inputs[net] = bit
        return 2 * net

    def register(self, literal: int) -> int:
        """The same one register later."""
        net = literal >> 1
        if net == 0:
            return literal
        if net not in self.registers:
            q = self.net(self.stage[net] + 1)
            self.cells.append(Register(self.part, net, q))
            self.registers[net] = q
        return 2 * self.registers[net] + (literal & 1)

    def aligned(self, literals: Sequence[int], stage: int | None = None) -> list[int]:
        """All of them delayed to the stage of the latest, or to `stage`."""
        last = max((self.stage[x >> 1] for x in literals), default=0) if stage is None else stage
        out = []
        for x in literals:
            while x > 1 and self.stage[x >> 1] < last:
                x = self.register(x)
            out.append(x)
        return out

    def ready(self, literals: Sequence[int]) -> list[int]:
        """All of them where one more cell may read them: aligned, and registered if need be."""
        last = max((self.stage[x >> 1] for x in literals), default=0)
        deep = [self.depth[x >> 1] for x in literals if self.stage[x >> 1] == last]
        return self.aligned(literals, last + int(0 < self.limit <= max(deep, default=0)))

    def function(self, literals: Sequence[int], values: np.ndarray) -> int:
        """The literal of a function; literals[j] is input j."""
        nets, values = self._plain(literals, values)
        aligned = self.ready([2 * n for n in nets])
        if len(nets) > 1 and any(x >> 1 != n for x, n in zip(aligned, nets, strict=True)):
            nets, values = self._plain(aligned, values)
        if not nets:
            return TRUE if values[0] else FALSE
        if len(nets) == 1:
            return 2 * nets[0] + int(not values[1])
        if len(nets) <= self.fabric.inputs:
            return self._table(nets, values)
        return self._formed(nets, self.forms.find(values))

    def positive(self, literal: int) -> int:
        """The net of a literal; an inverted one costs a table."""
        if literal <= 1:
            raise AssertionError("a constant has no net")
        if not literal & 1:
            return literal >> 1
        return self._own((literal >> 1,), 1)

    def table(self, literals: Sequence[int], values: np.ndarray) -> int:
        """A net driven by a table of its own of at most the fabric's inputs, even if it is
        constant or one of its inputs: what a carry chain or a join needs."""
        nets, values = self._plain(literals, values)
        return self._own(tuple(nets), number(values))

    def dual(self, literals: Sequence[int], six: np.ndarray, five: np.ndarray) -> tuple[int, int]:
        """Nets of two functions in one table: `six` of all (at most six) literals, `five` of the
        first five. With six literals, `five` has to be `six` with the last one at 0."""
        literals = list(literals)
        nets, flips = [x >> 1 for x in literals], [x & 1 for x in literals]
        assert all(x > 1 for x in literals) and len(set(nets)) == len(nets)
        index = np.arange(1 << len(nets)) ^ sum(f << j for j, f in enumerate(flips))
        six = six[index]
        if len(nets) == 6:
            # an inverted last input would exchange the halves
            assert not flips[5]
            init = number(six)
            assert (five[index[:32] & 31] == six[:32]).all()
        else:
            five = five[index]
            spread = np.arange(32) & ((1 << len(nets)) - 1)
            init = number(np.concatenate([five[spread], six[spread]]))
        outs = self._behind(nets), self._behind(nets)
        self.cells.append(Dual(self.part, tuple(nets), init, *outs))
        return outs

    def chain(
        self, carry_in: int, selects: Sequence[int], data: Sequence[int]
    ) -> tuple[list[int], int]:
        """Literals of the totals of a carry chain, and of its carry out. Nets, net 0 is false.

        carry_in: a net, 0 for none.
        """
        nets = [n for n in (carry_in, *selects, *data) if n]
        stage = max(self.stage[n] for n in nets)
        depth = max(self.depth[n] for n in nets)
        assert all(self.stage[n] == stage for n in nets)
        totals: list[int] = []
        carry, first, count = carry_in, True, len(selects)
        for start in range(0, count + 1, 4):
            width = min(4, count - start)
            if width == 0:  # the carry of a full cell leaves it directly
                break
            pick = [*selects[start : start + 4], *[0] * (4 - width)]
            fill = [*data[start : start + 4], *[0] * (4 - width)]
            outs = [self.net(stage, depth) if i < width else -1 for i in range(4)]
            end = self.net(stage, depth)
            if width < 4:  # select 0 shows the carry in the next total
                outs[width] = end
                carries = [-1] * 4
            else:
                carries = [-1, -1, -1, end]
            words = (tuple(w) for w in (pick, fill, outs, carries))
            self.cells.append(Carry(self.part, carry, first, *words))
            totals += [2 * n for n in outs[:width]]
            carry, first = end, False
        return totals, 2 * carry

    def _plain(self, literals: Sequence[int], values: np.ndarray) -> tuple[list[int], np.ndarray]:
        """Rising nets and the function of them: no constants, no inversions, nothing unused."""
        for j in range(len(literals) - 1, -1, -1):
            if literals[j] <= 1:
                values = cofactor(values, j, literals[j])
        literals = [x for x in literals if x > 1]
        nets = sorted({x >> 1 for x in literals})
        place = {n: i for i, n in enumerate(nets)}
        index = np.zeros(1 << len(nets), np.int64)
        address = np.arange(1 << len(nets))
        for j, x in enumerate(literals):
            index |= (((address >> place[x >> 1]) & 1) ^ (x & 1)) << j
        values = values[index]
        kept = support(values)
        if len(kept) < len(nets):
            values = reduced(values, kept)
            nets = [nets[j] for j in kept]
        return nets, values

    def _own(self, nets: tuple[int, ...], init: int) -> int:
        out = self._behind(nets)
        self.cells.append(Table(self.part, nets, init, out))
        return out

    def _table(self, nets: Sequence[int], values: np.ndarray) -> int:
        key, init = tuple(nets), number(values)
        inverse = init ^ ((1 << (1 << len(nets))) - 1)
        for wanted, flip in ((init, 0), (inverse, 1)):
            if (key, wanted) in self.tables:
                return 2 * self.tables[key, wanted] + flip
        out = self._own(key, init)
        self.tables[key, init] = out
        return 2 * out

    def _formed(self, nets: Sequence[int], form: Form) -> int:
        if form.kind == "join":
            return 2 * self._join(nets, form)
        if form.kind == "mux":
            rest = [n for j, n in enumerate(nets) if j != form.pick]
            terms: list[int] = [2 * nets[form.pick]]
            sides = [cofactor(form.values, form.pick, v) for v in (0, 1)]
            needs = [support(side) for side in sides]
            places: list[list[int]] = []
            functions: list[np.ndarray] = []
            for v in (0, 1):
                if v == form.level:  # taken into the table of the multiplexer
                    found = [2 * rest[j] for j in needs[v]]
                    functions.append(reduced(sides[v], needs[v]))
                else:
                    found = [self.function([2 * rest[j] for j in needs[v]],
                                           reduced(sides[v], needs[v]))]  # fmt: skip
                    functions.append(np.array([False, True]))
                places.append(list(range(len(terms), len(terms) + len(found))))
                terms += found
            address = np.arange(1 << len(terms))
            picked = []
            for v in (0, 1):
                index = sum(((address >> p) & 1) << i for i, p in enumerate(places[v]))
                picked.append(functions[v][index])
            return self.function(terms, np.where(address & 1, picked[1], picked[0]))
        assert form.kind == "codes" and form.last is not None
        bound = [2 * nets[j] for j in form.bound]
        codes = [self.function(bound, part.values) for part in form.parts]
        return self.function([*codes, *(2 * nets[j] for j in form.free)], form.last.values)

    def _join(self, nets: Sequence[int], form: Form) -> int:
        if form.kind == "table":
            return self.table([2 * n for n in nets], form.values)
        rest = [n for j, n in enumerate(nets) if j != form.pick]
        zero, one = (self._join(rest, part) for part in form.parts)
        pick = nets[form.pick]
        out = self.net(self.stage[pick], max(self.depth[n] for n in (zero, one)))
        self.cells.append(Join(self.part, form.level, zero, one, pick, out))
        return out


def alive(cells: Sequence[Cell], wanted: Iterable[int]) -> list[Cell]:
    """The cells on which the nets `wanted` depend, in order."""
    needed = set(wanted)
    kept: list[Cell] = []
    for cell in reversed(cells):
        if needed.intersection(makes(cell)):
            kept.append(cell)
            needed.update(reads(cell))
    return kept[::-1]


def spread(cells: Sequence[Cell], most: int, first: int) -> list[Cell]:
    """Registers that are read by more than `most` functions become several, each for the next
    `most` of them; cells in order.

    A function is a table with what is joined to it. New nets are numbered from `first`.
    """
    function: dict[int, int] = {}  # net -> the one that it is a piece of
    for cell in reversed(cells):
        if isinstance(cell, Join):
            whole = function.get(cell.out, cell.out)
            function[cell.zero] = function[cell.one] = whole
    readers: dict[int, dict[int, None]] = {}  # of each net, the last one first
    instead: dict[tuple[int, int], int] = {}  # what a function reads in place of a net
    twins: dict[int, list[int]] = {}
    for cell in reversed(cells):
        by = [_function(cell, function)]
        if isinstance(cell, Register):
            order = list(readers.get(cell.q, {}))[::-1]
            for start in range(most, len(order), most):
                by.append(first)
                instead |= {(reader, cell.q): first for reader in order[start : start + most]}
                first += 1
            twins[cell.q] = by
        for source in reads(cell):
            readers.setdefault(source, {}).update(dict.fromkeys(reversed(by)))
    out: list[Cell] = []
    for cell in cells:
        reader = _function(cell, function)

        def net(n: int, reader: int = reader) -> int:
            return instead.get((reader, n), n)

        if isinstance(cell, Table | Dual):
            out.append(replace(cell, inputs=tuple(net(n) for n in cell.inputs)))
        elif isinstance(cell, Join):
            out.append(replace(cell, pick=net(cell.pick)))
        elif isinstance(cell, Carry):
            out.append(replace(cell, carry_in=net(cell.carry_in),
                               select=tuple(net(n) for n in cell.select),
                               data=tuple(net(n) for n in cell.data)))  # fmt: skip
        else:
            qs = twins[cell.q]
            out += [Register(cell.part, net(cell.d, q), q, len(qs) > 1) for q in qs]
    return out


def _function(cell: Cell, function: Mapping[int, int]) -> int:
    """The function that a cell is a piece of, by the net that it drives."""
    net = makes(cell)[0]
    return function.get(net, net)


def levels(cells: Sequence[Cell]) -> dict[int, int]:
    """How many cells lie between each net and the register or input before it; cells in order."""
    level: dict[int, int] = {}
    for cell in cells:
        if isinstance(cell, Register):
            level[cell.q] = 0
            continue
        depth = 1 + max((level.get(n, 0) for n in reads(cell)), default=0)
        for net in makes(cell):
            level[net] = depth
    return level


def paired(cells: Sequence[Cell], stage: Sequence[int]) -> list[Cell]:
    """Tables of one part that read at most five nets together share one table with two outputs.

    Only tables of one level of one stage, so that no path leads from one to the other. Each table
    takes the partner with which it has most nets in common, then the one that reads most.
    """
    level = levels(cells)
    joined = {n for c in cells if isinstance(c, Join) for n in (c.zero, c.one)}
    groups: dict[tuple[str, int, int], list[Table]] = {}
    for c in cells:
        if isinstance(c, Table) and len(c.inputs) <= 5 and c.out not in joined:
            groups.setdefault((c.part, stage[c.out], level[c.out]), []).append(c)
    partner: dict[int, Table] = {}
    for group in groups.values():
        group.sort(key=lambda c: -len(c.inputs))
        by_net: dict[int, list[Table]] = {}
        for c in group:
            for n in c.inputs:
                by_net.setdefault(n, []).append(c)
        narrow = [c for c in group if len(c.inputs) <= 3]
        for c in group:
            if c.out in partner:
                continue
            mine = set(c.inputs)
            near = {o.out: o for n in c.inputs for o in by_net[n]}
            far = narrow if len(mine) <= 4 else []
            best: Table | None = None
            rank = (-1, -1)
            for other in (*near.values(), *far):
                if other is c or other.out in partner:
                    continue
                common = len(mine.intersection(other.inputs))
                if len(mine) + len(other.inputs) - common <= 5:
                    rank, best = max(((common, len(other.inputs)), other), (rank, best),
                                     key=lambda pair: pair[0])  # fmt: skip
            if best is not None:
                partner[c.out], partner[best.out] = best, c
    out: list[Cell] = []
    done: set[int] = set()
    for c in cells:
        if not isinstance(c, Table) or c.out not in partner:
            out.append(c)
        elif c.out not in done:
            out.append(_pair(c, partner[c.out]))
            done.update((c.out, partner[c.out].out))
    return out


def _pair(a: Table, b: Table) -> Dual:
    nets = tuple(dict.fromkeys((*a.inputs, *b.inputs)))
    address = np.arange(32)
    halves = []
    for c in (b, a):  # the lower half is the output `five`
        index = sum(((address >> nets.index(n)) & 1) << j for j, n in enumerate(c.inputs))
        halves.append(vector(c.init, len(c.inputs))[index])
    return Dual(a.part, nets, number(np.concatenate(halves)), a.out, b.out)
