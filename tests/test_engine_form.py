# SPDX-License-Identifier: Apache-2.0
"""Networks in the engine's form: the same integers, in the interpreter and in the engine."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwflow import build as runner
from hwflow import ingest, interp, passes, stages
from hwflow.build import Record
from hwflow.emit import engine
from hwflow.errors import GraphError, VerifyError
from hwflow.ir import Graph, GraphBuilder, IntType, Tensor
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.conv2d import Conv2dAttrs
from hwflow.ops.group_sum import GroupSumAttrs
from hwflow.ops.maxpool2d import Maxpool2dAttrs
from hwflow.ops.pw import PwAttrs
from hwflow.ops.rearrange import RearrangeAttrs
from hwflow.passes.engine_form import EngineForm, engine_form, form_of, is_native
from hwflow.stages.hardware import _check_batches
from hwflow.stages.options import options
from tests.engine_graphs import I8, U8, random_mlp
from tests.engine_model import EngineModel
from tests.import_models import Net
from tests.test_import_tfc import FOLDER, PUBLISHED, Dense, pixels

KINDS = ("1W1A", "1W2A", "2W2A", "1W2A-T", "2W1A")


def random_images(graph: Graph, count: int, seed: int) -> np.ndarray:
    """Integers of the whole range of the input."""
    tensor = graph.tensors[graph.inputs[0]]
    kind = tensor.dtype
    assert isinstance(kind, IntType)
    return np.random.default_rng(seed).integers(
        kind.lo, kind.hi, (count, *tensor.shape), endpoint=True
    )


def same_outputs(form: EngineForm, images: np.ndarray, tensors: dict[str, np.ndarray]) -> None:
    """What the host makes of the engine's outputs is what the network itself says."""
    graph = form.source
    found = form.unpack({name: tensors[name] for name in form.graph.outputs}, len(images))
    for image, outputs in zip(images, found, strict=True):
        expected = interp.run(graph, {graph.inputs[0]: image})
        assert set(outputs) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(outputs[name], array, err_msg=name)


def on_model(form: EngineForm, images: np.ndarray, seed: int) -> None:
    """The program in numpy, its queues in a random order: every word, then the outputs."""
    params = engine.EngineParams()
    program = engine.compile_graph(form.graph, params)
    packed = form.pack(images)
    model = EngineModel(params.act_words, seed)
    model.run(program.array_stream, program.lane_stream, packed.astype(np.uint8))
    tags, addrs, data = zip(*model.writes, strict=True)
    expected = interp.run(form.graph, {form.graph.inputs[0]: packed}, keep=True)
    engine.check_trace(
        program, form.graph, np.array(tags), np.array(addrs), np.stack(data), expected
    )
    tensors, at = {}, 0
    for name in form.graph.outputs:
        tensor = form.graph.tensors[name]
        size = int(np.prod(tensor.shape))
        kind = np.int8 if tensor.dtype == I8 else np.uint8
        tensors[name] = np.frombuffer(model.output[at : at + size], kind).reshape(tensor.shape)
        at += size
    same_outputs(form, images, tensors)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 16))
def test_any_dense_network_keeps_its_integers(seed: int, count: int) -> None:
    graph = random_mlp(seed)
    images = random_images(graph, count, seed)
    try:
        form = form_of(graph)
    except GraphError as error:
        assert "constant" in str(error)
        found = [interp.run(graph, {"image": image}) for image in images]
        name = graph.outputs[0]
        assert all(np.array_equal(one[name], found[0][name]) for one in found)
        return
    assert form is not None
    every = interp.run(form.graph, {form.graph.inputs[0]: form.pack(images)}, keep=True)
    same_outputs(form, images, every)


@pytest.mark.parametrize("seed", range(12))
def test_the_engine_runs_dense_networks(seed: int) -> None:
    graph = random_mlp(seed)
    on_model(engine_form(graph), random_images(graph, 16 - seed, seed), seed)


@pytest.mark.parametrize("kind", KINDS)
def test_own_network_of_each_kind(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(Dense(kind, seed=len(kind) + ord(kind[2])).model(), path)
    form = engine_form(passes.lower(ingest.read(path)))
    assert {n.op for n in form.graph.nodes} == {"gather_pw"}
    on_model(form, pixels(16, 3), 1)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_network(kind: str) -> None:
    path = FOLDER / f"TFC_{kind}.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set HWFLOW_TFC to its folder")
    on_model(engine_form(passes.lower(ingest.read(path))), pixels(16, 3), 1)


