# SPDX-License-Identifier: Apache-2.0
"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import io
import logging
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

import hwflow
from hwflow import cli_bench, cli_report, cli_run, cli_tables, cli_train
from hwflow.build import MEMORY_WAY
from hwflow.cli_options import Board, Cache, Config, Luts, Preset, Run, Seed, Spec, resumable
from hwflow.errors import ConfigError, HwflowError, ToolError
from hwflow.plan import write_atomic

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="From a quantised neural network to a verified FPGA build, in one command.",
    epilog="Example: `hwflow build codenet --board pynq-z2`",
)
data_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown",
    help="Photographs: fetch them once, then everything runs without network.",
    epilog="Example: `hwflow data get trees`",
)
app.add_typer(data_app, name="data")
bench_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown",
    help="Measure the hardware in simulation.",
    epilog="Example: `hwflow bench engine --configs b`",
)
bench_app.command("engine", epilog=cli_bench.ENGINE_EPILOG)(cli_bench.bench_engine)
bench_app.command("estimates", epilog=cli_bench.ESTIMATES_EPILOG)(cli_bench.bench_estimates)
bench_app.command("tables", epilog=cli_tables.EPILOG)(cli_tables.bench_tables)
bench_app.command("energy", epilog=cli_tables.ENERGY_EPILOG)(cli_tables.bench_energy)
app.add_typer(bench_app, name="bench")

@app.command(
    epilog="Examples: `hwflow build codenet --board pynq-z2` - "
    "`hwflow build codenet --config c --until hls --explain` - "
    "`hwflow build path/to/model.onnx --board pynq-z2`"
)
def build(
    model: Annotated[
        str, typer.Argument(help="A model (codenet, dtnn), or the path of a QONNX file.")
    ],
    board: Board = "pynq-z2",
    config: Config = None,
    preset: Preset = None,
    luts: Luts = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run directory; default build/NAME.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Last stage to run.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why a stage runs again.")] = False,
    require: Annotated[
        list[str] | None, typer.Option("--require", help="Fail without it: bitstream, hls, rtl.")
    ] = None,
    data: Spec = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Trained weights (safetensors).")
    ] = None,
    seed: Seed = 0,
    tiles: Annotated[int, typer.Option("--tiles", help="Photographs to verify with.")] = 8,
    frames: Annotated[int, typer.Option("--frames", help="Of these, frames simulated.")] = 2,
    allow_negative_slack: Annotated[
        bool, typer.Option("--allow-negative-slack", help="Accept a bitstream that misses timing.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write stages and layers as JUnit XML here.")
    ] = None,
    cache: Cache = None,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help="npz of vectors to verify a QONNX file with.")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="hwflow (the engine), tables (a pipeline of lookup tables), "
                     "or hls4ml: its C++ against the same integers. Default: what suits it."),
    ] = None,
    statistical_dont_cares: Annotated[
        bool,
        typer.Option("--statistical-dont-cares", help="dtnn: leave contents free that no training "
                     "sample reads. May save LUTs; unlike inputs may get other classes; the "
                     "report says so."),
    ] = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Synthesise (and on open boards place and route) "
                           "anew; take nothing that an earlier build has measured."),
    ] = False,
) -> None:
    """Build a model for a board: data, train, export, lower, verify, hls, rtl, sim, synth, ..."""
    from hwflow import build as runner
    from hwflow import stages
    from hwflow.report import schema, terminal
    from hwflow.stages.options import default_out, options

    if preset is not None and config is not None:
        raise ConfigError("--preset is another name of --config; give one of the two")
    chosen = options(
        model, board, preset or config, data, checkpoint, seed, tiles, frames,
        tuple(require or ()), allow_negative_slack, cache, inputs, backend, luts,
        statistical_dont_cares,
    )
    if until is not None and until not in stages.NAMES:
        raise ConfigError(f"--until {until!r}: stages are {', '.join(stages.NAMES)}")
    for name in require or () if until is not None else ():
        if stages.NAMES.index(name) > stages.NAMES.index(str(until)):
            raise ConfigError(f"--require {name}: --until {until} ends before it; leave one out")
    folder = out or default_out(chosen)
    console = Console()
    name = f"{chosen.model} {chosen.size or ''}".strip()
    title = f"hwflow build {name} for {board}: {folder}"
    with resumable(), terminal.LiveView(console, title, explain) as view:
        records = runner.build(stages.of(chosen), chosen, folder, until, view, no_cache)
    if junit is not None:
        from hwflow.report import junit as tests

        tests.write(junit, folder, records)
    failed = [record for record in records if record.status == "failed"]
    if failed:
        log = f"\nlog: {failed[0].log}" if failed[0].log else ""
        raise ToolError(f"stage {failed[0].name}: {failed[0].reason}{log}")
    console.print()
    console.print(terminal.numbers(schema.read(folder / "report.json")))
    console.print(f"\n{folder / 'report.json'}\n{folder / 'report.html'}", soft_wrap=True)


