# SPDX-License-Identifier: Apache-2.0
"""Emission of networks of lookup tables: integer graph -> SystemVerilog, and what it costs."""

from hwflow.emit.tables.core import Design, Options, Part, emit, estimate

__all__ = ["Design", "Options", "Part", "emit", "estimate"]
