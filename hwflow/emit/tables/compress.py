# SPDX-License-Identifier: Apache-2.0
"""Sums of many bits in the slices of a 7-series chip: which bits go into which carry chain.

A position of a carry chain is one table of two outputs and one bit of a CARRY4. What it can do:

- "six": two positions. The first table gives the parity of six bits of one rank (the sixth at the
  pin that the lower output does not see, so that this output is the parity of the other five, which
  is what the carry has to be where the parity of all is even); the second adds half of the first
  five, a digit of 0 to 2. With a bit as carry in: seven bits to three in two tables.
- "three": the sum of three bits and one more, which comes from the heap or is the majority of the
  position before. The majority of its own three leaves by the lower output.
- "two", "one": a plain adder of two bits or of one, one of which may be such a majority.
- "top": at the highest rank, where nothing is carried, the parity of up to six bits.

A table takes at most two bits off the heap, so that (bits - bits of the sum) / 2 is the least there
can be. `plan` looks for the cheapest sequence of chains, best first.
(The digits of "six" are those of the counter (6,0,6;5) of Kumm and Zipf, FPL 2014.)
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

Counts = tuple[int, ...]
MOST_EXPANDED = 20
MOST_WASTE = 2


@dataclass(frozen=True, order=True)
class Element:
    """Positions of a chain: their kind, and the bits they take off the heap at their rank."""

    kind: str
    taken: int

    @property
    def positions(self) -> int:
        """Tables, and positions of the chain."""
        return 2 if self.kind == "six" else 1


@dataclass(frozen=True, order=True)
class Chain:
    """A carry chain that begins at a rank, with a bit of that rank as carry in or without one."""

    rank: int
    carry_in: bool
    elements: tuple[Element, ...]

    @property
    def luts(self) -> int:
        """Tables."""
        return sum(e.positions for e in self.elements)

    @property
    def plain(self) -> bool:
        """A full or half adder, which needs no carry chain."""
        return self.elements in ((Element("two", 2),), (Element("top", 2),)) or (
            len(self.elements) == 1 and self.elements[0].kind == "top"
        )


@dataclass(frozen=True)
class _Open:
    """A chain being put together: where it stands, what it has taken and given."""

    rank: int
    majority: bool
    counts: Counts
    luts: int
    elements: tuple[Element, ...]


def _elements(free: int, majority: bool, first: bool, carry_in: bool, top: bool) -> list[Element]:
    """What may come next at a rank with so many free bits."""
    extra = int(majority)
    if top:
        most = min(6 - extra, free)
        return [Element("top", most)] if most + extra else []
    found = [Element("six", n - extra) for n in (6, 5) if free >= n - extra]
    if not (first and carry_in):
        # with a carry in, the pin of the first position's data is taken
        if majority:
            found += [Element("three", n) for n in (3, 2) if free >= n]
        else:
            found += [Element("three", n) for n in (4, 3) if free >= n]
    if free >= 2 - extra:
        found.append(Element("two", 2 - extra))
    if free >= 1 - extra and not first:
        found.append(Element("one", 1 - extra))
    return found


def _chains(counts: Counts) -> Iterator[tuple[Chain, Counts]]:
    """Chains worth a try, each with the heap it leaves."""
    bits = len(counts)
    for rank in range(bits):
        for carry_in in (True, False):
            if counts[rank] < 2 + carry_in:
                continue
            heap = list(counts)
            heap[rank] -= carry_in
            stack = [_Open(rank, False, tuple(heap), 0, ())]
            while stack:
                now = stack.pop()
                if now.elements:
                    after = list(now.counts)
                    last = now.elements[-1].kind
                    if now.rank < bits and last != "top":
                        after[now.rank] += 1 + now.majority
                    if sum(after) < sum(counts) or now.luts == 1:
                        yield Chain(rank, carry_in, now.elements), tuple(after)
                    if last == "top" or now.rank >= bits:
                        continue
                waste = 2 * now.luts - (sum(counts) - sum(now.counts)) + (
                    1 + now.majority if now.elements else 0
                )
                if waste > MOST_WASTE:
                    continue
                for e in _elements(
                    now.counts[now.rank], now.majority, not now.elements, carry_in,
                    now.rank == bits - 1,
                ):
                    left = list(now.counts)
                    left[now.rank] -= e.taken
                    for offset in range(e.positions):
                        if now.rank + offset < bits:
                            left[now.rank + offset] += 1
                    stack.append(
                        _Open(
                            now.rank + e.positions, e.kind == "three", tuple(left),
                            now.luts + e.positions, (*now.elements, e),
                        )
                    )


SEVEN = (Element("six", 6),)
LARGE = (12, 8)


@functools.lru_cache(maxsize=256)
def plan(counts: Counts) -> tuple[Chain, ...]:
    """Chains that leave at most one bit at each of len(counts) ranks; counts[r] bits weigh 2**r.

    len(counts) must be the width of the sum: what is carried beyond it is known to be 0.
    """
    plans = [_search(counts, large) for large in LARGE]
    return min(plans, key=lambda chains: (sum(c.luts for c in chains), len(chains)))


def _search(counts: Counts, large: int) -> tuple[Chain, ...]:
    """A plan; ranks of more than `large` bits are made smaller before anything is searched."""
    begun: list[Chain] = []
    heap = list(counts)
    for rank in range(len(heap)):
        # seven bits to three waste nothing; the search begins where the heap is small
        while heap[rank] > large and rank + 2 < len(heap):
            heap[rank] -= 6
            heap[rank + 1] += 1
            heap[rank + 2] += 1
            begun.append(Chain(rank, True, SEVEN))
    start = tuple(heap)
    tie = itertools.count()
    goal = len(counts)
    queue: list[tuple[float, int, int, Counts]] = [(0.0, 0, 0, start)]
    best: dict[Counts, tuple[int, Counts | None, Chain | None]] = {start: (0, None, None)}
    done: set[Counts] = set()
    found: Counts | None = None
    expanded = 0
    while queue:
        _, cost, _, now = heapq.heappop(queue)
        if now in done:
            continue
        done.add(now)
        if max(now) <= 1:
            found = now
            break
        expanded += 1
        for chain, after in _chains(now):
            total = cost + 2 * chain.luts
            if after in best and best[after][0] <= total:
                continue
            best[after] = (total, now, chain)
            # beyond so many states, go for the nearest goal
            weight = 1.5 if expanded < MOST_EXPANDED else 3.0
            rest = max(0, sum(after) - goal)
            carries = 0.0 if chain.plain else 0.01
            heapq.heappush(queue, (total + weight * rest + carries, total, next(tie), after))
    assert found is not None
    path: list[Chain] = []
    at: Counts = found
    while best[at][1] is not None:
        _, before, step = best[at]
        assert before is not None and step is not None
        path.append(step)
        at = before
    return (*begun, *path[::-1])


def luts(counts: Counts) -> int:
    """Tables of the sum of a heap."""
    return sum(chain.luts for chain in plan(counts))
