# SPDX-License-Identifier: Apache-2.0
"""Dense networks as the engine runs them: 16 images at a time, single steps for activations.

The engine's requantiser shifts, and a word of its memory holds 16 pixels. So

* a frame is a batch: byte x of word c of a map is value c of image x, and every value of a map is
  a channel; a dense layer is a 1x1 convolution of one row of 16 pixels.
* an activation of few levels is a sum of steps: out = lo + how many of its thresholds t are at
  most acc. Each step is a plane of 0 and 1 of its own, acc >= t, which is
  round_half_even((acc + 2**(s-1) + 1 - t) / 2**s) > 0; the result stays below 2 when
  acc_max - t + 1 < 2**s. Consumers take the planes of a value with the same weight and have
  weight * lo in their bias.

No arithmetic is lost: every output is computed from the planes again (`EngineForm.unpack`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwflow.emit.isa import LANES, SHIFT_BIAS
from hwflow.errors import GraphError
from hwflow.ir import Graph, GraphBuilder, Node
from hwflow.ops import OPS
from hwflow.ops.arith import proven_acc_bits, round_shift
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.dw import DwAttrs
from hwflow.ops.pw import PwAttrs
from hwflow.ops.types import IntType, Tensor, int_type

U8, I8 = IntType(8, False), IntType(8, True)
MOVES = ("rearrange", "slice", "shuffle", "resize", "upsample")
LINEAR = ("conv2d", "conv", "pw")
MOST_STEPS = 63  # planes of one value: an activation of 64 levels
DW_WEIGHTS = IntType(4, True)
MOST_SHIFT = 24


@dataclass(frozen=True)
class Value:
    """offset + the sum of weight * plane; a plane is (tensor of the engine's graph, channel)."""

    offset: int
    terms: tuple[tuple[str, int, int], ...]  # tensor, channel, weight
    low: int
    high: int


@dataclass(frozen=True)
class EngineForm:
    """What the engine runs of `source`, and how the host makes the outputs of what comes back.

    graph: maps of (channels, 1, 16); tail: nodes of `source` left to the host.
    """

    source: Graph
    graph: Graph
    values: Mapping[str, tuple[Value, ...]]  # of the tensors of `source` that the host needs
    tail: tuple[Node, ...]
    images: int = LANES  # in a frame

    def frames(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) as frames (N / 16 rounded up, C * H * W, 1, 16)."""
        starts = range(0, len(images), LANES)
        return np.stack([self.pack(images[at : at + LANES]) for at in starts])

    def pack(self, images: np.ndarray) -> np.ndarray:
        """1 to 16 images (N, C, H, W) as one of (C * H * W, 1, 16); lanes without one are 0."""
        flat = np.asarray(images, np.int64).reshape(len(images), -1)
        if not 1 <= len(flat) <= LANES:
            raise GraphError(f"{len(flat)} images in one frame; the engine takes 1 to {LANES}")
        packed = np.zeros((flat.shape[1], 1, LANES), np.int64)
        packed[:, 0, : len(flat)] = flat.T
        return packed

    def unpack(self, tensors: Mapping[str, np.ndarray], count: int) -> list[dict[str, np.ndarray]]:
        """The outputs of `source` for the first `count` images, from those of `graph`."""
        found = []
        for lane in range(count):
            arrays: dict[str, np.ndarray] = {}
            for name, values in self.values.items():
                flat = [
                    v.offset + sum(w * int(tensors[t][c, 0, lane]) for t, c, w in v.terms)
                    for v in values
                ]
                arrays[name] = np.array(flat, np.int64).reshape(self.source.tensors[name].shape)
            for node in self.tail:
                inputs = tuple(arrays[name] for name in node.inputs)
                consts = self.source.consts(node)
                arrays[node.output] = OPS[node.op].golden(inputs, node.attrs, consts)
            found.append({name: arrays[name] for name in self.source.outputs})
        return found


def is_dense(graph: Graph) -> bool:
    """Whether a network ends in single pixels that a dense layer made: no map the engine knows."""
    ends = all(math.prod(graph.tensors[name].shape[1:]) == 1 for name in graph.outputs)
    return ends and any(
        node.op in LINEAR and _covers(graph.tensors[node.inputs[0]], _Window.of(graph, node))
        for node in graph.nodes
    )


def form_of(graph: Graph) -> EngineForm | None:
    """engine_form of a dense network, None for any other. Raises GraphError as it does."""
    return engine_form(graph) if is_dense(graph) else None


def engine_form(graph: Graph) -> EngineForm:
    """The form of a dense network for the engine.

    Raises GraphError that lists every node which has none, each with its reason.
    """
    return _Rewrite(graph).run()


@dataclass(frozen=True)
class _Window:
    """A convolution's window, whatever op says it; weight is (OC, IC / groups, kh, kw)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, ...]
    groups: int
    weight: np.ndarray

    @staticmethod
    def of(graph: Graph, node: Node) -> "_Window":
        weight = graph.const(node, "weight").astype(np.int64)
        attrs = node.attrs
        if node.op == "conv2d":
            return _Window(attrs.kernel, attrs.stride, attrs.pads, attrs.groups, weight)
        if node.op == "conv":
            side, step = (attrs.kernel,) * 2, (attrs.stride,) * 2
            return _Window(side, step, (attrs.pad,) * 4, 1, weight)
        return _Window((1, 1), (1, 1), (0,) * 4, 1, weight[:, :, None, None])


def _covers(x: Tensor, window: _Window) -> bool:
    return len(x.shape) == 3 and window.kernel == x.shape[1:] and not any(window.pads)


def _pixelwise(x: Tensor, window: _Window) -> bool:
    """Each value by a weight of its channel."""
    plain = window.kernel == window.stride == (1, 1) and not any(window.pads)
    return plain and window.weight.shape[1] == 1 and len(window.weight) == x.shape[0]


@dataclass(frozen=True)
class _Layer:
    """A sum and its activation: rows of `weight` over the values of a tensor; None: elementwise.

    factor: weight of each value, if elementwise.
    """

    name: str
    inputs: tuple[Value, ...]
    weight: np.ndarray | None  # (outputs, inputs)
    factor: np.ndarray
    mul: np.ndarray  # (outputs,), as bias and shift
    bias: np.ndarray
    shift: np.ndarray
    lo: int
    hi: int
    table: np.ndarray | None = None  # (outputs, levels), thresholds behind the requantiser
    table_lo: int = 0

    def raw(self, acc: np.ndarray) -> np.ndarray:
        """The requantiser without its limits."""
        return round_shift(acc * self.mul + self.bias, self.shift)

    def activation(self, acc: np.ndarray) -> np.ndarray:
        """The output for one accumulator an output."""
        out = np.clip(self.raw(acc), self.lo, self.hi)
        if self.table is None:
            return np.asarray(out)
        return np.asarray((self.table <= out[:, None]).sum(axis=1) + self.table_lo)


class _Fault(GraphError):
    """One node has no form."""


@dataclass
class _Rewrite:
    graph: Graph
    builder: GraphBuilder = field(init=False)
    values: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    pending: dict[str, _Layer] = field(default_factory=dict)  # sums with a threshold behind
    host: dict[str, Node] = field(default_factory=dict)  # by their outputs
    lost: set[str] = field(default_factory=set)  # tensors behind a fault

    def __post_init__(self) -> None:
        self.builder = GraphBuilder(f"{self.graph.name}, {LANES} images")

    def run(self) -> EngineForm:
        graph = self.graph
        foreign, faults = [], []
        for name in graph.inputs:
            self.begin(name)
        for node in graph.nodes:
            if node.op not in (*MOVES, *LINEAR, "threshold", "concat", "argmax"):
                foreign.append(f"{node.name} ({node.op})")
                self.lost.add(node.output)
                continue
            try:
                self.take(node)
            except _Foreign:
                foreign.append(f"{node.name} ({node.op})")
                self.lost.add(node.output)
            except _Fault as fault:
                faults.append(str(fault))
                self.lost.add(node.output)
        if foreign:
            faults.append(f"the engine does not run: {', '.join(foreign)}")
        if faults:
            raise GraphError("; ".join([*faults, "use the HLS backend"]))
        tail = tuple(self.host.values())
        needed = {n for node in tail for n in node.inputs} | set(graph.outputs)
        kept = {name: self.values[name] for name in graph.tensors
                if name in needed and name in self.values}  # fmt: skip
        planes = dict.fromkeys(t for vs in kept.values() for v in vs for t, _, _ in v.terms)
        if not planes or set(planes) & set(graph.inputs):
            raise GraphError(
                f"{', '.join(graph.outputs)}: an output is constant or an input; there is nothing "
                "for the engine to compute"
            )
        return EngineForm(graph, self.builder.build(list(planes)), kept, tail)

    def begin(self, name: str) -> None:
        tensor = self.graph.tensors[name]
        kind = int_type(tensor)
        if kind.bits > 8:
            raise GraphError(f"input '{name}' is {kind}; the engine reads bytes")
        size = int(np.prod(tensor.shape))
        self.builder.input(name, (size, 1, LANES), I8 if kind.signed else U8)
        self.values[name] = tuple(Value(0, ((name, c, 1),), kind.lo, kind.hi) for c in range(size))

    def take(self, node: Node) -> None:
        """One node: its values, or a node of the host."""
        if any(name in self.lost for name in node.inputs):
            self.lost.add(node.output)
            self.check(node)
            return
        if any(name in self.host for name in node.inputs) or node.op == "argmax":
            if node.op not in (*MOVES, "argmax"):
                raise _Fault(f"{node.name} ({node.op}) reads what the host computes")
            self.host[node.output] = node
        elif node.op == "concat" or node.op in MOVES:
            self.move(node)
        elif node.op == "threshold":
            self.threshold(node)
        else:
            layer = self.linear(node)
            readers = self.graph.consumers(node.output)
            if [r.op for r in readers] == ["threshold"] and node.output not in self.graph.outputs:
                self.pending[node.output] = layer
            else:
                self.values[node.output] = self.emit(layer)

    def check(self, node: Node) -> None:
        """Whether a node behind a fault would have a form."""
        x = self.graph.tensors[node.inputs[0]]
        if node.op in LINEAR:
            window = _Window.of(self.graph, node)
            if not (_covers(x, window) or _pixelwise(x, window)):
                raise _Foreign

    def move(self, node: Node) -> None:
        """Values in another order: the op itself says in which."""
        held: list[Value] = []
        orders = []
        for name in node.inputs:
            shape = self.graph.tensors[name].shape
            orders.append(np.arange(len(self.values[name])).reshape(shape) + len(held))
            held += self.values[name]
        order = OPS[node.op].golden(tuple(orders), node.attrs, self.graph.consts(node))
        self.values[node.output] = tuple(held[i] for i in order.ravel())

    def threshold(self, node: Node) -> None:
        table = self.graph.const(node, "thresholds")
        name = node.inputs[0]
        if name in self.pending:
            layer = self.pending[name]
            size = len(layer.mul)
        else:
            values = self.values[name]
            size, ones = len(values), np.ones(len(values), np.int64)
            matrix = None if _single(values) else np.diag(ones)
            layer = _Layer(name, values, matrix, ones, ones, 0 * ones, 0 * ones, *_ends(values))
        rows = np.repeat(table, size // len(table), axis=0)
        whole = _Layer(node.output, layer.inputs, layer.weight, layer.factor, layer.mul, layer.bias,
                       layer.shift, layer.lo, layer.hi, rows, node.attrs.lo)  # fmt: skip
        self.values[node.output] = self.emit(whole)

    def linear(self, node: Node) -> _Layer:
        x = self.graph.tensors[node.inputs[0]]
        window = _Window.of(self.graph, node)
        values = self.values[node.inputs[0]]
        mul, bias, shift = (self.graph.const(node, r).astype(np.int64)
                            for r in ("mul", "bias", "shift"))  # fmt: skip
        out = int_type(self.graph.tensors[node.output])
        lo, hi = getattr(node.attrs, "lo", out.lo), getattr(node.attrs, "hi", out.hi)
        matrix: np.ndarray | None = None
        factor = np.ones(len(values), np.int64)
        pixels = len(values) // x.shape[0]
        if _pixelwise(x, window):
            factor = np.repeat(window.weight[:, 0, 0, 0], pixels)
            mul, bias, shift = (np.repeat(a, pixels) for a in (mul, bias, shift))
            matrix = None if _single(values) else np.diag(factor)
        elif _covers(x, window):
            outputs, inputs = len(window.weight), window.weight.shape[1]
            matrix = np.zeros((outputs, len(values)), np.int64)
            for o, row in enumerate(window.weight.reshape(outputs, -1)):
                first = o // (outputs // window.groups) * inputs * pixels
                matrix[o, first : first + len(row)] = row
        else:
            raise _Foreign
        return _Layer(node.output, values, matrix, factor, mul, bias, shift, lo, hi)

    # ---- planes

    def emit(self, layer: _Layer) -> tuple[Value, ...]:
        """Adds what makes the planes of a layer."""
        low, high = self.ranges(layer)
        least, most = layer.activation(low), layer.activation(high)
        levels = int((most - least).max(initial=0))
        direct = None if levels < 2 else self.direct(layer, low, high)
        if direct is not None:
            return direct
        if levels > MOST_STEPS:
            raise _Fault(
                f"{layer.name}: outputs {int(least.min())}..{int(most.max())} by a requantiser of "
                f"its own multipliers or limits; the engine makes at most {MOST_STEPS + 1} levels "
                "so, and int8 by shifts alone. Train with power-of-two scales or fewer levels"
            )
        tables = []  # per output (threshold, size of the step)
        steps = [_first(layer, low, high, least + n + 1) for n in range(levels)]
        for o in range(len(low)):
            found: dict[int, int] = {}
            for n in range(int(most[o] - least[o])):
                found[int(steps[n][o])] = found.get(int(steps[n][o]), 0) + 1
            tables.append(found)
        if layer.weight is None:
            terms = self.steps_of_values(layer, tables)
        else:
            terms = self.steps_of_sums(layer, tables)
        return tuple(
            Value(int(a), t, int(a), int(b)) for a, b, t in zip(least, most, terms, strict=True)
        )

    def ranges(self, layer: _Layer) -> tuple[np.ndarray, np.ndarray]:
        """The least and greatest accumulator of each output."""
        low = np.array([v.low for v in layer.inputs], np.int64)
        high = np.array([v.high for v in layer.inputs], np.int64)
        if layer.weight is None:
            ends = np.stack([layer.factor * low, layer.factor * high])
            return ends.min(axis=0), ends.max(axis=0)
        up, down = np.maximum(layer.weight, 0), np.minimum(layer.weight, 0)
        return up @ low + down @ high, up @ high + down @ low

    def columns(self, layer: _Layer) -> tuple[str, np.ndarray, np.ndarray]:
        """The map a layer reads, its weights over that map's planes, and what comes on top."""
        assert layer.weight is not None
        names = list(dict.fromkeys(t for v in layer.inputs for t, _, _ in v.terms))
        offset = layer.weight @ np.array([v.offset for v in layer.inputs], np.int64)
        if not names:
            return "", np.zeros((len(layer.weight), 0), np.int64), offset
        starts, width = {}, 0
        for name in names:
            starts[name] = width
            width += self.builder.tensors[name].shape[0]
        weight = np.zeros((len(layer.weight), width), np.int64)
        for i, value in enumerate(layer.inputs):
            for name, channel, factor in value.terms:
                weight[:, starts[name] + channel] += factor * layer.weight[:, i]
        source = names[0]
        if len(names) > 1:
            source = f"{layer.name}.in"
            if source not in self.builder.tensors:
                self.builder.add(source, "concat", names, ConcatAttrs())
        return source, weight, offset

    def steps_of_sums(
        self, layer: _Layer, tables: Sequence[Mapping[int, int]]
    ) -> list[tuple[tuple[str, int, int], ...]]:
        """A 1x1 convolution with a channel for each step."""
        rows = [(o, t, size) for o, table in enumerate(tables) for t, size in table.items()]
        terms: list[tuple[tuple[str, int, int], ...]] = [() for _ in tables]
        if not rows:
            return terms
        source, weight, offset = self.columns(layer)
        owner = np.array([o for o, _, _ in rows])
        at = np.array([t for _, t, _ in rows], np.int64) - offset[owner]
        _, top = self.ranges(layer)
        bias, shift = _step(at, top[owner] - offset[owner])
        self.pointwise(layer.name, source, weight[owner], bias, shift, U8)
        for channel, (o, _, size) in enumerate(rows):
            terms[o] += ((layer.name, channel, size),)
        return terms

    def steps_of_values(
        self, layer: _Layer, tables: Sequence[Mapping[int, int]]
    ) -> list[tuple[tuple[str, int, int], ...]]:
        """A depthwise layer over the map, as often as a channel of it has steps."""
        source = layer.inputs[0].terms[0][0]
        channels = self.builder.tensors[source].shape[0]
        signed = int_type(self.builder.tensors[source])
        held: list[list[tuple[int, int, int, int]]] = [[] for _ in range(channels)]
        for o, table in enumerate(tables):
            value = layer.inputs[o]
            (_, channel, scale), factor = value.terms[0], int(layer.factor[o])
            slope = scale * factor
            for t, size in table.items():
                # slope * plane >= t - factor * offset; without a slope there is no step
                least = -((factor * value.offset - t) // abs(slope))
                held[channel].append((o, size, 1 if slope > 0 else -1, least))
        turns = max(map(len, held))
        terms: list[tuple[tuple[str, int, int], ...]] = [() for _ in tables]
        if not turns:
            return terms
        weight = np.ones(turns * channels, np.int64)
        at = np.full(turns * channels, signed.hi + 1, np.int64)  # of channels with fewer: never
        for channel, steps in enumerate(held):
            for turn, (o, size, sign, least) in enumerate(steps):
                index = turn * channels + channel
                weight[index], at[index] = sign, least
                terms[o] += ((layer.name, index, size),)
        top = np.where(weight > 0, signed.hi, -signed.lo)
        bias, shift = _step(at, top)
        self.depthwise(layer.name, [source] * turns, weight, bias, shift, U8)
        return terms

    def direct(self, layer: _Layer, low: np.ndarray, high: np.ndarray) -> tuple[Value, ...] | None:
        """The layer as it is, where a shift and the limits of int8 or uint8 say the same."""
        if layer.table is not None:
            return None
        least, most = layer.raw(low), layer.raw(high)
        for kind in (U8, I8):
            below = kind.lo == layer.lo or bool((least >= max(layer.lo, kind.lo)).all())
            above = kind.hi == layer.hi or bool((most <= min(layer.hi, kind.hi)).all())
            if below and above:
                break
        else:
            return None
        weight, source = np.zeros((0, 0), np.int64), ""
        if layer.weight is None:
            source = layer.inputs[0].terms[0][0]
            channels = [v.terms[0][1] for v in layer.inputs]
            if channels != list(range(self.builder.tensors[source].shape[0])):
                return None
            scale = np.array([v.terms[0][2] for v in layer.inputs], np.int64)
            weight = (layer.factor * scale)[:, None]
            offset = layer.factor * np.array([v.offset for v in layer.inputs], np.int64)
        else:
            source, weight, offset = self.columns(layer)
        bias = layer.bias + layer.mul * offset
        twos = np.where(layer.mul == 0, 1, np.gcd(np.gcd(layer.mul, bias), 1 << 30))
        shift = layer.shift - np.round(np.log2(twos)).astype(np.int64)
        weight, bias = weight * (layer.mul // twos)[:, None], bias // twos
        widest = DW_WEIGHTS if layer.weight is None else I8
        fits = widest.lo <= weight.min(initial=0) and weight.max(initial=0) <= widest.hi
        if not fits or shift.min() < -SHIFT_BIAS or shift.max() > MOST_SHIFT:
            return None
        if layer.weight is None:
            self.depthwise(layer.name, [source], weight[:, 0], bias, shift, kind)
        else:
            self.pointwise(layer.name, source, weight, bias, shift, kind)
        ends = zip(layer.activation(low), layer.activation(high), strict=True)
        return tuple(
            Value(0, ((layer.name, c, 1),), int(a), int(b)) for c, (a, b) in enumerate(ends)
        )

    def pointwise(
        self, name: str, source: str, weight: np.ndarray, bias: np.ndarray, shift: np.ndarray,
        out: IntType,
    ) -> None:  # fmt: skip
        self._check(name, weight, I8, shift)
        consts = _consts(weight, bias, shift)
        bits = proven_acc_bits(
            consts["weight"], bias, consts["mul"], int_type(self.builder.tensors[source])
        )
        self.builder.add(name, "pw", [source], PwAttrs(8, bits, out), consts)

    def depthwise(
        self, name: str, sources: list[str], weight: np.ndarray, bias: np.ndarray,
        shift: np.ndarray, out: IntType,
    ) -> None:  # fmt: skip
        """A weight for each plane, in the middle of a 3x3 window."""
        self._check(name, weight, DW_WEIGHTS, shift)
        source = sources[0]
        if len(sources) > 1:
            source = f"{name}.in"
            self.builder.add(source, "concat", sources, ConcatAttrs())
        taps = np.zeros((len(weight), 3, 3), np.int64)
        taps[:, 1, 1] = weight
        consts = _consts(taps, bias, shift)
        bits = proven_acc_bits(
            consts["weight"], bias, consts["mul"], int_type(self.builder.tensors[source])
        )
        self.builder.add(name, "dw", [source], DwAttrs(1, 4, bits, out), consts)

    def _check(self, name: str, weight: np.ndarray, kind: IntType, shift: np.ndarray) -> None:
        low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
        if low < kind.lo or high > kind.hi or shift.max(initial=0) > MOST_SHIFT:
            raise _Fault(
                f"{name}: weights {low}..{high} over steps, shifts to {int(shift.max(initial=0))}; "
                f"the engine has {kind} and {MOST_SHIFT}. Train with narrower weights"
            )


class _Foreign(GraphError):
    """A node of a kind that the engine does not run."""


def _single(values: Sequence[Value]) -> bool:
    """Whether each value is one plane, all of them of one map."""
    return all(len(v.terms) == 1 for v in values) and len({v.terms[0][0] for v in values}) == 1


def _ends(values: Sequence[Value]) -> tuple[int, int]:
    return min(v.low for v in values), max(v.high for v in values)


def _consts(weight: np.ndarray, bias: np.ndarray, shift: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "weight": weight.astype(np.int8), "bias": bias.astype(np.int64),
        "mul": np.ones(len(bias), np.int64), "shift": shift.astype(np.int8),
    }  # fmt: skip


def _step(at: np.ndarray, top: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bias and shift that make 1 of accumulators from `at` on, 0 of those below; none is over top.

    acc = at gives half + 1 above a half, which is 1; acc = at - 1 the half itself, which goes to
    the even 0; and top + bias stays below 1.5 * 2**shift.
    """
    rest = np.maximum(top - at + 1, 1)
    shift = np.array([int(n).bit_length() for n in rest], np.int64)
    return (np.int64(1) << (shift - 1)) + 1 - at, shift


def _first(layer: _Layer, low: np.ndarray, high: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """The least accumulator of each output whose activation is at least `goal`; past high: none."""
    a, b = low.copy(), high + 1
    while (a < b).any():
        middle = (a + b) >> 1
        reached = layer.activation(np.minimum(middle, high)) >= goal
        b = np.where((a < b) & reached, middle, b)
        a = np.where((a < b) & ~reached, middle + 1, a)
    return a
