# SPDX-License-Identifier: Apache-2.0
"""act_mem: two readers and three writers against a model of its rules, cycle by cycle.

The model says when each write is done, and on which bus (what the readers leave free, in order of
the channels), so that every output has one expected value in every cycle. Only a word that is
written in the very cycle in which it is read is not looked at.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cocotb
import pytest
from bench import engine_constant, play, unpack

from hwflow.sim.runner import build_and_test

SOURCES = [
    "engine/engine_pkg.sv", "lib/ram_tdp.sv", "engine/write_queue.sv", "engine/act_mem.sv",
]
CHANNELS = ("wa", "wb", "wl")
DEPTHS = (32, 64, 4)
READERS = ("a", "b")
RAM_AT = 3  # cycles from a read's or a choice's first register to the RAM
OUTPUTS = [
    "hold_b", "wl_ready", "wa_empty", "wb_empty", "wl_empty", "a_window", "b_window",
    *(f"tr{bus}_{name}" for bus in range(2) for name in ("en", "addr", "data", "src")),
]


def banks(beat: dict[str, int], reader: str) -> set[int]:
    """Banks that a read of this cycle needs."""
    if not beat.get(f"{reader}_rd_en"):
        return set()
    center, mask = beat[f"{reader}_rd_center"], beat[f"{reader}_rd_mask"]
    return {(center + s - 1) % 4 for s in range(3) if mask >> s & 1}


def choose(banks_wanted: list[int | None], used: list[set[int]]) -> list[int | None]:
    """The channel on each bus: of all ways that are possible, the best one.

    banks_wanted: of each channel's first word, None without one. used: banks that reader A and
    reader B need. Best: wa is written rather than not, then wb; then lower channels on lower buses.
    wl has its turn only when no word of wb waits.
    """
    if banks_wanted[1] is not None:
        banks_wanted = [*banks_wanted[:2], None]

    def possible(c: int | None, bus: int) -> bool:
        return c is None or (banks_wanted[c] is not None and banks_wanted[c] not in used[bus])

    ways = [
        (first, second)
        for first in (None, 0, 1, 2)
        for second in (None, 0, 1, 2)
        if possible(first, 0) and possible(second, 1) and (first is None or first != second)
    ]
    return list(max(ways, key=lambda way: (
        *(c in way for c in range(3)), -(3 if way[0] is None else way[0]),
    )))


@dataclass
class Model:
    """Takes the inputs of one cycle after the other; what the outputs are goes to `due`."""

    words: int
    memory: dict[int, int] = field(default_factory=dict)
    queues: tuple[deque, deque, deque] = field(default_factory=lambda: (deque(), deque(), deque()))
    beats: list[dict[str, int]] = field(default_factory=list)
    due: list[dict[str, int]] = field(default_factory=list)
    windows: dict[tuple[int, str], tuple[int, list]] = field(default_factory=dict)
    hold: int = 0
    empty: tuple[int, int, int] = (1, 1, 1)
    used: list[set[int]] = field(default_factory=lambda: [set(), set()])  # banks, one cycle ago
    # For each bus (channel, address, data): chosen, not in the RAM
    in_flight: deque = field(default_factory=lambda: deque([[None, None], [None, None]]))
    highest: list[int] = field(default_factory=lambda: [0, 0, 0])
    compared: int = 0
    counts: list[int] = field(default_factory=lambda: [0, 0, 0])  # cycles by writes done
    same_bank: int = 0  # cycles with two writes to one bank

    def ready(self) -> bool:
        return len(self.queues[2]) < DEPTHS[2]

    def step(self, beat: dict[str, int], reset: bool = False) -> None:
        now = len(self.beats)
        self.beats.append(beat)
        written = self.in_flight.popleft()
        row = {"hold_b": self.hold, "wl_ready": int(self.ready())}
        row |= {f"{c}_empty": e for c, e in zip(CHANNELS, self.empty, strict=True)}
        for bus, write in enumerate(written):
            row[f"tr{bus}_en"] = int(bool(write))
            if write:
                values = zip(("src", "addr", "data"), write, strict=True)
                row |= {f"tr{bus}_{name}": value for name, value in values}
        self.due.append(row)
        done = [write for write in written if write]
        self.counts[len(done)] += 1
        self.same_bank += len(done) == 2 and done[0][1] % 4 == done[1][1] % 4
        # reads that are at the RAM in this cycle
        if now >= RAM_AT:
            read = self.beats[now - RAM_AT]
            for reader in READERS:
                if read.get(f"{reader}_rd_en"):
                    center, mask = read[f"{reader}_rd_center"], read[f"{reader}_rd_mask"]
                    slots = []
                    for s in range(3):
                        at = center + s - 1
                        known = mask >> s & 1 and all(write[1] != at for write in done)
                        slots.append(self.memory.get(at) if known else None)
                    self.compared += sum(slot is not None for slot in slots)
                    self.windows[now - RAM_AT, reader] = center, slots
        for _, at, data in done:
            if at < self.words:
                self.memory[at] = data
        # a write for each bus is chosen
        wanted = [queue[0][0] % 4 if queue and not reset else None for queue in self.queues]
        chosen = choose(wanted, self.used)
        self.in_flight.append([None if c is None else (c, *self.queues[c][0]) for c in chosen])
        self.hold = int(
            len(self.queues[0]) >= engine_constant("ACT_HOLD_A")
            or len(self.queues[1]) >= engine_constant("ACT_HOLD_B")
        )
        pushes = [bool(beat.get(f"{c}_valid")) for c in CHANNELS]
        pushes[2] &= self.ready()
        self.empty = tuple(
            int(reset or (not queue and not push))
            for queue, push in zip(self.queues, pushes, strict=True)
        )
        self.used = [banks(beat, reader) for reader in READERS]
        for c in chosen:
            if c is not None:
                self.queues[c].popleft()
        for c, push in enumerate(pushes):
            name = CHANNELS[c]
            if push:
                self.queues[c].append((beat[f"{name}_addr"], beat[f"{name}_data"]))
            self.highest[c] = max(self.highest[c], len(self.queues[c]))
            if reset:
                self.queues[c].clear()

    def check(self, seen: list[dict[str, int]]) -> None:
        latency = engine_constant("ACT_LAT")
        for cycle, want in enumerate(self.due):
            for name, value in want.items():
                assert seen[cycle][name] == value, f"cycle {cycle}: {name}"
        for (cycle, reader), (center, slots) in self.windows.items():
            got = unpack(seen[cycle + latency][f"{reader}_window"], 128, 3)
            for s, value in enumerate(slots):
                assert value is None or got[s] == value, (
                    f"cycle {cycle}: slot {s} of {reader}'s window around {center}"
                )


@dataclass(frozen=True)
class Phase:
    """What the readers and writers do for a while; chances in percent."""

    cycles: int
    a: int  # read A
    b: int  # read B, while it is not held
    wa: int
    burst: int = 0  # wa comes in bursts of this many words
    wb: int = 100  # a read of B makes a word
    wl: int = 0
    one_bank: bool = False  # everything goes to one bank
    masks: tuple[int, int] | None = None


def traffic(model: Model, phases: list[Phase], rng: random.Random) -> Iterator[dict[str, int]]:
    """Beats that keep to the rules; each must be given to the model before the next is asked for.

    B's reads reach the memory as late after their decision as is allowed, none are decided from the
    cycle after hold_b on, and their words come as late as is allowed.
    """
    to_memory, to_word = engine_constant("ACT_SLACK_A"), engine_constant("ACT_SLACK_B")
    issued: deque[dict | None] = deque([None] * to_memory)
    coming: deque[bool] = deque([False] * to_word)
    held_before = 0
    burst = 0
    load: dict[str, int] | None = None

    def address(bank: int | None) -> int:
        return rng.randrange(model.words // 4) * 4 + (rng.randrange(4) if bank is None else bank)

    def write(name: str, bank: int | None) -> dict[str, int]:
        # Different channels never have the same address: each has every third row of the banks
        at = address(bank)
        while at // 4 % 3 != CHANNELS.index(name):
            at = address(bank)
        return {f"{name}_valid": 1, f"{name}_addr": at, f"{name}_data": rng.getrandbits(128)}

    def read(name: str, phase: Phase, which: int, bank: int | None) -> dict[str, int]:
        mask = phase.masks[which] if phase.masks else rng.randrange(1, 8)
        if bank is not None:
            mask |= 2
        return {f"{name}_rd_en": 1, f"{name}_rd_center": address(bank), f"{name}_rd_mask": mask}

    for phase in phases:
        bank = rng.randrange(4) if phase.one_bank else None
        for _ in range(phase.cycles):
            beat: dict[str, int] = {}
            if rng.randrange(100) < phase.a:
                beat |= read("a", phase, 0, bank)
            else:
                beat["a_rd_center"], beat["a_rd_mask"] = rng.getrandbits(16), 7
            held_now, held_before = held_before, model.hold
            issue = rng.randrange(100) < phase.b and not held_now
            issued.append(read("b", phase, 1, bank) if issue else None)
            coming.append(issue and rng.randrange(100) < phase.wb)
            beat |= issued.popleft() or {}
            if coming.popleft():
                beat |= write("wb", bank)
            if burst == 0 and rng.randrange(100) < phase.wa:
                burst = phase.burst or 1
            if burst:
                burst -= 1
                beat |= write("wa", bank)
            if load is None and rng.randrange(100) < phase.wl:
                load = write("wl", bank)
            if load is not None:
                beat |= load
                load = None if model.ready() else load
            yield beat


def fill(model: Model, rng: random.Random) -> None:
    """Every word is written, by LOAD."""
    for at in range(model.words):
        while not model.ready():
            model.step({})
        model.step({"wl_valid": 1, "wl_addr": at, "wl_data": rng.getrandbits(128)})


def read_back(model: Model) -> None:
    """All words, by both readers at once, from the first cycle in which the queues are empty on."""
    while not all(model.empty):
        model.step({})
    assert not any(model.queues)
    for at in range(model.words):
        there = model.words - 1 - at
        model.step({"a_rd_en": 1, "a_rd_center": at, "a_rd_mask": 7,
                    "b_rd_en": 1, "b_rd_center": there, "b_rd_mask": 7})


WORST = [
    # the array gives a word a cycle for ever, both readers sit on the bank of all writes
    Phase(400, a=100, b=100, wa=100, one_bank=True),
    # nothing but lane results, which can never be written while reads go on
    Phase(400, a=100, b=100, wa=0, one_bank=True),
    # bursts of a tile's 24 channels
    Phase(900, a=100, b=100, wa=3, burst=24, one_bank=True),
    Phase(600, a=100, b=100, wa=4, burst=24, one_bank=True, masks=(7, 7)),
    Phase(600, a=100, b=100, wa=4, burst=24, wl=100, masks=(2, 7)),
    Phase(200, a=100, b=100, wa=100, wl=100, masks=(7, 7)),
    Phase(200, a=0, b=0, wa=0),
]
MIXED = [
    Phase(500, a=90, b=90, wa=30, wl=30), Phase(500, a=100, b=100, wa=30, wb=40, wl=50),
    Phase(300, a=30, b=30, wa=2, burst=12, wl=100), Phase(300, a=100, b=100, wa=20, masks=(6, 7)),
    Phase(200, a=0, b=0, wa=10, wl=100), Phase(300, a=100, b=60, wa=10, wl=10, one_bank=True),
]


async def run_phases(dut, phases: list[Phase], seed: int) -> Model:  # noqa: ANN001
    rng = random.Random(seed)
    model = Model(int(os.environ["PARAM_WORDS"]))
    fill(model, rng)
    for beat in traffic(model, phases, rng):
        model.step(beat)
    read_back(model)
    latency = engine_constant("ACT_LAT")
    for _ in range(latency + 1):
        model.step({})
    model.check(await play(dut, model.beats, OUTPUTS, 1))
    return model


@cocotb.test()
async def any_traffic(dut):  # noqa: ANN001, ANN201
    """All readers and writers at once, at random."""
    model = await run_phases(dut, MIXED * 3, 3)
    assert model.compared > 10_000 or model.words < 100
    assert min(*model.counts, model.same_bank) > 100


@cocotb.test()
async def nothing_overflows(dut):  # noqa: ANN001, ANN201
    """The queues come close to their ends and never beyond."""
    model = await run_phases(dut, WORST, 5)
    assert 27 <= model.highest[0] <= DEPTHS[0], f"wa reached {model.highest[0]}"
    assert 62 <= model.highest[1] <= DEPTHS[1], f"wb reached {model.highest[1]}"
    assert model.highest[2] == DEPTHS[2]


@cocotb.test()
async def beyond_the_end(dut):  # noqa: ANN001, ANN201
    """Writes to addresses that do not exist change nothing."""
    rng = random.Random(8)
    model = Model(int(os.environ["PARAM_WORDS"]))
    fill(model, rng)
    first = model.words
    for at in [*range(first, min(first + 40, 1 << 16)), *range((1 << 16) - 5, 1 << 16)]:
        model.step({"wa_valid": 1, "wa_addr": at, "wa_data": rng.getrandbits(128)})
    read_back(model)
    for _ in range(engine_constant("ACT_LAT") + 1):
        model.step({})
    model.check(await play(dut, model.beats, OUTPUTS, 1))


@cocotb.test()
async def reset_empties_the_queues(dut):  # noqa: ANN001, ANN201
    """What waits is forgotten, what was chosen is written; then all goes on as from the start."""
    rng = random.Random(13)
    model = Model(int(os.environ["PARAM_WORDS"]))
    fill(model, rng)
    for beat in traffic(model, WORST[:1] + MIXED[:1], rng):
        model.step(beat)
        if all(len(queue) > 3 for queue in model.queues):
            break
    assert all(len(queue) > 3 for queue in model.queues)
    at = len(model.beats)
    model.step({"wa_valid": 1, "wa_addr": 1, "wa_data": 1, "wl_valid": 1, "wl_addr": 2}, True)
    for beat in traffic(model, MIXED[:2], rng):
        model.step(beat)
    read_back(model)
    for _ in range(engine_constant("ACT_LAT") + 1):
        model.step({})
    model.check(await play(dut, model.beats, OUTPUTS, 1, reset_at=at))


@pytest.mark.parametrize("words", [16, 1024, 3184])
def test_act_mem(words: int, tmp_path: Path) -> None:
    """Banks of 4, of 256 and of 512 + 256 + 16 + 8 + 4 rows."""
    build_and_test(
        "act_mem", [Path(name) for name in SOURCES], Path(__file__), {"WORDS": words},
        run_dir=tmp_path,
    )