@data_app.command("get", epilog="Example: `hwflow data get trees`")
def data_get(
    spec: Annotated[str, typer.Argument(help="trees, voc:PATH, mnist, fashion, cifar10, keel.")],
    cache: Cache = None,
) -> None:
    """Fetch a source and check its checksum; what is there already is only checked."""
    from hwflow import data

    path = data.get(spec, cache)
    Console().print(f"{spec}: {path or 'is generated, nothing to fetch'}", soft_wrap=True)


@data_app.command("show", epilog="Example: `hwflow data show voc:VOCdevkit/VOC2007`")
def data_show(
    spec: Annotated[
        str, typer.Argument(help="trees, voc:PATH, digits[:SCENES]; mnist, fashion, cifar10, "
                            "keel:NAME, csv:FILE.")
    ],
    size: Annotated[int, typer.Option(help="Side of photographs with boxes, in pixels.")] = 256,
    cache: Cache = None,
) -> None:
    """Source, size, checksum, classes and number of samples or boxes of each split."""
    from hwflow import data
    from hwflow.data import samples

    console = Console()
    if spec.partition(":")[0] in (*samples.ARCHIVES, "csv"):
        for split in data.SPLITS:
            some = samples.load(spec, split, cache or data.default_cache())
            shape = "x".join(map(str, some.shape))
            console.print(f"{split}: {len(some):,} samples of {shape}, classes "
                          f"{', '.join(some.classes)}", soft_wrap=True)
        console.print(f"source: {some.source}\nbytes:  {some.size:,}\nsha256: "
                      f"{some.sha256 or '-'}", soft_wrap=True)
        return
    for split in data.SPLITS:
        part = data.load(spec, split, size, cache)
        boxes = sum(len(one) for one in part.boxes)
        console.print(f"{split}: {len(part)} images of {size} pixels, {boxes} boxes, classes "
                      f"{', '.join(part.classes)}", soft_wrap=True)
    console.print(f"source: {part.source}\nbytes:  {part.bytes:,}\nsha256: {part.sha256 or '-'}",
                  soft_wrap=True)


@app.command(epilog="Example: `hwflow boards pynq-z2`")
def boards(
    name: Annotated[str | None, typer.Argument(help="Show one board wholly.")] = None,
) -> None:
    """The boards there are. A new board is a new file."""
    from rich.table import Table

    from hwflow import boards as known

    console = Console()
    if name is not None:
        board = known.load(name)
        console.print_json(board.model_dump_json())
        return
    table = Table(show_edge=False, pad_edge=False)
    for column in ("board", "part", "LUT", "FF", "blocks", "MHz"):
        table.add_column(column, justify="right" if column.isupper() or column == "MHz" else "left")
    wrong: list[str] = []
    for each in known.names():
        try:
            one = known.load(each)
        except ConfigError as error:
            wrong.append(str(error))
            continue
        r = one.resources
        blocks = "\n".join(f"{count:>3} {name}" for name, count in r.blocks.items())
        table.add_row(one.name, one.part, f"{r.lut:,}", f"{r.ff:,}", blocks,
                      f"{one.clock.mhz:g}")
    console.print(table)
    if wrong:
        raise ConfigError("\n".join(wrong))


@app.command(
    epilog="Examples: `hwflow inspect path/to/model.onnx` - "
    "`hwflow inspect codenet --config b --json -`"
)
def inspect(
    model: Annotated[str, typer.Argument(help="A model (codenet), or the path of a QONNX file.")],
    board: Board = "pynq-z2",
    config: Config = None,
    file: Annotated[
        Path | None, typer.Option("--json", help="Also write JSON; - prints it instead.")
    ] = None,
) -> None:
    """Layers, shapes, bits, work, proven accumulators, and what would run each layer."""
    from hwflow import boards as known
    from hwflow import inspect as look
    from hwflow.stages.options import options

    chosen = options(model, board, config)
    if chosen.file is None and chosen.model != "codenet":
        raise ConfigError(
            f"hwflow inspect takes codenet or a file; run `hwflow build {chosen.model} --until "
            "export --out RUN`, then `hwflow inspect RUN/export/model.onnx`"
        )
    if chosen.file is not None:
        found = look.inspect(chosen.file, known.load(board), model)
    else:
        found = look.inspect_model(
            chosen.model, str(chosen.config), chosen.weights, known.load(board)
        )
    if file == Path("-"):
        sys.stdout.write(found.to_json())
        return
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, look.WIDTH)  # nobody to wrap lines for
    console.print(look.render(found))
    if file is not None:
        look.write(found, file)
        console.print(f"\n{file}", soft_wrap=True)


