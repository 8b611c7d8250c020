# SPDX-License-Identifier: Apache-2.0
"""mac_pair: two packed sums, or one of 8-bit weights, against integer sums."""

import random
from pathlib import Path

import cocotb
import pytest
from bench import play

from hwflow.sim.runner import build_and_test

LATENCY = 3


def unpacked(p: int) -> tuple[int, int]:
    """The two sums of a packed one, by the rule of the module's header."""
    low = (p & 0x1FFFFF) - ((p & 0x100000) << 1)
    high = ((p >> 21) + ((p >> 20) & 1)) & 0x1FFFFF
    return low, high - ((high & 0x100000) << 1)


@cocotb.test()
async def sums(dut):  # noqa: ANN001, ANN201
    """Runs of up to 587 products, gaps between them."""
    rng = random.Random(2)
    rows, due = [], {}
    runs = [(587, 7, 7, 255), (587, -7, 7, 255), (587, 7, -7, 255), (587, -7, -7, 255)]
    runs += [(rng.randrange(1, 60), None, None, None) for _ in range(80)]
    for length, w0, w1, pixel in runs:
        wide = w0 is None and rng.randrange(3) == 0
        low = high = 0
        for k in range(length):
            while rng.randrange(6) == 0:
                rows.append((0, rng.getrandbits(25), rng.getrandbits(9), 1))
            b = rng.randrange(-128, 256) if pixel is None else pixel
            if wide:
                a = rng.randrange(-128, 128)
                low += a * b
            else:
                x = rng.randrange(-7, 8) if w0 is None else w0
                y = rng.randrange(-7, 8) if w1 is None else w1
                a, low, high = y * 2**21 + x, low + x * b, high + y * b
            rows.append((1, a % 2**25, b % 512, k == 0))
        due[len(rows) - 1 + LATENCY] = (wide, low, high)
    beats = []
    for cycle in range(len(rows) + 2):
        now, one, two = (rows[c] if 0 <= c < len(rows) else (0, 0, 0, 0)
                         for c in (cycle, cycle - 1, cycle - 2))
        beats.append({"ab_en": now[0], "a": now[1], "b": now[2], "m_en": one[0],
                      "p_en": two[0], "p_clear": two[3]})
    seen = await play(dut, beats, ["p"], LATENCY)
    for cycle, (wide, low, high) in due.items():
        p = seen[cycle]["p"]
        if wide:
            assert p - ((p >> 41) << 42) == low, f"cycle {cycle}"
        else:
            assert unpacked(p) == (low, high), f"cycle {cycle}"


ECP5 = Path(__file__).parent / "ecp5"
VARIANTS = {
    "generic": [Path("lib/mac_pair.sv")],
    # with the multipliers of an ECP5, as the study of docs/timing.md places it
    "ecp5": [ECP5 / name for name in
             ("mult18x18d.sv", "ccu2c.sv", "mac_half.sv", "mac_sum.sv", "mac_pair.sv")],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_mac_pair(variant: str, tmp_path: Path) -> None:
    build_and_test("mac_pair", VARIANTS[variant], Path(__file__), run_dir=tmp_path)
