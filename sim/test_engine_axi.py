# SPDX-License-Identifier: Apache-2.0
"""The whole accelerator with the DDR model under the host driver (tests in engine_driver.py)."""

from pathlib import Path

import numpy as np
import pytest

from hwflow.emit import isa
from hwflow.sim.engine import build_engine, simulate
from hwflow.sim.runner import engine_sources, lint, run


@pytest.mark.timeout(600)
def test_engine_axi(tmp_path: Path) -> None:
    mailbox = tmp_path / "mailbox.bin"
    run(
        build_engine(), Path(__file__).parent / "engine_driver.py", run_dir=tmp_path,
        plusargs=[f"+host_file={mailbox}"], env={"HWFLOW_MAILBOX": str(mailbox)},
    )


@pytest.mark.timeout(600)
def test_traces_of_simulate(tmp_path: Path) -> None:
    """Two frames of a program made by hand: each write, each descriptor's cycles, the output."""
    rng = np.random.default_rng(8)
    head = {"isa_version": isa.ISA_VERSION, "magic": isa.MAGIC, "hash": 77}
    stream = b"".join(
        (
            isa.descriptor("HEAD", 0, "", **head),
            isa.descriptor("LOAD", 1, "", act_addr=100, words=90, ddr_offset=32, region=0),
            isa.descriptor("LOAD", 2, "", act_addr=65530, words=12, ddr_offset=0, region=0),
            isa.descriptor("STORE", 3, "", act_addr=110, words=50, ddr_offset=48, region=2),
            isa.descriptor("END", 4, ""),
        )
    )
    images = [rng.integers(0, 256, (3, 16, 32), dtype=np.uint8) for _ in range(2)]
    result = simulate(stream, images, tmp_path, output_bytes=1024)
    assert len(result.frames) == 2
    for frame, image in zip(result.frames, images, strict=True):
        words = image.reshape(-1, 16)
        assert frame.tags.tolist() == [1] * 90 + [2] * 12
        assert frame.addrs.tolist() == [*range(100, 190), *range(65530, 65536), *range(6)]
        assert np.array_equal(frame.data, np.concatenate([words[2:92], words[:12]]))
        assert np.array_equal(frame.output[48 : 48 + 800], words[12:62].reshape(-1))
        assert sorted(frame.cycles_per_tag) == [0, 1, 2, 3, 4]
        assert abs(sum(frame.cycles_per_tag.values()) - frame.cycles) <= 2
        assert frame.wr_bytes == 800 and frame.rd_bytes == 102 * 16 + len(stream)
    assert result.sim_cycles >= sum(frame.cycles for frame in result.frames)


def test_lint() -> None:
    lint("engine_axi", engine_sources())
