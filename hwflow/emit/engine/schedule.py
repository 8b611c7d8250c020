# SPDX-License-Identifier: Apache-2.0
"""Walks the nodes in order and gives each its memory: whole maps, or bands of rows.

Maps that do not fit the activation memory go to DDR: when there is no room the largest map on chip
is marked so and the walk begins anew. A first layer marked so is computed again for each band.
"""

import itertools
import logging
from dataclasses import dataclass, field

from hwflow.emit import isa
from hwflow.emit.engine.bands import OUT_TILES, Bands
from hwflow.emit.engine.chains import (
    Chain,
    Plan,
    aligned,
    bands_of,
    chain_at,
    is_dilation,
    middle_view,
    plans,
    readers_of,
)
from hwflow.emit.engine.encode import Encoder, needed_rows
from hwflow.emit.engine.first_layer import FirstLayer, pool_behind
from hwflow.emit.engine.planes import (
    IN_DDR,
    VIEW_OPS,
    Memory,
    Plane,
    Rotation,
    View,
    stored_outputs,
)
from hwflow.emit.engine.program import SMAP_WORDS
from hwflow.errors import GraphError, ResourceError
from hwflow.ir import Graph, Node
from hwflow.ops.types import int_type

LOG = logging.getLogger(__name__)
PIECE_WORDS = 1500  # of a transfer, about (docs/performance.md, "Log")
PRESSURE = 0.5  # how much of a transfer's time counts: most of it passes while the array works


