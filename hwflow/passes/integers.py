# SPDX-License-Identifier: Apache-2.0
"""The pass that leaves the reals: sums, elementwise ops and quantisers become integer nodes."""

from dataclasses import dataclass, field, replace

import numpy as np

from hwflow.errors import GraphError
from hwflow.ir import Graph, GraphBuilder, IntType, Node, Tensor
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.chain import ELEMENTWISE, Chain, Step
from hwflow.ops.tables import TablesAttrs
from hwflow.passes.requantiser import FLOAT32_EXACT
from hwflow.passes.staircase import staircase
from hwflow.passes.structure import QUANTISERS, Grid
from hwflow.passes.sums import (
    Moved,
    PairSum,
    Pending,
    WeightedSum,
    of_convolution,
    of_each,
    of_pool,
    quantise,
    quantise_pairs,
    wide,
    wide_alike,
)

MOVES = (
    "slice", "concat", "shuffle", "upsample", "maxpool", "maxpool2d", "resize", "rearrange",
    "patches",
)  # fmt: skip
SUMS = ("real_conv", "real_conv2d", "real_deform_dw", "real_avgpool", "real_add")
PIXEL = IntType(8, False)
"""The type of the integers of a picture."""


@dataclass
class _State:
    """The integer graph so far. `values` is keyed by tensors of the real graph."""

    graph: Graph
    builder: GraphBuilder
    values: dict[str, Moved | Pending] = field(default_factory=dict)

    def define(self, real: str, integer: Tensor, grid: Grid) -> None:
        """Note that an integer tensor carries a real one."""
        self.values[real] = Moved(integer, grid)
        meta, old = self.builder.meta, self.graph.meta
        meta[f"scale.{integer.name}"] = grid.scale
        if grid.zero:
            meta[f"zero.{integer.name}"] = grid.zero
        if f"onnx.{real}" in old:
            meta[f"onnx.{integer.name}"] = old[f"onnx.{real}"]

    def source(self, node: Node, tensor: str) -> Moved:
        """The integer tensor and grid an input of `node` has; GraphError when it has none."""
        value = self.values.get(tensor)
        if not isinstance(value, Moved):
            raise GraphError(
                f"node '{node.name}' ({node.op}): its input '{tensor}' is not quantised; put a "
                "quantiser behind every input, convolution and activation"
            )
        return value

    def fresh(self, name: str, other: str) -> str:
        """The name, or the other one where it is taken."""
        return other if name in self.builder.tensors else name


def leave_reals(graph: Graph) -> Graph:
    """Sums, elementwise ops and quantisers become integer nodes with a proven requantiser, and ops
    that only move values work on the integers, because hardware has no floats."""
    state = _State(graph, GraphBuilder(graph.name))
    state.builder.meta.update(
        {
            k: v for k, v in graph.meta.items()
            if k.partition(".")[0] not in ("onnx", "scale", "zero")
        }
    )  # fmt: skip
    for name in graph.inputs:
        _input(state, name)
    for node in graph.nodes:
        if node.op in QUANTISERS:
            _quantise(state, node)
        elif node.op in MOVES:
            _move(state, node)
        elif node.op in SUMS:
            _check_quantised(graph, node)
            _sum(state, node)
        elif node.op in ELEMENTWISE:
            _elementwise(state, node)
        elif node.op == "argmax":
            _argmax(state, node)
        elif node.op == "real_tables":
            _tables(state, node)
        elif node.op == "real_group_sum":
            _group_sum(state, node)
        else:
            raise GraphError(
                f"node '{node.name}' ({node.op}) has no integer form; supported are channel "
                "shuffles, and offsets of deformable convolutions"
            )
    outputs = [_output(state, name) for name in graph.outputs]
    renamed = dict(zip(graph.outputs, outputs, strict=True))
    for key, value in graph.meta.items():
        kind, _, head = key.partition(".")
        if kind == "output":
            state.builder.meta[key] = renamed[str(value)]
            for fact in ("scale", "zero"):
                known = state.builder.meta.get(f"{fact}.{renamed[str(value)]}")
                if known is not None:
                    state.builder.meta[f"{fact}.{head}"] = known
    return state.builder.build(outputs)


