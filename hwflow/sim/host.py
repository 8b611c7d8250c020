# SPDX-License-Identifier: Apache-2.0
"""The simulated board: registers and memory of `sim/models/tb_engine.sv` for the host driver.

Used inside cocotb. The driver is ordinary blocking code; it runs in a thread (`cocotb.task.bridge`)
and every access here hands over to the simulator (`resume`). The simulator calls Python only when
an access has been done or the interrupt rises.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from cocotb.handle import LogicObject, PackedObject
from cocotb.task import resume
from cocotb.triggers import First, RisingEdge, Timer, ValueChange

from hwflow.errors import ConfigError, ToolError

CLOCK_NS = 10  # of the bench; times are reported in cycles, so that its value does not matter
CLOCK_MHZ = 150  # what a second of the driver's timeouts is worth
DDR_BASE = 0x1000_0000
DDR_BYTES = 1 << 26  # the program of the largest configuration and its spills are 20 MB
ALIGN = 128


class Bench(Protocol):
    """The variables of the bench that Python sets and reads; tb_engine.sv says what they mean."""

    h_reset_n: LogicObject
    h_reg_req: LogicObject
    h_reg_write: LogicObject
    h_reg_addr: PackedObject[Any]
    h_reg_wdata: PackedObject[Any]
    h_reg_ack: LogicObject
    h_reg_rdata: PackedObject[Any]
    h_reg_resp: PackedObject[Any]
    h_mem_req: LogicObject
    h_mem_write: LogicObject
    h_mem_addr: PackedObject[Any]
    h_mem_bytes: PackedObject[Any]
    h_mem_ack: LogicObject
    h_stall_percent: PackedObject[Any]
    h_fault_on: LogicObject
    h_fault_resp: PackedObject[Any]
    h_trace: LogicObject
    h_irq: LogicObject
    h_cycle: PackedObject[Any]


async def power_up(dut: Bench) -> None:
    """Hold the reset for a few cycles, then release it; no stalls, no faults."""
    dut.h_reset_n.value = 0
    dut.h_stall_percent.value = 0
    dut.h_fault_on.value = 0
    await Timer(10 * CLOCK_NS, "ns")
    dut.h_reset_n.value = 1
    await Timer(5 * CLOCK_NS, "ns")


async def access(dut: Bench, write: bool, offset: int, value: int = 0) -> tuple[int, int]:
    """One access of the AXI4-Lite port: (data, response)."""
    dut.h_reg_write.value = int(write)
    dut.h_reg_addr.value = offset
    dut.h_reg_wdata.value = value
    dut.h_reg_req.value = 1 - int(dut.h_reg_ack.value)
    await ValueChange(dut.h_reg_ack)
    return int(dut.h_reg_rdata.value), int(dut.h_reg_resp.value)


class SimRegisters:
    """The registers through the simulated AXI4-Lite port."""

    def __init__(self, dut: Bench) -> None:
        self._dut = dut

    def read(self, offset: int) -> int:
        """The register's value. Raises ToolError on an error response."""
        return self._access(False, offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Set the register. Raises ToolError on an error response."""
        self._access(True, offset, value)

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the interrupt line is high; False after timeout_s of simulated time."""
        return resume(self._wait)(round(timeout_s * CLOCK_MHZ * 1e6))

    def _access(self, write: bool, offset: int, value: int) -> int:
        data, response = resume(access)(self._dut, write, offset, value)
        if response:
            kind = "write to" if write else "read of"
            raise ToolError(f"{kind} register {offset:#x} was answered with response {response}")
        return data

    async def _wait(self, cycles: int) -> bool:
        if not int(self._dut.h_irq.value):
            await First(RisingEdge(self._dut.h_irq), Timer(cycles * CLOCK_NS, "ns"))
        return bool(int(self._dut.h_irq.value))


class SimBuffer:
    """A piece of the simulated DDR."""

    def __init__(self, memory: SimMemory, address: int, size: int) -> None:
        self._memory, self.address, self.size = memory, address, size

    def write(self, data: np.ndarray) -> None:
        """Copy uint8 (n,) to the start of the buffer."""
        if len(data) > self.size:
            raise ConfigError(f"{len(data)} bytes do not fit a buffer of {self.size}")
        self._memory.write(self.address, data)

    def read(self, size: int) -> np.ndarray:
        """uint8 (size,) from the start of the buffer."""
        return self._memory.read(self.address, size)


class SimMemory:
    """The simulated DDR; bytes pass through the file given to the simulator as +host_file."""

    def __init__(self, dut: Bench, mailbox: Path) -> None:
        self._dut, self._mailbox = dut, mailbox
        self._next = DDR_BASE

    def allocate(self, size: int) -> SimBuffer:
        """A buffer of `size` bytes. Raises ConfigError when the memory is full."""
        address = self._next
        self._next += -(-size // ALIGN) * ALIGN
        if self._next > DDR_BASE + DDR_BYTES:
            raise ConfigError(f"the simulated memory of {DDR_BYTES} bytes is full")
        return SimBuffer(self, address, size)

    def write(self, address: int, data: np.ndarray) -> None:
        """Copy bytes to an address that is a multiple of 8; fills up to 8 with zeros."""
        padded = np.zeros(-(-len(data) // 8) * 8, np.uint8)
        padded[: len(data)] = data
        self._mailbox.write_bytes(padded.tobytes())
        resume(self._move)(True, address, len(padded))

    def read(self, address: int, size: int) -> np.ndarray:
        """uint8 (size,) from an address that is a multiple of 8."""
        resume(self._move)(False, address, -(-size // 8) * 8)
        return np.frombuffer(self._mailbox.read_bytes(), np.uint8)[:size].copy()

    async def _move(self, write: bool, address: int, size: int) -> None:
        self._dut.h_mem_write.value = int(write)
        self._dut.h_mem_addr.value = address
        self._dut.h_mem_bytes.value = size
        self._dut.h_mem_req.value = 1 - int(self._dut.h_mem_ack.value)
        await ValueChange(self._dut.h_mem_ack)
