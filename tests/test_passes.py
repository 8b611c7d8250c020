# SPDX-License-Identifier: Apache-2.0
"""Every pass keeps the meaning; the requantisers it finds are the float quantisers."""

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from hwflow import ingest, interp, passes, verify
from hwflow.errors import GraphError
from hwflow.ir import Graph, IntType, Node
from hwflow.ops.slice import SliceAttrs
from hwflow.ops.upsample import UpsampleAttrs
from hwflow.passes import LOWER
from hwflow.passes.candidates import append_peaks
from hwflow.passes.requantiser import FloatQuantiser, Requantiser, find, find_steps, prove
from hwflow.passes.structure import drop_idempotent_quantisers, recognise_shuffles
from hwflow.passes.upsampling import pw_before_upsample
from tests.graphs import random_codenet_graph
from tests.qonnx_models import free_scales, plain_stack, save, small_detector
from tests.test_ingest import constant
from tests.test_ingest import find as find_node

U8, I8 = IntType(8, False), IntType(8, True)
SAMPLES: dict[str, Callable[[], onnx.ModelProto]] = {
    "detector-0": lambda: small_detector(0),
    "detector-1": lambda: small_detector(1, side=64, classes=1),
    "stack": lambda: plain_stack(0),
}


@cache
def read_sample(name: str, folder: Path) -> Graph:
    return ingest.read(save(SAMPLES[name](), folder / f"{name}.onnx"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples")


def read(model: onnx.ModelProto, tmp_path: Path) -> Graph:
    return ingest.read(save(model, tmp_path / "net.onnx"))


def real_values(graph: Graph, image: np.ndarray) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """What every tensor with a QONNX counterpart stands for, by its name there, and the outputs."""
    every = interp.run(graph, {"image": image}, keep=True)
    reals = {
        name: array * graph.meta[f"scale.{name}"]
        if isinstance(graph.tensors[name].dtype, IntType) and f"scale.{name}" in graph.meta
        else array.astype(np.float64)
        for name, array in every.items()
    }
    named = {}
    for key, other in graph.meta.items():
        if key.startswith("onnx."):
            named.setdefault(other, []).append(reals[key.removeprefix("onnx.")])
    return named, [reals[name] for name in graph.outputs]


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("number", range(len(LOWER)), ids=[p.__name__ for p, _ in LOWER])
def test_every_pass_keeps_the_meaning(folder: Path, sample: str, number: int) -> None:
    before = passes.run(LOWER[:number], read_sample(sample, folder))
    after = passes.run(LOWER[number : number + 1], before)
    assert after.digest() == passes.run(LOWER[: number + 1], read_sample(sample, folder)).digest()
    for seed in range(2):
        image = np.random.default_rng(seed).integers(0, 256, before.tensors["image"].shape)
        named_before, outputs_before = real_values(before, image)
        named_after, outputs_after = real_values(after, image)
        for a, b in zip(outputs_before, outputs_after, strict=False):
            assert np.array_equal(a, b)
        common = set(named_before) & set(named_after)
        assert len(common) >= 5
        for name in common:
            wanted = named_before[name][-1]
            for got in named_after[name]:
                factor = wanted.shape[1] // got.shape[1]
                assert np.array_equal(got.repeat(factor, 1).repeat(factor, 2), wanted), name


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_pass_twice_is_once(folder: Path, sample: str) -> None:
    graph = read_sample(sample, folder)
    for number, (step, level) in enumerate(LOWER):
        graph = passes.run(LOWER[number : number + 1], graph)
        if step.__name__ != "leave_reals":
            assert passes.run([(step, level)], graph).digest() == graph.digest()


def test_the_lowered_detector_looks_as_it_should(folder: Path) -> None:
    graph = passes.lower(read_sample("detector-0", folder))
    ops = [n.op for n in graph.nodes]
    counts = {op: ops.count(op) for op in sorted(set(ops))}
    assert counts == {
        "concat": 2,
        "conv": 1,
        "deform_dw": 2,
        "dw": 6,
        "maxpool": 1,
        "peaks": 1,
        "pw": 16,
        "shuffle": 2,
        "slice": 2,
        "upsample": 5,
    }
    assert graph.node("layer1.1.b2.pw1").inputs == ("layer1.1.split1",)
    assert graph.node("layer4").inputs == ("layer1.1.shuffle",)
    assert graph.node("up1.ddw").inputs == ("up0.up", "up1.scale.up")
    assert graph.node("hm.pw1").inputs == ("up1.pw",)
    assert graph.node("hm.dw").inputs == ("hm.pw1.up",)
    assert graph.node("peaks").inputs == ("hm.pw2", "wh.pw2", "reg.pw2")
    assert graph.meta["output.wh"] == "wh.pw2"
    assert graph.meta["scale.wh"] == graph.meta["scale.wh.pw2"] == 2.0**-5
    assert all((graph.const(n, "mul") == 1).all() for n in graph.nodes if n.consts)


def test_accumulators_are_as_wide_as_their_own_weights_need(folder: Path) -> None:
    graph = passes.lower(read_sample("detector-0", folder))
    narrower = 0
    for node in (n for n in graph.nodes if n.consts):
        x = graph.tensors[node.inputs[0]].dtype
        worst = 0
        for w, b in zip(graph.const(node, "weight"), graph.const(node, "bias"), strict=True):
            products = [(int(v) * x.lo, int(v) * x.hi) for v in w.ravel()]
            low, high = sum(min(p) for p in products), sum(max(p) for p in products)
            for value in (low, high, low + int(b), high + int(b)):
                bits = next(n for n in range(1, 64) if -(1 << n - 1) <= value < 1 << n - 1)
                worst = max(worst, bits)
        assert node.attrs.acc_bits == worst
        terms = graph.const(node, "weight")[0].size
        limit = (1 << (node.attrs.weight_bits - 1)) - 1
        narrower += (terms * limit * 255).bit_length() + 1 > worst
    assert narrower > 10


# --- requantisers ------------------------------------------------------------------------------


def slow_float(acc: int, scale: float, bias: float, relu: bool, out: float, kind: IntType) -> int:
    """One accumulator through the float chain, a float32 at each step."""
    value = np.float32(np.float32(np.float32(acc) * np.float32(scale)) + np.float32(bias))
    if relu and value < 0:
        value = np.float32(0)
    return int(np.rint(min(max(np.float32(value / np.float32(out)), kind.lo), kind.hi)))


def one(scale: float, bias: float, relu: bool, out: float, kind: IntType) -> FloatQuantiser:
    arrays = [np.array([v], dtype=np.float32) for v in (scale, bias)]
    return FloatQuantiser(*arrays, relu, np.float32(out), kind)


def check_everywhere(f: FloatQuantiser, low: int, high: int) -> Requantiser | None:
    """Compare at every accumulator; None when find() says, and a linear program confirms, that no
    line separates the accumulators below the steps from those at them."""
    values = (float(f.scale[0]), float(f.bias[0]), f.relu, float(f.out_scale), f.kind)
    expected = [slow_float(acc, *values) for acc in range(low, high + 1)]
    try:
        g = find(f, np.array([low]), np.array([high]), "n")
    except GraphError as error:
        assert "no multiplier of up to 31 bits" in str(error)
        assert not line_fits(np.array(expected), low, f.out)
        return None
    mul, bias, shift = int(g.mul[0]), int(g.bias[0]), int(g.shift[0])
    every = np.arange(low, high + 1)[None]
    assert g(every)[0].tolist() == expected
    for acc in (low, 0, high, (low + high) // 2):
        exact = round(Fraction(acc * mul + bias) / Fraction(2) ** shift)
        assert int(g(np.array([[acc]]))[0, 0]) == min(max(exact, g.out.lo), g.out.hi)
    return g


def line_fits(values: np.ndarray, low: int, out: IntType) -> bool:
    """Whether some slope and bias, with a margin, round to these values of low, low + 1, ..."""
    from scipy.optimize import linprog

    rows, limits = [], []
    for i, value in enumerate(values.tolist()):
        # Only accumulators at the ends and beside a step matter; margin is the third unknown.
        beside = [j for j in (i - 1, i + 1) if not 0 <= j < len(values) or values[j] != value]
        if beside and value > out.lo:
            rows.append([-(low + i), -1, 1])
            limits.append(0.5 - value)
        if beside and value < out.hi:
            rows.append([low + i, 1, 1])
            limits.append(value + 0.5)
    bounds = [(0, None), (None, None), (None, 1)]
    solved = linprog([0, 0, -1], A_ub=rows, b_ub=limits, bounds=bounds)
    return bool(solved.status == 0 and solved.x[2] > 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1e-5, 1e-1),
    st.floats(-3, 3),
    st.floats(3e-3, 1),
    st.booleans(),
    st.sampled_from([U8, I8, IntType(3, False)]),
    st.integers(10, 3000),
)
def test_free_scales_are_reproduced_at_every_accumulator(
    scale: float, bias: float, out: float, relu: bool, kind: IntType, reach: int
) -> None:
    g = check_everywhere(one(scale, bias, relu, out, kind), -reach, reach + 7)
    if g is None:
        return
    assert int(g.mul[0]) < 1 << 31
    assert g.out == (IntType(7, False) if relu and kind == I8 else kind)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(-9, 4),
    st.integers(-6, 3),
    st.integers(-2000, 2000),
    st.booleans(),
    st.sampled_from([U8, I8]),
)
def test_powers_of_two_need_no_multiplier(
    scale: int, out: int, bias: int, relu: bool, kind: IntType
) -> None:
    f = one(2.0**scale, bias * 2.0**scale, relu, 2.0**out, kind)
    g = check_everywhere(f, -1500, 1400)
    assert (int(g.mul[0]), int(g.bias[0]), int(g.shift[0])) == (1, bias, out - scale)


def test_a_bias_on_a_finer_grid_takes_a_power_of_two_as_multiplier() -> None:
    g = check_everywhere(one(2.0**-4, 5 * 2.0**-6, False, 2.0**-2, I8), -900, 900)
    assert (int(g.mul[0]), int(g.bias[0]), int(g.shift[0])) == (4, 5, 4)


def test_sixteen_bits_are_tried_first() -> None:
    rng = np.random.default_rng(0)
    widths: dict[int, list[int]] = {1000: [], 20000: []}
    for reach, found in widths.items():
        for _ in range(30):
            scale, out = rng.uniform(3e-3, 3e-2), rng.uniform(0.1, 0.5)
            f = one(scale, 0.3, True, out, U8)
            g = find(f, np.array([-reach]), np.array([reach]), "n")
            found.append(int(g.mul[0]).bit_length())
    assert max(widths[1000]) <= 16
    assert 16 < max(widths[20000]) <= 31  # wider ones where the steps need them


def test_one_value_over_the_whole_range() -> None:
    g = check_everywhere(one(1e-4, 100.1, False, 0.3, U8), -50, 50)
    assert int(g.mul[0]) == 0


def test_all_channels_at_once_and_large_ranges() -> None:
    rng = np.random.default_rng(1)
    c = 64
    f = FloatQuantiser(
        rng.uniform(5e-3, 5e-2, c).astype(np.float32),
        rng.uniform(-1, 1, c).astype(np.float32),
        True,
        np.float32(0.37),
        U8,
    )
    low, high = -rng.integers(1, 2_000_000, c), rng.integers(1, 2_000_000, c)
    g = find(f, low, high, "n")
    points = rng.integers(low[:, None], high[:, None] + 1, (c, 5000))
    assert np.array_equal(f(points), g(points))
    steps = find_steps(f, low, high)
    reached = steps <= high[:, None]
    levels = np.arange(1, 256)[None].repeat(c, 0)
    clipped = np.minimum(steps, high[:, None])
    assert (f(clipped)[reached] >= levels[reached]).all()
    inner = reached & (steps > low[:, None])
    assert (f(steps - 1)[inner] < levels[inner]).all()


def test_a_wrong_requantiser_is_not_proven() -> None:
    f = one(2.0**-6, 0, False, 2.0**-2, I8)
    low, high = np.array([-900]), np.array([900])
    steps = find_steps(f, low, high)
    right = Requantiser(np.array([1]), np.array([0]), np.array([4]), I8)
    prove(f, right, steps, low, high, "n")
    for mul, bias, shift in ((1, 1, 4), (1, -1, 4), (1, 0, 5), (2, 1, 5), (3, 0, 6)):
        wrong = Requantiser(np.array([mul]), np.array([bias]), np.array([shift]), I8)
        with pytest.raises(GraphError, match=r"node 'n' channel 0: at accumulator -?\d+ the float"):
            prove(f, wrong, steps, low, high, "n")


def test_no_multiplier_fits() -> None:
    """A ratio of 1 / 300: every tie lies on an accumulator and goes to the even side, now up, now
    down, which no multiplier follows."""
    f = one(1e-5, 0.5, False, 0.003, U8)
    with pytest.raises(GraphError, match=r"node 'n' channel 0: no multiplier of up to 31 bits"):
        find(f, np.array([-350]), np.array([357]), "n")
    assert check_everywhere(f, -350, 357) is None


def test_the_accumulator_must_stay_below_two_to_the_24() -> None:
    f = FloatQuantiser(
        np.full(3, 2.0**-8, np.float32), np.float32([0, 60000, 0]), False, np.float32(1), U8
    )
    low, high = np.zeros(3, np.int64), np.full(3, 1_417_215)
    find(f, low, high, "n")
    with pytest.raises(GraphError, match=r"node 'n' channel 1: .* reaches 16777216; below 2\*\*24"):
        find(f, low, high + 1, "n")


def test_free_scales_through_the_whole_road(tmp_path: Path) -> None:
    """The integers of a network with free scales; float32 sums of its own reals are not exact, so
    the float side is computed from exact accumulators."""
    for seed in range(3):
        graph = read(free_scales(seed), tmp_path)
        lowered = passes.lower(graph)
        image = np.random.default_rng(seed).integers(0, 256, (3, 8, 8))
        every = interp.run(lowered, {"image": image}, keep=True)
        widest = 0
        for name in ("one", "two", "three"):
            # A quantiser that no multiplier reproduces is a table behind its accumulators.
            node = lowered.node(name)
            table = node.op == "threshold"
            node, real = lowered.node(f"{name}.acc") if table else node, graph.node(name)
            x = every[node.inputs[0]]
            weight = lowered.const(node, "weight").astype(np.int64)
            if name == "one":
                padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
                windows = np.stack(
                    [padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)], 1
                )
                acc = np.einsum("oik,ikhw->ohw", weight.reshape(5, 3, 9), windows)
            else:
                acc = np.einsum("oi,ihw->ohw", weight, x)
            in_scale = np.float32(lowered.meta[f"scale.{node.inputs[0]}"])
            out_scale = float(lowered.meta[f"scale.{name}"])
            for c in range(weight.shape[0]):
                scale = in_scale * graph.const(real, "weight_scale")[c]
                bias = np.float32(graph.const(real, "bias")[c]) * graph.const(real, "bias_scale")[c]
                expected = [slow_float(a, scale, bias, True, out_scale, U8) for a in acc[c].ravel()]
                assert every[name][c].ravel().tolist() == expected
            widest = max(widest, int(lowered.const(node, "mul").max()))
        assert 1 < widest < 1 << 16