def _input(state: _State, name: str) -> None:
    """The integers of an input: those of the quantisers that read it, else pixels."""
    graph = state.graph
    tensor, scale = graph.tensors[name], float(graph.meta[f"scale.{name}"])
    zero = int(graph.meta.get(f"zero.{name}", 0))
    users = graph.consumers(name)
    grid = Grid(scale, PIXEL)
    if users and all(node.op == "quant" for node in users):
        kinds = {(n.attrs.out, n.attrs.zero, float(graph.const(n, "scale"))) for n in users}
        if len(kinds) == 1:
            attrs = users[0].attrs
            grid = Grid(scale, attrs.out, zero)
            if (attrs.zero, float(graph.const(users[0], "scale"))) != (zero, scale):
                grid = Grid(scale, PIXEL)
    state.values[name] = Moved(state.builder.input(name, tensor.shape, grid.kind), grid)
    meta = state.builder.meta
    meta[f"scale.{name}"] = grid.scale
    if grid.zero:
        meta[f"zero.{name}"] = grid.zero


def _quantise(state: _State, node: Node) -> None:
    graph, real = state.graph, node.inputs[0]
    value = state.values[real]
    if isinstance(value, Moved):
        if real in graph.inputs and _same_integers(graph, node, value.grid):
            state.values[node.output] = value
            meta = state.builder.meta
            if f"onnx.{node.output}" in graph.meta:
                meta.setdefault(f"onnx.{value.tensor.name}", graph.meta[f"onnx.{node.output}"])
            return
        value = Pending(of_each(value), node.name, value.tensor.shape)
    name = state.fresh(value.name, node.name)
    quantiser = staircase(graph, node)
    if isinstance(value.total, PairSum):
        out, grid = quantise_pairs(state.builder, value, quantiser, name)
    else:
        out, grid = quantise(state.builder, value, quantiser, name)
    state.define(node.output, out, grid)


def _same_integers(graph: Graph, node: Node, grid: Grid) -> bool:
    """A quantiser of an input whose integers are its own: nothing to do, if it limits none."""
    if node.op != "quant" or node.attrs.limits is not None:
        return False
    own = Grid(float(graph.const(node, "scale")), node.attrs.out, node.attrs.zero)
    return own == grid


def _move(state: _State, node: Node) -> None:
    if not all(isinstance(state.values[i], Moved) for i in node.inputs):
        state.source(node, next(i for i in node.inputs if isinstance(state.values[i], Pending)))
    sources = [state.source(node, i) for i in node.inputs]
    grids = {value.grid.wide for value in sources}
    if len(grids) > 1:
        found = ", ".join(f"{g.kind} of scale {g.scale}" for g in sorted(grids, key=str))
        raise GraphError(
            f"node '{node.name}' ({node.op}): its inputs have different quantisers ({found}); "
            "use one shared quantiser for all of them"
        )
    if node.op == "patches" and sources[0].grid.zero:
        raise GraphError(
            f"node '{node.name}' (patches): pads with 0.0, which is {sources[0].grid.zero} here; "
            "nearest: zero point 0"
        )
    consts = state.graph.consts(node)
    name = state.fresh(node.name, f"{node.name}.moved")
    tensor = state.builder.add(name, node.op, [v.tensor for v in sources], node.attrs, consts)
    limits = {value.grid.limits for value in sources}
    grid = grids.pop()
    if len(limits) == 1:
        grid = replace(grid, limits=limits.pop())
    state.define(node.output, tensor, grid)


def _sum(state: _State, node: Node) -> None:
    sources = tuple(state.source(node, i) for i in node.inputs)
    shape = state.graph.tensors[node.output].shape
    total: WeightedSum | PairSum
    if node.op == "real_add":
        total = PairSum(sources[0], sources[1])
    elif node.op == "real_avgpool":
        total = of_pool(sources[0], node)
    else:
        total = of_convolution(sources, node, state.graph.consts(node))
    state.values[node.output] = Pending(total, node.name, shape)


def _elementwise(state: _State, node: Node) -> None:
    real = node.inputs[0]
    value = state.values[real]
    if isinstance(value, Moved):
        value = Pending(of_each(value), node.name, value.tensor.shape)
    consts = state.graph.consts(node)
    shape = state.graph.tensors[node.output].shape
    allowed = ((shape[0], 1, 1), (shape[0],))
    columns = all(a.size == 1 or a.shape in allowed for a in consts.values())
    if shape != value.shape or not columns:
        raise GraphError(
            f"node '{node.name}' ({node.op}): its constant differs from pixel to pixel; nearest: "
            "one number, or one for each channel"
        )
    step = Step(node.op, node.attrs, consts)
    state.values[node.output] = replace(value, steps=(*value.steps, step))


