# SPDX-License-Identifier: Apache-2.0
"""Which stored planes make up each tensor, and where in the activation memory they lie.

Split, concat, shuffle and upsample compute nothing: they are other views of the same planes.
"""

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from hwflow.emit import isa
from hwflow.errors import GraphError, ResourceError
from hwflow.ir import Graph, Node
from hwflow.ops.types import int_type

VIEW_OPS = ("slice", "concat", "shuffle", "upsample")


IN_DDR = -1  # address of a plane that is not on chip


@dataclass(frozen=True)
class Plane:
    """One channel of a map: which node made it, which of its channels, and its word address."""

    tensor: str
    channel: int
    addr: int


@dataclass(frozen=True)
class View:
    """A tensor as planes in memory, `height` x `width` as stored; `up`: seen upsampled by two."""

    planes: tuple[Plane, ...]
    height: int
    width: int
    signed: bool
    up: bool = False

    @property
    def words(self) -> int:
        return self.height * self.width // isa.LANES

    @property
    def on_chip(self) -> bool:
        return all(plane.addr != IN_DDR for plane in self.planes)

    def row(self, row: int) -> int:
        """Word of a plane in which a stored row begins."""
        return row * self.width // isa.LANES


class Memory:
    """First-fit allocation of the activation memory in words.

    What is given back is taken again as late as possible, the oldest first: so a new map seldom has
    to wait for the last readers of the one whose place it takes.
    """

    def __init__(self, words: int) -> None:
        self.words = words
        self.used: dict[int, int] = {}  # addr -> size
        # Free again, in the order in which it was given back; a dict is slow at losing its oldest
        self.given: OrderedDict[int, int] = OrderedDict()
        self.peak = 0

    def copy(self) -> "Memory":
        """A memory of the same state, to try something out."""
        other = Memory(self.words)
        other.used = dict(self.used)
        return other

    def _gaps(self) -> Iterable[tuple[int, int]]:
        """Address and size of what is neither used nor given back, from below."""
        held = (self.used, self.given)
        count = len(self.used) + len(self.given)
        addrs = np.fromiter(itertools.chain.from_iterable(held), np.int64, count)
        sizes = np.fromiter(itertools.chain(*(one.values() for one in held)), np.int64, count)
        order = np.argsort(addrs)
        starts = np.append(0, (addrs + sizes)[order])
        gaps = np.append(addrs[order], self.words) - starts
        free = gaps > 0
        return zip(starts[free].tolist(), gaps[free].tolist(), strict=True)

    def fits(self, requests: Iterable[tuple[int, int]]) -> bool:
        """Whether all (count, size) requests could be allocated now, one after the other."""
        trial = self.copy()
        try:
            for count, size in requests:
                trial.take(count, size, "")
        except ResourceError:
            return False
        return True

    def take(self, count: int, size: int, node: str, contiguous: bool = False) -> list[int]:
        """Addresses of `count` blocks of `size` words (one block after the other if contiguous).

        Raises ResourceError, naming the node, when there is no room.
        """
        whole = (1, count * size) if contiguous else (count, size)
        if count * size > self.words - sum(self.used.values()):
            self.given.clear()
        while (found := self._find(*whole)) is None:
            if not self.given:
                raise ResourceError(
                    f"{node}: the engine's activation memory of {self.words} words has no room for "
                    f"{count} planes of {size} words ({sum(self.used.values())} words in use); "
                    "choose a smaller input or a board with more memory"
                )
            back = 0
            while self.given and back < count * size:
                back += self.given.popitem(last=False)[1]
        blocks = [found[0] + i * size for i in range(count)] if contiguous else found
        self.used.update(dict.fromkeys(blocks, size))
        self.peak = max(self.peak, sum(self.used.values()))
        return blocks

    def _find(self, count: int, size: int) -> list[int] | None:
        blocks: list[int] = []
        for start, gap in self._gaps():
            fit = min(gap // size, count - len(blocks))
            blocks += range(start, start + fit * size, size)
            if len(blocks) == count:
                return blocks
        return None

    def give(self, addr: int) -> None:
        """Gives a block back."""
        self.given[addr] = self.used.pop(addr)


class Rotation:
    """A buffer that is taken anew for each band: the last `depth` ones stay apart, so that one can
    be filled while another is still read."""

    def __init__(self, memory: Memory, depth: int = 2) -> None:
        self.memory = memory
        self.depth = depth
        self.held: list[list[int]] = []

    def take(self, count: int, size: int, node: str, contiguous: bool = False) -> list[int]:
        """The next buffer, `count` blocks of `size` words; contiguous: one block if possible."""
        if len(self.held) == self.depth:
            self._drop()
        while True:
            for together in (True, False) if contiguous else (False,):
                try:
                    self.held.append(self.memory.take(count, size, node, together))
                except ResourceError:
                    continue
                return self.held[-1]
            if not self.held:
                return self.memory.take(count, size, node)  # says what is missing
            self._drop()

    def _drop(self) -> None:
        for addr in self.held.pop(0):
            self.memory.give(addr)

    def close(self) -> None:
        """Gives all of it back."""
        while self.held:
            self._drop()


def aliases(graph: Graph, node: Node, views: Mapping[str, View]) -> View | None:
    """The view of a node that only renames planes; None if the node computes."""
    inputs = [views[name] for name in node.inputs if name in views]
    if len(inputs) < len(node.inputs):
        return None  # inside of a chain
    if node.op == "slice":
        return _replace(inputs[0], inputs[0].planes[node.attrs.start : node.attrs.stop])
    if node.op == "concat":
        if len({(v.height, v.width, v.signed, v.up) for v in inputs}) > 1:
            raise GraphError(f"{node.name}: concatenates maps that are stored differently")
        return _replace(inputs[0], sum((v.planes for v in inputs), ()))
    if node.op == "shuffle":
        planes, groups = inputs[0].planes, node.attrs.groups
        per_group = len(planes) // groups
        order = [g * per_group + k for k in range(per_group) for g in range(groups)]
        return _replace(inputs[0], tuple(planes[i] for i in order))
    if node.op == "upsample":
        if inputs[0].up:
            raise GraphError(f"{node.name}: upsamples twice in a row; the engine reads through one")
        return View(inputs[0].planes, inputs[0].height, inputs[0].width, inputs[0].signed, True)
    return None


def _replace(view: View, planes: tuple[Plane, ...]) -> View:
    return View(planes, view.height, view.width, view.signed, view.up)


def count_uses(graph: Graph) -> dict[tuple[str, int], int]:
    """How often each stored plane is read, split and shuffle looked through."""
    views = {name: whole(graph, name) for name in graph.inputs}
    uses: dict[tuple[str, int], int] = {}
    for node in graph.nodes:
        view = aliases(graph, node, views) if node.op in VIEW_OPS else None
        if view is None:
            for name in node.inputs:
                for plane in views[name].planes:
                    key = (plane.tensor, plane.channel)
                    uses[key] = uses.get(key, 0) + 1
            view = whole(graph, node.output)
        views[node.output] = view
    for name in stored_outputs(graph):
        for plane in views[name].planes:
            key = (plane.tensor, plane.channel)
            uses[key] = uses.get(key, 0) + 1
    return uses


def stored_outputs(graph: Graph) -> tuple[str, ...]:
    """Maps that leave the engine; a detector's leave it as candidates only."""
    return () if any(n.op == "peaks" for n in graph.nodes) else graph.outputs


def whole(graph: Graph, name: str) -> View:
    """A tensor as planes of its own, not placed yet."""
    tensor = graph.tensors[name]
    planes = tuple(Plane(name, c, 0) for c in range(tensor.shape[0]))
    height, width = tensor.shape[1:] if len(tensor.shape) == 3 else (1, 1)
    return View(planes, height, width, int_type(tensor).signed)
