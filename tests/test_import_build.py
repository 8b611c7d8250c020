# SPDX-License-Identifier: Apache-2.0
"""`hwflow build FILE.onnx`: its vectors, what is skipped and why, what --require makes of it."""

import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from rich.console import Console

import hwflow
from hwflow import build as runner
from hwflow import stages
from hwflow.build import Record
from hwflow.errors import ConfigError, DataError, GraphError, HwflowError, ResourceError
from hwflow.ir import Graph, GraphBuilder, IntType
from hwflow.report import baseline, compare, gate, schema, terminal
from hwflow.stages import vectors
from hwflow.stages.options import options
from tests.import_models import Net
from tests.test_import_tfc import Dense, executed
from tests.test_import_tfc import pixels as strokes

UNTIL_HLS = tuple(s for s in stages.STAGES if s.name in (
    "data", "train", "export", "lower", "verify", "hls", "report"
))  # fmt: skip
UNTIL_SIM = tuple(s for s in stages.STAGES if s.name not in ("synth", "bitstream"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "dense.onnx"
    onnx.save(Dense("1W2A", seed=4).model((784, 16, 10)), path)
    return path


def build(model: Path, out: Path, **changes: object) -> dict[str, Record]:
    chosen = options(str(model), "pynq-z2", tiles=3, frames=1, **changes)
    return {r.name: r for r in runner.build(UNTIL_HLS, chosen, out)}


def save(path: Path, **held: np.ndarray) -> Path:
    np.savez(path, **held)
    return path


def test_a_foreign_file_from_its_vectors(model: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 28, 28)).astype(np.uint8)
    given = save(tmp_path / "v.npz", image=pixels)
    out = tmp_path / "run"
    records = build(model, out, inputs=given)
    for stage in ("data", "lower", "verify", "hls"):
        assert records[stage].status == "done", records[stage]
    assert records["data"].made == "5 vectors of v.npz, uint8"
    assert records["verify"].made.startswith("3 images")
    assert records["hls"].made.startswith("3 images")
    report = json.loads((out / "report.json").read_text())
    hls = report["verify"]["hls"]
    assert (hls["images"], hls["mismatches"], hls["reason"]) == (3, 0, None)
    assert report["verify"]["qonnx"]["mismatches"] == 0
    assert report["data"]["spec"] == "inputs:v.npz" and report["data"]["sha256"]
    again = build(model, out, inputs=given)
    assert all(again[s].status == "cached" for s in ("data", "lower", "verify", "hls"))
    other = build(model, out, inputs=save(tmp_path / "w.npz", image=255 - pixels))
    assert other["data"].status == other["verify"].status == "done"
    assert other["lower"].status == "cached"


def test_floats_are_the_pixels_they_stand_for(model: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 1, 28, 28)).astype(np.uint8)
    out = tmp_path / "run"
    floats = save(tmp_path / "v.npz", image=pixels.astype(np.float32) / np.float32(255))
    build(model, out, inputs=floats)
    graph = Graph.load(out / "lower" / "graph")
    found = vectors.integers(out / "data" / "inputs.npz", graph)
    assert np.array_equal(found, pixels)
    wrong = save(out / "data" / "inputs.npz", inputs=pixels / 255 + 0.001)
    with pytest.raises(DataError, match=r"takes pixels, multiples of 0\.00392157"):
        vectors.integers(wrong, graph)
    wrong = save(out / "data" / "inputs.npz", inputs=pixels.astype(np.int64) + 1)
    with pytest.raises(DataError, match=r"1\.\.256 leave the input's type u8; give integers"):
        vectors.integers(wrong, graph)
    wrong = save(out / "data" / "inputs.npz", inputs=np.full((1, 784), 1e300))
    with pytest.raises(DataError, match="takes pixels"):
        vectors.integers(wrong, graph)


def test_unsigned_numbers_are_not_turned_round(tmp_path: Path) -> None:
    """2**64 - 1 is -1 as an int64, which a signed input would take."""
    builder = GraphBuilder("signed")
    builder.meta |= {"scale.x": 0.5, "onnx.x": "x"}
    graph = builder.build([builder.input("x", (3, 1, 1), IntType(4, True))])
    wrong = save(tmp_path / "v.npz", inputs=np.full((1, 3), (1 << 64) - 1, np.uint64))
    with pytest.raises(DataError, match=r"values 18446744073709551615\.\..* leave .* type i4"):
        vectors.integers(wrong, graph)
    wide = save(tmp_path / "w.npz", inputs=np.array([[1e300, -1e300, 0.26]]))
    assert vectors.integers(wide, graph).ravel().tolist() == [7, -8, 1]  # as the network clips


