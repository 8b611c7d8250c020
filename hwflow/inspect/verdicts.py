# SPDX-License-Identifier: Apache-2.0
"""Which hardware runs a network on a board, and what keeps each layer of it from that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hwflow import boards
from hwflow.emit import hls, tables
from hwflow.emit.engine import EngineParams, compile_graph
from hwflow.errors import ConfigError, GraphError, ResourceError
from hwflow.ir import Graph, GraphBuilder, IntType, Node, Tensor
from hwflow.ops.arith import proven_acc_bits
from hwflow.ops.dw import DwAttrs
from hwflow.ops.pw import PwAttrs
from hwflow.passes.engine_form import form_of


def on_engine(graph: Graph, board: boards.Board) -> tuple[str | None, dict[str, str]]:
    """Why the engine does not run the network on this board, and each layer's fault."""
    try:
        size = board.engine_size
    except ConfigError as error:
        return str(error), {}
    params = EngineParams(size.act_words, size.stream_words)
    engine, faults = verdicts(graph, lambda g: _compile_engine(g, params))
    return engine or board.why_not, faults


def on_tables(graph: Graph, board: boards.Board) -> str | None:
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


def on_hls(graph: Graph, board: boards.Board) -> tuple[str | None, dict[str, str]]:
    """Why the HLS engine does not run the network on this board, and each layer's fault."""
    return verdicts(graph, lambda g: hls.fitting(g, board))


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
