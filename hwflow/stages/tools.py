# SPDX-License-Identifier: Apache-2.0
"""Stage synth: the engine in the resources of the board's chip."""

from __future__ import annotations

from hwflow import boards
from hwflow.build import Context, Outcome
from hwflow.stages import hls4ml_stage, synthesis

TOP = "engine_axi"


def synth(ctx: Context) -> Outcome:
    """Yosys' cell counts against the board; more than fits is an error that names the resource."""
    if ctx.options.backend == "hls4ml":
        return Outcome("", True, hls4ml_stage.SKIPPED)
    from hwflow.toolchain import yosys

    board = boards.load(ctx.options.board)
    if board.why_not is not None:
        return Outcome("", True, board.why_not)
    return synthesis.run(ctx, board, yosys.sources(), TOP, yosys.parameters(board))
