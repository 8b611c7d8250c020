# SPDX-License-Identifier: Apache-2.0
"""conv_header: the record of each channel of two tiles, one filled while the other drains."""

import random
from pathlib import Path

import cocotb
from bench import power_up, settle, struct, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.emit import isa
from hwflow.sim.runner import build_and_test

SIDE = struct_layout("seq_pkg", "side_t")


def record(rng: random.Random) -> dict[str, int]:
    return {"bias": rng.randrange(-(1 << 24), 1 << 24), "shift": rng.randrange(32),
            "dst": rng.randrange(1 << 16)}  # fmt: skip


@cocotb.test()
async def records_of_channels(dut):  # noqa: ANN001, ANN201
    """Both banks in turn, writes beside reads; the output word is dst + g; the last one drains."""
    rng = random.Random(12)
    await power_up(dut, ("we", "we_bank", "we_idx", "we_data", "d_valid", "d_oc", "d_side"))
    banks: list[list[dict[str, int]]] = [[], []]
    for tile in range(40):
        filled = tile % 2
        new = [record(rng) for _ in range(isa.TILE_OC)]
        drained = banks[1 - filled]
        n_oc = rng.randint(1, isa.TILE_OC)
        for step in range(isa.TILE_OC):
            dut.we.value = int(step < isa.HEADER_WORDS)
            if step < isa.HEADER_WORDS:
                low, high = (
                    isa.pack(isa.CHANNEL_RECORD, r, "bench") for r in new[2 * step : 2 * step + 2]
                )
                dut.we_bank.value, dut.we_idx.value = filled, step
                # bits outside of the fields do not matter
                junk = rng.getrandbits(128) & ~((1 << 30) - 1 | 0xFFFF << 32) & ((1 << 64) - 1)
                dut.we_data.value = low | high << 64 | junk
            g, last_group, valid = rng.randrange(1 << 13), rng.randrange(2), rng.randrange(4) > 0
            dut.d_valid.value, dut.d_oc.value = int(valid), step
            dut.d_side.value = struct(
                SIDE, g=g, bank=1 - filled, last_group=last_group, n_oc=n_oc, first_tile=1
            )
            await settle()
            if drained:
                want = drained[step]
                assert int(dut.bias.value) == want["bias"] & ((1 << 25) - 1)
                assert int(dut.shift.value) == want["shift"]
                assert int(dut.addr.value) == (want["dst"] + g) & 0xFFFF
            assert int(dut.drained.value) == (valid and last_group and step == n_oc - 1)
            await FallingEdge(dut.clk)
        banks[filled] = new


def test_conv_header(tmp_path: Path) -> None:
    build_and_test(
        "conv_header",
        [Path(f"engine/{name}.sv") for name in ("isa_pkg", "seq_pkg", "conv_header")],
        Path(__file__), run_dir=tmp_path,
    )
