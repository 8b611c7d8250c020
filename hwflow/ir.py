# SPDX-License-Identifier: Apache-2.0
"""The graph: an immutable network of ops on typed tensors, checked when it is built.

A graph is never edited, only rebuilt. Its meaning is what hwflow.interp computes.
"""

import dataclasses
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from hwflow import arrays
from hwflow.errors import DataError, GraphError
from hwflow.ops import OPS
from hwflow.ops.types import DType, IntType, RealType, Tensor

__all__ = [
    "DType",
    "Graph",
    "GraphBuilder",
    "IntType",
    "Node",
    "RealType",
    "Tensor",
    "make_graph",
]

FORMAT = 1
EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Node:
    """One use of an op: `consts` maps the op's role (weight, bias ...) to a constant's name."""

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    attrs: Any
    consts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: nodes in topological order, tensors with their types, constant arrays.

    `meta` holds facts about the origin: "scale.<tensor>" (the real value of 1), "zero.<tensor>"
    (the integer of 0.0 where that is not 0), "chain.<tensor>" (how accumulators become reals),
    "onnx.<tensor>" (name of its counterpart in the QONNX file), "channels.<tensor>" (which of the
    counterpart's channels are left, where some are gone), "output.<head>" (the tensor a head ends
    in; then "scale.<head>" is its scale). Two graphs are the same when digest() is.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, np.ndarray]
    meta: Mapping[str, float | str] = field(default_factory=dict)
    _nodes: Mapping[str, Node] = field(init=False, repr=False, default_factory=dict)
    _producers: Mapping[str, Node] = field(init=False, repr=False, default_factory=dict)
    _consumers: Mapping[str, tuple[Node, ...]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        constants = {}
        for key, array in self.constants.items():
            if array.flags.writeable or not array.flags.c_contiguous:
                array = np.array(array, order="C")
                array.flags.writeable = False
            constants[key] = array
        set_field = object.__setattr__
        set_field(self, "inputs", tuple(self.inputs))
        set_field(self, "outputs", tuple(self.outputs))
        set_field(self, "nodes", tuple(self.nodes))
        set_field(self, "tensors", MappingProxyType(dict(self.tensors)))
        set_field(self, "constants", MappingProxyType(constants))
        set_field(self, "meta", MappingProxyType(dict(self.meta)))
        set_field(self, "_nodes", {n.name: n for n in self.nodes})
        set_field(self, "_producers", {n.output: n for n in self.nodes})
        users: dict[str, list[Node]] = {}
        for n in self.nodes:
            for name in dict.fromkeys(n.inputs):
                users.setdefault(name, []).append(n)
        set_field(self, "_consumers", {k: tuple(v) for k, v in users.items()})
        _check(self)

    def node(self, name: str) -> Node:
        """The node of that name."""
        if name not in self._nodes:
            raise GraphError(f"graph '{self.name}' has no node '{name}'")
        return self._nodes[name]

    def producer(self, tensor: str) -> Node | None:
        """The node that makes a tensor; None for a graph input."""
        return self._producers.get(tensor)

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read a tensor, in order."""
        return self._consumers.get(tensor, ())

    def const(self, node: Node, role: str) -> np.ndarray:
        """The constant array a node uses as `role`."""
        if role not in node.consts:
            raise GraphError(f"node '{node.name}' ({node.op}) has no constant '{role}'")
        return self.constants[node.consts[role]]

    def consts(self, node: Node) -> dict[str, np.ndarray]:
        """All constant arrays of a node, by role."""
        return {role: self.constants[name] for role, name in node.consts.items()}

    def macs(self, node: Node | None = None) -> int:
        """Multiply-accumulates of one node, or of the whole graph."""
        if node is None:
            return sum(self.macs(n) for n in self.nodes)
        inputs = tuple(self.tensors[i] for i in node.inputs)
        return OPS[node.op].macs(inputs, self.tensors[node.output], node.attrs)

    def table(self) -> str:
        """One line a node: what it computes on which shapes, its attributes, its cost."""
        rows = [("node", "op", "inputs", "output", "attrs", "MACs")]
        for n in self.nodes:
            out = self.tensors[n.output]
            attrs = " ".join(f"{k}={v}" for k, v in _attr_items(n.attrs))
            shape = "x".join(map(str, out.shape)) + f" {out.dtype}"
            rows.append((n.name, n.op, ", ".join(n.inputs), shape, attrs, str(self.macs(n))))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
        heads = [f"graph {self.name}: {len(self.nodes)} nodes, {self.macs()} MACs"]
        for name in self.inputs:
            x = self.tensors[name]
            heads.append(f"input {name}: {'x'.join(map(str, x.shape))} {x.dtype}")
        heads.append(f"outputs: {', '.join(self.outputs)}")
        return "\n".join(heads + [line.rstrip() for line in lines]) + "\n"

    def to_json(self) -> str:
        """The graph as diffable text, constants by their digests."""
        body = {
            "format": FORMAT,
            "name": self.name,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "tensors": [
                {"name": t.name, "shape": list(t.shape), "dtype": str(t.dtype)}
                for t in self.tensors.values()
            ],
            "nodes": [
                {
                    "name": n.name,
                    "op": n.op,
                    "inputs": list(n.inputs),
                    "output": n.output,
                    "attrs": dict(_attr_items(n.attrs)),
                    "consts": dict(sorted(n.consts.items())),
                }
                for n in self.nodes
            ],
            "constants": {
                key: {"dtype": str(a.dtype), "shape": list(a.shape), "sha256": _sha256(a)}
                for key, a in sorted(self.constants.items())
            },
            "meta": dict(sorted(self.meta.items())),
        }
        return json.dumps(body, indent=1, ensure_ascii=False) + "\n"

    def digest(self) -> str:
        """sha256 of the graph, constants included."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, directory: Path) -> None:
        """Write graph.json and constants.npz; equal graphs give equal bytes."""
        directory.mkdir(parents=True, exist_ok=True)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for key, array in sorted(self.constants.items()):
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, array, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{key}.npy"), buffer.getvalue())
        _write_atomic(directory / "constants.npz", packed.getvalue())
        _write_atomic(directory / "graph.json", self.to_json().encode())

    @staticmethod
    def load(directory: Path) -> "Graph":
        """Read what save() wrote; GraphError when files are missing, damaged or do not match."""
        path = directory / "graph.json"
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            return _from_json(body, arrays.read(directory / "constants.npz"))
        except OSError as error:
            raise GraphError(f"{error.filename or directory}: {error.strerror}") from error
        except GraphError as error:
            raise GraphError(f"{path}: {error}") from error
        except DataError as error:
            raise GraphError(f"{path}: {error}; or lower the model again") from error
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
                RecursionError) as error:
            raise GraphError(
                f"{path}: not a graph of format {FORMAT} ({error}); lower the model again"
            ) from error

    def rebuilt(self, **changes: object) -> "Graph":
        """A graph with other nodes, outputs, meta ...: types inferred anew, unused constants and
        meta of vanished tensors dropped."""
        nodes: Iterable[Node] = changes.get("nodes", self.nodes)  # type: ignore[assignment]
        constants = changes.get("constants", self.constants)
        inputs = changes.get("input_tensors", [self.tensors[i] for i in self.inputs])
        return make_graph(
            str(changes.get("name", self.name)),
            inputs,  # type: ignore[arg-type]
            changes.get("outputs", self.outputs),  # type: ignore[arg-type]
            nodes,
            constants,  # type: ignore[arg-type]
            changes.get("meta", self.meta),  # type: ignore[arg-type]
        )


