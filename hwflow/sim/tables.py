# SPDX-License-Identifier: Apache-2.0
"""Networks of tables in simulation: every image through the emitted core, one a clock.

The bench of a core is `sim/models/tables_bench.sv` (one that streams gets one position a clock),
that of the AXI-Stream around it `tables_axis_bench.sv`, what both share is in `tables_source.sv`;
what the cells of a chip compute is in `cells_<target>.sv`. The same bench runs the netlist that
Yosys maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwflow import interp
from hwflow.emit.tables import Design
from hwflow.emit.tables.stream import MODULES as STREAM_MODULES
from hwflow.errors import ConfigError, VerifyError
from hwflow.ir import Graph
from hwflow.ops.types import int_type
from hwflow.sim.runner import Build, build, hdl_dir, run, sim_dir

MOST_IMAGES = 16384
MOST_WORK = 26e9  # lookup tables times clocks: some minutes of one core
MODELS = ("xilinx", "ecp5", "ice40", "gowin")
STREAM = ("lib/fifo.sv", "tables/tables_axis.sv")  # around a core
BEATS = 8  # of an image, at least, where a core takes a whole one a clock
# What Yosys and the emitter write on purpose: cells of both outputs, of which one is read
_QUIET = ("-Wno-PINMISSING", "-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC", "-Wno-UNOPTFLAT")


@dataclass(frozen=True)
class Simulated:
    """The classes (N,) and scores (N, classes) as of the graph, and the clocks they took.

    scores: None of a stream, which gives classes alone.
    """

    classes: np.ndarray
    scores: np.ndarray | None
    clocks: int


def build_core(
    design: Design, target: str, folder: Path, *, netlist: str | None = None,
    stream: bool = False, cache: Path | None = None,
) -> Build:
    """The simulator of a core, or with `stream` of `tables_axis` around it. `folder` gets sources.

    netlist: Verilog of the design's top module as mapped to cells of the target, taken in place of
    the emitted text and of the modules of hdl/ that it uses.
    """
    folder = folder.resolve()  # a relative source is one of hdl/
    folder.mkdir(parents=True, exist_ok=True)
    package = "tables_pkg.sv"
    texts = dict(design.files)
    if netlist is not None:
        texts = {package: design.files[package], f"{design.top}.v": netlist}
    sources = [package, *sorted(texts.keys() - {package})]
    for name in sources:
        (folder / name).write_text(texts[name])
    models = [sim_dir() / "models" / f"cells_{target}.sv"] if target in MODELS else []
    if design.streaming and netlist is None:
        models += [hdl_dir() / name for name in STREAM_MODULES]
    bench, params = "tables_bench", {"MOST": MOST_IMAGES}
    if stream:
        bench, params = "tables_axis_bench", {**params, "BYTES": _beat(design)}
        around = ("tables/tables_stream.sv", *STREAM) if design.streaming else STREAM
        models += [hdl_dir() / name for name in around]
    return build(
        bench,
        [*(folder / name for name in sources), *models,
         *(sim_dir() / "models" / f"{name}.sv" for name in ("tables_source", bench))],
        params,
        build_args=["--x-assign", "fast", "--x-initial", "fast", "--no-assert", *_QUIET],
        optimise="-O1", cache=cache,
    )  # fmt: skip


def _beat(design: Design) -> int:
    """Bytes of a beat in the bench of the stream: some beats an image, no divisor of all sizes."""
    return 1 if design.streaming else max(1, design.pixels // BEATS)


def affordable(design: Design) -> int:
    """How many images are simulated in some minutes, at least one."""
    return max(1, min(MOST_IMAGES, int(MOST_WORK / (max(1, design.luts) * design.clocks))))


def simulate(
    built: Build, design: Design, images: np.ndarray, run_dir: Path, *, stall: int = 0,
    seed: int = 1,
) -> Simulated:
    """What the core answers to images (N, pixels) of the graph's input type, N up to 16384.

    stall: chance in 256 that the core stands still in a clock, and that no image (of a core that
    streams: no position) is offered. Of a stream that has been built: chances that a beat is not
    offered, and that no class is taken.
    """
    count = len(images)
    if not 1 <= count <= MOST_IMAGES or images.shape[1:] != (design.pixels,):
        raise ConfigError(
            f"images {images.shape}: give 1 to {MOST_IMAGES} rows of {design.pixels} elements"
        )
    if not 0 <= stall <= 200:
        raise ConfigError(f"stall {stall}: give 0 (never) to 200 of 256")
    run_dir = run_dir.resolve()  # the simulator runs elsewhere
    run_dir.mkdir(parents=True, exist_ok=True)
    moves, sent = count, images
    stream = built.top == "tables_axis_bench"
    if stream:
        moves = (count + 2) * -(-design.pixels // _beat(design))
    elif design.streaming:
        moves = (count + 2) * design.clocks
        sent = images.reshape(count, design.channels, design.clocks).transpose(0, 2, 1)
        sent = sent.reshape(count, -1)
    (run_dir / "images.bin").write_bytes(packed(sent, design.pixel_bits))
    output, result = run_dir / "classes.txt", run_dir / "clocks.txt"
    moving = (1 - stall / 256) ** 2
    run(
        built, "hwflow.sim.tables_frames", run_dir=run_dir,
        plusargs=[f"+images={run_dir / 'images.bin'}", f"+output={output}", f"+count={count}",
                  f"+stall={stall}", f"+seed={seed}"],
        env={"HWFLOW_CLOCKS": str(int(3 * moves / moving) + 100 * max(0, design.latency) + 1000),
             "HWFLOW_RESULT": str(result)},
    )  # fmt: skip
    rows = [line.split() for line in output.read_text().splitlines()]
    if len(rows) != count:
        raise VerifyError(f"the core answered {len(rows)} of {count} images; see {output}")
    classes, clocks = np.array([int(row[0]) for row in rows], np.int64), int(result.read_text())
    if stream:
        return Simulated(classes, None, clocks)
    words = [int(row[1], 16) for row in rows]
    mask, width = (1 << design.score_bits) - 1, design.score_bits
    scores = np.array(
        [[word >> (width * c) & mask for c in range(design.classes)] for word in words], np.int64
    )
    return Simulated(classes, scores - design.score_offset, clocks)


def packed(images: np.ndarray, bits: int) -> bytes:
    """Images (N, pixels) as the bench reads them: see its header."""
    codes = images.astype(np.int64) & ((1 << bits) - 1)
    planes = (codes[:, ::-1, None] >> np.arange(bits - 1, -1, -1)) & 1
    flat = planes.reshape(len(images), -1).astype(np.uint8)
    fill = -flat.shape[1] % 8
    return np.packbits(np.pad(flat, ((0, 0), (fill, 0))), axis=1).tobytes()


def reference(graph: Graph, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Classes (N,) and scores (N, classes) of images (N, pixels): the graph, in numpy."""
    final = graph.nodes[-1]
    scored = final.inputs[0] if final.op == "argmax" else final.output
    name = graph.inputs[0]
    frames = images.reshape(len(images), *graph.tensors[name].shape)
    wanted = tuple(dict.fromkeys((scored, final.output)))
    found = interp.run_many(graph.rebuilt(outputs=wanted), {name: frames})
    scores = found[scored].reshape(len(images), -1).astype(np.int64)
    classes = found[final.output].ravel() if final.op == "argmax" else scores.argmax(axis=1)
    return classes.astype(np.int64), scores


