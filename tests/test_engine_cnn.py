# SPDX-License-Identifier: Apache-2.0
"""Convolutional networks in the engine's form: interpreter, compiler and RTL agree on each word."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwflow import boards, estimate, ingest, inspect, interp, passes
from hwflow.driver import Batch, DriverError
from hwflow.emit import engine
from hwflow.emit.engine.words import never_read
from hwflow.errors import GraphError, ResourceError
from hwflow.ir import Graph, GraphBuilder, IntType, Tensor
from hwflow.ops import OPS
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.conv import ConvAttrs
from hwflow.ops.conv2d import Conv2dAttrs
from hwflow.ops.dw import DwAttrs
from hwflow.ops.gather_pw import GatherPwAttrs
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.maxpool2d import Maxpool2dAttrs
from hwflow.ops.rearrange import RearrangeAttrs
from hwflow.ops.residual import ResidualAttrs
from hwflow.ops.resize import ResizeAttrs
from hwflow.ops.threshold import ThresholdAttrs
from hwflow.ops.upsample import UpsampleAttrs
from hwflow.passes.engine_form import EngineForm, engine_form, form_of, is_native
from hwflow.passes.engine_host import host_arrays
from hwflow.passes.engine_values import order
from tests import small_cnns
from tests.engine_graphs import I8, U8
from tests.import_models import random_net
from tests.test_engine_form import build, on_model, random_images, same_outputs

NETS = {
    "lenet": lambda: small_cnns.lenet(1, 4, 20),
    "lenet of 8 bits": lambda: small_cnns.lenet(2, 8, 20),
    "resnet": lambda: small_cnns.resnet(3, (5, 7), 1, 9),
    "mobile": lambda: small_cnns.mobile(4),
}


def read(model: onnx.ModelProto, folder: Path) -> Graph:
    path = folder / "net.onnx"
    onnx.save(model, path)
    return passes.lower(ingest.read(path))


def same(graph: Graph, count: int, seed: int) -> EngineForm:
    """The form of a graph, proven on random images by the interpreter."""
    form = engine_form(graph)
    images = random_images(graph, count, seed)
    every = interp.run(form.graph, {form.graph.inputs[0]: form.pack(images)}, keep=True)
    same_outputs(form, images, every)
    return form


# ---- one layer, every legal attribute


def scales(
    rng: np.random.Generator, weight: np.ndarray, x: IntType, levels: int
) -> dict[str, np.ndarray]:
    """Power-of-two requantisers that use about `levels` of the range, ties included."""
    flat = weight.reshape(len(weight), -1).astype(np.int64)
    reach = np.abs(flat).sum(axis=1) * max(x.hi, -x.lo)
    shift = np.array([max(0, int(r).bit_length() - levels.bit_length() - 1) for r in reach])
    return {
        "weight": weight.astype(np.int8),
        "bias": rng.integers(-reach // 4 - 1, reach // 4 + 2),
        "mul": np.ones(len(weight), np.int64),
        "shift": shift.astype(np.int8),
    }


def random_layer(seed: int) -> Graph:
    """A layer of any kind on a small image of any integer type."""
    rng = np.random.default_rng(seed)

    def pick(*choices: object) -> object:
        return choices[int(rng.integers(len(choices)))]

    kind = IntType(int(pick(1, 4, 8, 8)), bool(rng.integers(2)))
    b = GraphBuilder(f"layer-{seed}")
    shape = (int(pick(1, 2, 5, 7, 26)), *(int(n) for n in rng.integers(1, 12, 2)))
    x = b.input("image", shape, kind)
    what = str(pick("conv2d", "conv2d", "conv2d", "pool", "dw", "residual", "moves", "mean"))
    lo, hi = pick(
        (0, 255), (0, 15), (-8, 7), (-128, 127), (-7, 7), (0, 3), (-(1 << 23), (1 << 23) - 1)
    )
    bits = IntType(24, True)
    y: Tensor | None = None
    if what == "conv2d":
        kernel = tuple(int(n) for n in rng.integers(1, 6, 2))
        dilation = tuple(int(n) for n in rng.integers(1, 4, 2))
        stride = tuple(int(n) for n in rng.integers(1, 4, 2))
        pads = tuple(int(n) for n in rng.integers(0, 4, 4))
        groups = int(pick(1, 1, shape[0]))
        out = groups * int(pick(1, 3, 13))
        top = int(pick(1, 7, 127))
        weight = rng.integers(-top, top + 1, (out, shape[0] // groups, *kernel))
        value = int(rng.integers(kind.lo, kind.hi + 1))
        attrs = Conv2dAttrs(kernel, stride, pads, dilation, groups, value, 8, 32, lo, hi, bits)
        try:
            y = b.add("y", "conv2d", [x], attrs, scales(rng, weight, kind, hi - lo))
        except GraphError:
            return random_layer(seed + 1)  # the window is larger than the map
    elif what == "pool":
        kernel, stride = (tuple(int(n) for n in rng.integers(1, 4, 2)) for _ in range(2))
        pads = tuple(int(rng.integers(0, k)) for k in (*kernel, *kernel))
        try:
            y = b.add("y", "maxpool2d", [x], Maxpool2dAttrs(kernel, stride, pads, (1, 1)))
        except GraphError:
            return random_layer(seed + 1)
    elif what == "dw":
        weight = rng.integers(-7, 8, (shape[0], 3, 3))
        attrs = DwAttrs(int(pick(1, 2)), 4, 26, I8)
        y = b.add("y", "dw", [x], attrs, scales(rng, weight, kind, 255))
    elif what == "residual":
        attrs = Conv2dAttrs((3, 3), (1, 1), (1,) * 4, (1, 1), 1, 0, 8, 32, -8, 7, IntType(4, True))
        weight = rng.integers(-3, 4, (shape[0], shape[0], 3, 3))
        z = b.add("z", "conv2d", [x], attrs, scales(rng, weight, kind, 15))
        coef = (int(pick(1, 2, 4, -1)), int(pick(1, 2, 4)))
        one = np.ones(shape[0], np.int64)
        y = b.add(
            "y", "residual", [x, z], ResidualAttrs(coef, 20, lo, hi, bits),
            {"mul": one, "bias": rng.integers(-9, 9, shape[0]),
             "shift": np.full(shape[0], rng.integers(0, 5), np.int8)},
        )  # fmt: skip
    elif what == "mean":
        weight = np.ones((shape[0], 1, *shape[1:]))
        attrs = Conv2dAttrs(shape[1:], (1, 1), (0,) * 4, (1, 1), shape[0], 0, 2, 32, lo, hi, bits)
        count = shape[1] * shape[2]
        consts = scales(rng, weight, kind, 255) | {"mul": np.full(shape[0], 65536 // count)}
        y = b.add("y", "conv2d", [x], attrs, consts | {"shift": np.full(shape[0], 16, np.int8)})
    else:
        c, _, w = shape
        up = b.add("up", "upsample", [x], UpsampleAttrs(int(pick(2, 3))))
        rows = rng.integers(0, up.shape[1], 7).astype(np.int32)
        y = b.add("rows", "resize", [up], ResizeAttrs(),
                  {"rows": rows, "columns": np.arange(w, dtype=np.int32)})  # fmt: skip
        y = b.add("turned", "rearrange", [y], RearrangeAttrs(y.shape, (1, 2, 0), (7, w, c)))
        both = b.add("both", "concat", [y, y], ConcatAttrs())
        weight = rng.integers(-7, 8, (3, 14, 1, 2 if c > 1 else 1))
        attrs = Conv2dAttrs(weight.shape[2:], (1, 2), (0, 0, 1, 1), (1, 1), 1, 0, 4, 32, lo, hi,
                            bits)  # fmt: skip
        y = b.add("y", "conv2d", [both], attrs, scales(rng, weight, kind, hi - lo))
    return b.build([y])


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 16))
def test_any_layer_keeps_its_integers(seed: int, count: int) -> None:
    graph = random_layer(seed)
    try:
        same(graph, count, seed)
    except GraphError as error:
        assert "constant or an input" in str(error) or "accumulators of" in str(error), seed


@pytest.mark.parametrize("seed", range(24))
def test_the_engine_runs_any_layer(seed: int) -> None:
    graph = random_layer(1000 + seed)
    try:
        form = engine_form(graph)
    except GraphError as error:
        assert "constant or an input" in str(error) or "accumulators of" in str(error)
        return
    on_model(form, random_images(graph, 1 + seed % 16, seed), seed)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), free=st.booleans())
def test_any_file_keeps_its_integers(
    seed: int, free: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model, _ = random_net(seed, free)
    try:
        graph = read(model, tmp_path_factory.mktemp("net"))
    except GraphError:
        return  # no integer form at all: the readers' tests look at that
    try:
        same(graph, 3, seed)
    except GraphError as error:
        assert "constant or an input" in str(error) or "accumulators of" in str(error), seed


# ---- whole networks


@pytest.mark.parametrize("name", NETS)
def test_the_engine_runs_small_networks(name: str, tmp_path: Path) -> None:
    graph = read(NETS[name](), tmp_path)
    form = form_of(graph)
    assert form is not None and form.images == 16
    on_model(form, random_images(graph, 16, 5), 5)


@pytest.mark.parametrize("name", ["lenet", "resnet"])
def test_a_build_ends_with_no_mismatch(name: str, tmp_path: Path) -> None:
    """The RTL: every word of a frame, and the outputs of its 16 images. Then the deploy folder."""
    path, out = tmp_path / "cnn.onnx", tmp_path / "run"
    onnx.save(NETS[name](), path)
    records = build(path, out, "rtl", more=("bitstream",))
    made = str(records["sim"].made)
    assert records["sim"].status == "done" and ": 0 mismatches" in made, records
    assert made.startswith("1 frames of 16 images")
    found = json.loads((out / "sim" / "result.json").read_text())["performance"]
    graph = Graph.load(out / "lower" / "graph")
    assert found["macs_per_frame"] == 16 * graph.macs()
    program = engine.compile_graph(engine_form(graph).graph)
    assert abs(program.model_cycles / found["cycles_per_frame"] - 1) < 0.1
    assert "deploy folder" in str(records["bitstream"].made), records["bitstream"]
    on_a_board(out / "bitstream" / "deploy", graph, tmp_path / "board")


def on_a_board(source: Path, graph: Graph, folder: Path) -> None:
    """The folder's run.py with a package pynq that answers as the engine would."""
    shutil.copytree(source, folder)
    form, images = engine_form(graph), np.load(folder / "images.npy")
    frame = form.pack(images)
    every = interp.run(form.graph, {form.graph.inputs[0]: frame}, keep=True)
    np.save(folder / "frame.npy", frame.astype(np.uint8))
    output = np.concatenate([every[n].astype(np.uint8).ravel() for n in form.graph.outputs])
    shutil.copyfile(Path(__file__).with_name("fake_pynq.py"), folder / "pynq.py")
    for suffix in ("bit", "hwh"):
        (folder / f"cnn.{suffix}").touch()
    for flip, said in ((0, "yes"), (255, "NO")):
        np.save(folder / "output.npy", output ^ np.uint8(flip))
        done = subprocess.run([sys.executable, "run.py"], cwd=folder, text=True, timeout=120,
                              capture_output=True, check=False)  # fmt: skip
        assert f"16 images; as expected: {said}" in done.stdout, done.stderr
        assert done.returncode == int(said == "NO")
    assert "16 images" in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", NETS)
