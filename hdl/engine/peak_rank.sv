// SPDX-License-Identifier: Apache-2.0
// How many peaks have each of the 256 logit values, and the threshold that lets CANDIDATES of them
// in: the largest value with at least that many at or above it (or -128), and how many *at* it still
// fit. Counters stop at 127, which is more than are ever needed.
//
// `clear` takes 256 cycles (`clearing`), `search` at most 258; one `count` a cycle in between.
// Resources: 256 x 7 bits of distributed RAM.
`default_nettype none

module peak_rank (
    input  wire logic       clk,
    input  wire logic       rst,
    // in
    input  wire logic       clear,
    input  wire logic       count,
    input  wire logic [7:0] value,  // int8
    input  wire logic       search,
    // out
    output logic            clearing,
    output logic            found,  // one pulse: what follows is good until the next search
    output logic [7:0]      threshold,  // int8
    output logic [6:0]      ties,  // peaks at the threshold that fit
    output logic [6:0]      total  // candidates there will be
);
  localparam logic [7:0] LIMIT = 8'(isa_pkg::CANDIDATES);

  (* ram_style = "distributed" *) logic [6:0] counts[256];
  logic [7:0] index;
  logic [6:0] now;
  logic [8:0] clear_q;
  logic searching_q;
  logic looked_q;
  logic [7:0] value_q;
  logic [6:0] count_q;
  logic [7:0] looked_value_q;
  logic [6:0] above_q;  // below LIMIT
  logic [7:0] sum;
  logic stop;

  assign clearing = !clear_q[8];
  assign index = clearing ? clear_q[7:0] : searching_q ? value_q : value;
  assign now = counts[index];
  always_ff @(posedge clk) begin
    if (clearing || count) counts[index] <= clearing ? '0 : now + {6'd0, now != '1};
  end

  always_ff @(posedge clk) begin
    if (rst || clear) clear_q <= '0;
    else if (clearing) clear_q <= clear_q + 9'd1;
  end

  assign sum = {1'b0, above_q} + {1'b0, count_q};
  assign stop = looked_q && ((sum >= LIMIT) || (looked_value_q == 8'h80));
  always_ff @(posedge clk) begin
    if (rst || stop) begin
      searching_q <= 1'b0;
      looked_q <= 1'b0;
    end else if (search) begin
      searching_q <= 1'b1;
      looked_q <= 1'b0;
    end else begin
      looked_q <= searching_q;
    end
    found <= stop && !rst;
    // a host that changes programs must not read the candidates of the old one
    if (rst) total <= '0;
    else if (stop) total <= (sum >= LIMIT) ? LIMIT[6:0] : sum[6:0];
  end
  always_ff @(posedge clk) begin
    if (search) value_q <= 8'h7f;
    else value_q <= value_q - 8'd1;  // 127 .. 0, -1 .. -128
    count_q <= now;
    looked_value_q <= value_q;
    if (search) above_q <= '0;
    else if (looked_q && !stop) above_q <= sum[6:0];
    if (stop) begin
      threshold <= looked_value_q;
      ties <= LIMIT[6:0] - above_q;
    end
  end
endmodule

`default_nettype wire
