# SPDX-License-Identifier: Apache-2.0
"""What a board of open tools adds to a network: its pins, its PLL, the module on top."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwflow import resources
from hwflow.boards import NO_PLL, Board, Pin
from hwflow.errors import ConfigError, ResourceError
from hwflow.toolchain.render import render

TOP = "board_top"
CORE = "tables_axis"
# The shell's sources below hdl/, in order
SHELL = ("shell/uart_pkg.sv", "shell/uart_crc.sv", "shell/uart_rx.sv",
         "shell/uart_tx.sv", "shell/uart_request.sv", "shell/uart_answer.sv",
         "shell/uart_shell.sv", "shell/power_up.sv")  # fmt: skip
SILENCE_S = 0.1  # within a request; an operating system may pause a sender that long


@dataclass(frozen=True)
class Limits:
    """Of a PLL: ranges of MHz before the phase detector and of its oscillator, and its dividers."""

    detector: tuple[float, float]
    inner: tuple[float, float]
    inputs: int
    feedbacks: int
    outputs: frozenset[int]


# Data sheets: FPGA-DS-02012 (ECP5), FPGA-TN-02052 (iCE40), DS226 and DS117 (Gowin)
LIMITS: Mapping[str, Limits] = {
    "ecp5": Limits((10, 400), (400, 800), 128, 80, frozenset(range(1, 129))),
    "ice40": Limits((10, 133), (533, 1066), 16, 128, frozenset(1 << n for n in range(1, 7))),
    "gowin": Limits((3, 400), (500, 1200), 64, 64,
                    frozenset({2, 4, *range(8, 129, 8)} - {24, 40, 56, 72, 88, 104, 120})),
}


@dataclass(frozen=True)
class Pll:
    """Dividers: the oscillator's clock by `input`, times `feedback`, is the logic's clock.

    output: between the PLL's own oscillator and the logic's clock. filter: SB_PLL40 only.
    """

    primitive: str
    input: int = 1
    feedback: int = 1
    output: int = 1
    filter: int = 0

    @property
    def output_log(self) -> int:
        """As SB_PLL40 takes it."""
        return self.output.bit_length() - 1


def pll(board: Board) -> Pll:
    """The PLL's dividers for the clock of a board file; ConfigError when there are none."""
    clock, oscillator = board.clock, board.open.oscillator_mhz
    if clock.pll == NO_PLL:
        return Pll(NO_PLL)
    limits, where = LIMITS[board.family], f"boards/{board.name}.toml: key clock"
    low, high = limits.inner
    if not low <= clock.pll_mhz <= high:
        raise ConfigError(f"{where}.pll_mhz is {clock.pll_mhz:g}; the oscillator of {clock.pll} "
                          f"runs at {low:g} to {high:g} MHz")
    if clock.divider not in limits.outputs:
        raise ConfigError(f"{where}.divider is {clock.divider}; {clock.pll} divides by "
                          f"{', '.join(map(str, sorted(limits.outputs)[:12]))}, ...")
    # SB_PLL40 feeds its own oscillator back, the others their output
    target = clock.pll_mhz if board.family == "ice40" else clock.mhz
    for divider in range(1, limits.inputs + 1):
        detector = oscillator / divider
        feedback = round(target / detector)
        if limits.detector[0] <= detector <= limits.detector[1] and \
                1 <= feedback <= limits.feedbacks and \
                abs(feedback * detector / target - 1) < 1e-9:
            steps = (17, 26, 44, 66, 101)
            chosen = 1 + sum(detector >= step for step in steps) if board.family == "ice40" else 0
            return Pll(clock.pll, divider, feedback, clock.divider, chosen)
    raise ConfigError(f"{where}.mhz: {clock.pll} does not make {clock.mhz:g} MHz of "
                      f"{oscillator:g} MHz exactly; choose a ratio of small numbers")


def check_fits(board: Board, luts: int) -> None:
    """ResourceError if a core of so many lookup tables is more than the chip has; with the shell
    and its wires less than all of them can be used."""
    there = board.resources.lut
    if luts > there:
        raise ResourceError(
            f"the design does not fit {board.title} ({board.part}): the core of tables alone needs "
            f"{luts:,} lookup tables of {there:,}; choose a smaller network (--preset, --luts) or "
            "a larger board"
        )


def wrap(
    board: Board, core: Mapping[str, str], frame_bytes: int, answer_bytes: int = 1
) -> dict[str, str | bytes]:
    """All sources of a board's design in order of compilation, the module TOP last.

    core: sources of the module `tables_axis` and what it is made of, by name, in order. Its frames
    have frame_bytes bytes, a byte a beat; it answers answer_bytes.
    """
    folder = resources.path("hdl")
    found: dict[str, str | bytes] = {name: (folder / name).read_text() for name in SHELL}
    found.update({name: text for name, text in core.items() if name not in found})
    found[f"{TOP}.sv"] = top(board, frame_bytes, answer_bytes)
    return found


def top(board: Board, frame_bytes: int, answer_bytes: int = 1) -> str:
    """SystemVerilog of the module TOP: the shell and a core with the board's pins."""
    chip = board.open
    return render(
        "open_top.sv.j2", board=board, pins=chip.pins, pll=pll(board), top=TOP, core=CORE,
        cycles=chip.uart.cycles_per_bit(board.clock.mhz), bytes=frame_bytes, answer=answer_bytes,
        timeout=round(SILENCE_S * board.clock.mhz * 1e6),
    )


def constraints(board: Board) -> tuple[str, str]:
    """Name and text of the file that says where the ports of TOP are."""
    ports = {port_of(key): pin for key, pin in board.open.pins.by_function().items()}
    if board.family == "ecp5":
        return "board.lpf", _lpf(ports)
    if board.family == "ice40":
        return "board.pcf", _pcf(ports)
    return "board.cst", _cst(ports)


def port_of(function: str) -> str:
    """The port of TOP for a key of [pins]."""
    return function.replace("leds.", "leds[") + ("]" if function.startswith("leds.") else "")


def _lpf(ports: Mapping[str, Pin]) -> str:
    lines = []
    for port, pin in ports.items():
        lines += [f'LOCATE COMP "{port}" SITE "{pin.pin}";',
                  f'IOBUF PORT "{port}" IO_TYPE={pin.standard} PULLMODE={pin.pull.upper()};']
    return "\n".join(lines) + "\n"


def _pcf(ports: Mapping[str, Pin]) -> str:
    lines = []
    for port, pin in ports.items():
        pull = " -pullup yes" if pin.pull == "up" else ""
        lines.append(f"set_io{pull} {port} {pin.pin}")
    return "\n".join(lines) + "\n"


def _cst(ports: Mapping[str, Pin]) -> str:
    lines = []
    for port, pin in ports.items():
        lines += [f'IO_LOC "{port}" {pin.pin};',
                  f'IO_PORT "{port}" IO_TYPE={pin.standard} PULL_MODE={pin.pull.upper()};']
    return "\n".join(lines) + "\n"
