# SPDX-License-Identifier: Apache-2.0
"""`hwflow bench tables`: classifiers in lookup tables, ours and others', by one Yosys script.

Every design takes the whole bytes of a sample and gives its class; encoder, sums and argmax are
counted. The netlist that Yosys mapped is run on the whole test split and compared with the class
that the method's integer model gives.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import numpy as np
from rich.table import Table
from rich.text import Text

import hwflow
from hwflow.errors import ConfigError, HwflowError, VerifyError
from hwflow.peers import rows as known
from hwflow.peers.design import Data, Design, NotInstalled, Place, flat
from hwflow.peers.published import PUBLISHED, Published
from hwflow.peers.rows import Row
from hwflow.plan import PYTHON, Command, Plan, execute, write_atomic
from hwflow.report.readers import yosys as reader
from hwflow.toolchain import netlist, yosys

SCHEMA = 1
# ABC's own check of its mapping takes hours for adders in lookup tables; here every mapped netlist
# is run on the whole test split.
SCRIPT = """scratchpad -set abc9.verify 0
{reads}
synth_xilinx -family xc7 -flatten -noiopad -top {top}
tee -q -o stat.json stat -json
write_json netlist.json
"""
SYNTH_TIMEOUT_S = 3600.0
FIGURE = "tables.svg.j2"


@dataclass(frozen=True)
class TablesRecord:
    """One design, measured.

    accuracy: percent of the `samples` of the whole test split, by the integer model. lut: sites of
    lookup tables: LUT1 to LUT6, LUT6_2, inverters left over, shift registers and memories of
    lookup tables. bram: blocks of 36 kbit. stages: registers between pixels and class, counted in
    the netlist. mismatches: samples for which the mapped netlist gives another class than the
    model. parts: lookup tables by part of the design as its maker counts them before synthesis.
    tool: that counted the cells, with its version. recipe: all that decided the design; digest: of
    it, of the samples, of the script and of the tool: a record of another one is not current.
    """

    name: str
    method: str
    who: str
    data: str
    seed: int
    accuracy: float
    samples: int
    lut: int
    carry4: int
    muxf: int
    ff: int
    dsp: int
    bram: float
    stages: int
    mismatches: int
    train_minutes: float | None
    source: str
    notes: str
    cells: Mapping[str, int]
    parts: Mapping[str, int] | None
    tool: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""


@dataclass(frozen=True)
class Missing:
    """A row without numbers. failed: something broke; else a package is not installed."""

    name: str
    method: str
    who: str
    data: str
    seed: int
    reason: str
    failed: bool


AnyRow = TypeVar("AnyRow", TablesRecord, Missing)


@dataclass(frozen=True)
class Results:
    """What a file of the bench holds."""

    records: tuple[TablesRecord, ...]
    missing: tuple[Missing, ...]


def choose(only: str | None, data: str | None) -> tuple[Row, ...]:
    """The rows of comma-separated lists of names and data sets; None is all of them."""
    rows = known.ROWS
    for option, text, have in (("--only", only, {row.name for row in rows}),
                               ("--data", data, {row.data for row in rows})):
        if text is None:
            continue
        wanted = [part.strip() for part in text.split(",") if part.strip()]
        wrong = [one for one in wanted if one not in have]
        if wrong or not wanted:
            raise ConfigError(f"{option} {text!r}: give some of {', '.join(sorted(have))}, "
                              "separated by commas")
        rows = tuple(row for row in rows
                     if (row.name if option == "--only" else row.data) in wanted)
    if not rows:
        raise ConfigError(f"--only {only} has no row with --data {data}; leave one of them out")
    return rows


def measure(
    rows: Sequence[Row], out: Path, cache: Path, python: Path,
    say: Callable[[str], None] = lambda text: None, before: Results | None = None,
) -> Results:  # fmt: skip
    """Measure rows, each seed on its own; what fails or is not installed becomes a Missing.

    out: keeps what was trained and synthesised, by the hash of its settings. before: records of
    which those with the digest of today are taken as they are.
    """
    had = {_key(one): one for one in (before.records if before else ())}
    records: list[TablesRecord] = []
    missing: list[Missing] = []
    loaded: dict[str, Data] = {}
    for row in rows:
        for seed in row.seeds:
            place = Place(out / folder(row, seed), cache, python)
            who = f"{row.name} on {row.data}, seed {seed}"
            try:
                if row.data not in loaded:
                    loaded[row.data] = place.data(row.data)
                data = loaded[row.data]
                recipe = plain({**row.recipe(data, {**row.settings, "seed": seed}, place)})
                old = had.get((row.name, row.data, seed))
                kept = old is not None and old.digest == digest(row, data, recipe)
                one = old if kept and old else record(row, seed, data, place, recipe)
                records.append(one)
                say(f"{who}{', as before' if kept else ''}: {one.accuracy:.2f} %, {one.lut:,} LUT, "
                    f"{one.mismatches} mismatches")
            except HwflowError as error:
                failed = not isinstance(error, NotInstalled)
                missing.append(Missing(row.name, row.method, row.who, row.data, seed,
                                       str(error).splitlines()[0], failed))
                say(f"{who}: {error}")
    return Results(tuple(records), tuple(missing))


def folder(row: Row, seed: int) -> str:
    """Where a row and seed are made, below the folder of the bench."""
    key = json.dumps([row.data, dict(row.settings), seed], sort_keys=True, default=str)
    digest = hashlib.sha256(key.encode()).hexdigest()[:10]
    return f"{row.name}-{row.data.replace(':', '-')}-{digest}"


def plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as the file keeps it."""
    return json.loads(json.dumps(recipe, sort_keys=True))  # type: ignore[no-any-return]


