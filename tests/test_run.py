# SPDX-License-Identifier: Apache-2.0
"""The host's half of the serial line: bytes, a port (a pseudo-terminal), and `hwflow run`."""

from __future__ import annotations

import binascii
import os
import random
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hwflow import cli
from hwflow.driver import uart
from hwflow.errors import ConfigError, HwflowError

SIZE = 784


def test_a_request_byte_by_byte() -> None:
    body = b"\x07\x03\x00abc"
    code = binascii.crc_hqx(body, 0xFFFF)
    assert uart.request(b"abc", 7) == b"\xa5\x5a" + body + bytes([code & 0xFF, code >> 8])
    assert uart.crc16(b"123456789") == 0x29B1
    one = uart.Answer(uart.OK, 9, b"\x04\x05")
    body = b"\x00\x09\x02\x04\x05"
    code = binascii.crc_hqx(body, 0xFFFF)
    assert uart.answer(one) == b"\x5a\xa5" + body + bytes([code & 0xFF, code >> 8])


def test_answers_are_found_in_anything() -> None:
    """Random answers between random bytes, in pieces: each comes out, in order."""
    rng = random.Random(3)
    for _ in range(200):
        sent = [uart.Answer(rng.choice((uart.OK, uart.CODE, uart.LENGTH)), rng.randrange(256),
                            rng.randbytes(rng.choice((1, 2, 11)))) for _ in range(3)]
        data = b"".join(
            bytes(rng.choice((0x5A, 0xA5, 0x00, 0x77)) for _ in range(rng.randrange(6)))
            + uart.answer(one) for one in sent
        ) + bytes(300)
        found, left = [], b""
        for byte in data:
            left += bytes([byte])
            while True:
                one, left, needed = uart.take(left)
                if one is None:
                    assert needed > 0
                    break
                found.append(one)
        assert [one for one in found if one in sent] == sent


class Line:
    """A transport: what is written goes to `board`, its answer can be read."""

    def __init__(self, board: Callable[[bytes], bytes]) -> None:
        self.board, self.sent, self.left = board, 0, b""

    def write(self, data: bytes) -> int:
        self.sent += 1
        self.left += self.board(data)
        return len(data)

    def read(self, size: int) -> bytes:
        found, self.left = self.left[:size], self.left[size:]
        return found


def board_of(size: int) -> Callable[[bytes], bytes]:
    """What the hardware answers: the class is the sum of the bytes modulo 10."""

    def answer(data: bytes) -> bytes:
        tag, length = data[2], int.from_bytes(data[3:5], "little")
        if length != size:
            return uart.answer(uart.Answer(uart.LENGTH, tag, size.to_bytes(2, "little")))
        if binascii.crc_hqx(data[2:-2], 0xFFFF) != int.from_bytes(data[-2:], "little"):
            return uart.answer(uart.Answer(uart.CODE, tag, size.to_bytes(2, "little")))
        return uart.answer(uart.Answer(uart.OK, tag, bytes([sum(data[5:-2]) % 10, 200, 3])))

    return answer


def test_classes_and_scores() -> None:
    link = uart.Link(Line(board_of(SIZE)))
    image = np.random.default_rng(1).integers(0, 256, (1, 28, 28), dtype=np.uint8)
    expected = int(image.astype(int).sum()) % 10
    assert link.classify(image) == uart.Classified(expected, b"\xc8\x03")
    assert uart.classify(Line(board_of(SIZE)), image.tobytes()) == expected
    assert link.frame_bytes() == SIZE


def test_a_fault_is_repeated_and_late_answers_are_skipped() -> None:
    good, calls = board_of(SIZE), []

    def board(data: bytes) -> bytes:
        calls.append(data)
        if len(calls) == 1:
            return b""
        if len(calls) == 2:  # the first answer comes late, the second is a refusal
            return good(calls[0]) + uart.answer(uart.Answer(uart.BUSY, data[2], b"\x10\x03"))
        return good(data)

    image = bytes(range(196)) * 4
    assert uart.classify(Line(board), image) == sum(image) % 10
    assert len(calls) == 3
    assert len({data[2] for data in calls}) == 3  # every try has its own tag


@pytest.mark.parametrize(
    ("board", "image", "message", "tries"),
    [
        (lambda data: b"", bytes(SIZE), "no answer in 3 tries: nothing came back; check that", 3),
        (lambda data: data, bytes(SIZE), "3 tries: 791 bytes came that are no answer; the baud", 3),
        (board_of(100), bytes(SIZE), "has 784 bytes, the network on the board takes 100;", 1),
        (lambda data: uart.answer(uart.Answer(uart.LINE, data[2], b"\x10\x03")), bytes(SIZE),
         "3 tries: the board received a broken byte", 3),
        (lambda data: uart.answer(uart.Answer(uart.OK, data[2], b"")), bytes(SIZE),
         "without a class", 1),
        (board_of(SIZE), b"", "a sample of 0 bytes; the board takes 1 to 32768", 0),
        (board_of(SIZE), bytes(40_000), "a sample of 40000 bytes", 0),
        (board_of(SIZE), np.zeros(SIZE), "a sample of float64; the board takes uint8", 0),
    ],
)
def test_what_goes_wrong(
    board: Callable[[bytes], bytes], image: bytes | np.ndarray, message: str, tries: int
) -> None:
    line = Line(board)
    with pytest.raises(uart.LinkError, match=message):
        uart.classify(line, image)
    assert line.sent == tries


