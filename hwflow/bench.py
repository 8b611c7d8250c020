# SPDX-License-Identifier: Apache-2.0
"""`hwflow bench engine`: a whole frame of every configuration in the RTL simulation.

Each configuration goes through the stages of a build up to the program, in the run directory of a
build, so that what is there already is not made again; then one photograph runs as a frame of the
20-class network, and every word it writes is compared with the integer graph.
"""

from __future__ import annotations

import bisect
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from rich.table import Table
from rich.text import Text

import hwflow
from hwflow import boards, stages
from hwflow import build as runner
from hwflow.boards import Board
from hwflow.build import Record, Stage, View
from hwflow.errors import ConfigError
from hwflow.estimate import PAPER_FPS
from hwflow.models import shapes
from hwflow.plan import write_atomic
from hwflow.report import schema
from hwflow.stages import hardware
from hwflow.stages.options import BuildOptions, default_out, options
from hwflow.stages.results import read_json
from hwflow.stages.summary import git_commit

SCHEMA: Literal[1] = 1
BEFORE = ("data", "train", "export", "lower", "rtl")  # stages of a build that a frame needs
MOST = 3  # losses and waits that a record names
LEAST_MB_S = 1.0  # of the DDR; the model counts in thousandths of a byte a cycle (sim/ddr.py)
ARRAY = 0  # number of the array's queue
# Cycles a frame on GOALS_BOARD, set before there was an engine: the limit, and the aim
GOALS: Mapping[str, tuple[int, int]] = {
    "a": (931_000, 750_000), "b": (1_111_000, 790_000), "c": (3_225_000, 3_000_000),
    "d": (10_700_000, 9_600_000), "e": (11_100_000, 9_900_000),
}  # fmt: skip
GOALS_BOARD = "pynq-z2"
START, OWN = "the first map", "its own next operation"
END = "the end of the frame"


@dataclass(frozen=True)
class Loss:
    """Cycles of a layer above the bound of the arithmetic; percent of the frame."""

    layer: str
    op: str
    queue: str
    cycles: int
    percent: float


@dataclass(frozen=True)
class Wait:
    """Cycles the array stood still until `layer` of the lanes was completed; percent of the frame.
    """

    layer: str
    cycles: int
    percent: float


@dataclass(frozen=True)
class OtherDdr:
    """The same frame with another bandwidth of the DDR."""

    ddr_gb_s: float
    cycles_per_frame: int
    fps: float
    ddr_bytes: int
    mismatches: int


@dataclass(frozen=True)
class BenchRecord:
    """One configuration, one frame; README and docs take their numbers from here.

    ideal_cycles: the 1x1 layers and the first one on all multipliers of the array, each pixel once.
    utilisation: ideal_cycles / cycles_per_frame. Errors of the model are those above measured
    cycles. layers_within_5_percent: of `layers` layers that run on the engine, those whose cycles
    the model knows so well. sim_seconds: of the simulator alone.
    """

    config: str
    input_size: int
    width: int
    classes: int
    board: str
    kind: str
    tool: str
    weights: str
    photograph: str
    clock_mhz: float
    ddr_gb_s: float
    cycles_per_frame: int
    fps: float
    ideal_cycles: int
    utilisation: float
    macs_per_frame: int
    ddr_bytes: int
    mismatches: int
    tensors_compared: int
    model_cycles: int
    model_error_percent: float
    worst_layer: str
    worst_layer_error_percent: float
    layers: int
    layers_within_5_percent: int
    paper_fps: float | None
    ratio: float | None
    losses: tuple[Loss, ...]
    array_waits: tuple[Wait, ...]
    array_busy_percent: float
    lanes_busy_percent: float
    other_ddr: tuple[OtherDdr, ...]
    sim_seconds: float
    run: str


@dataclass(frozen=True)
class BenchFile:
    """What a bench leaves. failed: configurations without a record, and why."""

    schema: Literal[1]
    hwflow_version: str
    git: str | None
    failed: dict[str, str]
    records: tuple[BenchRecord, ...]


Measured = tuple[BenchRecord | None, tuple[Record, ...]]  # no record when a stage failed


def configs(text: str) -> tuple[str, ...]:
    """The configurations of a comma-separated list, in its order."""
    chosen = tuple(part.strip() for part in text.split(",") if part.strip())
    wrong = [name for name in chosen if name not in shapes.CODENET]
    if wrong or not chosen or len(set(chosen)) != len(chosen):
        raise ConfigError(
            f"--configs {text!r}: give some of {', '.join(shapes.CODENET)}, each once, as a,b,c"
        )
    return chosen


