# SPDX-License-Identifier: Apache-2.0
"""The engine compiler against docs/engine.md in numpy (tests/engine_model.py), word for word."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwflow import driver, interp
from hwflow.emit import engine, isa
from hwflow.emit.engine import encode
from hwflow.emit.engine.planes import Memory
from hwflow.emit.engine.schedule import PIECE_WORDS
from hwflow.errors import GraphError, ResourceError, VerifyError
from hwflow.estimate import codenet_graph
from hwflow.ir import Graph, GraphBuilder, IntType
from hwflow.models.shapes import codenet
from hwflow.ops.conv import ConvAttrs
from hwflow.ops.deform_dw import DeformDwAttrs
from hwflow.ops.dw import DwAttrs
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.peaks import PeaksAttrs
from hwflow.ops.pw import PwAttrs
from hwflow.resources import path as resource
from tests.engine_graphs import I8, KINDS, U3, U8, consts, small_network
from tests.engine_model import EngineModel
from tests.graphs import random_codenet_graph, random_image


def execute(
    graph: Graph, params: engine.EngineParams, seed: int, interleaving: int | None = None
) -> int:
    """Runs a graph on the model and checks every word; returns the tensors compared.

    interleaving: seed of the order in which operations of the two queues start and end.
    """
    program = engine.compile_graph(graph, params)
    name = graph.inputs[0]
    image = random_image(graph.tensors[name].shape, seed)
    expected = interp.run(graph, {name: image}, keep=True)
    model = EngineModel(params.act_words, interleaving)
    candidates = model.run(program.array_stream, program.lane_stream, image.astype(np.uint8))
    tags, addrs, data = (np.array(column) for column in zip(*model.writes, strict=True))
    count = engine.check_trace(program, graph, tags, addrs, data, expected)
    if "peaks" in expected:
        rows = expected["peaks"]
        assert np.array_equal(rows[rows[:, 1] >= 0], candidates)
    else:
        stored = np.frombuffer(model.output, np.int8).reshape(graph.tensors["last"].shape)
        assert np.array_equal(stored, expected["last"])
    return count


def test_the_package_in_hdl_is_printed_from_the_tables() -> None:
    assert (resource("hdl") / "engine" / "isa_pkg.sv").read_text() == isa.package_text()


def test_fields_do_not_overlap() -> None:
    layouts = [{**isa.COMMON, **fields} for fields in isa.DESCRIPTORS.values()]
    for fields in [*layouts, *isa.LAYOUTS.values()]:
        bits = [b for f in fields.values() for b in range(f.lsb, f.lsb + f.width)]
        assert len(bits) == len(set(bits))


@pytest.mark.slow
@pytest.mark.parametrize("act_words", [30720, 10000])
def test_whole_config_a(act_words: int) -> None:
    """On chip, and with maps in DDR; operations of both queues in a random order."""
    graph = random_codenet_graph("a", 20, seed=20)
    stored = [n for n in graph.nodes if n.op in ("conv", "pw", "dw", "deform_dw", "maxpool")]
    params = engine.EngineParams(act_words=act_words)
    assert execute(graph, params, seed=3, interleaving=4) == len(stored) + 1


@pytest.mark.slow
def test_whole_config_c_goes_through_ddr() -> None:
    graph = random_codenet_graph("c", 20, seed=5)
    execute(graph, engine.EngineParams(), seed=6)


def test_heads_that_read_one_map_in_ddr_load_it_together() -> None:
    """Once for the logits, once for sizes and offsets; at most half as much again for shared rows.
    """
    graph = codenet_graph(codenet("c"))
    channels, height, width = graph.tensors["up2.pw"].shape
    program = engine.compile_graph(graph, engine.EngineParams())
    loads = [s.moved_words for s in program.steps if (s.opcode, s.tensor) == ("LOAD", "up2.pw")]
    whole = channels * height * width // isa.LANES
    assert 2 * whole <= sum(loads) < 3 * whole
    assert max(loads) <= PIECE_WORDS + height * width // isa.LANES  # cut between channels


def test_a_wrong_word_is_named() -> None:
    graph = random_codenet_graph("a", 1, seed=0)
    program = engine.compile_graph(graph)
    step = next(s for s in program.steps if s.node == "layer1.0.b1.pw")
    shape = graph.tensors[step.tensor].shape
    expected = {n.output: np.zeros(graph.tensors[n.output].shape, np.int64) for n in graph.nodes}
    expected["image"] = np.zeros(graph.tensors["image"].shape, np.int64)
    rows = [
        (s.tag, (d + w) & 0xFFFF)
        for s in program.steps
        if s.tensor
        for d in s.dst
        for w in range(s.words)
    ]
    tags, addrs = (np.array(column) for column in zip(*rows, strict=True))
    data = np.zeros((len(rows), isa.LANES), np.uint8)
    engine.check_trace(program, graph, tags, addrs, data, expected)
    word = 5
    place = np.flatnonzero((tags == step.tag) & (addrs == step.dst[7] + word))
    data[place, 3] = 1
    y, x = divmod(16 * word + 3, shape[2])
    with pytest.raises(VerifyError, match=rf"layer1\.0\.b1\.pw.*7.*{y}.*{x}"):
        engine.check_trace(program, graph, tags, addrs, data, expected)
    with pytest.raises(VerifyError, match="wrote"):
        engine.check_trace(program, graph, tags[1:], addrs[1:], data[1:], expected)


def test_too_small_a_memory_is_refused_with_the_resource() -> None:
    with pytest.raises(ResourceError, match=r"layer.*activation memory"):
        engine.compile_graph(
            random_codenet_graph("a", 20, seed=0), engine.EngineParams(act_words=5000)
        )


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 10_000))
def test_small_networks_word_for_word(kind: str, seed: int) -> None:
    execute(small_network(kind, seed), engine.EngineParams(), seed, interleaving=seed)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 10_000))
def test_small_networks_in_hardly_any_memory(kind: str, seed: int) -> None:
    """The least memory in which the network can be cut: bands, chunks, maps in DDR."""
    graph = small_network(kind, seed)
    for act_words in range(16, 30720, 16):
        try:
            engine.compile_graph(graph, engine.EngineParams(act_words=act_words))
        except ResourceError:
            continue
        break
    execute(graph, engine.EngineParams(act_words=act_words), seed, interleaving=seed)


def test_a_missing_token_is_noticed() -> None:
    """The model would notice: without tokens some order of the operations gives wrong words."""
    graph = small_network("plain", 1)
    program = engine.compile_graph(graph)
    words = bytearray(program.array_stream)
    for start in range(0, len(words), 16):
        words[start + 14] &= 0x00 if start == 3 * 16 else 0xFF  # of the first CONV: `wait`, low
    words[3 * 16 + 15] &= 0xF0
    image = random_image(graph.tensors["image"].shape, 1).astype(np.uint8)
    noticed = 0
    for seed in range(20):
        model = EngineModel(engine.EngineParams().act_words, seed)
        try:
            model.run(bytes(words), program.lane_stream, image)
        except AssertionError:
            noticed += 1
    assert noticed


def test_refusals_name_the_node_and_the_way_out() -> None:
    graph = random_codenet_graph("a", 1, seed=0)
    node = graph.node("layer1.0.b1.pw")
    constants = dict(graph.constants)
    constants[node.consts["mul"]] = np.full_like(constants[node.consts["mul"]], 3)
    with pytest.raises(GraphError, match=r"layer1\.0\.b1\.pw.*power-of-two"):
        engine.compile_graph(graph.rebuilt(constants=constants))
    nodes = [
        dataclasses.replace(n, attrs=dataclasses.replace(n.attrs, k=7)) if n.op == "peaks" else n
        for n in graph.nodes
    ]
    with pytest.raises(GraphError, match=r"peaks.*100"):
        engine.compile_graph(graph.rebuilt(nodes=nodes))


def test_values_beyond_a_field_are_refused() -> None:
    with pytest.raises(GraphError, match=r"here: bias"):
        isa.pack(isa.CHANNEL_RECORD, {"bias": 1 << 24}, "here")
    assert isa.pack(isa.CHANNEL_RECORD, {"bias": -1}, "here") == (1 << 25) - 1


def test_depthwise_beyond_int4_is_refused() -> None:
    b = GraphBuilder("two")
    x = b.input("image", (2, 16, 16), U8)
    arrays = consts(np.random.default_rng(0), 2, (3, 3), top=9)
    arrays["weight"][1, 2, 2] = 9
    graph = b.build([b.add("d", "dw", [x], DwAttrs(1, 8, 24, I8), arrays)])
    with pytest.raises(GraphError, match=r"d: depthwise weights beyond int4"):
        engine.compile_graph(graph)


@pytest.mark.parametrize("out", [U8, I8], ids=str)
def test_first_layer_and_pool_of_either_sign(out: IntType) -> None:
    """A first layer without ReLU is pooled as int8."""
    rng = np.random.default_rng(4)
    b = GraphBuilder("first")
    x = b.input("image", (3, 64, 64), U8)
    x = b.add("conv", "conv", [x], ConvAttrs(3, 2, 1, 8, 26, out), consts(rng, 5, (3, 3, 3), 127))
    x = b.add("pool", "maxpool", [x], MaxpoolAttrs())
    graph = b.build([b.add("last", "pw", [x], PwAttrs(4, 26, I8), consts(rng, 4, (5,)))])
    program = engine.compile_graph(graph)
    image = random_image((3, 64, 64), 5)
    expected = interp.run(graph, {"image": image}, keep=True)
    if out.signed:
        assert expected["pool"].min() < 0
    model = EngineModel(engine.EngineParams().act_words)
    model.run(program.array_stream, program.lane_stream, image.astype(np.uint8))
    columns = (np.array(column) for column in zip(*model.writes, strict=True))
    assert engine.check_trace(program, graph, *columns, expected) == 4


def scaled_deformables(between: bool) -> Graph:
    """Two deformable layers; `between` makes the second dilation map before the first is read."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("two")
    x = b.input("image", (2, 16, 16), U8)

    def scale(name: str):  # noqa: ANN202
        return b.add(name, "pw", [x], PwAttrs(4, 26, U3), consts(rng, 1, (2,)))

    def deform(name: str, s):  # noqa: ANN001, ANN202
        return b.add(name, "deform_dw", [x, s], DeformDwAttrs(4, 24, I8), consts(rng, 2, (3, 3)))

    s0 = scale("s0")
    if between:
        s1 = scale("s1")
        outs = [deform("d0", s0), deform("d1", s1)]
    else:
        outs = [deform("d0", s0)]
        outs.append(deform("d1", scale("s1")))
    return b.build(outs)


