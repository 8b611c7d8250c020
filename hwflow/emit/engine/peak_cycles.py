# SPDX-License-Identifier: Apache-2.0
"""Cycles of a PEAK on a heat map that is known (docs/engine.md, "Cycles"; hdl/engine/peak.sv).

How long a PEAK lasts beyond its two scans depends on the photograph: how many peaks are counted
while the threshold rises, and how many words hold ties at it. Here its queue of results is played
cycle by cycle, so the model can be held to a simulated frame; without a photograph the compiler
takes program.PEAK_CYCLES.
"""

from collections import deque

import numpy as np

from hwflow.emit import isa
from hwflow.ops import maxpool

RESULT_CYCLES = 20  # from the row after it until a row's result is in the queue
ROOM = 8  # results in the queue at which no more rows are sent
MANY = 127  # peaks at the threshold, as far as they are counted
LOOK_CYCLES = 2  # of a mark, until it is known
STEP_CYCLES = 1  # from the last result of a part until the next part begins


def peak_cycles(logits: np.ndarray) -> int:
    """From the start of a PEAK on logits int8 (classes, H, W), W a multiple of 16, until its end.
    """
    classes, height, width = logits.shape
    best = maxpool.golden((logits,), maxpool.MaxpoolAttrs(3, 1, 1), {})
    words = width // isa.LANES
    # Rows as they are scanned: class, column of words, y
    shape = (classes, height, words, isa.LANES)
    values, peaks = (
        np.ascontiguousarray(array.reshape(shape).transpose(0, 2, 1, 3)).reshape(-1, isa.LANES)
        for array in (logits, logits == best)
    )
    rows = [values[row][peaks[row]] for row in range(len(values))]
    rank = _Rank()
    cycles = _scan(rows, rank, None)
    fit = rank.above + rank.equal <= isa.CANDIDATES
    cycles += _scan(rows, rank, rank.threshold + (not fit))
    if fit:
        return cycles
    ties = np.array([np.count_nonzero(row == rank.threshold) for row in rows])
    return cycles + _tied(ties.reshape(classes, words, height), isa.CANDIDATES - rank.above)


class _Rank:
    """The threshold as hdl/engine/peak_rank.sv moves it."""

    def __init__(self) -> None:
        self.threshold = -128
        self.above = 0
        self.equal = 0
        self.counts = [0] * 256

    @property
    def busy(self) -> bool:
        return self.above >= isa.CANDIDATES

    @property
    def lowest(self) -> int:
        """Peaks below it are not counted any more; nor those at the threshold, when they are many.
        """
        return self.threshold + (self.equal >= MANY)

    def count(self, value: int) -> None:
        self.counts[value + 128] += 1
        if value > self.threshold:
            self.above += 1
        elif value == self.threshold:
            self.equal += 1

    def rise(self) -> None:
        self.threshold += 1
        self.equal = self.counts[self.threshold + 128]
        self.above -= self.equal


def _scan(rows: list[np.ndarray], rank: _Rank, least: int | None) -> int:
    """A row a cycle unless the queue is full; there each peak takes a cycle, and a row two more.

    least: of the peaks that the second scan writes; None for the first one, which counts.
    """
    queue: deque[list[int]] = deque()
    coming: deque[tuple[int, np.ndarray]] = deque()
    picked: deque[tuple[int, int]] = deque()  # logits on their way to their counters
    picks: list[int] = []
    taken, sent, now, counted = False, 0, 0, 0
    while sent < len(rows) or coming or queue or picked or rank.busy:
        now += 1
        busy = rank.busy
        if picked and picked[0][0] == now:
            rank.count(picked.popleft()[1])
            counted = now
        elif busy and now > counted + 2:
            rank.rise()
        if taken and picks:
            if not busy:
                value = picks.pop()
                if least is None:
                    picked.append((now + 2, value))
        elif taken:
            queue.popleft()
            taken = False
        elif queue:
            picks, taken = list(queue[0]), True
        if coming and coming[0][0] <= now:
            lowest = rank.lowest if least is None else least
            found = [value for value in coming.popleft()[1].tolist() if value >= lowest]
            if found:
                queue.append(found)
        if sent < len(rows) and len(queue) < ROOM:
            coming.append((now + RESULT_CYCLES, rows[sent]))
            sent += 1
    return now + STEP_CYCLES


def _tied(ties: np.ndarray, left: int) -> int:
    """The words with ties, row by row, until those that are left (1 or more) have been taken.

    ties: (classes, words, height), how many a word holds of each class.
    """
    classes = len(ties)
    cycles = 0
    looked = 0
    order = ties.sum(axis=0).T.ravel()  # by row, then word: as they are looked for
    each = ties.transpose(2, 1, 0).reshape(-1, classes)
    for place in np.flatnonzero(order):
        if left == 0:
            break
        cycles += int(place) - looked + LOOK_CYCLES
        looked = int(place)
        over = 0  # when the queue is done with the word
        for number, count in enumerate(each[place].tolist(), 1):
            if count or number == classes:
                over = max(over, 3 * number) + count + 2
        cycles += over + RESULT_CYCLES
        if order[place] <= left:
            left -= int(order[place])
        else:
            cycles += 3 * isa.LANES * classes + RESULT_CYCLES + STEP_CYCLES
            break
    return cycles
