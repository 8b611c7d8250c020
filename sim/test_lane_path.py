# SPDX-License-Identifier: Apache-2.0
"""lane_path: whole operations against the goldens of hwflow.ops on whole maps, cycle by cycle."""

import os
import random
from dataclasses import replace
from pathlib import Path

import cocotb
import numpy as np
import pytest
from bench import engine_constant, pack, play, struct
from lane_ops import I8, META, U3, U8, Walk, entries, memory, mode_word

from hwflow.ops import deform_dw, dw, maxpool
from hwflow.ops.types import IntType
from hwflow.sim.runner import build_and_test, hdl_dir

SOURCES = [
    "engine/engine_pkg.sv", "engine/seq_pkg.sv", "lib/delay.sv", "lib/requant.sv",
    "engine/row_chain.sv", "engine/row_max.sv", "engine/dw_lanes.sv", "engine/lane_write.sv",
    "engine/lane_path.sv",
]
TYPES = {U8: IntType(8, False), I8: IntType(8, True), U3: IntType(3, False)}
META_BITS = sum(META.values())
OUTPUTS = ["wb_valid", "wb_addr", "wb_data", "lanes_valid", "center", "peak_mask", "idle"]


class Script:
    """Beats, one a cycle, and what is due in which cycle."""

    def __init__(self, seed: int, gaps: bool) -> None:
        self.rng = random.Random(seed)
        self.np_rng = np.random.default_rng(seed)
        self.gaps = gaps
        self.beats: list[dict[str, int]] = []
        self.words: dict[int, tuple[int, int]] = {}  # cycle -> address, data
        self.peaks: dict[int, tuple[int, int]] = {}  # cycle -> center, peak_mask
        self.inserted: list[int] = []  # cycles
        self.ties = 0

    def insert(self, constants: dict[str, int], meta: int, pick: int, window: int) -> None:
        """One entry, after a gap of random length in which its inputs are noise."""
        while self.gaps and self.rng.randrange(3) == 0:
            self.beats.append(constants | {
                "ins_meta": self.rng.getrandbits(META_BITS), "window": self.rng.getrandbits(384),
                "ins_pick": self.rng.getrandbits(5),
            })
        self.inserted.append(len(self.beats))
        self.beats.append(constants | {
            "ins_valid": 1, "ins_meta": meta, "ins_pick": pick, "window": window,
        })

    def settle(self, constants: dict[str, int]) -> None:
        """Nothing until the lanes are idle, as between two operations."""
        self.beats += [constants] * (engine_constant("LANE_WB_LAT") + 2)

    def map(self, walk: Walk, channels: int, signed: bool) -> np.ndarray:
        """Pixels (C, H, W) of a few ranges, extremes among them."""
        low, high = (-128, 127) if signed else (0, 255)
        kinds = [(low, high), (low, high), (high, high), (low, low), (low, low + 2)]
        shape = (walk.in_h, walk.in_w)
        maps = []
        for _ in range(channels):
            a, b = self.rng.choice(kinds)
            maps.append(self.np_rng.integers(a, b + 1, shape))
        return np.stack(maps).astype(np.int8 if signed else np.uint8)

    def run(self, kind: str, walk: Walk, channels: int, signed: bool, out_type: int) -> None:
        """DW, DDW or POOL."""
        x = self.map(walk, channels, signed)
        seen = x.repeat(2, 1).repeat(2, 2) if walk.up else x
        dil = self.np_rng.integers(0, self.rng.choice([8, 8, 3, 1]), seen.shape[1:])
        if self.rng.randrange(4) == 0:
            dil[:] = 7
        weight = self.np_rng.integers(-8, 8, (channels, 3, 3)).astype(np.int8)
        weight[0] = self.rng.choice([-8, 7, -7, 0, weight[0]])
        # Small shifts make ties common, and biases reach their ends
        shift = self.np_rng.integers(-2, 9, channels)
        bias = self.np_rng.integers(-4000, 4000, channels)
        wide = self.np_rng.integers(0, 4, channels) == 0
        bias = np.where(wide, self.np_rng.choice([-(1 << 24), (1 << 24) - 1], channels), bias)
        shift = np.where(wide, 16, shift)
        consts = {"weight": weight, "bias": bias.astype(np.int64),
                  "shift": shift.astype(np.int8), "mul": np.ones(channels, np.int64)}
        out = TYPES[out_type]
        if kind == "dw":
            want = dw.golden((seen,), dw.DwAttrs(walk.stride, 4, 32, out), consts)
        elif kind == "ddw":
            want = deform_dw.golden(
                (seen, dil[None]), deform_dw.DeformDwAttrs(4, 32, out), consts
            )
        else:
            bias, shift = np.zeros_like(bias), np.zeros_like(shift)
            want = maxpool.golden((seen,), maxpool.MaxpoolAttrs(3, walk.stride, 1), {})
        assert want.shape[1:] == (walk.seen_h // walk.stride, walk.out_w)
        if kind != "pool":
            exact = dw.golden if kind == "dw" else deform_dw.golden
            attrs = (dw.DwAttrs(walk.stride, 4, 32, IntType(32, True)) if kind == "dw"
                     else deform_dw.DeformDwAttrs(4, 32, IntType(32, True)))
            arrays = (seen,) if kind == "dw" else (seen, dil[None])
            sums = exact(arrays, attrs, consts | {"shift": np.zeros(channels, np.int8)})
            scale = 1 << np.maximum(shift, 0)[:, None, None]
            self.ties += int(((sums % scale) * 2 == scale).sum())
        constants = {
            "mode": mode_word(walk, signed, out_type, kind == "pool"), "to_peak": 0,
        }
        records = [
            {"weights": pack(weight[c].reshape(-1), 4), "bias": int(bias[c]),
             "shift": int(shift[c]) + 7, "dst": self.rng.getrandbits(16)}
            for c in range(channels)
        ]
        self.beats.append(constants)
        due = []
        for entry in entries(walk, memory(x, self.np_rng), records, dil, self.rng):
            if entry.center is not None:
                due.append((len(self.inserted), *entry.center))
            self.insert(constants, entry.meta, entry.pick, entry.window)
        assert len(due) == walk.rows * walk.row_words * channels
        for index, c, r, xo in due:
            if walk.narrow and r % 2 == 0:
                continue
            cycle = self.inserted[index + walk.reach] + engine_constant("LANE_WB_LAT")
            y = walk.y0 + r
            if walk.narrow:
                pixels = want[c, y - 1 : y + 1].reshape(-1)
                addr = records[c]["dst"] + (r >> 1)
            else:
                pixels = want[c, y, 16 * xo : 16 * xo + 16]
                addr = records[c]["dst"] + r * walk.row_words + xo
            assert cycle not in self.words
            self.words[cycle] = addr & 0xFFFF, pack(pixels, 8)
        self.settle(constants)

    def scan(self, walk: Walk, classes: int, signed: bool) -> None:
        """PEAK: three rows of a word and class after each other, in any order of words."""
        x = self.map(walk, classes, signed)
        planes = memory(x, self.np_rng)
        best = maxpool.golden((x,), maxpool.MaxpoolAttrs(3, 1, 1), {})
        whole = replace(walk, y0=0, rows=walk.in_h)
        records = [{"weights": 0, "bias": 0, "shift": 7, "dst": 0}] * classes
        dil = np.zeros(x.shape[1:], int)
        made = {
            (c, y, xo): (entry, c) for entry in entries(whole, planes, records, dil, self.rng)
            if entry.center is not None for c, y, xo in [entry.center]
        }
        constants = {"mode": mode_word(walk, signed, U8, True), "to_peak": 1}
        self.beats.append(constants)
        order = [(c, y, xo) for y in range(walk.in_h) for xo in range(walk.row_words)
                 for c in range(classes)]
        for c, y, xo in order:
            emit = made[c, y, xo][0]
            silent = emit.meta & ~struct(META, emit=1)
            for row, meta in ((y - 1, silent), (y, emit.meta), (y + 1, silent)):
                known = made.get((c, row, xo))
                window = known[0].window if known else self.rng.getrandbits(384)
                self.insert(constants, meta, emit.pick, window)
            there = x[c, y, 16 * xo : 16 * xo + 16]
            mask = there == best[c, y, 16 * xo : 16 * xo + 16]
            cycle = self.inserted[-1] + engine_constant("LANE_LAT")
            self.peaks[cycle] = pack(there, 9), pack(mask, 1)
        self.settle(constants)


def check(seen: list[dict[str, int]], script: Script) -> None:
    """All that is due is there in its cycle, and nothing else; idle tells when all is out."""
    last = -1
    inserted = set(script.inserted)
    for cycle, row in enumerate(seen):
        assert row["wb_valid"] == (cycle in script.words), f"wb_valid in cycle {cycle}"
        assert row["lanes_valid"] == (cycle in script.peaks), f"lanes_valid in cycle {cycle}"
        if cycle in script.words:
            addr, data = script.words[cycle]
            assert row["wb_addr"] == addr, f"wb_addr in cycle {cycle}"
            assert row["wb_data"] == data, (
                f"wb_data in cycle {cycle}: {row['wb_data']:032x}, not {data:032x}"
            )
            assert not row["idle"]
        if cycle in script.peaks:
            center, mask = script.peaks[cycle]
            assert row["center"] == center, f"center in cycle {cycle}"
            assert row["peak_mask"] == mask, f"peak_mask in cycle {cycle}"
            assert not row["idle"]
        quiet = last < 0 or cycle - last > engine_constant("LANE_WB_LAT")
        assert row["idle"] == quiet, f"idle in cycle {cycle}"
        if cycle in inserted:
            last = cycle


def any_walk(rng: random.Random, kind: str) -> Walk:
    """A geometry the compiler could ask for: narrow ones with even bands."""
    stride = rng.choice([1, 2]) if kind != "ddw" else 1
    up = stride == 1 and rng.randrange(3) == 0
    words = rng.choice([0, 1, 1, 2, 3])
    if words == 0 and up:
        words = 1
    out_w = 16 * words if words else 8
    in_w = (out_w * stride) >> up
    out_h = rng.choice([2, 3, 4, 5, 9, 16])
    if up or words == 0:
        out_h += out_h & 1
    in_h = (out_h * stride) >> up
    y0 = rng.randrange(out_h)
    rows = rng.randrange(1, out_h - y0 + 1)
    if words == 0:
        y0 &= ~1
        rows += (y0 + rows) & 1
    if rng.randrange(2):
        y0, rows = 0, out_h
    return Walk(in_w, in_h, y0, rows, stride, up, 7 if kind == "ddw" else 1)


@cocotb.test()
async def operations(dut):  # noqa: ANN001, ANN201
    """Every kind of operation after every other, with and without gaps between entries."""
    seed = int(os.environ["BENCH_SEED"])
    script = Script(seed, gaps=bool(seed % 2))
    rng = script.rng
    kinds = ["dw", "dw", "ddw", "ddw", "pool", "peak"] * 24
    rng.shuffle(kinds)
    for kind in kinds:
        walk = any_walk(rng, kind)
        signed = rng.randrange(2) == 1
        if kind == "peak":
            words = rng.randrange(1, 4)
            script.scan(Walk(16 * words, rng.randrange(1, 7), 0, 1), rng.randrange(1, 4), signed)
        else:
            out_type = int(signed) if kind == "pool" else rng.choice([U8, I8, U3])
            script.run(kind, walk, rng.randrange(1, 5), signed, out_type)
    assert script.ties > 1000, f"rounding was hardly tested: {script.ties} ties"
    check(await play(dut, script.beats, OUTPUTS, 4), script)


@cocotb.test()
async def deep_map(dut):  # noqa: ANN001, ANN201
    """Deformable rows far from the edges and at both, one entry a cycle without a pause."""
    script = Script(77, gaps=False)
    for in_h, y0, rows in ((40, 0, 40), (40, 12, 9), (40, 31, 9), (1023, 1015, 8)):
        script.run("ddw", Walk(32, in_h, y0, rows, reach=7), 2, False, U8)
    check(await play(dut, script.beats, OUTPUTS, 4), script)


@cocotb.test()
async def reset_forgets(dut):  # noqa: ANN001, ANN201
    """Entries in the chain at a reset make no words; the next operation is untouched."""
    before = Script(5, gaps=False)
    before.run("ddw", Walk(16, 40, 0, 40, reach=7), 2, False, U8)
    at = before.inserted[50]
    after = Script(6, gaps=False)
    after.run("ddw", Walk(16, 12, 0, 12, reach=7), 1, True, I8)
    after.run("dw", Walk(16, 12, 0, 12), 1, True, I8)
    beats = [*before.beats[:at], {}, *after.beats]
    seen = await play(dut, beats, OUTPUTS, 4, reset_at=at)
    late = Script(0, gaps=False)
    late.words = {cycle + at + 1: word for cycle, word in after.words.items()}
    early = {cycle: word for cycle, word in before.words.items() if cycle <= at}
    assert early and late.words
    for cycle, row in enumerate(seen):
        want = early.get(cycle) or late.words.get(cycle)
        assert row["wb_valid"] == (want is not None), f"wb_valid in cycle {cycle}"
        if want:
            assert (row["wb_addr"], row["wb_data"]) == want, f"word in cycle {cycle}"


@pytest.mark.parametrize("seed", [1, 2])
def test_lane_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setenv("BENCH_SEED", str(seed))
    build_and_test(
        "lane_path", [hdl_dir() / source for source in SOURCES], Path(__file__), run_dir=tmp_path
    )
