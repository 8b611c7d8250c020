# SPDX-License-Identifier: Apache-2.0
"""Equality, never closeness: legality of graphs, and comparison of executions tensor by tensor."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hwflow import interp
from hwflow.errors import GraphError, VerifyError
from hwflow.ir import Graph, IntType
from hwflow.ops import OPS

log = logging.getLogger(__name__)

LEVELS = ("quant", "integer")


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


def against_qonnx(
    graph: Graph, onnx_path: Path, images: np.ndarray | Sequence[np.ndarray]
) -> dict[str, int]:
    """Run a QONNX file in the qonnx executor and compare every tensor with a counterpart.

    images: uint8 (N, C, H, W). A tensor computed before its upsampling is compared with its
    counterpart after it. Returns {"images", "tensors", "mismatches" (0), "values"}; VerifyError at
    the first difference, GraphError when the file does not fit the graph.
    """
    # Imported here: qonnx takes a second to load and only this function needs it.
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    if not len(images):
        raise VerifyError("no images to verify with; give at least one")
    if not onnx_path.is_file():
        raise GraphError(f"{onnx_path}: no such file; export the model first")
    pairs = _counterparts(graph)
    model = ModelWrapper(str(onnx_path))
    if not model.check_all_tensor_shapes_specified():
        model = model.transform(InferShapes())
    source = graph.inputs[0]
    feed_name = model.graph.input[0].name
    known = {feed_name, *model.get_all_tensor_names()}
    missing = [other for _, other, _ in pairs if other not in known]
    wanted = [1, *graph.tensors[source].shape]
    if missing or model.get_tensor_shape(feed_name) != wanted:
        what = f"has no tensor '{missing[0]}'" if missing else f"its input is not {wanted}"
        raise GraphError(f"{onnx_path}: {what}; this graph was lowered from another file")
    scale = np.float32(graph.meta[f"scale.{source}"])
    values = 0
    for number, image in enumerate(images):
        image = np.asarray(image)
        feed = {feed_name: image[None].astype(np.float32) * scale}
        try:
            reals = execute_onnx(model, feed, return_full_exec_context=True)
        except Exception as error:  # what the executor itself raises
            raise VerifyError(
                f"{onnx_path}: the qonnx executor cannot run it ({str(error)[:500]}); export it "
                "again"
            ) from error
        integers = interp.run(graph, {source: image}, keep=True)
        for tensor, other, unit in pairs:
            try:
                values += _compare_real(reals[other], integers[tensor], unit, tensor)
            except VerifyError as error:
                raise VerifyError(f"image {number}, {onnx_path.name}: {error}") from error
        log.info("image %d: %d tensors equal", number, len(pairs))
    return {"images": len(images), "tensors": len(pairs), "mismatches": 0, "values": values}


def _counterparts(graph: Graph) -> list[tuple[str, str, float]]:
    """(tensor, its name in the QONNX file, scale), in the graph's order."""
    pairs = [
        (name, str(graph.meta[f"onnx.{name}"]), float(graph.meta[f"scale.{name}"]))
        for name in graph.tensors
        if f"onnx.{name}" in graph.meta and f"scale.{name}" in graph.meta
    ]
    if not pairs:
        raise GraphError("this graph has no counterparts in a QONNX file; lower one to get them")
    return pairs


def _compare_real(real: np.ndarray, integer: np.ndarray, scale: float, name: str) -> int:
    """Compare a float tensor (1, ...) with an integer one; the number of values."""
    units = np.asarray(real, dtype=np.float64)[0] / scale
    expected = np.rint(units)
    if not np.array_equal(expected.astype(np.float32) * np.float32(scale), real[0]):
        raise VerifyError(f"'{name}': the float tensor is not on its grid of scale {scale}")
    if expected.ndim == 3 == integer.ndim and expected.shape != integer.shape:
        factor = expected.shape[1] // integer.shape[1]
        integer = integer.repeat(factor, axis=1).repeat(factor, axis=2)
    compare(expected.astype(np.int64), integer, name)
    return int(expected.size)
