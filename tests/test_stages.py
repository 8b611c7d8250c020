# SPDX-License-Identifier: Apache-2.0
"""The real stages, in a row, on a small detector: integers, C++, RTL, project, deploy, report."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hwflow import build as runner
from hwflow import data, resources, stages
from hwflow.data import trees
from hwflow.ir import Graph
from hwflow.report import schema
from hwflow.stages import hardware
from hwflow.stages.options import BuildOptions, options
from tests import qonnx_models
from tests.test_toolchain_vivado import install_mock, needs_tclsh

# Yosys takes minutes for the whole engine; its stage has tests of its own.
QUICK = tuple(stage for stage in stages.STAGES if stage.name != "synth")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return qonnx_models.save(qonnx_models.small_detector(1, 64), folder / "small.onnx")


def chosen(model: Path, **changes: object) -> BuildOptions:
    return options(str(model), "pynq-z2", tiles=2, frames=1, **changes)


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build of the small detector, without Vivado."""
    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        hide_vivado(patch)
        records = runner.build(QUICK, chosen(model), out)
    assert {r.name: r.reason for r in records if r.status == "failed"} == {}
    return out


def hide_vivado(patch: pytest.MonkeyPatch) -> None:
    found = shutil.which
    patch.setattr(shutil, "which", lambda name, **k: None if name == "vivado" else found(name, **k))


def test_every_engine_equals_the_integer_graph(run: Path) -> None:
    report = schema.read(run / "report.json")
    assert (report.verify.qonnx.images, report.verify.qonnx.mismatches) == (2, 0)
    assert (report.verify.hls.images, report.verify.hls.mismatches) == (2, 0)
    assert (report.verify.rtl.frames, report.verify.rtl.mismatches) == (1, 0)
    assert re.fullmatch(r"qonnx \S+, onnxruntime \S+", str(report.verify.qonnx.tool))
    assert re.fullmatch(r"g\+\+ \d+\.\S+", str(report.verify.hls.tool))
    assert report.verify.rtl.tool == report.performance.tool
    assert report.accuracy.tool is None
    assert report.accuracy.value is None
    assert "QONNX file" in str(report.accuracy.reason)
    assert report.timing.fmax_mhz is None
    assert "vivado not found" in str(report.timing.reason)
    assert report.bitstream.status == "skipped"


def test_the_numbers_fit_each_other(run: Path) -> None:
    report = schema.read(run / "report.json")
    graph = Graph.load(run / "lower/graph")
    speed = report.performance
    assert speed.macs_per_frame == graph.macs() == sum(layer.macs for layer in report.layers)
    assert speed.cycles_per_frame is not None
    assert speed.fps == round(150e6 / speed.cycles_per_frame, 3)
    for queue in ("array", "lanes"):
        mine = [layer for layer in report.layers if layer.queue == queue]
        turns = sorted(turn for layer in mine for turn in layer.spans or [])
        # A queue does one thing at a time, and is done before the frame is.
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(turns))
        assert 0 < turns[-1][1] <= speed.cycles_per_frame
        assert sum(end - start for start, end in turns) == sum(layer.cycles for layer in mine)
    longest = max(layer.end_cycle or 0 for layer in report.layers)
    assert speed.cycles_per_frame - longest <= 100  # end and interrupt belong to no layer
    traffic = sum(layer.ddr_bytes for layer in report.layers)
    assert speed.ddr_bytes_per_frame is not None
    assert abs(traffic - speed.ddr_bytes_per_frame) <= 256  # bursts end at 128 byte borders
    assert all(layer.cycles >= layer.ideal_cycles for layer in report.layers if layer.macs)


def test_second_build_is_cached_and_equal(run: Path, model: Path) -> None:
    before = json.loads((run / "report.json").read_text())
    page = (run / "report.html").stat().st_mtime_ns
    with pytest.MonkeyPatch.context() as patch:
        hide_vivado(patch)
        records = runner.build(QUICK, chosen(model), run)
    assert {r.name for r in records if r.status == "done"} == {"report"}
    after = json.loads((run / "report.json").read_text())
    assert comparable(before) == comparable(after)
    assert (run / "report.html").stat().st_mtime_ns == page


def comparable(report: dict) -> dict:
    """A report, times aside."""
    rows = [
        {**row, "seconds": 0, "status": row["status"].replace("cached", "done")}
        for row in report["stages"]
    ]
    return {**report, "stages": rows}


def test_only_what_depends_on_the_board_runs_for_a_changed_board(run: Path, model: Path) -> None:
    names = {stage.name for stage in QUICK if list(stage.files(chosen(model)))}
    board = chosen(model).board_file
    depend = {s.name for s in QUICK if board in list(s.files(chosen(model)))}
    assert depend == {"hls", "rtl", "sim", "bitstream"}
    assert names - depend == {"lower", "verify"}


