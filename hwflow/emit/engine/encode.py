# SPDX-License-Identifier: Apache-2.0
"""Descriptors, records and weight words of `emit/isa.py`, one operation at a time."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwflow.emit import isa
from hwflow.emit.engine.operation import (
    DDR_PLACE,
    LIST_PLACE,
    SMAP_PLACE,
    Operation,
    places,
    runs,
)
from hwflow.emit.engine.planes import View
from hwflow.emit.engine.program import (
    ACC_BITS,
    CONV_CYCLES,
    DW_MACS,
    LANE_CYCLES,
    PEAK_CYCLES,
    RING_SLACK,
    SMAP_WORDS,
    TILE_CYCLES,
    TRANSFER_CYCLES,
    EngineParams,
)
from hwflow.errors import GraphError, ResourceError
from hwflow.ir import Graph, Node
from hwflow.ops.types import int_type

Scales = tuple[np.ndarray, np.ndarray]
REACH = {"DW": 1, "POOL": 1, "DDW": 7}  # rows above and below the centre


@dataclass
class Encoder:
    """Appends operations; refuses what the engine cannot run, naming the node."""

    graph: Graph
    params: EngineParams
    operations: list[Operation] = field(default_factory=list)
    smap: str = ""  # the tensor that the dilation map holds

    def records(
        self, node: Node, channels: Sequence[int], dst: Sequence[int], scales: Scales | None = None
    ) -> list[int]:
        """The 64-bit channel records of a convolution. scales: its biases and shifts, if they are
        not the node's."""
        if node.attrs.acc_bits > ACC_BITS:
            raise GraphError(
                f"{node.name}: accumulators of {node.attrs.acc_bits} bits; the engine's have "
                f"{ACC_BITS}. Train with fewer input channels or narrower weights, or use the HLS "
                "backend"
            )
        if scales is None:
            bias, mul, shift = (self.graph.const(node, r) for r in ("bias", "mul", "shift"))
        else:
            bias, shift = scales
            mul = np.ones(len(bias), np.int64)
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
        reads: np.ndarray,
        geometry: Mapping[str, int] | None = None,
        macs_per_channel: int,
        smap_base: int | None = None,
        signed: bool,
        scales: Scales | None = None,
    ) -> None:
        """CONV: `columns` are (plane, tap_i, tap_j, half), weights (channels, columns).

        A last tile of few channels becomes an operation of its own that takes two groups at once.
        """
        wide = int(np.abs(weights.astype(np.int64)).max(initial=0)) > 7
        most = self.params.columns
        per_tile = most // 2 if wide else most
        if isa.HEADER_WORDS + len(columns) + RING_SLACK > self.params.stream_words:
            raise ResourceError(
                f"{node.name}: {len(columns)} weight words do not fit the engine's stream ring of "
                f"{self.params.stream_words} words"
            )
        rest = len(channels) % per_tile
        saved = groups // 2 * array_cycles(len(columns), rest) if rest else 0
        pair = (
            not wide and geometry is None and 0 < rest <= most // 2 and groups % 2 == 0
            and (saved > 2 * CONV_CYCLES or rest == len(channels))
        )  # fmt: skip
        cut = len(channels) - rest if pair else len(channels)
        for first, last, paired in ((0, cut, False), (cut, len(channels), True)):
            if first == last:
                continue
            some = slice(first, last)
            payload, cycles = self._tiles(
                node, columns, weights[some], channels[some], dst[some], groups, wide, paired,
                scales,
            )  # fmt: skip
            tiles = -(-(last - first) // per_tile)
            on_last = last - first - (tiles - 1) * per_tile
            # The field is as wide as the engine needs; a wider array has no program, only counts.
            fields: Mapping[str, int] = {
                "groups": groups, "in_signed": int(signed), "out_type": self.out_type(node),
                "windowed": int(geometry is not None), "w8": int(wide),
                "to_smap": int(smap_base is not None), "smap_base": smap_base or 0,
                "k_words": len(columns), "tiles": tiles, "pair": int(paired),
                "last_oc": (2 * on_last if paired else on_last) % 32, **(geometry or {}),
            }  # fmt: skip
            smap = np.arange(0 if smap_base is None else groups) + SMAP_PLACE + (smap_base or 0)
            macs = macs_per_channel * (last - first)
            rate = self.params.array_macs // (2 if wide else 1)
            self.operations.append(
                Operation(
                    "CONV", node.name, fields, payload, reads,
                    places(runs(dst[some], groups), smap), node.output, tuple(channels[some]),
                    tuple(dst[some]), first_word, groups, macs,
                    -(-macs // rate), cycles + CONV_CYCLES,
                )
            )

    def _tiles(
        self, node: Node, columns: Sequence[tuple[int, int, int, int]], weights: np.ndarray,
        channels: Sequence[int], dst: Sequence[int], groups: int, wide: bool, paired: bool,
        scales: Scales | None,
    ) -> tuple[bytes, int]:  # fmt: skip
        """Headers and weight words of all tiles, and the cycles they take."""
        bits = 8 if wide else 4
        per_tile = self.params.columns * 4 // bits
        sizes = [len(channels[n : n + per_tile]) for n in range(0, len(channels), per_tile)]
        turns = groups // 2 if paired else groups
        drained = [2 * size if paired else size for size in sizes]
        cycles = sum(TILE_CYCLES + turns * array_cycles(len(columns), count) for count in drained)
        if self.params.columns != isa.TILE_OC:  # no stream is defined for it: only its length
            self.records(node, channels, dst, scales)
            length = self.params.tile_header_words
            length += len(columns) * self.params.weight_stream_words
            return bytes(len(sizes) * length * isa.WORD_BITS // 8), cycles
        parts = np.array(columns, np.int64).reshape(-1, 4)
        spots = parts[:, 0] & 0xFFFF
        fields = isa.WEIGHT_WORD
        for name, values in zip(("tap_i", "tap_j", "half"), parts.T[1:], strict=True):
            spots |= values << (fields[name].lsb - fields["plane"].lsb)
        records = self.records(node, channels, dst, scales)
        payload = []
        for start in range(0, len(channels), per_tile):
            tile = records[start : start + per_tile]
            block = weights[start : start + per_tile].astype(np.int64).T & ((1 << bits) - 1)
            if paired:
                tile += self.records(node, channels, [addr + 1 for addr in dst], scales)
                unused = np.zeros((len(columns), isa.TILE_OC // 2 - block.shape[1]), np.int64)
                block = np.hstack([block, unused, block])
            tile += [0] * (isa.TILE_OC - len(tile))
            payload.append(b"".join(record.to_bytes(8, "little") for record in tile))
            words = np.zeros((len(columns), 16), np.uint8)
            words[:, 12:] = spots.astype("<u4").view(np.uint8).reshape(-1, 4)
            full = np.zeros((len(columns), per_tile), np.int64)
            full[:, : block.shape[1]] = block
            if bits == 8:
                words[:, :12] = full
            else:
                words[:, :12] = full[:, ::2] | full[:, 1::2] << 4
            payload.append(words.tobytes())
        return b"".join(payload), cycles

    def pointwise(
        self, node: Node, src: Sequence[int], channels: Sequence[int], dst: Sequence[int],
        rows: tuple[int, int], view: View,
    ) -> None:  # fmt: skip
        """A 1x1 convolution of stored rows: src and dst are the words of rows[0] in each plane."""
        weight = self.graph.const(node, "weight")[list(channels)]
        weight = weight.reshape(len(channels), -1)
        first, groups = view.row(rows[0]), view.row(rows[1]) - view.row(rows[0])
        smap_base = None
        if int_type(self.graph.tensors[node.output]).bits == 3:
            self.smap = node.output
            if view.words > SMAP_WORDS:
                raise ResourceError(
                    f"{node.name}: a dilation map of {view.height}x{view.width} pixels; the engine "
                    f"holds {SMAP_WORDS * isa.LANES}"
                )
            smap_base = first
        self.conv(
            node, [(p, 1, 1, 0) for p in src], weight, channels, dst, groups=groups,
            first_word=first, reads=runs(src, groups), smap_base=smap_base, signed=view.signed,
            macs_per_channel=weight.shape[1] * groups * isa.LANES,
        )  # fmt: skip

    def depthwise(
        self, node: Node, opcode: str, view: View, src: Sequence[int], channels: Sequence[int],
        dst: Sequence[int], rows: tuple[int, int],
    ) -> None:  # fmt: skip
        """A DW, DDW or POOL step over output rows rows[0] .. rows[1]-1.

        src: the word of the stored row 0 of each plane (it need not lie in memory itself); dst: the
        word of output row rows[0].
        """
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
        low_row, high_row = needed_rows(opcode, stride, view, rows)
        first_seen, end_seen = seen_rows(opcode, stride, view, rows)
        seen = end_seen - first_seen
        first, end = view.row(low_row), -(-high_row * view.width // isa.LANES)
        reads = runs([s + first for s in src], end - first)
        smap = SMAP_PLACE + np.arange(first, end if opcode == "DDW" else first)
        columns = geometry["row_words"] * len(channels)
        del geometry["groups"]
        self.operations.append(
            Operation(
                opcode, node.name,
                {"in_signed": int(view.signed), "out_type": self.out_type(node),
                 "channels": len(channels), "rows": rows[1] - rows[0], **geometry},
                b"".join(payload), places(reads, smap), runs(dst, groups), node.output,
                tuple(channels), tuple(dst), rows[0] * out_w // isa.LANES, groups,
                0 if opcode == "POOL" else 9 * len(channels) * groups * isa.LANES,
                -(-9 * len(channels) * groups * isa.LANES // DW_MACS),
                columns * seen + REACH[opcode] + LANE_CYCLES,
            )
        )

    def transfer(
        self, opcode: str, name: str, tensor: str, channels: Sequence[int], addrs: Sequence[int],
        first_word: int, words: int, *, region: str, ddr_offset: int, ddr_stride: int,
        place: int | None,
    ) -> None:  # fmt: skip
        """LOAD or STORE: `words` words of each channel, planes evenly spaced on both sides.

        ddr_offset: bytes, of the first channel's first word that moves; ddr_stride: words from one
        channel to the next; place: that word's place in the scratch region (None elsewhere).
        """
        stride = addrs[1] - addrs[0] if len(addrs) > 1 else 0
        assert all(b - a == stride for a, b in itertools.pairwise(addrs))
        count = len(channels)
        step = ddr_stride
        if count > 1 and stride == words == ddr_stride and count * words < 1 << 16:
            count, words_, stride, step = 1, count * words, 0, 0  # one long run
        else:
            words_ = words
        inside = runs(addrs, words)
        outside = np.zeros(0, np.int64)
        if place is not None:
            start = np.arange(len(channels)).reshape(-1, 1) * ddr_stride + np.arange(words)
            outside = DDR_PLACE + place + start.ravel()
        load = opcode == "LOAD"
        moved = len(channels) * words
        self.operations.append(
            Operation(
                opcode, name,
                {"act_addr": addrs[0] & 0xFFFF, "words": words_, "runs": count,
                 "act_stride": stride, "ddr_stride": step, "ddr_offset": ddr_offset,
                 "region": isa.REGIONS[region]},
                b"", outside if load else inside, inside if load else outside,
                tensor if load else "", tuple(channels) if load else (),
                tuple(addrs) if load else (), first_word, words,
                ideal=2 * moved,
                cycles=round(16 * moved / self.params.bytes_per_cycle) + TRANSFER_CYCLES,
                moved_words=moved,
            )
        )

    def peak(self, node: Node, view: View) -> None:
        """The scan of the logits; the candidates stay in the engine's list."""
        geometry, groups = self.geometry(node, view, 1, view.width, (0, view.height))
        block = [plane.addr for plane in view.planes]
        scan = 2 * len(block) * groups
        self.operations.append(
            Operation(
                "PEAK", node.name,
                {"in_signed": 1, "classes": len(block), "hm": block[0], **geometry},
                b"", runs(block, groups), np.array([LIST_PLACE]), ideal=scan,
                cycles=scan + PEAK_CYCLES,
            )
        )

    def emit(self, node: Node, wh: View, reg: View) -> None:
        """The candidates with their sizes and offsets, to the output region."""
        w, h, x, y = (plane.addr for plane in (*wh.planes, *reg.planes))
        self.operations.append(
            Operation(
                "EMIT", node.name, {"w": w, "h": h, "reg_x": x, "reg_y": y}, b"",
                places([LIST_PLACE], runs([w, h, x, y], wh.words)), np.zeros(0, np.int64),
                ideal=4 * isa.CANDIDATES, cycles=5 * isa.CANDIDATES + 100,
            )
        )

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


def seen_rows(opcode: str, stride: int, view: View, rows: tuple[int, int]) -> tuple[int, int]:
    """The rows, as seen after upsampling, that output rows rows[0] .. rows[1]-1 are made of."""
    reach = REACH[opcode]
    low = max(stride * rows[0] - reach, 0)
    return low, min(stride * (rows[1] - 1) + reach + 1, view.height << view.up)


def needed_rows(opcode: str, stride: int, view: View, rows: tuple[int, int]) -> tuple[int, int]:
    """The stored rows that output rows rows[0] .. rows[1]-1 are made of."""
    low, end = seen_rows(opcode, stride, view, rows)
    return low >> view.up, ((end - 1) >> view.up) + 1


def array_cycles(k_words: int, channels: int) -> int:
    """Cycles of one group of pixels: every chunk lasts at least as long as its read-out."""
    whole, rest = divmod(k_words, isa.CHUNK)
    return whole * max(isa.CHUNK, channels) + (max(rest, channels) if rest else 0)