def rates(text: str, board: Board) -> tuple[float, ...]:
    """Bandwidths of the DDR in MB/s from a list in GB/s; the board's own one comes first."""
    own = board.ddr.sustained_mb_s
    try:
        found = [round(1000 * float(part), 3) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(f"--ddr {text!r}: give GB/s, as 0.5,1.05,2.1") from error
    if not all(LEAST_MB_S <= rate < math.inf for rate in found):
        raise ConfigError(
            f"--ddr {text!r}: a bandwidth must be a number of GB/s, {LEAST_MB_S / 1000:g} or more"
        )
    return tuple(dict.fromkeys((own, *found)))


def bench_stages(mb_s: Sequence[float]) -> tuple[Stage, ...]:
    """Those of a build up to the program, then one for each bandwidth of the DDR."""
    known = {stage.name: stage for stage in stages.STAGES}
    sim = known["sim"]
    return (
        *(known[name] for name in BEFORE),
        *(
            dataclasses.replace(
                sim, name=stage_name(rate), run=hardware.measure(rate), options=("seed",)
            )
            for rate in mb_s
        ),
    )


def stage_name(mb_s: float) -> str:
    """The stage, and the folder in the run directory, of a bandwidth."""
    return f"frame-{mb_s:g}"


def run_of(config: str, board: str) -> tuple[BuildOptions, Path]:
    """The options and the run directory of a configuration, those of `hwflow build`."""
    chosen = options("codenet", board, config)
    return chosen, default_out(chosen)


def measure(
    chosen: BuildOptions, mb_s: Sequence[float], out: Path, view: View | None = None
) -> Measured:
    """Run one configuration, or a QONNX file; the record is None when a stage failed."""
    records = runner.build(bench_stages(mb_s), chosen, out, view=view)
    if any(record.status == "failed" for record in records):
        return None, records
    return record(chosen, mb_s, out), records


@dataclass(frozen=True)
class Lines:
    """A view for several configurations at once: one line for each stage that is over."""

    name: str
    write: Callable[[str], None]

    def start(self, stage: str) -> None:
        """A stage begins."""

    def say(self, stage: str, text: str) -> None:
        """A stage tells its progress."""

    def end(self, record: Record) -> None:
        """A stage is over."""
        what = " ".join(filter(None, (record.made, record.reason)))
        self.write(
            f"{self.name}: {record.name:<10} {record.status:<8} {record.seconds:8.1f} s  {what}"
        )


def together(
    names: Sequence[str], board: str, mb_s: Sequence[float], jobs: int,
    write: Callable[[str], None],
) -> Iterator[tuple[str, Measured]]:  # fmt: skip
    """Configurations in `jobs` processes of their own, in their order as they are done."""
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        tasks = [(name, pool.submit(_apart, name, board, tuple(mb_s), write)) for name in names]
        try:
            for name, task in tasks:
                yield name, task.result()
        finally:
            for _, task in tasks:
                task.cancel()


def _apart(
    name: str, board: str, mb_s: tuple[float, ...], write: Callable[[str], None]
) -> Measured:
    chosen, out = run_of(name, board)
    return measure(chosen, mb_s, out, Lines(f"configuration {name}", write))


def record(chosen: BuildOptions, mb_s: Sequence[float], out: Path) -> BenchRecord:
    """What the simulations of a run directory say; the first bandwidth is the board's."""
    found = [read_json(out / stage_name(rate) / "result.json") for rate in mb_s]
    main = found[0]
    speed = main["performance"]
    cycles = speed["cycles_per_frame"]
    worst, error, near, count = _against_model(main)
    cfg = shapes.codenet(chosen.config) if chosen.config else None
    paper = PAPER_FPS.get(chosen.config or "")
    waits = array_waits(main["spans"], main["nodes"], cycles)
    busy = [sum(end - start for _, queue, start, end in main["spans"] if queue == number)
            for number in (0, 1)]  # fmt: skip
    return BenchRecord(
        config=chosen.config or chosen.model, input_size=cfg.input_size if cfg else 0,
        width=cfg.width if cfg else 0, classes=cfg.classes if cfg else 0, board=chosen.board,
        kind=speed["kind"], tool=speed["tool"], weights=_weights(chosen),
        photograph=_photograph(chosen, out), clock_mhz=speed["clock_mhz"],
        ddr_gb_s=main["ddr_mb_s"] / 1000, cycles_per_frame=cycles, fps=speed["fps"],
        ideal_cycles=main["ideal_cycles"], utilisation=round(main["ideal_cycles"] / cycles, 4),
        macs_per_frame=speed["macs_per_frame"], ddr_bytes=speed["ddr_bytes_per_frame"],
        mismatches=main["mismatches"], tensors_compared=main["tensors"],
        model_cycles=main["model_cycles"],
        model_error_percent=round(100 * (main["model_cycles"] / cycles - 1), 2),
        worst_layer=worst, worst_layer_error_percent=round(error, 2), layers=count,
        layers_within_5_percent=near, paper_fps=paper,
        ratio=round(speed["fps"] / paper, 2) if paper else None,
        losses=losses(main["layers"], cycles), array_waits=waits[:MOST],
        array_busy_percent=round(100 * busy[0] / cycles, 2),
        lanes_busy_percent=round(100 * busy[1] / cycles, 2),
        other_ddr=tuple(
            OtherDdr(
                one["ddr_mb_s"] / 1000, one["performance"]["cycles_per_frame"],
                one["performance"]["fps"], one["performance"]["ddr_bytes_per_frame"],
                one["mismatches"],
            )
            for one in found[1:]
        ),
        sim_seconds=round(main["sim_seconds"], 1), run=str(out),
    )


def losses(layers: Sequence[dict[str, Any]], frame: int, most: int = MOST) -> tuple[Loss, ...]:
    """The layers with most cycles above the bound of the arithmetic, the largest first."""
    found = [
        Loss(row["name"], row["op"], row["queue"], row["cycles"] - row["ideal_cycles"],
             round(100 * (row["cycles"] - row["ideal_cycles"]) / frame, 2))
        for row in layers if row["cycles"] > row["ideal_cycles"]
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda loss: -loss.cycles)[:most])


