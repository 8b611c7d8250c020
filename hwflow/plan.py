# SPDX-License-Identifier: Apache-2.0
"""Plans: files, commands and products as plain data, and the one place that runs them.

A `Plan` says what is to be done and is never run by whoever builds it; `execute` is the only
function of hwflow that starts an external program in a run directory, but for simulations (cocotb's
runner). What fills the cache of the user starts its own: downloads, compiled loops of the training.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from hwflow.errors import ToolError

PYTHON = "{python}"
"""As the first word of an argv: the interpreter hwflow runs under (keeps digests portable)."""

_TAIL_LINES = 15
_POLL_S = 0.1


@dataclass(frozen=True)
class Command:
    """One program call, run in the plan's directory.

    `argv` is a list of words (no shell). `log` names the file that receives stdout and stderr.
    `env` adds variables, `path` puts directories in front of PATH. `version` is either the known
    version as a string, or the argv that prints it (its first line is recorded). `cwd` is a
    directory relative to the plan's directory.
    """

    argv: tuple[str, ...]
    log: str
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 3600.0
    path: tuple[str, ...] = ()
    version: str | tuple[str, ...] = ""
    cwd: str = "."


@dataclass(frozen=True)
class Plan:
    """Files to write, commands to run in order, products that must exist afterwards.

    All names are relative, with `/`, and stay inside the directory of `execute`.
    """

    files: Mapping[str, str | bytes]
    commands: tuple[Command, ...]
    products: tuple[str, ...]
    name: str = "plan"

    def digest(self) -> str:
        """sha256 (hex) of all that decides the result; `path` (machine specific) is left out."""
        parts = {
            "files": {name: _digest(_data(text)) for name, text in self.files.items()},
            "commands": [
                [list(c.argv), c.log, dict(sorted(c.env.items())), c.timeout_s, c.cwd,
                 c.version if isinstance(c.version, str) else list(c.version)]
                for c in self.commands
            ],
            "products": list(self.products),
            "name": self.name,
        }
        return _digest(json.dumps(parts, sort_keys=True).encode())


@dataclass(frozen=True)
class Executed:
    """What `execute` did: `versions` maps a program's name to the version line it gave.

    `seconds` and `made` (UTC, as 2026-11-20 19:12) are of the run that made the products: if
    `skipped`, an earlier one.
    """

    skipped: bool
    seconds: float
    versions: Mapping[str, str]
    logs: tuple[Path, ...]
    made: str


def execute(
    plan: Plan, directory: Path, on_line: Callable[[str], None] | None = None, anew: bool = False
) -> Executed:
    """Write the plan's files, run its commands, check exit codes and products.

    A plan whose digest, tool versions and products equal those of the stamp from an earlier run
    is skipped, unless it is to be run `anew`. The stamp is removed before anything is touched and
    written last, so that nothing half-made is trusted later. `on_line` receives each line a command
    prints, as it comes.
    Raises ToolError (missing program, exit code, timeout, product missing, full disk).
    """
    _check_names(plan)
    directory = Path(directory)
    stamp_path = directory / stamp_name(plan)
    logs = tuple(directory / c.log for c in plan.commands)
    start = time.monotonic()
    with _disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        key = key_of(plan)
        versions = key["versions"]
        stamp = None if anew else _stamp(stamp_path, key, plan, directory)
        if stamp is not None:
            return Executed(True, stamp["seconds"], versions, logs, stamp["made"])
        stamp_path.unlink(missing_ok=True)
        for name in plan.products:
            if name not in plan.files:
                (directory / name).unlink(missing_ok=True)
        for name, text in plan.files.items():
            _write(directory / name, _data(text))
        for command in plan.commands:
            _run(command, directory, on_line)
        products = {}
        for name in plan.products:
            product = directory / name
            if not product.is_file():
                raise ToolError(
                    f"{plan.name}: no product {name} in {directory}, though every command ended "
                    f"without error; see {', '.join(map(str, logs)) or 'no log'}"
                )
            products[name] = sha256(product)
        seconds, made = time.monotonic() - start, f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
        body = {**key, "products": products, "seconds": seconds, "made": made}
        write_atomic(stamp_path, json.dumps(body, indent=1, sort_keys=True).encode())
    return Executed(False, seconds, versions, logs, made)


def key_of(plan: Plan) -> dict[str, Any]:
    """What decides the results of a plan: its digest, and the versions its programs tell now."""
    versions = {_name(plan, c): _version(c) for c in plan.commands if c.version}
    return {"digest": plan.digest(), "versions": versions}


def stamp_name(plan: Plan) -> str:
    """The file in the plan's directory that says what the products there were made of."""
    return f".{plan.name}.stamp.json"


def is_done(plan: Plan, directory: Path, key: Mapping[str, Any]) -> bool:
    """True if the directory holds what the plan would make, so that `execute` would skip it."""
    return _stamp(directory / stamp_name(plan), key, plan, directory) is not None


def adopt(plan: Plan, directory: Path, results: Mapping[str, bytes]) -> None:
    """Put products, logs and stamp of an equal plan into a directory, as if it had run there.

    results: by name, with the stamp under `stamp_name`. `execute` still compares the products with
    the stamp.
    """
    _check_names(plan)
    stamp = stamp_name(plan)
    allowed = {*plan.products, *(command.log for command in plan.commands)}
    with _disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / stamp).unlink(missing_ok=True)
        for name, text in plan.files.items():
            _write(directory / name, _data(text))
        for name in allowed & results.keys():
            write_atomic(directory / name, results[name])
        write_atomic(directory / stamp, results[stamp])


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is there wholly or not at all, also after a crash.

    A device, a pipe or a link is written to as it is: putting a file in its place would remove it.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_bytes(data)
            return
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # what was asked for, not the part
        raise
    finally:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            part.unlink(missing_ok=True)