def test_the_host_driver_makes_the_same_outputs(name: str, tmp_path: Path) -> None:
    """host.npz against the network itself; images beyond one frame, and what is no image."""
    graph = read(NETS[name](), tmp_path)
    form = engine_form(graph)
    np.savez(tmp_path / "host.npz", **host_arrays(form))
    batch = Batch.load(tmp_path / "host.npz")
    images = random_images(graph, 19, 2)

    class Stub:
        def run(self, picture: np.ndarray) -> None:
            frame = picture.transpose(2, 0, 1).astype(np.int64)
            every = interp.run(form.graph, {form.graph.inputs[0]: frame}, keep=True)
            self.held = [every[n].astype(np.uint8).ravel() for n in form.graph.outputs]

        def output(self, size: int) -> np.ndarray:
            return np.concatenate(self.held)[:size]

    found = batch.run(Stub(), images)
    for index, image in enumerate(images):
        for key, array in interp.run(graph, {graph.inputs[0]: image}).items():
            np.testing.assert_array_equal(found[key][index], array)
    with pytest.raises(DriverError, match="one frame takes 1 to 16"):
        batch.pack(images)
    with pytest.raises(DriverError, match="not those of the input"):
        batch.pack(images[:1] + 256)
    held = host_arrays(form)
    del held["names"]
    with pytest.raises(DriverError, match=r"host.npz is not one of a program"):
        Batch(held)
    (tmp_path / "host.npz").write_bytes(b"PK")
    with pytest.raises(DriverError, match="copy it again"):
        Batch.load(tmp_path / "host.npz")


