# SPDX-License-Identifier: Apache-2.0
"""The second HLS backend: hand a QONNX file to hls4ml and hold its C simulation to equality.

For multilayer perceptrons and small CNNs, as a baseline for the reports. What hls4ml has no kernel
for is a GraphError that lists it; a result that is not exactly the qonnx executor's a VerifyError.
"""

import io
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwflow import boards, plan
from hwflow.errors import GraphError, VerifyError

if TYPE_CHECKING:
    from qonnx.core.modelwrapper import ModelWrapper

log = logging.getLogger(__name__)

# Fallback of values whose width hls4ml does not derive by itself: 16 bits before and behind the
# point hold Int32Bias sums of small networks exactly; the comparison proves it for the inputs used.
PRECISION = "fixed<32,16>"
_SKIPPED = ("Dropout", "Identity")


@dataclass(frozen=True)
class Csim:
    """The C simulation: outputs (N, ...) in the file's own layout, equal to qonnx on every vector.

    `mismatches` counts differing values and is 0, as a difference raises.
    """

    outputs: np.ndarray
    vectors: int
    mismatches: int
    project: Path
    seconds: float


def write_and_csim(
    onnx_path: Path, out_dir: Path, inputs: np.ndarray, board: boards.Board | None = None
) -> Csim:
    """Write the hls4ml project of a QONNX file (backend "Vitis"), compile it and compare.

    `inputs` (N, ...) float32 are vectors in the layout of the file (N, C, H, W for images). `board`
    (default pynq-z2) gives part and clock. GraphError lists unsupported operators, ToolError has
    the log of a failed conversion, VerifyError names the first value that differs.
    """
    board = board or boards.load("pynq-z2")
    model = _read(onnx_path)
    source, sink = _one(model, onnx_path, "input"), _one(model, onnx_path, "output")
    shape = _shape(model, source)
    if inputs.ndim != len(shape) or inputs.shape[1:] != shape[1:]:
        raise GraphError(
            f"{onnx_path}: inputs have shape {inputs.shape}, '{source}' has (N, "
            f"{', '.join(map(str, shape[1:]))})"
        )
    _check_supported(model, onnx_path)
    expected = _reference(model, source, sink, inputs.astype(np.float32))
    prepared, channels_last = _prepare(model)
    given = np.moveaxis(inputs, 1, -1) if channels_last and inputs.ndim == 4 else inputs
    result = plan.execute(_plan(prepared, given, board, channels_last), out_dir)
    outputs = np.load(out_dir / "outputs.npy")
    if outputs.size == expected.size and _shape(prepared, sink) == _shape(model, sink):
        outputs = outputs.reshape(expected.shape)  # hls4ml gives flat rows, or one flat vector
    _compare(expected, outputs, onnx_path)
    return Csim(outputs, len(inputs), 0, out_dir / "project", result.seconds)


def _read(onnx_path: Path) -> "ModelWrapper":
    # qonnx takes a second to load and only this backend needs it here.
    from google.protobuf.message import DecodeError
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.cleanup import cleanup_model

    if not onnx_path.is_file():
        raise GraphError(f"{onnx_path}: no such file; export the model first")
    try:
        return cleanup_model(ModelWrapper(str(onnx_path)))
    except (OSError, DecodeError) as error:
        raise GraphError(f"{onnx_path}: not a readable ONNX file ({error})") from error


def _one(model: "ModelWrapper", onnx_path: Path, what: str) -> str:
    """The name of the only input or output."""
    infos = model.graph.input if what == "input" else model.graph.output
    if len(infos) != 1:
        raise GraphError(f"{onnx_path}: {len(infos)} {what}s; the hls4ml backend takes one")
    return str(infos[0].name)


def _shape(model: "ModelWrapper", name: str) -> tuple[int, ...]:
    return tuple(model.get_tensor_shape(name))


