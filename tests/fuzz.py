# SPDX-License-Identifier: Apache-2.0
"""Malformed inputs of fixed seeds, and a guard that sees what a reader does with them.

A reader may refuse an input with a clear error or read it; it may raise nothing else, take no
longer than ten seconds, need no more than a few gigabytes, and touch nothing outside its folder.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hwflow.driver import DriverError
from hwflow.errors import HwflowError

CLEAR = (HwflowError, DriverError)  # the driver stands alone on a board and has its own base
LIMIT_S = 10.0  # of a processor: others may use the machine too
MEMORY = 3 << 30
WRITES = {
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate",
    "os.chmod", "os.chown", "shutil.copyfile", "shutil.move", "shutil.unpack_archive",
}
FORBIDDEN = {
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "socket.connect",
    "pickle.find_class",
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

Rng = np.random.Generator


class TooSlow(BaseException):
    """A reader took longer than LIMIT_S."""


@dataclass
class Watch:
    """What the interpreter reported while a reader ran."""

    folder: Path | None = None
    seen: list[str] = field(default_factory=list)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in FORBIDDEN:
            self.seen.append(f"{event} {str(args[:1])[:200]}")
        elif event in WRITES or (event == "open" and int(args[2] or 0) & WRITING):
            self._written(args[0])

    def _written(self, name: object) -> None:
        if not isinstance(name, str | bytes | os.PathLike):
            return  # a descriptor that is open already
        path = Path(os.path.realpath(os.fsdecode(name)))
        inside = self.folder is not None and path.is_relative_to(self.folder)
        if not inside and "__pycache__" not in path.parts and str(path) != os.devnull:
            self.seen.append(f"writes {path}")


WATCH = Watch()
sys.addaudithook(WATCH.hook)


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Fails when a reader is slow, hungry, starts something or writes outside `folder`."""

    def late(number: int, frame: object) -> None:
        raise TooSlow(f"took longer than {LIMIT_S:g} s")

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, late)
    before = signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    WATCH.folder, WATCH.seen = folder.resolve(), []
    try:
        yield
    finally:
        WATCH.folder = None
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_PROF, *before)
        signal.signal(signal.SIGPROF, handler)
    assert not WATCH.seen, WATCH.seen


@dataclass
class Tally:
    """How many inputs of a run were read and how many refused."""

    read: int = 0
    refused: int = 0
    seconds: float = 0.0


def check_clear(error: BaseException, names: tuple[str, ...]) -> None:
    """The message names the file and says more than an exception's repr."""
    text = str(error)
    assert any(name in text for name in names), f"does not name the file: {text}"
    assert "Traceback" not in text
    assert 20 < len(text) < 20_000, f"says nothing or too much: {text[:500]}"


def attempt(
    call: Callable[[], object], folder: Path, names: tuple[str, ...], tally: Tally
) -> object:
    """Run one reader on one input; its result, or None when it refused it clearly."""
    start = time.process_time()
    try:
        with guarded(folder):
            result = call()
    except CLEAR as error:
        check_clear(error, names)
        tally.refused += 1
        return None
    finally:
        tally.seconds = max(tally.seconds, time.process_time() - start)
    tally.read += 1
    return result


# Bytes

TOKENS = (
    b"\0", b"\xff", b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80" * 10, b"../../x", b"/etc/passwd",
    b"PK\x03\x04", b"\x80\x04\x95", b"%s%n", b"[" * 3000, b"{" * 3000, b"-1", b"1e999", b"nan",
    b"9" * 5000, "²½\u202e\ufeff".encode(), b"\xed\xa0\x80", b"\r\n", b"<!ENTITY a 'b'>",
)


def mangle(rng: Rng, data: bytes) -> bytes:
    """One to four random injuries."""
    for _ in range(int(rng.integers(1, 5))):
        data = _injure(rng, data)
    return data