def test_a_line_that_never_falls_silent() -> None:
    class Noise(Line):
        def read(self, size: int) -> bytes:
            return b"\x11" * 4096

    with pytest.raises(uart.LinkError, match="bytes came that are no answer"):
        uart.classify(Noise(board_of(SIZE)), bytes(SIZE))


@pytest.fixture
def port() -> Iterator[tuple[str, dict[str, Callable[[bytes], bytes]]]]:
    """A serial port (a pseudo-terminal) with a board behind it that can be exchanged."""
    host, device = os.openpty()
    tty.setraw(host)
    tty.setraw(device)
    boards: dict[str, Callable[[bytes], bytes]] = {"board": board_of(SIZE)}

    def serve() -> None:
        data = b""
        while True:
            try:
                came = os.read(host, 4096)
            except OSError:
                return
            data += came
            while len(data) >= 7:
                size = 7 + int.from_bytes(data[3:5], "little")
                if len(data) < size:
                    break
                os.write(host, boards["board"](data[:size]))
                data = data[size:]

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield os.ttyname(device), boards
    os.close(device)
    thread.join(1)
    os.close(host)


def picture(path: Path, width: int, height: int, mode: str = "L") -> np.ndarray:
    rng = np.random.default_rng(5)
    shape = (height, width) if mode == "L" else (height, width, 3)
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels, mode).save(path)
    return pixels


def run(*words: str) -> tuple[str, HwflowError | None]:
    """What `hwflow run` prints, and the error it ends with."""
    found = CliRunner().invoke(cli.app, ["run", "--timeout", "0.2", *words])
    if found.exception is not None and not isinstance(found.exception, HwflowError):
        raise found.exception
    return found.output, found.exception


def test_run_a_picture(
    tmp_path: Path, port: tuple[str, dict[str, Callable[[bytes], bytes]]]
) -> None:
    pixels = picture(tmp_path / "digit.png", 28, 28)
    out, error = run("--port", port[0], "--image", str(tmp_path / "digit.png"))
    assert error is None
    assert f"class {int(pixels.astype(int).sum()) % 10}" in out
    assert "scores: 200 3" in out
    out, error = run("--port", port[0], "--image", str(tmp_path / "digit.png"), "--invert")
    assert f"class {int((255 - pixels.astype(int)).sum()) % 10}" in out
    port[1]["board"] = board_of(3 * 64)
    colour = picture(tmp_path / "colour.png", 8, 8, "RGB")
    out, error = run("--port", port[0], "--image", str(tmp_path / "colour.png"))
    assert f"class {int(colour.astype(int).sum()) % 10}" in out


def test_run_a_sample(port: tuple[str, dict[str, Callable[[bytes], bytes]]]) -> None:
    from hwflow.data import samples

    port[1]["board"] = board_of(64)
    test = samples.load("digits", "test", Path("unused"))
    expected = int(test.images[7].astype(int).sum()) % 10
    out, error = run("--port", port[0], "--data", "digits", "--index", "7")
    assert error is None
    assert f"digits, test sample 7: class {expected}" in out
    label = int(test.labels[7])
    assert ("as labelled" if label == expected else f"its label is {label}") in out


def test_run_refuses(
    tmp_path: Path, port: tuple[str, dict[str, Callable[[bytes], bytes]]]
) -> None:
    picture(tmp_path / "digit.png", 28, 28)
    picture(tmp_path / "large.png", 32, 20)
    (tmp_path / "text.png").write_text("no picture")
    digit, name = str(tmp_path / "digit.png"), port[0]
    cases: list[tuple[tuple[str, ...], type[HwflowError], str]] = [
        (("--port", "/dev/no-such-port", "--image", digit), uart.LinkError,
         "/dev/no-such-port: there is no such port; ports here:"),
        (("--port", str(tmp_path), "--image", digit), uart.LinkError, "cannot be used"),
        (("--port", name, "--image", str(tmp_path / "large.png")), ConfigError,
         "has 32 x 20 pixels, the network on the board takes 28 x 28 pixels; resize"),
        (("--port", name, "--image", str(tmp_path / "text.png")), ConfigError, "as a picture"),
        (("--port", name, "--image", str(tmp_path / "none.png")), ConfigError, "no such file"),
        (("--port", name), ConfigError, "--image FILE or --data SOURCE"),
        (("--port", name, "--data", "digits", "--index", "9999"), ConfigError,
         "--index 9999: digits has"),
        (("--port", name, "--image", digit, "--baud", "5"), ConfigError, "--baud 5"),
        (("--port", name, "--image", digit, "--timeout", "0"), ConfigError, "--timeout 0"),
        (("--port", name, "--image", digit, "--board", "pynq-z2"), ConfigError,
         "not built by open tools"),
    ]
    for words, kind, message in cases:
        _, error = run(*words)
        assert type(error) is kind, (words, error)
        assert message in str(error), (words, error)
    for board, message in ((lambda data: b"", "nothing came back"),
                           (lambda data: b"hello, world" * 9, "bytes came that are no answer")):
        port[1]["board"] = board
        _, error = run("--port", name, "--image", digit)
        assert type(error) is uart.LinkError
        assert message in str(error)