def test_a_board_for_estimates_only_stops_where_its_hardware_begins(
    model: Path, tmp_path: Path
) -> None:
    few = tuple(stage for stage in QUICK if stage.name not in ("verify", "hls"))
    done = {r.name: r for r in runner.build(few, options(str(model), "ultra96"), tmp_path)}
    assert done["lower"].status == "done"
    assert done["rtl"].status == "failed"
    assert "board ultra96 is for estimates only" in str(done["rtl"].reason)
    assert "hwflow estimate" in str(done["rtl"].reason)
    assert {done[name].status for name in ("sim", "bitstream")} == {"skipped"}
    assert "ultra96" in (tmp_path / "report.html").read_text()


@pytest.fixture
def deploy(run: Path, tmp_path: Path) -> Path:
    """The deploy folder on a `board`: a fake pynq beside it, and a bitstream."""
    folder = tmp_path / "deploy"
    shutil.copytree(run / "bitstream/deploy", folder)
    shutil.copyfile(Path(__file__).parent / "fake_pynq.py", folder / "pynq.py")
    for name in ("small.bit", "small.hwh"):
        (folder / name).write_bytes(b"")
    expected = json.loads((folder / "expected.json").read_text())
    (folder / "answer.json").write_text(json.dumps(expected["candidates"]))
    return folder


def on_board(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "run.py"], cwd=folder, text=True, capture_output=True,
                          timeout=120, check=False)


def test_deploy_folder_runs_and_compares(deploy: Path) -> None:
    done = on_board(deploy)
    assert done.returncode == 0, done.stderr
    assert "as expected: yes" in done.stdout
    assert len((deploy / "run.py").read_text().splitlines()) <= 19
    answer = json.loads((deploy / "answer.json").read_text())
    answer[0][0] -= 1
    (deploy / "answer.json").write_text(json.dumps(answer))
    done = on_board(deploy)
    assert done.returncode == 1
    assert "as expected: NO" in done.stdout


def test_deploy_folder_needs_its_own_program(deploy: Path) -> None:
    data = bytearray((deploy / "program.bin").read_bytes())
    data[8] ^= 1
    (deploy / "program.bin").write_bytes(data)
    done = on_board(deploy)
    assert done.returncode != 0
    assert "is not the one of layout.json" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("gone", "said"), [("pynq.py", "the package pynq is not installed; run this on a board"),
                       ("small.bit", "small.bit does not exist; Vivado makes it"),
                       ("small.hwh", "small.hwh does not exist; Vivado makes it")],
)
def test_deploy_folder_says_what_is_missing(deploy: Path, gone: str, said: str) -> None:
    (deploy / gone).unlink()
    done = on_board(deploy)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_deploy_folder_is_complete_and_honest(deploy: Path) -> None:
    names = {p.relative_to(deploy).as_posix() for p in deploy.rglob("*.*")}
    assert {"program.bin", "layout.json", "registers.toml", "photograph.npy", "photograph.png",
            "expected.json", "run.py", "README.md", "driver/accelerator.py"} <= names
    assert "NOT HERE YET" in (deploy / "README.md").read_text()
    for path in deploy.rglob("driver/*.py"):
        assert "hwflow" not in [line.split()[1].split(".")[0] for line in
                                path.read_text().splitlines() if line.startswith(("import ",
                                                                                  "from "))]


@needs_tclsh
def test_project_in_the_run_directory_is_the_checked_one(run: Path) -> None:
    calls = (run / "bitstream/tclsh-calls.txt").read_text()
    assert "create_bd_cell -type module -reference engine_top engine" in calls
    for name in (run / "bitstream/vivado/build.tcl", run / "bitstream/vivado/hwflow.xdc"):
        assert name.is_file()
    result = json.loads((run / "bitstream/result.json").read_text())
    assert "never run in Vivado" in result["check"]


