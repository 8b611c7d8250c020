# SPDX-License-Identifier: Apache-2.0
"""`hwflow bench engine`: its numbers are those of the simulation, and add up."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwflow import bench, boards
from hwflow import build as runner
from hwflow.emit.engine import compile_graph
from hwflow.errors import ConfigError
from hwflow.ir import Graph
from hwflow.report import schema
from hwflow.stages import hardware
from hwflow.stages.options import options
from hwflow.stages.results import write_json
from tests import qonnx_models

PYNQ = boards.load("pynq-z2")
OWN, SLOW = 1050.0, 100.0
# A frame of 1000 cycles by hand: (tag, queue, first cycle, cycle after the last).
SPANS = [
    [1, 0, 100, 300], [2, 0, 300, 350], [3, 0, 500, 700], [4, 0, 720, 800],
    [11, 1, 0, 90], [12, 1, 90, 200], [13, 1, 310, 490], [14, 1, 780, 950],
]  # fmt: skip
NODES = {"1": "conv", "2": "pw", "3": "pw2", "4": "pw3",
         "11": "load.image", "12": "dw", "13": "dw2", "14": "peaks"}  # fmt: skip


def layer(name: str, op: str, queue: str, cycles: int, ideal: int, start: int) -> dict[str, object]:
    return {"name": name, "op": op, "cycles": cycles, "ideal_cycles": ideal, "macs": 10 * ideal,
            "ddr_bytes": 32, "queue": queue, "start_cycle": start, "end_cycle": start + cycles,
            "spans": [[start, start + cycles]]}  # fmt: skip


def result(mb_s: float = OWN, cycles: int = 1000) -> dict[str, object]:
    """What a stage `frame-...` leaves, by hand."""
    return {
        "tool": "Verilator 5.48.0", "ddr_mb_s": mb_s, "tensors": 7, "mismatches": 0,
        "performance": {
            "kind": "measured in simulation", "tool": "Verilator 5.48.0",
            "cycles_per_frame": cycles, "clock_mhz": 150.0, "fps": round(150e6 / cycles, 3),
            "macs_per_frame": 40_000, "mac_utilisation": 0.08, "ddr_bytes_per_frame": 500,
        },
        "ideal_cycles": 400, "model_cycles": 950, "sim_seconds": 1.25, "sim_cpu_seconds": 1.0,
        "layers": [layer("conv", "conv", "array", 200, 150, 100),
                   layer("pw", "pw", "array", 50, 40, 300),
                   layer("pw2", "pw", "array", 200, 190, 500),
                   layer("dw2", "dw", "lanes", 180, 100, 310)],
        "model": {"conv": 200, "pw": 52, "pw2": 180, "dw2": 188, "never ran": 5},
        "spans": SPANS, "nodes": NODES,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The run directory of configuration b, as far as a record reads it."""
    out = tmp_path / "codenet-b-pynq-z2"
    for rate, content in ((OWN, result()), (500.0, result(500.0, 1600))):
        (out / bench.stage_name(rate)).mkdir(parents=True)
        write_json(out / bench.stage_name(rate) / "result.json", content)
    (out / "data").mkdir()
    write_json(out / "data/provenance.json", {"tiles": [3, 9], "spec": "trees"})
    return out


def test_a_record_is_what_the_simulation_left(run: Path) -> None:
    one = bench.record(options("codenet", "pynq-z2", "b"), (OWN, 500.0), run)
    assert (one.config, one.input_size, one.width, one.classes) == ("b", 256, 1, 20)
    assert (one.cycles_per_frame, one.fps, one.ideal_cycles, one.utilisation) == (
        1000, 150_000.0, 400, 0.4)
    assert (one.ddr_bytes, one.mismatches, one.tensors_compared) == (500, 0, 7)
    assert (one.paper_fps, one.ratio) == (26.9, round(150_000 / 26.9, 2))
    assert (one.model_cycles, one.model_error_percent) == (950, -5.0)
    assert (one.worst_layer, one.worst_layer_error_percent) == ("pw2", -10.0)
    assert (one.layers, one.layers_within_5_percent) == (4, 3)  # pw +4 %, dw2 +4.4 %
    assert [(loss.layer, loss.cycles, loss.percent) for loss in one.losses] == [
        ("dw2", 80, 8.0), ("conv", 50, 5.0), ("pw", 10, 1.0)]
    assert (one.array_busy_percent, one.lanes_busy_percent) == (53.0, 55.0)
    assert one.other_ddr == (bench.OtherDdr(0.5, 1600, 93_750.0, 500, 0),)
    assert "codenet_b_trees.safetensors" in one.weights
    assert one.photograph == "number 3 of the test split of trees"
    assert one.kind == "measured in simulation"


