// SPDX-License-Identifier: Apache-2.0
// The last map of codes, gathered element by element for tables that read all of it.
//
// Element 0 is lowest in `map`, which is whole in the one moving cycle with out_valid. Latency 1,
// interval 1. Resources: a flip-flop for each bit that is read or has to pass, and a counter.
`default_nettype none

module map_shift #(
    parameter int unsigned BITS = 8,  // of an element
    parameter int unsigned COUNT = 16  // elements
) (
    input  wire logic                     clk,
    input  wire logic                     rst,
    input  wire logic                     en,
    // in
    input  wire logic                     in_valid,
    input  wire logic [BITS-1:0]          in_data,
    // out
    output logic                          out_valid,
    output logic      [COUNT*BITS-1:0]    map
);
  localparam int unsigned COUNT_W = $clog2(COUNT + 1);

  (* shreg_extract = "no" *) logic [COUNT-1:0][BITS-1:0] map_q;
  logic [COUNT_W-1:0] count_q;
  logic last;

  assign last = count_q == COUNT_W'(COUNT - 1);
  assign map = map_q;

  for (genvar i = 0; i < COUNT; i++) begin : g_element
    always_ff @(posedge clk) begin
      if (en && in_valid) map_q[i] <= (i == COUNT - 1) ? in_data : map_q[(i==COUNT-1)?i : i+1];
    end
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      count_q <= '0;
      out_valid <= 1'b0;
    end else if (en) begin
      out_valid <= in_valid && last;
      if (in_valid) count_q <= last ? '0 : count_q + 1'b1;
    end
  end
endmodule

`default_nettype wire
