# SPDX-License-Identifier: Apache-2.0
"""region_addr: base plus offset two cycles after each request; a stop drops what is under way."""

import random
from pathlib import Path

import cocotb
from bench import power_up
from cocotb.triggers import FallingEdge

from hwflow.emit import isa
from hwflow.sim.runner import build_and_test

BASES = {"image": "image_base", "output": "output_base", "scratch": "scratch_base"}
SIZES = {"words": 16, "runs": 16, "stride": 24}


@cocotb.test()
async def adds_the_base_of_the_region(dut):  # noqa: ANN001, ANN201
    """All regions and the code without one, sums that wrap, requests cut off in both cycles."""
    rng = random.Random(9)
    await power_up(dut, ("stop", *BASES.values(), "req", "region", "offset", *SIZES))
    bases = {name: rng.getrandbits(32) & ~15 for name in BASES}
    for name, base in bases.items():
        getattr(dut, BASES[name]).value = base
    dropped = 0
    for number in range(400):
        region = number % 4
        name = {code: name for name, code in isa.REGIONS.items()}.get(region, "scratch")
        offset = rng.getrandbits(32) & ~15
        sizes = {size: rng.getrandbits(width) for size, width in SIZES.items()}
        dut.region.value, dut.offset.value, dut.req.value = region, offset, 1
        for size, value in sizes.items():
            getattr(dut, size).value = value
        stop_in = rng.choice([None, None, 0, 1])
        for cycle in range(2):
            dut.stop.value = int(cycle == stop_in)
            await FallingEdge(dut.clk)
            dut.req.value = 0
            dut.offset.value, dut.region.value = rng.getrandbits(32), rng.randrange(4)
            if cycle == 0:
                assert not int(dut.q_req.value)
        dut.stop.value = 0
        assert int(dut.q_req.value) == (stop_in is None)
        dropped += stop_in is not None
        if stop_in is None:
            assert int(dut.q_addr.value) == (bases[name] + offset) % (1 << 32)
            for size, value in sizes.items():
                assert int(getattr(dut, f"q_{size}").value) == value
        await FallingEdge(dut.clk)
        assert not int(dut.q_req.value)
    assert 100 < dropped < 300


def test_region_addr(tmp_path: Path) -> None:
    build_and_test(
        "region_addr", [Path("engine/isa_pkg.sv"), Path("shell/region_addr.sv")], Path(__file__),
        run_dir=tmp_path,
    )
