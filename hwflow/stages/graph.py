# SPDX-License-Identifier: Apache-2.0
"""Stages lower and verify: from the QONNX file to the integer graph, and the proof of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hwflow.build import Context, Outcome
from hwflow.errors import DataError, GraphError
from hwflow.stages.options import BuildOptions
from hwflow.stages.results import read_json, write_json

if TYPE_CHECKING:
    import numpy as np

    from hwflow.ir import Graph

SPEED_TILES = 1  # the speed network differs in its last layer only


def onnx_files(ctx: Context) -> dict[str, Path]:
    """The networks of this build: `main`, and `speed` where there is one."""
    options: BuildOptions = ctx.options
    if options.file is not None:
        return {"main": options.file}
    folder = ctx.folder("export")
    found = {"main": folder / "model.onnx"}
    speed = folder / "speed" / "model.onnx"
    return {**found, "speed": speed} if speed.is_file() else found


def graph_folders(ctx: Context) -> dict[str, Path]:
    """The lowered networks of this build, by the same names."""
    folders = {"main": ctx.folder("lower") / "graph", "speed": ctx.folder("lower/speed") / "graph"}
    return {name: folder for name, folder in folders.items() if folder.is_dir()}


def images(ctx: Context, graph: Graph, count: int) -> np.ndarray:
    """`count` photographs of the build, uint8 (N, C, H, W); seeded noise for a foreign file.

    With --inputs at most `count` of its vectors, as integers of the graph's input. Raises DataError
    when the test split holds fewer.
    """
    import numpy as np

    from hwflow import arrays
    from hwflow.ops.types import int_type

    if ctx.options.inputs is not None:
        from hwflow.stages.vectors import integers

        return integers(ctx.folder("data") / "inputs.npz", graph)[:count]
    if ctx.made("data"):
        found = arrays.read(ctx.folder("data") / "tiles.npz", ("images",))["images"][:count]
        if len(found) < count:
            raise DataError(
                f"the test split has {len(found)} photographs, {count} are to be compared; give "
                "more data, or lower --tiles and --frames"
            )
        return found
    tensor = graph.tensors[graph.inputs[0]]
    dtype = int_type(tensor)
    rng = np.random.default_rng(ctx.options.seed)
    shape = (count, *tensor.shape)
    return rng.integers(dtype.lo, dtype.hi, shape, endpoint=True)


def lower(ctx: Context) -> Outcome:
    """graph/ and speed/graph/, with a snapshot of the graph after each pass."""
    from hwflow import ingest, passes

    lines = []
    for name, path in onnx_files(ctx).items():
        ctx.say(f"reading {path.name} ({name})")
        top = ctx.work if name == "main" else ctx.work / name
        try:
            graph = passes.lower(ingest.read(path), top / "passes")
        except GraphError as error:
            if ctx.options.backend != "hls4ml" or ctx.options.file is None:
                raise
            return Outcome("", True, f"no integer graph, hls4ml is held to the file: {error}")
        note = ""
        if ctx.options.statistical_dont_cares and name == "main":
            from hwflow.stages import unseen

            graph, note = unseen.fill(ctx, graph, top)
        graph.save(top / "graph")
        (top / "graph.txt").write_text(graph.table())
        if name == "main":
            bits = max(
                (node.attrs.acc_bits for node in graph.nodes if hasattr(node.attrs, "acc_bits")),
                default=0,
            )
            lines.append(
                f"{len(graph.nodes)} integer nodes, {graph.macs() / 1e6:.1f} M MACs, "
                f"accumulators up to {bits} bits"
            )
            lines += [note] if note else []
    return Outcome("; ".join(lines))


def verify(ctx: Context) -> Outcome:
    """qonnx.json: every layer of every photograph equals the QONNX file's.

    Of vectors with labels also accuracy.json, the accuracy of the integer graph on all of them.
    """
    if not ctx.made("lower"):
        return Outcome("", True, "there is no integer graph to compare")
    from hwflow import verify as checks
    from hwflow.ir import Graph
    from hwflow.stages import accuracy

    result: dict[str, object] = {}
    paths = onnx_files(ctx)
    for name, folder in graph_folders(ctx).items():
        # with statistical don't-cares the network before them is what the file says
        before = folder.parent / "exact"
        graph = Graph.load(before if before.is_dir() else folder)
        batch = images(ctx, graph, ctx.options.tiles if name == "main" else SPEED_TILES)

        def begin(number: int, name: str = name, count: int = len(batch)) -> None:
            ctx.say(f"{name}: image {number + 1} of {count}")

        result[name] = checks.against_qonnx(graph, paths[name], batch, begin)
    write_json(ctx.work / "qonnx.json", result)
    main = read_json(ctx.work / "qonnx.json")["main"]
    exact = " (scales are no powers of two: sums of the file taken over integers)"
    measured = accuracy.measure(ctx, Graph.load(graph_folders(ctx)["main"]))
    right = ""
    if measured is not None:
        write_json(ctx.work / accuracy.FILE, measured)
        right = (f"; {accuracy.METRIC} {100 * measured['value']:.2f} % ({measured['right']:,} of "
                 f"{measured['images']:,} vectors)")
    return Outcome(
        f"{main['images']} images, {main['tensors']} layers, {main['values']:,} values: "
        f"{main['mismatches']} mismatches{exact if main['exact_sums'] else ''}{right}"
    )
