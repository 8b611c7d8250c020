// SPDX-License-Identifier: Apache-2.0
// The threshold that lets CANDIDATES peaks in, kept while they are counted: the largest value with at
// least that many at or above it (or -128). Peaks below the threshold of the moment do not matter any
// more; whoever counts may leave them out.
//
// One `count` a cycle. With CANDIDATES peaks above the threshold it moves on by one value a cycle;
// `busy` says so: at most 4 more counts may come until it has fallen. `above` and `equal` are the
// numbers of peaks above and at the threshold, good when not busy; equal stops at 127. `clear` takes
// 256 cycles (`clearing`). Resources: 256 x 7 bits of distributed RAM.
`default_nettype none

module peak_rank (
    input  wire logic       clk,
    input  wire logic       rst,
    // in
    input  wire logic       clear,
    input  wire logic       count,
    input  wire logic [7:0] value,  // int8
    // out
    output logic            clearing,
    output logic            busy,
    output logic [7:0]      threshold,  // int8
    output logic [6:0]      above,
    output logic [6:0]      equal
);
  localparam logic [6:0] LIMIT = 7'(isa_pkg::CANDIDATES);

  // A counter above the threshold holds at most LIMIT + 4
  (* ram_style = "distributed" *) logic [6:0] counts[256];
  logic [8:0] clear_q;
  logic [7:0] index;
  logic [6:0] now;
  logic [7:0] next_value;
  logic [6:0] next_count;
  logic raise;

  assign clearing = !clear_q[8];
  assign index = clearing ? clear_q[7:0] : value;
  assign now = counts[index];
  always_ff @(posedge clk) begin
    if (clearing || count) counts[index] <= clearing ? '0 : now + {6'd0, now != '1};
    if (rst || clear) clear_q <= '0;
    else if (clearing) clear_q <= clear_q + 9'd1;
  end

  assign next_value = threshold + 8'd1;
  assign next_count = counts[next_value];
  assign busy = above >= LIMIT;
  assign raise = busy && !count;
  always_ff @(posedge clk) begin
    if (rst || clear) begin
      threshold <= 8'h80;
      above <= '0;
      equal <= '0;
    end else if (raise) begin
      threshold <= next_value;
      above <= above - next_count;
      equal <= next_count;
    end else if (count) begin
      if ($signed(value) > $signed(threshold)) above <= above + 7'd1;
      else if (value == threshold && equal != '1) equal <= equal + 7'd1;
    end
  end
endmodule

`default_nettype wire
