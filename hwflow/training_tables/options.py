# SPDX-License-Identifier: Apache-2.0
"""What decides a training, and the recipes: options for each kind of network and of data."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hwflow.errors import ConfigError
from hwflow.models.dtnn import TABLE_INPUTS, DtnnConfig
from hwflow.training_tables.loops import BLOCK
from hwflow.training_tables.warps import Warp

METHODS = ("descent", "gradient")


@dataclass(frozen=True)
class TableTraining:
    """All that decides a run; None is chosen from the configuration and the data. The defaults are
    the recipe of the shipped networks, chosen on the last sixth of MNIST's 60,000.

    seed. sweeps: of coordinate descent, each over so many distorted `copies` of the samples.
    judged: share of the samples that judge wires. margins: what a moved wire must gain, first and
    last sweep. memory: of earlier sweeps' sums, first and last. temperature: votes per nat.
    contents: mean size of the contents that minibatches start with. epochs, batch, rate, betas: of
    the minibatches (Adam, the rate falls as a cosine). warp: distortions. flip: half of the images
    from left to right; jitter: whole pixels that images move, at most. noise: on the elements of
    rows of a table, its deviation as a share of the range that holds the middle two thirds of their
    values. lut_weight: loss that a LUT of the encoder must save, nats a sample. validation: share
    of the samples, the last ones, that are not trained with but measured at the end. distil: weight
    of a float teacher's classes in the targets, teachers: of so many the mean, teacher_epochs: of
    training each. method: "descent" where `binary` allows it, or "gradient": torch in any case;
    learn_thresholds: of the encoder, or the range of a linear one, with this method alone. threads:
    of torch.
    """

    seed: int = 0
    sweeps: int = 20
    copies: float = 3.0
    judged: float = 1.0
    margins: tuple[float, float] = (0.002, 0.02)
    memory: tuple[float, float] = (0.5, 0.9)
    temperature: float | None = None
    contents: float = 0.3
    epochs: int = 60
    batch: int = 256
    rate: float = 0.008
    betas: tuple[float, float] = (0.9, 0.999)
    warp: Warp | None = None
    flip: bool = False
    jitter: int = 0
    noise: float = 0.0
    lut_weight: float = 0.0
    validation: float = 0.0
    distil: float = 0.0
    teachers: int = 1
    teacher_epochs: int = 4
    method: str = "descent"
    learn_thresholds: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, number in dataclasses.asdict(self).items():
            if isinstance(number, float) and not math.isfinite(number):
                raise ConfigError(f"{name.replace('_', ' ')} {number}: give a finite number")
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed}: give 0 or more")
        if self.batch < BLOCK or self.batch % BLOCK:
            raise ConfigError(f"batch {self.batch}: give a multiple of {BLOCK}")
        if min(self.sweeps, self.epochs) < 0 or self.copies <= 0:
            raise ConfigError(f"{self.sweeps} sweeps of {self.copies} copies, {self.epochs} epochs:"
                              " give none or more of each, and a share of a copy or more")
        if self.method not in METHODS:
            raise ConfigError(f"method {self.method!r}: choose {', '.join(METHODS)}")
        if not (0 <= self.validation < 1 and 0 <= self.distil <= 1):
            raise ConfigError(f"validation {self.validation} and distil {self.distil} are shares: "
                              "give 0 to 1, and less than 1 held back")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"{self.threads} threads: give 1 or more, or leave them out")
        if self.noise < 0 or self.lut_weight < 0 or min(self.teachers, self.teacher_epochs) < 1:
            raise ConfigError(f"noise {self.noise}, LUT weight {self.lut_weight}, {self.teachers} "
                              f"teachers of {self.teacher_epochs} epochs: give 0 or more noise and "
                              "weight, a teacher or more")


# Rows of a table overfit without new copies of them; what noise makes of them a teacher must label.
ROWS: Mapping[str, Any] = MappingProxyType({
    "sweeps": 16, "epochs": 20, "noise": 0.15, "distil": 1.0, "teachers": 3, "teacher_epochs": 40,
    "lut_weight": 1e-4,
})  # fmt: skip


# Options that the roads of training know nothing of
BY_TORCH = ("sweeps",)
BY_WINDOWS = (*BY_TORCH, "learn_thresholds")
TEACHING = ("teachers", "teacher_epochs")


def recipe(cfg: DtnnConfig, given: Mapping[str, Any]) -> TableTraining:
    """How a configuration is trained unless told otherwise: the options in `given` go first.

    ConfigError when one of them has no meaning for networks of this kind.
    """
    by_torch = given.get("method") == "gradient" or not binary(cfg)
    without = BY_WINDOWS if cfg.convs else BY_TORCH if by_torch else ()
    if unused := [f"--{name.replace('_', '-')}" for name in without if name in given]:
        kind = "convolutional networks" if cfg.convs else "networks that torch trains"
        raise ConfigError(f"{', '.join(unused)}: means nothing for {kind} of tables; leave it out")
    if cfg.convs and "method" in given:
        raise ConfigError(f"--method {given['method']}: convolutional networks of tables have one "
                          "of their own; leave it out")
    if given.get("method") == "descent" and not binary(cfg):
        raise ConfigError("--method descent: takes one layer or two of lookup nodes of "
                          f"{TABLE_INPUTS} bits, with a head 'sum'; torch trains others, leave it "
                          "out")
    if given.get("lut_weight") and cfg.wiring == "random":
        raise ConfigError("--lut-weight: comparators are saved by wires that move, random ones "
                          "stay; leave it out, or learn the wiring")
    chosen: dict[str, Any] = {}
    if cfg.convs:
        chosen = {"epochs": 12, "batch": 128, "rate": 0.04}
        if cfg.shape[0] > 1:  # photographs: a warp would blur them
            chosen |= {"warp": Warp(share=0.0), "flip": True, "jitter": 2}
    elif cfg.shape[1:] == (1, 1) and binary(cfg):
        chosen = dict(ROWS)
    made = TableTraining(**chosen | dict(given))
    if not made.distil and (idle := [name for name in TEACHING if name in given]):
        raise ConfigError(f"--{idle[0].replace('_', '-')} {given[idle[0]]}: there is no teacher; "
                          "give --distil above 0, or leave it out")
    return made


def binary(cfg: DtnnConfig) -> bool:
    """Whether coordinate descent can train it."""
    return (cfg.node, cfg.head, cfg.inputs) == ("lookup", "sum", TABLE_INPUTS) and (
        len(cfg.widths) <= 2 and set(cfg.bits) == {1}
    )


def plain(options: TableTraining) -> dict[str, Any]:
    """Options as a checkpoint keeps them."""
    return json.loads(json.dumps(dataclasses.asdict(options)))  # type: ignore[no-any-return]
