# SPDX-License-Identifier: Apache-2.0
"""What lookups could save: accesses and energy of networks as tables and as 8-bit arithmetic.

A model, not a measurement. The same layers are counted twice. As arithmetic: one multiplication and
one addition a MAC, and every weight read once a frame. As tables (docs/tables.md): a neuron of N
inputs is a tree of (N - 1) / (k - 1) tables of k children of b bits, each looked up once for every
output it makes; contents of b bits are read, weights are not. Nothing is said about accuracy: trees
of 3 bits for the large networks have not been trained here.

Energies are those of the 45 nm table of M. Horowitz, "Computing's energy problem" (ISSCC 2014,
figure 1.1.9). That table has no lookup of a few bits: the default charges every bit read from a
table like a bit of the smallest SRAM it lists (8 KiB), which is far more than 64 rows need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SRAM_WORD_BITS = 64


@dataclass(frozen=True)
class Energies:
    """Picojoules: of one operation on integers, and of one word of 64 bits out of a memory."""

    add8_pj: float = 0.03
    add32_pj: float = 0.1
    multiply8_pj: float = 0.2
    sram_8kib_pj: float = 10.0
    sram_32kib_pj: float = 20.0
    sram_1mib_pj: float = 100.0
    dram_pj: float = 1300.0  # the low end of 1.3 to 2.6 nJ

    def memory_pj_per_bit(self, size_bits: int) -> float:
        """A bit out of the smallest memory that holds so many; beyond 1 MiB it is the DRAM."""
        for limit, word in (
            (8 << 13, self.sram_8kib_pj), (32 << 13, self.sram_32kib_pj),
            (1 << 23, self.sram_1mib_pj),
        ):  # fmt: skip
            if size_bits <= limit:
                return word / SRAM_WORD_BITS
        return self.dram_pj / SRAM_WORD_BITS


HOROWITZ_45NM = Energies()


@dataclass(frozen=True)
class Layer:
    """A convolution, or a dense layer as one of 1x1 pixel. side: rows and columns of the output."""

    name: str
    inputs: int
    outputs: int
    kernel: int = 1
    side: int = 1
    groups: int = 1

    @property
    def fan_in(self) -> int:
        """Inputs of one neuron."""
        return self.kernel**2 * self.inputs // self.groups

    @property
    def weights(self) -> int:
        """How many."""
        return self.fan_in * self.outputs

    @property
    def macs(self) -> int:
        """A frame."""
        return self.weights * self.side**2


def _lenet5() -> list[Layer]:
    return [
        Layer("conv1", 1, 6, 5, 28), Layer("conv2", 6, 16, 5, 10), Layer("fc1", 400, 120),
        Layer("fc2", 120, 84), Layer("fc3", 84, 10),
    ]  # fmt: skip


def _mobilenet_v1() -> list[Layer]:
    layers = [Layer("conv", 3, 32, 3, 112)]
    channels, side = 32, 112
    steps = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
             (1024, 2), (1024, 1)]  # fmt: skip
    for number, (outputs, stride) in enumerate(steps, 1):
        side //= stride
        layers.append(Layer(f"dw{number}", channels, channels, 3, side, channels))
        layers.append(Layer(f"pw{number}", channels, outputs, 1, side))
        channels = outputs
    return [*layers, Layer("fc", channels, 1000)]


def _vgg11() -> list[Layer]:
    shapes = [(3, 64, 224), (64, 128, 112), (128, 256, 56), (256, 256, 56), (256, 512, 28),
              (512, 512, 28), (512, 512, 14), (512, 512, 14)]  # fmt: skip
    layers = [Layer(f"conv{i}", *shape[:2], 3, shape[2]) for i, shape in enumerate(shapes, 1)]
    return [*layers, Layer("fc1", 25088, 4096), Layer("fc2", 4096, 4096), Layer("fc3", 4096, 1000)]


def _resnet18() -> list[Layer]:
    layers = [Layer("conv1", 3, 64, 7, 112)]
    channels = 64
    for stage, (outputs, side) in enumerate([(64, 56), (128, 28), (256, 14), (512, 7)], 1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            layers.append(Layer(f"{name}.conv1", channels, outputs, 3, side))
            layers.append(Layer(f"{name}.conv2", outputs, outputs, 3, side))
            if channels != outputs:
                layers.append(Layer(f"{name}.down", channels, outputs, 1, side))
            channels = outputs
    return [*layers, Layer("fc", 512, 1000)]


NETWORKS: Mapping[str, Sequence[Layer]] = {
    "LeNet-5": _lenet5(), "MobileNet-V1": _mobilenet_v1(), "VGG-11": _vgg11(),
    "ResNet-18": _resnet18(),
}  # fmt: skip


@dataclass(frozen=True)
class Count:
    """One network a frame, both ways. Energies in microjoules."""

    name: str
    macs: int
    weight_bits: int
    lookups: int
    table_bits: int
    read_bits: int
    arithmetic_uj: float
    weights_uj: float
    lookups_uj: float

    @property
    def ratio(self) -> float:
        """How many times more the arithmetic takes, by this model."""
        return (self.arithmetic_uj + self.weights_uj) / self.lookups_uj


def count(
    name: str, children: int = 2, bits: int = 3, weight_bits: int = 8,
    energies: Energies = HOROWITZ_45NM, lookup_pj: float | None = None,
) -> Count:
    """Accesses and energy of one of NETWORKS.

    lookup_pj: of one lookup; None charges its bits like bits of an 8 KiB SRAM. Every table sits
    where it is used, so its energy does not grow with the network; weights are read once a frame
    from the smallest memory that holds all of them.
    """
    layers = NETWORKS[name]
    tables = {layer: math.ceil((layer.fan_in - 1) / (children - 1)) for layer in layers}
    macs = sum(layer.macs for layer in layers)
    stored = weight_bits * sum(layer.weights for layer in layers)
    lookups = sum(n * layer.outputs * layer.side**2 for layer, n in tables.items())
    held = sum(n * layer.outputs for layer, n in tables.items()) * bits << (children * bits)
    each = bits * energies.sram_8kib_pj / SRAM_WORD_BITS if lookup_pj is None else lookup_pj
    return Count(
        name, macs, stored, lookups, held, lookups * bits,
        macs * (energies.multiply8_pj + energies.add32_pj) * 1e-6,
        stored * energies.memory_pj_per_bit(stored) * 1e-6, lookups * each * 1e-6,
    )


def markdown(lookup_pj: float | None = None) -> str:
    """The table of docs/tables.md."""
    lines = [
        "| network | MACs | weight bits (8-bit) | lookups | table bits | arithmetic, uJ | "
        "weights, uJ | lookups, uJ | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in NETWORKS:
        one = count(name, lookup_pj=lookup_pj)
        lines.append(
            f"| {name} | {one.macs:,} | {one.weight_bits:,} | {one.lookups:,} | "
            f"{one.table_bits:,} | {one.arithmetic_uj:,.4g} | {one.weights_uj:,.4g} | "
            f"{one.lookups_uj:,.4g} | {one.ratio:.2f} |"
        )
    return "\n".join(lines) + "\n"
