# SPDX-License-Identifier: Apache-2.0
"""What a network is made of: shapes, bits, work, proven accumulators, and what runs each layer.

A file that lowers is shown as its integer graph, whose numbers are exact. One that does not is
shown node by node as it was written, with the reason beside each node that is not supported.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from hwflow import boards, ingest, passes
from hwflow.errors import GraphError
from hwflow.ingest.reader import make_reader
from hwflow.inspect.file import of_file
from hwflow.inspect.record import (
    SCHEMA,
    Inspection,
    Layer,
    Port,
    Range,
    Totals,
    packed_bytes,
    totals,
)
from hwflow.inspect.render import WIDTH, render
from hwflow.inspect.verdicts import on_engine, on_hls, on_tables, verdicts
from hwflow.ir import Graph, IntType, Node
from hwflow.ops.arith import dot_range, signed_bits
from hwflow.ops.residual import sum_range
from hwflow.plan import write_atomic

__all__ = [
    "WIDTH", "Inspection", "Layer", "Port", "Range", "Totals", "inspect", "inspect_model",
    "of_graph", "packed_bytes", "render", "verdicts", "write",
]


def inspect(path: Path, board: boards.Board, name: str | None = None) -> Inspection:
    """A QONNX file on a board; GraphError only when it is no readable ONNX network."""
    model = ingest.load(path)
    title = name or str(path)
    try:
        graph = passes.lower(ingest.read(path))
    except GraphError as error:
        reason = str(error).removeprefix(f"{path}: ")
        try:
            return of_file(make_reader(model, path.stem), title, board, reason)
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
    engine, engine_faults = on_engine(graph, board)
    hls, hls_faults = on_hls(graph, board)
    spatial = on_tables(graph, board)
    known = {"engine": engine, "tables": spatial, "hls": hls}
    where = next((name for name, fault in known.items() if fault is None), "none")
    layers = tuple(
        _layer(graph, node, where, engine_faults.get(node.name), hls_faults.get(node.name))
        for node in graph.nodes
    )
    inputs, outputs = (
        tuple(Port(t, graph.tensors[t].shape, str(graph.tensors[t].dtype)) for t in names)
        for names in (graph.inputs, graph.outputs)
    )
    return Inspection(
        SCHEMA, title, board.name, "integer", None, engine, hls, spatial, inputs, outputs, layers,
        totals(layers),
    )


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


def write(found: Inspection, path: Path) -> None:
    """Write the JSON wholly or not at all."""
    write_atomic(path, found.to_json().encode())