def consts(weight: np.ndarray, mul: int = 1, bias: int = 0, shift: int = 0) -> dict:
    rows = len(weight)
    return {
        "weight": weight.astype(np.int8), "bias": np.full(rows, bias, np.int64),
        "mul": np.full(rows, mul, np.int64), "shift": np.full(rows, shift, np.int8),
    }  # fmt: skip


def dense(b: GraphBuilder, name: str, x: Tensor, out: int, lo: int, hi: int, **how: int) -> Tensor:
    """A dense layer over the whole map, of weights 1."""
    kernel = (x.shape[1], x.shape[2])
    kind = IntType(9 if hi < 256 else 24, True)
    attrs = Conv2dAttrs(kernel, (1, 1), (0,) * 4, (1, 1), 1, 0, 4, 28, lo, hi, kind)
    return b.add(name, "conv2d", [x], attrs, consts(np.ones((out, *x.shape)), **how))


def test_a_step_at_every_accumulator() -> None:
    """A threshold below, at and above all sums of five digits: exact for each of the sums."""
    digits = [[min(7, max(0, n - 7 * i)) for i in range(5)] for n in range(36)]
    images = np.array(digits).reshape(36, 5, 1, 1)
    for step in range(-1, 39):
        b = GraphBuilder("edge")
        x = b.input("image", (5, 1, 1), IntType(3, False))
        y = dense(b, "sum", x, 1, 0, 1, mul=2, bias=2 - 2 * step, shift=1)  # acc - step + 1
        graph = b.build([dense(b, "last", y, 1, -128, 127)])
        assert [int(interp.run(graph, {"image": i})["last"][0, 0, 0]) for i in images] == [
            int(n >= step) for n in range(36)
        ]
        if not 0 < step <= 35:
            with pytest.raises(GraphError, match="constant"):
                engine_form(graph)
            continue
        form = engine_form(graph)
        for first in (0, 16, 32):
            some = images[first : first + 16]
            every = interp.run(form.graph, {"image": form.pack(some)}, keep=True)
            assert {0, 1} >= set(np.unique(every["sum"]))
            same_outputs(form, some, every)


def test_argmax_is_left_to_the_host() -> None:
    graph = random_mlp(5)
    b = GraphBuilder("scores")
    x = b.input("image", (7, 1, 1), U8)
    scores = b.add("scores", "pw", [x], PwAttrs(4, 16, I8),
                   consts(np.random.default_rng(0).integers(-7, 8, (5, 7)), shift=5))  # fmt: skip
    flat = b.add("flat", "rearrange", [scores], RearrangeAttrs((5,), (0,), (5, 1, 1)))
    graph = b.build([b.add("class", "argmax", [flat], ArgmaxAttrs()), flat])
    form = engine_form(graph)
    assert form.graph.outputs == ("scores",)
    assert [n.name for n in form.tail] == ["class"]
    on_model(form, random_images(graph, 16, 1), 2)


def test_everything_without_a_form_is_listed() -> None:
    """Tables and their sums have none, accumulators beyond 26 bits neither."""
    b = GraphBuilder("mixed")
    x = b.input("image", (6, 4, 4), IntType(2, False))
    graph = b.build([b.add("sum", "group_sum", [x], GroupSumAttrs(2))])
    with pytest.raises(GraphError, match=r"does not run: sum \(group_sum\); use the HLS backend"):
        engine_form(graph)
    b = GraphBuilder("long")
    x = b.input("image", (1200, 1, 1), U8)
    y = b.add("long", "pw", [x], PwAttrs(8, 27, U8), consts(np.full((2, 1200), 127), shift=18))
    with pytest.raises(GraphError, match=r"long: accumulators of .* use the HLS backend"):
        engine_form(b.build([y]))


