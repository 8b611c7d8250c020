# SPDX-License-Identifier: Apache-2.0
"""Passes that leave tables that do the same with less: lossless on every input of the network.

`simplify_tables` runs them until nothing changes. A table's form is canonical: its wires rise, and
places that it does not need repeat its first wire, with contents that do not depend on them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from hwflow.ir import Graph, IntType, Node
from hwflow.passes.table_reach import reachable

MOST_ROUNDS = 8


def simplify_tables(graph: Graph) -> Graph:
    """Tables become those that do the same with fewer inputs and without their equals, because each
    input and each table costs logic."""
    for _ in range(MOST_ROUNDS):
        before = graph
        for step in SIMPLIFY:
            graph = step(graph)
        if graph.digest() == before.digest():
            break
    return graph


def fill_unreachable(graph: Graph) -> Graph:
    """Addresses that never occur get the contents that make the table need the fewest inputs,
    because nobody sees them."""
    care = reachable(graph)

    def filled(node: Node) -> dict[str, np.ndarray]:
        if care[node.name].all():
            return {}
        values = fill_codes(graph.const(node, "values"), care[node.name], node.attrs.out)
        return {"values": values}

    return with_consts(graph, filled)


def fill_codes(values: np.ndarray, care: np.ndarray, kind: IntType) -> np.ndarray:
    """`fill` of tables (N, 2**K) of codes, bit by bit: each bit is a function of its own."""
    planes = [
        fill((values >> bit) & 1 == 1, care).astype(np.int64) << bit for bit in range(kind.bits)
    ]
    codes = sum(planes[1:], planes[0])
    return np.where(codes > kind.hi, codes - (1 << kind.bits), codes)


def fill(bits: np.ndarray, care: np.ndarray) -> np.ndarray:
    """Functions (N, 2**K) that agree with `bits` where `care`, and need few inputs: each is dropped
    if it can be, from the last on or from the first on, whatever drops more."""
    width = bits.shape[1].bit_length() - 1
    down = _dropped(bits, care, range(width - 1, -1, -1))
    up = _dropped(bits, care, range(width))
    return np.where((down[1] >= up[1])[:, None], down[0], up[0])


def _dropped(bits: np.ndarray, care: np.ndarray, order: range) -> tuple[np.ndarray, np.ndarray]:
    """The functions with inputs dropped in an order, and how many each lost."""
    found, known = bits & care, care.copy()
    count = np.zeros(len(bits), np.int64)
    for place in order:
        shape = (len(bits), -1, 2, 1 << place)
        value, cared = found.reshape(shape), known.reshape(shape)
        clash = cared[:, :, 0] & cared[:, :, 1] & (value[:, :, 0] != value[:, :, 1])
        free = ~clash.any(axis=(1, 2))
        merged, either = (part[free].any(axis=2, keepdims=True) for part in (value, cared))
        value[free], cared[free] = merged, either
        count += free
    return found, count


def reduce_support(graph: Graph) -> Graph:
    """Wires that a table does not depend on go, the others rise, because then equal tables look
    equal and a layer has no wider address than it needs."""

    def reduced(node: Node) -> dict[str, np.ndarray]:
        wires, values = graph.const(node, "wires"), graph.const(node, "values")
        needs = support(values)
        width = max(1, int(needs.sum(axis=1).max()))
        new_wires = np.zeros((len(wires), width), np.int32)
        new_values = np.zeros((len(wires), 1 << width), np.int16)
        address = np.arange(1 << width)
        for n in range(len(wires)):
            places = np.flatnonzero(needs[n])
            places = places[np.argsort(wires[n, places], kind="stable")]
            old = np.zeros(1 << width, np.int64)
            for rank, place in enumerate(places):
                old |= ((address >> rank) & 1) << place
                new_wires[n, rank] = wires[n, place]
            new_wires[n, len(places) :] = new_wires[n, 0]
            new_values[n] = values[n, old]
        return {"wires": new_wires, "values": new_values}

    return with_consts(graph, reduced)


def support(values: np.ndarray) -> np.ndarray:
    """Which address bits each table depends on: bool (N, K); values (N, 2**K)."""
    count, size = values.shape
    columns = []
    for place in range(size.bit_length() - 1):
        view = values.reshape(count, -1, 2, 1 << place)
        columns.append((view[:, :, 0] != view[:, :, 1]).any(axis=(1, 2)))
    return np.stack(columns, axis=1)


def merge_tables(graph: Graph) -> Graph:
    """Wires from a bit that another table's bit equals, or complements, move to that one, because
    the reader's own contents take up the complement."""
    found = {node.output: _equals(graph, node) for node in graph.nodes if node.op == "tables"}

    def moved(node: Node) -> dict[str, np.ndarray]:
        bits = node.attrs.code_bits
        wires, values = graph.const(node, "wires").copy(), graph.const(node, "values").copy()
        address = np.arange(values.shape[1])
        flips = np.zeros(len(wires), np.int64)
        start = 0
        for tensor in _parts(graph, node.inputs[0]):
            channels = graph.tensors[tensor].shape[0]
            if tensor in found:
                target, flipped = found[tensor]
                inside = (wires >= start * bits) & (wires < (start + channels) * bits)
                old = np.where(inside, wires - start * bits, 0)
                flips += ((flipped[old] & inside) << np.arange(wires.shape[1])).sum(axis=1)
                wires = np.where(inside, target[old] + start * bits, wires).astype(np.int32)
            start += channels
        rows = np.arange(len(wires))[:, None]
        return {"wires": wires, "values": values[rows, address ^ flips[:, None]]}

    return with_consts(graph, moved)