def verify(
    graph: Graph, design: Design, target: str, images: np.ndarray, folder: Path, *,
    stall: int = 0, netlist: str | None = None, stream: bool = False, cache: Path | None = None,
) -> dict[str, int]:
    """Compare classes and scores of the simulated core with the graph's, image by image.

    stream: through `tables_axis` around the core, whose pixels are bytes then; classes alone.
    Returns {"images", "clocks", "mismatches": 0}; VerifyError names the first image that differs.
    """
    built = build_core(
        design, target, folder / "rtl", netlist=netlist, stream=stream, cache=cache
    )
    found = simulate(built, design, images, folder, stall=stall)
    classes, scores = reference(graph, images)
    kind = int_type(graph.tensors[graph.inputs[0]])
    assert images.min() >= kind.lo and images.max() <= kind.hi
    wrong = found.classes != classes
    if found.scores is not None:
        wrong |= (found.scores != scores).any(axis=1)
    if wrong.any():
        first = int(wrong.argmax())
        own = "" if found.scores is None else f" of scores {found.scores[first].tolist()}"
        raise VerifyError(
            f"{int(wrong.sum())} of {len(images)} images differ; image {first}: the core says "
            f"class {found.classes[first]}{own}, the graph {classes[first]} of "
            f"{scores[first].tolist()}"
        )
    return {"images": len(images), "clocks": found.clocks, "mismatches": 0}
