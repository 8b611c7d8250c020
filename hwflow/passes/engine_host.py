# SPDX-License-Identifier: Apache-2.0
"""What the host of a form has to do, as arrays: host.npz, which hwflow/driver/batch.py reads.

input.shape, input.map: of an image, and of the picture of a frame; input.where: word of each value,
input.low: what a byte of 0 stands for. For each output of `names`: at, factor, offset as in
engine_values.Values, words counted in the output region; best: 0, or 1 (2) for the first (last)
greatest along the channels; order, shape: the elements of the result in their order.
"""

import math

import numpy as np

from hwflow.emit.isa import LANES
from hwflow.errors import GraphError
from hwflow.ops import OPS
from hwflow.passes.engine_form import MOVES, EngineForm
from hwflow.passes.engine_values import NONE, Values, moved


def host_arrays(form: EngineForm) -> dict[str, np.ndarray]:
    """The content of host.npz. Raises GraphError for a tail that the driver does not compute."""
    source, first = form.source, form.source.inputs[0]
    place, total = {}, 0
    for name in form.graph.outputs:
        place[name] = total
        total += math.prod(form.graph.tensors[name].shape) // LANES
    given = form.values[first]
    found = {
        "input.shape": np.array(source.tensors[first].shape),
        "input.map": np.array(form.graph.tensors[first].shape),
        "input.where": given.at.ravel() - form.starts[first],
        "input.low": np.array(int(given.offset.flat[0])),
        "names": np.array(source.outputs),
        "output.bytes": np.array(total * LANES),
    }
    held: dict[str, tuple[Values, int, np.ndarray]] = {}
    for name, values in form.values.items():
        held[name] = values, 0, np.arange(values.offset.size).reshape(values.shape)
    for node in form.tail:
        inputs = [held[name] for name in node.inputs]
        consts = source.consts(node)
        values, best, order = inputs[0]
        shape = source.tensors[node.output].shape
        if node.op in MOVES and not any(b for _, b, _ in inputs):
            values = moved([v for v, _, _ in inputs], node, consts)
            held[node.output] = values, 0, np.arange(values.offset.size).reshape(shape)
        elif node.op in MOVES and len(inputs) == 1:
            held[node.output] = values, best, OPS[node.op].golden((order,), node.attrs, consts)
        elif node.op == "argmax" and not best:
            order = np.arange(math.prod(shape)).reshape(shape)
            held[node.output] = values, 2 if node.attrs.last else 1, order
        else:
            raise GraphError(f"{node.name} ({node.op}): the host driver does not compute it")
    for name in source.outputs:
        values, best, order = held[name]
        at = np.full(values.at.shape, NONE, np.int64)
        for tensor, start in place.items():
            low = form.starts[tensor]
            size = math.prod(form.graph.tensors[tensor].shape) // LANES
            mine = (values.at >= low) & (values.at < low + size)
            at[mine] = values.at[mine] - low + start
        found |= {
            f"{name}.at": at, f"{name}.factor": values.factor, f"{name}.offset": values.offset,
            f"{name}.best": np.array(best), f"{name}.order": order.ravel(),
            f"{name}.shape": np.array(source.tensors[name].shape),
        }  # fmt: skip
    return found
