# SPDX-License-Identifier: Apache-2.0
"""seq_mem: the addresses of LOAD and STORE in order, once each, whatever the DMA's pace."""

import random
from pathlib import Path

import cocotb
from bench import fields, power_up, settle, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.sim.runner import build_and_test

REQUEST = struct_layout("seq_pkg", "request_t")
INPUTS = ("start", "is_store", "act_addr", "words", "ld_valid", "st_ready", "st_done")


@cocotb.test()
async def in_order(dut):  # noqa: ANN001, ANN201
    """Random lengths and addresses (the last ones wrap), operations one after the other."""
    rng = random.Random(15)
    await power_up(dut, INPUTS)
    for number in range(60):
        store, words = rng.randrange(2), rng.choice([1, 2, rng.randint(3, 90)])
        base = rng.choice([rng.randrange(1 << 16), (1 << 16) - 2])
        pace = rng.choice([0.2, 0.7, 1.1])
        dut.start.value, dut.is_store.value = 1, store
        dut.act_addr.value, dut.words.value = base, words
        await settle()
        assert (int(dut.ld_req.value), int(dut.st_req.value)) == (1 - store, store)
        await FallingEdge(dut.clk)
        dut.start.value = 0
        addresses, given, idle = [], 0, 0
        for _ in range(1500):
            offer = rng.random() < pace and (store or given < words)
            dut.ld_valid.value, dut.st_ready.value = int(offer and not store), int(offer and store)
            given += offer
            await settle()
            assert not int(dut.ld_req.value) and not int(dut.st_req.value)
            if int(dut.wr_en.value):
                assert offer and not store
                addresses.append(int(dut.wr_addr.value))
            request = fields(REQUEST, int(dut.request.value))
            if request["valid"]:
                assert store and request["linear"] and request["base8"] % 2 == 0
                addresses.append((request["plane"] + request["base8"] // 2) & 0xFFFF)
            assert not int(dut.done.value) or (not store and len(addresses) == words)
            idle += len(addresses) == words
            if idle > 5:
                break
            await FallingEdge(dut.clk)
        assert addresses == [(base + i) & 0xFFFF for i in range(words)], f"operation {number}"
        dut.ld_valid.value, dut.st_ready.value = 0, 0
        assert int(dut.done.value) == 1 - store
        dut.st_done.value = store
        await FallingEdge(dut.clk)
        dut.st_done.value = 0
        assert int(dut.done.value)


@cocotb.test()
async def forgets_at_reset(dut):  # noqa: ANN001, ANN201
    """A reset in the middle of a STORE: done, and nothing more is asked for."""
    await power_up(dut, INPUTS)
    dut.start.value, dut.is_store.value, dut.words.value, dut.st_ready.value = 1, 1, 50, 1
    await FallingEdge(dut.clk)
    dut.start.value = 0
    for _ in range(10):
        await FallingEdge(dut.clk)
    assert fields(REQUEST, int(dut.request.value))["valid"]
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    for _ in range(10):
        assert int(dut.done.value) and not fields(REQUEST, int(dut.request.value))["valid"]
        await FallingEdge(dut.clk)


def test_seq_mem(tmp_path: Path) -> None:
    build_and_test(
        "seq_mem", [Path("engine/seq_pkg.sv"), Path("engine/seq_mem.sv")], Path(__file__),
        run_dir=tmp_path,
    )
