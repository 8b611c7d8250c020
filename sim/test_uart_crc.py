# SPDX-License-Identifier: Apache-2.0
"""uart_crc: against the CRC of Python's binascii."""

import binascii
import random
from pathlib import Path

import cocotb
from bench import settle

from hwflow.sim.runner import build_and_test


@cocotb.test()
async def equals_binascii(dut):  # noqa: ANN001, ANN201
    """Each bit of both inputs alone, the published check value, random bytes."""
    cases = [(1 << bit, 0) for bit in range(16)] + [(0, 1 << bit) for bit in range(8)]
    rng = random.Random(6)
    cases += [(rng.getrandbits(16), rng.getrandbits(8)) for _ in range(1000)]
    for code, byte in cases:
        dut.crc_in.value, dut.data.value = code, byte
        await settle()
        assert int(dut.crc_out.value) == binascii.crc_hqx(bytes([byte]), code), (code, byte)
    code = 0xFFFF
    for byte in b"123456789":
        dut.crc_in.value, dut.data.value = code, byte
        await settle()
        code = int(dut.crc_out.value)
    assert code == 0x29B1


def test_uart_crc(tmp_path: Path) -> None:
    build_and_test("uart_crc", [Path("shell/uart_crc.sv")], Path(__file__), run_dir=tmp_path)
