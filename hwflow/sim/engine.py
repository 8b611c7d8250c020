# SPDX-License-Identifier: Apache-2.0
"""Whole frames on the simulated accelerator: engine, DMA, DDR model and host driver.

The bench is `sim/models/tb_engine.sv` (its header states the traces), the DDR model
`sim/models/ddr.sv` (its header states the figures). Clock, memory and traces are SystemVerilog;
the host driver of `hwflow/driver` starts each frame and sleeps until the interrupt.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwflow import boards
from hwflow.boards import Board
from hwflow.emit import isa
from hwflow.errors import ConfigError, ToolError
from hwflow.sim.ddr import Ddr
from hwflow.sim.host import DDR_BASE, DDR_BYTES
from hwflow.sim.runner import Build, build, engine_sources, run, sim_dir

LOG = logging.getLogger(__name__)
DEFAULT_BOARD = "pynq-z2"
SOURCES = ("array", "lanes", "load")  # who writes the activation memory
# tag: bits 11..0 the descriptor, bits 13..12 the source
_WRITE = np.dtype([("addr", "<u2"), ("tag", "<u2"), ("data", "u1", (16,))])
_EVENT = np.dtype(
    [("kind", "<u2"), ("queue", "<u2"), ("tag", "<u4"), ("cycle", "<u4"), ("writes", "<u4")]
)
_BEGIN, _DONE, _ERROR, _START, _END = range(5)
Span = tuple[int, int, int, int]


@dataclass(frozen=True)
class FrameResult:
    """One frame: every write to the activation memory in order, and what the driver returned."""

    tags: np.ndarray  # uint16 (N,), descriptor that wrote
    sources: np.ndarray  # uint8 (N,), which write channel: index into SOURCES
    addrs: np.ndarray  # uint16 (N,), activation word
    data: np.ndarray  # uint8 (N, 16)
    candidates: np.ndarray  # int64 (K, 8), columns driver.COLUMNS, best first
    boxes: np.ndarray  # float64 (K, 4)
    scores: np.ndarray  # float64 (K,)
    cycles: int  # the design's own counter
    spans: tuple[Span, ...]  # (tag, queue, first cycle, cycle it was completed in), by first cycle
    rd_bytes: int
    wr_bytes: int
    output: np.ndarray  # uint8 (output_bytes,), the output region after the frame

    @property
    def cycles_per_tag(self) -> Mapping[int, int]:
        """Descriptor -> cycles from its start to its completion; HEAD and END have none."""
        return {tag: end - start for tag, _, start, end in self.spans}


@dataclass(frozen=True)
class SimResult:
    """All frames, and how fast the simulator ran."""

    frames: tuple[FrameResult, ...]
    sim_cycles: int  # simulated clock cycles while frames ran
    sim_seconds: float  # wall clock
    sim_cpu_seconds: float  # of the one process that simulates

    @property
    def sim_cycles_per_s(self) -> float:
        """Simulated cycles in a second of wall clock."""
        return self.sim_cycles / self.sim_seconds


def build_engine(
    cache: Path | None = None, *, board: Board | None = None, act_words: int | None = None
) -> Build:
    """The simulator of the whole accelerator, from the cache if nothing changed.

    board: whose engine (default DEFAULT_BOARD); the memory's figures come when it is run, as
    `Ddr.plusarg`. act_words: another size of the activation memory.
    """
    board = board or boards.load(DEFAULT_BOARD)
    models = sim_dir() / "models"
    params: dict[str, object] = {
        "DDR_BASE": f"32\\'h{DDR_BASE:08x}",
        "DDR_BYTES": DDR_BYTES,
        "ACT_WORDS": act_words or board.engine_size.act_words,
        "RING_WORDS": board.engine_size.stream_words,
        "OUTSTANDING": Ddr.of(board).outstanding,
    }
    return build(
        "tb_engine",
        [*engine_sources(), models / "ddr.sv", models / "tb_engine.sv"],
        params,
        public={"tb_engine": ["h_*"]},
        build_args=["-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert",
                    "--output-split", "2000", "-Wno-PROCASSINIT"],
        timing=True,
        cache=cache,
    )  # fmt: skip


def array_bytes(stream: bytes) -> int:
    """Length of the array stream, with which a program begins: HEAD, CONVs with what follows, END.

    Raises ConfigError when it holds anything else or has no END.
    """
    words, at = len(stream) // 16, 0
    fields = {**isa.COMMON, **isa.DESCRIPTORS["CONV"]}
    while at + 2 <= words:
        word = int.from_bytes(stream[16 * at : 16 * at + 32], "little")
        opcode, tiles, k_words = (_value(word, fields[n]) for n in ("opcode", "tiles", "k_words"))
        at += 2
        if opcode == isa.OPCODES["END"]:
            return 16 * at
        if opcode == isa.OPCODES["CONV"]:
            at += tiles * (isa.HEADER_WORDS + k_words)
        elif opcode != isa.OPCODES["HEAD"]:
            break
    raise ConfigError(
        "the program does not begin with an array stream (HEAD, CONV, END); compile it with "
        "hwflow.emit.engine, or give the layout that says where its lanes stream begins"
    )


SCRATCH_BYTES = 1 << 20  # what a program written by hand may use


def layout_of(
    stream: bytes, input_shape: tuple[int, int, int], stream_bytes: int | None = None
) -> dict[str, object]:
    """The least layout of a program, from its HEAD. Raises ConfigError when it has none.

    stream_bytes: length of the array stream (default: up to its END).
    """
    head = int.from_bytes(stream[:32], "little")
    fields = isa.DESCRIPTORS["HEAD"]
    if _value(head, fields["magic"]) != isa.MAGIC:
        raise ConfigError("the program has no HEAD; compile it with hwflow.emit.engine")
    array = array_bytes(stream) if stream_bytes is None else stream_bytes
    return {
        "input_shape": list(input_shape),
        "stream_bytes": array,
        "lane_bytes": len(stream) - array,
        "hash": stream[8:16].hex(),
        "isa_version": _value(head, fields["isa_version"]),
        "scratch_bytes": SCRATCH_BYTES,
    }


def _value(word: int, field: isa.Field) -> int:
    return word >> field.lsb & ((1 << field.width) - 1)


def simulate(
    stream: bytes,
    images: Sequence[np.ndarray],
    work_dir: Path,
    *,
    layout: Mapping[str, object] | None = None,
    board: Board | None = None,
    act_words: int | None = None,
    ddr_mb_s: float | None = None,
    stall_percent: int = 0,
    watchdog: int = 0,
    timeout_s: float = 10.0,
    output_bytes: int = 0,
    cache: Path | None = None,
) -> SimResult:
    """Run a program on images, one frame after the other without a reset in between.

    stream: the program, array stream and lanes stream. images: uint8 (C, H, W). work_dir: gets the
    job, logs and traces. layout: content of layout.json (default: the least that HEAD gives; boxes
    then have unit scales). board: whose engine and memory (default DEFAULT_BOARD); act_words and
    ddr_mb_s take the place of its activation memory and of its sustained bandwidth. stall_percent:
    chance of each bus channel to wait in a cycle. watchdog: cycles, 0 for none. timeout_s: longest
    simulated time of a frame. output_bytes: how much of the output region to return. cache: where
    the built simulator is kept.
    Raises ToolError when a frame fails, with the driver's reason.
    """
    if not images or any(
        image.dtype != np.uint8 or image.shape != images[0].shape or image.ndim != 3
        for image in images
    ):
        raise ConfigError("simulate takes at least one image, uint8 (C, H, W), all of one size")
    shape = images[0].shape
    board = board or boards.load(DEFAULT_BOARD)
    ddr = Ddr.of(board, ddr_mb_s)
    built = build_engine(cache, board=board, act_words=act_words)
    folder = work_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("frames.json", "trace.bin", "events.bin"):
        (folder / name).unlink(missing_ok=True)
    (folder / "program.bin").write_bytes(stream)
    np.save(folder / "images.npy", np.stack(images))
    job = {
        "layout": dict(layout or layout_of(stream, (shape[0], shape[1], shape[2]))),
        "stall_percent": stall_percent,
        "watchdog": watchdog,
        "timeout_s": timeout_s,
        "output_bytes": output_bytes,
    }
    (folder / "job.json").write_text(json.dumps(job))
    run(
        built,
        "hwflow.sim.frame_bench",
        run_dir=folder,
        plusargs=[
            ddr.plusarg,
            f"+host_file={folder / 'mailbox.bin'}",
            f"+trace={folder / 'trace.bin'}",
            f"+events={folder / 'events.bin'}",
        ],
        env={"HWFLOW_JOB": str(folder / "job.json")},
    )
    return _collect(folder, output_bytes)


def _collect(folder: Path, output_bytes: int) -> SimResult:
    writes = np.fromfile(folder / "trace.bin", _WRITE)
    events = np.fromfile(folder / "events.bin", _EVENT)
    answers = json.loads((folder / "frames.json").read_text())
    spans = _spans(events)
    if len(spans) != len(answers) or (spans and spans[-1][1]["writes"] > len(writes)):
        raise ToolError(
            f"{folder}: traces of {len(spans)} frames and {len(writes)} writes for "
            f"{len(answers)} frames run; is the disk full?"
        )
    frames = []
    for index, (answer, (first, last, inside)) in enumerate(zip(answers, spans, strict=True)):
        rows = writes[first["writes"] : last["writes"]]
        output = np.zeros(0, np.uint8)
        if output_bytes:
            output = np.load(folder / f"output-{index}.npy")
        frames.append(
            FrameResult(
                tags=rows["tag"] & 0xFFF,
                sources=(rows["tag"] >> 12).astype(np.uint8),
                addrs=rows["addr"].copy(),
                data=rows["data"].copy(),
                candidates=np.array(answer["candidates"], np.int64).reshape(-1, 8),
                boxes=np.array(answer["boxes"], np.float64).reshape(-1, 4),
                scores=np.array(answer["scores"], np.float64),
                cycles=answer["cycles"],
                spans=inside,
                rd_bytes=answer["rd_bytes"],
                wr_bytes=answer["wr_bytes"],
                output=output,
            )
        )
    result = SimResult(
        tuple(frames),
        sum(answer["simulated"] for answer in answers),
        sum(answer["seconds"] for answer in answers),
        sum(answer["cpu_seconds"] for answer in answers),
    )
    LOG.info("%d cycles at %.0f cycles/s", result.sim_cycles, result.sim_cycles_per_s)
    return result


def _spans(events: np.ndarray) -> list[tuple[np.void, np.void, tuple[Span, ...]]]:
    """(first event, last event, spans of the descriptors) of every frame that ended."""
    frames = []
    first: np.void | None = None
    since: dict[int, int] = {}  # queue -> cycle in which its descriptor started
    inside: list[Span] = []
    for event in events:
        if event["kind"] == _BEGIN:
            first, since, inside = event, {}, []
            continue
        if first is None:  # of a frame that was given up
            continue
        cycle, queue = int(event["cycle"] - first["cycle"]), int(event["queue"])
        if event["kind"] == _START:
            since[queue] = cycle
        elif event["kind"] == _END:
            inside.append((int(event["tag"]), queue, since.pop(queue), cycle))
        else:
            frames.append((first, event, tuple(sorted(inside, key=lambda span: span[2]))))
            first = None
    return frames
