# SPDX-License-Identifier: Apache-2.0
"""tables_axil around a small random core: the driver, wrong accesses, a host that never reads."""

import itertools
import logging
import random
from pathlib import Path

import cocotb
import numpy as np
import pytest
from cocotb.clock import Clock
from cocotb.task import bridge, resume
from cocotb.triggers import FallingEdge, First, RisingEdge, Timer, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from hwflow.driver import classifier
from hwflow.driver.accelerator import DriverError
from hwflow.driver.classifier import Classifier
from hwflow.emit.tables import Options, emit
from hwflow.ir import Graph
from hwflow.sim.runner import build_and_test, sim_dir
from hwflow.sim.tables import reference
from tests.table_graphs import Layer, images, network

PIXELS = (5, 6)  # the last word is half a word


def graph() -> Graph:
    """30 pixels, two layers, four classes."""
    return network([Layer(40, 6), Layer(24, 4)], shape=PIXELS, groups=4)


class Port:
    """The registers for the driver, over the simulated bus."""

    def __init__(self, dut, master: AxiLiteMaster) -> None:  # noqa: ANN001
        self.dut, self.master = dut, master

    def read(self, offset: int) -> int:
        return resume(self.read_async)(offset)

    def write(self, offset: int, value: int) -> None:
        assert resume(self.write_async)(offset, value) == AxiResp.OKAY, hex(offset)

    def wait(self, timeout_s: float) -> bool:
        return resume(self.wait_async)(round(timeout_s * 1e9))

    async def read_async(self, offset: int) -> int:
        answer = await with_timeout(self.master.read(offset, 4), 20, "us")
        assert answer.resp == AxiResp.OKAY, hex(offset)
        return int.from_bytes(answer.data, "little")

    async def write_async(self, offset: int, value: int) -> AxiResp:
        task = self.master.write(offset, value.to_bytes(4, "little"))
        return (await with_timeout(task, 20, "us")).resp

    async def wait_async(self, nanoseconds: int) -> bool:
        if not int(self.dut.irq.value):
            await First(RisingEdge(self.dut.irq), Timer(nanoseconds, "ns"))
        return bool(int(self.dut.irq.value))


async def start(dut, stall: float = 0.0) -> Port:  # noqa: ANN001
    """Clock and reset; with pauses on every channel when stall is not 0."""
    logging.getLogger(f"cocotb.{dut._name}.s_axil").setLevel(logging.WARNING)
    Clock(dut.aclk, 10, "ns", impl="gpi").start()
    bus = AxiLiteBus.from_prefix(dut, "s_axil")
    master = AxiLiteMaster(bus, dut.aclk, dut.aresetn, reset_active_level=False)
    rng = random.Random(5)
    for channel in (
        master.write_if.aw_channel, master.write_if.w_channel, master.write_if.b_channel,
        master.read_if.ar_channel, master.read_if.r_channel,
    ):
        if stall:
            channel.set_pause_generator(rng.random() < stall for _ in itertools.count())
    dut.aresetn.value = 0
    for _ in range(4):
        await FallingEdge(dut.aclk)
    dut.aresetn.value = 1
    await FallingEdge(dut.aclk)
    return Port(dut, master)


@cocotb.test()
async def the_driver_classifies(dut):  # noqa: ANN001, ANN201
    """The code that runs on the board, at full speed and with stalls."""
    pictures = images(30, graph(), 3)
    classes, _ = reference(graph(), pictures)
    assert len(set(classes.tolist())) > 2
    for stall in (0.0, 0.6):
        port = await start(dut, stall)

        @bridge
        def run(port: Port = port) -> list[int]:
            network = Classifier(port)
            assert network.pixels == 30
            one = [network.classify(p.reshape(PIXELS)) for p in pictures[:5]]
            with pytest.raises(DriverError, match="picture 0: 29 elements of uint8; this network"):
                network.classify(pictures[0][:29])
            return one + network.classify_all(pictures[5:])

        assert await run() == classes.tolist()


