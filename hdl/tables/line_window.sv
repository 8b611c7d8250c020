// SPDX-License-Identifier: Apache-2.0
// Windows of a map that arrives row-major, one element (all channels of a position) a cycle at most:
// KH - 1 rows in a memory, KH x KW elements in registers, each a window behind its last element.
//
// `window` holds element (i, j) at bit (i * KW + j) * BITS; elements outside of the map read as FILL.
// Windows leave row-major. A window below or right of the map's end waits for elements that come
// later, which may be those of the next map; when none comes, the module moves on by itself, so that
// maps may follow each other without a gap and the last one does not stay behind.
//
// Everything stands still without `en`. Latency: 1 cycle from the element that completes a window, 2
// with padding. Interval 1. Resources: a memory of MAP_W words of (KH - 1) * BITS bits, read one word
// ahead (block or distributed), KH * KW * BITS flip-flops, twice that with padding.
`default_nettype none

module line_window #(
    parameter int unsigned BITS = 1,  // of an element
    parameter int unsigned MAP_H = 8,
    parameter int unsigned MAP_W = 8,
    parameter int unsigned KH = 3,
    parameter int unsigned KW = 3,
    parameter int unsigned STRIDE_H = 1,
    parameter int unsigned STRIDE_W = 1,
    parameter int unsigned TOP = 0,  // elements of padding
    parameter int unsigned LEFT = 0,
    parameter int unsigned BOTTOM = 0,
    parameter int unsigned RIGHT = 0,
    parameter bit [BITS-1:0] FILL = '0
) (
    input  wire logic                     clk,
    input  wire logic                     rst,
    input  wire logic                     en,
    // in
    input  wire logic                     in_valid,
    input  wire logic [BITS-1:0]          in_data,
    // out
    output logic                          out_valid,
    output logic      [KH*KW*BITS-1:0]    window
);
  localparam int unsigned AREA = MAP_H * MAP_W;
  // A window is complete this many elements after the one at its last tap, moved into the map
  localparam int unsigned LAG = BOTTOM * MAP_W + RIGHT;
  localparam int unsigned FIRST_Y = KH - 1 - TOP - BOTTOM;
  localparam int unsigned FIRST_X = KW - 1 - LEFT - RIGHT;
  localparam int unsigned PLACE_W = $clog2(AREA + 1);
  localparam int unsigned ROW_W = $clog2(MAP_H + KH);
  localparam int unsigned COL_W = $clog2(MAP_W + KW);
  localparam int unsigned SKIP_Y_W = $clog2(KH + STRIDE_H + 1);
  localparam int unsigned SKIP_X_W = $clog2(KW + STRIDE_W + 1);
  localparam bit PADDED = (TOP + LEFT + BOTTOM + RIGHT) != 0;

  if (TOP + BOTTOM >= KH || LEFT + RIGHT >= KW) begin : g_pads
    line_window_pads_must_be_less_than_the_window u_illegal ();
  end
  if (LAG >= AREA) begin : g_lag
    line_window_pads_must_be_less_than_the_map u_illegal ();
  end

  logic [PLACE_W-1:0] place_q;  // of the next element in its map
  logic [ROW_W-1:0] row_q;  // of the last tap of the next window, in a map moved by BOTTOM, RIGHT
  logic [COL_W-1:0] col_q;
  logic [SKIP_Y_W-1:0] skip_y_q;  // rows, columns until the next one with a window
  logic [SKIP_X_W-1:0] skip_x_q;
  logic run_q;  // windows of a map are outstanding
  logic start;
  logic step;
  logic active;
  logic last_row;
  logic last_col;
  logic emit;
  logic emit_q;

  assign start = in_valid && (place_q == PLACE_W'(LAG));
  // Between maps, windows that wait for later elements get any
  assign step = in_valid || (run_q && place_q == '0);
  assign active = step && (run_q || start);
  assign last_row = row_q == ROW_W'(MAP_H - 1);
  assign last_col = col_q == COL_W'(MAP_W - 1);
  assign emit = active && skip_y_q == '0 && skip_x_q == '0;

  always_ff @(posedge clk) begin
    if (rst) begin
      place_q <= '0;
      row_q <= '0;
      col_q <= '0;
      skip_y_q <= SKIP_Y_W'(FIRST_Y);
      skip_x_q <= SKIP_X_W'(FIRST_X);
      run_q <= 1'b0;
      emit_q <= 1'b0;
    end else if (en) begin
      emit_q <= emit;
      if (in_valid) place_q <= (place_q == PLACE_W'(AREA - 1)) ? '0 : place_q + 1'b1;
      if (active) begin
        run_q <= !(last_row && last_col);
        col_q <= last_col ? '0 : col_q + 1'b1;
        skip_x_q <= last_col ? SKIP_X_W'(FIRST_X)
                    : (skip_x_q == '0) ? SKIP_X_W'(STRIDE_W - 1) : skip_x_q - 1'b1;
        if (last_col) begin
          row_q <= last_row ? '0 : row_q + 1'b1;
          skip_y_q <= last_row ? SKIP_Y_W'(FIRST_Y)
                      : (skip_y_q == '0) ? SKIP_Y_W'(STRIDE_H - 1) : skip_y_q - 1'b1;
        end
      end
    end
  end

  // The column of elements above the arriving one, the arriving one in the highest place
  logic [KH-1:0][BITS-1:0] column;
  assign column[KH-1] = in_data;

  localparam int unsigned ABOVE_W = (KH - 1) * BITS;  // those above, the last row highest
  if (KH > 1 && MAP_W > 1) begin : g_memory
    localparam int unsigned ADDR_W = $clog2(MAP_W);
    // Read and write addresses of a cycle always differ; the read one is of the next element
    (* no_rw_check *) logic [ABOVE_W-1:0] rows[MAP_W];
    logic [ABOVE_W-1:0] above_q;
    logic [ADDR_W-1:0] here_q;
    logic [ADDR_W-1:0] next;
    assign next = (here_q == ADDR_W'(MAP_W - 1)) ? '0 : here_q + 1'b1;
    always_ff @(posedge clk) begin
      if (rst) here_q <= '0;
      else if (en && step) here_q <= next;
    end
    always_ff @(posedge clk) begin
      if (en && step) rows[here_q] <= column[KH-1:1];
    end
    always_ff @(posedge clk) begin
      if (en && step) above_q <= rows[next];
    end
    assign column[KH-2:0] = above_q;
  end else if (KH > 1) begin : g_single
    logic [ABOVE_W-1:0] above_q;
    always_ff @(posedge clk) begin
      if (en && step) above_q <= column[KH-1:1];
    end
    assign column[KH-2:0] = above_q;
  end

  logic [KH-1:0][KW-1:0][BITS-1:0] taps_q;
  for (genvar i = 0; i < KH; i++) begin : g_tap_row
    for (genvar j = 0; j < KW; j++) begin : g_tap
      always_ff @(posedge clk) begin
        if (en && step) taps_q[i][j] <= (j == KW - 1) ? column[i] : taps_q[i][(j==KW-1)?j : j+1];
      end
    end
  end

  if (PADDED) begin : g_padded
    // Which rows and columns of the window lie in the map
    logic [KH-1:0] rows_q;
    logic [KW-1:0] cols_q;
    logic [KH*KW*BITS-1:0] masked_q;
    logic valid_q;
    logic [ROW_W:0] next_row;
    logic [COL_W:0] next_col;
    assign next_row = {1'b0, row_q} + 1'b1;
    assign next_col = {1'b0, col_q} + 1'b1;
    for (genvar i = 0; i < KH; i++) begin : g_row
      // the tap is in the map from the place of the window LOW on, and before HIGH
      localparam int unsigned LOW = (KH - 1 > i + BOTTOM) ? KH - 1 - i - BOTTOM : 0;
      localparam int unsigned HIGH = MAP_H + KH - 1 - i - BOTTOM;
      always_ff @(posedge clk) begin
        if (en && step)
          rows_q[i] <= next_row > (ROW_W + 1)'(LOW) && next_row <= (ROW_W + 1)'(HIGH);
      end
    end
    for (genvar j = 0; j < KW; j++) begin : g_col
      localparam int unsigned LOW = (KW - 1 > j + RIGHT) ? KW - 1 - j - RIGHT : 0;
      localparam int unsigned HIGH = (MAP_W + KW - 1 > j + RIGHT) ? MAP_W + KW - 1 - j - RIGHT : 0;
      always_ff @(posedge clk) begin
        if (en && step)
          cols_q[j] <= next_col > (COL_W + 1)'(LOW) && next_col <= (COL_W + 1)'(HIGH);
      end
    end
    for (genvar i = 0; i < KH; i++) begin : g_mask_row
      for (genvar j = 0; j < KW; j++) begin : g_mask
        always_ff @(posedge clk) begin
          if (en)
            masked_q[(i*KW+j)*BITS+:BITS] <= (rows_q[i] && cols_q[j]) ? taps_q[i][j] : FILL;
        end
      end
    end
    always_ff @(posedge clk) begin
      if (rst) valid_q <= 1'b0;
      else if (en) valid_q <= emit_q;
    end
    assign window = masked_q;
    assign out_valid = valid_q;
  end else begin : g_plain
    assign window = taps_q;
    assign out_valid = emit_q;
  end
endmodule

`default_nettype wire
