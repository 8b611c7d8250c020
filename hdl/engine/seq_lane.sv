// SPDX-License-Identifier: Apache-2.0
// DW, DDW and POOL: for every channel record, the rows of every column of the map, one a cycle, to
// the row chain of the lanes; after the last one as many empty entries as push it to the centre.
//
// The next record is fetched while a channel runs, so that the change of channel costs nothing unless
// a channel has fewer than 7 entries. While `hold` nothing is sent.
//
// Latency: what is decided in cycle t is on `request` in t + 1; `hold` acts one cycle later.
`default_nettype none

module seq_lane (
    input  wire logic                   clk,
    input  wire logic                   rst,
    // operation: constant while it runs
    input  wire logic                   start,
    input  wire logic [2:0]             reach,  // empty entries at the end
    input  wire logic [11:0]            channels,
    input  wire logic                   hold,
    output logic                        done,  // all requests are out
    // ring
    input  wire logic [9:0]             avail,
    output logic                        ring_rd_en,  // and pop, of one word
    input  wire logic [127:0]           ring_rd_data,  // RING_LAT after the request
    // walk
    input  wire logic                   entry_valid,
    input  wire seq_pkg::entry_t        entry,
    output logic                        entry_take,
    // to the memory and the lanes
    output      seq_pkg::lane_request_t request
);
  typedef struct packed {
    logic [35:0] weights;
    logic [15:0] src;
    logic [15:0] dst;
    logic [24:0] bias;
    logic [4:0]  shift;
  } record_t;

  // Records: the next one is on its way or waits while the current one is in use
  logic active_q;
  logic flushing_q;
  logic [2:0] flush_q;
  logic hold_q;
  logic [11:0] unread_q;  // records still to ask for
  logic asked_q;  // one is on its way
  logic arrives;
  logic next_valid_q;
  logic cur_valid_q;
  record_t next_q;
  record_t cur_q;
  record_t arrived;
  logic issue;
  logic flush;
  logic channel_end;
  logic shift_in;
  logic [11:0] left_q;  // channels after the current one

  assign ring_rd_en = active_q && !asked_q && !next_valid_q && (avail != '0) && (unread_q != '0);
  assign shift_in = next_valid_q && (!cur_valid_q || channel_end);
  assign arrived.weights = ring_rd_data[isa_pkg::R_WEIGHTS_LSB+:36];
  assign arrived.src = ring_rd_data[isa_pkg::R_SRC_LSB+:16];
  assign arrived.dst = ring_rd_data[isa_pkg::R_DST_LSB+:16];
  assign arrived.bias = ring_rd_data[isa_pkg::R_BIAS_LSB+:25];
  assign arrived.shift = ring_rd_data[isa_pkg::R_SHIFT_LSB+:5];
  delay #(.WIDTH(1), .LATENCY(seq_pkg::RING_LAT), .RESET(1'b1)) u_arrives (
      .clk, .rst, .d(ring_rd_en), .q(arrives)
  );

  assign entry_take = cur_valid_q && !hold_q;
  assign issue = entry_take && entry_valid;
  assign channel_end = issue && entry.last;
  assign flush = flushing_q && !hold_q;
  always_ff @(posedge clk) begin
    hold_q <= hold;
    if (rst) begin
      active_q <= 1'b0;
      flushing_q <= 1'b0;
      asked_q <= 1'b0;
      next_valid_q <= 1'b0;
      cur_valid_q <= 1'b0;
    end else begin
      if (start) active_q <= 1'b1;
      else if (flush && flush_q == 3'd1) active_q <= 1'b0;
      if (channel_end && left_q == '0) flushing_q <= 1'b1;
      else if (flush && flush_q == 3'd1) flushing_q <= 1'b0;
      if (ring_rd_en) asked_q <= 1'b1;
      else if (arrives) asked_q <= 1'b0;
      if (arrives) next_valid_q <= 1'b1;
      else if (shift_in) next_valid_q <= 1'b0;
      if (shift_in) cur_valid_q <= 1'b1;
      else if (channel_end) cur_valid_q <= 1'b0;
    end
  end
  assign done = !active_q;

  always_ff @(posedge clk) begin
    if (start) begin
      unread_q <= channels;
      left_q <= channels - 12'd1;
    end else begin
      if (ring_rd_en) unread_q <= unread_q - 12'd1;
      if (channel_end) left_q <= left_q - 12'd1;
    end
    if (!flushing_q) flush_q <= reach;
    else if (flush) flush_q <= flush_q - 3'd1;
    if (arrives) next_q <= arrived;
    if (shift_in) cur_q <= next_q;
  end

  // Out
  seq_pkg::lane_request_t request_q;
  always_ff @(posedge clk) begin
    request_q.read <= issue && !rst;
    request_q.insert <= (issue || flush) && !rst;
    request_q.raw <= 1'b0;
    request_q.plane <= cur_q.src;
    request_q.base8 <= entry.base8;
    request_q.meta.emit <= issue && entry.emit;
    request_q.meta.half <= entry.half;
    request_q.meta.v <= entry.v;
    request_q.meta.at_left <= entry.at_left;
    request_q.meta.at_right <= entry.at_right;
    request_q.meta.weights <= cur_q.weights;
    request_q.meta.bias <= cur_q.bias;
    request_q.meta.shift <= cur_q.shift;
    request_q.meta.addr <= cur_q.dst + entry.offset;
    request_q.meta.dil <= '0;
  end
  assign request = request_q;

  logic unused;
  assign unused = &{1'b0, ring_rd_data[127:110], ring_rd_data[47:36], entry.xo};
endmodule

`default_nettype wire
