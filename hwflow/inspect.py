# SPDX-License-Identifier: Apache-2.0
"""What a network is made of: shapes, bits, work, proven accumulators, and what runs each layer.

A file that lowers is shown as its integer graph, whose numbers are exact. One that does not is
shown node by node as it was written, with the reason beside each node that is not supported.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from rich.console import Group
from rich.table import Table
from rich.text import Text

from hwflow import boards, ingest, passes
from hwflow.emit import hls_program, tables
from hwflow.emit.engine import EngineParams, compile_graph
from hwflow.errors import ConfigError, GraphError, ResourceError
from hwflow.ingest.reader import attributes_of, layer_name, make_reader
from hwflow.ir import Graph, GraphBuilder, IntType, Node, Tensor
from hwflow.ops.arith import dot_range, proven_acc_bits, signed_bits
from hwflow.ops.dw import DwAttrs
from hwflow.ops.pw import PwAttrs
from hwflow.ops.residual import sum_range
from hwflow.passes.engine_form import form_of
from hwflow.plan import write_atomic

if TYPE_CHECKING:
    from hwflow.ingest.reader import Reader

SCHEMA = 1
WIDTH = 160  # columns that show every number on one line
QUANTISERS = ("Quant", "IntQuant", "BipolarQuant", "FloatQuant", "Trunc", "MultiThreshold")
# What only passes a constant on, on its way to the node that multiplies by it.
CARRIERS = (*QUANTISERS, "Transpose", "Reshape", "Identity")
# Input of the weight, input of the bias.
WEIGHTED: Mapping[str, tuple[int, int]] = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "DeformConv": (1, 3), "Gemm": (1, 2), "MatMul": (1, 9),
}


@dataclass(frozen=True)
class Range:
    """Every value an accumulator can take, partial sums in any order and the bias included."""

    min: int
    max: int
    bits: int


@dataclass(frozen=True)
class Layer:
    """One layer. Shapes have no batch axis; types are "u8", "i8" ..., or "f32" before lowering.

    parameters: weights, biases and thresholds. weight_bytes: the weights packed at weight_bits.
    accumulator: None where nothing is summed, or nothing proven because the file does not lower.
    runs_on: "engine" (all of the network does), else "tables", else "hls" (all of it does), else
    "none"; `engine` and `hls` say what keeps this layer from it, None where nothing does.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    input_shape: tuple[int, ...] | None
    input_type: str | None
    output_shape: tuple[int, ...] | None
    output_type: str | None
    weight_bits: int | None
    macs: int | None
    parameters: int
    weight_bytes: int
    accumulator: Range | None
    runs_on: str
    engine: str | None
    hls: str | None


@dataclass(frozen=True)
class Port:
    """An input or output of the network."""

    name: str
    shape: tuple[int, ...] | None
    type: str | None


@dataclass(frozen=True)
class Totals:
    """Sums over the layers; accumulator_bits is the widest proven one. macs is None where the
    shape of a layer that multiplies is unknown."""

    layers: int
    macs: int | None
    parameters: int
    weight_bytes: int
    accumulator_bits: int | None


@dataclass(frozen=True)
class Inspection:
    """A network. level: "integer" or "file" (then `reason` says why it does not lower).

    engine, hls, tables: None where that hardware runs the whole network on the board, else why not.
    """

    schema: int
    model: str
    board: str
    level: str
    reason: str | None
    engine: str | None
    hls: str | None
    tables: str | None
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    layers: tuple[Layer, ...]
    totals: Totals

    def to_json(self) -> str:
        """The same as JSON text; docs/inspect.md has the keys."""
        return json.dumps(asdict(self), indent=1) + "\n"


def inspect(path: Path, board: boards.Board, name: str | None = None) -> Inspection:
    """A QONNX file on a board; GraphError only when it is no readable ONNX network."""
    model = ingest.load(path)
    title = name or str(path)
    try:
        graph = passes.lower(ingest.read(path))
    except GraphError as error:
        reason = str(error).removeprefix(f"{path}: ")
        try:
            return _of_file(make_reader(model, path.stem), title, board, reason)
        except GraphError as damaged:
            raise GraphError(f"{path}: {damaged}") from damaged
    return of_graph(graph, title, board)


