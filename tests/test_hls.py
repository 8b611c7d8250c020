# SPDX-License-Identifier: Apache-2.0
"""The HLS backend: every kernel, and whole networks, give the integers of the ops' goldens."""

import dataclasses
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from hwflow import boards, interp, plan
from hwflow.emit import hls, hls_program
from hwflow.emit.hls_program import EngineShape
from hwflow.errors import GraphError, ResourceError, ToolError
from hwflow.ir import Graph, GraphBuilder, IntType, Tensor
from hwflow.ops import CONVOLUTIONS, OPS
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.arith import dot_range, proven_acc_bits
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.group_sum import GroupSumAttrs
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.maxpool2d import Maxpool2dAttrs
from hwflow.ops.patches import PatchesAttrs
from hwflow.ops.peaks import PeaksAttrs
from hwflow.ops.rearrange import RearrangeAttrs
from hwflow.ops.residual import ResidualAttrs, proven_bits
from hwflow.ops.resize import ResizeAttrs
from hwflow.ops.shuffle import ShuffleAttrs
from hwflow.ops.slice import SliceAttrs
from hwflow.ops.threshold import ThresholdAttrs
from hwflow.ops.upsample import UpsampleAttrs
from tests.graphs import random_codenet_graph, random_image, random_small_graph
from tests.table_models import random_table_graph, random_tables

