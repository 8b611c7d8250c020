# SPDX-License-Identifier: Apache-2.0
"""Which addresses of a table can ever occur: exact don't-cares.

An address cannot occur because a child never gives a code, or because children share inputs and
never give two codes together. Sets of joint codes are computed from the inputs on, as long as they
stay small; where one would not, its channels are taken as independent. So a set may hold codes that
never occur, but never lacks one that does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hwflow.ir import Graph, IntType, Node

LIMIT = 4096
"""The most joint codes that are listed."""

Channel = tuple[str, int]


def reachable(graph: Graph, limit: int = LIMIT) -> dict[str, np.ndarray]:
    """For each `tables` node which addresses of each table may occur: bool (N, 2**K)."""
    state = _State(graph, limit)
    for node in graph.nodes:
        if node.op == "tables":
            state.care[node.output] = _of_node(state, node)
    return {node.name: state.care[node.output] for node in graph.nodes if node.op == "tables"}


@dataclass
class _State:
    graph: Graph
    limit: int
    care: dict[str, np.ndarray] = field(default_factory=dict)
    sets: dict[tuple[Channel, ...], np.ndarray | None] = field(default_factory=dict)
    singles: dict[Channel, np.ndarray | None] = field(default_factory=dict)
    known_wires: dict[Channel, list[tuple[Channel, int]]] = field(default_factory=dict)
    known_keys: dict[Channel, set[Channel]] = field(default_factory=dict)

    def resolve(self, tensor: str, channel: int) -> Channel:
        """The channel that a channel of a concatenation or slice is."""
        node = self.graph.producer(tensor)
        while node is not None and node.op in ("concat", "slice"):
            if node.op == "slice":
                tensor, channel = node.inputs[0], channel + node.attrs.start
            else:
                for tensor in node.inputs:
                    count = self.graph.tensors[tensor].shape[0]
                    if channel < count:
                        break
                    channel -= count
            node = self.graph.producer(tensor)
        return tensor, channel

    def wires(self, node: Node, table: int) -> list[tuple[Channel, int]]:
        """The channel and the bit behind each address bit of a table."""
        pairs = (
            divmod(int(w), node.attrs.code_bits) for w in self.graph.const(node, "wires")[table]
        )
        return [(self.resolve(node.inputs[0], channel), bit) for channel, bit in pairs]

    def parents(self, channel: Channel) -> tuple[Channel, ...]:
        """The channels that a channel is computed from; none for those taken as they come."""
        node = self.graph.producer(channel[0])
        if node is not None and node.op == "threshold":
            return (self.resolve(node.inputs[0], channel[1]),)
        if node is not None and node.op == "tables":
            return tuple(sorted({c for c, _ in self.wires(node, channel[1])}))
        return ()

    def keys(self, channel: Channel) -> set[Channel]:
        """What a channel shares with another if both depend on it; a comparator is its pixel."""
        if channel not in self.known_keys:
            self.known_keys[channel] = self._keys(channel)
        return self.known_keys[channel]

    def _keys(self, channel: Channel) -> set[Channel]:
        node = self.graph.producer(channel[0])
        if node is None or node.op not in ("threshold", "tables"):
            return {channel}
        if node.op == "threshold":
            return set(self.parents(channel))
        found: set[Channel] = {channel}
        for parent in self.parents(channel):
            before = self.graph.producer(parent[0])
            compared = before is not None and before.op == "threshold"
            found.update(self.parents(parent) if compared else (parent,))
        return found


def _of_node(state: _State, node: Node) -> np.ndarray:
    """Reachable addresses of every table of a node."""
    count, bits = state.graph.const(node, "wires").shape
    address = np.arange(1 << bits)
    care = np.ones((count, 1 << bits), bool)
    for table in range(count):
        wires = state.wires(node, table)
        for group in _components(state, sorted({c for c, _ in wires})):
            for part in _sets(state, group):
                channels, codes = part
                places = [j for j, (c, _) in enumerate(wires) if c in channels]
                twice = len({wires[j] for j in places}) < len(places)
                if len(codes) == 1 << (node.attrs.code_bits * len(channels)) and not twice:
                    continue  # every code of every channel with every other
                found = np.zeros(len(codes), np.int64)
                own = np.zeros(1 << bits, np.int64)
                for rank, j in enumerate(places):
                    channel, bit = wires[j]
                    found |= ((codes[:, channels.index(channel)] >> bit) & 1) << rank
                    own |= ((address >> j) & 1) << rank
                seen = np.zeros(1 << len(places), bool)
                seen[found] = True
                if not seen.all():
                    care[table] &= seen[own]
    return care


def _sets(
    state: _State, group: tuple[Channel, ...]
) -> list[tuple[tuple[Channel, ...], np.ndarray]]:
    """The joint codes of channels that belong together; those of each where they are too many."""
    joint = _joint(state, group)
    if joint is not None:
        return [(group, joint)]
    alone = [((channel,), _single(state, channel)) for channel in group]
    return [(channels, codes[:, None]) for channels, codes in alone if codes is not None]


def _components(state: _State, channels: Sequence[Channel]) -> list[tuple[Channel, ...]]:
    """The channels in groups that share nothing one step back."""
    groups: list[tuple[set[Channel], list[Channel]]] = []
    for channel in channels:
        keys, members = state.keys(channel), [channel]
        apart = []
        for other, inside in groups:
            if keys & other:
                keys, members = keys | other, inside + members
            else:
                apart.append((other, inside))
        groups = [*apart, (keys, members)]
    return [tuple(sorted(members)) for _, members in groups]


def _single(state: _State, channel: Channel) -> np.ndarray | None:
    """The codes a channel may have; None for too many."""
    if channel not in state.singles:
        state.singles[channel] = _codes(state, channel)
    return state.singles[channel]


def _codes(state: _State, channel: Channel) -> np.ndarray | None:
    tensor, index = channel
    node = state.graph.producer(tensor)
    if node is not None and node.op == "tables":
        values, care = state.graph.const(node, "values")[index], state.care[tensor][index]
        return np.unique(values[care]).astype(np.int64)
    if node is not None and node.op == "threshold":
        before = _single(state, state.parents(channel)[0])
        if before is not None:
            return np.unique(_evaluate(state, channel, state.parents(channel), before[:, None])[0])
    kind = state.graph.tensors[tensor].dtype
    assert isinstance(kind, IntType)
    return np.arange(kind.lo, kind.hi + 1) if 1 << kind.bits <= state.limit else None


def _joint(state: _State, channels: tuple[Channel, ...]) -> np.ndarray | None:
    """The joint codes (S, len(channels)) that channels may have; None for too many."""
    if channels not in state.sets:
        state.sets[channels] = _find_joint(state, channels)
    return state.sets[channels]


def _find_joint(state: _State, channels: tuple[Channel, ...]) -> np.ndarray | None:
    if len(channels) == 1:
        codes = _single(state, channels[0])
        return None if codes is None else codes[:, None]
    groups = _components(state, channels)
    if len(groups) > 1:
        return _product(state, channels, groups, [_joint(state, g) for g in groups])
    parents = tuple(sorted({p for c in channels for p in state.parents(c)}))
    before = _joint(state, parents) if parents and not set(parents) & set(channels) else None
    if before is None:
        alone = [(c,) for c in channels]
        return _product(state, channels, alone, [_joint(state, a) for a in alone])
    columns, possible = [], np.ones(len(before), bool)
    for channel in channels:
        codes, may = _evaluate(state, channel, parents, before)
        columns.append(codes)
        possible &= may
    return _distinct(np.stack(columns, axis=1)[possible])


def _distinct(rows: np.ndarray) -> np.ndarray:
    """The different rows of integers (S, n)."""
    span = rows.max(axis=0) - rows.min(axis=0) + 1
    if np.prod(span.astype(np.float64)) >= 2.0**62:
        return np.unique(rows, axis=0)
    weights = np.concatenate([[1], np.cumprod(span[:-1])])
    _, first = np.unique((rows - rows.min(axis=0)) @ weights, return_index=True)
    return rows[first]


def _product(
    state: _State,
    channels: tuple[Channel, ...],
    groups: Sequence[tuple[Channel, ...]],
    parts: Sequence[np.ndarray | None],
) -> np.ndarray | None:
    """Every combination of the joint codes of groups."""
    size = 1
    for part in parts:
        if part is None or (size := size * len(part)) > state.limit:
            return None
    found = np.zeros((1, 0), np.int64)
    for part in parts:
        assert part is not None
        found = np.concatenate(
            [np.repeat(found, len(part), axis=0), np.tile(part, (len(found), 1))], axis=1
        )
    order = [c for group in groups for c in group]
    return found[:, [order.index(c) for c in channels]]


def _evaluate(
    state: _State, channel: Channel, parents: tuple[Channel, ...], codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A channel's codes from those of its parents, and which of these are possible for it."""
    tensor, index = channel
    node = state.graph.producer(tensor)
    assert node is not None
    if node.op == "threshold":
        row = state.graph.const(node, "thresholds")[index]
        before = codes[:, parents.index(state.parents(channel)[0])]
        counted = np.searchsorted(row, before, side="right") + node.attrs.lo
        return counted.astype(np.int64), np.ones(len(codes), bool)
    address = np.zeros(len(codes), np.int64)
    for j, (source, bit) in enumerate(state.wires(node, index)):
        address |= ((codes[:, parents.index(source)] >> bit) & 1) << j
    values = state.graph.const(node, "values")[index]
    return values[address].astype(np.int64), state.care[tensor][index][address]
