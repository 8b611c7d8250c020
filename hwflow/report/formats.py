# SPDX-License-Identifier: Apache-2.0
"""A comparison as Markdown for a pull request and as one static HTML file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hwflow.report import page, photographs
from hwflow.report.compare import GROUPS, LETTERS, Comparison, Row, shown, shown_change


def markdown(table: Comparison, breaches: Sequence[str], limits: int) -> str:
    """GitHub and GitLab Markdown: limits first, the numbers, layers and stages folded up."""
    marks, lines = table.marked()
    parts = []
    if breaches:
        parts.append(f"**{len(breaches)} of the limits broken**\n")
        parts.append("\n".join(f"- {_escape(line)}" for line in breaches) + "\n")
    elif limits:
        parts.append(f"All limits hold ({limits}).\n")
    parts.append("\n".join(
        f"- **{letter}**: {_escape(run.title)} ({_escape(run.source)})"
        for letter, run in zip(LETTERS, table.runs, strict=False)
    ) + "\n")
    for group in GROUPS:
        rows = table.visible(group)
        if not rows:
            continue
        grid = "\n".join(_line(cells) for cells in _grid(table, rows, marks)) + "\n"
        if group == "numbers":
            parts.append(grid)
        else:
            title = {"layers": "Cycles of each layer", "stages": "Time of each stage"}[group]
            parts.append(f"<details><summary>{title}</summary>\n\n{grid}\n</details>\n")
    notes = [f"- [{n}] {_escape(line)}" for n, line in enumerate(lines, 1)]
    notes += [f"- {_escape(line)}" for line in table.remarks()]
    if notes:
        parts.append("\n".join(notes) + "\n")
    return "\n".join(parts)


def _grid(
    table: Comparison, rows: Iterable[Row], marks: dict[tuple[str, int], int]
) -> Iterable[list[str]]:
    head = ["number"]
    for letter in LETTERS[: len(table.runs)]:
        head += [letter] if letter == "A" else [letter, f"{letter} - A"]
    yield head
    yield ["---", *["---:"] * (len(head) - 1)]
    for row in rows:
        cells = [_escape(row.title)]
        for place, number in enumerate(row.numbers):
            mark = marks.get((row.name, place))
            cells.append(shown(number.value) + (f" \\[{mark}\\]" if mark else ""))
            if place:
                change = row.changes[place - 1]
                text = _escape(shown_change(change))
                cells.append(f"**{text}**" if change and change.better is False else text)
        yield cells


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """Text that means itself in Markdown, on one line."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split())).replace("@", "@&#8203;")


def html(table: Comparison, breaches: Sequence[str], limits: int) -> str:
    """The page of these runs, with what changed: one file, nothing from outside."""
    names = [Path(run.source).resolve().name for run in table.runs]
    if len(set(names)) < len(names):
        names = [run.source for run in table.runs]
    runs = [
        page.Run(name, run.report, {"frames": photographs.read(Path(run.source))})
        for name, run in zip(names, table.runs, strict=True)
    ]
    return page.compare(runs, breaches, limits)
