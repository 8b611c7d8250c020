# SPDX-License-Identifier: Apache-2.0
"""An inspection as people read it in a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hwflow.inspect.record import Inspection, Range

WIDTH = 160  # columns that show every number on one line


def render(found: Inspection) -> Group:
    """The table with its totals, and below it what does not run where, and why."""
    title = f"{found.model} on {found.board}"
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in ("layer", "op", "input", "output", "weights", "MACs", "parameters", "bytes",
                   "accumulator", "runs on"):
        right = column in ("MACs", "parameters", "bytes", "accumulator")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    names = {"engine": Text("engine", "green"), "tables": Text("tables", "green"),
             "hls": Text("HLS", "cyan")}
    for layer in found.layers:
        alone = "not supported" if layer.hls else "supported alone"
        where = names.get(layer.runs_on, Text(alone, "yellow"))
        table.add_row(
            layer.name, layer.op, _port(layer.input_shape, layer.input_type),
            _port(layer.output_shape, layer.output_type),
            f"{layer.weight_bits} bits" if layer.weight_bits else "",
            "?" if layer.macs is None else f"{layer.macs:,}" if layer.macs else "",
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.weight_bytes:,}" if layer.weight_bytes else "",
            _span(layer.accumulator), where,
        )
    totals = found.totals
    table.add_section()
    table.add_row(
        f"{totals.layers} layers", "", "", "", "",
        "?" if totals.macs is None else f"{totals.macs:,}", f"{totals.parameters:,}",
        f"{totals.weight_bytes:,}",
        f"up to {totals.accumulator_bits} bits" if totals.accumulator_bits else "", "",
        style="bold",
    )
    lines = [Text()]
    if found.reason is not None:
        lines.append(Text(f"does not lower to integers: {found.reason}", "yellow"))
    else:
        for name, fault, faults in (
            ("engine", found.engine, [(la.name, la.engine) for la in found.layers]),
            ("HLS", found.hls, [(la.name, la.hls) for la in found.layers]),
        ):
            lines += _answer(name, fault, faults)
        if any(layer.op == "tables" for layer in found.layers):
            lines += _answer("tables", found.tables, ())
    return Group(table, *lines)


def _answer(name: str, fault: str | None, faults: Iterable[tuple[str, str | None]]) -> list[Text]:
    """Whether a backend runs the network, and each reason with the layers it is about."""
    if fault is None:
        return [Text(f"{name}: runs the whole network", "green")]
    reasons: dict[str, str] = {}
    for layer, reason in faults:
        if reason is not None:
            reasons[layer] = reason
    lines = [Text(f"{name}: does not run the network: {fault}", "yellow")]
    lines += [Text(f"  {reason if layer in reason else f'{layer}: {reason}'}")
              for layer, reason in reasons.items() if reason != fault]
    return lines


def _port(shape: tuple[int, ...] | None, kind: str | None) -> str:
    sides = "?" if shape is None else "x".join(map(str, shape))
    return f"{sides} {kind or ''}".strip()


def _span(acc: Range | None) -> str:
    return f"{acc.min:,}..{acc.max:,} ({acc.bits} bits)" if acc else ""
