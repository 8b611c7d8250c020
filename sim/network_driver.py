# SPDX-License-Identifier: Apache-2.0
"""cocotb half of test_network_faults: networks are disturbed, and the next frame is right.

The folder of the environment variable HWFLOW_JOB holds program.bin, layout.json, image.npy
(channels, height, width) and output.npy, the bytes that the output region must hold afterwards.
"""

import json
import os
from pathlib import Path

import cocotb
import numpy as np
from cocotb.handle import HierarchyObject
from cocotb.task import bridge, resume
from cocotb.triggers import Timer

from hwflow.driver import Accelerator, DriverError, Layout, regmap
from hwflow.sim.host import CLOCK_NS, SimMemory, SimRegisters, power_up


class Host:
    """The driver with the job's network on the bench. Blocking code."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.dut, folder = dut, Path(os.environ["HWFLOW_JOB"])
        self.program = (folder / "program.bin").read_bytes()
        self.layout = json.loads((folder / "layout.json").read_text())
        self.image = np.load(folder / "image.npy").transpose(1, 2, 0)
        self.want = np.load(folder / "output.npy")
        self.registers = SimRegisters(dut)
        self.memory = SimMemory(dut, folder / "mailbox.bin")
        self.accelerator = Accelerator(
            self.registers, self.memory, self.program, Layout.of(self.layout), timeout_s=0.01
        )
        self.output_at = self.registers.read(regmap.OUTPUT_ADDR)

    def good_frame(self) -> int:
        """One frame, every byte that it must write compared; its cycles."""
        self.memory.write(self.output_at, np.full(self.want.size, 0xA5, np.uint8))
        frame = self.accelerator.run(self.image)
        assert np.array_equal(self.accelerator.output(self.want.size), self.want)
        return frame.cycles

    def set(self, **values: int) -> None:
        resume(self._set)(values)

    async def _set(self, values: dict[str, int]) -> None:
        for name, value in values.items():
            getattr(self.dut, name).value = value
        await Timer(CLOCK_NS, "ns")

    def cycles(self, count: int) -> None:
        resume(self._cycles)(count)

    async def _cycles(self, count: int) -> None:
        await Timer(count * CLOCK_NS, "ns")


@cocotb.test()
async def resets(dut: HierarchyObject) -> None:
    """A reset in any phase of the frame, with and without stalls: quiet bus, then a right frame."""
    await power_up(dut)

    def script() -> None:
        rng = np.random.default_rng(12)
        host = Host(dut)
        length = host.good_frame()
        for moment in np.linspace(10, length - 10, 14):
            host.set(h_stall_percent=int(rng.choice([0, 30])))
            host.accelerator.start(host.image)
            host.cycles(int(moment))
            host.registers.write(regmap.CTRL, 1 << regmap.CTRL_RESET[0])
            waits = 0
            while host.registers.read(regmap.STATUS) & 1:
                waits += 1
                assert waits < 300
            assert host.registers.read(regmap.STATUS) == 0
            moved = [host.registers.read(r) for r in (regmap.RD_BYTES, regmap.WR_BYTES)]
            host.cycles(150)
            assert [host.registers.read(r) for r in (regmap.RD_BYTES, regmap.WR_BYTES)] == moved
            assert not int(dut.h_irq.value)
            host.set(h_stall_percent=0)
            host.good_frame()

    await bridge(script)()


@cocotb.test()
async def bus_errors(dut: HierarchyObject) -> None:
    """SLVERR and DECERR in streams, image and output: flag and interrupt, then a right frame."""
    await power_up(dut)

    def script() -> None:
        rng = np.random.default_rng(13)
        host = Host(dut)
        host.good_frame()
        regions = {
            "PROG": len(host.program), "IMAGE": host.image.size, "OUTPUT": host.want.size,
        }  # fmt: skip
        for name, size in regions.items():
            base = host.registers.read(getattr(regmap, f"{name}_ADDR"))
            code = regmap.CODE_BUS_WRITE if name == "OUTPUT" else regmap.CODE_BUS_READ
            for place in (0, size - 1, *rng.integers(0, size, 4)):
                host.set(h_stall_percent=int(rng.choice([0, 30])), h_fault_on=1,
                         h_fault_addr=base + int(place), h_fault_resp=int(rng.choice([2, 3])))
                try:
                    host.accelerator.run(host.image)
                except DriverError as error:
                    assert f"code {code:#04x}" in str(error), (name, place, str(error))
                    assert host.registers.read(regmap.STATUS) == 0b100
                else:
                    raise AssertionError(f"no error at {name} + {place}")
                host.set(h_fault_on=0, h_stall_percent=0)
                host.good_frame()

    await bridge(script)()
