# SPDX-License-Identifier: Apache-2.0
"""The cycle model of a frame: when each operation runs (docs/engine.md, "Cycles").

The queues' orders and tokens are given. Time goes from event to event: a tile of the array ends, an
operation of the lanes is completed, the ring is full or holds what a tile waits for. In between all
rates are constant: the DDR is shared by the array's stream and one transfer of the lanes, and the
lanes are slowed down by the array's writes (banks.py).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwflow.emit import isa
from hwflow.emit.engine.banks import Banks
from hwflow.emit.engine.encode import REACH
from hwflow.emit.engine.operation import Operation
from hwflow.emit.engine.program import (
    CONV_CYCLES,
    LANE_CYCLES,
    RING_SLACK,
    TILE_CYCLES,
    TRANSFER_CYCLES,
    EngineParams,
)

WORD = isa.WORD_BITS // 8
BURST = 128  # bytes of the longest burst, and what its address is a multiple of
BATCH = 4  # bursts that a direction of the DDR keeps the bus for while the other waits
CONV_START = 20  # of CONV_CYCLES: before the first tile
TRANSFER_START = 45  # of TRANSFER_CYCLES: before the first word
PER_BURST = 3  # cycles from one burst's address to the next
NEVER = math.inf
TINY = 1e-6  # words, bytes and cycles: less than that is none


@dataclass(frozen=True)
class Tile:
    """A tile of CONV: stream words it needs, cycles, and cycles after the last of its words."""

    words: int
    cycles: int
    after_words: int


@dataclass
class _Array:
    """The array's queue: where its stream and its current tile are."""

    order: Sequence[int]
    total: float  # stream words
    position: int = 0
    running: bool = False
    tiles: deque[Tile] = field(default_factory=deque)
    started: float = 0.0  # the tile
    due: float = NEVER  # its end, once its words are there
    done_at: float = NEVER  # the operation's end, once its last tile has ended
    need: float = 0.0  # stream words up to the tile's last one
    fetched: float = 0.0
    popped: float = 0.0

    @property
    def current(self) -> int | None:
        return self.order[self.position] if self.running else None


@dataclass
class _Lanes:
    """The lanes' queue: what is left of its current operation."""

    order: Sequence[int]
    position: int = 0
    running: bool = False
    begins: float = 0.0  # from here on `left` falls
    left: float = 0.0  # rows, bytes, or cycles
    tail: float = 0.0  # cycles after `left` is 0
    done_at: float = NEVER


def timeline(
    operations: Sequence[Operation], needs: Sequence[np.ndarray],
    orders: Mapping[str, Sequence[int]], params: EngineParams,
) -> tuple[list[int], list[int]]:  # fmt: skip
    """(first cycle, cycle after the last) of each operation of a frame."""
    return _Frame(operations, needs, orders, params).run()


