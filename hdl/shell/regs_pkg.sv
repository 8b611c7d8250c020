// SPDX-License-Identifier: Apache-2.0
// Printed by `python -m hwflow.driver.registers` from hdl/shell/registers.toml.
`default_nettype none

package regs_pkg;
  localparam logic [15:0] MAP_VERSION = 16'd2;
  localparam logic [31:0] ID_VALUE = 32'h46465748;
  localparam logic [7:0] ADDR_ID = 8'h00;
  localparam logic [7:0] ADDR_VERSION = 8'h04;
  localparam int unsigned VERSION_ISA_LSB = 0;
  localparam int unsigned VERSION_ISA_W = 16;
  localparam int unsigned VERSION_MAP_LSB = 16;
  localparam int unsigned VERSION_MAP_W = 16;
  localparam logic [7:0] ADDR_CAPS = 8'h08;
  localparam int unsigned CAPS_LANES_LSB = 0;
  localparam int unsigned CAPS_LANES_W = 8;
  localparam int unsigned CAPS_OC_LSB = 8;
  localparam int unsigned CAPS_OC_W = 8;
  localparam int unsigned CAPS_ACT_WORDS_LSB = 16;
  localparam int unsigned CAPS_ACT_WORDS_W = 16;
  localparam logic [7:0] ADDR_CTRL = 8'h0c;
  localparam int unsigned CTRL_START_LSB = 0;
  localparam int unsigned CTRL_START_W = 1;
  localparam int unsigned CTRL_RESET_LSB = 1;
  localparam int unsigned CTRL_RESET_W = 1;
  localparam logic [7:0] ADDR_STATUS = 8'h10;
  localparam int unsigned STATUS_BUSY_LSB = 0;
  localparam int unsigned STATUS_BUSY_W = 1;
  localparam int unsigned STATUS_DONE_LSB = 1;
  localparam int unsigned STATUS_DONE_W = 1;
  localparam int unsigned STATUS_ERROR_LSB = 2;
  localparam int unsigned STATUS_ERROR_W = 1;
  localparam logic [7:0] ADDR_ERROR = 8'h14;
  localparam int unsigned ERROR_CODE_LSB = 0;
  localparam int unsigned ERROR_CODE_W = 8;
  localparam int unsigned ERROR_TAG_LSB = 16;
  localparam int unsigned ERROR_TAG_W = 12;
  localparam logic [7:0] ADDR_IRQ_ENABLE = 8'h18;
  localparam int unsigned IRQ_ENABLE_DONE_LSB = 0;
  localparam int unsigned IRQ_ENABLE_DONE_W = 1;
  localparam int unsigned IRQ_ENABLE_ERROR_LSB = 1;
  localparam int unsigned IRQ_ENABLE_ERROR_W = 1;
  localparam logic [7:0] ADDR_IRQ_STATUS = 8'h1c;
  localparam int unsigned IRQ_STATUS_DONE_LSB = 0;
  localparam int unsigned IRQ_STATUS_DONE_W = 1;
  localparam int unsigned IRQ_STATUS_ERROR_LSB = 1;
  localparam int unsigned IRQ_STATUS_ERROR_W = 1;
  localparam logic [7:0] ADDR_PROG_ADDR = 8'h20;
  localparam logic [7:0] ADDR_PROG_WORDS = 8'h24;
  localparam logic [7:0] ADDR_IMAGE_ADDR = 8'h28;
  localparam logic [7:0] ADDR_OUTPUT_ADDR = 8'h2c;
  localparam logic [7:0] ADDR_SCRATCH_ADDR = 8'h30;
  localparam logic [7:0] ADDR_WATCHDOG = 8'h34;
  localparam logic [7:0] ADDR_CYCLES = 8'h38;
  localparam logic [7:0] ADDR_RD_BYTES = 8'h3c;
  localparam logic [7:0] ADDR_WR_BYTES = 8'h40;
  localparam logic [7:0] ADDR_CAND_COUNT = 8'h44;
  localparam logic [7:0] ADDR_PROG_HASH_LO = 8'h48;
  localparam logic [7:0] ADDR_PROG_HASH_HI = 8'h4c;
  localparam logic [7:0] ADDR_TAG = 8'h50;
  localparam int unsigned TAG_ARRAY_LSB = 0;
  localparam int unsigned TAG_ARRAY_W = 12;
  localparam int unsigned TAG_LANES_LSB = 16;
  localparam int unsigned TAG_LANES_W = 12;
  localparam logic [7:0] ADDR_LANE_WORDS = 8'h54;
  localparam logic [7:0] ERR_HEAD = 8'h01;  // a stream is none, or was made for another version of the engine or for the other queue
  localparam logic [7:0] ERR_OPCODE = 8'h02;  // a descriptor has an unknown opcode, or one of the other queue
  localparam logic [7:0] ERR_MEMORY = 8'h03;  // the memory answered with an error
  localparam logic [7:0] ERR_FIRST = 8'h04;  // a stream does not begin with HEAD
  localparam logic [7:0] ERR_FIELDS = 8'h05;  // fields of a descriptor do not go together
  localparam logic [7:0] ERR_BUS_READ = 8'h10;  // the memory answered a read with an error
  localparam logic [7:0] ERR_BUS_WRITE = 8'h11;  // the memory answered a write with an error
  localparam logic [7:0] ERR_WATCHDOG = 8'h12;  // the frame took longer than WATCHDOG cycles
  localparam logic [7:0] ERR_CONFIG = 8'h13;  // an address is no multiple of 16, or PROG_WORDS or LANE_WORDS is out of range
endpackage

`default_nettype wire
