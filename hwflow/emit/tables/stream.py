# SPDX-License-Identifier: Apache-2.0
"""Convolutional networks of tables: one position of the image a clock, tables reused in time.

A network is segments in a row: a window of the map before (`patches`: hdl/tables/line_window.sv)
or a max pool (hdl/tables/code_pool.sv), then tables that look at one window alone, whose netlist is
that of a network of one position. What comes behind the last window (from the first flattening or
sum on) reads the whole last map, gathered by hdl/tables/map_shift.sv, as a core of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from hwflow.emit.tables import core, write
from hwflow.emit.tables.core import Design, Options, Part
from hwflow.emit.tables.lower import Codes, Lowered, lower, lower_codes
from hwflow.errors import GraphError
from hwflow.ir import Graph, GraphBuilder, Node, Tensor
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.types import int_type

CORE = "tables_stream_core"
WINDOWS = ("patches", "maxpool", "maxpool2d")
POSITIONWISE = ("threshold", "tables", "concat", "slice")
MODULES = ("tables/line_window.sv", "tables/code_pool.sv", "tables/map_shift.sv")
"""The modules below hdl/ that a core instantiates."""


@dataclass(frozen=True)
class Window:
    """A sliding window over a map (channels, height, width) of codes.

    taps: the window's (i, j) that are read, in the order of the channels of `patches`.
    """

    name: str
    pool: bool
    shape: tuple[int, int, int]
    bits: int
    signed: bool
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    taps: tuple[tuple[int, int], ...]
    out: tuple[int, int]

    @property
    def latency(self) -> int:
        """Clocks from the element that completes a window to its result."""
        return 1 + int(any(self.pads)) + int(self.pool)

    @property
    def lag(self) -> int:
        """Elements by which windows come later than their last tap, moved into the map."""
        return self.pads[2] * self.shape[2] + self.pads[3]

    def completes(self, place: int) -> int:
        """The element with which the window of a place of the result is complete; it may be one
        behind the map."""
        y, x = divmod(place, self.out[1])
        row = y * self.stride[0] + self.kernel[0] - 1 - self.pads[0]
        return row * self.shape[2] + x * self.stride[1] + self.kernel[1] - 1 - self.pads[1]


@dataclass(frozen=True)
class Plan:
    """The segments of a network: each a window (None: the image itself) and a graph of one position
    (None: nothing but the window), and the graph of the last map."""

    segments: tuple[tuple[Window | None, Graph | None], ...]
    dense: Graph


def streams(graph: Graph) -> bool:
    """Whether a network of tables has windows, so that its core takes one position a clock."""
    return any(node.op in WINDOWS for node in graph.nodes)


def plan(graph: Graph) -> Plan:
    """The segments of a network; GraphError naming the node that does not fit this form."""
    if len(graph.inputs) != 1:
        raise GraphError(f"graph '{graph.name}' has {len(graph.inputs)} inputs; tables take one")
    current = graph.tensors[graph.inputs[0]]
    if len(current.shape) != 3:
        raise GraphError(f"the input is {current.shape}; give maps (channels, height, width)")
    segments: list[tuple[Window | None, Graph | None]] = []
    window: Window | None = None
    pending: list[Node] = []  # of one position, since the last window
    rest = list(graph.nodes)

    def close() -> None:
        segments.append((window, _part(graph, current, pending, 1) if pending else None))

    last = max(i for i, node in enumerate(rest) if node.op in WINDOWS)
    for index, node in enumerate(rest):
        if index <= last and node.op in WINDOWS:
            at = pending[-1].output if pending else current.name
            if node.inputs != (at,):
                raise GraphError(
                    f"node '{node.name}' ({node.op}) reads {', '.join(node.inputs)}; in a core "
                    f"that streams it can only follow '{at}'"
                )
            close()
            window = _window(graph, node)
            current, pending = graph.tensors[node.output], []
        elif node.op in POSITIONWISE and (index < last or current.shape[1:] != (1, 1)):
            pending.append(node)
        elif index < last:
            raise GraphError(
                f"node '{node.name}' ({node.op}) lies before a window; in a core that streams only "
                f"{', '.join((*WINDOWS, *POSITIONWISE))} can"
            )
        else:
            rest = rest[index:]
            break
    else:
        rest = []
    close()
    final = graph.tensors[pending[-1].output] if pending else current
    return Plan(tuple(segments), _part(graph, final, rest, None))


def emit(graph: Graph, options: Options) -> Design:
    """The core `tables_stream_core`, with the package `tables_pkg` of its sizes.

    Raises GraphError naming the node that is not of such a network, ConfigError on wrong options.
    """
    to = core.checked(options)
    planned = plan(graph)
    source = graph.tensors[graph.inputs[0]]
    kind, (channels, height, width) = int_type(source), source.shape
    files: dict[str, str] = {}
    parts: dict[str, Part] = {}
    text: list[str] = []
    bus = _Bus("in_valid", _interleaved("in_position", channels, kind.bits))
    # clocks from the last position of the image until an element is there
    times = [i - height * width + 1 for i in range(height * width)]
    layers = encoders = windows = 0
    for number, (window, inner) in enumerate(planned.segments):
        if window is not None:
            windows += 1
            bus, lines = _window_text(window, number, bus)
            text += lines
            times = _times(window, times)
        read = frozenset(range(len(_bits(bus))))
        if inner is not None:
            made = lower_codes(inner, to, options.table_levels, layers, encoders)
            layers += sum(node.op == "tables" for node in inner.nodes)
            encoders += sum(node.op == "threshold" for node in inner.nodes)
            bus, lines, found = _layer_text(inner, made, number, bus, to)
            read = found.read
            text += lines
            times = [t + made.stage for t in times]
        if window is not None:
            parts[f"window{windows}"] = window_part(window, to.name, read)
        if inner is not None:
            files |= found.files
            parts |= found.parts
    carry = options.carry and to.carry
    dense = planned.dense
    made_dense = lower(
        dense, to, options.table_levels, options.head_levels, carry, layers, encoders
    )
    last = dense.tensors[dense.inputs[0]]
    area = last.shape[1] * last.shape[2]
    wait = times[-1]
    if area > 1:
        bus, lines = _gathered(last, bus)
        text += lines
        wait += 1
    lines, found = _dense_text(dense, made_dense, bus, to)
    text += lines
    files |= found.files
    if area > 1:
        parts["map"] = map_part(last, to.name, found.read)
    parts |= found.parts
    classes, score_bits = len(made_dense.scores), len(made_dense.scores[0])
    # negative where no window takes the last rows: the class is there before the last position
    latency, score_latency = wait + made_dense.class_stage, wait + made_dense.score_stage
    # every window may hold an image back until the next one has come this far
    in_flight = 2 + windows + max(0, latency) // (height * width)
    sizes = {
        "PIXELS": (channels * height * width, "elements of an image"),
        "PIXEL_W": (kind.bits, "bits of an element"),
        "CHANNELS": (channels, "elements of a position"),
        "CLASSES": (classes, ""),
        "CLASS_W": (len(made_dense.class_bits), "bits of the class"),
        "SCORE_W": (score_bits, "bits of the score of a class"),
        "LATENCY": (max(0, latency), "clocks from the last position of an image to its class"),
        "SCORE_LAG": (
            made_dense.class_stage - made_dense.score_stage, "clocks from its scores to its class"
        ),
        "STREAMING": (1, "a position a clock"),
        "IN_FLIGHT": (1 << (in_flight - 1).bit_length(), "images, at most, a power of two"),
    }
    files[f"{core.PACKAGE}.sv"] = core.package(sizes)
    files[f"{CORE}.sv"] = core.file_text(
        _module(text, channels * kind.bits, len(made_dense.class_bits), classes * score_bits, to)
    )
    return Design(
        top=CORE, files=files, pixels=channels * height * width, pixel_bits=kind.bits,
        classes=classes, class_bits=len(made_dense.class_bits), score_bits=score_bits,
        score_offset=made_dense.score_offset, latency=latency, score_latency=score_latency,
        parts=parts, streaming=True, channels=channels,
    )  # fmt: skip


# --- the plan ----------------------------------------------------------------------------------


def _part(graph: Graph, start: Tensor, nodes: Sequence[Node], area: int | None) -> Graph:
    """Nodes as a graph of their own that reads `start`; area 1: of one position of it."""
    builder = GraphBuilder(graph.name)
    shape = start.shape if area is None else (start.shape[0], 1, 1)
    known = {start.name: builder.input("codes", shape, start.dtype)}
    for node in nodes:
        for name in node.inputs:
            if name not in known:
                raise GraphError(
                    f"node '{node.name}' ({node.op}) reads '{name}' across a window or from before "
                    "the last map; in a core that streams layers can only follow each other"
                )
        inputs = [known[name] for name in node.inputs]
        known[node.output] = builder.add(
            node.name, node.op, inputs, node.attrs, graph.consts(node)
        )
    return builder.build([known[nodes[-1].output if nodes else start.name]])


def _window(graph: Graph, node: Node) -> Window:
    """The window of a `patches` or max pool node."""
    tensor = graph.tensors[node.inputs[0]]
    channels, height, width = tensor.shape
    _, out_height, out_width = graph.tensors[node.output].shape
    kind, attrs = int_type(tensor), node.attrs
    if isinstance(attrs, MaxpoolAttrs):
        kernel, stride = (attrs.kernel,) * 2, (attrs.stride,) * 2
        pads, dilation = (attrs.pad,) * 4, (1, 1)
    else:
        kernel, stride, pads, dilation = attrs.kernel, attrs.stride, attrs.pads, attrs.dilation
    if node.op != "patches" and dilation != (1, 1):
        raise GraphError(
            f"node '{node.name}' ({node.op}) has dilation {dilation}; pools that stream have none"
        )
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    taps = tuple(
        (i * dilation[0], j * dilation[1]) for i in range(kernel[0]) for j in range(kernel[1])
    )
    window = Window(
        node.name, node.op != "patches", (channels, height, width), kind.bits, kind.signed,
        (reach[0], reach[1]), stride, pads, taps, (out_height, out_width),
    )  # fmt: skip
    if (
        pads[0] + pads[2] >= reach[0] or pads[1] + pads[3] >= reach[1]
        or window.lag >= height * width
    ):
        raise GraphError(
            f"node '{node.name}' ({node.op}): pads {pads} around a map of {height} x {width} for a "
            f"window of {reach[0]} x {reach[1]}; opposite pads must be less than the window, and "
            "the rows below less than the map"
        )
    return window


# What a chip's memory in lookup tables is made of: words of a cell, its bits, the lookup tables it
# takes; a block of its own memory is chosen instead of so many cells for each 36 bits.
ROWS: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "xilinx": ((32, 6, 4), (64, 3, 4)), "ecp5": ((16, 4, 4),),
}
BLOCK = 16
SHORTEST, LONGEST = 3, 32  # registers in a row that Yosys makes a shift register in a lookup table


def window_part(window: Window, target: str, read: Collection[int]) -> Part:
    """What a window or a pool takes on a chip, not less and a little more: memory of its rows,
    counters, masks of what lies outside of the map, comparators, shift registers.

    read: numbers of the bits of its result on which something depends; of a pool all matter.
    """
    kh, kw = window.kernel
    channels, height, width = window.shape
    element = channels * window.bits
    sizes = [height * width + 1, height + kh, width + kw, kh + window.stride[0] + 1,
             kw + window.stride[1] + 1, width]  # of the counters
    widths = [max(1, (size - 1).bit_length()) for size in sizes]
    luts = -(-13 * sum(widths) // 10) + 4
    carries = 1 + sum(-(-bits // 4) for bits in widths)
    registers = sum(widths) + 4
    memory, block = _rows(target, width, (kh - 1) * element)
    taps = _taps(window, read)
    for (row, _), seen in taps.items():
        above = row < kh - 1 and not block  # the word read ahead, which is written again but for
        chain = [row > 0, *seen] if above else seen  # its first row
        tables, flops = _chain(chain, target)
        luts += tables
        registers += flops
    if any(window.pads):
        masks = {(row, j) for (row, _), seen in taps.items() for j, one in enumerate(seen) if one}
        luts += len(masks) + 2 * (kh + kw) + 4
        carries += sum(-(-(bits + 1) // 4) for bits in widths[1:2])
        registers += sum(map(sum, taps.values())) + kh + kw + 1
    if window.pool:  # of codes of one bit an OR, of few bits a function of both, else a comparison
        pairs, bits = kh * kw - 1, window.bits
        one = bits + 1 if bits <= 3 else 2 * bits
        luts += element * -(-pairs // 5) if bits == 1 else channels * pairs * one
        registers += element + 1
    return Part(luts + memory, carries, 0, registers)


def map_part(tensor: Tensor, target: str, read: Collection[int]) -> Part:
    """What the last map takes: registers or shift registers, and a counter. read: numbers of its
    bits (c, y, x) on which something depends."""
    channels, height, width = tensor.shape
    bits, area = int_type(tensor).bits, height * width
    luts, registers = 6, area.bit_length() + 1
    for channel in range(channels):
        for bit in range(bits):
            places = range((channel * area + area - 1) * bits + bit, channel * area * bits - 1,
                           -bits)
            tables, flops = _chain([place in read for place in places], target)
            luts += tables
            registers += flops
    return Part(luts, 1, 0, registers)


def _rows(target: str, width: int, bits: int) -> tuple[int, bool]:
    """Lookup tables of a memory of `width` words, and whether it is one of blocks instead."""
    if not bits or width == 1:
        return 0, False
    cells, cost = min(
        ((-(-width // words) * -(-bits // wide), luts) for words, wide, luts in
         ROWS.get(target, ())), default=(0, 0),
    )
    if not cells or cells > BLOCK * -(-bits // 36):
        return 0, True
    words = ROWS[target][-1][0]
    return cells * cost + (bits * -(-(-(-width // words) - 1) // 3)), False


def _taps(window: Window, read: Collection[int]) -> dict[tuple[int, int], list[bool]]:
    """Which registers are read, in the order in which an element passes them, for each row of the
    window and bit of an element."""
    kh, kw = window.kernel
    element = window.shape[0] * window.bits
    seen = {(row, bit): [window.pool] * kw for row in range(kh) for bit in range(element)}
    if not window.pool:
        for bit in read:
            tap, low = divmod(bit, window.bits)
            channel, place = divmod(tap, len(window.taps))
            row, column = window.taps[place]
            seen[row, channel * window.bits + low][kw - 1 - column] = True
    return seen


def _chain(read: Sequence[bool], target: str) -> tuple[int, int]:
    """Lookup tables that are shift registers, and flip-flops, of registers in a row of which some
    are read; those behind the last of these are left out."""
    tables = flops = run = 0
    for seen in read:
        run += 1
        if seen:
            shifted = target == "xilinx" and run >= SHORTEST
            tables += -(-run // LONGEST) if shifted else 0
            flops += 0 if shifted else run
            run = 0
    return tables, flops


def _times(window: Window, times: Sequence[int]) -> list[int]:
    """When the windows are there, from when the elements of the map are, with nothing behind it."""
    end = len(times) - 1
    found = []
    for place in range(window.out[0] * window.out[1]):
        element = window.completes(place)
        found.append(times[min(element, end)] + max(0, element - end) + window.latency)
    return found


# --- its text ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bus:
    """Where the bits of a tensor are: `bits[e][b]` is the text of bit b of element e."""

    valid: str
    bits: Sequence[Sequence[str]]


def _interleaved(name: str, channels: int, bits: int) -> list[list[str]]:
    return [[f"{name}[{c * bits + b}]" for b in range(bits)] for c in range(channels)]


def _bits(bus: _Bus) -> list[str]:
    return [bit for element in bus.bits for bit in element]


def _flat(bus: _Bus) -> str:
    return core.word(_bits(bus))


def _declared(name: str, bits: int) -> list[str]:
    return [
        "  /* verilator lint_off UNUSEDSIGNAL */", f"  logic [{bits - 1}:0] {name};",
        "  /* verilator lint_on UNUSEDSIGNAL */",
    ]  # fmt: skip


def _instance(
    module: str, name: str, params: Mapping[str, str], pins: Mapping[str, str]
) -> list[str]:
    pins = {"clk": "clk", "rst": "rst", "en": "en"} | dict(pins)
    return [
        f"  {module} #(", ",\n".join(f"      .{k}({v})" for k, v in params.items()),
        f"  ) {name} (", ",\n".join(f"      .{k}({v})" for k, v in pins.items()), "  );",
    ]  # fmt: skip


def _window_text(window: Window, number: int, bus: _Bus) -> tuple[_Bus, list[str]]:
    """The window's module and the bus behind it."""
    channels, height, width = window.shape
    element = channels * window.bits
    top, left, bottom, right = window.pads
    sizes = {
        "MAP_H": height, "MAP_W": width, "KH": window.kernel[0], "KW": window.kernel[1],
        "STRIDE_H": window.stride[0], "STRIDE_W": window.stride[1],
        "TOP": top, "LEFT": left, "BOTTOM": bottom, "RIGHT": right,
    }  # fmt: skip
    params = {name: str(value) for name, value in sizes.items()}
    valid, out = f"window{number}_valid", f"window{number}"
    pins = {"in_valid": bus.valid, "in_data": _flat(bus), "out_valid": valid}
    if window.pool:
        params = {"CHANNELS": str(channels), "CODE_W": str(window.bits),
                  "SIGNED": f"1'b{int(window.signed)}"} | params  # fmt: skip
        lines = [
            f"  // {window.name}", f"  logic {valid};", *_declared(out, element),
            *_instance("code_pool", f"u_{out}", params, pins | {"out_data": out}),
        ]
        return _Bus(valid, _interleaved(out, channels, window.bits)), lines
    params = {"BITS": str(element)} | params
    lines = [
        f"  // {window.name}", f"  logic {valid};",
        *_declared(out, window.kernel[0] * window.kernel[1] * element),
        *_instance("line_window", f"u_{out}", params, pins | {"window": out}),
    ]
    bits = [
        [
            f"{out}[{(i * window.kernel[1] + j) * element + c * window.bits + b}]"
            for b in range(window.bits)
        ]
        for c in range(channels) for i, j in window.taps
    ]  # fmt: skip
    return _Bus(valid, bits), lines