@pytest.mark.parametrize("kind", [GraphError, ResourceError])
def test_what_the_engine_does_not_run_is_skipped_or_required(
    kind: type[HwflowError], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwflow.emit import engine

    def refuse(*arguments: object, **options: object) -> None:
        raise kind("node 'it': too odd")

    monkeypatch.setattr(engine, "compile_graph", refuse)
    chosen = options(str(model), "pynq-z2", tiles=2, frames=1)
    out = tmp_path / "run"
    records = {r.name: r for r in runner.build(UNTIL_SIM, chosen, out)}
    assert all(r.status != "failed" for r in records.values()), records
    assert records["rtl"].status == records["sim"].status == "skipped"
    assert "does not run this network: node 'it': too odd" in str(records["rtl"].reason)
    assert "there is no program" in str(records["sim"].reason)
    required = options(str(model), "pynq-z2", tiles=2, frames=1, require=("rtl",))
    records = {r.name: r for r in runner.build(UNTIL_SIM, required, out)}
    assert records["rtl"].status == "failed" and "too odd" in str(records["rtl"].reason)
    assert records["hls"].status in ("done", "cached")


def dense(inputs: tuple[int, int, int], outputs: int) -> onnx.ModelProto:
    """A dense layer of 8-bit pixels."""
    net = Net(np.random.default_rng(2))
    net.shape = (1, *inputs)
    net.x = net.quant(net.x, 2.0**-8, 8, False)
    net.flatten()
    net.dense(outputs, last=True)
    return net.model((1, *inputs))


def test_hls_buffers_grow_with_the_network(tmp_path: Path) -> None:
    """More inputs than the usual buffers of the multiply array have steps: 4,096."""
    path = tmp_path / "wide.onnx"
    onnx.save(dense((5, 32, 32), 3), path)
    records = build(path, tmp_path / "run")
    assert records["verify"].status == "done"
    assert (records["hls"].status, records["hls"].reason) == ("done", None), records["hls"]
    assert records["hls"].made == "3 images, 2 layers: 0 mismatches"
    layout = json.loads((tmp_path / "run" / "hls" / "layout.json").read_text())
    assert layout["shape"]["mac_depth"] == 5 * 1024


def test_hls_buffers_beyond_the_board_skip_the_stage(tmp_path: Path) -> None:
    path = tmp_path / "wider.onnx"
    onnx.save(dense((5, 80, 80), 3), path)
    records = build(path, tmp_path / "run")
    assert records["verify"].status == "done"
    assert records["hls"].status == "skipped"
    reason = str(records["hls"].reason)
    assert "the HLS engine does not run this network" in reason
    assert "for 32,000 steps of the multiply array" in reason
    assert "pynq-z2 has 140; split that layer, or choose a larger board" in reason
    assert build(path, tmp_path / "run", require=("hls",))["hls"].status == "failed"


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"one": np.zeros((1, 784)), "two": np.zeros((1, 784))}, "call the array of the vectors"),
        ({"labels": np.zeros(3, int), "one": np.zeros((3, 784)), "two": np.zeros((3, 784))},
         "call the array of the vectors"),
        ({"image": np.zeros((2, 27, 28))}, r"shape \(2, 27, 28\), that is 756 numbers a vector; "
         r"the network takes \(N, 1, 28, 28\), 784 numbers a vector"),
        ({"image": np.zeros(28 * 28 * 2)}, r"shape \(1568,\), that is 1 numbers a vector; the "),
        ({"image": np.zeros((2, 2, 28, 28))}, r"shape \(2, 2, 28, 28\), that is 1,568 numbers"),
        ({"image": np.full((1, 1, 28, 28), np.nan)}, "not finite"),
        ({"image": np.array([["a"]])}, r"'image' is <U1 \(1, 1\); give an array of integers or"),
        ({"image": np.float32(3)}, r"'image' is float32 \(\); give an array"),
        ({"image": np.zeros((0, 1, 28, 28))}, r"\(0, 1, 28, 28\) holds no vector"),
        ({"image": np.zeros((2, 784)), "labels": np.zeros(3, int)},
         r"'labels' is int64 \(3,\); give one integer, .* for each of the 2 vectors: \(2,\)"),
        ({"image": np.zeros((2, 784)), "labels": np.zeros((2, 10), np.uint8)},
         r"'labels' is uint8 \(2, 10\); give one integer"),
        ({"image": np.zeros((2, 784)), "labels": np.zeros(2)}, r"'labels' is float64 \(2,\)"),
        ({"image": np.zeros((2, 784)), "labels": np.array(["3", "4"])}, "'labels' is <U1"),
    ],
)
def test_wrong_vectors(held: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    path = save(tmp_path / "v.npz", **held)
    with pytest.raises(DataError, match=words):
        vectors.read(path, "image", (1, 28, 28))


@pytest.mark.parametrize(
    ("shape", "note"),
    [
        ((2, 1, 28, 28), ""),
        ((2, 28, 28), "(2, 28, 28) read as (N, 1, 28, 28)"),
        ((2, 784), "(2, 784) read as (N, 1, 28, 28)"),
        ((2, 28, 28, 1), "(2, 28, 28, 1) read as height, width, channels"),
        ((2, 7, 112), "(2, 7, 112) read as (N, 1, 28, 28)"),
    ],
)
def test_vectors_in_other_shapes(shape: tuple[int, ...], note: str, tmp_path: Path) -> None:
    values = np.arange(2 * 784).reshape(2, 1, 28, 28) % 256
    path = save(tmp_path / "v.npz", any_name=values.reshape(shape))
    found = vectors.read(path, "image", (1, 28, 28))
    assert np.array_equal(found.array, values)
    assert (found.note, found.labels) == (note, None)


@pytest.mark.parametrize("shape", [(784,), (28, 28), (1, 28, 28), (28, 28, 1)])
def test_one_vector_alone(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.arange(784) % 256
    found = vectors.read(save(tmp_path / "v.npz", x=values.reshape(shape)), "image", (1, 28, 28))
    assert np.array_equal(found.array, values.reshape(1, 1, 28, 28))
    assert found.note.startswith(f"{shape} read as ")


def test_pictures_with_their_channels_last(tmp_path: Path) -> None:
    values = np.random.default_rng(7).integers(0, 256, (5, 3, 8, 6))
    for array, count in ((values, 5), (values[0:1], 1)):
        path = save(tmp_path / "v.npz", image=array.transpose(0, 2, 3, 1))
        found = vectors.read(path, "image", (3, 8, 6))
        assert np.array_equal(found.array, array)
        assert found.note == f"({count}, 8, 6, 3) read as height, width, channels"
    path = save(tmp_path / "v.npz", image=values[2].transpose(1, 2, 0))
    assert np.array_equal(vectors.read(path, "image", (3, 8, 6)).array, values[2:3])


def test_an_input_that_is_called_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "v.npz", labels=np.zeros((3, 10)))
    found = vectors.read(path, "labels", (10, 1, 1))
    assert found.array.shape == (3, 10, 1, 1) and found.labels is None


def test_inputs_belong_to_a_file(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--inputs belongs to a QONNX file"):
        options("codenet", "pynq-z2", inputs=tmp_path / "v.npz")
    with pytest.raises(ConfigError, match="is not a file"):
        options(str(model), "pynq-z2", inputs=tmp_path / "gone.npz")


def answers(path: Path, pixels: np.ndarray) -> np.ndarray:
    """The class of each image by the qonnx executor alone."""
    reals = executed(path, pixels.astype(np.float32) / np.float32(255))
    return np.array([row.argmax() for row in reals["scores"]])


@pytest.mark.filterwarnings("ignore:Output shapes disagree")
def test_labels_give_the_accuracy_of_the_integer_graph(model: Path, tmp_path: Path) -> None:
    pixels = strokes(300, 8)
    right = answers(model, pixels)
    labels = right.astype(np.uint8)
    labels[::7] = (labels[::7] + 1) % 10  # wrong on purpose: 43 of 300
    given = save(tmp_path / "v.npz", image=pixels.reshape(300, 784), labels=labels)
    out = tmp_path / "run"
    records = build(model, out, inputs=given)
    assert records["data"].made == (
        "300 vectors of v.npz, uint8; (300, 784) read as (N, 1, 28, 28); with labels"
    )
    assert records["verify"].made.endswith("top-1 accuracy 85.67 % (257 of 300 vectors)")
    found = schema.read(out / "report.json")
    assert found.accuracy.value == 257 / 300 and found.accuracy.images == 300
    assert found.accuracy.metric == "top-1 accuracy"
    assert found.accuracy.tool == f"hwflow {hwflow.__version__}, integer graph"
    # What was compared by equality stands beside it.
    assert (found.verify.qonnx.images, found.verify.hls.images) == (3, 3)
    assert (found.verify.qonnx.mismatches, found.verify.hls.mismatches) == (0, 0)
    page = (out / "report.html").read_text()
    assert "top-1 accuracy" in page and "85.67" in page
    shown = Console(width=120, file=io.StringIO())
    shown.print(terminal.numbers(found))
    assert "85.67 %" in shown.file.getvalue()

    labels[1:4] = (labels[1:4] + 1) % 10
    worse = tmp_path / "worse"
    build(model, worse, inputs=save(tmp_path / "w.npz", image=pixels, labels=labels))
    table = compare.comparison(compare.load_all([out, worse]))
    verdict = gate.check([gate.parse("accuracy<-0.5%")], table)
    assert verdict.refused and "not the same kind of number" in verdict.refused[0]  # other vectors


@pytest.mark.filterwarnings("ignore:Output shapes disagree")
def test_a_fall_of_the_accuracy_breaks_a_limit(model: Path, tmp_path: Path) -> None:
    """The same vectors and labels, two networks."""
    pixels = strokes(200, 9)
    given = save(tmp_path / "v.npz", image=pixels, labels=answers(model, pixels))
    other = tmp_path / "other.onnx"
    onnx.save(Dense("1W2A", seed=5).model((784, 16, 10)), other)
    equal = int((answers(model, pixels) == answers(other, pixels)).sum())
    assert equal < 190
    for file, folder in ((model, "a"), (other, "b")):
        build(file, tmp_path / folder, inputs=given)
    table = compare.comparison(compare.load_all([tmp_path / "a", tmp_path / "b"]))
    verdict = gate.check([gate.parse("accuracy<-0.5%")], table)
    assert not verdict.refused
    assert verdict.breaches == (
        f"accuracy<-0.5%: accuracy went from 1 to {compare.shown(equal / 200)} "
        f"({equal / 2 - 100:+.3f} %)",
    )
    kept = tmp_path / "baseline.json"
    baseline.write(compare.load(tmp_path / "a").report, kept)
    table = compare.comparison(compare.load_all([kept, tmp_path / "b"]))
    assert gate.check([gate.parse("accuracy<-0.5%")], table).breaches == verdict.breaches


def test_without_labels_it_says_how_to_get_the_accuracy(model: Path, tmp_path: Path) -> None:
    build(model, tmp_path / "run")
    found = schema.read(tmp_path / "run" / "report.json").accuracy
    assert found.value is None
    assert "--inputs takes an npz with `labels`" in str(found.reason)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 3, 10], "labels 0 to 10; the network has 10 classes, 0 to 9"),
        ([-1, 3, 4], "labels -1 to 4; the network has 10 classes, 0 to 9"),
    ],
)
def test_labels_outside_of_the_classes(
    labels: list[int], words: str, model: Path, tmp_path: Path
) -> None:
    given = save(tmp_path / "v.npz", image=strokes(3, 1), labels=np.array(labels))
    records = build(model, tmp_path / "run", inputs=given)
    assert records["data"].status == "failed" and words in str(records["data"].reason)


