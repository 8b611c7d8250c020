// SPDX-License-Identifier: Apache-2.0
// True dual-port RAM: two ports on one clock, each of which reads or writes a word a cycle.
//
// Latency: rd_data shows, 2 cycles later, the word at addr of a cycle with en and not wr; after any
// other cycle it is undefined. When both ports use the same address in a cycle and one of them
// writes, the other's word is undefined; they must not both write it.
// Resources: block RAM as true dual port (no-change mode, output register inside): parity bits are
// used, so that 4096 x 128 takes 15 RAMB36.
`default_nettype none

module ram_tdp #(
    parameter int unsigned WIDTH = 128,  // bits of a word
    parameter int unsigned DEPTH = 1024,  // words, at least 2, any number
    localparam int unsigned ADDR_W = $clog2(DEPTH)
) (
    input  wire logic              clk,
    // port 0
    input  wire logic              en0,
    input  wire logic              wr0,  // write, else read
    input  wire logic [ADDR_W-1:0] addr0,
    input  wire logic [ WIDTH-1:0] wr_data0,
    output logic      [ WIDTH-1:0] rd_data0,
    // port 1
    input  wire logic              en1,
    input  wire logic              wr1,
    input  wire logic [ADDR_W-1:0] addr1,
    input  wire logic [ WIDTH-1:0] wr_data1,
    output logic      [ WIDTH-1:0] rd_data1
);
  // Two processes write it: that is what makes two ports
  /* verilator lint_off MULTIDRIVEN */
  (* ram_style = "block", no_rw_check *)
  logic [WIDTH-1:0] mem[DEPTH];
  /* verilator lint_on MULTIDRIVEN */
  logic [WIDTH-1:0] read0_q, read1_q;

  always_ff @(posedge clk) begin
    if (en0) begin
      if (wr0) mem[addr0] <= wr_data0;
      else read0_q <= mem[addr0];
    end
  end

  always_ff @(posedge clk) begin
    if (en1) begin
      if (wr1) mem[addr1] <= wr_data1;
      else read1_q <= mem[addr1];
    end
  end

  always_ff @(posedge clk) begin
    rd_data0 <= read0_q;
    rd_data1 <= read1_q;
  end

  if (DEPTH < 2 || WIDTH < 1) begin : g_check
    ram_tdp_needs_two_words_of_one_bit u_illegal ();
  end
endmodule

`default_nettype wire
