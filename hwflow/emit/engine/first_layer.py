# SPDX-License-Identifier: Apache-2.0
"""The dense convolution on the image, with a max pool behind it: any rows of it, when asked."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hwflow.emit import isa
from hwflow.emit.engine.encode import Encoder
from hwflow.emit.engine.operation import runs
from hwflow.emit.engine.planes import Memory, Rotation, View
from hwflow.errors import GraphError, ResourceError
from hwflow.ir import Graph, Node
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.types import int_type

BANDS = 8  # of a map that is made whole: the next rows of the image come while one is worked on


@dataclass
class FirstLayer:
    """conv is the convolution, pool what is run with it; image is the map it reads."""

    graph: Graph
    encoder: Encoder
    memory: Memory
    bring: Callable[[View, range, tuple[int, int], Rotation, Node], list[int]]
    conv: Node
    pool: Node | None
    image: View
    pictures: Rotation = field(init=False)
    between: Rotation = field(init=False)

    def __post_init__(self) -> None:
        node = self.conv
        if node.inputs[0] not in self.graph.inputs:
            raise GraphError(
                f"{node.name}: a dense {node.attrs.kernel}x{node.attrs.kernel} convolution is run "
                "on the network's input only; use depthwise + 1x1 here, or the HLS backend"
            )
        if node.attrs.kernel != 3 or node.attrs.pad != 1 or node.attrs.stride not in (2, 4):
            raise GraphError(
                f"{node.name}: the engine runs a first layer of 3x3, padding 1, stride 2 or 4"
            )
        self.pictures, self.between = Rotation(self.memory), Rotation(self.memory)

    @property
    def nodes(self) -> tuple[Node, ...]:
        return (self.conv,) if self.pool is None else (self.conv, self.pool)

    @property
    def last(self) -> Node:
        return self.pool or self.conv

    def spans(self, rows: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """The rows of the convolution and of the image that rows of the result are made of."""
        height = self.graph.tensors[self.conv.output].shape[1]
        inner = rows
        if self.pool is not None:
            inner = (max(2 * rows[0] - 1, 0), min(2 * rows[1], height))
        stride = self.conv.attrs.stride
        low, high = stride * inner[0] - 1, stride * (inner[1] - 1) + 2
        return inner, (max(low, 0), min(high, self.image.height))

    def requests(self, count: int) -> list[tuple[int, int]]:
        """The buffers that `count` rows of the result need, twice each."""
        stride = self.conv.attrs.stride
        inner = 2 * count + 1 if self.pool is not None else count
        pixels = self.image.row(min(stride * (inner - 1) + 3, self.image.height))
        found = [(2, len(self.image.planes) * pixels)]
        if self.pool is not None:
            channels, _, width = self.graph.tensors[self.conv.output].shape
            found.append((2 * channels, inner * width // isa.LANES))
        return found

    def reserve(self, memory: Memory, count: int, ahead: int) -> None:
        """Takes what `rows` needs for `count` rows. Raises ResourceError when there is no room."""
        channels, _, width = self.graph.tensors[self.last.output].shape
        for request in (*self.requests(count), (ahead * channels, count * width // isa.LANES)):
            memory.take(*request, self.conv.name)

    def rows(self, rows: tuple[int, int], rotation: Rotation) -> list[int]:
        """Makes rows in a buffer; returns where row 0 of each plane would lie."""
        channels, _, width = self.graph.tensors[self.last.output].shape
        first = rows[0] * width // isa.LANES
        dst = rotation.take(channels, rows[1] * width // isa.LANES - first, self.conv.name)
        self.make(rows, dst)
        return [addr - first for addr in dst]

    def whole(self, out: View) -> None:
        """Makes the map in its place, band by band."""
        for bands in range(BANDS, out.height + 1):
            count = -(-out.height // bands)
            if self.memory.fits(self.requests(count)):
                break
        else:
            raise ResourceError(
                f"{self.conv.name}: no row band fits the engine's activation memory"
            )
        for first in range(0, out.height, count):
            last = min(first + count, out.height)
            self.make((first, last), [p.addr + out.row(first) for p in out.planes])

    def make(self, rows: tuple[int, int], dst: list[int]) -> None:
        """Rows of the result; dst: the word of rows[0] in each plane."""
        node, graph = self.conv, self.graph
        inner, outer = self.spans(rows)
        planes = range(len(self.image.planes))
        src = self.bring(self.image, planes, outer, self.pictures, node)
        out_c, out_h, out_w = graph.tensors[node.output].shape
        stride = node.attrs.stride
        geometry, groups = self.encoder.geometry(node, self.image, stride, out_w, inner)
        geometry.pop("groups")
        columns, pick = [], []
        for c in planes:
            for tap in range(9):
                for half in (1, 2) if stride == 4 else (0,):
                    columns.append((src[c], tap // 3, tap % 3, half))
                    pick.append(c * 9 + tap)
        weights = graph.const(node, "weight").reshape(out_c, -1)[:, pick]
        channels = range(out_c)
        first = inner[0] * out_w // isa.LANES
        made = dst
        if self.pool is not None:
            made = self.between.take(out_c, groups, node.name)
        used = self.image.row(outer[1]) - self.image.row(outer[0])
        self.encoder.conv(
            node, columns, weights, channels, made, groups=groups, first_word=first,
            reads=runs(np.array(src) + self.image.row(outer[0]), used), geometry=geometry,
            macs_per_channel=len(planes) * 9 * groups * isa.LANES, signed=self.image.signed,
        )  # fmt: skip
        if self.pool is not None:
            view = View((), out_h, out_w, int_type(graph.tensors[node.output]).signed)
            self.encoder.depthwise(
                self.pool, "POOL", view, [a - first for a in made], channels, dst, rows
            )

    def close(self) -> None:
        """Gives the buffers back."""
        self.pictures.close()
        self.between.close()


def pool_behind(graph: Graph, node: Node) -> Node | None:
    """The max pool that runs with a first layer, if nothing else reads the layer."""
    readers = graph.consumers(node.output)
    if len(readers) != 1 or node.output in graph.outputs or readers[0].op != "maxpool":
        return None
    return readers[0] if readers[0].attrs == MaxpoolAttrs(3, 2, 1) else None
