# SPDX-License-Identifier: Apache-2.0
"""How much an operation of the lanes slows down beside one of the array.

Both write into the activation memory, whose ports their reads take first (hdl/engine/act_mem.sv).
Which of its four banks each of them reads and writes in which cycle is known from the descriptors,
so a stretch of both is played through word by word: banks only, no data.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwflow.emit import isa
from hwflow.emit.engine.encode import REACH
from hwflow.emit.engine.operation import Operation
from hwflow.emit.engine.program import TILE_CYCLES

SAMPLE = 1500  # rows of the lanes that are played
# Cycles of the array's operation that have passed when the rows begin: what the banks meet depends
# on it, so the mean of several is taken
MEETINGS = (0, 500, 1000)
# Cycles from the decision on a row to its read at the RAMs, and from there to its result; from the
# last weight word of a group to its first result; as in engine_pkg.sv, to a cycle or two
READ_LATENCY, LANE_LATENCY, ARRAY_LATENCY = 3, 24, 34
HOLD_ARRAY, HOLD_LANES = 20, 32  # words that wait before the lanes pause (engine_pkg::ACT_HOLD_*)

Key = tuple[object, ...]
Row = tuple[int, int]  # banks that are read (a bit each), bank of the result or -1


@dataclass(frozen=True)
class Slow:
    """Cycles a row takes, at least 1, and how much later the last results are written."""

    row: float
    end: float


@dataclass
class Banks:
    """Slow-downs of the operations of one frame, each kind of pair played once."""

    operations: Sequence[Operation]
    keys: dict[int, Key] = field(default_factory=dict)  # what the slow-down depends on
    pairs: dict[tuple[int, int], Slow] = field(default_factory=dict)
    found: dict[tuple[Key, Key], Slow] = field(default_factory=dict)

    def beside(self, lanes: int, array: int) -> Slow:
        """How operation `lanes` runs while the array runs operation `array`."""
        if (lanes, array) not in self.pairs:
            key = self._key(lanes), self._key(array)
            if key not in self.found:
                op = self.operations[lanes]
                rows = _rows(op)
                plays = [
                    _play(rows, REACH[op.opcode], _Array(self.operations[array], 3 * len(rows), at))
                    for at in MEETINGS
                ]
                self.found[key] = Slow(
                    sum(play.row for play in plays) / len(plays),
                    sum(play.end for play in plays) / len(plays),
                )
            self.pairs[lanes, array] = self.found[key]
        return self.pairs[lanes, array]

    def _key(self, index: int) -> Key:
        if index not in self.keys:
            op = self.operations[index]
            self.keys[index] = _array_key(op) if op.opcode == "CONV" else _lanes_key(op)
        return self.keys[index]


def _lanes_key(op: Operation) -> Key:
    f = op.fields
    src, dst = _records(op)
    return (
        op.opcode, f["in_w"], f["in_h"], f["rows"], f["row_words"], f["stride_log2"], f["up"],
        f["y0"] == 0, f["y0"] + f["rows"] >= f["in_h"] >> f["stride_log2"], f["y0"] & 1,
        src[0] & 3, dst[0] & 3, min(f["channels"], SAMPLE),
    )  # fmt: skip


def _array_key(op: Operation) -> Key:
    f = op.fields
    return (
        f["k_words"], f["groups"], f["tiles"], f["last_oc"], f["pair"], f["w8"], f["windowed"],
        f.get("in_w", 0), f.get("row_words", 0), f.get("y0", 0) & 1, op.dst[0] & 3,
    )  # fmt: skip


def _records(op: Operation) -> tuple[list[int], list[int]]:
    """Source and destination of each channel of DW, DDW, POOL."""
    words = np.frombuffer(op.payload, "<u8").reshape(-1, 2)
    src, dst = isa.DW_RECORD["src"], isa.DW_RECORD["dst"]
    low = (words[:, 0] >> np.uint64(src.lsb)) & np.uint64(0xFFFF)
    high = (words[:, 1] >> np.uint64(dst.lsb - 64)) & np.uint64(0xFFFF)
    return low.astype(int).tolist(), high.astype(int).tolist()


def _rows(op: Operation) -> list[Row]:
    """The first rows of an operation of the lanes, in the order of row_walker.sv."""
    f = op.fields
    reach, stride, up, narrow = REACH[op.opcode], 1 << f["stride_log2"], f["up"], f["narrow"]
    begin, end = stride * f["y0"], stride * (f["y0"] + f["rows"] - 1)
    first, last = max(0, begin - reach), min(f["in_h"] - 1, end + reach)
    step = 1 if up else 2 * stride  # eighths of a row's pixels from one word to the next
    rows: list[Row] = []
    for src, dst in zip(*_records(op), strict=True):
        for xo in range(f["row_words"]):
            left, right = xo == 0, xo == f["row_words"] - 1
            result, second = dst + xo, False
            for v in range(first, last + 1):
                eighth = (v >> up) * (f["in_w"] // 8) + xo * step
                center, odd = src + (eighth >> 1), eighth & 1
                # the neighbours that a tap may need: lane_side.sv, mask_q
                before = not left and (not odd or stride == 2)
                after = stride == 2 or ((bool(odd) or not up)
                                        and not (right and (not odd or up or narrow)))
                banks = 1 << (center & 3)
                banks |= (1 << (center - 1 & 3)) if before else 0
                banks |= (1 << (center + 1 & 3)) if after else 0
                written = -1
                if begin <= v <= end and not (stride == 2 and v & 1):
                    if not narrow or second:
                        written = result & 3
                        result += 1 if narrow else f["row_words"]
                    second = not second
                rows.append((banks, written))
            if len(rows) >= SAMPLE:
                return rows
    return rows


class _Array:
    """For each cycle of an operation that repeats: banks that are read, bank of the result.

    passed: of its cycles before the first of these.
    """

    def __init__(self, op: Operation, cycles: int, passed: int = 0) -> None:
        cycles += passed
        self.reads = [0] * cycles
        self.writes = [-1] * (cycles + 2 * isa.CHUNK)
        now = 0
        while now < cycles:
            for start, length, reads, writes in _groups(op):
                at = now + start
                if at + length > cycles:
                    now = cycles
                    break
                self.reads[at : at + len(reads)] = reads
                at += len(reads) + ARRAY_LATENCY
                for i, bank in enumerate(writes):
                    if at + i < len(self.writes):
                        self.writes[at + i] = bank
                last = now + start + length
            else:
                now = last
                continue
            break
        del self.reads[:passed], self.writes[:passed]


def _groups(op: Operation) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """(first cycle, cycles, reads, writes) of each group of pixels of each tile of a CONV."""
    f = op.fields
    k, pair, windowed = f["k_words"], f["pair"], f["windowed"]
    columns = _columns(op)
    per_tile = isa.TILE_OC // 2 if f["w8"] else isa.TILE_OC
    if -(-len(op.dst) // per_tile) != f["tiles"]:  # an array of another width
        per_tile = -(-len(op.dst) // f["tiles"])
    now = 0
    for tile in range(f["tiles"]):
        dst = op.dst[tile * per_tile : (tile + 1) * per_tile]
        now += TILE_CYCLES
        for g in range(0, f["groups"], 2 if pair else 1):
            reads = []
            for plane, tap_i, tap_j, half in columns:
                if windowed:
                    stride = 1 << f["stride_log2"]
                    row = (f["y0"] + g // f["row_words"]) * stride + tap_i - 1
                    center = plane + row * f["in_w"] // isa.LANES + g % f["row_words"] * stride
                    center += 2 if half == isa.HALVES["high"] else 0
                    slots = [0, 1, 2] if tap_j == 0 else [1, 2]
                else:
                    center, slots = plane + g, [1, 2] if pair else [1]
                banks = 0
                for slot in slots:
                    banks |= 1 << (center + slot - 1 & 3)
                reads.append(banks)
            writes = [d + g & 3 for d in dst]
            if pair:
                writes += [d + g + 1 & 3 for d in dst]
            length = max(k, len(writes))
            yield now, length, reads, writes
            now += length


def _columns(op: Operation) -> list[tuple[int, int, int, int]]:
    """(plane, tap_i, tap_j, half) of each weight word of the first tile."""
    k = op.fields["k_words"]
    words = np.frombuffer(op.payload, "<u8").reshape(-1, 2)[isa.HEADER_WORDS : isa.HEADER_WORDS + k]
    parts = []
    for name in ("plane", "tap_i", "tap_j", "half"):
        at = isa.WEIGHT_WORD[name]
        mask = np.uint64((1 << at.width) - 1)
        parts.append(((words[:, 1] >> np.uint64(at.lsb - 64)) & mask).astype(int).tolist())
    return list(zip(*parts, strict=True))


def _play(rows: list[Row], reach: int, array: _Array) -> Slow:
    """Rows and their results, with the choice of act_mem.sv for each cycle's writes."""
    stage = deque([0] * READ_LATENCY)
    hold = deque([False, False])
    due: deque[tuple[int, int]] = deque()
    first: deque[int] = deque()
    second: deque[int] = deque()
    index = now = read = 0
    rows = [*rows, *[(0, -1)] * reach]  # empty ones push the last rows to the centre
    most = len(array.reads)
    while now < most and (index < len(rows) or due or second):
        if hold.popleft() or index == len(rows):
            stage.append(0)
        else:
            stage.append(rows[index][0])
            if index >= reach and rows[index - reach][1] >= 0:
                due.append((now + LANE_LATENCY, rows[index - reach][1]))
            index += 1
            read = now + 1
        lanes, other = stage.popleft(), array.reads[now]
        a = 1 << first[0] if first else 0
        b = 1 << second[0] if second else 0
        a0, a1 = a and not other & a, a and not lanes & a
        b0, b1 = b and not other & b, b and not lanes & b
        if (a0 and b1) or (a1 and b0):
            first.popleft()
            second.popleft()
        elif a0 or a1:
            first.popleft()
        elif b0 or b1:
            second.popleft()
        if array.writes[now] >= 0:
            first.append(array.writes[now])
        if due and due[0][0] <= now:
            second.append(due.popleft()[1])
        hold.append(len(first) >= HOLD_ARRAY or len(second) >= HOLD_LANES)
        now += 1
    return Slow(max(1.0, read / max(index, 1)), max(0.0, now - read - LANE_LATENCY - 1.0))
