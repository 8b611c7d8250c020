# SPDX-License-Identifier: Apache-2.0
"""Usual networks as the engine runs them: 16 images at a time, every value a word.

The engine's word holds 16 pixels, and each weight word names the word it multiplies. So a frame is
a batch: byte x of a word is one value of image x, and what a layer does with places (windows,
strides, pads, groups, dilations, flattening, resizing, transposing) is only a matter of which words
it names: every layer is a `gather_pw`. Its arithmetic is made of what the engine's requantiser does
(engine_layers.py). No arithmetic is lost: every output is computed from the words again
(`EngineForm.unpack`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from hwflow.emit.isa import LANES
from hwflow.errors import GraphError
from hwflow.ir import Graph, GraphBuilder, Node
from hwflow.ops import OPS
from hwflow.ops.types import int_type
from hwflow.passes.engine_layers import MOST_TAPS, Layer, Words
from hwflow.passes.engine_pool import greatest
from hwflow.passes.engine_values import (
    FaultError,
    Values,
    Window,
    each,
    moved,
    phases,
    summed,
    whole,
)
from hwflow.passes.structure import drop_dead

MOVES = ("rearrange", "slice", "shuffle", "resize", "upsample", "concat")
LINEAR = ("conv2d", "conv", "pw", "dw")
POOLS = ("maxpool", "maxpool2d")
PLACED = (*LINEAR, *POOLS, "residual", "threshold")  # nodes that compute
NATIVE = ("conv", "pw", "dw", "maxpool", "slice", "concat", "shuffle", "upsample")
DETECTOR = ("deform_dw", "peaks")
MOST_READS = 1 << 27  # of one output channel: the numbers of the words read take a gigabyte then
# Taps of a part of a sum: with weights of 4 bits and bytes it has 22 bits, three digits, and weight
# words are left for taking these off it.
PART_TAPS = MOST_TAPS // 4


@dataclass(frozen=True)
class EngineForm:
    """What the engine runs of `source`, and how the host makes the outputs of what comes back.

    graph: maps of (channels, places, 16); values: in the words of `graph`, as numbered by `starts`;
    tail: nodes of `source` left to the host.
    """

    source: Graph
    graph: Graph
    starts: Mapping[str, int]  # number of the first word of each tensor of `graph`
    values: Mapping[str, Values]  # the input, and the tensors that the host needs
    tail: tuple[Node, ...]
    images: int = LANES  # in a frame

    def frames(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) as frames (N / 16 rounded up, C, H * W, 16)."""
        starts = range(0, len(images), LANES)
        return np.stack([self.pack(images[at : at + LANES]) for at in starts])

    def pack(self, images: np.ndarray) -> np.ndarray:
        """1 to 16 images (N, C, H, W) as one of (C, H * W, 16); lanes without one are 0."""
        name = self.source.inputs[0]
        shape, values = self.source.tensors[name].shape, self.values[name]
        held = np.asarray(images, np.int64).reshape(len(images), *shape)
        if not 1 <= len(held) <= LANES:
            raise GraphError(f"{len(held)} images in one frame; the engine takes 1 to {LANES}")
        packed = np.zeros(self.graph.tensors[name].shape, np.int64)
        words = packed.reshape(-1, LANES)
        where = values.at.ravel() - self.starts[name]
        words[where, : len(held)] = (held - values.offset).reshape(len(held), -1).T
        return packed

    def unpack(self, tensors: Mapping[str, np.ndarray], count: int) -> list[dict[str, np.ndarray]]:
        """The outputs of `source` for the first `count` images, from those of `graph`."""
        total = max(self.starts[name] + math.prod(self.graph.tensors[name].shape) // LANES
                    for name in self.graph.outputs)  # fmt: skip
        words = np.zeros((total, count), np.int64)
        for name in self.graph.outputs:
            rows = np.asarray(tensors[name], np.int64).reshape(-1, LANES)[:, :count]
            words[self.starts[name] : self.starts[name] + len(rows)] = rows
        found: list[dict[str, np.ndarray]] = []
        made = {name: values.of(words) for name, values in self.values.items()
                if name not in self.source.inputs}  # fmt: skip
        for lane in range(count):
            arrays = {name: every[lane] for name, every in made.items()}
            for node in self.tail:
                inputs = tuple(arrays[name] for name in node.inputs)
                consts = self.source.consts(node)
                arrays[node.output] = OPS[node.op].golden(inputs, node.attrs, consts)
            found.append({name: arrays[name] for name in self.source.outputs})
        return found


