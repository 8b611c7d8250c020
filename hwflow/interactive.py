# SPDX-License-Identifier: Apache-2.0
"""Any photograph on the simulated hardware of a finished build."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hwflow import boards, pictures
from hwflow.errors import ConfigError, DataError
from hwflow.ir import Graph
from hwflow.plan import write_atomic
from hwflow.report import figures, schema
from hwflow.stages.hardware import run_frames


@dataclass(frozen=True)
class Found:
    """What the hardware found in one photograph, as the network saw it: uint8 (3, H, W)."""

    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    cycles: int
    tensors: int


def simulate(run: Path, paths: Sequence[Path]) -> tuple[Found, ...]:
    """Run photographs in the RTL simulation; every layer must equal the integer graph.

    A photograph of another size is cut to its middle square (if it is not one) and resized.
    """
    report = schema.read(run / "report.json")
    board = boards.load(report.board)
    program, lowered = run / "rtl" / "program.bin", run / "lower" / "graph"
    graph = Graph.load(lowered) if lowered.is_dir() else None
    if graph is not None and not any(node.op == "peaks" for node in graph.nodes):
        raise ConfigError(
            f"{run}: is of no detector, whose boxes `hwflow sim` shows; `hwflow build ... --inputs "
            "vectors.npz` runs vectors through another network"
        )
    if graph is None or not program.is_file():
        raise ConfigError(f"{run}: holds no program; run `hwflow build ... --out {run}` first")
    _, height, width = graph.tensors[graph.inputs[0]].shape
    batch = np.stack([photograph(path, height, width) for path in paths])
    with tempfile.TemporaryDirectory() as folder:
        result = run_frames(
            board, graph, program.read_bytes(), batch, "photograph", Path(folder)
        )
    return tuple(
        Found(batch[n], result.arrays[f"boxes{n}"], result.arrays[f"scores{n}"],
              result.arrays[f"labels{n}"], result.cycles[n], result.tensors)
        for n in range(len(batch))
    )


def photograph(path: Path, height: int, width: int) -> np.ndarray:
    """A picture file as uint8 (3, height, width)."""
    try:
        picture = pictures.decode(path.read_bytes(), f"the photograph {path}")
    except FileNotFoundError as error:
        raise DataError(f"the photograph {path} does not exist; check the path") from error
    except OSError as error:
        raise DataError(f"the photograph {path} cannot be read ({error.strerror})") from error
    if picture.size != (width, height):
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side))
        picture = square.resize((width, height), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(picture, np.uint8).transpose(2, 0, 1))


def draw(found: Found, path: Path, least: float) -> None:
    """Write the photograph with its boxes as PNG."""
    drawn = figures.photograph(found.image, found.boxes, found.scores, least=least)
    write_atomic(path, base64.b64decode(drawn["png"]))
