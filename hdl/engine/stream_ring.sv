// SPDX-License-Identifier: Apache-2.0
// The window of a queue's stream that is on chip: a ring of DEPTH words with random access.
//
// Fill: the reader of DDR reserves room (alloc) before it asks for words, so that s_valid is never
// refused; words arrive in stream order. Read: rd_off counts from the base (the oldest word kept);
// rd_data follows 2 cycles after rd_en (memory, output register). Only words below `avail` may be
// read. pop moves the base by pop_n words, from the next cycle on. flush empties the ring.
// A word may be read in the cycle after `avail` counts it, which is 1 cycle after s_valid.
// Resources: DEPTH x 128 bits of block RAM, 128 output flip-flops, three counters.
`default_nettype none

module stream_ring #(
    parameter int unsigned DEPTH = 4096,  // words, a power of two
    localparam int unsigned COUNT_W = $clog2(DEPTH) + 1
) (
    input  wire logic               clk,
    input  wire logic               rst,
    input  wire logic               flush,        // forget all words
    // fill
    input  wire logic               alloc,        // alloc_words are on their way
    input  wire logic [3:0]         alloc_words,
    output logic [COUNT_W-1:0]      space,        // words that may still be reserved
    input  wire logic               s_valid,
    input  wire logic [127:0]       s_data,
    // read
    input  wire logic               rd_en,
    input  wire logic [COUNT_W-1:0] rd_off,
    output logic [127:0]            rd_data,
    output logic [COUNT_W-1:0]      avail,
    input  wire logic               pop,
    input  wire logic [COUNT_W-1:0] pop_n
);
  localparam int unsigned INDEX_W = $clog2(DEPTH);

  if (DEPTH != (1 << INDEX_W)) begin : g_illegal
    stream_ring_depth_must_be_a_power_of_two u_illegal ();
  end

  (* ram_style = "block" *) logic [127:0] words [DEPTH];
  logic [127:0] read_q;
  logic [127:0] out_q;
  logic [INDEX_W-1:0] head_q;
  logic [INDEX_W-1:0] base_q;
  logic [INDEX_W-1:0] rd_index;
  logic [COUNT_W-1:0] space_q;
  logic [COUNT_W-1:0] avail_q;
  logic [COUNT_W-1:0] popped;
  logic [COUNT_W-1:0] reserved;

  assign rd_index = base_q + rd_off[INDEX_W-1:0];
  assign popped = pop ? pop_n : '0;
  assign reserved = alloc ? COUNT_W'(alloc_words) : '0;
  assign rd_data = out_q;
  assign space = space_q;
  assign avail = avail_q;

  always_ff @(posedge clk) begin
    if (s_valid) words[head_q] <= s_data;
    if (rd_en) read_q <= words[rd_index];
  end

  always_ff @(posedge clk) begin
    out_q <= read_q;
  end

  always_ff @(posedge clk) begin
    if (rst || flush) begin
      head_q  <= '0;
      base_q  <= '0;
      avail_q <= '0;
      space_q <= COUNT_W'(DEPTH);
    end else begin
      if (s_valid) head_q <= head_q + 1'b1;
      base_q  <= base_q + popped[INDEX_W-1:0];
      avail_q <= avail_q - popped + COUNT_W'(s_valid);
      space_q <= space_q + popped - reserved;
    end
  end

  // The top bit of an offset only serves offsets equal to DEPTH, which are never read
  logic unused_top;
  assign unused_top = &{1'b0, rd_off[COUNT_W-1]};
endmodule

`default_nettype wire
