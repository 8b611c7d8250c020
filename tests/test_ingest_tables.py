# SPDX-License-Identifier: Apache-2.0
"""Table networks from torch through QONNX to tables: the same integers, at every address."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from torch import nn

from hwflow import ingest, interp, passes, verify
from hwflow.emit import hls
from hwflow.errors import ConfigError, GraphError
from hwflow.export_tables import export_qonnx, export_vectors
from hwflow.ir import Graph, IntType
from hwflow.models import dtnn
from hwflow.models.tables import (
    Code,
    GroupSum,
    LookupNode,
    TableConv,
    TableLayer,
    TableNetwork,
    Thresholds,
)
from hwflow.passes.table_forms import simplify_tables
from tests.table_models import make_network, make_node

torch.set_num_threads(1)

# kinds of the two layers, codes, children a node, levels of the encoder, thermometer
NETWORKS = {
    "lookup6x1": (("lookup", "lookup"), Code(1), 6, 1, False),
    "lookup-signed": (("lookup", "lookup"), Code(2, True), 2, 3, False),
    "affine2x3": (("affine", "affine"), Code(3), 2, 7, False),
    "polynomial": (("polynomial", "lookup"), Code(2, True), 3, 2, True),
    "mlp": (("mlp", "mlp"), Code(2), 2, 1, False),
    "thermometer": (("lookup", "affine"), Code(1), 4, 3, True),
    "mixed": (("mlp", "polynomial"), Code(3, True), 2, 3, False),
    "free": (("free", "free"), Code(2), 2, 2, True),
}
SHAPE = (1, 5, 5)
# The tables as they are in the file, before any is made smaller.
ENUMERATE = [step for step in passes.LOWER if step[0] is not simplify_tables]


def exported(name: str, folder: Path) -> tuple[TableNetwork, Path]:
    kinds, code, inputs, levels, thermometer = NETWORKS[name]
    net = make_network(
        kinds, code, inputs, len(name), levels=levels, thermometer=thermometer,
        groups=None if name in ("free", "mixed") else 5,
    )  # fmt: skip
    path = folder / f"{name}.onnx"
    export_qonnx(net, path, SHAPE)
    return net, path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[TableNetwork, Path, Graph]]:
    folder = tmp_path_factory.mktemp("tables")
    found = {}
    for name in NETWORKS:
        net, path = exported(name, folder)
        found[name] = (net, path, passes.run(ENUMERATE, ingest.read(path)))
    return found


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_qonnx_and_integers_agree(
    name: str, files: dict[str, tuple[TableNetwork, Path, Graph]], tmp_path: Path
) -> None:
    net, path, graph = files[name]
    shown = images(6)
    result = verify.against_qonnx(graph, path, shown)
    assert result["mismatches"] == 0 and result["tensors"] >= 5
    export_vectors(net, shown, tmp_path / "vectors.npz")
    vectors = np.load(tmp_path / "vectors.npz")
    scores, best = graph.outputs
    for image, wanted, label in zip(shown, vectors["scores"], vectors["classes"], strict=True):
        found = interp.run(graph, {"image": image})
        assert np.array_equal(verify.reals(graph, scores, found[scores]).ravel(), wanted)
        assert np.array_equal(found[best].ravel(), label)


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_are_tables(name: str, files: dict[str, tuple[TableNetwork, Path, Graph]]) -> None:
    graph, (kinds, code, inputs, levels, thermometer) = files[name][2], NETWORKS[name]
    ops = [n.op for n in graph.nodes]
    assert ops.count("tables") == len(kinds)
    assert ops.count("threshold") == (levels if thermometer else 1)
    assert set(ops) <= {"rearrange", "threshold", "concat", "tables", "group_sum", "argmax"}
    last = [n for n in graph.nodes if n.op == "tables"][-1]
    assert last.attrs.out == IntType(code.bits, code.signed)
    assert graph.const(last, "wires").shape == (10, inputs * code.bits)


def part(model: ModelWrapper, source: str, target: str) -> ModelWrapper:
    """The nodes of a file between two of its tensors, as a file."""
    needed, nodes = {target}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output) and source not in node.output:
            nodes.insert(0, node)
            needed.update(node.input)
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, model.get_tensor_shape(n))
        for n in (source, target)
    ]
    known = [t for t in model.graph.initializer if t.name in needed]
    shapes = [v for v in model.graph.value_info if v.name in needed - {source, target}]
    graph = helper.make_graph(nodes, "part", ends[:1], ends[1:], known, value_info=shapes)
    opsets = list(model.model.opset_import)
    return ModelWrapper(helper.make_model(graph, opset_imports=opsets, ir_version=9))


@pytest.mark.parametrize("name", ["lookup-signed", "affine2x3", "mlp", "thermometer"])
def test_every_table_is_the_files_node_at_every_address(
    name: str, files: dict[str, tuple[TableNetwork, Path, Graph]]
) -> None:
    """The qonnx executor runs a layer alone, on random codes, until every table has been asked at
    every address that its wires can form."""
    _, path, graph = files[name]
    model = ModelWrapper(str(path))
    rng = np.random.default_rng(1)
    for node in (n for n in graph.nodes if n.op == "tables"):
        source, target = (str(graph.meta[f"onnx.{t}"]) for t in (node.inputs[0], node.output))
        layer = part(model, source, target)
        kind, bits = graph.tensors[node.inputs[0]].dtype, node.attrs.code_bits
        wires, values = graph.const(node, "wires"), graph.const(node, "values")
        scale, out_scale = (graph.meta[f"scale.{t}"] for t in (node.inputs[0], node.output))
        seen = np.zeros(values.shape, bool)
        wanted = sum(1 << len(set(row.tolist())) for row in wires)
        for _ in range(3000):
            if seen.sum() == wanted:
                break
            codes = rng.integers(kind.lo, kind.hi + 1, graph.tensors[node.inputs[0]].shape)
            feed = {source: (codes.reshape(1, -1) * scale).astype(np.float32)}
            found = execute_onnx(layer, feed)[target].ravel()
            text = [np.binary_repr(int(v), bits)[::-1] for v in codes.ravel()]
            flat = "".join(text)
            for n, row in enumerate(wires):
                address = int("".join(flat[w] for w in row)[::-1], 2)
                seen[n, address] = True
                assert values[n, address] * np.float32(out_scale) == found[n]
        assert seen.sum() == wanted


def test_largest_preset_is_enumerated_in_seconds(tmp_path: Path) -> None:
    import time

    net = make_network(
        ("mlp", "lookup"), Code(1), 6, sizes=(2000, 1000), groups=10, shape=(1, 28, 28)
    )
    path = tmp_path / "large.onnx"
    export_qonnx(net, path, (1, 28, 28))
    start = time.monotonic()
    graph = passes.lower(ingest.read(path))
    assert time.monotonic() - start < 20
    image = np.random.default_rng(0).integers(0, 256, (2, 1, 28, 28))
    assert verify.against_qonnx(graph, path, image)["mismatches"] == 0


def test_too_many_address_bits_are_refused(tmp_path: Path) -> None:
    net = make_network(("affine", "affine"), Code(3), 6, levels=7)
    path = tmp_path / "wide.onnx"
    export_qonnx(net, path, SHAPE)
    with pytest.raises(GraphError) as caught:
        ingest.read(path)
    text = str(caught.value)
    assert "layers.0" in text and "18 address bits" in text and "6 children of 3 bits" in text
    assert "at most 16" in text and "fewer children or narrower codes" in text


def test_export_refuses(tmp_path: Path) -> None:
    net = make_network(("free", "free"), Code(2), 2)
    with pytest.raises(GraphError, match="no power of two"):
        export_qonnx(net, tmp_path / "x.onnx", SHAPE)
    with pytest.raises(ConfigError, match="channels, height, width"):
        export_qonnx(net, tmp_path / "x.onnx", (5, 5))


def test_convolutions_of_tables(tmp_path: Path) -> None:
    """Windows with strides and pads, a pool of codes, a flatten, tables over all of it."""
    torch.manual_seed(0)
    code, signed = Code(2), Code(2, True)
    first = LookupNode(torch.rand(6, 64) * 3, 3, code, code)
    last = LookupNode(torch.rand(10, 64), 3, signed, Code(1))
    layers = [
        TableConv(torch.randint(0, 18, (6, 3)), first, 2, (3, 3), pad=(1, 1)),
        nn.MaxPool2d(2),
        TableConv(
            torch.randint(0, 24, (8, 3)), make_node("affine", 8, 3, code, signed), 6, (2, 2),
            (2, 1), (0, 1),
        ),
        nn.Flatten(),
        TableLayer(torch.randint(0, 64, (10, 3)), last),
    ]  # fmt: skip
    encoder = Thresholds(torch.rand(2, 3) * 256)
    net = TableNetwork(encoder, layers, GroupSum(5), flat=False).eval()
    path = tmp_path / "conv.onnx"
    export_qonnx(net, path, (2, 8, 6))
    graph = passes.lower(ingest.read(path))
    ops = [n.op for n in graph.nodes]
    assert ops == ["threshold", "patches", "tables", "maxpool", "patches", "tables", "rearrange",
                   "tables", "group_sum", "argmax"]  # fmt: skip
    shown = np.random.default_rng(0).integers(0, 256, (8, 2, 8, 6), dtype=np.uint8)
    assert verify.against_qonnx(graph, path, shown)["mismatches"] == 0
    with torch.no_grad():
        scores = net(torch.from_numpy(shown.astype(np.float32)) / 256).numpy()
    found = interp.run_many(graph, {"image": shown})[graph.outputs[0]]
    assert np.array_equal(found.reshape(8, 5), scores)
    hls.write(graph, tmp_path / "hls")
    hls.build(tmp_path / "hls")
    for name, array in hls.run_many(tmp_path / "hls", shown).items():
        assert np.array_equal(array, interp.run_many(graph, {"image": shown})[name])


def test_shipped_checkpoint(tmp_path: Path) -> None:
    """Its arrays, its torch modules, their QONNX, the graph lowered from it and the C++ of that
    graph give the same scores and classes."""
    path = Path(dtnn.__file__).parents[1] / "checkpoints" / "dtnn_small_mnist.safetensors"
    tables, _ = dtnn.load_checkpoint(path)
    net = dtnn.network(tables)
    export_qonnx(net, tmp_path / "net.onnx", tables.shape)
    graph = passes.lower(ingest.read(tmp_path / "net.onnx"))
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 256, (300, *tables.shape), dtype=np.uint8)
    shown[:200] *= rng.random((200, *tables.shape)) < 0.3  # ink on paper
    assert verify.against_qonnx(graph, tmp_path / "net.onnx", shown[:2])["mismatches"] == 0
    wanted = dtnn.scores(tables, shown)
    with torch.no_grad():
        found = net(torch.from_numpy(shown.astype(np.float32)) / 256).numpy()
    assert np.array_equal(found, wanted)
    hls.write(graph, tmp_path / "hls")
    hls.build(tmp_path / "hls")
    for outputs in (
        interp.run_many(graph, {"image": shown}), hls.run_many(tmp_path / "hls", shown)
    ):  # fmt: skip
        scores, best = (outputs[name] for name in graph.outputs)
        assert np.array_equal(scores.reshape(len(shown), -1), wanted)
        assert np.array_equal(best.ravel(), wanted.argmax(axis=1))


# --- files of others ---------------------------------------------------------------------------


class File:
    """A QONNX file node by node: an input of 8 channels in codes of 2 bits."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.x = self.quant("image", 8, 2.0**-8)
        self.x = self.quant(self.x, 2, 0.25)

    def constant(self, value: object, kind: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        array = np.asarray(value, kind)
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"n{len(self.nodes)}.{op.lower()}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def quant(self, x: str, bits: int, scale: float, signed: int = 0) -> str:
        parts = [self.constant(v) for v in (scale, 0.0, float(bits))]
        return self.node(
            "Quant", x, *parts, domain="qonnx.custom_op.general", signed=signed, narrow=0,
            rounding_mode="ROUND",
        )  # fmt: skip

    def gather(self, wires: object, axis: int = 1) -> str:
        return self.node("Gather", self.x, self.constant(wires, np.int64), axis=axis)

    def save(self, folder: Path) -> Path:
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 8])
        out = helper.make_tensor_value_info(self.x, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "net", [image], [out], self.constants)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("qonnx.custom_op.general", 2)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "f.onnx")
        return folder / "f.onnx"


