# SPDX-License-Identifier: Apache-2.0
"""The head of a network of tables: sums of codes, and the class of the greatest score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwflow.emit.tables import compress
from hwflow.emit.tables.functions import vector
from hwflow.emit.tables.netlist import FALSE, Builder

XOR3, MAJ3 = vector(0x96, 3), vector(0xE8, 3)
XOR2, AND2 = vector(0x6, 2), vector(0x8, 2)
PICK = vector(0xCA, 3)  # inputs 0, 1 and which of them


def sum_by_adders(builder: Builder, heap: Sequence[Sequence[int]], bits: int) -> list[int]:
    """The low `bits` bits of the sum of literals, heap[r] of which weigh 2**r: full adders only."""
    ranks: list[list[int]] = [list(row) for row in heap]
    ranks += [[] for _ in range(bits + 1 - len(ranks))]
    out = []
    for r in range(bits):
        row = ranks[r]
        while len(row) > 1:
            row.sort(key=lambda x: (builder.stage[x >> 1], builder.depth[x >> 1]))
            taken, row = row[:3], row[3:]
            total, carry = (XOR3, MAJ3) if len(taken) == 3 else (XOR2, AND2)
            row.append(builder.function(taken, total))
            if r + 1 < bits:
                ranks[r + 1].append(builder.function(taken, carry))
        out.append(row[0] if row else FALSE)
    return out


def sum_by_chains(builder: Builder, heap: Sequence[Sequence[int]], bits: int) -> list[int]:
    """The same with the carry chains of a 7-series chip, two bits a table; see `compress`."""
    ranks, offset = _distinct(heap, bits)
    if offset:  # constants are rare: tables that training left constant
        return sum_by_adders(builder, heap, bits)
    for chain in compress.plan(tuple(len(row) for row in ranks)):
        for row in ranks:
            row.sort(key=lambda x: (builder.stage[x >> 1], builder.depth[x >> 1]))
        taken = _taken(chain, ranks)
        if chain.plain:
            _plain_adder(builder, chain, taken, ranks)
        else:
            _chain(builder, chain, taken, ranks)
    return [row[0] if row else FALSE for row in ranks]


def _distinct(heap: Sequence[Sequence[int]], bits: int) -> tuple[list[list[int]], int]:
    """The heap without constants and with every net once a rank; the sum of the constants."""
    ranks: list[list[int]] = [[] for _ in range(bits)]
    more: list[int] = []
    offset = 0
    for r in range(bits):
        row = [*(heap[r] if r < len(heap) else ()), *more]
        more = []
        seen: set[int] = set()
        for x in row:
            if x <= 1:
                offset += x << r
            elif x in seen:  # twice is once at the next rank
                seen.discard(x)
                more.append(x)
            elif x ^ 1 in seen:  # a signal and its inverse are 1
                seen.discard(x ^ 1)
                offset += 1 << r
            else:
                seen.add(x)
        ranks[r] = sorted(seen)
    return ranks, offset


def _taken(chain: compress.Chain, ranks: list[list[int]]) -> list[list[int]]:
    """The earliest bits for a chain, off the heap: its carry in, then those of each element."""
    taken = [[ranks[chain.rank].pop(0)] if chain.carry_in else []]
    rank = chain.rank
    for e in chain.elements:
        taken.append([ranks[rank].pop(0) for _ in range(e.taken)])
        rank += e.positions
    return taken


def _plain_adder(
    builder: Builder, chain: compress.Chain, taken: list[list[int]], ranks: list[list[int]]
) -> None:
    lits = [x for row in taken for x in row]
    address = np.arange(1 << len(lits))
    ones = sum(address >> j & 1 for j in range(len(lits)))
    ranks[chain.rank].append(builder.function(lits, np.asarray(ones & 1, bool)))
    if chain.rank + 1 < len(ranks):
        ranks[chain.rank + 1].append(builder.function(lits, np.asarray(ones >> 1 & 1, bool)))


def _chain(
    builder: Builder, chain: compress.Chain, taken: list[list[int]], ranks: list[list[int]]
) -> None:
    sizes = [len(row) for row in taken]
    flat = builder.ready([x for row in taken for x in row])
    rows = []
    for size in sizes:
        rows.append(flat[:size])
        flat = flat[size:]
    carry_in = builder.positive(rows[0][0]) if rows[0] else 0
    selects: list[int] = []
    data: list[int] = []
    majority = 0  # a net
    for e, row in zip(chain.elements, rows[1:], strict=True):
        lits = [*row, *([2 * majority] if majority else [])]
        # bits that have to be nets come last
        lits.sort(key=lambda x: -(x & 1))
        majority = 0
        if e.kind == "six":
            if len(lits) == 6 and lits[5] & 1:
                lits[5] = 2 * builder.positive(lits[5])
            # the parity of all but the last is the data: it is the last where all are even
            rest = _ones(len(lits) - 1)
            # with six inputs the lower output does not see the last one, with five it may
            lower = rest if len(lits) == 6 else np.tile(rest, 2)
            select, even = builder.dual(lits, _ones(len(lits)) & 1 == 1, lower & 1 == 1)
            first, second = builder.dual(lits[:-1], rest >> 1 == 1, rest >> 1 == 2)
            selects += [select, first]
            data += [even, second]
        elif e.kind == "three":
            extra = lits[3:]
            net = builder.positive(extra[0]) if extra else 0
            lits = [*lits[:3], *([2 * net] if extra else [])]
            select, majority = builder.dual(
                lits, _ones(len(lits)) & 1 == 1, _ones(3)[np.arange(1 << len(lits)) & 7] >= 2
            )
            selects.append(select)
            data.append(net)
        elif e.kind == "two":
            select, one = builder.dual(
                lits, _ones(2) & 1 == 1, (np.arange(4) & 1).astype(bool)
            )
            selects.append(select)
            data.append(one)
        else:  # one, top: nothing but the parity, a table of its own for the chain's input
            selects.append(builder.table(lits, _ones(len(lits)) & 1 == 1))
            data.append(0)
    totals, carry = builder.chain(carry_in, selects, data)
    rank = chain.rank + len(totals)
    for offset, x in enumerate(totals):
        ranks[chain.rank + offset].append(x)
    if rank < len(ranks):
        ranks[rank].append(carry)
        if majority:
            ranks[rank].append(2 * majority)


def _ones(inputs: int) -> np.ndarray:
    """How many bits of an address are 1."""
    address = np.arange(1 << inputs)
    return np.asarray(sum(address >> j & 1 for j in range(inputs)))


def greater(
    builder: Builder, a: Sequence[int], b: Sequence[int], or_equal: bool, with_top: bool
) -> tuple[int, int]:
    """The literals of a > b, or a >= b, and of the top bit of the greater one, of unsigned numbers
    of equally many bits, lowest first.

    The lowest bits fill a table; each further table takes the answer so far and the next bits. The
    top bit is that of either, whoever wins, so that the last table can give it, too; it is made
    only with_top.
    """
    pairs = list(zip(a, b, strict=True))
    first, more = builder.fabric.inputs // 2, (builder.fabric.inputs - 1) // 2
    answer, taken = -1, 0
    while taken < len(pairs):
        here = pairs[taken : taken + (first if taken == 0 else more)]
        k = len(here)
        address = np.arange(1 << (2 * k))
        left, right = address & ((1 << k) - 1), address >> k
        wins, ties = left > right, left == right
        lits = [x for x, _ in here] + [y for _, y in here]
        values = wins | ties if or_equal else wins
        if taken:
            lits, values = [*lits, answer], np.concatenate([wins, wins | ties])
        taken += k
        if with_top and taken == len(pairs) and builder.fabric.dual and len(lits) <= 5:
            lits = builder.ready(lits)
            if min(lits) > 1 and len({x >> 1 for x in lits}) == len(lits):
                address = np.arange(1 << len(lits))
                top = (address >> (k - 1) | address >> (2 * k - 1)) & 1 == 1
                six, five = builder.dual(lits, values, top)
                return 2 * six, 2 * five
        answer = builder.function(lits, values)
    return answer, builder.function(pairs[-1], vector(0xE, 2)) if with_top else FALSE


def argmax(builder: Builder, scores: Sequence[Sequence[int]], last: bool) -> list[int]:
    """The number of the greatest of unsigned scores, as literals, lowest first: a tournament.

    Of equal ones the first wins, or the last. A power of two of neighbours meet in each round, so
    that a bit of the number is the outcome of a round, or is picked by those of later rounds.
    """
    bits = max(1, (len(scores) - 1).bit_length())
    field = [(list(score), [FALSE] * bits) for score in scores]
    for bit in range(bits):
        following = []
        for at in range(0, len(field) - 1, 2):
            (low, low_index), (high, high_index) = field[at], field[at + 1]
            final = len(field) == 2
            wins, top = greater(builder, high, low, last, not final)
            best = [] if final else [
                *(
                    builder.function([x, y, wins], PICK)
                    for x, y in zip(low[:-1], high[:-1], strict=True)
                ),
                top,
            ]
            index = [
                builder.function([x, y, wins], PICK)
                for x, y in zip(low_index[:bit], high_index[:bit], strict=True)
            ]
            following.append((best, [*index, wins, *[FALSE] * (bits - bit - 1)]))
        if len(field) % 2:
            following.append(field[-1])
        field = following
    if len(scores) == 1:
        return [FALSE]
    return builder.aligned(field[0][1])
