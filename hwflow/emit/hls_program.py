# SPDX-License-Identifier: Apache-2.0
"""The integer graph as a program of the HLS layer engine: descriptors, parameters, addresses.

Memory holds feature maps as planes (hls/memory.hpp). A tensor is a *view*: the word address of each
of its planes, and how often it is enlarged while it is read. So slice, concat, shuffle and upsample
cost nothing; only where one is an output of the graph, or where 1x1 or dense convolutions read an
upsampled map, a `move` layer stores it.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from hwflow.errors import GraphError, ResourceError
from hwflow.ir import Graph, IntType, Node, Tensor
from hwflow.ops import OPS, REQUANTISED
from hwflow.ops.arith import dot_range
from hwflow.ops.conv2d import Conv2dAttrs
from hwflow.ops.maxpool2d import Maxpool2dAttrs
from hwflow.ops.residual import sum_range

PIX_PAR = 8  # pixels in a memory word, as hls/memory.hpp
OC_PAR = 16  # output channels of the multiply array, as hls/memory.hpp
BANKS = 4
LAYER_WORDS = 48
LEVELS = 256  # thresholds of a channel, as hls/threshold.hpp
NOWHERE = (1 << 32) - 1  # the byte address of 0, as hls/gather.hpp
PLACE_BITS = 15  # of a coordinate in a candidate's key, as hls/peaks.hpp

OPCODES = {
    "conv": 1, "pw": 2, "dw": 3, "deform_dw": 4, "maxpool": 5, "move": 6, "peaks": 7, "conv2d": 8,
    "maxpool2d": 9, "residual": 10, "threshold": 11, "argmax": 12, "gather": 13,
    "tables": 14, "group_sum": 15,
}  # fmt: skip
FIELDS = (
    "op", "in_map", "in_c", "in_h", "in_w", "in_up", "in_signed", "map1", "up1", "signed1",
    "map2", "up2", "signed2", "out", "out_c", "out_h", "out_w", "lo", "hi", "weights", "quant",
    "weight_bits", "kernel", "stride", "pad", "tile", "k", "groups", "kernel_w", "stride_w",
    "pad_left", "dilation", "dilation_w", "pad_value", "in_bytes", "bytes1", "out_bytes", "coef0",
    "coef1", "last",
)  # fmt: skip


# Buffers of EngineShape that grow with the network, each in steps of so many.
BUFFERS: Mapping[str, int] = {
    "mac_depth": 1024, "in_words": 1024, "band_depth": 512, "plane_words": 512, "out_words": 64,
}  # fmt: skip


@dataclass(frozen=True)
class EngineShape:
    """Sizes of the on-chip buffers (words of 64 bits unless said) and widths in bits.

    `mac_depth`: most steps of a dot product, and input planes. `in_words`: activations of a tile.
    `band_depth`: each of the four row banks. `plane_words`: largest plane of a deformable layer.
    `out_words`: widest row. `peaks`: most candidates. `out_bits`: 9 where all outputs are bytes,
    else 33.
    """

    mac_depth: int = 4096
    in_words: int = 16384
    band_depth: int = 512
    plane_words: int = 512
    out_words: int = 64
    peaks: int = 128
    weight_bits: int = 8
    acc_bits: int = 32
    mul_bits: int = 2
    sum_bits: int = 32
    out_bits: int = 9

    def buffers(self) -> dict[str, tuple[int, int, int, bool]]:
        """name -> (banks, words a bank, bits a word, two reads a cycle), as hls/engine.hpp."""
        return {
            "map": (1, self.mac_depth, 32, False),
            "in": (1, self.in_words, 64, False),
            "weight": (OC_PAR, self.mac_depth, self.weight_bits, False),
            "band": (BANKS, self.band_depth, 64, True),
            "plane": (OC_PAR, self.plane_words, 64, True),
            "dilation": (1, self.plane_words, 64, True),
            "out": (OC_PAR, self.out_words, 64, False),
        }

    def bytes(self) -> dict[str, int]:
        """Bytes of each on-chip buffer."""
        return {name: b * w * bits // 8 for name, (b, w, bits, _) in self.buffers().items()}

    def bram36(self) -> int:
        """Block RAMs of the buffers: each bank by itself, at the widths a 7-series BRAM36 offers.

        Banks of at most 64 words become LUT RAM and count as none.
        """
        return sum(
            banks * _bram36(words, bits, dual)
            for banks, words, bits, dual in self.buffers().values()
            if words > 64
        )


def _bram36(words: int, bits: int, dual: bool) -> int:
    """BRAM36 of one memory; the 72-bit width has one read port only."""
    modes = [(1024, 36), (2048, 18), (4096, 9), (8192, 4), (16384, 2), (32768, 1)]
    if not dual:
        modes.append((512, 72))
    return min(math.ceil(words / depth) * math.ceil(bits / width) for depth, width in modes)


@dataclass(frozen=True)
class View:
    """A tensor in memory: the word address of each plane, the stored size, the enlargement."""

    planes: tuple[int, ...]
    height: int
    width: int
    up: int
    dtype: IntType

    @property
    def bytes(self) -> int:
        """Bytes of a number; each has a plane of its own, the low one first."""
        return bytes_of(self.dtype)

    @property
    def pitch(self) -> int:
        """Words of a stored row."""
        return words_of(self.width)

    @property
    def plane_words(self) -> int:
        """Words of a stored plane."""
        return self.height * self.pitch


@dataclass(frozen=True)
class Step:
    """One layer of the program: the node it runs and the tensor it stores."""

    node: str
    tensor: str
    op: str


@dataclass(frozen=True)
class Program:
    """What the engine needs: program (layers, 32) int32, parameter words, a view a tensor."""

    shape: EngineShape
    words: np.ndarray
    params: np.ndarray
    views: Mapping[str, View]
    steps: tuple[Step, ...]
    act_words: int
    grown: tuple[str, ...] = ()  # which nodes need more than the usual buffers, in words


def bytes_of(dtype: IntType) -> int:
    """Bytes that a number takes in memory: 1, 2 or 4."""
    return 1 if dtype.bits <= 8 else 2 if dtype.bits <= 16 else 4


def words_of(pixels: int) -> int:
    """Memory words of a row of pixels."""
    return -(-pixels // PIX_PAR)


def shape_for(graph: Graph) -> EngineShape:
    """The default buffers with the narrowest requantiser (in bytes) that is exact for the graph."""
    mul_top, bits, wide = 1, 0, False
    for node in graph.nodes:
        if node.op not in REQUANTISED:
            continue
        wide = wide or node.attrs.out.bits > 8
        types = [t for i in node.inputs if isinstance(t := graph.tensors[i].dtype, IntType)]
        if node.op == "residual":
            ends = sum_range(node.attrs.coef, (types[0], types[1]))
            low, high = (np.full(len(graph.const(node, "mul")), end) for end in ends)
        else:
            low, high = dot_range(graph.const(node, "weight"), types[0])
        scales = (graph.const(node, role) for role in ("mul", "bias", "shift"))
        for lo, hi, mul, bias, shift in zip(low, high, *scales, strict=True):
            reach = max(-int(lo), int(hi)) * int(mul) + abs(int(bias))
            reach <<= max(0, -int(shift))
            bits = max(bits, reach.bit_length() + 2, int(shift) + 2)
            mul_top = max(mul_top, int(mul))
    mul_bits = 2 if mul_top == 1 else 8 * math.ceil((mul_top.bit_length() + 1) / 8)
    if wide:
        bits = max(bits, 34)
    return EngineShape(
        mul_bits=mul_bits, sum_bits=max(32, 8 * math.ceil(bits / 8)), out_bits=33 if wide else 9
    )


def compile_graph(graph: Graph, shape: EngineShape | None = None) -> Program:
    """Lay out memory and write the descriptor of every layer.

    Without a shape the buffers are as large as the graph needs. GraphError names a node the engine
    has no kernel for, ResourceError one that does not fit the given buffers.
    """
    needed = shape_for(graph)
    grown: tuple[str, ...] = ()
    if shape is None:
        first = _compile(graph, _Compiler(graph, needed, growing=True))
        if first.shape == needed:
            return first
        shape, grown = first.shape, first.grown  # once more, as tiles follow from the buffers
    widths = ("mul_bits", "sum_bits", "out_bits")
    if any(getattr(shape, name) < getattr(needed, name) for name in widths):
        wanted = ", ".join(f"{name} {getattr(needed, name)}" for name in widths)
        there = ", ".join(str(getattr(shape, name)) for name in widths)
        raise ResourceError(
            f"graph '{graph.name}' needs {wanted}; the engine has {there}"
        )
    return dataclasses.replace(_compile(graph, _Compiler(graph, shape)), grown=grown)


def _compile(graph: Graph, compiler: "_Compiler") -> Program:
    for name in graph.inputs:
        compiler.views[name] = compiler.store(graph.tensors[name])
    for node in graph.nodes:
        for name in (*node.inputs, node.output):
            _check_number(graph, node, name)
        compiler.node(node)
    words = np.zeros((len(compiler.layers), LAYER_WORDS), np.int32)
    for row, layer in zip(words, compiler.layers, strict=True):
        for key, number in layer.items():
            row[FIELDS.index(key)] = number
    return Program(
        compiler.shape, words, np.concatenate([*compiler.params, np.zeros(2, np.uint64)]),
        compiler.views, tuple(compiler.steps), compiler.act_words, tuple(compiler.grown.values()),
    )  # fmt: skip


def _check_number(graph: Graph, node: Node, name: str) -> None:
    tensor = graph.tensors[name]
    if node.op == "peaks" and name == node.output:
        return
    made = name == node.output and node.op in ("conv", "pw", "conv2d")
    wide = made or node.op in (*_MOVEMENTS, *_GATHERED, "residual", "threshold", "argmax")
    wide = wide or node.op == "group_sum"
    limit = 32 if wide else 8
    if not isinstance(tensor.dtype, IntType) or tensor.dtype.bits > limit or len(tensor.shape) != 3:
        raise GraphError(
            f"node '{node.name}' ({node.op}): tensor '{name}' is {tensor.dtype} {tensor.shape}; "
            f"the HLS engine has feature maps (C, H, W) of at most {limit} bits here; requantise it"
        )


@dataclass
class _Compiler:
    """The state of one compilation; when `growing`, buffers become as large as nodes need."""

    graph: Graph
    shape: EngineShape
    growing: bool = False
    views: dict[str, View] = field(default_factory=dict)
    layers: list[dict[str, int]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    params: list[np.ndarray] = field(default_factory=list)
    param_words: int = 0
    act_words: int = 0
    maps: dict[tuple[int, ...], int] = field(default_factory=dict)
    grown: dict[str, str] = field(default_factory=dict)

    def node(self, node: Node) -> None:
        """Add the layers of one node."""
        movement = _MOVEMENTS.get(node.op)
        if movement is not None and node.op == "upsample" and _odd_factor(node):
            movement = None
        if movement is not None:
            inputs = [self.views[i] for i in node.inputs]
            if len({v.up for v in inputs}) > 1:
                inputs = [self.stored(node, i) for i in node.inputs]
            self.views[node.output] = movement(node, inputs)
            if node.output in self.graph.outputs:
                self.stored(node, node.output)
            return
        encode = _ENCODERS.get("gather" if node.op in _GATHERED else node.op)
        if encode is None:
            known = ", ".join([*_ENCODERS, *_MOVEMENTS])
            raise GraphError(
                f"node '{node.name}': the HLS engine has no kernel for {node.op}; it has {known}"
            )
        layer = encode(self, node)
        op = "gather" if node.op in _GATHERED else node.op
        self.views[node.output] = self.finish(node.name, op, node.output, layer)

    def finish(self, name: str, op: str, tensor: str, layer: dict[str, int]) -> View:
        """Place the layer's output in memory and file its descriptor."""
        out = self.graph.tensors[tensor]
        view = self.store(out)
        shape = out.shape if op != "peaks" else (1, *out.shape)
        layer = {
            "op": OPCODES[op], "out": view.planes[0], "out_c": shape[0], "out_h": shape[1],
            "out_w": shape[2], "out_bytes": view.bytes if op != "peaks" else 1, **layer,
        }  # fmt: skip
        self.layers.append(layer)
        self.steps.append(Step(name, tensor, op))
        return view

    def store(self, tensor: Tensor) -> View:
        """New planes for a tensor; candidates (k, 8) of 16 bits take two words each."""
        assert isinstance(tensor.dtype, IntType)
        if len(tensor.shape) == 2:
            count, height, width = 1, tensor.shape[0], 2 * PIX_PAR
        else:
            count, height, width = tensor.shape
            count *= bytes_of(tensor.dtype)
        plane = height * words_of(width)
        planes = tuple(range(self.act_words, self.act_words + count * plane, plane))
        self.act_words += count * plane
        if self.act_words >= 1 << 31:
            raise ResourceError(f"tensor '{tensor.name}' lies beyond 2**31 words of memory")
        return View(planes, height, width, 0, tensor.dtype)

    def stored(self, node: Node, name: str) -> View:
        """The view of a tensor that lies in memory as it is, copied there first if need be."""
        view = self.views[name]
        if view.up == 0 and (name not in self.graph.outputs or _contiguous(view)):
            return view
        layer = self.read(node, name)
        pitch = words_of(layer["in_w"])
        layer["tile"] = self.band_rows(node, pitch)
        self.views[name] = self.finish(f"{name}.move", "move", name, layer)
        return self.views[name]

    def add_params(self, words: np.ndarray) -> int:
        """Append parameter words (uint64) and return the address of the first."""
        address = self.param_words
        flat = np.ascontiguousarray(words, dtype=np.uint64).reshape(-1)
        self.params.append(flat)
        self.param_words += flat.size
        return address

    def map(self, planes: tuple[int, ...]) -> int:
        """The address of a channel map: two plane addresses a word."""
        if planes not in self.maps:
            padded = np.array([*planes, *([0] * (len(planes) % 2))], dtype=np.uint32)
            self.maps[planes] = self.add_params(padded.view(np.uint64))
        return self.maps[planes]

    def read(self, node: Node, name: str) -> dict[str, int]:
        """The fields that describe input 0."""
        view = self.views[name]
        channels, height, width = self.graph.tensors[name].shape
        self.fit(node, "input planes", len(view.planes), "mac_depth")
        self.fit(node, "words of a row", words_of(width), "out_words")
        return {
            "in_map": self.map(view.planes), "in_c": channels, "in_h": height, "in_w": width,
            "in_up": view.up, "in_signed": int(view.dtype.signed), "in_bytes": view.bytes,
        }  # fmt: skip

    def fit(self, node: Node, what: str, needed: int, option: str, times: int = 1) -> None:
        """ResourceError unless a layer fits a buffer or a width; a buffer may grow first.

        One of `option` in EngineShape holds `times` of what is needed.
        """
        limit = times * int(getattr(self.shape, option))
        if needed <= limit:
            return
        step = BUFFERS.get(option)
        if self.growing and step is not None:
            size = step * math.ceil(needed / (times * step))
            self.shape = dataclasses.replace(self.shape, **{option: size})
            self.grown[option] = f"{node.name!r} ({node.op}) for {needed:,} {what}"
            return
        way = "" if step is None else f"; enlarge {option} of EngineShape"
        self.refuse(node, what, needed, limit, way)

    def refuse(self, node: Node, what: str, needed: int, limit: int, way: str) -> NoReturn:
        """The ResourceError of a layer that needs more of something than there is."""
        raise ResourceError(
            f"node '{node.name}' ({node.op}): {needed:,} {what}, the HLS engine holds {limit:,}"
            f"{way}"
        )

    def band_rows(self, node: Node, pitch: int) -> int:
        """Rows of `pitch` words the row buffer holds."""
        self.fit(node, "words of a row", pitch, "band_depth")
        return BANKS * (self.shape.band_depth // pitch)

    def quant(self, node: Node, channels: int) -> np.ndarray:
        """(channels, 2) words: mul and shift, bias; channels past the last are zero."""
        words = np.zeros((channels, 2), np.uint64)
        mul, bias, shift = (self.graph.const(node, role) for role in ("mul", "bias", "shift"))
        words[: len(mul), 0] = mul.astype(np.uint64) | (
            shift.view(np.uint8).astype(np.uint64) << np.uint64(32)
        )
        words[: len(mul), 1] = np.ascontiguousarray(bias).view(np.uint64)
        return words

    def arithmetic(self, node: Node) -> dict[str, int]:
        """Clamp limits of a convolution, after checking its widths."""
        self.fit(node, "bits of accumulator", node.attrs.acc_bits, "acc_bits")
        self.fit(node, "bits of weight", node.attrs.weight_bits, "weight_bits")
        return {"lo": node.attrs.out.lo, "hi": node.attrs.out.hi}

    def array(self, node: Node, depth: int, groups: int = 1) -> dict[str, int]:
        """Weights and requantisers of the multiply array, `depth` steps an output."""
        self.fit(node, "steps of the multiply array", depth, "mac_depth")
        weight = self.graph.const(node, "weight").reshape(groups, -1, depth)
        size = weight.shape[1]
        tiles = -(-size // OC_PAR)
        padded = np.zeros((groups, tiles * OC_PAR, depth), np.int8)
        padded[:, :size] = weight
        lanes = np.ascontiguousarray(padded.reshape(-1, OC_PAR, depth).swapaxes(1, 2))
        quant = np.zeros((groups, tiles * OC_PAR, 2), np.uint64)
        quant[:, :size] = self.quant(node, groups * size).reshape(groups, size, 2)
        bits = 4 if node.attrs.weight_bits <= 4 else 8
        packed: np.ndarray = lanes.view(np.uint8)
        if bits == 4:
            packed = (packed[..., 0::2] & 15) | (packed[..., 1::2] << 4)
        return {
            **self.arithmetic(node),
            "weights": self.add_params(np.ascontiguousarray(packed).view(np.uint64)),
            "quant": self.add_params(quant),
            "weight_bits": bits,
        }

    def channels(self, node: Node) -> dict[str, int]:
        """Weights and requantisers of a depthwise layer: four words a channel."""
        weight = self.graph.const(node, "weight").reshape(-1, 9)
        packed = np.zeros((weight.shape[0], 16), np.uint8)
        packed[:, :9] = weight.view(np.uint8)
        words = np.concatenate(
            [packed.view(np.uint64), self.quant(node, weight.shape[0])], axis=1
        )
        return {**self.arithmetic(node), "weights": self.add_params(words)}

    def window(self, node: Node, kernel: int, stride: int, pad: int) -> dict[str, int]:
        """The fields of a layer that sweeps a plane with a window."""
        if not (kernel <= 3 and stride in (1, 2) and pad in (0, 1)):
            raise GraphError(
                f"node '{node.name}' ({node.op}): kernel {kernel}, stride {stride}, pad {pad}; the "
                "HLS engine has windows of at most 3 with stride 1 or 2 and pad 0 or 1"
            )
        layer = self.read(node, node.inputs[0])
        rows = self.band_rows(node, words_of(layer["in_w"]))
        return {
            **layer, "kernel": kernel, "stride": stride, "pad": pad,
            "tile": (rows - kernel) // stride + 1,
        }  # fmt: skip


def _contiguous(view: View) -> bool:
    first, step = view.planes[0], view.plane_words
    return view.planes == tuple(range(first, first + step * len(view.planes), step))


def _slice(node: Node, inputs: Sequence[View]) -> View:
    size = inputs[0].bytes
    part = slice(node.attrs.start * size, node.attrs.stop * size)
    return dataclasses.replace(inputs[0], planes=inputs[0].planes[part])


def _concat(node: Node, inputs: Sequence[View]) -> View:
    return dataclasses.replace(inputs[0], planes=tuple(p for v in inputs for p in v.planes))


def _shuffle(node: Node, inputs: Sequence[View]) -> View:
    planes, groups, wide = inputs[0].planes, node.attrs.groups, inputs[0].bytes
    size = len(planes) // wide // groups
    order = tuple(
        planes[(g * size + k) * wide + b]
        for k in range(size) for g in range(groups) for b in range(wide)
    )  # fmt: skip
    return dataclasses.replace(inputs[0], planes=order)


def _odd_factor(node: Node) -> bool:
    """An enlargement that is no shift of addresses."""
    return bool(node.attrs.factor & (node.attrs.factor - 1))


def _upsample(node: Node, inputs: Sequence[View]) -> View:
    factor = node.attrs.factor
    return dataclasses.replace(inputs[0], up=inputs[0].up + factor.bit_length() - 1)


def _pw(compiler: _Compiler, node: Node) -> dict[str, int]:
    compiler.stored(node, node.inputs[0])
    layer = compiler.read(node, node.inputs[0])
    widest = compiler.shape.out_words // bytes_of(node.attrs.out)
    compiler.fit(node, "input channels", layer["in_c"], "in_words")
    tile = min(widest, compiler.shape.in_words // layer["in_c"])
    return {**layer, **compiler.array(node, layer["in_c"]), "tile": tile}


def _conv(compiler: _Compiler, node: Node) -> dict[str, int]:
    compiler.stored(node, node.inputs[0])
    layer = compiler.read(node, node.inputs[0])
    attrs = node.attrs
    depth = layer["in_c"] * attrs.kernel**2
    rows = layer["in_c"] * attrs.kernel * words_of(layer["in_w"])
    if rows > BANKS * compiler.shape.band_depth:  # conv2d loads the rows of some channels at a time
        return {**_conv_in_parts(compiler, node, layer), "op": OPCODES["conv2d"]}
    compiler.fit(node, "steps of the multiply array", depth, "in_words")
    shape = compiler.shape
    tile = min(shape.out_words // bytes_of(attrs.out), shape.in_words // depth)
    return {
        **layer, **compiler.array(node, depth), "kernel": attrs.kernel, "stride": attrs.stride,
        "pad": attrs.pad, "tile": tile,
    }  # fmt: skip


def _conv_in_parts(compiler: _Compiler, node: Node, layer: dict[str, int]) -> dict[str, int]:
    """A dense convolution of many channels as the conv2d it is."""
    a = node.attrs
    attrs = Conv2dAttrs(
        (a.kernel,) * 2, (a.stride,) * 2, (a.pad,) * 4, (1, 1), 1, 0, a.weight_bits, a.acc_bits,
        a.out.lo, a.out.hi, a.out,
    )  # fmt: skip
    return _conv2d_layer(compiler, node, layer, attrs)


def _window2d(attrs: Conv2dAttrs | Maxpool2dAttrs) -> dict[str, int]:
    return {
        "kernel": attrs.kernel[0], "kernel_w": attrs.kernel[1], "stride": attrs.stride[0],
        "stride_w": attrs.stride[1], "pad": attrs.pads[0], "pad_left": attrs.pads[1],
        "dilation": attrs.dilation[0], "dilation_w": attrs.dilation[1],
    }  # fmt: skip


def _conv2d(compiler: _Compiler, node: Node) -> dict[str, int]:
    compiler.stored(node, node.inputs[0])
    layer = compiler.read(node, node.inputs[0])
    return _conv2d_layer(compiler, node, layer, node.attrs)


def _conv2d_layer(
    compiler: _Compiler, node: Node, layer: dict[str, int], attrs: Conv2dAttrs
) -> dict[str, int]:
    depth = layer["in_c"] // attrs.groups * attrs.kernel[0] * attrs.kernel[1]
    rows = attrs.kernel[0] * words_of(layer["in_w"])
    compiler.fit(node, "words of input rows", rows, "band_depth", BANKS)
    compiler.fit(node, "steps of the multiply array", depth, "in_words")
    shape = compiler.shape
    return {
        **layer, **compiler.array(node, depth, attrs.groups), **_window2d(attrs),
        "lo": attrs.lo, "hi": attrs.hi, "groups": attrs.groups, "pad_value": attrs.pad_value,
        "tile": min(shape.out_words // bytes_of(attrs.out), shape.in_words // depth),
    }  # fmt: skip


def _maxpool2d(compiler: _Compiler, node: Node) -> dict[str, int]:
    compiler.stored(node, node.inputs[0])
    layer = compiler.read(node, node.inputs[0])
    rows = node.attrs.kernel[0] * words_of(layer["in_w"])
    compiler.fit(node, "words of input rows", rows, "band_depth", BANKS)
    return {**layer, **_window2d(node.attrs)}


def _residual(compiler: _Compiler, node: Node) -> dict[str, int]:
    for name in node.inputs:
        compiler.stored(node, name)
    layer, attrs = compiler.read(node, node.inputs[0]), node.attrs
    other = compiler.views[node.inputs[1]]
    compiler.fit(node, "bits of accumulator", attrs.acc_bits, "acc_bits")
    return {
        **layer, "map1": compiler.map(other.planes), "signed1": int(other.dtype.signed),
        "bytes1": other.bytes, "coef0": attrs.coef[0], "coef1": attrs.coef[1], "lo": attrs.lo,
        "hi": attrs.hi, "quant": compiler.add_params(compiler.quant(node, layer["in_c"])),
    }  # fmt: skip


def _threshold(compiler: _Compiler, node: Node) -> dict[str, int]:
    compiler.stored(node, node.inputs[0])
    layer, table = compiler.read(node, node.inputs[0]), compiler.graph.const(node, "thresholds")
    if table.shape[1] > LEVELS:
        compiler.refuse(node, "thresholds of a channel", table.shape[1], LEVELS, "")
    size = max(2, 1 << (table.shape[1] - 1).bit_length())
    places = np.full((table.shape[0], size), np.iinfo(np.int32).max, np.int64)
    places[:, : table.shape[1]] = table
    dtype = compiler.views[node.inputs[0]].dtype
    if dtype.hi >= np.iinfo(np.int32).max:
        raise GraphError(f"node '{node.name}' (threshold): its input is {dtype}; nearest: 31 bits")
    clipped = np.clip(places, np.iinfo(np.int32).min, np.iinfo(np.int32).max).astype("<i4")
    return {**layer, "weights": compiler.add_params(clipped.view("<u8")), "lo": node.attrs.lo,
            "k": size}  # fmt: skip


def _tables(compiler: _Compiler, node: Node) -> dict[str, int]:
    """Wires as plane * 8 + bit, two a word, then the codes, eight a word; table after table."""
    compiler.stored(node, node.inputs[0])
    wires, values = (compiler.graph.const(node, role) for role in ("wires", "values"))
    count, bits = wires.shape
    planes = np.array(compiler.views[node.inputs[0]].planes, np.int64)
    channel, bit = np.divmod(wires, node.attrs.code_bits)
    places = np.zeros((count, bits + bits % 2), np.int64)
    places[:, :bits] = planes[channel] * 8 + bit
    if places.max() >= 1 << 32:
        raise ResourceError(f"node '{node.name}' (tables): its input lies beyond 4 GiB")
    codes = np.zeros((count, max(8, 1 << bits)), np.uint8)
    codes[:, : 1 << bits] = (values & 255).astype(np.uint8)
    words = [places.astype("<u4").view("<u8"), codes.view("<u8")]
    layer = compiler.read(node, node.inputs[0])
    return {**layer, "weights": compiler.add_params(np.concatenate(words, axis=1)), "k": bits}


def _group_sum(compiler: _Compiler, node: Node) -> dict[str, int]:
    compiler.stored(node, node.inputs[0])
    return compiler.read(node, node.inputs[0])


def _argmax(compiler: _Compiler, node: Node) -> dict[str, int]:
    compiler.stored(node, node.inputs[0])
    return {**compiler.read(node, node.inputs[0]), "last": int(node.attrs.last)}


def _gather(compiler: _Compiler, node: Node) -> dict[str, int]:
    """A table of byte addresses, from what the op does to the places of its input."""
    compiler.stored(node, node.inputs[0])
    view, shape = compiler.views[node.inputs[0]], compiler.graph.tensors[node.inputs[0]].shape
    compiler.fit(node, "words of a row", words_of(compiler.graph.tensors[node.output].shape[2]),
                 "out_words")  # fmt: skip
    flat = np.arange(1, 1 + int(np.prod(shape)), dtype=np.int64).reshape(shape)
    order = OPS[node.op].golden((flat,), node.attrs, compiler.graph.consts(node))  # 0: outside
    c, y, x = np.unravel_index(np.maximum(order - 1, 0), shape)
    planes = np.array(view.planes, np.int64)
    rows = [
        8 * (planes[c * view.bytes + b] + y * view.pitch + x // PIX_PAR) + x % PIX_PAR
        for b in range(view.bytes)
    ]
    found = [np.where(order > 0, row, NOWHERE) for row in rows]
    table = np.stack(found, axis=1).ravel()
    if max(int(row.max()) for row in rows) >= NOWHERE:
        raise ResourceError(f"node '{node.name}' ({node.op}): its input lies beyond 4 GiB")
    padded = np.zeros(table.size + table.size % 2, "<u4")
    padded[: table.size] = table
    return {"weights": compiler.add_params(padded.view("<u8")), "in_bytes": 1}


def _dw(compiler: _Compiler, node: Node) -> dict[str, int]:
    attrs = node.attrs
    window = compiler.window(node, attrs.kernel, attrs.stride, attrs.pad)
    return {**window, **compiler.channels(node)}


def _deform_dw(compiler: _Compiler, node: Node) -> dict[str, int]:
    layer = compiler.read(node, node.inputs[0])
    s = compiler.views[node.inputs[1]]
    for what, view in (("a plane", compiler.views[node.inputs[0]]), ("the dilations", s)):
        compiler.fit(node, f"words of {what}", view.plane_words, "plane_words")
    return {
        **layer, **compiler.channels(node), "map1": compiler.map(s.planes), "up1": s.up,
    }  # fmt: skip


def _maxpool(compiler: _Compiler, node: Node) -> dict[str, int]:
    return compiler.window(node, node.attrs.kernel, node.attrs.stride, node.attrs.pad)


def _peaks(compiler: _Compiler, node: Node) -> dict[str, int]:
    layer = compiler.window(node, 3, 1, 1)
    compiler.fit(node, "candidates", node.attrs.k, "peaks")
    if max(layer["in_h"], layer["in_w"]) > 1 << PLACE_BITS:
        side = max(layer["in_h"], layer["in_w"])
        compiler.refuse(node, "rows or columns", side, 1 << PLACE_BITS, "")
    size, offset = (compiler.views[i] for i in node.inputs[1:])
    return {
        **layer, "k": node.attrs.k, "out_h": layer["in_h"], "out_w": layer["in_w"],
        "map1": compiler.map(size.planes), "up1": size.up, "signed1": int(size.dtype.signed),
        "map2": compiler.map(offset.planes), "up2": offset.up,
        "signed2": int(offset.dtype.signed),
    }  # fmt: skip


_GATHERED = ("rearrange", "resize", "upsample", "patches")
_Movement = Callable[[Node, Sequence[View]], View]
_Encoder = Callable[[_Compiler, Node], dict[str, int]]
_MOVEMENTS: Mapping[str, _Movement] = {
    "slice": _slice, "concat": _concat, "shuffle": _shuffle, "upsample": _upsample,
}  # fmt: skip
_ENCODERS: Mapping[str, _Encoder] = {
    "conv": _conv, "pw": _pw, "dw": _dw, "deform_dw": _deform_dw, "maxpool": _maxpool,
    "peaks": _peaks, "conv2d": _conv2d, "maxpool2d": _maxpool2d, "residual": _residual,
    "threshold": _threshold, "argmax": _argmax, "gather": _gather, "tables": _tables,
    "group_sum": _group_sum,
}  # fmt: skip
