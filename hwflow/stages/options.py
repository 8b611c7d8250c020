# SPDX-License-Identifier: Apache-2.0
"""What a user may choose for a build, checked before anything runs. Imports nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hwflow import boards, resources
from hwflow.errors import ConfigError
from hwflow.models.shapes import FAMILIES

REQUIRABLE = ("bitstream", "hls", "rtl")
# Whose hardware: the engine, hls4ml's C++, or a pipeline of lookup tables.
BACKENDS = ("hwflow", "hls4ml", "tables")
LUTS = range(100, 1_000_000)
SEEDS = 2**32
PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class BuildOptions:
    """One build. `file` is the QONNX file when `model` is not one of ours; then `config` is None.

    tiles: photographs verified against QONNX and HLS; frames: of these, how many run in the RTL
    simulation. cache: where downloads are kept (None: the default of hwflow.data). inputs: an npz
    file with the vectors to verify a QONNX file with (None: seeded random ones). backend: whose
    hardware is made, one of BACKENDS. luts: how many a network of tables may take; then `config` is
    None. statistical_dont_cares: of such a network, contents that no training sample reads are
    free.
    """

    model: str
    config: str | None
    board: str
    file: Path | None = None
    data: str = "trees"
    checkpoint: Path | None = None
    seed: int = 0
    tiles: int = 8
    frames: int = 2
    require: tuple[str, ...] = ()
    allow_negative_slack: bool = False
    cache: Path | None = None
    inputs: Path | None = None
    backend: str = BACKENDS[0]
    luts: int | None = None
    statistical_dont_cares: bool = False

    @property
    def name(self) -> str:
        """Name of the run: model and configuration."""
        return f"{self.model}_{self.size}" if self.size else self.model

    @property
    def size(self) -> str | None:
        """The configuration, or the budget in its place."""
        return self.config if self.luts is None else f"{self.luts}-luts"

    @property
    def board_file(self) -> Path:
        """The board's TOML file."""
        return resources.path("boards") / f"{self.board}.toml"

    @property
    def weights(self) -> Path | None:
        """The checkpoint of this build: the given one, else the shipped one, else None."""
        if self.checkpoint is not None or self.file is not None:
            return self.checkpoint
        kind, _, argument = self.data.partition(":")
        source = f"{kind}-{argument}" if kind == "keel" else kind
        shipped = PACKAGE / "checkpoints" / f"{self.name}_{source}.safetensors"
        return shipped if shipped.is_file() else None


def models() -> tuple[str, ...]:
    """Models that can be built."""
    return tuple(FAMILIES)


def options(
    model: str,
    board: str,
    config: str | None = None,
    data: str | None = None,
    checkpoint: Path | None = None,
    seed: int = 0,
    tiles: int = 8,
    frames: int = 2,
    require: tuple[str, ...] = (),
    allow_negative_slack: bool = False,
    cache: Path | None = None,
    inputs: Path | None = None,
    backend: str | None = None,
    luts: int | None = None,
    statistical_dont_cares: bool = False,
) -> BuildOptions:
    """Checked options; ConfigError names the wrong one, the rule and the way out.

    A model with a path separator or the ending .onnx is a file.
    """
    chip = boards.load(board)
    if not 1 <= frames <= tiles:
        raise ConfigError(
            f"--frames {frames} of --tiles {tiles}: give 1 <= frames <= tiles (default 2 of 8)"
        )
    check_seed(seed)
    if statistical_dont_cares and model != "dtnn":
        raise ConfigError("--statistical-dont-cares belongs to dtnn, whose training data decides; "
                          f"leave it out for {model}")
    if backend is None:
        backend = "tables" if model == "dtnn" or chip.engine is None else BACKENDS[0]
    if backend not in BACKENDS:
        raise ConfigError(f"--backend {backend!r} is not known; use {', '.join(BACKENDS)}")
    for name in require:
        if name not in REQUIRABLE:
            raise ConfigError(f"--require {name!r} is not known; use {', '.join(REQUIRABLE)}")
    if "/" in model or "\\" in model or model.endswith(".onnx"):
        path = Path(model)
        if data is not None:
            raise ConfigError(f"--data belongs to our models; give {path} its vectors by --inputs")
        if config is not None or checkpoint is not None or luts is not None:
            raise ConfigError("--config, --luts and --checkpoint belong to our models; leave them "
                              f"out for the file {path}")
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise ConfigError(f"the file {path} {what}; give the path of a QONNX file")
        if inputs is not None and not inputs.is_file():
            raise ConfigError(f"--inputs {inputs} is not a file; give an npz file with one array")
        stem = re.sub(r"[^A-Za-z0-9_]+", "_", path.stem) or "model"
        return BuildOptions(
            stem, None, board, path.resolve(), "random", None, seed, tiles, frames, require,
            allow_negative_slack, cache, inputs.resolve() if inputs else None, backend,
        )
    if inputs is not None:
        raise ConfigError("--inputs belongs to a QONNX file; our models take theirs from --data")
    if model not in models():
        raise ConfigError(
            f"model {model!r} is not known; models: {', '.join(models())}, or the path of a "
            "QONNX file (with a / or the ending .onnx)"
        )
    family = FAMILIES[model]
    if (model == "dtnn") != (backend == "tables"):
        way = "leave --backend out" if chip.engine is not None else "choose a board with an engine"
        raise ConfigError(f"{model} on {board} cannot be made by the backend {backend!r}; {way}")
    if luts is not None:
        if model != "dtnn" or config is not None:
            raise ConfigError("--luts sizes a dtnn in place of --config; give one of the two")
        if luts not in LUTS:
            raise ConfigError(f"--luts {luts}: give {LUTS.start:,} to {LUTS.stop - 1:,}")
    else:
        config = family.default if config is None else config
        if config not in family.configs:
            raise ConfigError(
                f"--config {config!r} is not known; use one of {', '.join(family.configs)}"
            )
    if checkpoint is not None and not checkpoint.is_file():
        raise ConfigError(
            f"--checkpoint {checkpoint} is not a file; `hwflow train {model} --config {config}` "
            "makes one"
        )
    data = family.data[0] if data is None else data
    if data.partition(":")[0] not in family.data:
        raise ConfigError(f"--data {data!r} is not known; use {family.usage}")
    kind, _, argument = data.partition(":")
    if kind == "csv" and not Path(argument).is_file():
        raise ConfigError(f"--data {data}: no file {argument or '(no name)'}; give a table")
    return BuildOptions(
        model, config, board, None, data, checkpoint.resolve() if checkpoint else None, seed,
        tiles, frames, require, allow_negative_slack, cache, backend=backend, luts=luts,
        statistical_dont_cares=statistical_dont_cares,
    )


def check_seed(seed: int) -> None:
    """ConfigError unless every random generator of the flow takes this seed."""
    if not 0 <= seed < SEEDS:
        raise ConfigError(f"--seed {seed}: give 0 to {SEEDS - 1} (default 0)")


def default_out(chosen: BuildOptions) -> Path:
    """Where a build goes unless told otherwise."""
    parts = [chosen.model, chosen.size, chosen.board]
    return Path("build") / "-".join(part for part in parts if part)