@pytest.mark.parametrize("channels", [9, 30])
def test_the_layout_says_how_large_the_outputs_are(channels: int) -> None:
    """A host keeps at least 1 MiB; 30 channels of 256 x 256 are more."""
    b = GraphBuilder("large")
    x = b.input("image", (1, 256, 256), IntType(8, False))
    one = np.ones(channels, np.int64)
    held = {"weight": np.full((channels, 1), 3, np.int8), "bias": 0 * one, "mul": one,
            "shift": one.astype(np.int8)}
    y = b.add("y", "pw", [x], PwAttrs(4, 12, IntType(8, False)), held)
    program = engine.compile_graph(b.build([y]), engine.EngineParams(act_words=1 << 18))
    assert program.output_bytes == channels * 65_536
    layout = driver.Layout.of(program.layout())
    assert layout.output_bytes == max(channels * 65_536, 1 << 20)


def test_only_one_dilation_map_at_a_time() -> None:
    engine.compile_graph(scaled_deformables(between=False))
    with pytest.raises(GraphError, match=r"d0: its dilations are not those of.*'s1'"):
        engine.compile_graph(scaled_deformables(between=True))


def test_layers_of_another_form_are_refused() -> None:
    rng = np.random.default_rng(0)

    def refuse(match: str, op: str, attrs: object, arrays: dict[str, np.ndarray]) -> None:
        b = GraphBuilder("one")
        x = b.input("image", (2, 48, 48), U8)
        x = b.add("first", "pw", [x], PwAttrs(4, 26, U8), consts(rng, 2, (2,)))
        graph = b.build([b.add("it", op, [x], attrs, arrays)])
        with pytest.raises(GraphError, match=match):
            engine.compile_graph(graph)

    refuse("it: a max pool of 2x2", "maxpool", MaxpoolAttrs(2, 2, 0), {})
    refuse("it: a max pool of 3x3, padding 0", "maxpool", MaxpoolAttrs(3, 1, 0), {})
    refuse("it: stride 3", "dw", DwAttrs(3, 4, 24, I8), consts(rng, 2, (3, 3)))
    refuse("it: accumulators of 27 bits", "pw", PwAttrs(4, 27, I8), consts(rng, 2, (2,)))


