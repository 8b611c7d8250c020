# SPDX-License-Identifier: Apache-2.0
"""The accuracy of a network that was brought, on the labelled vectors that came with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Answer:
    """The output that classifies; `final`: it is the class itself (ArgMax), not a score of each."""

    output: str
    classes: int
    final: bool


def answer(graph: Graph) -> Answer:
    """Where the class of an input is. Of several outputs the one behind ArgMax, else the only one
    of scores.

    DataError where the network is no classifier of whole inputs.
    """
    found = [one for name in graph.outputs if (one := _answer(graph, name)) is not None]
    chosen = [one for one in found if one.final] or found
    if len(chosen) != 1:
        outputs = ", ".join(f"'{name}' {graph.tensors[name].shape}" for name in graph.outputs)
        what = "several outputs that classify" if chosen else "no output of scores or classes"
        raise DataError(f"labels: the network has {what} ({outputs}); {WAY}")
    return chosen[0]


def _answer(graph: Graph, output: str) -> Answer | None:
    """An output as an answer, if it is one."""
    shape = graph.tensors[output].shape
    if math.prod(shape) > 1:
        scores = sum(side > 1 for side in shape) == 1
        return Answer(output, math.prod(shape), False) if scores else None
    makers = {node.output: node for node in graph.nodes}
    name = output
    while (node := makers.get(name)) is not None and math.prod(graph.tensors[name].shape) == 1:
        if node.op == "argmax":
            return Answer(output, graph.tensors[node.inputs[0]].shape[0], True)
        name = node.inputs[0]  # moves of the class
    return None


def check(graph: Graph, labels: np.ndarray, place: str) -> None:
    """DataError unless each label is a class of the network."""
    count = answer(graph).classes
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
    where, right = answer(graph), 0
    for start in range(0, len(batch), AT_ONCE):
        ctx.say(f"accuracy: vector {start + 1} of {len(batch)}")
        some = {graph.inputs[0]: batch[start : start + AT_ONCE]}
        for number, found in enumerate(interp.run_many(graph, some)[where.output], start):
            if where.final:
                label = int(found.ravel()[0])
            else:
                label = int(np.argmax(verify.reals(graph, where.output, found.astype(np.int64))))
            right += int(label == labels[number])
    digest = read_json(ctx.folder("data") / "provenance.json")["sha256"]
    return {
        "metric": METRIC, "value": right / len(labels), "float_value": None,
        "dataset": f"{options.inputs.name}, sha256 {digest[:12]}", "images": len(labels),
        "reason": "a file brings no float network", "right": right,
        "tool": f"hwflow {hwflow.__version__}, integer graph",
    }