WIRES = np.random.default_rng(5).integers(0, 8, (5, 3))


def tables_of(path: Path) -> Graph:
    graph = passes.run(ENUMERATE, ingest.read(path))
    shown = np.random.default_rng(2).integers(0, 256, (30, 8, 1, 1))
    assert verify.against_qonnx(graph, path, shown)["mismatches"] == 0
    assert "tables" in [n.op for n in graph.nodes]
    return graph


def test_sine_of_a_batched_product(tmp_path: Path) -> None:
    file = File()
    children = file.node("Unsqueeze", file.gather(WIRES), file.constant([2], np.int64))
    weight = file.constant(np.random.default_rng(6).integers(-3, 4, (5, 3, 4)))
    hidden = file.node("Sigmoid", file.node("MatMul", children, weight))
    total = file.node("ReduceSum", hidden, file.constant([2, 3], np.int64), keepdims=0)
    file.x = file.quant(file.node("Sin", total), 3, 0.25, signed=1)
    graph = tables_of(file.save(tmp_path))
    assert graph.nodes[-1].attrs.out == IntType(3, True)


def test_comparison_and_choice(tmp_path: Path) -> None:
    file = File()
    children = file.gather(WIRES)
    parts = [file.node("Gather", children, file.constant(j, np.int64), axis=2) for j in range(3)]
    above = file.node("Greater", parts[0], parts[1])
    file.x = file.quant(file.node("Where", above, parts[2], parts[0]), 2, 0.25)
    tables_of(file.save(tmp_path))


