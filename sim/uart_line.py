# SPDX-License-Identifier: Apache-2.0
"""A simulated serial line: the transport of hwflow.driver.uart on the pins of a design."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import cocotb
from cocotb.handle import LogicObject
from cocotb.simtime import get_sim_time
from cocotb.task import resume
from cocotb.triggers import FallingEdge, Timer

BITS = 10  # of a byte: start, 8, stop


class SerialLine:
    """`rx` of a design is driven, its `tx` (if any) listened to, with bits of `bit_ns`.

    `write` and `read` are those of a port of pyserial, for blocking code behind cocotb's bridge;
    `read` waits at most `timeout_ns`. `got` is all that came and was not read.
    """

    def __init__(
        self, rx: LogicObject, tx: LogicObject | None, bit_ns: float, timeout_ns: float = 0
    ) -> None:
        self.rx = rx
        self.tx = tx
        self.bit_ns = bit_ns
        self.timeout_ns = timeout_ns
        self.got = bytearray()
        self.broken = 0  # bytes of the design without a stop bit
        rx.value = 1
        if tx is not None:
            cocotb.start_soon(self._listen(tx))

    def write(self, data: bytes) -> int:
        resume(partial(self.send, data))()
        return len(data)

    def read(self, size: int) -> bytes:
        return resume(partial(self.receive, size))()

    async def send(self, data: Iterable[int]) -> None:
        """Bytes without a pause between them."""
        for byte in data:
            frame = byte << 1 | 1 << BITS - 1
            for bit in range(BITS):
                self.rx.value = frame >> bit & 1
                await self.wait(1)

    async def wait(self, bits: float) -> None:
        await Timer(round(1000 * bits * self.bit_ns), "ps")

    async def receive(self, size: int) -> bytes:
        """So many bytes, or as many as came in time."""
        end = get_sim_time("ns") + self.timeout_ns
        while len(self.got) < size and get_sim_time("ns") < end:
            await self.wait(BITS / 2)
        found = bytes(self.got[:size])
        del self.got[:size]
        return found

    async def _listen(self, tx: LogicObject) -> None:
        while True:
            await FallingEdge(tx)
            await self.wait(1.5)
            byte = 0
            for bit in range(8):
                byte |= int(tx.value) << bit
                await self.wait(1)
            if int(tx.value):
                self.got.append(byte)
            else:
                self.broken += 1
