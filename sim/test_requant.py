# SPDX-License-Identifier: Apache-2.0
"""requant: every shift and type, ties and extremes on purpose, against Python's fractions."""

import random
from fractions import Fraction
from pathlib import Path

import cocotb
from bench import engine_constant, play

from hwflow.emit.isa import OUT_TYPES, SHIFT_BIAS
from hwflow.sim.runner import build_and_test

RANGES = {"u8": (0, 255), "i8": (-128, 127), "u3": (0, 7)}
ACC, BIAS = 1 << 25, 1 << 24


def sums(shift: int, rng: random.Random) -> list[int]:
    """Values of acc + bias: every tie near the ends of each type, its neighbours, and extremes."""
    step = 1 << max(shift, 0)
    ends = [-129, -128, -1, 0, 1, 2, 6, 7, 8, 126, 127, 128, 254, 255, 256, 511, 512, 1023]
    values = [end * step + half for end in ends for half in (-1, 0, 1)]
    values += [end * step + step // 2 + near for end in ends for near in (-1, 0, 1)]
    values += [k * step + step // 2 for k in rng.sample(range(-140, 270), 60)]
    values += [rng.randrange(-260 * step, 520 * step) for _ in range(60)]
    values += [rng.randrange(-ACC - BIAS, ACC + BIAS) for _ in range(20)]
    values += [-ACC - BIAS, ACC + BIAS - 2, ACC, -ACC, ACC - 1]
    return values


def expected(total: int, shift: int, kind: str) -> int:
    """round() of a Fraction is half to even."""
    low, high = RANGES[kind]
    return min(max(round(Fraction(total) / Fraction(2) ** shift), low), high)


@cocotb.test()
async def rounds_and_clamps(dut):  # noqa: ANN001, ANN201
    """One value a cycle with gaps, constants changing every cycle."""
    rng = random.Random(7)
    cases = []
    for shift in range(-SHIFT_BIAS, 32 - SHIFT_BIAS):
        for kind in OUT_TYPES:
            for total in sums(shift, rng):
                low, high = max(-BIAS, total - ACC + 1), min(BIAS - 1, total + ACC)
                if low <= high:
                    bias = rng.choice([low, high, rng.randint(low, high)])
                    cases.append((total - bias, bias, shift, kind))
    rng.shuffle(cases)
    beats, due = [], {}
    latency = engine_constant("REQUANT_LAT")
    for acc, bias, shift, kind in cases:
        if rng.randrange(8) == 0:
            beats.append({"acc": rng.getrandbits(26), "bias": rng.getrandbits(25)})
        due[len(beats) + latency] = (acc, bias, shift, kind)
        beats.append({
            "en": 1, "acc": acc % (2 * ACC), "bias": bias % (2 * BIAS),
            "shift_code": shift + SHIFT_BIAS, "out_type": OUT_TYPES[kind],
        })
    seen = await play(dut, beats, ["q"], latency + 1)
    ties = 0
    for cycle, (acc, bias, shift, kind) in due.items():
        want = expected(acc + bias, shift, kind)
        got = seen[cycle]["q"]
        assert got == want % 256, f"acc {acc} bias {bias} shift {shift} {kind}: {got} not {want}"
        ties += shift > 0 and (acc + bias) % (1 << shift) == 1 << (shift - 1)
    assert ties > 4000, "the test lost its ties"
    assert len(due) > 20000


def test_requant(tmp_path: Path) -> None:
    build_and_test(
        "requant", [Path("engine/engine_pkg.sv"), Path("lib/requant.sv")], Path(__file__),
        run_dir=tmp_path,
    )
