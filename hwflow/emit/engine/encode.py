# SPDX-License-Identifier: Apache-2.0
"""Descriptors, records and weight words of `emit/isa.py`, one operation at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwflow.emit import isa
from hwflow.emit.engine.planes import View
from hwflow.emit.engine.program import (
    ACC_BITS,
    ARRAY_MACS,
    DW_MACS,
    OP_CYCLES,
    RING_SLACK,
    EngineParams,
    Step,
)
from hwflow.errors import GraphError, ResourceError
from hwflow.ir import Graph, Node
from hwflow.ops.types import int_type


@dataclass
class Encoder:
    """Appends operations to a stream; refuses what the engine cannot run, naming the node."""

    graph: Graph
    params: EngineParams
    words: list[bytes] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    smap: str = ""  # the tensor that the dilation map holds

    def emit(
        self,
        opcode: str,
        node: str,
        payload: bytes = b"",
        *,
        tensor: str = "",
        channels: Sequence[int] = (),
        dst: Sequence[int] = (),
        first_word: int = 0,
        words: int = 0,
        macs: int = 0,
        ideal: int = 0,
        model: int | None = 0,
        **fields: int,
    ) -> None:
        """Appends a descriptor with its payload; a field named as a parameter here ends in `_`."""
        tag = len(self.steps)
        values = {name.rstrip("_"): value for name, value in fields.items()}
        block = isa.descriptor(opcode, tag, node, **values) + payload
        self.words.append(block)
        self.steps.append(
            Step(tag, opcode, node, tensor, tuple(channels), tuple(dst), first_word, words,
                 len(block) * 8 // isa.WORD_BITS, macs, ideal, model)
        )  # fmt: skip

    def records(self, node: Node, channels: Sequence[int], dst: Sequence[int]) -> list[int]:
        """The 64-bit channel records of a convolution."""
        if node.attrs.acc_bits > ACC_BITS:
            raise GraphError(
                f"{node.name}: accumulators of {node.attrs.acc_bits} bits; the engine's have "
                f"{ACC_BITS}. Train with fewer input channels or narrower weights, or use the HLS "
                "backend"
            )
        bias, mul, shift = (self.graph.const(node, r) for r in ("bias", "mul", "shift"))
        out = []
        for channel, addr in zip(channels, dst, strict=True):
            if int(mul[channel]) != 1:
                raise GraphError(
                    f"{node.name}, channel {channel}: requantisation multiplies by "
                    f"{int(mul[channel])}; the engine shifts only. Train with power-of-two scales "
                    "(brevitas: restrict_scaling_type POWER_OF_TWO), or use the HLS backend"
                )
            out.append(
                isa.pack(
                    isa.CHANNEL_RECORD,
                    {
                        "bias": int(bias[channel]),
                        "shift": int(shift[channel]) + isa.SHIFT_BIAS,
                        "dst": addr & 0xFFFF,
                    },
                    f"{node.name}, channel {channel}",
                )
            )
        return out

    def conv(
        self,
        node: Node,
        columns: Sequence[tuple[int, int, int, int]],
        weights: np.ndarray,
        channels: Sequence[int],
        dst: Sequence[int],
        *,
        groups: int,
        first_word: int,
        macs: int,
        geometry: Mapping[str, int] | None = None,
        to_smap: bool = False,
        signed: bool,
    ) -> None:
        """A CONV step: `columns` are (plane, tap_i, tap_j, half), weights (channels, columns)."""
        wide = int(np.abs(weights).max(initial=0)) > 7
        per_tile, bits = (isa.TILE_OC // 2, 8) if wide else (isa.TILE_OC, 4)
        if isa.HEADER_WORDS + len(columns) + RING_SLACK > self.params.stream_words:
            raise ResourceError(
                f"{node.name}: {len(columns)} weight words do not fit the engine's stream ring of "
                f"{self.params.stream_words} words"
            )
        records = self.records(node, channels, dst)
        payload, cycles = [], 0
        for start in range(0, len(channels), per_tile):
            tile = records[start : start + per_tile]
            tile += [0] * (isa.TILE_OC - len(tile))
            payload += [record.to_bytes(8, "little") for record in tile]
            block = weights[start : start + per_tile].astype(np.int64) & ((1 << bits) - 1)
            for (plane, tap_i, tap_j, half), column in zip(columns, block.T, strict=True):
                packed = 0
                for index, value in enumerate(column.tolist()):
                    packed |= value << (bits * index)
                word = isa.pack(
                    isa.WEIGHT_WORD,
                    {"weights": packed, "plane": plane & 0xFFFF, "tap_i": tap_i, "tap_j": tap_j,
                     "half": half},
                    node.name,
                )  # fmt: skip
                payload.append(word.to_bytes(16, "little"))
            cycles += 16 + groups * array_cycles(len(columns), len(block))
        tiles = -(-len(channels) // per_tile)
        self.emit(
            "CONV", node.name, b"".join(payload),
            tensor=node.output, channels=channels, dst=dst, first_word=first_word, words=groups,
            macs=macs, model=cycles + OP_CYCLES,
            ideal=-(-macs // (ARRAY_MACS // (2 if wide else 1))),
            groups=groups, in_signed=int(signed), out_type=self.out_type(node),
            windowed=int(geometry is not None), w8=int(wide), to_smap=int(to_smap),
            k_words=len(columns), tiles=tiles, last_oc=len(channels) - (tiles - 1) * per_tile,
            **(geometry or {}),
        )  # fmt: skip

    def pointwise(
        self, node: Node, planes: Sequence[int], channels: Sequence[int], dst: Sequence[int],
        groups: int, first_word: int, signed: bool,
    ) -> None:  # fmt: skip
        weight = self.graph.const(node, "weight")[list(channels)]
        weight = weight.reshape(len(channels), -1)
        smap = int_type(self.graph.tensors[node.output]).bits == 3
        if smap:
            self.smap = node.output
        self.conv(
            node, [(p, 1, 1, 0) for p in planes], weight, channels, dst, groups=groups,
            first_word=first_word, macs=weight.size * groups * isa.LANES, to_smap=smap,
            signed=signed,
        )  # fmt: skip

    def depthwise(
        self, node: Node, opcode: str, view: View, src: Sequence[int], channels: Sequence[int],
        dst: Sequence[int], rows: tuple[int, int],
    ) -> None:  # fmt: skip
        """A DW, DDW or POOL step over output rows rows[0] .. rows[1]-1."""
        stride = getattr(node.attrs, "stride", 1)
        out_c, _, out_w = self.graph.tensors[node.output].shape
        geometry, groups = self.geometry(node, view, stride, out_w, rows)
        payload = []
        if opcode != "POOL":
            weight = self.graph.const(node, "weight").reshape(out_c, 9)
            if int(weight.min()) < -8 or int(weight.max()) > 7:
                raise GraphError(
                    f"{node.name}: depthwise weights beyond int4; the engine's depthwise lanes "
                    "multiply int4 by 8 bits. Train with 4-bit weights"
                )
            records = self.records(node, channels, dst)
        for index, channel in enumerate(channels):
            packed = 0
            if opcode != "POOL":
                for tap, value in enumerate(weight[channel].tolist()):
                    packed |= (int(value) & 15) << (4 * tap)
                low = records[index]
            else:
                low = isa.SHIFT_BIAS << isa.CHANNEL_RECORD["shift"].lsb
            fields = isa.DW_RECORD
            word = packed | (src[index] & 0xFFFF) << fields["src"].lsb
            word |= (dst[index] & 0xFFFF) << fields["dst"].lsb
            word |= (low & ((1 << 30) - 1)) << fields["bias"].lsb  # bias and shift lie together
            payload.append(word.to_bytes(16, "little"))
        passes = 6 if geometry["narrow"] and stride == 2 else 3
        macs = 0 if opcode == "POOL" else 9 * len(channels) * groups * isa.LANES
        self.emit(
            opcode, node.name, b"".join(payload),
            tensor=node.output, channels=channels, dst=dst,
            first_word=rows[0] * out_w // isa.LANES, words=groups, macs=macs,
            ideal=-(-9 * len(channels) * groups * isa.LANES // DW_MACS),
            model=None if opcode == "DDW" else len(channels) * groups * passes + OP_CYCLES,
            in_signed=int(view.signed), out_type=self.out_type(node), channels_=len(channels),
            **geometry,
        )  # fmt: skip

    def out_type(self, node: Node) -> int:
        name = str(self.graph.tensors[node.output].dtype)
        if name not in isa.OUT_TYPES:
            raise GraphError(
                f"{node.name}: output type {name}; the engine writes {', '.join(isa.OUT_TYPES)}"
            )
        return isa.OUT_TYPES[name]

    def geometry(
        self, node: Node, view: View, stride: int, out_w: int, rows: tuple[int, int]
    ) -> tuple[dict[str, int], int]:
        narrow = out_w == 8
        if stride not in (1, 2) and not (node.op == "conv" and stride == 4 and not narrow):
            raise GraphError(
                f"{node.name}: stride {stride} to a map {out_w} pixels wide; the engine takes "
                "strides of 1 and 2, and 4 in a first layer whose output is 16 pixels wide or "
                "more. Use the HLS backend"
            )
        in_h = view.height << view.up
        if not (narrow or out_w % 16 == 0) or view.width % 8:
            raise GraphError(
                f"{node.name}: maps {view.width} -> {out_w} pixels wide; the engine takes output "
                "widths of 8 or a multiple of 16. Choose an input size that is a multiple of 256, "
                "or use the HLS backend"
            )
        row_words = 1 if narrow else out_w // 16
        groups = (rows[1] - rows[0]) * out_w // isa.LANES
        fields = {
            "groups": groups,
            "stride_log2": {1: 0, 2: 1, 4: 2}[stride],
            "up": int(view.up),
            "narrow": int(narrow),
            "in_w": view.width,
            "in_h": in_h,
            "y0": rows[0],
            "row_words": row_words,
        }
        return fields, groups


def array_cycles(k_words: int, channels: int) -> int:
    """Cycles of one group of pixels: every chunk lasts at least as long as its read-out."""
    chunks = [isa.CHUNK] * (k_words // isa.CHUNK)
    if k_words % isa.CHUNK:
        chunks.append(k_words % isa.CHUNK)
    return sum(max(chunk, channels) for chunk in chunks)