def inspect_model(name: str, config: str, weights: Path | None, board: boards.Board) -> Inspection:
    """One of our models: its checkpoint, or seeded untrained weights, exported and inspected."""
    # The torch half, which nothing else here needs.
    import logging

    from hwflow.export import export_qonnx
    from hwflow.models.codenet import load_checkpoint
    from hwflow.stages.torch_half import untrained

    # The exporter warns of optional packages that nothing here needs.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    if weights is not None:
        model, _ = load_checkpoint(weights)
        what = weights.name
    else:
        model, what = untrained(config), "untrained weights, seed 0"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_qonnx(model, path, model.cfg.input_size)
        return inspect(path, board, f"{name} {config} ({what})")


def of_graph(graph: Graph, title: str, board: boards.Board) -> Inspection:
    """An integer graph on a board."""
    engine, on_engine = _on_engine(graph, board)
    hls, on_hls = verdicts(graph, lambda g: _compile_hls(g, board))
    spatial = _on_tables(graph, board)
    known = {"engine": engine, "tables": spatial, "hls": hls}
    where = next((name for name, fault in known.items() if fault is None), "none")
    layers = tuple(
        _layer(graph, node, where, on_engine.get(node.name), on_hls.get(node.name))
        for node in graph.nodes
    )
    inputs, outputs = (
        tuple(Port(t, graph.tensors[t].shape, str(graph.tensors[t].dtype)) for t in names)
        for names in (graph.inputs, graph.outputs)
    )
    return Inspection(
        SCHEMA, title, board.name, "integer", None, engine, hls, spatial, inputs, outputs, layers,
        _totals(layers),
    )


def _on_engine(graph: Graph, board: boards.Board) -> tuple[str | None, dict[str, str]]:
    """Why the engine does not run the network on this board, and each layer's fault."""
    try:
        size = board.engine_size
    except ConfigError as error:
        return str(error), {}
    params = EngineParams(size.act_words, size.stream_words)
    engine, faults = verdicts(graph, lambda g: _compile_engine(g, params))
    return engine or board.why_not, faults


def _on_tables(graph: Graph, board: boards.Board) -> str | None:
    """Why a pipeline of lookup tables is not this network; None when it is."""
    if not any(node.op == "tables" for node in graph.nodes):
        return "no layer of it is tables (`hwflow train dtnn`)"
    try:
        tables.emit(graph)
    except (GraphError, ConfigError) as error:
        return str(error)
    return board.why_not


def _compile_engine(graph: Graph, params: EngineParams) -> None:
    form = form_of(graph)
    compile_graph(graph if form is None else form.graph, params)


def _compile_hls(graph: Graph, board: boards.Board) -> None:
    needed, there = hls_program.compile_graph(graph).shape.bram36(), board.resources.bram36
    if needed > there:
        raise ResourceError(f"the HLS buffers need {needed} BRAM36, {board.name} has {there}")


def verdicts(
    graph: Graph, compile_: Callable[[Graph], object]
) -> tuple[str | None, dict[str, str]]:
    """Why a backend does not run the network (None: it does), and what each layer's fault is.

    A compiler stops at the first fault. So each layer is then compiled once more on its own, behind
    1x1 convolutions that make its inputs, and every layer with a fault of its own is found; what
    does not fit is a matter of the network and is said of the whole.
    """
    try:
        compile_(graph)
    except (GraphError, ResourceError) as error:
        whole = str(error)
    else:
        return None, {}
    faults: dict[str, str] = {}
    for node in graph.nodes:
        fault = _fault(graph, node, compile_)
        if fault is not None:
            faults[node.name] = fault
    for node in graph.nodes:
        if whole.startswith((f"{node.name}:", f"{node.name},", f"node '{node.name}'")):
            faults.setdefault(node.name, whole)
    return whole, faults


def _fault(graph: Graph, node: Node, compile_: Callable[[Graph], object]) -> str | None:
    """What a backend has against one layer in a small network around it; None for nothing."""
    fault: str | None = None
    for fed in (True, False):
        small = _alone(graph, node, fed)
        if small is None:
            continue
        try:
            compile_(small)
        except ResourceError:
            return None
        except GraphError as error:
            fault = str(error)
            if node.name in fault:
                return fault  # otherwise the fault is that of the small network
        else:
            return None
    return None if fault and fault.startswith("tail") else fault


