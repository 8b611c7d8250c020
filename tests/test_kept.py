# SPDX-License-Identifier: Apache-2.0
"""What slow programs made is taken by other runs; a damaged or a foreign entry never is."""

from __future__ import annotations

import hashlib
import io
import logging
import multiprocessing
import os
import resource
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from hwflow import boards, kept, stages
from hwflow import build as runner
from hwflow import plan as plans
from hwflow.build import Context, Outcome, Stage
from hwflow.plan import PYTHON, Command, Plan
from hwflow.stages import synthesis
from hwflow.toolchain import yosys

# Leaves a line in count.txt beside the folders each time that it really runs.
SCRIPT = """\
import pathlib, sys, time
with open("../count.txt", "a") as stream:
    stream.write("ran\\n")
time.sleep(float(sys.argv[1]))
pathlib.Path("out.txt").write_text(pathlib.Path("in.txt").read_text().upper())
print("said")
"""
INVERT = """// SPDX-License-Identifier: Apache-2.0
`default_nettype none
module invert #(parameter int unsigned WIDTH = 4) (
    input wire logic clk, input wire logic [WIDTH-1:0] a, output logic [WIDTH-1:0] y
);
  always_ff @(posedge clk) y <= ~a;
endmodule
`default_nettype wire
"""


def upper(text: str = "abc", version: str = "1", seconds: float = 0.0) -> Plan:
    command = Command((PYTHON, "job.py", str(seconds)), "job.log", version=version)
    return Plan({"job.py": SCRIPT, "in.txt": text}, (command,), ("out.txt",), "upper")


def runs(tmp_path: Path) -> int:
    path = tmp_path / "count.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


def only(store: Path) -> Path:
    (entry,) = store.glob("*.kept")
    return entry


def test_another_run_takes_it(tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = kept.execute(upper(), tmp_path / "a", store)
    again = kept.execute(upper(), tmp_path / "b", store)
    assert (first.skipped, again.skipped, runs(tmp_path)) == (False, True, 1)
    assert (tmp_path / "b" / "out.txt").read_text() == "ABC"
    assert (tmp_path / "b" / "job.log").read_text() == "said\n"
    assert (tmp_path / "b" / "in.txt").read_text() == "abc"  # the plan's files are there, too
    # The numbers are those of the run that measured.
    assert (again.seconds, again.made) == (first.seconds, first.made)
    assert again.seconds > 0 and again.made.startswith("20")
    assert kept.execute(upper(), tmp_path / "b", store).skipped
    assert runs(tmp_path) == 1


@pytest.mark.parametrize("other", [upper("abd"), upper(version="2"), upper(seconds=0.001),
                                   replace(upper(), products=("out.txt", "in.txt"))])
def test_any_difference_runs_it(tmp_path: Path, other: Plan) -> None:
    kept.execute(upper(), tmp_path / "a", tmp_path / "store")
    assert not kept.execute(other, tmp_path / "b", tmp_path / "store").skipped
    assert runs(tmp_path) == 2


def test_anew_runs_and_keeps_the_newer(tmp_path: Path) -> None:
    store = tmp_path / "store"
    kept.execute(upper(), tmp_path / "a", store)
    before = only(store).read_bytes()
    done = kept.execute(upper(), tmp_path / "a", store, anew=True)
    assert (done.skipped, runs(tmp_path)) == (False, 2)
    assert only(store).read_bytes() != before  # another time was measured
    assert kept.execute(upper(), tmp_path / "b", store).seconds == done.seconds


def test_a_run_of_before_is_kept_as_well(tmp_path: Path) -> None:
    """A folder finished before the store was there, or after it was deleted, fills it."""
    store = tmp_path / "store"
    kept.execute(upper(), tmp_path / "a", store)
    only(store).unlink()
    assert kept.execute(upper(), tmp_path / "a", store).skipped
    assert kept.execute(upper(), tmp_path / "b", store).skipped
    assert runs(tmp_path) == 1


def packed(
    files: dict[str, bytes], head: bytes = kept.HEAD, method: int = zipfile.ZIP_STORED
) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    digest = hashlib.sha256(body.getvalue()).hexdigest().encode()
    return head + digest + b"\n" + body.getvalue()


@pytest.mark.parametrize("damage", ["bit", "short", "empty", "text", "other head", "no zip"])
def test_a_damaged_entry_is_dropped(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store"
    kept.execute(upper(), tmp_path / "a", store)
    entry = only(store)
    data = entry.read_bytes()
    middle = len(data) // 2
    entry.write_bytes({
        "bit": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:],
        "short": data[:-1],
        "empty": b"",
        "text": b"\xff" * 200,
        "other head": packed({"out.txt": b"XYZ"}, b"hwflow kept 9\n"),
        "no zip": kept.HEAD + hashlib.sha256(b"x").hexdigest().encode() + b"\nx",
    }[damage])
    with caplog.at_level(logging.WARNING, "hwflow.kept"):
        done = kept.execute(upper(), tmp_path / "b", store)
    assert "was dropped" in caplog.text
    assert (done.skipped, runs(tmp_path)) == (False, 2)
    assert (tmp_path / "b" / "out.txt").read_text() == "ABC"
    assert kept.execute(upper(), tmp_path / "c", store).skipped  # and made again


def test_an_archive_that_zipfile_cannot_unpack_is_dropped(tmp_path: Path) -> None:
    """Its checksum is right, so that the archive itself is read."""
    entry = tmp_path / "x.kept"
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        body = packed({"out.txt": b"ABC" * 50}, method=method)[len(kept.HEAD) + 65 :]
        for place in range(len(body)):
            other = bytearray(body)
            other[place] ^= 0xFF
            digest = hashlib.sha256(other).hexdigest().encode()
            entry.write_bytes(kept.HEAD + digest + b"\n" + other)
            found = kept._read(entry)
            assert entry.is_file() == (found is not None)


def test_an_entry_with_other_products_is_not_used(tmp_path: Path) -> None:
    """Of good checksum, but not what its stamp says, or with names from outside of the plan."""
    store = tmp_path / "store"
    kept.execute(upper(), tmp_path / "a", store)
    stamp = (tmp_path / "a" / ".upper.stamp.json").read_bytes()
    only(store).write_bytes(packed({"out.txt": b"XYZ", "../evil.txt": b"!", "in.txt": b"!",
                                    ".upper.stamp.json": stamp}))
    done = kept.execute(upper(), tmp_path / "b", store)
    assert (done.skipped, runs(tmp_path)) == (False, 2)
    assert (tmp_path / "b" / "out.txt").read_text() == "ABC"
    assert not list(tmp_path.rglob("evil.txt"))


def test_an_entry_without_its_stamp_is_not_used(tmp_path: Path) -> None:
    store = tmp_path / "store"
    kept.execute(upper(), tmp_path / "a", store)
    only(store).write_bytes(packed({"out.txt": b"ABC"}))
    assert not kept.execute(upper(), tmp_path / "b", store).skipped


def test_a_store_that_is_no_folder_fails_nothing(tmp_path: Path) -> None:
    store = tmp_path / "file"
    store.write_text("")
    assert not kept.execute(upper(), tmp_path / "a", store / "plans").skipped
    assert (tmp_path / "a" / "out.txt").read_text() == "ABC"


def test_old_entries_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "ENTRIES", 2)
    store = tmp_path / "store"
    for text in "abcd":
        kept.execute(upper(text), tmp_path / text, store)
    assert len(list(store.glob("*.kept"))) == len(list(store.glob("*.lock"))) == 2
    assert kept.execute(upper("d"), tmp_path / "new", store).skipped


