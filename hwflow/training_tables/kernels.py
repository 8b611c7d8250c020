# SPDX-License-Identifier: Apache-2.0
"""Inner loops of the training of six-input tables: C++ where there is a compiler, else numpy.

A column is a bit of many samples, uint8 0 or 1; a table is 64 of them. Both versions compute the
same up to the rounding of float32 sums, so that a run repeats bit by bit on one machine, not across
machines. Drawn augmentations are the same in both but for that rounding.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import math
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LOG = logging.getLogger(__name__)

CELLS = 64
PINS = 6
WORD = 16
COMPILERS = ("c++", "g++", "clang++")
# The parts of -ffast-math without its name: with it the linker adds code that changes how the whole
# process, numpy and torch with it, computes numbers next to 0.
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros",
         "-fassociative-math", "-freciprocal-math", "-ffinite-math-only", "-fcx-limited-range",
         "-fno-rounding-math", "-shared", "-fPIC")  # fmt: skip
COMPILE_TIMEOUT_S = 120
SOURCE = Path(__file__).parent / "templates" / "kernels.cpp"
Adam = tuple[float, float]


@dataclass(frozen=True)
class Warp:
    """Random copies of images: shift in pixels, turn in radians, scale and shear as fractions.

    elastic: largest displacement, in pixels, of the knots of a 5 x 5 grid. share: of the copies
    that are changed at all.
    """

    shift: float = 1.5
    turn: float = 0.14
    scale: float = 0.08
    shear: float = 0.08
    elastic: float = 0.0
    share: float = 1.0


@dataclass
class Stack:
    """One or two layers of six-input tables in training; leaves may be none (roots read the input).

    wires int32 (N, 6); values float32 (N, 64) in -1..1, of which tables uint8 are the signs; m and
    v: Adam's moments.
    """

    leaf_wires: np.ndarray
    leaf_values: np.ndarray
    leaf_tables: np.ndarray
    leaf_m: np.ndarray
    leaf_v: np.ndarray
    root_wires: np.ndarray
    root_values: np.ndarray
    root_tables: np.ndarray
    root_m: np.ndarray
    root_v: np.ndarray


class NumpyKernels:
    """The loops in numpy: for machines without a compiler, and what the compiled are held to."""

    name = "numpy"

    def address(self, x: np.ndarray, wires: np.ndarray) -> np.ndarray:
        """Columns (P, n), wires (6,) -> addresses uint8 (n,)."""
        out: np.ndarray = x[wires[0]].copy()
        for place in range(1, PINS):
            out |= x[wires[place]] << np.uint8(place)
        return out

    def lookup(self, table: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The table's content at each address."""
        return np.ascontiguousarray(table[at])

    def layer(self, x: np.ndarray, wires: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """Columns (P, n) -> columns (N, n)."""
        out = np.empty((len(wires), x.shape[1]), np.uint8)
        for place, (wire, table) in enumerate(zip(wires, tables, strict=True)):
            out[place] = self.lookup(table, self.address(x, wire))
        return out

    def cell_sums(self, at: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Sums of g by address, float64 (64,)."""
        sums: np.ndarray = np.bincount(at, weights=g, minlength=CELLS)
        return sums

    def pack(self, x: np.ndarray) -> np.ndarray:
        """Columns (P, n) -> bits of each sample, 16 in a word: uint16 (n, words)."""
        rows = np.zeros((x.shape[1], words_of(len(x)) * WORD), np.uint8)
        rows[:, : len(x)] = x.T
        packed: np.ndarray = np.packbits(rows, axis=1, bitorder="little").view("<u2")
        return packed

    def put(self, rows: np.ndarray, bit: int, column: np.ndarray) -> None:
        """Replace a bit of each sample."""
        word, place = divmod(bit, WORD)
        kept = rows[:, word] & np.uint16(0xFFFF ^ (1 << place))
        rows[:, word] = kept | (column.astype(np.uint16) << np.uint16(place))

    def cell_bits(
        self, at: np.ndarray, g: np.ndarray, low: int, high: int, rows: np.ndarray
    ) -> np.ndarray:
        """Sums of g over samples low..high by address and set bit: float32 (64, words * 16)."""
        order = low + np.argsort(at[low:high], kind="stable")
        bits = np.unpackbits(rows[order].view(np.uint8), axis=1, bitorder="little")
        weighted = bits.astype(np.float32) * g[order, None]
        out = np.zeros((CELLS, bits.shape[1]), np.float32)
        cells, first = np.unique(at[order], return_index=True)
        out[cells] = np.add.reduceat(weighted, first, axis=0)
        return out

    def pin_gains(self, cells: np.ndarray, sums: np.ndarray) -> np.ndarray:
        """Sum over the cells of |sum of g| for each pin and each bit it may be wired to.

        cells (64, P) of cell_bits, sums (64,) over the same samples -> float32 (6, P).
        """
        out = np.zeros((PINS, cells.shape[1]), np.float32)
        for pin in range(PINS):
            zero = np.array([k for k in range(CELLS) if not k >> pin & 1])
            one = cells[zero] + cells[zero | 1 << pin]
            both = (sums[zero] + sums[zero | 1 << pin]).astype(np.float32)
            out[pin] = (np.abs(one) + np.abs(both[:, None] - one)).sum(axis=0)
        return out

    def root_gain(
        self, e: np.ndarray, z: np.ndarray, q: np.ndarray, y: np.ndarray, scale: float
    ) -> np.ndarray:
        """Cross-entropy with the root's output 0 less that with 1, float32 (n,).

        e: exp(scale * score) of its class; z: its sum over classes; q: target; y: output now.
        """
        e0 = np.where(y, e * np.float32(math.exp(-scale)), e)
        z0 = z - e + e0
        rise = np.log1p(e0 * np.float32(math.expm1(scale)) / z0)
        gain: np.ndarray = (q * np.float32(scale) - rise).astype(np.float32)
        return gain

    def root_change(
        self, e: np.ndarray, z: np.ndarray, old: np.ndarray, made: np.ndarray, scale: float
    ) -> None:
        """Take a root's new output into e and z."""
        step = made.astype(np.int8) - old.astype(np.int8)
        change = e * np.expm1(step * np.float32(scale))
        e += change
        z += change

    def leaf_gain(
        self, readers: np.ndarray, pins: np.ndarray, classes: np.ndarray, at: np.ndarray,
        tables: np.ndarray, e: np.ndarray, z: np.ndarray, q: np.ndarray, y: np.ndarray,
        scale: float,
    ) -> np.ndarray:  # fmt: skip
        """The same of a leaf. readers: roots, ascending; pins: 1 << pin; classes of the readers.

        at (R, n), tables (R, 64), e and q (C, n).
        """
        change, wanted = np.zeros_like(z), np.zeros_like(z)
        for c in np.unique(classes):
            step = np.zeros(len(z), np.int16)
            for reader, pin in zip(readers[classes == c], pins[classes == c], strict=True):
                table = tables[reader].astype(np.int8)
                step += (table[np.arange(CELLS) ^ pin] - table)[at[reader]]
            change += e[c] * np.expm1(step * np.float32(scale))
            wanted += q[c] * step
        rise = np.log1p(change / z) - wanted * np.float32(scale)
        gain: np.ndarray = np.where(y, rise, -rise).astype(np.float32)
        return gain

    def epoch(
        self, x: np.ndarray, stack: Stack, q: np.ndarray, scale: float, batch: int,
        rates: tuple[float, float], done: int, betas: Adam,
    ) -> float:  # fmt: skip
        """One pass of minibatches, straight through the hard tables; the mean loss.

        x (P, n), q (C, n); the rate goes linearly from rates[0] to rates[1]; done: steps before.
        """
        s = stack
        classes, leaves, roots = len(q), len(s.leaf_wires), len(s.root_wires)
        steps, each = x.shape[1] // batch, roots // classes
        owner = np.arange(roots) // each
        leaf_row, root_row = (np.arange(k)[:, None] * CELLS for k in (leaves, roots))
        total = 0.0
        for step in range(steps):
            part = slice(step * batch, (step + 1) * batch)
            rate = rates[0] + (rates[1] - rates[0]) * step / steps
            read = x[:, part]
            if leaves:
                leaf_at = leaf_row + _addresses(read, s.leaf_wires)
                read = s.leaf_tables.reshape(-1)[leaf_at]
            root_at = _addresses(read, s.root_wires)
            out = s.root_tables.reshape(-1)[root_row + root_at]
            score = out.reshape(classes, each, batch).sum(axis=1, dtype=np.float32)
            shifted = (score - score.max(axis=0)) * np.float32(scale)
            g = np.exp(shifted)
            z = g.sum(axis=0)
            total -= float((q[:, part] * (shifted - np.log(z))).sum())
            g = (g / z - q[:, part])[owner]
            sums = _sums(root_row + root_at, g, roots)
            if leaves:
                to_leaf = np.zeros((leaves, batch), np.float32)
                for pin in range(PINS):
                    bit = 1 << pin
                    ones = s.root_tables.reshape(-1)[root_row + (root_at | bit)].astype(np.int8)
                    zeros = s.root_tables.reshape(-1)[root_row + (root_at & ~bit)]
                    np.add.at(to_leaf, s.root_wires[:, pin], g * (ones - zeros.astype(np.int8)))
            _adam(s.root_values, s.root_m, s.root_v, s.root_tables, sums, rate, done + step, betas)
            if leaves:
                sums = _sums(leaf_at, to_leaf, leaves)
                _adam(s.leaf_values, s.leaf_m, s.leaf_v, s.leaf_tables, sums, rate, done + step,
                      betas)  # fmt: skip
        return float(total / max(1, steps * batch))

    def augment(
        self, images: np.ndarray, picked: np.ndarray, warp: Warp, seed: int
    ) -> np.ndarray:
        """Changed copies uint8 (n, C, H, W) of images[picked]; the seed decides all."""
        out = np.empty((len(picked), *images.shape[1:]), np.uint8)
        for place, which in enumerate(picked):
            out[place] = _warped(images[which], warp, seed + place * 0x51ED27F)
        return out


def _addresses(x: np.ndarray, wires: np.ndarray) -> np.ndarray:
    at = np.zeros((len(wires), x.shape[1]), np.int64)
    for place in range(PINS):
        at |= x[wires[:, place]].astype(np.int64) << place
    return at


def _sums(at: np.ndarray, g: np.ndarray, count: int) -> np.ndarray:
    sums = np.bincount(at.reshape(-1), weights=g.reshape(-1), minlength=count * CELLS)
    made: np.ndarray = sums.reshape(count, CELLS).astype(np.float32)
    return made


def _adam(
    values: np.ndarray, m: np.ndarray, v: np.ndarray, tables: np.ndarray, g: np.ndarray,
    rate: float, done: int, betas: Adam,
) -> None:  # fmt: skip
    b1, b2 = betas
    m *= b1
    m += (1 - b1) * g
    v *= b2
    v += (1 - b2) * g * g
    size = np.sqrt(v / (1 - b2 ** (done + 1))) + 1e-8
    values -= np.float32(rate) * (m / (1 - b1 ** (done + 1))) / size
    np.clip(values, -1, 1, out=values)
    tables[:] = values > 0


class _Draw:
    """splitmix64, as in kernels.cpp."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def within(self, bound: float) -> float:
        """Uniform in -bound..bound."""
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        return ((z >> 40) / 8388608.0 - 1.0) * bound


def _warped(image: np.ndarray, warp: Warp, seed: int) -> np.ndarray:
    """One copy of an image (C, H, W)."""
    draw = _Draw(seed)
    if draw.within(0.5) + 0.5 >= warp.share:
        return image
    height, width = image.shape[1:]
    turn, sx, sy = draw.within(warp.turn), 1 + draw.within(warp.scale), 1 + draw.within(warp.scale)
    skew, dx, dy = draw.within(warp.shear), draw.within(warp.shift), draw.within(warp.shift)
    knots = np.array([[draw.within(warp.elastic) for _ in range(2)] for _ in range(25)])
    mx, my = (width - 1) / 2, (height - 1) / 2
    y, x = np.mgrid[:height, :width]
    px = math.cos(turn) * sx * (x - mx) + (skew - math.sin(turn) * sx) * (y - my) + mx + dx
    py = math.sin(turn) * sy * (x - mx) + math.cos(turn) * sy * (y - my) + my + dy
    gx, gy = x * 4 / width, y * 4 / height
    at = gy.astype(int) * 5 + gx.astype(int)
    fx, fy = gx % 1, gy % 1
    for axis, to in enumerate((px, py)):
        knot = knots[:, axis]
        upper = knot[at] * (1 - fx) + knot[at + 1] * fx
        to += upper * (1 - fy) + (knot[at + 5] * (1 - fx) + knot[at + 6] * fx) * fy
    px, py = np.clip(px, -1, width) + 2, np.clip(py, -1, height) + 2
    framed = np.pad(image, ((0, 0), (2, 2), (2, 2))).astype(np.float64)
    ix, iy = px.astype(int), py.astype(int)
    fx, fy = px - ix, py - iy
    upper = framed[:, iy, ix] * (1 - fx) + framed[:, iy, ix + 1] * fx
    lower = framed[:, iy + 1, ix] * (1 - fx) + framed[:, iy + 1, ix + 1] * fx
    made: np.ndarray = (upper * (1 - fy) + lower * fy + 0.5).astype(np.uint8)
    return made


def words_of(bits: int) -> int:
    """Words of 16 bits for so many, a multiple of four."""
    return -(-bits // (4 * WORD)) * 4


class CompiledKernels(NumpyKernels):
    """The same loops, compiled."""

    name = "compiled"

    def __init__(self, library: ctypes.CDLL) -> None:
        self.lib = library
        library.epoch.restype = ctypes.c_double

    def _call(self, name: str, *args: np.ndarray | int | float) -> float:
        given = [argument(one) for one in args]
        return float(getattr(self.lib, name)(*given) or 0)

    def address(self, x: np.ndarray, wires: np.ndarray) -> np.ndarray:
        out = np.empty(x.shape[1], np.uint8)
        self._call("address", x, x.shape[1], wires, out)
        return out

    def lookup(self, table: np.ndarray, at: np.ndarray) -> np.ndarray:
        out = np.empty(len(at), np.uint8)
        self._call("lookup", table, at, len(at), out)
        return out

    def layer(self, x: np.ndarray, wires: np.ndarray, tables: np.ndarray) -> np.ndarray:
        out = np.empty((len(wires), x.shape[1]), np.uint8)
        self._call("layer", x, x.shape[1], wires, tables, len(wires), out)
        return out

    def cell_sums(self, at: np.ndarray, g: np.ndarray) -> np.ndarray:
        out = np.empty(CELLS, np.float64)
        self._call("cell_sums", at, g, len(at), out)
        return out

    def pack(self, x: np.ndarray) -> np.ndarray:
        rows = np.empty((x.shape[1], words_of(len(x))), np.uint16)
        self._call("pack", x, x.shape[1], len(x), rows.shape[1], rows)
        return rows

    def put(self, rows: np.ndarray, bit: int, column: np.ndarray) -> None:
        self._call("put", rows, rows.shape[1], bit, column, len(column))

    def cell_bits(
        self, at: np.ndarray, g: np.ndarray, low: int, high: int, rows: np.ndarray
    ) -> np.ndarray:
        out = np.empty((CELLS, rows.shape[1] * WORD), np.float32)
        self._call("cell_bits", at, g, low, high, rows, rows.shape[1], rows.shape[1], out)
        return out

    def pin_gains(self, cells: np.ndarray, sums: np.ndarray) -> np.ndarray:
        out = np.empty((PINS, cells.shape[1]), np.float32)
        self._call("pin_gains", cells, sums, cells.shape[1] // WORD, out)
        return out

    def root_gain(
        self, e: np.ndarray, z: np.ndarray, q: np.ndarray, y: np.ndarray, scale: float
    ) -> np.ndarray:
        out = np.empty(len(z), np.float32)
        self._call("root_gain", e, z, q, y, len(z), scale, out)
        return out

    def root_change(
        self, e: np.ndarray, z: np.ndarray, old: np.ndarray, made: np.ndarray, scale: float
    ) -> None:
        self._call("root_change", e, z, old, made, len(z), scale)

    def leaf_gain(
        self, readers: np.ndarray, pins: np.ndarray, classes: np.ndarray, at: np.ndarray,
        tables: np.ndarray, e: np.ndarray, z: np.ndarray, q: np.ndarray, y: np.ndarray,
        scale: float,
    ) -> np.ndarray:  # fmt: skip
        out = np.empty(len(z), np.float32)
        self._call("leaf_gain", len(readers), *(_int32(a) for a in (readers, pins, classes)), at,
                   tables, e, z, q, y, len(z), scale, out)  # fmt: skip
        return out

    def epoch(
        self, x: np.ndarray, stack: Stack, q: np.ndarray, scale: float, batch: int,
        rates: tuple[float, float], done: int, betas: Adam,
    ) -> float:  # fmt: skip
        s = stack
        return self._call(
            "epoch", x, x.shape[1], len(s.leaf_wires), len(s.root_wires), len(q), s.leaf_wires,
            s.leaf_values, s.leaf_m, s.leaf_v, s.leaf_tables, s.root_wires, s.root_values, s.root_m,
            s.root_v, s.root_tables, q, scale, batch, *rates, done, *betas,
        )

    def augment(
        self, images: np.ndarray, picked: np.ndarray, warp: Warp, seed: int
    ) -> np.ndarray:
        out = np.empty((len(picked), *images.shape[1:]), np.uint8)
        moves = [float(m) for m in (warp.shift, warp.turn, warp.scale, warp.shear, warp.elastic,
                                    warp.share)]  # fmt: skip
        self._call("augment", np.ascontiguousarray(images), _int32(picked), len(picked),
                   *images.shape[1:], *moves, seed, out)  # fmt: skip
        return out


def _int32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.int32)


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


def load(cache: Path, compilers: Sequence[str] = COMPILERS) -> NumpyKernels:
    """The compiled loops, built into the cache folder at first; numpy's without a compiler."""
    found = library(SOURCE, cache, compilers)
    return NumpyKernels() if found is None else CompiledKernels(found)


def library(
    source: Path, cache: Path, compilers: Sequence[str] = COMPILERS
) -> ctypes.CDLL | None:
    """A C++ file as a library, built into the cache folder at first; None without a compiler."""
    found = next((path for path in map(shutil.which, compilers) if path), None)
    if found is None:
        LOG.info("no C++ compiler: tables are trained by numpy, some ten times slower")
        return None
    text = source.read_bytes()
    identity = hashlib.sha256(text + " ".join((found, *FLAGS, _processor())).encode())
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