# --- structure ---------------------------------------------------------------------------------


def test_shared_quantisers_go_and_others_stay(folder: Path) -> None:
    graph = recognise_shuffles(read_sample("detector-0", folder))
    after = drop_idempotent_quantisers(graph)
    gone = {n.name for n in graph.nodes} - {n.name for n in after.nodes}
    assert gone == {
        "layer1.1.split1.relu",
        "layer1.1.split1.quant",
        "layer1.1.shuffle.relu",
        "layer1.1.shuffle.quant",
    }


@pytest.mark.parametrize("scale", [2.0**-4, 2.0**-6, 0.03])
def test_a_quantiser_of_another_scale_is_not_dropped(tmp_path: Path, scale: float) -> None:
    """It becomes a node of its own: each value times 1, requantised."""
    model = small_detector(0)
    constant("layer1.0.shuffle.split.1.quant.scale", scale)(model)
    path = save(model, tmp_path / "net.onnx")
    graph = passes.lower(ingest.read(path))
    node = graph.node("layer1.1.split1.relu")
    if node.op == "threshold":
        node = graph.node("layer1.1.split1.relu.acc")
    assert (node.op, node.attrs.kernel) == ("conv2d", (1, 1))
    assert node.attrs.groups == graph.tensors[node.output].shape[0]
    assert (graph.const(node, "weight") == 1).all()
    assert graph.meta["scale.layer1.1.split1.relu"] == np.float32(scale)
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32))
    assert verify.against_qonnx(graph, path, image)["mismatches"] == 0