def tail(path: Path, lines: int = _TAIL_LINES) -> str:
    """Last lines of a log, indented, for an error message; '' when there is none."""
    if not path.is_file():
        return ""
    text = path.read_bytes()[-20_000:].decode(errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in text[-lines:])


def _name(plan: Plan, command: Command) -> str:
    return plan.name if command.argv[0] == PYTHON else Path(command.argv[0]).name


def _data(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256(path: Path) -> str:
    """sha256 of a file, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_names(plan: Plan) -> None:
    names = [*plan.files, *plan.products, *(c.log for c in plan.commands)]
    names += [c.cwd for c in plan.commands]
    for name in names:
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts or "\\" in name:
            raise ToolError(
                f"{plan.name}: the path {name!r} is not allowed in a plan; "
                "use a path relative to and inside the plan's directory"
            )
    for command in plan.commands:
        if not command.argv:
            raise ToolError(f"{plan.name}: a command without a program; give its argv")


def _stamp(
    path: Path, key: Mapping[str, object], plan: Plan, directory: Path
) -> dict[str, Any] | None:
    """The stamp of a directory whose products are those of this key; None if they are not."""
    try:
        stamp = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(stamp, dict) or any(stamp.get(k) != v for k, v in key.items()):
        return None
    products, seconds, made = (stamp.get(name) for name in ("products", "seconds", "made"))
    if not isinstance(products, dict) or set(products) != set(plan.products):
        return None
    if not isinstance(seconds, int | float) or not isinstance(made, str):
        return None
    paths = {name: directory / name for name in plan.products}
    same = all(p.is_file() and sha256(p) == products[name] for name, p in paths.items())
    return stamp if same else None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # An unchanged file keeps its time, so that make and friends do not build again.
    if not path.is_file() or path.read_bytes() != data:
        write_atomic(path, data)


def _environment(command: Command) -> dict[str, str]:
    env = {**os.environ, **command.env}
    if command.path:
        env["PATH"] = os.pathsep.join([*command.path, env.get("PATH", os.defpath)])
    return env


def _program(command: Command, word: str, env: Mapping[str, str]) -> str:
    if word == PYTHON:
        return sys.executable
    found = shutil.which(word, path=env.get("PATH"))
    if found is None:
        raise ToolError(
            f"the program {word!r} was not found on PATH; install it "
            "(`hwflow doctor` lists what each part needs)"
        )
    return found


def _version(command: Command) -> str:
    if isinstance(command.version, str):
        return command.version
    env = _environment(command)
    program = _program(command, command.version[0], env)
    try:
        done = subprocess.run(
            [program, *command.version[1:]], env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{' '.join(command.version)} did not tell its version: {error}") from error
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    if done.returncode != 0 or not lines:
        raise ToolError(
            f"{' '.join(command.version)} did not tell its version "
            f"(exit code {done.returncode}); the installation of {program} is damaged"
        )
    return lines[0].strip()


def _run(command: Command, directory: Path, on_line: Callable[[str], None] | None) -> None:
    env = _environment(command)
    program = _program(command, command.argv[0], env)
    log = directory / command.log
    log.parent.mkdir(parents=True, exist_ok=True)
    cwd = directory / command.cwd
    cwd.mkdir(parents=True, exist_ok=True)
    shown = " ".join(command.argv).replace(PYTHON, "python")
    deadline = time.monotonic() + command.timeout_s
    with log.open("wb") as sink, log.open("rb") as source:
        try:
            process = subprocess.Popen(
                [program, *command.argv[1:]], cwd=cwd, env=env, stdin=subprocess.DEVNULL,
                stdout=sink, stderr=subprocess.STDOUT, start_new_session=True,
            )
        except OSError as error:
            raise ToolError(f"{program} cannot be started: {error.strerror}") from error
        lines = _Lines(on_line)
        endless = not stat.S_ISREG(os.fstat(source.fileno()).st_mode)  # a device never ends
        try:
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ToolError(
                        f"{shown} took longer than {command.timeout_s:g} s and was stopped; "
                        f"log: {log}\n{tail(log)}"
                    )
                try:
                    code = process.wait(timeout=min(_POLL_S, left))
                    break
                except subprocess.TimeoutExpired:
                    lines.feed(b"" if endless else source.read())
            lines.feed(b"" if endless else source.read())
            lines.end()
        finally:
            # Also on Ctrl-C: neither the program nor what it started may outlive the plan.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code != 0:
        what = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise ToolError(f"{shown} {what}; log: {log}\n{tail(log)}")


class _Lines:
    """Cuts what a program writes into lines for `on_line`."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self.on_line = on_line
        self.rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        if self.on_line is not None:
            for line in lines:
                self.on_line(line.decode(errors="replace"))

    def end(self) -> None:
        if self.rest and self.on_line is not None:
            self.on_line(self.rest.decode(errors="replace"))
        self.rest = b""


@contextlib.contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        way = "free some space or choose another --out" if full else "check the path and its rights"
        place = error.filename or directory
        raise ToolError(f"cannot write {place}: {error.strerror or error}; {way}") from error