def test_peaks_of_unsigned_heads_are_refused() -> None:
    rng = np.random.default_rng(0)
    b = GraphBuilder("heads")
    x = b.input("image", (2, 16, 16), U8)
    heads = [b.add(name, "pw", [x], PwAttrs(4, 26, out), consts(rng, 2, (2,)))
             for name, out in (("hm", I8), ("wh", U8), ("reg", I8))]  # fmt: skip
    graph = b.build([b.add("peaks", "peaks", heads, PeaksAttrs())])
    with pytest.raises(GraphError, match=r"peaks: the engine finds peaks in int8 maps"):
        engine.compile_graph(graph)


def test_a_layer_left_out_or_a_foreign_write_is_named() -> None:
    graph = small_network("plain", 1)
    program = engine.compile_graph(graph)
    image = random_image(graph.tensors["image"].shape, 1)
    expected = interp.run(graph, {"image": image}, keep=True)
    model = EngineModel(engine.EngineParams().act_words)
    model.run(program.array_stream, program.lane_stream, image.astype(np.uint8))
    tags, addrs, data = (np.array(column) for column in zip(*model.writes, strict=True))
    less = dataclasses.replace(program, steps=tuple(s for s in program.steps if s.node != "dw"))
    with pytest.raises(VerifyError, match="dw: the program has no descriptor"):
        engine.check_trace(less, graph, tags, addrs, data, expected)
    tags[-1] = 0xFFF
    with pytest.raises(VerifyError, match="descriptor 4095 wrote"):
        engine.check_trace(program, graph, tags, addrs, data, expected)


