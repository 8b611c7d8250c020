# SPDX-License-Identifier: Apache-2.0
"""Which stored planes make up each tensor, and where in the activation memory they lie.

Split, concat, shuffle and upsample compute nothing: they are other views of the same planes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hwflow.emit import isa
from hwflow.errors import GraphError, ResourceError
from hwflow.ir import Graph, Node
from hwflow.ops.types import int_type

VIEW_OPS = ("slice", "concat", "shuffle", "upsample")


@dataclass(frozen=True)
class Plane:
    """One channel of a stored map: which node made it, which of its channels, and where it lies."""

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


class Memory:
    """First-fit allocation of the activation memory in words."""

    def __init__(self, words: int) -> None:
        self.words = words
        self.used: dict[int, int] = {}  # addr -> size
        self.peak = 0

    def _gaps(self) -> Iterable[tuple[int, int]]:
        end = 0
        for addr in sorted(self.used):
            if addr > end:
                yield end, addr - end
            end = addr + self.used[addr]
        if end < self.words:
            yield end, self.words - end

    def fits(self, requests: Iterable[tuple[int, int]]) -> bool:
        """Whether all (count, size) requests could be allocated now, one after the other."""
        gaps = [size for _, size in self._gaps()]
        for count, size in requests:
            for index, gap in enumerate(gaps):
                take = min(count, gap // size)
                gaps[index] -= take * size
                count -= take
            if count:
                return False
        return True

    def take(self, count: int, size: int, node: str, contiguous: bool = False) -> list[int]:
        """Addresses of `count` blocks of `size` words (one block after the other if contiguous)."""
        if contiguous:
            first = self.take(1, count * size, node)[0]
            del self.used[first]
            blocks = [first + i * size for i in range(count)]
            self.used.update(dict.fromkeys(blocks, size))
            return blocks
        blocks = []
        for start, gap in list(self._gaps()):
            while gap >= size and len(blocks) < count:
                blocks.append(start)
                start, gap = start + size, gap - size
        if len(blocks) < count:
            used = sum(self.used.values())
            raise ResourceError(
                f"{node}: the engine's activation memory of {self.words} words has no room for "
                f"{count} planes of {size} words ({used} words in use); a network of this size "
                "needs row bands through DDR, which the engine compiler does not make yet"
            )
        self.used.update(dict.fromkeys(blocks, size))
        self.peak = max(self.peak, sum(self.used.values()))
        return blocks

    def give(self, addr: int) -> None:
        del self.used[addr]


def aliases(graph: Graph, node: Node, views: Mapping[str, View]) -> View | None:
    """The view of a node that only renames planes; None if the node computes."""
    inputs = [views[name] for name in node.inputs if name in views]
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