def test_inputs_of_a_concat_share_one_quantiser(tmp_path: Path) -> None:
    model = small_detector(0)
    constant("layer1.0.b1.pw.quant.scale", 2.0**-4)(model)
    with pytest.raises(GraphError, match=r"'layer1\.0\.concat' .* have different quantisers .*u8"):
        passes.lower(read(model, tmp_path))


def test_a_transpose_that_is_no_shuffle(tmp_path: Path) -> None:
    model = small_detector(0)
    node = find_node(model, "layer1.0.transpose")
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("perm", [0, 1, 2, 4, 3]))
    path = save(model, tmp_path / "net.onnx")
    graph = passes.lower(ingest.read(path))
    assert [n.name for n in graph.nodes if n.op == "rearrange"] == ["layer1.0.shuffle"]
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32))
    assert verify.against_qonnx(graph, path, image)["mismatches"] == 0


def test_offsets_may_be_written_in_another_way(tmp_path: Path) -> None:
    """A * s - A and A * (s + -1) are A * (s - 1) too."""
    plain = passes.lower(read(small_detector(0), tmp_path))
    model = small_detector(0)
    anchors = next(t for t in model.graph.initializer if t.name == "up0.ddw.anchors")
    sub, mul = find_node(model, "up0.ddw.sub"), find_node(model, "up0.ddw.mul")
    s = sub.input[0]
    sub.CopyFrom(helper.make_node("Mul", [anchors.name, s], sub.output, name=sub.name))
    mul.CopyFrom(helper.make_node("Sub", [sub.output[0], anchors.name], mul.output, name=mul.name))
    other = passes.lower(read(model, tmp_path))
    assert other.digest() == plain.digest()
    model = small_detector(0)
    find_node(model, "up0.ddw.sub").op_type = "Add"
    constant("up0.ddw.one", -1)(model)
    assert passes.lower(read(model, tmp_path)).digest() == plain.digest()


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("up1.ddw.one", 2, r"not for some s in 0\.\.7"),
        ("up1.ddw.anchors", 2 * np.ones((1, 18, 1, 1)), r"not for some s in 0\.\.7"),
        ("up1.scale.quant.scale", 0.5, r"there is scale 0\.5, u3"),
        ("up1.scale.quant.bits", 4, r"there is scale 1\.0, u4"),
    ],
)
def test_offsets_that_are_no_dilation(tmp_path: Path, name: str, value: object, rule: str) -> None:
    model = small_detector(0)
    constant(name, value)(model)
    with pytest.raises(GraphError, match=rf"pass find_dilations: node 'up1\.ddw' .*{rule}"):
        passes.lower(read(model, tmp_path))


