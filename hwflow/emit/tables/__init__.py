# SPDX-License-Identifier: Apache-2.0
"""Emission of networks of lookup tables: integer graph -> SystemVerilog, and what it costs."""

from hwflow.emit.tables.core import Design, Options, Part
from hwflow.emit.tables.cost import Encoder, Width, luts_for, most_tables
from hwflow.emit.tables.planner import emit, estimate

__all__ = [
    "Design",
    "Encoder",
    "Options",
    "Part",
    "Width",
    "emit",
    "estimate",
    "luts_for",
    "most_tables",
]
