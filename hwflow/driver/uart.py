# SPDX-License-Identifier: Apache-2.0
"""A classifier at the other end of a serial line (docs/uart.md): the host's half of uart_shell.sv.

`Link` works on anything with `write` and `read`: a port of pyserial, or the simulated line.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hwflow.errors import HwflowError

REQUEST_START, ANSWER_START = b"\xa5\x5a", b"\x5a\xa5"
OK, CODE, LENGTH, SILENCE, BUSY, LINE = range(6)
MEANING = {
    CODE: "the board received the frame with errors (its CRC is wrong)",
    LENGTH: "the board takes frames of another size",
    SILENCE: "the board received only a part of the frame",
    BUSY: "the board was still at the frame before",
    LINE: "the board received a broken byte",
}
HEAD, TAIL = 5, 2  # bytes of an answer before and after its payload
MOST = 32768  # bytes of a frame
DEFAULT_BAUD = 115_200
TRIES = 3


class LinkError(HwflowError):
    """The board does not answer, or not as it should; says what came and what to look at."""


class Transport(Protocol):
    """A line to a board. `read` gives fewer bytes than asked for, or none, when time is up."""

    def write(self, data: bytes, /) -> object: ...

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Answer:
    """One answer. The payload: class and scores if status is OK, else the bytes of a frame."""

    status: int
    tag: int
    payload: bytes


@dataclass(frozen=True)
class Classified:
    """What the board says of one sample; scores: further bytes, where its network gives them."""

    index: int
    scores: bytes


def crc16(data: bytes) -> int:
    """CRC-16/IBM-3740: polynomial 0x1021, begun with 0xFFFF, highest bit first."""
    value = 0xFFFF
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return value


def request(payload: bytes, tag: int) -> bytes:
    """A frame as it is sent. One without payload asks how large frames are."""
    body = bytes([tag]) + len(payload).to_bytes(2, "little") + payload
    return REQUEST_START + body + crc16(body).to_bytes(2, "little")


def answer(one: Answer) -> bytes:
    """An answer as the board sends it."""
    body = bytes([one.status, one.tag, len(one.payload)]) + one.payload
    return ANSWER_START + body + crc16(body).to_bytes(2, "little")


def take(data: bytes) -> tuple[Answer | None, bytes, int]:
    """The first answer in what came, what is left after it, and how many bytes are still needed.

    Bytes that belong to no answer are skipped. Without an answer, the rest is what may become one.
    """
    while True:
        start = data.find(ANSWER_START)
        if start < 0:
            data = data[-1:] if data[-1:] == ANSWER_START[:1] else b""
            return None, data, HEAD + TAIL + 1 - len(data)
        data = data[start:]
        size = HEAD + TAIL + (data[HEAD - 1] if len(data) >= HEAD else 1)
        if len(data) < size:
            return None, data, size - len(data)
        body, code = data[2 : size - TAIL], data[size - TAIL : size]
        if crc16(body).to_bytes(2, "little") == code and body[0] in (OK, *MEANING):
            return Answer(body[0], body[1], body[3:]), data[size:], 0
        data = data[1:]


class Link:
    """A board on a line. Each request has a tag; answers with another one are late and skipped."""

    def __init__(self, port: Transport, tries: int = TRIES) -> None:
        self.port = port
        self.tries = tries
        self._tag = 0
        self._left = b""

    def classify(self, image: np.ndarray | bytes) -> Classified:
        """Class of one sample, uint8 in the order of the network's input (channels, rows, columns).

        LinkError when the board does not answer, or takes frames of another size.
        """
        found = self._ask(pixels(image))
        if found.status == LENGTH:
            raise LinkError(
                f"the frame has {len(pixels(image))} bytes, the network on the board takes "
                f"{_size(found)}; send samples of that size"
            )
        if not found.payload:
            raise LinkError("the board answered without a class; its bitstream is not hwflow's")
        return Classified(found.payload[0], found.payload[1:])

    def frame_bytes(self) -> int:
        """How many bytes a frame for this board has."""
        found = self._ask(b"")
        if found.status != LENGTH:
            raise LinkError("the board took a frame of 0 bytes; its bitstream is not hwflow's")
        return _size(found)

    def _ask(self, payload: bytes) -> Answer:
        """Send until it is answered with a class or with the size of a frame."""
        what = ""
        for _ in range(self.tries):
            self._tag = (self._tag + 1) % 256
            self.port.write(request(payload, self._tag))
            found, other = self._wait()
            if found is not None and found.status in (OK, LENGTH):
                return found
            if found is not None:
                what = MEANING[found.status]
            elif other:
                what = (f"{other} bytes came that are no answer; the baud rate or the bitstream is "
                        "another one")
            else:
                what = ("nothing came back; check that the bitstream is loaded, the port and the "
                        "baud rate")
        raise LinkError(f"no answer in {self.tries} tries: {what}")

    def _wait(self) -> tuple[Answer | None, int]:
        """The answer to the last request, or None and how many other bytes came."""
        other = 0
        while True:
            found, self._left, needed = take(self._left)
            if found is not None:
                if found.tag == self._tag:
                    return found, other
                continue
            came = self.port.read(needed)
            if not came:
                self._left = b""
                return None, other
            other += len(came)
            if other > 4 * MOST:  # a line that never falls silent
                return None, other
            self._left += came


def classify(port: Transport, image: np.ndarray | bytes) -> int:
    """The class that the board at the other end gives to a sample (see Link.classify)."""
    return Link(port).classify(image).index


def pixels(image: np.ndarray | bytes) -> bytes:
    """A sample as bytes; LinkError when it is not one of 1 to 32768 bytes."""
    if not isinstance(image, bytes):
        if image.dtype != np.uint8:
            raise LinkError(f"a sample of {image.dtype}; the board takes uint8")
        image = image.tobytes()
    if not 1 <= len(image) <= MOST:
        raise LinkError(f"a sample of {len(image)} bytes; the board takes 1 to {MOST}")
    return image


@contextlib.contextmanager
def open_port(name: str, baud: int = DEFAULT_BAUD, timeout_s: float = 2.0) -> Iterator[Transport]:
    """A serial port by its name, as /dev/ttyUSB0 or COM3. LinkError says why it cannot be used."""
    import serial
    from serial.tools import list_ports

    try:
        with serial.Serial(name, baud, timeout=timeout_s, write_timeout=timeout_s) as port:
            port.reset_input_buffer()
            yield port
    except serial.SerialTimeoutException as error:
        raise LinkError(f"{name}: takes no bytes (for {timeout_s:g} s); is it a board?") from error
    except (serial.SerialException, OSError, ValueError) as error:
        code = getattr(error, "errno", None)
        if code in (errno.EACCES, errno.EPERM):
            why = "may not be opened; give yourself the right (on Linux: the group dialout)"
        elif code == errno.ENOENT:
            there = ", ".join(sorted(one.device for one in list_ports.comports())) or "none"
            why = f"there is no such port; ports here: {there}"
        else:
            why = f"cannot be used ({error}); is the board still plugged in?"
        raise LinkError(f"{name}: {why}") from error


def _size(found: Answer) -> int:
    return int.from_bytes(found.payload, "little")
