# SPDX-License-Identifier: Apache-2.0
"""The graph: what it refuses, that it is immutable, and that saving keeps every bit."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from hwflow.errors import GraphError
from hwflow.ir import Graph, GraphBuilder, IntType, Node, RealType, Tensor, make_graph
from hwflow.ops.pw import PwAttrs
from hwflow.ops.slice import SliceAttrs
from hwflow.ops.upsample import UpsampleAttrs
from tests.graphs import CONFIGS, random_codenet_graph, random_small_graph

U8, I8 = IntType(8, False), IntType(8, True)

# MACs of the layers at the width and size of each configuration, as published by the layer tables
# of the network's description: 1x1 convolutions of heads and scale maps before the upsampling.
MACS = {
    "a": 241_948_160,
    "b": 249_910_784,
    "c": 967_792_640,
    "d": 3_355_689_472,
    "e": 3_387_539_968,
}
LAYERS_A = {
    "layer0.conv": 2_654_208,
    "layer1.0.b1.dw": 221_184,
    "layer1.0.b1.pw": 1_425_408,
    "layer1.0.b2.pw1": 5_701_632,
    "layer1.0.b2.dw": 534_528,
    "layer1.0.b2.pw2": 3_444_736,
    "layer2.0.b2.pw1": 13_778_944,
    "layer4": 30_408_704,
    "up0.scale": 65_536,
    "up0.ddw": 589_824,
    "up0.pw": 16_777_216,
    "up1.ddw": 589_824,
    "up2.ddw": 1_179_648,
    "up2.pw": 8_388_608,
    "hm.dw": 2_359_296,
    "hm.pw2": 5_242_880,
    "reg.pw2": 524_288,
}
WEIGHTS = {1: 1_570_160, 2: 6_046_810}


@pytest.mark.parametrize(
    ("text", "lo", "hi"),
    [("u8", 0, 255), ("i8", -128, 127), ("u3", 0, 7), ("u1", 0, 1), ("i24", -(2**23), 2**23 - 1)],
)
def test_int_type(text: str, lo: int, hi: int) -> None:
    kind = IntType.parse(text)
    assert (str(kind), kind.lo, kind.hi) == (text, lo, hi)


@pytest.mark.parametrize("text", ["", "8", "u", "x8", "u-8", "u8 ", "f32", "u64", "i0", "u100"])
def test_a_wrong_type_name_is_refused(text: str) -> None:
    with pytest.raises(GraphError):
        IntType.parse(text)


@pytest.mark.parametrize("config", sorted(MACS))
def test_codenet_has_the_published_layers(config: str) -> None:
    graph = random_codenet_graph(config, 20, 1)
    width = CONFIGS[config][1]
    assert graph.macs() == MACS[config]
    weights = sum(graph.const(n, "weight").size for n in graph.nodes if "weight" in n.consts)
    assert weights == WEIGHTS[width]
    if config == "a":
        assert {name: graph.macs(graph.node(name)) for name in LAYERS_A} == LAYERS_A
    side = 64 if CONFIGS[config][0] == 256 else 128
    assert graph.tensors["hm.pw2"] == Tensor("hm.pw2", (20, side, side), I8)
    assert graph.tensors["peaks"].shape == (100, 8)


def small() -> GraphBuilder:
    builder = GraphBuilder("small")
    x = builder.input("image", (2, 3, 3), U8)
    consts = {
        "weight": np.array([[1, -2], [3, 4], [0, 7]], np.int8),
        "bias": np.array([0, 10, -5]),
        "mul": np.ones(3, np.int64),
        "shift": np.array([0, 1, 2], np.int8),
    }
    builder.add("pw", "pw", [x], PwAttrs(4, 13, U8), consts)
    builder.add("up", "upsample", ["pw"], UpsampleAttrs(2))
    return builder


def test_questions_to_a_graph() -> None:
    graph = small().build(["up"])
    assert graph.producer("image") is None
    assert graph.producer("up") is graph.node("up")
    assert [n.name for n in graph.consumers("pw")] == ["up"]
    assert graph.consumers("up") == ()
    assert graph.const(graph.node("pw"), "bias").tolist() == [0, 10, -5]
    assert graph.tensors["up"] == Tensor("up", (3, 6, 6), U8)
    assert graph.macs(graph.node("pw")) == graph.macs() == 2 * 3 * 9
    assert "3x6x6 u8" in graph.table()
    with pytest.raises(GraphError, match="no node 'down'"):
        graph.node("down")
    with pytest.raises(GraphError, match="no constant 'weight'"):
        graph.const(graph.node("up"), "weight")


def test_a_graph_cannot_be_changed() -> None:
    builder = small()
    mine = builder.constants["pw.bias"]
    graph = builder.build(["up"])
    before = graph.digest()
    mine[0] = 77
    assert graph.digest() == before
    with pytest.raises(ValueError, match="read-only"):
        graph.constants["pw.bias"][0] = 1
    with pytest.raises(TypeError):
        graph.tensors["new"] = Tensor("new", (1,), U8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.name = "other"


def parts() -> dict:
    graph = small().build(["up"])
    return {
        "name": graph.name,
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "nodes": graph.nodes,
        "tensors": dict(graph.tensors),
        "constants": dict(graph.constants),
    }


def up(name: str, source: str, output: str | None = None) -> Node:
    return Node(name, "upsample", (source,), output or name, UpsampleAttrs(2))


def test_a_graph_is_checked_when_built() -> None:
    assert Graph(**parts()).digest() == small().build(["up"]).digest()
    pw, first_up = parts()["nodes"]
    tensors = parts()["tensors"]
    extra = {"more": Tensor("more", (3, 12, 12), U8)}
    cases = [
        ({"nodes": (first_up, pw)}, "input 'pw' is made by no node before it"),
        ({"nodes": (pw, first_up, up("up", "pw", "more"))}, "two nodes are named 'up'"),
        ({"nodes": (pw, first_up, up("more", "pw", "up"))}, "'up' is made twice"),
        ({"nodes": (pw,)}, "tensor 'up' is made by no node"),
        ({"tensors": tensors | extra}, "tensor 'more' is made by no node"),
        ({"tensors": tensors | {"up": Tensor("up", (3, 5, 6), U8)}}, "is declared"),
        ({"outputs": ()}, "no output"),
        ({"outputs": ("nowhere",)}, "output 'nowhere' is no tensor"),
        ({"inputs": ("nowhere",)}, "input 'nowhere' is no tensor"),
        ({"constants": {}}, "is no constant"),
        ({"nodes": (pw, dataclasses.replace(first_up, op="down"))}, "no op 'down'"),
        ({"nodes": (pw, dataclasses.replace(first_up, attrs=SliceAttrs(0, 1)))}, "attrs are"),
    ]
    for changes, rule in cases:
        with pytest.raises(GraphError, match=rule):
            Graph(**(parts() | changes))


def test_errors_name_the_node() -> None:
    builder = small()
    with pytest.raises(GraphError, match=r"node 'cut' \(slice\): channels 1\.\.9"):
        builder.add("cut", "slice", ["pw"], SliceAttrs(1, 9))


def test_rebuilt_keeps_only_what_is_used() -> None:
    graph = small().build(["up"])
    meta = {"scale.pw": 0.5, "scale.up": 0.5, "onnx.up": "x", "output.hm": "up", "scale.hm": 1.0}
    graph = graph.rebuilt(meta=meta)
    nodes = (up("wide", "image"),)
    other = graph.rebuilt(nodes=nodes, outputs=("wide",))
    assert not other.constants
    assert other.meta == {"output.hm": "up", "scale.hm": 1.0}
    assert other.tensors["wide"].shape == (2, 6, 6)
    real = graph.rebuilt(nodes=nodes, outputs=("wide",), input_tensors=[
        Tensor("image", (2, 3, 3), RealType())])  # fmt: skip
    assert real.tensors["wide"].dtype == RealType()


@pytest.mark.parametrize("seed", range(5))
def test_saving_keeps_everything(tmp_path: Path, seed: int) -> None:
    graph = random_small_graph(seed)
    graph.save(tmp_path / "one")
    graph.save(tmp_path / "two")
    for name in ("graph.json", "constants.npz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    loaded = Graph.load(tmp_path / "one")
    assert loaded.digest() == graph.digest()
    assert (loaded.nodes, dict(loaded.tensors)) == (graph.nodes, dict(graph.tensors))
    assert loaded.meta == graph.meta
    for key, array in graph.constants.items():
        assert loaded.constants[key].dtype == array.dtype
        assert np.array_equal(loaded.constants[key], array)
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["constants.npz", "graph.json"]


def test_the_digest_sees_every_part() -> None:
    graph = small().build(["up"])
    digests = {graph.digest()}
    changed = dict(graph.constants)
    changed["pw.bias"] = changed["pw.bias"] + 1
    digests.add(graph.rebuilt(constants=changed).digest())
    digests.add(graph.rebuilt(name="other").digest())
    digests.add(graph.rebuilt(outputs=("pw",)).digest())
    digests.add(graph.rebuilt(meta={"scale.image": 0.5}).digest())
    assert len(digests) == 5


def damage_json(folder: Path, **changes: object) -> None:
    path = folder / "graph.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_damaged_folder_is_one_sentence(tmp_path: Path) -> None:
    def fresh() -> Path:
        folder = tmp_path / f"g{len(list(tmp_path.iterdir()))}"
        small().build(["up"]).save(folder)
        return folder

    with pytest.raises(GraphError, match=r"nowhere.*No such file"):
        Graph.load(tmp_path / "nowhere")
    folder = fresh()
    (folder / "constants.npz").unlink()
    with pytest.raises(GraphError, match=r"constants\.npz"):
        Graph.load(folder)
    folder = fresh()
    data = (folder / "constants.npz").read_bytes()
    (folder / "constants.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(GraphError, match=r"graph\.json"):
        Graph.load(folder)
    folder = fresh()
    text = (folder / "graph.json").read_text()
    (folder / "graph.json").write_text(text[:200])
    with pytest.raises(GraphError, match="lower the model again"):
        Graph.load(folder)
    for changes in ({"format": 99}, {"nodes": [{}]}, {"constants": {}}, {"tensors": 3}):
        folder = fresh()
        damage_json(folder, **changes)
        with pytest.raises(GraphError, match=r"graph\.json"):
            Graph.load(folder)
    folder, other = fresh(), fresh()
    changed = dict(small().build(["up"]).constants)
    changed["pw.bias"] = changed["pw.bias"] + 1
    small().build(["up"]).rebuilt(constants=changed).save(other)
    (folder / "constants.npz").write_bytes((other / "constants.npz").read_bytes())
    with pytest.raises(GraphError, match=r"'pw\.bias' is missing or damaged"):
        Graph.load(folder)


def test_make_graph_infers_every_tensor() -> None:
    graph = make_graph("g", [Tensor("x", (1, 2, 2), I8)], ["u"], [up("u", "x")], {})
    assert graph.tensors["u"] == Tensor("u", (1, 4, 4), I8)
