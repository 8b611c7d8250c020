# SPDX-License-Identifier: Apache-2.0
"""Convolutional networks of tables: one position of the image a clock, tables reused in time.

A network is segments in a row: a window of the map before (`patches`: hdl/tables/line_window.sv)
or a max pool (hdl/tables/code_pool.sv), then tables that look at one window alone, whose netlist is
that of a network of one position. What comes behind the last window (from the first flattening or
sum on) reads the whole last map, gathered by hdl/tables/map_shift.sv, as a core of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hwflow.emit.tables import core, write
from hwflow.emit.tables.core import Design, Options, Part
from hwflow.emit.tables.lower import Codes, Lowered, lower, lower_codes
from hwflow.emit.tables.netlist import Register
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
            parts[f"window{windows}"] = window_part(window, to.name)
            times = _times(window, times)
        if inner is not None:
            made = lower_codes(inner, to, options.table_levels, layers, encoders)
            layers += sum(node.op == "tables" for node in inner.nodes)
            encoders += sum(node.op == "threshold" for node in inner.nodes)
            bus, lines = _layer_text(inner, made, number, bus, to, files, parts)
            text += lines
            times = [t + made.stage for t in times]
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
        held = area * last.shape[0] * int_type(last).bits
        parts["map"] = Part(luts=6, carries=1, joins=0, registers=held + 6)
    text += _dense_text(dense, made_dense, bus, to, files, parts)
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


# Lookup tables, carry cells and flip-flops of a window's counters, as Yosys maps them; a row of the
# memory in lookup tables: words of a cell, its bits, lookup tables it takes (2 of the 8 address).
CONTROL = Part(luts=34, carries=12, joins=0, registers=32)
ROWS: Mapping[str, tuple[int, int, int]] = {"xilinx": (32, 6, 4), "ecp5": (16, 4, 4)}
LONGEST_ROW = 64  # longer ones are block RAM


def window_part(window: Window, target: str) -> Part:
    """What a window or a pool takes on a chip, about: memory of its rows, counters, masks of what
    lies outside of the map, comparators."""
    kh, kw = window.kernel
    element = window.shape[0] * window.bits
    above, taps, width = (kh - 1) * element, kh * kw, window.shape[2]
    luts, registers = CONTROL.luts, CONTROL.registers + above + taps * element
    if target in ROWS and width <= LONGEST_ROW:
        words, bits, cost = ROWS[target]
        luts += -(-width // words) * -(-above // bits) * cost
    if any(window.pads):
        luts += taps + 2 * (kh + kw)
        registers += taps * element
    if window.pool and window.bits == 1:
        luts += element * -(-(taps - 1) // 5)
    elif window.pool:
        luts += window.shape[0] * (taps - 1) * 2 * window.bits
    return Part(luts, CONTROL.carries, 0, registers + (element if window.pool else 0))


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


def _flat(bus: _Bus) -> str:
    return core.word([bit for element in bus.bits for bit in element])


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
    graph: Graph, made: Codes, number: int, bus: _Bus, to: write.Target, files: dict[str, str],
    counts: dict[str, Part],
) -> tuple[_Bus, list[str]]:  # fmt: skip
    """The netlist of one position, and the bus of its codes."""
    parts = write.borders(made.cells, [x >> 1 for code in made.outputs for x in code])
    registers = frozenset(c.q for c in made.cells if isinstance(c, Register))
    files |= core.part_files(graph, parts, to, registers)
    counts |= {name: core.counted(cells) for name, (cells, _, _) in parts.items()}
    flat = [bit for element in bus.bits for bit in element]
    place = {net: flat[bit] for net, bit in made.inputs.items()}

    def name(net: int) -> str:
        return place.get(net, f"s{number}_n{net}")

    text = [f"  logic {name(n)};" for _, _, outs in parts.values() for n in outs]
    text += core.instances(parts, name)
    valid = bus.valid
    if made.stage:
        valid = f"layers{number}_valid"
        text += [f"  logic {valid};", *_delayed(valid, bus.valid, made.stage)]
    bits = [[core.literal(x, name) for x in code] for code in made.outputs]
    return _Bus(valid, bits), text


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
    graph: Graph, made: Lowered, bus: _Bus, to: write.Target, files: dict[str, str],
    counts: dict[str, Part],
) -> list[str]:  # fmt: skip
    """What is behind the last map, up to the outputs."""
    wanted = [x >> 1 for x in (*made.class_bits, *(x for s in made.scores for x in s))]
    parts = write.borders(made.cells, wanted)
    registers = frozenset(c.q for c in made.cells if isinstance(c, Register))
    files |= core.part_files(graph, parts, to, registers)
    counts |= {name: core.counted(cells) for name, (cells, _, _) in parts.items()}
    flat = [bit for element in bus.bits for bit in element]
    place = {net: flat[bit] for net, bit in made.inputs.items()}

    def name(net: int) -> str:
        return place.get(net, f"n{net}")

    scores = [core.literal(x, name) for score in made.scores for x in score]
    return [
        *[f"  logic {name(n)};" for _, _, outs in parts.values() for n in outs],
        *core.instances(parts, name),
        *_delayed("out_valid", bus.valid, made.class_stage),
        f"  assign out_class = {core.word([core.literal(x, name) for x in made.class_bits])};",
        f"  assign out_scores = {core.word(scores)};",
    ]


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