def _injure(rng: Rng, data: bytes) -> bytes:
    size = len(data)
    at = int(rng.integers(0, size + 1))
    end = min(size, at + int(rng.integers(1, 1 + max(1, min(64, size)))))
    kind = int(rng.integers(0, 9))
    if kind == 0:
        return data[:at]
    if kind == 1:
        changed = bytearray(data)
        for _ in range(int(rng.integers(1, 9)) if size else 0):
            changed[int(rng.integers(0, size))] ^= 1 << int(rng.integers(0, 8))
        return bytes(changed)
    if kind == 2:
        return data[:at] + rng.bytes(end - at) + data[end:]
    if kind == 3:
        return data[:at] + data[end:]
    if kind == 4:
        return data[:end] + data[at:]
    if kind == 5:
        return data[:at] + TOKENS[int(rng.integers(len(TOKENS)))] + data[at:]
    if kind == 6:
        return data[:at] + TOKENS[int(rng.integers(len(TOKENS)))] + data[end:]
    if kind == 7 and size > 8:
        width = int(rng.choice([1, 2, 4, 8]))
        value = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF])) * int("01" * width, 16)
        place = int(rng.integers(0, size - width + 1))
        return data[:place] + (value % (1 << 8 * width)).to_bytes(width, "little") + (
            data[place + width :]
        )
    half = size // 2
    return data[half:] + data[:half] if rng.random() < 0.2 else data + rng.bytes(9)


# Text

WORDS = (
    "", "-1", "0", "1", "-0.0", "1e999", "nan", "inf", "-inf", "99999999999999999999", "9" * 5000,
    "0x10", "1_000", "1,234", "true", "null", "N/A", "---", "\0", "\u202e", "ß", "²", "१२",
    "a" * 5000, "../../x", "/etc/passwd", "{{7*7}}", "<b>", "%s", "$(id)", "`id`",
)


def mangle_text(rng: Rng, text: str) -> bytes:
    """Lines and words exchanged, dropped and doubled; sometimes also bytes."""
    for _ in range(int(rng.integers(1, 5))):
        lines = text.split("\n")
        at = int(rng.integers(0, len(lines)))
        kind = int(rng.integers(0, 6))
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, lines[int(rng.integers(0, len(lines)))])
        elif kind == 2:
            other = int(rng.integers(0, len(lines)))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 3:
            lines = lines[: at + 1]
        else:
            words = lines[at].split(" ")
            words[int(rng.integers(0, len(words)))] = WORDS[int(rng.integers(len(WORDS)))]
            lines[at] = " ".join(words)
        text = "\n".join(lines)
    data = text.encode("utf-8", "surrogatepass")
    return mangle(rng, data) if rng.random() < 0.25 else data


# Trees of JSON and TOML


def odd_value(rng: Rng) -> Any:  # noqa: ANN401
    """A value that is seldom the right one."""
    values: tuple[Any, ...] = (
        None, True, False, 0, 1, -1, 2, 3, 255, 2**31, -(2**31), 2**63, 2**64, 10**30, 0.5, -0.0,
        1e308, float("inf"), float("nan"), "", "x", "u8", "i64", "f32", "a" * 3000, "\0", "../x",
        "/etc/passwd", "ß", [], [None], [1, 2, 3], [[[]]], {}, {"a": 1}, {"": {}}, [2**40] * 4,
    )
    return copy.deepcopy(values[int(rng.integers(len(values)))])


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401
    if path:
        yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(
        tree, list) else ()
    for key, value in items:
        yield from _places(value, (*path, key))


def mangle_tree(rng: Rng, tree: Any) -> Any:  # noqa: ANN401
    """One to three values of a tree replaced, dropped, doubled, renamed or wrapped."""
    tree = copy.deepcopy(tree)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(tree))
        if not places:
            return odd_value(rng)
        *path, key = places[int(rng.integers(len(places)))]
        holder = tree
        for step in path:
            holder = holder[step]
        kind = int(rng.integers(0, 6))
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[f"{key}{rng.integers(9)}"] = holder.pop(key)
        elif kind == 1:
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == 2:
            holder[key] = [holder[key]]
        elif kind == 3 and places:
            *other, last = places[int(rng.integers(len(places)))]
            source = tree
            with contextlib.suppress(KeyError, IndexError, TypeError):
                for step in other:
                    source = source[step]
                holder[key] = copy.deepcopy(source[last])
        else:
            holder[key] = odd_value(rng)
    return tree


def json_bytes(rng: Rng, tree: Any) -> bytes:  # noqa: ANN401
    """A mangled tree as JSON text, sometimes injured too."""
    data = json.dumps(mangle_tree(rng, tree)).encode("utf-8", "surrogatepass")
    return mangle(rng, data) if rng.random() < 0.2 else data
