# SPDX-License-Identifier: Apache-2.0
"""What a frame wrote into the activation memory against the integer graph, word for word."""

from collections.abc import Mapping

import numpy as np

from hwflow.emit import isa
from hwflow.emit.engine.planes import VIEW_OPS
from hwflow.emit.engine.program import Program
from hwflow.emit.engine.words import never_read
from hwflow.errors import VerifyError
from hwflow.ir import Graph
from hwflow.ops.types import int_type
from hwflow.verify import compare


def check_trace(
    program: Program,
    graph: Graph,
    tags: np.ndarray,
    addrs: np.ndarray,
    data: np.ndarray,
    expected: Mapping[str, np.ndarray],
) -> int:
    """Compares every activation word that a frame wrote with the interpreter's tensors.

    tags, addrs: (N,) of each write; data: (N, 16) uint8; expected: every tensor of the graph.
    Every word of every step must be there exactly once, and every layer that computes a map must be
    among the steps. Returns the number of tensors compared; raises VerifyError naming the first
    layer, channel and pixel that differ.
    """
    stored = {step.tensor for step in program.steps}
    for node in graph.nodes:
        if node.op not in (*VIEW_OPS, "peaks") and node.output not in stored:
            raise VerifyError(f"{node.name}: the program has no descriptor that makes its map")
    if len(tags) and int(tags.max()) >= len(program.steps):
        raise VerifyError(f"descriptor {int(tags.max())} wrote, but the program has none like it")
    found: dict[str, np.ndarray] = {}
    order = np.argsort(tags, kind="stable")
    starts = np.searchsorted(tags[order], np.arange(len(program.steps) + 1))
    for step in program.steps:
        rows = order[starts[step.tag] : starts[step.tag + 1]]
        if not step.tensor:
            if len(rows):
                raise VerifyError(f"{step.node}: wrote {len(rows)} activation words, expected none")
            continue
        channels, height, width = graph.tensors[step.tensor].shape
        words = height * width // isa.LANES
        if step.tensor not in found:
            found[step.tensor] = np.full((channels, words, isa.LANES), -(1 << 20), np.int64)
        where = np.full(1 << 16, -1, np.int64)
        for channel, dst in zip(step.channels, step.dst, strict=True):
            place = (dst + np.arange(step.words)) & 0xFFFF
            where[place] = channel * words + step.first_word + np.arange(step.words)
        index = where[addrs[rows]]
        if len(rows) != len(step.channels) * step.words or (index < 0).any():
            raise VerifyError(
                f"{step.node} (descriptor {step.tag}): wrote {len(rows)} words, "
                f"{int((index < 0).sum())} of them outside its planes; expected "
                f"{len(step.channels) * step.words}"
            )
        if len(np.unique(index)) != len(index):
            raise VerifyError(f"{step.node} (descriptor {step.tag}): wrote a word twice")
        values = data[rows].astype(np.int64)
        if int_type(graph.tensors[step.tensor]).signed:
            values = (values ^ 0x80) - 0x80
        found[step.tensor].reshape(-1, isa.LANES)[index] = values
    for name in (*graph.inputs, *(n.output for n in graph.nodes)):
        if name not in found:
            continue
        shape = graph.tensors[name].shape
        actual = found[name].reshape(shape)
        if name in graph.inputs:  # rows that no tap reads are not loaded
            actual = np.where(actual == -(1 << 20), expected[name].reshape(shape), actual)
        elif (spare := never_read(graph, name)).any():
            spare = spare[..., None] & (actual == -(1 << 20))
            actual = np.where(spare, expected[name].reshape(shape), actual)
        compare(expected[name].reshape(shape), actual, name)
    return len(found)
