# SPDX-License-Identifier: Apache-2.0
"""Runs frames on the accelerator, whether it is on a board or in the simulator.

What differs between the two is behind `Registers` and `Memory`; everything else is this file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import regmap
from .decode import HeadScales, boxes, candidates

ALIGN = 16
OUTPUT_BYTES = 1 << 20
CANDIDATE_BYTES = 16
HEAD_BYTES = 32  # both streams begin with the descriptor HEAD: hash in bytes 8..15, queue in 16
QUEUES = ("array", "lanes")


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
    stream_bytes: int  # array stream, the first part of the program
    lane_bytes: int  # lanes stream, the rest of it
    hash: str  # hex; the first 8 bytes are in the program's HEAD
    isa_version: int
    scratch_bytes: int  # for maps that do not fit on chip
    scales: Mapping[str, float] = field(default_factory=dict)  # hm, wh, reg
    stride: int = 4
    peak_act_words: int = 0
    output_bytes: int = OUTPUT_BYTES
    steps: Mapping[int, str] = field(default_factory=dict)  # descriptor -> name, for messages

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Layout:
        """From the content of layout.json. Raises DriverError naming what is missing in it."""
        try:
            channels, height, width = (_count(n, 1) for n in raw["input_shape"])
            return cls(
                input_shape=(channels, height, width),
                stream_bytes=_count(raw["stream_bytes"], 1),
                lane_bytes=_count(raw["lane_bytes"], 1),
                hash=str(raw["hash"]),
                isa_version=_count(raw["isa_version"]),
                scales={str(k): _scale(v) for k, v in dict(raw.get("scales", {})).items()},
                stride=_count(raw.get("stride", 4), 1),
                peak_act_words=_count(raw.get("peak_act_words", 0)),
                output_bytes=_count(raw.get("output_bytes", OUTPUT_BYTES)),
                scratch_bytes=_count(raw["scratch_bytes"]),
                steps={
                    _count(step["tag"]): f"{step['op']} {step['node']}"
                    for step in raw.get("steps", [])
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DriverError(
                f"layout.json is not one of a program ({error!r}); copy it with its program.bin"
            ) from error

    @classmethod
    def load(cls, path: Path) -> Layout:
        """From a file. Raises DriverError when it is no JSON or lacks something."""
        try:
            raw = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise DriverError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise DriverError(f"{path} is not JSON: {error}; copy it again") from error
        return cls.of(raw)


def _count(value: object, least: int = 0) -> int:
    """A whole number of at most 31 bits, so that no buffer of absurd size is asked for."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1 << 31:
        raise ValueError(f"{value!r} is not a whole number from {least} to 2**31 - 1")
    return value


def _scale(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"scale {value!r} is not a number")
    if not 0 < value < math.inf:
        raise ValueError(f"scale {value!r} is not above 0 and finite")
    return float(value)


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

    registers, memory: the board's or the simulator's. program: both streams (program.bin).
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
        self._program = _reachable(memory.allocate(len(data)), len(data))
        size = _padded(int(np.prod(layout.input_shape)))
        self._image = _reachable(memory.allocate(size), size)
        self._output = _reachable(memory.allocate(layout.output_bytes), layout.output_bytes)
        size = max(layout.scratch_bytes, ALIGN)  # a program without spills has none
        self._scratch = _reachable(memory.allocate(size), size)
        self._program.write(data)
        self.reset()
        registers.write(regmap.PROG_ADDR, self._program.address)
        registers.write(regmap.PROG_WORDS, layout.stream_bytes // ALIGN)
        registers.write(regmap.LANE_WORDS, layout.lane_bytes // ALIGN)
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
        array, lanes, name = self.layout.stream_bytes, self.layout.lane_bytes, self.layout.hash[:16]
        whole = len(program) == array + lanes and array % ALIGN == lanes % ALIGN == 0
        if not whole or min(array, lanes) < HEAD_BYTES:
            raise DriverError(
                f"the program ({len(program)} bytes) is not the one of layout.json ({array} bytes "
                f"for the array and {lanes} for the lanes); copy both again"
            )
        for queue, head in enumerate((program[:HEAD_BYTES], program[array : array + HEAD_BYTES])):
            if head[8:16].hex() != name or head[16] & 1 != queue:
                raise DriverError(
                    f"the program's {QUEUES[queue]} stream (hash {head[8:16].hex()}, queue "
                    f"{head[16] & 1}) is not the one of layout.json (hash {name}, queue {queue}); "
                    "copy both again"
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
            where = self._where()
            self.reset()
            raise DriverError(f"no answer after {self.timeout_s} s, {where}; was reset")
        status = self.registers.read(regmap.STATUS)
        self.registers.write(regmap.IRQ_STATUS, 0b11)
        if _field(status, regmap.STATUS_ERROR):
            error = self.registers.read(regmap.ERROR)
            code, tag = _field(error, regmap.ERROR_CODE), _field(error, regmap.ERROR_TAG)
            meaning = regmap.ERRORS.get(code, "an error this driver does not know")
            where = f"descriptor {self._step(tag)}"
            if code == regmap.CODE_WATCHDOG:  # either queue may be the one that hangs
                where = self._where()
            raise DriverError(f"{meaning} (code {code:#04x}), {where}")
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

    def _where(self) -> str:
        tags = self.registers.read(regmap.TAG)
        array, lanes = _field(tags, regmap.TAG_ARRAY), _field(tags, regmap.TAG_LANES)
        return f"array at descriptor {self._step(array)}, lanes at {self._step(lanes)}"

    def _step(self, tag: int) -> str:
        name = self.layout.steps.get(tag)
        return f"{tag} ({name})" if name else str(tag)


def _field(value: int, place: tuple[int, int]) -> int:
    lsb, width = place
    return value >> lsb & ((1 << width) - 1)


def _reachable(buffer: Buffer, size: int) -> Buffer:
    """The buffer. Raises DriverError when the engine's 32-bit addresses do not cover it."""
    if buffer.address % ALIGN or not 0 <= buffer.address <= (1 << 32) - size:
        raise DriverError(
            f"a buffer of {size} bytes at {buffer.address:#x}: the accelerator reaches addresses "
            f"below 2**32 that are multiples of {ALIGN}; take memory from the lower 4 GiB"
        )
    return buffer


def _padded(size: int) -> int:
    return -(-size // ALIGN) * ALIGN
