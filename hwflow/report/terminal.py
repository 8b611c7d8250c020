# SPDX-License-Identifier: Apache-2.0
"""What a build looks like in a terminal: a live table of stages, and the numbers at the end."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.measure import Measurement
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from hwflow.build import Record
from hwflow.report.compare import GROUPS, LETTERS, Change, Comparison, Row, shown, shown_change
from hwflow.report.schema import Report, Tree, TreeCells

SIGNS = {
    "done": ("✓", "green"), "cached": ("✓", "cyan"), "skipped": ("-", "yellow"),
    "failed": ("✗", "bold red"),
}
FREE_WIDTH = 10_000  # columns that no table needs
LEAST_NAME = 12  # columns that the name of a number keeps


class LiveView:
    """Shows the stages while they run; without a terminal, one line for each."""

    def __init__(self, console: Console, title: str, explain: bool) -> None:
        self._console = console
        self._title = title
        self._explain = explain
        self._records: list[Record] = []
        self._stage: str | None = None
        self._text = ""
        self._since = 0.0
        self._live = Live(
            console=console, get_renderable=self._render, refresh_per_second=8, transient=False,
        ) if console.is_terminal else None

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        else:
            self._console.print(self._title)
        return self

    def __exit__(self, *error: object) -> None:
        self._stage = None
        if self._live is not None:
            self._live.stop()

    def start(self, stage: str) -> None:
        """A stage begins."""
        self._stage, self._text, self._since = stage, "", time.monotonic()

    def say(self, stage: str, text: str) -> None:
        """A stage tells its progress."""
        self._text = text

    def end(self, record: Record) -> None:
        """A stage is over."""
        self._stage = None
        self._records.append(record)
        if self._live is None:
            for line in self._lines(record):
                self._console.print(line, soft_wrap=True)

    def _lines(self, record: Record) -> list[Text]:
        sign, style = SIGNS[record.status]
        what = " ".join(part for part in (record.made, _reason(record)) if part)
        line = Text.assemble(
            (f"{sign} ", style), (f"{record.name:<10}", "bold"), (f"{record.status:<8}", style),
            (f"{record.seconds:8.1f} s  ", "dim"), what,
        )
        why = [Text(f"    ran because: {reason}", style="dim") for reason in record.why[:6]]
        return [line, *(why if self._explain else [])]

    def _render(self) -> Group:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=2)
        table.add_column(width=9)
        table.add_column(width=7)
        table.add_column(justify="right", width=9)
        table.add_column(ratio=1)
        for record in self._records:
            sign, style = SIGNS[record.status]
            what = Text(" ".join(part for part in (record.made, _reason(record)) if part))
            if self._explain:
                for reason in record.why[:6]:
                    what.append(f"\nran because: {reason}", style="dim")
            table.add_row(Text(sign, style), Text(record.name, "bold"), Text(record.status, style),
                          Text(f"{record.seconds:.1f} s", "dim"), what)
        if self._stage is not None:
            seconds = time.monotonic() - self._since
            table.add_row(Spinner("dots", style="blue"), Text(self._stage, "bold"),
                          Text("runs", "blue"), Text(f"{seconds:.1f} s", "dim"), Text(self._text))
        return Group(Text(self._title, "bold"), table)


def _reason(record: Record) -> str:
    if record.status == "failed":
        log = f" (log: {record.log})" if record.log else ""
        return (record.reason or "").splitlines()[0] + log
    return f"[{record.reason}]" if record.reason else ""


def numbers(report: Report) -> Table:
    """The numbers of a build, each with its kind; what was not measured says why."""
    title = " ".join(filter(None, (report.model, report.config, "on", report.board)))
    table = Table(title=Text(title), title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("number", overflow="fold")
    table.add_column("value", justify="right", overflow="fold")  # never half a number
    table.add_column("kind", style="dim", overflow="fold")

    def row(name: str, value: str | None, kind: str | None, reason: str | None) -> None:
        shown = Text("not measured", "yellow") if value is None else Text(value)
        table.add_row(Text(name), shown, Text((reason if value is None else kind) or ""))

    for name, checked in (("QONNX", report.verify.qonnx), ("HLS C++", report.verify.hls),
                          ("RTL", report.verify.rtl)):
        count = getattr(checked, "images", None) or getattr(checked, "frames", None)
        row(f"mismatches, {name}", _show(checked.mismatches),
            f"{_show(count)} samples", checked.reason)
    speed = report.performance
    row("cycles a frame", _show(speed.cycles_per_frame), speed.kind, speed.reason)
    clock = "" if speed.clock_mhz is None else f", at {speed.clock_mhz:g} MHz"
    row("frames a second", None if speed.fps is None else f"{speed.fps:.1f}",
        f"{speed.kind}{clock}", speed.reason)
    row("DDR bytes a frame", _show(speed.ddr_bytes_per_frame), speed.kind, speed.reason)
    used = report.resources
    rows = {name.upper(): getattr(used, name) for name in ("lut", "ff", "bram36", "dsp")}
    for name, one in (rows | used.other).items():
        row(name, f"{one.used:,} of {_show(one.available) or 'unknown'}" if one else None,
            used.kind, used.reason)
    tree = report.tree
    if tree is not None:
        row("DSP, carry, memory of trees", _cells(tree), tree.kind, tree.reason)
    if tree is not None and tree.sums is not None:
        row("the same of sums, apart", _cells(tree.sums), tree.kind, None)
    row("Fmax", _show(report.timing.fmax_mhz), report.timing.kind, report.timing.reason)
    power = report.power
    if power.total_w is not None:
        row("power, W", _show(power.total_w), f"{power.kind}, confidence {power.confidence}", None)
    accuracy = report.accuracy
    row(accuracy.metric or "accuracy",
        None if accuracy.value is None else f"{100 * accuracy.value:.2f} %",
        f"{_show(accuracy.images)} samples" if accuracy.float_value is None
        else f"{_show(accuracy.images)} samples; float network {100 * accuracy.float_value:.1f} %",
        accuracy.reason)
    row("bitstream", report.bitstream.path or report.bitstream.status, report.bitstream.reason,
        None)
    return table


def _cells(found: Tree | TreeCells) -> str | None:
    counts = (found.dsp, found.carry, found.memory)
    return None if None in counts else ", ".join(f"{n:,}" for n in counts)


def _show(value: float | None) -> str | None:
    return None if value is None else f"{value:,}"


def comparison(table: Comparison, console: Console | None = None) -> Group:
    """Runs beside each other; what is mixed or missing has a mark and a sentence below.

    console: where a terminal is too narrow for all runs, they come in blocks of as many as it holds
    beside the reference, so that no number is broken (but where not even one has room).
    """
    marks, lines = table.marked()
    heads = [Text(f"{letter}: {run.title} ({run.source})")
             for letter, run in zip(LETTERS, table.runs, strict=False)]
    same = sum(_same(row) for row in table.visible("layers"))
    others = list(range(1, len(table.runs)))
    grids = [_grid(table, others, marks)]
    if console is not None and console.is_terminal:
        size = len(others)
        while size > 1 and any(_width(console, grid) > console.width for grid in grids):
            size -= 1
            grids = [_grid(table, others[at : at + size], marks)
                     for at in range(0, len(others), size)]
        for grid in grids:  # still too wide: the names are broken, not the numbers
            name, excess = grid.columns[0], _width(console, grid) - console.width
            if excess > 0:
                longest = max(cell_len(str(cell)) for cell in name.cells)
                name.max_width = max(LEAST_NAME, longest - excess)
    notes = [Text(f"[{n}] {line}", "yellow") for n, line in enumerate(lines, 1)]
    rest = [Text(line, "dim") for line in table.remarks()]
    rest += [Text(f"layers of the same cycles: {same}", "dim")] if same else []
    tables = [part for grid in grids for part in (Text(), grid)]
    return Group(*heads, *tables, *([Text()] if notes or rest else []), *notes, *rest)


def _same(row: Row) -> bool:
    """A layer that takes the same cycles in every run: it is counted, not shown."""
    return row.group == "layers" and all(one and not one.absolute for one in row.changes)


def _grid(table: Comparison, runs: Sequence[int], marks: Mapping[tuple[str, int], int]) -> Table:
    """The reference and some of the other runs; rows of which none of these has a number are left
    out."""
    grid = Table(show_edge=False, pad_edge=False)
    for name in ("number", LETTERS[0]):
        grid.add_column(name, justify="left" if name == "number" else "right", overflow="fold")
    for place in runs:
        grid.add_column(LETTERS[place], justify="right", overflow="fold")
        grid.add_column(f"{LETTERS[place]} - A", justify="right", overflow="fold")
    for row in (row for group in GROUPS for row in (*table.visible(group), None)):
        if row is None:
            grid.add_section()
            continue
        if _same(row) or all(row.numbers[place].value is None for place in (0, *runs)):
            continue
        cells: list[Text] = []
        for place in (0, *runs):
            number, mark = row.numbers[place], marks.get((row.name, place))
            text = shown(number.value) + (f" [{mark}]" if mark else "")
            cells.append(Text(text, "" if number.value is not None else "yellow"))
            if place:
                change = row.changes[place - 1]
                cells.append(Text(shown_change(change), _colour(change)))
        grid.add_row(Text(row.title), *cells)
    return grid


def _width(console: Console, grid: Table) -> int:
    """Columns that a table needs to break nothing."""
    return Measurement.get(console, console.options.update(max_width=FREE_WIDTH), grid).maximum


def widen(console: Console, *shown: Table | Group) -> None:
    """Room for the widest table where the output is no terminal: nobody wraps lines for it."""
    if console.is_terminal:
        return
    parts = [part for one in shown for part in getattr(one, "renderables", [one])]
    for part in parts:
        if isinstance(part, Table):
            console.width = max(console.width, _width(console, part))


def plain(shown: Group) -> str:
    """What a terminal would show, as text without colours."""
    console = Console(width=120, file=io.StringIO(), force_terminal=False)
    widen(console, shown)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def _colour(change: Change | None) -> str:
    if change is None or change.better is None:
        return "yellow" if change is not None and change.mixed else ""
    return "green" if change.better else "red"
