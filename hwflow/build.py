# SPDX-License-Identifier: Apache-2.0
"""The stage runner: ordered stages, each cached by the hash of all that decides its result.

A stage works in `DIR/.partial/STAGE`; when it is done that folder takes the place of `DIR/STAGE`
and a stamp is written last. So a build may be killed at any moment: a folder without a stamp of
its own contents is made again. Nothing here knows what the stages do (`hwflow.stages` does).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hwflow.errors import ConfigError, HwflowError, ToolError
from hwflow.fingerprint import key_parts, manifest
from hwflow.plan import write_atomic

LOG = logging.getLogger(__name__)

STAMP_VERSION = 1
MEMORY_WAY = "take a network with a smaller input, or a machine with more memory"
LOCK = ".lock"  # in every folder that a build has ever worked in


@dataclass(frozen=True)
class Outcome:
    """What a stage did, in words for people; `skipped` and `failed` need a `reason`.

    seconds: what it is of was measured in an earlier run, which took so long: the stage is cached.
    A stage that failed after a measurement keeps its files, but is made again in the next build.
    """

    made: str
    skipped: bool = False
    reason: str | None = None
    failed: bool = False
    seconds: float | None = None


@dataclass(frozen=True)
class Record:
    """One stage of one build. status: done, cached, skipped or failed; seconds: its last run."""

    name: str
    status: str
    seconds: float
    made: str
    reason: str | None = None
    why: tuple[str, ...] = ()
    log: Path | None = None


@dataclass(frozen=True)
class Context:
    """What a stage function gets: where to read, where to write, how to tell its progress.

    `work` is the stage's own new folder. `cache` stays between builds: what is put there must
    carry its own stamp (as `plan.execute` writes). `say` shows a short line. `anew`: nothing that
    an earlier build measured may be used.
    """

    options: Any
    run: Path
    work: Path
    cache: Path
    say: Callable[[str], None]
    records: Mapping[str, Record]
    anew: bool = False

    def folder(self, stage: str) -> Path:
        """Folder of an earlier stage."""
        return self.run / stage

    def made(self, stage: str) -> bool:
        """True if that earlier stage left its files in this build."""
        return stage in self.records and self.records[stage].status in ("done", "cached")


@dataclass(frozen=True)
class Stage:
    """One step of the flow and all that decides whether it must run again.

    `needs`: earlier stages whose files it reads. `options`: fields of the options it depends on.
    `modules`: Python modules whose source, with that of every hwflow module they import, counts.
    `folders`: resource folders (or `folder/sub`) whose files count. `tools`: distributions and
    programs whose version counts. `files`: files from outside. `state`: anything else from outside,
    as names and short values. `always`: never cached, and run even when an earlier stage failed.
    `keeps`: it takes results from the user's cache (`hwflow.kept`), and runs if asked to measure
    anew.
    """

    name: str
    run: Callable[[Context], Outcome]
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    files: Callable[[Any], Iterable[Path]] = field(default=lambda options: ())
    state: Callable[[Any], Mapping[str, str]] = field(default=lambda options: {})
    always: bool = False
    keeps: bool = False


class View(Protocol):
    """Who shows the build."""

    def start(self, stage: str) -> None: ...
    def say(self, stage: str, text: str) -> None: ...
    def end(self, record: Record) -> None: ...


class Quiet:
    """A view that shows nothing."""

    def start(self, stage: str) -> None:
        """A stage begins."""

    def say(self, stage: str, text: str) -> None:
        """A stage tells its progress."""

    def end(self, record: Record) -> None:
        """A stage is over."""


def build(
    stages: Sequence[Stage],
    options: object,
    out: Path,
    until: str | None = None,
    view: View | None = None,
    anew: bool = False,
) -> tuple[Record, ...]:
    """Run the stages in order into `out`; one record for each, the failed one included.

    anew: stages that take results from the user's cache run, and measure again.

    After a failure the later stages are left out (status skipped), but those marked `always`
    still run. Raises ConfigError for an unknown `until`, a folder in use by another build, or one
    in which a stage would replace what no build made.
    """
    names = [stage.name for stage in stages]
    if until is not None and until not in names:
        raise ConfigError(f"stage {until!r} is not known; stages: {', '.join(names)}")
    view = view or Quiet()
    records: dict[str, Record] = {}
    taken = [stage.name for stage in stages if not stage.always and (out / stage.name).exists()]
    if taken and not (out / LOCK).exists():
        raise ConfigError(
            f"{out}: holds {', '.join(taken)}, which no build made and a build would replace; "
            "choose another --out"
        )
    with _locked(out):
        shutil.rmtree(out / ".partial", ignore_errors=True)
        stop: str | None = None
        for stage in stages:
            if stop is not None and not stage.always:
                record = Record(stage.name, "skipped", 0.0, "", stop)
            else:
                record = _stage(stage, options, out, records, view, anew)
            records[stage.name] = record
            view.end(record)
            if record.status == "failed" and stop is None:
                stop = f"the stage {stage.name} failed"
            elif stage.name == until and stop is None:
                stop = f"--until {until}"
    return tuple(records.values())


def _stage(
    stage: Stage, options: object, out: Path, records: Mapping[str, Record], view: View, anew: bool
) -> Record:
    view.start(stage.name)
    log = out / "logs" / f"{stage.name}.log"
    start = time.monotonic()
    try:
        if stage.always:
            return _always(stage, options, out, records, view, anew, log)
        parts = key_parts(stage, options, out, records)
        stamp_path = out / ".stamps" / f"{stage.name}.json"
        stamp, why = _why(stamp_path, parts, out / stage.name)
        if anew and stage.keeps:
            stamp, why = None, ["it is to measure anew"]
        if stamp is not None:
            status = "cached" if stamp["status"] == "done" else "skipped"
            return Record(
                stage.name, status, stamp["seconds"], stamp["made"], stamp["reason"], (), log
            )
        work = out / ".partial" / stage.name
        work.mkdir(parents=True)
        with _logging(log):
            LOG.info("stage %s runs: %s", stage.name, "; ".join(why))
            outcome = stage.run(_context(stage, options, out, work, records, view, anew))
        seconds = time.monotonic() - start if outcome.seconds is None else outcome.seconds
        _install(work, out / stage.name, stamp_path)
        if outcome.failed:
            with contextlib.suppress(OSError), _logging(log, "a"):
                LOG.error("%s", outcome.reason)
            return Record(
                stage.name, "failed", seconds, outcome.made, outcome.reason, tuple(why), log
            )
        status = "skipped" if outcome.skipped else "done"
        content = {
            "version": STAMP_VERSION, "parts": parts, "files": manifest(out / stage.name),
            "status": status, "seconds": seconds, "made": outcome.made, "reason": outcome.reason,
        }
        write_atomic(stamp_path, json.dumps(content, indent=1, sort_keys=True).encode())
        if outcome.seconds is not None and not outcome.skipped:
            status = "cached"
        return Record(
            stage.name, status, seconds, outcome.made, outcome.reason, tuple(why), log
        )
    except (HwflowError, OSError, MemoryError) as error:
        if isinstance(error, MemoryError):
            message = f"more memory is needed than there is ({error}); {MEMORY_WAY}"
        else:
            message = str(error) if isinstance(error, HwflowError) else disk_error(error, out)
        with contextlib.suppress(OSError), _logging(log, "a"):
            LOG.error("%s", message)
        return Record(
            stage.name, "failed", time.monotonic() - start, "", message, (), log
        )


def _always(
    stage: Stage, options: object, out: Path, records: Mapping[str, Record], view: View, anew: bool,
    log: Path,
) -> Record:
    start = time.monotonic()
    with _logging(log):
        outcome = stage.run(_context(stage, options, out, out, records, view, anew))
    return Record(
        stage.name, "skipped" if outcome.skipped else "done", time.monotonic() - start,
        outcome.made, outcome.reason, (), log,
    )


def _context(
    stage: Stage, options: object, out: Path, work: Path, records: Mapping[str, Record], view: View,
    anew: bool,
) -> Context:
    cache = out / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    def say(text: str) -> None:
        view.say(stage.name, text)

    return Context(options, out, work, cache, say, records, anew)


def _install(work: Path, final: Path, stamp: Path) -> None:
    stamp.unlink(missing_ok=True)
    old = work.with_name(f"old-{work.name}")
    if final.exists():
        final.replace(old)
    work.replace(final)
    shutil.rmtree(old, ignore_errors=True)


def _why(
    stamp_path: Path, parts: Mapping[str, str], folder: Path
) -> tuple[dict[str, Any] | None, list[str]]:
    """The valid stamp, or None and why there is none."""
    if not stamp_path.is_file():
        return None, ["it has not been finished in this folder before"]
    try:
        stamp = json.loads(stamp_path.read_text())
        old, files = stamp["parts"], stamp["files"]
        known = stamp["version"] == STAMP_VERSION
        known = known and isinstance(old, dict) and isinstance(files, dict)
        known = known and stamp["status"] in ("done", "skipped")
        known = known and isinstance(stamp["seconds"], int | float) and stamp["seconds"] >= 0
        known = known and isinstance(stamp["made"], str)
        known = known and isinstance(stamp["reason"], str | None)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None, ["its stamp is damaged"]
    if not known:
        return None, ["its stamp is of another version of hwflow"]
    why = [f"{name} is new" for name in parts if name not in old]
    why += [f"{name} is gone" for name in old if name not in parts]
    for name in parts:
        if name in old and old[name] != parts[name]:
            shown = name.split()[0] in ("option", "tool", "stage")
            why.append(f"{name}: {old[name]} -> {parts[name]}" if shown else f"{name} changed")
    if not why:
        now = manifest(folder)
        why += [f"product {folder.name}/{name} is missing" for name in files if name not in now]
        why += [
            f"product {folder.name}/{name} was changed"
            for name, digest in now.items() if files.get(name) != digest
        ]
    return (stamp, []) if not why else (None, why)


def disk_error(error: OSError, out: Path) -> str:
    """One sentence for what the operating system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        way = "free some space or choose another --out"
    else:
        way = "check the path and its rights"
    return f"{error.filename or out}: {error.strerror or error}; {way}"


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        stream = (out / LOCK).open("a+")
    except OSError as error:
        raise ToolError(disk_error(error, out)) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            raise ConfigError(
                f"another build is running in {out} (process {stream.read().strip() or '?'}); "
                "wait for it or choose another --out"
            ) from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


class _LogFile(logging.FileHandler):
    """A log that a full disk may cut short: what the stage itself could not write is the error."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: the default prints a traceback."""


@contextlib.contextmanager
def _logging(log: Path, mode: str = "w") -> Iterator[None]:
    """Send what the package logs to the stage's log file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(log, mode=mode, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger, warned = logging.getLogger("hwflow"), logging.getLogger("py.warnings")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    warned.addHandler(handler)
    try:
        yield
    finally:
        warned.removeHandler(handler)
        logger.removeHandler(handler)
        logger.setLevel(level)
        with contextlib.suppress(OSError):
            handler.close()
