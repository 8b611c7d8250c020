# SPDX-License-Identifier: Apache-2.0
"""dma_read and dma_write against cocotbext-axi's memory, with stalls on every channel."""

import itertools
import logging
import random
from pathlib import Path

import cocotb
import pytest
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiRam

from hwflow.sim.runner import build_and_test

SOURCES = [
    Path("lib/fifo.sv"),
    *(Path("engine") / f"{name}.sv" for name in ("burst_split", "stream_ring", "dma_read",
                                                 "dma_write")),
    Path(__file__).parent / "models" / "dma_bench.sv",
]
INPUTS = ("stop", "stream_start", "rd_en", "rd_off", "pop", "pop_n", "ld_req", "st_req", "st_valid")
SIZE = 1 << 16
RING = 64


class Bench:
    """The DMA, its memory filled with random bytes, and stalls with the given chance."""

    def __init__(self, dut, stall: float, seed: int) -> None:  # noqa: ANN001
        logging.getLogger(f"cocotb.{dut._name}.m_axi").setLevel(logging.WARNING)
        self.dut, self.rng = dut, random.Random(seed)
        Clock(dut.clk, 10, "ns", impl="gpi").start()
        for name in INPUTS:
            getattr(dut, name).value = 0
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=SIZE)
        self.image = self.rng.randbytes(SIZE)
        self.ram.write(0, self.image)
        channels = (
            self.ram.write_if.aw_channel, self.ram.write_if.w_channel, self.ram.write_if.b_channel,
            self.ram.read_if.ar_channel, self.ram.read_if.r_channel,
        )
        for channel in channels:
            if stall:
                channel.set_pause_generator(self.rng.random() < stall for _ in itertools.count())
        self.bursts: list[tuple[int, int]] = []
        self.most_in_flight = 0
        cocotb.start_soon(self.watch())

    async def reset(self) -> None:
        self.dut.rst.value = 1
        for _ in range(5):
            await FallingEdge(self.dut.clk)
        self.dut.rst.value = 0
        await FallingEdge(self.dut.clk)

    async def watch(self) -> None:
        """The rules of AXI3-size bursts, and stability while a channel waits."""
        dut, waiting, in_flight = self.dut, {}, 0
        while True:
            await RisingEdge(dut.clk)
            if int(dut.rst.value):
                waiting, in_flight = {}, 0
                continue
            for side in ("ar", "aw"):
                valid = int(getattr(dut, f"m_axi_{side}valid").value)
                ready = int(getattr(dut, f"m_axi_{side}ready").value)
                addr = int(getattr(dut, f"m_axi_{side}addr").value)
                beats = int(getattr(dut, f"m_axi_{side}len").value) + 1
                if side in waiting:
                    assert valid and waiting[side] == (addr, beats), f"{side} changed in waiting"
                waiting.pop(side, None)
                if valid and not ready:
                    waiting[side] = (addr, beats)
                if valid and ready:
                    assert beats in range(2, 17, 2) and addr % 16 == 0
                    assert addr // 128 == (addr + 8 * beats - 1) // 128, f"{addr:#x} {beats}"
                    self.bursts.append((addr, beats))
                    in_flight += side == "ar"
            if int(dut.m_axi_rvalid.value) and int(dut.m_axi_rlast.value):
                in_flight -= 1
            self.most_in_flight = max(self.most_in_flight, in_flight)

    def words(self, address: int, count: int) -> list[int]:
        data = self.image[address : address + 16 * count]
        return [int.from_bytes(data[i : i + 16], "little") for i in range(0, len(data), 16)]

    async def stream(self, address: int, count: int, patience: float) -> list[int]:
        """Run a program of `count` words through the ring; what came out of it."""
        dut, got = self.dut, []
        dut.stream_addr.value, dut.stream_words.value, dut.stream_start.value = address, count, 1
        await FallingEdge(dut.clk)
        dut.stream_start.value = 0
        while len(got) < count:
            avail = int(dut.avail.value)
            assert avail <= min(RING, count - len(got))
            if not avail or self.rng.random() < patience:
                await FallingEdge(dut.clk)
                continue
            batch = self.rng.randint(1, avail)
            for offset in range(batch + 2):
                dut.rd_en.value, dut.rd_off.value = int(offset < batch), min(offset, batch - 1)
                await FallingEdge(dut.clk)
                if offset >= 1 and offset <= batch:
                    got.append(int(dut.rd_data.value))
            dut.rd_en.value, dut.pop.value, dut.pop_n.value = 0, 1, batch
            await FallingEdge(dut.clk)
            dut.pop.value = 0
            await FallingEdge(dut.clk)
        return got

    async def load(self, address: int, count: int) -> list[int]:
        dut, got = self.dut, []
        dut.ld_addr.value, dut.ld_words.value, dut.ld_req.value = address, count, 1
        await FallingEdge(dut.clk)
        dut.ld_req.value = 0
        while len(got) < count:
            if int(dut.ld_valid.value):
                got.append(int(dut.ld_data.value))
            await FallingEdge(dut.clk)
        return got

    async def store(self, address: int, words: list[int], latency: int, gap: float) -> None:
        """Give the words as the core does: each is asked for while st_ready, and comes later."""
        dut, pipe, left = self.dut, [], list(words)
        dut.st_addr.value, dut.st_words.value, dut.st_req.value = address, len(words), 1
        await FallingEdge(dut.clk)
        dut.st_req.value = 0
        pipe = [None] * latency
        while True:
            ask = left and int(dut.st_ready.value) and self.rng.random() >= gap
            pipe.append(left.pop(0) if ask else None)
            word = pipe.pop(0)
            dut.st_valid.value, dut.st_data.value = word is not None, word or 0
            await FallingEdge(dut.clk)
            if int(dut.st_done.value):
                assert not left and not any(word is not None for word in pipe)
                break


