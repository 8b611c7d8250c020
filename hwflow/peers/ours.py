# SPDX-License-Identifier: Apache-2.0
"""Networks of tables of hwflow itself, by the same bench as everything else."""

from __future__ import annotations

import numpy as np

from hwflow.data.samples import Samples
from hwflow.emit import tables
from hwflow.models import dtnn
from hwflow.peers.design import Design


def design(
    net: dtnn.Tables, test: Samples, train_minutes: float | None, source: str, notes: str = ""
) -> Design:
    """The core of a trained network, and the class its arrays give for each test sample."""
    core = tables.emit(dtnn.graph(net), tables.Options())
    predicted = dtnn.scores(net, test.images).argmax(axis=1)
    return Design(
        core.files, core.top, "in_pixels", {"clk": 0, "rst": 0, "en": 1, "in_valid": 1},
        "out_class", core.latency, np.asarray(predicted, np.int64), train_minutes, source, notes,
        {name: part.luts for name, part in core.parts.items()},
    )
