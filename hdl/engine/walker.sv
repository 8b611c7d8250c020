// SPDX-License-Identifier: Apache-2.0
// Walks over the output words of a map, row by row, again and again, for CONV. One item a cycle:
// neither a new row nor a new pass over the map costs the reader a cycle.
//
// `start` begins at word 0 (13 cycles to find the first row); `stop` throws everything away.
// In linear mode there are no rows: base8 = 2 g, and with `pair` g goes in steps of 2. Frame order:
// words of a row, then rows.
`default_nettype none

module walker (
    input  wire logic              clk,
    input  wire logic              rst,
    // in
    input  wire seq_pkg::geom_t    geom,
    input  wire logic              linear,
    input  wire logic              pair,
    input  wire logic              start,
    input  wire logic              stop,
    // out
    output logic                   item_valid,
    output      seq_pkg::item_t    item,
    input  wire logic              item_take
);
  localparam int unsigned SEEK_CYCLES = 12;  // bits of a row number

  // The first row: base8 of row y0, one bit of the row number a cycle
  logic seeking_q;
  logic walking_q;
  logic [3:0] seek_q;
  logic [11:0] rows_q;  // stored rows above y0, shifted out at the top
  logic [16:0] first8_q;
  logic [16:0] first8_d;
  logic [12:0] first_vy;
  assign first_vy = {3'd0, geom.y0} << geom.stride_log2;
  assign first8_d = {first8_q[15:0], 1'b0} + (rows_q[11] ? {10'd0, geom.in_w8} : 17'd0);
  always_ff @(posedge clk) begin
    if (rst || stop) begin
      seeking_q <= 1'b0;
      walking_q <= 1'b0;
      seek_q <= '0;
    end else if (start) begin
      seeking_q <= 1'b1;
      walking_q <= 1'b0;
      seek_q <= '0;
    end else if (seeking_q) begin
      seek_q <= seek_q + 4'd1;
      if (seek_q == 4'(SEEK_CYCLES - 1)) begin
        seeking_q <= 1'b0;
        walking_q <= 1'b1;
      end
    end
  end
  always_ff @(posedge clk) begin
    if (start) begin
      rows_q <= linear ? '0 : first_vy[11:0] >> geom.up;
      first8_q <= '0;
    end else if (seeking_q) begin
      rows_q <= {rows_q[10:0], 1'b0};
      first8_q <= first8_d;
    end
  end

  // Steps, constant during an operation
  logic [16:0] word_step_q;
  logic [16:0] row_step_q;
  logic [12:0] vy_step_q;
  logic [12:0] g_step_q;
  logic [12:0] last_g_q;
  logic [5:0] last_xo_q;
  logic [12:0] g_before_q;  // the word before the last one
  logic [5:0] xo_before_q;
  always_ff @(posedge clk) begin
    if (linear) word_step_q <= pair ? 17'd4 : 17'd2;
    else word_step_q <= geom.up ? 17'd1 : 17'd2 << geom.stride_log2;
    row_step_q <= {10'd0, geom.in_w8} << (3'(geom.stride_log2) + 3'(geom.narrow));
    vy_step_q  <= 13'd1 << (3'(geom.stride_log2) + 3'(geom.narrow));
    g_step_q   <= pair ? 13'd2 : 13'd1;
    last_g_q   <= geom.groups - (pair ? 13'd2 : 13'd1);
    last_xo_q  <= geom.row_words - 6'd1;
    g_before_q <= last_g_q - g_step_q;
    xo_before_q <= geom.row_words - 6'd2;
  end

  // The walk
  logic step;
  logic [12:0] g_q;
  logic [12:0] vy_q;
  logic [5:0] xo_q;
  logic [16:0] row8_q;
  logic [16:0] base8_q;
  logic last_word_q;  // g_q is the last word
  logic last_of_row_q;  // xo_q is the last word of a row
  logic turn_q;  // one of the two
  logic row_ends;
  logic [16:0] next_row8;
  assign step = walking_q && (!item_valid || item_take);
  assign row_ends = (last_of_row_q ? last_xo_q == '0 : xo_q == xo_before_q) && !linear;
  assign next_row8 = row8_q + (geom.up && !vy_q[0] ? 17'd0 : row_step_q);
  always_ff @(posedge clk) begin
    if (seeking_q || (step && last_word_q)) begin
      g_q <= '0;
      last_word_q <= last_g_q == '0;
      last_of_row_q <= last_xo_q == '0 && !linear;
      turn_q <= last_g_q == '0 || (last_xo_q == '0 && !linear);
      xo_q <= '0;
      // the last cycle of the search still adds a bit
      row8_q <= seeking_q ? first8_d : first8_q;
      base8_q <= seeking_q ? first8_d : first8_q;
    end else if (step) begin
      g_q <= g_q + g_step_q;
      last_word_q <= g_q == g_before_q;
      last_of_row_q <= row_ends;
      turn_q <= g_q == g_before_q || row_ends;
      if (last_of_row_q) begin
        xo_q <= '0;
        row8_q <= next_row8;
        base8_q <= next_row8;
      end else begin
        xo_q <= xo_q + 6'd1;
        base8_q <= base8_q + word_step_q;
      end
    end
  end

  always_ff @(posedge clk) begin
    if (seeking_q) vy_q <= first_vy;
    else if (step && turn_q) vy_q <= last_word_q ? first_vy : vy_q + vy_step_q;
  end

  // Out
  seq_pkg::item_t item_q;
  always_ff @(posedge clk) begin
    if (rst || stop || start) item_valid <= 1'b0;
    else if (step) item_valid <= 1'b1;
    else if (item_take) item_valid <= 1'b0;
    if (step) begin
      item_q.g <= g_q;
      item_q.last <= last_word_q;
      item_q.vy <= vy_q;
      item_q.base8 <= base8_q;
      item_q.at_left <= xo_q == '0;
      item_q.at_right <= xo_q == last_xo_q;
    end
  end
  assign item = item_q;

  logic unused;
  assign unused = &{1'b0, geom};
endmodule

`default_nettype wire
