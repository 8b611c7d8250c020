# SPDX-License-Identifier: Apache-2.0
"""The size of a network of tables that the options of a build or a training ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwflow.models.dtnn import DtnnConfig
    from hwflow.stages.options import BuildOptions

TABULAR_LEVELS = 7  # thresholds of a feature; a pixel has one, its top bit


def size_of(
    chosen: BuildOptions, shape: tuple[int, int, int], classes: int, levels: int | None = None
) -> DtnnConfig:
    """The configuration for samples of a shape. levels: thresholds an element (None: as usual)."""
    from hwflow.models import dtnn

    if levels is None and shape[1:] == (1, 1):
        levels = TABULAR_LEVELS
    if chosen.luts is not None:
        return dtnn.sized(chosen.luts, shape, classes, levels or 1)
    assert chosen.config is not None  # or there is a budget
    return dtnn.config(chosen.config, shape, classes, levels)