def digest(row: Row, data: Data, recipe: Mapping[str, Any]) -> str:
    """Of all that decides a record."""
    parts = [row.name, row.data, data.train.sha256, data.test.sha256, SCRIPT, yosys.version(),
             recipe]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def record(
    row: Row, seed: int, data: Data, place: Place, recipe: Mapping[str, Any]
) -> TablesRecord:
    """Build, synthesise and check one design."""
    design = row.build(data, {**row.settings, "seed": seed}, place)
    one = count(row, seed, data, design, place.folder / "synth")
    return replace(one, recipe=recipe, digest=digest(row, data, recipe))


def count(row: Row, seed: int, data: Data, design: Design, where: Path) -> TablesRecord:
    """Synthesise a design and run its netlist on the whole test split."""
    # Not by hwflow.kept: the folder of the bench and its records keep results already, and hundreds
    # of netlists would push those of the builds out of the user's cache.
    execute(plan(design), where)
    cells = {name: n for name, n in reader.cells((where / "stat.json").read_text()).items() if n}
    unknown = sorted(cells.keys() - reader.XC7.known - {"LUT6_2"})
    if unknown:
        raise VerifyError(f"{design.top}: Yosys left cells whose size is not known: "
                          f"{', '.join(unknown)}")
    sites = reader.sites(cells, reader.XC7)
    dual = 0 if "LUT6_2" in reader.XC7.luts else cells.get("LUT6_2", 0)
    labels = data.test.labels
    if len(design.predicted) != len(labels):
        raise VerifyError(f"{row.name}: {len(design.predicted)} classes for {len(labels)} samples "
                          "of the test split")
    return TablesRecord(
        row.name, row.method, row.who, row.data, seed,
        round(100 * float((design.predicted == labels).mean()), 2), len(labels),
        int(sites["lut"]) + dual, cells.get("CARRY4", 0),
        sum(cells.get(name, 0) for name in ("MUXF7", "MUXF8")), int(sites["ff"]),
        int(sites["dsp"]), float(sites["bram36"]), design.stages,
        mismatches(design, flat(data.test.images), where / "netlist.json"),
        None if design.train_minutes is None else round(design.train_minutes, 2),
        design.source, design.notes, dict(sorted(cells.items())),
        None if design.parts is None else dict(design.parts), yosys.version(),
    )


