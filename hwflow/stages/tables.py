# SPDX-License-Identifier: Apache-2.0
"""The stages that a network of lookup tables has of its own: its samples, weights and hardware."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwflow import boards, resources
from hwflow.build import Context, Outcome
from hwflow.errors import ConfigError, DataError, VerifyError
from hwflow.stages import synthesis
from hwflow.stages.graph import graph_folders
from hwflow.stages.options import BuildOptions
from hwflow.stages.results import read_json, write_json

if TYPE_CHECKING:
    import numpy as np

    from hwflow.boards import Board
    from hwflow.emit.tables import Options
    from hwflow.ir import Graph

VECTORS = 16
AT_ONCE = 1000  # samples
MOST_BYTES = 1 << 32  # of a test split
DEPLOYED = 1000  # test samples that go to the board
FILE_SAMPLES = 100  # of a QONNX file without vectors
HLS_BOARD = "pynq-z2"
METRIC = "top-1 accuracy"
TARGETS: Mapping[str, str] = {"xc7": "xilinx", "ecp5": "ecp5", "ice40": "ice40", "gowin": "gowin"}
STREAM = ("lib/fifo.sv", "tables/tables_axis.sv")
STREAMING = ("tables/tables_stream.sv",)  # and the modules of a core that takes a position a clock
SHELLS: Mapping[str, tuple[str, ...]] = {"zynq7": ("shell/tables_axil.sv",)}


def data(ctx: Context) -> Outcome:
    """The test split, all of it: test.npz, tiles.npz (images only), provenance.json."""
    options: BuildOptions = ctx.options
    if options.file is not None:
        from hwflow.stages import torch_half

        return torch_half.data(ctx)
    import numpy as np

    from hwflow.data import default_cache, samples

    ctx.say(f"reading {options.data}")
    cache = options.cache or default_cache()
    test = samples.load(options.data, "test", cache)
    training = samples.load(options.data, "train", cache)
    np.savez(ctx.work / "test.npz", images=test.images, labels=test.labels)
    np.savez(ctx.work / "tiles.npz", images=test.images)
    write_json(
        ctx.work / "provenance.json",
        {
            "spec": options.data, "source": test.source, "sha256": test.sha256,
            "bytes": test.size, "classes": list(test.classes), "shape": list(test.shape),
            "train_images": len(training), "test_images": len(test),
        },
    )
    digest = f", sha256 {test.sha256[:12]}..." if test.sha256 else ""
    shape = "x".join(map(str, test.shape))
    return Outcome(f"{test.source}, {test.size:,} bytes{digest}; {len(training):,} samples to "
                   f"train, {len(test):,} to test, {shape}")


def data_state(options: BuildOptions) -> dict[str, str]:
    """What decides the samples beside the option: for a file, its size and time."""
    kind, _, argument = options.data.partition(":")
    path = Path(argument)
    if kind != "csv" or not path.is_file():
        return {}
    state = path.stat()
    return {f"data {path}": f"{state.st_size} {state.st_mtime_ns}"}


def train(ctx: Context) -> Outcome:
    """Weights: model.safetensors and metrics.json (measured here on the whole test split)."""
    options: BuildOptions = ctx.options
    if options.file is not None:
        return Outcome("", True, "a QONNX file is built: it brings its weights")
    from hwflow import arrays
    from hwflow.models import dtnn

    target = ctx.work / "model.safetensors"
    path = options.weights
    provenance = read_json(ctx.folder("data") / "provenance.json")
    source = _train(ctx, provenance) if path is None else path
    made = f"trained here with seed {options.seed}" if path is None else path.name
    net, meta = dtnn.load_checkpoint(source)  # an error names the file that was given
    shutil.copyfile(source, target)
    classes = net.groups or len(net.layers[-1].wires)
    if list(net.shape) != provenance["shape"] or classes != len(provenance["classes"]):
        raise DataError(
            f"{path or target}: takes samples of {'x'.join(map(str, net.shape))} and tells "
            f"{classes} classes; {options.data} has {'x'.join(map(str, provenance['shape']))} and "
            f"{len(provenance['classes'])}; give the checkpoint of a network for it"
        )
    ctx.say("measuring on the test split")
    test = arrays.read(ctx.folder("data") / "test.npz", ("images", "labels"), most_bytes=MOST_BYTES)
    value = dtnn.accuracy(net, test["images"], test["labels"])
    write_json(
        ctx.work / "metrics.json",
        {
            "metric": METRIC, "value": value, "float_value": None,
            "dataset": f"{options.data} test split", "images": len(test["labels"]),
            "reason": "the tables themselves are trained: there is no float form of the network",
            "checkpoint": {key: meta[key] for key in ("seed", "seconds", "validation_accuracy")
                           if key in meta},
        },
    )
    return Outcome(f"{made}: {METRIC} {100 * value:.2f} % of {len(test['labels']):,} test samples")


def _train(ctx: Context, provenance: Mapping[str, Any]) -> Path:
    """Train on the whole training split; an interrupted build goes on where it was."""
    from hwflow import train_tables as training
    from hwflow.data import default_cache, samples
    from hwflow.stages.sizes import size_of

    options: BuildOptions = ctx.options
    cache = options.cache or default_cache()
    data = samples.load(options.data, "train", cache)
    cfg = size_of(options, data.shape, len(data.classes), images=data.images)
    chosen = training.recipe(cfg, {"seed": options.seed})
    folder = ctx.cache / f"train-{options.name}-{options.data.replace('/', '_')}-{options.seed}"

    def show(now: training.Progress) -> None:
        ctx.say(f"training: {now.phase} {now.step} of {now.steps}, loss {now.loss:.3f}, "
                f"{now.seconds:,.0f} s")

    ctx.say(f"training {options.name} on {options.data}")
    return training.train(
        cfg, data.images, data.labels, folder, cache, chosen, show
    ).checkpoint


def export(ctx: Context) -> Outcome:
    """model.onnx and vectors.npz."""
    if not ctx.made("train"):
        return Outcome("", True, "a QONNX file is built: nothing to export")
    import logging

    from hwflow import arrays
    from hwflow.export_tables import export_qonnx, export_vectors
    from hwflow.models import dtnn

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    net, _ = dtnn.load_checkpoint(ctx.folder("train") / "model.safetensors")
    network = dtnn.network(net)
    ctx.say("model.onnx")
    export_qonnx(network, ctx.work / "model.onnx", net.shape)
    images = arrays.read(ctx.folder("data") / "tiles.npz", ("images",), most_bytes=MOST_BYTES)
    export_vectors(network, images["images"][:VECTORS], ctx.work / "vectors.npz")
    return Outcome("model.onnx, vectors.npz")


def hls(ctx: Context) -> Outcome:
    """C++ of the network and its Vitis project: the class of every test sample is equal, and of the
    first ones every layer.
    """
    from hwflow import interp, verify
    from hwflow.emit import hls as emit
    from hwflow.ir import Graph

    graph = Graph.load(graph_folders(ctx)["main"])
    batch = samples(ctx, graph)
    ctx.say("writing C++")
    board = boards.load(ctx.options.board)
    if board.engine is None:  # no HLS compiler makes this chip: the C++ is that for a Zynq
        board = boards.load(HLS_BOARD)
    emit.write(graph, ctx.work, board, {graph.inputs[0]: batch[0]})
    ctx.say("compiling with g++")
    emit.build(ctx.work)
    source, tensors = graph.inputs[0], 0
    for image in batch[: ctx.options.tiles]:
        expected = interp.run(graph, {source: image}, keep=True)
        tensors = verify.compare_all(graph, expected, emit.run(ctx.work, image))
    for start in range(0, len(batch), AT_ONCE):
        ctx.say(f"sample {start + 1:,} of {len(batch):,}")
        part = batch[start : start + AT_ONCE]
        made = emit.run_many(ctx.work, part)
        for name, wanted in interp.run_many(graph, {source: part}).items():
            verify.compare(wanted, made[name], f"{name} of samples {start}..")
    write_json(
        ctx.work / "result.json", {"images": len(batch), "tensors": tensors, "mismatches": 0}
    )
    return Outcome(f"{len(batch):,} samples, of {min(len(batch), ctx.options.tiles)} all {tensors} "
                   "layers: 0 mismatches")


def samples(ctx: Context, graph: Graph) -> np.ndarray:
    """All test samples; of a file all vectors that came with it, or some seeded random ones."""
    from hwflow import arrays
    from hwflow.stages import graph as graphs
    from hwflow.stages import vectors

    if ctx.options.inputs is not None:
        return vectors.integers(ctx.folder("data") / "inputs.npz", graph)
    if ctx.options.file is not None:
        return graphs.images(ctx, graph, FILE_SAMPLES)
    return arrays.read(
        ctx.folder("data") / "tiles.npz", ("images",), most_bytes=MOST_BYTES
    )["images"]


def core_options(board: Board) -> Options:
    """How the core is made for a board's chip."""
    from hwflow.emit.tables import Options

    return Options(target=TARGETS.get(board.family, "portable"), **board.tables.model_dump())


