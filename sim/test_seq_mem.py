# SPDX-License-Identifier: Apache-2.0
"""seq_mem: the addresses of LOAD and STORE in order, once each, whatever the DMA's pace."""

import random
from pathlib import Path

import cocotb
from bench import fields, power_up, settle, struct_layout
from cocotb.triggers import FallingEdge

from hwflow.sim.runner import build_and_test

REQUEST = struct_layout("seq_pkg", "lane_request_t")  # without `meta`, which lies below
META_W = sum(struct_layout("seq_pkg", "meta_t").values())
INPUTS = ("start", "is_store", "act_addr", "words", "runs", "act_stride", "hold", "ld_valid",
          "wl_ready", "st_ready", "st_done")  # fmt: skip


@cocotb.test()
async def in_order(dut):  # noqa: ANN001, ANN201
    """Random runs (some addresses wrap), operations one after the other."""
    rng = random.Random(15)
    await power_up(dut, INPUTS)
    for number in range(120):
        store, words = rng.randrange(2), rng.choice([1, 2, rng.randint(3, 40)])
        runs, step = rng.choice([1, 1, 2, rng.randint(3, 9)]), rng.randrange(1 << 16)
        base = rng.choice([rng.randrange(1 << 16), (1 << 16) - 2])
        want = [(base + r * step + i) & 0xFFFF for r in range(runs) for i in range(words)]
        pace = rng.choice([0.2, 0.7, 1.1])
        holding = rng.choice([0.0, 0.3])
        dut.start.value, dut.is_store.value = 1, store
        dut.act_addr.value, dut.words.value = base, words
        dut.runs.value, dut.act_stride.value = runs, step
        await settle()
        assert (int(dut.ld_req.value), int(dut.st_req.value)) == (1 - store, store)
        await FallingEdge(dut.clk)
        dut.start.value = 0
        addresses, idle, held = [], 0, [0, 0, 0]
        for _ in range(4000):
            given = len(addresses)
            offer, ready = rng.random() < pace, rng.random() < pace
            dut.ld_valid.value = int(offer and not store and given < len(want))
            dut.wl_ready.value, dut.st_ready.value = int(ready), int(offer and store)
            hold = int(rng.random() < holding)
            dut.hold.value = hold
            await settle()
            assert not int(dut.ld_req.value) and not int(dut.st_req.value)
            taken = int(dut.ld_valid.value) and int(dut.ld_ready.value)
            if int(dut.wl_valid.value) and ready:
                assert not store and taken
                addresses.append(int(dut.wl_addr.value))
            else:
                assert not taken
            request = fields(REQUEST, int(dut.request.value) >> META_W)
            if request["read"]:
                assert store and request["raw"] and not request["insert"]
                assert not held[-2], "read although held for two cycles"
                addresses.append((request["plane"] + request["base8"] // 2) & 0xFFFF)
            held.append(hold)
            assert not int(dut.done.value) or (not store and len(addresses) == len(want))
            idle += len(addresses) == len(want)
            if idle > 5:
                break
            await FallingEdge(dut.clk)
        assert addresses == want, f"operation {number}"
        dut.ld_valid.value, dut.st_ready.value = 0, 0
        assert int(dut.done.value) == 1 - store
        dut.st_done.value = store
        await FallingEdge(dut.clk)
        dut.st_done.value = 0
        assert int(dut.done.value)


@cocotb.test()
async def a_word_a_cycle(dut):  # noqa: ANN001, ANN201
    """Neither a new run costs a cycle."""
    await power_up(dut, INPUTS)
    for store in (0, 1):
        dut.start.value, dut.is_store.value, dut.words.value, dut.runs.value = 1, store, 3, 20
        dut.ld_valid.value = dut.wl_ready.value = dut.st_ready.value = 1
        await FallingEdge(dut.clk)
        dut.start.value = 0
        for cycle in range(60):
            assert int(dut.wl_valid.value) == 1 - store
            await FallingEdge(dut.clk)
            assert fields(REQUEST, int(dut.request.value) >> META_W)["read"] == store, cycle
        dut.st_done.value = store
        await FallingEdge(dut.clk)
        assert int(dut.done.value)
        dut.st_done.value = 0


@cocotb.test()
async def forgets_at_reset(dut):  # noqa: ANN001, ANN201
    """A reset in the middle of a STORE: done, and nothing more is asked for."""
    await power_up(dut, INPUTS)
    dut.start.value, dut.is_store.value, dut.words.value, dut.st_ready.value = 1, 1, 50, 1
    dut.runs.value = 1
    await FallingEdge(dut.clk)
    dut.start.value = 0
    for _ in range(10):
        await FallingEdge(dut.clk)
    assert fields(REQUEST, int(dut.request.value) >> META_W)["read"]
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    for _ in range(10):
        assert int(dut.done.value) and not fields(REQUEST, int(dut.request.value) >> META_W)["read"]
        await FallingEdge(dut.clk)


def test_seq_mem(tmp_path: Path) -> None:
    build_and_test(
        "seq_mem", [Path("engine/seq_pkg.sv"), Path("engine/seq_mem.sv")], Path(__file__),
        run_dir=tmp_path,
    )
