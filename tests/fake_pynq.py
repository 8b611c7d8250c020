# SPDX-License-Identifier: Apache-2.0
"""Stands in for the package `pynq`: a board whose accelerator knows one answer.

It answers a start with the candidates of expected.json (shuffled, as the engine may write them in
any order) if, and only if, the photograph and the program of the folder are in its memory; or with
output.npy, if frame.npy is there.
"""

import json
from pathlib import Path

import numpy as np
from driver import regmap
from driver.decode import COLUMNS, RECORD

HERE = Path.cwd()
BUFFERS: dict[int, np.ndarray] = {}
VALUES: dict[int, int] = {}


class Buffer(np.ndarray):
    physical_address = 0

    def flush(self) -> None: ...

    def invalidate(self) -> None: ...


def allocate(shape: tuple[int, ...], dtype: type) -> Buffer:
    buffer = np.zeros(shape, dtype).view(Buffer)
    buffer.physical_address = 0x1000_0000 + 0x10_0000 * len(BUFFERS)
    BUFFERS[buffer.physical_address] = buffer
    return buffer


class Overlay:
    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(path)
        self.ip_dict = {"engine": {"phys_addr": 0x43C0_0000}}


class MMIO:
    def __init__(self, base: int, size: int) -> None:
        assert (base, size) == (0x43C0_0000, 256)
        head = (HERE / "program.bin").read_bytes()[:16]
        isa, head = int.from_bytes(head[2:4], "little"), head[8:]
        VALUES.update({
            regmap.ID: regmap.ID_VALUE, regmap.VERSION: isa | regmap.MAP_VERSION << 16,
            regmap.CAPS: 24_576 << 16, regmap.STATUS: 0,
            regmap.PROG_HASH_LO: int.from_bytes(head[:4], "little"),
            regmap.PROG_HASH_HI: int.from_bytes(head[4:], "little"),
        })

    def read(self, offset: int) -> int:
        return VALUES.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        if offset == regmap.CTRL and value & 1:
            self.run()
        elif offset == regmap.IRQ_STATUS:
            VALUES[offset] = VALUES.get(offset, 0) & ~value
        else:
            VALUES[offset] = value

    def run(self) -> None:
        batch = (HERE / "frame.npy").is_file()  # planes of a frame, and bytes that it gives
        image = np.load(HERE / "frame.npy" if batch else HERE / "photograph.npy")
        image = image.ravel() if batch else image.transpose(2, 0, 1).ravel()
        assert (BUFFERS[VALUES[regmap.IMAGE_ADDR]][: image.size] == image).all()
        program = np.fromfile(HERE / "program.bin", np.uint8)
        assert (BUFFERS[VALUES[regmap.PROG_ADDR]][: program.size] == program).all()
        words = [VALUES[regmap.PROG_WORDS], VALUES[regmap.LANE_WORDS]]
        assert 16 * sum(words) == program.size and program[16 * words[0] + 16] & 1  # lanes' HEAD
        if batch:
            data = np.load(HERE / "output.npy")
            BUFFERS[VALUES[regmap.OUTPUT_ADDR]][: data.size] = data
            VALUES.update({regmap.STATUS: 0b10, regmap.IRQ_STATUS: 1, regmap.CYCLES: 1234})
            return
        rows = json.loads((HERE / "answer.json").read_text())
        records = np.zeros(len(rows), RECORD)
        for record, row in zip(records, rows[::-1], strict=True):
            for name, value in zip(COLUMNS, row, strict=True):
                record[name] = value
        data = records.view(np.uint8).ravel()
        BUFFERS[VALUES[regmap.OUTPUT_ADDR]][: data.size] = data
        VALUES.update({regmap.STATUS: 0b10, regmap.IRQ_STATUS: 1, regmap.CAND_COUNT: len(rows),
                       regmap.CYCLES: 1234})
