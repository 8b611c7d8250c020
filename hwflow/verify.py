# SPDX-License-Identifier: Apache-2.0
"""Equality, never closeness: legality of graphs, and comparison of executions tensor by tensor."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwflow import interp
from hwflow.errors import GraphError, HwflowError, VerifyError
from hwflow.ingest import load
from hwflow.ingest.exact import exact_sums, needs_exact_sums, with_shapes
from hwflow.ir import Graph, IntType
from hwflow.ops import OPS
from hwflow.ops.chain import Chain

log = logging.getLogger(__name__)

LEVELS = ("quant", "integer")
NEAR = 2.0**-8  # of a step: float32 is far finer for integers of 16 bits


def legal(graph: Graph, level: str) -> None:
    """GraphError naming the node unless the graph is legal at "quant" or "integer".

    Types, accumulator widths and constants are proven when a graph is built; here: no float and no
    op of another level.
    """
    if level not in LEVELS:
        raise GraphError(f"no level '{level}'; choose one of {', '.join(LEVELS)}")
    for node in graph.nodes:
        if OPS[node.op].level not in ("any", level):
            raise GraphError(f"node '{node.name}' ({node.op}) is not legal at level {level}")
    if level == "integer":
        for tensor in graph.tensors.values():
            if not isinstance(tensor.dtype, IntType):
                raise GraphError(
                    f"tensor '{tensor.name}' is {tensor.dtype}; no reals are left here"
                )
        for key, array in graph.constants.items():
            if array.dtype.kind not in "iu":
                raise GraphError(f"constant '{key}' is {array.dtype}; no reals are left here")


def compare(expected: np.ndarray, actual: np.ndarray, name: str) -> None:
    """VerifyError naming layer, channel and pixel of the first difference, if there is one."""
    if expected.shape != actual.shape:
        raise VerifyError(f"'{name}': shape {actual.shape}, expected {expected.shape}")
    wrong = np.argwhere(expected != actual)
    if not wrong.size:
        return
    first = tuple(int(i) for i in wrong[0])
    if len(first) == 3:
        place = f"channel {first[0]}, pixel (y {first[1]}, x {first[2]})"
    else:
        place = f"index {first}"
    raise VerifyError(
        f"'{name}' {place}: {actual[first]}, expected {expected[first]} "
        f"({len(wrong)} of {expected.size} values differ)"
    )


def compare_all(
    graph: Graph, expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray]
) -> int:
    """Compare every tensor of the graph, in its order; how many there were.

    VerifyError names the first one that differs or is missing on a side.
    """
    for name in graph.tensors:
        for side, tensors in (("expected", expected), ("actual", actual)):
            if name not in tensors:
                raise VerifyError(f"'{name}' is missing among the {side} tensors")
        compare(expected[name], actual[name], name)
    return len(graph.tensors)


@dataclass(frozen=True)
class Pair:
    """A tensor of the graph and its counterpart in a file: integers on a grid, or a chain.

    `channels` are those of the counterpart that the tensor has, where it has not all of them.
    """

    tensor: str
    other: str
    scale: float
    zero: int = 0
    chain: Chain | None = None
    channels: tuple[int, ...] | None = None


def reals(graph: Graph, tensor: str, integers: np.ndarray) -> np.ndarray:
    """The float32 values that a tensor's integers stand for; GraphError where none are known."""
    text = graph.meta.get(f"chain.{tensor}")
    if text is not None:
        return Chain.from_json(str(text))(integers)
    scale = graph.meta.get(f"scale.{tensor}")
    if scale is None:
        raise GraphError(f"tensor '{tensor}' has no scale; lower a file to get one")
    zero = int(graph.meta.get(f"zero.{tensor}", 0))
    return np.asarray((integers - zero).astype(np.float32) * np.float32(scale))