def _layer_text(
    graph: Graph, made: Codes, number: int, bus: _Bus, to: write.Target
) -> tuple[_Bus, list[str], core.PartText]:
    """The netlist of one position, and the bus of its codes."""
    wanted = [x for code in made.outputs for x in code]
    found = core.part_text(graph, made, wanted, _bits(bus), to, f"s{number}_n")
    text = [*found.declared, *found.instances]
    valid = bus.valid
    if made.stage:
        valid = f"layers{number}_valid"
        text += [f"  logic {valid};", *_delayed(valid, bus.valid, made.stage)]
    codes = [[core.literal(x, found.name) for x in code] for code in made.outputs]
    return _Bus(valid, codes), text, found


def _delayed(name: str, source: str, clocks: int) -> list[str]:
    """`name` is `source` so many moves later, at least one."""
    shift = f"{name}_q"
    return [
        f"  logic [{clocks - 1}:0] {shift};",
        "  always_ff @(posedge clk) begin",
        f"    if (rst) {shift} <= '0;",
        f"    else if (en) {shift} <= {clocks}'({{{shift}, {source}}});",
        "  end",
        f"  assign {name} = {shift}[{clocks - 1}];",
    ]


def _gathered(tensor: Tensor, bus: _Bus) -> tuple[_Bus, list[str]]:
    """The last map as one word, and its elements (c, y, x) in order."""
    channels, height, width = tensor.shape
    bits = int_type(tensor).bits
    element = channels * bits
    params = {"BITS": str(element), "COUNT": str(height * width)}
    pins = {"in_valid": bus.valid, "in_data": _flat(bus), "out_valid": "map_valid", "map": "map"}
    lines = [
        "  // the last map", "  logic map_valid;", *_declared("map", element * height * width),
        *_instance("map_shift", "u_map", params, pins),
    ]
    place = [
        [f"map[{p * element + c * bits + b}]" for b in range(bits)]
        for c in range(channels) for p in range(height * width)
    ]  # fmt: skip
    return _Bus("map_valid", place), lines


