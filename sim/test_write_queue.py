# SPDX-License-Identifier: Apache-2.0
"""write_queue: order, level and the two cycles of `empty`, against a deque."""

import os
import random
from collections import deque
from pathlib import Path

import cocotb
import pytest
from bench import play

from hwflow.sim.runner import build_and_test

WIDTH = 20


@cocotb.test()
async def keeps_the_order(dut):  # noqa: ANN001, ANN201
    """Fills, empties and stands still at random; a reset between."""
    rng = random.Random(4)
    depth = int(os.environ["PARAM_DEPTH"])
    queue: deque[tuple[int, int]] = deque()
    beats: list[dict[str, int]] = []
    due: list[dict[str, int]] = []
    empty, out = 1, None
    reset_at = 1500
    levels = set()
    for cycle in range(4000):
        row = {"level": len(queue), "empty": empty, "head_valid": int(bool(queue))}
        if queue:
            row["head_bank"] = queue[0][0] % 4
        if out is not None:
            row |= {"out_addr": out[0], "out_data": out[1]}
        due.append(row)
        levels.add(len(queue))
        rush = 20 + 60 * (cycle // 200 % 2)
        take = bool(queue) and rng.randrange(100) >= rush
        push = rng.randrange(100) < rush and len(queue) < depth
        beat = {"push": push, "take": take, "addr": rng.getrandbits(16),
                "data": rng.getrandbits(WIDTH)}
        beats.append(beat)
        empty = int(not queue and not push)
        out = queue.popleft() if take else None
        if push:
            queue.append((beat["addr"], beat["data"]))
        if cycle == reset_at:
            queue.clear()
            empty = 1
            out = None
    assert levels == set(range(depth + 1))
    outputs = ["level", "empty", "head_valid", "head_bank", "out_addr", "out_data"]
    seen = await play(dut, beats, outputs, 1, reset_at)
    for cycle, row in enumerate(due):
        for name, want in row.items():
            assert seen[cycle][name] == want, f"cycle {cycle}: {name}"


@pytest.mark.parametrize("depth", [2, 4, 32, 64])
def test_write_queue(depth: int, tmp_path: Path) -> None:
    build_and_test(
        "write_queue", [Path("engine/write_queue.sv")], Path(__file__),
        {"DEPTH": depth, "WIDTH": WIDTH}, run_dir=tmp_path,
    )