def test_one_wrong_anchor_is_enough(tmp_path: Path) -> None:
    model = small_detector(0)
    tensor = next(t for t in model.graph.initializer if t.name == "up0.ddw.anchors")
    anchors = numpy_helper.to_array(tensor).copy()
    anchors[0, [4, 5]] = anchors[0, [5, 4]]
    constant("up0.ddw.anchors", anchors)(model)
    with pytest.raises(GraphError, match=r"'up0\.ddw'"):
        passes.lower(read(model, tmp_path))


def remove(model: onnx.ModelProto, name: str) -> None:
    """Take a node out; its readers read its input."""
    node = find_node(model, name)
    for other in model.graph.node:
        other.input[:] = [node.input[0] if i == node.output[0] else i for i in other.input]
    model.graph.node.remove(node)


def test_every_convolution_needs_its_quantiser(tmp_path: Path) -> None:
    model = small_detector(0)
    remove(model, "layer4.quant")
    with pytest.raises(GraphError, match=r"node 'layer4\.relu': its result is not read by one"):
        passes.lower(read(model, tmp_path))
    model = small_detector(0)
    node = find_node(model, "hm.pw2.quant")
    model.graph.node.remove(node)
    find_node(model, "hm.pw2").output[0] = "hm"
    graph = passes.lower(read(model, tmp_path))  # an output may end as accumulators
    assert graph.meta["output.hm"] == "hm.pw2"
    assert "chain.hm.pw2" in graph.meta