def _alone(graph: Graph, node: Node, fed: bool) -> Graph | None:
    """The layer with a 1x1 convolution before each input that a layer makes, and a depthwise one
    behind it if it computes nothing itself. None where such a network cannot be built."""
    b = GraphBuilder(f"only {node.name}")
    consts = graph.consts(node)
    try:
        for number, name in enumerate(dict.fromkeys(node.inputs)):
            tensor = graph.tensors[name]
            kind = tensor.dtype
            made = fed and name not in graph.inputs
            if made and isinstance(kind, IntType) and len(tensor.shape) == 3:
                feed = b.input(f"feed{number}.in", (1, *tensor.shape[1:]), IntType(8, False))
                _zeros(b, name, "pw", feed, (tensor.shape[0], 1), kind)
            else:
                b.input(name, tensor.shape, tensor.dtype)
        out = b.add(node.name, node.op, [b.tensors[i] for i in node.inputs], node.attrs, consts)
        if not consts and len(out.shape) == 3 and isinstance(out.dtype, IntType):
            out = _zeros(b, "tail", "dw", out, (out.shape[0], 3, 3), IntType(8, False))
        return b.build([out])
    except GraphError:
        return None


def _zeros(
    b: GraphBuilder, name: str, op: str, x: Tensor, shape: tuple[int, ...], out: IntType
) -> Tensor:
    """A convolution of zeros: "pw" (OC, IC) or "dw" (C, 3, 3)."""
    assert isinstance(x.dtype, IntType)
    weight = np.zeros(shape, np.int8)
    bias, mul = np.zeros(shape[0], np.int64), np.ones(shape[0], np.int64)
    shift = np.zeros(shape[0], np.int8)
    consts: dict[str, np.ndarray] = {"weight": weight, "bias": bias, "mul": mul, "shift": shift}
    bits = proven_acc_bits(weight, bias, mul, x.dtype)
    attrs: PwAttrs | DwAttrs = PwAttrs(4, bits, out) if op == "pw" else DwAttrs(1, 4, bits, out)
    return b.add(name, op, [x], attrs, consts)


def _layer(
    graph: Graph, node: Node, where: str, engine: str | None, hls: str | None
) -> Layer:
    x, out = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    consts = graph.consts(node)
    weights = int(consts["weight"].size) if "weight" in consts else 0
    bits = getattr(node.attrs, "weight_bits", None) if weights else None
    others = sum(int(consts[role].size) for role in ("bias", "thresholds") if role in consts)
    return Layer(
        node.name, node.op, node.inputs, x.shape, str(x.dtype), out.shape, str(out.dtype), bits,
        graph.macs(node), weights + others, packed_bytes(weights, bits), _range(graph, node),
        where, engine, hls,
    )


