# SPDX-License-Identifier: Apache-2.0
"""The real stages of a network of tables, in a row: trained, exact everywhere, deployed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hwflow import build as runner
from hwflow import stages
from hwflow.report import schema
from hwflow.stages.options import options
from tests.test_stages import hide_vivado

SAMPLES = 397  # of the test split of `digits`


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build for a Zynq, in a relative folder; trained here, no download."""
    place, out = tmp_path_factory.mktemp("place"), Path("build/run")
    with pytest.MonkeyPatch.context() as patch:
        hide_vivado(patch)
        patch.chdir(place)
        chosen = options("dtnn", "pynq-z2", data="digits", luts=250)
        records = runner.build(stages.of(chosen), chosen, out)
    assert {r.name: r.reason for r in records if r.status == "failed"} == {}
    return place / out


def test_report_counts_every_sample(run: Path) -> None:
    found = schema.read(run / "report.json")
    assert (found.model, found.config, found.data.spec) == ("dtnn", "250-luts", "digits")
    assert (found.verify.hls.images, found.verify.hls.mismatches) == (SAMPLES, 0)
    assert (found.verify.rtl.frames, found.verify.rtl.mismatches) == (SAMPLES, 0)
    assert found.accuracy.images == SAMPLES and found.accuracy.float_value is None
    assert found.accuracy.value is not None and found.accuracy.value > 0.8
    clocks = json.loads((run / "sim" / "result.json").read_text())["clocks"]
    latency = json.loads((run / "rtl" / "core.json").read_text())["latency"]
    assert clocks["full speed"]["clocks"] == SAMPLES + latency  # one sample a clock
    assert clocks["stalls"]["clocks"] > clocks["full speed"]["clocks"]


def test_logic_is_tables_within_the_budget(run: Path) -> None:
    core = json.loads((run / "rtl" / "core.json").read_text())
    assert core["luts"] == sum(part["luts"] for part in core["parts"].values()) <= 250
    layers = [part for name, part in core["parts"].items() if name.startswith("layer")]
    assert layers and all(part["carries"] == 0 for part in layers)
    tree = schema.read(run / "report.json").tree
    assert tree is not None and tree.tool is not None and tree.tool.startswith("Yosys ")
    assert (tree.dsp, tree.carry, tree.memory) == (0, 0, 0)
    assert "tables_layer1" in (tree.modules or ())
    assert tree.sums is not None and tree.sums.carry == core["parts"]["sums"]["carries"] > 0
    assert "DSP, carry, memory of the trees" in (run / "report.html").read_text()
    cells = json.loads((run / "synth" / "stat.json").read_text())["design"]["num_cells_by_type"]
    assert not [name for name in cells if name.startswith(("DSP", "RAMB", "SRL"))]


def test_a_second_build_does_nothing(run: Path) -> None:
    chosen = options("dtnn", "pynq-z2", data="digits", luts=250)
    with pytest.MonkeyPatch.context() as patch:
        hide_vivado(patch)
        records = runner.build(stages.of(chosen), chosen, run)
    assert {r.name for r in records if r.status == "done"} == {"report"}


def test_its_own_file_with_the_test_split_as_vectors(run: Path, tmp_path: Path) -> None:
    """The file that the build exported, brought as anybody's: every vector in HLS, the accuracy
    that torch measured, and a Vivado project without a test split to deploy."""
    with np.load(run / "data" / "test.npz") as split:
        np.savez(tmp_path / "digits.npz", x=split["images"].reshape(SAMPLES, -1),
                 labels=split["labels"])
    chosen = options(str(run / "export" / "model.onnx"), "pynq-z2", backend="tables",
                     inputs=tmp_path / "digits.npz")
    some = tuple(stage for stage in stages.of(chosen) if stage.name not in ("sim", "synth"))
    with pytest.MonkeyPatch.context() as patch:
        hide_vivado(patch)
        records = {r.name: r for r in runner.build(some, chosen, tmp_path / "run")}
    assert {r.name: r.reason for r in records.values() if r.status == "failed"} == {}
    assert records["hls"].made.startswith(f"{SAMPLES} samples, of 8 all ")
    found, before = (schema.read(folder / "report.json") for folder in (tmp_path / "run", run))
    assert found.accuracy.images == before.accuracy.images == SAMPLES
    assert found.accuracy.value == before.accuracy.value
    assert (tmp_path / "run" / "bitstream").is_dir()
    assert not (tmp_path / "run" / "bitstream" / "deploy").exists()


