# SPDX-License-Identifier: Apache-2.0
"""The second HLS backend: hand a QONNX file to hls4ml and compare its C simulation, bit by bit.

For multilayer perceptrons and small CNNs, as a baseline for the reports. What hls4ml cannot take is
a GraphError that lists the nodes. Where hls4ml computes other numbers than the file says, the first
layer that does is found and named; it is reported, and never counted as equal.
"""

import contextlib
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from hwflow import arrays, boards, ingest, plan
from hwflow.emit.hls4ml_csim import FAILURE
from hwflow.errors import GraphError, HwflowError, ToolError, VerifyError

if TYPE_CHECKING:
    from qonnx.core.modelwrapper import ModelWrapper

log = logging.getLogger(__name__)

# Fallback of values whose width hls4ml does not derive by itself: 16 bits before and behind the
# point hold Int32Bias sums of small networks exactly; the comparison proves it for the inputs used.
PRECISION = "fixed<32,16>"
# Beyond this a layer is not unrolled wholly, for no synthesis tool takes it; the numbers are equal.
MOST_UNROLLED = 4096
_SKIPPED = ("Dropout", "Identity")
# ONNX gave these ops the attributes that exporters write in this version of it.
LEAST_OPSET = 11
# Layers that hls4ml adds where a scale is no power of two: before them a value has another unit.
_RESCALING = ("ApplyAlpha",)
_AFFINE = ("Add", "Sub", "Mul", "Div", "BatchNormalization")


@dataclass(frozen=True)
class Difference:
    """The first value that differs: in the first such layer, its first vector, its first channel.

    layer: hls4ml's name; tensor: its counterpart in the prepared QONNX file; node: what the file
    calls the layer. index: the place in the layer's output, channels last. before: layers whose
    values were all equal.
    """

    layer: str
    node: str
    tensor: str
    vector: int
    channel: int
    index: tuple[int, ...]
    actual: float
    expected: float
    before: int

    def __str__(self) -> str:
        return (
            f"layer '{self.node}' (hls4ml: {self.layer}), vector {self.vector}, channel "
            f"{self.channel}, index {self.index}: {self.actual!r}, the file says {self.expected!r}"
        )


@dataclass(frozen=True)
class Csim:
    """The C simulation: outputs (N, ...) in the file's own layout, and what the file says.

    mismatches: differing values among `values`; `first` says where they begin, None without one.
    """

    outputs: np.ndarray
    expected: np.ndarray
    vectors: int
    values: int
    mismatches: int
    first: Difference | None
    project: Path
    seconds: float


def write_and_csim(
    onnx_path: Path, out_dir: Path, inputs: np.ndarray, board: boards.Board | None = None
) -> Csim:
    """Write the hls4ml project of a QONNX file (backend "Vitis"), compile it and compare.

    `inputs` (N, ...) float32 are vectors in the layout of the file (N, C, H, W for images). `board`
    (default pynq-z2) gives part and clock. GraphError lists unsupported operators or says what
    hls4ml failed at, ToolError has the log of a compiler that failed.
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
    vectors = inputs.astype(np.float32)
    with _refusals(onnx_path):
        expected = _reference(model, source, sink, vectors)
        names = [(n.op_type, n.name) for n in ingest.load(onnx_path).graph.node]
        prepared, channels_last = _prepare(model)
        same_layout = _shape(prepared, sink) == _shape(model, sink)
    given = np.moveaxis(vectors, 1, -1) if channels_last and vectors.ndim == 4 else vectors
    work = _plan(prepared, given, board, channels_last, trace=False)
    result = _execute(work, out_dir, onnx_path)
    outputs = np.load(out_dir / "outputs.npy", allow_pickle=False)
    if outputs.size == expected.size and same_layout:
        outputs = outputs.reshape(expected.shape)  # hls4ml gives flat rows, or one flat vector
    if expected.shape != outputs.shape:
        raise VerifyError(
            f"{onnx_path}: hls4ml gives shape {outputs.shape}, the file {expected.shape}"
        )
    wrong = count_differing(expected, outputs)
    first = None
    if wrong:
        with _refusals(onnx_path):
            first = _first(prepared, given, board, channels_last, out_dir, onnx_path, names)
    log.info("hls4ml: %d of %d values differ on %d vectors", wrong, expected.size, len(inputs))
    return Csim(
        outputs, expected, len(inputs), int(expected.size), wrong, first, out_dir / "project",
        result.seconds,
    )


def input_shape(onnx_path: Path) -> tuple[int, ...]:
    """The shape of the file's only input, without the batch axis."""
    model = _read(onnx_path)
    return _shape(model, _one(model, onnx_path, "input"))[1:]