def _dense_text(
    graph: Graph, made: Lowered, bus: _Bus, to: write.Target
) -> tuple[list[str], core.PartText]:
    """What is behind the last map, up to the outputs."""
    wanted = [*made.class_bits, *(x for score in made.scores for x in score)]
    found = core.part_text(graph, made, wanted, _bits(bus), to)
    scores = [core.literal(x, found.name) for score in made.scores for x in score]
    classes = [core.literal(x, found.name) for x in made.class_bits]
    return [
        *found.declared, *found.instances,
        *_delayed("out_valid", bus.valid, made.class_stage),
        f"  assign out_class = {core.word(classes)};",
        f"  assign out_scores = {core.word(scores)};",
    ], found


def _module(
    body: Sequence[str], bits: int, class_bits: int, score_bits: int, to: write.Target
) -> str:
    text = [
        f"// A convolutional network of lookup tables for {to.name}: one position a clock. Moves",
        "// while en; takes the positions of an image row-major, its channels lowest first, images",
        "// one after the other. out_valid is high for one move an image, with out_class and",
        "// out_scores. rst forgets the images under way.",
        f"module {CORE} (",
        "    input  wire logic clk,",
        "    input  wire logic rst,",
        "    input  wire logic en,",
        "    // in: one position",
        "    input  wire logic in_valid,",
        "    /* verilator lint_off UNUSEDSIGNAL */",
        f"    input  wire logic [{bits - 1}:0] in_position,",
        "    /* verilator lint_on UNUSEDSIGNAL */",
        "    // out",
        "    output logic out_valid,",
        f"    output logic [{class_bits - 1}:0] out_class,",
        f"    output logic [{score_bits - 1}:0] out_scores  // class 0 lowest",
        ");",
        *body, "endmodule", "",
    ]  # fmt: skip
    return "\n".join(line for line in text if line.strip())


__all__ = ["CORE", "MODULES", "Plan", "Window", "emit", "plan", "streams"]
