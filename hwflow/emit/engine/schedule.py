# SPDX-License-Identifier: Apache-2.0
"""Walks the nodes in order; cuts a layer pair where a map would not fit the activation memory."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hwflow.emit import isa
from hwflow.emit.engine.encode import Encoder
from hwflow.emit.engine.planes import (
    VIEW_OPS,
    Memory,
    Plane,
    View,
    aliases,
    count_uses,
    stored_outputs,
)
from hwflow.emit.engine.program import SMAP_WORDS, EngineParams, Program
from hwflow.errors import GraphError, ResourceError
from hwflow.ir import Graph, Node
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.types import int_type


@dataclass
class Scheduler:
    """Runs each node once: takes memory for its output, encodes it, frees what is read no more."""

    graph: Graph
    encoder: Encoder
    memory: Memory
    views: dict[str, View] = field(default_factory=dict)
    uses: dict[tuple[str, int], int] = field(default_factory=dict)  # plane -> reads still to come
    done: set[str] = field(default_factory=set)

    def store(self, node: Node) -> View:
        """Allocates the output of a node and makes its view."""
        tensor = self.graph.tensors[node.output]
        # the peak finder walks the planes of its inputs as one block
        contiguous = any(c.op == "peaks" for c in self.graph.consumers(node.output))
        channels, height, width = tensor.shape
        if height * width % isa.LANES:
            raise GraphError(
                f"{node.name}: planes of {height}x{width}; the engine takes planes that are a "
                "multiple of 16 pixels. Choose another input size, or use the HLS backend"
            )
        words = height * width // isa.LANES
        addrs = self.memory.take(channels, words, node.name, contiguous)
        planes = tuple(Plane(node.output, c, a) for c, a in enumerate(addrs))
        self.views[node.output] = View(planes, height, width, int_type(tensor).signed)
        return self.views[node.output]

    def need(self, tensor: str) -> tuple[int, int]:
        channels, height, width = self.graph.tensors[tensor].shape
        return channels, -(-height * width // isa.LANES)

    def finish(self, node: Node) -> None:
        """Marks a node as run and frees the planes that nobody will read again."""
        self.done.add(node.name)
        for name in node.inputs:
            for plane in self.views[name].planes if name in self.views else ():
                self.release(plane)
        if node.output in self.views:
            for plane in self.views[node.output].planes:
                if not self.uses.get((plane.tensor, plane.channel)):
                    self.memory.give(plane.addr)

    def release(self, plane: Plane) -> None:
        key = (plane.tensor, plane.channel)
        self.uses[key] -= 1
        if not self.uses[key]:
            self.memory.give(plane.addr)

    def only_consumer(self, tensor: str, op: str) -> Node | None:
        """The one node of kind `op` that reads the tensor, if nothing else does."""
        readers = self.graph.consumers(tensor)
        if len(readers) == 1 and readers[0].op == op and tensor not in self.graph.outputs:
            return readers[0]
        return None

    def run(self, node: Node) -> None:
        if node.name in self.done:
            return
        handlers: Mapping[str, Callable[[Node], None]] = {
            "conv": self.first_layer,
            "pw": self.run_pw,
            "dw": self.run_dw,
            "deform_dw": self.run_deform,
            "maxpool": self.run_pool,
            "peaks": self.run_peaks,
        }
        handlers[node.op](node)

    def load_input(self, name: str) -> None:
        """Brings an input on chip whole, unless only a first layer reads it (band by band)."""
        if all(node.op == "conv" for node in self.graph.consumers(name)):
            return
        tensor = self.graph.tensors[name]
        channels, height, width = tensor.shape
        words = height * width // isa.LANES
        if height * width % isa.LANES or width % 8:
            raise GraphError(
                f"{name}: planes of {height}x{width}; the engine takes widths that are a multiple "
                "of 8 and planes that are a multiple of 16 pixels"
            )
        addrs = self.memory.take(channels, words, name)
        planes = tuple(Plane(name, c, a) for c, a in enumerate(addrs))
        self.views[name] = View(planes, height, width, int_type(tensor).signed)
        for plane in planes:
            self.load(name, plane.channel, plane.addr, 0, words)

    def load(self, name: str, channel: int, addr: int, first_word: int, words: int) -> None:
        """Part of an input plane from the image region, where planes lie one after the other."""
        _, height, width = self.graph.tensors[name].shape
        self.encoder.emit(
            "LOAD", f"load.{name}", tensor=name, channels=[channel], dst=[addr],
            first_word=first_word, words=words, ideal=2 * words, model=None, act_addr=addr,
            words_=words, ddr_offset=channel * height * width + first_word * isa.LANES,
            region=isa.REGIONS["image"],
        )  # fmt: skip

    def store_outputs(self) -> None:
        """Outputs go to the output region plane after plane, unless candidates stand there."""
        offset = 0
        for name in stored_outputs(self.graph):
            view = self.views[name]
            if view.up:
                raise GraphError(f"{name}: an upsampled output; end the network before upsampling")
            for plane in view.planes:
                self.encoder.emit(
                    "STORE", f"store.{name}", act_addr=plane.addr, words_=view.words,
                    ddr_offset=offset, region=isa.REGIONS["output"], ideal=2 * view.words,
                    model=None,
                )  # fmt: skip
                offset += view.words * isa.LANES

    def first_layer(self, node: Node) -> None:
        """The dense convolution on the image, in row bands, with the max pool behind it."""
        if node.inputs[0] not in self.graph.inputs:
            raise GraphError(
                f"{node.name}: a dense {node.attrs.kernel}x{node.attrs.kernel} convolution is run "
                "on the network's input only; use depthwise + 1x1 here, or the HLS backend"
            )
        if node.attrs.kernel != 3 or node.attrs.pad != 1 or node.attrs.stride not in (2, 4):
            raise GraphError(
                f"{node.name}: the engine runs a first layer of 3x3, padding 1, stride 2 or 4"
            )
        pool = self.only_consumer(node.output, "maxpool")
        if pool is not None and pool.attrs != MaxpoolAttrs(3, 2, 1):
            pool = None  # runs by itself, if at all
        target = pool or node
        out_view = self.store(target)
        in_c, in_h, in_w = self.graph.tensors[node.inputs[0]].shape
        out_c, out_h, out_w = self.graph.tensors[node.output].shape
        rows_total, row_step = out_view.height, node.attrs.stride
        for bands in range(1, rows_total + 1):
            rows = -(-rows_total // bands)
            conv_rows = 2 * rows + 1 if pool else rows
            image_rows = row_step * (conv_rows - 1) + 3
            requests = [(in_c, image_rows * in_w // isa.LANES)]
            if pool:
                requests.append((out_c, conv_rows * out_w // isa.LANES))
            if self.memory.fits(requests):
                break
        else:
            raise ResourceError(f"{node.name}: no row band fits the engine's activation memory")
        image = self.memory.take(*requests[0], node.name)
        conv_buf = self.memory.take(*requests[1], node.name) if pool else []
        for first in range(0, rows_total, rows):
            last = min(first + rows, rows_total)
            c0, c1 = (max(2 * first - 1, 0), min(2 * last, out_h)) if pool else (first, last)
            r0 = max(row_step * c0 - 1, 0)
            r1 = min(row_step * (c1 - 1) + 2, in_h)
            src = [addr - r0 * in_w // isa.LANES for addr in image]
            for c, addr in enumerate(image):
                words = (r1 - r0) * in_w // isa.LANES
                self.load(node.inputs[0], c, addr, r0 * in_w // isa.LANES, words)
            image_view = View((), in_h, in_w, False)
            geometry, groups = self.encoder.geometry(node, image_view, row_step, out_w, (c0, c1))
            halves = (1, 2) if row_step == 4 else (0,)
            columns, pick = [], []
            for c in range(in_c):
                for i in range(3):
                    for j in range(3):
                        for half in halves:
                            columns.append((src[c], i, j, half))
                            pick.append((c * 3 + i) * 3 + j)
            weights = self.graph.const(node, "weight").reshape(out_c, -1)[:, pick]
            channels = range(out_c)
            offset = c0 * out_w // isa.LANES
            dst = conv_buf if pool else [p.addr + offset for p in out_view.planes]
            geometry.pop("groups")
            self.encoder.conv(
                node, columns, weights, channels, dst, groups=groups, first_word=offset,
                macs=out_c * in_c * 9 * groups * isa.LANES, geometry=geometry,
                signed=int_type(self.graph.tensors[node.inputs[0]]).signed,
            )  # fmt: skip
            if pool:
                conv_view = View((), out_h, out_w, int_type(self.graph.tensors[node.output]).signed)
                pool_offset = first * out_view.width // isa.LANES
                self.encoder.depthwise(
                    pool, "POOL", conv_view, [a - offset for a in conv_buf], channels,
                    [p.addr + pool_offset for p in out_view.planes], (first, last),
                )  # fmt: skip
        for addr in [*image, *conv_buf]:
            self.memory.give(addr)
        self.done.add(node.name)
        self.done.add(target.name)

    def run_pool(self, node: Node) -> None:
        if (node.attrs.kernel, node.attrs.pad) != (3, 1):
            raise GraphError(
                f"{node.name}: a max pool of {node.attrs.kernel}x{node.attrs.kernel}, padding "
                f"{node.attrs.pad}; the engine runs 3x3 with padding 1. Use the HLS backend"
            )
        view = self.views[node.inputs[0]]
        out = self.store(node)
        planes = [p.addr for p in view.planes]
        dst = [p.addr for p in out.planes]
        self.encoder.depthwise(node, "POOL", view, planes, range(len(dst)), dst, (0, out.height))
        self.finish(node)

    def run_pw(self, node: Node) -> None:
        view = self.input_of(node)
        src = [p.addr for p in view.planes]
        channels, size = self.need(node.output)
        follower = self.only_consumer(node.output, "dw")
        if follower is not None and not self.memory.fits(
            [(channels, size), self.need(follower.output)]
        ):
            spare = [n for n in range(isa.TILE_OC, channels, isa.TILE_OC)
                     if self.memory.fits([self.need(follower.output), (n, size)])]  # fmt: skip
            if spare:
                self.channel_split(node, follower, view, max(spare))
                return
        out = self.store(node)
        dst = [p.addr for p in out.planes]
        self.encoder.pointwise(node, src, range(channels), dst, view.words, 0, view.signed)
        self.finish(node)

    def input_of(self, node: Node) -> View:
        view = self.views[node.inputs[0]]
        if view.up:
            raise GraphError(
                f"{node.name}: a 1x1 convolution reads an upsampled map; the lowering pass that "
                "moves it before the upsampling has to run first"
            )
        return view

    def channel_split(self, node: Node, follower: Node, view: View, step: int) -> None:
        """1x1 then depthwise, `step` channels at a time, through one small buffer."""
        channels, size = self.need(node.output)
        _, height, width = self.graph.tensors[node.output].shape
        signed = int_type(self.graph.tensors[node.output]).signed
        out = self.store(follower)
        buffer = self.memory.take(min(step, channels), size, node.name)
        src = [p.addr for p in view.planes]
        for first in range(0, channels, step):
            some = range(first, min(first + step, channels))
            part = buffer[: len(some)]
            self.encoder.pointwise(node, src, some, part, view.words, 0, view.signed)
            dst = [out.planes[c].addr for c in some]
            self.encoder.depthwise(
                follower, "DW", View((), height, width, signed), part, some, dst, (0, out.height)
            )
        for addr in buffer:
            self.memory.give(addr)
        self.finish(node)
        self.done.add(follower.name)

    def run_dw(self, node: Node) -> None:
        view = self.views[node.inputs[0]]
        src = [p.addr for p in view.planes]
        channels, size = self.need(node.output)
        follower = self.only_consumer(node.output, "pw")
        if follower is not None and int_type(self.graph.tensors[follower.output]).bits == 3:
            follower = None  # the dilation map is filled from its first word on, not by bands
        if follower is not None and not self.memory.fits(
            [(channels, size), self.need(follower.output)]
        ):
            self.row_split(node, follower, view)
            return
        out = self.store(node)
        dst = [p.addr for p in out.planes]
        self.encoder.depthwise(node, "DW", view, src, range(channels), dst, (0, out.height))
        self.finish(node)

    def row_split(self, node: Node, follower: Node, view: View) -> None:
        """Depthwise then 1x1, a band of rows at a time, through one small buffer."""
        channels, height, width = self.graph.tensors[node.output].shape
        signed = int_type(self.graph.tensors[node.output]).signed
        out = self.store(follower)
        step = 2 if width == 8 else 1
        bands = [n for n in range(step, height, step)
                 if self.memory.fits([(channels, n * width // isa.LANES)])]  # fmt: skip
        if not bands:
            raise ResourceError(f"{node.name}: no row band fits the engine's activation memory")
        count = -(-height // max(bands))
        rows = -(-height // count // step) * step
        buffer = self.memory.take(channels, rows * width // isa.LANES, node.name)
        src = [p.addr for p in view.planes]
        for first in range(0, height, rows):
            last = min(first + rows, height)
            offset, groups = first * width // isa.LANES, (last - first) * width // isa.LANES
            self.encoder.depthwise(node, "DW", view, src, range(channels), buffer, (first, last))
            dst = [p.addr + offset for p in out.planes]
            self.encoder.pointwise(follower, buffer, range(len(dst)), dst, groups, offset, signed)
        for addr in buffer:
            self.memory.give(addr)
        self.finish(node)
        self.done.add(follower.name)

    def run_deform(self, node: Node) -> None:
        view = self.views[node.inputs[0]]
        scale = self.views[node.inputs[1]]
        if (scale.height, scale.width, scale.up) != (view.height, view.width, view.up):
            raise GraphError(
                f"{node.name}: the dilation map is stored as {scale.height}x{scale.width}, the "
                f"sampled map as {view.height}x{view.width}; the engine walks both alike"
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
        out = self.store(node)
        planes = [p.addr for p in view.planes]
        dst = [p.addr for p in out.planes]
        self.encoder.depthwise(node, "DDW", view, planes, range(len(dst)), dst, (0, out.height))
        self.finish(node)

    def run_peaks(self, node: Node) -> None:
        hm, wh, reg = maps = [self.views[name] for name in node.inputs]
        first = hm.planes[0].addr
        block = [first + i * hm.words for i in range(len(hm.planes))]
        if any(v.up or not v.signed for v in maps) or [p.addr for p in hm.planes] != block:
            raise GraphError(
                f"{node.name}: the engine finds peaks in int8 maps as a layer made them, not "
                "split, joined or upsampled; end each head with a convolution without ReLU"
            )
        geometry, groups = self.encoder.geometry(node, hm, 1, hm.width, (0, hm.height))
        if node.attrs.k != isa.CANDIDATES:
            raise GraphError(f"{node.name}: the engine keeps {isa.CANDIDATES} candidates, not "
                             f"{node.attrs.k}")  # fmt: skip
        fields: Mapping[str, Any] = geometry  # of the descriptor: none is a parameter of emit
        self.encoder.emit(
            "PEAK", node.name, model=None, in_signed=1, classes=len(hm.planes),
            hm=hm.planes[0].addr, w=wh.planes[0].addr, h=wh.planes[1].addr,
            reg_x=reg.planes[0].addr, reg_y=reg.planes[1].addr,
            ideal=6 * len(hm.planes) * groups, **fields,
        )  # fmt: skip
        self.finish(node)


def compile_graph(graph: Graph, params: EngineParams | None = None) -> Program:
    """The program of a lowered detector.

    Raises GraphError for what the engine cannot run (naming the node and the way out) and
    ResourceError when the maps do not fit its activation memory.
    """
    params = params or EngineParams()
    scheduler = Scheduler(
        graph, Encoder(graph, params), Memory(params.act_words), uses=count_uses(graph)
    )
    known = ("conv", "pw", "dw", "deform_dw", "maxpool", "peaks", *VIEW_OPS)
    foreign = [f"{n.name} ({n.op})" for n in graph.nodes if n.op not in known]
    if foreign:
        raise GraphError(f"the engine does not run: {', '.join(foreign)}; use the HLS backend")
    for name in graph.inputs:
        scheduler.load_input(name)
    for node in graph.nodes:
        if node.op in VIEW_OPS:
            view = aliases(graph, node, scheduler.views)
            assert view is not None
            scheduler.views[node.output] = view
            continue
        scheduler.run(node)
    scheduler.store_outputs()
    scheduler.encoder.emit("END", "end")
    body = b"".join(scheduler.encoder.words)
    digest = hashlib.sha256(body)
    head = isa.descriptor(
        "HEAD", 0xFFF, "head", isa_version=isa.ISA_VERSION, magic=isa.MAGIC,
        hash=int.from_bytes(digest.digest()[:8], "little"),
    )  # fmt: skip
    peaks = [n for n in graph.nodes if n.op == "peaks"]
    classes = graph.tensors[peaks[0].inputs[0]].shape[0] if peaks else 0
    heads = [key.removeprefix("output.") for key in graph.meta if key.startswith("output.")]
    scales = {head: float(graph.meta[f"scale.{head}"]) for head in heads}
    shape = graph.tensors[graph.inputs[0]].shape
    return Program(
        head + body, tuple(scheduler.encoder.steps), scheduler.memory.peak,
        (shape[0], shape[1], shape[2]), classes, scales, digest.hexdigest(),
    )  # fmt: skip
