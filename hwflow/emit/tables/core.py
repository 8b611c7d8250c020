# SPDX-License-Identifier: Apache-2.0
"""The core of a network of tables, one image a clock: its SystemVerilog and its description."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hwflow.emit.tables import write
from hwflow.emit.tables.lower import Codes, Lowered, lower
from hwflow.emit.tables.netlist import Carry, Cell, Dual, Join, Register, Table
from hwflow.errors import ConfigError
from hwflow.ir import Graph
from hwflow.ops.types import int_type

CORE = "tables_core"
PACKAGE = "tables_pkg"


@dataclass(frozen=True)
class Options:
    """How a core is made.

    target: xilinx, ecp5, ice40, gowin or portable. table_levels: levels of tables between
    registers, 0 for none. head_levels: the same for sums and argmax. carry: sums may use the carry
    chains of the target. fan_out: the image goes through registers before the first table, and no
    register is read by more than so many functions; there are as many twins as that takes. 0: none.
    A core that streams has none.
    """

    target: str = "xilinx"
    table_levels: int = 1
    head_levels: int = 2
    carry: bool = True
    fan_out: int = 0


@dataclass(frozen=True)
class Part:
    """What a part of the core takes: lookup tables (one of two outputs is one), carry cells (four
    positions each), multiplexers of the fabric, flip-flops."""

    luts: int
    carries: int
    joins: int
    registers: int


@dataclass(frozen=True)
class Design:
    """An emitted core.

    in_pixels is `pixels` codes of `pixel_bits` bits, element 0 lowest; out_class is valid
    `latency` clocks after its image, out_scores (`classes` unsigned numbers of `score_bits` bits,
    class 0 lowest, `score_offset` more than those of the graph) `score_latency` clocks.
    streaming: the core takes one position (`channels` elements) a clock, row-major; latencies are
    from the last one, when no image follows, and negative where no window takes the last rows.
    """

    top: str
    files: Mapping[str, str]
    pixels: int
    pixel_bits: int
    classes: int
    class_bits: int
    score_bits: int
    score_offset: int
    latency: int
    score_latency: int
    parts: Mapping[str, Part]
    streaming: bool = False
    channels: int = 1

    @property
    def clocks(self) -> int:
        """Clocks from an image to the next one."""
        return self.pixels // self.channels if self.streaming else 1

    @property
    def luts(self) -> int:
        """Lookup tables of all parts."""
        return sum(p.luts for p in self.parts.values())


def emit(graph: Graph, options: Options | None = None) -> Design:
    """The core `tables_core` of a network of tables, with the package `tables_pkg` of its sizes.

    Raises GraphError naming the node that is not of such a network, ConfigError on wrong options.
    """
    options = options or Options()
    made, to = _lowered(graph, options)
    source = graph.tensors[graph.inputs[0]]
    kind = int_type(source)
    pixels = 1
    for side in source.shape:
        pixels *= side
    classes, score_bits = len(made.scores), len(made.scores[0])
    sizes = {
        "PIXELS": (pixels, "elements of an image"),
        "PIXEL_W": (kind.bits, "bits of an element"),
        "CHANNELS": (pixels, "elements that come at once: all"),
        "CLASSES": (classes, ""),
        "CLASS_W": (len(made.class_bits), "bits of the class"),
        "SCORE_W": (score_bits, "bits of the score of a class"),
        "LATENCY": (made.class_stage, "clocks from an image to its class"),
        "SCORE_LAG": (made.class_stage - made.score_stage, "clocks from its scores to its class"),
        "STREAMING": (0, "a whole image a clock"),
    }
    source_bits = [f"in_pixels[{bit}]" for bit in range(pixels * kind.bits)]
    wanted = [*made.class_bits, *(x for score in made.scores for x in score)]
    text = part_text(graph, made, wanted, source_bits, to)
    files = {f"{PACKAGE}.sv": package(sizes), **text.files,
             f"{CORE}.sv": file_text(_core(made, text, source_bits, to.name))}
    return Design(
        top=CORE, files=files, pixels=pixels, pixel_bits=kind.bits, classes=classes,
        class_bits=len(made.class_bits), score_bits=score_bits, score_offset=made.score_offset,
        latency=made.class_stage, score_latency=made.score_stage, parts=text.parts,
    )


def estimate(graph: Graph, options: Options | None = None) -> Mapping[str, Part]:
    """What each part of the core takes, by counting the cells that `emit` would write."""
    made, _ = _lowered(graph, options or Options())
    return {
        name: counted([c for c in made.cells if c.part == name])
        for name in made.parts if any(c.part == name for c in made.cells)
    }


def counted(cells: Sequence[Cell]) -> Part:
    """The cells of a part, by kind."""
    return Part(
        luts=sum(isinstance(c, Table | Dual) for c in cells),
        carries=sum(isinstance(c, Carry) for c in cells),
        joins=sum(isinstance(c, Join) for c in cells),
        registers=sum(isinstance(c, Register) for c in cells),
    )


def checked(options: Options) -> write.Target:
    """The target of options; ConfigError when they are none."""
    if min(options.table_levels, options.head_levels) < 0:
        raise ConfigError("levels between registers are below 0: give 0 for no registers, or more")
    if options.fan_out < 0:
        raise ConfigError("the readers of a register are below 0: give 0 for any number, or more")
    return write.target(options.target)


def _lowered(graph: Graph, options: Options) -> tuple[Lowered, write.Target]:
    to = checked(options)
    carry = options.carry and to.carry
    made = lower(graph, to, options.table_levels, options.head_levels, carry,
                 fan_out=options.fan_out)
    return made, to


def file_text(module: str) -> str:
    return f"{write.HEAD}`default_nettype none\n\n{module}\n`default_nettype wire\n"


def package(sizes: Mapping[str, tuple[int, str]]) -> str:
    lines = [
        f"  localparam int unsigned {name} = {value};" + (f"  // {note}" if note else "")
        for name, (value, note) in sizes.items()
    ]
    body = "\n".join([f"package {PACKAGE};", *lines, "endpackage", ""])
    return file_text(body)


@dataclass(frozen=True)
class PartText:
    """A netlist as modules, one a part, and as the lines of the module that holds them.

    declared, instances: those lines. name: the text of a net there. read: bits of the source on
    which something depends. files: the modules. parts: what each takes.
    """

    declared: tuple[str, ...]
    instances: tuple[str, ...]
    name: write.Name
    read: frozenset[int]
    files: Mapping[str, str]
    parts: Mapping[str, Part]


def part_text(
    graph: Graph, made: Lowered | Codes, wanted: Sequence[int], source: Sequence[str],
    to: write.Target, prefix: str = "n",
) -> PartText:
    """The parts of a netlist; ConfigError naming one that reads nothing.

    wanted: literals that are read from outside. source: the text of each bit of the input. prefix:
    of the names of nets.
    """
    place = {net: source[bit] for net, bit in made.inputs.items()}

    def name(net: int) -> str:
        return place.get(net, f"{prefix}{net}")

    nets = [x >> 1 for x in wanted]
    borders = write.borders(made.cells, nets)
    registers = frozenset(c.q for c in made.cells if isinstance(c, Register))
    files, instances = {}, []
    for part, (cells, ins, outs) in borders.items():
        if not ins:
            raise ConfigError(f"part {part} of '{graph.name}' reads nothing: it is constant")
        module = f"tables_{part}"
        files[f"{module}.sv"] = file_text(
            write.part_module(module, cells, ins, outs, to, registers)
        )
        clock = ".clk(clk), .en(en), " if write.has_registers(cells) else ""
        instances += [
            f"  {module} u_{part} (",
            f"      {clock}",
            f"      .x({word([name(n) for n in ins])}),",
            f"      .y({word([name(n) for n in outs])})",
            "  );",
        ]
    used = {n for _, ins, _ in borders.values() for n in ins}.union(nets)
    return PartText(
        tuple(f"  logic {name(n)};" for _, _, outs in borders.values() for n in outs),
        tuple(instances), name,
        frozenset(bit for net, bit in made.inputs.items() if net in used), files,
        {part: counted(cells) for part, (cells, _, _) in borders.items()},
    )


def literal(x: int, name: write.Name) -> str:
    """A literal as text."""
    if x <= 1:
        return f"1'b{x}"
    return ("~" if x & 1 else "") + name(x >> 1)


def word(items: Sequence[str]) -> str:
    """A concatenation, item 0 lowest."""
    return "{" + textwrap.fill(", ".join(reversed(items)), 96) + "}"


def _core(made: Lowered, parts: PartText, source: Sequence[str], target: str) -> str:
    scores = [literal(x, parts.name) for score in made.scores for x in score]
    idle = sorted(set(made.inputs.values()) - parts.read)
    latency = made.class_stage
    text = [
        f"// A network of lookup tables for {target}: one image a clock. Moves while en; out_valid",
        f"// and out_class follow in_valid and in_pixels {latency} such clocks later, out_scores",
        f"// {made.score_stage}. rst forgets the images under way.",
        f"module {CORE} (",
        "    input  wire logic clk,",
        "    input  wire logic rst,",
        "    input  wire logic en,",
        "    // in: all elements of an image, element 0 lowest",
        "    input  wire logic in_valid,",
        f"    input  wire logic [{len(source) - 1}:0] in_pixels,",
        "    // out",
        "    output logic out_valid,",
        f"    output logic [{len(made.class_bits) - 1}:0] out_class,",
        f"    output logic [{len(scores) - 1}:0] out_scores  // class 0 lowest",
        ");",
    ]
    text += parts.declared
    if idle:
        text += [
            "  // bits of the image on which nothing depends",
            "  /* verilator lint_off UNUSEDSIGNAL */",
            f"  logic [{len(idle) - 1}:0] idle;",
            "  /* verilator lint_on UNUSEDSIGNAL */",
            f"  assign idle = {word([source[b] for b in idle])};",
        ]
    text += [
        f"  logic [{latency - 1}:0] valid_q;",
        "  always_ff @(posedge clk) begin",
        "    if (rst) valid_q <= '0;",
        f"    else if (en) valid_q <= {latency}'({{valid_q, in_valid}});",
        "  end",
        f"  assign out_valid = valid_q[{latency - 1}];",
    ]
    text += parts.instances
    text += [
        f"  assign out_class = {word([literal(x, parts.name) for x in made.class_bits])};",
        f"  assign out_scores = {word(scores)};",
        "endmodule", "",
    ]
    return "\n".join(line for line in text if line.strip())


__all__ = [
    "Design", "Options", "Part", "PartText", "checked", "counted", "emit", "estimate",
    "file_text", "literal", "package", "part_text", "word",
]  # fmt: skip