def is_native(graph: Graph) -> bool:
    """Whether the engine is to run a network as it is, pixels of a map side by side in a word.

    Detectors run so, and what has only their ops and sizes: whole words in a row.
    """
    if any(node.op in DETECTOR for node in graph.nodes):
        return True
    for node in graph.nodes:
        if node.op not in NATIVE or not _fits_words(graph, node):
            return False
        if node.op == "conv":
            a = node.attrs
            if node.inputs[0] not in graph.inputs or (a.kernel, a.pad) != (3, 1):
                return False
            if a.stride not in (2, 4):
                return False
        if node.op == "maxpool" and (node.attrs.kernel, node.attrs.pad) != (3, 1):
            return False
        if "mul" in node.consts and (graph.const(node, "mul") != 1).any():
            return False
    return True


def _fits_words(graph: Graph, node: Node) -> bool:
    """Whether a node's maps have rows of 8 or a multiple of 16 pixels, and whole words."""
    for name in (*node.inputs, node.output):
        tensor = graph.tensors[name]
        if len(tensor.shape) != 3 or int_type(tensor).bits not in (3, 8):
            return False
        _, height, width = tensor.shape
        if not (width == 8 or width % LANES == 0) or height * width % LANES:
            return False
    return True


def form_of(graph: Graph) -> EngineForm | None:
    """engine_form of a network, None for one that runs as it is. Raises GraphError as it does."""
    return None if is_native(graph) else engine_form(graph)


def engine_form(graph: Graph) -> EngineForm:
    """The form of a network for the engine.

    Raises GraphError that lists every node which has none, each with its reason.
    """
    return _Rewrite(graph).run()


