// SPDX-License-Identifier: Apache-2.0
// sequencer: an operation starts only when the other queue has completed as many as its token asks
// for; `completed` counts exactly the operations that were started and have ended, each of them
// after `drain` cycles and with nothing on its way to the memory; END is only reached with all of
// them complete; descriptors leave the ring only when both words are there.
//
// The ring's words, its count, the unit and the time of an abort are free. `others` only rises
// (between two starts), as the count of the other queue does.
`default_nettype none

module sequencer_proof #(
    parameter logic QUEUE = isa_pkg::QUEUE_ARRAY,
    localparam int unsigned COUNT_W = (QUEUE == isa_pkg::QUEUE_LANES) ? 10 : 13
) (
    input wire logic               clk,
    input wire logic               rst,
    input wire logic               start,
    input wire logic               abort,
    input wire logic [11:0]        others,
    input wire logic [COUNT_W-1:0] avail,
    input wire logic [127:0]       ring_rd_data,
    input wire logic               unit_issued,
    input wire logic               unit_done,
    input wire logic [6:0]         drain,
    input wire logic               quiet
);
  logic busy;
  logic done;
  logic failed;
  logic [7:0] error_code;
  logic [11:0] tag;
  logic running;
  logic [63:0] prog_hash;
  logic [11:0] completed;
  logic ring_rd_en;
  logic ring_rd_off;
  logic ring_pop;
  logic [255:0] desc;
  seq_pkg::geom_t geom;
  logic unit_start;

  sequencer #(.QUEUE(QUEUE)) u_dut (
      .clk, .rst, .start, .abort, .busy, .done, .failed, .error_code, .tag, .running, .prog_hash,
      .completed, .others, .avail, .ring_rd_en, .ring_rd_off, .ring_rd_data, .ring_pop,
      .desc, .geom, .unit_start, .unit_issued, .unit_done, .drain, .quiet
  );
  // 3 is RUN, 4 DRAIN
  (* hierconn *) wire [2:0] \u_dut.run_q ;
  (* hierconn *) wire [6:0] \u_dut.drain_q ;

  logic begins;
  assign begins = start && !busy;

  logic [11:0] starts;  // operations started since `begins`
  logic broken;  // an abort came since then
  logic [11:0] others_before;
  logic [11:0] completed_before;
  logic quiet_before;
  logic begins_before;
  logic avail_before;
  logic [7:0] drained;  // cycles since the unit was done
  logic [6:0] drain_before;
  always_ff @(posedge clk) begin
    others_before <= others;
    completed_before <= completed;
    quiet_before <= quiet;
    begins_before <= begins;
    avail_before <= avail > COUNT_W'(1);
    drain_before <= drain;
    if (\u_dut.run_q != 3'd4) drained <= 8'd0;
    else if (drained != 8'hff) drained <= drained + 8'd1;
    if (rst) begin
      starts <= '0;
      broken <= 1'b0;
    end else if (begins) begin
      starts <= '0;
      broken <= abort;
    end else begin
      if (unit_start) starts <= starts + 12'd1;
      if (abort) broken <= 1'b1;
    end
  end

  logic begun = 1'b0;
  logic reset_before = 1'b1;
  always_ff @(posedge clk) begin
    begun <= 1'b1;
    reset_before <= rst;
    if (!begun) begin
      assume (rst);
    end else begin
      if (!reset_before && !begins_before) assume (others >= others_before);
      if (running) assume (drain == drain_before || unit_start);
      // Tokens
      if (unit_start && !reset_before) assert (others >= desc[isa_pkg::D_WAIT_LSB+:12]);
      // Counts
      if (running) assert (busy);
      if (!broken) assert (starts == completed + 12'(running && !unit_start));
      if (!reset_before && !begins_before && completed != completed_before) begin
        assert (completed == completed_before + 12'd1);
        assert (quiet_before);
      end
      if (done && !busy && !broken) assert (starts == completed);
      if (done) assert (!busy);
      // The wait after the last request
      assert (\u_dut.run_q <= 3'd4);
      if (\u_dut.run_q == 3'd4) assert (9'(\u_dut.drain_q ) + 9'(drained) >= 9'(drain));
      // The ring
      if (ring_pop) assert (avail_before && ring_rd_en && ring_rd_off);
      cover (done && !broken && completed == 12'd2);
    end
  end
endmodule

`default_nettype wire