def array_waits(
    spans: Sequence[Sequence[int]], nodes: dict[str, str], frame: int
) -> tuple[Wait, ...]:
    """For each layer of the lanes, how long the array stood still until it was completed.

    spans: (tag, queue, first cycle, cycle after the last). A pause of the array is put down to what
    the lanes completed last before it ended; after the array's last operation, to what they still
    did; without either, to the start or the end of the frame. The longest first.
    """
    lanes = sorted((end, tag) for tag, queue, _, end in spans if queue != ARRAY)
    ends = [end for end, _ in lanes]
    array = sorted((start, end) for _, queue, start, end in spans if queue == ARRAY)
    cycles: dict[str, int] = {}

    def add(name: str, count: int) -> None:
        if count > 0:
            cycles[name] = cycles.get(name, 0) + count

    last = 0
    for start, end in array:
        done = bisect.bisect_right(ends, start) - 1
        blocked = nodes[str(lanes[done][1])] if done >= 0 and ends[done] > last else None
        add(blocked or (OWN if last else START), start - last)
        last = max(last, end)
    rest = last
    for finished, tag in lanes:
        if finished > rest:
            add(nodes[str(tag)], finished - rest)
            rest = finished
    add(END, frame - rest)
    found = [Wait(name, count, round(100 * count / frame, 2)) for name, count in cycles.items()]
    return tuple(sorted(found, key=lambda wait: -wait.cycles))


def _against_model(main: dict[str, Any]) -> tuple[str, float, int, int]:
    """Worst layer of the cycle model, its error in percent, layers within 5 percent, layers."""
    errors = {
        row["name"]: 100 * (main["model"][row["name"]] / row["cycles"] - 1)
        for row in main["layers"] if row["cycles"] and row["name"] in main["model"]
    }
    worst = max(errors, key=lambda name: abs(errors[name]))
    near = sum(abs(error) <= 5 for error in errors.values())
    return worst, errors[worst], near, len(errors)


def _weights(chosen: BuildOptions) -> str:
    if chosen.file is not None:
        return chosen.file.name
    if chosen.weights is None:
        return f"untrained, seed {chosen.seed}, quantisers calibrated on photographs"
    return (
        f"{chosen.weights.name}, its class layer extended to {shapes.PAPER_CLASSES} classes "
        f"(seed {chosen.seed})"
    )


def _photograph(chosen: BuildOptions, out: Path) -> str:
    if chosen.file is not None:
        return f"noise, seed {chosen.seed}"
    found = read_json(out / "data" / "provenance.json")
    return f"number {found['tiles'][0]} of the test split of {found['spec']}"


# ---- files and tables


def write(path: Path, records: Sequence[BenchRecord], failed: Mapping[str, str]) -> None:
    """Write the records, wholly or not at all; failed: configurations without one, and why."""
    commit = git_commit(Path(hwflow.__file__).resolve().parents[1])
    content = BenchFile(SCHEMA, hwflow.__version__, commit, dict(failed), tuple(records))
    write_atomic(path, (json.dumps(asdict(content), indent=1) + "\n").encode())