def ends(last: str) -> onnx.ModelProto:
    """A network of a quantiser alone, or one that ends in ArgMax of two classes."""
    net = Net(np.random.default_rng(3))
    net.shape = (1, 2, 4, 4)
    net.x = net.quant(net.x, 2.0**-4, 4, True)
    if last == "argmax":
        net.flatten()
        net.dense(2, last=True)
        net.x = net.node("ArgMax", [net.x], axis=1, keepdims=0)
        net.shape = (1,)
    return net.model((1, 2, 4, 4))


def test_labels_of_no_classifier(tmp_path: Path) -> None:
    path = tmp_path / "maps.onnx"
    onnx.save(ends("maps"), path)
    given = save(tmp_path / "v.npz", x=np.zeros((3, 2, 4, 4)), labels=np.zeros(3, int))
    record = build(path, tmp_path / "run", inputs=given)["data"]
    assert record.status == "failed" and "has no output of scores or classes (" in str(
        record.reason
    )


def test_labels_of_a_network_that_ends_in_argmax(tmp_path: Path) -> None:
    path = tmp_path / "two.onnx"
    onnx.save(ends("argmax"), path)
    codes = np.random.default_rng(4).integers(-8, 8, (40, 2, 4, 4))
    name = onnx.load(path).graph.output[0].name
    model = ModelWrapper(str(path)).transform(InferShapes())
    right = np.array([
        int(execute_onnx(model, {"image": np.float32(one[None] / 16)})[name][0]) for one in codes
    ])
    assert {0, 1} == set(right)
    labels = np.where(np.arange(40) < 10, 1 - right, right)
    given = save(tmp_path / "v.npz", x=codes, labels=labels)
    records = build(path, tmp_path / "run", inputs=given)
    assert records["verify"].made.endswith("75.00 % (30 of 40 vectors)"), records
    given = save(tmp_path / "w.npz", x=codes, labels=right + 1)
    wrong = build(path, tmp_path / "run", inputs=given)["data"]
    assert "the network has 2 classes, 0 to 1" in str(wrong.reason)
