# SPDX-License-Identifier: Apache-2.0
"""Stage hls with --backend hls4ml: another compiler's C simulation beside the integer graph."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from hwflow import boards
from hwflow.build import Context, Outcome
from hwflow.errors import VerifyError
from hwflow.stages.graph import graph_folders, images, onnx_files
from hwflow.stages.results import write_json

if TYPE_CHECKING:
    import numpy as np

    from hwflow.ir import Graph

SKIPPED = "--backend hls4ml: hls4ml's C++ is compared, and our hardware is left out"


def hls(ctx: Context) -> Outcome:
    """hls4ml/ (the project) and result.json; a difference fails the stage, and is counted."""
    import numpy as np

    from hwflow.emit import hls4ml_backend

    path = onnx_files(ctx)["main"]
    board = boards.load(ctx.options.board)
    if ctx.made("lower"):
        graph = _graph(ctx)
        batch = images(ctx, graph, ctx.options.tiles)
        vectors, expected = _reals(graph, batch)
    else:
        vectors, expected = _noise(ctx, hls4ml_backend.input_shape(path)), None
    ctx.say(f"hls4ml: {len(vectors)} vectors")
    shape = hls4ml_backend.input_shape(path)
    vectors = vectors.reshape(len(vectors), *shape)
    folder = ctx.cache / "hls4ml"
    made = hls4ml_backend.write_and_csim(path, folder, vectors, board)
    shutil.copytree(made.project, ctx.work / "hls4ml", ignore=shutil.ignore_patterns("*.so", "*.o"))
    against = "the file"
    if expected is not None:
        # The stage verify has shown the file equal to the graph; here hls4ml is held to the graph.
        if not np.array_equal(made.expected, expected.reshape(made.expected.shape)):
            raise VerifyError(f"{path}: qonnx and the integer graph give different outputs")
        against = "the integer graph"
    write_json(
        ctx.work / "result.json",
        {
            "images": made.vectors, "tensors": 1, "values": made.values,
            "mismatches": made.mismatches, "against": against, "tool": hls4ml_backend.version(),
            "first": None if made.first is None else str(made.first),
        },
    )
    if made.mismatches == 0:
        return Outcome(f"hls4ml: {made.vectors} vectors, {made.values:,} values: 0 mismatches "
                       f"with {against}")
    where = made.first or "between its layers, each of which is equal"
    return Outcome(
        f"hls4ml: {made.vectors} vectors, {made.mismatches} of {made.values:,} values differ",
        failed=True,
        reason=f"hls4ml computes other numbers: {made.mismatches} of {made.values:,} outputs "
        f"differ from {against}; first {where}. Usual causes: scales that are no powers of two, "
        "biases without a quantiser (Int32Bias); docs/hls4ml.md",
    )


def _graph(ctx: Context) -> Graph:
    """The lowered network."""
    from hwflow.ir import Graph

    return Graph.load(graph_folders(ctx)["main"])


def _reals(graph: Graph, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the integers of the input, and of the output interp computes from them, stand for."""
    import numpy as np

    from hwflow import interp, verify

    source = graph.inputs[0]
    given = [verify.reals(graph, source, image.astype(np.int64)) for image in batch]
    sink = graph.outputs[0]
    made = [verify.reals(graph, sink, interp.run(graph, {source: image})[sink]) for image in batch]
    return np.stack(given), np.stack(made)


def _noise(ctx: Context, shape: tuple[int, ...]) -> np.ndarray:
    """Seeded bytes as fractions, for a file without an integer graph: any quantiser takes them."""
    import numpy as np

    rng = np.random.default_rng(ctx.options.seed)
    bytes_ = rng.integers(0, 256, (ctx.options.tiles, *shape))
    return (bytes_ / np.float32(256)).astype(np.float32)
