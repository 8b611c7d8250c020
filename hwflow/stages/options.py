# SPDX-License-Identifier: Apache-2.0
"""What a user may choose for a build, checked before anything runs. Imports nothing heavy."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from hwflow import boards, resources
from hwflow.errors import ConfigError
from hwflow.models import shapes

CONFIGS = tuple(shapes.CODENET)
DEFAULT_CONFIG = "b"
REQUIRABLE = ("bitstream", "hls", "rtl")
BACKENDS = ("hwflow", "hls4ml")
SEEDS = 2**32
PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class BuildOptions:
    """One build. `file` is the QONNX file when `model` is not one of ours; then `config` is None.

    tiles: photographs verified against QONNX and HLS; frames: of these, how many run in the RTL
    simulation. cache: where downloads are kept (None: the default of hwflow.data). inputs: an npz
    file with the vectors to verify a QONNX file with (None: seeded random ones). backend: whose
    hardware is made, ours or hls4ml's.
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

    @property
    def name(self) -> str:
        """Name of the run: model and configuration."""
        return f"{self.model}_{self.config}" if self.config else self.model

    @property
    def board_file(self) -> Path:
        """The board's TOML file."""
        return resources.path("boards") / f"{self.board}.toml"

    @property
    def weights(self) -> Path | None:
        """The checkpoint of this build: the given one, else the shipped one, else None."""
        if self.checkpoint is not None or self.file is not None:
            return self.checkpoint
        shipped = PACKAGE / "checkpoints" / f"{self.name}_{self.data.split(':')[0]}.safetensors"
        return shipped if shipped.is_file() else None


def models() -> tuple[str, ...]:
    """Models that can be built: files of hwflow/models with a function `config`."""
    return tuple(
        path.stem
        for path in sorted((PACKAGE / "models").glob("*.py"))
        if any(
            isinstance(node, ast.FunctionDef) and node.name == "config"
            for node in ast.parse(path.read_bytes()).body
        )
    )


def options(
    model: str,
    board: str,
    config: str | None = None,
    data: str = "trees",
    checkpoint: Path | None = None,
    seed: int = 0,
    tiles: int = 8,
    frames: int = 2,
    require: tuple[str, ...] = (),
    allow_negative_slack: bool = False,
    cache: Path | None = None,
    inputs: Path | None = None,
    backend: str = BACKENDS[0],
) -> BuildOptions:
    """Checked options; ConfigError names the wrong one, the rule and the way out.

    A model with a path separator or the ending .onnx is a file.
    """
    boards.load(board)
    if not 1 <= frames <= tiles:
        raise ConfigError(
            f"--frames {frames} of --tiles {tiles}: give 1 <= frames <= tiles (default 2 of 8)"
        )
    check_seed(seed)
    if backend not in BACKENDS:
        raise ConfigError(f"--backend {backend!r} is not known; use {' or '.join(BACKENDS)}")
    for name in require:
        if name not in REQUIRABLE:
            raise ConfigError(f"--require {name!r} is not known; use {', '.join(REQUIRABLE)}")
    if "/" in model or "\\" in model or model.endswith(".onnx"):
        path = Path(model)
        if config is not None or checkpoint is not None:
            raise ConfigError("--config and --checkpoint belong to our models; leave them out for "
                              f"the file {path}")
        if not path.is_file():
            raise ConfigError(f"the file {path} does not exist; give the path of a QONNX file")
        if inputs is not None and not inputs.is_file():
            raise ConfigError(f"--inputs {inputs} is not a file; give an npz file with one array")
        stem = re.sub(r"[^A-Za-z0-9_]+", "_", path.stem) or "model"
        return BuildOptions(
            stem, None, board, path.resolve(), data, None, seed, tiles, frames, require,
            allow_negative_slack, cache, inputs.resolve() if inputs else None, backend,
        )
    if inputs is not None:
        raise ConfigError("--inputs belongs to a QONNX file; our models take theirs from --data")
    if model not in models():
        raise ConfigError(
            f"model {model!r} is not known; models: {', '.join(models())}, or the path of a "
            "QONNX file (with a / or the ending .onnx)"
        )
    config = DEFAULT_CONFIG if config is None else config
    if config not in CONFIGS:
        raise ConfigError(f"--config {config!r} is not known; use one of {', '.join(CONFIGS)}")
    if checkpoint is not None and not checkpoint.is_file():
        raise ConfigError(
            f"--checkpoint {checkpoint} is not a file; `hwflow train {model} --config {config}` "
            "makes one"
        )
    if data.partition(":")[0] not in ("trees", "voc", "digits"):
        raise ConfigError(f"--data {data!r} is not known; use trees, voc:PATH or digits[:SCENES]")
    return BuildOptions(
        model, config, board, None, data, checkpoint.resolve() if checkpoint else None, seed,
        tiles, frames, require, allow_negative_slack, cache, backend=backend,
    )


def check_seed(seed: int) -> None:
    """ConfigError unless every random generator of the flow takes this seed."""
    if not 0 <= seed < SEEDS:
        raise ConfigError(f"--seed {seed}: give 0 to {SEEDS - 1} (default 0)")


def default_out(chosen: BuildOptions) -> Path:
    """Where a build goes unless told otherwise."""
    parts = [chosen.model, chosen.config, chosen.board]
    return Path("build") / "-".join(part for part in parts if part)