def _argmax(state: _State, node: Node) -> None:
    real = node.inputs[0]
    value = state.values[real]
    if isinstance(value, Pending):
        name = state.fresh(value.name, f"{real}.acc")
        alike = wide_alike(state.builder, value, name)
        if alike is None:
            source, chain = wide(state.builder, value, name)
            _check_order(node, source, chain)
        else:
            source = alike
    else:
        source = value.tensor
    tensor = state.builder.add(node.name, "argmax", [source], ArgmaxAttrs(node.attrs.last))
    assert isinstance(tensor.dtype, IntType)
    state.define(node.output, tensor, Grid(1.0, tensor.dtype))


def _tables(state: _State, node: Node) -> None:
    """Tables between codes are tables between their integers."""
    value, a = state.source(node, node.inputs[0]), node.attrs
    if (value.grid.kind, value.grid.scale, value.grid.zero) != (a.code, a.code_scale, 0):
        raise GraphError(
            f"node '{node.name}' (real_tables): reads codes {a.code} of scale {a.code_scale}, but "
            f"gets {value.grid.kind} of scale {value.grid.scale}"
        )
    attrs = TablesAttrs(a.code.bits, a.out)
    name = state.fresh(node.name, f"{node.name}.tables")
    tensor = state.builder.add(name, "tables", [value.tensor], attrs, state.graph.consts(node))
    state.define(node.output, tensor, Grid(a.out_scale, a.out))


def _group_sum(state: _State, node: Node) -> None:
    """Sums of codes are sums of their integers, where float32 does not round them."""
    value = state.source(node, node.inputs[0])
    if value.grid.zero or np.frexp(value.grid.scale)[0] != 0.5:
        raise GraphError(
            f"node '{node.name}' (real_group_sum): sums codes of scale {value.grid.scale} and zero "
            f"point {value.grid.zero}; nearest: a power of two and zero point 0"
        )
    name = state.fresh(node.name, f"{node.name}.sum")
    tensor = state.builder.add(name, "group_sum", [value.tensor], node.attrs)
    assert isinstance(tensor.dtype, IntType)
    if max(-tensor.dtype.lo, tensor.dtype.hi) >= FLOAT32_EXACT:
        raise GraphError(f"node '{node.name}' (real_group_sum): its sums may reach 2**24")
    state.define(node.output, tensor, Grid(value.grid.scale, tensor.dtype))


def _check_order(node: Node, source: Tensor, chain: Chain) -> None:
    """All channels have one float chain, and it keeps different accumulators different."""
    assert isinstance(source.dtype, IntType)
    if not chain.alike():
        raise GraphError(
            f"node '{node.name}' (argmax): the channels of '{source.name}' have different scales; "
            "nearest: one scale for all, or a quantiser before it"
        )
    if source.dtype.bits > 22:
        raise GraphError(f"node '{node.name}' (argmax): sums of {source.dtype}; nearest: i22")
    every = np.arange(source.dtype.lo, source.dtype.hi + 1)[None]
    if not (np.diff(chain.channel(0)(every)[0]) > 0).all():
        raise GraphError(
            f"node '{node.name}' (argmax): float32 makes equals of different accumulators of "
            f"'{source.name}'; nearest: a quantiser before it"
        )


def _output(state: _State, name: str) -> str:
    """The tensor of an output; accumulators with their chain where no quantiser ends it."""
    value = state.values[name]
    if isinstance(value, Moved):
        return value.tensor.name
    label = state.fresh(value.name, f"{name}.acc")
    tensor, chain = wide(state.builder, value, label)
    state.builder.meta[f"chain.{tensor.name}"] = chain.to_json()
    if f"onnx.{name}" in state.graph.meta:
        state.builder.meta[f"onnx.{tensor.name}"] = state.graph.meta[f"onnx.{name}"]
    return tensor.name


def _check_quantised(graph: Graph, node: Node) -> None:
    """A sum ends in quantisers, perhaps through elementwise ops, or is an output."""
    pending = [node]
    while pending:
        last = pending.pop()
        users = graph.consumers(last.output)
        pending += [user for user in users if user.op in ELEMENTWISE]
        wrong = [u for u in users if u.op not in (*ELEMENTWISE, *QUANTISERS, "argmax")]
        if wrong or not (users or last.output in graph.outputs):
            raise GraphError(
                f"node '{last.name}': its result is not read by one quantiser alone "
                f"(read by: {', '.join(n.name for n in users) or 'none'}); put one behind it"
            )


