# SPDX-License-Identifier: Apache-2.0
"""The vectors that a user verifies a QONNX file with: `--inputs vectors.npz`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from hwflow.build import Context, Outcome
from hwflow.errors import DataError
from hwflow.stages.options import BuildOptions
from hwflow.stages.results import write_json

if TYPE_CHECKING:
    import numpy as np

    from hwflow.ir import Graph


def data(ctx: Context) -> Outcome:
    """inputs.npz and provenance.json, after the network itself was looked at."""
    import numpy as np

    from hwflow import ingest

    options: BuildOptions = ctx.options
    assert options.file is not None and options.inputs is not None
    graph = ingest.read(options.file)  # what is not supported comes first, all of it
    name = graph.inputs[0]
    array = read(options.inputs, name, graph.tensors[name].shape)
    np.savez(ctx.work / "inputs.npz", inputs=array)
    raw = options.inputs.read_bytes()
    write_json(
        ctx.work / "provenance.json",
        {
            "spec": f"inputs:{options.inputs.name}", "source": str(options.inputs),
            "sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw), "classes": [],
        },
    )
    return Outcome(f"{len(array)} vectors of {options.inputs.name}, {array.dtype}")


def read(path: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The vectors (N, C, H, W) of an input; DataError says what is wrong with the file.

    The array is called as the network's input, or is the only one. A vector may leave out sides of
    1, as (N, 784) for (N, 784, 1, 1).
    """
    import numpy as np

    from hwflow import arrays

    held = arrays.read(path)
    key = name if name in held else next(iter(held)) if len(held) == 1 else None
    if key is None:
        raise DataError(
            f"--inputs {path}: holds {', '.join(held) or 'nothing'}; call the array of the vectors "
            f"'{name}', as the network's input"
        )
    array = held[key]
    wanted = int(np.prod(shape))
    if array.dtype.kind not in "iuf" or array.ndim < 1 or not array.size:
        raise DataError(f"--inputs {path}: '{key}' is {array.dtype} {array.shape}; give numbers")
    if not np.isfinite(array).all():
        raise DataError(f"--inputs {path}: '{key}' holds values that are not finite")
    sides = [n for n in array.shape[1:] if n != 1]
    if sides != [n for n in shape if n != 1]:
        if [n for n in array.shape if n != 1] == [n for n in shape if n != 1]:
            array = array[None]  # one vector without the axis of their number
        else:
            raise DataError(
                f"--inputs {path}: '{key}' has shape {array.shape}; (N, "
                f"{', '.join(map(str, shape))}) is needed"
            )
    if array.size % wanted:
        raise DataError(f"--inputs {path}: '{key}' holds no whole number of vectors of {shape}")
    return array.reshape(-1, *shape)


def integers(path: Path, graph: Graph) -> np.ndarray:
    """The vectors as integers of the graph's input: floats are quantised as the network does.

    DataError when they leave its range, or where pixels are wanted, when they are none.
    """
    import numpy as np

    from hwflow import arrays
    from hwflow.ops.types import int_type

    name = graph.inputs[0]
    tensor = graph.tensors[name]
    dtype = int_type(tensor)
    array = arrays.read(path, ("inputs",))["inputs"].reshape(-1, *tensor.shape)
    if array.dtype.kind == "f":
        scale, zero = float(graph.meta[f"scale.{name}"]), int(graph.meta.get(f"zero.{name}", 0))
        units = array.astype(np.float32) / np.float32(scale)
        whole = np.rint(units)
        if f"onnx.{name}" not in graph.meta and abs(units - whole).max() > 1e-3:
            raise DataError(
                f"--inputs: the network takes pixels, multiples of {scale:.6g}; give them as "
                "uint8, or as floats of that step"
            )
        array = np.clip(whole + zero, dtype.lo, dtype.hi) if f"onnx.{name}" in graph.meta else whole
    found: np.ndarray = array.astype(np.int64)
    if found.min() < dtype.lo or found.max() > dtype.hi:
        raise DataError(
            f"--inputs: values {found.min()}..{found.max()} leave the input's type {dtype}"
        )
    return found
