# SPDX-License-Identifier: Apache-2.0
"""What one report file of a tool says, in the words of the schema."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwflow.errors import ToolError
from hwflow.report.schema import Kind, Performance, Power, Resources, Timing, Used


@dataclass(frozen=True)
class Part:
    """The sections of a run that one file holds; None: this kind of file holds no such section."""

    what: str
    design: str | None = None
    device: str | None = None
    resources: Resources | None = None
    timing: Timing | None = None
    performance: Performance | None = None
    power: Power | None = None


def resources(
    rows: Mapping[str, Used | None],
    missing: Sequence[str],
    kind: Kind | None,
    tool: str | None,
    other: Mapping[str, Used] | None = None,
) -> Resources:
    """Resources of which every null has its reason in `missing`; keys of rows: lut, ff, ..."""
    return Resources(
        kind=kind, tool=printable(tool), reason=because(missing),
        other={str(printable(name)): one for name, one in (other or {}).items()},
        lut=rows.get("lut"), ff=rows.get("ff"), bram36=rows.get("bram36"), dsp=rows.get("dsp"),
    )


def because(missing: Sequence[str]) -> str | None:
    """One reason of several, each once, in order; None of none."""
    return printable("; ".join(dict.fromkeys(missing)) or None)


def printable(text: str | None) -> str | None:
    """A name out of a file, without what would move a terminal's cursor or colour its text."""
    return text and "".join(char if char.isprintable() else "?" for char in text)


def halves(used: Used) -> Used:
    """Blocks of 18 kbit in units of 36 kbit."""
    return Used(used=_half(used.used), available=None if used.available is None
                else _half(used.available))


def _half(value: float) -> int | float:
    return int(value // 2) if value % 2 == 0 else value / 2


def number(text: str | None) -> int | float | None:
    """A count or a measure written in plain digits, as "1,234", "12.5", "-0.089"; else None."""
    if text is None:
        return None
    plain = text.strip().replace(",", "")
    body = plain.removeprefix("-")
    if not body.replace(".", "", 1).isdecimal() or not body.isascii() or len(body) > 18:
        return None
    return float(plain) if "." in plain else int(plain)


def count(value: object) -> int | None:
    """A JSON value that is a count (never a bool, never negative); else None."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        return None
    return value


def measure(value: object) -> float | None:
    """A JSON value that is a finite positive number; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < 1e18 and math.isfinite(value) else None


def parse_object(text: str, what: str) -> dict[str, Any]:
    """The JSON object in a text; ToolError, in words for the kind of file `what`, without one."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ToolError(f"cannot be read as {what}: no JSON ({error})") from error
    if not isinstance(body, dict):
        raise ToolError(f"cannot be read as {what}: no JSON object")
    return body