@dataclass
class _Rewrite:
    graph: Graph
    builder: GraphBuilder = field(init=False)
    words: Words = field(init=False)
    phases: dict[str, int] = field(init=False)
    values: dict[str, Values] = field(default_factory=dict)
    pending: dict[str, Layer] = field(default_factory=dict)  # sums with a threshold behind
    host: dict[str, Node] = field(default_factory=dict)  # by their outputs
    lost: set[str] = field(default_factory=set)  # tensors behind a fault

    def __post_init__(self) -> None:
        graph = self.graph
        self.builder = GraphBuilder(f"{graph.name}, {LANES} images")
        self.words = Words(self.builder)
        strides = {}
        for node in graph.nodes:
            if node.op in (*LINEAR, *POOLS):
                strides[node.name] = Window.of(graph, node).stride[1]
            elif node.op in ("residual", "threshold", "slice", "concat", "shuffle"):
                strides[node.name] = 1
        self.phases = phases(graph, strides)

    def run(self) -> EngineForm:
        graph = self.graph
        foreign, faults = [], []
        for name in graph.inputs:
            self.begin(name)
        for node in graph.nodes:
            if any(name in self.lost for name in node.inputs):
                self.lost.add(node.output)
            if node.op not in (*MOVES, *PLACED, "argmax"):
                foreign.append(f"{node.name} ({node.op})")
                self.lost.add(node.output)
            if node.output in self.lost:
                continue
            try:
                self.take(node)
            except FaultError as fault:
                faults.append(str(fault))
                self.lost.add(node.output)
        if foreign:
            faults.append(f"the engine does not run: {', '.join(foreign)}")
        if faults:
            spatial = any(node.op == "tables" for node in graph.nodes)
            way = "use --backend tables" if spatial else "use the HLS backend"
            raise GraphError("; ".join([*faults, way]))
        tail = tuple(self.host.values())
        needed = {n for node in tail for n in node.inputs} | set(graph.outputs)
        kept = {name: self.values[name] for name in graph.tensors
                if name in needed and name in self.values}  # fmt: skip
        names = list(self.words.starts)
        edges = np.array(list(self.words.starts.values()))
        used = np.concatenate([np.zeros(0, np.int64), *(v.at[v.at >= 0] for v in kept.values())])
        held = np.unique(np.searchsorted(edges, used, side="right") - 1)
        planes = [names[n] for n in held]
        if not planes or set(planes) & set(graph.inputs):
            raise GraphError(
                f"{', '.join(graph.outputs)}: an output is constant or an input; there is nothing "
                "for the engine to compute"
            )
        self.builder.nodes = drop_dead(self.builder.nodes, tuple(planes))
        first = graph.inputs[0]
        return EngineForm(
            graph, self.builder.build(planes), dict(self.words.starts),
            {first: self.values[first], **kept}, tail,
        )  # fmt: skip

    def begin(self, name: str) -> None:
        tensor = self.graph.tensors[name]
        kind = int_type(tensor)
        if kind.bits > 8:
            raise GraphError(f"input '{name}' is {kind}; the engine reads bytes")
        if len(self.graph.inputs) > 1:
            raise GraphError(f"inputs {', '.join(self.graph.inputs)}; the engine reads one")
        at = self.words.begin(name, tensor.shape, self.phases[name])
        one = np.ones(tensor.shape, np.int64)
        self.values[name] = Values(
            at.reshape(1, *tensor.shape), one[None], kind.lo * one, kind.lo * one, kind.hi * one
        )

    def take(self, node: Node) -> None:
        """One node: its values, or a node of the host."""
        shape = self.graph.tensors[node.output].shape
        if node.op in (*LINEAR, *POOLS):
            window = Window.of(self.graph, node).kernel
            count = math.prod((*self.graph.tensors[node.inputs[0]].shape[:1], *window, *shape[1:]))
            if count > MOST_READS:
                raise FaultError(
                    f"{node.name}: {count:,} words are read for one output channel; the engine's "
                    f"form is made for at most {MOST_READS:,}. Use a smaller input"
                )
        if any(name in self.host for name in node.inputs) or node.op == "argmax":
            if node.op not in (*MOVES, "argmax"):
                raise FaultError(f"{node.name} ({node.op}) reads what the host computes")
            self.host[node.output] = node
        elif node.op in MOVES:
            held = [self.values[name] for name in node.inputs]
            self.values[node.output] = moved(held, node, self.graph.consts(node))
        elif node.op == "threshold":
            self.threshold(node)
        elif node.op in POOLS:
            self.values[node.output] = greatest(
                self.words, node.output, self.values[node.inputs[0]],
                Window.of(self.graph, node), self.phases[node.output],
            )  # fmt: skip
        else:
            layer = self.layer(node)
            readers = self.graph.consumers(node.output)
            if [r.op for r in readers] == ["threshold"] and node.output not in self.graph.outputs:
                self.pending[node.output] = layer
            else:
                self.values[node.output] = self.words.emit(layer)

    def layer(self, node: Node) -> Layer:
        """A convolution or an addition with its requantiser."""
        tensor = self.graph.tensors[node.output]
        inputs = [self.values[name] for name in node.inputs]
        if node.op == "residual":
            parts = [each(v, c) for v, c in zip(inputs, node.attrs.coef, strict=True)]
        else:
            parts = self.narrow(node, inputs[0])
        sums = summed(parts, (tensor.shape[1], tensor.shape[2]))
        mul, bias, shift = (self.graph.const(node, r).astype(np.int64)
                            for r in ("mul", "bias", "shift"))  # fmt: skip
        out = int_type(tensor)
        lo, hi = getattr(node.attrs, "lo", out.lo), getattr(node.attrs, "hi", out.hi)
        return Layer(node.output, sums, mul, bias, shift, lo, hi, self.phases[node.output])

    def narrow(self, node: Node, x: Values) -> list[tuple[Values, Window]]:
        """What a convolution sums: its input, or the sums of some channels each where the taps of
        all are more than a tile of the engine holds."""
        window = Window.of(self.graph, node)
        outputs, channels, height, width = window.weight.shape
        taps = len(x.at) * channels * height * width
        if taps <= MOST_TAPS or window.groups > 1:
            return [(x, window)]
        _, *sides = self.graph.tensors[node.output].shape
        one = np.ones(outputs, np.int64)
        parts = []
        count = min(channels, -(-taps // PART_TAPS))
        for number, some in enumerate(np.array_split(np.arange(channels), count)):
            held = Values(x.at[:, some], x.factor[:, some], x.offset[some], x.low[some],
                          x.high[some])  # fmt: skip
            sums = summed(
                [(held, replace(window, weight=window.weight[:, some]))], (sides[0], sides[1])
            )
            part = Layer(
                f"{node.output}.part{number}", sums, one, 0 * one, 0 * one, int(sums.low.min()),
                int(sums.high.max()), self.phases[node.output],
            )
            parts.append(each(self.words.emit(part)))
        return parts

    def threshold(self, node: Node) -> None:
        """Thresholds behind a sum, or on values by themselves."""
        table = self.graph.const(node, "thresholds")
        name, count = node.inputs[0], self.phases[node.output]
        if name in self.pending:
            was = self.pending[name]
        else:
            values = self.values[name]
            one = np.ones(values.shape[0], np.int64)
            was = Layer(name, summed([each(values)], whole(values)), one, 0 * one, 0 * one,
                        int(values.low.min()), int(values.high.max()), count)  # fmt: skip
        self.values[node.output] = self.words.emit(
            Layer(node.output, was.sums, was.mul, was.bias, was.shift, was.lo, was.hi, count,
                  table, node.attrs.lo)
        )  # fmt: skip
