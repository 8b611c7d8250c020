// SPDX-License-Identifier: Apache-2.0
// First-in first-out buffer in distributed RAM: a word written can be read in the next cycle.
//
// out_valid says that out_data holds the oldest word; out_ready takes it. A word is taken in when
// in_valid and in_ready. `level` counts the words held, 0..DEPTH. Latency 1, interval 1.
// Resources: WIDTH x DEPTH bits of LUT RAM (read asynchronously) and three counters.
`default_nettype none

module fifo #(
    parameter int unsigned WIDTH = 64,  // bits of a word
    parameter int unsigned DEPTH = 32,  // words, a power of two
    localparam int unsigned LEVEL_W = $clog2(DEPTH) + 1
) (
    input  wire logic               clk,
    input  wire logic               rst,
    // in
    input  wire logic               in_valid,
    input  wire logic [WIDTH-1:0]   in_data,
    output logic                    in_ready,
    // out
    output logic                    out_valid,
    output logic [WIDTH-1:0]        out_data,
    input  wire logic               out_ready,
    output logic [LEVEL_W-1:0]      level
);
  localparam int unsigned INDEX_W = $clog2(DEPTH);

  if (DEPTH != (1 << INDEX_W)) begin : g_illegal
    fifo_depth_must_be_a_power_of_two u_illegal ();
  end

  (* ram_style = "distributed" *) logic [WIDTH-1:0] words [DEPTH];
  logic [INDEX_W-1:0] head_q;
  logic [INDEX_W-1:0] tail_q;
  logic [LEVEL_W-1:0] level_q;
  logic valid_q;  // level_q is not 0
  logic room_q;  // level_q is not DEPTH
  logic put;
  logic take;

  assign in_ready = room_q;
  assign out_valid = valid_q;
  assign out_data = words[tail_q];
  assign level = level_q;
  assign put = in_valid && in_ready;
  assign take = out_valid && out_ready;

  always_ff @(posedge clk) begin
    if (put) words[head_q] <= in_data;
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      head_q <= '0;
      tail_q <= '0;
      level_q <= '0;
      valid_q <= 1'b0;
      room_q <= 1'b1;
    end else begin
      if (put) head_q <= head_q + 1'b1;
      if (take) tail_q <= tail_q + 1'b1;
      if (put && !take) begin
        level_q <= level_q + 1'b1;
        valid_q <= 1'b1;
        room_q  <= level_q != LEVEL_W'(DEPTH - 1);
      end
      if (take && !put) begin
        level_q <= level_q - 1'b1;
        valid_q <= level_q != LEVEL_W'(1);
        room_q  <= 1'b1;
      end
    end
  end
endmodule

`default_nettype wire