def test_the_input_may_be_any_integer(tmp_path: Path) -> None:
    model = small_detector(0)
    constant("image.quant.bits", 7)(model)
    assert passes.lower(read(model, tmp_path)).tensors["image"].dtype == IntType(7, False)


def test_a_grouped_convolution_has_its_own_form(tmp_path: Path) -> None:
    graph = read(plain_stack(0), tmp_path)
    nodes = tuple(
        replace(n, attrs=replace(n.attrs, pad=0)) if n.name == "fourth" else n for n in graph.nodes
    )
    node = passes.lower(graph.rebuilt(nodes=nodes)).node("fourth")
    assert (node.op, node.attrs.groups, node.attrs.pads) == ("conv2d", 5, (0, 0, 0, 0))


# --- 1x1 before upsampling ---------------------------------------------------------------------

UNMOVED = {
    "a": 279_844_352,
    "b": 287_806_976,
    "c": 1_119_377_408,
    "d": 3_507_274_240,
    "e": 3_539_124_736,
}
MOVED = {"a": 241.9, "b": 249.9, "c": 967.8, "d": 3355.7, "e": 3387.5}


def unmoved(graph: Graph) -> Graph:
    """upsample(pw(x)) turned back into pw(upsample(x)), as the network was trained."""
    nodes: list[Node] = []
    renamed = {}
    for node in graph.nodes:
        follower = [n for n in graph.consumers(node.output) if n.name == f"{node.name}.up"]
        if node.op == "pw" and follower:
            high = f"{node.inputs[0]}.before.{node.name}"
            nodes.append(Node(high, "upsample", node.inputs, high, UpsampleAttrs(2)))
            node = replace(node, inputs=(high,))
            renamed[follower[0].output] = node.output
        elif node.output in renamed:
            continue
        nodes.append(replace(node, inputs=tuple(renamed.get(i, i) for i in node.inputs)))
    return graph.rebuilt(nodes=nodes)


