# SPDX-License-Identifier: Apache-2.0
"""The whole design of an open board: pins, power-up, serial line, a network of tables.

The host's own code sends pictures on the board's serial line at the board's own rate; the classes
are those of the integer graph.
"""

from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.task import bridge
from uart_line import BITS, SerialLine

from hwflow import boards
from hwflow.driver import uart
from hwflow.emit.tables import Options, emit
from hwflow.ir import Graph
from hwflow.sim.runner import build_and_test, hdl_dir, lint
from hwflow.sim.tables import reference
from hwflow.toolchain import openboards
from tests.table_graphs import Layer, images, network

PIXELS = (4, 7)
BOARD = "icebreaker"
CLOCK_NS = 84  # 12 MHz, a percent slow


def graph() -> Graph:
    """28 pixels, two layers, four classes."""
    return network([Layer(40, 6), Layer(24, 4)], shape=PIXELS, groups=4)


def sources(folder: Path) -> list[Path]:
    """All files of the board's design, in order of compilation."""
    core = emit(graph(), Options(target="portable")).files
    files = {name: core[name] for name in sorted(core, key=lambda n: ("_pkg" not in n, n))}
    for name in ("lib/fifo.sv", "tables/tables_axis.sv"):
        files[name] = (hdl_dir() / name).read_text()
    found = []
    for name, text in openboards.wrap(boards.load(BOARD), files, PIXELS[0] * PIXELS[1]).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        found.append(path)
    return found


@cocotb.test()
async def pictures(dut):  # noqa: ANN001, ANN201
    """Classes of the integer graph after power-up, garbage, a pressed button, wrong sizes."""
    expected, _ = reference(graph(), images(10, graph(), 4))
    assert len(set(expected.tolist())) > 2
    Clock(dut.clock, CLOCK_NS, "ns", impl="gpi").start()
    dut.reset.value = 1  # not pressed
    bit = 1e9 / boards.load(BOARD).open.uart.baud
    line = SerialLine(dut.uart_rx, dut.uart_tx, bit, 40 * BITS * bit)
    await line.wait(2)

    def script(first: int, last: int) -> list[int]:
        link = uart.Link(line)
        assert link.frame_bytes() == PIXELS[0] * PIXELS[1]
        return [link.classify(one).index for one in images(10, graph(), 4)[first:last]]

    assert await bridge(script)(0, 4) == expected[:4].tolist()
    assert int(dut.leds.value) == ~int(expected[3]) & 3  # lit when low
    await line.send(bytes(range(40)))
    sender = cocotb.start_soon(line.send(uart.request(bytes(28), 1)))
    await line.wait(12 * BITS)
    dut.reset.value = 0
    await line.wait(1)
    assert int(dut.uart_tx.value) == 1
    assert int(dut.leds.value) == 3
    dut.reset.value = 1
    await sender
    await line.wait(20 * BITS)
    line.got.clear()
    assert await bridge(script)(4, 10) == expected[4:].tolist()

    def wrong() -> str:
        try:
            uart.classify(line, np.zeros(27, np.uint8))
        except uart.LinkError as error:
            return str(error)
        return ""

    assert "has 27 bytes, the network on the board takes 28" in await bridge(wrong)()


def test_board_top(tmp_path: Path) -> None:
    files = sources(tmp_path / "hdl")
    lint(openboards.TOP, files)
    build_and_test(openboards.TOP, files, Path(__file__), run_dir=tmp_path / "run")
