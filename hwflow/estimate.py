# SPDX-License-Identifier: Apache-2.0
"""What a network would reach on a board, from the cycle model alone: no training, no simulation.

The compiler makes the same operations as for a build, and the model says when each of them would
run (docs/engine.md, "Cycles"). For our own models the integer graph is made of shapes alone, with
weights of zero: neither the operations nor the model look at their values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from hwflow import ingest, passes
from hwflow.boards import Board, OtherDesign
from hwflow.emit import isa
from hwflow.emit.engine import DW_MACS, EngineParams, Program, compile_graph
from hwflow.emit.engine.program import CONV_CYCLES, TILE_CYCLES
from hwflow.errors import ConfigError
from hwflow.ir import Graph, GraphBuilder, IntType, Tensor
from hwflow.models import shapes
from hwflow.ops import OPS
from hwflow.ops.arith import proven_acc_bits
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.peaks import PeaksAttrs
from hwflow.ops.shuffle import ShuffleAttrs
from hwflow.ops.slice import SliceAttrs
from hwflow.ops.types import int_type
from hwflow.ops.upsample import UpsampleAttrs
from hwflow.passes.engine_form import form_of
from hwflow.report import schema
from hwflow.stages.hardware import engine_params, ideal_cycles, layer_rows

if TYPE_CHECKING:
    from hwflow.models.shapes import CodenetConfig

SCHEMA = 1
KIND: schema.Kind = "estimate of the cycle model"
# Frames a second of CoDeNet's own accelerator on an Ultra96 (Dong et al., FPGA 2021, table of
# configurations); it never published f and g.
PAPER_FPS: Mapping[str, float] = {"a": 32.2, "b": 26.9, "c": 9.3, "d": 5.2, "e": 4.6}
U8, I8, U3 = (IntType.parse(name) for name in ("u8", "i8", "u3"))


@dataclass(frozen=True)
class ModelError:
    """How far the cycle model was from simulation where that was measured, in percent."""

    measured_on: str
    frame_percent: float
    worst_layer_percent: float | None
    worst_layer: str | None


@dataclass(frozen=True)
class Sizes:
    """What the engine takes of a chip by arithmetic; None for what only synthesis can tell."""

    dsp: int
    bram36: int
    lut: int | None
    ff: int | None
    reason: str


@dataclass(frozen=True)
class ArrayLosses:
    """Cycles that the array works above its bound (`ideal_cycles`), by the cycle model.

    again: pixels made more than once, because bands share rows. unfilled: columns without a channel
    in the last tiles, and words of the stream that come late. headers: the channel records of each
    tile, and filling and draining once an operation.
    """

    again: int
    unfilled: int
    headers: int


@dataclass(frozen=True)
class Estimate:
    """A frame by the cycle model. cycles_per_frame is the greater of the model's and of what the
    DDR needs at its sustained bandwidth (`ddr_cycles`).

    images: in a frame (16 in the form of passes/engine_form.py); fps counts images.
    ideal_cycles: the 1x1 layers and the first one on all multipliers of the array. utilisation:
    ideal_cycles / cycles_per_frame. lanes_ideal_cycles: depthwise and deformable layers on all
    multipliers of the lanes.
    """

    kind: str
    model: str
    config: str | None
    board: str
    columns: int
    pixels: int
    clock_mhz: float
    images: int
    cycles_per_frame: int
    fps: float
    ideal_cycles: int
    utilisation: float
    lanes_ideal_cycles: int
    array_losses: ArrayLosses
    macs_per_frame: int
    ddr_bytes_per_frame: int
    ddr_cycles: int
    act_words: int
    act_words_used: int
    model_error: ModelError | None
    model_error_reason: str | None
    paper_fps: float | None
    ratio: float | None
    sizes: Sizes
    others: tuple[OtherDesign, ...]
    layers: tuple[schema.Layer, ...]

    def to_json(self) -> str:
        """The same as JSON text."""
        body = {"schema": SCHEMA, **asdict(self)}
        body["others"] = [other.model_dump() for other in self.others]
        body["layers"] = [layer.model_dump() for layer in self.layers]
        return json.dumps(body, indent=1) + "\n"

    def report(self) -> schema.Report:
        """A report whose only numbers are the model's, for the page."""
        import hwflow

        why = "not part of an estimate"
        return schema.Report(
            schema_=1, model=self.model, config=self.config, board=self.board,
            data=schema.Data(spec="none", source=None, sha256=None, bytes=None, classes=None,
                             reason=why),
            hwflow_version=hwflow.__version__, git=None, stages=[],
            accuracy=schema.Accuracy(reason=why),
            verify=schema.Verify(
                qonnx=schema.ImagesChecked(reason=why), hls=schema.ImagesChecked(reason=why),
                rtl=schema.FramesChecked(reason=why),
            ),
            performance=schema.Performance(
                kind=KIND, tool=f"hwflow {hwflow.__version__}",
                cycles_per_frame=self.cycles_per_frame, clock_mhz=self.clock_mhz, fps=self.fps,
                macs_per_frame=self.macs_per_frame,
                mac_utilisation=round(self.macs_per_frame / self.cycles_per_frame
                                      / (self.columns * self.pixels + 9 * isa.LANES), 4),
                ddr_bytes_per_frame=self.ddr_bytes_per_frame,
            ),
            layers=list(self.layers), resources=schema.Resources(reason=self.sizes.reason),
            timing=schema.Timing(reason=why),
            bitstream=schema.Bitstream(status="skipped", reason=why),
        )  # fmt: skip


