# SPDX-License-Identifier: Apache-2.0
"""The host driver by itself: decode, messages, and life without the rest of hwflow."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hwflow import decode as reference
from hwflow import driver
from hwflow.driver import regmap
from hwflow.driver.decode import RECORD
from hwflow.emit import isa

FOLDER = Path(driver.__file__).parent

# Stands for the `pynq` package: memory is an array, the accelerator a few lines that copy
FAKE_PYNQ = '''
import numpy as np

ARRAYS, REGISTERS = {}, {}


class Array(np.ndarray):
    flushed = invalidated = 0
    def flush(self): Array.flushed += 1
    def invalidate(self): Array.invalidated += 1


def allocate(shape, dtype):
    array = np.zeros(shape, dtype).view(Array)
    array.physical_address = 0x10000 + 0x100000 * len(ARRAYS)
    ARRAYS[array.physical_address] = array
    return array


class MMIO:
    def __init__(self, base, size):
        assert (base, size) == (0x43C00000, 256)
        REGISTERS.update({0x00: 0x46465748, 0x04: 0x00020001, 0x08: 24576 << 16 | 24 << 8 | 16})
    def read(self, offset):
        return REGISTERS.get(offset, 0)
    def write(self, offset, value):
        if offset == 0x0C and value & 1:  # start: done at once, two candidates
            assert (REGISTERS[0x24], REGISTERS[0x54]) == (2, 3)  # words of the two streams
            image, output = ARRAYS[REGISTERS[0x28]], ARRAYS[REGISTERS[0x2C]]
            output[:32] = np.frombuffer(CANDIDATES, np.uint8)
            REGISTERS.update({0x10: 2, 0x1C: 1, 0x44: 2, 0x48: 0x03020100, 0x4C: 0x07060504})
            REGISTERS[0x38] = int(image[0])
        elif offset == 0x1C:
            REGISTERS[offset] = REGISTERS.get(offset, 0) & ~value
        else:
            REGISTERS[offset] = value


class Overlay:
    def __init__(self, path):
        assert path.endswith("design.bit")
        self.ip_dict = {"engine_0": {"phys_addr": 0x43C00000}, "ps7": {}}


CANDIDATES = b""
'''

ON_THE_BOARD = """
import sys, json
import numpy as np
import pynq
pynq.CANDIDATES = bytes.fromhex("0a0301000200030405060000000000000b00000007000102fdfc000000000000")
from driver import Accelerator, Layout
from driver.board import open_board
registers, memory = open_board("design.bit")
head = bytes(range(8)) + bytes(range(8))
program = head + bytes(16) + head + bytes([1]) + bytes(31)
layout = Layout.load("layout.json")
frame = Accelerator(registers, memory, program, layout).run(np.full((4, 4, 3), 9, np.uint8))
assert "hwflow" not in sys.modules and pynq.Array.flushed == 2 and pynq.Array.invalidated == 1
print(json.dumps([frame.candidates.tolist(), frame.boxes.tolist(), frame.cycles]))
"""


def layout(**changes: object) -> dict[str, object]:
    return {
        "input_shape": [3, 4, 4], "stream_bytes": 32, "lane_bytes": 48,
        "hash": "0001020304050607aa",
        "isa_version": 1, "scratch_bytes": 4096,
        "scales": {"hm": 0.5, "wh": 0.25, "reg": 0.125}, **changes,
    }  # fmt: skip


def test_driver_runs_alone_on_a_board(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "driver", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pynq.py").write_text(FAKE_PYNQ)
    (tmp_path / "layout.json").write_text(json.dumps(layout()))
    for name in ("design.bit", "design.hwh"):
        (tmp_path / name).write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-c", ON_THE_BOARD], cwd=tmp_path, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows, boxes, cycles = json.loads(done.stdout)
    assert rows == [[11, 0, 0, 7, 1, 2, -3, -4], [10, 3, 1, 2, 3, 4, 5, 6]]
    # x: 7 - 3/8 -+ 1/8, y: 0 - 4/8 -+ 2/8, in pixels of a quarter
    assert boxes[0] == [26.0, -3.0, 27.0, -1.0]
    assert cycles == 9


def test_only_numpy_and_pynq_are_imported() -> None:
    for path in FOLDER.glob("*.py"):
        if path.name in ("registers.py", "uart.py"):  # they run at home: the map, a serial line
            continue
        for line in path.read_text().splitlines():
            assert not re.match(r"\s*(from|import)\s+hwflow", line), f"{path}: {line}"


def test_record_is_the_one_of_the_instruction_set() -> None:
    assert RECORD.itemsize == 16
    for name, field in isa.CANDIDATE.items():
        kind, offset = RECORD.fields[name][:2]
        assert (8 * offset, 8 * kind.itemsize) == (field.lsb, field.width), name
        assert (kind.kind == "i") == field.signed, name


def test_candidates_equal_the_reference_decode() -> None:
    rng = np.random.default_rng(2)
    hm = rng.integers(-6, 7, (5, 11, 17))  # few values: many ties
    wh, reg = rng.integers(-128, 128, (2, 2, 11, 17))
    want = reference.candidates(hm, wh, reg)
    table = np.zeros(len(want), RECORD)
    for name, column in zip(driver.COLUMNS, want.T, strict=True):
        table[name] = column
    shuffled = rng.permutation(table)
    assert len(want) == 100
    assert np.array_equal(driver.candidates(shuffled.view(np.uint8)), want)
    assert driver.candidates(np.zeros(0, np.uint8)).shape == (0, 8)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", json.dumps(layout(input_shape=[3, 4])), json.dumps(layout(stream_bytes="x")),
     json.dumps(layout(lane_bytes="x"))],
)
def test_wrong_layout_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "layout.json"
    path.write_text(text)
    with pytest.raises(driver.DriverError, match=r"layout\.json"):
        driver.Layout.load(path)


def test_error_codes_of_the_core_are_those_of_the_map() -> None:
    text = (Path(__file__).parents[1] / "hdl" / "engine" / "sequencer.sv").read_text()
    codes = [int(line.split("8'd")[1].split(";")[0]) for line in text.splitlines()
             if "localparam logic [7:0] ERR_" in line]  # fmt: skip
    assert codes and set(codes) <= set(regmap.ERRORS)


class Registers:
    """The least accelerator: knows its version and answers nothing."""

    def __init__(self, status: int = 0, error: int = 0, tags: int = 0) -> None:
        self.values = {
            regmap.ID: regmap.ID_VALUE, regmap.VERSION: regmap.MAP_VERSION << 16 | 1,
            regmap.CAPS: 24_576 << 16, regmap.STATUS: 0, regmap.ERROR: error, regmap.TAG: tags,
        }  # fmt: skip
        self.status = status

    def read(self, offset: int) -> int:
        return self.values.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        self.values[offset] = value
        if offset == regmap.CTRL and value & 1:
            self.values[regmap.STATUS] = self.status

    def wait(self, timeout_s: float) -> bool:
        return self.status != 0


class Buffer:
    def __init__(self, address: int, size: int) -> None:
        self.address, self.data = address, np.zeros(size, np.uint8)

    def write(self, data: np.ndarray) -> None:
        self.data[: len(data)] = data

    def read(self, size: int) -> np.ndarray:
        return self.data[:size].copy()


class Memory:
    """Buffers one after the other from an address on."""

    def __init__(self, address: int = 0x1000) -> None:
        self.address = address

    def allocate(self, size: int) -> Buffer:
        buffer = Buffer(self.address, size)
        self.address += -(-size // 16) * 16
        return buffer


HEAD = bytes(8) + bytes(range(8)) + bytes(16)
LANES_HEAD = HEAD[:16] + b"\x01" + HEAD[17:]
PROGRAM = HEAD + bytes(32) + LANES_HEAD + bytes(16)


def small(**changes: object) -> driver.Layout:
    return driver.Layout.of(layout(stream_bytes=64, lane_bytes=48, **changes))


def test_both_streams_reach_the_registers() -> None:
    registers, memory = Registers(), Memory()
    accelerator = driver.Accelerator(registers, memory, PROGRAM, small(scratch_bytes=0))
    assert registers.values[regmap.PROG_ADDR] == 0x1000
    assert registers.values[regmap.PROG_WORDS] == 4
    assert registers.values[regmap.LANE_WORDS] == 3
    assert bytes(accelerator._program.data) == PROGRAM
    regions = [registers.values[getattr(regmap, f"{name}_ADDR")]
               for name in ("IMAGE", "OUTPUT", "SCRATCH")]  # fmt: skip
    assert len(set(regions)) == 3 and all(address % 16 == 0 for address in regions)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (PROGRAM[:-16], r"96 bytes.*\(64 bytes for the array and 48 for the lanes"),
        (PROGRAM + bytes(16), "not the one of layout"),
        (bytes([0]) * 16 + PROGRAM[16:], r"array stream .hash 0{16}, queue 0"),
        (PROGRAM[:72] + bytes(8) + PROGRAM[80:], r"lanes stream .hash 0{16}, queue 1"),
        (HEAD + bytes(32) + HEAD + bytes(16), r"lanes stream .*queue 0. is not"),
        (LANES_HEAD + bytes(32) + LANES_HEAD + bytes(16), r"array stream .*queue 1. is not"),
    ],
    ids=("short", "long", "array-hash", "lanes-hash", "lanes-queue", "array-queue"),
)
def test_a_wrong_stream_is_refused(program: bytes, message: str) -> None:
    with pytest.raises(driver.DriverError, match=message):
        driver.Accelerator(Registers(), Memory(), program, small())


@pytest.mark.parametrize(
    ("array", "lanes"), [(63, 49), (72, 40), (112, 0), (16, 96), (96, 16)]
)
def test_lengths_of_no_stream_are_refused(array: int, lanes: int) -> None:
    changed = layout(stream_bytes=array, lane_bytes=lanes)
    with pytest.raises(driver.DriverError, match=r"layout\.json"):
        driver.Accelerator(Registers(), Memory(), PROGRAM, driver.Layout.of(changed))


@pytest.mark.parametrize("address", [(1 << 32) - 64, (1 << 32), 0x1008])
def test_memory_beyond_the_bus_is_refused(address: int) -> None:
    with pytest.raises(driver.DriverError, match=r"below 2\*\*32 that are multiples of 16"):
        driver.Accelerator(Registers(), Memory(address), PROGRAM, small())


def test_messages_name_the_descriptors() -> None:
    layout = small(steps=[{"tag": 5, "op": "CONV", "node": "c5"},
                          {"tag": 6, "op": "DW", "node": "d6"}])  # fmt: skip
    image = np.zeros((4, 4, 3), np.uint8)

    def reason(registers: Registers) -> str:
        accelerator = driver.Accelerator(registers, Memory(), PROGRAM, layout)
        with pytest.raises(driver.DriverError) as caught:
            accelerator.run(image)
        return str(caught.value)

    both = "array at descriptor 5 (CONV c5), lanes at 6 (DW d6)"
    assert both in reason(Registers(tags=6 << 16 | 5))  # no answer
    assert both in reason(Registers(4, regmap.CODE_WATCHDOG, tags=6 << 16 | 5))
    message = reason(Registers(4, 6 << 16 | regmap.CODE_BUS_READ, tags=6 << 16 | 5))
    assert "a read" in message and "descriptor 6 (DW d6)" in message and "CONV" not in message
