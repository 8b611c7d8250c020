// SPDX-License-Identifier: Apache-2.0
// Walks over the rows that the lanes read, column by column, again and again: for each word xo of a
// row the rows as seen (after upsampling) from `reach` above the first output row to `reach` below
// the last one, as far as the map goes. One entry a cycle: neither a new column nor a new pass over
// the map costs the reader a cycle.
//
// `start` begins at the first row (14 cycles to find it); `stop` throws everything away. Rows
// y0 .. y0 + rows - 1 of the output have to lie in the map. Result words: row number * row_words +
// xo, or when narrow half the row number.
`default_nettype none

module row_walker (
    input  wire logic               clk,
    input  wire logic               rst,
    // in, constant from start to stop
    input  wire seq_pkg::geom_t     geom,  // stride 1 or 2
    input  wire logic [9:0]         rows,
    input  wire logic [2:0]         reach,
    input  wire logic               start,
    input  wire logic               stop,
    // out
    output logic                    entry_valid,
    output      seq_pkg::entry_t    entry,
    input  wire logic               entry_take
);
  localparam int unsigned SEEK_CYCLES = 12;

  // Rows: of the first and last result, and the first and last that are read
  logic stride2;
  logic [10:0] begin_q;
  logic [10:0] end_q;
  logic [10:0] below_q;
  logic [10:0] first_v_q;
  logic [10:0] last_v_q;
  logic [10:0] bottom_q;
  logic [10:0] before_q;  // the row above the first result
  logic begins_inside_q;  // there is none that is read
  assign stride2 = geom.stride_log2[0];
  always_ff @(posedge clk) begin
    begin_q   <= {1'b0, geom.y0} << stride2;
    end_q     <= 11'({1'b0, geom.y0} + {1'b0, rows} - 11'd1) << stride2;
    first_v_q <= (begin_q <= {8'd0, reach}) ? '0 : begin_q - {8'd0, reach};
    below_q   <= end_q + {8'd0, reach};
    bottom_q  <= {1'b0, geom.in_h} - 11'd1;
    last_v_q  <= (below_q < bottom_q) ? below_q : bottom_q;
    before_q  <= begin_q - 11'd1;
    begins_inside_q <= first_v_q == begin_q;
  end

  // base8 of the first row, one bit of the row number a cycle
  logic seeking_q;
  logic walking_q;
  logic [3:0] seek_q;
  logic [9:0] shift_q;  // stored rows above it, shifted out at the top
  logic [16:0] first8_q;
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
      if (seek_q == 4'(SEEK_CYCLES)) begin
        seeking_q <= 1'b0;
        walking_q <= 1'b1;
      end
    end
    if (seek_q < 4'd2) begin  // first_v_q settles
      shift_q <= 10'(first_v_q >> geom.up);
      first8_q <= '0;
    end else if (seeking_q && seek_q != 4'(SEEK_CYCLES)) begin
      shift_q <= {shift_q[8:0], 1'b0};
      first8_q <= {first8_q[15:0], 1'b0} + (shift_q[9] ? {10'd0, geom.in_w8} : 17'd0);
    end
  end

  // The walk
  logic step;
  logic [10:0] v_q;
  logic [5:0] xo_q;
  logic [5:0] last_xo_q;
  logic [16:0] word_step_q;
  logic [16:0] column8_q;  // of the first row
  logic [16:0] next_column8;
  logic [16:0] base8_q;
  logic [15:0] offset_q;
  logic half_q;
  logic inside_q;  // begin_q <= v_q <= end_q
  logic emit;
  logic last_row;
  logic last_column;
  assign step = walking_q && (!entry_valid || entry_take);
  assign last_row = v_q == last_v_q;
  assign last_column = xo_q == last_xo_q;
  assign next_column8 = last_column ? first8_q : column8_q + word_step_q;
  assign emit = inside_q && !(stride2 && v_q[0]);
  always_ff @(posedge clk) begin
    word_step_q <= geom.up ? 17'd1 : stride2 ? 17'd4 : 17'd2;
    last_xo_q <= geom.row_words - 6'd1;
  end
  always_ff @(posedge clk) begin
    if (seeking_q) begin
      v_q <= first_v_q;
      inside_q <= begins_inside_q;
      xo_q <= '0;
      column8_q <= first8_q;
      base8_q <= first8_q;
      offset_q <= '0;
      half_q <= 1'b0;
    end else if (step) begin
      if (last_row) begin
        v_q <= first_v_q;
        inside_q <= begins_inside_q;
        xo_q <= last_column ? '0 : xo_q + 6'd1;
        column8_q <= next_column8;
        base8_q <= next_column8;
        offset_q <= last_column ? '0 : {10'd0, xo_q} + 16'd1;
        half_q <= 1'b0;
      end else begin
        v_q <= v_q + 11'd1;
        inside_q <= v_q == before_q || (inside_q && v_q != end_q);
        if (!geom.up || v_q[0]) base8_q <= base8_q + {10'd0, geom.in_w8};
        if (emit) begin
          half_q <= geom.narrow && !half_q;
          if (!geom.narrow) offset_q <= offset_q + {10'd0, geom.row_words};
          else if (half_q) offset_q <= offset_q + 16'd1;
        end
      end
    end
  end

  // Out
  seq_pkg::entry_t entry_q;
  always_ff @(posedge clk) begin
    if (rst || stop || start) entry_valid <= 1'b0;
    else if (step) entry_valid <= 1'b1;
    else if (entry_take) entry_valid <= 1'b0;
    if (step) begin
      entry_q.emit <= emit;
      entry_q.half <= half_q;
      entry_q.last <= last_row && last_column;
      entry_q.v <= v_q;
      entry_q.xo <= xo_q;
      entry_q.base8 <= base8_q;
      entry_q.offset <= offset_q;
      entry_q.at_left <= xo_q == '0;
      entry_q.at_right <= last_column;
    end
  end
  assign entry = entry_q;

  logic unused;
  assign unused = &{1'b0, geom};
endmodule

`default_nettype wire
