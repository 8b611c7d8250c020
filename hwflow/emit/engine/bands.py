# SPDX-License-Identifier: Apache-2.0
"""Runs chains band by band, with buffers that take turns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hwflow.emit import isa
from hwflow.emit.engine.chains import Chain, Plan, aligned, bands_of, middle_view
from hwflow.emit.engine.encode import needed_rows
from hwflow.emit.engine.planes import IN_DDR, Rotation, View
from hwflow.ops.types import int_type

if TYPE_CHECKING:
    from hwflow.emit.engine.schedule import Scheduler

OUT_TILES = 2  # tiles of a map on its way to DDR that are made at once


class Bands:
    """One run of one or more chains that read the same map."""

    def __init__(self, scheduler: Scheduler, chains: list[Chain], x: View, plan: Plan) -> None:
        self.s = scheduler
        self.chains = chains
        self.x = x
        self.plan = plan
        memory = scheduler.memory
        self.inputs, self.outputs = Rotation(memory, plan.ahead), Rotation(memory)
        self.parts = {chain.name: Rotation(memory) for chain in chains}
        self.behind = {chain.name: Rotation(memory, plan.depth) for chain in chains}
        self.wholes: dict[str, list[int]] = {}
        self.outs: dict[str, View] = {}

    def run(self) -> None:
        """All bands; afterwards the chains' nodes are done."""
        s = self.s
        layer = s.computed.get(self.x.planes[0].tensor) if self.x.planes else None
        if self.plan.bands > 1:
            self.outs = {chain.name: s.store(chain.last) for chain in self.chains}
        _, height, width = s.graph.tensors[self.chains[0].middle.output].shape
        for rows in bands_of(height, self.plan.bands, 2 if width == 8 else 1):
            made = None
            if layer is not None or len(self.chains) > 1:
                spans = [self.span(chain, rows) for chain in self.chains]
                both = min(low for low, _ in spans), max(high for _, high in spans)
                made = s.bring(self.x, range(len(self.x.planes)), both, self.inputs,
                               self.chains[0].first)  # fmt: skip
            for chain in self.chains:
                self.band(chain, rows, made)
        for rotation in (self.inputs, self.outputs, *self.parts.values(), *self.behind.values()):
            rotation.close()
        for addrs in self.wholes.values():
            for addr in addrs:
                s.memory.give(addr)
        if layer is not None:
            layer.close()
            s.release(layer.conv)
        for chain in self.chains:
            if self.plan.bands > 1:
                s.release(chain.first)
            for node in chain.nodes:
                s.finish(node)

    def span(self, chain: Chain, rows: tuple[int, int]) -> tuple[int, int]:
        """The stored rows of the map before the depthwise layer that a band needs."""
        view = middle_view(self.s.graph, chain, self.x)
        return aligned(view, needed_rows(chain.opcode, chain.stride, view, rows))

    def band(self, chain: Chain, rows: tuple[int, int], made: list[int] | None) -> None:
        """One band of one chain; made: row 0 of each plane of x, if that was computed for it."""
        s, node = self.s, chain.middle
        channels, height, width = s.graph.tensors[node.output].shape
        words = width * (rows[1] - rows[0]) // isa.LANES
        behind = None
        if chain.after is not None:
            behind = self.behind[chain.name].take(channels, words, node.name)
        elif self.plan.bands == 1:
            self.outs[chain.name] = s.store(node)
        sources = self.sources(chain, rows, made)
        view = middle_view(s.graph, chain, self.x)
        for part, src in sources:
            if behind is not None:
                dst = [behind[c] for c in part]
            else:
                dst = s.target(self.outs[chain.name], part, rows, self.outputs, node)
            s.encoder.depthwise(node, chain.opcode, view, src, part, dst, rows)
            if behind is None:
                s.send(self.outs[chain.name], part, rows, dst, node)
        if self.plan.bands == 1:
            self.parts[chain.name].close()
            s.release(chain.first)
        if chain.after is None or behind is None:
            return
        if self.plan.bands == 1:
            self.outs[chain.name] = s.store(chain.after)
        out = self.outs[chain.name]
        signed = int_type(s.graph.tensors[node.output]).signed
        total = len(out.planes)
        some = OUT_TILES * s.encoder.params.columns if out.planes[0].addr == IN_DDR else total
        for first in range(0, total, some):
            part = range(first, min(first + some, total))
            dst = s.target(out, part, rows, self.outputs, chain.after)
            s.encoder.pointwise(
                chain.after, behind, part, dst, rows, View((), height, width, signed)
            )
            s.send(out, part, rows, dst, chain.after)

    def sources(
        self, chain: Chain, rows: tuple[int, int], made: list[int] | None
    ) -> Iterator[tuple[range, list[int]]]:
        """Channels by channels, where row 0 of the depthwise layer's input would lie."""
        s = self.s
        channels = s.graph.tensors[chain.middle.output].shape[0]
        low, high = self.span(chain, rows)
        chunk = self.plan.chunk
        parts = [range(c, min(c + chunk, channels)) for c in range(0, channels, chunk)]
        if chain.before is None:
            if made is not None:
                yield range(channels), made
                return
            far = any(plane.addr == IN_DDR for plane in self.x.planes)
            for part in parts if far else [range(channels)]:
                yield part, s.bring(self.x, part, (low, high), self.inputs, chain.middle)
            return
        if self.plan.whole:
            if chain.name not in self.wholes:
                self.wholes[chain.name] = self.make_whole(chain)
            yield range(channels), self.wholes[chain.name]
            return
        everything = range(len(self.x.planes))
        src = made or s.bring(self.x, everything, (low, high), self.inputs, chain.before)
        src = [base + self.x.row(low) for base in src]
        for part in parts:
            count = self.x.row(high) - self.x.row(low)
            dst = self.parts[chain.name].take(len(part), count, chain.before.name)
            s.encoder.pointwise(chain.before, src, part, dst, (low, high), self.x)
            yield part, [addr - self.x.row(low) for addr in dst]

    def make_whole(self, chain: Chain) -> list[int]:
        """The map before the depthwise layer, all of it."""
        assert chain.before is not None
        s = self.s
        channels, height, _ = s.graph.tensors[chain.before.output].shape
        dst = s.memory.take(channels, self.x.words, chain.before.name)
        src = s.bring(self.x, range(len(self.x.planes)), (0, height), self.inputs, chain.before)
        s.encoder.pointwise(chain.before, src, range(channels), dst, (0, height), self.x)
        return dst
