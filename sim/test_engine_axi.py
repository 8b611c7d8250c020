# SPDX-License-Identifier: Apache-2.0
"""The whole accelerator with the DDR model under the host driver (tests in engine_driver.py)."""

from pathlib import Path

import numpy as np
import pytest
from engine_driver import array_stream, head

from hwflow import boards
from hwflow.emit import isa
from hwflow.errors import ConfigError
from hwflow.sim.ddr import Ddr
from hwflow.sim.engine import DEFAULT_BOARD, SOURCES, build_engine, layout_of, simulate
from hwflow.sim.runner import engine_sources, lint, run


@pytest.mark.timeout(600)
def test_engine_axi(tmp_path: Path) -> None:
    mailbox = tmp_path / "mailbox.bin"
    run(
        build_engine(), Path(__file__).parent / "engine_driver.py", run_dir=tmp_path,
        plusargs=[f"+host_file={mailbox}", Ddr.of(boards.load(DEFAULT_BOARD)).plusarg],
        env={"HWFLOW_MAILBOX": str(mailbox)},
    )


@pytest.mark.timeout(600)
def test_traces_of_simulate(tmp_path: Path) -> None:
    """Two frames of a program made by hand: each write, each descriptor's span, the output."""
    rng = np.random.default_rng(8)
    stream = b"".join(
        (
            array_stream(),
            head(1),
            isa.descriptor("LOAD", 1, "", act_addr=100, words=90, runs=1, ddr_offset=32, region=0),
            isa.descriptor("LOAD", 2, "", act_addr=1000, words=3, runs=4, act_stride=10,
                           ddr_offset=0, ddr_stride=20, region=0),
            isa.descriptor("STORE", 3, "", act_addr=110, words=10, runs=5, act_stride=10,
                           ddr_offset=48, ddr_stride=12, region=2),
            isa.descriptor("END", 4, ""),
        )
    )  # fmt: skip
    images = [rng.integers(0, 256, (3, 16, 32), dtype=np.uint8) for _ in range(2)]
    result = simulate(stream, images, tmp_path, output_bytes=1024)
    assert len(result.frames) == 2
    picked = [20 * run + word for run in range(4) for word in range(3)]
    for frame, image in zip(result.frames, images, strict=True):
        words = image.reshape(-1, 16)
        assert frame.tags.tolist() == [1] * 90 + [2] * 12
        assert frame.sources.tolist() == [SOURCES.index("load")] * 102
        second = [1000 + 10 * run + word for run in range(4) for word in range(3)]
        assert frame.addrs.tolist() == [*range(100, 190), *second]
        assert np.array_equal(frame.data, np.concatenate([words[2:92], words[picked]]))
        for line in range(5):
            at = 48 + 16 * 12 * line
            want = words[12 + 10 * line : 22 + 10 * line].reshape(-1)
            assert np.array_equal(frame.output[at : at + 160], want)
        assert [(tag, queue) for tag, queue, _, _ in frame.spans] == [(1, 1), (2, 1), (3, 1)]
        edges = [edge for _, _, start, end in frame.spans for edge in (start, end)]
        assert edges == sorted(edges) and edges[0] > 0 and edges[-1] <= frame.cycles
        assert frame.cycles_per_tag[1] > 90 * 16 / 7
        assert frame.wr_bytes == 800 and frame.rd_bytes == 102 * 16 + len(stream)
    assert result.sim_cycles >= sum(frame.cycles for frame in result.frames)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("mb_s", "rate"), [(500, 10 / 3), (1050, 7), (2100, 8)])
def test_a_band_of_planes_moves_at_the_memory_s_rate(
    mb_s: float, rate: float, tmp_path: Path
) -> None:
    """LOAD and STORE of 58 runs of 40 words: the span is within 5 % of 16 bytes a word."""
    shape = {"words": 40, "runs": 58, "act_stride": 40, "ddr_offset": 80, "ddr_stride": 64}
    stream = b"".join(
        (
            array_stream(),
            head(1),
            isa.descriptor("LOAD", 1, "", act_addr=0, region=1, **shape),
            isa.descriptor("STORE", 2, "", act_addr=0, region=2, **shape),
            isa.descriptor("END", 3, ""),
        )
    )
    image = np.zeros((3, 16, 32), np.uint8)
    frame = simulate(stream, [image], tmp_path, ddr_mb_s=mb_s).frames[0]
    for tag in (1, 2):
        bound = 58 * 40 * 16 / rate
        assert bound < frame.cycles_per_tag[tag] < 1.05 * bound + 60, (tag, frame.spans)


def test_layouts_find_the_second_stream() -> None:
    """Weights are stepped over; anything but HEAD, CONV, END in front is refused."""
    conv = isa.descriptor("CONV", 5, "", tiles=3, k_words=70, groups=1)
    words = np.random.default_rng(1).bytes(16 * 3 * (isa.HEADER_WORDS + 70))
    begin, end = array_stream()[:32], array_stream()[32:]
    stream = begin + conv + words + conv + words + end + head(1) + end
    layout = layout_of(stream, (3, 8, 8))
    assert layout["stream_bytes"] == len(stream) - 64 and layout["lane_bytes"] == 64
    assert layout["hash"] == stream[8:16].hex() and layout["isa_version"] == isa.ISA_VERSION
    for wrong in (begin + conv + words, begin + head(1)[:16], begin + bytes([5]) * 32 + end):
        with pytest.raises(ConfigError, match="does not begin with an array stream"):
            layout_of(wrong, (3, 8, 8))
    with pytest.raises(ConfigError, match="no HEAD"):
        layout_of(end + stream, (3, 8, 8))


def test_lint() -> None:
    lint("engine_axi", engine_sources())
