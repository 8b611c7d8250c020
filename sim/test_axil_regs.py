# SPDX-License-Identifier: Apache-2.0
"""axil_regs through cocotbext-axi, against the register map itself."""

import itertools
import logging
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from hwflow.driver import regmap
from hwflow.driver.registers import read_map
from hwflow.sim.runner import build_and_test, hdl_dir

MAP = read_map(hdl_dir() / "shell" / "registers.toml")
PORTS = {  # what the engine side gives for each read-only register
    "CYCLES": ("cycles", 32), "RD_BYTES": ("rd_bytes", 32), "WR_BYTES": ("wr_bytes", 32),
    "CAND_COUNT": ("cand_count", 7),
}  # fmt: skip
OUT = ("PROG_ADDR", "PROG_WORDS", "IMAGE_ADDR", "OUTPUT_ADDR", "SCRATCH_ADDR", "WATCHDOG",
       "LANE_WORDS")  # fmt: skip


async def bench(dut, stall: float) -> tuple[AxiLiteMaster, random.Random]:  # noqa: ANN001
    """Clock, reset, master; with pauses on every channel when stall is not 0."""
    logging.getLogger(f"cocotb.{dut._name}.s_axil").setLevel(logging.WARNING)
    rng = random.Random(3)
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    for name in ("busy", "done", "error", "irq_done", "irq_error", "error_code", "error_tag",
                 "cycles", "rd_bytes", "wr_bytes", "cand_count", "prog_hash", "a_tag",
                 "b_tag"):
        getattr(dut, name).value = 0
    master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
    channels = (
        master.write_if.aw_channel, master.write_if.w_channel, master.write_if.b_channel,
        master.read_if.ar_channel, master.read_if.r_channel,
    )
    for channel in channels:
        if stall:
            channel.set_pause_generator(rng.random() < stall for _ in itertools.count())
    dut.rst.value = 1
    for _ in range(4):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    await FallingEdge(dut.clk)
    return master, rng


async def read(master: AxiLiteMaster, offset: int) -> int:
    answer = await with_timeout(master.read(offset, 4), 5, "us")
    assert answer.resp == AxiResp.OKAY, hex(offset)
    return int.from_bytes(answer.data, "little")


async def write(master: AxiLiteMaster, offset: int, value: int) -> None:
    answer = await with_timeout(master.write(offset, value.to_bytes(4, "little")), 5, "us")
    assert answer.resp == AxiResp.OKAY, hex(offset)


@cocotb.test()
@cocotb.parametrize(stall=[0.0, 0.5])
async def every_register(dut, stall):  # noqa: ANN001, ANN201
    """Identity, values of the engine, read-back, byte strobes, refusals."""
    master, rng = await bench(dut, stall)
    assert await read(master, regmap.ID) == int.from_bytes(b"HWFF", "little")
    assert await read(master, regmap.VERSION) == MAP.version << 16 | 5
    assert await read(master, regmap.CAPS) == 1000 << 16 | 24 << 8 | 16
    for name, (port, width) in PORTS.items():
        value = rng.getrandbits(width)
        getattr(dut, port).value = value
        assert await read(master, getattr(regmap, name)) == value
    value = rng.getrandbits(64)
    dut.prog_hash.value = value
    assert await read(master, regmap.PROG_HASH_LO) == value & 0xFFFFFFFF
    assert await read(master, regmap.PROG_HASH_HI) == value >> 32
    dut.error_code.value, dut.error_tag.value = 0xA5, 0x9C3
    assert await read(master, regmap.ERROR) == 0x9C3 << 16 | 0xA5
    dut.a_tag.value, dut.b_tag.value = 0x6B1, 0xD35
    assert await read(master, regmap.TAG) == 0xD35 << 16 | 0x6B1
    for bits in range(8):
        dut.busy.value, dut.done.value, dut.error.value = bits & 1, bits >> 1 & 1, bits >> 2
        assert await read(master, regmap.STATUS) == bits

    kept = {}
    for name in OUT:
        kept[name] = rng.getrandbits(32)
        await write(master, getattr(regmap, name), kept[name])
    for name in OUT:
        assert await read(master, getattr(regmap, name)) == kept[name]
        assert int(getattr(dut, name.lower()).value) == kept[name]
    await with_timeout(master.write(regmap.IMAGE_ADDR + 1, b"\x5a\xc3"), 5, "us")  # two bytes
    assert await read(master, regmap.IMAGE_ADDR) == kept["IMAGE_ADDR"] & 0xFF0000FF | 0xC35A00

    known = {register.offset: register for register in MAP.registers}
    for offset in range(0, 256, 4):
        register = known.get(offset)
        answer = await with_timeout(master.read(offset, 4), 5, "us")
        assert answer.resp == (AxiResp.OKAY if register else AxiResp.SLVERR), hex(offset)
        if register is None or register.access == "ro":
            answer = await with_timeout(master.write(offset, b"\xff" * 4), 5, "us")
            assert answer.resp == AxiResp.SLVERR, hex(offset)
    for name in OUT[1:2]:
        assert await read(master, getattr(regmap, name)) == kept[name]


@cocotb.test()
async def control_and_interrupt(dut):  # noqa: ANN001, ANN201
    """start and soft_reset pulse once; events stay until cleared; enables gate the line."""
    master, _ = await bench(dut, 0.0)
    pulses = {"start": 0, "soft_reset": 0}

    async def count() -> None:
        while True:
            await FallingEdge(dut.clk)
            for name in pulses:
                pulses[name] += int(getattr(dut, name).value)

    cocotb.start_soon(count())
    await write(master, regmap.CTRL, 0b00)
    assert pulses == {"start": 0, "soft_reset": 0}
    await write(master, regmap.CTRL, 0b01)
    assert pulses == {"start": 1, "soft_reset": 0}
    await write(master, regmap.CTRL, 0b10)
    assert pulses == {"start": 1, "soft_reset": 1}
    await with_timeout(master.write(regmap.CTRL + 1, b"\x01"), 5, "us")  # another byte
    assert pulses == {"start": 1, "soft_reset": 1}
    assert await read(master, regmap.CTRL) == 0

    async def event(name: str) -> None:
        await FallingEdge(dut.clk)
        getattr(dut, name).value = 1
        await FallingEdge(dut.clk)
        getattr(dut, name).value = 0
        for _ in range(2):
            await FallingEdge(dut.clk)

    await event("irq_done")
    assert not int(dut.irq.value)
    assert await read(master, regmap.IRQ_STATUS) == 0b01
    await write(master, regmap.IRQ_ENABLE, 0b10)
    assert not int(dut.irq.value)
    await event("irq_error")
    assert int(dut.irq.value)
    assert await read(master, regmap.IRQ_STATUS) == 0b11
    await write(master, regmap.IRQ_STATUS, 0b10)
    await FallingEdge(dut.clk)
    assert not int(dut.irq.value)
    assert await read(master, regmap.IRQ_STATUS) == 0b01
    await write(master, regmap.IRQ_ENABLE, 0b01)
    await FallingEdge(dut.clk)
    assert int(dut.irq.value)
    assert await read(master, regmap.IRQ_ENABLE) == 0b01


def test_axil_regs(tmp_path: Path) -> None:
    build_and_test(
        "axil_regs", [Path("shell/regs_pkg.sv"), Path("shell/axil_regs.sv")], Path(__file__),
        {"ISA": 5, "ACT_WORDS": 1000}, run_dir=tmp_path,
    )