def plan(design: Design) -> Plan:
    """The one script for all."""
    reads = "\n".join(f"read_verilog -sv {name}" for name in design.files
                      if name.endswith((".v", ".sv")))
    command = Command(
        (PYTHON, "-m", "hwflow.toolchain.yosys_run", "synth.ys"), "yosys.log",
        timeout_s=SYNTH_TIMEOUT_S, version=yosys.version(),
    )
    return Plan(
        {**design.files, "synth.ys": SCRIPT.format(reads=reads, top=design.top)}, (command,),
        ("stat.json", "netlist.json"), "synth",
    )


def mismatches(design: Design, x: np.ndarray, file: Path) -> int:
    """Samples uint8 (N, F) whose class in the netlist is not the predicted one."""
    bits = np.ascontiguousarray(np.unpackbits(x, axis=1, bitorder="little").T)
    found = netlist.evaluate(netlist.read(file, design.top), {design.pixels: bits}, design.held)
    if design.result not in found:
        raise VerifyError(f"{design.top} has no output {design.result}")
    result = found[design.result]
    if result.stage != design.stages:
        raise VerifyError(f"{design.top}: {result.stage} registers lie between pixels and class in "
                          f"the netlist, {design.stages} by the design")
    return int((result.numbers != design.predicted).sum())


# ---- files and tables


def write(path: Path, found: Results) -> None:
    """Write a file with the results; those of other rows in it stay.

    So does what was measured of a row whose packages are missing now.
    """
    kept = read(path) if path.is_file() else Results((), ())
    new = {_key(one) for one in found.records}
    new |= {_key(one) for one in found.missing if one.failed}
    records = _sorted((*(one for one in kept.records if _key(one) not in new), *found.records))
    known = new | {_key(one) for one in records} | {_key(one) for one in found.missing}
    missing = [one for one in found.missing if one.failed or _key(one) not in map(_key, records)]
    merged = Results(
        records, _sorted((*(one for one in kept.missing if _key(one) not in known), *missing))
    )
    content = {
        "schema": SCHEMA, "hwflow_version": hwflow.__version__,
        "records": [asdict(one) for one in merged.records],
        "missing": [asdict(one) for one in merged.missing],
    }
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())


