# SPDX-License-Identifier: Apache-2.0
"""Classifies pictures with a network of tables behind `hdl/shell/tables_axil.sv`.

Board and simulator differ behind `Registers` only, as for the engine (accelerator.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .accelerator import DriverError, Registers

ID, PIXELS, STATUS, RESULT, CONTROL = 0x00, 0x04, 0x08, 0x0C, 0x10
DATA, DATA_WORDS = 0x80, 32
MAGIC = 0x4C425448  # "HTBL"
FORGET, IRQ_ENABLE = 1, 2
VALID = 1 << 31
WAITING = 4  # classes that the hardware keeps


class Classifier:
    """The network of one bitstream. Raises DriverError when another one is loaded."""

    def __init__(self, registers: Registers, timeout_s: float = 1.0) -> None:
        found = registers.read(ID)
        if found != MAGIC:
            raise DriverError(
                f"register ID is {found:#010x}, not {MAGIC:#010x}: load the bitstream of a network "
                "of tables"
            )
        self.registers, self.timeout_s = registers, timeout_s
        self.pixels = registers.read(PIXELS)
        registers.write(CONTROL, FORGET | IRQ_ENABLE)

    def classify(self, image: np.ndarray) -> int:
        """The class of one picture, uint8, row-major, of `pixels` elements in any shape."""
        return self.classify_all([image])[0]

    def classify_all(self, images: Iterable[np.ndarray]) -> list[int]:
        """Classes of pictures, in order; the next ones are sent while the hardware works."""
        found: list[int] = []
        waiting = 0
        for number, image in enumerate(images):
            self._send(image, number)
            waiting += 1
            if waiting == WAITING:
                found.append(self._take())
                waiting -= 1
        return found + [self._take() for _ in range(waiting)]

    def _send(self, image: np.ndarray, number: int) -> None:
        if image.dtype != np.uint8 or image.size != self.pixels:
            raise DriverError(
                f"picture {number}: {image.size} elements of {image.dtype}; this network takes "
                f"{self.pixels} of uint8"
            )
        flat = np.zeros(-(-self.pixels // 4) * 4, np.uint8)
        flat[: self.pixels] = image.ravel()
        for place, word in enumerate(flat.view("<u4").tolist()):
            self.registers.write(DATA + 4 * (place % DATA_WORDS), word)

    def _take(self) -> int:
        if not self.registers.wait(self.timeout_s):
            raise DriverError(
                f"no class within {self.timeout_s} s; load the bitstream again, and check its clock"
            )
        result = self.registers.read(RESULT)
        if not result & VALID:
            raise DriverError("the interrupt came without a class; load the bitstream again")
        return result & 0xFF
