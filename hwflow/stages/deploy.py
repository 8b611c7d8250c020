# SPDX-License-Identifier: Apache-2.0
"""Stage bitstream: the Vivado project, Vivado itself where there is one, and the deploy folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwflow import boards, resources
from hwflow.build import Context, Outcome
from hwflow.errors import ConfigError, ToolError
from hwflow.stages import hls4ml_stage
from hwflow.stages.options import BuildOptions
from hwflow.stages.results import read_json, write_json

if TYPE_CHECKING:
    from hwflow.boards import Board

HOST = "host.npz"
DRIVER = Path(__file__).resolve().parents[1] / "driver"
# What the board needs of the driver; the rest of the package makes the register map.
DRIVER_FILES = (
    "__init__.py", "accelerator.py", "batch.py", "board.py", "classifier.py", "decode.py",
    "regmap.py",
)


def driver_files(options: BuildOptions) -> list[Path]:
    """Files from outside that this stage copies or depends on."""
    return [options.board_file, *(DRIVER / name for name in DRIVER_FILES)]


def bitstream(ctx: Context) -> Outcome:
    """vivado/ (the project), deploy/, result.json, and NAME.bit with NAME.hwh if Vivado ran."""
    from hwflow.toolchain import vivado, yosys

    options: BuildOptions = ctx.options
    if options.backend == "hls4ml":
        return Outcome("", True, hls4ml_stage.SKIPPED)
    board = boards.load(options.board)
    if board.why_not is not None:
        if "bitstream" in options.require:
            raise ConfigError(board.why_not)
        return Outcome("", True, board.why_not)
    name = options.name
    project = vivado.project(yosys.sources(), board, yosys.parameters(board), name)
    return vivado_project(ctx, board, project, name, lambda ran: _deploy(ctx, board, name, ran))


def vivado_project(
    ctx: Context, board: Board, project: Mapping[str, str | bytes], name: str,
    deploy: Callable[[bool], str],
) -> Outcome:
    """Write the project below vivado/, check it, and run Vivado where there is one.

    deploy(whether Vivado ran) makes what the person with the board gets, and says so.
    """
    from hwflow.plan import execute
    from hwflow.toolchain import vivado

    for file, content in project.items():
        path = ctx.work / "vivado" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    result: dict[str, Any] = {"path": None, "check": None, "resources": None, "timing": None}
    if shutil.which("tclsh"):
        ctx.say("checking the Tcl with stub commands")
        execute(vivado.check_plan(project, board), ctx.cache / "vivado-check")
        shutil.copyfile(ctx.cache / "vivado-check" / "calls.txt", ctx.work / "tclsh-calls.txt")
        result["check"] = vivado.NEVER_RUN
    else:
        result["check"] = "not checked: tclsh not found (install the package tcl)"
    ran = shutil.which(vivado.PROGRAM) is not None
    if ran:
        _run_vivado(ctx, board, project, name, result)
    elif "bitstream" in ctx.options.require:
        raise ToolError(
            "--require bitstream: vivado not found on PATH; install Vivado and put its bin folder "
            "on PATH, or leave --require out"
        )
    deployed = deploy(ran)
    write_json(ctx.work / "result.json", result)
    made = f"Vivado project ({result['check']}){deployed}"
    if ran:
        return Outcome(f"{name}.bit, {name}.hwh{deployed}")
    way = (
        f"{made}. To build the bitstream where Vivado is installed: cd "
        f"{ctx.folder('bitstream') / 'vivado'} && vivado -mode batch -source build.tcl"
    )
    return Outcome(way, True, "vivado not found")


def bitstream_state(ran: bool) -> str:
    """What the deploy folder says of its bitstream."""
    return "made by Vivado" if ran else (
        "NOT HERE YET: make them with Vivado (vivado -mode batch -source ../vivado/build.tcl) and "
        "copy them here"
    )


def copy_driver(folder: Path) -> None:
    """What the board needs of the driver, as folder/driver."""
    (folder / "driver").mkdir(parents=True)
    for file in DRIVER_FILES:
        shutil.copyfile(DRIVER / file, folder / "driver" / file)


def _run_vivado(
    ctx: Context, board: Board, project: Mapping[str, str | bytes], name: str,
    result: dict[str, Any],
) -> None:
    from hwflow.plan import execute
    from hwflow.report.readers import vivado as reports
    from hwflow.toolchain import vivado, yosys

    ctx.say("Vivado: synthesis, place and route")
    plan = vivado.plan(project, name, ctx.options.allow_negative_slack)
    folder = ctx.cache / "vivado"
    execute(plan, folder, lambda line: ctx.say(f"Vivado: {line}"[:60]))
    for file in plan.products:
        shutil.copyfile(folder / file, ctx.work / file)
    used = reports.utilisation((folder / "utilisation.rpt").read_text())
    timing, slack = reports.timing((folder / "timing.rpt").read_text(), None, board.clock.mhz)
    if slack is None or used.kind != "post-route" or timing.kind != "post-route":
        raise ToolError(
            f"the reports of Vivado in {folder} are not those of a routed design with a clock: "
            f"{used.kind}, {timing.kind}, {timing.reason or used.reason}"
        )
    if slack < 0 and not ctx.options.allow_negative_slack:
        raise ToolError(
            f"timing is not met at {board.clock.mhz} MHz: worst slack {slack} ns; see "
            f"{folder / 'timing.rpt'}, or build with --allow-negative-slack"
        )
    yosys.check_fits(used, board)
    result["path"] = f"{name}.bit"
    result["resources"] = used.model_dump(mode="json")
    result["timing"] = timing.model_dump(mode="json")


def _deploy(ctx: Context, board: Board, name: str, ran: bool) -> str:
    """The folder for the person with the board; '' if there is no program to run."""
    if not ctx.made("sim"):
        return ""
    import numpy as np
    from PIL import Image

    from hwflow import arrays
    from hwflow.toolchain import vivado
    from hwflow.toolchain.render import render

    folder = ctx.work / "deploy"
    frames = arrays.read(ctx.folder("sim") / "frames.npz")
    batch = (ctx.folder("rtl") / HOST).is_file()
    if "candidates0" not in frames and not batch:
        return ""  # neither a detector nor a batch: the driver knows no other outputs
    copy_driver(folder)
    for file in ("program.bin", "layout.json", *([HOST] if batch else [])):
        shutil.copyfile(ctx.folder("rtl") / file, folder / file)
    shutil.copyfile(resources.path("hdl") / "shell" / "registers.toml", folder / "registers.toml")
    if batch:
        np.save(folder / "images.npy", frames["images"])
        outputs: Mapping[str, Any] = {  # none of the names is a parameter of savez
            key.removeprefix("output."): array for key, array in frames.items()
            if key.startswith("output.")
        }  # fmt: skip
        np.savez(folder / "expected.npz", **outputs)
    else:
        photograph = np.ascontiguousarray(frames["images"][0].transpose(1, 2, 0))
        expected = {
            "columns": ["logit", "class", "y", "x", "w", "h", "reg_x", "reg_y"],
            "candidates": frames["candidates0"].tolist(), "boxes": frames["boxes0"].tolist(),
            "scores": frames["scores0"].tolist(), "labels": frames["labels0"].tolist(),
        }
        np.save(folder / "photograph.npy", photograph)
        Image.fromarray(photograph).save(folder / "photograph.png")
        (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    cycles = read_json(ctx.folder("sim") / "result.json")["cycles"]["main"][0]
    if ran:
        for file in (f"{name}.bit", f"{name}.hwh"):
            shutil.copyfile(ctx.work / file, folder / file)
    holes = {"name": name, "board": board, "bitstream": bitstream_state(ran), "cycles": cycles,
             "register_base": f"0x{vivado.REGISTER_BASE:08X}", "count": len(frames["images"])}
    kind = "deploy_batch" if batch else "deploy"
    (folder / "run.py").write_text(render(f"{kind}_run.py.j2", name=name))
    (folder / "README.md").write_text(render(f"{kind}_readme.md.j2", **holes))
    return ", deploy folder"