def report(
    chosen: BuildOptions, records: Sequence[Record], mb_s: float, out: Path
) -> schema.Report:
    """What a configuration's page shows: the frame of a bandwidth, and why the rest is missing."""
    main = read_json(out / stage_name(mb_s) / "result.json")
    why = "not part of a bench; `hwflow build` has it"
    return schema.Report(
        schema_=1, model=chosen.model, config=chosen.config, board=chosen.board,
        data=schema.Data(spec=chosen.data, source=None, sha256=None, bytes=None, classes=None,
                         reason=why),
        hwflow_version=hwflow.__version__, git=None,
        stages=[
            schema.StageRow(name=r.name, status=r.status,  # type: ignore[arg-type]
                            seconds=round(r.seconds, 3), reason=r.reason)
            for r in records
        ],
        accuracy=schema.Accuracy(reason=why),
        verify=schema.Verify(
            qonnx=schema.ImagesChecked(reason=why), hls=schema.ImagesChecked(reason=why),
            rtl=schema.FramesChecked(frames=1, mismatches=main["mismatches"], tool=main["tool"]),
        ),
        performance=schema.Performance(**main["performance"]),
        layers=[schema.Layer(**row) for row in main["layers"]],
        resources=schema.Resources(reason=why), timing=schema.Timing(reason=why),
        bitstream=schema.Bitstream(status="skipped", reason=why),
    )  # fmt: skip


Row = tuple[str, Callable[[BenchRecord], str]]
COLUMNS: tuple[Row, ...] = (
    ("config", lambda r: r.config),
    ("ideal cycles", lambda r: f"{r.ideal_cycles:,}"),
    ("measured", lambda r: f"{r.cycles_per_frame:,}"),
    ("utilisation", lambda r: f"{100 * r.utilisation:.1f} %"),
    ("model", lambda r: f"{r.model_error_percent:+.1f} %"),
    ("DDR bytes", lambda r: f"{r.ddr_bytes:,}"),
    ("fps", lambda r: f"{r.fps:,.1f}"),
    ("paper", lambda r: "-" if r.paper_fps is None else f"{r.paper_fps:g}"),
    ("ratio", lambda r: "-" if r.ratio is None else f"{r.ratio:.1f}"),
    ("largest losses by layer", lambda r: ", ".join(
        f"{loss.layer} {loss.cycles:,}" for loss in r.losses)),
    ("the array waited for", lambda r: ", ".join(
        f"{wait.layer} {wait.cycles:,}" for wait in r.array_waits)),
    ("mismatches", lambda r: str(r.mismatches)),
)  # fmt: skip
WORDS = ("config", "largest losses by layer", "the array waited for")


def origin(records: Sequence[BenchRecord]) -> str:
    """One sentence for where all the numbers of a table come from."""
    one = records[0]
    return (
        f"Kind: {one.kind} ({one.tool}), one frame a configuration on {one.board} at "
        f"{one.clock_mhz:g} MHz, DDR {one.ddr_gb_s:g} GB/s; every word of every layer compared "
        "with the integer graph. Cycles and DDR bytes are those of one frame; the paper's frame "
        "rates are those of its own accelerator on an Ultra96."
    )


def render(records: Sequence[BenchRecord]) -> Table:
    """The table for a terminal."""
    table = Table(show_edge=False, pad_edge=False, caption=Text(origin(records), "dim"),
                  caption_justify="left")
    for title, _ in COLUMNS:
        table.add_column(title, justify="left" if title in WORDS else "right", overflow="fold")
    for one in records:
        table.add_row(*(Text(show(one)) for _, show in COLUMNS))
    return table


