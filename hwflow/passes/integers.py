# SPDX-License-Identifier: Apache-2.0
"""The pass that leaves the reals: convolution, ReLU and quantiser become one integer node."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hwflow.errors import GraphError
from hwflow.ir import Graph, GraphBuilder, IntType, Node, Tensor
from hwflow.ops.arith import dot_range, proven_acc_bits
from hwflow.ops.conv import ConvAttrs
from hwflow.ops.deform_dw import DeformDwAttrs
from hwflow.ops.dw import DwAttrs
from hwflow.ops.pw import PwAttrs
from hwflow.passes.requantiser import FloatQuantiser, find
from hwflow.passes.structure import Grid, grid_of

MOVES = ("slice", "concat", "shuffle", "upsample", "maxpool")
SUMS = ("real_conv", "real_deform_dw")


@dataclass
class _State:
    """The integer graph so far; `grids` and `names` are keyed by tensors of the real graph."""

    graph: Graph
    builder: GraphBuilder
    grids: dict[str, Grid] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def define(self, real: str, integer: Tensor, grid: Grid) -> None:
        """Note that an integer tensor carries a real one."""
        self.grids[real], self.names[real] = grid, integer.name
        meta, old = self.builder.meta, self.graph.meta
        meta[f"scale.{integer.name}"] = grid.scale
        if f"onnx.{real}" in old:
            meta[f"onnx.{integer.name}"] = old[f"onnx.{real}"]

    def source(self, node: Node, tensor: str) -> tuple[Tensor, Grid]:
        """The integer tensor and grid an input of `node` has; GraphError when it has none."""
        if tensor not in self.grids:
            raise GraphError(
                f"node '{node.name}' ({node.op}): its input '{tensor}' is not quantised; put a "
                "quantiser behind every input, convolution and activation"
            )
        return self.builder.tensors[self.names[tensor]], self.grids[tensor]


def leave_reals(graph: Graph) -> Graph:
    """Convolution, ReLU and quantiser become one integer convolution with a proven requantiser,
    and ops that only move values work on the integers, because hardware has no floats."""
    state = _State(graph, GraphBuilder(graph.name))
    state.builder.meta.update(
        {k: v for k, v in graph.meta.items() if k.partition(".")[0] not in ("onnx", "scale")}
    )
    for node in graph.nodes:
        if node.op == "quant":
            _quantise(state, node)
        elif node.op in MOVES:
            _move(state, node)
        elif node.op in SUMS:
            _check_quantised(graph, node)
        elif node.op != "relu":
            raise GraphError(
                f"node '{node.name}' ({node.op}) has no integer form; supported are channel "
                "shuffles, and offsets of deformable convolutions"
            )
    outputs = []
    for name in graph.outputs:
        if name not in state.names:
            raise GraphError(f"output '{name}' is not quantised; end the network in a quantiser")
        outputs.append(state.names[name])
    for key, value in graph.meta.items():
        kind, _, head = key.partition(".")
        if kind == "output":
            state.builder.meta[key] = state.names[str(value)]
            state.builder.meta[f"scale.{head}"] = state.grids[str(value)].scale
    return state.builder.build(outputs)


def _quantise(state: _State, node: Node) -> None:
    graph, grid = state.graph, grid_of(state.graph, node)
    source = graph.producer(node.inputs[0])
    if source is None:
        _input(state, node, grid)
        return
    relu = source.op == "relu"
    if relu:
        source = graph.producer(source.inputs[0])
    if source is None or source.op not in SUMS:
        what = f"'{source.name}' ({source.op})" if source else "the input"
        raise GraphError(
            f"node '{node.name}' (quant): changes the grid of {what}; a quantiser must follow a "
            "convolution or repeat the quantiser before it"
        )
    _convolve(state, source, node, relu, grid)


def _input(state: _State, node: Node, grid: Grid) -> None:
    name = node.inputs[0]
    scale = state.graph.meta.get(f"scale.{name}")
    if grid.kind != IntType(8, False) or scale != grid.scale:
        raise GraphError(
            f"node '{node.name}' (quant): the input is {grid.kind} of scale {grid.scale}; it must "
            "be u8 of scale 2**-8, so that the integer is the pixel"
        )
    tensor = state.builder.input(name, state.graph.tensors[name].shape, grid.kind)
    state.define(node.output, tensor, grid)


def _move(state: _State, node: Node) -> None:
    sources = [state.source(node, i) for i in node.inputs]
    grids = {grid for _, grid in sources}
    if len(grids) > 1:
        found = ", ".join(f"{g.kind} of scale {g.scale}" for g in sorted(grids, key=str))
        raise GraphError(
            f"node '{node.name}' ({node.op}): its inputs have different quantisers ({found}); "
            "use one shared quantiser for all of them"
        )
    tensor = state.builder.add(node.name, node.op, [x for x, _ in sources], node.attrs)
    state.define(node.output, tensor, grids.pop())


def _convolve(state: _State, node: Node, quant: Node, relu: bool, grid: Grid) -> None:
    sources = [state.source(node, i) for i in node.inputs]
    x, x_grid = sources[0]
    consts = state.graph.consts(node)
    op, shape, fields = _form(node, consts["weight"], x)
    weight = np.ascontiguousarray(consts["weight"].reshape(shape))
    scale = np.float32(x_grid.scale) * consts["weight_scale"]
    bias = consts["bias"].astype(np.float32) * consts["bias_scale"]
    f = FloatQuantiser(scale, bias, relu, np.float32(grid.scale), grid.kind)
    low, high = dot_range(weight, x_grid.kind)
    g = find(f, low, high, node.name)
    attrs_of = {"conv": ConvAttrs, "pw": PwAttrs, "dw": DwAttrs, "deform_dw": DeformDwAttrs}
    attrs = attrs_of[op](
        weight_bits=node.attrs.weight_bits,
        acc_bits=proven_acc_bits(weight, g.bias, g.mul, x_grid.kind),
        out=g.out,
        **fields,
    )
    roles = {"weight": weight, "bias": g.bias, "mul": g.mul, "shift": g.shift.astype(np.int8)}
    tensor = state.builder.add(node.name, op, [t for t, _ in sources], attrs, roles)
    state.define(quant.output, tensor, Grid(grid.scale, g.out))


def _form(
    node: Node, weight: np.ndarray, x: Tensor
) -> tuple[str, tuple[int, ...], Mapping[str, int]]:
    """The integer op of a convolution, its weight's shape and its further attributes."""
    if node.op == "real_deform_dw":
        return "deform_dw", (weight.shape[0], 3, 3), {}
    a = node.attrs
    if a.groups == 1 and (a.kernel, a.stride, a.pad) == (1, 1, 0):
        return "pw", weight.shape[:2], {}
    if a.groups == 1:
        return "conv", weight.shape, {"kernel": a.kernel, "stride": a.stride, "pad": a.pad}
    if a.groups == x.shape[0] == weight.shape[0] and (a.kernel, a.pad) == (3, 1):
        return "dw", (weight.shape[0], 3, 3), {"stride": a.stride}
    raise GraphError(
        f"node '{node.name}': a convolution of {a.groups} groups, kernel {a.kernel}, pad {a.pad} "
        "is not supported; use one group, or depthwise with kernel 3 and pad 1"
    )


def _check_quantised(graph: Graph, node: Node) -> None:
    """A convolution ends in exactly one quantiser, perhaps through a ReLU."""
    users = graph.consumers(node.output)
    while len(users) == 1 and users[0].op == "relu" and node.output not in graph.outputs:
        node = users[0]
        users = graph.consumers(node.output)
    if len(users) != 1 or users[0].op != "quant" or node.output in graph.outputs:
        raise GraphError(
            f"node '{node.name}': its result is not read by one quantiser alone "
            f"(read by: {', '.join(n.name for n in users) or 'none'}); put one behind it"
        )
