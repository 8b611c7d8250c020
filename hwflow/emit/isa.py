# SPDX-License-Identifier: Apache-2.0
"""The engine's instruction stream, field by field: the one place both sides read.

`emit/engine/` packs words with it; `hdl/engine/isa_pkg.sv` is printed from it
(`python -m hwflow.emit.isa`), and a test fails when the two differ. docs/engine.md explains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hwflow.errors import GraphError

ISA_VERSION = 2
WORD_BITS = 128  # one stream word; a descriptor is two of them
LANES = 16  # pixels in one activation word
TILE_OC = 24  # output channels of one weight tile (12 with 8-bit weights)
HEADER_WORDS = 12  # two channel records in each word of a tile's header
CHUNK = 512  # weight words between two unpackings of the packed accumulators
SHIFT_BIAS = 7  # shift code = shift + 7, so that shifts of -7..24 fit five bits
MAGIC = 0x31465748  # "HWF1", little endian
CANDIDATES = 100


@dataclass(frozen=True)
class Field:
    """`width` bits from bit `lsb` of the 256-bit descriptor or 128-bit word."""

    lsb: int
    width: int
    note: str
    signed: bool = False


OPCODES: Mapping[str, int] = {
    "END": 0,
    "CONV": 1,
    "DW": 2,
    "DDW": 3,
    "POOL": 4,
    "LOAD": 5,
    "STORE": 6,
    "PEAK": 7,
    "EMIT": 8,
    "HEAD": 15,
}
OUT_TYPES: Mapping[str, int] = {"u8": 0, "i8": 1, "u3": 2}
REGIONS: Mapping[str, int] = {"image": 0, "scratch": 1, "output": 2}
HALVES: Mapping[str, int] = {"all": 0, "low": 1, "high": 2}

# Fields of every descriptor
COMMON: Mapping[str, Field] = {
    "opcode": Field(0, 4, "see OPCODES"),
    "tag": Field(4, 12, "index of the descriptor, for errors and traces"),
    "wait": Field(240, 12, "start once the other queue has completed so many descriptors"),
}
QUEUES: Mapping[str, int] = {"array": 0, "lanes": 1}
# The map that CONV (when windowed), DW, DDW, POOL and PEAK walk over
GEOMETRY: Mapping[str, Field] = {
    "groups": Field(16, 13, "output words to make (16 pixels each)"),
    "in_signed": Field(29, 1, "input bytes are int8, else uint8"),
    "out_type": Field(30, 2, "see OUT_TYPES"),
    "stride_log2": Field(32, 2, "0, 1 or 2"),
    "up": Field(34, 1, "read the input through nearest upsampling by 2 (stride 1 only)"),
    "narrow": Field(35, 1, "output rows are 8 pixels: a word holds two rows"),
    "in_w": Field(36, 10, "width of the stored input plane in pixels, a multiple of 8"),
    "in_h": Field(46, 10, "height of the input as seen, after upsampling"),
    "y0": Field(56, 10, "first output row"),
    "row_words": Field(66, 6, "output words in a row (1 when narrow)"),
}
_ROWS: Mapping[str, Field] = {
    "channels": Field(72, 12, "records that follow"),
    "rows": Field(84, 10, "output rows, from y0 on"),
}
_TRANSFER: Mapping[str, Field] = {
    "act_addr": Field(16, 16, "first activation word of run 0"),
    "words": Field(32, 16, "words in a run"),
    "ddr_offset": Field(64, 32, "of run 0, bytes from the region's base, a multiple of 16"),
    "region": Field(96, 2, "see REGIONS"),
    "runs": Field(128, 16, "runs of words"),
    "act_stride": Field(144, 16, "activation words from one run to the next"),
    "ddr_stride": Field(160, 24, "16-byte words of DDR from one run to the next"),
}
DESCRIPTORS: Mapping[str, Mapping[str, Field]] = {
    "END": {},
    "CONV": {
        **GEOMETRY,
        "windowed": Field(72, 1, "0: word g of each plane; 1: the window of output word g"),
        "w8": Field(73, 1, "weights are int8, 12 channels in a tile"),
        "to_smap": Field(74, 1, "channel 0 is also written to the dilation map"),
        "k_words": Field(75, 12, "weight words in a tile"),
        "tiles": Field(87, 8, "tiles of output channels"),
        "last_oc": Field(95, 5, "channels in the last tile; twice the channels with `pair`"),
        "pair": Field(100, 1, "two groups at once: columns 12..23 work on word g + 1"),
        "smap_base": Field(104, 10, "dilation map word of group 0"),
    },
    "DW": {**GEOMETRY, **_ROWS},
    "DDW": {**GEOMETRY, **_ROWS},
    "POOL": {**GEOMETRY, **_ROWS},
    "LOAD": _TRANSFER,
    "STORE": _TRANSFER,
    # PEAK scans the logits and keeps the candidates on chip; EMIT reads what belongs to them and
    # sends them to the output region, so that the logits' memory is free in between
    "PEAK": {
        **GEOMETRY,
        "classes": Field(72, 8, "planes of logits, one after the other"),
        "hm": Field(128, 16, "first word of the logits"),
    },
    "EMIT": {
        "w": Field(144, 16, "plane of widths"),
        "h": Field(160, 16, "plane of heights"),
        "reg_x": Field(176, 16, "plane of centre offsets, x"),
        "reg_y": Field(192, 16, "plane of centre offsets, y"),
    },
    "HEAD": {
        "isa_version": Field(16, 16, "must equal the engine's"),
        "magic": Field(32, 32, "HWF1"),
        "hash": Field(64, 64, "first 8 bytes of the program's SHA-256, shown in a register"),
        "queue": Field(128, 1, "which queue the stream is for, see QUEUES"),
    },
}
# One 128-bit word for each (input plane, tap) of a tile
WEIGHT_WORD: Mapping[str, Field] = {
    "weights": Field(0, 96, "24 x int4 or 12 x int8, channel 0 lowest"),
    "plane": Field(96, 16, "word address of the input plane"),
    "tap_i": Field(112, 2, "tap row 0..2 (1 = the centre)"),
    "tap_j": Field(114, 2, "tap column 0..2"),
    "half": Field(116, 2, "see HALVES: lanes that take part (stride 4)"),
}
# Half a header word: one output channel
CHANNEL_RECORD: Mapping[str, Field] = {
    "bias": Field(0, 25, "signed, at the accumulator's scale", True),
    "shift": Field(25, 5, "right shift + 7"),
    "dst": Field(32, 16, "word address of the output plane"),
}
# One 128-bit word for each channel of DW, DDW, POOL
DW_RECORD: Mapping[str, Field] = {
    "weights": Field(0, 36, "9 x int4, tap (0, 0) lowest, row-major"),
    "src": Field(48, 16, "word address of the input plane"),
    "dst": Field(64, 16, "word address of the output plane"),
    "bias": Field(80, 25, "signed", True),
    "shift": Field(105, 5, "right shift + 7"),
}
# What PEAK writes, one record of 16 bytes for each candidate
CANDIDATE: Mapping[str, Field] = {
    "logit": Field(0, 8, "signed", True),
    "class": Field(8, 8, ""),
    "y": Field(16, 16, ""),
    "x": Field(32, 16, ""),
    "w": Field(48, 8, "signed", True),
    "h": Field(56, 8, "signed", True),
    "reg_x": Field(64, 8, "signed", True),
    "reg_y": Field(72, 8, "signed", True),
}
LAYOUTS: Mapping[str, Mapping[str, Field]] = {
    "W": WEIGHT_WORD,
    "C": CHANNEL_RECORD,
    "R": DW_RECORD,
    "CAND": CANDIDATE,
}


def pack(fields: Mapping[str, Field], values: Mapping[str, int], where: str) -> int:
    """The integer with `values` at their places; every value must fit its field.

    Raises GraphError naming `where` and the field when a value does not fit.
    """
    word = 0
    for name, value in values.items():
        field = fields[name]
        lo = -(1 << (field.width - 1)) if field.signed else 0
        if not lo <= value < lo + (1 << field.width):
            raise GraphError(
                f"{where}: {name} = {value} does not fit the engine's {field.width}-bit field "
                f"({field.note}); the engine cannot run this layer"
            )
        word |= (value & ((1 << field.width) - 1)) << field.lsb
    return word


def descriptor(opcode: str, tag: int, where: str, **values: int) -> bytes:
    """A descriptor of 32 bytes, little endian."""
    fields = {**COMMON, **DESCRIPTORS[opcode]}
    word = pack(fields, {"opcode": OPCODES[opcode], "tag": tag, **values}, where)
    return word.to_bytes(2 * WORD_BITS // 8, "little")


def package_text() -> str:
    """`isa_pkg.sv`: opcodes, and `<LAYOUT>_<FIELD>_LSB` / `_W` for every field."""
    out = [
        "// SPDX-License-Identifier: Apache-2.0",
        "// Printed by `python -m hwflow.emit.isa`; change that file, not this one.",
        "`default_nettype none",
        "",
        "package isa_pkg;",
    ]

    def constant(name: str, value: int, note: str = "") -> None:
        comment = f"  // {note}" if note else ""
        out.append(f"  localparam int unsigned {name} = {value};{comment}")

    for name, value in (
        ("ISA_VERSION", ISA_VERSION),
        ("WORD_BITS", WORD_BITS),
        ("LANES", LANES),
        ("TILE_OC", TILE_OC),
        ("HEADER_WORDS", HEADER_WORDS),
        ("CHUNK", CHUNK),
        ("SHIFT_BIAS", SHIFT_BIAS),
        ("CANDIDATES", CANDIDATES),
    ):
        constant(name, value)
    out.append(f"  localparam logic [31:0] MAGIC = 32'h{MAGIC:08x};")
    for name, value in OPCODES.items():
        out.append(f"  localparam logic [3:0] OP_{name} = 4'd{value};")
    for name, value in OUT_TYPES.items():
        out.append(f"  localparam logic [1:0] OUT_{name.upper()} = 2'd{value};")
    for name, value in REGIONS.items():
        out.append(f"  localparam logic [1:0] REGION_{name.upper()} = 2'd{value};")
    for name, value in QUEUES.items():
        out.append(f"  localparam logic QUEUE_{name.upper()} = 1'd{value};")
    for name, value in HALVES.items():
        out.append(f"  localparam logic [1:0] HALF_{name.upper()} = 2'd{value};")
    layouts = {"D": COMMON, "G": GEOMETRY, **LAYOUTS}
    for name, fields in DESCRIPTORS.items():
        layouts[name] = {k: v for k, v in fields.items() if k not in GEOMETRY}
    for layout, fields in layouts.items():
        for name, field in fields.items():
            constant(f"{layout}_{name.upper()}_LSB", field.lsb, field.note)
            constant(f"{layout}_{name.upper()}_W", field.width)
    out += ["endpackage", "", "`default_nettype wire", ""]
    return "\n".join(out)


if __name__ == "__main__":
    target = Path(__file__).resolve().parents[2] / "hdl" / "engine" / "isa_pkg.sv"
    target.write_text(package_text())
