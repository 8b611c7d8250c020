// SPDX-License-Identifier: Apache-2.0
// What the array queue runs: CONV.
//
//   walker (words of the map) + weight word -> request -> window -> fetch -> taps
//   taps -> mac_array -> writeback -> activation memory, dilation map
//
// Nothing stalls behind a request: what belongs to it travels in delays of fixed length beside it.
// Order out: tiles, groups of a tile, channels of a group. Latency: channel c is on wr_valid
// MAC_LAT + c + 1 + WB_LAT = 15 + c cycles after the last pixels of its group. Interval: a weight word
// a cycle; a group takes as many cycles as it has words or, if these are more, channels.
`default_nettype none

module array_side (
    input  wire logic           clk,
    input  wire logic           rst,
    // the operation, constant while it runs
    input  wire logic [255:0]   desc,
    input  wire seq_pkg::geom_t geom,
    input  wire logic           start,
    output logic                issued,
    output logic                done,
    // ring
    input  wire logic [12:0]    avail,
    output logic                ring_rd_en,
    output logic [12:0]         ring_rd_off,
    input  wire logic [127:0]   ring_rd_data,
    output logic                ring_pop,
    output logic [12:0]         ring_pop_n,
    // activation memory
    output logic                rd_en,
    output logic [15:0]         rd_center,
    output logic [2:0]          rd_mask,
    input  wire logic [383:0]   window,
    output logic                wr_valid,
    output logic [15:0]         wr_addr,
    output logic [127:0]        wr_data,
    // dilation map
    output logic                smap_we,
    output logic [9:0]          smap_idx,
    output logic [47:0]         smap_data
);
  localparam int unsigned LANES = engine_pkg::LANES;

  // Packages cannot refer to each other here, so the sums are checked
  if (seq_pkg::PIPE_LAT != seq_pkg::WIN_LAT + engine_pkg::FETCH_LAT) begin : g_illegal_pipe
    pipe_lat_is_win_lat_plus_fetch_lat u_illegal ();
  end
  // `done` is seen a cycle after the last channel left the array, and acted on in the next one
  if (seq_pkg::CONV_DRAIN + 2 < 1 + engine_pkg::WB_LAT + 1) begin : g_illegal_drain
    conv_drain_must_cover_the_writeback u_illegal ();
  end

  // ---- operation
  logic linear;
  logic w8;
  logic pair;
  logic to_smap;
  logic [9:0] smap_base;
  assign linear = !desc[isa_pkg::CONV_WINDOWED_LSB];
  assign w8 = desc[isa_pkg::CONV_W8_LSB];
  assign pair = desc[isa_pkg::CONV_PAIR_LSB];
  assign to_smap = desc[isa_pkg::CONV_TO_SMAP_LSB];
  assign smap_base = desc[isa_pkg::CONV_SMAP_BASE_LSB+:10];

  // ---- walk
  logic item_valid;
  logic item_wanted;
  logic unused_item_take;
  seq_pkg::item_t item;
  logic running_q;  // since a start; the walk goes on until all requests are out
  always_ff @(posedge clk) running_q <= !rst && !issued;
  walker u_walker (
      .clk, .rst,
      .geom, .linear, .pair, .start, .stop(running_q && issued),
      .item_valid, .item, .item_take(item_wanted)
  );

  logic drained;
  logic header_we;
  logic header_bank;
  logic [3:0] header_idx;
  seq_pkg::request_t request;
  logic [95:0] weights;
  logic [1:0] tap_j;
  logic first;
  logic last;
  logic chunk_first;
  logic chunk_last;
  seq_pkg::side_t side;
  seq_conv u_conv (
      .clk, .rst,
      .start, .linear, .w8, .k_words(desc[isa_pkg::CONV_K_WORDS_LSB+:12]),
      .tiles(desc[isa_pkg::CONV_TILES_LSB+:8]), .last_oc(desc[isa_pkg::CONV_LAST_OC_LSB+:5]),
      .issued, .done,
      .avail, .ring_rd_en, .ring_rd_off, .ring_rd_data, .ring_pop, .ring_pop_n,
      .item_valid, .item, .item_take(unused_item_take), .item_wanted,
      .header_we, .header_bank, .header_idx, .drained,
      .request, .weights, .tap_j, .first, .last, .chunk_first, .chunk_last, .side
  );

  // ---- read path
  engine_pkg::fetch_t fetch_req;
  logic taps_valid;
  logic [2:0][LANES-1:0][engine_pkg::PIX_W-1:0] taps;
  logic [2:0] fetch_mask;
  logic beside_q;  // the tap is not in the left column
  window u_window (.clk, .rst, .geom, .pair, .request, .fetch(fetch_req));
  delay #(.WIDTH(1), .LATENCY(seq_pkg::WIN_LAT)) u_beside_left (
      .clk, .rst(1'b0), .d(tap_j != 2'd0), .q(beside_q)
  );
  // A strided tap is left of its word only in the left column: writes get the bank
  assign rd_mask = fetch_mask & {2'b11, !(beside_q && fetch_req.mode[1])};
  fetch u_fetch (
      .clk, .rst,
      .req(fetch_req), .rd_en, .rd_center, .rd_mask(fetch_mask), .window,
      .out_valid(taps_valid), .taps
  );

  // ---- array
  logic [95:0] mac_weights;
  logic [1:0] mac_tap_j;
  logic mac_first;
  logic mac_last;
  logic mac_chunk_first;
  logic mac_chunk_last;
  seq_pkg::side_t mac_side;
  logic [LANES-1:0][engine_pkg::PIX_W-1:0] mac_vec;
  logic d_valid;
  logic [engine_pkg::OC_W-1:0] d_oc;
  logic [LANES-1:0][engine_pkg::ACC_W-1:0] d_acc;
  seq_pkg::side_t d_side;
  delay #(.WIDTH(96 + 6 + seq_pkg::SIDE_W), .LATENCY(seq_pkg::PIPE_LAT)) u_beside (
      .clk, .rst(1'b0),
      .d({weights, tap_j, first, last, chunk_first, chunk_last, side}),
      .q({mac_weights, mac_tap_j, mac_first, mac_last, mac_chunk_first, mac_chunk_last, mac_side})
  );
  always_comb begin
    case (mac_tap_j)
      2'd0: mac_vec = taps[0];
      2'd1: mac_vec = taps[1];
      default: mac_vec = taps[2];
    endcase
  end
  mac_array #(.SIDE_W(seq_pkg::SIDE_W)) u_mac_array (
      .clk, .rst,
      .valid(taps_valid), .first(mac_first), .last(mac_last), .w8,
      .vec(mac_vec), .vec_hi(pair ? taps[2] : mac_vec), .weights(mac_weights),
      .chunk_first(mac_chunk_first), .chunk_last(mac_chunk_last), .pair,
      .n_oc(mac_side.n_oc), .side(mac_side),
      .d_valid, .d_oc, .d_acc, .d_side
  );

  // ---- write path
  logic [24:0] bias;
  logic [4:0] shift;
  logic [15:0] addr;
  logic upper;  // channel 0 of the second group of a pair
  conv_header u_header (
      .clk,
      .we(header_we), .we_bank(header_bank), .we_idx(header_idx), .we_data(ring_rd_data),
      .d_valid, .d_oc, .d_side,
      .bias, .shift, .addr, .drained
  );
  assign upper = pair && d_oc == {1'b0, d_side.n_oc[4:1]};
  logic res_valid_q;
  logic [LANES-1:0][engine_pkg::ACC_W-1:0] res_acc_q;
  logic [24:0] res_bias_q;
  logic [4:0] res_shift_q;
  logic [15:0] res_addr_q;
  logic res_smap_q;
  logic [9:0] res_idx_q;
  always_ff @(posedge clk) begin
    res_valid_q <= !rst && d_valid;
    res_acc_q <= d_acc;
    res_bias_q <= bias;
    res_shift_q <= shift;
    res_addr_q <= addr;
    res_smap_q <= to_smap && d_side.first_tile && (d_oc == '0 || upper);
    res_idx_q <= smap_base + d_side.g[9:0] + {9'd0, upper};
  end
  writeback u_writeback (
      .clk, .rst,
      .valid(res_valid_q), .acc(res_acc_q), .bias(res_bias_q), .shift(res_shift_q),
      .out_type(geom.out_type), .addr(res_addr_q),
      .smap_we_in(res_smap_q), .smap_idx_in(res_idx_q),
      .wr_en(wr_valid), .wr_addr, .wr_data,
      .smap_we, .smap_idx, .smap_data
  );

  logic unused;
  assign unused = &{1'b0, desc, geom};
endmodule

`default_nettype wire
