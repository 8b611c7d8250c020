# SPDX-License-Identifier: Apache-2.0
"""Reports that others' builds leave, read into a run that can be compared with ours.

A number that a file does not hold, or holds in a form not understood, is null with a reason.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hwflow
from hwflow.boards import Board
from hwflow.errors import ConfigError, ToolError
from hwflow.report import schema
from hwflow.report.readers import csynth, nextpnr, vivado, yosys
from hwflow.report.readers.part import Part, parse_object, printable

READABLE = (
    "the text of report_utilization, report_timing_summary and report_power of Vivado, csynth.xml "
    "of Vitis HLS, the JSON of nextpnr --report, the JSON of `stat -json` of Yosys"
)
MOST_BYTES = 16 << 20
# Later in the flow is nearer to the chip.
STEPS: tuple[schema.Kind | None, ...] = (
    None, "HLS estimate", "post-synthesis estimate", "pre-route estimate", "post-route",
    "measured in simulation",
)
SECTIONS = ("resources", "timing", "performance", "power")


def read_file(path: Path, clock: str | None = None, family: str | None = None) -> Part:
    """What one file says; ToolError, naming it, if it is none of the known reports."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ToolError(f"{path}: has more than {MOST_BYTES >> 20} MiB; no report has")
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return read_text(text, clock, family)
    except ToolError as error:
        raise ToolError(f"{path}: {error}") from error


def read_text(text: str, clock: str | None = None, family: str | None = None) -> Part:
    """What the text of one report says; ToolError if it is none of the known ones.

    clock: whose Fmax, when there are several. family: of the chip, where the file does not say.
    """
    start = text.lstrip()[:1]
    if start == "{":
        body = parse_object(text, "a report")
        if nextpnr.matches(body):
            return nextpnr.read(text, clock)
        if yosys.matches(body):
            return yosys.read(text, family)
    elif csynth.matches(text):
        return csynth.read(text)
    elif vivado.matches(text):
        return vivado.read(text, clock)
    raise ToolError(f"is no report hwflow reads; it reads {READABLE}")


def read(
    paths: Sequence[Path], board: Board | None = None, clock: str | None = None
) -> tuple[schema.Report, list[str]]:
    """One run out of the report files of one build, and sentences on what was left out.

    Where two files hold the same section, the one later in the flow counts; two of one step are a
    ConfigError, so are files about different chips. `board` gives what the chip has where a file
    does not say. `clock`: whose Fmax, when there are several.
    """
    family = board.family if board else None
    parts = [(path, read_file(path, clock, family)) for path in paths]
    if not parts:
        raise ConfigError("no report files are given")
    _same_chip(parts, board)
    chosen: dict[str, Any] = {}
    notes: list[str] = []
    for section in SECTIONS:
        found = [(path, value) for path, part in parts
                 if (value := getattr(part, section)) is not None]
        found.sort(key=lambda one: STEPS.index(one[1].kind))
        if len(found) > 1 and found[-1][1].kind == found[-2][1].kind:
            raise ConfigError(
                f"{found[-2][0]} and {found[-1][0]} both give {section} ({found[-1][1].kind}); "
                "read the reports of one design, and make a run of each"
            )
        if found:
            chosen[section] = found[-1][1]
        for path, value in found[:-1]:
            notes.append(f"{path}: its {section} ({value.kind}) are left out, {found[-1][0]} is "
                         f"{found[-1][1].kind}")
    if board is not None and "resources" in chosen:
        chosen["resources"] = _on_board(chosen["resources"], board)
    return _report(parts, chosen, board), notes


def _report(
    parts: Sequence[tuple[Path, Part]], chosen: Mapping[str, Any], board: Board | None
) -> schema.Report:
    files = ", ".join(path.name for path, _ in parts)
    names = [name for _, part in parts if (name := printable(part.design))]
    chips = [name for _, part in parts if (name := printable(part.device))]
    absent = f"no such number in {files}"
    sections = {name: chosen.get(name) for name in SECTIONS}
    return schema.Report(
        schema_=1, model=names[0] if names else parts[0][0].stem, config=None,
        board=board.name if board else chips[0] if chips else "unknown",
        data=schema.Data(spec="none", source=None, sha256=None, bytes=None, classes=None,
                         reason=f"no data named in {files}"),
        hwflow_version=hwflow.__version__, git=None, stages=[], layers=[],
        accuracy=schema.Accuracy(reason=absent),
        verify=schema.Verify(
            qonnx=schema.ImagesChecked(reason=absent), hls=schema.ImagesChecked(reason=absent),
            rtl=schema.FramesChecked(reason=absent),
        ),
        resources=sections["resources"] or schema.Resources(reason=absent),
        timing=sections["timing"] or schema.Timing(reason=absent),
        performance=sections["performance"] or schema.Performance(reason=absent),
        power=sections["power"] or schema.Power(reason=absent),
        bitstream=schema.Bitstream(status="skipped", reason=f"no bitstream named in {files}"),
    )


def _on_board(found: schema.Resources, board: Board) -> schema.Resources:
    """With what the board's chip has, where the file does not say."""
    changed: dict[str, Any] = {}
    for name in ("lut", "ff", "bram36", "dsp"):
        one = getattr(found, name)
        if one is not None and one.available is None:
            available = getattr(board.resources, name)
            changed[name] = schema.Used(used=one.used, available=available)
    return found.model_copy(update=changed)


def _same_chip(parts: Sequence[tuple[Path, Part]], board: Board | None) -> None:
    chips = [(path.name, part.device) for path, part in parts if part.device]
    if board is not None:
        chips.append((f"board {board.name}", board.part))
    for (first, one), (second, two) in itertools.pairwise(chips):
        # "7z020-clg400" of a timing report is the "xc7z020clg400-1" of the others.
        a, b = (re.sub("[^a-z0-9]", "", name.lower()).removeprefix("xc") for name in (one, two))
        if not (a.startswith(b) or b.startswith(a)):
            raise ConfigError(
                f"{first} is about the chip {one}, {second} about {two}; give the reports of one "
                "build"
            )
