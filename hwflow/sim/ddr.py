# SPDX-License-Identifier: Apache-2.0
"""The figures of a board's memory as `sim/models/ddr.sv` takes them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from hwflow.boards import Board
from hwflow.errors import ConfigError

PORT_BYTES = 8  # the engine's AXI master moves one beat of so many bytes a cycle
BURST_BEATS = 16
MOST_OUTSTANDING = 16  # places of the model


@dataclass(frozen=True)
class Ddr:
    """In cycles of the engine's clock; ddr.sv says what each one means."""

    rate: Fraction  # bytes a cycle, reads and writes together, at most PORT_BYTES
    latency: int
    turnaround: int
    refresh_every: int
    refresh_for: int
    outstanding: int  # bursts each way; also what the engine itself keeps in flight

    @property
    def plusarg(self) -> str:
        """What the simulator is started with."""
        figures = (
            self.rate.numerator, self.rate.denominator, self.latency, self.turnaround,
            self.refresh_every, self.refresh_for, self.outstanding,
        )  # fmt: skip
        return "+ddr=" + ",".join(map(str, figures))

    @classmethod
    def of(cls, board: Board, mb_s: float | None = None) -> Ddr:
        """Those of a board; mb_s: another bandwidth than the board's sustained one.

        What is more than the engine's port moves is cut to the port. Raises ConfigError when the
        engine or the model cannot have what the board file says.
        """
        memory, mhz = board.ddr, Fraction(board.clock.mhz)
        where = f"board {board.name}, section memory"
        places = memory.outstanding
        if not 2 <= places <= MOST_OUTSTANDING or places & (places - 1):
            raise ConfigError(
                f"{where}: outstanding is {places}; the engine's DMA takes a power of two from 2 "
                f"to {MOST_OUTSTANDING}"
            )
        if memory.burst_beats != BURST_BEATS or memory.port_bits < 8 * PORT_BYTES:
            raise ConfigError(
                f"{where}: a port of {memory.port_bits} bits and bursts of {memory.burst_beats} "
                f"beats; the engine's master has {8 * PORT_BYTES} bits and bursts of {BURST_BEATS}"
            )
        wanted = Fraction(mb_s if mb_s is not None else memory.sustained_mb_s) / mhz
        rate = min(wanted.limit_denominator(1000), Fraction(PORT_BYTES))
        every = round(Fraction(memory.refresh_interval_us) * mhz)
        if rate <= 0 or memory.latency_cycles < 3 or memory.turnaround_cycles > 255:
            raise ConfigError(
                f"{where}: {float(wanted):g} bytes a cycle, latency {memory.latency_cycles}, "
                f"turnaround {memory.turnaround_cycles}; the model takes more than 0, 3 cycles or "
                "more, and at most 255"
            )
        if not memory.refresh_cycles < min(every, 256):
            raise ConfigError(
                f"{where}: refreshes of {memory.refresh_cycles} cycles every {every}; they must be "
                "shorter than their interval and than 256"
            )
        return cls(
            rate, memory.latency_cycles, memory.turnaround_cycles, every, memory.refresh_cycles,
            places,
        )  # fmt: skip
