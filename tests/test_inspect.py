# SPDX-License-Identifier: Apache-2.0
"""hwflow inspect: numbers from closed forms, every fault of every layer, and no torch."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from hwflow import boards, cli, ingest, inspect, passes
from hwflow.errors import GraphError
from hwflow.ir import Graph, GraphBuilder, IntType
from hwflow.ops.conv import ConvAttrs
from hwflow.ops.pw import PwAttrs
from hwflow.ops.residual import ResidualAttrs
from hwflow.ops.upsample import UpsampleAttrs
from tests import qonnx_models
from tests.graphs import random_codenet_graph
from tests.table_graphs import Layer, network

BOARD = boards.load("pynq-z2")
LAYER_KEYS = {
    "name", "op", "inputs", "input_shape", "input_type", "output_shape", "output_type",
    "weight_bits", "macs", "parameters", "weight_bytes", "accumulator", "runs_on", "engine", "hls",
}
KEYS = {"schema", "model", "board", "level", "reason", "engine", "hls", "tables", "inputs",
        "outputs", "layers", "totals"}


def consts(weight: np.ndarray, bias: list[int], mul: int = 1) -> dict[str, np.ndarray]:
    channels = len(weight)
    return {
        "weight": weight.astype(np.int8), "bias": np.array(bias, np.int64),
        "mul": np.full(channels, mul, np.int64), "shift": np.zeros(channels, np.int8),
    }


def small(mul: int = 1) -> Graph:
    """conv 3x3 stride 2 (2 -> 3 channels, int8), then pw (3 -> 2, int4) on a 16 x 16 image."""
    b = GraphBuilder("small")
    x = b.input("image", (2, 16, 16), IntType(8, False))
    rng = np.random.default_rng(5)
    first = consts(rng.integers(-100, 101, (3, 2, 3, 3)), [70, -9, 0], mul)
    y = b.add("first", "conv", [x], ConvAttrs(3, 2, 1, 8, 32, IntType(8, False)), first)
    second = consts(np.array([[1, -2, 3], [-7, 0, 7]]), [5, -2000])
    y = b.add("second", "pw", [y], PwAttrs(4, 13, IntType(8, True)), second)
    b.meta["output.out"], b.meta["scale.out"] = "second", 1.0
    return b.build([y])


def test_numbers_are_those_of_the_closed_forms() -> None:
    found = inspect.of_graph(small(), "small", BOARD)
    first, second = found.layers
    assert (first.input_shape, first.input_type) == ((2, 16, 16), "u8")
    assert (first.output_shape, first.output_type) == ((3, 8, 8), "u8")
    assert first.macs == 3 * 8 * 8 * 2 * 9
    assert (first.parameters, first.weight_bytes, first.weight_bits) == (54 + 3, 54, 8)
    assert second.macs == 2 * 8 * 8 * 3
    assert (second.parameters, second.weight_bytes, second.weight_bits) == (8, 3, 4)
    # Channel 0: 1, -2, 3 on 0..255 and 5; channel 1: -7, 0, 7 and -2000.
    assert second.accumulator == inspect.Range(-7 * 255 - 2000, 7 * 255, 13)
    totals = found.totals
    assert (totals.layers, totals.macs) == (2, 3 * 64 * 18 + 2 * 64 * 3)
    assert (totals.parameters, totals.weight_bytes, totals.accumulator_bits) == (65, 57, 32)


@pytest.mark.parametrize("mul", [1, 3])
def test_range_holds_every_input_and_is_reached(mul: int) -> None:
    """All corner inputs of a channel, summed one after the other with the bias first."""
    graph = small(mul)
    layer = inspect.of_graph(graph, "small", BOARD).layers[0]
    weight = graph.const(graph.node("first"), "weight").reshape(3, -1).astype(int)
    bias = graph.const(graph.node("first"), "bias").tolist()
    least, most = [], []
    for row, start in zip(weight.tolist(), bias, strict=True):
        begin = start if mul == 1 else 0
        for sign, ends in ((1, most), (-1, least)):
            terms = [255 * w for w in row if w * sign > 0]
            ends += [0, *itertools.accumulate(terms, initial=begin), sum(terms)]
    assert layer.accumulator is not None
    assert (layer.accumulator.min, layer.accumulator.max) == (min(least), max(most))


def test_sums_of_two_maps_have_a_range() -> None:
    b = GraphBuilder("sum")
    x, y = b.input("x", (2, 8, 8), IntType(8, False)), b.input("y", (2, 8, 8), IntType(4, True))
    out = IntType(8, False)
    fields = {k: v for k, v in consts(np.zeros((2, 1)), [3, -3]).items() if k != "weight"}
    z = b.add("sum", "residual", [x, y], ResidualAttrs((1, -5), 10, 0, 255, out), fields)
    layer = inspect.of_graph(b.build([z]), "sum", BOARD).layers[0]
    assert layer.accumulator == inspect.Range(0 - 5 * 7, 255 + 5 * 8, 10)
    assert layer.weight_bytes == 0


@pytest.mark.parametrize(("weights", "bits", "size"), [(3, 4, 2), (9, 1, 2), (8, 8, 8), (0, 4, 0)])
def test_packed_bytes(weights: int, bits: int, size: int) -> None:
    assert inspect.packed_bytes(weights, bits) == size


def test_a_whole_detector_runs_on_the_engine() -> None:
    graph = random_codenet_graph("b", 2, 0)
    found = inspect.of_graph(graph, "b", BOARD)
    assert (found.engine, found.hls) == (None, None)
    assert {layer.runs_on for layer in found.layers} == {"engine"}
    assert found.totals.macs == graph.macs()
    assert not any(layer.engine or layer.hls for layer in found.layers)
    for layer in found.layers:
        bits = layer.accumulator and layer.accumulator.bits
        assert bits == getattr(graph.node(layer.name).attrs, "acc_bits", None)


def test_a_tiny_board_says_what_does_not_fit() -> None:
    size = BOARD.engine.model_copy(update={"act_words": 64})
    chip = BOARD.resources.model_copy(update={"bram36": 3})
    board = BOARD.model_copy(update={"engine": size, "resources": chip})
    found = inspect.of_graph(random_codenet_graph("b", 2, 0), "b", board)
    assert "memory" in str(found.engine)
    assert "BRAM36" in str(found.hls)
    assert {layer.runs_on for layer in found.layers} == {"none"}


def test_every_layer_with_a_fault_is_named(tmp_path: Path) -> None:
    """A compiler stops at the first of the layers that multiply when they requantise."""
    path = qonnx_models.save(qonnx_models.free_scales(1), tmp_path / "free.onnx")
    graph = passes.lower(ingest.read(path))
    found = inspect.inspect(path, BOARD)
    multiplying = {
        node.name for node in graph.nodes
        if "mul" not in node.consts or (graph.const(node, "mul") != 1).any()
    }
    assert len(multiplying) > 1
    named = {layer.name for layer in found.layers if layer.engine}
    if found.engine is not None:  # an engine without multiplier in its requantiser
        assert multiplying <= named
        assert {layer.runs_on for layer in found.layers} == {"hls"}


def test_views_have_no_fault_of_their_own() -> None:
    """An upsampling between two layers is fine although no network may end in one."""
    b = GraphBuilder("up")
    x = b.input("image", (4, 8, 8), IntType(8, False))
    x = b.add("up", "upsample", [x], UpsampleAttrs(2))
    graph = b.build([x])
    whole, faults = inspect.verdicts(graph, refuse_outputs_of_upsamplings)
    assert whole == "up: an output"
    assert faults == {"up": "up: an output"}  # the network's own fault names it
    y = b.add("then", "upsample", [x], UpsampleAttrs(2))
    whole, faults = inspect.verdicts(b.build([y]), refuse_outputs_of_upsamplings)
    assert faults == {"then": "then: an output"}


def refuse_outputs_of_upsamplings(graph: Graph) -> None:
    for name in graph.outputs:
        if graph.node(name).op == "upsample":
            raise GraphError(f"{name}: an output")


def test_json_has_the_documented_keys(tmp_path: Path) -> None:
    found = inspect.of_graph(small(), "small", BOARD)
    inspect.write(found, tmp_path / "x.json")
    read = json.loads((tmp_path / "x.json").read_text())
    assert set(read) == KEYS
    assert all(set(layer) == LAYER_KEYS for layer in read["layers"])
    assert read["layers"][1]["accumulator"] == {"min": -3785, "max": 1785, "bits": 13}
    assert read["totals"]["accumulator_bits"] == 32
    assert read["inputs"] == [{"name": "image", "shape": [2, 16, 16], "type": "u8"}]
    page = (Path(__file__).parents[1] / "docs/inspect.md").read_text()
    missing = [key for key in KEYS | LAYER_KEYS if f"`{key}`" not in page]
    assert missing == []


def shown(found: inspect.Inspection) -> str:
    console = Console(width=inspect.WIDTH, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(inspect.render(found))
    return console.export_text()


def test_table_ends_in_the_totals() -> None:
    text = shown(inspect.of_graph(small(), "small", BOARD))
    assert "-3,785..1,785 (13 bits)" in text
    row = next(line for line in text.splitlines() if line.startswith("2 layers"))
    assert row.replace("│", " ").split()[2:5] == ["3,840", "65", "57"]


def float_model(path: Path) -> Path:
    """Conv (4 bits by Quant), Erf, Gemm of floats: nothing that lowers."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.normal(size=(6, 3, 3, 3)), "ws": np.ones(()), "wz": np.zeros(()),
        "wb": np.full((), 4.0), "g": rng.normal(size=(6 * 64, 5)), "gb": rng.normal(size=5),
    }
    nodes = [
        helper.make_node("Quant", ["w", "ws", "wz", "wb"], ["wq"], "wq", signed=1, narrow=1,
                         rounding_mode="ROUND", domain=qonnx_models.DOMAIN),
        helper.make_node("Conv", ["x", "wq"], ["c"], "conv", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Erf", ["c"], ["e"], "odd"),
        helper.make_node("Flatten", ["e"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "g", "gb"], ["y"], "fc"),
    ]
    graph = helper.make_graph(
        nodes, "float", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(qonnx_models.DOMAIN, 2)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_a_file_that_does_not_lower_is_shown_as_it_stands(tmp_path: Path) -> None:
    found = inspect.inspect(float_model(tmp_path / "f.onnx"), BOARD)
    assert found.level == "file"
    assert found.reason is not None
    rows = {layer.name: layer for layer in found.layers}
    assert list(rows) == ["conv", "odd", "flat", "fc"]  # not the weight's quantiser
    conv, fc = rows["conv"], rows["fc"]
    assert (conv.input_shape, conv.output_shape) == ((3, 8, 8), (6, 8, 8))
    assert (conv.macs, conv.parameters) == (6 * 64 * 27, 162)
    assert (conv.weight_bits, conv.weight_bytes) == (4, 81)
    assert (fc.macs, fc.parameters) == (384 * 5, 384 * 5 + 5)
    assert fc.weight_bytes == 4 * 384 * 5
    assert found.totals.macs == 6 * 64 * 27 + 384 * 5
    assert "Erf" not in str(rows["odd"].hls)
    assert "not supported" in str(rows["odd"].hls)
    assert {layer.runs_on for layer in found.layers} == {"none"}
    assert all(layer.accumulator is None for layer in found.layers)
    assert "odd: Erf: not supported" in shown(found)


@pytest.mark.parametrize("board", ["pynq-z2", "ulx3s-85f"])
def test_a_network_of_tables_runs_as_tables(board: str) -> None:
    graph = network([Layer(30, 6)], shape=(5, 5), groups=3)
    found = inspect.of_graph(graph, "tables", boards.load(board))
    assert found.tables is None
    assert {layer.runs_on for layer in found.layers} == {"tables"}
    assert "tables: runs the whole network" in shown(found)
    if board == "pynq-z2":
        assert "use --backend tables" in str(found.engine)
    else:
        assert "no section [engine]" in str(found.engine) and "0" in str(found.hls)


def test_a_board_without_an_engine_is_an_answer() -> None:
    found = inspect.of_graph(small(), "small", boards.load("icebreaker"))
    assert "no section [engine]" in str(found.engine) and "BRAM36" in str(found.hls)
    assert "no layer of it is tables" in str(found.tables)
    assert {layer.runs_on for layer in found.layers} == {"none"}
    assert inspect.of_graph(small(), "small", BOARD).tables == found.tables


def test_unreadable_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"no model at all")
    for name in ("junk.onnx", "none.onnx"):
        with pytest.raises(GraphError, match=name):
            inspect.inspect(tmp_path / name, BOARD)


def test_command_line_reads_a_file_without_torch(tmp_path: Path) -> None:
    path = qonnx_models.save(qonnx_models.small_detector(0), tmp_path / "net.onnx")
    code = (
        "import sys\nfrom hwflow.cli import main\nsys.argv = ['hwflow', *sys.argv[1:]]\n"
        "try:\n    main()\nfinally:\n"
        "    print(sorted({'torch', 'qonnx', 'brevitas', 'hls4ml'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "inspect", str(path), "--json", "out.json"], cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    graph = passes.lower(ingest.read(path))
    assert json.loads((tmp_path / "out.json").read_text())["totals"]["macs"] == graph.macs()
    assert f"{graph.macs():,}" in done.stdout


def test_json_alone_on_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = qonnx_models.save(qonnx_models.plain_stack(0), tmp_path / "net.onnx")
    monkeypatch.setattr(sys, "argv", ["hwflow", "inspect", str(path), "--json", "-"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    assert set(json.loads(capsys.readouterr().out)) == KEYS


@pytest.mark.slow
def test_our_own_model_is_exported_first() -> None:
    """Without a checkpoint: seeded untrained weights."""
    found = inspect.inspect_model("codenet", "b", None, BOARD)
    assert found.level == "integer"
    assert found.engine is None
    assert found.inputs[0].shape == (3, 256, 256)