@pytest.mark.parametrize("op", ["conv2d", "maxpool2d"])
def test_maps_far_beyond_the_engine_are_refused_at_once(op: str) -> None:
    b = GraphBuilder("huge")
    x = b.input("image", (3, 3000, 3000), U8)
    if op == "conv2d":
        attrs = Conv2dAttrs((3, 3), (1, 1), (1,) * 4, (1, 1), 1, 0, 4, 20, 0, 255, U8)
        y = b.add("y", op, [x], attrs, consts(np.ones((2, 3, 3, 3)), shift=5))
    else:
        y = b.add("y", op, [x], Maxpool2dAttrs((3, 3), (1, 1), (1,) * 4, (1, 1)))
    with pytest.raises(GraphError, match=r"y: 243,000,000 words .* Use a smaller input"):
        engine_form(b.build([y]))


def test_scores_beyond_a_byte_are_digits() -> None:
    for reach, count in ((1, 2), (7, 3)):
        b = GraphBuilder("wide")
        x = b.input("image", (97, 1, 1), IntType(8, False))
        rng = np.random.default_rng(reach)
        weight = rng.integers(-reach, reach + 1, (4, 97, 1, 1))
        attrs = Conv2dAttrs((1, 1), (1, 1), (0,) * 4, (1, 1), 1, 0, 4, 28, -(2**23), 2**23 - 1,
                            IntType(24, True))  # fmt: skip
        graph = b.build([b.add("scores", "conv2d", [x], attrs, consts(weight, bias=-77))])
        form = engine_form(graph)
        assert len(form.graph.nodes) == count
        on_model(form, random_images(graph, 16, reach), reach)


@pytest.mark.parametrize(
    ("channels", "sides", "reach", "bits"),
    [(4053, 1, 7, 4), (6000, 1, 7, 4), (9000, 1, 3, 4), (520, 3, 7, 4), (4600, 1, -7, 8)],
)
def test_long_sums_are_made_of_parts(channels: int, sides: int, reach: int, bits: int) -> None:
    """More taps than the weight words of a tile; the parts are digits that are added up."""
    b = GraphBuilder("long")
    x = b.input("image", (channels, sides, sides), IntType(bits, False))
    rng = np.random.default_rng(channels)
    weight = rng.integers(-abs(reach), abs(reach) + 1, (30, channels, sides, sides))
    if reach < 0:  # all as large as they can be
        weight = np.where(weight < 0, reach, -reach)
    attrs = Conv2dAttrs((sides, sides), (1, 1), (0,) * 4, (1, 1), 1, 0, 4, 28, 0, 255, U8)
    shift = 2 * bits - 3
    held = consts(weight, bias=128 << shift, shift=shift)
    graph = b.build([b.add("y", "conv2d", [x], attrs, held)])
    form = engine_form(graph)
    assert len(form.graph.nodes) >= 5
    images = random_images(graph, 16, 1)
    on_model(form, images, 2)
    values = [interp.run(graph, {"image": image})["y"] for image in images]
    assert len(np.unique(values)) > 30


def test_multipliers_and_many_levels() -> None:
    b = GraphBuilder("levels")
    x = b.input("image", (90, 1, 1), IntType(8, False))
    y = dense(b, "first", x, 4, 0, 100, mul=333, shift=16)
    y = dense(b, "second", y, 4, 0, 90, mul=65521, shift=16)
    graph = b.build([dense(b, "last", y, 4, -128, 127, shift=2)])
    on_model(engine_form(graph), random_images(graph, 16, 1), 1)


@pytest.mark.parametrize("limits", [(0, 15), (-8, 7), (-7, 7), (-3, 200), (1, 14), (-127, 127)])
@pytest.mark.parametrize("shift", [-1, 0, 3])
def test_limits_of_every_parity(limits: tuple[int, int], shift: int) -> None:
    """Sums of one byte, all 256 of them, through limits that clamp below, above, and at ties."""
    b = GraphBuilder("limits")
    x = b.input("image", (1, 4, 4), IntType(8, True))
    attrs = Conv2dAttrs((1, 1), (1, 1), (0,) * 4, (1, 1), 1, 0, 8, 28, *limits, IntType(9, True))
    for factor in (-5, 1, 3):
        y = b.add(f"y{factor}", "conv2d", [x], attrs, consts(np.full((1, 1, 1, 1), factor),
                  bias=3, shift=shift))  # fmt: skip
    graph = b.build([f"y{factor}" for factor in (-5, 1, 3)])
    assert y.shape == x.shape
    images = np.arange(-128, 128).reshape(16, 1, 4, 4)
    form = engine_form(graph)
    every = interp.run(form.graph, {"image": form.pack(images)}, keep=True)
    same_outputs(form, images, every)