def count_differing(expected: np.ndarray, actual: np.ndarray) -> int:
    """Values that are not equal; a NaN equals nothing."""
    return int(np.count_nonzero(~(expected == actual)))


@contextlib.contextmanager
def _refusals(onnx_path: Path) -> Iterator[None]:
    """What qonnx and onnxruntime raise on a file they cannot read, run or transform: anything."""
    try:
        yield
    except HwflowError:
        raise
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        raise GraphError(
            f"{onnx_path}: qonnx cannot bring it into the form hls4ml reads "
            f"({type(error).__name__}: {line}); leave --backend hls4ml out"
        ) from error


def _read(onnx_path: Path) -> "ModelWrapper":
    # qonnx takes a second to load and only this backend needs it here.
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.cleanup import cleanup_model

    file = ingest.load(onnx_path)
    for opset in file.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version < LEAST_OPSET:
            opset.version = LEAST_OPSET  # older example files carry newer attributes anyway
    _spell_out(file)
    with _refusals(onnx_path):
        return cleanup_model(ModelWrapper(file))


def _spell_out(file: onnx.ModelProto) -> None:
    """Windows with the attributes that ONNX lets a file leave out, for qonnx and hls4ml do not."""
    constants = {tensor.name: tensor for tensor in file.graph.initializer}
    made = {name: node for node in file.graph.node for name in node.output}
    for node in file.graph.node:
        if node.op_type not in ("Conv", "MaxPool", "AveragePool"):
            continue
        missing: dict[str, Any] = {"strides": [1, 1], "pads": [0] * 4, "kernel_shape": []}
        if node.op_type == "Conv":
            name = node.input[1]
            while name in made and name not in constants:  # through its quantiser
                name = made[name].input[0] if made[name].input else ""
            sides = list(constants[name].dims[2:]) if name in constants else []
            missing |= {"dilations": [1, 1], "group": 1, "kernel_shape": sides}
        given = {attribute.name: attribute for attribute in node.attribute}
        if given.get("auto_pad") is not None and given["auto_pad"].s != b"NOTSET":
            del missing["pads"]
        window = given["kernel_shape"].ints if "kernel_shape" in given else missing["kernel_shape"]
        if len(window) == 2:  # windows of one side are left as they are
            node.attribute.extend(onnx.helper.make_attribute(key, value)
                                  for key, value in missing.items() if key not in given)


def _one(model: "ModelWrapper", onnx_path: Path, what: str) -> str:
    """The name of the only input or output."""
    constants = {t.name for t in model.graph.initializer}
    infos = model.graph.input if what == "input" else model.graph.output
    names = [str(info.name) for info in infos if info.name not in constants]
    if len(names) != 1:
        raise GraphError(f"{onnx_path}: {len(names)} {what}s; the hls4ml backend takes one")
    return names[0]


def _shape(model: "ModelWrapper", name: str) -> tuple[int, ...]:
    return tuple(model.get_tensor_shape(name) or ())


def unsupported(nodes: Sequence[Any]) -> list[str]:
    """The ONNX nodes hls4ml has no handler for, as "name (operator)"."""
    from hls4ml.converters import get_supported_onnx_layers

    known = {*get_supported_onnx_layers(), *_SKIPPED, "Gemm"}
    return [f"{n.name or n.output[0]} ({n.op_type})" for n in nodes if n.op_type not in known]