def _parts(graph: Graph, tensor: str) -> list[str]:
    """The tensors that a tensor is the concatenation of."""
    node = graph.producer(tensor)
    if node is None or node.op != "concat":
        return [tensor]
    return [part for i in node.inputs for part in _parts(graph, i)]


def _equals(graph: Graph, node: Node) -> tuple[np.ndarray, np.ndarray]:
    """For each bit of a tensor the first bit that equals it or is its complement, and which."""
    wires, values = graph.const(node, "wires"), graph.const(node, "values")
    bits, count = node.attrs.out.bits, len(wires)
    target, flipped = np.arange(count * bits), np.zeros(count * bits, bool)
    first: dict[tuple[bytes, bytes], tuple[int, bool]] = {}
    for bit in range(bits):
        plane = (values >> bit) & 1 == 1
        needs = support(plane)
        address = np.arange(values.shape[1])
        for n in range(count):
            places = np.flatnonzero(needs[n])
            if not len(places):
                continue  # a constant: its readers drop it as a code that never changes
            places = places[np.argsort(wires[n, places], kind="stable")]
            small = address[: 1 << len(places)]
            old = np.zeros(len(small), np.int64)
            for rank, place in enumerate(places):
                old |= ((small >> rank) & 1) << place
            function = plane[n, old]
            turned = bool(function[0])
            key = (wires[n, places].tobytes(), np.packbits(function ^ turned).tobytes())
            known = first.setdefault(key, (n * bits + bit, turned))
            target[n * bits + bit], flipped[n * bits + bit] = known[0], known[1] != turned
    return target, flipped


def drop_dead_tables(graph: Graph) -> Graph:
    """Tables that no wire comes from go, because only other tables would have read them."""
    keep = _read(graph)
    if all(kept.all() for kept in keep.values()):
        return graph
    places: dict[str, np.ndarray] = {}
    constants, meta, nodes = dict(graph.constants), dict(graph.meta), []
    for node in graph.nodes:
        kept = keep.get(node.output)
        if node.op == "tables":
            roles = {role: graph.const(node, role) for role in ("wires", "values")}
            if kept is not None and not kept.all():
                roles = {role: array[kept] for role, array in roles.items()}
                places[node.output] = np.cumsum(kept) - 1
                meta[f"channels.{node.output}"] = _channels(graph, node.output, kept)
            moved = places.get(node.inputs[0])
            if moved is not None:
                channel, bit = np.divmod(roles["wires"], node.attrs.code_bits)
                roles["wires"] = moved[channel] * node.attrs.code_bits + bit
            roles["wires"] = roles["wires"].astype(np.int32)
            constants.update({node.consts[role]: array for role, array in roles.items()})
        elif node.op == "concat" and kept is not None and not kept.all():
            places[node.output] = np.cumsum(kept) - 1
            meta[f"channels.{node.output}"] = _channels(graph, node.output, kept)
        nodes.append(node)
    return graph.rebuilt(nodes=nodes, constants=constants, meta=meta)


def _channels(graph: Graph, tensor: str, kept: np.ndarray) -> str:
    """Which channels of the file's tensor are left, as text."""
    known = graph.meta.get(f"channels.{tensor}")
    before = np.arange(len(kept)) if known is None else np.array(str(known).split(), np.int64)
    return " ".join(str(n) for n in before[kept])


def _read(graph: Graph) -> dict[str, np.ndarray]:
    """For each tensor of tables that tables alone read, and each concatenation of such, the
    channels that some wire comes from; at least one."""
    keep: dict[str, np.ndarray] = {}
    for node in reversed(graph.nodes):
        tensor, users = node.output, graph.consumers(node.output)
        free = tensor not in graph.outputs and all(
            u.op == "tables" or (u.op == "concat" and u.output in keep) for u in users
        )
        shrinks = node.op == "tables" or (
            node.op == "concat" and all(_shrinks(graph, i) for i in node.inputs)
        )
        if not free or not users or not shrinks:
            continue
        used = np.zeros(graph.tensors[tensor].shape[0], bool)
        for user in users:
            if user.op == "tables":
                wires = graph.const(user, "wires")
                wires = wires[keep[user.output]] if user.output in keep else wires
                used[np.unique(wires // user.attrs.code_bits)] = True
                continue
            start = 0
            for i in user.inputs:
                count = graph.tensors[i].shape[0]
                if i == tensor:
                    used |= keep[user.output][start : start + count]
                start += count
        used[0] |= not used.any()
        keep[tensor] = used
    # a concatenation keeps what its parts keep
    for node in graph.nodes:
        if node.op == "concat" and node.output in keep:
            whole = {i: np.ones(graph.tensors[i].shape[0], bool) for i in node.inputs}
            keep[node.output] = np.concatenate([keep.get(i, whole[i]) for i in node.inputs])
    return keep


def _shrinks(graph: Graph, tensor: str) -> bool:
    """Whether channels of a tensor may go: it is made by tables and read by tables through
    concatenations alone."""
    node = graph.producer(tensor)
    return node is not None and node.op == "tables" and tensor not in graph.outputs


Change = Callable[[Node], Mapping[str, np.ndarray]]
SIMPLIFY = (fill_unreachable, reduce_support, merge_tables, drop_dead_tables)


def with_consts(graph: Graph, change: Change) -> Graph:
    """The graph with some constants of its tables replaced."""
    constants, nodes = dict(graph.constants), []
    for node in graph.nodes:
        if node.op == "tables":
            for role, array in change(node).items():
                kind = np.int32 if role == "wires" else np.int16
                constants[node.consts[role]] = np.ascontiguousarray(array, dtype=kind)
            node = replace(node)
        nodes.append(node)
    return graph.rebuilt(nodes=nodes, constants=constants)