def packed_bytes(weights: int, bits: int | None) -> int:
    """Bytes of that many weights, packed."""
    return -(-weights * (bits or 0) // 8)


def _range(graph: Graph, node: Node) -> Range | None:
    """The proven range of a layer's accumulators over all its channels; None without one."""
    consts = graph.consts(node)
    x = graph.tensors[node.inputs[0]].dtype
    bits = getattr(node.attrs, "acc_bits", None)
    if node.op == "residual":
        other = graph.tensors[node.inputs[1]].dtype
        assert isinstance(x, IntType)
        assert isinstance(other, IntType)
        least, most = sum_range(node.attrs.coef, (x, other))
        return Range(least, most, bits or signed_bits(least, most))
    if "weight" in consts and "mul" in consts and isinstance(x, IntType):
        low, high = dot_range(consts["weight"], x)
        # A multiplier other than 1 comes before the bias, which then is not in the accumulator.
        preload = np.where(consts["mul"] == 1, consts["bias"], 0)
        least = int(min(low.min(initial=0), (low + preload).min(initial=0)))
        most = int(max(high.max(initial=0), (high + preload).max(initial=0)))
        return Range(least, most, bits or signed_bits(least, most))
    if bits is not None:
        return Range(IntType(bits, True).lo, IntType(bits, True).hi, bits)
    return None


def _totals(layers: Sequence[Layer]) -> Totals:
    macs = [layer.macs for layer in layers]
    widths = [layer.accumulator.bits for layer in layers if layer.accumulator]
    return Totals(
        len(layers), None if None in macs else sum(n for n in macs if n is not None),
        sum(layer.parameters for layer in layers), sum(layer.weight_bytes for layer in layers),
        max(widths, default=None),
    )


# A file that does not lower


def _of_file(reader: Reader, title: str, board: boards.Board, reason: str) -> Inspection:
    """The nodes of a file as they stand, each with what is said of it in `reason`."""
    shapes = _shapes(reader.model)
    makers = {name: node for node in reader.model.graph.node for name in node.output}
    constant = _constants(reader)
    layers = []
    for node in reader.model.graph.node:
        if node.output and all(name in constant for name in node.output):
            continue  # a weight on its way to the node that reads it
        layers.append(_file_layer(reader, node, shapes, makers, _said_of(node, reason)))
    graph = reader.model.graph
    inputs, outputs = (
        tuple(Port(i.name, shapes.get(i.name), "f32") for i in infos if i.name not in constant)
        for infos in (graph.input, graph.output)
    )
    rows = tuple(layers)
    short = "it does not lower to integers"
    return Inspection(
        SCHEMA, title, board.name, "file", reason, short, short, short, inputs, outputs, rows,
        _totals(rows),
    )


def _said_of(node: onnx.NodeProto, reason: str) -> str | None:
    """The lines of a list of faults that name the node."""
    name = layer_name(node)
    head = f"{name}: {node.op_type}: "
    lines = [line.strip().removeprefix(head) for line in reason.splitlines()
             if line.strip().startswith(head)]
    if not lines and re.search(rf"(node '{re.escape(name)}'|^{re.escape(name)}:)", reason):
        lines = [reason]
    return "; ".join(lines) or None


def _constants(reader: Reader) -> set[str]:
    """Names of all tensors that are known before the network runs."""
    known = set(reader.constants) | {""}
    for node in reader.model.graph.node:
        if all(name in known for name in node.input):
            known.update(node.output)
    return known


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes without the batch axis of all tensors whose shape can be told."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        if node.op_type in QUANTISERS and node.input:
            # They keep the shape, which ONNX does not know of other people's ops.
            first = node.input[0]
            del node.input[:], node.attribute[:]
            node.op_type, node.domain = "Identity", ""
            node.input.append(first)
    try:
        plain = onnx.shape_inference.infer_shapes(plain, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError):
        plain = model  # what the file itself declares
    shapes = {}
    for info in (*plain.graph.value_info, *plain.graph.input, *plain.graph.output):
        dims = info.type.tensor_type.shape.dim
        sides = tuple(d.dim_value for d in dims[1:])
        if len(dims) and all(side > 0 for side in sides):
            shapes[info.name] = sides
    return shapes


def _file_layer(
    reader: Reader,
    node: onnx.NodeProto,
    shapes: Mapping[str, tuple[int, ...]],
    makers: Mapping[str, onnx.NodeProto],
    fault: str | None,
) -> Layer:
    weight_at, bias_at = WEIGHTED.get(node.op_type, (len(node.input), 0))
    weight, bits = _constant(reader, makers, node.input, weight_at)
    bias, _ = _constant(reader, makers, node.input, bias_at)
    source, made = (node.input[0] if node.input else ""), (node.output[0] if node.output else "")
    macs: int | None = 0
    if node.op_type in WEIGHTED:
        macs = _macs(node, shapes.get(made), weight)
    weights = 0 if weight is None else int(weight.size)
    biases = 0 if bias is None or weight is None else int(bias.size)
    return Layer(
        layer_name(node), node.op_type, tuple(i for i in node.input if i in shapes or i in makers),
        shapes.get(source), "f32", shapes.get(made), "f32", bits if weights else None, macs,
        weights + biases, packed_bytes(weights, bits or 32), None, "none", fault, fault,
    )


def _constant(
    reader: Reader, makers: Mapping[str, onnx.NodeProto], inputs: Sequence[str], at: int
) -> tuple[np.ndarray | None, int | None]:
    """The constant array behind an input, through its quantiser, and the bits of that."""
    name = inputs[at] if at < len(inputs) else ""
    bits: int | None = None
    seen: set[str] = set()
    while name and name not in reader.constants and name not in seen:
        seen.add(name)
        node = makers.get(name)
        if node is None or node.op_type not in CARRIERS or not node.input:
            return None, None
        bits = _bits(reader, node) or bits
        name = node.input[0]
    return reader.constants.get(name), bits


def _bits(reader: Reader, node: onnx.NodeProto) -> int | None:
    if node.op_type == "BipolarQuant":
        return 1
    if node.op_type in ("Quant", "IntQuant") and len(node.input) > 3:
        width = reader.constants.get(node.input[3])
        if width is not None and width.size == 1 and 0 < float(width.ravel()[0]) < 64:
            return math.ceil(float(width.ravel()[0]))
    return None


def _macs(
    node: onnx.NodeProto, out: tuple[int, ...] | None, weight: np.ndarray | None
) -> int | None:
    """Products of one frame; None where the output's shape or the weight is not known."""
    if out is None or weight is None:
        return None
    if node.op_type in ("Conv", "DeformConv"):
        return math.prod(out) * math.prod(weight.shape[1:])
    if node.op_type == "ConvTranspose":
        groups = max(1, int(attributes_of(node).get("group", 1)))
        return math.prod(out) * math.prod(weight.shape[2:]) * int(weight.shape[0]) // groups
    if not out or not out[-1]:
        return None
    return math.prod(out) * int(weight.size) // out[-1]  # the matrix's other axis


# What people read


def render(found: Inspection) -> Group:
    """The table with its totals, and below it what does not run where, and why."""
    title = f"{found.model} on {found.board}"
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in ("layer", "op", "input", "output", "weights", "MACs", "parameters", "bytes",
                   "accumulator", "runs on"):
        right = column in ("MACs", "parameters", "bytes", "accumulator")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    names = {"engine": Text("engine", "green"), "tables": Text("tables", "green"),
             "hls": Text("HLS", "cyan")}
    for layer in found.layers:
        alone = "not supported" if layer.hls else "supported alone"
        where = names.get(layer.runs_on, Text(alone, "yellow"))
        table.add_row(
            layer.name, layer.op, _port(layer.input_shape, layer.input_type),
            _port(layer.output_shape, layer.output_type),
            f"{layer.weight_bits} bits" if layer.weight_bits else "",
            "?" if layer.macs is None else f"{layer.macs:,}" if layer.macs else "",
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.weight_bytes:,}" if layer.weight_bytes else "",
            _span(layer.accumulator), where,
        )
    totals = found.totals
    table.add_section()
    table.add_row(
        f"{totals.layers} layers", "", "", "", "",
        "?" if totals.macs is None else f"{totals.macs:,}", f"{totals.parameters:,}",
        f"{totals.weight_bytes:,}",
        f"up to {totals.accumulator_bits} bits" if totals.accumulator_bits else "", "",
        style="bold",
    )
    lines = [Text()]
    if found.reason is not None:
        lines.append(Text(f"does not lower to integers: {found.reason}", "yellow"))
    else:
        for name, fault, faults in (
            ("engine", found.engine, [(la.name, la.engine) for la in found.layers]),
            ("HLS", found.hls, [(la.name, la.hls) for la in found.layers]),
        ):
            lines += _answer(name, fault, faults)
        if any(layer.op == "tables" for layer in found.layers):
            lines += _answer("tables", found.tables, ())
    return Group(table, *lines)


def _answer(name: str, fault: str | None, faults: Iterable[tuple[str, str | None]]) -> list[Text]:
    """Whether a backend runs the network, and each reason with the layers it is about."""
    if fault is None:
        return [Text(f"{name}: runs the whole network", "green")]
    reasons: dict[str, str] = {}
    for layer, reason in faults:
        if reason is not None:
            reasons[layer] = reason
    lines = [Text(f"{name}: does not run the network: {fault}", "yellow")]
    lines += [Text(f"  {reason if layer in reason else f'{layer}: {reason}'}")
              for layer, reason in reasons.items() if reason != fault]
    return lines


def _port(shape: tuple[int, ...] | None, kind: str | None) -> str:
    sides = "?" if shape is None else "x".join(map(str, shape))
    return f"{sides} {kind or ''}".strip()


def _span(acc: Range | None) -> str:
    return f"{acc.min:,}..{acc.max:,} ({acc.bits} bits)" if acc else ""


def write(found: Inspection, path: Path) -> None:
    """Write the JSON wholly or not at all."""
    write_atomic(path, found.to_json().encode())
