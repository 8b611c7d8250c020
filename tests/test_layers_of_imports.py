# SPDX-License-Identifier: Apache-2.0
"""Imports go downwards only, and the hardware half never imports torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hwflow

ROOT = Path(hwflow.__file__).parent

# Lowest first; a module may import from its own layer and those below. The ops lie below the
# graph because a graph proves its types with them when it is built.
LAYERS = (
    ("errors", "resources", "driver", "arrays", "pictures", "energy"),
    ("ops", "boards", "decode", "plan", "kept", "fingerprint", "build"),
    ("ir",),
    ("interp",),
    ("verify", "ingest"),
    ("passes", "emit"),
    ("toolchain", "sim", "report"),
    ("stages", "inspect", "doctor", "interactive", "estimate", "bench", "bench_tables", "peers",
     "cli_options", "cli_bench", "cli_report", "cli_run", "cli_tables", "cli_train", "cli",
     "__main__"),
)
TORCH_HALF = (
    "models",
    "data",
    "train",
    "train_tables",
    "training_tables",
    "export",
    "export_tables",
    "loss",
    "metrics",
    "checkpoints",
    "deep_supervision",
)
TORCH = ("torch", "torchvision", "brevitas", "safetensors", "onnxscript")


def parts() -> dict[str, list[Path]]:
    """The files of each module or package directly below hwflow."""
    found: dict[str, list[Path]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, []).append(path)
    return found


def imported(path: Path) -> set[str]:
    """Full names of everything a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(("hwflow", *path.relative_to(ROOT).parts)[: -node.level])
            module = ".".join(filter(None, (base if node.level else "", node.module)))
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def own(names: set[str]) -> set[str]:
    """The parts of hwflow among imported names."""
    split = (name.split(".") for name in names)
    return {p[1] for p in split if p[0] == "hwflow" and len(p) > 1 and p[1] != "__version__"}


def test_every_part_has_a_layer() -> None:
    known = {name for layer in LAYERS for name in layer} | set(TORCH_HALF)
    assert set(parts()) <= known, "give new modules a place in LAYERS or TORCH_HALF"


@pytest.mark.parametrize("part", sorted(parts()))
def test_imports_go_downwards(part: str) -> None:
    if part in TORCH_HALF:
        # a network of tables is sized by what its emitter says that it costs
        lower = {*LAYERS[0], "decode", "emit", *TORCH_HALF}
    else:
        level = next(i for i, layer in enumerate(LAYERS) if part in layer)
        lower = {name for layer in LAYERS[: level + 1] for name in layer}
        if level == len(LAYERS) - 1:
            lower |= set(TORCH_HALF)
    for path in parts()[part]:
        upward = own(imported(path)) - lower
        assert not upward, f"{path.relative_to(ROOT)} imports {sorted(upward)} from above"


@pytest.mark.parametrize("part", sorted(set(parts()) - set(TORCH_HALF) - set(LAYERS[-1])))
def test_the_hardware_half_names_no_torch(part: str) -> None:
    for path in parts()[part]:
        found = {name.split(".")[0] for name in imported(path)} & set(TORCH)
        assert not found, f"{path.relative_to(ROOT)} imports {sorted(found)}"


def test_lowering_loads_no_torch() -> None:
    code = "import sys, hwflow.passes, hwflow.ingest; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
