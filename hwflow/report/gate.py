# SPDX-License-Identifier: Apache-2.0
"""Limits on the numbers of a run: `lut>+2%`, `fps<-1`, `mismatches>0`.

A percent sign makes it a change relative to the reference, a sign an absolute change, neither the
value itself. A number that is null breaks every limit on it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction

from hwflow.errors import ConfigError
from hwflow.report.compare import LETTERS, Comparison, Row, shown

_LIMIT = re.compile(
    r"\s*(?P<name>[^<>=\s](?:[^<>=]*[^<>=\s])?)\s*(?P<operator><=|>=|<|>)\s*"
    r"(?P<sign>[+-]?)\s*(?P<number>\d{1,15}(?:\.\d{1,9})?)\s*(?P<percent>%?)\s*",
    re.ASCII,
)
EXAMPLES = "'lut>+2%' (relative change), 'fps<-1' (change), 'mismatches>0' (value)"


@dataclass(frozen=True)
class Limit:
    """What must not be true. how: "relative" (bound in percent), "change" or "value"."""

    text: str
    name: str
    operator: str
    bound: Fraction
    how: str

    def broken(self, value: Fraction) -> bool:
        """True if a value (percent, change or value) breaks the limit."""
        return {
            "<": value < self.bound, "<=": value <= self.bound,
            ">": value > self.bound, ">=": value >= self.bound,
        }[self.operator]


@dataclass(frozen=True)
class Verdict:
    """`breaches`: a sentence each. `refused`: limits on changes between different kinds."""

    breaches: tuple[str, ...]
    refused: tuple[str, ...]


def parse(text: str) -> Limit:
    """A limit out of its text; ConfigError with the rule and examples."""
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise ConfigError(f"--fail-if {text!r} is not NAME, one of < <= > >=, and a number; "
                          f"examples: {EXAMPLES}")
    if found["percent"] and not found["sign"]:
        raise ConfigError(
            f"--fail-if {text!r}: a percentage is a change and needs its sign, as "
            f"'{found['name']}{found['operator']}+{found['number']}%'"
        )
    bound = Fraction(found["number"]) * (-1 if found["sign"] == "-" else 1)
    how = "relative" if found["percent"] else "change" if found["sign"] else "value"
    return Limit(text.strip(), found["name"], found["operator"], bound, how)


def rows_of(limit: Limit, table: Comparison) -> list[Row]:
    """The numbers a limit is on; ConfigError, naming the known ones, if there is none."""
    rows = [row for row in table.rows if row.name == limit.name]
    if not rows and "*" in limit.name:
        pattern = re.sub(r"([\[?])", r"[\1]", limit.name)  # only * is special
        rows = [row for row in table.rows if fnmatchcase(row.name, pattern)]
    if not rows:
        short = [row.name for row in table.rows if row.group == "numbers"]
        raise ConfigError(
            f"--fail-if {limit.text!r}: no number {limit.name!r} in these runs; known: "
            f"{', '.join(short)}, layer.NAME.cycles, seconds, seconds.STAGE; * stands for any part"
        )
    return rows


def check(limits: Sequence[Limit], table: Comparison, allow_mixed: bool = False) -> Verdict:
    """Hold every run but the first to the limits."""
    breaches: list[str] = []
    refused: list[str] = []
    for limit in limits:
        for row in rows_of(limit, table):
            for place in range(1, len(table.runs)):
                change = row.changes[place - 1]
                if limit.how != "value" and change and change.mixed and not allow_mixed:
                    refused.append(f"{limit.text}: {row.title}: {change.mixed}")
                    continue
                why = _breach(limit, row, place)
                if why is not None:
                    run = "" if len(table.runs) == 2 else f" in {LETTERS[place]}"
                    breaches.append(f"{limit.text}: {row.title}{run} {why}")
    return Verdict(tuple(breaches), tuple(refused))


def _breach(limit: Limit, row: Row, place: int) -> str | None:
    """Why the limit is broken, as the rest of a sentence; None if it holds."""
    one, two = row.numbers[0], row.numbers[place]
    if two.value is None:
        return f"is null: {two.reason}; a limit on a missing number is broken"
    value = Fraction(repr(two.value))
    if limit.how == "value":
        return f"is {shown(two.value)}" if limit.broken(value) else None
    if one.value is None:
        return f"is null in A: {one.reason}; there is nothing to compare with"
    before = Fraction(repr(one.value))
    change = value - before
    moved = f"went from {shown(one.value)} to {shown(two.value)}"
    if limit.how == "change":
        return f"{moved} ({float(change):+,.6g})" if limit.broken(change) else None
    if before == 0 and change != 0:
        # Any step from 0 is more than every percentage, in its direction.
        grows = limit.operator.startswith(">")
        return f"{moved}, and A is 0" if grows == (change > 0) else None
    percent = 100 * change / abs(before) if before else Fraction(0)
    return f"{moved} ({float(percent):+.3f} %)" if limit.broken(percent) else None
