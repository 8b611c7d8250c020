// SPDX-License-Identifier: Apache-2.0
// CONV: reads a tile's header and then its weight words once for every group of 16 pixels, and sends
// a window request and a weight word a cycle to the multiplier array.
//
// Loops, outermost first: tile, item of the walk (a group, or a pair of them), weight word. The words
// of a tile stay in the ring until the last group has used them. The one rule of the array is kept
// here: after a `last` the next one waits for as many cycles as the previous one had channels. A tile
// costs 12 cycles for its header and 3 until the ring has moved on; nothing else is lost but the
// waiting for the stream.
//
// Latency: a word asked of the ring in cycle t is on request / weights in t + RING_LAT + 1.
`default_nettype none

module seq_conv (
    input  wire logic              clk,
    input  wire logic              rst,
    // operation: constant while it runs
    input  wire logic              start,
    input  wire logic              linear,
    input  wire logic              w8,
    input  wire logic [11:0]       k_words,
    input  wire logic [7:0]        tiles,
    input  wire logic [4:0]        last_oc,
    output logic                   issued,  // all requests are out
    output logic                   done,  // and all tiles have left the array
    // ring
    input  wire logic [12:0]       avail,
    output logic                   ring_rd_en,
    output logic [12:0]            ring_rd_off,
    input  wire logic [127:0]      ring_rd_data,  // RING_LAT after the request
    output logic                   ring_pop,
    output logic [12:0]            ring_pop_n,
    // walk
    input  wire logic              item_valid,
    input  wire seq_pkg::item_t    item,
    output logic                   item_take,
    output logic                   item_wanted,  // item_take, were there an item
    // header memory: one of its 12 words, with its tile's bank; `drained` frees a bank
    output logic                   header_we,
    output logic                   header_bank,
    output logic [3:0]             header_idx,
    input  wire logic              drained,
    // to the window
    output      seq_pkg::request_t request,
    // to the array, PIPE_LAT before the pixels
    output logic [95:0]            weights,
    output logic [1:0]             tap_j,
    output logic                   first,
    output logic                   last,
    output logic                   chunk_first,
    output logic                   chunk_last,
    output      seq_pkg::side_t    side
);
  localparam logic [12:0] HEADER = 13'(isa_pkg::HEADER_WORDS);
  localparam int unsigned INFO_W = 4 + seq_pkg::SIDE_W + 13 + 17 + 2;

  typedef enum logic [1:0] {IDLE, HEAD, WORDS} state_t;
  state_t state_q;

  logic [12:0] off_q;  // next word of the tile
  logic [12:0] off_next_q;  // off_q + 1
  logic [12:0] tile_words_q;
  logic [12:0] last_off_q;
  logic [8:0] in_chunk_q;  // words before off_q in its chunk
  logic chunk_full_q;  // off_q is word 511 of its chunk
  logic one_word_q;
  logic group_end_q;  // off_q is the tile's last word
  logic first_chunk_q;
  logic fed_q;  // the ring holds word off_q
  logic [4:0] rest_q;  // cycles until a `last` may come
  logic rested_q;
  logic [7:0] tiles_left_q;  // after this one
  logic first_tile_q;
  logic bank_q;
  logic [1:0] busy_q;  // banks of the header memory in use

  logic issue_head;
  logic issue_word;
  logic issue;
  logic tile_end;
  logic chunk_end;
  logic [4:0] n_oc;

  assign n_oc = (tiles_left_q == '0) ? last_oc : w8 ? 5'(engine_pkg::OC / 2) : 5'(engine_pkg::OC);
  assign chunk_end = group_end_q || chunk_full_q;
  assign issue_head = (state_q == HEAD) && fed_q && !busy_q[1];
  assign issue_word = (state_q == WORDS) && fed_q && item_valid && (!chunk_end || rested_q);
  assign issue = issue_head || issue_word;
  // issue_word && group_end_q, in one step
  assign item_wanted = (state_q == WORDS) && fed_q && group_end_q && rested_q;
  assign item_take = item_wanted && item_valid;
  assign tile_end = item_take && item.last;

  assign ring_rd_en = issue;
  assign ring_rd_off = off_q;
  assign ring_pop = tile_end;
  assign ring_pop_n = tile_words_q;

  // State
  always_ff @(posedge clk) begin
    if (rst) begin
      state_q <= IDLE;
    end else begin
      case (state_q)
        IDLE: if (start) state_q <= HEAD;
        HEAD: if (issue_head && off_next_q == HEADER) state_q <= WORDS;
        default: if (tile_end) state_q <= (tiles_left_q == '0) ? IDLE : HEAD;
      endcase
    end
  end
  assign issued = state_q == IDLE;
  assign done = issued && busy_q == '0;

  always_ff @(posedge clk) begin
    if (state_q == IDLE) begin
      tile_words_q <= {1'b0, k_words} + HEADER;
      last_off_q <= {1'b0, k_words} + (HEADER - 13'd1);
      one_word_q <= k_words == 12'd1;
      tiles_left_q <= tiles - 8'd1;
      first_tile_q <= 1'b1;
    end else if (tile_end) begin
      first_tile_q <= 1'b0;
      tiles_left_q <= tiles_left_q - 8'd1;
    end
  end

  // The word in the tile
  always_ff @(posedge clk) begin
    if (state_q == IDLE || tile_end) begin
      off_q <= '0;
      off_next_q <= 13'd1;
      group_end_q <= 1'b0;
    end else if (item_take) begin
      off_q <= HEADER;
      off_next_q <= HEADER + 13'd1;
      group_end_q <= one_word_q;
    end else if (issue) begin
      off_q <= off_next_q;
      off_next_q <= off_next_q + 13'd1;
      group_end_q <= off_next_q == last_off_q;
    end
    if (state_q != WORDS || item_take) begin
      in_chunk_q <= '0;
      chunk_full_q <= 1'b0;
      first_chunk_q <= 1'b1;
    end else if (issue_word) begin
      in_chunk_q <= in_chunk_q + 9'd1;  // CHUNK = 2**9
      chunk_full_q <= in_chunk_q == 9'(isa_pkg::CHUNK - 2);
      if (chunk_end) first_chunk_q <= 1'b0;
    end
  end

  // avail only falls by a pop, after which it reads 0 until it is right again
  always_ff @(posedge clk) begin
    if (rst || tile_end) fed_q <= 1'b0;
    else if (item_take) fed_q <= 1'b1;  // word 0 of the next group was read before
    else fed_q <= issue ? (avail > off_next_q) : (avail > off_q);
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      rest_q <= '0;
      rested_q <= 1'b1;
    end else if (issue_word && chunk_end) begin
      rest_q <= n_oc - 5'd1;
      rested_q <= n_oc <= 5'd1;
    end else begin
      if (rest_q != '0) rest_q <= rest_q - 5'd1;
      rested_q <= rest_q <= 5'd1;
    end
  end

  // Two banks of headers: the third tile waits until the first has drained
  always_ff @(posedge clk) begin
    if (rst) begin
      bank_q <= 1'b0;
      busy_q <= '0;
    end else begin
      if (tile_end) bank_q <= !bank_q;
      if (tile_end && !drained) busy_q <= busy_q + 2'd1;
      if (!tile_end && drained) busy_q <= busy_q - 2'd1;
    end
  end

  // What goes with the word through the ring
  seq_pkg::side_t side_in;
  seq_pkg::side_t side_d;
  logic head_arrives;
  logic word_arrives;
  logic arr_bank;
  logic [3:0] arr_idx;
  logic [12:0] arr_vy;
  logic [16:0] arr_base8;
  logic arr_left;
  logic arr_right;
  logic [3:0] arr_flags;
  always_comb begin
    side_in.g = item.g;
    side_in.bank = bank_q;
    side_in.first_tile = first_tile_q;
    side_in.last_group = item.last;
    side_in.n_oc = n_oc;
  end
  delay #(.WIDTH(2), .LATENCY(seq_pkg::RING_LAT), .RESET(1'b1)) u_arrives (
      .clk, .rst, .d({issue_head, issue_word}), .q({head_arrives, word_arrives})
  );
  delay #(.WIDTH(5), .LATENCY(seq_pkg::RING_LAT)) u_header (
      .clk, .rst, .d({bank_q, off_q[3:0]}), .q({arr_bank, arr_idx})
  );
  delay #(.WIDTH(INFO_W), .LATENCY(seq_pkg::RING_LAT)) u_info (
      .clk, .rst,
      .d({in_chunk_q == '0, chunk_end, first_chunk_q, group_end_q, side_in,
          item.vy, item.base8, item.at_left, item.at_right}),
      .q({arr_flags, side_d, arr_vy, arr_base8, arr_left, arr_right})
  );
  assign header_we = head_arrives;
  assign header_bank = arr_bank;
  assign header_idx = arr_idx;

  // The weight word has come
  logic [1:0] tap_i;
  seq_pkg::request_t request_q;
  assign tap_i = ring_rd_data[isa_pkg::W_TAP_I_LSB+:2];
  always_ff @(posedge clk) begin
    request_q.valid <= word_arrives && !rst;
    request_q.linear <= linear;
    request_q.plane <= ring_rd_data[isa_pkg::W_PLANE_LSB+:16];
    request_q.vy <= arr_vy;
    request_q.base8 <= arr_base8;
    request_q.at_left <= arr_left;
    request_q.at_right <= arr_right;
    request_q.delta <= {{3{tap_i == 2'd0}}, tap_i != 2'd1};  // -1, 0, 1
    request_q.half <= linear ? isa_pkg::HALF_ALL : ring_rd_data[isa_pkg::W_HALF_LSB+:2];
    weights <= ring_rd_data[isa_pkg::W_WEIGHTS_LSB+:96];
    tap_j <= linear ? 2'd1 : ring_rd_data[isa_pkg::W_TAP_J_LSB+:2];
    {first, last, chunk_first, chunk_last} <= arr_flags;
    side <= side_d;
  end
  assign request = request_q;

  logic unused;
  assign unused = &{1'b0, ring_rd_data[127:118]};
endmodule

`default_nettype wire
