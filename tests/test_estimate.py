# SPDX-License-Identifier: Apache-2.0
"""The estimate says what the compiler and the cycle model would say of the real network."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hwflow import bench, boards, estimate, ingest, passes, resources
from hwflow.emit.engine import Program, Step, banks, compile_graph, order, timeline
from hwflow.emit.engine.operation import Operation
from hwflow.errors import ConfigError
from hwflow.ir import GraphBuilder, IntType
from hwflow.models import shapes
from hwflow.report import schema
from hwflow.stages.hardware import engine_params, ideal_cycles
from tests import qonnx_models
from tests.graphs import random_codenet_graph
from tests.test_report import content, write

PYNQ, ULTRA = boards.load("pynq-z2"), boards.load("ultra96")
# Depthwise, deformable and first-layer MACs of configuration b from the published layer table;
# all the others are 1x1.
DEPTHWISE_B = (
    221_184 + 534_528 + 1_603_584 + 2 * 267_264 + 1_870_848 + 2 * 133_632 + 400_896  # stages
    + 3 * 2_359_296  # heads
)  # fmt: skip
DEFORMABLE_B = 589_824 + 589_824 + 1_179_648
FIRST_B = 10_616_832


def of_shapes(config: str) -> estimate.Graph:
    return estimate.codenet_graph(shapes.codenet(config))


@pytest.fixture(scope="module")
def b() -> estimate.Estimate:
    return estimate.estimate(of_shapes("b"), PYNQ, "codenet", "b")


def steps_equal(config: str, columns: int = 24) -> None:
    """The same operations at the same addresses and times, whatever the weights are."""
    params = dataclasses.replace(engine_params(PYNQ), columns=columns)
    ours = compile_graph(of_shapes(config), params)
    real = compile_graph(random_codenet_graph(config, 20, seed=3), params)
    assert ours.model_cycles == real.model_cycles
    assert ours.steps == real.steps
    assert len(ours.stream) == len(real.stream)


def test_shapes_alone_make_the_same_program() -> None:
    steps_equal("b")


@pytest.mark.slow
@pytest.mark.parametrize("config", "acdefg")
def test_shapes_alone_make_the_same_program_everywhere(config: str) -> None:
    steps_equal(config)


@pytest.mark.slow
@pytest.mark.parametrize("config", "ab")
def test_shapes_are_those_of_the_exported_network(config: str, tmp_path: Path) -> None:
    import torch

    from hwflow.export import export_qonnx
    from hwflow.stages.torch_half import untrained

    torch.set_num_threads(1)
    model = untrained(config)
    export_qonnx(model, tmp_path / "model.onnx", model.cfg.input_size)
    graph = passes.lower(ingest.read(tmp_path / "model.onnx"))
    assert ideal_cycles(graph, engine_params(PYNQ)) == ideal_cycles(
        of_shapes(config), engine_params(PYNQ)
    )
    real = estimate.estimate(graph, PYNQ, "codenet", config)
    ours = estimate.estimate(of_shapes(config), PYNQ, "codenet", config)
    assert real == ours


def test_ideal_cycles_are_the_published_arithmetic(b: estimate.Estimate) -> None:
    assert b.macs_per_frame == 249_910_784  # with the 1x1 layers moved before the upsampling
    pointwise = b.macs_per_frame - DEPTHWISE_B - DEFORMABLE_B - FIRST_B
    exact = pointwise / 384 + FIRST_B / 192
    assert 0 <= b.ideal_cycles - exact <= 60  # each layer is rounded up to a whole cycle
    assert b.utilisation == round(b.ideal_cycles / b.cycles_per_frame, 4)
    assert b.fps == round(150e6 / b.cycles_per_frame, 3)
    assert b.ratio == round(b.fps / 26.9, 2)


def numbers(name: str) -> list[int]:
    """The numbers in an operation's row of the table of cycles in docs/engine.md."""
    root = resources.path("hdl").parent
    page = root / "docs" / "engine.md"
    if not page.is_file():
        pytest.skip("not a checkout")
    row = next(line for line in page.read_text().splitlines() if line.startswith(f"| {name}"))
    return [int(text.replace(",", "")) for text in re.findall(r"\d[\d,]*", row)]


def closed_form(step: Step, inputs: int, paired: bool) -> int:
    """A 1x1 step by docs/engine.md, written anew: 24 columns, chunks of 512 weight words."""
    tile, whole = numbers("CONV")

    def group(channels: int) -> int:
        full, rest = divmod(inputs, 512)
        return full * 512 + (max(rest, channels) if rest else 0)

    if paired:
        return tile + step.words // 2 * group(2 * len(step.channels)) + whole
    tiles, last = divmod(len(step.channels), 24)
    cycles = tiles * (tile + step.words * group(24))
    return cycles + (tile + step.words * group(last) if last else 0) + whole


