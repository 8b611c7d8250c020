# SPDX-License-Identifier: Apache-2.0
"""ram_tdp: two ports that read and write at random, against a dictionary."""

import os
import random
from pathlib import Path

import cocotb
import pytest
from bench import play

from hwflow.sim.runner import build_and_test

LATENCY = 2


@cocotb.test()
async def both_ports(dut):  # noqa: ANN001, ANN201
    """Any mix of reads and writes, but never a write to the address of the other port."""
    rng = random.Random(1)
    width, depth = int(os.environ["PARAM_WIDTH"]), int(os.environ["PARAM_DEPTH"])
    model: dict[int, int] = {}
    beats: list[dict[str, int]] = []
    due: list[tuple[int, str, int]] = []
    kinds = set()
    for cycle in range(4000):
        beat = {}
        for port in range(2):
            beat |= {
                f"en{port}": rng.randrange(4) > 0, f"wr{port}": rng.getrandbits(1),
                f"addr{port}": rng.randrange(depth), f"wr_data{port}": rng.getrandbits(width),
            }
        writes = [beat[f"en{p}"] and beat[f"wr{p}"] for p in range(2)]
        if beat["addr0"] == beat["addr1"] and any(writes):
            beat[f"en{rng.randrange(2)}"] = 0
        for port in range(2):
            at = beat[f"addr{port}"]
            if beat[f"en{port}"] and not beat[f"wr{port}"] and at in model:
                due.append((cycle + LATENCY, f"rd_data{port}", model[at]))
        for port in range(2):
            if beat[f"en{port}"] and beat[f"wr{port}"]:
                model[beat[f"addr{port}"]] = beat[f"wr_data{port}"]
        kinds.add(tuple(beat[f"en{p}"] and 1 + beat[f"wr{p}"] for p in range(2)))
        beats.append(beat)
    assert len(kinds) == 9
    assert len(due) > 1000
    seen = await play(dut, beats, ["rd_data0", "rd_data1"], LATENCY + 1)
    for cycle, name, want in due:
        assert seen[cycle][name] == want, f"cycle {cycle}: {name}"


@pytest.mark.parametrize(("width", "depth"), [(1, 2), (128, 16), (33, 100)])
def test_ram_tdp(width: int, depth: int, tmp_path: Path) -> None:
    build_and_test(
        "ram_tdp", [Path("lib/ram_tdp.sv")], Path(__file__), {"WIDTH": width, "DEPTH": depth},
        run_dir=tmp_path,
    )