def test_why_the_array_waited() -> None:
    waits = bench.array_waits(SPANS, NODES, 1000)
    assert {(wait.layer, wait.cycles) for wait in waits} == {
        ("dw2", 150),  # 350 to 500
        ("peaks", 150),  # 800 to 950
        ("load.image", 100),  # 0 to 100
        (bench.END, 50),  # 950 to 1000
        (bench.OWN, 20),  # 700 to 720: nothing of the lanes was completed
    }
    busy = sum(end - start for _, queue, start, end in SPANS if queue == 0)
    assert sum(wait.cycles for wait in waits) == 1000 - busy
    assert [wait.cycles for wait in waits] == sorted((w.cycles for w in waits), reverse=True)
    alone = bench.array_waits([[1, 0, 40, 90]], {"1": "pw"}, 100)
    assert [(wait.layer, wait.cycles) for wait in alone] == [(bench.START, 40), (bench.END, 10)]


def test_records_survive_their_file(run: Path) -> None:
    chosen = options("codenet", "pynq-z2", "b")
    one = bench.record(chosen, (OWN, 500.0), run)
    path = run.parent / "bench.json"
    bench.write(path, [one], {"d": "stage rtl: too large"})
    assert bench.read(path).records == (one,)
    content = json.loads(path.read_text())
    assert content["failed"] == {"d": "stage rtl: too large"}
    keys = {"cycles_per_frame", "fps", "ideal_cycles", "utilisation", "ddr_bytes", "mismatches",
            "paper_fps", "ratio", "model_cycles", "losses"}
    assert keys <= set(content["records"][0])
    with pytest.raises(ConfigError, match="run `hwflow bench engine` first"):
        bench.read(run / "none.json")


