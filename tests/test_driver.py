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
        REGISTERS.update({0x00: 0x46465748, 0x04: 0x00010001, 0x08: 24576 << 16 | 24 << 8 | 16})
    def read(self, offset):
        return REGISTERS.get(offset, 0)
    def write(self, offset, value):
        if offset == 0x0C and value & 1:  # start: done at once, two candidates
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
program = bytes(range(8)) + bytes(range(8)) + bytes(16)
layout = Layout.load("layout.json")
frame = Accelerator(registers, memory, program, layout).run(np.full((4, 4, 3), 9, np.uint8))
assert "hwflow" not in sys.modules and pynq.Array.flushed == 2 and pynq.Array.invalidated == 1
print(json.dumps([frame.candidates.tolist(), frame.boxes.tolist(), frame.cycles]))
"""


def layout(**changes: object) -> dict[str, object]:
    return {
        "input_shape": [3, 4, 4], "stream_bytes": 32, "hash": "0001020304050607aa",
        "isa_version": 1, "scales": {"hm": 0.5, "wh": 0.25, "reg": 0.125}, **changes,
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
        if path.name == "registers.py":  # prints the map; stays at home
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
    ["", "[]", "{}", json.dumps(layout(input_shape=[3, 4])), json.dumps(layout(stream_bytes="x"))],
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
