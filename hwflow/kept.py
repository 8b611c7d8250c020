# SPDX-License-Identifier: Apache-2.0
"""What slow programs made, kept in the user's cache for every run directory.

A plan whose key (digest of files, commands and products; versions of its tools) equals that of an
entry is not run: products and logs are taken from the entry. An entry is one file, `KEY.kept`: a
line that says what it is, a line with the SHA-256 of the rest, and a zip of products, logs and
stamp. It is written whole or not at all, and one that is damaged is dropped. Of two processes that
want the same, one runs the plan and the other waits for it.

The cache is a convenience: a folder that cannot be read or written never fails a build.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hwflow import plan as plans
from hwflow.arrays import ZIP_ERRORS
from hwflow.plan import Executed, Plan

LOG = logging.getLogger(__name__)

HEAD = b"hwflow kept 1\n"
ENTRIES = 200  # the least recently used of more are dropped
MOST_BYTES = 1 << 30  # of one entry, unpacked


def folder(cache: Path) -> Path:
    """Where the entries are in a user's cache."""
    return cache / "plans"


def execute(
    plan: Plan,
    directory: Path,
    store: Path,
    on_line: Callable[[str], None] | None = None,
    anew: bool = False,
) -> Executed:
    """`plan.execute`, but results that any run has left in `store` are taken from there.

    anew: nothing is taken, neither from the store nor from an earlier run in the directory.
    """
    key = plans.key_of(plan)
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    entry = store / f"{name}.kept"
    with _alone(store / f"{name}.lock", on_line):
        if not anew and not plans.is_done(plan, directory, key):
            results = _read(entry)
            if results is not None and plans.stamp_name(plan) in results:
                plans.adopt(plan, directory, results)
        done = plans.execute(plan, directory, on_line, anew)
        if not done.skipped or not entry.is_file():
            _write(entry, plan, directory)
    return done


def _read(entry: Path) -> dict[str, bytes] | None:
    """The files of an entry; None if there is none. A damaged one is dropped."""
    try:
        data = entry.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        LOG.warning("%s: cannot be read (%s)", entry, error.strerror)
        return None
    head, digest, body = data[: len(HEAD)], data[len(HEAD) :][:65], data[len(HEAD) + 65 :]
    try:
        if head != HEAD or digest.decode("ascii") != hashlib.sha256(body).hexdigest() + "\n":
            raise ValueError("its checksum is wrong")
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MOST_BYTES:
                raise ValueError("it is too large")
            results = {info.filename: archive.read(info) for info in archive.infolist()}
    except ZIP_ERRORS as error:
        LOG.warning("%s: is damaged (%s) and was dropped", entry, error)
        with contextlib.suppress(OSError):
            entry.unlink()
        return None
    with contextlib.suppress(OSError):
        entry.touch()  # used now
    return results


def _write(entry: Path, plan: Plan, directory: Path) -> None:
    """Keep what a directory holds of a plan that has been run there."""
    names = {*plan.products, *(command.log for command in plan.commands)}
    packed = io.BytesIO()
    try:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(names):
                if (directory / name).is_file():
                    archive.writestr(name, (directory / name).read_bytes())
            stamp = plans.stamp_name(plan)
            archive.writestr(stamp, (directory / stamp).read_bytes())
        body = packed.getvalue()
        digest = hashlib.sha256(body).hexdigest().encode()
        plans.write_atomic(entry, HEAD + digest + b"\n" + body)
        _prune(entry)
    except OSError as error:
        LOG.warning("%s: cannot be kept (%s)", entry, error.strerror or error)


def _prune(new: Path) -> None:
    """Drop the least recently used of more than ENTRIES, but never the one that is new: those
    beside it may be of a clock that was ahead."""
    others = [path for path in new.parent.glob("*.kept") if path != new]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for entry in others[ENTRIES - 1 :]:
        entry.unlink(missing_ok=True)
        entry.with_suffix(".lock").unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(path: Path, on_line: Callable[[str], None] | None) -> Iterator[None]:
    """Hold a lock that ends with the process; without one where the folder allows none."""
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(path.open("a"))
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                LOG.info("another process makes the same; waiting for it (%s)", path)
                if on_line is not None:
                    on_line("waiting for another process that makes the same")
                fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            LOG.warning("%s: no lock (%s)", path, error.strerror)
        yield
