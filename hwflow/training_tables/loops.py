# SPDX-License-Identifier: Apache-2.0
"""What the inner loops of six-input tables share: the compiler, arguments, a step of Adam.

The C++ (templates/*.cpp, with templates/common.h) is built where it runs; without a compiler the
loops are numpy's.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

LOG = logging.getLogger(__name__)

CELLS = 64
PINS = 6
BLOCK = 64  # samples come in multiples of this
TEMPLATES = Path(__file__).parent / "templates"
COMPILERS = ("c++", "g++", "clang++")
# The parts of -ffast-math without its name: with it the linker adds code that changes how the whole
# process, numpy and torch with it, computes numbers next to 0.
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros",
         "-fassociative-math", "-freciprocal-math", "-ffinite-math-only", "-fcx-limited-range",
         "-fno-rounding-math", "-shared", "-fPIC")  # fmt: skip
COMPILE_TIMEOUT_S = 120
Betas = tuple[float, float]


def adam(
    values: np.ndarray, m: np.ndarray, v: np.ndarray, tables: np.ndarray, g: np.ndarray,
    rate: float, done: int, betas: Betas, tiny: float = 1e-8,
) -> None:  # fmt: skip
    """One step on contents in -1..1 with the gradient g, all float32 of one shape; tables are their
    signs. done: steps before; tiny: what a size of 0 counts."""
    b1, b2 = betas
    m *= b1
    m += (1 - b1) * g
    v *= b2
    v += (1 - b2) * g * g
    size = np.sqrt(v / (1 - b2 ** (done + 1))) + np.float32(tiny)
    values -= np.float32(rate) * (m / (1 - b1 ** (done + 1))) / size
    np.clip(values, -1, 1, out=values)
    tables[:] = values > 0


def addresses(x: np.ndarray, wires: np.ndarray) -> np.ndarray:
    """Bits (P, n), wires (N, 6) -> the address of each table, int64 (N, n)."""
    at: np.ndarray = x[wires[:, 0]].astype(np.int64)
    for place in range(1, PINS):
        at |= x[wires[:, place]].astype(np.int64) << place
    return at


def argument(
    value: np.ndarray | int | float | None,
) -> ctypes.c_void_p | ctypes.c_long | ctypes.c_float:
    """A value as the loops take it: arrays and None (no array) as addresses, long, float."""
    if value is None:
        return ctypes.c_void_p(0)
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise ValueError("an array of a kernel has gaps")
        return ctypes.c_void_p(value.ctypes.data)
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_long(int(value))


def library(
    source: Path, cache: Path, compilers: Sequence[str] = COMPILERS
) -> ctypes.CDLL | None:
    """A C++ file as a library, built into the cache folder at first and again when it or a header
    beside it changes; None without a compiler."""
    found = next((path for path in map(shutil.which, compilers) if path), None)
    if found is None:
        LOG.info("no C++ compiler: tables are trained by numpy, some ten times slower")
        return None
    identity = hashlib.sha256(" ".join((found, *FLAGS, _processor())).encode())
    for part in (source, *sorted(source.parent.glob("*.h"))):
        identity.update(part.read_bytes())
    target = cache / f"{source.stem}-{identity.hexdigest()[:16]}.so"
    if not target.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=f".{source.stem}-") as folder:
            made = Path(folder) / target.name
            if not _compile(found, source, made):
                return None
            made.replace(target)
    try:
        return ctypes.CDLL(str(target))
    except OSError as error:
        LOG.warning("%s cannot be loaded (%s): tables are trained by numpy", target, error)
        return None


def _compile(compiler: str, source: Path, target: Path) -> bool:
    command = [compiler, *FLAGS, "-march=native", str(source), "-o", str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              timeout=COMPILE_TIMEOUT_S)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        LOG.warning("%s failed (%s): tables are trained by numpy", compiler, error)
        return False
    if done.returncode or not target.is_file():
        tail = " / ".join(done.stderr.strip().splitlines()[-2:])
        LOG.warning("%s failed (%s): tables are trained by numpy", compiler, tail)
        return False
    return True


def _processor() -> str:
    """What the compiled file depends on beside its source: the processor."""
    info = Path("/proc/cpuinfo")
    flags = ""
    if info.is_file():
        lines = info.read_text(errors="replace").splitlines()
        flags = next((line for line in lines if line.startswith("flags")), "")
    return f"{platform.machine()} {platform.processor()} {flags}"