@dataclass
class Scheduler:
    """Runs each node once: takes memory for its output, encodes it, frees what is read no more."""

    graph: Graph
    encoder: Encoder
    memory: Memory
    apart: frozenset[str]  # maps that live in DDR
    views: dict[str, View] = field(default_factory=dict)
    uses: dict[tuple[str, int], int] = field(default_factory=dict)  # plane -> reads still to come
    done: set[str] = field(default_factory=set)
    homes: dict[str, tuple[str, int]] = field(default_factory=dict)  # map in DDR -> region, word
    computed: dict[str, FirstLayer] = field(default_factory=dict)  # made anew for each band
    scratch_words: int = 0

    # ---- places of maps

    def store(self, node: Node) -> View:
        """Gives the output of a node its place and makes its view."""
        tensor = self.graph.tensors[node.output]
        channels, height, width = tensor.shape
        if height * width % isa.LANES or width % 8:
            raise GraphError(
                f"{node.name}: planes of {height}x{width}; the engine takes widths that are a "
                "multiple of 8 and planes that are a multiple of 16 pixels. Choose another input "
                "size, or use the HLS backend"
            )
        words = height * width // isa.LANES
        if node.output in self.apart:
            self.homes[node.output] = ("scratch", self.scratch_words)
            self.scratch_words += -(-channels * words // 8) * 8
            addrs = [IN_DDR] * channels
        else:
            # the peak finder walks the planes of its logits as one block
            block = any(c.op == "peaks" for c in self.graph.consumers(node.output))
            addrs = self.memory.take(channels, words, node.name, block)
        planes = tuple(Plane(node.output, c, a) for c, a in enumerate(addrs))
        self.views[node.output] = View(planes, height, width, int_type(tensor).signed)
        return self.views[node.output]

    def begin(self, name: str) -> None:
        """An input of the network: its planes lie in the image region one after the other."""
        tensor = self.graph.tensors[name]
        channels, height, width = tensor.shape
        if height * width % isa.LANES or width % 8:
            raise GraphError(
                f"{name}: planes of {height}x{width}; the engine takes widths that are a multiple "
                "of 8 and planes that are a multiple of 16 pixels"
            )
        planes = tuple(Plane(name, c, IN_DDR) for c in range(channels))
        self.homes[name] = ("image", 0)
        self.views[name] = View(planes, height, width, int_type(tensor).signed)

    def bring(
        self, view: View, which: range, rows: tuple[int, int], rotation: Rotation, node: Node
    ) -> list[int]:
        """Where row 0 of each plane would lie if all of it were on chip; `rows` really are."""
        if view.planes and view.planes[0].tensor in self.computed:
            return self.computed[view.planes[0].tensor].rows(rows, rotation)
        first, words = view.row(rows[0]), view.row(rows[1]) - view.row(rows[0])
        addrs = {i: view.planes[i].addr for i in which}
        keys = {i: (view.planes[i].tensor, view.planes[i].channel)
                for i in which if addrs[i] == IN_DDR}  # fmt: skip
        far = sorted(set(keys.values()))  # a plane that is there twice is loaded once
        if far:
            block = rotation.take(len(far), words, node.name, contiguous=True)
            start = 0
            for end in range(1, len(far) + 1):
                tensor, channel = far[start]
                if (end < len(far) and far[end] == (tensor, channel + end - start)
                        and even(block[start : end + 1])):  # fmt: skip
                    continue
                self.move("LOAD", tensor, range(channel, channel + end - start), block[start:end],
                          first, words, view.words)  # fmt: skip
                start = end
            place = dict(zip(far, block, strict=True))
            addrs.update((i, place[key] - first) for i, key in keys.items())
        return [addrs[i] for i in which]

    def move(
        self, opcode: str, tensor: str, channels: range, addrs: list[int], first: int, words: int,
        plane_words: int,
    ) -> None:  # fmt: skip
        """Words `first` .. first + words - 1 of each channel, to or from the map's home in DDR.

        In pieces, so that the lanes can do between them what the array waits for.
        """
        pieces = min(-(-len(channels) * words // PIECE_WORDS), len(channels))
        some = -(-len(channels) // pieces)
        region, home = self.homes[tensor]
        for begin in range(0, len(channels), some):
            part = channels[begin : begin + some]
            start = home + part[0] * plane_words + first
            self.encoder.transfer(
                opcode, f"{opcode.lower()}.{tensor}", tensor, part, addrs[begin : begin + some],
                first, words, region=region, ddr_offset=16 * start, ddr_stride=plane_words,
                place=start if region == "scratch" else None,
            )  # fmt: skip

    def target(
        self, out: View, channels: range, rows: tuple[int, int], rotation: Rotation, node: Node
    ) -> list[int]:
        """Where the words of rows[0] of some output channels go: their planes, or a buffer."""
        first, words = out.row(rows[0]), out.row(rows[1]) - out.row(rows[0])
        if out.planes[0].addr == IN_DDR:
            return rotation.take(len(channels), words, node.name, contiguous=True)
        return [out.planes[c].addr + first for c in channels]

    def send(
        self, out: View, channels: range, rows: tuple[int, int], addrs: list[int], node: Node
    ) -> None:
        """Stores what `target` gave a buffer."""
        if out.planes[0].addr != IN_DDR:
            return
        first, words = out.row(rows[0]), out.row(rows[1]) - out.row(rows[0])
        start = 0
        for end in range(1, len(channels) + 1):
            if end == len(channels) or not even(addrs[start : end + 1]):
                self.move("STORE", node.output, channels[start:end], addrs[start:end], first,
                          words, out.words)  # fmt: skip
                start = end

    def release(self, node: Node) -> None:
        """Frees the planes that nobody reads after this node."""
        for name in node.inputs:
            for plane in self.views[name].planes if name in self.views else ():
                key = (plane.tensor, plane.channel)
                self.uses[key] -= 1
                if not self.uses[key] and plane.addr != IN_DDR:
                    self.memory.give(plane.addr)

    def finish(self, node: Node) -> None:
        """Marks a node as run; logits go to the peak finder at once."""
        self.done.add(node.name)
        if node.output not in self.views:
            return
        for plane in self.views[node.output].planes:
            if not self.uses.get((plane.tensor, plane.channel)) and plane.addr != IN_DDR:
                self.memory.give(plane.addr)
        for reader in self.graph.consumers(node.output):
            if reader.op == "peaks" and reader.inputs[0] == node.output:
                self.scan(reader)

    # ---- nodes

    def run(self, node: Node) -> None:
        if node.name in self.done:
            return
        chain = chain_at(self.graph, node, self.apart)
        if node.op == "conv":
            self.run_first(node)
        elif node.op == "peaks":
            self.run_peaks(node)
        elif chain is not None:
            x = self.views[chain.first.inputs[0]]
            self.run_chains(self.together(chain, x), x)
        else:
            self.run_pw(node)

    def together(self, chain: Chain, x: View) -> list[Chain]:
        """The chain, with others that read the same map when that map has to be brought on chip."""
        if x.on_chip:
            return [chain]
        others = self.chains_of(chain.first.inputs[0])
        return others if chain.name in {other.name for other in others} else [chain]

    def chains_of(self, tensor: str) -> list[Chain]:
        """All chains that read a tensor, if they may run band by band together; else none.

        Not with the one that makes logits: these stay on chip until their peaks are found, and then
        leave their room to the others.
        """
        readers = readers_of(self.graph, tensor)
        found = [chain_at(self.graph, n, self.apart) for n in readers]
        chains = [c for c in found if c is not None and c.first.inputs[0] == tensor]
        logits = {node.inputs[0] for node in self.graph.nodes if node.op == "peaks"}
        shapes = {self.graph.tensors[c.middle.output].shape[1:] for c in chains}
        if len(chains) < len(readers) or len(shapes) > 1:
            return []
        return [c for c in chains if c.last.output not in logits]

    def run_first(self, node: Node) -> None:
        """The dense convolution on the image, with the max pool behind it."""
        layer = FirstLayer(
            self.graph, self.encoder, self.memory, self.bring, node, pool_behind(self.graph, node),
            self.views[node.inputs[0]],
        )  # fmt: skip
        self.done.update(n.name for n in layer.nodes)
        name = layer.last.output
        if name in self.apart:
            if not self.chains_of(name):
                raise ResourceError(f"{node.name}: its map does not fit the activation memory")
            channels, height, width = self.graph.tensors[name].shape
            planes = tuple(Plane(name, c, IN_DDR) for c in range(channels))
            signed = int_type(self.graph.tensors[name]).signed
            self.views[name] = View(planes, height, width, signed)
            self.computed[name] = layer
            return
        layer.whole(self.store(layer.last))
        layer.close()
        self.release(node)
        for done in layer.nodes:
            self.finish(done)

    def run_pw(self, node: Node) -> None:
        """A 1x1 layer by itself."""
        if node.op != "pw":
            raise GraphError(f"the engine does not run: {node.name} ({node.op})")
        x = self.views[node.inputs[0]]
        self.check_stored(node, x)
        out = self.store(node)
        channels, height, width = self.graph.tensors[node.output].shape
        inputs, outputs = Rotation(self.memory), Rotation(self.memory)
        some = OUT_TILES * self.encoder.params.columns if out.planes[0].addr == IN_DDR else channels
        parts = [range(c, min(c + some, channels)) for c in range(0, channels, some)]
        far = sum(plane.addr == IN_DDR for plane in x.planes)
        step = 2 if width == 8 else 1
        for count in range(1, height + 1):
            bands = bands_of(height, count, step)
            words = out.row(bands[0][1])
            requests = [(2 * far, words)] if far else []
            requests += [(2 * some, words)] if some < channels else []
            if self.memory.fits(requests) and (not far or count >= 4 or height < 4 * step):
                break
        for rows in bands:
            src = self.bring(x, range(len(x.planes)), rows, inputs, node)
            src = [s + x.row(rows[0]) for s in src]
            for part in parts:
                dst = self.target(out, part, rows, outputs, node)
                self.encoder.pointwise(node, src, part, dst, rows, x)
                self.send(out, part, rows, dst, node)
        inputs.close()
        outputs.close()
        self.release(node)
        self.finish(node)

    def check_stored(self, node: Node, x: View) -> None:
        if x.up:
            raise GraphError(
                f"{node.name}: a 1x1 convolution reads an upsampled map; the lowering pass that "
                "moves it before the upsampling has to run first"
            )

    def run_chains(self, chains: list[Chain], x: View) -> None:
        """Chains on one map, band by band together, cut the fastest way that fits."""
        for chain in chains:
            self.check_chain(chain, x)
        far = sum(plane.addr == IN_DDR for plane in x.planes)
        found = plans(self.graph, chains, x, far, self.apart, self.encoder.params.columns)
        if len(chains) > 1:
            found = [plan for plan in found if plan.bands > 1]
        best = found[0].cost
        plan = next((plan for plan in found if self.fits(chains, x, plan)), None)
        if plan is None:
            raise ResourceError(f"{chains[0].name}: no band of rows fits the activation memory")
        self.relieve(plan.cost - best)
        LOG.debug("%s: %s", [chain.name for chain in chains], plan)
        Bands(self, chains, x, plan).run()

    def relieve(self, loss: float) -> None:
        """Sends the largest map on chip to DDR when its room is worth the transfers.

        Raises MarkedError to have the walk begin anew with the map marked.
        """
        found = self.live()
        if found:
            name = max(found, key=lambda name: (found[name], name))
            if loss > PRESSURE * 2 * found[name] * 16 / self.encoder.params.bytes_per_cycle:
                raise MarkedError(name)

    def fits(self, chains: list[Chain], x: View, plan: Plan) -> bool:
        """Whether the buffers of a plan find room, and the results."""
        memory = self.memory.copy()
        far = sum(plane.addr == IN_DDR for plane in x.planes)
        layer = self.computed.get(x.planes[0].tensor)
        try:
            rows_in, words_in = 0, 0
            for chain in chains:
                channels, height, width = self.graph.tensors[chain.middle.output].shape
                view = middle_view(self.graph, chain, x)
                bands = bands_of(height, plan.bands, 2 if width == 8 else 1)
                spans = [aligned(view, needed_rows(chain.opcode, chain.stride, view, b))
                         for b in bands]  # fmt: skip
                words = max(view.row(high) - view.row(low) for low, high in spans)
                rows_in = max(rows_in, *(high - low for low, high in spans))
                words_in = max(words_in, words)
                row_words = max(width * (b[1] - b[0]) // isa.LANES for b in bands)
                out_c, out_h, out_w = self.graph.tensors[chain.last.output].shape
                result = (out_c, out_h * out_w // isa.LANES)
                outside = chain.last.output in self.apart
                if plan.bands > 1 and not outside:
                    memory.take(*result, "trial")
                if chain.after:
                    memory.take(plan.depth * channels, row_words, "trial")
                if outside:
                    some = OUT_TILES * self.encoder.params.columns
                    memory.take(2 * min(some, out_c), row_words, "trial")
                taken = []
                if chain.before and plan.whole:
                    taken = memory.take(channels, view.words, "trial")
                elif chain.before:
                    count = 1 if plan.chunk >= channels else 2
                    taken = memory.take(count * min(plan.chunk, channels), words, "trial")
                if plan.bands == 1 and not outside and not far:
                    for addr in taken:
                        memory.give(addr)
                    for plane in x.planes if chain.after else ():
                        if self.uses[(plane.tensor, plane.channel)] == 1:
                            memory.give(plane.addr)
                    memory.take(*result, "trial")
                elif plan.bands == 1 and not outside:
                    memory.take(*result, "trial")
            if layer is not None:
                layer.reserve(memory, rows_in, plan.ahead)
            elif far:
                at_once = len(chains) > 1 or chains[0].before is not None
                count = plan.ahead * (far if at_once else min(far, plan.chunk))
                memory.take(count, words_in, "trial")
        except ResourceError:
            return False
        return True

    def check_chain(self, chain: Chain, x: View) -> None:
        node = chain.middle
        if chain.before is not None:
            self.check_stored(chain.before, x)
        if node.op == "maxpool" and (node.attrs.kernel, node.attrs.pad) != (3, 1):
            raise GraphError(
                f"{node.name}: a max pool of {node.attrs.kernel}x{node.attrs.kernel}, padding "
                f"{node.attrs.pad}; the engine runs 3x3 with padding 1. Use the HLS backend"
            )
        if node.op != "deform_dw":
            return
        scale = self.views[node.inputs[1]]
        if (scale.height, scale.width, scale.up) != (x.height, x.width, x.up):
            raise GraphError(
                f"{node.name}: the dilation map is stored as {scale.height}x{scale.width}, the "
                f"sampled map as {x.height}x{x.width}; the engine walks both alike"
            )
        if scale.words > SMAP_WORDS:
            raise ResourceError(
                f"{node.name}: a dilation map of {scale.height}x{scale.width} pixels; the engine "
                f"holds {SMAP_WORDS * isa.LANES}"
            )
        if [(p.tensor, p.channel) for p in scale.planes] != [(self.encoder.smap, 0)]:
            raise GraphError(
                f"{node.name}: its dilations are not those of the last 1x1 convolution with a "
                f"3-bit output ('{self.encoder.smap}'), which alone are held in the engine's "
                "dilation map; put that convolution right before this layer, or use the HLS "
                "backend"
            )

    def scan(self, node: Node) -> None:
        """The peak finder's first half, as soon as the logits are there."""
        hm = self.views[node.inputs[0]]
        first = hm.planes[0].addr
        block = [first + i * hm.words for i in range(len(hm.planes))]
        if hm.up or not hm.signed or [p.addr for p in hm.planes] != block or hm.width % 16:
            raise GraphError(
                f"{node.name}: the engine finds peaks in int8 maps as a layer made them, a "
                "multiple of 16 pixels wide, not split, joined or upsampled; end each head with a "
                "convolution without ReLU"
            )
        if node.attrs.k != isa.CANDIDATES:
            raise GraphError(f"{node.name}: the engine keeps {isa.CANDIDATES} candidates, not "
                             f"{node.attrs.k}")  # fmt: skip
        self.encoder.peak(node, hm)
        for plane in hm.planes:
            self.uses[(plane.tensor, plane.channel)] -= 1
            if not self.uses[(plane.tensor, plane.channel)]:
                self.memory.give(plane.addr)

    def run_peaks(self, node: Node) -> None:
        """The candidates leave with their sizes and offsets."""
        _, wh, reg = (self.views[name] for name in node.inputs)
        if any(v.up or not v.signed for v in (wh, reg)):
            raise GraphError(
                f"{node.name}: the engine finds peaks in int8 maps as a layer made them, not "
                "upsampled; end each head with a convolution without ReLU"
            )
        self.encoder.emit(node, wh, reg)
        for plane in (*wh.planes, *reg.planes):
            self.uses[(plane.tensor, plane.channel)] -= 1
            if not self.uses[(plane.tensor, plane.channel)]:
                self.memory.give(plane.addr)
        self.done.add(node.name)

    def store_outputs(self) -> None:
        """Outputs go to the output region plane after plane, unless candidates stand there."""
        offset = 0
        for name in stored_outputs(self.graph):
            view = self.views[name]
            if view.up:
                raise GraphError(f"{name}: an upsampled output; end the network before upsampling")
            start, count = 0, len(view.planes)
            addrs = [plane.addr for plane in view.planes]
            for end in range(1, count + 1):
                if end < count and even(addrs[start : end + 1]):
                    continue
                self.encoder.transfer(
                    "STORE", f"store.{name}", name, [p.channel for p in view.planes[start:end]],
                    addrs[start:end], 0, view.words, region="output", ddr_offset=offset,
                    ddr_stride=view.words, place=None,
                )  # fmt: skip
                offset += (end - start) * view.words * isa.LANES
                start = end

    def live(self) -> dict[str, int]:
        """The maps on chip that may go to DDR, with their words."""
        fixed = {n for node in self.graph.nodes if node.op == "peaks" for n in node.inputs}
        fixed |= set(self.graph.inputs) | set(stored_outputs(self.graph))
        found = {}
        for name, view in self.views.items():
            node = self.graph.producer(name)
            if node is None or node.op in VIEW_OPS or name in fixed:
                continue
            if is_dilation(self.graph, node):
                continue
            if any(p.addr != IN_DDR and self.uses.get((p.tensor, p.channel)) for p in view.planes):
                found[name] = len(view.planes) * view.words
        return found

    def victim(self, node: Node) -> str | None:
        """The largest map that may go to DDR so that there is room for a node."""
        found = self.live()
        chain = chain_at(self.graph, node, self.apart)
        last = chain.last if chain else node
        fixed = {n for node in self.graph.nodes if node.op == "peaks" for n in node.inputs}
        if last.op != "peaks" and last.output not in fixed | self.apart | set(self.graph.outputs):
            channels, height, width = self.graph.tensors[last.output].shape
            if not is_dilation(self.graph, last):
                found[last.output] = channels * height * width // isa.LANES
        return max(found, key=lambda name: (found[name], name), default=None)


class MarkedError(ResourceError):
    """The walk begins anew with one more map in DDR."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def even(addrs: list[int]) -> bool:
    """Whether planes are evenly spaced, as a transfer needs them."""
    return len({b - a for a, b in itertools.pairwise(addrs)}) <= 1