def markdown(records: Sequence[BenchRecord]) -> str:
    """The tables of docs/performance.md."""
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [line([title for title, _ in COLUMNS])]
    lines.append(line(["---" if title in WORDS else "---:" for title, _ in COLUMNS]))
    lines += [line([show(one) for _, show in COLUMNS]) for one in records]
    lines += ["", origin(records)]
    weights: dict[str, list[str]] = {}
    for one in records:
        weights.setdefault(one.weights, []).append(one.config)
    lines += ["Weights: " + "; ".join(f"{', '.join(who)}: {what}" for what, who in weights.items())
              + "."]
    others = list(dict.fromkeys(ddr.ddr_gb_s for one in records for ddr in one.other_ddr))
    if others:
        every = sorted({records[0].ddr_gb_s, *others})
        lines += ["", line(["config", *(f"{rate:g} GB/s" for rate in every)]),
                  line(["---", *("---:" for _ in every)])]
        for one in records:
            found = {one.ddr_gb_s: (one.cycles_per_frame, one.fps)}
            found |= {d.ddr_gb_s: (d.cycles_per_frame, d.fps) for d in one.other_ddr}
            lines.append(line([one.config, *(
                f"{found[rate][0]:,} ({found[rate][1]:,.1f} fps)" if rate in found else "-"
                for rate in every
            )]))  # fmt: skip
    with_goal = [r for r in records if r.config in GOALS and r.board == GOALS_BOARD]
    if with_goal:
        goals = ("config", "limit: cycles", "aim: cycles", "measured", "limit", "aim")
        lines += ["", line(goals), line(["---", "---:", "---:", "---:", "---", "---"])]
        lines += [
            line([r.config, *(f"{goal:,}" for goal in GOALS[r.config]), f"{r.cycles_per_frame:,}",
                  *(_against(r.cycles_per_frame, goal) for goal in GOALS[r.config])])
            for r in with_goal
        ]  # fmt: skip
    titles = ("config", "model", "measured", "error", "layers within 5 %", "worst layer",
              "simulated in")
    lines += ["", line(titles), line(["---", "---:", "---:", "---:", "---:", "---", "---:"])]
    lines += [
        line([r.config, f"{r.model_cycles:,}", f"{r.cycles_per_frame:,}",
              f"{r.model_error_percent:+.2f} %", f"{r.layers_within_5_percent} of {r.layers}",
              f"{r.worst_layer} {r.worst_layer_error_percent:+.1f} %", f"{r.sim_seconds:.0f} s"])
        for r in records
    ]
    lines += ["", "Simulated in: the frame at the board's bandwidth, by the clock on the wall."]
    return "\n".join(lines) + "\n"


def _against(cycles: int, goal: int) -> str:
    """Whether a frame is within a goal; if not, by how many cycles it misses it."""
    if cycles <= goal:
        return "kept"
    return f"**missed** by {cycles - goal:,} ({100 * (cycles / goal - 1):.1f} %)"


def insert(path: Path, table: str, name: str) -> None:
    """Put tables between the two marks of that name in a Markdown file; ConfigError without them.
    """
    before, after = around(path, name)
    write_atomic(path, f"{before}\n{table}{after}".encode())


def around(path: Path, name: str) -> tuple[str, str]:
    """What a Markdown file has up to the first of the two marks of a table, and from the second on.

    Raises ConfigError when it cannot be read or lacks one of them.
    """
    first, last = f"<!-- hwflow bench {name} -->", f"<!-- end of {name} -->"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--into {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--into {path}: is not UTF-8 text") from error
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ConfigError(f"--into {path}: has no lines {first} and {last}; add them where the "
                          "tables belong")
    return before + begin, end + after


def read(path: Path) -> BenchFile:
    """A file of records; ConfigError names what is wrong with it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: is not there; run `hwflow bench engine` first") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the file that `hwflow "
                          "bench engine` left") from error
    try:
        return TypeAdapter(BenchFile).validate_json(data, strict=True)
    except ValidationError as error:
        raise ConfigError(
            f"{path}: is no file of this version's `hwflow bench engine` "
            f"({schema.problems(error)}); run it again"
        ) from error


def chosen_of(path: Path, names: Sequence[str] | None) -> tuple[BenchRecord, ...]:
    """The records of some configurations, or of all that a file has; ConfigError without one."""
    content = read(path)
    there = {one.config: one for one in content.records}
    wanted = tuple(there) if names is None else names
    lacks = [f"{name} (failed: {content.failed[name]})" if name in content.failed else name
             for name in wanted if name not in there]  # fmt: skip
    if lacks or not wanted:
        what = f"no frame of {', '.join(lacks)}, only of {', '.join(there)}"
        raise ConfigError(
            f"{path}: holds {what if there else 'no frame'}; run `hwflow bench engine` without "
            "--show"
        )
    return tuple(there[name] for name in wanted)


def page(
    folder: Path, chosen: BuildOptions, records: Sequence[Record], mb_s: float, out: Path
) -> Path:
    """Write the page of a configuration, with its timeline and roofline; returns the file."""
    from hwflow.report import page as drawing

    path = folder / f"{out.name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {record.name: record.made for record in records}
    content = drawing.render(report(chosen, records, mb_s, out), {"made": made})
    write_atomic(path, content.encode())
    return path


def board_of(name: str) -> Board:
    """The board of a bench; ConfigError for one that nothing can be built for."""
    board = boards.load(name)
    if board.why_not is not None:
        raise ConfigError(board.why_not)
    return board
