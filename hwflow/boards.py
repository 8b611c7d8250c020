# SPDX-License-Identifier: Apache-2.0
"""Boards: one TOML file each, read strictly. A new board is a new file and nothing else."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from hwflow import resources
from hwflow.errors import ConfigError


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False
    )


class Resources(_Strict):
    """What the chip has."""

    lut: PositiveInt
    ff: PositiveInt
    bram36: PositiveInt
    dsp: PositiveInt


class Limits(_Strict):
    """Largest share of each resource a design may take, in percent."""

    lut_percent: int = Field(ge=1, le=100)
    ff_percent: int = Field(ge=1, le=100)
    bram36_percent: int = Field(ge=1, le=100)
    dsp_percent: int = Field(ge=1, le=100)


class Clock(_Strict):
    """The clock of the logic: `mhz` must be what the PLL and its divider really give."""

    mhz: PositiveFloat
    pll: str
    pll_mhz: PositiveFloat
    divider: PositiveInt

    @model_validator(mode="after")
    def _generated(self) -> Self:
        given = self.pll_mhz / self.divider
        if not math.isclose(given, self.mhz, rel_tol=1e-9):
            raise ValueError(f"pll_mhz / divider gives {given:g} MHz, but mhz says {self.mhz:g}")
        return self


class Memory(_Strict):
    """The DDR as the engine sees it through one AXI port."""

    sustained_mb_s: PositiveFloat
    peak_mb_s: PositiveFloat
    latency_cycles: PositiveInt
    port_bits: Literal[32, 64, 128]  # what an HP or ACP port can be set to
    burst_beats: PositiveInt
    outstanding: PositiveInt
    turnaround_cycles: int = Field(ge=0)
    refresh_cycles: int = Field(ge=0)
    refresh_interval_us: PositiveFloat

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.sustained_mb_s > self.peak_mb_s:
            raise ValueError("sustained_mb_s is more than peak_mb_s")
        return self


# The array that hdl/engine has (engine_pkg.sv); a test holds them to hwflow.emit.isa.
RTL_COLUMNS, RTL_PIXELS = 24, 16
NO_TOOLCHAIN = "none"


class EngineSize(_Strict):
    """The engine: `columns` output channels by `pixels` at a time, memories in words of 16 pixels.

    Two multiplications take one DSP.
    """

    columns: PositiveInt = Field(ge=2, le=512, multiple_of=2)
    pixels: Literal[16]  # an activation word; the compiler knows no other
    act_words: PositiveInt = Field(le=1 << 16)  # as far as addresses reach
    stream_words: PositiveInt


class OtherDesign(_Strict):
    """What somebody else's design took of this chip, and where that is published."""

    title: str
    source: str
    mhz: PositiveFloat
    lut: PositiveInt
    ff: PositiveInt
    bram36: PositiveInt
    dsp: PositiveInt


class Board(_Strict):
    """One board file. `ps7` holds the settings of the processing system, by Vivado's names.

    With toolchain "none" the board is for estimates only, and `estimate_only` says why. `others`
    are published designs on the same chip.
    """

    name: str
    title: str
    part: str
    family: str
    toolchain: str
    shell: str
    resources: Resources
    limits: Limits
    clock: Clock
    memory: Memory
    engine: EngineSize
    ps7: dict[str, int | float | str] = Field(default_factory=dict)
    estimate_only: str | None = Field(default=None, min_length=1)
    others: list[OtherDesign] = Field(default_factory=list)

    @model_validator(mode="after")
    def _buildable_or_not(self) -> Self:
        without = self.toolchain == NO_TOOLCHAIN
        if without != (self.estimate_only is not None) or without != (self.shell == "none"):
            raise ValueError(
                'toolchain "none", shell "none" and estimate_only (a sentence that says why) '
                "belong together"
            )
        shape = (self.engine.columns, self.engine.pixels)
        if not without and shape != (RTL_COLUMNS, RTL_PIXELS):
            raise ValueError(
                f"hdl/engine has an array of {RTL_COLUMNS} columns by {RTL_PIXELS} pixels, not "
                f"{shape[0]} by {shape[1]}; a board with another one is for estimates only "
                '(toolchain = "none")'
            )
        return self

    @model_validator(mode="after")
    def _known(self) -> Self:
        module = Path(__file__).parent / "toolchain" / f"{self.toolchain}.py"
        if self.toolchain != NO_TOOLCHAIN and not module.is_file():
            raise ValueError(f"toolchain {self.toolchain!r} has no module in hwflow/toolchain")
        if self.shell == "zynq7" and not self.ps7:
            raise ValueError("shell zynq7 needs the section [ps7]")
        wrong = [key for key in self.ps7 if not key.startswith("PCW_")]
        if wrong:
            raise ValueError(f"ps7.{wrong[0]} is not a PS7 property (they start with PCW_)")
        return self

    @property
    def why_not(self) -> str | None:
        """Why nothing can be built for this board; None when it can."""
        if self.estimate_only is None:
            return None
        return (
            f"board {self.name} is for estimates only: {self.estimate_only}; run `hwflow estimate "
            f"... --board {self.name}`, or build for another board"
        )

    @property
    def bytes_per_cycle(self) -> float:
        """Sustained DDR bandwidth in bytes a clock cycle of the logic."""
        return self.memory.sustained_mb_s / self.clock.mhz


def names(folder: Path | None = None) -> tuple[str, ...]:
    """Every board that has a file."""
    return tuple(sorted(p.stem for p in (folder or resources.path("boards")).glob("*.toml")))


def load(name: str, folder: Path | None = None) -> Board:
    """The board of that name; ConfigError names the known ones."""
    folder = folder or resources.path("boards")
    known = names(folder)
    if name not in known:
        raise ConfigError(
            f"board {name!r} is not known; boards: {', '.join(known)} "
            f"(a new board is a file NAME.toml in {folder})"
        )
    return read(folder / f"{name}.toml")


def read(path: Path) -> Board:
    """Read and check one board file; ConfigError names the file and every wrong key."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text; write the file as UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}; correct that line") from error
    try:
        board = Board.model_validate(table)
    except ValidationError as error:
        problems = "; ".join(_problem(e) for e in error.errors())
        raise ConfigError(f"{path}: {problems}; boards/pynq-z2.toml shows every key") from error
    if board.name != path.stem:
        raise ConfigError(f"{path}: name is {board.name!r}; it must be that of the file")
    return board


def _problem(error: object) -> str:
    assert isinstance(error, dict)
    key = ".".join(str(part) for part in error["loc"] if part not in ("int", "float", "str"))
    kind = error["type"]
    if kind == "missing":
        return f"key {key} is missing"
    if kind == "extra_forbidden":
        return f"key {key} is unknown (misspelt?)"
    message = str(error["msg"]).removeprefix("Value error, ")
    if not key:
        return message
    return f"key {key}: {message[0].lower()}{message[1:]}, got {error['input']!r}"
