// SPDX-License-Identifier: Apache-2.0
// Simple dual-port RAM, one write and one read port on one clock, with an output register.
//
// Latency: rd_data shows, 2 cycles later, the word at rd_addr of a cycle with rd_en; without rd_en
// it holds its value. A read in the cycle of a write to the same address returns an undefined word.
// Resources: block RAM (output register inside) or, for ram_style "distributed", LUT RAM.
`default_nettype none

module ram_sdp #(
    parameter int unsigned WIDTH = 32,  // bits of a word
    parameter int unsigned DEPTH = 1024,  // words, at least 2, any number
    localparam int unsigned ADDR_W = $clog2(DEPTH)
) (
    input  wire logic              clk,
    // write
    input  wire logic              wr_en,
    input  wire logic [ADDR_W-1:0] wr_addr,
    input  wire logic [ WIDTH-1:0] wr_data,
    // read
    input  wire logic              rd_en,
    input  wire logic [ADDR_W-1:0] rd_addr,
    output logic      [ WIDTH-1:0] rd_data
);
  (* ram_style = "block", no_rw_check *)
  logic [WIDTH-1:0] mem[DEPTH];
  logic [WIDTH-1:0] read_q;
  logic read_valid_q;

  always_ff @(posedge clk) begin
    if (wr_en) mem[wr_addr] <= wr_data;
  end

  always_ff @(posedge clk) begin
    if (rd_en) read_q <= mem[rd_addr];
    read_valid_q <= rd_en;
    if (read_valid_q) rd_data <= read_q;
  end

  if (DEPTH < 2 || WIDTH < 1) begin : g_check
    ram_sdp_needs_two_words_of_one_bit u_illegal ();
  end
endmodule

`default_nettype wire