def test_wiring_by_reshape(tmp_path: Path) -> None:
    """Neighbouring channels are the children, the greatest of them is the value."""
    file = File()
    grouped = file.node("Reshape", file.x, file.constant([1, 4, 2], np.int64))
    most = file.node("ReduceMax", grouped, file.constant([2], np.int64), keepdims=0)
    file.x = file.quant(most, 2, 0.25)
    graph = tables_of(file.save(tmp_path))
    wanted = [[4 * n, 4 * n + 1, 4 * n + 2, 4 * n + 3] for n in range(4)]
    assert graph.const(graph.nodes[-1], "wires").tolist() == wanted


def test_wiring_in_order(tmp_path: Path) -> None:
    """All channels in their order: nothing is moved. Some of them in order: a slice."""
    for first, ops in ((0, ["tables"]), (2, ["slice", "tables"])):
        file = File()
        file.x = file.gather(np.arange(first, 8))
        grouped = file.node("Reshape", file.x, file.constant([1, -1, 2], np.int64))
        most = file.node("ReduceMin", grouped, file.constant([2], np.int64), keepdims=0)
        file.x = file.quant(most, 2, 0.25)
        graph = tables_of(file.save(tmp_path))
        assert [n.op for n in graph.nodes][-len(ops) :] == ops
        assert len([n for n in graph.nodes if n.op == "slice"]) == len(ops) - 1


def test_mixing_nodes_is_refused(tmp_path: Path) -> None:
    file = File()
    mixed = file.node("ReduceSum", file.gather(WIRES), file.constant([1], np.int64), keepdims=1)
    file.x = file.quant(mixed, 4, 0.25)
    with pytest.raises(GraphError, match=r"ReduceSum: in the node function .* reads a shape"):
        ingest.read(file.save(tmp_path))


def test_value_out_of_the_middle_is_refused(tmp_path: Path) -> None:
    file = File()
    children = file.gather(WIRES)
    total = file.node("ReduceSum", children, file.constant([2], np.int64), keepdims=0)
    file.quant(total, 2, 0.25)
    file.x = total
    with pytest.raises(GraphError, match="middle of a node function"):
        ingest.read(file.save(tmp_path))


def test_no_number_is_refused(tmp_path: Path) -> None:
    file = File()
    children = file.gather(WIRES)
    logs = file.node("Log", file.node("Sub", children, file.constant(0.3)))
    total = file.node("ReduceSum", logs, file.constant([2], np.int64), keepdims=0)
    file.x = file.quant(total, 2, 0.25)
    with pytest.raises(GraphError, match="gives no number"):
        ingest.read(file.save(tmp_path))
