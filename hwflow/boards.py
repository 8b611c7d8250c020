# SPDX-License-Identifier: Apache-2.0
"""Boards: one TOML file each, read strictly. A new board is a new file and nothing else."""

from __future__ import annotations

import contextlib
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

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
    """What the chip has. `own`: cells that are none of the four, by the name of the chip's tools.

    A chip without block memories of 36 kbit, or without multipliers of the DSP kind, leaves that
    key out; its own blocks are in `own`.
    """

    lut: PositiveInt
    ff: PositiveInt
    bram36: PositiveInt = Field(default=0, validate_default=False)
    dsp: PositiveInt = Field(default=0, validate_default=False)
    own: dict[str, PositiveInt] = Field(default_factory=dict)

    @property
    def blocks(self) -> dict[str, int]:
        """Memories and multipliers by their names."""
        named = {"BRAM36": self.bram36, "DSP": self.dsp}
        return {**{name: count for name, count in named.items() if count}, **self.own}


class Limits(_Strict):
    """Largest share of each resource a design may take, in percent."""

    lut_percent: int = Field(ge=1, le=100)
    ff_percent: int = Field(ge=1, le=100)
    bram36_percent: int = Field(ge=1, le=100)
    dsp_percent: int = Field(ge=1, le=100)


ALL = Limits(lut_percent=100, ff_percent=100, bram36_percent=100, dsp_percent=100)
NO_PLL = "none"


class Clock(_Strict):
    """The clock of the logic: `mhz` must be what the PLL and its divider really give.

    pll_mhz: its inner oscillator. Without a PLL (pll "none") the three are the board's oscillator,
    and the divider is 1.
    """

    mhz: PositiveFloat
    pll: str
    pll_mhz: PositiveFloat
    divider: PositiveInt

    @model_validator(mode="after")
    def _generated(self) -> Self:
        given = self.pll_mhz / self.divider
        if not math.isclose(given, self.mhz, rel_tol=1e-9):
            raise ValueError(f"pll_mhz / divider gives {given:g} MHz, but mhz says {self.mhz:g}")
        if self.pll == NO_PLL and self.divider != 1:
            raise ValueError(f'divider is {self.divider}, but pll is "none" and divides nothing')
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


class Pin(_Strict):
    """One pin of the package. active: the level that means "pressed" or "lit"."""

    pin: str = Field(pattern=r"^[A-Z]{0,2}[0-9]{1,3}$")
    pull: Literal["up", "down", "none"] = "none"
    active: Literal["high", "low"] = "high"
    standard: Literal["LVCMOS33", "LVCMOS25", "LVCMOS18", "LVCMOS15", "LVCMOS12"] = "LVCMOS33"


class Pins(_Strict):
    """What the shell uses, by function; the serial line as the chip sees it (`uart_rx` is in)."""

    clock: Pin
    uart_rx: Pin
    uart_tx: Pin
    reset: Pin | None = None
    leds: Annotated[list[Pin], Field(max_length=8)] = Field(default_factory=list)

    def by_function(self) -> dict[str, Pin]:
        """Every pin under its key in the file."""
        named = {"clock": self.clock, "uart_rx": self.uart_rx, "uart_tx": self.uart_tx}
        if self.reset is not None:
            named["reset"] = self.reset
        return {**named, **{f"leds.{i}": pin for i, pin in enumerate(self.leds)}}

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        taken: dict[str, str] = {}
        for function, one in self.by_function().items():
            if one.pin in taken:
                raise ValueError(f"pin {one.pin} has two functions, {taken[one.pin]} and "
                                 f"{function}; give one of them another pin")
            taken[one.pin] = function
        if len({one.active for one in self.leds}) > 1:
            raise ValueError("leds: some are lit by high and some by low; list those of one kind")
        return self


