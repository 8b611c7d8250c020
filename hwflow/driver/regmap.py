# SPDX-License-Identifier: Apache-2.0
"""Printed by `python -m hwflow.driver.registers` from hdl/shell/registers.toml."""

MAP_VERSION = 2
ID_VALUE = 0x46465748

# Byte offsets
ID = 0x00
VERSION = 0x04
CAPS = 0x08
CTRL = 0x0C
STATUS = 0x10
ERROR = 0x14
IRQ_ENABLE = 0x18
IRQ_STATUS = 0x1C
PROG_ADDR = 0x20
PROG_WORDS = 0x24
IMAGE_ADDR = 0x28
OUTPUT_ADDR = 0x2C
SCRATCH_ADDR = 0x30
WATCHDOG = 0x34
CYCLES = 0x38
RD_BYTES = 0x3C
WR_BYTES = 0x40
CAND_COUNT = 0x44
PROG_HASH_LO = 0x48
PROG_HASH_HI = 0x4C
TAG = 0x50
LANE_WORDS = 0x54

# Fields: (lowest bit, width)
VERSION_ISA = (0, 16)
VERSION_MAP = (16, 16)
CAPS_LANES = (0, 8)
CAPS_OC = (8, 8)
CAPS_ACT_WORDS = (16, 16)
CTRL_START = (0, 1)
CTRL_RESET = (1, 1)
STATUS_BUSY = (0, 1)
STATUS_DONE = (1, 1)
STATUS_ERROR = (2, 1)
ERROR_CODE = (0, 8)
ERROR_TAG = (16, 12)
IRQ_ENABLE_DONE = (0, 1)
IRQ_ENABLE_ERROR = (1, 1)
IRQ_STATUS_DONE = (0, 1)
IRQ_STATUS_ERROR = (1, 1)
TAG_ARRAY = (0, 12)
TAG_LANES = (16, 12)

# Error codes
CODE_HEAD = 0x01
CODE_OPCODE = 0x02
CODE_MEMORY = 0x03
CODE_FIRST = 0x04
CODE_FIELDS = 0x05
CODE_BUS_READ = 0x10
CODE_BUS_WRITE = 0x11
CODE_WATCHDOG = 0x12
CODE_CONFIG = 0x13

# What they mean
ERRORS = {
    0x01: "a stream is none, or was made for another version of the engine or for the other queue",
    0x02: "a descriptor has an unknown opcode, or one of the other queue",
    0x03: "the memory answered with an error",
    0x04: "a stream does not begin with HEAD",
    0x05: "fields of a descriptor do not go together",
    0x10: "the memory answered a read with an error",
    0x11: "the memory answered a write with an error",
    0x12: "the frame took longer than WATCHDOG cycles",
    0x13: "an address is no multiple of 16, or PROG_WORDS or LANE_WORDS is out of range",
}
