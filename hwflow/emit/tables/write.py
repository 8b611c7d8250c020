# SPDX-License-Identifier: Apache-2.0
"""SystemVerilog of a netlist: one module a part, in the cells of a chip or in plain assignments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hwflow.emit.tables.functions import Fabric
from hwflow.emit.tables.netlist import (
    Carry,
    Cell,
    Dual,
    Join,
    Register,
    Table,
    makes,
    reads,
)
from hwflow.errors import ConfigError

Name = Callable[[int], str]
HEAD = "// SPDX-License-Identifier: Apache-2.0\n"


@dataclass(frozen=True)
class Target:
    """How cells are written. carry: there are carry chains with free inputs. register: how one that
    delays another is written, where synthesis would put both into a table."""

    name: str
    fabric: Fabric
    carry: bool
    table: Callable[[Table, Name], str]
    register: Callable[[Register, Name], str] | None = None
    joins: tuple[str, ...] = ()


def _hex(value: int, bits: int) -> str:
    return f"{bits}'h{value:0{(bits + 3) // 4}X}"


def _pins(**pins: str) -> str:
    return ", ".join(f".{pin}({net})" for pin, net in pins.items())


def _widened(cell: Table, inputs: int) -> int:
    """The contents with address bits added that nothing depends on."""
    init, width = cell.init, 1 << len(cell.inputs)
    while width < 1 << inputs:
        init |= init << width
        width *= 2
    return init


def _xilinx_table(cell: Table, name: Name) -> str:
    k = max(1, len(cell.inputs))  # a constant behind a multiplexer still is a table
    nets = [name(n) for n in cell.inputs] or ["1'b0"]
    pins = {"O": name(cell.out), **{f"I{j}": net for j, net in enumerate(nets)}}
    return f"LUT{k} #(.INIT({_hex(_widened(cell, k), 1 << k)})) u{cell.out} ({_pins(**pins)});"


def _xilinx_register(cell: Register, name: Name) -> str:
    pins = _pins(C="clk", CE="en", R="1'b0", D=name(cell.d), Q=name(cell.q))
    return f"(* keep *) FDRE u{cell.q} ({pins});"


def _ecp5_table(cell: Table, name: Name) -> str:
    nets = [*(name(n) for n in cell.inputs), *["1'b0"] * (4 - len(cell.inputs))]
    pins = dict(zip("ABCD", nets, strict=True))
    init = _hex(_widened(cell, 4), 16)
    return f"LUT4 #(.INIT({init})) u{cell.out} ({_pins(**pins, Z=name(cell.out))});"


def _ice40_table(cell: Table, name: Name) -> str:
    nets = [*(name(n) for n in cell.inputs), *["1'b0"] * (4 - len(cell.inputs))]
    pins = {f"I{j}": net for j, net in enumerate(nets)}
    init = _hex(_widened(cell, 4), 16)
    return f"SB_LUT4 #(.LUT_INIT({init})) u{cell.out} ({_pins(O=name(cell.out), **pins)});"


def _gowin_table(cell: Table, name: Name) -> str:
    return _xilinx_table(cell, name).replace(".O(", ".F(", 1)


def _plain_table(cell: Table, name: Name) -> str:
    k = len(cell.inputs)
    address = ", ".join(name(n) for n in reversed(cell.inputs))
    return f"assign {name(cell.out)} = 1'({_hex(cell.init, 1 << k)} >> {{{address}}});"


_LUT6 = Fabric(inputs=6, joins=2, dual=True)
TARGETS: Mapping[str, Target] = {
    t.name: t
    for t in (
        Target("xilinx", _LUT6, True, _xilinx_table, _xilinx_register, ("MUXF7", "MUXF8")),
        Target("ecp5", Fabric(4, 2, False), False, _ecp5_table, None, ("PFUMX", "L6MUX21")),
        Target("ice40", Fabric(4, 0, False), False, _ice40_table),
        Target(
            "gowin", Fabric(4, 4, False), False, _gowin_table, None,
            ("MUX2_LUT5", "MUX2_LUT6", "MUX2_LUT7", "MUX2_LUT8"),
        ),
        Target("portable", Fabric(6, 0, False), False, _plain_table),
    )
}


def target(name: str) -> Target:
    """The target of that name; ConfigError naming those there are."""
    if name not in TARGETS:
        raise ConfigError(f"target '{name}' of tables: give one of {', '.join(TARGETS)}")
    return TARGETS[name]


def _join(cell: Join, name: Name, to: Target) -> str:
    kind, out = to.joins[cell.level - 1], f"u{cell.out}"
    zero, one, pick, z = name(cell.zero), name(cell.one), name(cell.pick), name(cell.out)
    pins = {
        "M": _pins(I0=zero, I1=one, S=pick, O=z),
        "P": _pins(ALUT=one, BLUT=zero, C0=pick, Z=z),
        "L": _pins(D0=zero, D1=one, SD=pick, Z=z),
    }[kind[0]]
    if kind.startswith("MUX2"):
        pins = _pins(I0=zero, I1=one, S0=pick, O=z)
    return f"{kind} {out} ({pins});"


def _dual(cell: Dual, name: Name) -> str:
    nets = [name(n) for n in cell.inputs]
    nets += ["1'b0"] * (5 - len(nets)) if len(nets) < 5 else []
    nets += ["1'b1"] * (6 - len(nets))
    pins = {f"I{j}": net for j, net in enumerate(nets)}
    outs = _pins(O6=name(cell.six), O5=name(cell.five))
    return f"LUT6_2 #(.INIT({_hex(cell.init, 64)})) u{cell.six} ({outs}, {_pins(**pins)});"


def _carry(cell: Carry, name: Name, unused: Callable[[], str]) -> str:
    def word(nets: Sequence[int], missing: Callable[[], str]) -> str:
        return "{" + ", ".join(missing() if n < 0 else name(n) for n in reversed(nets)) + "}"

    given = name(cell.carry_in)
    pins = _pins(
        CI="1'b0" if cell.first else given, CYINIT=given if cell.first else "1'b0",
        S=word(cell.select, unused), DI=word(cell.data, unused),
        O=word(cell.total, unused), CO=word(cell.carry, unused),
    )
    key = next(n for n in (*cell.total, *cell.carry) if n >= 0)
    return f"CARRY4 u{key} ({pins});"


def part_module(
    module: str, cells: Sequence[Cell], inputs: Sequence[int], outputs: Sequence[int], to: Target,
    registers: frozenset[int] = frozenset(),
) -> str:
    """One module: x is the nets `inputs`, y the nets `outputs`, net of item 0 in bit 0.

    registers: nets of all parts that flip-flops drive.
    """
    place = {n: f"x[{i}]" for i, n in enumerate(inputs)}
    place |= {n: f"y[{i}]" for i, n in enumerate(outputs)}
    place[0] = "1'b0"

    def name(net: int) -> str:
        return place.get(net, f"n{net}")

    own = [n for c in cells for n in makes(c) if n not in place]
    lines, moves, twins = [], [], []
    spare = 0

    def unused() -> str:
        nonlocal spare
        spare += 1
        return f"unused[{spare - 1}]"

    for cell in cells:
        if isinstance(cell, Table):
            lines.append(to.table(cell, name))
        elif isinstance(cell, Dual):
            lines.append(_dual(cell, name))
        elif isinstance(cell, Join):
            lines.append(_join(cell, name, to))
        elif isinstance(cell, Carry):
            lines.append(_carry(cell, name, unused))
        elif cell.twin:
            twins.append(f"      {name(cell.q)} <= {name(cell.d)};")
        elif cell.d in registers and to.register:
            lines.append(to.register(cell, name))
        else:
            moves.append(f"      {name(cell.q)} <= {name(cell.d)};")
    text = [f"module {module} ("]
    if has_registers(cells):
        text += ["    input  wire logic clk,", "    input  wire logic en,"]
    text += [
        f"    input  wire logic [{len(inputs) - 1}:0] x,",
        f"    output logic [{len(outputs) - 1}:0] y", ");",
    ]
    text += [f"  logic n{n};" for n in own]
    if spare:
        text += [
            "  // carry outputs that nobody reads",
            "  /* verilator lint_off UNUSEDSIGNAL */",
            f"  wire logic [{spare - 1}:0] unused;",
            "  /* verilator lint_on UNUSEDSIGNAL */",
        ]
    text += [f"  {line}" for line in lines]
    # twins would be one again after synthesis
    for head, block in (([], moves), (["  (* keep *)"], twins)):
        if block:
            text += [*head, "  always_ff @(posedge clk) begin", "    if (en) begin"]
            text += [*block, "    end", "  end"]
    return "\n".join([*text, "endmodule", ""])


def has_registers(cells: Sequence[Cell]) -> bool:
    """Whether a part needs the clock."""
    return any(isinstance(c, Register) for c in cells)


def borders(
    cells: Sequence[Cell], wanted: Sequence[int]
) -> dict[str, tuple[list[Cell], list[int], list[int]]]:
    """The parts in order: their cells, the nets they read from outside, those others read."""
    owner = {n: c.part for c in cells for n in makes(c)}
    parts: dict[str, list[Cell]] = {}
    for c in cells:
        parts.setdefault(c.part, []).append(c)
    ins: dict[str, dict[int, None]] = {p: {} for p in parts}
    outs: dict[str, dict[int, None]] = {p: {} for p in parts}
    for c in cells:
        for n in reads(c):
            if n and owner.get(n) != c.part:
                ins[c.part][n] = None
                if n in owner:
                    outs[owner[n]][n] = None
    for n in wanted:
        if n in owner:
            outs[owner[n]][n] = None
    return {p: (parts[p], list(ins[p]), list(outs[p])) for p in parts}


__all__ = ["HEAD", "TARGETS", "Target", "borders", "has_registers", "part_module", "target"]