def rtl(ctx: Context) -> Outcome:
    """core/: the generated SystemVerilog; core.json: ports, latency, lookup tables of each part."""
    from hwflow.emit.tables import emit
    from hwflow.ir import Graph
    from hwflow.toolchain import openboards

    options: BuildOptions = ctx.options
    board = boards.load(options.board)
    if board.why_not is not None:
        raise ConfigError(board.why_not)
    graph = Graph.load(graph_folders(ctx)["main"])
    design = emit(graph, core_options(board))
    openboards.check_fits(board, design.luts)
    (ctx.work / "core").mkdir()
    for name, text in design.files.items():
        (ctx.work / "core" / name).write_text(text)
    write_json(
        ctx.work / "core.json",
        {
            "pixels": design.pixels, "classes": design.classes, "latency": design.latency,
            "luts": design.luts, "streaming": design.streaming,
            "parts": {name: dataclasses.asdict(part) for name, part in design.parts.items()},
        },
    )
    parts = ", ".join(f"{name} {part.luts:,}" for name, part in design.parts.items())
    pace = f"a sample in {design.clocks} clocks" if design.streaming else "a sample a clock"
    return Outcome(f"core of {design.luts:,} LUT ({parts}), {pace}, latency {design.latency}")


def sim(ctx: Context) -> Outcome:
    """Every test sample through the emitted core in Verilator, one a clock; then stalls.

    These are gaps and back-pressure of the AXI-Stream around the core; where its elements are no
    bytes and it has no such stream, those of the core.
    """
    if not ctx.made("rtl"):
        return Outcome("", True, "there is no core: " + str(ctx.records["rtl"].reason))
    from importlib import metadata

    from hwflow.emit.tables import emit
    from hwflow.ir import Graph
    from hwflow.sim import tables as simulation

    options: BuildOptions = ctx.options
    board = boards.load(options.board)
    graph = Graph.load(graph_folders(ctx)["main"])
    core = core_options(board)
    design = emit(graph, core)
    for name, text in design.files.items():
        if (ctx.folder("rtl") / "core" / name).read_text() != text:
            raise VerifyError(f"{name} is not what the emitter makes now; build again")
    batch = samples(ctx, graph)
    batch = batch[: simulation.affordable(design)].reshape(-1, design.pixels)
    totals, stream = {}, design.pixel_bits == 8
    for what, stall in (("full speed", 0), ("stalls", 77)):
        ctx.say(f"{len(batch):,} samples in Verilator, {what}")
        totals[what] = simulation.verify(
            graph, design, core.target, batch, ctx.work / what.replace(" ", "-"), stall=stall,
            stream=stream and stall > 0,
        )
    for folder in ("full-speed", "stalls"):
        shutil.rmtree(ctx.work / folder)
    clocks = totals["full speed"]["clocks"]
    tool = f"Verilator {metadata.version('verilator')}"
    mhz = board.clock.mhz
    rate = mhz * 1e6 / design.clocks
    write_json(
        ctx.work / "result.json",
        {
            "tool": tool, "frames": len(batch), "mismatches": 0, "clocks": totals,
            "performance": {
                "kind": "measured in simulation", "tool": tool,
                "cycles_per_frame": design.clocks,
                "clock_mhz": mhz, "fps": rate, "macs_per_frame": 0, "mac_utilisation": None,
                "ddr_bytes_per_frame": 0,
                "reason": "the core has no multiplier that could be utilised; frames a second are "
                "those of the core, a serial line or a bus feeds it more slowly",
            },
            "layers": [],
        },
    )
    return Outcome(
        f"{len(batch):,} samples in {clocks:,} clocks, and with stalls "
        f"{'through the AXI-Stream' if stream else 'of the core'}: 0 mismatches; "
        f"{rate / 1e6:.4g} M samples/s at {mhz:g} MHz, latency {design.latency} clocks"
    )