def _check_supported(model: "ModelWrapper", onnx_path: Path) -> None:
    """GraphError listing every node that hls4ml has no handler for."""
    from hls4ml.converters import get_supported_onnx_layers

    known = {*get_supported_onnx_layers(), *_SKIPPED, "Gemm"}
    wrong = [f"{n.name} ({n.op_type})" for n in model.graph.node if n.op_type not in known]
    if wrong:
        raise GraphError(
            f"{onnx_path}: hls4ml has no kernel for {len(wrong)} nodes: {', '.join(wrong)}; use "
            "the hls or the rtl backend"
        )


def _reference(
    model: "ModelWrapper", source: str, sink: str, inputs: np.ndarray
) -> np.ndarray:
    """The outputs of the qonnx executor, which takes one vector at a time."""
    from qonnx.core.onnx_exec import execute_onnx

    rows = [execute_onnx(model, {source: vector[None]})[sink] for vector in inputs]
    return np.concatenate(rows)


def _prepare(model: "ModelWrapper") -> tuple["ModelWrapper", bool]:
    """The graph in the form hls4ml reads, and whether its input is now channels last.

    An output map stays channels first: the transformation leaves a Transpose before it.
    """
    from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
    from qonnx.transformation.gemm_to_matmul import GemmToMatMul
    from qonnx.util.cleanup import cleanup_model

    _give_bias(model)
    channels_last = any(n.op_type == "Conv" for n in model.graph.node)
    if channels_last:
        # By default the transformation keeps an NCHW input and adds a Transpose, and hls4ml then
        # takes NHWC data for it without a word.
        model = model.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True))
    model = model.transform(GemmToMatMul())
    return cleanup_model(model), channels_last


def _give_bias(model: "ModelWrapper") -> None:
    """A Gemm without bias gets one of zeros, because GemmToMatMul reads a third input always."""
    for node in model.graph.node:
        if node.op_type != "Gemm" or len(node.input) > 2:
            continue
        name = model.make_new_valueinfo_name()
        outputs = model.get_tensor_shape(node.output[0])[-1]
        model.set_initializer(name, np.zeros(outputs, np.float32))
        node.input.append(name)


def _plan(
    model: "ModelWrapper", inputs: np.ndarray, board: boards.Board, channels_last: bool
) -> plan.Plan:
    options = {
        "backend": "Vitis",
        "name": "net",
        "precision": PRECISION,
        "io_type": "io_stream" if channels_last else "io_parallel",
        "part": board.part,
        "clock_ns": round(1000 / board.clock.mhz, 3),
    }
    packed = io.BytesIO()
    np.save(packed, np.ascontiguousarray(inputs, dtype=np.float32))
    files: dict[str, str | bytes] = {
        "model.onnx": model.model.SerializeToString(deterministic=True),
        "inputs.npy": packed.getvalue(),
        "options.json": json.dumps(options, indent=1) + "\n",
    }
    argv = (plan.PYTHON, "-m", "hwflow.emit.hls4ml_csim")
    command = plan.Command(argv, "hls4ml.log", timeout_s=1800, version=_version())
    return plan.Plan(files, (command,), ("outputs.npy",), name="hls4ml")


def _version() -> str:
    from importlib.metadata import version

    return f"hls4ml {version('hls4ml')}"


def _compare(expected: np.ndarray, actual: np.ndarray, onnx_path: Path) -> None:
    if expected.shape != actual.shape:
        raise VerifyError(
            f"{onnx_path}: hls4ml gives shape {actual.shape}, qonnx {expected.shape}"
        )
    wrong = np.argwhere(expected != actual)
    if wrong.size:
        first = tuple(int(i) for i in wrong[0])
        raise VerifyError(
            f"{onnx_path}: hls4ml differs from qonnx in {len(wrong)} of {expected.size} values, "
            f"first in vector {first[0]}, index {first[1:]}: {actual[first]}, expected "
            f"{expected[first]}; scales must be powers of two and biases quantised (Int32Bias)"
        )
    log.info("hls4ml equals qonnx on %d vectors", len(expected))
