# SPDX-License-Identifier: Apache-2.0
"""The ONNX nodes that only move values: reshapes, slices, concatenation, nearest resizing."""

from collections.abc import Callable, Mapping

import numpy as np
from onnx import NodeProto

from hwflow.errors import GraphError
from hwflow.ingest.layers import add_node
from hwflow.ingest.reader import Reader, attributes_of, layer_name
from hwflow.ir import Tensor
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.rearrange import RearrangeAttrs
from hwflow.ops.reshape import ReshapeAttrs
from hwflow.ops.resize import ResizeAttrs
from hwflow.ops.slice import SliceAttrs
from hwflow.ops.transpose import TransposeAttrs
from hwflow.ops.upsample import UpsampleAttrs

MOVES = (
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Gather",
    "Concat", "Resize", "DepthToSpace", "SpaceToDepth", "MaxPool", "GlobalMaxPool",
)  # fmt: skip


def _build_resize(reader: Reader, node: NodeProto) -> None:
    a, shape = attributes_of(node), reader.shape(node.input[0])
    if len(shape) != 4:
        raise GraphError("takes a map (1, C, H, W)")
    given = reader.constants.get(node.input[2])
    scales = given if given is not None and given.size == 4 else None
    lists = []
    for axis in (2, 3):
        if scales is not None:
            scale = float(scales[axis])
            size = int(np.floor(np.float32(shape[axis]) * np.float32(scale)))
        else:
            size = int(reader.constants[node.input[3]][axis])
            scale = size / shape[axis]
        if not 1 <= size <= 1 << 16:
            raise GraphError(f"gives a side of {size}; 1 to 65536 are supported")
        lists.append(_nearest(shape[axis], size, np.float32(scale), a))
    rows, columns = lists
    factor = len(rows) // shape[2]
    whole = [np.arange(n * factor) // max(factor, 1) for n in shape[2:]]
    name = layer_name(node)
    if name.endswith(".resize"):
        name = name.removesuffix("resize") + "up"
    if factor and all(np.array_equal(a, b) for a, b in zip(lists, whole, strict=True)):
        add_node(reader, node, "upsample", name, node.input[:1], UpsampleAttrs(factor))
        return
    consts = {"rows": rows.astype(np.int32), "columns": columns.astype(np.int32)}
    add_node(reader, node, "resize", name, node.input[:1], ResizeAttrs(), consts)


def _nearest(side: int, size: int, scale: np.float32, a: Mapping[str, object]) -> np.ndarray:
    """The source index of each output index, as ONNX defines it."""
    x = np.arange(size, dtype=np.float32)
    mode = a.get("coordinate_transformation_mode", b"half_pixel")
    half = np.float32(0.5)
    if mode == b"asymmetric":
        place = x / scale
    elif mode == b"align_corners":
        place = x * np.float32(side - 1) / np.float32(size - 1) if size > 1 else x * 0
    elif mode == b"pytorch_half_pixel" and size == 1:
        place = x * 0
    else:
        place = (x + half) / scale - half
    rounding = a.get("nearest_mode", b"round_prefer_floor")
    if rounding == b"floor":
        index = np.floor(place)
    elif rounding == b"ceil":
        index = np.ceil(place)
    elif rounding == b"round_prefer_ceil":
        index = np.floor(place + half)
    else:
        index = np.ceil(place - half)
    return np.asarray(np.clip(index, 0, side - 1), dtype=np.int64)


def _build_concat(reader: Reader, node: NodeProto) -> None:
    rank = reader.rank(node.input[0])
    axis = int(attributes_of(node).get("axis", 1))
    if axis % rank != 1 or any(reader.rank(i) != rank for i in node.input):
        raise GraphError(f"axis={axis} is not supported; nearest: 1 (the channels)")
    add_node(reader, node, "concat", layer_name(node), list(node.input), ConcatAttrs(), rank=rank)


def _build_split(reader: Reader, node: NodeProto) -> None:
    source, rank = reader.source(node.input[0]), reader.rank(node.input[0])
    a = attributes_of(node)
    if int(a.get("axis", 0)) % rank != 1:
        raise GraphError(f"axis={a.get('axis', 0)} is not supported; nearest: 1 (the channels)")
    channels, parts = source.shape[0], len(node.output)
    if len(node.input) > 1 and node.input[1]:
        sizes = [int(n) for n in reader.constants[node.input[1]].ravel()]
    elif "split" in a:
        sizes = [int(n) for n in a["split"]]
    else:
        size = -(-channels // parts)
        sizes = [size] * (parts - 1) + [channels - size * (parts - 1)]
    if len(sizes) != parts:
        raise GraphError(f"Split into {parts} outputs with {len(sizes)} sizes")
    base = _split_name(reader, node)
    start = 0
    for i, (output, size) in enumerate(zip(node.output, sizes, strict=True)):
        name = reader.fresh(f"{base}{i}")
        attrs = SliceAttrs(start, start + size)
        reader.define(output, reader.builder.add(name, "slice", [source], attrs), rank)
        start += size


def _split_name(reader: Reader, node: NodeProto) -> str:
    """layer1.1.split for a split whose parts are all used inside layer1.1."""
    users: list[list[str]] = []
    for output in node.output:
        pending = [output]
        while pending:
            for user in reader.users.get(pending.pop(), []):
                if user.op_type in ("Relu", "Quant", "IntQuant"):
                    pending.extend(user.output)
                else:
                    users.append(layer_name(user).split(".")[:-1])
    common: list[str] = []
    for parts in zip(*users, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common) + ".split" if common else f"{layer_name(node)}."


def _build_slice(reader: Reader, node: NodeProto) -> None:
    shape, rank = reader.shape(node.input[0]), reader.rank(node.input[0])
    starts, stops, *rest = (reader.constants[i].ravel() for i in node.input[1:] if i)
    axes = rest[0] if rest else np.arange(len(starts))
    steps = rest[1] if len(rest) > 1 else np.ones(len(starts))
    if not len(starts) == len(stops) == len(axes) == len(steps) >= 1:
        raise GraphError("starts, ends, axes and steps differ in length")
    ranges = [range(n) for n in shape]
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        if not -rank <= int(axis) < rank or int(step) == 0:
            raise GraphError(f"axis {int(axis)} with step {int(step)} of {rank} axes")
        taken = ranges[int(axis)][slice(int(start), int(stop), int(step))]
        ranges[int(axis)] = taken
    if any(not len(r) for r in ranges) or ranges[0] != range(1):
        raise GraphError("takes nothing, or parts of the batch axis")
    channels = ranges[1]
    if channels.step != 1:
        raise GraphError("Slice; of channels only with step 1 is supported")
    plain = rank != 4 or all(r == range(n) for r, n in zip(ranges[2:], shape[2:], strict=True))
    if plain:
        attrs = SliceAttrs(channels.start, channels.stop)
        add_node(reader, node, "slice", layer_name(node), node.input[:1], attrs, rank=rank)
        return
    source = reader.source(node.input[0])
    if channels != range(shape[1]):
        name = reader.fresh(f"{layer_name(node)}.channels")
        attrs = SliceAttrs(channels.start, channels.stop)
        source = reader.builder.add(name, "slice", [source], attrs)
    lists = [np.array(taken, np.int32) for taken in ranges[2:]]
    consts = dict(zip(("rows", "columns"), lists, strict=True))
    name = reader.fresh(layer_name(node))
    reader.define(
        node.output[0], reader.builder.add(name, "resize", [source], ResizeAttrs(), consts)
    )


def _build_gather(reader: Reader, node: NodeProto) -> None:
    source, rank = reader.source(node.input[0]), reader.rank(node.input[0])
    axis = int(attributes_of(node).get("axis", 0))
    if axis % rank != 1:
        raise GraphError(f"axis={axis} is not supported; nearest: 1 (the channels)")
    raw = reader.constants[node.input[1]]
    if raw.dtype.kind not in "iu" or raw.ndim != 1 or not raw.size:
        raise GraphError("indices are not a list of integers")
    indices = raw.astype(np.int64) % source.shape[0]
    start, count = int(indices[0]), len(indices)
    if np.array_equal(indices, np.arange(source.shape[0])):
        reader.names[node.output[0]] = source.name
        if rank == 2:
            reader.ranks[node.output[0]] = 2
        return
    if np.array_equal(indices, np.arange(start, start + count)):
        attrs = SliceAttrs(start, start + count)
        add_node(reader, node, "slice", layer_name(node), node.input[:1], attrs, rank=rank)
        return
    raise GraphError(
        f"Gather of channels {indices[:8].tolist()}...; nearest: Slice "
        "of channels in order, or Reshape, Transpose, Reshape as channel shuffle"
    )


def _build_reshape(reader: Reader, node: NodeProto) -> None:
    wanted = [int(n) for n in reader.constants[node.input[1]].ravel()]
    old = reader.shape(node.input[0])
    if not attributes_of(node).get("allowzero", 0):
        wanted = [old[i] if n == 0 and i < len(old) else n for i, n in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = int(np.prod([n for n in wanted if n != -1]))
        wanted[wanted.index(-1)] = int(np.prod(old)) // max(rest, 1)
    if len(wanted) < 2 or wanted[0] != 1 or min(wanted) < 1:
        raise GraphError(f"Reshape to {wanted}; the batch axis must stay 1")
    _reshape(reader, node, wanted)


def _reshape(reader: Reader, node: NodeProto, wanted: list[int]) -> None:
    source = reader.source(node.input[0])
    shape = (wanted[1], 1, 1) if len(wanted) == 2 else tuple(wanted[1:])
    if int(np.prod(shape)) != int(np.prod(source.shape)):
        raise GraphError(f"{source.shape} does not reshape to {tuple(wanted[1:])}")
    if shape == source.shape:
        reader.names[node.output[0]] = source.name
        if len(wanted) == 2:
            reader.ranks[node.output[0]] = 2
        return
    if len(wanted) == 2 and len(source.shape) == 3:
        attrs = RearrangeAttrs(source.shape, (0, 1, 2), shape)
        add_node(reader, node, "rearrange", layer_name(node), node.input[:1], attrs, rank=2)
        return
    add_node(reader, node, "reshape", layer_name(node), node.input[:1], ReshapeAttrs(shape),
             rank=len(wanted))  # fmt: skip


def _build_flatten(reader: Reader, node: NodeProto) -> None:
    shape = reader.shape(node.input[0])
    axis = int(attributes_of(node).get("axis", 1))
    if axis % len(shape) != 1:
        raise GraphError(f"axis={axis} is not supported; nearest: 1")
    _reshape(reader, node, [1, int(np.prod(shape))])


def _build_squeeze(reader: Reader, node: NodeProto) -> None:
    """Squeeze and Unsqueeze are reshapes."""
    shape = list(reader.shape(node.input[0]))
    given = len(node.input) > 1 and node.input[1]
    a = attributes_of(node)
    raw = reader.constants[node.input[1]].ravel() if given else a.get("axes", [])
    axes = [int(n) for n in raw]
    if node.op_type == "Unsqueeze":
        rank = len(shape) + len(axes)
        if any(not -rank <= n < rank for n in axes):
            raise GraphError(f"axes={axes} of {rank} axes")
        rest, places = iter(shape), {n % rank for n in axes}
        wanted = [1 if i in places else next(rest, 1) for i in range(rank)]
    else:
        places = {n % len(shape) for n in axes} or {i for i, n in enumerate(shape) if n == 1 and i}
        if any(shape[i] != 1 for i in places):
            raise GraphError(f"axes={axes} of shape {shape} are not 1")
        wanted = [n for i, n in enumerate(shape) if i not in places]
    if len(wanted) < 2 or wanted[0] != 1 or (axes and 0 in {n % max(len(shape), 1) for n in axes}):
        raise GraphError(f"{node.op_type} to {wanted}; the batch axis must stay first")
    _reshape(reader, node, wanted)


def _build_transpose(reader: Reader, node: NodeProto) -> None:
    rank = reader.rank(node.input[0])
    perm = list(attributes_of(node).get("perm", list(range(rank))[::-1]))
    if sorted(perm) != list(range(rank)) or perm[0] != 0:
        raise GraphError(f"Transpose {perm}; the batch axis must stay first")
    if perm == list(range(rank)):
        reader.names[node.output[0]] = reader.source(node.input[0]).name
        if rank == 2:
            reader.ranks[node.output[0]] = 2
        return
    attrs = TransposeAttrs(tuple(p - 1 for p in perm[1:]))
    add_node(reader, node, "transpose", layer_name(node), node.input, attrs, rank=rank)


def _build_blocks(reader: Reader, node: NodeProto) -> None:
    """DepthToSpace and SpaceToDepth."""
    a, source = attributes_of(node), reader.source(node.input[0])
    size = int(a.get("blocksize", 0))
    if reader.rank(node.input[0]) != 4 or size < 1:
        raise GraphError(f"blocksize={size} of a tensor of rank {reader.rank(node.input[0])}")
    attrs = _blocks(node.op_type, source, size, a.get("mode", b"DCR"))
    add_node(reader, node, "rearrange", layer_name(node), node.input[:1], attrs)


def _blocks(op: str, x: Tensor, size: int, mode: bytes) -> RearrangeAttrs:
    c, h, w = x.shape
    if op == "SpaceToDepth":
        if h % size or w % size:
            raise GraphError(f"a map of {h} x {w} does not divide into blocks of {size}")
        dims: tuple[int, ...] = (c, h // size, size, w // size, size)
        return RearrangeAttrs(dims, (2, 4, 0, 1, 3), (c * size**2, h // size, w // size))
    if c % size**2:
        raise GraphError(f"{c} channels do not divide into blocks of {size} x {size}")
    deep = c // size**2
    shape = (deep, h * size, w * size)
    if mode == b"CRD":
        return RearrangeAttrs((deep, size, size, h, w), (0, 3, 1, 4, 2), shape)
    return RearrangeAttrs((size, size, deep, h, w), (2, 3, 0, 4, 1), shape)


BUILD: Mapping[str, Callable[[Reader, NodeProto], None]] = {
    "Resize": _build_resize,
    "Concat": _build_concat,
    "Split": _build_split,
    "Slice": _build_slice,
    "Gather": _build_gather,
    "Reshape": _build_reshape,
    "Flatten": _build_flatten,
    "Squeeze": _build_squeeze,
    "Unsqueeze": _build_squeeze,
    "Transpose": _build_transpose,
    "DepthToSpace": _build_blocks,
    "SpaceToDepth": _build_blocks,
}
