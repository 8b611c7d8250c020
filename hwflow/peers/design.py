# SPDX-License-Identifier: Apache-2.0
"""What a method hands to the bench: RTL, and the classes its model gives for the test samples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwflow.data import samples
from hwflow.data.samples import Samples
from hwflow.errors import ConfigError

EXTRA = "pip install 'hwflow[peers]'"


class NotInstalled(ConfigError):
    """A package of the extra `peers` is not there; the bench says so in the row."""


@dataclass(frozen=True)
class Design:
    """A classifier as a feed-forward pipeline that takes one whole sample a clock.

    files: name -> text; those that end in .v or .sv are read, in this order. pixels: the input
    port with every byte of the sample, the first one in the lowest bits. held: ports with a
    constant (clock, reset, enable). result: the output port with the class. predicted: int64 (N,),
    the class by the integer model for each test sample. train_minutes: None if nothing was trained.
    notes: what a reader must know about the settings. parts: LUTs of parts of the design by its
    maker's own count, where that is known.
    """

    files: Mapping[str, str | bytes]
    top: str
    pixels: str
    held: Mapping[str, int]
    result: str
    stages: int
    predicted: np.ndarray
    train_minutes: float | None
    source: str
    notes: str = ""
    parts: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Place:
    """Where a row is made: `folder`, beside a folder `data` that all rows share.

    python: the interpreter with the packages of the extra `peers`.
    """

    folder: Path
    cache: Path
    python: Path

    def data(self, spec: str) -> Data:
        """Both splits of a source."""
        return Data(spec, samples.load(spec, "train", self.cache),
                    samples.load(spec, "test", self.cache))


@dataclass(frozen=True)
class Data:
    """Both splits of a source."""

    spec: str
    train: Samples
    test: Samples

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.test.classes)

    @property
    def features(self) -> int:
        """Bytes of a sample."""
        return int(np.prod(self.test.shape))

    def file(self, place: Place) -> dict[str, str]:
        """Write an .npz for a training script; its name seen from the place, and its SHA-256.

        x_train, x_test: uint8 (N, F). y_train, y_test: int64 (N,).
        """
        path = place.folder.parent / "data" / f"{self.spec.replace(':', '-')}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, x_train=flat(self.train.images), y_train=self.train.labels,
                 x_test=flat(self.test.images), y_test=self.test.labels)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"data": f"../data/{path.name}", "sha256": digest}


def flat(images: np.ndarray) -> np.ndarray:
    """uint8 (N, C, H, W) -> (N, F), row by row."""
    return np.ascontiguousarray(images.reshape(len(images), -1))


def argmax(name: str, classes: int, width: int, signed: bool) -> str:
    """A module: `scores` (classes x width bits, class 0 lowest) -> `best`; the first of equals.

    A tournament of comparisons: of two, the one on the right wins only if it is larger.
    """
    bits = max(1, (classes - 1).bit_length())
    sign = "signed " if signed else ""
    lines = [
        f"module {name} (",
        f"  input  logic [{classes * width - 1}:0] scores,",
        f"  output logic [{bits - 1}:0] best",
        ");",
    ]
    players = []
    for n in range(classes):
        lines += [f"  wire {sign}[{width - 1}:0] s0_{n} = scores[{width * n} +: {width}];",
                  f"  wire [{bits - 1}:0] w0_{n} = {bits}'d{n};"]
        players.append((f"s0_{n}", f"w0_{n}"))
    level = 0
    while len(players) > 1:
        level += 1
        winners = []
        for n in range(0, len(players) - 1, 2):
            (left, left_name), (right, right_name) = players[n], players[n + 1]
            score, who, more = f"s{level}_{n // 2}", f"w{level}_{n // 2}", f"m{level}_{n // 2}"
            lines += [
                f"  wire {more} = {right} > {left};",
                f"  wire {sign}[{width - 1}:0] {score} = {more} ? {right} : {left};",
                f"  wire [{bits - 1}:0] {who} = {more} ? {right_name} : {left_name};",
            ]
            winners.append((score, who))
        if len(players) % 2:
            winners.append(players[-1])
        players = winners
    return "\n".join([*lines, f"  assign best = {players[0][1]};", "endmodule", ""])