def read(path: Path) -> Results:
    """The results of a file; ConfigError when it holds none."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return Results(tuple(TablesRecord(**row) for row in body["records"]),
                       tuple(Missing(**row) for row in body["missing"]))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: is not there; run `hwflow bench tables` first") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: is no file of this version's `hwflow bench tables` ({error}); "
                          "move it away and run it again") from error


def only(found: Results, rows: Sequence[Row]) -> Results:
    """The part of results that belongs to rows."""
    names = {(row.name, row.data) for row in rows}
    return Results(tuple(one for one in found.records if (one.name, one.data) in names),
                   tuple(one for one in found.missing if (one.name, one.data) in names))


def _key(one: TablesRecord | Missing) -> tuple[str, str, int]:
    return one.name, one.data, one.seed


def _sorted(ones: Iterable[AnyRow]) -> tuple[AnyRow, ...]:
    order = {(row.name, row.data): n for n, row in enumerate(known.ROWS)}
    return tuple(sorted(ones, key=lambda one: (order.get((one.name, one.data), len(order)),
                                               one.data, one.name, one.seed)))


Column = tuple[str, Callable[[TablesRecord, Sequence[TablesRecord]], str]]
COLUMNS: tuple[Column, ...] = (
    ("method", lambda r, _: r.method),
    ("who", lambda r, _: r.who),
    ("data", lambda r, _: r.data),
    ("accuracy %", lambda r, all_: _spread(r, all_)),
    ("LUT", lambda r, _: f"{r.lut:,}"),
    ("CARRY4", lambda r, _: f"{r.carry4:,}"),
    ("MUXF", lambda r, _: f"{r.muxf:,}"),
    ("FF", lambda r, _: f"{r.ff:,}"),
    ("DSP", lambda r, _: f"{r.dsp:,}"),
    ("BRAM", lambda r, _: f"{r.bram:g}"),
    ("stages", lambda r, _: str(r.stages)),
    ("mismatches", lambda r, all_: f"{sum(one.mismatches for one in all_)} of "
                                   f"{sum(one.samples for one in all_):,}"),
    ("training min", lambda r, _: "-" if r.train_minutes is None else f"{r.train_minutes:.1f}"),
)  # fmt: skip
WORDS = ("method", "who", "data")


def medians(records: Sequence[TablesRecord]) -> tuple[tuple[TablesRecord, ...], ...]:
    """The records of each row, the one of median accuracy first.

    With an even number it is the lower of the two in the middle, which is a design that exists.
    """
    groups: dict[tuple[str, str], list[TablesRecord]] = {}
    for one in records:
        groups.setdefault((one.name, one.data), []).append(one)
    found = []
    for group in groups.values():
        middle = statistics.median_low(one.accuracy for one in group)
        first = next(one for one in group if one.accuracy == middle)
        found.append((first, *(one for one in group if one is not first)))
    return tuple(found)


def _spread(first: TablesRecord, all_: Sequence[TablesRecord]) -> str:
    if len(all_) == 1:
        return f"{first.accuracy:.2f}"
    values = [one.accuracy for one in all_]
    return (f"{first.accuracy:.2f} (median of {len(all_)} seeds, {min(values):.2f} to "
            f"{max(values):.2f})")


def tools(records: Iterable[TablesRecord]) -> str:
    """What counted the cells, as the records say."""
    return ", ".join(sorted({one.tool for one in records})) or "no record"


def origin(found: Results) -> str:
    """Where the numbers of the table come from."""
    return (
        f"Kind: {reader.KIND} ({tools(found.records)}, `synth_xilinx -family xc7 -flatten "
        "-noiopad`), everything from the bytes of a sample to its class counted. Accuracy on the "
        "whole test split. Mismatches: samples for which the mapped netlist gives another class "
        "than the method's integer model. Of several seeds the design of median accuracy is shown."
    )


def render(found: Results) -> Table:
    """The table for a terminal."""
    table = Table(show_edge=False, pad_edge=False, caption=Text(origin(found), "dim"),
                  caption_justify="left")
    for title, _ in COLUMNS:
        table.add_column(title, justify="left" if title in WORDS else "right", overflow="fold")
    for group in medians(found.records):
        table.add_row(*(Text(show(group[0], group)) for _, show in COLUMNS))
    for one in found.missing:
        table.add_row(*(Text(cell) for cell in (one.method, one.who, one.data)),
                      Text("failed" if one.failed else "not installed"))
    return table


def markdown(found: Results) -> str:
    """The tables of docs/tables-bench.md."""
    groups = medians(found.records)
    lines = [_line([title for title, _ in COLUMNS]),
             _line(["---" if title in WORDS else "---:" for title, _ in COLUMNS])]
    lines += [_line([show(group[0], group) for _, show in COLUMNS]) for group in groups]
    lines += ["", origin(found)]
    if found.missing:
        lines += ["", "Without numbers:", ""]
        lines += [f"- {one.method} on {one.data}, seed {one.seed}: {one.reason}"
                  for one in found.missing]
    lines += ["", "Settings and sources:", ""]
    lines += [f"- {group[0].method} on {group[0].data}: "
              + "; ".join(filter(None, (group[0].notes, group[0].source))) for group in groups]
    parted = [group[0] for group in groups if group[0].parts]
    if parted:
        counts = [_together(one.parts or {}) for one in parted]
        names = list(dict.fromkeys(name for one in counts for name in one))
        lines += ["", "Lookup tables by part, as the emitter counts them before synthesis:", "",
                  _line(["method", "data", *names, "sum", "Yosys"]),
                  _line(["---", "---", *["---:"] * (len(names) + 2)])]
        lines += [
            _line([one.method, one.data, *(f"{luts.get(name, 0):,}" for name in names),
                   f"{sum(luts.values()):,}", f"{one.lut:,}"])
            for one, luts in zip(parted, counts, strict=True)
        ]
    return "\n".join(lines) + "\n"


def _together(parts: Mapping[str, int]) -> dict[str, int]:
    """Encoders, of which there is one a threshold, as one part."""
    found: dict[str, int] = {}
    for name, luts in parts.items():
        kind = "encoder" if name.startswith("encoder") else name
        found[kind] = found.get(kind, 0) + luts
    return found


def published() -> str:
    """The table of numbers that others printed; never beside measured ones."""
    titles = ("method", "data", "accuracy %", "LUT", "FF", "Fmax MHz", "ns", "chip and tool",
              "encoder", "read in")
    lines = [_line(titles), _line(["---", "---", *["---:"] * 5, "---", "---", "---"])]

    def row(one: Published) -> list[str]:
        return [one.method, one.data, one.accuracy, one.lut, one.ff, one.fmax_mhz, one.latency_ns,
                one.tool, one.encoder, one.source]

    return "\n".join([*lines, *(_line(row(one)) for one in PUBLISHED)]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


# ---- the figure


@dataclass(frozen=True)
class Mark:
    """A design in the figure, in pixels; label_x, label_y: where its name begins or ends."""

    x: float
    y: float
    ours: bool
    name: str
    tip: str
    label_y: float
    left: bool


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 46, 52
LINE = 15  # pixels between labels


def figure(found: Results, data: str) -> str | None:
    """Accuracy over LUT of one data set as an SVG; None with fewer than two designs."""
    shown = [group[0] for group in medians(found.records) if group[0].data == data]
    if len(shown) < 2:
        return None
    low = math.log10(min(one.lut for one in shown) / 1.25)
    high = math.log10(max(one.lut for one in shown) * 1.6)
    worst, best = min(one.accuracy for one in shown), max(one.accuracy for one in shown)
    margin = max(0.4, 0.12 * (best - worst))
    bottom, top = worst - margin, min(100.0, best + margin)

    def across(lut: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(lut) - low) / (high - low)

    def upward(accuracy: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (accuracy - bottom) / (top - bottom)

    marks = _labelled([(across(one.lut), upward(one.accuracy), one) for one in shown])
    steps = [digit * 10**power for power in range(7) for digit in (1, 2, 5)]
    x_ticks = [Tick(across(n), f"{n:,}") for n in steps if low <= math.log10(n) <= high]
    step = next(one for one in (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0) if (top - bottom) / one <= 8)
    first = math.ceil(bottom / step)
    y_ticks = [Tick(upward(n * step), f"{n * step:g}")
               for n in range(first, math.floor(top / step) + 1)]
    folder = Path(__file__).parent / "report" / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined, autoescape=True,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )
    return environment.get_template(FIGURE).render(
        marks=marks, x_ticks=x_ticks, y_ticks=y_ticks, width=WIDTH, height=HEIGHT, left=LEFT,
        right=WIDTH - RIGHT, top=TOP, bottom=HEIGHT - BOTTOM, title=f"Accuracy over LUT, {data}",
        tool=f"{tools(shown)}, {reader.KIND}",
    )


def _labelled(places: Sequence[tuple[float, float, TablesRecord]]) -> tuple[Mark, ...]:
    """Marks whose labels do not lie on each other: later ones move down."""
    taken: list[tuple[float, float, float]] = []
    marks = []
    for x, y, one in sorted(places, key=lambda place: place[1]):
        size = 6.6 * len(one.method) + 12
        left = x + size > WIDTH - RIGHT
        begin = x - size if left else x
        at = y + 4
        while any(abs(at - other) < LINE and begin < end and start < begin + size
                  for start, end, other in taken):
            at += 1
        taken.append((begin, begin + size, at))
        tip = f"{one.method} ({one.who}): {one.accuracy:.2f} % at {one.lut:,} LUT"
        marks.append(Mark(x, y, one.who == "ours", one.method, tip, at, left))
    return tuple(marks)