@pytest.fixture
def deploy(run: Path, tmp_path: Path) -> Path:
    """The deploy folder on a `board`: a fake pynq beside it, and a bitstream."""
    folder = tmp_path / "deploy"
    shutil.copytree(run / "bitstream" / "deploy", folder)
    shutil.copyfile(Path(__file__).parent / "fake_pynq_tables.py", folder / "pynq.py")
    for suffix in ("bit", "hwh"):
        (folder / f"dtnn_250-luts.{suffix}").write_bytes(b"")
    np.save(folder / "answers.npy", np.load(folder / "samples.npz")["classes"])
    return folder


def on_board(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "run.py"], cwd=folder, text=True, capture_output=True,
                          timeout=120, check=False)  # fmt: skip


def test_deploy_folder_runs_and_compares(deploy: Path) -> None:
    samples = np.load(deploy / "samples.npz")
    right = int((samples["classes"] == samples["labels"]).sum())
    done = on_board(deploy)
    assert done.returncode == 0, done.stderr
    assert f"{SAMPLES} samples, {right} classified rightly; as expected: yes" in done.stdout
    answers = np.load(deploy / "answers.npy")
    answers[-1] ^= 1
    np.save(deploy / "answers.npy", answers)
    done = on_board(deploy)
    assert done.returncode == 1
    assert "as expected: NO" in done.stdout


def test_deploy_folder_says_what_is_missing(deploy: Path) -> None:
    (deploy / "dtnn_250-luts.hwh").unlink()
    done = on_board(deploy)
    assert done.returncode == 1
    assert "dtnn_250-luts.hwh does not exist; Vivado makes it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_checkpoint_of_other_data_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("".join(f"{i},{i * i % 7},{i % 2}\n" for i in range(99)))
    chosen = options("dtnn", "pynq-z2", data=f"csv:{tmp_path / 't.csv'}",
                     checkpoint=run / "train" / "model.safetensors")
    records = runner.build(stages.of(chosen), chosen, tmp_path / "out", "train")
    reason = str({r.name: r.reason for r in records}["train"])
    assert "takes samples of 1x8x8 and tells 10 classes" in reason
    assert "has 2x1x1 and 2; give the checkpoint of a network for it" in reason


def test_a_damaged_checkpoint_is_named_as_it_was_given(tmp_path: Path) -> None:
    given = tmp_path / "mine.safetensors"
    given.write_bytes(b"no checkpoint")
    chosen = options("dtnn", "pynq-z2", data="digits", checkpoint=given)
    records = runner.build(stages.of(chosen), chosen, tmp_path / "out", until="train")
    (reason,) = [r.reason for r in records if r.status == "failed"]
    assert str(given) in reason and not (tmp_path / "out" / "train").exists()


@pytest.mark.slow
@pytest.mark.parametrize("board", ["ulx3s-85f", "icebreaker", "tang-nano-20k"])
def test_open_boards_get_a_bitstream(board: str, tmp_path: Path) -> None:
    chosen = options("dtnn", board, data="digits", luts=250)
    records = runner.build(stages.of(chosen), chosen, tmp_path)
    assert {r.name: r.reason for r in records if r.status == "failed"} == {}
    found = schema.read(tmp_path / "report.json")
    assert found.bitstream.path is not None
    assert (tmp_path / found.bitstream.path).stat().st_size > 10_000
    assert found.timing.kind == "post-route" and found.timing.fmax_mhz
    assert found.timing.fmax_mhz >= found.performance.clock_mhz
