# SPDX-License-Identifier: Apache-2.0
"""The road from a quantised network to integers: plain functions in one ordered list.

A new pass is a function Graph -> Graph and one line in LOWER.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from hwflow import verify
from hwflow.errors import GraphError
from hwflow.ir import Graph
from hwflow.passes.candidates import append_peaks
from hwflow.passes.dilation import find_dilations
from hwflow.passes.integers import leave_reals
from hwflow.passes.moves import (
    flatten_into_dense,
    quantise_before_moving,
    recognise_rearrangements,
)
from hwflow.passes.structure import drop_idempotent_quantisers, recognise_shuffles
from hwflow.passes.table_forms import simplify_tables
from hwflow.passes.tables import recognise_thresholds
from hwflow.passes.upsampling import pw_before_upsample

Pass = Callable[[Graph], Graph]

# Each pass with the level its result is legal at.
LOWER: tuple[tuple[Pass, str], ...] = (
    (recognise_shuffles, "quant"),
    (drop_idempotent_quantisers, "quant"),
    (find_dilations, "quant"),
    (recognise_rearrangements, "quant"),
    (quantise_before_moving, "quant"),
    (flatten_into_dense, "quant"),
    (leave_reals, "integer"),
    (recognise_thresholds, "integer"),
    (simplify_tables, "integer"),
    (pw_before_upsample, "integer"),
    (append_peaks, "integer"),
)


def run(passes: Sequence[tuple[Pass, str]], graph: Graph, snapshots: Path | None = None) -> Graph:
    """Apply passes in order, checking legality after each; errors name the pass.

    `snapshots` is a folder for one table a pass, 00-read.txt, 01-<pass>.txt ... (older ones there
    are removed).
    """
    if snapshots is not None:
        snapshots.mkdir(parents=True, exist_ok=True)
        for old in snapshots.glob("[0-9][0-9]-*.txt"):
            old.unlink()
        (snapshots / "00-read.txt").write_text(graph.table(), encoding="utf-8")
    for number, (step, level) in enumerate(passes, 1):
        try:
            graph = step(graph)
            verify.legal(graph, level)
        except GraphError as error:
            raise GraphError(f"pass {step.__name__}: {error}") from error
        if snapshots is not None:
            path = snapshots / f"{number:02d}-{step.__name__}.txt"
            path.write_text(graph.table(), encoding="utf-8")
    return graph


def lower(graph: Graph, snapshots: Path | None = None) -> Graph:
    """The integer graph of a network at level quant (hwflow.ingest.read gives one)."""
    verify.legal(graph, "quant")
    return run(LOWER, graph, snapshots)
