# SPDX-License-Identifier: Apache-2.0
"""`hwflow build FILE.onnx`: its vectors, what is skipped and why, what --require makes of it."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from hwflow import build as runner
from hwflow import stages
from hwflow.build import Record
from hwflow.errors import ConfigError, DataError, GraphError, HwflowError, ResourceError
from hwflow.ir import Graph
from hwflow.stages import vectors
from hwflow.stages.options import options
from tests.import_models import Net
from tests.test_import_tfc import Dense

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
    with pytest.raises(DataError, match=r"1\.\.256 leave the input's type u8"):
        vectors.integers(wrong, graph)


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


def test_hls_buffers_that_are_too_small_skip_the_stage(tmp_path: Path) -> None:
    """A dense layer of more inputs than the multiply array has steps."""
    net = Net(np.random.default_rng(2))
    net.shape = (1, 5, 32, 32)
    net.x = net.quant(net.x, 2.0**-8, 8, False)
    net.flatten()
    net.dense(3, last=True)
    path = tmp_path / "wide.onnx"
    onnx.save(net.model((1, 5, 32, 32)), path)
    records = build(path, tmp_path / "run")
    assert records["verify"].status == "done"
    assert records["hls"].status == "skipped"
    assert "the HLS engine does not run this network" in str(records["hls"].reason)
    assert "5120 steps of the multiply array" in str(records["hls"].reason)
    assert build(path, tmp_path / "run", require=("hls",))["hls"].status == "failed"


def test_the_first_step_lists_everything_unsupported(tmp_path: Path) -> None:
    net = Net(np.random.default_rng(2))
    net.x = net.quant(net.x, 2.0**-8, 8, False)
    for op in ("Sigmoid", "Tanh", "Elu"):
        net.x = net.node(op, [net.x])
    path = tmp_path / "odd.onnx"
    onnx.save(net.model((1, 3, 9, 7)), path)
    given = save(tmp_path / "v.npz", image=np.zeros((1, 3, 9, 7), np.uint8))
    for changes, first in (({}, "lower"), ({"inputs": given}, "data")):
        records = build(path, tmp_path / f"run-{first}", **changes)
        failed = [r for r in records.values() if r.status == "failed"]
        assert [r.name for r in failed] == [first]
        assert "3 unsupported:" in str(failed[0].reason)
        for op in ("Sigmoid", "Tanh", "Elu"):
            assert f"{op}: not supported; nearest: " in str(failed[0].reason)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"one": np.zeros((1, 784)), "two": np.zeros((1, 784))}, "call the array of the vectors"),
        ({"image": np.zeros((2, 27, 28))}, r"shape \(2, 27, 28\); \(N, 1, 28, 28\) is needed"),
        ({"image": np.full((1, 1, 28, 28), np.nan)}, "not finite"),
        ({"image": np.array([["a"]])}, "give numbers"),
        ({"image": np.zeros((0, 1, 28, 28))}, "give numbers"),
    ],
)
def test_wrong_vectors(held: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    path = save(tmp_path / "v.npz", **held)
    with pytest.raises(DataError, match=words):
        vectors.read(path, "image", (1, 28, 28))


def test_vectors_in_other_shapes(tmp_path: Path) -> None:
    values = np.arange(2 * 784).reshape(2, 28, 28) % 256
    for shape in ((2, 28, 28), (2, 1, 28, 28)):
        path = save(tmp_path / "v.npz", any_name=values.reshape(shape))
        assert np.array_equal(vectors.read(path, "image", (1, 28, 28))[:, 0], values)
    path = save(tmp_path / "v.npz", image=values[0])
    assert vectors.read(path, "image", (1, 28, 28)).shape == (1, 1, 28, 28)
    path = save(tmp_path / "v.npz", image=np.zeros((3, 10)))
    assert vectors.read(path, "image", (10, 1, 1)).shape == (3, 10, 1, 1)


def test_inputs_belong_to_a_file(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--inputs belongs to a QONNX file"):
        options("codenet", "pynq-z2", inputs=tmp_path / "v.npz")
    with pytest.raises(ConfigError, match="is not a file"):
        options(str(model), "pynq-z2", inputs=tmp_path / "gone.npz")
