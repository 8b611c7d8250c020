# SPDX-License-Identifier: Apache-2.0
"""The cocotb half of `hwflow.sim.engine.simulate`: the host driver runs the frames of a job.

The environment names the job file (HWFLOW_JOB); the answer is written beside it. Python sleeps
while a frame runs.
"""

import json
import os
import time
from pathlib import Path

import cocotb
import numpy as np
from cocotb.task import bridge

from hwflow.driver import Accelerator, Layout
from hwflow.sim.host import Bench, SimMemory, SimRegisters, power_up


def run_frames(dut: Bench, job: Path) -> None:
    """Run every image of the job through the driver; writes frames.json (in a bridge thread)."""
    asked = json.loads(job.read_text())
    folder = job.parent
    images = np.load(folder / "images.npy")
    accelerator = Accelerator(
        SimRegisters(dut),
        SimMemory(dut, folder / "mailbox.bin"),
        (folder / "program.bin").read_bytes(),
        Layout.of(asked["layout"]),
        watchdog=asked["watchdog"],
        timeout_s=asked["timeout_s"],
    )
    frames = []
    for image in images:
        begin, cpu = time.perf_counter(), time.process_time()
        cycle = int(dut.h_cycle.value)
        frame = accelerator.run(image.transpose(1, 2, 0))
        frames.append(
            {
                "candidates": frame.candidates.tolist(),
                "boxes": frame.boxes.tolist(),
                "scores": frame.scores.tolist(),
                "cycles": frame.cycles,
                "rd_bytes": frame.rd_bytes,
                "wr_bytes": frame.wr_bytes,
                "seconds": time.perf_counter() - begin,
                "cpu_seconds": time.process_time() - cpu,
                "simulated": int(dut.h_cycle.value) - cycle,
            }
        )
        if asked["output_bytes"]:
            np.save(
                folder / f"output-{len(frames) - 1}.npy",
                accelerator.output(asked["output_bytes"]),
            )
    (folder / "frames.json").write_text(json.dumps(frames))


@cocotb.test()
async def frames(dut: Bench) -> None:
    """All frames of the job, one after the other without a reset."""
    job = Path(os.environ["HWFLOW_JOB"])
    asked = json.loads(job.read_text())
    await power_up(dut)
    dut.h_trace.value = 1
    dut.h_stall_percent.value = asked["stall_percent"]
    await bridge(run_frames)(dut, job)