@pytest.mark.parametrize("seed", range(5))
def test_memory_takes_the_first_gap_that_holds_a_block(seed: int) -> None:
    """Against a map of words; what was given back is free only when nothing else is."""
    rng = np.random.default_rng(seed)
    memory, taken = Memory(400), np.zeros(400, bool)
    blocks: dict[int, int] = {}
    back: dict[int, int] = {}

    def first(size: int) -> int | None:
        return next((a for a in range(401 - size) if not taken[a : a + size].any()), None)

    for _ in range(300):
        size = int(rng.integers(1, 40))
        if rng.random() < 0.4 and blocks:
            addr = int(rng.choice(list(blocks)))
            memory.give(addr)
            back[addr] = blocks.pop(addr)
            continue
        if size > 400 - sum(blocks.values()):
            continue
        while (expected := first(size)) is None and back:
            freed = 0
            while back and freed < size:  # the oldest first, as much as is wanted
                addr = next(iter(back))
                taken[addr : addr + back[addr]] = False
                freed += back.pop(addr)
        if expected is None:
            with pytest.raises(ResourceError, match="has no room"):
                memory.take(1, size, "node")
            continue
        assert memory.take(1, size, "node") == [expected]
        taken[expected : expected + size] = True
        blocks[expected] = size
    assert memory.peak > 300


@pytest.mark.parametrize(("words", "channels", "cycles"), [
    (16, 3, 16), (16, 20, 20), (513, 3, 515), (1030, 24, 1048), (1100, 24, 1100), (0, 5, 0),
])
def test_a_chunk_of_columns_lasts_as_long_as_its_read_out(
    words: int, channels: int, cycles: int
) -> None:
    assert isa.CHUNK == 512
    assert encode.array_cycles(words, channels) == cycles
