# SPDX-License-Identifier: Apache-2.0
"""The size of a network of tables that the options of a build or a training ask for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from hwflow.models.dtnn import DtnnConfig
    from hwflow.stages.options import BuildOptions

# Thresholds of a feature, and upper bits of it that they look at; a pixel has one, its top bit.
TABULAR_LEVELS, TABULAR_PRECISION = 7, 6


def size_of(
    chosen: BuildOptions, shape: tuple[int, int, int], classes: int, levels: int | None = None,
    precision: int | None = None, images: np.ndarray | None = None, encoder: str = "thermometer",
) -> DtnnConfig:  # fmt: skip
    """The configuration for samples of a shape. levels: thresholds an element, precision: upper
    bits of it that they look at (None: as usual). images: those it will be trained with, uint8
    (N, C, H, W), whose thresholds tell what a budget holds. encoder: "thermometer" or "linear"."""
    from hwflow.models import dtnn

    if shape[1:] == (1, 1):
        levels = TABULAR_LEVELS if levels is None else levels
        precision = TABULAR_PRECISION if precision is None else precision
    precision = 8 if precision is None else precision
    if chosen.luts is None:
        assert chosen.config is not None  # or there is a budget
        made = dataclasses.replace(dtnn.config(chosen.config, shape, classes, levels),
                                   encoder=encoder)
        if made.luts is None:  # a budget is what a preset of one layer is, too
            return dataclasses.replace(made, precision=precision)
        return _within(made.luts, made, precision, images)
    first = dtnn.DtnnConfig("first", (classes,), shape, classes, 1 if levels is None else levels,
                            encoder=encoder)
    return _within(chosen.luts, first, precision, images)


def _within(
    luts: int, cfg: DtnnConfig, precision: int, images: np.ndarray | None
) -> DtnnConfig:
    from hwflow import train_tables
    from hwflow.models import dtnn

    cfg = dataclasses.replace(cfg, precision=precision)
    if images is not None:
        made = train_tables.sized(luts, cfg, images)
    else:
        made = dtnn.sized(luts, cfg.shape, cfg.classes, cfg.levels, cfg.precision,
                          encoder=cfg.encoder)
    return made if cfg.luts is None else dataclasses.replace(made, name=cfg.name)
