# SPDX-License-Identifier: Apache-2.0
"""Bad input gets one clear sentence and an exit code, never a traceback; help has examples."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwflow import cli, resources
from hwflow.stages import NAMES
from hwflow.stages.options import models
from tests import table_graphs as tables
from tests.test_report import content, write

COMMANDS = ("build", "train", "data", "boards", "doctor", "sim", "report", "compare", "bench",
            "estimate")


def hwflow(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hwflow", *map(str, words)], cwd=cwd, text=True, timeout=300,
        capture_output=True, env={**os.environ, "COLUMNS": "120", **env}, check=False,
    )


def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode != 0
    assert "Traceback" not in done.stderr + done.stdout
    for part in parts:
        assert part in done.stderr, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str, tmp_path: Path) -> None:
    done = hwflow(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"hwflow {command}" in done.stdout


def test_no_command_shows_help(tmp_path: Path) -> None:
    assert "build" in hwflow(cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["build", "resnet"], ["model 'resnet' is not known", "codenet"]),
        (["build", "codenet", "--board", "zedboard"], ["board 'zedboard'", "pynq-z2"]),
        (["build", "codenet", "--config", "z"], ["--config 'z'", "a, b, c, d, e, f, g"]),
        (["build", "codenet", "--until", "lunch"], ["--until 'lunch'", "verify, hls, rtl"]),
        (["build", "codenet", "--require", "money"], ["--require 'money'", "bitstream"]),
        (["build", "codenet", "--data", "cats"], ["--data 'cats'", "voc:PATH"]),
        (["build", "dtnn", "--config", "b"], ["--config 'b'", "small, medium, large"]),
        (["build", "dtnn", "--luts", "5"], ["--luts 5", "give 100"]),
        (["build", "dtnn", "--luts", "500", "--config", "small"], ["--luts", "one of the two"]),
        (["build", "dtnn", "--data", "trees"], ["--data 'trees'", "mnist"]),
        (["build", "dtnn", "--data", "csv:none.csv", "--until", "data"], ["none.csv"]),
        (["build", "codenet", "--board", "icebreaker"], ["icebreaker", "board with an engine"]),
        (["build", "codenet", "--config", "a", "--preset", "b"], ["--preset", "one of the two"]),
        (["train", "dtnn", "--widths", "1,x"], ["--widths '1,x'", "whole numbers"]),
        (["train", "dtnn", "--data", "digits", "--widths", "7"], ["7 roots for 10 classes"]),
        (["build", "codenet", "--tiles", "1"], ["--frames 2", "--tiles 1"]),
        (["build", "codenet", "--checkpoint", "no.safetensors"], ["no.safetensors is not a file",
                                                                   "hwflow train"]),
        (["build", "codenet", "--seed", "-1"], ["--seed -1", "0 to 4294967295"]),
        (["train", "codenet", "--seed", "-1"], ["--seed -1", "0 to 4294967295"]),
        (["train", "codenet", "--threads", "0"], ["threads 0", "at least 1"]),
        (["build", "./no.onnx"], ["no.onnx does not exist"]),
        (["build", "no.onnx"], ["no.onnx does not exist"]),
        (["build", "./x.onnx", "--config", "b"], ["--luts and --checkpoint belong to our"]),
        (["build", "./x.onnx", "--data", "trees"], ["--data belongs to our", "--inputs"]),
        (["build", "./"], ["is a folder"]),
        (["build", "codenet", "--require", "rtl", "--until", "lower"], ["--require rtl: --until"]),
        (["inspect", "dtnn"], ["takes codenet or a file", "RUN/export/model.onnx"]),
        (["estimate", "./x.onnx", "--config", "b"], ["--config belongs to our models"]),
        (["report", "run", "--out", "x.json"], ["--out: of `hwflow report read"]),
        (["report", "run", "--board", "ultra96", "--clock", "c"], ["--board, --clock: of"]),
        (["boards", "zedboard"], ["board 'zedboard' is not known"]),
        (["report", "nowhere"], ["nowhere: there is no such run", "hwflow build"]),
        (["report", "a", "b"], ["takes one run", "hwflow compare"]),
        (["report", "read"], ["takes one or more files", "csynth.xml"]),
        (["report", "read", "none.rpt"], ["none.rpt: cannot be read"]),
        (["compare", "a"], ["takes 2 to 26 runs, 1 given"]),
        (["compare", "nowhere", "b"], ["nowhere: there is no such run", "--update-baseline"]),
        (["compare", "a", "b", "--fail-if", "lut"], ["'lut' is not NAME", "'lut>+2%'"]),
        (["compare", "a", "b", "--fail-if", "lut>2%"], ["needs its sign", "'lut>+2%'"]),
        (["compare", "a", "--update-baseline"], ["--update-baseline takes a baseline"]),
        (["data", "show", "cats"], ["data 'cats'", "trees"]),
        (["sim", "nowhere", "x.png"], ["nowhere/report.json"]),
        (["build"], ["Missing argument"]),
        (["bild"], ["bild"]),
        (["build", "codenet", "--tiles", "many"], ["--tiles", "integer"]),
    ],
)
def test_wrong_words(
    words: list[str], parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["hwflow", *words])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code not in (0, None)
    printed = capsys.readouterr()
    for part in parts:
        assert part in printed.err
    assert not list(tmp_path.iterdir())  # nothing half-made is left


def test_truncated_model_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07\x12 not a model")
    done = hwflow("build", "./m.onnx", "--until", "lower", "--out", "run", cwd=tmp_path)
    refused(done, "stage lower", "m.onnx", "log: run/logs/lower.log")
    assert not (tmp_path / "run/lower").exists()
    assert '"failed"' in (tmp_path / "run/report.json").read_text()


@pytest.mark.parametrize("data", [b"", b"junk", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_damaged_checkpoint(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    done = hwflow("build", "codenet", "--data", "digits", "--checkpoint", path, "--until", "train",
                  "--out", "run", cwd=tmp_path)
    refused(done, "stage train", "weights.safetensors")
    assert not (tmp_path / "run/train").exists()


def test_checkpoint_of_another_network(tmp_path: Path) -> None:
    shipped = Path(resources.__file__).parent / "checkpoints/codenet_b_trees.safetensors"
    done = hwflow("build", "codenet", "--data", "digits", "--checkpoint", shipped, "--until",
                  "train", "--out", "run", cwd=tmp_path)
    refused(done, "holds a quantised network of config b for 1 classes", "hwflow train")


def test_missing_voc_folder(tmp_path: Path) -> None:
    done = hwflow("build", "codenet", "--data", "voc:nowhere", "--until", "data", "--out", "run",
                  cwd=tmp_path)
    refused(done, "stage data", "nowhere")


def test_out_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    done = hwflow("build", "codenet", "--data", "digits", "--until", "data", "--out", "run",
                  cwd=tmp_path)
    refused(done, "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_rights(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    done = hwflow("build", "codenet", "--data", "digits", "--until", "data", "--out", "locked/run",
                  cwd=tmp_path)
    refused(done, "Permission denied")


def test_too_little_memory_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy() -> None:
        raise MemoryError("Unable to allocate 8.94 GiB")

    monkeypatch.setattr(cli, "app", greedy)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert printed.startswith("error: more memory is needed than there is (Unable to allocate")


def test_pictures_for_sim(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write(run, content())
    refused(hwflow("sim", run, "x.png", cwd=tmp_path), "holds no program", "hwflow build")
    tables.network([tables.Layer(12, 4)], shape=(4, 4), groups=3).save(run / "lower" / "graph")
    refused(hwflow("sim", run, "x.png", cwd=tmp_path), "run: is of no detector", "--inputs")


def test_photograph_is_read_cut_and_resized(tmp_path: Path) -> None:
    from hwflow.errors import DataError
    from hwflow.interactive import photograph

    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "same.png")
    assert (photograph(tmp_path / "same.png", 64, 64) == pixels.transpose(2, 0, 1)).all()
    grey = Image.new("L", (300, 100), 77)
    grey.save(tmp_path / "grey.png")
    assert (photograph(tmp_path / "grey.png", 64, 64) == 77).all()
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        photograph(tmp_path / "none.png", 64, 64)
    whole = (tmp_path / "same.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    for name in ("cut.png", "text.png"):
        with pytest.raises(DataError, match=f"{name}: not a complete image|{name}: .*JPEG, PNG"):
            photograph(tmp_path / name, 64, 64)


def test_an_ascii_terminal_is_no_accident(tmp_path: Path) -> None:
    done = hwflow("build", "codenet", "--data", "digits:4", "--until", "data", "--out", "run",
                  cwd=tmp_path, LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr
    assert "data" in done.stdout


def test_boards_and_report_of_a_run(tmp_path: Path) -> None:
    assert "xc7z020" in hwflow("boards", cwd=tmp_path).stdout
    assert "MT41J256M16" in hwflow("boards", "pynq-z2", cwd=tmp_path).stdout
    write(tmp_path, content())
    assert "16,298" in hwflow("report", ".", cwd=tmp_path).stdout
    assert "cycles a frame" in hwflow("compare", ".", "report.json", cwd=tmp_path).stdout


def test_one_wrong_board_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(resources.path("boards"), tmp_path / "boards")
    (tmp_path / "boards/broken.toml").write_text('name = "broken"')
    monkeypatch.setattr(resources, "path", lambda name: tmp_path / name)
    monkeypatch.setattr(sys, "argv", ["hwflow", "boards"])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    printed = capsys.readouterr()
    assert "xc7z020" in printed.out
    assert "broken.toml: key title is missing" in printed.err


def test_doctor_names_what_is_missing(tmp_path: Path) -> None:
    done = hwflow("doctor", cwd=tmp_path, PATH=str(tmp_path))
    refused(done, "g++, make, perl")
    assert "vivado" in done.stdout


def test_stages_are_those_of_the_design() -> None:
    assert NAMES == ("data", "train", "export", "lower", "verify", "hls", "rtl", "sim", "synth",
                     "bitstream", "report")
    assert models() == ("codenet", "dtnn")


def test_nothing_heavy_is_imported_to_look_at_a_build(tmp_path: Path) -> None:
    code = (
        "import sys, hwflow.cli, hwflow.stages, hwflow.build, hwflow.report.terminal\n"
        "heavy = {'torch', 'onnx', 'matplotlib', 'brevitas', 'numpy', 'cocotb', 'qonnx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=tmp_path)
    assert done.stdout.strip() == "[]"


def test_second_build_of_the_data_is_cached(tmp_path: Path) -> None:
    words = ("build", "codenet", "--data", "digits", "--until", "data", "--out", "run")
    first = hwflow(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    before = {p: p.read_bytes() for p in (tmp_path / "run/data").iterdir()}
    start = time.monotonic()
    second = hwflow(*words, "--explain", cwd=tmp_path)
    assert time.monotonic() - start < 30
    assert "cached" in second.stdout
    assert before == {p: p.read_bytes() for p in (tmp_path / "run/data").iterdir()}
    third = hwflow(*words, "--seed", 5, "--explain", cwd=tmp_path)
    assert "ran because: option seed: 0 -> 5" in third.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_refuses_another_python(tmp_path: Path) -> None:
    root = resources.path("hdl").parent
    if not (root / "Makefile").is_file():
        pytest.skip("not a checkout")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")  # says no to every question about its version
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "-C", root, "setup", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode != 0
    assert "is not Python 3.11 or 3.12; run make PYTHON=" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_says_how_to_go_on(tmp_path: Path, how: int) -> None:
    words = ["build", "codenet", "--data", "digits:400", "--until", "train", "--out", "run"]
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal, sys\n"
         "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
         "from hwflow.cli import main\nmain()", *words],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run/.partial").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted; the same command goes on" in error
    assert "Traceback" not in error
