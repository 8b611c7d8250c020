# SPDX-License-Identifier: Apache-2.0
"""A depthwise layer with the 1x1 layers around it, and how it is cut to fit the memory.

A chain runs in bands of output rows. The map before the depthwise layer is made a few tiles of
channels at a time, the map behind it for one band: neither ever lies on chip whole, and while the
lanes work on one part the array works on the next.
"""

import dataclasses
from dataclasses import dataclass

from hwflow.emit import isa
from hwflow.emit.engine.encode import array_cycles, needed_rows, seen_rows
from hwflow.emit.engine.planes import VIEW_OPS, View
from hwflow.emit.engine.program import (
    CONV_CYCLES,
    LANE_CYCLES,
    TILE_CYCLES,
    TRANSFER_CYCLES,
)
from hwflow.ir import Graph, Node
from hwflow.ops.types import int_type

STREAM_CYCLES = 16 / 6  # a word of the array's stream, when other traffic leaves it 6 bytes a cycle
PART_CYCLES = 80  # what a part costs beside its work, about (docs/performance.md, "Log")
OPCODES = {"dw": "DW", "deform_dw": "DDW", "maxpool": "POOL"}


@dataclass(frozen=True)
class Chain:
    """[1x1 ->] depthwise, deformable or pool [-> 1x1]; the maps between have no other reader."""

    before: Node | None
    middle: Node
    after: Node | None

    @property
    def first(self) -> Node:
        return self.before or self.middle

    @property
    def last(self) -> Node:
        return self.after or self.middle

    @property
    def name(self) -> str:
        return self.middle.name

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(n for n in (self.before, self.middle, self.after) if n is not None)

    @property
    def opcode(self) -> str:
        return OPCODES[self.middle.op]

    @property
    def stride(self) -> int:
        return int(getattr(self.middle.attrs, "stride", 1))


def chain_at(graph: Graph, node: Node, apart: frozenset[str]) -> Chain | None:
    """The chain that begins at a node, if one does; maps in `apart` are not inside of a chain."""
    if node.op in OPCODES:
        before, middle = None, node
    elif node.op == "pw" and not is_dilation(graph, node):
        follower = _only_reader(graph, node.output)
        if follower is not None and follower.op == "upsample":
            follower = _only_reader(graph, follower.output)
        if follower is None or follower.op != "dw" or node.output in apart:
            return None
        before, middle = node, follower
    else:
        return None
    after = _only_reader(graph, middle.output)
    if after is None or after.op != "pw" or is_dilation(graph, after) or middle.output in apart:
        after = None
    return Chain(before, middle, after)


def is_dilation(graph: Graph, node: Node) -> bool:
    """Whether a 1x1 layer makes a dilation map."""
    return int_type(graph.tensors[node.output]).bits == 3


def _only_reader(graph: Graph, tensor: str) -> Node | None:
    readers = graph.consumers(tensor)
    return readers[0] if len(readers) == 1 and tensor not in graph.outputs else None


def middle_view(graph: Graph, chain: Chain, x: View) -> View:
    """The map that the depthwise layer reads, as stored."""
    if chain.before is None:
        return x
    tensor = graph.tensors[chain.before.output]
    _, height, width = tensor.shape
    up = graph.tensors[chain.middle.inputs[0]].shape[1] != height
    return View((), height, width, int_type(tensor).signed, up)


@dataclass(frozen=True)
class Plan:
    """How a chain is cut.

    bands: of rows; chunk: channels of the map before the depthwise layer at a time; whole: that map
    is made once, not again for each band; depth: bands of the map behind it that are kept apart;
    ahead: bands of the input, if it comes from DDR; cost: cycles, estimated.
    """

    bands: int
    chunk: int
    whole: bool
    depth: int
    ahead: int
    cost: float


