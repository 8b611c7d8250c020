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
INPUTS = (
    "stop", "stream_start", "a_rd_en", "a_rd_off", "a_pop", "a_pop_n", "b_rd_en", "b_rd_off",
    "b_pop", "b_pop_n", "ld_req", "ld_ready", "st_req", "st_valid",
)  # fmt: skip
SIZE = 1 << 16
RINGS = {"a": 64, "b": 16}
Transfer = tuple[int, int, int, int]  # address, words in a run, runs, stride in words


def places(transfer: Transfer) -> list[int]:
    """Byte address of every word of a transfer, in order."""
    address, words, runs, stride = transfer
    return [address + 16 * (run * stride + word) for run in range(runs) for word in range(words)]


def random_transfer(rng: random.Random, low: int) -> Transfer:
    """Within half a memory from `low` on: one long run, many short ones, runs that overlap."""
    words, runs = rng.choice(
        [(rng.randint(0, 60), 1), (rng.randint(1, 11), rng.randint(1, 9)), (1, 23), (5, 0)]
    )
    stride = rng.randrange(40)
    span = 16 * (max(runs - 1, 0) * stride + words)
    return low + 16 * rng.randrange((SIZE // 2 - span) // 16), words, runs, stride


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

    def start(self, a: tuple[int, int], b: tuple[int, int]) -> None:
        """Begin both streams (address, words) in this cycle."""
        dut = self.dut
        dut.a_addr.value, dut.a_words.value = a
        dut.b_addr.value, dut.b_words.value = b
        dut.stream_start.value = 1

    async def stream(self, side: str, count: int, patience: float) -> list[int]:
        """Take a stream of `count` words out of its ring; what came."""
        dut, got = self.dut, []
        names = ("avail", "rd_en", "rd_off", "rd_data", "pop", "pop_n")
        avail_, rd_en, rd_off, rd_data, pop, pop_n = (getattr(dut, f"{side}_{n}") for n in names)
        while len(got) < count:
            avail = int(avail_.value)
            assert avail <= min(RINGS[side], count - len(got))
            if not avail or self.rng.random() < patience:
                await FallingEdge(dut.clk)
                continue
            batch = self.rng.randint(1, avail)
            for offset in range(batch + 2):
                rd_en.value, rd_off.value = int(offset < batch), min(offset, batch - 1)
                await FallingEdge(dut.clk)
                if offset >= 1 and offset <= batch:
                    got.append(int(rd_data.value))
            rd_en.value, pop.value, pop_n.value = 0, 1, batch
            await FallingEdge(dut.clk)
            pop.value = 0
            await FallingEdge(dut.clk)
        return got

    async def streams(
        self, a: tuple[int, int], b: tuple[int, int], patience: float
    ) -> tuple[list[int], list[int]]:
        """Run both streams to their ends."""
        self.start(a, b)
        await FallingEdge(self.dut.clk)
        self.dut.stream_start.value = 0
        array = cocotb.start_soon(self.stream("a", a[1], patience))
        lanes = cocotb.start_soon(self.stream("b", b[1], patience))
        return await array, await lanes

    async def load(self, transfer: Transfer, gap: float = 0.0) -> list[int]:
        """A LOAD; `gap` is the chance that its word is not taken in a cycle."""
        dut, got = self.dut, []
        dut.ld_addr.value, dut.ld_words.value, dut.ld_runs.value, dut.ld_stride.value = transfer
        dut.ld_req.value = 1
        await FallingEdge(dut.clk)
        dut.ld_req.value = 0
        while len(got) < transfer[1] * transfer[2]:
            ready = self.rng.random() >= gap
            dut.ld_ready.value = ready
            if ready and int(dut.ld_valid.value):
                got.append(int(dut.ld_data.value))
            await FallingEdge(dut.clk)
        dut.ld_ready.value = 0
        return got

    async def store(self, transfer: Transfer, words: list[int], latency: int, gap: float) -> None:
        """Give the words as the core does: each is asked for while st_ready, and comes later."""
        dut, left = self.dut, list(words)
        dut.st_addr.value, dut.st_words.value, dut.st_runs.value, dut.st_stride.value = transfer
        dut.st_req.value = 1
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

    def word(self, address: int) -> int:
        return int.from_bytes(self.image[address : address + 16], "little")


@cocotb.test()
@cocotb.parametrize((("stall", "seed"), [(0.0, 1), (0.2, 2), (0.6, 3)]))
async def traffic(dut, stall, seed):  # noqa: ANN001, ANN201
    """Both streams, loads and stores at once, with and without stalls; every byte is compared."""
    bench = Bench(dut, stall, seed)
    await bench.reset()
    rng = bench.rng
    for _ in range(3):
        sides = [(16 * rng.randrange(500), rng.randint(1, 400)) for _ in range(2)]
        streaming = cocotb.start_soon(bench.streams(*sides, 0.3 * stall))
        for _ in range(6):
            transfer = random_transfer(rng, 0)
            want = [bench.word(place) for place in places(transfer)]
            assert await bench.load(transfer, rng.choice([0.0, 0.3, 0.8])) == want
            # The upper half of the memory is written, the lower half is read
            transfer = random_transfer(rng, SIZE // 2)
            after = bytearray(bench.ram.read(0, SIZE))
            words = [rng.getrandbits(128) for _ in places(transfer)]
            for place, word in zip(places(transfer), words, strict=True):
                after[place : place + 16] = word.to_bytes(16, "little")
            await bench.store(transfer, words, rng.randint(1, 31), stall)
            assert bench.ram.read(0, SIZE) == bytes(after)
        got = await with_timeout(streaming, 300, "us")
        assert got == tuple(bench.words(*side) for side in sides)
        for _ in range(3):
            await FallingEdge(dut.clk)
        assert int(dut.idle.value)
    assert stall or bench.most_in_flight >= 4  # what the memory model takes
    await bench.reset()


@cocotb.test()
async def turns_of_the_three(dut):  # noqa: ANN001, ANN201
    """Lanes first; array and LOAD in turn; nobody's words are lost while another one waits."""
    bench = Bench(dut, 0.0, 21)
    await bench.reset()
    # Rings larger than the streams, so that only the bus limits; addresses tell whose burst it is
    bench.start((0, 64), (0x1000, 16))
    dut.ld_addr.value, dut.ld_words.value, dut.ld_runs.value, dut.ld_stride.value = 0x2000, 8, 8, 8
    dut.ld_req.value, dut.ld_ready.value = 1, 1
    await FallingEdge(dut.clk)
    dut.stream_start.value = dut.ld_req.value = 0
    for _ in range(600):
        await FallingEdge(dut.clk)
    order = "".join({0: "a", 1: "b", 2: "l"}[address >> 12] for address, _ in bench.bursts)
    assert order.count("a") == order.count("l") == 8 and order.count("b") == 2
    assert order.replace("b", "") in ("al" * 8, "la" * 8)
    assert order.rindex("b") <= 4  # at most one of each other before each of its two


@cocotb.test()
async def stop_keeps_the_bus_whole(dut):  # noqa: ANN001, ANN201
    """A stop in the middle of everything: nothing new, all answers awaited, then it works again."""
    bench = Bench(dut, 0.3, 11)
    await bench.reset()
    for _ in range(12):
        words = [bench.rng.getrandbits(128) for _ in range(60)]
        bench.start((0, 300), (8192, 200))
        await FallingEdge(dut.clk)
        dut.stream_start.value = 0
        jobs = [
            cocotb.start_soon(bench.stream("a", 300, 0.0)),
            cocotb.start_soon(bench.stream("b", 200, 0.0)),
            cocotb.start_soon(bench.load((4096, 7, 20, 9), bench.rng.choice([0.0, 0.9]))),
            cocotb.start_soon(bench.store((SIZE // 2 + 48, 6, 10, 7), words, 3, 0.1)),
        ]
        for _ in range(bench.rng.randint(5, 260)):
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
        got = await bench.streams((128, 20), (2048, 30), 0.0)
        assert got == (bench.words(128, 20), bench.words(2048, 30))
        assert await bench.load((640, 20, 1, 0)) == bench.words(640, 20)
        words = [bench.rng.getrandbits(128) for _ in range(9)]
        await bench.store((SIZE // 2, 9, 1, 0), words, 2, 0.0)
        data = b"".join(word.to_bytes(16, "little") for word in words)
        assert bench.ram.read(SIZE // 2, len(data)) == data


@cocotb.test()
async def error_responses(dut):  # noqa: ANN001, ANN201
    """Error responses are reported, with the queue that they belong to."""
    bench = Bench(dut, 0.0, 5)
    await bench.reset()
    seen = []

    async def note() -> None:
        while True:
            await FallingEdge(dut.clk)
            if int(dut.read_error.value):
                seen.append("array" if int(dut.read_error_array.value) else "lanes")
            if int(dut.write_error.value):
                seen.append("write")

    cocotb.start_soon(note())
    assert await bench.load((64, 3, 1, 0)) == bench.words(64, 3)
    assert not seen
    # cocotbext-axi's memory wraps addresses; its responses are forced here
    original = bench.ram.read_if.r_channel.send

    async def with_error(item):  # noqa: ANN001, ANN202
        item.rresp = 2
        await original(item)

    bench.ram.read_if.r_channel.send = with_error
    await bench.load((64, 3, 1, 0))
    assert seen == ["lanes"] * 6
    del seen[:]
    await bench.streams((64, 2), (128, 4), 0.0)
    for _ in range(4):
        await FallingEdge(dut.clk)
    assert sorted(seen) == ["array"] * 4 + ["lanes"] * 8
    del seen[:]
    original_b = bench.ram.write_if.b_channel.send

    async def with_write_error(item):  # noqa: ANN001, ANN202
        item.bresp = 3
        await original_b(item)

    bench.ram.write_if.b_channel.send = with_write_error
    await bench.store((SIZE // 2, 8, 1, 0), [1] * 8, 1, 0.0)
    await FallingEdge(dut.clk)
    assert seen == ["write"]


@pytest.mark.timeout(300)
def test_dma(tmp_path: Path) -> None:
    build_and_test(
        "dma_bench", SOURCES, Path(__file__),
        {"RING_WORDS": RINGS["a"], "LANE_RING_WORDS": RINGS["b"]}, run_dir=tmp_path,
    )
