# SPDX-License-Identifier: Apache-2.0
"""Stage synth: the engine in the resources of the board's chip."""

from __future__ import annotations

import shutil

from hwflow import boards
from hwflow.build import Context, Outcome
from hwflow.stages import hls4ml_stage
from hwflow.stages.torch_half import write_json

TOP = "engine_axi"


def synth(ctx: Context) -> Outcome:
    """Yosys' cell counts against the board; more than fits is an error that names the resource."""
    if ctx.options.backend == "hls4ml":
        return Outcome("", True, hls4ml_stage.SKIPPED)
    from hwflow.plan import execute
    from hwflow.toolchain import yosys

    board = boards.load(ctx.options.board)
    if board.why_not is not None:
        return Outcome("", True, board.why_not)
    plan = yosys.plan(yosys.sources(), TOP, board, yosys.parameters(board))

    def step(line: str) -> None:
        # "3.12.4. Executing OPT pass (...)": the first numbers tell how far it is.
        head, _, rest = line.partition(" ")
        if head.rstrip(".").replace(".", "").isdigit() and rest.startswith("Executing"):
            ctx.say(f"Yosys {head} {rest.removeprefix('Executing ')}"[:60])

    # In the cache folder: a change that does not reach the sources does not synthesise again.
    folder = ctx.cache / "yosys"
    execute(plan, folder, step)
    for name in (*plan.products, "synth.ys", "yosys.log"):
        shutil.copyfile(folder / name, ctx.work / name)
    used = yosys.count((folder / "stat.json").read_text(), board)
    write_json(ctx.work / "resources.json", used.model_dump(mode="json"))
    yosys.check_fits(used, board)
    parts = [
        f"{name.upper()} {one.used:,} ({100 * one.used / one.available:.0f} %)"
        for name in ("lut", "ff", "bram36", "dsp") if (one := getattr(used, name))
    ]
    return Outcome(", ".join(parts))