def test_damaged_files_are_named(run: Path) -> None:
    """Whatever the file holds, one sentence names it, the wrong key and the way out."""
    one = bench.record(options("codenet", "pynq-z2", "b"), (OWN, 500.0), run)
    path = run.parent / "bench.json"
    bench.write(path, [one], {"d": "stage rtl: too large"})
    good = path.read_text()
    for text, said in (
        (good[: len(good) // 2], "file: Invalid JSON"),
        (good.replace('"ratio"', '"rate"'), "records.0.ratio: Field required"),
        (good.replace('"schema": 1', '"schema": 2'), "schema: Input should be 1"),
        (good.replace('"fps": 150000.0', '"fps": null'), "records.0.fps: Input should be"),
        (good.replace('"model_error_percent": -5.0', '"model_error_percent": "-5"'),
         "records.0.model_error_percent"),
        ("[" * 100_000, "recursion limit"), ("[]", "file: Input should be"), ("", "Invalid JSON"),
        ("\0", "Invalid JSON"),
    ):  # fmt: skip
        assert text != good
        path.write_text(text)
        with pytest.raises(ConfigError, match="run it again") as caught:
            bench.read(path)
        assert str(path) in str(caught.value) and said in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        bench.read(run)


def test_what_a_file_lacks_is_said(run: Path) -> None:
    one = bench.record(options("codenet", "pynq-z2", "b"), (OWN, 500.0), run)
    path = run.parent / "bench.json"
    bench.write(path, [one], {"d": "stage rtl: too large"})
    assert bench.chosen_of(path, None) == bench.chosen_of(path, ("b",)) == (one,)
    lacks = r"no frame of a, d \(failed: stage rtl: too large\), only of b; run `hwflow bench"
    with pytest.raises(ConfigError, match=lacks):
        bench.chosen_of(path, ("a", "b", "d"))
    bench.write(path, [], {"d": "stage rtl: too large"})
    with pytest.raises(ConfigError, match=r"bench.json: holds no frame; run `hwflow bench engine`"):
        bench.chosen_of(path, None)


def test_tables(run: Path) -> None:
    one = bench.record(options("codenet", "pynq-z2", "b"), (OWN, 500.0), run)
    other = dataclasses.replace(one, config="g", paper_fps=None, ratio=None, other_ddr=())
    text = bench.markdown([one, other])
    lines = text.splitlines()
    assert lines[2].startswith("| b | 400 | 1,000 | 40.0 % | -5.0 % | 500 | 150,000.0 | 26.9 | ")
    assert "dw2 80, conv 50, pw 10" in lines[2]
    assert "| - | - |" in lines[3]  # the paper has no configuration g
    assert "| b | 1,600 (93,750.0 fps) | 1,000 (150,000.0 fps) |" in lines
    assert "| g | - | 1,000 (150,000.0 fps) |" in lines
    assert "measured in simulation (Verilator 5.48.0)" in text
    # Goals are the five configurations' on one board
    assert "| b | 1,111,000 | 790,000 | 1,000 | kept | kept |" in lines
    assert not any(line.startswith("| g |") and "kept" in line for line in lines)
    slow = dataclasses.replace(one, cycles_per_frame=869_000)
    missed = "| b | 1,111,000 | 790,000 | 869,000 | kept | **missed** by 79,000 (10.0 %) |"
    assert missed in bench.markdown([slow]).splitlines()
    assert "kept" not in bench.markdown([other, dataclasses.replace(one, board="other")])
    table = bench.render([one, other])
    assert (len(table.columns), table.row_count) == (len(bench.COLUMNS), 2)


def test_a_page_has_the_timeline(run: Path) -> None:
    chosen = options("codenet", "pynq-z2", "b")
    records = (runner.Record("frame-1050", "done", 1.0, "1 frame"),)
    path = bench.page(run.parent / "pages", chosen, records, OWN, run)
    assert path == run.parent / "pages/codenet-b-pynq-z2.html"
    text = path.read_text()
    assert 'id="timeline"' in text
    assert "Queue array: 3 layers" in text


@pytest.mark.parametrize("text", ["", "b,x", "b,b", " , "])
def test_wrong_configurations(text: str) -> None:
    with pytest.raises(ConfigError, match="give some of a, b, c, d, e, f, g"):
        bench.configs(text)


def test_rates() -> None:
    assert bench.rates("", PYNQ) == (1050.0,)
    assert bench.rates("0.5, 1.05,2.1", PYNQ) == (1050.0, 500.0, 2100.0)
    for text in ("fast", "0", "-1", "nan", "inf", "1e400", "1e-4", "0.5;1"):
        with pytest.raises(ConfigError, match="--ddr"):
            bench.rates(text, PYNQ)


def hwflow(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hwflow", *map(str, words)], cwd=cwd, text=True, timeout=300,
        capture_output=True, check=False,
    )


def test_command_line(run: Path) -> None:
    cwd = run.parent
    for words, said in (
        (("--configs", "z"), "give some of a, b"), (("--ddr", "fast"), "--ddr 'fast'"),
        (("--board", "ultra96"), "board ultra96 is for estimates only"),
        (("--show",), "run `hwflow bench engine` first"),
        # before any frame runs
        (("--into", "none.md"), "--into none.md: cannot be read (No such file or directory)"),
    ):
        refused = hwflow("bench", "engine", *words, cwd=cwd)
        assert refused.returncode == 1
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr
    one = bench.record(options("codenet", "pynq-z2", "b"), (OWN, 500.0), run)
    bench.write(cwd / "build/bench-engine.json", [one], {})
    shown = hwflow("bench", "engine", "--show", cwd=cwd)
    assert shown.returncode == 0, shown.stderr
    assert "dw2 80" in shown.stdout
    printed = hwflow("bench", "engine", "--show", "--markdown", cwd=cwd)
    assert printed.stdout == bench.markdown([one])
    page = cwd / "page.md"
    first, last = "<!-- hwflow bench engine -->", "<!-- end of engine -->"
    page.write_text(f"before\n{first}\nold\n{last}\nafter\n")
    for _ in range(2):
        hwflow("bench", "engine", "--show", "--into", "page.md", cwd=cwd)
        assert page.read_text() == (
            f"before\n{first}\n{bench.markdown([one])}{last}\nafter\n"
        )
    page.write_text("no marks")
    refused = hwflow("bench", "engine", "--show", "--into", "page.md", cwd=cwd)
    assert refused.returncode == 1
    assert "has no lines <!-- hwflow bench engine -->" in refused.stderr
    assert refused.stdout == ""
    refused = hwflow("bench", "engine", "--show", "--configs", "b,c", cwd=cwd)
    assert refused.returncode == 1
    assert "holds no frame of c, only of b" in refused.stderr
    # The estimate states what this bench measured of the model.
    estimate = json.loads(hwflow("estimate", "codenet", "--json", "-", cwd=cwd).stdout)
    assert estimate["model_error"]["frame_percent"] == -5.0


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_configuration_that_fails_is_named(tmp_path: Path, jobs: int) -> None:
    """Without photographs no configuration runs; both say so, and the file has no record."""
    cache = tmp_path / "cache"
    cache.write_text("a file where the folder of the downloads should be")
    done = subprocess.run(
        [sys.executable, "-m", "hwflow", "bench", "engine", "--configs", "a,g", "--jobs",
         str(jobs)],
        cwd=tmp_path, text=True, capture_output=True, timeout=300, check=False,
        env={**os.environ, "HOME": str(cache), "PIP_INDEX_URL": "http://127.0.0.1:9/"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert "configuration a: stage data" in done.stderr
    assert "configuration g: stage data" in done.stderr
    content = json.loads((tmp_path / "build/bench-engine.json").read_text())
    assert set(content["failed"]) == {"a", "g"}
    assert content["records"] == []


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[bench.BenchRecord, Path]:
    """The bench of a small detector, in the RTL simulation, with two memories."""
    out = tmp_path_factory.mktemp("bench")
    model = qonnx_models.save(qonnx_models.small_detector(1, 64), out / "small.onnx")
    chosen = options(str(model), "pynq-z2")
    found, records = bench.measure(chosen, (OWN, SLOW), out / "run")
    assert found is not None, [r.reason for r in records if r.status == "failed"]
    again, records = bench.measure(chosen, (OWN, SLOW), out / "run")
    assert again == found
    assert {r.status for r in records} <= {"cached", "skipped"}  # a second call is quick
    return found, out / "run"


def test_frames_of_a_small_network(small: tuple[bench.BenchRecord, Path]) -> None:
    found, run = small
    graph = Graph.load(run / "lower/graph")
    assert found.mismatches == 0
    assert found.macs_per_frame == graph.macs()
    params = hardware.engine_params(PYNQ)
    assert found.ideal_cycles == hardware.ideal_cycles(graph, params) < found.cycles_per_frame
    assert found.model_cycles == compile_graph(graph, params).model_cycles
    (slow,) = found.other_ddr
    assert slow.cycles_per_frame > found.cycles_per_frame  # a tenth of the bandwidth
    main = json.loads((run / "frame-1050/result.json").read_text())
    layers = [schema.Layer(**row) for row in main["layers"]]
    assert sum(one.ddr_bytes for one in layers) <= found.ddr_bytes
    busy = {queue: sum(end - start for _, number, start, end in main["spans"] if number == queue)
            for queue in (0, 1)}  # fmt: skip
    for queue, name in enumerate(("array", "lanes")):
        assert sum(one.cycles for one in layers if one.queue == name) == busy[queue]
    waits = bench.array_waits(main["spans"], main["nodes"], found.cycles_per_frame)
    assert sum(wait.cycles for wait in waits) == found.cycles_per_frame - busy[0]


@pytest.mark.slow
@pytest.mark.parametrize(("config", "most"), [("a", 931_000), ("b", 1_111_000)])
def test_five_times_the_paper(config: str, most: int, tmp_path: Path) -> None:
    chosen, _ = bench.run_of(config, "pynq-z2")
    found, records = bench.measure(chosen, (OWN,), tmp_path)
    assert found is not None, [r.reason for r in records if r.status == "failed"]
    assert found.mismatches == 0
    assert found.cycles_per_frame <= most
    assert found.ratio is not None
    assert found.ratio >= 5
    assert abs(found.model_error_percent) <= 5