def synth(ctx: Context) -> Outcome:
    """tree.json: what each part has besides tables; Yosys' cells of the whole system on a Zynq.

    On open boards nextpnr's plan synthesises the whole.
    """
    from hwflow import kept
    from hwflow.emit.tables import core, stream
    from hwflow.toolchain import tree, vivado, yosys

    if not ctx.made("rtl"):
        return Outcome("", True, "there is no core: " + str(ctx.records["rtl"].reason))
    board = boards.load(ctx.options.board)
    listed = read_json(ctx.folder("rtl") / "core.json")
    ctx.say("what the trees are made of")
    parts = {path.name: path.read_text() for path in sorted((ctx.folder("rtl") / "core").iterdir())
             if path.stem not in (core.PACKAGE, core.CORE, stream.CORE)}
    counted = kept.execute(
        tree.plan(parts, board.family), ctx.cache / "tree", synthesis.store(ctx), anew=ctx.anew
    )
    found = tree.measure(ctx.cache / "tree", [Path(name).stem for name in parts])
    write_json(ctx.work / "tree.json", found.model_dump(mode="json"))
    made = f"trees: {found.dsp} DSP, {found.carry} carry, {found.memory} memory"
    if found.sums is not None:
        made += (f"; sums, apart: {found.sums.dsp} DSP, {found.sums.carry} carry, "
                 f"{found.sums.memory} memory")
    if board.family not in yosys.CELLS:
        seconds, origin = synthesis.origin_of(yosys.version(), counted)
        return Outcome(f"{made}; the stage bitstream synthesises the whole", reason=origin,
                       seconds=seconds)
    plan = yosys.plan(sources(ctx, SHELLS["zynq7"]), vivado.TABLES_CORE, board, {}, cells=True)
    ctx.say("the core with the AXI shell")
    used, done = synthesis.counts(ctx, board, plan)
    seconds, origin = synthesis.origin_of(yosys.version(), counted, done)
    return Outcome(f"with the AXI shell: {used}; the core alone {listed['luts']:,} "
                   f"LUT; {made}", reason=origin, seconds=seconds)


