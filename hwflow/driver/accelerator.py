# SPDX-License-Identifier: Apache-2.0
"""Runs frames on the accelerator, whether it is on a board or in the simulator.

What differs between the two is behind `Registers` and `Memory`; everything else is this file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import regmap
from .decode import HeadScales, boxes, candidates

ALIGN = 16
OUTPUT_BYTES = 1 << 20
SCRATCH_BYTES = 1 << 20
CANDIDATE_BYTES = 16


class DriverError(RuntimeError):
    """The accelerator is not the expected one, was asked for the impossible, or failed."""


class Registers(Protocol):
    """Access to the 32-bit registers by byte offset (regmap.py)."""

    def read(self, offset: int) -> int:
        """The register's value."""
        ...

    def write(self, offset: int, value: int) -> None:
        """Set the register."""
        ...

    def wait(self, timeout_s: float) -> bool:
        """Until an enabled event is pending; False when none has come in that time."""
        ...


class Buffer(Protocol):
    """Memory that the accelerator reaches, at bus address `address` (a multiple of 16)."""

    address: int

    def write(self, data: np.ndarray) -> None:
        """Copy uint8 (n,) to the start of the buffer, seen by the accelerator afterwards."""
        ...

    def read(self, size: int) -> np.ndarray:
        """uint8 (size,) from the start of the buffer as the accelerator left it."""
        ...


class Memory(Protocol):
    """Where buffers come from."""

    def allocate(self, size: int) -> Buffer:
        """A buffer of at least `size` bytes."""
        ...


