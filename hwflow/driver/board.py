# SPDX-License-Identifier: Apache-2.0
"""Registers and memory of a board that runs PYNQ. The only file that needs `pynq`."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

try:
    from pynq import MMIO, Overlay, allocate
except ModuleNotFoundError as error:
    raise ImportError(
        f"the package {error.name} is not installed; run this on a board with a PYNQ image, as "
        "root, with the Python of that image"
    ) from error

from . import classifier, regmap
from .accelerator import DriverError
from .classifier import Classifier

REGISTER_BYTES = 256
POLL_S = 0.0002


class BoardRegisters:
    """The registers as memory of the processor.

    status, mask: the register, and its bits, that tell of an event.
    """

    def __init__(self, base: int, status: int = regmap.IRQ_STATUS, mask: int = 0xFFFF_FFFF) -> None:
        self._mmio = MMIO(base, REGISTER_BYTES)
        self._status, self._mask = status, mask

    def read(self, offset: int) -> int:
        """The register's value."""
        return int(self._mmio.read(offset))

    def write(self, offset: int, value: int) -> None:
        """Set the register."""
        self._mmio.write(offset, value)

    def wait(self, timeout_s: float) -> bool:
        """Poll for an event; a frame lasts milliseconds, so sleeping in between costs nothing."""
        end = time.monotonic() + timeout_s
        while not self.read(self._status) & self._mask:
            if time.monotonic() > end:
                return False
            time.sleep(POLL_S)
        return True


class BoardBuffer:
    """Contiguous memory; caches are written back or dropped at each access."""

    def __init__(self, size: int) -> None:
        self._array = allocate(shape=(size,), dtype=np.uint8)
        self.address = int(self._array.physical_address)

    def write(self, data: np.ndarray) -> None:
        """Copy to the start of the buffer."""
        self._array[: len(data)] = data
        self._array.flush()

    def read(self, size: int) -> np.ndarray:
        """A copy of the start of the buffer."""
        self._array.invalidate()
        return np.array(self._array[:size], dtype=np.uint8)


class BoardMemory:
    """Buffers from PYNQ's allocator (page aligned)."""

    def allocate(self, size: int) -> BoardBuffer:
        """A buffer of `size` bytes."""
        return BoardBuffer(size)


def open_board(bitstream: Path, block: str = "engine") -> tuple[BoardRegisters, BoardMemory]:
    """Load the overlay (NAME.bit with NAME.hwh beside it) and find the accelerator in it.

    block: name, or the beginning of it, of the accelerator in the block design. Raises DriverError
    if a file or the block is missing.
    """
    return BoardRegisters(_load(bitstream, block)), BoardMemory()


def open_classifier(bitstream: Path, block: str = "engine") -> Classifier:
    """The same for a network of tables."""
    return Classifier(BoardRegisters(_load(bitstream, block), classifier.STATUS, 1))


def _load(bitstream: Path, block: str) -> int:
    """The base address of a block of an overlay that is loaded here."""
    for path in (Path(bitstream), Path(bitstream).with_suffix(".hwh")):
        if not path.is_file():
            raise DriverError(f"{path} does not exist; Vivado makes it: copy it here")
    overlay = Overlay(str(bitstream))
    found = [name for name in overlay.ip_dict if name.startswith(block)]
    if len(found) != 1:
        raise DriverError(
            f"{bitstream}: no single block named {block}* among {list(overlay.ip_dict)}; take the "
            ".bit and .hwh that the Vivado project made"
        )
    return int(overlay.ip_dict[found[0]]["phys_addr"])
