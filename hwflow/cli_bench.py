# SPDX-License-Identifier: Apache-2.0
"""The commands `hwflow bench engine` and `hwflow bench estimates`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hwflow.cli_options import Board, resumable
from hwflow.errors import ToolError

if TYPE_CHECKING:
    from hwflow.bench import BenchRecord

ENGINE_EPILOG = ("Examples: `hwflow bench engine` - `hwflow bench engine --configs b,c "
                 "--ddr 0.5,2.1` - `hwflow bench engine --show --into docs/performance.md`")
ESTIMATES_EPILOG = "Example: `hwflow bench estimates --board ultra96 --into docs/performance.md`"
BENCH_FILE = Path("build/bench-engine.json")


def bench_engine(
    configs: Annotated[
        str | None, typer.Option("--configs", help="Configurations, as a,b,c. Default: all.")
    ] = None,
    board: Board = "pynq-z2",
    ddr: Annotated[
        str, typer.Option("--ddr", help="More DDR bandwidths, GB/s, as 0.5,1.05,2.1.")
    ] = "",
    file: Annotated[Path, typer.Option("--json", help="Where the records go.")] = BENCH_FILE,
    html: Annotated[
        Path | None, typer.Option("--html", "--figures", help="Folder for a page a configuration.")
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Configurations at a time, 2 GB each.")
    ] = 1,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables as Markdown.")
    ] = False,
    into: Annotated[
        Path | None, typer.Option("--into", help="Put the tables into this Markdown file, too.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Only print what the file of records has.")
    ] = False,
) -> None:
    """A whole frame of each configuration in the RTL simulation, exact; cycles, losses, DDR."""
    from hwflow import bench
    from hwflow.models import shapes

    names = None if configs is None else bench.configs(configs)
    speeds = bench.rates(ddr, bench.board_of(board))
    if into is not None:
        bench.around(into, "engine")  # what is wrong with it is said before the frames run
    console = Console()
    error = Console(stderr=True, highlight=False)
    found: Sequence[BenchRecord]
    failed: dict[str, str] = {}
    if show:
        found = bench.chosen_of(file, names)
    else:
        with resumable():
            progress = error if markdown else console
            found, failed = _bench(names or tuple(shapes.CODENET), board, speeds, html, jobs,
                                   progress)  # fmt: skip
        bench.write(file, found, failed)
    if markdown and found:
        typer.echo(bench.markdown(found), nl=False)
    elif found:
        if not console.is_terminal:
            console.width = max(console.width, 200)  # nobody to wrap lines for
        console.print()
        console.print(bench.render(found))
    if into is not None and found:
        bench.insert(into, bench.markdown(found), "engine")
    for path in ([] if show else [file]) + ([into] if into is not None and found else []):
        error.print(f"wrote {path}", soft_wrap=True)
    if failed:
        raise ToolError("; ".join(f"configuration {name}: {why}" for name, why in failed.items()))


def bench_estimates(
    configs: Annotated[
        str | None, typer.Option("--configs", help="Configurations, as a,b,c. Default: all.")
    ] = None,
    board: Board = "pynq-z2",
    into: Annotated[
        Path | None, typer.Option("--into", help="Put the table into this Markdown file, too.")
    ] = None,
) -> None:
    """Bounds and the cycle model's answer for each configuration, as Markdown; no simulation."""
    from hwflow import bench
    from hwflow import boards as known
    from hwflow import estimate as estimates
    from hwflow.models import shapes

    chip, found, name = known.load(board), [], f"estimates {board}"
    if into is not None:
        bench.around(into, name)
    for config in tuple(shapes.CODENET) if configs is None else bench.configs(configs):
        graph, title, letter = estimates.source("codenet", config)
        found.append(estimates.estimate(graph, chip, title, letter))
    table = estimates.markdown(found)
    typer.echo(table, nl=False)
    if into is not None:
        bench.insert(into, table, name)


def _line(text: str) -> None:
    """A line of progress from one of several processes."""
    Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)


def _bench(
    configs: Sequence[str], board: str, speeds: Sequence[float], html: Path | None, jobs: int,
    console: Console,
) -> tuple[list[BenchRecord], dict[str, str]]:  # fmt: skip
    """Each configuration; those that fail are named with the reason."""
    from hwflow import bench
    from hwflow.report import terminal

    def in_turn() -> Iterator[tuple[str, bench.Measured]]:
        for config in configs:
            chosen, out = bench.run_of(config, board)
            title = f"hwflow bench engine, configuration {config}: {out}"
            with terminal.LiveView(console, title, False) as view:
                measured = bench.measure(chosen, speeds, out, view)
            yield config, measured

    found: list[BenchRecord] = []
    failed: dict[str, str] = {}
    each = bench.together(configs, board, speeds, jobs, _line) if jobs > 1 else in_turn()
    for config, (record, stages) in each:
        chosen, out = bench.run_of(config, board)
        if record is None:
            last = next(stage for stage in stages if stage.status == "failed")
            failed[config] = f"stage {last.name}: {last.reason}"
            continue
        found.append(record)
        if html is not None:
            path = bench.page(html, chosen, stages, speeds[0], out)
            console.print(f"wrote {path}", soft_wrap=True)
    return found, failed
