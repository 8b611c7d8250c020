# SPDX-License-Identifier: Apache-2.0
"""Stages hls, rtl and sim: the same integers from C++ and from SystemVerilog."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwflow import boards
from hwflow.build import Context, Outcome
from hwflow.errors import ConfigError, GraphError, ResourceError, VerifyError
from hwflow.stages import hls4ml_stage
from hwflow.stages.deploy import HOST
from hwflow.stages.graph import graph_folders, images
from hwflow.stages.options import BuildOptions
from hwflow.stages.results import write_json

if TYPE_CHECKING:
    import numpy as np

    from hwflow.boards import Board
    from hwflow.emit.engine import EngineParams, Program
    from hwflow.ir import Graph, Node
    from hwflow.passes.engine_form import EngineForm
    from hwflow.sim.engine import Span

HEADS = ("hm", "wh", "reg")


def engine_params(board: Board) -> EngineParams:
    """The engine as this board is given it."""
    from hwflow.emit.engine import EngineParams

    size = board.engine_size
    memory = board.ddr
    interval = memory.refresh_interval_us * board.clock.mhz
    return EngineParams(
        size.act_words, size.stream_words, min(board.bytes_per_cycle, 8.0), size.columns,
        memory.latency_cycles, memory.turnaround_cycles, memory.refresh_cycles / interval,
        memory.outstanding,
    )


def hls(ctx: Context) -> Outcome:
    """C++ of the whole network and its Vitis project; every layer equals the integer graph."""
    if ctx.options.backend == "hls4ml":
        return hls4ml_stage.hls(ctx)
    from hwflow import interp, verify
    from hwflow.emit import hls as emit
    from hwflow.ir import Graph

    graph = Graph.load(graph_folders(ctx)["main"])
    batch = images(ctx, graph, ctx.options.tiles)
    source = graph.inputs[0]
    ctx.say("writing C++")
    try:
        emit.write(graph, ctx.work, boards.load(ctx.options.board), {source: batch[0]})
    except (GraphError, ResourceError) as error:
        if ctx.options.file is None or "hls" in ctx.options.require:
            raise
        return Outcome("", True, f"the HLS engine does not run this network: {error}")
    ctx.say("compiling with g++")
    emit.build(ctx.work)
    tensors = 0
    for number, image in enumerate(batch, 1):
        ctx.say(f"image {number} of {len(batch)}")
        expected = interp.run(graph, {source: image}, keep=True)
        tensors = verify.compare_all(graph, expected, emit.run(ctx.work, image))
    write_json(
        ctx.work / "result.json", {"images": len(batch), "tensors": tensors, "mismatches": 0}
    )
    return Outcome(f"{len(batch)} images, {tensors} layers: 0 mismatches")


def rtl(ctx: Context) -> Outcome:
    """program.bin and layout.json for the engine, of the network and of its 20-class form."""
    import numpy as np

    from hwflow.emit.engine import compile_graph
    from hwflow.ir import Graph
    from hwflow.passes.engine_form import form_of
    from hwflow.passes.engine_host import host_arrays

    options: BuildOptions = ctx.options
    if options.backend == "hls4ml":
        return Outcome("", True, hls4ml_stage.SKIPPED)
    board = boards.load(options.board)
    if board.why_not is not None:
        raise ConfigError(board.why_not)
    params = engine_params(board)
    made = []
    for name, folder in graph_folders(ctx).items():
        ctx.say(f"compiling {name}")
        try:
            graph = Graph.load(folder)
            form = form_of(graph)
            program = compile_graph(graph if form is None else form.graph, params)
        except (GraphError, ResourceError) as error:
            if options.file is None or "rtl" in options.require:
                raise
            return Outcome("", True, f"the engine does not run this network: {error}")
        program.save(ctx.work if name == "main" else ctx.work / name)
        if form is not None:
            (ctx.work / "engine.txt").write_text(form.graph.table())
            try:
                host: Mapping[str, Any] = host_arrays(form)  # none is a parameter of savez
            except GraphError as error:
                ctx.say(f"no {HOST}: {error}")  # then there is no deploy folder either
            else:
                np.savez(ctx.work / HOST, **host)
        made.append(
            f"{name}: {len(program.steps)} descriptors, {len(program.stream):,} bytes, "
            f"{program.peak_words} of {params.act_words} activation words"
        )
    return Outcome("; ".join(made))


def sim(ctx: Context) -> Outcome:
    """Whole frames in Verilator, every layer of each compared; cycles of the 20-class network."""
    options: BuildOptions = ctx.options
    if not ctx.made("rtl"):
        return Outcome("", True, "there is no program: " + str(ctx.records["rtl"].reason))
    import numpy as np

    board = boards.load(options.board)
    folders = graph_folders(ctx)
    main = _simulate(ctx, board, folders["main"], options.frames, "main")
    timed = main
    if "speed" in folders:
        timed = _simulate(ctx, board, folders["speed"], 1, "speed")
    runs = [main] if timed is main else [main, timed]
    arrays: Mapping[str, Any] = main.arrays  # none of the names is a parameter of savez
    np.savez(ctx.work / "frames.npz", **arrays)
    write_json(
        ctx.work / "result.json",
        {
            "tool": f"Verilator {metadata.version('verilator')}",
            "frames": sum(run.frames for run in runs),
            "tensors": main.tensors,
            "mismatches": 0,
            "cycles": {run.name: run.cycles for run in runs},
            "performance": performance(board, timed),
            "layers": timed.layers,
        },
    )
    fps = timed.images * board.clock.mhz * 1e6 / timed.cycles[0]
    each, what = ("", "frames") if timed.images == 1 else (f" of {timed.images} images", "images")
    cycles = sum(run.sim_cycles for run in runs)
    wall = cycles / sum(run.sim_seconds for run in runs)
    cpu = cycles / sum(run.sim_cpu_seconds for run in runs)
    return Outcome(
        f"{sum(run.frames for run in runs)} frames{each}, {main.tensors} layers each: 0 "
        f"mismatches; {timed.cycles[0]:,} cycles, {fps:.1f} {what}/s at {board.clock.mhz:g} MHz",
        # How fast it ran is a time, not a result: kept out of the files that later stages read.
        reason=f"simulated at {wall:,.0f} cycles a second ({cpu:,.0f} a CPU second)",
    )


def measure(mb_s: float) -> Callable[[Context], Outcome]:
    """A stage: one frame of the 20-class network with a DDR of `mb_s`, all of it compared.

    result.json has what the simulation measured: cycles, traffic, and when each descriptor ran.
    """

    def stage(ctx: Context) -> Outcome:
        from hwflow.ir import Graph

        if not ctx.made("rtl"):
            raise ConfigError(f"there is no program: {ctx.records['rtl'].reason}")
        board = boards.load(ctx.options.board)
        folders = graph_folders(ctx)
        name = "speed" if "speed" in folders else "main"
        run = _simulate(ctx, board, folders[name], 1, name, mb_s)
        graph = Graph.load(folders[name])
        write_json(
            ctx.work / "result.json",
            {
                "tool": f"Verilator {metadata.version('verilator')}",
                "ddr_mb_s": mb_s,
                "tensors": run.tensors,
                "mismatches": 0,  # or this stage would have failed
                "performance": performance(board, run),
                "ideal_cycles": ideal_cycles(graph, engine_params(board)),
                "model_cycles": run.program.model_cycles,
                "sim_seconds": run.sim_seconds,
                "sim_cpu_seconds": run.sim_cpu_seconds,
                "layers": run.layers,
                "model": model_rows(run.program, run.peak_cycles),
                "spans": [list(span) for span in run.spans],
                "nodes": {str(step.tag): step.node for step in run.program.steps},
            },
        )
        return Outcome(
            f"1 frame, {run.tensors} layers: 0 mismatches; {run.cycles[0]:,} cycles with "
            f"{mb_s:g} MB/s"
        )

    return stage


def model_rows(program: Program, peak: int | None) -> dict[str, int]:
    """Cycles of each node by the cycle model; peak: those of a PEAK on the frame's own heat map."""
    cycles: dict[str, int] = {}
    for step in program.steps:
        own = peak if step.opcode == "PEAK" and peak is not None else step.model_cycles
        if own is not None:
            cycles[step.node] = cycles.get(step.node, 0) + own
    return cycles