def make_graph(
    name: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[str],
    nodes: Iterable[Node],
    constants: Mapping[str, np.ndarray],
    meta: Mapping[str, float | str] = EMPTY,
) -> Graph:
    """A graph whose tensors are inferred from its inputs; only constants in use are kept."""
    nodes = tuple(nodes)
    tensors = {t.name: t for t in inputs}
    for n in nodes:
        tensors[n.output] = infer_node(n, tensors, constants)
    used = {c for n in nodes for c in n.consts.values()}
    kept = {k: v for k, v in meta.items() if _meta_alive(k, tensors, meta)}
    held = {key: constants[key] for key in constants if key in used}
    return Graph(name, tuple(t.name for t in inputs), tuple(outputs), nodes, tensors, held, kept)


def _meta_alive(key: str, tensors: Mapping[str, Tensor], meta: Mapping[str, float | str]) -> bool:
    """Facts about a tensor live as long as it; "output.<head>" makes <head> an alias that stays."""
    kind, _, name = key.partition(".")
    facts = ("scale", "zero", "chain", "onnx", "channels")
    return kind not in facts or name in tensors or f"output.{name}" in meta


def infer_node(
    node: Node, tensors: Mapping[str, Tensor], constants: Mapping[str, np.ndarray]
) -> Tensor:
    """The output tensor of a node; GraphError naming the node."""
    op = OPS.get(node.op)
    if op is None:
        raise GraphError(f"node '{node.name}': no op '{node.op}'; known: {', '.join(OPS)}")
    if not isinstance(node.attrs, op.attrs):
        raise GraphError(
            f"node '{node.name}': attrs are {type(node.attrs).__name__}, not {op.attrs.__name__}"
        )
    for i in node.inputs:
        if i not in tensors:
            raise GraphError(f"node '{node.name}': input '{i}' is made by no node before it")
    for role, constant in node.consts.items():
        if constant not in constants:
            raise GraphError(f"node '{node.name}': its {role} '{constant}' is no constant")
    consts = {role: constants[c] for role, c in node.consts.items()}
    try:
        out = op.infer(tuple(tensors[i] for i in node.inputs), node.attrs, consts)
    except GraphError as error:
        raise GraphError(f"node '{node.name}' ({node.op}): {error}") from error
    return dataclasses.replace(out, name=node.output)