def estimate(graph: Graph, board: Board, model: str, config: str | None = None) -> Estimate:
    """A lowered network on a board. Raises GraphError or ResourceError when it does not run there.

    config: letter of a configuration of the paper, for the paper's own frame rate.
    """
    params = engine_params(board)
    form = form_of(graph)
    macs = graph.macs()
    images = 1
    if form is not None:
        graph, images = form.graph, form.images
        macs *= images
    program = compile_graph(graph, params)
    spans = [
        (step.tag, isa.QUEUES[step.queue], step.model_start, step.model_start + step.model_cycles)
        for step in program.steps
        if step.model_start is not None and step.model_cycles is not None
    ]
    rows = layer_rows(program, graph, spans, isa.CANDIDATES if program.classes else 0)
    traffic = sum(row["ddr_bytes"] for row in rows)
    ddr_cycles = -(-traffic // params.bytes_per_cycle)
    cycles = max(program.model_cycles, int(ddr_cycles))
    fps = images * board.clock.mhz * 1e6 / cycles
    ideal = ideal_cycles(graph, params)
    paper = PAPER_FPS.get(config) if config else None
    lanes = sum(-(-graph.macs(node) // DW_MACS) for node in graph.nodes
                if node.op in ("dw", "deform_dw"))  # fmt: skip
    return Estimate(
        KIND, model, config, board.name, board.engine_size.columns, board.engine_size.pixels,
        board.clock.mhz, images, cycles, round(fps, 3), ideal, round(ideal / cycles, 4), lanes,
        array_losses(program, graph, params), macs, traffic, int(ddr_cycles), params.act_words,
        program.peak_words, None, "not compared with a simulation",
        paper, round(fps / paper, 2) if paper else None, sizes(board, params),
        tuple(board.others), tuple(schema.Layer(**row) for row in rows),
    )  # fmt: skip


def array_losses(program: Program, graph: Graph, params: EngineParams) -> ArrayLosses:
    """Where the array's cycles above `ideal_cycles` go; with these they are those it works."""
    busy = bound = headers = 0
    for step in program.steps:
        if step.opcode != "CONV" or step.model_cycles is None:
            continue
        wide = int(np.abs(graph.const(graph.node(step.node), "weight")).max(initial=0)) > 7
        tiles = -(-len(step.channels) // (params.columns // (2 if wide else 1)))
        busy += step.model_cycles
        bound += step.ideal_cycles
        headers += tiles * TILE_CYCLES + CONV_CYCLES
    return ArrayLosses(bound - ideal_cycles(graph, params), busy - bound - headers, headers)


def sizes(board: Board, params: EngineParams) -> Sizes:
    """DSP and BRAM36 by arithmetic: two products in a DSP, banks of true dual-port memory.

    A BRAM36 is 1024 words of 36 bits with two ports, or 512 of 72 with one of each kind. Each bank
    holds 126 bits of its words in 3.5 of them for each 1024 words, and the other two bits of all
    its words, up to a power of two, in one small memory of halves of them (act_mem.sv).
    """
    depth = -(-params.act_words // 4)  # of each of the four banks
    odd = 2 << (depth - 1).bit_length()
    activations = 14 * -(-depth // 1024) + 2 * -(-odd // 16384)
    wide = params.weight_stream_words * isa.WORD_BITS
    rings = -(-params.stream_words // 512) * -(-wide // 72) + -(-isa.WORD_BITS // 72)
    return Sizes(
        params.array_macs // 2, activations + rings, None, None,
        "DSP of the array; BRAM36 of the activation memory and of both rings; LUT and FF are for "
        f"synthesis to tell, which there is for arrays of {isa.TILE_OC} columns only",
    )  # fmt: skip


def with_error(found: Estimate, bench: Path) -> Estimate:
    """The estimate with what simulations of this very network measured of the model, if any.

    Of a run directory: its own simulation. Of CoDeNet: the bench's, of the same configuration or
    the worst of those it has. Of any other network nothing is known before it is simulated. Raises
    ConfigError when the file is no bench record.
    """
    from hwflow import bench as benches  # which imports this module

    if found.config is None:
        return _with_run(found, Path(found.model))
    if not bench.exists():
        return replace(found, model_error_reason=(
            f"{bench} is not there; `hwflow bench engine` measures it"
        ))  # fmt: skip
    errors = {one.config: one for one in benches.read(bench).records}
    if not errors:
        return replace(found, model_error_reason=f"{bench} holds no frame")
    key = found.config
    if key not in errors:
        key = max(errors, key=lambda config: abs(errors[config].model_error_percent))
    one = errors[key]
    where = f"configuration {key} on {one.board}"
    if key != found.config:
        where = f"{where}, the worst of {', '.join(errors)}"
    error = ModelError(
        where, one.model_error_percent, one.worst_layer_error_percent, one.worst_layer
    )
    return replace(found, model_error=error, model_error_reason=None)


def _with_run(found: Estimate, run: Path) -> Estimate:
    """The estimate of a run directory with the error against the simulation in it."""
    report = run / "report.json"
    if not report.is_file():
        return replace(found, model_error_reason=(
            f"nothing of this network was simulated; `hwflow build ... --board {found.board} "
            "--until sim --out RUN`, then `hwflow estimate RUN` measures it"
        ))  # fmt: skip
    there = schema.read(report)
    cycles = there.performance.cycles_per_frame
    if there.performance.kind != "measured in simulation" or not cycles:
        return replace(found, model_error_reason=f"{report}: {there.performance.reason}")
    if there.board != found.board:
        return replace(found, model_error_reason=(
            f"{run} was simulated for {there.board}; give --board {there.board}"
        ))  # fmt: skip
    simulated = {layer.name: layer.cycles for layer in there.layers}
    errors = {
        layer.name: round(100 * (layer.cycles / simulated[layer.name] - 1), 2)
        for layer in found.layers if layer.cycles and simulated.get(layer.name)
    }
    worst = max(errors, key=lambda name: abs(errors[name]), default=None)
    error = ModelError(
        f"{run} on {there.board}", round(100 * (found.cycles_per_frame / cycles - 1), 2),
        None if worst is None else errors[worst], worst,
    )
    return replace(found, model_error=error, model_error_reason=None)


# ---- networks


def source(model: str, config: str | None) -> tuple[Graph, str, str | None]:
    """The lowered network of a model of ours, a QONNX file or a run directory; title; config."""
    if model == "codenet":  # also where a folder has this name
        chosen = shapes.codenet(config or "b")
        return codenet_graph(chosen), model, chosen.name
    path = Path(model)
    file = "/" in model or "\\" in model or model.endswith(".onnx")
    if config is not None and (file or path.is_dir()):
        raise ConfigError(f"--config belongs to our models; leave it out for {path}")
    if path.is_dir():
        for folder in ("lower/speed/graph", "lower/graph"):
            if (path / folder).is_dir():
                return Graph.load(path / folder), model, None
        raise ConfigError(f"{path}: holds no lowered network; run `hwflow build ... --until lower "
                          f"--out {path}` first")
    if file:
        if not path.is_file():
            raise ConfigError(f"the file {path} does not exist; give the path of a QONNX file")
        return passes.lower(ingest.read(path)), model, None
    raise ConfigError(
        f"model {model!r} is not known; models: codenet, or the path of a QONNX file or of a "
        "run directory"
    )


@dataclass
class _Shapes:
    """Appends layers of a shape, all their weights zero."""

    b: GraphBuilder

    def conv(
        self, name: str, op: str, inputs: list[Tensor], shape: tuple[int, ...], out: IntType,
        bits: int = 4, **fields: int,
    ) -> Tensor:  # fmt: skip
        one = np.ones(shape[0], np.int64)
        weight = np.zeros(shape, np.int8)
        if bits == 8:
            weight.reshape(-1)[0] = 127  # narrower ones would run as int4
        consts: dict[str, np.ndarray] = {
            "weight": weight, "bias": 0 * one, "mul": one, "shift": np.zeros(shape[0], np.int8),
        }
        acc_bits = proven_acc_bits(weight, 0 * one, one, int_type(inputs[0]))
        attrs = OPS[op].attrs(weight_bits=bits, acc_bits=acc_bits, out=out, **fields)
        return self.b.add(name, op, inputs, attrs, consts)

    def pw(self, name: str, x: Tensor, oc: int, out: IntType = U8) -> Tensor:
        return self.conv(name, "pw", [x], (oc, x.shape[0]), out)

    def dw(self, name: str, x: Tensor, stride: int, out: IntType) -> Tensor:
        return self.conv(name, "dw", [x], (x.shape[0], 3, 3), out, stride=stride)

    def unit(self, name: str, x: Tensor, half: int, first: bool) -> Tensor:
        """A ShuffleNetV2 unit."""
        b = self.b
        if first:
            left = self.pw(f"{name}.b1.pw", self.dw(f"{name}.b1.dw", x, 2, I8), half)
            right = x
        else:
            left = b.add(f"{name}.split0", "slice", [x], SliceAttrs(0, half))
            right = b.add(f"{name}.split1", "slice", [x], SliceAttrs(half, 2 * half))
        y = self.pw(f"{name}.b2.pw1", right, half)
        y = self.dw(f"{name}.b2.dw", y, 2 if first else 1, I8)
        y = self.pw(f"{name}.b2.pw2", y, half)
        y = b.add(f"{name}.concat", "concat", [left, y], ConcatAttrs())
        return b.add(f"{name}.shuffle", "shuffle", [y], ShuffleAttrs(2))


def codenet_graph(cfg: CodenetConfig) -> Graph:
    """CoDeNet as the passes lower it: 1x1 layers before the upsampling, peaks at the end."""
    b = GraphBuilder(f"codenet-{cfg.name}")
    s = _Shapes(b)
    x = b.input("image", (3, cfg.input_size, cfg.input_size), U8)
    b.meta["scale.image"] = 2.0**-8
    pool = cfg.layer0 == "s2pool"
    shape = (shapes.STEM_CHANNELS, 3, 3, 3)
    x = s.conv("layer0.conv", "conv", [x], shape, U8, 8, kernel=3, stride=2 if pool else 4, pad=1)
    if pool:
        x = b.add("layer0.pool", "maxpool", [x], MaxpoolAttrs(3, 2, 1))
    stages = zip(shapes.STAGE_CHANNELS[cfg.width], shapes.STAGE_UNITS, strict=True)
    for stage, (channels, units) in enumerate(stages, 1):
        for unit in range(units):
            x = s.unit(f"layer{stage}.{unit}", x, channels // 2, unit == 0)
    low = x = s.pw("layer4", x, shapes.LAYER4_CHANNELS[cfg.width])
    for number, channels in enumerate(shapes.DECODER_CHANNELS):
        name = f"up{number}"
        dilation = s.pw(f"{name}.scale", low, 1, U3)
        if number:
            dilation = b.add(f"{name}.scale.up", "upsample", [dilation], UpsampleAttrs(2))
        y = s.conv(f"{name}.ddw", "deform_dw", [x, dilation], (x.shape[0], 3, 3), I8)
        low = s.pw(f"{name}.pw", y, channels)
        if number + 1 < len(shapes.DECODER_CHANNELS):
            x = b.add(f"{name}.up", "upsample", [low], UpsampleAttrs(2))
    heads = []
    for head, channels in (("hm", cfg.classes), ("wh", 2), ("reg", 2)):
        y = s.pw(f"{head}.pw1", low, shapes.HEAD_CHANNELS)
        y = b.add(f"{head}.pw1.up", "upsample", [y], UpsampleAttrs(2))
        y = s.pw(f"{head}.pw2", s.dw(f"{head}.dw", y, 1, U8), channels, I8)
        b.meta.update({f"output.{head}": y.name, f"scale.{head}": 1.0})
        heads.append(y)
    peaks = b.add("peaks", "peaks", heads, PeaksAttrs(isa.CANDIDATES))
    return b.build([*heads, peaks])


# ---- tables


def markdown(rows: Sequence[Estimate]) -> str:
    """Bounds and estimates of several configurations on a board, for docs/performance.md."""
    titles = (
        "config", "array: cycles", "lanes: cycles", "DDR: bytes", "DDR: cycles", "fps at most",
        "model: cycles", "utilisation", "array busy", "lanes busy", "fps", "times the paper",
    )  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", "|---" + "|---:" * (len(titles) - 1) + "|"]
    for one in rows:
        busy = {queue: sum(row.cycles for row in one.layers if row.queue == queue)
                for queue in isa.QUEUES}  # fmt: skip
        bound = max(one.ideal_cycles, one.lanes_ideal_cycles, one.ddr_cycles)
        cells = (
            str(one.config), f"{one.ideal_cycles:,}", f"{one.lanes_ideal_cycles:,}",
            f"{one.ddr_bytes_per_frame:,}", f"{one.ddr_cycles:,}",
            f"{one.clock_mhz * 1e6 / bound:,.1f}", f"{one.cycles_per_frame:,}",
            f"{100 * one.utilisation:.1f} %", f"{busy['array']:,}", f"{busy['lanes']:,}",
            f"{one.fps:,.1f}", "-" if one.ratio is None else f"{one.ratio:.1f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    steps = ("config", "array: cycles", "pixels made twice", "last tiles not full",
             "tile headers and starts", "the array stands still", "model: cycles")
    lines += ["", f"| {' | '.join(steps)} |", "|---" + "|---:" * (len(steps) - 1) + "|"]
    for one in rows:
        lost = one.array_losses
        works = one.ideal_cycles + lost.again + lost.unfilled + lost.headers
        counts = (one.ideal_cycles, lost.again, lost.unfilled, lost.headers,
                  one.cycles_per_frame - works, one.cycles_per_frame)
        lines.append(f"| {one.config} | {' | '.join(f'{count:,}' for count in counts)} |")
    first = rows[0]
    lines += ["", f"Kind: {first.kind}, {first.board}: {first.columns} x {first.pixels} "
              f"multipliers, {first.act_words:,} activation words, {first.clock_mhz:g} MHz."]
    return "\n".join(lines) + "\n"


def render(found: Estimate) -> Group:
    """The estimate as tables for a terminal."""
    numbers = Table(
        title=Text(" ".join(filter(None, (found.model, found.config, "on", found.board)))),
        title_justify="left", show_edge=False, pad_edge=False,
    )
    numbers.add_column("number")
    numbers.add_column("value", justify="right")
    numbers.add_column("origin", style="dim", overflow="fold")

    def row(name: str, value: str, origin: str = found.kind) -> None:
        numbers.add_row(Text(name), Text(value), Text(origin))

    each, many = ("frame", "frames") if found.images == 1 else (
        f"frame of {found.images} images", "images")  # fmt: skip
    row(f"cycles a {each}", f"{found.cycles_per_frame:,}")
    row(f"{many} a second", f"{found.fps:,.1f}", f"{found.kind}, at {found.clock_mhz:g} MHz "
        "(the board file's clock)")
    row("ideal cycles", f"{found.ideal_cycles:,}",
        f"arithmetic: 1x1 layers and the first on {found.columns} x {found.pixels} multipliers")
    row("utilisation", f"{100 * found.utilisation:.1f} %", "ideal / estimated cycles")
    row("DDR bytes a frame", f"{found.ddr_bytes_per_frame:,}",
        f"counted in the program; {found.ddr_cycles:,} cycles at the sustained bandwidth")
    row("activation words", f"{found.act_words_used:,} of {found.act_words:,}", "compiler")
    if found.model_error is not None:
        error = found.model_error
        row("error of the model", f"{error.frame_percent:+.1f} %",
            f"measured in simulation: {error.measured_on}" + (
                f"; worst layer {error.worst_layer} {error.worst_layer_percent:+.1f} %"
                if error.worst_layer_percent is not None else ""))
    else:
        row("error of the model", "unknown", str(found.model_error_reason))
    if found.paper_fps is not None:
        row("the paper's frames a second", f"{found.paper_fps:g}", "its own, on an Ultra96")
        row("ratio", f"{found.ratio:.2f}", found.kind)
    chip = Table(show_edge=False, pad_edge=False)
    for title in ("design", "MHz", "LUT", "FF", "BRAM36", "DSP"):
        chip.add_column(title, justify="left" if title == "design" else "right")

    def count(value: int | None) -> str:
        return "unknown" if value is None else f"{value:,}"

    size = found.sizes
    chip.add_row("this engine", f"{found.clock_mhz:g}", count(size.lut), count(size.ff),
                 count(size.bram36), count(size.dsp))
    for other in found.others:
        chip.add_row(other.title, f"{other.mhz:g}", count(other.lut), count(other.ff),
                     count(other.bram36), count(other.dsp))
    layers = Table(show_edge=False, pad_edge=False)
    for title in ("layer", "op", "queue", "start", "cycles", "ideal", "MACs", "DDR bytes"):
        text = title in ("layer", "op", "queue")
        layers.add_column(title, justify="left" if text else "right")
    for one in found.layers:
        if one.cycles or one.macs:
            layers.add_row(one.name, one.op, one.queue, f"{one.start_cycle:,}", f"{one.cycles:,}",
                           f"{one.ideal_cycles:,}", f"{one.macs:,}", f"{one.ddr_bytes:,}")
    sources = [Text(f"{other.title}: {other.source}", "dim") for other in found.others]
    return Group(layers, Text(), numbers, Text(), chip, Text(size.reason, "dim"), *sources)
