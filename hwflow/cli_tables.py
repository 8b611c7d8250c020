# SPDX-License-Identifier: Apache-2.0
"""The command `hwflow bench tables`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hwflow.errors import VerifyError
from hwflow.plan import write_atomic
from hwflow.resources import default_cache

if TYPE_CHECKING:
    from hwflow.bench_tables import Results

EPILOG = ("Examples: `hwflow bench tables` - `hwflow bench tables --only trees-small --data "
          "keel:magic` - `hwflow bench tables --show --into docs/tables-bench.md --published`")
FILE, OUT = Path("build/bench-tables.json"), Path("build/bench-tables")


def bench_tables(
    only: Annotated[str | None, typer.Option("--only", help="Names of rows, with commas.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Data sets, with commas.")] = None,
    file: Annotated[Path, typer.Option("--json", help="Where the numbers are kept.")] = FILE,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Keeps what was trained and synthesised.")
    ] = OUT,
    show: Annotated[bool, typer.Option("--show", help="Measure nothing, show the file.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Add the numbers others published.")
    ] = False,
    into: Annotated[
        Path | None, typer.Option("--into", help="Put the tables into a Markdown file.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Folder for accuracy over LUT, an SVG a data "
                                  "set.")
    ] = None,
    peers_python: Annotated[
        Path | None, typer.Option("--peers-python", help="Interpreter with the extra `peers`; "
                                  "default the one of hwflow.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Where downloads are kept.")
    ] = None,
) -> None:  # fmt: skip
    """Lookup-table networks, ours and others': accuracy and LUT by one Yosys script."""
    from hwflow import bench, bench_tables

    rows = bench_tables.choose(only, data)
    error = Console(stderr=True, highlight=False)
    if not show:
        kept = cache or default_cache()
        found = bench_tables.measure(
            rows, out, kept, peers_python or Path(sys.executable),
            lambda text: error.print(text, markup=False, soft_wrap=True),
            bench_tables.read(file) if file.is_file() else None,
        )
        bench_tables.write(file, found)
    found = bench_tables.only(bench_tables.read(file), rows)
    if markdown:
        typer.echo(bench_tables.markdown(found), nl=False)
        if published:
            typer.echo("\n" + bench_tables.published(), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(bench_tables.render(found))
    if into is not None:
        bench.insert(into, bench_tables.markdown(found), "tables")
        if published:
            bench.insert(into, bench_tables.published(), "published")
    if figure is not None:
        _figures(found, figure, error)
    wrong = sum(one.mismatches for one in found.records)
    broken = [one for one in found.missing if one.failed]
    if wrong or broken:
        raise VerifyError("; ".join(filter(None, (
            f"{wrong} samples differ between netlist and model" if wrong else "",
            f"{len(broken)} rows failed, as said above" if broken else "",
        ))))  # fmt: skip


def _figures(found: Results, folder: Path, error: Console) -> None:
    from hwflow import bench_tables

    for spec in dict.fromkeys(one.data for one in found.records):
        drawing = bench_tables.figure(found, spec)
        if drawing is None:
            error.print(f"no figure of {spec}: it needs two designs", markup=False)
            continue
        path = folder / f"tables-{spec.replace(':', '-')}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, drawing.encode())
        error.print(f"wrote {path}", markup=False)


ENERGY_EPILOG = "Example: `hwflow bench energy --lookup-pj 0.05`"


def bench_energy(
    lookup_pj: Annotated[
        float | None,
        typer.Option("--lookup-pj", help="Picojoules of a lookup; default that of its bits out of "
                     "an SRAM of 8 KiB."),
    ] = None,
) -> None:  # fmt: skip
    """Lookups against multiplications: a model of LeNet-5, MobileNet-V1, VGG-11 and ResNet-18."""
    from hwflow import energy
    from hwflow.errors import ConfigError

    if lookup_pj is not None and not 0 < lookup_pj < 1e6:
        raise ConfigError(f"--lookup-pj {lookup_pj:g}: give picojoules above 0")
    typer.echo(energy.markdown(lookup_pj), nl=False)