@cocotb.test()
@cocotb.parametrize((("stall", "seed"), [(0.0, 1), (0.2, 2), (0.6, 3)]))
async def traffic(dut, stall, seed):  # noqa: ANN001, ANN201
    """Streams, loads and stores at once, with and without stalls; every byte is compared."""
    bench = Bench(dut, stall, seed)
    await bench.reset()
    for _ in range(3):
        at, count = 16 * bench.rng.randrange(500), bench.rng.randint(1, 400)
        streaming = cocotb.start_soon(bench.stream(at, count, 0.3 * stall))
        for _ in range(3):
            ld_at, ld_count = 16 * bench.rng.randrange(500), bench.rng.randint(1, 60)
            assert await bench.load(ld_at, ld_count) == bench.words(ld_at, ld_count)
            # The upper half of the memory is written, the lower half is read
            st_at = SIZE // 2 + 16 * bench.rng.randrange(1000)
            words = [bench.rng.getrandbits(128) for _ in range(bench.rng.randint(0, 90))]
            data = b"".join(word.to_bytes(16, "little") for word in words)
            before = bench.ram.read(SIZE // 2, SIZE // 2)
            await bench.store(st_at, words, bench.rng.randint(1, 31), stall)
            low = st_at - SIZE // 2
            want = before[:low] + data + before[low + len(data) :]
            assert bench.ram.read(SIZE // 2, SIZE // 2) == want
        assert await with_timeout(streaming, 200, "us") == bench.words(at, count)
        assert int(dut.idle.value)
    assert stall or bench.most_in_flight >= 4  # what the memory model takes
    await bench.reset()


@cocotb.test()
async def stop_keeps_the_bus_whole(dut):  # noqa: ANN001, ANN201
    """A stop in the middle of everything: nothing new, all answers awaited, then it works again."""
    bench = Bench(dut, 0.3, 11)
    await bench.reset()
    for _ in range(12):
        jobs = [
            cocotb.start_soon(bench.stream(0, 300, 0.0)),
            cocotb.start_soon(bench.load(4096, 50)),
            cocotb.start_soon(
                bench.store(SIZE // 2 + 48, [bench.rng.getrandbits(128) for _ in range(60)], 3, 0.1)
            ),
        ]
        for _ in range(bench.rng.randint(5, 220)):
            await FallingEdge(dut.clk)
        for job in jobs:
            job.cancel()
        for name in INPUTS:
            getattr(dut, name).value = 0
        dut.stop.value = 1
        await FallingEdge(dut.clk)
        for cycle in itertools.count():
            await FallingEdge(dut.clk)
            assert not int(dut.ld_valid.value) or cycle == 0
            if int(dut.idle.value):
                break
            assert cycle < 2000
        issued = len(bench.bursts)
        for _ in range(30):
            await FallingEdge(dut.clk)
            assert int(dut.idle.value)
        assert len(bench.bursts) == issued
        dut.stop.value = 0
        await FallingEdge(dut.clk)
        assert await bench.stream(128, 20, 0.0) == bench.words(128, 20)
        words = [bench.rng.getrandbits(128) for _ in range(9)]
        await bench.store(SIZE // 2, words, 2, 0.0)
        data = b"".join(word.to_bytes(16, "little") for word in words)
        assert bench.ram.read(SIZE // 2, len(data)) == data


@cocotb.test()
async def error_responses(dut):  # noqa: ANN001, ANN201
    """An address beyond the memory is answered with an error, which is reported."""
    bench = Bench(dut, 0.0, 5)
    await bench.reset()
    seen = []

    async def note() -> None:
        while True:
            await FallingEdge(dut.clk)
            if int(dut.read_error.value):
                seen.append("read")
            if int(dut.write_error.value):
                seen.append("write")

    cocotb.start_soon(note())
    assert await bench.load(64, 3) == bench.words(64, 3)
    assert not seen
    # cocotbext-axi's memory wraps addresses; its responses are forced here
    original = bench.ram.read_if.r_channel.send

    async def with_error(item):  # noqa: ANN001, ANN202
        item.rresp = 2
        await original(item)

    bench.ram.read_if.r_channel.send = with_error
    await bench.load(64, 3)
    assert seen == ["read"] * 6
    original_b = bench.ram.write_if.b_channel.send

    async def with_write_error(item):  # noqa: ANN001, ANN202
        item.bresp = 3
        await original_b(item)

    bench.ram.write_if.b_channel.send = with_write_error
    await bench.store(SIZE // 2, [1] * 8, 1, 0.0)
    await FallingEdge(dut.clk)
    assert seen == ["read"] * 6 + ["write"]


@pytest.mark.timeout(300)
def test_dma(tmp_path: Path) -> None:
    build_and_test("dma_bench", SOURCES, Path(__file__), {"RING_WORDS": RING}, run_dir=tmp_path)
