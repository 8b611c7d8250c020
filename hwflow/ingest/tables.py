# SPDX-License-Identifier: Apache-2.0
"""Table enumeration: a stretch of nodes run on every address, for all table nodes at once.

onnxruntime runs the file's own nodes, so that a table holds what the file computes, whatever that
is. The batch axis counts the addresses.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from hwflow.errors import GraphError
from hwflow.ingest.reader import Reader, attributes_of, layer_name
from hwflow.ingest.stretches import Stretch, opsets
from hwflow.ir import IntType, Tensor
from hwflow.ops import bipolar, quant
from hwflow.ops.group_sum import GroupSumAttrs
from hwflow.ops.quant import QuantAttrs
from hwflow.ops.real_tables import RealTablesAttrs
from hwflow.ops.tables import MOST_ADDRESS_BITS

MOST_CODE_BITS = 8
CHUNK = 1 << 23  # numbers of the largest tensor in one run of the nodes
MOST_CODES = 1 << 28
BIPOLAR = IntType(2, True)
IR_VERSION = 10
# Ops behind which a tensor carries the codes it carried before.
_MOVES = ("slice", "concat", "shuffle", "upsample", "maxpool", "maxpool2d", "resize", "rearrange",
          "reshape", "transpose", "patches")  # fmt: skip


def build_stretch(reader: Reader, stretch: Stretch) -> None:
    """Append the tables of a stretch."""
    source = reader.source(stretch.source)
    kind, scale = _grid(reader, source)
    children, columns = _children(reader, stretch, source)
    bits = children.shape[1] * kind.bits
    if bits > MOST_ADDRESS_BITS:
        raise GraphError(
            f"the tables of {stretch.name} would have {bits} address bits ({children.shape[1]} "
            f"children of {kind.bits} bits each); a table has at most {MOST_ADDRESS_BITS}: give "
            "its nodes fewer children or narrower codes"
        )
    out, out_scale, units = _quantiser(reader, stretch)
    wires = children[:, :, None] * kind.bits + np.arange(kind.bits)
    consts = {
        "wires": wires.reshape(len(children), bits).astype(np.int32),
        "values": _enumerate(reader, stretch, columns, len(children), (kind, scale), units),
    }
    attrs = RealTablesAttrs(kind, scale, out, out_scale)
    name = reader.fresh(stretch.name)
    tensor = reader.builder.add(name, "real_tables", [source], attrs, consts)
    reader.define(stretch.quantiser.output[0], tensor, reader.rank(stretch.source))


def build_group_sum(reader: Reader, node: NodeProto) -> None:
    """ReduceSum over axis 2 of channels reshaped into groups."""
    reshaped = reader.source(node.input[0])
    before = next((n for n in reader.builder.nodes if n.output == reshaped.name), None)
    a = attributes_of(node)
    given = len(node.input) > 1 and node.input[1]
    axes = reader.constants[node.input[1]].ravel() if given else a.get("axes", [])
    rank = reader.rank(node.input[0])
    groups = None
    if before is not None and before.op == "reshape":
        source = reader.builder.tensors[before.inputs[0]]
        size, pixels = int(np.prod(reshaped.shape[:2])), reshaped.shape[2:]
        if size == source.shape[0] and pixels in (source.shape[1:], ()):
            groups = reshaped.shape[0]
    if groups is None or [int(n) % rank for n in axes] != [2] or a.get("keepdims", 1):
        raise GraphError(
            f"sums over axes {[int(n) for n in axes]}; nearest: channels reshaped to (1, groups, "
            "size, ...) and summed over axis 2 without keepdims"
        )
    tensor = reader.builder.add(
        reader.fresh(layer_name(node)), "real_group_sum", [source], GroupSumAttrs(groups)
    )
    reader.define(node.output[0], tensor, rank - 1)


# --- codes -------------------------------------------------------------------------------------


def _grid(reader: Reader, tensor: Tensor) -> tuple[IntType, float]:
    """The type and scale of the codes a tensor carries, traced through moves to the quantisers."""
    node = next((n for n in reader.builder.nodes if n.output == tensor.name), None)
    if node is None:
        raise GraphError(
            f"its input '{tensor.name}' has no quantiser; put Quant (u8, scale 2**-8) behind it"
        )
    if node.op == "real_tables":
        return node.attrs.out, node.attrs.out_scale
    if node.op == "bipolar":
        return BIPOLAR, float(reader.builder.constants[node.consts["scale"]])
    if node.op == "quant":
        if node.attrs.zero:
            raise GraphError(f"reads codes of zero point {node.attrs.zero}; nearest: zero point 0")
        return node.attrs.out, float(reader.builder.constants[node.consts["scale"]])
    if node.op not in _MOVES:
        raise GraphError(f"reads '{tensor.name}', whose codes are unknown; nearest: a Quant")
    grids = {_grid(reader, reader.builder.tensors[i]) for i in node.inputs}
    if len(grids) > 1:
        raise GraphError(f"reads codes of {len(grids)} quantisers; nearest: one for all of them")
    return grids.pop()


def _quantiser(reader: Reader, stretch: Stretch) -> tuple[IntType, float, "_Units"]:
    """What ends a stretch: type and scale of its codes, and how reals become them."""
    node = stretch.quantiser
    scale = float(reader.constants[node.input[1]].astype(np.float32).ravel()[0])
    attrs = None if node.op_type == "BipolarQuant" else quant_attrs(reader, node)
    if attrs is None or (attrs.out == IntType(1, True)):
        return BIPOLAR, scale, _Units(None, scale)
    if attrs.zero or attrs.out.bits > MOST_CODE_BITS:
        raise GraphError(
            f"the tables of {stretch.name} would hold codes {attrs.out} with zero point "
            f"{attrs.zero}; nearest: {MOST_CODE_BITS} bits, zero point 0"
        )
    return attrs.out, scale, _Units(attrs, scale)


class _Units:
    """Integers of reals; None for the attributes of BipolarQuant."""

    def __init__(self, attrs: QuantAttrs | None, scale: float) -> None:
        self.attrs, self.consts = attrs, {"scale": np.array(scale, np.float32)}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if self.attrs is None:
            return bipolar.units(x, bipolar.BipolarAttrs(), self.consts)
        return quant.units(x, self.attrs, self.consts)


def limits_of(kind: IntType, narrow: bool) -> tuple[int, int]:
    """The integers of a quantiser."""
    if not narrow:
        return kind.lo, kind.hi
    return (kind.lo + 1, kind.hi) if kind.signed else (kind.lo, kind.hi - 1)


def quant_attrs(reader: Reader, node: NodeProto) -> QuantAttrs:
    """The attributes of a Quant node."""
    _, zero, bits = (reader.constants[i] for i in node.input[1:])
    attributes = attributes_of(node)
    kind = IntType(int(bits.ravel()[0]), bool(attributes.get("signed", 1)))
    lo, hi = limits_of(kind, bool(attributes.get("narrow", 0)))
    mode = attributes.get("rounding_mode", b"ROUND").decode().upper()
    limits = None if (lo, hi) == (kind.lo, kind.hi) else (lo, hi)
    return QuantAttrs(kind, limits, int(zero.ravel()[0]), "ROUND" if mode == "HALF_EVEN" else mode)


# --- children ----------------------------------------------------------------------------------


def _children(
    reader: Reader, stretch: Stretch, source: Tensor
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The channels (N, M) each node reads, and for each entry the column of each of its places.

    The moves are run on the numbers of the elements; places that read the same channels in every
    node are one column.
    """
    shape = (1, *source.shape) if stretch.pixels else (1, source.shape[0])
    numbers = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    names = [e for e in stretch.entries if e != stretch.source]
    moved = _run(reader, stretch.moves, {stretch.source: numbers}, names, {})
    found = dict(zip(names, moved, strict=True))
    if stretch.source in stretch.entries:
        found[stretch.source] = numbers
    area = int(np.prod(source.shape[1:])) if stretch.pixels else 1
    parts = []
    for name in stretch.entries:
        ids = found[name][0]
        if stretch.pixels:
            pixels = np.arange(area).reshape(source.shape[1:])
            if ids.shape[-2:] != pixels.shape or (ids % area != pixels).any():
                raise GraphError(
                    f"the nodes of {stretch.name} read other pixels than their own; nearest: "
                    "patches as a depthwise Conv with weights 0 and 1 before the Gather"
                )
            ids = ids[..., 0, 0]
        parts.append((ids // area).reshape(len(ids), -1))
    joined = np.concatenate(parts, axis=1)
    _, first, inverse = np.unique(joined, axis=1, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.argsort(order)[inverse.ravel()]
    columns, start = {}, 0
    for name, part in zip(stretch.entries, parts, strict=True):
        columns[name] = place[start : start + part.shape[1]].reshape(
            found[name].shape[2 : found[name].ndim - stretch.pixels]
        )
        start += part.shape[1]
    return joined[:, first[order]], columns


# --- enumeration -------------------------------------------------------------------------------


def _enumerate(
    reader: Reader,
    stretch: Stretch,
    columns: Mapping[str, np.ndarray],
    count: int,
    grid: tuple[IntType, float],
    units: _Units,
) -> np.ndarray:
    """Codes (N, 2**bits) int16 at every address; bit 0 of the first child is the lowest."""
    kind, scale = grid
    children = 1 + max(int(c.max()) for c in columns.values())
    size = 1 << (children * kind.bits)
    places = sum(c.size for c in columns.values())
    widest = max(count * places, stretch.widest)
    if count * size > MOST_CODES or widest > MOST_CODES:
        raise GraphError(
            f"{stretch.name} has {count} tables of {size} codes, and up to {widest} numbers at an "
            f"address; {MOST_CODES} are the most: split the layer"
        )
    step = max(1, min(size, CHUNK // widest))
    values = np.empty((count, size), np.int16)
    tail = (1,) * stretch.pixels
    shifts = kind.bits * np.arange(children)
    for start in range(0, size, step):
        address = np.arange(start, min(size, start + step))
        codes = (address[:, None] >> shifts) & ((1 << kind.bits) - 1)
        codes = np.where(codes > kind.hi, codes - (1 << kind.bits), codes)
        reals = codes.astype(np.float32) * np.float32(scale)
        feeds = {}
        for name, column in columns.items():
            part = reals[:, column].reshape(len(address), 1, *column.shape, *tail)
            whole = (len(address), count, *column.shape, *tail)
            feeds[name] = np.ascontiguousarray(np.broadcast_to(part, whole))
        target = stretch.quantiser.input[0]
        if target in feeds:
            found = feeds[target]
        else:
            nodes, shapes = _for_batch(reader, stretch, len(address))
            found = _run(reader, nodes, feeds, [target], shapes)[0]
        if found.shape != (len(address), count, *tail):
            raise GraphError(
                f"the node function of {stretch.name} differs from pixel to pixel; nearest: "
                "constants that are one number for each channel"
            )
        found = found.astype(np.float32).reshape(len(address), count)
        if np.isnan(found).any():
            n = int(np.argwhere(np.isnan(found))[0][1])
            raise GraphError(f"table {n} of {stretch.name} gives no number at some address")
        values[:, start : start + step] = units(found).T
    return values


def _for_batch(
    reader: Reader, stretch: Stretch, batch: int
) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    """The nodes for another batch of single pixels, and the shapes they then are given."""
    nodes, constants = [], {}
    for node in stretch.nodes:
        if node.op_type in ("Reshape", "Expand"):
            shape = reader.constants[node.input[1]].astype(np.int64).copy()
            shape[0] = batch
            if stretch.pixels:
                shape[-stretch.pixels :] = 1
            copy = NodeProto()
            copy.CopyFrom(node)
            copy.input[1] = f"{node.output[0]}.batch"
            constants[copy.input[1]] = shape
            node = copy
        nodes.append(node)
    return nodes, constants


def _run(
    reader: Reader,
    nodes: Sequence[NodeProto],
    feeds: Mapping[str, np.ndarray],
    outputs: list[str],
    constants: Mapping[str, np.ndarray],
) -> list[np.ndarray]:
    """Some nodes of the file in onnxruntime, unchanged by its optimisations."""
    if not outputs:
        return []
    import onnxruntime  # slow to load, and only table networks need it
    from onnxruntime.capi import onnxruntime_pybind11_state as refusals

    made = {o for n in nodes for o in n.output}
    names = {i for n in nodes for i in n.input if i and i not in feeds and i not in made}
    known = {name: _constant(reader, name) for name in names - set(constants)} | dict(constants)
    graph = helper.make_graph(
        list(nodes),
        "stretch",
        [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(a.dtype), None)
            for k, a in feeds.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(a, order="C"), k) for k, a in known.items()],
    )
    standard = {k: v for k, v in opsets(reader.model).items() if k in ("", "ai.onnx")}
    versions = [helper.make_opsetid(domain, version) for domain, version in standard.items()]
    model = helper.make_model(graph, opset_imports=versions, ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return [np.asarray(a) for a in session.run(outputs, dict(feeds))]
    except (
        refusals.Fail, refusals.InvalidArgument, refusals.InvalidGraph, refusals.NotImplemented,
        refusals.RuntimeException, refusals.InvalidProtobuf, refusals.EPFail,
    ) as error:  # fmt: skip
        raise GraphError(
            f"onnxruntime cannot run this node function ({str(error)[:300]}); check the file with "
            "onnx.checker and export it again"
        ) from error


def _constant(reader: Reader, name: str) -> np.ndarray:
    """A constant, or the reals of one behind a quantiser."""
    if name in reader.constants:
        return reader.constants[name]
    parameter = reader.parameters[name]
    return np.asarray(parameter.values.astype(np.float32) * parameter.scale, dtype=np.float32)