# One engine for all graphs of this file: the widest requantiser that is legal.
WIDE = EngineShape(mul_bits=32, sum_bits=64, out_bits=33)
U8, I8, U3 = (IntType.parse(t) for t in ("u8", "i8", "u3"))
SIDES = (1, 2, 3, 7, 8, 9, 13, 16, 17, 31)
CHANNELS = (1, 2, 3, 5, 15, 16, 17, 31, 37)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of an engine of shape WIDE."""
    folder = tmp_path_factory.mktemp("engine")
    hls.write(random_small_graph(0), folder, shape=WIDE)
    return hls.build(folder)


def random_inputs(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    frames = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        frames[name] = rng.integers(tensor.dtype.lo, tensor.dtype.hi + 1, tensor.shape)
    return frames


def check(graph: Graph, folder: Path, library: Path, inputs: dict[str, np.ndarray]) -> None:
    """Every tensor of one frame through the C++ equals the definition."""
    hls.write(graph, folder, inputs=inputs, shape=WIDE)
    compare(graph, inputs, hls.run(folder, inputs, library))


def compare(graph: Graph, inputs: dict[str, np.ndarray], actual: dict[str, np.ndarray]) -> None:
    expected = interp.run(graph, inputs, keep=True)
    assert set(actual) == set(graph.tensors)
    for name in graph.tensors:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name, strict=False)


class Cases(GraphBuilder):
    """Many small networks of one op side by side in one graph, each with its own inputs."""

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name)
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def pick(self, *choices: object) -> object:
        return choices[int(self.rng.integers(len(choices)))]

    def map(self, channels: int | None = None, dtype: IntType | None = None) -> Tensor:
        """A new input of random size and type."""
        self.count += 1
        shape = (channels or self.pick(*CHANNELS), self.pick(*SIDES), self.pick(*SIDES))
        return self.input(f"x{self.count}", shape, dtype or self.dtype())

    def dtype(self) -> IntType:
        return self.pick(U8, U8, I8, U3, IntType(1, False), IntType(4, True))

    def conv(
        self,
        op: str,
        inputs: list[Tensor],
        shape: tuple[int, ...],
        out: IntType | None = None,
        **fields: object,
    ) -> Tensor:
        """A convolution with random legal constants: ties, negative shifts, any multiplier."""
        rng, oc = self.rng, shape[0]
        bits = int(rng.integers(2, 9))
        weight_type, out = IntType(bits, True), out or self.dtype()
        weight = rng.integers(weight_type.lo, weight_type.hi + 1, shape).astype(np.int8)
        high = dot_range(weight, inputs[0].dtype)[1]
        mul = rng.integers(0, 1 << int(rng.integers(1, 17)), oc) if rng.random() < 0.5 else 1
        mul = np.broadcast_to(np.asarray(mul, np.int64), (oc,)).copy()
        # Shifts that bring the sum to the size of the output, or to a few bits, or below one.
        size = np.array([int(h * m + 1).bit_length() for h, m in zip(high, mul, strict=True)])
        shift = np.clip(size - rng.integers(-3, 12, oc), -5, 62).astype(np.int8)
        bias = np.array([rng.integers(-(1 << int(n)), 1 << int(n)) for n in size], np.int64)
        consts = {"weight": weight, "bias": bias, "mul": mul, "shift": shift}
        acc_bits = proven_acc_bits(weight, bias, mul, inputs[0].dtype)
        attrs = OPS[op].attrs(weight_bits=bits, acc_bits=acc_bits, out=out, **fields)
        self.count += 1
        return self.add(f"{op}{self.count}", op, inputs, attrs, consts)

    def graph(self) -> Graph:
        """Every tensor that nobody reads is an output."""
        read = {name for node in self.nodes for name in node.inputs}
        return self.build([node.output for node in self.nodes if node.output not in read])


def conv_case(b: Cases) -> None:
    kernel = b.pick(1, 2, 3, 5)
    x = b.map(b.pick(1, 2, 3, 4))
    pad = b.pick(*range(kernel))
    if min(x.shape[1:]) + 2 * pad < kernel:
        pad = kernel - 1
    if min(x.shape[1:]) + 2 * pad >= kernel:
        shape = (b.pick(*CHANNELS), x.shape[0], kernel, kernel)
        b.conv("conv", [x], shape, kernel=kernel, stride=b.pick(1, 2, 3, 4), pad=pad)


def pw_case(b: Cases) -> None:
    x = b.map(b.pick(*CHANNELS, 131, 257))
    b.conv("pw", [x], (b.pick(*CHANNELS), x.shape[0]))


def dw_case(b: Cases) -> None:
    x = b.map()
    b.conv("dw", [enlarged(b, x)], (x.shape[0], 3, 3), stride=b.pick(1, 2))


def deform_case(b: Cases) -> None:
    x = b.map(b.pick(*CHANNELS, 33))
    s = b.input(f"s{b.count}", (1, *x.shape[1:]), U3)
    if b.rng.random() < 0.5:
        up = UpsampleAttrs(b.pick(1, 2, 4))
        x = b.add(f"up_x{b.count}", "upsample", [x], up)
        s = b.add(f"up_s{b.count}", "upsample", [s], up)
    b.conv("deform_dw", [x, s], (x.shape[0], 3, 3))


def maxpool_case(b: Cases) -> None:
    kernel = b.pick(1, 2, 3)
    x = enlarged(b, b.map())
    pad = b.pick(*range(min(kernel, 2)))
    if min(x.shape[1:]) + 2 * pad >= kernel:
        attrs = MaxpoolAttrs(kernel, b.pick(1, 2), pad)
        b.add(f"maxpool{b.count}", "maxpool", [x], attrs)


def peaks_case(b: Cases) -> None:
    """Few levels in the heat map make plateaus and ties by the thousand."""
    hm = b.map(b.pick(1, 2, 5, 20), b.pick(U8, I8, U3, IntType(2, True)))
    parts = [b.input(f"{n}{b.count}", (2, *hm.shape[1:]), b.dtype()) for n in ("wh", "reg")]
    if b.rng.random() < 0.3:
        names = ("hm", "wh", "reg")
        hm, *parts = (
            b.add(f"up_{n}{b.count}", "upsample", [x], UpsampleAttrs(2))
            for n, x in zip(names, (hm, *parts), strict=True)
        )
    b.add(f"peaks{b.count}", "peaks", [hm, *parts], PeaksAttrs(b.pick(1, 7, 100, 128)))


def movement_case(b: Cases) -> None:
    """A random chain of slice, concat, shuffle and upsample, read by nothing or by a pw or dw."""
    x = b.map()
    for _ in range(int(b.rng.integers(1, 5))):
        b.count += 1
        kind = b.pick("slice", "concat", "shuffle", "upsample")
        if kind == "slice":
            start = int(b.rng.integers(x.shape[0]))
            attrs = SliceAttrs(start, int(b.rng.integers(start + 1, x.shape[0] + 1)))
            x = b.add(f"slice{b.count}", "slice", [x], attrs)
        elif kind == "concat":
            y = b.input(f"y{b.count}", (b.pick(*CHANNELS), *x.shape[1:]), x.dtype)
            order = b.pick([x, y], [y, x], [x, y, x])
            x = b.add(f"concat{b.count}", "concat", order, ConcatAttrs())
        elif kind == "shuffle":
            groups = b.pick(*(g for g in range(1, x.shape[0] + 1) if x.shape[0] % g == 0))
            x = b.add(f"shuffle{b.count}", "shuffle", [x], ShuffleAttrs(groups))
        else:
            x = enlarged(b, x)
    reader = b.pick("none", "pw", "dw")
    if reader == "pw":
        b.conv("pw", [x], (b.pick(*CHANNELS), x.shape[0]))
    elif reader == "dw":
        b.conv("dw", [x], (x.shape[0], 3, 3), stride=1)
    elif x.name.startswith("x"):
        b.add(f"slice{b.count}", "slice", [x], SliceAttrs(0, x.shape[0]))


def enlarged(b: Cases, x: Tensor) -> Tensor:
    """The map itself, or seen through an upsampling."""
    factor = b.pick(1, 1, 2, 4)
    if factor == 1 or max(x.shape[1:]) * factor > 64:
        return x
    b.count += 1
    return b.add(f"upsample{b.count}", "upsample", [x], UpsampleAttrs(factor))


def any_window(b: Cases, x: Tensor) -> dict[str, tuple[int, ...]] | None:
    """A random window that fits; None when it does not."""
    kernel = (b.pick(1, 2, 3, 5, 7), b.pick(1, 2, 3, 4))
    dilation = (b.pick(1, 1, 2, 3), b.pick(1, 1, 2))
    pads = tuple(b.pick(0, 0, 1, 2) for _ in range(4))
    window = {"kernel": kernel, "stride": (b.pick(1, 2, 3), b.pick(1, 2, 5)), "pads": pads}
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    room = [x.shape[1 + i] + pads[i] + pads[2 + i] for i in (0, 1)]
    fits = all(n >= r for n, r in zip(room, reach, strict=True))
    return {**window, "dilation": dilation} if fits else None


def limits(b: Cases, out: IntType) -> dict[str, int]:
    """Limits of an output, often within its type."""
    lo = int(b.rng.integers(out.lo, out.hi))
    return {"lo": lo, "hi": int(b.rng.integers(lo, out.hi + 1))}


def conv2d_case(b: Cases) -> None:
    """Any window, groups, pad values, and outputs of up to 32 bits."""
    groups = b.pick(1, 1, 2, 3, 5)
    x = b.map(groups * b.pick(1, 1, 2, 3))
    window = any_window(b, x)
    if window is None:
        return
    shape = (groups * b.pick(1, 2, 17), x.shape[0] // groups, *window["kernel"])
    out = b.pick(U8, I8, IntType(2, True), IntType(12, True), IntType(20, True))
    value = int(b.rng.integers(x.dtype.lo, x.dtype.hi + 1))
    ends = {"lo": out.lo, "hi": out.hi} if b.rng.random() < 0.5 else limits(b, out)
    b.conv("conv2d", [x], shape, out, groups=groups, pad_value=value, **window, **ends)


def maxpool2d_case(b: Cases) -> None:
    x = b.map()
    window = any_window(b, x)
    if window is not None:
        attrs = Maxpool2dAttrs(**window)
        try:
            b.add(f"maxpool2d{b.count}", "maxpool2d", [x], attrs)
        except GraphError as error:
            assert "wholly outside" in str(error)


def residual_case(b: Cases) -> None:
    x = b.map(dtype=b.pick(U8, I8, IntType(11, True), U3))
    y = b.input(f"y{b.count}", x.shape, b.dtype())
    coef = tuple(int(n) for n in b.rng.integers(-300, 300, 2))
    out = b.pick(U8, I8, IntType(18, True))
    c, bits = x.shape[0], proven_bits(coef, (x.dtype, y.dtype))
    consts = {
        "mul": b.rng.integers(0, 1 << int(b.rng.integers(1, 16)), c),
        "bias": b.rng.integers(-(1 << 24), 1 << 24, c),
        "shift": b.rng.integers(-2, 24, c).astype(np.int8),
    }
    attrs = ResidualAttrs(coef, bits, **limits(b, out), out=out)
    b.add(f"residual{b.count}", "residual", [x, y], attrs, consts)


def threshold_case(b: Cases) -> None:
    """All thresholds are used, some are equal, some out of reach."""
    x = b.map(dtype=b.pick(U8, I8, IntType(12, True), IntType(24, True)))
    levels = b.pick(1, 2, 3, 15, 255)
    reach = (x.dtype.lo - 2, x.dtype.hi + 3)
    table = np.sort(b.rng.integers(*reach, (x.shape[0], levels)), axis=1)
    lo = b.pick(0, 0, -128) if levels > 100 else b.pick(0, -1, 5)
    out = U8 if lo >= 0 else I8
    if lo + levels <= out.hi:
        attrs = ThresholdAttrs(lo, out)
        b.add(f"threshold{b.count}", "threshold", [x], attrs, {"thresholds": table})


def argmax_case(b: Cases) -> None:
    """Few values make equals."""
    channels = b.pick(1, 2, 10, 300)
    x = b.map(channels, b.pick(U8, I8, IntType(2, True), IntType(13, True)))
    b.add(f"argmax{b.count}", "argmax", [x], ArgmaxAttrs(b.pick(True, False)))


def tables_case(b: Cases) -> None:
    """Codes of any width through a view in memory (slices, joins), tables of any size."""
    x = b.map(dtype=b.pick(IntType(1, False), IntType(2, False), IntType(3, True), U8, I8))
    if b.rng.random() < 0.5 and x.shape[0] > 1:
        b.count += 1
        x = b.add(f"slice{b.count}", "slice", [x], SliceAttrs(1, x.shape[0]))
    out = b.pick(IntType(1, False), IntType(2, True), IntType(3, False), U8, I8)
    b.count += 1
    name = f"tables{b.count}"
    random_tables(b, b.rng, name, x, b.pick(1, 3, 16, 21), b.pick(1, 2, 3, 4, 6, 7, 11), out)


def group_sum_case(b: Cases) -> None:
    groups, size = b.pick(1, 2, 5, 10), b.pick(1, 2, 3, 17)
    x = b.map(groups * size, b.pick(IntType(1, False), U8, I8, IntType(11, True)))
    b.add(f"sum{b.count}", "group_sum", [x], GroupSumAttrs(groups))


def gather_case(b: Cases) -> None:
    """Rearrangements, resizing by lists, and upsampling by any factor, of 8 bits and more."""
    x = b.map(b.pick(1, 2, 4, 8), b.pick(U8, I8, IntType(14, True)))
    c, h, w = x.shape
    kind = b.pick("flatten", "transpose", "depth", "resize", "upsample", "patches")
    if kind == "patches":
        window = any_window(b, x)
        if window is not None:
            b.add(f"patches{b.count}", "patches", [x], PatchesAttrs(**window))
    elif kind == "upsample":
        b.add(f"gather{b.count}", "upsample", [x], UpsampleAttrs(b.pick(3, 5)))
    elif kind == "resize":
        lists = {"rows": b.rng.integers(0, h, b.pick(1, 5, 9)), "columns": b.rng.integers(0, w, 11)}
        consts = {role: index.astype(np.int32) for role, index in lists.items()}
        b.add(f"gather{b.count}", "resize", [x], ResizeAttrs(), consts)
    elif kind == "depth" and c % 4 == 0:
        attrs = RearrangeAttrs((2, 2, c // 4, h, w), (2, 3, 0, 4, 1), (c // 4, 2 * h, 2 * w))
        b.add(f"gather{b.count}", "rearrange", [x], attrs)
    elif kind == "transpose":
        b.add(f"gather{b.count}", "rearrange", [x], RearrangeAttrs(x.shape, (2, 0, 1), (w, c, h)))
    else:
        attrs = RearrangeAttrs(x.shape, (0, 1, 2), (c * h * w, 1, 1))
        b.add(f"gather{b.count}", "rearrange", [x], attrs)


KINDS: dict[str, Callable[[Cases], None]] = {
    "conv2d": conv2d_case,
    "maxpool2d": maxpool2d_case,
    "residual": residual_case,
    "threshold": threshold_case,
    "argmax": argmax_case,
    "gather": gather_case,
    "tables": tables_case,
    "group_sum": group_sum_case,
    "conv": conv_case,
    "pw": pw_case,
    "dw": dw_case,
    "deform_dw": deform_case,
    "maxpool": maxpool_case,
    "peaks": peaks_case,
    "movement": movement_case,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_kernel_equals_its_golden(kind: str, seed: int, engine: Path, tmp_path: Path) -> None:
    cases = Cases(f"{kind}-{seed}", 100 * seed + len(kind))
    for _ in range(40):
        KINDS[kind](cases)
    graph = cases.graph()
    check(graph, tmp_path, engine, random_inputs(graph, seed))


def test_requantiser_rounds_half_to_even(engine: Path, tmp_path: Path) -> None:
    """Against exact fractions: every input value, every shift, odd multipliers; ties occur."""
    b = Cases("requant", 3)
    x = b.input("x", (1, 16, 16), U8)
    shift = np.repeat(np.arange(-3, 15, dtype=np.int8), 6)
    oc = len(shift)
    mul = np.tile(np.array([1, 1, 1, 2, 3, 12345], np.int64), oc // 6)
    bias = b.rng.integers(-900, 900, oc)
    weight = np.tile(np.array([[7], [-7], [1], [-3], [5], [-8]], np.int8), (oc // 6, 1))
    consts = {"weight": weight, "bias": bias, "mul": mul, "shift": shift}
    attrs = OPS["pw"].attrs(
        weight_bits=4, acc_bits=proven_acc_bits(weight, bias, mul, U8), out=I8
    )
    graph = b.build([b.add("pw", "pw", [x], attrs, consts)])
    frame = {"x": np.arange(256).reshape(1, 16, 16)}
    hls.write(graph, tmp_path, inputs=frame, shape=WIDE)
    actual = hls.run(tmp_path, frame, engine)["pw"].reshape(oc, 256)
    ties = 0
    for c in range(oc):
        for pixel in range(256):
            total = pixel * int(weight[c, 0]) * int(mul[c]) + int(bias[c])
            exact = Fraction(total) / Fraction(2) ** int(shift[c])
            ties += exact.denominator == 2
            assert actual[c, pixel] == max(-128, min(127, round(exact))), (c, pixel)
    assert ties > 500


@pytest.mark.parametrize("seed", range(12))
def test_small_networks(seed: int, engine: Path, tmp_path: Path) -> None:
    graph = random_small_graph(seed)
    check(graph, tmp_path, engine, random_inputs(graph, seed))


@pytest.mark.parametrize("seed", range(8))
def test_table_networks(seed: int, engine: Path, tmp_path: Path) -> None:
    """One frame with every tensor, and many frames in a row."""
    graph = random_table_graph(seed)
    check(graph, tmp_path, engine, random_inputs(graph, seed))
    frames = np.stack([random_inputs(graph, 100 + i)["x"] for i in range(20)])
    found = hls.run_many(tmp_path, frames, engine)
    assert set(found) == set(graph.outputs)
    expected = interp.run_many(graph, {"x": frames})
    for name, array in found.items():
        assert array.shape == expected[name].shape and (array == expected[name]).all(), name


def test_many_frames_need_one_input(engine: Path, tmp_path: Path) -> None:
    graph = random_table_graph(0)
    hls.write(graph, tmp_path, shape=WIDE)
    with pytest.raises(GraphError, match="at least one frame"):
        hls.run_many(tmp_path, np.zeros((0, 4, 1, 1), np.uint8), engine)


@pytest.mark.parametrize(
    ("config", "size"), [("a", 64), ("b", 96), ("c", 128), ("d", 64), ("e", 64)]
)
def test_whole_codenet(config: str, size: int, engine: Path, tmp_path: Path) -> None:
    graph = random_codenet_graph(config, 20, seed=7, size=size)
    inputs = {"image": random_image(graph.tensors["image"].shape, 11)}
    check(graph, tmp_path, engine, inputs)


def test_own_engine_of_codenet_is_narrow_and_fits_the_board(tmp_path: Path) -> None:
    graph = random_codenet_graph("b", 20, seed=5, size=64)
    image = random_image(graph.tensors["image"].shape, 3)
    hls.write(graph, tmp_path, inputs={"image": image})
    hls.build(tmp_path)
    compare(graph, {"image": image}, hls.run(tmp_path, image))
    shape = hls_program.shape_for(graph)
    assert (shape.mul_bits, shape.sum_bits) == (2, 32)
    assert shape.bram36() <= boards.load("pynq-z2").resources.bram36
    for node in graph.nodes:
        assert node.op not in CONVOLUTIONS or node.attrs.acc_bits <= shape.acc_bits


def beyond(b: Cases) -> Graph:
    """Layers that need more than the usual size of every buffer."""
    b.conv("pw", [b.input("deep", (17_000, 1, 3), U8)], (19, 17_000))
    b.conv("conv2d", [b.input("window", (700, 5, 2), I8)], (3, 700, 5, 2), kernel=(5, 2),
           stride=(1, 1), pads=(1, 0, 1, 1), dilation=(1, 1), groups=1, pad_value=0, lo=0, hi=255,
           out=U8)
    row = b.input("row", (2, 4, 4_500), U8)
    b.conv("dw", [row], (2, 3, 3), stride=2)
    plane, dilation = b.input("plane", (5, 80, 72), U8), b.input("dilation", (1, 80, 72), U3)
    b.conv("deform_dw", [plane, dilation], (5, 3, 3))
    return b.graph()


def test_buffers_grow_with_the_network(tmp_path: Path) -> None:
    graph = beyond(Cases("beyond", 4))
    usual, program = EngineShape(), hls_program.compile_graph(graph)
    for name, least in {"mac_depth": 17_000, "in_words": 17_000, "out_words": 563,
                        "band_depth": 563, "plane_words": 720}.items():
        size = getattr(program.shape, name)
        assert least <= size < least + 1024 and size > getattr(usual, name), name
    assert any(line.endswith(" (pw) for 17,000 input planes") for line in program.grown)
    inputs = random_inputs(graph, 6)
    with pytest.raises(ResourceError, match=r"need \d+ BRAM36 \(they grew for node .*17,000 input "
                       r"planes.*pynq-z2 has 140; split that layer, or choose a larger board"):
        hls.write(graph, tmp_path, inputs=inputs)
    hls.write(graph, tmp_path, boards.load("ultra96"), inputs)
    hls.build(tmp_path)
    compare(graph, inputs, hls.run(tmp_path, inputs))


def test_usual_buffers_stay_where_they_are_enough() -> None:
    graph = random_small_graph(2)
    program = hls_program.compile_graph(graph)
    assert (program.shape, program.grown) == (hls_program.shape_for(graph), ())


def test_data_movement_costs_no_layer() -> None:
    graph = random_codenet_graph("b", 20, seed=5, size=64)
    program = hls_program.compile_graph(graph)
    moved = {"slice", "concat", "shuffle", "upsample"}
    assert len(program.steps) == sum(node.op not in moved for node in graph.nodes)
    assert len(program.steps) < len(graph.nodes)


def test_testbench_of_the_vitis_project(tmp_path: Path) -> None:
    """Passes with every access checked by the sanitizers, and fails on one wrong byte."""
    # Not all of "undefined": ap_int itself shifts negative numbers to the left.
    flags = ("-fsanitize=address,bounds", "-fno-sanitize-recover=all")
    graph = random_small_graph(4)
    hls.write(graph, tmp_path)
    vitis = tmp_path / "vitis"
    plan.execute(hls.testbench_plan(vitis, flags), vitis)
    stored = len(hls_program.compile_graph(graph).steps)
    assert (vitis / "tb.log").read_text() == f"{stored} tensors compared, 0 bytes differ\n"
    vectors = vitis / "data" / "tensors.bin"
    damaged = bytearray(vectors.read_bytes())
    damaged[-3] ^= 1
    vectors.write_bytes(damaged)
    again = plan.Plan({}, (plan.Command((str(vitis / "tb"), "data"), "again.log"),), (), name="tb")
    with pytest.raises(ToolError, match=r"peaks: channel 0(.|\n)*1 bytes differ"):
        plan.execute(again, vitis)


def test_a_convolution_of_many_channels_runs_in_parts(engine: Path, tmp_path: Path) -> None:
    """Its rows do not fit the row buffer at once."""
    b = Cases("many", 4)
    x = b.input("x", (150, 9, 40), U8)
    b.conv("conv", [x], (5, 150, 3, 3), kernel=3, stride=2, pad=1)
    graph = b.graph()
    assert hls_program.BANKS * WIDE.band_depth < 150 * 3 * 5
    check(graph, tmp_path, engine, random_inputs(graph, 1))


def test_general_kernels_stay_within_their_buffers(tmp_path: Path) -> None:
    """The sanitizers see every access of the kernels that random networks need."""
    flags = ("-fsanitize=address,bounds", "-fno-sanitize-recover=all")
    cases = Cases("general", 7)
    for kind in ("conv2d", "maxpool2d", "residual", "threshold", "argmax", "gather"):
        for _ in range(8):
            KINDS[kind](cases)
    graph = cases.graph()
    assert len({node.op for node in graph.nodes}) >= 6
    hls.write(graph, tmp_path, inputs=random_inputs(graph, 3), shape=WIDE)
    vitis = tmp_path / "vitis"
    plan.execute(hls.testbench_plan(vitis, flags), vitis)
    assert (vitis / "tb.log").read_text().endswith(" tensors compared, 0 bytes differ\n")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    hls.write(random_small_graph(1), tmp_path)
    yield tmp_path / "vitis"


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ((), ["csim_design", "csynth_design", "export_design"]),
        (("csim",), ["csim_design"]),
        (("export", "csynth"), ["csynth_design", "export_design"]),
    ],
)
def test_vitis_script_runs(arguments: tuple[str, ...], steps: list[str], project: Path) -> None:
    """The Tcl runs under tclsh with every vendor command replaced by one that prints itself."""
    (project / "stub.tcl").write_text(
        "proc unknown {name args} { puts [concat [list $name] $args] }\nsource run_hls.tcl\n"
    )
    command = plan.Command(("tclsh", "stub.tcl", *arguments), "tcl.log")
    plan.execute(plan.Plan({}, (command,), (), name="tcl"), project)
    calls = [line.split() for line in (project / "tcl.log").read_text().splitlines()]
    names = [call[0] for call in calls]
    assert names[:2] == ["open_project", "set_top"] and names[-1] == "close_project"
    assert [name for name in names if name.endswith("_design")] == steps
    assert ["set_part", "xc7z020clg400-1"] in calls
    assert ["create_clock", "-period", "6.667", "-name", "default"] in calls
    files = [Path(word) for call in calls if call[0] == "add_files" for word in call]
    sources = [path for path in files if path.suffix == ".cpp"]
    assert {path.name for path in sources} == {"net.cpp", "tb.cpp"}
    assert all(path.is_file() for path in sources)


def one_op(op: str, attrs: object, shape: tuple[int, ...], dtype: IntType = U8) -> Graph:
    b = GraphBuilder("one")
    return b.build([b.add("it", op, [b.input("x", shape, dtype)], attrs)])


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (one_op("maxpool", MaxpoolAttrs(5, 2, 1), (1, 9, 9)), "'it'.*windows of at most 3"),
        (one_op("maxpool", MaxpoolAttrs(3, 3, 1), (1, 9, 9)), "'it'.*stride 1 or 2"),
        (one_op("maxpool", MaxpoolAttrs(), (1, 2, 2), IntType(9, False)), "'it'.*at most 8 bits"),
        (one_op("slice", SliceAttrs(0, 1), (1, 2, 2), IntType(33, False)), "'it'.*at most 32 bits"),
    ],
)
def test_unsupported_is_an_error_naming_the_node(graph: Graph, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        hls_program.compile_graph(graph)


def test_too_large_is_an_error_naming_the_node(tmp_path: Path) -> None:
    graph = random_small_graph(2)
    small = dataclasses.replace(WIDE, mac_depth=4)
    with pytest.raises(ResourceError, match=r"node '.*enlarge mac_depth"):
        hls_program.compile_graph(graph, small)
    with pytest.raises(ResourceError, match="needs mul_bits"):
        hls_program.compile_graph(graph, dataclasses.replace(WIDE, sum_bits=8))
    huge = dataclasses.replace(WIDE, in_words=1 << 17)
    with pytest.raises(ResourceError, match="BRAM36"):
        hls.write(graph, tmp_path, shape=huge)


def test_wrong_inputs_are_errors(engine: Path, tmp_path: Path) -> None:
    graph = random_small_graph(3)
    hls.write(graph, tmp_path, shape=WIDE)
    shape = graph.tensors["image"].shape
    for array, words in (
        (np.zeros((9, *shape), np.uint8), "give integers of shape"),
        (np.zeros(shape), "give integers"),
        (np.full(shape, 256), "leaves its type u8"),
    ):
        with pytest.raises(GraphError, match=words):
            hls.run(tmp_path, array, engine)
    with pytest.raises(GraphError, match="missing"):
        hls.run(tmp_path, {"picture": np.zeros(shape, np.uint8)}, engine)
    with pytest.raises(ToolError, match=r"hls\.build"):
        hls.run(tmp_path, np.zeros(shape, np.uint8))
    hls.write(graph, tmp_path)
    with pytest.raises(ToolError, match="another shape"):
        hls.run(tmp_path, np.zeros(shape, np.uint8), engine)


def test_sources_that_do_not_compile_are_an_error(tmp_path: Path) -> None:
    hls.write(random_small_graph(3), tmp_path)
    net = tmp_path / "csrc" / "net.cpp"
    net.write_text(net.read_text().replace("ACC_BITS = 32", "ACC_BITS = 65"))
    with pytest.raises(ToolError, match="sums in 64 bits"):
        hls.build(tmp_path)
