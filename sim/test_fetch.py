# SPDX-License-Identifier: Apache-2.0
"""fetch: the taps of every geometry, against the map itself padded with zeros.

The requests are made by the rules of docs/engine.md, "Geometry"; what must come out is not: it is
the pixel of the (upsampled) map at the tap's row and column, or zero outside of it. The memory is a
list here; words that a request does not ask for are noise.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cocotb
import numpy as np
from bench import engine_constant, pack, play, struct, struct_layout, unpack

from hwflow.sim.runner import build_and_test

LANES = 16
WORDS = 1552
SOURCES = ["engine/engine_pkg.sv", "lib/delay.sv", "engine/fetch.sv"]
LAYOUT = struct_layout("engine_pkg", "fetch_t")


@dataclass(frozen=True)
class Geometry:
    """A map in memory and how it is walked; in_h as stored."""

    in_w: int
    in_h: int
    stride: int = 1
    up: bool = False
    signed: bool = False

    @property
    def seen_w(self) -> int:
        return self.in_w * (2 if self.up else 1)

    @property
    def narrow(self) -> bool:
        return self.seen_w // self.stride == 8


GEOMETRIES = [
    Geometry(16, 9), Geometry(48, 5, signed=True), Geometry(32, 4), Geometry(8, 10),
    Geometry(8, 6, signed=True), Geometry(8, 6, up=True), Geometry(16, 5, up=True, signed=True),
    Geometry(24, 4, up=True), Geometry(32, 8, stride=2), Geometry(64, 6, stride=2, signed=True),
    Geometry(16, 12, stride=2), Geometry(16, 8, stride=2, signed=True), Geometry(64, 8, stride=4),
    Geometry(128, 8, stride=4, signed=True), Geometry(32, 16, stride=4),
]


def passes(geometry: Geometry, plane: int, rng: random.Random) -> Iterator[tuple[dict, list]]:
    """Requests of one random output word, each with (row, column, takes part) of its 16 lanes."""
    g = geometry
    rows = g.in_h * (2 if g.up else 1) // g.stride
    row_words = max(1, g.seen_w // g.stride // LANES)
    y = rng.randrange(0, rows, 2 if g.narrow else 1)
    xo = rng.randrange(row_words)
    for i in range(3):
        joins = [rng.randrange(8) > 0 for _ in range(LANES)]
        halves = [range(8), range(8, 16)] if g.stride == 4 or (g.narrow and g.stride == 2) else [
            range(16)
        ]
        for number, half in enumerate(halves):
            vrow = y * g.stride + (i - 1)
            second_row = g.narrow and number == 1
            if second_row:
                vrow += g.stride
            first = (vrow >> g.up) * g.in_w + ((LANES * xo * g.stride) >> g.up)
            center = plane + (first >> 4)
            if number == 1:
                center += -1 if g.stride == 2 else 0 if second_row else 2
            taps, lane_ok = [], 0
            for x in range(LANES):
                lane_row = y + (g.narrow and x >= 8)
                row = lane_row * g.stride + (i - 1)
                part = joins[x] and x in half and 0 <= row < g.in_h * (2 if g.up else 1)
                lane_ok |= part << x
                column = ((x & 7) if g.narrow else LANES * xo + x) * g.stride
                taps.append((row, column, part))
            mode = {1: 1 if g.up else 0, 2: 2, 4: 3}[g.stride]
            yield {
                "valid": 1, "center": center, "pre": (first >> 3) & 1, "mode": mode,
                "lane_ok": lane_ok, "at_left": xo == 0, "at_right": xo == row_words - 1,
                "narrow": g.narrow, "in_signed": g.signed, "pair": rng.getrandbits(1),
            }, taps


def expected(g: Geometry, memory: np.ndarray, plane: int, taps: list) -> list[int | None]:
    """The 48 taps, column by column."""
    words = g.in_w * g.in_h // LANES
    values = memory[plane : plane + words].reshape(g.in_h, g.in_w)
    values = (values.astype(np.int8) if g.signed else values).astype(int)
    if g.up:
        values = values.repeat(2, 0).repeat(2, 1)
    out: list[int | None] = []
    for j in range(3):
        for row, column, part in taps:
            at = column + j - 1
            inside = part and 0 <= at < values.shape[1]
            out.append(int(values[row, at]) if inside else 0)
    return out


class Bench:
    """Beats with the answers of a memory, and what they must bring."""

    def __init__(self, memory: np.ndarray, rng: random.Random) -> None:
        self.memory, self.rng = memory, rng
        self.requests: list[int] = []
        self.answers: dict[int, int] = {}  # cycle -> window
        self.reads: dict[int, tuple[int, int]] = {}  # cycle -> center and mask
        self.due: dict[int, tuple[str, list[int | None]]] = {}

    def idle(self) -> None:
        """A cycle without a request: all else is noise."""
        self.requests.append(self.rng.getrandbits(sum(LAYOUT.values())) & ~(
            1 << (sum(LAYOUT.values()) - 1)
        ))

    def ask(self, request: dict[str, int], mask: int, what: str, want: list[int | None]) -> None:
        cycle, center = len(self.requests), request["center"]
        window = 0
        for s in range(3):
            at = center + s - 1
            stored = mask >> s & 1 and 0 <= at < len(self.memory)
            word = pack(self.memory[at].tolist(), 8) if stored else self.rng.getrandbits(128)
            window |= word << (128 * s)
        self.answers[cycle + engine_constant("ACT_LAT")] = window
        self.reads[cycle] = (center % 65536, mask)
        self.due[cycle + engine_constant("FETCH_LAT")] = (what, want)
        self.requests.append(struct(LAYOUT, **request))

    async def run(self, dut, reset_at: int | None = None) -> None:  # noqa: ANN001
        latency = engine_constant("FETCH_LAT")
        beats = [
            {"req": self.requests[cycle] if cycle < len(self.requests) else 0,
             "window": self.answers.get(cycle, self.rng.getrandbits(384))}
            for cycle in range(len(self.requests) + latency)
        ]
        outputs = ["out_valid", "taps", "rd_en", "rd_center", "rd_mask"]
        seen = await play(dut, beats, outputs, 1, reset_at)
        if reset_at is not None:  # what is inside is lost
            for cycle in range(reset_at, reset_at + latency + 1):
                if cycle - latency <= reset_at < cycle:
                    self.due.pop(cycle, None)
        held: list[int] | None = None
        for cycle, row in enumerate(seen):
            assert row["out_valid"] == (cycle in self.due), f"out_valid in cycle {cycle}"
            got = unpack(row["taps"], 9, 48, True)
            if cycle in self.due:
                what, want = self.due[cycle]
                wrong = [
                    k for k, (a, b) in enumerate(zip(got, want, strict=True)) if b not in (None, a)
                ]
                assert not wrong, (
                    f"cycle {cycle}, {what}: tap {wrong[0] // 16} of lane {wrong[0] % 16} is "
                    f"{got[wrong[0]]}, not {want[wrong[0]]}"
                )
                held = got
            elif held is not None and reset_at is None:
                assert got == held, f"cycle {cycle}: the taps have not been held"
        # Combinational: seen in the next cycle, before its inputs change
        for cycle in range(len(self.requests)):
            row = seen[cycle + 1]
            assert row["rd_en"] == (cycle in self.reads), f"rd_en in cycle {cycle}"
            if cycle in self.reads:
                assert (row["rd_center"], row["rd_mask"]) == self.reads[cycle], f"cycle {cycle}"


@cocotb.test()
async def all_geometries(dut):  # noqa: ANN001, ANN201
    """Words of every geometry anywhere in the memory, mixed in random order with gaps."""
    rng = random.Random(6)
    memory = np.random.default_rng(6).integers(0, 256, (WORDS, LANES), dtype=np.uint8)
    bench = Bench(memory, rng)
    asked = set()
    for _ in range(1500):
        g = rng.choice(GEOMETRIES)
        asked.add(g)
        plane = rng.randrange(WORDS - g.in_w * g.in_h // LANES + 1)
        for request, taps in passes(g, plane, rng):
            if rng.randrange(6) == 0:
                bench.idle()
            bench.ask(request, 7, f"{g} plane {plane}", expected(g, memory, plane, taps))
    assert asked == set(GEOMETRIES)
    await bench.run(dut)


@cocotb.test()
async def plain_words_and_pairs(dut):  # noqa: ANN001, ANN201
    """The plain word and with pair the next one, whatever the other fields say; a reset."""
    rng = random.Random(9)
    memory = np.random.default_rng(9).integers(0, 256, (WORDS, LANES), dtype=np.uint8)
    bench = Bench(memory, rng)
    for _ in range(2500):
        if rng.randrange(4) == 0:
            bench.idle()
            continue
        pair, signed = rng.getrandbits(1), rng.getrandbits(1)
        center = rng.randrange(WORDS - pair)
        words = memory[center : center + 2].astype(np.int8 if signed else np.uint8).tolist()
        nothing: list[int | None] = [None] * LANES
        bench.ask(
            {
                "valid": 1, "center": center, "linear": 1, "pair": pair, "in_signed": signed,
                "lane_ok": rng.getrandbits(16), "mode": rng.getrandbits(2),
                "pre": rng.getrandbits(1), "narrow": rng.getrandbits(1),
                "at_left": rng.getrandbits(1), "at_right": rng.getrandbits(1),
            },
            6 if pair else 2, "pair" if pair else "linear",
            nothing + words[0] + (words[1] if pair else nothing),
        )
    await bench.run(dut, reset_at=1200)


def test_fetch(tmp_path: Path) -> None:
    build_and_test("fetch", [Path(name) for name in SOURCES], Path(__file__), run_dir=tmp_path)