@cocotb.test()
async def wrong_accesses_are_refused(dut):  # noqa: ANN001, ANN201
    """Offsets without a register, registers that are read only, words in pieces."""
    port = await start(dut)
    for offset in (0x00, 0x04, 0x0C, 0x14, 0x7C):
        assert await port.write_async(offset, 1) == AxiResp.SLVERR, hex(offset)
    for offset in (0x10, 0x14, 0x80, 0xFC):
        assert (await port.master.read(offset, 4)).resp == AxiResp.SLVERR, hex(offset)
    assert (await port.master.write(classifier.DATA, b"\1\2\3")).resp == AxiResp.SLVERR
    assert await port.read_async(classifier.STATUS) == 0
    assert await port.read_async(classifier.RESULT) == 0


@cocotb.test()
async def nobody_reads(dut):  # noqa: ANN001, ANN201
    """The bus never stops; what was taken before the refusal is answered in order."""
    port = await start(dut)
    pictures = images(20, graph(), 9)
    classes, _ = reference(graph(), pictures)
    sent = 0
    for picture in pictures:
        flat = np.zeros(32, np.uint8)
        flat[:30] = picture
        answers = [await port.write_async(classifier.DATA, int(w)) for w in flat.view("<u4")]
        if AxiResp.SLVERR in answers:
            assert set(answers[answers.index(AxiResp.SLVERR) :]) == {AxiResp.SLVERR}
            break
        sent += 1
    assert 4 <= sent < 20
    assert await port.read_async(classifier.STATUS) & 3 == 3
    found = []
    while (result := await port.read_async(classifier.RESULT)) & classifier.VALID:
        found.append(result & 0xFF)
        await Timer(1, "us")
    assert found == classes[: len(found)].tolist() and len(found) >= sent
    assert await port.write_async(classifier.STATUS, 2) == AxiResp.OKAY
    assert await port.read_async(classifier.STATUS) & 3 == 0
    # Forget the half picture, then begin anew.
    assert await port.write_async(classifier.CONTROL, classifier.FORGET) == AxiResp.OKAY
    assert await port.read_async(classifier.STATUS) == 0
    flat[:30] = pictures[7]
    for word in flat.view("<u4"):
        assert await port.write_async(classifier.DATA + 0x7C, int(word)) == AxiResp.OKAY
    await Timer(1, "us")
    assert await port.read_async(classifier.RESULT) == classifier.VALID | int(classes[7])


def test_tables_axil(tmp_path: Path) -> None:
    design = emit(graph(), Options(table_levels=1, head_levels=1))
    for name, text in design.files.items():
        (tmp_path / name).write_text(text)
    package = tmp_path / "tables_pkg.sv"
    generated = [package, *sorted(p for p in tmp_path.glob("*.sv") if p != package)]
    build_and_test(
        "tables_axil",
        [*generated, sim_dir() / "models" / "cells_xilinx.sv", Path("lib/fifo.sv"),
         Path("tables/tables_axis.sv"), Path("shell/tables_axil.sv")],
        Path(__file__), run_dir=tmp_path / "run",
    )  # fmt: skip


class Wrong:
    """Registers that answer one value."""

    def __init__(self, *values: int, comes: bool = False) -> None:
        self.values, self.comes = list(values), comes

    def read(self, offset: int) -> int:
        return self.values.pop(0)

    def write(self, offset: int, value: int) -> None:
        pass

    def wait(self, timeout_s: float) -> bool:
        return self.comes


def test_the_driver_says_what_is_wrong() -> None:
    with pytest.raises(DriverError, match=r"ID is 0x000000ff, not 0x4c425448"):
        Classifier(Wrong(0xFF))
    image = np.zeros(3, np.uint8)
    with pytest.raises(DriverError, match="no class within 1"):
        Classifier(Wrong(classifier.MAGIC, 3)).classify(image)
    with pytest.raises(DriverError, match="without a class"):
        Classifier(Wrong(classifier.MAGIC, 3, 0, comes=True)).classify(image)