def against_qonnx(
    graph: Graph, onnx_path: Path, images: np.ndarray | Sequence[np.ndarray],
    begin: Callable[[int], None] | None = None,
) -> dict[str, int]:  # fmt: skip
    """Run a QONNX file in the qonnx executor and compare every tensor with a counterpart.

    images: integers (N, C, H, W) of the graph's input. A tensor computed before its upsampling is
    compared with its counterpart after it. A file with scales that are no powers of two is run in
    its exact form (hwflow.ingest.exact), as float sums of such scales depend on their order; then
    "exact_sums" is 1. begin: told the number of each image before it is run. Returns {"images",
    "tensors", "mismatches" (0), "values", "exact_sums"}; VerifyError at the first difference,
    GraphError when the file does not fit the graph.
    """
    if not len(images):
        raise VerifyError("no images to verify with; give at least one")
    if not onnx_path.is_file():
        raise GraphError(f"{onnx_path}: no such file; export the model first")
    # Imported here: qonnx takes a second to load and only this function needs it.
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    pairs = _counterparts(graph)
    source = graph.inputs[0]
    with _refusals(onnx_path):
        file = with_shapes(load(onnx_path))
        exact = needs_exact_sums(file)
        model = ModelWrapper(exact_sums(file) if exact else file)
        if not model.check_all_tensor_shapes_specified():
            model = model.transform(InferShapes())
        constants = {t.name for t in model.graph.initializer}
        feed_name = next(i.name for i in model.graph.input if i.name not in constants)
        known = {feed_name, *model.get_all_tensor_names()}
        shape = model.get_tensor_shape(feed_name)
    missing = [pair.other for pair in pairs if pair.other not in known]
    wanted = [1, *graph.tensors[source].shape]
    if missing or shape not in (wanted, wanted[:2] if wanted[2:] == [1, 1] else wanted):
        what = f"has no tensor '{missing[0]}'" if missing else f"its input is not {wanted}"
        raise GraphError(f"{onnx_path}: {what}; this graph was lowered from another file")
    values = 0
    for number, image in enumerate(images):
        if begin is not None:
            begin(number)
        image = np.asarray(image)
        feed = {feed_name: reals(graph, source, image.astype(np.int64)).reshape(shape)}
        with _refusals(onnx_path):
            found = execute_onnx(model, feed, return_full_exec_context=True)
        integers = interp.run(graph, {source: image}, keep=True)
        for pair in pairs:
            try:
                values += _compare_real(found[pair.other], integers[pair.tensor], pair)
            except VerifyError as error:
                raise VerifyError(f"image {number}, {onnx_path.name}: {error}") from error
        log.info("image %d: %d tensors equal", number, len(pairs))
    return {
        "images": len(images), "tensors": len(pairs), "mismatches": 0, "values": values,
        "exact_sums": int(exact),
    }  # fmt: skip


@contextlib.contextmanager
def _refusals(onnx_path: Path) -> Iterator[None]:
    """A file that qonnx or onnxruntime refuses: they raise anything, Exception itself included."""
    try:
        yield
    except HwflowError:
        raise
    except Exception as error:
        raise VerifyError(
            f"{onnx_path}: the qonnx executor cannot run this file ({str(error)[:500]}); "
            "check it with onnx.checker and export it again"
        ) from error


def _counterparts(graph: Graph) -> list[Pair]:
    """The tensors with a counterpart, in the graph's order."""
    pairs = []
    for name in graph.tensors:
        other = graph.meta.get(f"onnx.{name}")
        if other is None:
            continue
        if f"chain.{name}" in graph.meta:
            chain = Chain.from_json(str(graph.meta[f"chain.{name}"]))
            pairs.append(Pair(name, str(other), 1.0, chain=chain))
        elif f"scale.{name}" in graph.meta:
            scale, zero = graph.meta[f"scale.{name}"], graph.meta.get(f"zero.{name}", 0)
            text = graph.meta.get(f"channels.{name}")
            channels = None if text is None else tuple(int(n) for n in str(text).split())
            pairs.append(Pair(name, str(other), float(scale), int(zero), channels=channels))
    if not pairs:
        raise GraphError("this graph has no counterparts in a QONNX file; lower one to get them")
    return pairs


def _compare_real(real: np.ndarray, integer: np.ndarray, pair: Pair) -> int:
    """Compare a float tensor (1, ...) with an integer one; the number of values."""
    real = np.asarray(real)
    if pair.channels is not None:
        real = real[:, list(pair.channels)]
    real = real.reshape(integer.shape) if real.size == integer.size else real[0]
    if pair.chain is not None:
        compare(real, pair.chain(integer), pair.tensor)
        return int(real.size)
    units = real.astype(np.float64) / pair.scale
    expected = np.rint(units)
    # A scale that is no power of two rounds the reals themselves; which integer is meant stays
    # unmistakable.
    free = np.frexp(pair.scale)[0] != 0.5
    on_grid = expected.astype(np.float32) * np.float32(pair.scale) == real
    if not (on_grid | (free & (abs(units - expected) < NEAR))).all():
        raise VerifyError(
            f"'{pair.tensor}': the float tensor is not on its grid of scale {pair.scale}"
        )
    if expected.ndim == 3 == integer.ndim and expected.shape != integer.shape:
        factor = expected.shape[1] // integer.shape[1]
        integer = integer.repeat(factor, axis=1).repeat(factor, axis=2)
    compare(expected.astype(np.int64) + pair.zero, integer, pair.tensor)
    return int(expected.size)