def beside(step: Step, program: Program) -> bool:
    """Whether the array works at some time while the step runs."""
    assert step.model_start is not None and step.model_cycles is not None
    end = step.model_start + step.model_cycles
    return any(
        other.opcode == "CONV" and other.model_start is not None and other.model_cycles is not None
        and other.model_start < end and step.model_start < other.model_start + other.model_cycles
        for other in program.steps
    )  # fmt: skip


def test_steps_by_the_closed_forms() -> None:
    """Every 1x1, depthwise and deformable step of a whole network, to a cycle of rounding.

    What runs beside it or a stream that does not keep up can only make it longer.
    """
    graph = of_shapes("b")
    program = compile_graph(graph, engine_params(PYNQ))
    (lanes,) = numbers("DW, DDW, POOL")
    seen = {"pw": 0, "paired": 0, "dw": 0, "deform_dw": 0}
    waited = 0
    for step in program.steps:
        op = graph.node(step.node).op if step.opcode in ("CONV", "DW", "DDW") else ""
        if op == "pw":
            inputs = step.macs // (len(step.channels) * step.words * 16)
            assert inputs == graph.tensors[graph.node(step.node).inputs[0]].shape[0]
            # A few channels alone, or the rest of a layer where it saves more than it costs
            paired = len(step.channels) <= 12 and step.words % 2 == 0
            more = step.model_cycles - closed_form(step, inputs, paired)
            assert more >= -1, step
            waited += more > 1
            seen["paired" if paired else "pw"] += 1
        elif op in ("dw", "deform_dw"):
            # Channels x words of a row x rows that taps reach; flushed rows; the constant
            node = graph.node(step.node)
            _, height, _ = graph.tensors[node.inputs[0]].shape
            _, _, width = graph.tensors[node.output].shape
            stride, reach = (node.attrs.stride, 1) if op == "dw" else (1, 7)
            first = step.first_word * 16 // width
            rows = step.words * 16 // width
            low = max(stride * first - reach, 0)
            high = min(stride * (first + rows - 1) + reach, height - 1)
            exact = len(step.channels) * -(-width // 16) * (high - low + 1) + reach + lanes
            assert step.model_cycles - exact >= -1, step
            if beside(step, program):
                assert step.model_cycles <= 1.6 * exact, step
            else:
                assert step.model_cycles <= exact + 1, step
            seen[op] += 1
    assert all(count > 2 for count in seen.values()), seen
    assert waited <= (seen["pw"] + seen["paired"]) // 20


def test_the_lanes_are_slowed_by_the_mean_of_several_meetings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where in the array's operation the rows begin is not known; each of the plays is possible."""
    seen: list[Sequence[Operation]] = []

    def keep(operations: Sequence[Operation], *others: object) -> tuple[list[int], list[int]]:
        seen.append(operations)
        return timeline.timeline(operations, *others)

    monkeypatch.setattr(order, "timeline", keep)
    compile_graph(of_shapes("b"), engine_params(PYNQ))
    (operations,) = seen
    opcodes = [op.opcode for op in operations]
    lanes, array = opcodes.index("DW"), opcodes.index("CONV")  # beside the first layer
    slow = banks.Banks(operations).beside(lanes, array)
    rows = banks._rows(operations[lanes])
    plays = [
        banks._play(rows, 1, banks._Array(operations[array], 3 * len(rows), at)).row
        for at in banks.MEETINGS
    ]
    assert len(set(plays)) > 1
    assert 1 <= min(plays) < slow.row < max(plays)


def test_queues_do_not_overlap_with_themselves(b: estimate.Estimate) -> None:
    for queue in ("array", "lanes"):
        spans = sorted(tuple(span) for layer in b.layers if layer.queue == queue
                       for span in layer.spans or [])  # fmt: skip
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        assert spans[-1][1] <= b.cycles_per_frame
    assert sum(layer.macs for layer in b.layers) == b.macs_per_frame
    assert sum(layer.ddr_bytes for layer in b.layers) == b.ddr_bytes_per_frame


def test_a_slow_memory_bounds_the_frame(b: estimate.Estimate) -> None:
    memory = PYNQ.memory.model_copy(update={"sustained_mb_s": 150.0})  # a byte a cycle
    slow = estimate.estimate(
        of_shapes("b"), PYNQ.model_copy(update={"memory": memory}), "codenet", "b"
    )
    assert slow.ddr_cycles == slow.ddr_bytes_per_frame
    # Refreshes, 40 cycles of every 1170, and bursts that do not follow at once come on top
    assert slow.ddr_cycles <= slow.cycles_per_frame < 1.05 * slow.ddr_cycles
    assert slow.cycles_per_frame > 2 * b.cycles_per_frame


def test_ultra96_beside_the_paper() -> None:
    found = estimate.estimate(of_shapes("b"), ULTRA, "codenet", "b")
    assert (found.columns, found.pixels, found.clock_mhz) == (44, 16, 250.0)
    assert found.sizes.dsp == 352 <= ULTRA.resources.dsp
    assert found.sizes.bram36 <= ULTRA.resources.bram36 * ULTRA.limits.bram36_percent // 100
    assert found.sizes.lut is None
    assert "synthesis" in found.sizes.reason
    (paper,) = found.others
    assert (paper.lut, paper.ff, paper.bram36, paper.dsp) == (34_144, 41_827, 216, 360)
    narrow = estimate.estimate(of_shapes("b"), PYNQ, "codenet", "b")
    assert found.cycles_per_frame < narrow.cycles_per_frame
    # 4 bits for each of 44 columns and 22 bits of place are two words of 128 bits
    assert found.ddr_bytes_per_frame > narrow.ddr_bytes_per_frame


@pytest.mark.parametrize(
    ("words", "bram36"), [(24_576, 86), (30_720, 114)]  # as Yosys counts act_mem.sv
)
def test_memory_blocks_of_the_activations(words: int, bram36: int) -> None:
    params = dataclasses.replace(engine_params(PYNQ), act_words=words)
    rings = 16 + 2  # 4096 and 512 words of 128 bits, 512 of 72 bits in each block
    assert estimate.sizes(PYNQ, params).bram36 == bram36 + rings


@pytest.mark.parametrize(
    ("channels", "tiles", "unfilled"),
    # 24 input channels, 16 groups of pixels: a tile of 24 columns takes 16 x 24 cycles
    [(24, 1, 0), (12, 1, 0), (18, 1, 16 * 24 // 4), (42, 2, 16 * 24 // 4)],
)
def test_what_the_array_loses_in_a_layer(channels: int, tiles: int, unfilled: int) -> None:
    b = GraphBuilder("net")
    x = b.input("image", (24, 16, 16), IntType.parse("u8"))
    last = estimate._Shapes(b).pw("pw", x, channels)
    graph, params = b.build([last]), engine_params(PYNQ)
    lost = estimate.array_losses(compile_graph(graph, params), graph, params)
    bands = 4  # of the image, which comes from the DDR
    assert lost == estimate.ArrayLosses(0, unfilled, bands * (15 * tiles + 48))


def test_table_of_configurations(b: estimate.Estimate, tmp_path: Path) -> None:
    lanes = [n for n in of_shapes("b").nodes if n.op in ("dw", "deform_dw")]
    assert 0 <= b.lanes_ideal_cycles - (DEPTHWISE_B + DEFORMABLE_B) / 144 <= len(lanes)
    other = dataclasses.replace(b, config="g", ratio=None)
    lines = estimate.markdown([b, other]).splitlines()
    assert lines[2].startswith(f"| b | {b.ideal_cycles:,} | {b.lanes_ideal_cycles:,} | ")
    assert lines[2].endswith(f"| {b.fps:,.1f} | {b.ratio:.1f} |")
    assert lines[3].endswith(" | - |")
    assert {line.count("|") for line in lines[:4]} == {13}
    # The second table leads from the bound to the frame
    counts = [int(cell.replace(",", "")) for cell in lines[7].split("|")[2:-1]]
    assert (counts[0], counts[-1]) == (b.ideal_cycles, b.cycles_per_frame)
    assert sum(counts[:-1]) == b.cycles_per_frame
    busy = sum(layer.cycles for layer in b.layers if layer.queue == "array")
    assert sum(counts[:4]) == busy
    page = tmp_path / "page.md"
    page.write_text("<!-- hwflow bench estimates pynq-z2 --><!-- end of estimates pynq-z2 -->")
    done = hwflow("bench", "estimates", "--configs", "b", "--into", "page.md", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == estimate.markdown([b])
    assert done.stdout in page.read_text()


def test_unknown_networks() -> None:
    with pytest.raises(ConfigError, match="model 'resnet' is not known"):
        estimate.source("resnet", None)
    with pytest.raises(ConfigError, match="choose one of a, b, c, d, e, f, g"):
        estimate.source("codenet", "z")
    with pytest.raises(ConfigError, match="does not exist"):
        estimate.source("none.onnx", None)


def bench_file(path: Path, *rows: tuple[str, float]) -> Path:
    """A file of the bench with these errors of the model in percent; else nothing is in it."""
    kinds = {"str": "", "int": 0, "float": 0.0, "float | None": None}
    empty = {f.name: kinds.get(str(f.type), ()) for f in dataclasses.fields(bench.BenchRecord)}
    records = [
        bench.BenchRecord(**{
            **empty, "config": config, "model_error_percent": error, "board": "pynq-z2",
            "worst_layer": "up0.ddw", "worst_layer_error_percent": 4.5,
        })
        for config, error in rows
    ]  # fmt: skip
    bench.write(path, records, {})
    return path


def test_the_model_s_measured_error_is_stated(b: estimate.Estimate, tmp_path: Path) -> None:
    assert b.model_error is None
    assert b.model_error_reason is not None
    for path, said in (
        (tmp_path / "none.json", "none.json is not there; `hwflow bench engine` measures it"),
        (bench_file(tmp_path / "empty.json"), "empty.json holds no frame"),
    ):
        unknown = estimate.with_error(b, path)
        assert unknown.model_error is None
        assert said in str(unknown.model_error_reason)
    own = estimate.with_error(b, bench_file(tmp_path / "own.json", ("a", 3.0), ("b", -1.5)))
    assert own.model_error == estimate.ModelError(
        "configuration b on pynq-z2", -1.5, 4.5, "up0.ddw"
    )
    assert own.model_error_reason is None
    other = estimate.with_error(b, bench_file(tmp_path / "o.json", ("a", 3.0), ("c", -4.0)))
    assert other.model_error is not None
    assert other.model_error.frame_percent == -4.0
    assert "the worst of a, c" in other.model_error.measured_on
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ConfigError, match="no file of this version's `hwflow bench engine`"):
        estimate.with_error(b, tmp_path / "bad.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        estimate.with_error(b, tmp_path)


def test_the_error_is_that_of_this_network(b: estimate.Estimate, tmp_path: Path) -> None:
    """CoDeNet's says nothing about another network; the simulation in a run directory does."""
    path = bench_file(tmp_path / "bench.json", ("b", -1.5))
    other = dataclasses.replace(b, config=None, model="net.onnx")
    found = estimate.with_error(other, path)
    assert found.model_error is None
    assert "nothing of this network was simulated" in str(found.model_error_reason)
    run = tmp_path / "run"
    run.mkdir()
    report = content()
    name, cycles = b.layers[5].name, b.layers[5].cycles
    report["performance"]["cycles_per_frame"] = 2 * b.cycles_per_frame
    report["layers"] = [{**report["layers"][0], "name": name, "cycles": 4 * cycles}]
    write(run, report)
    mine = dataclasses.replace(other, model=str(run), board=report["board"])
    assert estimate.with_error(mine, path).model_error == estimate.ModelError(
        f"{run} on {report['board']}", -50.0, -75.0, name
    )
    elsewhere = estimate.with_error(dataclasses.replace(mine, board="ultra96"), path)
    assert f"was simulated for {report['board']}" in str(elsewhere.model_error_reason)
    report["performance"] = dict.fromkeys(report["performance"]) | {"reason": "stage sim"}
    report["layers"] = []
    write(run, report)
    assert "stage sim" in str(estimate.with_error(mine, path).model_error_reason)


def hwflow(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hwflow", *map(str, words)], cwd=cwd, text=True, timeout=300,
        capture_output=True, check=False,
    )


def test_command(b: estimate.Estimate, tmp_path: Path) -> None:
    done = hwflow("estimate", "codenet", "--json", "-", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kind"] == "estimate of the cycle model"
    assert (found["config"], found["cycles_per_frame"]) == ("b", b.cycles_per_frame)
    assert [schema.Layer(**row) for row in found["layers"]] == list(b.layers)
    done = hwflow("estimate", "codenet", "--config", "g", "--board", "ultra96", "--html", "g.html",
                  cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    for part in ("CoDeNet (the paper)", "34,144", "arXiv 2006.08357", "unknown", "layer4"):
        assert part in done.stdout
    assert "Queue array" in (tmp_path / "g.html").read_text()
    refused = hwflow("estimate", "codenet", "--config", "z", cwd=tmp_path)
    assert refused.returncode == 1
    assert "choose one of a, b" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_files_and_runs(tmp_path: Path) -> None:
    path = qonnx_models.save(qonnx_models.small_detector(1, 64), tmp_path / "small.onnx")
    graph, title, config = estimate.source(str(path), None)
    assert (title, config) == (str(path), None)
    found = estimate.estimate(graph, PYNQ, title)
    assert found.paper_fps is None
    assert found.ratio is None
    program = compile_graph(graph, engine_params(PYNQ))
    assert found.cycles_per_frame == program.model_cycles
    graph.save(tmp_path / "run/lower/graph")
    again, _, _ = estimate.source(str(tmp_path / "run"), None)
    assert estimate.estimate(again, PYNQ, title) == found
    with pytest.raises(ConfigError, match="holds no lowered network"):
        estimate.source(str(tmp_path), None)