def bands_of(height: int, count: int, step: int) -> list[tuple[int, int]]:
    """About `count` bands of rows, each a multiple of `step` high."""
    rows = -(-height // count // step) * step
    return [(first, min(first + rows, height)) for first in range(0, height, rows)]


def aligned(view: View, rows: tuple[int, int]) -> tuple[int, int]:
    """The rows extended to whole words."""
    if view.width % isa.LANES == 0:
        return rows
    return rows[0] // 2 * 2, min(-(-rows[1] // 2) * 2, view.height)


def plans(
    graph: Graph, chains: list[Chain], x: View, far_in: int, apart: frozenset[str],
    columns: int = isa.TILE_OC,
) -> list[Plan]:  # fmt: skip
    """Ways to cut chains that read one map, the fastest by a simple estimate first.

    far_in: channels of x that come from DDR; apart: maps that go there; columns: of the array.
    """
    _, height, width = graph.tensors[chains[0].middle.output].shape
    channels = max(graph.tensors[chain.middle.output].shape[0] for chain in chains)
    step = 2 if width == 8 else 1
    tiles = -(-channels // columns)
    chunks = sorted({columns * -(-tiles // n) for n in (1, 2, 3, 4, 6, tiles)})
    if x.words == 1 or not (far_in or any(chain.before for chain in chains)):
        chunks = chunks[-1:]  # parts of planes of one word cost more to begin than to make
    counts = {len(bands_of(height, n, step)) for n in range(1, height // step + 1)}
    alone = len(chains) == 1 and chains[0].before and not far_in
    found = []
    for count in sorted(counts):
        bands = bands_of(height, count, step)
        for chunk in chunks:
            for whole in (False, True) if alone and count > 1 else (False,):
                for depth in (2, 1) if count > 1 else (1,):
                    for ahead in (2, 1) if far_in and count > 1 else (1,):
                        plan = Plan(len(bands), chunk, whole, depth, ahead, 0.0)
                        cost = _cost(graph, chains, x, bands, plan, far_in, apart, columns)
                        found.append(dataclasses.replace(plan, cost=cost))
    return sorted(found, key=lambda plan: plan.cost)


def _cost(
    graph: Graph, chains: list[Chain], x: View, bands: list[tuple[int, int]], plan: Plan,
    far_in: int, apart: frozenset[str], columns: int,
) -> float:  # fmt: skip
    """Cycles of both queues side by side, and what one has to wait for the other."""
    array = lanes = waits = 0.0
    for index, rows in enumerate(bands):
        load = behind = tail = 0.0  # behind: of the array in this band, after the lanes
        again = 0.0  # what the next band's first 1x1 layers wait for: their buffer, still read
        for chain in chains:
            view = middle_view(graph, chain, x)
            channels, _, width = graph.tensors[chain.middle.output].shape
            low, high = aligned(view, needed_rows(chain.opcode, chain.stride, view, rows))
            words = view.row(high) - view.row(low)
            parts = -(-channels // plan.chunk)
            waits += PART_CYCLES * parts
            first_seen, end_seen = seen_rows(chain.opcode, chain.stride, view, rows)
            seen = end_seen - first_seen
            work = channels * -(-width // isa.LANES) * seen + parts * LANE_CYCLES
            lanes += work
            load = max(load, far_in * words * 16 / 7 + 2 * TRANSFER_CYCLES if far_in else 0.0)
            if chain.before and not (plan.whole and index):
                array += _conv_cycles(
                    graph, chain.before, view.words if plan.whole else words, parts, columns
                )
            groups = (rows[1] - rows[0]) * width // isa.LANES
            if chain.after:
                behind += _conv_cycles(graph, chain.after, groups, 1, columns)
            if chain.last.output in apart:
                lanes += graph.tensors[chain.last.output].shape[0] * groups * 16 / 7
            one_piece = plan.bands > 1 and (plan.whole or not chain.before)
            last = work if one_piece else work / parts
            tail += last
            if chain.before and not plan.whole and parts == 1:
                again += work
            # With one buffer behind the lanes a lone chain waits; others work on theirs
            if index == 0 or (plan.depth == 1 and plan.bands > 1 and len(chains) == 1):
                waits += last
        array += behind
        lanes += load
        if index == 0:
            waits += load
        else:
            blocked = again + (load + tail if far_in and plan.ahead == 1 else 0.0)
            waits += max(0.0, blocked - behind)
    return max(array, lanes) + waits


def _conv_cycles(
    graph: Graph, node: Node, groups: int, parts: int, columns: int = isa.TILE_OC
) -> float:
    out = graph.tensors[node.output].shape[0]
    tiles, rest = divmod(out, columns)
    work = tiles + (0 if not rest else 0.5 if rest <= columns // 2 else 1)
    k_words = graph.tensors[node.inputs[0]].shape[0]
    stream = (isa.HEADER_WORDS + k_words) * STREAM_CYCLES  # of a tile; small groups wait for it
    each = max(TILE_CYCLES + groups * array_cycles(k_words, columns), stream)
    return work * each + parts * CONV_CYCLES


def readers_of(graph: Graph, tensor: str) -> list[Node]:
    """The nodes that compute with a tensor, splits and the like looked through."""
    found = []
    for node in graph.consumers(tensor):
        found += readers_of(graph, node.output) if node.op in VIEW_OPS else [node]
    return found
