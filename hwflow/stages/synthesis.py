# SPDX-License-Identifier: Apache-2.0
"""Synthesis by Yosys as a stage, taken from the user's cache where any build has made the same."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hwflow.build import Context, Outcome
from hwflow.resources import default_cache
from hwflow.stages.results import write_json

if TYPE_CHECKING:
    from hwflow.boards import Board
    from hwflow.plan import Executed, Plan


def run(
    ctx: Context, board: Board, files: Mapping[str, Path], top: str, values: Mapping[str, int],
) -> Outcome:
    """resources.json and what Yosys left, from the user's cache if any build has made the same.

    Raises ResourceError when the design does not fit.
    """
    from hwflow.toolchain import yosys

    used, done = counts(ctx, board, yosys.plan(files, top, board, values))
    seconds, origin = origin_of(yosys.version(), done)
    return Outcome(used, reason=origin, seconds=seconds)


def counts(ctx: Context, board: Board, plan: Plan) -> tuple[str, Executed]:
    """What a plan of toolchain/yosys.py counts, in words and in resources.json; its other files.

    Raises ResourceError when the design does not fit.
    """
    from hwflow import kept
    from hwflow.toolchain import yosys

    def step(line: str) -> None:
        # "3.12.4. Executing OPT pass (...)": the first numbers tell how far it is.
        head, _, rest = line.partition(" ")
        if head.rstrip(".").replace(".", "").isdigit() and rest.startswith("Executing"):
            ctx.say(f"Yosys {head} {rest.removeprefix('Executing ')}"[:60])
        elif line.startswith("waiting"):
            ctx.say(line)

    folder = ctx.cache / "yosys"
    done = kept.execute(plan, folder, store(ctx), step, ctx.anew)
    for name in (*plan.products, "synth.ys", "yosys.log"):
        shutil.copyfile(folder / name, ctx.work / name)
    used = yosys.count((folder / "stat.json").read_text(), board)
    write_json(ctx.work / "resources.json", used.model_dump(mode="json"))
    yosys.check_fits(used, board)
    parts = [
        f"{name.upper()} {one.used:,} ({100 * one.used / one.available:.1f} %)"
        for name in ("lut", "ff", "bram36", "dsp") if (one := getattr(used, name))
    ]
    return ", ".join(parts), done


def store(ctx: Context) -> Path:
    """Where results of slow programs are kept for every run directory."""
    from hwflow import kept

    return kept.folder(ctx.options.cache or default_cache())


def origin_of(tool: str, *done: Executed) -> tuple[float | None, str | None]:
    """Seconds of earlier runs and a sentence on them; (None, None) if any result is of now."""
    if not all(one.skipped for one in done):
        return None, None
    made = max(one.made for one in done)
    return sum(one.seconds for one in done), (
        f"measured {made} UTC by {tool} and kept since then; --no-cache measures anew"
    )