def test_argmax_behind_moves_is_the_host_s() -> None:
    """Moves before and behind the argmax, and its last maximum."""
    b = GraphBuilder("moves")
    x = b.input("image", (4, 1, 3), I8)
    rng = np.random.default_rng(0)
    weight = rng.integers(-7, 8, (6, 4, 1, 1))
    attrs = Conv2dAttrs((1, 1), (1, 1), (0,) * 4, (1, 1), 1, 0, 4, 32, -2, 1, IntType(4, True))
    y = b.add("y", "conv2d", [x], attrs, scales(rng, weight, I8, 4))
    y = b.add("turn", "rearrange", [y], RearrangeAttrs((6, 1, 3), (1, 0, 2), (6, 3, 1)))
    last = b.add("last", "argmax", [y], ArgmaxAttrs(True))
    first = b.add("first", "argmax", [y], ArgmaxAttrs(False))
    flat = b.add("flat", "rearrange", [last], RearrangeAttrs((3, 1), (1, 0), (3, 1, 1)))
    graph = b.build([flat, first])
    form = engine_form(graph)
    images = random_images(graph, 16, 3)
    batch = Batch(host_arrays(form))
    every = interp.run(form.graph, {"image": form.pack(images)}, keep=True)
    output = np.concatenate([every[n].astype(np.uint8).ravel() for n in form.graph.outputs])
    found = batch.unpack(output, 16)
    expected = [interp.run(graph, {"image": image}) for image in images]
    for name in ("flat", "first"):
        assert np.array_equal(found[name], np.stack([one[name] for one in expected]))
    assert not np.array_equal(found["flat"].ravel(), found["first"].ravel())


