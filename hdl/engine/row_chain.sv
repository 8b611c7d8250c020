// SPDX-License-Identifier: Apache-2.0
// The rows of one column of words, one entered a cycle at most, and the nine taps of its centre.
//
// Positions +7..-7: the row at p came p entries after the centre. Every entry moves all by one;
// with reach7 it enters at +7, else at +1. When an entry with `emit` has come to 0, lane x, tap
// (i, j) is pixel x + (j-1) d of the row at (i-1) d, d = dil[x] of that entry (1 without reach7); with
// stride2 pixel 2x + (j-1) of the row at i - 1. Pixels beside the map are the fill from the moment
// they enter; rows above and below it (the row's v against d) are replaced by 0 in `taps`, and
// `above`, `below` say so for d = 1. Pixels come from the window as in docs/engine.md, "Geometry";
// a row of pixels -7..22 is kept, and at +1, 0, -1 the taps of d = 1, so that strided rows need no
// more than 33 registers.
//
// Latencies, from the entry that brings the centre to 0: `row` (what came to +1) and `weights` 2;
// `valid` with taps, above, below, half, bias, shift and addr 3. `mode` is constant from the cycle
// before the first entry on. Resources: about 4.3k LUT, 5.8k FF.
`default_nettype none

module row_chain (
    input  wire logic                        clk,
    input  wire logic                        rst,
    input  wire seq_pkg::mode_t              mode,
    // an entry, and the window with its row
    input  wire logic                        ins_valid,
    input  wire seq_pkg::meta_t              ins_meta,
    input  wire seq_pkg::pick_t              ins_pick,
    input  wire logic            [383:0]     window,
    // the three taps of the row that has come to +1
    output logic                             row_valid,
    output logic [2:0][15:0][7:0]            row,
    output logic [35:0]                      weights,  // one cycle before valid
    // the centre
    output logic                             valid,
    output logic [2:0][2:0][15:0][7:0]       taps,  // not in max_mode
    output logic                             above,  // the row above is not in the map
    output logic                             below,
    output logic                             half,
    output logic [engine_pkg::BIAS_W-1:0]    bias,
    output logic [engine_pkg::SHIFT_W-1:0]   shift,
    output logic [engine_pkg::ADDR_W-1:0]    addr
);
  localparam int unsigned PIXELS = 30;  // -7..22 from the row's first
  localparam int unsigned STRIDED = 33;  // -1..31
  localparam int unsigned BESIDE = 14;  // pixels of a row that are not in the word: -7..-1, 16..22

  typedef struct packed {
    logic             half;
    logic [35:0]      weights;
    logic [24:0]      bias;
    logic [4:0]       shift;
    logic [15:0]      addr;
    logic [15:0][2:0] dil;
    logic [2:0]       room_above;  // rows of the map above this one, at most 7
    logic [2:0]       room_below;
  } carried_t;
  localparam int unsigned CARRIED_W = 1 + 36 + 25 + 5 + 16 + 48 + 3 + 3;

  // Constants of the operation
  logic fill_q;  // sign bit of the fill, its other bits are 0
  logic [10:0] last_row_q;
  always_ff @(posedge clk) begin
    fill_q <= mode.fill_min && mode.in_signed;
    last_row_q <= {1'b0, mode.in_h} - 11'd1;
  end

  // ---- 1: the row's pixels
  logic valid1_q;
  logic emit1_q;
  seq_pkg::meta_t meta1_q;
  logic [10:0] below1_q;  // rows from this one to the last
  logic [PIXELS-1:0][7:0] plain_q;
  logic [STRIDED-1:0][7:0] strided_q;

  always_ff @(posedge clk) begin
    if (rst) begin
      valid1_q <= 1'b0;
      emit1_q  <= 1'b0;
    end else begin
      valid1_q <= ins_valid;
      emit1_q  <= ins_valid && ins_meta.emit;
    end
  end
  always_ff @(posedge clk) begin
    if (ins_valid) begin
      meta1_q  <= ins_meta;
      below1_q <= last_row_q - ins_meta.v;
    end
  end

  for (genvar e = 0; e < PIXELS; e++) begin : g_plain
    localparam int unsigned ONE = 16 + e - 7;  // pixel -7 + e
    localparam int unsigned TWO = 16 + (e + 1) / 2 - 4;  // pixel floor((-7 + e) / 2)
    logic outside;
    if (e < 7) begin : g_left
      assign outside = ins_pick.at_left;
    end else if (e >= 23) begin : g_right
      assign outside = ins_pick.at_right;
    end else if (e >= 15) begin : g_narrow
      assign outside = ins_pick.at_right && mode.narrow;
    end else begin : g_inside
      assign outside = 1'b0;
    end
    always_ff @(posedge clk) begin
      if (ins_valid) begin
        if (outside) plain_q[e] <= {fill_q, 7'd0};
        else begin
          case ({ins_pick.mode == engine_pkg::MODE_UP, ins_pick.pre})
            2'b00: plain_q[e] <= window[8*ONE+:8];
            2'b01: plain_q[e] <= window[8*(ONE+8)+:8];
            2'b10: plain_q[e] <= window[8*TWO+:8];
            default: plain_q[e] <= window[8*(TWO+8)+:8];
          endcase
        end
      end
    end
  end

  // A strided row has an even number of pixels: its last right-hand tap is inside
  always_ff @(posedge clk) begin
    if (ins_valid && mode.stride2) begin
      strided_q <= window[8*15+:8*STRIDED];
      if (ins_pick.at_left) strided_q[0] <= {fill_q, 7'd0};
    end
  end

  carried_t enter;
  always_comb begin
    enter.half = meta1_q.half;
    enter.weights = meta1_q.weights;
    enter.bias = meta1_q.bias;
    enter.shift = meta1_q.shift;
    enter.addr = meta1_q.addr;
    enter.dil = meta1_q.dil;
    enter.room_above = meta1_q.v[10:3] != '0 ? 3'd7 : meta1_q.v[2:0];
    enter.room_below = below1_q[10:3] != '0 ? 3'd7 : below1_q[2:0];
  end

  // ---- 2: the chain. Positions +7..+2 and -2..-7 move in DDW only
  logic far_move;
  logic [7:2][PIXELS-1:0][7:0] ahead_q;  // index: rows after the centre
  logic [7:2][PIXELS-1:0][7:0] behind_q;  // index: rows before the centre
  logic [2:0][BESIDE-1:0][7:0] beside_q;  // at +1, 0, -1 (index 0, 1, 2)
  logic [2:0][2:0][15:0][7:0] near_q;  // at +1, 0, -1: taps of d = 1; the middle ones are the word
  assign far_move = valid1_q && mode.reach7;

  logic [PIXELS-1:0][7:0] center_row;
  logic [PIXELS-1:0][7:0] leaving_row;
  assign center_row = {beside_q[1][13:7], near_q[1][1], beside_q[1][6:0]};
  assign leaving_row = {beside_q[2][13:7], near_q[2][1], beside_q[2][6:0]};

  always_ff @(posedge clk) begin
    if (far_move) begin
      ahead_q  <= {plain_q, ahead_q[7:3]};
      beside_q <= {beside_q[1:0], ahead_q[2][29:23], ahead_q[2][6:0]};
      behind_q <= {behind_q[6:2], leaving_row};
    end
  end

  for (genvar j = 0; j < 3; j++) begin : g_near
    for (genvar x = 0; x < 16; x++) begin : g_lane
      always_ff @(posedge clk) begin
        if (valid1_q) begin
          near_q[0][j][x] <= mode.reach7 ? ahead_q[2][7+x+j-1] :
                             mode.stride2 ? strided_q[2*x+j] : plain_q[7+x+j-1];
        end
      end
    end
  end
  always_ff @(posedge clk) begin
    if (valid1_q) near_q[2:1] <= near_q[1:0];
  end

  // What goes with them
  logic [7:2] far_emit_q;
  logic near_emit_q;
  logic emit_q;  // of the entry at 0, in the first cycle it is there
  logic moved_q;
  logic [7:2][CARRIED_W-1:0] far_q;
  carried_t near_d, one_q, center_q;
  logic [15:0] lost_above_q, lost_below_q;  // row d above or below is not in the map

  always_ff @(posedge clk) begin
    if (rst) begin
      far_emit_q  <= '0;
      near_emit_q <= 1'b0;
      emit_q      <= 1'b0;
      moved_q     <= 1'b0;
    end else begin
      moved_q <= valid1_q;
      emit_q  <= valid1_q && near_emit_q;
      if (far_move) far_emit_q <= {emit1_q, far_emit_q[7:3]};
      if (valid1_q) near_emit_q <= mode.reach7 ? far_emit_q[2] : emit1_q;
    end
  end
  always_comb begin
    near_d = enter;
    near_d.dil = {16{3'd1}};
    if (mode.reach7) near_d = far_q[2];
  end
  always_ff @(posedge clk) begin
    if (far_move) far_q <= {enter, far_q[7:3]};
    if (valid1_q) begin
      one_q <= near_d;
      center_q <= one_q;
      for (int unsigned x = 0; x < 16; x++) begin
        lost_above_q[x] <= one_q.dil[x] > one_q.room_above;
        lost_below_q[x] <= one_q.dil[x] > one_q.room_below;
      end
    end
  end

  assign row_valid = moved_q;
  assign row = near_q[0];
  assign weights = center_q.weights;

  // ---- 3: the taps
  for (genvar x = 0; x < 16; x++) begin : g_lane
    for (genvar j = 0; j < 3; j++) begin : g_column
      logic [7:0] above_d, level_d, below_d;
      always_comb begin
        case (center_q.dil[x])
          3'd0: begin
            above_d = near_q[1][1][x];
            level_d = near_q[1][1][x];
            below_d = near_q[1][1][x];
          end
          3'd1: begin
            above_d = near_q[2][j][x];
            level_d = near_q[1][j][x];
            below_d = near_q[0][j][x];
          end
          3'd2: begin
            above_d = behind_q[2][7+x+2*j-2];
            level_d = center_row[7+x+2*j-2];
            below_d = ahead_q[2][7+x+2*j-2];
          end
          3'd3: begin
            above_d = behind_q[3][7+x+3*j-3];
            level_d = center_row[7+x+3*j-3];
            below_d = ahead_q[3][7+x+3*j-3];
          end
          3'd4: begin
            above_d = behind_q[4][7+x+4*j-4];
            level_d = center_row[7+x+4*j-4];
            below_d = ahead_q[4][7+x+4*j-4];
          end
          3'd5: begin
            above_d = behind_q[5][7+x+5*j-5];
            level_d = center_row[7+x+5*j-5];
            below_d = ahead_q[5][7+x+5*j-5];
          end
          3'd6: begin
            above_d = behind_q[6][7+x+6*j-6];
            level_d = center_row[7+x+6*j-6];
            below_d = ahead_q[6][7+x+6*j-6];
          end
          default: begin
            above_d = behind_q[7][7+x+7*j-7];
            level_d = center_row[7+x+7*j-7];
            below_d = ahead_q[7][7+x+7*j-7];
          end
        endcase
      end
      always_ff @(posedge clk) begin
        if (emit_q && !mode.max_mode) begin
          taps[0][j][x] <= lost_above_q[x] ? 8'd0 : above_d;
          taps[1][j][x] <= j == 1 ? near_q[1][1][x] : level_d;
          taps[2][j][x] <= lost_below_q[x] ? 8'd0 : below_d;
        end
      end
    end
  end

  always_ff @(posedge clk) begin
    if (rst) valid <= 1'b0;
    else valid <= emit_q;
  end
  always_ff @(posedge clk) begin
    if (emit_q) begin
      above <= lost_above_q[0];
      below <= lost_below_q[0];
      half  <= center_q.half;
      bias  <= center_q.bias;
      shift <= center_q.shift;
      addr  <= center_q.addr;
    end
  end

  // No tap reaches more than 7 pixels to the left; edges come with the window;
  // the type of results is for others
  logic unused;
  assign unused = &{1'b0, window[71:0], meta1_q, one_q, center_q, ins_pick.mode[1], mode};
endmodule

`default_nettype wire
