# SPDX-License-Identifier: Apache-2.0
"""The head of a network of tables: sums of codes, and the class of the greatest score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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


def greater(builder: Builder, a: Sequence[int], b: Sequence[int], or_equal: bool) -> int:
    """The literal of a > b, or a >= b, of unsigned numbers of equally many bits, lowest first.

    The lowest bits fill a table; each further table takes the answer so far and the next bits.
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
        if taken == 0:
            answer = builder.function(lits, wins | ties if or_equal else wins)
        else:
            answer = builder.function(
                [*lits, answer], np.concatenate([wins, wins | ties])
            )
        taken += k
    return answer


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
            wins = greater(builder, high, low, last)
            final = len(field) == 2
            best = [] if final else [
                builder.function([x, y, wins], PICK) for x, y in zip(low, high, strict=True)
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