def test_the_new_entry_stays_where_the_clock_went_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "ENTRIES", 2)
    store = tmp_path / "store"
    for text in "ab":
        kept.execute(upper(text), tmp_path / text, store)
    for entry in store.glob("*.kept"):
        os.utime(entry, (4e9, 4e9))
    kept.execute(upper("c"), tmp_path / "c", store)
    assert len(list(store.glob("*.kept"))) == 2
    assert kept.execute(upper("c"), tmp_path / "new", store).skipped


@pytest.mark.parametrize("limit", [20, 600])
def test_a_full_disk_leaves_no_entry(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The products are there and said; the store has no part of them."""
    real = plans.write_atomic

    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".kept":
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            try:
                real(path, data)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
        else:
            real(path, data)

    monkeypatch.setattr(plans, "write_atomic", full)
    store = tmp_path / "store"
    with caplog.at_level(logging.WARNING, "hwflow.kept"):
        assert not kept.execute(upper(), tmp_path / "a", store).skipped
    assert "cannot be kept (File too large)" in caplog.text
    assert [path.suffix for path in store.iterdir()] == [".lock"]
    monkeypatch.undo()
    assert not kept.execute(upper(), tmp_path / "b", store).skipped


def _process(folder: Path, store: Path) -> None:
    kept.execute(upper(seconds=1.0), folder, store)


def test_two_processes_at_once_run_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_process, args=(tmp_path / name, tmp_path / "store"))
               for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert runs(tmp_path) == 1
    assert {(tmp_path / name / "out.txt").read_text() for name in "ab"} == {"ABC"}


def synth_stage(source: Path, cache: Path) -> Stage:
    """Stage synth of a small design, by the same function as that of the engine."""
    def run(ctx: Context) -> Outcome:
        ctx = replace(ctx, options=type("Options", (), {"cache": cache})())
        board = boards.load("pynq-z2")
        return synthesis.run(ctx, board, {"invert.sv": source}, "invert", {"WIDTH": 8})

    real = next(stage for stage in stages.STAGES if stage.name == "synth")
    return Stage("synth", run, keeps=real.keeps, files=lambda options: [source])


def test_synthesis_is_taken_from_the_run_beside(tmp_path: Path) -> None:
    source, cache = tmp_path / "invert.sv", tmp_path / "cache"
    source.write_text(INVERT)
    stage = synth_stage(source, cache)

    def build(folder: str, anew: bool = False) -> runner.Record:
        (record,) = runner.build((stage,), object(), tmp_path / folder, anew=anew)
        return record

    def files(folder: str) -> dict[str, bytes]:
        return {name: (tmp_path / folder / "synth" / name).read_bytes()
                for name in ("resources.json", "stat.json", "timing.json", "synth.ys")}

    first = build("a")
    assert (first.status, first.reason) == ("done", None)
    second = build("b")
    assert second.status == "cached" and second.made == first.made
    assert second.reason is not None
    assert f"by {yosys.version()} and kept since then; --no-cache measures" in second.reason
    assert 0 < second.seconds <= first.seconds  # what it took when it was measured
    assert files("b") == files("a")
    # The next build of the same folder says the same of its numbers.
    third = build("b")
    assert (third.status, third.reason, third.seconds) == ("cached", second.reason, second.seconds)
    forced = build("b", anew=True)
    assert (forced.status, forced.reason, forced.why) == ("done", None, ("it is to measure anew",))

    source.write_text(INVERT.replace("~a", "a"))
    changed = build("b")
    assert (changed.status, changed.reason) == ("done", None)
    assert build("c").status == "cached"
    assert files("c") == files("b") and files("b")["stat.json"] != files("a")["stat.json"]
