# SPDX-License-Identifier: Apache-2.0
"""Reading a QONNX file into a graph at level quant.

Everything that is not supported is found first, all of it, with the nearest supported form. Then
each ONNX node becomes one node here; constants behind Quant become integers with a scale.
"""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.inliner import inline_local_functions

from hwflow.errors import GraphError
from hwflow.ingest import stretches
from hwflow.ingest.build import build_graph
from hwflow.ingest.reader import make_reader
from hwflow.ingest.support import flavour, problems
from hwflow.ir import Graph


def read(path: Path) -> Graph:
    """The network of a QONNX file at level quant; GraphError lists everything unsupported."""
    model = load(path)
    try:
        reader = make_reader(model, path.stem)
        functions, wrong = stretches.find(reader)
        reader.inside.update(o for s in functions for n in (*s.moves, *s.nodes) for o in n.output)
        kind, lines = flavour(reader), [*wrong, *problems(reader)]
        if kind is not None or lines:
            listed = "\n".join(f"  {line}" for line in lines)
            found = f"{len(lines)} unsupported:\n{listed}" if lines else ""
            raise GraphError("\n".join(part for part in (kind, found) if part))
        return build_graph(reader, functions)
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error


def load(path: Path) -> onnx.ModelProto:
    """The ONNX file with a batch of 1 and its own functions in place; GraphError unless a network.
    """
    if not path.is_file():
        raise GraphError(f"{path}: no such file; give a QONNX file")
    try:
        model = onnx.load(path, format="protobuf")  # whatever it is called
    except FileNotFoundError as error:
        raise _without_data(path, error) from error
    except (DecodeError, ValueError, OSError, onnx.checker.ValidationError) as error:
        if _has_external_data(path):
            raise _without_data(path, error) from error
        raise GraphError(f"{path}: not a readable ONNX file ({error}); export it again") from error
    if not model.graph.node or not model.opset_import:
        raise GraphError(f"{path}: not an ONNX network (no nodes); export it again")
    for node in model.graph.node:
        texts = [node.name, node.domain, node.op_type, *node.input, *node.output]
        if not all(isinstance(text, str) for text in texts):  # protobuf lets bytes through
            raise GraphError(f"{path}: a name in it is not UTF-8 text; export it again")
    if model.functions:
        try:
            model = inline_local_functions(model)
        except (RuntimeError, ValueError) as error:
            raise GraphError(
                f"{path}: the functions in it cannot be put in place ({error}); export it without"
            ) from error
    _one_image(model.graph)
    return model


def _one_image(graph: onnx.GraphProto) -> None:
    """The batch of an input where the file leaves it free: 1."""
    constants = {tensor.name for tensor in graph.initializer}
    infos = [info for info in graph.input if info.name not in constants]
    sides = [info.type.tensor_type.shape.dim for info in infos]
    free = [dims[0] for dims in sides if len(dims) > 1 and not dims[0].HasField("dim_value")]
    if not free:
        return
    names = {dim.dim_param for dim in free}
    outputs = [info.type.tensor_type.shape.dim for info in graph.output]
    firsts = [dims[0] for dims in outputs if dims and not dims[0].HasField("dim_value")]
    for dim in (*free, *(first for first in firsts if first.dim_param in names)):
        dim.dim_value = 1
    del graph.value_info[:]  # whose shapes have the free batch, too


def _has_external_data(path: Path) -> bool:
    """Whether a file names another one for some of its constants."""
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError, OSError, onnx.checker.ValidationError):
        return False
    return any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)


def _without_data(path: Path, error: Exception) -> GraphError:
    """Weights in a second file, which is not there."""
    return GraphError(
        f"{path}: its weights lie in another file, which cannot be read ({error}); put that file "
        "beside it, or write one file: onnx.save(onnx.load(path), new, save_as_external_data=False)"
    )
