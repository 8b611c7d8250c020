# SPDX-License-Identifier: Apache-2.0
"""A baseline: the numbers of a run that are the same every time, in a file one can commit.

No times, no paths, no commit: the file changes only when a number does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hwflow.errors import ConfigError
from hwflow.plan import write_atomic
from hwflow.report.schema import Bitstream, Report

ABSENT = "not measured when the baseline was made"


def of(report: Report) -> Report:
    """The report without what changes from one build to the next; ConfigError if it failed."""
    failed = [stage.name for stage in report.stages if stage.status == "failed"]
    wrong = [name for name in ("qonnx", "hls", "rtl")
             if getattr(report.verify, name).mismatches]
    if failed or wrong:
        what = f"stage {failed[0]} failed" if failed else f"{wrong[0]} has mismatches"
        raise ConfigError(f"no baseline is made of a build in which {what}; repair it first")
    data = report.data.model_copy(update={
        "spec": report.data.spec.partition(":")[0], "source": None, "reason": ABSENT,
    })
    changed: dict[str, Any] = {
        "model": Path(report.model).name, "git": None, "stages": [], "data": data,
        "bitstream": Bitstream(status="skipped", reason="a baseline holds numbers only"),
    }
    for name in ("accuracy", "performance", "resources", "timing", "power"):
        section = getattr(report, name)
        if section.reason:
            changed[name] = section.model_copy(update={"reason": ABSENT})
    if report.accuracy.dataset:
        changed["accuracy"] = changed.get("accuracy", report.accuracy).model_copy(
            update={"dataset": without_path(report.accuracy.dataset)}
        )
    changed["verify"] = report.verify.model_copy(update={
        name: one.model_copy(update={"reason": ABSENT})
        for name in ("qonnx", "hls", "rtl") if (one := getattr(report.verify, name)).reason
    })
    return report.model_copy(update=changed)


def without_path(dataset: str) -> str:
    """The name of a data set: "voc test split" of "voc:some/folder test split"."""
    name, _, rest = dataset.partition(":")
    return f"{name} test split" if rest.endswith(" test split") else name


def write(report: Report, path: Path) -> None:
    """Write the baseline of a run; ConfigError where another kind of file is in the place."""
    if path.exists() and not is_one(path):
        raise ConfigError(
            f"{path}: is no baseline and is not overwritten; name a new file, as "
            "baselines/NAME.json"
        )
    body = {"baseline": 1, "report": of(report).model_dump(mode="json", by_alias=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(body, indent=1) + "\n").encode())


def is_one(path: Path) -> bool:
    """True of a file that says that it is a baseline."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(body, dict) and "baseline" in body


def read(path: Path) -> Report:
    """The numbers of a baseline; ConfigError names the file and what is wrong in it."""
    body = json.loads(path.read_text(encoding="utf-8"))
    if body.get("baseline") != 1 or set(body) != {"baseline", "report"}:
        raise ConfigError(f"{path}: is not a baseline of version 1; make it again with "
                          "`hwflow compare ... --update-baseline`")
    try:
        return Report.model_validate_json(json.dumps(body["report"]))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]
        )
        raise ConfigError(f"{path}: is not a baseline: {problems}") from error