def test_estimate_and_inspect_know_the_form(tmp_path: Path) -> None:
    graph = read(NETS["lenet"](), tmp_path)
    board = boards.load("pynq-z2")
    found = estimate.estimate(graph, board, "lenet")
    program = engine.compile_graph(engine_form(graph).graph)
    assert found.images == 16
    assert found.cycles_per_frame >= program.model_cycles
    assert found.fps == round(16 * 150e6 / found.cycles_per_frame, 3)
    assert found.macs_per_frame == 16 * graph.macs()
    assert {layer.op for layer in found.layers} == {"gather_pw", "load", "store", "head", "end"}
    seen = inspect.of_graph(graph, "lenet", board)
    assert seen.engine is None
    assert {layer.runs_on for layer in seen.layers} == {"engine"}


def test_a_large_network_holds_a_few_rows_of_each_map(tmp_path: Path) -> None:
    """Three maps of 16 x 32 x 32 do not fit; rows of them do."""
    graph = read(small_cnns.resnet(1, (16, 16), 1, 32), tmp_path)
    program = engine.compile_graph(engine_form(graph).graph)
    assert program.peak_words < 16 * 32 * 32 < 30720
    assert program.scratch_bytes == 0
    small = engine.EngineParams(act_words=4096)
    with pytest.raises(ResourceError, match="no room for"):
        engine.compile_graph(engine_form(graph).graph, small)