def test_other_networks_have_no_form() -> None:
    b = GraphBuilder("map")
    x = b.input("image", (3, 16, 16), U8)
    y = b.add("pw", "pw", [x], PwAttrs(4, 26, I8), consts(np.ones((4, 3)), shift=3))
    graph = b.build([y])
    assert is_native(graph) and form_of(graph) is None


def test_one_frame_takes_one_to_sixteen_images() -> None:
    graph = random_mlp(1)
    form = engine_form(graph)
    images = random_images(graph, 19, 1)
    frames = form.frames(images)
    assert frames.shape[0] == 2 and frames.shape[3] == 16
    low = graph.tensors["image"].dtype.lo
    found = np.moveaxis(frames[1, :, :, :3], 2, 0).reshape(3, *images.shape[1:])
    assert np.array_equal(found, images[16:] - low)
    assert not frames[1, :, :, 3:].any()
    with pytest.raises(GraphError, match="17 images"):
        form.pack(images[:17])
    assert form.images == 16


def build(path: Path, out: Path, *require: str, more: tuple[str, ...] = ()) -> dict[str, Record]:
    """Stages lower, rtl, sim and report of a file, and perhaps more; one frame."""
    wanted = ("data", "export", "train", "lower", "rtl", "sim", "report", *more)
    some = tuple(stage for stage in stages.STAGES if stage.name in wanted)
    chosen = options(str(path), "pynq-z2", tiles=2, frames=1, require=require)
    return {r.name: r for r in runner.build(some, chosen, out)}


def test_a_build_simulates_sixteen_images_a_frame(tmp_path: Path) -> None:
    path, out = tmp_path / "dense.onnx", tmp_path / "run"
    onnx.save(Dense("1W2A", seed=4).model((784, 16, 10)), path)
    records = build(path, out, "rtl")
    assert records["rtl"].status == records["sim"].status == "done", records
    made = str(records["sim"].made)
    assert made.startswith("1 frames of 16 images, 5 layers each: 0 mismatches"), made
    performance = json.loads((out / "sim" / "result.json").read_text())["performance"]
    assert performance["fps"] == round(16 * 150e6 / performance["cycles_per_frame"], 3)
    form = engine_form(Graph.load(out / "lower" / "graph"))
    assert (out / "rtl" / "engine.txt").read_text() == form.graph.table()
    with np.load(out / "sim" / "frames.npz") as held:
        assert held["images"].shape == (16, 1, 28, 28)
        assert np.array_equal(form.pack(held["images"]), held["frames"][0])
        graph = form.source
        for image, found in zip(held["images"], held["output.dense1"], strict=True):
            expected = interp.run(graph, {graph.inputs[0]: image})
            np.testing.assert_array_equal(found, expected["dense1"])


def test_outputs_that_differ_are_found(tmp_path: Path) -> None:
    graph = random_mlp(5)
    form = engine_form(graph)
    images = random_images(graph, 3, 0)
    every = interp.run(form.graph, {"image": form.pack(images)}, keep=True)
    name = form.graph.outputs[0]
    right = {n: every[n] for n in form.graph.outputs}
    wrong = right | {name: every[name].copy()}
    wrong[name][:, 0, 2] ^= 1
    frames = SimpleNamespace(outputs=(right,))
    assert list(_check_batches(form, images, frames)) == [f"output.{n}" for n in graph.outputs]
    with pytest.raises(VerifyError, match="image 2 of frame 0"):
        _check_batches(form, images, SimpleNamespace(outputs=(wrong,)))


def test_a_build_says_what_the_engine_does_not_run(tmp_path: Path) -> None:
    """An input of more words than the activation memory holds."""
    net = Net(np.random.default_rng(3))
    net.shape = (1, 31000, 1, 1)
    net.x = net.quant(net.x, 2.0**-8, 2, False)
    net.flatten()
    net.dense(3, last=True)
    path = tmp_path / "wide.onnx"
    onnx.save(net.model((1, 31000, 1, 1)), path)
    records = build(path, tmp_path / "run")
    assert records["rtl"].status == records["sim"].status == "skipped"
    assert "does not run this network: " in str(records["rtl"].reason)
    assert build(path, tmp_path / "run", "rtl")["rtl"].status == "failed"
