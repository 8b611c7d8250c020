# SPDX-License-Identifier: Apache-2.0
"""The vectors that a user verifies a QONNX file with: `--inputs vectors.npz`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwflow.build import Context, Outcome
from hwflow.errors import DataError
from hwflow.stages.options import BuildOptions
from hwflow.stages.results import write_json

if TYPE_CHECKING:
    import numpy as np

    from hwflow.ir import Graph


LABELS = "labels"  # the array of the file that names the right class of each vector


@dataclass(frozen=True)
class Vectors:
    """What a file holds: vectors (N, C, H, W), the class of each (N,) or None, and how it was read.

    note: '' where the vectors had the network's own shape.
    """

    array: np.ndarray
    labels: np.ndarray | None
    note: str = ""


def data(ctx: Context) -> Outcome:
    """inputs.npz and provenance.json, after the network itself was looked at."""
    import numpy as np

    from hwflow import ingest
    from hwflow.stages import accuracy

    options: BuildOptions = ctx.options
    assert options.file is not None and options.inputs is not None
    graph = ingest.read(options.file)  # what is not supported comes first, all of it
    name = graph.inputs[0]
    found = read(options.inputs, name, graph.tensors[name].shape)
    held: dict[str, np.ndarray] = {"inputs": found.array}
    if found.labels is not None:
        accuracy.check(graph, found.labels, str(options.inputs))
        held[LABELS] = found.labels
    np.savez(ctx.work / "inputs.npz", **held)  # type: ignore[arg-type]  # no name is a parameter
    raw = options.inputs.read_bytes()
    write_json(
        ctx.work / "provenance.json",
        {
            "spec": f"inputs:{options.inputs.name}", "source": str(options.inputs),
            "sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw), "classes": [],
        },
    )
    notes = [found.note] if found.note else []
    notes += ["with labels"] if found.labels is not None else []
    return Outcome("; ".join([
        f"{len(found.array)} vectors of {options.inputs.name}, {found.array.dtype}", *notes
    ]))


def read(path: Path, name: str, shape: tuple[int, ...]) -> Vectors:
    """The vectors of an input of `shape` (C, H, W); DataError says what is wrong with the file.

    Their array is called as the network's input, or is the only one beside `labels`. Any shape
    (N, ...) will do whose other sides multiply to the size of the input; so will one vector without
    N. Vectors (H, W, C) of several channels are turned round, all others read in their order.
    """
    import numpy as np

    from hwflow import arrays

    held = arrays.read(path)
    others = [key for key in held if key != LABELS]
    key = name if name in held else others[0] if len(others) == 1 else None
    if key is None:
        raise DataError(
            f"--inputs {path}: holds {', '.join(held) or 'nothing'}; call the array of the vectors "
            f"'{name}', as the network's input"
        )
    array = held[key]
    if not array.size:
        raise DataError(
            f"--inputs {path}: '{key}' {_words(array.shape)} holds no vector; give at least one"
        )
    if array.dtype.kind not in "iuf" or array.ndim < 1:
        raise DataError(
            f"--inputs {path}: '{key}' is {array.dtype} {_words(array.shape)}; give an array of "
            "integers or floats"
        )
    if not np.isfinite(array).all():
        raise DataError(f"--inputs {path}: '{key}' holds values that are not finite")
    array, note = _shaped(array, shape, f"--inputs {path}: '{key}'")
    labels = None
    if key != LABELS and LABELS in held:
        labels = held[LABELS]
        if labels.dtype.kind not in "iu" or labels.shape != (len(array),):
            raise DataError(
                f"--inputs {path}: '{LABELS}' is {labels.dtype} {labels.shape}; give one integer, "
                f"the number of the right class, for each of the {len(array)} vectors: "
                f"({len(array)},)"
            )
    return Vectors(array, labels, note)


def _shaped(array: np.ndarray, shape: tuple[int, ...], what: str) -> tuple[np.ndarray, str]:
    """The array as (N, *shape), and how it was read if it had another shape."""
    import numpy as np

    wanted, sides = math.prod(shape), array.shape
    if sides[1:] == shape:
        return array, ""
    if sides == shape:
        return array[None], f"{_words(sides)} read as one vector"
    if len(shape) == 3 and sides[-3:] == (*shape[1:], shape[0]) and array.ndim in (3, 4):
        turned = np.moveaxis(array.reshape(-1, *sides[-3:]), 3, 1)
        return turned, f"{_words(sides)} read as height, width, channels"
    if math.prod(sides[1:]) == wanted and array.ndim > 1:
        return array.reshape(-1, *shape), f"{_words(sides)} read as {_words(('N', *shape))}"
    if array.size == wanted:
        return array.reshape(1, *shape), f"{_words(sides)} read as one vector {_words(shape)}"
    raise DataError(
        f"{what} has shape {_words(sides)}, that is {math.prod(sides[1:]):,} numbers a vector; the "
        f"network takes {_words(('N', *shape))}, {wanted:,} numbers a vector"
    )


def _words(sides: Sequence[int | str]) -> str:
    """A shape for people, as in (N, 1, 28, 28)."""
    return f"({', '.join(map(str, sides))}{',' if len(sides) == 1 else ''})"


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
        with np.errstate(over="ignore", invalid="ignore"):  # what leaves float32 is told below
            units = array.astype(np.float32) / np.float32(scale)
            whole = np.rint(units)
            off = abs(units - whole).max()
        if f"onnx.{name}" not in graph.meta and not off <= 1e-3:
            raise DataError(
                f"--inputs: the network takes pixels, multiples of {scale:.6g}; give them as "
                "uint8, or as floats of that step"
            )
        array = np.clip(whole + zero, dtype.lo, dtype.hi) if f"onnx.{name}" in graph.meta else whole
    least, most = array.min(), array.max()  # in their own type: int64 would turn uint64 round
    if least < dtype.lo or most > dtype.hi:
        raise DataError(
            f"--inputs: values {least}..{most} leave the input's type {dtype}; give integers from "
            f"{dtype.lo} to {dtype.hi}, or real values as floats"
        )
    found: np.ndarray = array.astype(np.int64)
    return found
