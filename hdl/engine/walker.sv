// SPDX-License-Identifier: Apache-2.0
// Walks over the output words of a map, row by row, again and again, and looks up the dilations of
// each word in the dilation map. Items wait in a small buffer, so that the reader takes one a cycle
// and neither a new row, a new pass over the map nor the look-up costs it a cycle.
//
// `start` begins at word 0 (12 cycles to find the first row); `stop` throws everything away.
// In linear mode there are no rows: base8 = 2 g. Frame order: words of a row, then rows.
`default_nettype none

module walker (
    input  wire logic              clk,
    input  wire logic              rst,
    // in
    input  wire seq_pkg::geom_t    geom,
    input  wire logic              linear,
    input  wire logic              start,
    input  wire logic              stop,
    // dilation map, SMAP_LAT cycles
    output logic                   smap_en,
    output logic [9:0]             smap_idx,
    output logic                   smap_half,
    input  wire logic [15:0][2:0]  smap_dil,
    input  wire logic [7:0]        smap_present,
    // out
    output logic                   item_valid,
    output      seq_pkg::item_t    item,
    input  wire logic              item_take
);
  localparam int unsigned SMAP_LAT = 4;  // of smap.sv
  localparam int unsigned DEPTH = 16;  // items, on their way and waiting
  localparam int unsigned SEEK_CYCLES = 12;  // bits of a row number

  // The first row: base8 of row y0, one bit of the row number a cycle
  logic seeking_q;
  logic walking_q;
  logic [3:0] seek_q;
  logic [11:0] rows_q;  // stored rows above y0, shifted out at the top
  logic [16:0] first8_q;
  logic [12:0] first_vy;
  assign first_vy = {3'd0, geom.y0} << geom.stride_log2;
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
      first8_q <= {first8_q[15:0], 1'b0} + (rows_q[11] ? {10'd0, geom.in_w8} : 17'd0);
    end
  end

  // Steps, constant during an operation
  logic [16:0] word_step_q;
  logic [16:0] row_step_q;
  logic [12:0] vy_step_q;
  logic [12:0] last_g_q;
  logic [5:0] last_xo_q;
  always_ff @(posedge clk) begin
    word_step_q <= (geom.up && !linear) ? 17'd1 : 17'd2 << (linear ? 2'd0 : geom.stride_log2);
    row_step_q  <= {10'd0, geom.in_w8} << (3'(geom.stride_log2) + 3'(geom.narrow));
    vy_step_q   <= 13'd1 << (3'(geom.stride_log2) + 3'(geom.narrow));
    last_g_q    <= geom.groups - 13'd1;
    last_xo_q   <= geom.row_words - 6'd1;
  end

  // The walk
  logic step;
  logic [4:0] held_q;  // items on their way or waiting
  logic [12:0] g_q;
  logic [12:0] vy_q;
  logic [5:0] xo_q;
  logic [16:0] row8_q;
  logic [16:0] base8_q;
  logic last_word;
  logic last_of_row;
  logic [16:0] next_row8;
  assign step = walking_q && !held_q[4];
  assign last_word = g_q == last_g_q;
  assign last_of_row = (xo_q == last_xo_q) && !linear;
  assign next_row8 = row8_q + (geom.up && !vy_q[0] ? 17'd0 : row_step_q);
  always_ff @(posedge clk) begin
    if (seeking_q || (step && last_word)) begin
      g_q <= '0;
      vy_q <= first_vy;
      xo_q <= '0;
      row8_q <= first8_q;
      base8_q <= first8_q;
    end else if (step) begin
      g_q <= g_q + 13'd1;
      if (last_of_row) begin
        vy_q <= vy_q + vy_step_q;
        xo_q <= '0;
        row8_q <= next_row8;
        base8_q <= next_row8;
      end else begin
        xo_q <= xo_q + 6'd1;
        base8_q <= base8_q + word_step_q;
      end
    end
    // the last cycle of the search still adds a bit
    if (seeking_q) begin
      row8_q <= {first8_q[15:0], 1'b0} + (rows_q[11] ? {10'd0, geom.in_w8} : 17'd0);
      base8_q <= {first8_q[15:0], 1'b0} + (rows_q[11] ? {10'd0, geom.in_w8} : 17'd0);
    end
  end
  assign smap_en = step;
  assign smap_idx = base8_q[10:1];
  assign smap_half = base8_q[0];

  always_ff @(posedge clk) begin
    if (rst || stop || start) held_q <= '0;
    else if (step && !(item_take && item_valid)) held_q <= held_q + 5'd1;
    else if (!step && item_take && item_valid) held_q <= held_q - 5'd1;
  end

  // Beside the look-up, then into the buffer
  logic put;
  logic [12:0] put_g;
  logic put_last;
  logic [12:0] put_vy;
  logic [5:0] put_xo;
  logic [16:0] put_base8;
  logic put_left;
  logic put_right;
  seq_pkg::item_t put_item;
  delay #(.WIDTH(1), .LATENCY(SMAP_LAT), .RESET(1'b1)) u_put (
      .clk, .rst(rst || stop || start), .d(step), .q(put)
  );
  delay #(.WIDTH(52), .LATENCY(SMAP_LAT)) u_item (
      .clk, .rst,
      .d({g_q, last_word, vy_q, xo_q, base8_q, xo_q == '0, xo_q == last_xo_q}),
      .q({put_g, put_last, put_vy, put_xo, put_base8, put_left, put_right})
  );
  always_comb begin
    put_item.g = put_g;
    put_item.last = put_last;
    put_item.vy = put_vy;
    put_item.xo = put_xo;
    put_item.base8 = put_base8;
    put_item.at_left = put_left;
    put_item.at_right = put_right;
    put_item.dil = smap_dil;
    put_item.present = smap_present;
  end

  logic in_ready;
  logic [4:0] level;
  fifo #(.WIDTH(seq_pkg::ITEM_W), .DEPTH(DEPTH)) u_fifo (
      .clk,
      .rst(rst || stop || start),
      .in_valid(put),
      .in_data(put_item),
      .in_ready(in_ready),
      .out_valid(item_valid),
      .out_data(item),
      .out_ready(item_take),
      .level(level)
  );
  logic unused;
  assign unused = &{1'b0, in_ready, level, geom};
endmodule

`default_nettype wire