def _check_supported(model: "ModelWrapper", onnx_path: Path) -> None:
    """GraphError listing every node that hls4ml has no handler for."""
    wrong = unsupported(model.graph.node)
    if wrong:
        raise GraphError(
            f"{onnx_path}: hls4ml has no kernel for {len(wrong)} nodes: {', '.join(wrong)}; leave "
            "--backend hls4ml out"
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
    _plain_biases(model)
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


def _plain_biases(model: "ModelWrapper") -> None:
    """A quantised bias whose scale is no power of two becomes the floats it stands for.

    hls4ml scales such a constant in a layer of its own, which has no input, and fails on it.
    """
    for node in [n for n in model.graph.node if n.op_type in ("Quant", "IntQuant")]:
        value, scale, zero, bits = (model.get_initializer(i) for i in node.input)
        users = [n for n in model.graph.node if node.output[0] in n.input]
        bias = all(n.op_type == "Add" or node.output[0] in n.input[2:] for n in users)
        if value is None or scale is None or not users or not bias:
            continue
        if (np.frexp(scale)[0] == 0.5).all():
            continue
        signed, narrow = (_flag(node, name) for name in ("signed", "narrow"))
        low = -(2.0 ** (bits - 1)) + narrow if signed else 0 * bits
        high = 2.0 ** (bits - 1) - 1 if signed else 2.0**bits - 1 - narrow
        units = np.clip(np.rint(value / scale + zero), low, high)
        name = node.output[0]
        model.graph.node.remove(node)
        model.set_initializer(name, ((units - zero) * scale).astype(np.float32))


def _flag(node: Any, name: str) -> int:  # noqa: ANN401
    return next((int(a.i) for a in node.attribute if a.name == name), 0)


def _plan(
    model: "ModelWrapper", inputs: np.ndarray, board: boards.Board, channels_last: bool, trace: bool
) -> plan.Plan:
    largest = max((int(np.prod(t.dims)) for t in model.graph.initializer), default=0)
    options = {
        "backend": "Vitis",
        "name": "net",
        "precision": PRECISION,
        "strategy": "Resource" if largest > MOST_UNROLLED else "Latency",
        "io_type": "io_stream" if channels_last else "io_parallel",
        "part": board.part,
        "clock_ns": round(1000 / board.clock.mhz, 3),
        "trace": trace,
    }
    packed = io.BytesIO()
    np.save(packed, np.ascontiguousarray(inputs, dtype=np.float32))
    files: dict[str, str | bytes] = {
        "model.onnx": model.model.SerializeToString(deterministic=True),
        "inputs.npy": packed.getvalue(),
        "options.json": json.dumps(options, indent=1) + "\n",
    }
    argv = (plan.PYTHON, "-m", "hwflow.emit.hls4ml_csim")
    command = plan.Command(argv, "hls4ml.log", timeout_s=1800, version=version())
    products = ("traces.npz", "layers.json") if trace else ("outputs.npy",)
    return plan.Plan(files, (command,), products, name="hls4ml")


def _execute(work: plan.Plan, folder: Path, onnx_path: Path) -> plan.Executed:
    """Run it; what hls4ml cannot do becomes one sentence."""
    (folder / FAILURE).unlink(missing_ok=True)
    try:
        return plan.execute(work, folder)
    except ToolError as error:
        if not (folder / FAILURE).is_file():
            raise
        line = (folder / FAILURE).read_text(encoding="utf-8").strip()
        raise GraphError(
            f"{onnx_path}: {version()} cannot convert this network ({line}); log: "
            f"{folder / 'hls4ml.log'}; leave --backend hls4ml out"
        ) from error


def version() -> str:
    """hls4ml and its version, as the report names it."""
    from importlib import metadata

    return f"hls4ml {metadata.version('hls4ml')}"


# The first layer that differs


def _first(
    prepared: "ModelWrapper", inputs: np.ndarray, board: boards.Board, channels_last: bool,
    out_dir: Path, onnx_path: Path, names: Sequence[tuple[str, str]],
) -> Difference | None:
    """The first value of the first layer that differs, from a second C simulation with traces.

    None when every layer that can be compared is equal, and only something between them is not.
    """
    from qonnx.core.onnx_exec import execute_onnx

    folder = out_dir / "trace"
    work = _plan(prepared, inputs, board, channels_last, trace=True)
    _execute(work, folder, onnx_path)
    traces = arrays.read(folder / "traces.npz")
    layers = json.loads((folder / "layers.json").read_text(encoding="utf-8"))
    source = _one(prepared, onnx_path, "input")
    pairs = counterparts(layers, prepared.graph.node)
    runs = [
        execute_onnx(prepared, {source: vector[None]}, return_full_exec_context=True)
        for vector in inputs
    ]
    equal = 0
    for layer, tensor in pairs:
        if layer not in traces:
            continue
        expected = np.concatenate([run[tensor] for run in runs]).astype(np.float32)
        actual = traces[layer]
        if actual.size != expected.size:
            continue
        actual = decoded(actual.reshape(expected.shape), expected)
        wrong = np.argwhere(~(actual == expected))
        if not wrong.size:
            equal += 1
            continue
        # The first vector, and in it the first channel (the last axis), as the others report it.
        vector = int(wrong[0][0])
        places = sorted((tuple(map(int, w)) for w in wrong if w[0] == vector),
                        key=lambda place: (place[-1], place))
        place = places[0]
        return Difference(
            layer, _name(tensor, prepared, names), tensor, vector, place[-1], place[1:],
            float(actual[place]), float(expected[place]), equal,
        )
    return None


def counterparts(
    layers: Sequence[Mapping[str, Any]], nodes: Sequence[Any]
) -> list[tuple[str, str]]:
    """(hls4ml's layer, the tensor of the file it carries), in the order of hls4ml's layers.

    hls4ml merges nodes: a bias or a quantiser into the layer before them, a run of sums and
    products into the last of them. So a layer carries the last tensor of the chain that begins at
    its own output and ends before what belongs to the next layer. A layer that the file has no name
    for stands for the chain behind its input. A layer before one that only rescales has another
    unit than the file's tensor and is left out.
    """
    own = {name for layer in layers for name in layer["outputs"]}
    made = {name for node in nodes for name in node.output}
    users: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def last(tensor: str, unnamed: bool = False) -> str:
        chain = [tensor]
        affine = [False]
        while len(users.get(chain[-1], [])) == 1:
            node = users[chain[-1]][0]
            if node.output[0] in own:
                if node.op_type in _AFFINE and not unnamed:
                    while affine[-1]:  # they were merged into that one
                        chain.pop()
                        affine.pop()
                break
            chain.append(node.output[0])
            affine.append(node.op_type in _AFFINE)
        return chain[-1]

    # Layers with names of hls4ml's own, by the tensor they read.
    foreign = {
        layer["inputs"][0]: layer for layer in layers
        if layer["outputs"] and layer["inputs"] and layer["outputs"][0] not in made
    }
    rescaled = {
        name for layer in layers if layer["kind"] in _RESCALING for name in layer["inputs"]
    }
    pairs = []
    for layer in layers:
        if not layer["outputs"]:
            continue
        name = layer["outputs"][0]
        if name not in made:
            before = layer["inputs"][0] if layer["inputs"] else ""
            if before in made:
                pairs.append((str(layer["name"]), last(before, unnamed=True)))
        elif name not in rescaled:
            carried = name if name in foreign else last(name)
            pairs.append((str(layer["name"]), carried))
    return pairs


def decoded(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """What hls4ml's bits stand for where the file has -1 and 1."""
    bipolar = np.isin(expected, (-1.0, 1.0)).all() and np.isin(actual, (0.0, 1.0)).all()
    return 2 * actual - 1 if bipolar and (actual == 0).any() else actual


def _name(tensor: str, prepared: "ModelWrapper", names: Sequence[tuple[str, str]]) -> str:
    """What the file calls the layer that makes a tensor: through its ReLU, quantiser or bias."""
    makers = {name: node for node in prepared.graph.node for name in node.output}
    node = makers.get(tensor)
    while node is not None and node.op_type in ("Quant", "Relu", "Add", "Mul", "Transpose"):
        before = [name for name in node.input if name in makers]
        node = makers.get(before[0]) if before else None
    if node is None:
        return tensor
    kinds = ("Gemm", "MatMul") if node.op_type == "MatMul" else (node.op_type,)
    same = [n for n in prepared.graph.node if n.op_type == node.op_type]
    written = [name for kind, name in names if kind in kinds]
    return written[same.index(node)] if len(written) == len(same) else str(node.name)