@app.command(
    epilog="Examples: `hwflow estimate codenet --config c --board ultra96` - "
    "`hwflow estimate build/codenet-b-pynq-z2` - `hwflow estimate path/to/model.onnx --json -`"
)
def estimate(
    model: Annotated[
        str, typer.Argument(help="A model (codenet), a QONNX file, or a run directory.")
    ],
    board: Board = "pynq-z2",
    config: Config = None,
    file: Annotated[
        Path | None, typer.Option("--json", help="Also write JSON; - prints it instead.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write timeline and roofline as a page.")
    ] = None,
    measured: Annotated[
        Path, typer.Option("--bench", help="Where `hwflow bench engine` left its numbers.")
    ] = cli_bench.BENCH_FILE,
) -> None:
    """Cycles, frames a second and DDR traffic by the cycle model, without simulating."""
    from hwflow import boards as known
    from hwflow import estimate as estimates

    chip = known.load(board)
    graph, title, letter = estimates.source(model, config)
    found = estimates.with_error(estimates.estimate(graph, chip, title, letter), measured)
    if html is not None:
        from hwflow.report import page

        write_atomic(html, page.render(found.report(), {}).encode())
    if file == Path("-"):
        sys.stdout.write(found.to_json())
        return
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 120)  # nobody to wrap lines for
    console.print(estimates.render(found))
    if file is not None:
        write_atomic(file, found.to_json().encode())
    for path in filter(None, (file, html)):
        console.print(f"wrote {path}", soft_wrap=True)


@app.command(epilog="Example: `hwflow doctor`")
def doctor() -> None:
    """Each tool found or missing, and what still works without it."""
    from rich.table import Table

    from hwflow import doctor as checks
    from hwflow.report import terminal

    findings = checks.examine()
    table = Table(show_edge=False, pad_edge=False)
    for column in ("tool", "state", "version", "used by", "works without it"):
        table.add_column(column)
    colours = {"ok": "green", "missing": "yellow", "wrong": "red"}
    for found in findings:
        colour = "red" if found.needed and found.state != "ok" else colours[found.state]
        table.add_row(found.name, f"[{colour}]{found.state}[/]", found.version, found.used_by,
                      "" if found.state == "ok" else found.without)
    console = Console()
    terminal.widen(console, table)
    console.print(table)
    broken = [found.name for found in findings if found.needed and found.state != "ok"]
    if broken:
        raise ToolError(
            f"a default build needs: {', '.join(broken)}; run `make setup`, and install missing "
            "system packages (g++, make, perl)"
        )
    console.print("\neverything a default build needs is here", style="green")


@app.command(
    epilog="Example: `hwflow sim build/codenet-b-pynq-z2 photo.png --save boxes.png`"
)
def sim(
    run: Run,
    images: Annotated[list[Path], typer.Argument(help="Photographs; resized to the network.")],
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the (first) photograph with its boxes.")
    ] = None,
    least: Annotated[float, typer.Option("--score", help="Least score of a shown box.")] = 0.3,
) -> None:
    """Run photographs on the simulated hardware of a build; every layer is checked."""
    from hwflow import interactive

    console = Console()
    found = interactive.simulate(run, images)
    for path, frame in zip(images, found, strict=True):
        kept = frame.scores >= least
        console.print(f"{path}: {int(kept.sum())} boxes of score >= {least:g}, {frame.cycles:,} "
                      f"cycles, {frame.tensors} layers equal to the integer graph", soft_wrap=True)
        for box, score, label in zip(frame.boxes[kept], frame.scores[kept], frame.labels[kept],
                                     strict=True):
            corners = ", ".join(f"{value:.1f}" for value in box)
            console.print(f"  class {label}  score {score:.3f}  box {corners}")
    if save is not None:
        interactive.draw(found[0], save, least)
        console.print(f"wrote {save}", soft_wrap=True)


app.command(epilog=cli_train.EPILOG)(cli_train.train)
app.command(epilog=cli_run.EPILOG)(cli_run.run)
app.command(epilog=cli_report.REPORT_EPILOG)(cli_report.report)
app.command(epilog=cli_report.COMPARE_EPILOG)(cli_report.compare)


def _version(asked: bool) -> None:
    if asked:
        Console().print(f"hwflow {hwflow.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """From a quantised neural network to a verified FPGA build, in one command."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line; errors meant for people become one message and an exit code."""
    logging.captureWarnings(True)
    for name in ("hwflow", "py.warnings"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII locale must not end a build
    error = Console(stderr=True, highlight=False)
    try:
        app()
    except HwflowError as problem:
        error.print(f"error: {problem}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except MemoryError as problem:
        error.print(f"error: more memory is needed than there is ({problem}); {MEMORY_WAY}",
                    style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except OSError as problem:
        place = f"{problem.filename}: " if problem.filename else ""
        error.print(f"error: {place}{problem.strerror or problem}", style="red", markup=False,
                    soft_wrap=True)
        sys.exit(1)
