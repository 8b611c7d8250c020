# SPDX-License-Identifier: Apache-2.0
"""The shapes of our models and their configurations: plain numbers, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from hwflow.errors import ConfigError

STAGE_UNITS = (4, 8, 4)
STAGE_CHANNELS: Mapping[int, tuple[int, int, int]] = {1: (116, 232, 464), 2: (244, 488, 976)}
LAYER4_CHANNELS: Mapping[int, int] = {1: 1024, 2: 2153}
STEM_CHANNELS = 24
DECODER_CHANNELS = (256, 128, 64)
HEAD_CHANNELS = 64
PAPER_CLASSES = 20

# Input side in pixels, width multiple, form of layer 0. The paper has a to e; f and g are the two
# points between them that it did not publish.
CODENET: Mapping[str, tuple[int, int, str]] = {
    "a": (256, 1, "s4"),
    "b": (256, 1, "s2pool"),
    "c": (512, 1, "s4"),
    "d": (512, 2, "s4"),
    "e": (512, 2, "s2pool"),
    "f": (512, 1, "s2pool"),
    "g": (256, 2, "s2pool"),
}

# Sizes of the networks of lookup tables (hwflow/models/dtnn.py).
DTNN = ("small", "medium", "large", "lenet5", "vgg")


@dataclass(frozen=True)
class Family:
    """What a user may choose of a model: configurations and kinds of data, the default first."""

    configs: tuple[str, ...]
    default: str
    data: tuple[str, ...]
    usage: str


FAMILIES: Mapping[str, Family] = {
    "codenet": Family(
        tuple(CODENET), "b", ("trees", "voc", "digits"), "trees, voc:PATH or digits[:SCENES]"
    ),
    "dtnn": Family(
        DTNN, "small", ("mnist", "fashion", "digits", "cifar10", "keel", "csv"),
        "mnist, fashion, digits, cifar10, keel:NAME or csv:FILE",
    ),
}


@dataclass(frozen=True)
class CodenetConfig:
    """One configuration: input side in pixels, width multiple, form of layer 0, classes.

    plain_dw replaces the decoder's deformable depthwise layers by plain 3x3 ones (ablation).
    """

    name: str
    input_size: int
    width: int
    layer0: str
    classes: int
    plain_dw: bool = False


def codenet(name: str, classes: int = PAPER_CLASSES, plain_dw: bool = False) -> CodenetConfig:
    """A configuration by its letter; ConfigError for another name."""
    if name not in CODENET:
        raise ConfigError(
            f"unknown CoDeNet configuration {name!r}: choose one of {', '.join(CODENET)}"
        )
    if classes < 1:
        raise ConfigError(f"CoDeNet needs at least one class, not {classes}")
    size, width, layer0 = CODENET[name]
    return CodenetConfig(name, size, width, layer0, classes, plain_dw)
