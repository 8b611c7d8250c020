# SPDX-License-Identifier: Apache-2.0
"""What decides the result of a stage, as names and short values: options, code, tools, files."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import hwflow
from hwflow import resources
from hwflow.errors import ConfigError, ToolError
from hwflow.plan import sha256

if TYPE_CHECKING:
    from hwflow.build import Record, Stage


def key_parts(
    stage: Stage, options: object, out: Path, records: Mapping[str, Record]
) -> dict[str, str]:
    """Everything the stage's result depends on, as readable names and short values."""
    parts = {f"option {name}": repr(getattr(options, name)) for name in stage.options}
    for name in stage.needs:
        parts[f"stage {name}"] = "made" if made(records.get(name)) else "not made"
        if made(records.get(name)):
            files = json.loads((out / ".stamps" / f"{name}.json").read_text())["files"]
            parts |= {f"input {name}/{file}": digest for file, digest in files.items()}
    root = Path(hwflow.__file__).parent
    own = _module_files(root, stage.run.__module__)  # the stage itself, without all it may call
    for path in sorted({*source_files(stage.modules), *own}):
        relative = path.relative_to(root)
        parts[f"code hwflow/{relative.as_posix()}"] = sha256(path)
    for folder in stage.folders:
        top, _, rest = folder.partition("/")
        base = resources.path(top) / rest
        for path in [base] if base.is_file() else sorted(base.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                relative = path.relative_to(resources.path(top))
                parts[f"code {top}/{relative.as_posix()}"] = sha256(path)
    for tool in stage.tools:
        parts[f"tool {tool}"] = tool_version(tool)
    for program in stage.programs:
        found = shutil.which(program)
        state = Path(found).stat() if found else None
        parts[f"program {program}"] = (
            f"{found} {state.st_size} {state.st_mtime_ns}" if state else "not found"
        )
    for path in stage.files(options):
        if not path.is_file():
            raise ConfigError(f"the file {path} does not exist; check the path")
        parts[f"file {path}"] = sha256(path)
    return parts | dict(stage.state(options))


def made(record: Record | None) -> bool:
    """True if a stage left its files in this build."""
    return record is not None and record.status in ("done", "cached")


def pins() -> dict[str, str]:
    """Exact versions hwflow was made for, by distribution; empty if it is not installed."""
    try:
        lines = importlib.metadata.requires("hwflow") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    return dict(line.split("==") for line in lines if "==" in line and ";" not in line)


def tool_version(tool: str) -> str:
    """Version of an installed distribution; ToolError if it is missing or not the pinned one."""
    wanted = pins().get(tool)
    try:
        found = importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError as error:
        raise ToolError(
            f"the package {tool} is not installed; run `make setup` (or pip install hwflow again)"
        ) from error
    if wanted is not None and found.split("+")[0] != wanted:
        raise ToolError(
            f"{tool} {found} is installed, hwflow works with {wanted}; run `make setup` "
            f"(or pip install {tool}=={wanted})"
        )
    return found


def manifest(folder: Path) -> dict[str, str]:
    """sha256 of each file of a stage; logs and hidden files do not count."""
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".log" and not path.name.startswith(".")
    }


def source_files(modules: Iterable[str]) -> set[Path]:
    """Source files (and templates) of the modules and all hwflow modules they import, at any depth.
    """
    root = Path(hwflow.__file__).parent
    files: set[Path] = set()
    open_files = [path for name in modules for path in _module_files(root, name)]
    while open_files:
        path = open_files.pop()
        if path in files:
            continue
        files.add(path)
        for name in _imports(root, path):
            open_files += _module_files(root, name)
    # Templates are code of the package they lie in.
    folders = {path.parent / "templates" for path in files}
    return files | {path for folder in folders for path in folder.glob("*") if path.is_file()}


def _module_files(root: Path, name: str) -> list[Path]:
    parts = name.split(".")
    if parts[0] != "hwflow" or len(parts) == 1:
        return []
    base = root.joinpath(*parts[1:])
    if base.with_suffix(".py").is_file():
        return [base.with_suffix(".py")]
    if (base / "__init__.py").is_file():
        return [base / "__init__.py"]
    return []


def _imports(root: Path, path: Path) -> set[str]:
    package = ("hwflow", *path.relative_to(root).parent.parts)
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            names.add(module)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("hwflow")}