def ideal_cycles(graph: Graph, params: EngineParams) -> int:
    """The bound of the array: its layers, each pixel once, on all of its multipliers.

    A first layer of int8 weights takes two multipliers for each weight.
    """
    total = 0
    for node in graph.nodes:
        if node.op not in ("conv", "pw", "gather_pw"):
            continue
        wide = any(abs(int(value)) > 7 for value in _ends(graph, node))
        total += -(-graph.macs(node) // (params.array_macs // (2 if wide else 1)))
    return total


def _ends(graph: Graph, node: Node) -> tuple[int, int]:
    weight = graph.const(node, "weight")
    return weight.min(initial=0), weight.max(initial=0)


@dataclass(frozen=True)
class Run:
    """Frames of one network, all of them equal to the integer graph."""

    name: str
    frames: int
    tensors: int
    cycles: tuple[int, ...]
    macs: int
    ddr_bytes: int
    layers: list[dict[str, object]]
    arrays: dict[str, np.ndarray]
    sim_cycles: int
    sim_seconds: float
    sim_cpu_seconds: float
    program: Program
    spans: tuple[Span, ...]  # of the first frame's descriptors
    outputs: tuple[dict[str, np.ndarray], ...]  # maps that left the engine, of each frame
    images: int = 1  # in a frame
    peak_cycles: int | None = None  # of PEAK, by the cycle model, on the first frame's heat map


def _simulate(
    ctx: Context, board: Board, folder: Path, frames: int, name: str, mb_s: float | None = None
) -> Run:
    import numpy as np

    from hwflow.ir import Graph
    from hwflow.passes.engine_form import form_of

    graph = Graph.load(folder)
    form = form_of(graph)
    made = ctx.folder("rtl") if name == "main" else ctx.folder("rtl") / name
    batch = images(ctx, graph, frames * (1 if form is None else form.images))
    packed = batch if form is None else form.frames(batch)
    ctx.say(f"{name}: {len(packed)} frames in Verilator (the first time it is built)")
    work = ctx.work / f"{name}-trace"
    stream = (made / "program.bin").read_bytes()
    runs_on = graph if form is None else form.graph
    result = run_frames(board, runs_on, stream, packed.astype(np.uint8), name, work, mb_s)
    if form is not None:
        outputs = _check_batches(form, batch, result)
        arrays = {**result.arrays, "images": batch, "frames": packed, **outputs}
        macs = graph.macs() * form.images
        result = dataclasses.replace(result, images=form.images, macs=macs, arrays=arrays)
    shutil.rmtree(work)  # the traces are large, and all of them has been compared
    return result


def _check_batches(form: EngineForm, batch: np.ndarray, result: Run) -> dict[str, np.ndarray]:
    """`output.<name>`, a row an image; VerifyError unless they are those of the network itself."""
    import numpy as np

    from hwflow import interp, verify

    graph = form.source
    every: dict[str, list[np.ndarray]] = {name: [] for name in graph.outputs}
    for number, frame in enumerate(result.outputs):
        some = batch[number * form.images : (number + 1) * form.images]
        for index, found in enumerate(form.unpack(frame, len(some))):
            expected = interp.run(graph, {graph.inputs[0]: some[index]})
            for name in graph.outputs:
                what = f"{name}, image {index} of frame {number}"
                verify.compare(expected[name], found[name], what)
                every[name].append(found[name])
    return {f"output.{name}": np.stack(rows) for name, rows in every.items()}


def run_frames(
    board: Board, graph: Graph, stream: bytes, batch: np.ndarray, name: str, work: Path,
    ddr_mb_s: float | None = None,
) -> Run:
    """Simulate a program on photographs uint8 (N, C, H, W); VerifyError unless all is equal.

    Compared with the integer graph: every activation word written, candidates, boxes and scores,
    or the output region. A signed input is given as its bytes.
    ddr_mb_s: another sustained bandwidth of the DDR than the board's.
    """
    import numpy as np

    from hwflow import decode, interp, verify
    from hwflow.emit.engine import check_trace, compile_graph
    from hwflow.emit.engine.peak_cycles import peak_cycles
    from hwflow.emit.engine.planes import stored_outputs
    from hwflow.ops.types import int_type
    from hwflow.sim.engine import simulate

    program = compile_graph(graph, engine_params(board))
    if stream != program.stream:
        raise VerifyError(f"{name}: program.bin is not what the compiler makes now; build again")
    stored = [graph.tensors[name] for name in stored_outputs(graph)]
    result = simulate(
        stream, list(batch), work, layout=program.layout(), board=board, ddr_mb_s=ddr_mb_s,
        output_bytes=sum(math.prod(tensor.shape) for tensor in stored),
    )
    source = graph.inputs[0]
    signed = int_type(graph.tensors[source]).signed
    peaks = [node for node in graph.nodes if node.op == "peaks"]
    tensors, arrays, peak = 0, {"images": batch}, None
    outputs = []
    for number, (image, frame) in enumerate(zip(batch, result.frames, strict=True)):
        pixels = image.view(np.int8) if signed else image
        expected = interp.run(graph, {source: pixels}, keep=True)
        tensors = check_trace(program, graph, frame.tags, frame.addrs, frame.data, expected)
        found, at = {}, 0
        for tensor in stored:
            size = math.prod(tensor.shape)
            kind = np.int8 if int_type(tensor).signed else np.uint8
            found[tensor.name] = frame.output[at : at + size].view(kind).reshape(tensor.shape)
            verify.compare(
                expected[tensor.name], found[tensor.name].astype(np.int64),
                f"{tensor.name} in the output region of frame {number}",
            )  # fmt: skip
            at += size
        outputs.append(found)
        if not peaks:
            continue
        if number == 0:
            peak = peak_cycles(expected[peaks[0].inputs[0]])
        scales = decode.HeadScales(*(float(graph.meta[f"scale.{head}"]) for head in HEADS))
        rows = expected[peaks[0].output]
        rows = rows[rows[:, 1] >= 0]  # the unused rows of the integer graph have class -1
        verify.compare(rows, frame.candidates, f"{name}: candidates of frame {number}")
        boxes, scores, labels = decode.boxes(rows, scales)
        verify.compare(boxes, frame.boxes, f"{name}: boxes of frame {number}")
        verify.compare(scores, frame.scores, f"{name}: scores of frame {number}")
        arrays |= {
            f"candidates{number}": rows, f"boxes{number}": boxes, f"scores{number}": scores,
            f"labels{number}": labels,
        }
    first = result.frames[0]
    layers = layer_rows(program, graph, first.spans, len(first.candidates))
    return Run(
        name, len(batch), tensors + len(peaks), tuple(frame.cycles for frame in result.frames),
        graph.macs(), first.rd_bytes + first.wr_bytes, layers, arrays,
        result.sim_cycles, result.sim_seconds, result.sim_cpu_seconds, program, first.spans,
        tuple(outputs), peak_cycles=peak,
    )


def performance(board: Board, run: Run) -> dict[str, object]:
    """The frame rate of a run, as the report has it; measured in simulation."""
    from hwflow.emit.engine import ARRAY_MACS, DW_MACS

    cycles = run.cycles[0]
    return {
        "kind": "measured in simulation",
        "tool": f"Verilator {metadata.version('verilator')}",
        "cycles_per_frame": cycles,
        "clock_mhz": board.clock.mhz,
        "fps": round(run.images * board.clock.mhz * 1e6 / cycles, 3),
        "macs_per_frame": run.macs,
        "mac_utilisation": round(run.macs / (cycles * (ARRAY_MACS + DW_MACS)), 4),
        "ddr_bytes_per_frame": run.ddr_bytes,
    }


def layer_rows(
    program: Program, graph: Graph, spans: Iterable[Span], candidates: int
) -> list[dict[str, Any]]:
    """One row a node in the order in which they began: cycles, place in time, DDR traffic.

    The traffic is that of the program: its descriptors, weights and records, the words of LOAD and
    STORE, and 16 bytes for each of the candidates. spans: (tag, queue, first cycle, cycle after the
    last) of each descriptor. A layer made in pieces has several turns, its own `spans`.
    """
    nodes = {node.name: node for node in graph.nodes}
    ran = {tag: (start, end) for tag, _, start, end in spans}
    rows: dict[str, dict[str, Any]] = {}
    for step in sorted(program.steps, key=lambda s: ran.get(s.tag, (0, 0))):
        start, end = ran.get(step.tag, (0, 0))  # HEAD and END take no time of their own
        row = rows.setdefault(
            step.node,
            {
                "name": step.node,
                "op": nodes[step.node].op if step.node in nodes else step.opcode.lower(),
                "cycles": 0, "ideal_cycles": 0,
                "macs": graph.macs(nodes[step.node]) if step.node in nodes else 0,
                "ddr_bytes": 0, "queue": step.queue, "start_cycle": start, "end_cycle": end,
                "spans": [[start, end]],
            },
        )
        if start <= row["spans"][-1][1]:
            row["spans"][-1][1] = max(row["spans"][-1][1], end)
        else:
            row["spans"].append([start, end])
        row["cycles"] += end - start
        row["ideal_cycles"] += step.ideal_cycles
        row["ddr_bytes"] += step.ddr_bytes
        row["end_cycle"] = max(row["end_cycle"], end)
        if step.opcode == "EMIT":
            row["ddr_bytes"] += 16 * candidates
    return list(rows.values())
