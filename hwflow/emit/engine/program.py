# SPDX-License-Identifier: Apache-2.0
"""What the compiler makes: a stream of words and what is known of each descriptor."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hwflow.emit import isa

ARRAY_MACS = isa.LANES * isa.TILE_OC  # int4 multiplications a cycle in the array
DW_MACS = 9 * isa.LANES  # multiplications a cycle in the depthwise lanes
CONV_CYCLES = 48  # filling and draining the pipeline, once an operation
TILE_CYCLES = 15  # its header, and the ring moving on
LANE_CYCLES = 40
PEAK_CYCLES = 3000  # what is counted, clearing, ties: about, by the photograph
TRANSFER_CYCLES = 70  # until the first word of a LOAD or STORE moves
RING_SLACK = 32  # words of the ring that a tile must leave free
SMAP_WORDS = 1024  # words of the dilation map
LEAST_OUTPUT_BYTES = 1 << 20  # that a host keeps for a program's outputs, candidates included
ACC_BITS = 26  # accumulators of the array, as engine_pkg.sv


@dataclass(frozen=True)
class EngineParams:
    """What the board's engine was built with (see boards/*.toml, [engine])."""

    act_words: int = 30720  # activation memory, words of 16 bytes
    stream_words: int = 4096  # ring of the array's stream, words of 16 bytes
    bytes_per_cycle: float = 7.0  # of the DDR, reads and writes together
    columns: int = isa.TILE_OC  # of the array; with another number only the counts are right
    # The rest of the DDR as sim/models/ddr.sv has it, for the cycle model alone
    latency_cycles: int = 40
    turn_cycles: int = 10
    refresh_share: float = 40 / 1170
    outstanding: int = 8  # bursts each way

    @property
    def array_macs(self) -> int:
        """int4 multiplications a cycle in the array."""
        return isa.LANES * self.columns

    @property
    def tile_header_words(self) -> int:
        """Stream words of a tile's channel records, two in a word."""
        return -(-self.columns // 2)

    @property
    def weight_stream_words(self) -> int:
        """Stream words that a weight word of an array so wide takes."""
        return -(-(4 * self.columns + isa.WEIGHT_WORD["half"].lsb + 2 - 96) // isa.WORD_BITS)


@dataclass(frozen=True)
class Step:
    """One descriptor: what it computes and where its words go (for checks and reports)."""

    tag: int
    opcode: str
    node: str
    tensor: str  # tensor whose planes it writes on chip; "" if none
    channels: tuple[int, ...]  # channels of that tensor, in the order of `dst`
    dst: tuple[int, ...]  # word address of each channel's word 0 of this step
    first_word: int  # word of the plane that lands on `dst`
    words: int  # words written in each channel
    stream_words: int  # descriptor and payload
    moved_words: int  # between DDR and the activation memory
    macs: int
    ideal_cycles: int  # arithmetic bound of the unit that runs it
    model_cycles: int | None  # docs/engine.md "Cycles"; None for HEAD and END
    model_start: int | None  # in the frame, by the model
    queue: str  # see isa.QUEUES

    @property
    def ddr_bytes(self) -> int:
        """What its descriptor, its payload and its data take of the DDR; candidates come on top."""
        return (self.stream_words + self.moved_words) * isa.WORD_BITS // 8


@dataclass(frozen=True)
class Program:
    """Both streams and everything a host or a check needs to know of them."""

    array_stream: bytes
    lane_stream: bytes
    steps: tuple[Step, ...]
    peak_words: int
    input_shape: tuple[int, int, int]
    classes: int
    scales: Mapping[str, float]
    hash: str
    scratch_bytes: int  # of DDR, for maps that do not fit on chip
    output_bytes: int  # of the maps that leave the engine
    model_cycles: int  # of a frame, by the cycle model

    @property
    def stream(self) -> bytes:
        """What the host puts into memory: the array's stream, then the lanes'."""
        return self.array_stream + self.lane_stream

    def layout(self) -> dict[str, object]:
        """What the host needs beside the stream (JSON)."""
        return {
            "isa_version": isa.ISA_VERSION,
            "hash": self.hash,
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            "scales": dict(self.scales),
            "stream_bytes": len(self.array_stream),
            "lane_bytes": len(self.lane_stream),
            "scratch_bytes": self.scratch_bytes,
            "output_bytes": max(self.output_bytes, LEAST_OUTPUT_BYTES),
            "peak_act_words": self.peak_words,
            "model_cycles": self.model_cycles,
            "steps": [
                {
                    "tag": s.tag,
                    "op": s.opcode,
                    "queue": s.queue,
                    "node": s.node,
                    "macs": s.macs,
                    "ideal_cycles": s.ideal_cycles,
                    "model_cycles": s.model_cycles,
                }
                for s in self.steps
            ],
        }

    def save(self, directory: Path) -> None:
        """Writes program.bin and layout.json."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "program.bin").write_bytes(self.stream)
        (directory / "layout.json").write_text(json.dumps(self.layout(), indent=1) + "\n")
