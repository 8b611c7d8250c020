// SPDX-License-Identifier: Apache-2.0
// DW, DDW and POOL: for every channel record, every output word of the map, the kernel rows of that
// word, one a cycle, to the three-tap lanes.
//
// Rows of a word: 0, 1, 2; or, when the word takes two passes (stride 2 with rows of 8 pixels), 0, 1,
// 2 of lanes 0-7 and then of lanes 8-15. DDW: the centre row for all lanes, then for each dilation
// present rows 0 and 2 of its lanes. The next record is fetched while a channel runs, so that the
// change of channel costs nothing unless a channel is shorter than 7 cycles.
//
// Latency: what is asked in cycle t is on the outputs in t + 1.
`default_nettype none

module seq_dw (
    input  wire logic              clk,
    input  wire logic              rst,
    // operation: constant while it runs
    input  wire logic              start,
    input  wire logic              deform,
    input  wire logic              two_halves,
    input  wire logic [11:0]       channels,
    output logic                   done,  // all requests are out
    // ring
    input  wire logic [12:0]       avail,
    output logic                   ring_rd_en,  // and pop, of one word
    input  wire logic [127:0]      ring_rd_data,  // RING_LAT after the request
    // walk
    input  wire logic              item_valid,
    input  wire seq_pkg::item_t    item,
    output logic                   item_take,
    // to the window
    output      seq_pkg::request_t request,
    // to the lanes, PIPE_LAT before the pixels
    output logic [11:0]            weights,  // of the kernel row, column 0 lowest
    output logic                   first,
    output logic                   last,
    // to the writeback, with `last`
    output logic [24:0]            bias,
    output logic [4:0]             shift,
    output logic [15:0]            addr
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
  logic [11:0] unread_q;  // records still to ask for
  logic asked_q;  // one is on its way
  logic arrives;
  logic next_valid_q;
  logic cur_valid_q;
  record_t next_q;
  record_t cur_q;
  record_t arrived;
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

  always_ff @(posedge clk) begin
    if (rst) begin
      active_q <= 1'b0;
      asked_q <= 1'b0;
      next_valid_q <= 1'b0;
      cur_valid_q <= 1'b0;
    end else begin
      if (start) active_q <= 1'b1;
      else if (channel_end && left_q == '0) active_q <= 1'b0;
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
    if (arrives) next_q <= arrived;
    if (shift_in) cur_q <= next_q;
  end

  // The row of the word
  logic issue;
  logic begun_q;  // the first row of the word is out
  logic [1:0] row_q;
  logic high_q;
  logic [7:0] pending_q;  // dilations whose rows are to come
  logic [7:0] lowest;
  logic [2:0] dilation;
  logic only_one_q;  // of the pending dilations; good from the second row of a dilation on
  logic word_end;
  logic [3:0] distance;

  assign issue = cur_valid_q && item_valid;
  assign lowest = pending_q & (~pending_q + 8'd1);
  assign dilation = {|lowest[7:4], |{lowest[7:6], lowest[3:2]},
                     |{lowest[7], lowest[5], lowest[3], lowest[1]}};
  assign word_end = deform ? (begun_q && row_q == 2'd2 && only_one_q)
                           : (row_q == 2'd2 && (high_q || !two_halves));
  assign item_take = issue && word_end;
  assign channel_end = item_take && item.last;
  assign distance = deform ? {1'b0, dilation} : 4'd1;

  always_ff @(posedge clk) begin
    if (rst || !active_q) begin
      begun_q <= 1'b0;
      row_q <= deform ? 2'd1 : 2'd0;
      high_q <= 1'b0;
    end else if (issue) begin
      begun_q <= !word_end;
      if (word_end) begin
        row_q <= deform ? 2'd1 : 2'd0;
        high_q <= 1'b0;
      end else if (deform) begin
        row_q <= (begun_q && row_q == 2'd0) ? 2'd2 : 2'd0;
      end else if (row_q == 2'd2) begin
        row_q <= 2'd0;
        high_q <= 1'b1;
      end else begin
        row_q <= row_q + 2'd1;
      end
    end
    only_one_q <= pending_q == lowest;
    if (issue) begin
      if (!begun_q) pending_q <= item.present;
      else if (row_q == 2'd2) pending_q <= pending_q & ~lowest;
    end
  end

  // Out
  seq_pkg::request_t request_q;
  always_ff @(posedge clk) begin
    request_q.valid <= issue && !rst;
    request_q.linear <= 1'b0;
    request_q.plane <= cur_q.src;
    request_q.vy <= item.vy;
    request_q.base8 <= item.base8;
    request_q.at_left <= item.at_left;
    request_q.at_right <= item.at_right;
    request_q.delta <= (row_q == 2'd0) ? -distance : (row_q == 2'd1) ? 4'd0 : distance;
    request_q.half <= !two_halves ? isa_pkg::HALF_ALL : high_q ? isa_pkg::HALF_HIGH
                                                               : isa_pkg::HALF_LOW;
    for (int x = 0; x < 16; x++) begin
      request_q.lanes[x] <= !deform || !begun_q || (item.dil[x] == dilation);
      request_q.dil[x] <= deform ? item.dil[x] : 3'd1;
    end
    case (row_q)
      2'd0: weights <= cur_q.weights[11:0];
      2'd1: weights <= cur_q.weights[23:12];
      default: weights <= cur_q.weights[35:24];
    endcase
    first <= !begun_q;
    last <= word_end;
    bias <= cur_q.bias;
    shift <= cur_q.shift;
    addr <= cur_q.dst + {3'd0, item.g};
  end
  assign request = request_q;

  logic unused;
  assign unused = &{1'b0, ring_rd_data[127:110], ring_rd_data[47:36], item.xo};
endmodule

`default_nettype wire
