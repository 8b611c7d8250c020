// SPDX-License-Identifier: Apache-2.0
// ring_port: whoever reads and pops no more than `avail` never asks the ring for a word that it does
// not hold, whatever arrives meanwhile.
//
// The ring is a count: its `avail` is right in the cycle after an arrival or a pop, as in
// stream_ring.
`default_nettype none

module ring_port_proof #(
    parameter int unsigned COUNT_W = 5
) (
    input wire logic               clk,
    input wire logic               rst,
    input wire logic               arrives,
    input wire logic               seq_rd_en,
    input wire logic               seq_rd_off,
    input wire logic               seq_pop,
    input wire logic               unit_rd_en,
    input wire logic [COUNT_W-1:0] unit_rd_off,
    input wire logic               unit_pop,
    input wire logic [COUNT_W-1:0] unit_pop_n
);
  localparam logic [COUNT_W-1:0] FULL = {1'b1, {(COUNT_W - 1) {1'b0}}};
  logic [COUNT_W-1:0] avail;
  logic ring_rd_en;
  logic [COUNT_W-1:0] ring_rd_off;
  logic [COUNT_W-1:0] held;
  logic ring_pop;
  logic [COUNT_W-1:0] ring_pop_n;

  ring_port #(.COUNT_W(COUNT_W)) u_dut (
      .clk, .rst, .avail, .seq_rd_en, .seq_rd_off, .seq_pop,
      .unit_rd_en, .unit_rd_off, .unit_pop, .unit_pop_n,
      .ring_rd_en, .ring_rd_off, .ring_avail(held), .ring_pop, .ring_pop_n
  );

  logic [COUNT_W-1:0] left;  // behind the pop that is at the ring
  assign left = held - (ring_pop ? ring_pop_n : '0);
  logic was_full = 1'b0;
  always_ff @(posedge clk) begin
    if (rst) held <= '0;
    else held <= left + COUNT_W'(arrives && left < FULL);
    was_full <= avail == FULL;
  end

  logic begun = 1'b0;
  always_ff @(posedge clk) begin
    begun <= 1'b1;
    if (!begun) begin
      assume (rst);
    end else begin
      assume (!(seq_pop && unit_pop) && !(seq_rd_en && unit_rd_en));
      if (seq_rd_en) assume (COUNT_W'(seq_rd_off) < avail);
      if (unit_rd_en) assume (unit_rd_off < avail);
      if (seq_pop) assume (avail >= COUNT_W'(2));
      if (unit_pop) assume (unit_pop_n <= avail);
      assert (held <= FULL);
      if (ring_pop) assert (ring_pop_n <= held);
      if (ring_rd_en) assert (ring_rd_off < held);
      assert (avail <= left);
      cover (was_full && avail == '0);
    end
  end
endmodule

`default_nettype wire
