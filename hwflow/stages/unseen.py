# SPDX-License-Identifier: Apache-2.0
"""`--statistical-dont-cares`: tables are free where no training sample goes, and the report says
so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwflow.build import Context
from hwflow.stages.options import BuildOptions
from hwflow.stages.results import read_json, write_json

if TYPE_CHECKING:
    import numpy as np

    from hwflow.ir import Graph

RESULT, EXACT = "unseen.json", "exact"
AT_ONCE = 1000  # samples


def fill(ctx: Context, graph: Graph, folder: Path) -> tuple[Graph, str]:
    """The smaller network, and a line about it.

    Leaves exact/, the network before it, which alone can be held to the QONNX file, and unseen.json
    with the numbers: addresses, and the accuracy of both networks on the whole test split.
    """
    from hwflow import arrays
    from hwflow.data import default_cache, samples
    from hwflow.passes.table_unseen import fill_unseen

    options: BuildOptions = ctx.options
    ctx.say("reading the training split for its addresses")
    training = samples.load(options.data, "train", options.cache or default_cache())
    graph.save(folder / EXACT)
    found = fill_unseen(graph, training.images)
    test = arrays.read(ctx.folder("data") / "test.npz", ("images", "labels"), most_bytes=1 << 32)
    ctx.say("measuring both networks on the test split")
    before, after = (accuracy(one, test["images"], test["labels"]) for one in (graph, found.graph))
    write_json(folder / RESULT, {
        "samples": found.frames, "least": found.least, "free": found.free,
        "addresses": found.addresses, "images": len(test["labels"]), "exact": before,
        "value": after,
    })  # fmt: skip
    return found.graph, (
        f"statistical don't-cares: {found.free:,} of {found.addresses:,} addresses are free because"
        f" none of {found.frames:,} training samples goes there; {100 * after:.2f} % of the test "
        f"samples, {100 * before:.2f} % without"
    )


def accuracy(graph: Graph, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images whose class, the output of the graph, is that of the label."""
    from hwflow import interp

    source, result = graph.inputs[0], graph.outputs[0]
    right = 0
    for start in range(0, len(images), AT_ONCE):
        part = images[start : start + AT_ONCE]
        found = interp.run_many(graph, {source: part})[result].reshape(len(part), -1)
        classes = found[:, 0] if found.shape[1] == 1 else found.argmax(axis=1)
        right += int((classes == labels[start : start + AT_ONCE]).sum())
    return right / len(images)


def said(ctx: Context) -> dict[str, Any] | None:
    """What `fill` left in this build, or None."""
    path = ctx.folder("lower") / RESULT
    return read_json(path) if ctx.made("lower") and path.is_file() else None