# ---- parts


def test_networks_that_run_as_they_are() -> None:
    """Detectors and maps of whole words keep the native form, all others take this one."""

    def one(side: int, kernel: int, stride: int, mul: int = 1) -> Graph:
        b = GraphBuilder("one")
        x = b.input("image", (3, side, side), U8)
        consts = {"weight": np.ones((4, 3, kernel, kernel), np.int8), "bias": np.zeros(4, np.int64),
                  "mul": np.full(4, mul), "shift": np.full(4, 4, np.int8)}  # fmt: skip
        attrs = ConvAttrs(kernel, stride, kernel // 2, 4, 26, U8)
        x = b.add("conv", "conv", [x], attrs, consts)
        return b.build([b.add("pool", "maxpool", [x], MaxpoolAttrs())])

    assert is_native(one(64, 3, 2))
    assert not is_native(one(64, 5, 2))
    assert not is_native(one(64, 3, 1))
    assert not is_native(one(28, 3, 2))
    assert not is_native(one(64, 3, 2, 3))


def test_the_order_of_phases() -> None:
    assert order((2, 5), 1).tolist() == list(range(10))
    assert order((1, 5), 2).tolist() == [0, 2, 4, 1, 3]
    assert order((2, 3), 7).tolist() == list(range(6))


def test_strides_take_neighbouring_words() -> None:
    """A stride of 2 does not cut a row into single words."""
    b = GraphBuilder("stride")
    x = b.input("image", (2, 16, 16), U8)
    attrs = Conv2dAttrs((2, 2), (2, 2), (0,) * 4, (1, 1), 1, 0, 4, 32, 0, 255, U8)
    rng = np.random.default_rng(0)
    graph = b.build([b.add("y", "conv2d", [x], attrs, scales(rng, np.ones((3, 2, 2, 2)), U8, 255))])
    program = engine.compile_graph(engine_form(graph).graph)
    steps = [step for step in program.steps if step.opcode == "CONV"]
    assert [step.words for step in steps] == [8] * 8


def test_thresholds_on_values_that_stand_alone() -> None:
    b = GraphBuilder("levels")
    x = b.input("image", (2, 3, 3), I8)
    table = np.sort(np.random.default_rng(1).integers(-128, 128, (2, 40)), axis=1)
    y = b.add("y", "threshold", [x], ThresholdAttrs(-20, IntType(6, True)), {"thresholds": table})
    same(b.build([y]), 16, 3)


def test_wide_outputs_with_limits_are_refused() -> None:
    b = GraphBuilder("limits")
    x = b.input("image", (2, 3, 3), U8)
    weight = np.full((2, 2, 1, 1), 7)
    attrs = Conv2dAttrs((1, 1), (1, 1), (0,) * 4, (1, 1), 1, 0, 4, 32, -999, 999, IntType(11, True))
    y = b.add("y", "conv2d", [x], attrs, scales(np.random.default_rng(0), weight, U8, 4000))
    with pytest.raises(GraphError, match=r"y: outputs .*999 by .* limits; .* use the HLS backend"):
        engine_form(b.build([y]))


def test_words_that_nobody_reads_need_not_be_made() -> None:
    b = GraphBuilder("sparse")
    x = b.input("image", (1, 9, 9), U8)
    rng = np.random.default_rng(0)

    def pixels(name: str, x: Tensor, stride: int, weight: np.ndarray) -> Tensor:
        attrs = Conv2dAttrs((1, 1), (stride,) * 2, (0,) * 4, (1, 1), 1, 0, 4, 32, 0, 255, U8)
        return b.add(name, "conv2d", [x], attrs, scales(rng, weight, U8, 255))

    y = pixels("a", x, 1, np.full((33, 1, 1, 1), 3))
    graph = b.build([pixels("b", y, 4, np.ones((2, 33, 1, 1)))])
    form = engine_form(graph)
    unread = never_read(form.graph, "a")
    assert unread.sum() == 33 * (81 - 9) and not never_read(form.graph, "b").any()
    on_model(form, random_images(graph, 16, 1), 1)


def test_gather_pw_is_its_sum() -> None:
    """Against a loop over every word, variant and tap."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 3, 4)), rng.integers(0, 256, (1, 5, 4))
    index = rng.integers(-1, 11, (6, 8)).astype(np.int32)
    weight = rng.integers(-7, 8, (2, 3, 6)).astype(np.int8)
    bias = rng.integers(-99, 99, (2, 3))
    variant = rng.integers(0, 2, 8).astype(np.int32)
    shift = np.array([0, 3, 6], np.int8)
    consts = {"index": index, "weight": weight, "variant": variant, "bias": bias, "shift": shift}
    attrs = GatherPwAttrs(4, 20, U8, 8, 10)
    words = [*a.reshape(6, 4), *b.reshape(5, 4), np.zeros(4, int)]
    expected = np.zeros((3, 8, 4), int)
    for o in range(3):
        for n in range(8):
            v = variant[n]
            acc = bias[v, o] + sum(int(weight[v, o, t]) * words[index[t, n]] for t in range(6))
            expected[o, n] = np.clip(np.rint(acc / 2.0 ** shift[o]), 0, 255)
    op = OPS["gather_pw"]
    found = op.golden((a, b), attrs, consts)
    assert np.array_equal(found, expected)
    tensors = (Tensor("a", (2, 3, 4), U8), Tensor("b", (1, 5, 4), U8))
    out = op.infer(tensors, attrs, consts)
    assert (out.shape, out.dtype) == ((3, 8, 4), U8)
    assert op.macs(tensors, out, attrs) == 40
    for wrong, words_ in (
        ({"index": index + 1}, "index leaves"), ({"bias": bias[0]}, "bias is not"),
        ({"variant": variant + 1}, "variant leaves"), ({"weight": weight[0]}, "weight is not"),
    ):  # fmt: skip
        with pytest.raises(GraphError, match=words_):
            op.infer(tensors, attrs, {**consts, **wrong})


def test_many_steps_of_long_sums_are_added_up_in_parts() -> None:
    """300 steps a value would be more words than there are: outputs take turns, on digits."""
    b = GraphBuilder("steps")
    x = b.input("image", (60, 1, 2), U8)
    rng = np.random.default_rng(7)
    weight = rng.integers(-7, 8, (30, 60, 1, 1))
    attrs = Conv2dAttrs((1, 1), (1, 1), (0,) * 4, (1, 1), 1, 0, 4, 32, 0, 240, IntType(8, False))
    consts = scales(rng, weight, U8, 255)
    consts["mul"] = rng.integers(40_000, 60_000, 30)
    consts["bias"] = consts["bias"] * 40_000
    consts["shift"] = (consts["shift"] + 15).astype(np.int8)
    form = same(b.build([b.add("y", "conv2d", [x], attrs, consts)]), 16, 7)
    sums = [node for node in form.graph.nodes if ".sum" in node.name]
    assert len(sums) > 1 and any(".acc" in node.name for node in form.graph.nodes)