# By family: devices that nextpnr has options for, the PLL of the chip, whether the package and the
# speed are options of their own (for Gowin they are in the device's name, and `chip` is needed).
DEVICES: dict[str, tuple[str, ...]] = {
    "ecp5": tuple(f"{kind}{size}" for kind in ("", "um-", "um5g-") for size in
                  ("12k", "25k", "45k", "85k") if not (kind and size == "12k")),
    "ice40": ("lp384", "lp1k", "lp4k", "lp8k", "hx1k", "hx4k", "hx8k", "up3k", "up5k", "u1k",
              "u2k", "u4k"),
    "gowin": (),
}
# SB_PLL40_PAD where the oscillator is at the PLL's own pin
PLLS = {"ecp5": ("EHXPLLL",), "ice40": ("SB_PLL40_CORE", "SB_PLL40_PAD"), "gowin": ("rPLL",)}
BAUD_ERROR = 0.015  # a start bit and nine more: the last one is sampled 0.15 bits off


class NextPnr(_Strict):
    """The chip as nextpnr is told it.

    goal_mhz: the clock the router works for, whatever the board's is. package and speed: ECP5,
    iCE40 (package only). chip: Gowin, the name of its database. timing_weight: how much the placer
    minds slow paths beside long wires, nextpnr's own choice if None. seed: of its random numbers.
    """

    device: str
    package: str | None = None
    speed: str | None = None
    chip: str | None = None
    goal_mhz: PositiveFloat
    timing_weight: PositiveInt | None = None
    seed: PositiveInt = 1


class Uart(_Strict):
    """The serial line: 8 bits, no parity, one stop bit."""

    baud: int = Field(ge=300, le=12_000_000)

    def cycles_per_bit(self, mhz: float) -> int:
        """Cycles of a clock to one bit, rounded."""
        return round(mhz * 1e6 / self.baud)


