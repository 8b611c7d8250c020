# SPDX-License-Identifier: Apache-2.0
"""Which form the core of a network of tables takes: a whole image a clock, or one position."""

from __future__ import annotations

from collections.abc import Mapping

from hwflow.emit.tables import core, stream
from hwflow.emit.tables.core import Design, Options, Part
from hwflow.ir import Graph


def emit(graph: Graph, options: Options | None = None) -> Design:
    """The core of a network of tables, with the package `tables_pkg` of its sizes.

    `tables_core` takes an image a clock; for networks with windows (patches, max pools) it is
    `tables_stream_core`, which takes a position a clock (`Design.streaming`).
    Raises GraphError naming the node that is not of such a network, ConfigError on wrong options.
    """
    options = options or Options()
    return stream.emit(graph, options) if stream.streams(graph) else core.emit(graph, options)


def estimate(graph: Graph, options: Options | None = None) -> Mapping[str, Part]:
    """What each part of the core takes, by counting the cells that `emit` would write; line
    buffers and pools of one that streams by a formula."""
    options = options or Options()
    if stream.streams(graph):
        return stream.emit(graph, options).parts
    return core.estimate(graph, options)
