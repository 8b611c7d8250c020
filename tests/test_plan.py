# SPDX-License-Identifier: Apache-2.0
"""Plans run once, are trusted only when whole, and say what went wrong."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hwflow.errors import ToolError
from hwflow.plan import PYTHON, Command, Plan, execute, write_atomic

SCRIPT = "import sys; print('hello'); open(sys.argv[1], 'w').write(open('in.txt').read().upper())\n"


def upper(text: str = "abc", **changes: object) -> Plan:
    command = {"argv": (PYTHON, "job.py", "out.txt"), "log": "job.log", **changes}
    return Plan({"job.py": SCRIPT, "in.txt": text}, (Command(**command),), ("out.txt",), "upper")


def test_runs_logs_and_records(tmp_path: Path) -> None:
    lines: list[str] = []
    done = execute(upper(version="1.2"), tmp_path, lines.append)
    assert not done.skipped
    assert (tmp_path / "out.txt").read_text() == "ABC"
    assert (tmp_path / "job.log").read_text() == "hello\n"
    assert lines == ["hello"]
    assert list(done.versions.values()) == ["1.2"]


def test_equal_plan_is_skipped_and_a_changed_one_is_not(tmp_path: Path) -> None:
    execute(upper(), tmp_path)
    assert execute(upper(), tmp_path).skipped
    assert not execute(upper("xyz"), tmp_path).skipped
    assert (tmp_path / "out.txt").read_text() == "XYZ"
    assert not execute(upper("xyz", env={"A": "1"}), tmp_path).skipped
    assert not execute(upper("xyz", env={"A": "1"}, version="2"), tmp_path).skipped


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_damaged_product_is_made_again(tmp_path: Path, damage: str) -> None:
    execute(upper(), tmp_path)
    product = tmp_path / "out.txt"
    product.unlink() if damage == "missing" else product.write_text("A")
    assert not execute(upper(), tmp_path).skipped
    assert product.read_text() == "ABC"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": 1}'])
def test_damaged_stamp_is_not_trusted(tmp_path: Path, text: str) -> None:
    execute(upper(), tmp_path)
    (tmp_path / ".upper.stamp.json").write_text(text)
    assert not execute(upper(), tmp_path).skipped


def test_failure_leaves_no_stamp_and_shows_the_log(tmp_path: Path) -> None:
    execute(upper(), tmp_path)
    bad = Plan(
        {"job.py": "print('the reason'); raise SystemExit(3)"},
        (Command((PYTHON, "job.py"), "job.log"),), ("out.txt",), "upper",
    )
    with pytest.raises(ToolError, match=r"exit code 3(.|\n)*the reason"):
        execute(bad, tmp_path)
    assert not (tmp_path / ".upper.stamp.json").exists()
    assert not (tmp_path / "out.txt").exists()  # the old product is not taken for the new one


def test_missing_product(tmp_path: Path) -> None:
    plan = Plan({}, (Command((PYTHON, "-c", "pass"), "a.log"),), ("x.bit",))
    with pytest.raises(ToolError, match=r"no product x\.bit"):
        execute(plan, tmp_path)


def test_missing_program(tmp_path: Path) -> None:
    plan = Plan({}, (Command(("no-such-program",), "a.log"),), ())
    with pytest.raises(ToolError, match="'no-such-program' was not found on PATH"):
        execute(plan, tmp_path)


def test_killed_program(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(ToolError, match="killed by signal 9"):
        execute(Plan({}, (Command((PYTHON, "-c", code), "a.log"),), ()), tmp_path)


def test_timeout_stops_the_program_and_its_children(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time, pathlib\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path('pid').write_text(str(p.pid)); time.sleep(60)\n"
    )
    plan = Plan({"job.py": code}, (Command((PYTHON, "job.py"), "a.log", timeout_s=2),), ())
    with pytest.raises(ToolError, match="longer than 2 s"):
        execute(plan, tmp_path)
    stat_file = Path("/proc") / (tmp_path / "pid").read_text() / "stat"
    deadline = time.monotonic() + 5
    while stat_file.exists() and stat_file.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the grandchild is still running"
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "", "a\\b"])
@pytest.mark.parametrize("where", ["files", "products", "log"])
def test_paths_outside_are_refused(tmp_path: Path, name: str, where: str) -> None:
    log = name if where == "log" else "a.log"
    plan = Plan(
        {name: "x"} if where == "files" else {},
        (Command((PYTHON, "-c", "pass"), log),),
        (name,) if where == "products" else (),
    )
    with pytest.raises(ToolError, match="not allowed in a plan"):
        execute(plan, tmp_path)
    assert not list(tmp_path.iterdir())


def test_version_is_asked_and_decides(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "mytool"
    tool.parent.mkdir()

    def install(version: str) -> None:
        tool.write_text(f"#!/bin/sh\nif [ \"$1\" = --version ]; then echo mytool {version}; fi\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)

    ask = ("mytool", "--version")
    command = Command(("mytool",), "a.log", path=(str(tool.parent),), version=ask)
    plan = Plan({}, (command,), ())
    install("1.0")
    assert execute(plan, tmp_path / "d").versions == {"mytool": "mytool 1.0"}
    assert execute(plan, tmp_path / "d").skipped
    install("2.0")
    done = execute(plan, tmp_path / "d")
    assert not done.skipped
    assert done.versions == {"mytool": "mytool 2.0"}


def test_no_shell(tmp_path: Path) -> None:
    word = "; touch hacked $(touch hacked2)"
    execute(Plan({}, (Command((PYTHON, "-c", "pass", word), "a.log"),), ()), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".plan.stamp.json", "a.log"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not on this system")
def test_log_on_a_device_is_not_read_for_ever(tmp_path: Path) -> None:
    (tmp_path / "a.log").symlink_to("/dev/full")
    # the pause lets the log be polled: a device must not be read as if it had an end
    code = "import sys, time; time.sleep(1); sys.stdout.write('x' * 100000); sys.stdout.flush()"
    with pytest.raises(ToolError, match="exit code 1"):
        execute(Plan({"a.log.x": "1"}, (Command((PYTHON, "-c", code), "a.log"),), ()), tmp_path)


def test_file_where_a_directory_must_be(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("")
    with pytest.raises(ToolError, match="cannot write"):
        execute(upper(), tmp_path / "d")


def test_digest_is_stable_and_portable() -> None:
    assert upper().digest() == upper(path=("/opt/somewhere",)).digest()
    assert upper().digest() != upper(timeout_s=1.0).digest()


def test_write_atomic_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_atomic(folder, b"{}")
    assert (caught.value.filename, caught.value.filename2) == (str(folder), None)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", [".", "/"])
def test_write_atomic_refuses_folders_without_a_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IsADirectoryError) as caught:
        write_atomic(Path(name), b"{}")
    assert caught.value.filename == name


def test_write_atomic_names_a_device_that_is_full() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomic(Path("/dev/full"), b"{}")
    assert caught.value.filename == "/dev/full"
    assert Path("/dev/full").is_char_device()


def test_write_atomic_leaves_pipes_and_links_in_place(tmp_path: Path) -> None:
    """As root, a file would otherwise take the place of /dev/null or /dev/stdout."""
    pipe, link, target = tmp_path / "pipe", tmp_path / "link", tmp_path / "target"
    os.mkfifo(pipe)
    link.symlink_to(target)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_atomic(pipe, b"through")
    reader.join(timeout=10)
    assert read == [b"through"]
    assert pipe.is_fifo()
    for text in (b"new", b"newer"):
        write_atomic(link, text)
        assert link.is_symlink()
        assert target.read_bytes() == text


def test_a_folder_that_cannot_be_written_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that is only for reading, removing the part fails, too."""
    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only") as caught:
        write_atomic(tmp_path / "f.json", b"{}")
    assert caught.value.filename == str(tmp_path / "f.json")


def test_a_file_that_grows_too_large_is_named(tmp_path: Path) -> None:
    program = (
        "import resource, pathlib, sys; from hwflow.plan import write_atomic;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024));"
        "write_atomic(pathlib.Path(sys.argv[1]), bytes(5000))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "wide.json")],
                          capture_output=True, text=True, check=False)
    assert "File too large: " in done.stderr and "wide.json'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_write_atomic_never_shows_a_part(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    texts = {json.dumps([n] * 20_000).encode() for n in range(4)}
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for text in texts:
                write_atomic(path, text)

    write_atomic(path, next(iter(texts)))
    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(200):
            assert path.read_bytes() in texts
    finally:
        stop.set()
        thread.join()
    assert os.listdir(tmp_path) == ["f.json"]  # noqa: PTH208 - names only
