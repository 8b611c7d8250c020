// SPDX-License-Identifier: Apache-2.0
// A queue's port to its ring: the sequencer and the unit that runs take turns, requests are
// registered, and `avail` reads 0 while a pop is under way, so that nobody sees an old count.
//
// Latency: a word asked for in cycle t is on the ring's rd_data in t + RING_LAT.
`default_nettype none

module ring_port #(
    parameter int unsigned COUNT_W = 13  // bits of the ring's counts
) (
    input  wire logic               clk,
    input  wire logic               rst,
    output logic [COUNT_W-1:0]      avail,
    // sequencer
    input  wire logic               seq_rd_en,
    input  wire logic               seq_rd_off,
    input  wire logic               seq_pop,  // two words
    // unit
    input  wire logic               unit_rd_en,
    input  wire logic [COUNT_W-1:0] unit_rd_off,
    input  wire logic               unit_pop,
    input  wire logic [COUNT_W-1:0] unit_pop_n,
    // ring
    output logic                    ring_rd_en,
    output logic [COUNT_W-1:0]      ring_rd_off,
    input  wire logic [COUNT_W-1:0] ring_avail,
    output logic                    ring_pop,
    output logic [COUNT_W-1:0]      ring_pop_n
);
  logic pop_d;
  assign pop_d = seq_pop || unit_pop;
  always_ff @(posedge clk) begin
    ring_rd_en  <= !rst && (seq_rd_en || unit_rd_en);
    ring_rd_off <= seq_rd_en ? COUNT_W'(seq_rd_off) : unit_rd_off;
    ring_pop    <= !rst && pop_d;
    ring_pop_n  <= seq_pop ? COUNT_W'(2) : unit_pop_n;
    avail       <= (rst || pop_d || ring_pop) ? '0 : ring_avail;
  end
endmodule

`default_nettype wire
