// SPDX-License-Identifier: Apache-2.0
// Shapes and latencies of the engine's datapath (docs/engine.md). Latency N: what is presented in
// cycle t comes out in cycle t + N; every block takes one item a cycle and never stalls.
`default_nettype none

package engine_pkg;
  // Not every module uses every constant
  /* verilator lint_off UNUSEDPARAM */
  localparam int unsigned LANES = 16;  // pixels of an activation word
  localparam int unsigned OC = 24;  // output channels of a tile
  localparam int unsigned OC_W = 5;
  localparam int unsigned ADDR_W = 16;  // activation word address
  localparam int unsigned PIX_W = 9;  // a pixel, uint8 or int8, as a signed number
  localparam int unsigned ACC_W = 26;  // an accumulator
  localparam int unsigned LANE_W = 16;  // nine products of depthwise lanes
  localparam int unsigned BIAS_W = 25;
  localparam int unsigned SHIFT_W = 5;  // shift + 7
  localparam int unsigned SMAP_IDX_W = 10;
  localparam int unsigned ACT_WORDS = 30720;  // words of activation memory on the largest board

  // Cycles
  localparam int unsigned ACT_LAT = 6;  // act_mem: center -> window
  localparam int unsigned FETCH_LAT = 8;  // fetch: fetch_t -> taps, ACT_LAT of it in act_mem
  localparam int unsigned MAC_LAT = 9;  // mac_array: `last` -> d_valid of channel 0
  localparam int unsigned DW_LAT = 3;  // dw_lanes: valid -> out_valid
  // lane_path: the entry that brings the centre to its place -> lanes_valid, wb_valid
  localparam int unsigned LANE_LAT = 7;
  localparam int unsigned LANE_WB_LAT = 12;
  localparam int unsigned REQUANT_LAT = 5;  // requant: acc -> q
  localparam int unsigned WB_LAT = REQUANT_LAT;  // writeback: valid -> wr_en

  // act_mem: words that wait, of 32 on wa and 64 on wb, before hold_b rises two cycles later. Whoever
  // makes B's reads decides none from the cycle after that on; a read decided in cycle t must be in
  // the memory by t + ACT_SLACK_A, and its word on wb by t + ACT_SLACK_B.
  localparam int unsigned ACT_HOLD_A = 20;
  localparam int unsigned ACT_HOLD_B = 32;
  localparam int unsigned ACT_SLACK_A = 8;
  localparam int unsigned ACT_SLACK_B = 30;

  // Kernel rows of the window
  localparam logic [1:0] MODE_STRIDE1 = 2'd0;
  localparam logic [1:0] MODE_UP = 2'd1;
  localparam logic [1:0] MODE_STRIDE2 = 2'd2;
  localparam logic [1:0] MODE_STRIDE4 = 2'd3;

  // The array's read of a window; taps of one kernel row come out of fetch
  typedef struct packed {
    logic        valid;
    logic [15:0] center;     // address of window slot 1
    logic        pre;        // the window moves on by 8 pixels (modes stride 1 and up)
    logic [1:0]  mode;       // MODE_*
    logic [15:0] lane_ok;    // lane takes part and its row is in the map; else it reads 0
    logic        at_left;    // first word of its row: tap column 0 is checked
    logic        at_right;   // last word of its row: tap column 2 is checked
    logic        narrow;     // rows of 8 pixels: both edges lie in the word
    logic        linear;     // the plain word: mode, pre, lane_ok and edges are not looked at
    logic        pair;       // with linear: tap 2 is the plain word center + 1
    logic        in_signed;  // bytes are int8, else uint8
  } fetch_t;
  /* verilator lint_on UNUSEDPARAM */
endpackage

`default_nettype wire
