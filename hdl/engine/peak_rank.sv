// SPDX-License-Identifier: Apache-2.0
// The threshold that lets CANDIDATES peaks in, kept while they are counted: the largest value with at
// least that many at or above it (or -128). Peaks below the threshold of the moment do not matter any
// more; whoever counts may leave them out.
//
// One `count` a cycle. With CANDIDATES peaks above the threshold it moves on by one value a cycle;
// `busy` says so: at most 4 more counts may come until it has fallen. `above` and `equal` are the
// numbers of peaks above and at the threshold, good when not busy; equal stops at 127. `clear` takes
// 256 cycles (`clearing`). A count is in its counter two cycles later, and holds the threshold until
// then. Resources: 256 x 7 bits of distributed RAM.
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
  // A count is read in its cycle and written in the next one
  logic add_q;
  logic [7:0] index_q;
  logic [6:0] now_q;
  logic [6:0] sum;
  // Those of the next value, known when `fresh_q`
  logic [7:0] next_q;  // threshold + 1
  logic [7:0] after_q;  // threshold + 2
  logic [6:0] next_count_q;
  logic fresh_q;
  logic raise;

  assign clearing = !clear_q[8];
  assign sum = now_q + {6'd0, now_q != '1};
  always_ff @(posedge clk) begin
    add_q <= count && !rst;
    index_q <= value;
    now_q <= (add_q && index_q == value) ? sum : counts[value];
    if (clearing || add_q) counts[clearing ? clear_q[7:0] : index_q] <= clearing ? '0 : sum;
    if (rst || clear) clear_q <= '0;
    else if (clearing) clear_q <= clear_q + 9'd1;
    next_count_q <= counts[raise ? after_q : next_q];
    fresh_q <= !add_q && !clearing;
  end

  assign busy = above >= LIMIT;
  assign raise = busy && !count && !add_q && fresh_q;
  always_ff @(posedge clk) begin
    if (rst || clear) begin
      threshold <= 8'h80;
      next_q <= 8'h81;
      after_q <= 8'h82;
      above <= '0;
      equal <= '0;
    end else if (raise) begin
      threshold <= next_q;
      next_q <= after_q;
      after_q <= after_q + 8'd1;
      above <= above - next_count_q;
      equal <= next_count_q;
    end else if (count) begin
      if ($signed(value) > $signed(threshold)) above <= above + 7'd1;
      else if (value == threshold && equal != '1) equal <= equal + 7'd1;
    end
  end
endmodule

`default_nettype wire