def test_required_bitstream_fails_without_vivado(run: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    with pytest.MonkeyPatch.context() as patch:
        hide_vivado(patch)
        records = runner.build(QUICK, chosen(model, require=("bitstream",)), out)
    failed = [r for r in records if r.status == "failed"]
    assert [r.name for r in failed] == ["bitstream"]
    assert "vivado not found" in str(failed[0].reason)
    assert schema.read(out / "report.json").bitstream.status == "failed"


@needs_tclsh
@pytest.mark.parametrize("slack", [0.2, -0.2])
def test_with_vivado(
    run: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slack: float
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    install_mock(tmp_path / "bin", monkeypatch, slack)
    records = {r.name: r for r in runner.build(QUICK, chosen(model), out)}
    report = schema.read(out / "report.json")
    if slack < 0:
        assert records["bitstream"].status == "failed"
        assert "timing is not met" in str(records["bitstream"].reason)
        assert report.bitstream.status == "failed"
        return
    assert records["bitstream"].status == "done", records["bitstream"].reason
    assert {r.name for r in records.values() if r.status == "done"} == {"bitstream", "report"}
    assert report.bitstream.path == "bitstream/small.bit"
    assert (out / report.bitstream.path).is_file()
    assert (out / "bitstream/deploy/small.hwh").is_file()
    assert report.resources.kind == "post-route"
    assert report.resources.lut == schema.Used(used=31_234, available=53_200)
    assert report.timing.tool == "Vivado 2022.2"


def test_a_changed_weight_is_found(run: Path, model: Path, tmp_path: Path) -> None:
    """The comparison of the RTL can fail: a graph of another bias is not what the program does."""
    from hwflow import boards
    from hwflow.errors import VerifyError

    graph = Graph.load(run / "lower/graph")
    constants = dict(graph.constants)
    name = next(n for n in constants if n.endswith("bias"))
    constants[name] = constants[name] + 64
    other = Graph(graph.name, graph.inputs, graph.outputs, graph.nodes, graph.tensors, constants,
                  graph.meta)
    with pytest.raises(VerifyError):
        hardware.run_frames(
            boards.load("pynq-z2"), other, (run / "rtl/program.bin").read_bytes(),
            np.zeros((1, *graph.tensors[graph.inputs[0]].shape), np.uint8), "x", tmp_path,
        )


@pytest.mark.parametrize("stage", ["verify", "hls"])
def test_kill_and_run_again_gives_the_same_report(
    run: Path, model: Path, tmp_path: Path, stage: str
) -> None:
    out = tmp_path / "run"
    words = [sys.executable, "-m", "hwflow", "build", str(model), "--tiles", "2", "--frames", "1",
             "--until", "hls", "--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while not (out / ".partial" / stage).exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (out / stage).exists()
    assert not (out / "report.json").exists()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True, timeout=600)
    report = comparable(json.loads((out / "report.json").read_text()))
    fresh = tmp_path / "fresh"
    subprocess.run([*words[:-1], str(fresh)], stdout=subprocess.DEVNULL, check=True, timeout=600)
    assert report == comparable(json.loads((fresh / "report.json").read_text()))


def test_nothing_needs_a_network(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*address: object) -> None:
        raise AssertionError(f"a connection was opened: {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "create_connection", connect)
    # What pip would do, were it called, ends at an index that is not there.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    records = runner.build(QUICK, chosen(model), tmp_path / "run", until="hls")
    assert [r.status for r in records[3:6]] == ["done"] * 3
    # only where `hwflow data get trees` has been done
    if (data.default_cache() / trees.ARCHIVE.file).is_file():
        records = runner.build(
            QUICK, options("codenet", "pynq-z2"), tmp_path / "trees", until="data"
        )
        assert records[0].status == "done", records[0].reason


def test_wheel_holds_everything_the_flow_reads(tmp_path: Path) -> None:
    root = resources.path("hdl").parent
    if not (root / "pyproject.toml").is_file():
        pytest.skip("not a checkout")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copyfile(root / name, source / name)
    for name in ("hwflow", *resources.FOLDERS):
        shutil.copytree(root / name, source / name,
                        ignore=shutil.ignore_patterns("__pycache__", "_data"))
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--no-index", "--target", site, source], check=True, timeout=300, cwd=tmp_path,
    )
    inside = {p.relative_to(site / "hwflow").as_posix() for p in (site / "hwflow").rglob("*")
              if p.is_file() and "__pycache__" not in p.parts}
    ours = {p.relative_to(root / "hwflow").as_posix() for p in (root / "hwflow").rglob("*")
            if p.is_file() and "__pycache__" not in p.parts}
    assert ours <= inside
    for name in resources.FOLDERS:
        files = {f"_data/{p.relative_to(root).as_posix()}" for p in (root / name).rglob("*.*")
                 if p.is_file() and p.suffix in (".sv", ".hpp", ".toml", ".f", ".vlt")}
        assert files <= inside, files - inside
    code = ("import sys; sys.path.insert(0, sys.argv[1])\n"
            "from hwflow import boards, resources\n"
            "from hwflow.toolchain import yosys\n"
            "print(resources.path('hdl')); print(boards.names()); print(len(yosys.sources()))")
    done = subprocess.run([sys.executable, "-c", code, str(site)], text=True, check=True,
                          capture_output=True, cwd=tmp_path, timeout=120)
    assert str(site / "hwflow/_data/hdl") in done.stdout
    assert "pynq-z2" in done.stdout