class GraphBuilder:
    """Collects nodes one by one and infers each at once; build() gives the immutable graph."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.nodes: list[Node] = []
        self.inputs: list[Tensor] = []
        self.meta: dict[str, float | str] = {}

    def input(self, name: str, shape: Sequence[int], dtype: DType) -> Tensor:
        """Declare an input of the graph."""
        tensor = Tensor(name, tuple(shape), dtype)
        self.inputs.append(tensor)
        self.tensors[name] = tensor
        return tensor

    def add(
        self,
        name: str,
        op: str,
        inputs: Sequence[Tensor | str],
        attrs: object,
        consts: Mapping[str, np.ndarray] = EMPTY,
    ) -> Tensor:
        """Append a node (its output tensor has its name); constants are named <node>.<role>."""
        names = tuple(x.name if isinstance(x, Tensor) else x for x in inputs)
        roles = {role: f"{name}.{role}" for role in consts}
        node = Node(name, op, names, name, attrs, roles)
        self.constants.update({roles[role]: array for role, array in consts.items()})
        self.tensors[name] = infer_node(node, self.tensors, self.constants)
        self.nodes.append(node)
        return self.tensors[name]

    def build(self, outputs: Sequence[Tensor | str]) -> Graph:
        """The graph with these outputs."""
        names = [x.name if isinstance(x, Tensor) else x for x in outputs]
        return make_graph(self.name, self.inputs, names, self.nodes, self.constants, self.meta)


def _check(graph: Graph) -> None:
    """GraphError unless names are unique, the order is topological and all types are inferred."""
    known = {}
    for name in graph.inputs:
        if name not in graph.tensors:
            raise GraphError(f"graph '{graph.name}': input '{name}' is no tensor")
        known[name] = graph.tensors[name]
    if len(known) != len(graph.inputs):
        raise GraphError(f"graph '{graph.name}': an input is named twice")
    if len(graph._nodes) != len(graph.nodes):
        names = [n.name for n in graph.nodes]
        twice = next(n for n in names if names.count(n) > 1)
        raise GraphError(f"graph '{graph.name}': two nodes are named '{twice}'")
    for node in graph.nodes:
        if node.output in known:
            raise GraphError(f"node '{node.name}': tensor '{node.output}' is made twice")
        inferred = infer_node(node, known, graph.constants)
        if graph.tensors.get(node.output) != inferred:
            raise GraphError(
                f"node '{node.name}': output is declared {graph.tensors.get(node.output)} "
                f"but is {inferred}"
            )
        known[node.output] = inferred
    if set(known) != set(graph.tensors):
        raise GraphError(f"tensor '{min(set(graph.tensors) - set(known))}' is made by no node")
    for key, tensor in graph.tensors.items():
        if key != tensor.name:
            raise GraphError(f"tensor '{tensor.name}' is filed under '{key}'")
    if not graph.outputs:
        raise GraphError(f"graph '{graph.name}' has no output")
    for name in graph.outputs:
        if name not in known:
            raise GraphError(f"graph '{graph.name}': output '{name}' is no tensor")


def _attr_items(attrs: object) -> list[tuple[str, Any]]:
    """The fields of an attrs record in declared order, types as text."""
    return [
        (f.name, str(v) if isinstance(v := getattr(attrs, f.name), IntType) else v)
        for f in dataclasses.fields(attrs)  # type: ignore[arg-type]
    ]


def _attrs_from(op: str, items: Mapping[str, Any]) -> object:
    """The attrs record of an op from JSON; GraphError on unknown fields or wrong types."""
    if op not in OPS:
        raise GraphError(f"no op '{op}'; known: {', '.join(OPS)}")
    kind = OPS[op].attrs
    fields = {f.name: f for f in dataclasses.fields(kind)}
    values = {}
    for key, value in items.items():
        if key not in fields:
            raise GraphError(f"{op} has no attribute '{key}'; it has: {', '.join(fields)}")
        wanted = fields[key].type
        if wanted is IntType:
            value = IntType.parse(value)
        elif isinstance(value, list):
            value = tuple(value)
        elif isinstance(wanted, type) and type(value) is not wanted:
            raise GraphError(f"{op}.{key} is {value!r}, not of type {wanted.__name__}")
        values[key] = value
    return kind(**values)


def _dtype(text: str) -> DType:
    return RealType() if text == "f32" else IntType.parse(text)


def _from_json(body: Mapping[str, Any], constants: dict[str, np.ndarray]) -> Graph:
    if body["format"] != FORMAT:
        raise GraphError(f"format {body['format']} is not {FORMAT}; lower the model again")
    for key, facts in body["constants"].items():
        if key not in constants or _sha256(constants[key]) != facts["sha256"]:
            raise GraphError(f"constant '{key}' is missing or damaged; lower the model again")
    tensors = {
        t["name"]: Tensor(t["name"], tuple(int(n) for n in t["shape"]), _dtype(t["dtype"]))
        for t in body["tensors"]
    }
    nodes = tuple(
        Node(
            n["name"],
            n["op"],
            tuple(n["inputs"]),
            n["output"],
            _attrs_from(n["op"], n["attrs"]),
            dict(n["consts"]),
        )
        for n in body["nodes"]
    )
    return Graph(
        body["name"],
        tuple(body["inputs"]),
        tuple(body["outputs"]),
        nodes,
        tensors,
        {key: constants[key] for key in body["constants"]},
        dict(body["meta"]),
    )


def _sha256(array: np.ndarray) -> str:
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


def _write_atomic(path: Path, data: bytes) -> None:
    """A reader sees the old file or the new one, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
