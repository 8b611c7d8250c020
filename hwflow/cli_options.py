# SPDX-License-Identifier: Apache-2.0
"""What several commands share: their options, and how an interrupted one ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

Board = Annotated[str, typer.Option("--board", "-b", help="Board: a file in boards/.")]
Config = Annotated[
    str | None,
    typer.Option("--config", "-c", help="codenet: a to g, default b. dtnn: small, medium, "
                 "large, lenet5, vgg."),
]
Preset = Annotated[
    str | None, typer.Option("--preset", "--presets", help="Another name of --config, for dtnn.")
]
Luts = Annotated[
    int | None, typer.Option("--luts", help="dtnn: size it to so many LUT6, and train it.")
]
Spec = Annotated[
    str | None,
    typer.Option("--data", help="codenet: trees, voc:PATH, digits[:SCENES]. dtnn: mnist, fashion, "
                 "digits, cifar10, keel:NAME, csv:FILE. Default: the first."),
]
Cache = Annotated[
    Path | None, typer.Option("--cache", help="Where downloads and what slow tools made are kept; "
                              "default ~/.cache/hwflow.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Run = Annotated[Path, typer.Argument(help="Run directory of a build.")]


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C is no accident: say how to go on. (The command line parser would be silent.)"""
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True).print(
            "\ninterrupted; the same command goes on where it stopped", style="yellow"
        )
        raise typer.Exit(130) from None
