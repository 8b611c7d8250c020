# SPDX-License-Identifier: Apache-2.0
"""Prints everything that states the register map from `hdl/shell/registers.toml`.

`python -m hwflow.driver.registers` writes hdl/shell/regs_pkg.sv (the hardware),
hwflow/driver/regmap.py (the driver) and docs/registers.md. Not needed on a board.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .accelerator import DriverError

ACCESS = ("ro", "rw", "w1c", "wo")
PRINTED_BY = "Printed by `python -m hwflow.driver.registers` from hdl/shell/registers.toml."


class MapError(DriverError, ValueError):
    """A register map that breaks a rule; names the file."""


@dataclass(frozen=True)
class Field:
    """`width` bits from bit `lsb` of a register."""

    name: str
    lsb: int
    width: int
    note: str


@dataclass(frozen=True)
class Register:
    """One 32-bit register at byte `offset`."""

    name: str
    offset: int
    access: str
    note: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class RegisterMap:
    """All registers, and the error codes as name -> (code, meaning)."""

    version: int
    id: int
    registers: tuple[Register, ...]
    errors: Mapping[str, tuple[int, str]]


def read_map(path: Path) -> RegisterMap:
    """The register map of a TOML file. Raises MapError naming the file and what is wrong in it."""
    try:
        return _map(tomllib.loads(path.read_text(encoding="utf-8")), path)
    except MapError:
        raise
    except OSError as error:
        raise MapError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MapError(f"{path}: is not TOML in UTF-8 ({error}); correct that line") from error
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise MapError(
            f"{path}: is not a register map ({type(error).__name__}: {error}); it needs version, "
            "id, [[register]] with name, offset, access and note, and [errors]"
        ) from error


def _map(raw: Mapping[str, Any], path: Path) -> RegisterMap:
    registers = []
    for entry in raw["register"]:
        unknown = set(entry) - {"name", "offset", "access", "note", "fields"}
        if unknown:
            raise MapError(f"{path}: register {entry.get('name')} has unknown keys {unknown}")
        fields = tuple(Field(name, *values) for name, values in entry.get("fields", {}).items())
        registers.append(
            Register(entry["name"], entry["offset"], entry["access"], entry["note"], fields)
        )
    errors = {name: (code, note) for name, (code, note) in raw["errors"].items()}
    result = RegisterMap(raw["version"], raw["id"], tuple(registers), errors)
    _check(result, path)
    return result


def _check_types(regs: RegisterMap, path: Path) -> None:
    """Names become identifiers of three languages, notes become comments of one line."""
    rows: list[tuple[str, tuple[int, ...], tuple[str, ...]]]
    rows = [(r.name, (r.offset,), (r.access, r.note)) for r in regs.registers]
    rows += [(f.name, (f.lsb, f.width), (f.note,)) for r in regs.registers for f in r.fields]
    rows += [(name, (code,), (note,)) for name, (code, note) in regs.errors.items()]
    rows.append(("version", (regs.version, regs.id), ()))
    for name, numbers, texts in rows:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
            raise MapError(f"{path}: {name!r} is no name; use letters, digits and underlines")
        if any(type(number) is not int or not 0 <= number < 1 << 32 for number in numbers):
            raise MapError(f"{path}: {name}: {numbers} must be numbers of 32 bits")
        if any(not isinstance(text, str) or not text.isprintable() for text in texts):
            raise MapError(f"{path}: {name}: {texts} must be text on one line")


def _check(regs: RegisterMap, path: Path) -> None:
    _check_types(regs, path)
    offsets = [register.offset for register in regs.registers]
    if len(set(offsets)) != len(offsets):
        raise MapError(f"{path}: two registers share an offset")
    codes = [code for code, _ in regs.errors.values()]
    if len(set(codes)) != len(codes):
        raise MapError(f"{path}: two errors share a code")
    for register in regs.registers:
        if register.access not in ACCESS:
            raise MapError(f"{path}: {register.name}: access must be one of {ACCESS}")
        if register.offset % 4 or not 0 <= register.offset < 256:
            raise MapError(f"{path}: {register.name}: offset must be a multiple of 4 below 256")
        used = 0
        for field in register.fields:
            mask = ((1 << field.width) - 1) << field.lsb
            if mask >> 32 or mask & used:
                raise MapError(f"{path}: {register.name}.{field.name} overlaps or leaves 32 bits")
            used |= mask


def package_text(regs: RegisterMap) -> str:
    """`regs_pkg.sv`."""
    out = [
        "// SPDX-License-Identifier: Apache-2.0",
        f"// {PRINTED_BY}",
        "`default_nettype none",
        "",
        "package regs_pkg;",
        f"  localparam logic [15:0] MAP_VERSION = 16'd{regs.version};",
        f"  localparam logic [31:0] ID_VALUE = 32'h{regs.id:08x};",
    ]
    for register in regs.registers:
        out.append(f"  localparam logic [7:0] ADDR_{register.name} = 8'h{register.offset:02x};")
        for field in register.fields:
            base = f"{register.name}_{field.name}"
            out.append(f"  localparam int unsigned {base}_LSB = {field.lsb};")
            out.append(f"  localparam int unsigned {base}_W = {field.width};")
    for name, (code, note) in regs.errors.items():
        out.append(f"  localparam logic [7:0] ERR_{name} = 8'h{code:02x};  // {note}")
    out += ["endpackage", "", "`default_nettype wire", ""]
    return "\n".join(out)


def python_text(regs: RegisterMap) -> str:
    """`regmap.py`, which the driver imports."""
    out = [
        "# SPDX-License-Identifier: Apache-2.0",
        f'"""{PRINTED_BY}"""',
        "",
        f"MAP_VERSION = {regs.version}",
        f"ID_VALUE = 0x{regs.id:08X}",
        "",
        "# Byte offsets",
    ]
    out += [f"{register.name} = 0x{register.offset:02X}" for register in regs.registers]
    out += ["", "# Fields: (lowest bit, width)"]
    out += [
        f"{register.name}_{field.name} = ({field.lsb}, {field.width})"
        for register in regs.registers
        for field in register.fields
    ]
    out += ["", "# Error codes"]
    out += [f"CODE_{name} = 0x{code:02X}" for name, (code, _) in regs.errors.items()]
    out += ["", "# What they mean", "ERRORS = {"]
    out += [f'    0x{code:02X}: "{note}",' for code, note in regs.errors.values()]
    out += ["}", ""]
    return "\n".join(out)


def markdown_text(regs: RegisterMap) -> str:
    """`docs/registers.md`."""
    out = [
        "# Registers of the accelerator",
        "",
        f"{PRINTED_BY} Map version {regs.version}. 32-bit registers, AXI4-Lite; an access to any "
        "other offset below 256, or a write to a read-only register, is answered with SLVERR. "
        "ro: read only; rw: read and write; w1c: writing 1 clears; wo: a written 1 acts, reads 0.",
        "",
        "| offset | name | access | bits | meaning |",
        "|---|---|---|---|---|",
    ]
    for register in regs.registers:
        where = f"| 0x{register.offset:02X} | {register.name} | {register.access}"
        out.append(f"{where} | 31:0 | {register.note} |")
        for field in register.fields:
            top = field.lsb + field.width - 1
            bits = f"{top}:{field.lsb}" if field.width > 1 else f"{field.lsb}"
            out.append(f"| | {register.name}.{field.name} | | {bits} | {field.note} |")
    out += ["", "## Error codes", "", "| code | name | meaning |", "|---|---|---|"]
    out += [f"| 0x{code:02X} | {name} | {note} |" for name, (code, note) in regs.errors.items()]
    out += [
        "",
        "## A frame",
        "",
        "1. Once: check ID and VERSION, put the program (array stream, then lanes stream) at a",
        "   16-byte boundary, write PROG_ADDR, PROG_WORDS, LANE_WORDS and the region addresses.",
        "2. Put the image at IMAGE_ADDR, write CTRL.START.",
        "3. Wait for the interrupt, or until STATUS.BUSY is 0. Then STATUS says DONE or ERROR.",
        "4. Compare PROG_HASH with the program's, read CAND_COUNT records of 16 bytes at",
        "   OUTPUT_ADDR (layout `CANDIDATE` of `hwflow/emit/isa.py`).",
        "",
        "The addresses are taken over at the start: those of the next frame may be written while",
        "this one runs. CTRL.RESET stops a frame; STATUS.BUSY stays 1 until every burst that has",
        "been asked for is over, so the bus is never left waiting.",
        "",
    ]
    return "\n".join(out)


def printed(root: Path) -> dict[Path, str]:
    """Every printed file below the repository's root with the text it must have."""
    regs = read_map(root / "hdl" / "shell" / "registers.toml")
    return {
        root / "hdl" / "shell" / "regs_pkg.sv": package_text(regs),
        root / "hwflow" / "driver" / "regmap.py": python_text(regs),
        root / "docs" / "registers.md": markdown_text(regs),
    }


if __name__ == "__main__":
    for target, text in printed(Path(__file__).resolve().parents[2]).items():
        target.write_text(text)
