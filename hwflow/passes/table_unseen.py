# SPDX-License-Identifier: Apache-2.0
"""Statistical don't-cares: addresses that data does not show.

Never part of the lowering: it changes what the network says of inputs unlike the data, and the
graph's meta says that it was done.
"""

from dataclasses import dataclass

import numpy as np

from hwflow import interp
from hwflow.errors import GraphError
from hwflow.ir import Graph, Node
from hwflow.ops.tables import addresses
from hwflow.passes.table_forms import fill_codes, simplify_tables, with_consts
from hwflow.passes.table_reach import reachable

FLAG = "statistical_dont_cares"


@dataclass(frozen=True)
class Filled:
    """graph: the network with fewer wires. frames: that decided, an address being free when fewer
    than `least` of them show it. free: so many of the `addresses` of all tables that inputs can
    reach.
    """

    graph: Graph
    frames: int
    least: int
    free: int
    addresses: int


def fill_unseen(graph: Graph, frames: np.ndarray, least: int = 1) -> Filled:
    """Addresses that `frames` (B, C, H, W) of the only input show fewer than `least` times get the
    contents with which tables need the fewest inputs; then all is simplified.

    With least = 1 the outputs for these frames stay the same, for others they may change. The meta
    key "statistical_dont_cares" tells the number of frames, the limit and the addresses.
    """
    if least < 1 or len(graph.inputs) != 1:
        raise GraphError(f"limit {least} for {len(graph.inputs)} inputs; give at least 1 for one")
    seen = _counts(graph, frames)
    known = reachable(graph)
    free = sum(int((known[name] & (seen[name] < least)).sum()) for name in seen)
    addresses = sum(int(known[name].sum()) for name in seen)

    def filled(node: Node) -> dict[str, np.ndarray]:
        care = known[node.name] & (seen[node.name] >= least)
        return {"values": fill_codes(graph.const(node, "values"), care, node.attrs.out)}

    said = (f"{len(frames)} frames, addresses seen fewer than {least} times: {free} of {addresses} "
            "that can be reached")
    changed = _with_meta(with_consts(graph, filled), {**graph.meta, FLAG: said})
    return Filled(simplify_tables(changed), len(frames), least, free, addresses)


def _with_meta(graph: Graph, meta: dict[str, float | str]) -> Graph:
    """The graph with other facts; those of its counterparts go, as it no longer equals its file."""
    kept = {k: v for k, v in meta.items() if k.partition(".")[0] not in ("onnx", "channels")}
    return graph.rebuilt(meta=kept)


def _counts(graph: Graph, frames: np.ndarray, at_once: int = 512) -> dict[str, np.ndarray]:
    """How often each address of each table occurs: int64 (N, 2**K)."""
    nodes = [n for n in graph.nodes if n.op == "tables"]
    found = {n.name: np.zeros(graph.const(n, "values").shape, np.int64) for n in nodes}
    for start in range(0, len(frames), at_once):
        part = {graph.inputs[0]: frames[start : start + at_once]}
        values = interp.run_many(graph, part, keep=True)
        for node in nodes:
            x = np.moveaxis(values[node.inputs[0]].astype(np.int64), 0, -1)
            x = x.reshape(x.shape[0], -1)
            count, size = graph.const(node, "values").shape
            places = addresses(x, node.attrs.code_bits, graph.const(node, "wires"))
            flat = (places + size * np.arange(count)[:, None]).ravel()
            found[node.name] += np.bincount(flat, minlength=count * size).reshape(count, size)
    return found
