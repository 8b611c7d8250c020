// SPDX-License-Identifier: Apache-2.0
// Maxima of 3x3 pixels for 16 lanes: first of the three taps of a row, then of three rows.
//
// `row` with row_valid is the row that follows the centre (row_chain's position +1); a cycle later
// above, below say which rows do not count. The fill within a row is the least value of the type.
// Pixels are compared as unsigned numbers, signed ones with their sign turned over.
//
// Latency 3 from above, below to best, center (the centre's own pixel) and peak (they are equal).
// One a cycle, gaps are free. Resources: about 1k LUT, 1.7k FF.
`default_nettype none

module row_max (
    input  wire logic                  clk,
    input  wire logic                  in_signed,  // constant during an operation
    // a row
    input  wire logic                  row_valid,
    input  wire logic [2:0][15:0][7:0] row,
    // about the centre before it
    input  wire logic                  above,
    input  wire logic                  below,
    // out
    output logic      [15:0][7:0]      best,
    output logic      [15:0][7:0]      center,
    output logic      [15:0]           peak
);
  logic row_valid1_q, above2_q, below2_q;
  always_ff @(posedge clk) begin
    row_valid1_q <= row_valid;
    above2_q <= above;
    below2_q <= below;
  end

  for (genvar x = 0; x < 16; x++) begin : g_lane
    logic [7:0] left, middle, right;
    logic [7:0] pair_q, right_q, middle_q;
    logic [7:0] next_q, level_q, prev_q;  // maxima of the rows at +1, 0, -1
    logic [7:0] next_middle_q, level_middle_q;
    logic [7:0] under, lower_q, upper_q, held_q, best_q, center_q;
    assign left = {row[0][x][7] ^ in_signed, row[0][x][6:0]};
    assign middle = {row[1][x][7] ^ in_signed, row[1][x][6:0]};
    assign right = {row[2][x][7] ^ in_signed, row[2][x][6:0]};
    assign under = below2_q ? 8'd0 : next_q;

    always_ff @(posedge clk) begin
      if (row_valid) begin
        pair_q   <= left > middle ? left : middle;
        right_q  <= right;
        middle_q <= middle;
      end
      if (row_valid1_q) begin
        next_q  <= pair_q > right_q ? pair_q : right_q;
        level_q <= next_q;
        prev_q  <= level_q;
        next_middle_q  <= middle_q;
        level_middle_q <= next_middle_q;
      end
      lower_q  <= under > level_q ? under : level_q;
      upper_q  <= above2_q ? 8'd0 : prev_q;
      held_q   <= level_middle_q;
      best_q   <= lower_q > upper_q ? lower_q : upper_q;
      center_q <= held_q;
    end

    assign best[x] = {best_q[7] ^ in_signed, best_q[6:0]};
    assign peak[x] = center_q == best_q;
    assign center[x] = {center_q[7] ^ in_signed, center_q[6:0]};
  end
endmodule

`default_nettype wire
