# SPDX-License-Identifier: Apache-2.0
"""Networks on the whole accelerator, disturbed by resets and bus errors (network_driver.py)."""

import json
from pathlib import Path

import numpy as np
import pytest

from hwflow import boards, interp
from hwflow.emit import engine
from hwflow.sim.ddr import Ddr
from hwflow.sim.engine import DEFAULT_BOARD, build_engine
from hwflow.sim.runner import run
from tests.engine_graphs import small_network
from tests.graphs import random_image


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["deform", "shuffle"])
def test_the_next_frame_is_right(kind: str, tmp_path: Path) -> None:
    graph = small_network(kind, 31)
    program = engine.compile_graph(graph)
    image = random_image(graph.tensors["image"].shape, 4).astype(np.uint8)
    last = interp.run(graph, {"image": image}, keep=True)["last"]
    program.save(tmp_path)
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "output.npy", last.astype(np.int8).reshape(-1).view(np.uint8))
    assert json.loads((tmp_path / "layout.json").read_text())["lane_bytes"] > 0
    run(
        build_engine(), Path(__file__).parent / "network_driver.py", run_dir=tmp_path,
        plusargs=[f"+host_file={tmp_path / 'mailbox.bin'}",
                  Ddr.of(boards.load(DEFAULT_BOARD)).plusarg],
        env={"HWFLOW_JOB": str(tmp_path)},
    )  # fmt: skip
