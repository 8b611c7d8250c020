# SPDX-License-Identifier: Apache-2.0
"""window: address and lanes of every kernel row by docs/engine.md, "Geometry"."""

import random
from dataclasses import dataclass
from pathlib import Path

import cocotb
from bench import fields, pack, play, struct, struct_layout

from hwflow.emit import isa
from hwflow.sim.runner import build_and_test

GEOM, REQUEST = struct_layout("seq_pkg", "geom_t"), struct_layout("seq_pkg", "request_t")
FETCH = struct_layout("engine_pkg", "fetch_t")
LATENCY = 4  # seq_pkg::WIN_LAT
LANES = 16


@dataclass(frozen=True)
class Shape:
    """A map: in_w as stored, in_h as seen."""

    in_w: int
    in_h: int
    stride_log2: int = 0
    up: int = 0

    @property
    def out_w(self) -> int:
        return (self.in_w << self.up) >> self.stride_log2

    @property
    def narrow(self) -> int:
        return int(self.out_w == 8)


SHAPES = [
    Shape(16, 9), Shape(48, 5), Shape(8, 10), Shape(8, 12, up=1), Shape(24, 30, up=1),
    Shape(32, 8, 1), Shape(16, 12, 1), Shape(16, 7, 1), Shape(64, 8, 2), Shape(128, 1023, 2),
    Shape(1016, 1000),
]


def row_request(
    shape: Shape, rng: random.Random
) -> tuple[dict[str, int], dict[str, int]]:
    """A request for one kernel row of a random word, and the fetch it must become."""
    stride, row_words = 1 << shape.stride_log2, max(1, shape.out_w // LANES)
    rows = -(-shape.in_h // stride)
    y = rng.randrange(rows)
    y -= y % 2 if shape.narrow else 0
    xo = rng.randrange(row_words)
    delta = rng.randint(-7, 7) if stride == 1 else rng.randint(-1, 1)
    halves = ["all"]
    if stride == 4 or (shape.narrow and stride == 2):
        halves = ["low", "high"]
    half = rng.choice(halves)
    plane = rng.getrandbits(16)
    left, right = int(xo == 0), int(xo == row_words - 1)
    vy = y * stride

    def address(row: int) -> int:
        return (row >> shape.up) * shape.in_w + ((16 * xo * stride) >> shape.up)

    pixel = address(vy + delta)
    center = plane + (pixel >> 4)
    if half == "high":  # 2 words on, or the row of Y + 1 with one word less before it
        center += 1 if shape.narrow else 2
    lane_ok = 0
    for x in range(LANES):
        row = vy + delta + (stride if shape.narrow and x >= 8 else 0)
        part = {"all": True, "low": x < 8, "high": x >= 8}[half]
        lane_ok |= int(part and 0 <= row < shape.in_h) << x
    given = {
        "valid": 1, "plane": plane, "vy": vy, "base8": address(vy) // 8, "at_left": left,
        "at_right": right, "delta": delta, "half": isa.HALVES[half],
    }
    wanted = {
        "valid": 1, "center": center & 0xFFFF, "pre": pixel >> 3 & 1,
        "lane_ok": lane_ok, "at_right": right, "narrow": shape.narrow, "linear": 0,
        "mode": {1: 1 if shape.up else 0, 2: 2, 4: 3}[stride],
        # the second half of a wide row begins inside of it
        "at_left": int(left and not (half == "high" and not shape.narrow)),
    }
    return given, wanted


@cocotb.test()
@cocotb.parametrize(number=range(len(SHAPES)))
async def addresses(dut, number):  # noqa: ANN001, ANN201
    """Random rows of a map, beyond its edges too, with gaps and plain words in between."""
    shape, rng = SHAPES[number], random.Random(number)
    signed, pair = number % 2, number // 2 % 2
    always = {
        "geom": struct(
            GEOM, stride_log2=shape.stride_log2, up=shape.up, narrow=shape.narrow,
            in_w8=shape.in_w // 8, in_h=shape.in_h, in_signed=signed,
        ),
        "pair": pair,
    }  # fmt: skip
    beats, due = [always] * 4, {}
    for _ in range(600):
        kind = rng.randrange(8)
        beat = dict(always)
        if kind == 0:
            plane, word = rng.getrandbits(16), rng.getrandbits(13)
            beat["request"] = struct(REQUEST, valid=1, linear=1, plane=plane, base8=2 * word)
            due[len(beats) + LATENCY] = {
                "valid": 1, "linear": 1, "center": (plane + word) & 0xFFFF, "in_signed": signed,
                "pair": pair,
            }
        elif kind > 1:
            given, wanted = row_request(shape, rng)
            beat["request"] = struct(REQUEST, **given)
            due[len(beats) + LATENCY] = {**wanted, "in_signed": signed}
        else:
            due[len(beats) + LATENCY] = {"valid": 0}
        beats.append(beat)
    seen = await play(dut, [*beats, *[always] * LATENCY], ["fetch"], 1)
    for cycle, wanted in due.items():
        got = fields(FETCH, seen[cycle]["fetch"])
        got = {name: got[name] for name in wanted}
        assert got == wanted, f"{shape}, cycle {cycle}: {got}, not {wanted}"


def test_layouts() -> None:
    """The parser of the packages' structs."""
    assert sum(FETCH.values()) == 1 + 16 + 1 + 2 + 16 + 6
    assert next(iter(REQUEST)) == "half" and REQUEST["base8"] == 17
    assert fields(GEOM, struct(GEOM, in_h=5, y0=-1))["y0"] == 1023
    assert pack([1, 2], 4) == 0x21


def test_window(tmp_path: Path) -> None:
    build_and_test(
        "window",
        [Path(f"{name}.sv") for name in ("engine/isa_pkg", "engine/engine_pkg", "engine/seq_pkg",
                                         "lib/delay", "engine/window")],
        Path(__file__), run_dir=tmp_path,
    )