@pytest.mark.parametrize("config", sorted(MOVED))
def test_moving_saves_what_was_published(config: str) -> None:
    before = unmoved(random_codenet_graph(config, 20, 0))
    after = pw_before_upsample(before)
    assert before.macs() == UNMOVED[config]
    assert round(after.macs() / 1e6, 1) == MOVED[config]


def test_moving_changes_no_value() -> None:
    before = unmoved(random_codenet_graph("b", 5, 2, size=64))
    after = pw_before_upsample(before)
    image = np.random.default_rng(0).integers(0, 256, (3, 64, 64))
    a, b = (interp.run(g, {"image": image}, keep=True) for g in (before, after))
    moved = [n for n in b if n.endswith(".up") and n.removesuffix(".up") in a]
    assert len(moved) == 5
    for name in moved:
        assert np.array_equal(a[name.removesuffix(".up")], b[name])
    for name in before.outputs:
        assert np.array_equal(a[name], b[name])


# --- candidates, and the list itself -----------------------------------------------------------


def test_peaks_only_for_detectors(folder: Path) -> None:
    stack = passes.lower(read_sample("stack", folder))
    assert "peaks" not in stack.tensors
    detector = passes.lower(read_sample("detector-0", folder))
    assert detector.outputs[-1] == "peaks"
    assert detector.tensors["peaks"].shape == (100, 8)
    assert append_peaks(detector) is detector


def test_errors_name_the_pass(folder: Path) -> None:
    def broken_pass(graph: Graph) -> Graph:
        cut = Node("cut", "slice", (graph.inputs[0],), "cut", SliceAttrs(0, 99))
        return graph.rebuilt(nodes=(*graph.nodes, cut))

    graph = read_sample("stack", folder)
    with pytest.raises(GraphError, match=r"pass broken_pass: node 'cut' \(slice\)"):
        passes.run([(broken_pass, "quant")], graph)
    with pytest.raises(
        GraphError, match=r"pass recognise_shuffles: node .* not legal at level int"
    ):
        passes.run([(recognise_shuffles, "integer")], graph)


def test_snapshots_are_numbered_and_fresh(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "07-old_pass.txt").write_text("left over")
    (tmp_path / "notes.txt").write_text("mine")
    passes.lower(read_sample("stack", folder), tmp_path)
    names = sorted(p.name for p in tmp_path.iterdir())
    expected = ["00-read.txt"] + [f"{i:02d}-{p.__name__}.txt" for i, (p, _) in enumerate(LOWER, 1)]
    assert names == [*expected, "notes.txt"]
    last = (tmp_path / expected[-1]).read_text()
    assert re.search(r"^second +pw +first ", last, re.MULTILINE)


def test_every_pass_says_what_becomes_what() -> None:
    for step, _ in LOWER:
        text = " ".join((step.__doc__ or "").split())
        assert re.search(r" (becomes?|gains?|work) .*because ", text), step.__name__
