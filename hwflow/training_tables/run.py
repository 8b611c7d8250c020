# SPDX-License-Identifier: Apache-2.0
"""A run on any road: what it tells of its progress, and the state that an interrupted one leaves.

What a step draws depends on the seed and the step alone, so that an interrupted run goes on as if
it had not been interrupted.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwflow.errors import DataError
from hwflow.models.dtnn import DtnnConfig, describe
from hwflow.training_tables.options import TableTraining, plain

LOG = logging.getLogger(__name__)

RESUME = "resume.safetensors"
SWEEP, EPOCH, COPY, START = range(4)  # what a random generator is for


@dataclass(frozen=True)
class Progress:
    """Sent to the callback. phase: "sweep" or "epoch"; moved: wires that moved in it."""

    phase: str
    step: int
    steps: int
    loss: float
    moved: int
    seconds: float


ProgressCallback = Callable[[Progress], None]


def identity_of(
    cfg: DtnnConfig, options: TableTraining, images: np.ndarray, labels: np.ndarray, loops: str
) -> str:
    """What decides a run, as a digest. loops: the name of the kernels."""
    body = json.dumps([describe(cfg), plain(options), loops, len(images)])
    digest = hashlib.sha256(body.encode())
    digest.update(images.tobytes())
    digest.update(labels.tobytes())
    return digest.hexdigest()


def save_state(out: Path, identity: str, done: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep what an interrupted run needs to go on after so many steps."""
    from safetensors.numpy import save_file

    made = out / f".{RESUME}"
    save_file({name: np.array(array, order="C") for name, array in arrays.items()}, made,
              metadata={"identity": identity, "done": str(done)})  # fmt: skip
    made.replace(out / RESUME)


def load_state(
    out: Path, identity: str, names: Sequence[str]
) -> tuple[int, dict[str, np.ndarray]] | None:
    """Steps done and their arrays, if the folder holds an interrupted run of this identity."""
    from safetensors import SafetensorError, safe_open

    path = out / RESUME
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            meta = file.metadata() or {}
            if meta.get("identity") != identity:
                LOG.warning("%s is of a run with other options or data: training starts anew", path)
                return None
            arrays = {name: np.array(file.get_tensor(name), order="C") for name in names}
            return int(meta["done"]), arrays
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it to start anew") from error
