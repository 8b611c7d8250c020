# SPDX-License-Identifier: Apache-2.0
"""Run a training script in the interpreter of the peers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwflow.errors import ToolError
from hwflow.peers.design import EXTRA, NotInstalled
from hwflow.plan import Command, Plan, execute

HERE = Path(__file__).parent
SETTINGS = "settings.json"


def versions(python: Path, packages: Sequence[str], folder: Path) -> dict[str, str]:
    """Versions of the packages in an interpreter; NotInstalled names those that are missing."""
    plan = Plan(
        {"probe.py": (HERE / "probe.py").read_bytes()},
        (_command(python, ("probe.py", *packages), "probe.log", {}, 120.0, ""),),
        ("versions.json",), "probe",
    )
    # What is installed may have changed since: nothing of an earlier probe is trusted.
    (folder / "versions.json").unlink(missing_ok=True)
    execute(plan, folder)
    found: dict[str, str | None] = json.loads((folder / "versions.json").read_text())
    missing = [name for name in packages if not found.get(name)]
    if missing:
        raise NotInstalled(
            f"{', '.join(missing)} not installed: {EXTRA}, or give the interpreter of an "
            "environment that has it with --peers-python"
        )
    return {name: str(found[name]) for name in packages}


def fit(
    script: str, python: Path, packages: Sequence[str], settings: Mapping[str, Any],
    products: Sequence[str], folder: Path, timeout_s: float = 4 * 3600.0,
    env: Mapping[str, str] | None = None,
) -> dict[str, str]:  # fmt: skip
    """Run a script of this folder with its settings, unless its results are there already.

    settings: plain numbers and words, and `data`, a file. The results are kept as long as script,
    settings and the versions of the packages stay the same. Returns these versions.
    """
    have = versions(python, packages, folder / "probe")
    plan = Plan(
        {script: (HERE / script).read_bytes(), SETTINGS: json.dumps(dict(settings), indent=1)},
        (_command(python, (script, SETTINGS), f"{Path(script).stem}.log", env or {}, timeout_s,
                  ", ".join(f"{name} {number}" for name, number in have.items())),),
        tuple(products), "fit",
    )
    execute(plan, folder)
    return have


def _command(
    python: Path, words: tuple[str, ...], log: str, env: Mapping[str, str], timeout_s: float,
    version: str,
) -> Command:
    if not python.is_file():
        raise ToolError(f"{python}: there is no such interpreter; give one with --peers-python")
    # The interpreter by its folder, which is no part of a plan's digest.
    return Command((python.name, *words), log, env, timeout_s, (str(python.parent),), version)
