# SPDX-License-Identifier: Apache-2.0
"""The accuracy of a network that was brought, on the labelled vectors that came with it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import hwflow
from hwflow.build import Context
from hwflow.errors import DataError
from hwflow.stages.options import BuildOptions
from hwflow.stages.results import read_json

if TYPE_CHECKING:
    import numpy as np

    from hwflow.ir import Graph

METRIC = "top-1 accuracy"
FILE = "accuracy.json"  # of the stage verify
AT_ONCE = 256
WAY = "leave `labels` out, or build a network that ends in the scores of classes or in ArgMax"


def classes(graph: Graph) -> tuple[int, bool]:
    """How many classes the output tells apart, and whether it is the class itself (ArgMax).

    DataError where the network is no classifier of whole inputs.
    """
    if len(graph.outputs) != 1:
        raise DataError(f"labels: the network has {len(graph.outputs)} outputs; {WAY}")
    name = graph.outputs[0]
    shape = graph.tensors[name].shape
    if math.prod(shape) > 1:
        if sum(side > 1 for side in shape) > 1:
            raise DataError(f"labels: output '{name}' is {shape}, no scores of classes; {WAY}")
        return math.prod(shape), False
    makers = {node.output: node for node in graph.nodes}
    while name in makers and makers[name].op != "argmax" and len(makers[name].inputs) == 1:
        name = makers[name].inputs[0]  # moves of the class
        if math.prod(graph.tensors[name].shape) > 1:
            break
    if name not in makers or makers[name].op != "argmax":
        raise DataError(f"labels: output '{graph.outputs[0]}' is one number; {WAY}")
    return graph.tensors[makers[name].inputs[0]].shape[0], True


def check(graph: Graph, labels: np.ndarray, place: str) -> None:
    """DataError unless each label is a class of the network."""
    count, _ = classes(graph)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= count:
        raise DataError(
            f"--inputs {place}: labels {low} to {high}; the network has {count} classes, "
            f"0 to {count - 1}"
        )


def measure(ctx: Context, graph: Graph) -> dict[str, Any] | None:
    """What the report says of the integer graph on every labelled vector; None without labels.

    The class is the first greatest of the scores as the file has them.
    """
    import numpy as np

    from hwflow import arrays, interp, verify
    from hwflow.stages import vectors

    options: BuildOptions = ctx.options
    if options.inputs is None:
        return None
    path = ctx.folder("data") / "inputs.npz"
    held = arrays.read(path)
    if vectors.LABELS not in held:
        return None
    labels = held[vectors.LABELS].astype(np.int64)
    batch = vectors.integers(path, graph)
    _, final = classes(graph)
    output, right = graph.outputs[0], 0
    for start in range(0, len(batch), AT_ONCE):
        ctx.say(f"accuracy: vector {start + 1} of {len(batch)}")
        some = {graph.inputs[0]: batch[start : start + AT_ONCE]}
        for number, found in enumerate(interp.run_many(graph, some)[output], start):
            scores = found if final else verify.reals(graph, output, found.astype(np.int64))
            label = int(scores.ravel()[0]) if final else int(np.argmax(scores))
            right += int(label == labels[number])
    digest = read_json(ctx.folder("data") / "provenance.json")["sha256"]
    return {
        "metric": METRIC, "value": right / len(labels), "float_value": None,
        "dataset": f"{options.inputs.name}, sha256 {digest[:12]}", "images": len(labels),
        "reason": "a file brings no float network", "right": right,
        "tool": f"hwflow {hwflow.__version__}, integer graph",
    }