class _Frame:
    def __init__(
        self, operations: Sequence[Operation], needs: Sequence[np.ndarray],
        orders: Mapping[str, Sequence[int]], params: EngineParams,
    ) -> None:  # fmt: skip
        self.operations, self.params = operations, params
        self.needs = [set(before.tolist()) for before in needs]
        self.starts = [0.0] * len(operations)
        self.ends = [NEVER] * len(operations)
        stream = sum(operations[i].stream_words for i in orders["array"])
        self.array = _Array(orders["array"], stream)
        self.lanes = _Lanes(orders["lanes"])
        self.banks = Banks(operations)
        self.now = 0.0

    def run(self) -> tuple[list[int], list[int]]:
        while self.array.position < len(self.array.order) or (
            self.lanes.position < len(self.lanes.order)
        ):
            self._begin()
            self._feed()
            fetch, lane = self._rates()
            then = self._next(fetch, lane)
            assert then < NEVER, "the queues wait for each other"
            self._advance(max(then, self.now), fetch, lane)
        return [round(t) for t in self.starts], [round(t) for t in self.ends]

    # ---- what begins now

    def _begin(self) -> None:
        array, lanes = self.array, self.lanes
        if not array.running and array.position < len(array.order):
            index = array.order[array.position]
            if self._ready(index):
                array.running = True
                self.starts[index] = self.now
                op = self.operations[index]
                array.tiles = deque(tiles(op, self.params))
                array.popped += op.stream_words - sum(tile.words for tile in array.tiles)
                array.started = self.now + CONV_START
                array.due = NEVER
        if not lanes.running and lanes.position < len(lanes.order):
            index = lanes.order[lanes.position]
            if self._ready(index):
                lanes.running = True
                self.starts[index] = self.now
                lanes.done_at = NEVER
                lanes.begins, lanes.left, lanes.tail = self._amount(self.operations[index])
                lanes.begins += self.now

    def _feed(self) -> None:
        """When the tile ends is known once its words are in the ring."""
        array = self.array
        if array.running and array.tiles and array.due == NEVER:
            tile = array.tiles[0]
            # A wider array than there is RTL for may have tiles longer than the ring
            array.need = array.popped + min(tile.words, self.params.stream_words - RING_SLACK)
            if array.fetched >= array.need - TINY:
                array.due = max(array.started + tile.cycles, self.now + tile.after_words)

    def _ready(self, index: int) -> bool:
        return all(self.ends[earlier] <= self.now for earlier in self.needs[index])

    def _amount(self, op: Operation) -> tuple[float, float, float]:
        """Cycles before, what then runs at its own rate, cycles after."""
        if op.moved_words:
            return TRANSFER_START, WORD * op.moved_words, TRANSFER_CYCLES - TRANSFER_START
        if op.opcode in REACH:
            fixed = REACH[op.opcode] + LANE_CYCLES
            return fixed, op.cycles - fixed, 0
        return 0, op.cycles, 0

    # ---- rates

    def _rates(self) -> tuple[float, float]:
        """Stream words of the array and what the lanes do, a cycle."""
        array, lanes, params = self.array, self.lanes, self.params
        room = params.stream_words - (array.fetched - array.popped) >= BURST // WORD
        fetching = array.total - array.fetched > TINY and room
        op = self.operations[lanes.order[lanes.position]] if lanes.running else None
        moving = op is not None and self.now >= lanes.begins and lanes.left > 0
        if op is None or not moving:
            return (self._alone(BURST) / WORD if fetching else 0.0), 0.0
        if not op.moved_words:
            rate = 1.0
            lanes.tail = 0.0
            beside = self._works()
            if op.opcode in REACH and beside is not None:
                slow = self.banks.beside(lanes.order[lanes.position], beside)
                rate, lanes.tail = 1.0 / slow.row, slow.end
            return (self._alone(BURST) / WORD if fetching else 0.0), rate
        burst = burst_bytes(op)
        if not fetching:
            return 0.0, self._alone(burst)
        whole = params.bytes_per_cycle
        both = BURST + burst
        if op.opcode == "LOAD":  # burst by burst
            period = both / whole
        else:  # the bus turns after each batch
            period = both / whole + 2 * params.turn_cycles / BATCH
        rate = (1 - params.refresh_share) / period
        return BURST * rate / WORD, burst * rate

    def _works(self) -> int | None:
        """The array's operation if its tiles run: while it fills and drains it takes no ports."""
        array = self.array
        return array.current if array.tiles and self.now >= array.started else None

    def _alone(self, burst: float) -> float:
        """Bytes a cycle of bursts of one kind."""
        params = self.params
        flight = params.latency_cycles + burst / params.bytes_per_cycle
        return (1 - params.refresh_share) * min(
            params.bytes_per_cycle, burst / PER_BURST, params.outstanding * burst / flight
        )

    # ---- events

    def _next(self, fetch: float, lane: float) -> float:
        array, lanes, now = self.array, self.lanes, self.now
        events = [array.due, array.done_at, lanes.done_at]
        if array.running and array.tiles and now < array.started:
            events.append(array.started)
        if array.running and array.tiles and array.due == NEVER and fetch > 0:
            events.append(now + max(array.need - array.fetched, 0.0) / fetch)
        if fetch > 0:
            room = self.params.stream_words - (array.fetched - array.popped)
            events.append(now + min(room, array.total - array.fetched) / fetch)
        if lanes.running and lanes.done_at == NEVER:
            if now < lanes.begins:
                events.append(lanes.begins)
            elif lane > 0:
                events.append(now + lanes.left / lane)
        return min(events)

    def _advance(self, then: float, fetch: float, lane: float) -> None:
        array, lanes = self.array, self.lanes
        before, step = self.now, then - self.now
        self.now = then
        array.fetched = min(array.total, array.fetched + fetch * step)
        if array.due <= self.now + TINY:
            tile = array.tiles.popleft()
            array.popped += tile.words
            array.started, array.due = self.now, NEVER
            if not array.tiles:
                array.done_at = self.now + CONV_CYCLES - CONV_START
        elif array.done_at <= self.now + TINY:
            self.ends[array.order[array.position]] = self.now
            array.position += 1
            array.running, array.done_at = False, NEVER
        if lanes.running and before >= lanes.begins and lanes.done_at == NEVER:
            lanes.left -= lane * step
            if lanes.left <= TINY:
                lanes.left, lanes.done_at = 0.0, self.now + lanes.tail
        if lanes.running and lanes.done_at <= self.now + TINY:
            self.ends[lanes.order[lanes.position]] = self.now
            lanes.position += 1
            lanes.running, lanes.done_at = False, NEVER


def tiles(op: Operation, params: EngineParams) -> list[Tile]:
    """The tiles of a CONV."""
    f = op.fields
    count = f["tiles"]
    words = (op.stream_words - 2) // count
    turns = f["groups"] // 2 if f["pair"] else f["groups"]
    per_tile = params.columns // 2 if f["w8"] else params.columns
    found = []
    for tile in range(count):
        channels = min(per_tile, len(op.dst) - tile * per_tile) * (2 if f["pair"] else 1)
        chunks = [isa.CHUNK] * (f["k_words"] // isa.CHUNK) + [f["k_words"] % isa.CHUNK]
        turn = sum(max(chunk, channels) for chunk in chunks if chunk)
        found.append(Tile(words, TILE_CYCLES + turns * turn, (turns - 1) * turn))
    return found


def burst_bytes(op: Operation) -> float:
    """The mean length of the bursts of a LOAD or STORE: none crosses a multiple of BURST."""
    f = op.fields
    total = count = 0
    for run in range(min(f["runs"], BURST // WORD)):
        offset = f["ddr_offset"] + run * f["ddr_stride"] * WORD
        count += -(-(offset % BURST + f["words"] * WORD) // BURST)
        total += f["words"] * WORD
    return total / count