def sources(ctx: Context, shell: tuple[str, ...]) -> dict[str, Path]:
    """The core, the stream around it and a shell, packages first, by their name below hdl/."""
    from hwflow.emit.tables import stream

    hdl = resources.path("hdl")
    core = ctx.folder("rtl") / "core"
    names = sorted((path.name for path in core.glob("*.sv")), key=lambda n: ("_pkg" not in n, n))
    found = {f"core/{name}": core / name for name in names}
    if read_json(ctx.folder("rtl") / "core.json")["streaming"]:
        found |= {name: hdl / name for name in (*stream.MODULES, *STREAMING)}
    return found | {name: hdl / name for name in (*STREAM, *shell)}


def bitstream(ctx: Context) -> Outcome:
    """A Zynq: the Vivado project. An open board: bitstream, clock and utilisation by nextpnr."""
    board = boards.load(ctx.options.board)
    if not ctx.made("rtl"):
        return Outcome("", True, "there is no core: " + str(ctx.records["rtl"].reason))
    if board.shell == "zynq7":
        return _vivado(ctx, board)
    return _open_board(ctx, board)


def _open_board(ctx: Context, board: Board) -> Outcome:
    from hwflow.toolchain import nextpnr, openboards

    options: BuildOptions = ctx.options
    core = {name: path.read_text() for name, path in sources(ctx, ()).items()}
    pixels = read_json(ctx.folder("rtl") / "core.json")["pixels"]
    files = openboards.wrap(board, core, pixels)
    ctx.say(f"Yosys and nextpnr for {board.title}")
    routed = nextpnr.build(
        board, files, openboards.TOP, ctx.cache / f"nextpnr-{board.name}", name=options.name,
        on_line=lambda line: ctx.say(line[:60]), allow_slow=options.allow_negative_slack,
        store=synthesis.store(ctx), anew=ctx.anew,
    )
    file = routed.bitstream.name
    shutil.copyfile(routed.bitstream, ctx.work / file)
    for log in routed.bitstream.parent.glob("*.log"):
        shutil.copyfile(log, ctx.work / log.name)
    write_json(
        ctx.work / "result.json",
        {
            "path": file, "critical_path": str(routed.path),
            "resources": routed.resources.model_dump(mode="json"),
            "timing": routed.timing.model_dump(mode="json"),
        },
    )
    used = ", ".join(f"{name} {one.used:,} of {one.available:,}"
                     for name, one in routed.utilisation.items())
    program = str(board.program).format(bitstream=ctx.folder("bitstream") / file)
    seconds, origin = synthesis.origin_of(str(routed.timing.tool), routed.executed)
    return Outcome(
        f"{file}, {routed.fmax_mhz:.1f} MHz post-route; {used}. Load it with: {program}",
        reason=origin, seconds=seconds,
    )