@dataclass(frozen=True)
class Layout:
    """What the host needs to know of a program: its layout.json."""

    input_shape: tuple[int, int, int]  # channels, height, width
    stream_bytes: int
    hash: str  # hex; the first 8 bytes are in the program's HEAD
    isa_version: int
    scales: Mapping[str, float] = field(default_factory=dict)  # hm, wh, reg
    stride: int = 4
    peak_act_words: int = 0
    output_bytes: int = OUTPUT_BYTES
    scratch_bytes: int = SCRATCH_BYTES
    steps: Mapping[int, str] = field(default_factory=dict)  # descriptor -> name, for messages

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Layout:
        """From the content of layout.json. Raises DriverError naming what is missing in it."""
        try:
            channels, height, width = raw["input_shape"]
            return cls(
                input_shape=(int(channels), int(height), int(width)),
                stream_bytes=int(raw["stream_bytes"]),
                hash=str(raw["hash"]),
                isa_version=int(raw["isa_version"]),
                scales={str(k): float(v) for k, v in dict(raw.get("scales", {})).items()},
                stride=int(raw.get("stride", 4)),
                peak_act_words=int(raw.get("peak_act_words", 0)),
                output_bytes=int(raw.get("output_bytes", OUTPUT_BYTES)),
                scratch_bytes=int(raw.get("scratch_bytes", SCRATCH_BYTES)),
                steps={
                    int(step["tag"]): f"{step['op']} {step['node']}"
                    for step in raw.get("steps", [])
                },
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DriverError(f"layout.json is not one of a program: {error!r}") from error

    @classmethod
    def load(cls, path: Path) -> Layout:
        """From a file. Raises DriverError when it is no JSON or lacks something."""
        try:
            raw = json.loads(Path(path).read_text())
        except ValueError as error:
            raise DriverError(f"{path} is not JSON: {error}") from error
        return cls.of(raw)


@dataclass(frozen=True)
class Frame:
    """What one image gave."""

    candidates: np.ndarray  # int64 (K, 8), columns decode.COLUMNS, best first
    boxes: np.ndarray  # float64 (K, 4) x0 y0 x1 y1 in pixels
    scores: np.ndarray  # float64 (K,)
    labels: np.ndarray  # int64 (K,)
    cycles: int  # clock cycles from start to the last write
    rd_bytes: int
    wr_bytes: int


class Accelerator:
    """The accelerator with one program loaded.

    registers, memory: the board's or the simulator's. program: the stream (program.bin).
    watchdog: longest frame in cycles, 0 for no limit; timeout_s: how long the host waits.
    Raises DriverError when the hardware or the program is not what the other expects.
    """

    def __init__(
        self,
        registers: Registers,
        memory: Memory,
        program: bytes,
        layout: Layout,
        *,
        watchdog: int = 0,
        timeout_s: float = 10.0,
    ) -> None:
        self.registers = registers
        self.layout = layout
        self.timeout_s = timeout_s
        self._check(program)
        data = np.frombuffer(program, np.uint8)
        self._program = memory.allocate(len(data))
        self._image = memory.allocate(_padded(int(np.prod(layout.input_shape))))
        self._output = memory.allocate(layout.output_bytes)
        self._scratch = memory.allocate(layout.scratch_bytes)
        self._program.write(data)
        self.reset()
        registers.write(regmap.PROG_ADDR, self._program.address)
        registers.write(regmap.PROG_WORDS, len(data) // ALIGN)
        registers.write(regmap.IMAGE_ADDR, self._image.address)
        registers.write(regmap.OUTPUT_ADDR, self._output.address)
        registers.write(regmap.SCRATCH_ADDR, self._scratch.address)
        registers.write(regmap.WATCHDOG, watchdog)
        registers.write(regmap.IRQ_ENABLE, 0b11)

    def _check(self, program: bytes) -> None:
        found = self.registers.read(regmap.ID)
        if found != regmap.ID_VALUE:
            raise DriverError(
                f"no accelerator at this address: ID reads {found:#010x}, not "
                f"{regmap.ID_VALUE:#010x}; is the bitstream loaded and the address right?"
            )
        version = self.registers.read(regmap.VERSION)
        isa, version_map = _field(version, regmap.VERSION_ISA), _field(version, regmap.VERSION_MAP)
        if version_map != regmap.MAP_VERSION or isa != self.layout.isa_version:
            raise DriverError(
                f"the accelerator has register map {version_map} and instruction set {isa}, driver "
                f"and program want {regmap.MAP_VERSION} and {self.layout.isa_version}; take "
                "bitstream, driver and program of one build"
            )
        words = _field(self.registers.read(regmap.CAPS), regmap.CAPS_ACT_WORDS)
        if words < self.layout.peak_act_words:
            raise DriverError(
                f"the program needs {self.layout.peak_act_words} words of activation memory, this "
                f"accelerator has {words}; build the program for this board"
            )
        whole = len(program) == self.layout.stream_bytes and len(program) % ALIGN == 0
        if not whole or program[8:16].hex() != self.layout.hash[:16]:
            raise DriverError(
                f"the program ({len(program)} bytes) is not the one of layout.json "
                f"({self.layout.stream_bytes} bytes, hash {self.layout.hash[:16]}); copy both again"
            )

    def reset(self) -> None:
        """Stop whatever runs and wait until the bus is quiet."""
        self.registers.write(regmap.CTRL, 1 << regmap.CTRL_RESET[0])
        for _ in range(1000):
            if not _field(self.registers.read(regmap.STATUS), regmap.STATUS_BUSY):
                break
        else:
            raise DriverError("the accelerator stays busy after a reset: memory does not answer")
        self.registers.write(regmap.IRQ_STATUS, 0b11)

    def start(self, image: np.ndarray) -> None:
        """Hand over uint8 (H, W, 3) RGB and start the frame."""
        channels, height, width = self.layout.input_shape
        if image.dtype != np.uint8 or image.shape != (height, width, channels):
            raise DriverError(
                f"an image of {image.dtype} {image.shape}: this program takes uint8 "
                f"{(height, width, channels)}, rows, columns, RGB; resize it first"
            )
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)).reshape(-1)
        self._image.write(planes)
        self.registers.write(regmap.IRQ_STATUS, 0b11)
        self.registers.write(regmap.CTRL, 1 << regmap.CTRL_START[0])

    def finish(self) -> Frame:
        """Wait for the frame that was started; its candidates and boxes.

        Raises DriverError with the accelerator's own reason, or when nothing comes in time (the
        accelerator is then reset).
        """
        if not self.registers.wait(self.timeout_s):
            tag = self.registers.read(regmap.TAG)
            self.reset()
            raise DriverError(
                f"no answer after {self.timeout_s} s, at descriptor {self._step(tag)}; was reset"
            )
        status = self.registers.read(regmap.STATUS)
        self.registers.write(regmap.IRQ_STATUS, 0b11)
        if _field(status, regmap.STATUS_ERROR):
            error = self.registers.read(regmap.ERROR)
            code, tag = _field(error, regmap.ERROR_CODE), _field(error, regmap.ERROR_TAG)
            meaning = regmap.ERRORS.get(code, "an error this driver does not know")
            raise DriverError(f"{meaning} (code {code:#04x}), descriptor {self._step(tag)}")
        if not _field(status, regmap.STATUS_DONE):
            raise DriverError(f"interrupt without a finished frame (STATUS {status:#x})")
        low, high = (self.registers.read(r) for r in (regmap.PROG_HASH_LO, regmap.PROG_HASH_HI))
        ran = (high << 32 | low).to_bytes(8, "little").hex()
        if ran != self.layout.hash[:16]:
            raise DriverError(f"the accelerator ran program {ran}, not {self.layout.hash[:16]}")
        count = self.registers.read(regmap.CAND_COUNT)
        rows = candidates(self._output.read(count * CANDIDATE_BYTES))
        scales = self.layout.scales
        known = all(name in scales for name in ("hm", "wh", "reg"))
        found = boxes(rows, HeadScales.of(scales) if known else HeadScales(), self.layout.stride)
        return Frame(
            rows, *found,
            self.registers.read(regmap.CYCLES),
            self.registers.read(regmap.RD_BYTES),
            self.registers.read(regmap.WR_BYTES),
        )  # fmt: skip

    def run(self, image: np.ndarray) -> Frame:
        """One frame: uint8 (H, W, 3) RGB in, candidates and boxes out."""
        self.start(image)
        return self.finish()

    def output(self, size: int) -> np.ndarray:
        """The first `size` bytes of the output region (programs that store maps)."""
        return self._output.read(size)

    def _step(self, tag: int) -> str:
        name = self.layout.steps.get(tag)
        return f"{tag} ({name})" if name else str(tag)


def _field(value: int, place: tuple[int, int]) -> int:
    lsb, width = place
    return value >> lsb & ((1 << width) - 1)


def _padded(size: int) -> int:
    return -(-size // ALIGN) * ALIGN
