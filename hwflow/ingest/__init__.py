# SPDX-License-Identifier: Apache-2.0
"""Reading a QONNX file into a graph at level quant.

Everything that is not supported is found first, all of it, with the nearest supported form. Then
each ONNX node becomes one node here; constants behind Quant become integers with a scale.
"""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from hwflow.errors import GraphError
from hwflow.ingest.build import build_graph
from hwflow.ingest.reader import make_reader
from hwflow.ingest.support import problems
from hwflow.ir import Graph


def read(path: Path) -> Graph:
    """The network of a QONNX file at level quant; GraphError lists everything unsupported."""
    model = load(path)
    try:
        reader = make_reader(model, path.stem)
        lines = problems(reader)
        if lines:
            listed = "\n".join(f"  {line}" for line in lines)
            raise GraphError(f"{len(lines)} unsupported:\n{listed}")
        return build_graph(reader)
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error


def load(path: Path) -> onnx.ModelProto:
    """The ONNX file as it stands; GraphError unless it is a network."""
    if not path.is_file():
        raise GraphError(f"{path}: no such file; give a QONNX file")
    try:
        model = onnx.load(path)
    except (DecodeError, ValueError, OSError, onnx.checker.ValidationError) as error:
        raise GraphError(f"{path}: not a readable ONNX file ({error}); export it again") from error
    if not model.graph.node or not model.opset_import:
        raise GraphError(f"{path}: not an ONNX network (no nodes); export it again")
    return model