class Tables(_Strict):
    """How the core of a network of tables is pipelined; hwflow.emit.tables.Options says what the
    numbers mean."""

    table_levels: int = Field(default=1, ge=0)
    head_levels: int = Field(default=2, ge=0)
    fan_out: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class OpenBoard:
    """What a board built by open tools has, all of it."""

    oscillator_mhz: float
    pins: Pins
    uart: Uart
    nextpnr: NextPnr
    program: str


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
    are published designs on the same chip. A board with shell "uart" has no engine and no memory:
    it is for networks of tables, made by nextpnr; `program` is the command that loads the
    bitstream.
    """

    name: str
    title: str
    part: str
    family: str
    toolchain: str
    shell: str
    resources: Resources
    limits: Limits = ALL
    clock: Clock
    memory: Memory | None = None
    engine: EngineSize | None = None
    tables: Tables = Tables()
    ps7: dict[str, int | float | str] = Field(default_factory=dict)
    oscillator_mhz: PositiveFloat | None = None
    pins: Pins | None = None
    uart: Uart | None = None
    nextpnr: NextPnr | None = None
    program: str | None = Field(default=None, pattern=r"\{bitstream\}")
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
        if self.engine is None:
            return self
        shape = (self.engine.columns, self.engine.pixels)
        if not without and shape != (RTL_COLUMNS, RTL_PIXELS):
            raise ValueError(
                f"hdl/engine has an array of {RTL_COLUMNS} columns by {RTL_PIXELS} pixels, not "
                f"{shape[0]} by {shape[1]}; a board with another one is for estimates only "
                '(toolchain = "none")'
            )
        return self

    @model_validator(mode="after")
    def _sections(self) -> Self:
        """Those of the shell are there, those of another one are not."""
        uart = {"nextpnr": self.nextpnr, "pins": self.pins, "uart": self.uart,
                "oscillator_mhz": self.oscillator_mhz, "program": self.program}
        engine = {"engine": self.engine, "memory": self.memory,
                  "limits": None if self.limits is ALL else self.limits,
                  "resources.bram36": self.resources.bram36 or None,
                  "resources.dsp": self.resources.dsp or None}
        wanted = uart if self.shell == "uart" else engine
        missing = [key for key, value in wanted.items() if value is None]
        if missing:
            raise ValueError(f"key {', '.join(missing)} is missing; a board with shell "
                             f'"{self.shell}" needs it')
        others = {"engine": self.engine, "memory": self.memory, "ps7": self.ps7 or None} \
            if self.shell == "uart" else uart
        spare = [key for key, value in others.items() if value is not None]
        if spare:
            raise ValueError(f'key {spare[0]} is not for a board with shell "{self.shell}"')
        if (self.shell == "uart") != (self.toolchain == "nextpnr"):
            raise ValueError('shell "uart" and toolchain "nextpnr" belong together')
        return self

    @model_validator(mode="after")
    def _open_chip(self) -> Self:
        if self.nextpnr is None or self.uart is None or self.oscillator_mhz is None:
            return self
        chip, family = self.nextpnr, self.family
        if family not in DEVICES:
            raise ValueError(f"family {family!r} has no nextpnr here; families: "
                             f"{', '.join(DEVICES)}")
        if DEVICES[family] and chip.device not in DEVICES[family]:
            raise ValueError(f"nextpnr.device {chip.device!r} is not known to nextpnr-{family}; "
                             f"devices: {', '.join(DEVICES[family])}")
        keys = {"ecp5": ("package", "speed"), "ice40": ("package",), "gowin": ("chip",)}[family]
        for key in ("package", "speed", "chip"):
            if (getattr(chip, key) is None) == (key in keys):
                raise ValueError(f"key nextpnr.{key} is {'missing' if key in keys else 'unknown'}: "
                                 f"family {family} takes device, {', '.join(keys)}")
        if self.clock.pll not in (NO_PLL, *PLLS[family]):
            raise ValueError(f"clock.pll {self.clock.pll!r}: family {family} has "
                             f'{" or ".join(PLLS[family])}, or "none"')
        if self.clock.pll == NO_PLL and self.clock.mhz != self.oscillator_mhz:
            raise ValueError(f"clock.mhz is {self.clock.mhz:g} without a PLL, but oscillator_mhz "
                             f"is {self.oscillator_mhz:g}")
        cycles = self.uart.cycles_per_bit(self.clock.mhz)
        if cycles < 4:
            raise ValueError(f"uart.baud {self.uart.baud} leaves {cycles} cycles of "
                             f"{self.clock.mhz:g} MHz to a bit; at least 4 are needed")
        off = self.clock.mhz * 1e6 / cycles / self.uart.baud - 1
        if abs(off) > BAUD_ERROR:
            raise ValueError(f"uart.baud {self.uart.baud} is missed by {100 * off:+.1f} % with a "
                             f"clock of {self.clock.mhz:g} MHz; choose another rate")
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
    def engine_size(self) -> EngineSize:
        """The size of the engine; ConfigError on a board that has none."""
        if self.engine is None:
            raise self._without("engine")
        return self.engine

    @property
    def ddr(self) -> Memory:
        """The memory of the engine; ConfigError on a board that has none."""
        if self.memory is None:
            raise self._without("memory")
        return self.memory

    def _without(self, section: str) -> ConfigError:
        return ConfigError(
            f"board {self.name} is for networks of tables (`hwflow build dtnn`): its file has no "
            f"section [{section}], which the engine needs; for this network choose "
            f"{' or '.join(with_engine())}"
        )

    @property
    def open(self) -> OpenBoard:
        """What the open tools are told; ConfigError on a board of a vendor's tools."""
        parts = (self.oscillator_mhz, self.pins, self.uart, self.nextpnr, self.program)
        oscillator_mhz, pins, uart, nextpnr, program = parts
        if oscillator_mhz is None or pins is None or uart is None or nextpnr is None \
                or program is None:
            raise ConfigError(
                f"board {self.name} is not built by open tools (its toolchain is "
                f"{self.toolchain!r}); choose {' or '.join(of_shell('uart'))}"
            )
        return OpenBoard(oscillator_mhz, pins, uart, nextpnr, program)

    @property
    def bytes_per_cycle(self) -> float:
        """Sustained DDR bandwidth in bytes a clock cycle of the logic."""
        return self.ddr.sustained_mb_s / self.clock.mhz


def of_shell(shell: str) -> tuple[str, ...]:
    """Boards that have this shell, of those whose file can be read."""
    found = []
    for name in names():
        with contextlib.suppress(ConfigError):
            if load(name).shell == shell:
                found.append(name)
    return tuple(found)


def with_engine() -> tuple[str, ...]:
    """Boards that networks of the engine, as CoDeNet, can be built for."""
    return of_shell("zynq7")


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
        example = "ulx3s-85f" if table.get("shell") == "uart" else "pynq-z2"
        raise ConfigError(f"{path}: {problems}; boards/{example}.toml shows every key") from error
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