def _vivado(ctx: Context, board: Board) -> Outcome:
    from hwflow.stages import deploy
    from hwflow.toolchain import vivado

    name = ctx.options.name
    project = vivado.project(sources(ctx, SHELLS["zynq7"]), board, {}, name, vivado.TABLES_CORE)
    return deploy.vivado_project(ctx, board, project, name, lambda ran: _deploy(ctx, board, ran))


def _deploy(ctx: Context, board: Board, ran: bool) -> str:
    """The folder for the person with the board; '' for a file, which brings no test split."""
    if ctx.options.file is not None:
        return ""
    import numpy as np

    from hwflow import arrays
    from hwflow.ir import Graph
    from hwflow.sim.tables import reference
    from hwflow.stages import deploy
    from hwflow.toolchain import vivado
    from hwflow.toolchain.render import render

    name, folder = ctx.options.name, ctx.work / "deploy"
    graph = Graph.load(graph_folders(ctx)["main"])
    test = arrays.read(ctx.folder("data") / "test.npz", ("images", "labels"), most_bytes=MOST_BYTES)
    images = test["images"][:DEPLOYED]
    classes, _ = reference(graph, images.reshape(len(images), -1))
    deploy.copy_driver(folder)
    np.savez(folder / "samples.npz", images=images, labels=test["labels"][:DEPLOYED],
             classes=classes)
    if ran:
        for file in (f"{name}.bit", f"{name}.hwh"):
            shutil.copyfile(ctx.work / file, folder / file)
    holes = {
        "name": name, "board": board, "bitstream": deploy.bitstream_state(ran),
        "register_base": f"0x{vivado.REGISTER_BASE:08X}", "pixels": images[0].size,
    }
    (folder / "run.py").write_text(render("deploy_tables_run.py.j2", name=name))
    (folder / "README.md").write_text(render("deploy_tables_readme.md.j2", **holes))
    return ", deploy folder"
