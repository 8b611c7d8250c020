# SPDX-License-Identifier: Apache-2.0
"""The networks of tables that come with hwflow, against the nodes of their QONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwflow import ingest, passes
from hwflow.export_tables import export_qonnx
from hwflow.models import dtnn

CHECKPOINTS = Path(dtnn.__file__).parents[1] / "checkpoints"
ADDRESSES = {"small": 26_880, "medium": 62_720, "large": 162_560, "lenet5": 88_064,
             "vgg": 290_816}  # fmt: skip


@pytest.mark.parametrize("name", sorted(ADDRESSES))
def test_every_table_of_the_file_is_the_trained_one_at_every_address(
    name: str, tmp_path: Path
) -> None:
    """Enumeration runs the file's nodes in onnxruntime on all addresses; what was trained is
    another source of the same numbers. Before tables are made smaller all are still there."""
    (checkpoint,) = CHECKPOINTS.glob(f"dtnn_{name}_*.safetensors")
    net, _ = dtnn.load_checkpoint(checkpoint)
    export_qonnx(dtnn.network(net), tmp_path / "net.onnx", net.shape)
    steps = [step for step, _ in passes.LOWER]
    enumerated = passes.LOWER[: steps.index(passes.simplify_tables)]
    graph = passes.run(enumerated, ingest.read(tmp_path / "net.onnx"))
    found = [node for node in graph.nodes if node.op == "tables"]
    assert len(found) == len(net.layers)
    seen = 0
    for node, layer in zip(found, net.layers, strict=True):
        assert np.array_equal(graph.const(node, "wires"), layer.wires)
        values = graph.const(node, "values")
        assert np.array_equal(values, layer.values)
        seen += values.size
    assert seen == ADDRESSES[name]
