# SPDX-License-Identifier: Apache-2.0
"""The commands `hwflow report` and `hwflow compare`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hwflow.errors import ConfigError
from hwflow.plan import write_atomic

if TYPE_CHECKING:
    from hwflow.report.schema import Report

REPORT_EPILOG = ("Examples: `hwflow report build/codenet-b-pynq-z2` - "
    "`hwflow report read util.rpt timing.rpt power.rpt --out finn.json`")
COMPARE_EPILOG = ("Examples: `hwflow compare build/codenet-a-pynq-z2 build/codenet-b-pynq-z2` - "
    "`hwflow compare baselines/mine.json build/mine --fail-if 'lut>+2%' --fail-if 'fps<-1%' "
    "--fail-if 'mismatches>0' --format md` - "
    "`hwflow compare baselines/mine.json build/mine --update-baseline`")


class Format(StrEnum):
    """How a comparison is printed."""

    TABLE = "table"
    MD = "md"
    HTML = "html"
    JSON = "json"


def report(
    words: Annotated[list[str], typer.Argument(
        metavar="RUN | read FILE...", help="A run; or report files that other tools wrote.",
    )],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="read: write the run here, as NAME.json.")
    ] = None,
    board: Annotated[
        str | None, typer.Option("--board", "-b", help="read: the board, for what its chip has.")
    ] = None,
    clock: Annotated[
        str | None, typer.Option("--clock", help="read: whose Fmax, where there are several.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the page of the run to this file, too.")
    ] = None,
) -> None:
    """The numbers of a run; `read` makes a run of the reports of Vivado, Vitis HLS, nextpnr, ..."""
    from hwflow.report import compare as comparing
    from hwflow.report import readers, schema, terminal

    console = Console()
    if words[0] != "read":
        if len(words) != 1:
            raise ConfigError("hwflow report takes one run; `hwflow compare` takes several")
        given = {"--out": out, "--board": board, "--clock": clock}
        wrong = [name for name, value in given.items() if value is not None]
        if wrong:
            raise ConfigError(f"{', '.join(wrong)}: of `hwflow report read FILE...` alone; --html "
                              "writes the page of a run")
        loaded = comparing.load(Path(words[0]))
        console.print(terminal.numbers(loaded.report))
        if html is not None:
            _write_page(html, loaded.report, Path(words[0]))
        return
    if len(words) == 1:
        raise ConfigError(f"hwflow report read takes one or more files; it reads "
                          f"{readers.READABLE}")
    from hwflow import boards as known

    chip = known.load(board) if board is not None else None
    run, notes = readers.read([Path(word) for word in words[1:]], chip, clock)
    console.print(terminal.numbers(run))
    for note in notes:
        console.print(note, style="yellow", markup=False, soft_wrap=True)
    if out is not None:
        schema.write(run, out)
        console.print(f"wrote {out}", soft_wrap=True)
    if html is not None:
        _write_page(html, run, None)


def _write_page(path: Path, content: Report, run: Path | None) -> None:
    """The page of a report, with the photographs of its run if that is a folder."""
    from hwflow.report import page, photographs

    frames = photographs.read(run) if run is not None else []
    write_atomic(path, page.render(content, {"frames": frames}).encode())
    Console().print(f"wrote {path}", soft_wrap=True)


def compare(
    runs: Annotated[list[Path], typer.Argument(
        metavar="RUN RUN...",
        help="Run folders, report.json files, files of `report read`, baselines; "
        "the first is the reference.",
    )],
    form: Annotated[Format, typer.Option("--format", "-f", help="How to print.")] = Format.TABLE,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write to this file instead.")
    ] = None,
    fail_if: Annotated[list[str] | None, typer.Option(
        "--fail-if", metavar="LIMIT",
        help="Exit with 1 if true: lut>+2% (relative), fps<-1 (change), mismatches>0 (value).",
    )] = None,
    allow_mixed_kinds: Annotated[bool, typer.Option(
        "--allow-mixed-kinds", help="Hold changes between different kinds of numbers to limits."
    )] = False,
    update_baseline: Annotated[bool, typer.Option(
        "--update-baseline", help="Write the numbers of the second run into the first, a baseline."
    )] = False,
) -> None:
    """Runs beside each other; limits on what changed; baselines."""
    from hwflow.report import baseline, formats, gate, terminal
    from hwflow.report import compare as comparing

    limits = [gate.parse(text) for text in fail_if or ()]
    if update_baseline and len(runs) != 2:
        raise ConfigError("--update-baseline takes a baseline (a new file, or one) and a run")
    if update_baseline and not runs[0].exists():
        if limits:
            raise ConfigError(f"{runs[0]}: is not there yet; make it without --fail-if")
        baseline.write(comparing.load(runs[1]).report, runs[0])
        Console().print(f"wrote {runs[0]}", soft_wrap=True)
        return
    table = comparing.comparison(comparing.load_all(runs))
    verdict = gate.check(limits, table, allow_mixed_kinds)
    broken = (*verdict.breaches, *verdict.refused)
    if form is Format.TABLE and out is None:
        console = Console()
        shown = terminal.comparison(table, console)
        terminal.widen(console, shown)
        console.print(shown)
    else:
        text = {
            Format.TABLE: lambda: terminal.plain(terminal.comparison(table)),
            Format.MD: lambda: formats.markdown(table, broken, len(limits)),
            Format.HTML: lambda: formats.html(table, broken, len(limits)),
            Format.JSON: lambda: comparing.as_json(table, broken),
        }[form]()
        if out is None:
            typer.echo(text, nl=False)
        else:
            write_atomic(out, text.encode())
    error = Console(stderr=True, highlight=False)
    for line in broken:
        error.print(f"broken: {line}", style="red", markup=False, soft_wrap=True)
    if verdict.refused:
        raise ConfigError(
            "a limit on a change between different kinds of numbers says nothing about a design; "
            "compare runs of one kind, or add --allow-mixed-kinds"
        )
    if broken:
        raise typer.Exit(1)
    if update_baseline:
        baseline.write(comparing.load(runs[1]).report, runs[0])
        error.print(f"wrote {runs[0]}", soft_wrap=True)
