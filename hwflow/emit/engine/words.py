# SPDX-License-Identifier: Apache-2.0
"""Schedules networks of `gather_pw`: 16 images at a time, each word by itself.

A map is made block by block (some rows, `attrs.block` words of each channel), and a block when it
is asked for: its inputs first, then it, and what is read no more is given back at once. So a
network of small windows holds a few rows of each map, and no map goes to DDR. Within a block,
output words whose inputs lie one word further each are one operation.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hwflow.emit import isa
from hwflow.emit.engine.encode import Encoder
from hwflow.emit.engine.operation import runs
from hwflow.emit.engine.planes import Memory
from hwflow.emit.engine.program import RING_SLACK, EngineParams
from hwflow.errors import GraphError
from hwflow.ir import Graph, Node

NOWHERE = -1  # address of a word that is not on chip, or of zeros
Block = tuple[str, int]


@dataclass
class Gatherer:
    """Makes the blocks of all maps in the order in which the outputs need them."""

    graph: Graph
    encoder: Encoder
    memory: Memory
    addrs: dict[str, np.ndarray] = field(default_factory=dict)  # tensor -> (C, N) word addresses
    sizes: dict[str, int] = field(default_factory=dict)  # tensor -> words of a block
    needs: dict[Block, tuple[Block, ...]] = field(default_factory=dict)
    uses: dict[Block, int] = field(default_factory=dict)
    held: dict[Block, list[int]] = field(default_factory=dict)

    def run(self) -> None:
        """All operations, the outputs stored at the end."""
        graph = self.graph
        for name in graph.inputs:
            self.place(name, int(graph.meta[f"block.{name}"]))
        for node in graph.nodes:
            count = graph.tensors[node.output].shape[1]
            self.place(node.output, count if node.output in graph.outputs else node.attrs.block)
            self.find_needs(node)
        for name in graph.outputs:
            self.uses[name, 0] = self.uses.get((name, 0), 0) + 1
        for name in graph.outputs:
            self.make((name, 0))
        self.store_outputs()

    def place(self, name: str, size: int) -> None:
        channels, count, width = self.graph.tensors[name].shape
        if width != isa.LANES:
            raise GraphError(f"{name}: words of {width} values; the engine's have {isa.LANES}")
        self.sizes[name] = size
        self.addrs[name] = np.full((channels, count), NOWHERE, np.int64)

    def find_needs(self, node: Node) -> None:
        """Which blocks each block of a node reads."""
        index = self.graph.const(node, "index")
        owner, number, at = [], [], 0
        for which, name in enumerate(node.inputs):
            channels, count, _ = self.graph.tensors[name].shape
            blocks = np.tile(np.arange(count) // self.sizes[name], channels)
            owner.append(np.full(channels * count, which))
            number.append(blocks)
            at += channels * count
        keys = np.concatenate(owner) * (at + 1) + np.concatenate(number)
        size = self.sizes[node.output]
        for block, first in enumerate(range(0, index.shape[1], size)):
            part = index[:, first : first + size]
            read = np.unique(keys[part[part >= 0]])
            found = tuple((node.inputs[k // (at + 1)], int(k % (at + 1))) for k in read.tolist())
            self.needs[node.output, block] = found
            for one in found:
                self.uses[one] = self.uses.get(one, 0) + 1

    def make(self, block: Block) -> None:
        """Has a block on chip, and first those that it is made of."""
        if block in self.held:
            return
        for other in self.needs.get(block, ()):
            self.make(other)
        name, number = block
        channels, count, _ = self.graph.tensors[name].shape
        first = number * self.sizes[name]
        size = min(self.sizes[name], count - first)
        node = self.graph.producer(name)
        together = node is None or name in self.graph.outputs  # a transfer takes even distances
        self.held[block] = self.memory.take(channels, size, name, together)
        places = np.array(self.held[block])[:, None] + np.arange(size)
        self.addrs[name][:, first : first + size] = places
        if node is None:
            self.encoder.transfer(
                "LOAD", f"load.{name}", name, range(channels), self.held[block], first, size,
                region="image", ddr_offset=16 * first, ddr_stride=count, place=None,
            )  # fmt: skip
        else:
            self.compute(node, first, size)
        for other in self.needs.get(block, ()):
            self.uses[other] -= 1
            if not self.uses[other]:
                for addr in self.held[other]:
                    self.memory.give(addr)

    def compute(self, node: Node, first: int, size: int) -> None:
        """The operations of words first .. first + size - 1."""
        words = np.concatenate([self.addrs[name].ravel() for name in node.inputs])
        table = np.append(words, NOWHERE)
        index = self.graph.const(node, "index")[:, first : first + size]
        where = table[index]
        variant = self.graph.const(node, "variant")[first : first + size]
        step = (where[:, 1:] - where[:, :-1] != 1) & (where[:, 1:] != NOWHERE)
        gap = (where[:, 1:] == NOWHERE) != (where[:, :-1] == NOWHERE)
        cuts = (step | gap).any(axis=0) | (variant[1:] != variant[:-1])
        starts = [0, *(np.flatnonzero(cuts) + 1).tolist(), size]
        for begin, end in itertools.pairwise(starts):
            self.one(node, where[:, begin], int(variant[begin]), first + begin, end - begin)

    def one(self, node: Node, where: np.ndarray, variant: int, place: int, count: int) -> None:
        """`count` output words from `place` on, whose inputs begin at the addresses `where`."""
        weight = self.graph.const(node, "weight")[variant]
        biases = self.graph.const(node, "bias")[variant]
        shift = self.graph.const(node, "shift")
        present = np.flatnonzero(where != NOWHERE)
        for channels in self.parts(weight[:, present]):
            mine = weight[channels.start : channels.stop][:, present]
            taps = present[(mine != 0).any(axis=0)]
            dst = self.addrs[node.output][channels.start : channels.stop, place].tolist()
            src, values = where[taps].tolist(), weight[channels.start : channels.stop][:, taps]
            if not src:  # a sum of nothing: any word, times 0
                src, values = dst[:1], np.zeros((len(channels), 1), np.int8)
            self.encoder.conv(
                node, [(a, 1, 1, 0) for a in src], values, channels, dst, groups=count,
                first_word=place, reads=runs(src, count), signed=False,
                macs_per_channel=int((values != 0).sum(axis=1).mean() * count * isa.LANES),
                scales=(biases, shift),
            )  # fmt: skip

    def parts(self, weight: np.ndarray) -> list[range]:
        """Channels that are made together: those that read the same words, tile by tile."""
        channels = len(weight)
        columns = self.encoder.params.columns
        tile = columns // 2 if int(abs(weight.astype(np.int64)).max(initial=0)) > 7 else columns
        most = self.encoder.params.stream_words - isa.HEADER_WORDS - RING_SLACK
        found: list[tuple[range, np.ndarray]] = []
        for first in range(0, channels, tile):
            last = min(first + tile, channels)
            used = (weight[first:last] != 0).any(axis=0)
            while used.sum() > most and last - first > 1:  # too many words for the ring
                last = first + (last - first + 1) // 2
                used = (weight[first:last] != 0).any(axis=0)
            if last < min(first + tile, channels):
                return self.small(weight, last - first)
            if found and len(found[-1][0]) % tile == 0 and (found[-1][1] == used).all():
                found[-1] = (range(found[-1][0].start, last), used)
            else:
                found.append((range(first, last), used))
        return [channels for channels, _ in found]

    @staticmethod
    def small(weight: np.ndarray, size: int) -> list[range]:
        return [range(n, min(n + size, len(weight))) for n in range(0, len(weight), size)]

    def store_outputs(self) -> None:
        """Output after output, plane after plane."""
        offset = 0
        for name in self.graph.outputs:
            channels, count, _ = self.graph.tensors[name].shape
            self.encoder.transfer(
                "STORE", f"store.{name}", name, range(channels), self.held[name, 0], 0, count,
                region="output", ddr_offset=offset, ddr_stride=count, place=None,
            )  # fmt: skip
            offset += channels * count * isa.LANES


def gather(graph: Graph, encoder: Encoder, params: EngineParams) -> Memory:
    """Appends the operations of a network of `gather_pw` to an encoder."""
    foreign = [f"{n.name} ({n.op})" for n in graph.nodes if n.op != "gather_pw"]
    if foreign:
        raise GraphError(f"beside gather_pw the engine runs nothing else: {', '.join(foreign)}")
    memory = Memory(params.act_words)
    Gatherer(graph, encoder, memory).run()
    return memory


def never_read(graph: Graph, name: str) -> np.ndarray:
    """Which words (C, N) of a tensor no `gather_pw` reads; they need not be made."""
    channels, count, _ = graph.tensors[name].shape
    unread = np.ones(channels * count, bool)
    for node in graph.consumers(name):
        if node.op != "gather_pw":
            return np.zeros((channels, count), bool)
        index = graph.const(node, "index")
        start = 0
        for other in node.inputs:
            shape: Sequence[int] = graph.tensors[other].shape
            if other == name:
                mine = index[(index >= start) & (index < start + channels * count)]
                unread[mine - start] = False
            start += shape[0] * shape[1]
    return unread.reshape(channels, count) & (name not in graph.outputs)
