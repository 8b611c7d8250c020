// SPDX-License-Identifier: Apache-2.0
// The layer processor: everything but the DMA and the bus (docs/engine.md).
//
//   sequencer --- starts ---> seq_conv | seq_dw | peak | seq_mem
//   walker (words of the map) + record or weight word -> request -> window -> fetch -> taps
//   taps -> mac_array (CONV) or dw_lanes (DW, DDW, POOL, PEAK) -> writeback -> activation memory
//
// Nothing stalls behind a request: what belongs to it travels in delays of fixed length beside it.
// One operation runs at a time, so that the kind of everything in the pipeline is `op`.
`default_nettype none

module engine #(
    parameter int unsigned ACT_WORDS = engine_pkg::ACT_WORDS  // words of activation memory
) (
    input  wire logic         clk,
    input  wire logic         rst,
    // host: busy, done and error are levels
    input  wire logic         start,
    output logic              busy,
    output logic              done,
    output logic              error,
    output logic [7:0]        error_code,
    output logic [11:0]       tag,
    output logic [63:0]       prog_hash,
    output logic [6:0]        cand_count,
    input  wire logic         mem_error,
    // ring
    output logic              ring_rd_en,
    output logic [12:0]       ring_rd_off,
    input  wire logic [127:0] ring_rd_data,
    input  wire logic [12:0]  ring_avail,
    output logic              ring_pop,
    output logic [12:0]       ring_pop_n,
    // LOAD
    output logic              ld_req,
    output logic [1:0]        ld_region,
    output logic [31:0]       ld_offset,
    output logic [15:0]       ld_words,
    input  wire logic         ld_valid,
    input  wire logic [127:0] ld_data,
    // STORE and candidates
    output logic              st_req,
    output logic [1:0]        st_region,
    output logic [31:0]       st_offset,
    output logic [15:0]       st_words,
    output logic              st_valid,
    output logic [127:0]      st_data,
    input  wire logic         st_ready,
    input  wire logic         st_done
);
  localparam int unsigned LANES = engine_pkg::LANES;

  // Packages cannot refer to each other here, so the sums are checked
  localparam int unsigned DW_TIME =
      seq_pkg::PIPE_LAT + engine_pkg::DW_LAT + engine_pkg::WB_LAT + engine_pkg::ACT_WR_LAT + 3;
  localparam int unsigned CONV_TIME =
      seq_pkg::RING_LAT + seq_pkg::PIPE_LAT + engine_pkg::MAC_LAT + engine_pkg::OC
      + engine_pkg::WB_LAT + engine_pkg::ACT_WR_LAT + 3;
  if (seq_pkg::PIPE_LAT != seq_pkg::WIN_LAT + engine_pkg::FETCH_LAT) begin : g_illegal_pipe
    pipe_lat_is_win_lat_plus_fetch_lat u_illegal ();
  end
  if (seq_pkg::DW_DRAIN < DW_TIME || seq_pkg::CONV_DRAIN < CONV_TIME) begin : g_illegal_drain
    drain_must_cover_the_pipeline u_illegal ();
  end

  // ---- operation
  logic [3:0] op;
  seq_pkg::geom_t geom;
  logic linear;
  logic two_halves;
  logic w8;
  logic to_smap;
  logic [11:0] k_words;
  logic [7:0] tiles;
  logic [4:0] last_oc;
  logic [11:0] channels;
  logic [15:0] act_addr;
  logic [15:0] words;
  logic [31:0] ddr_offset;
  logic [1:0] region;
  logic [7:0] classes;
  logic [15:0] hm;
  logic [3:0][15:0] parts;
  logic abort;
  logic unit_rst;
  logic walk_start;
  logic conv_start;
  logic dw_start;
  logic mem_start;
  logic peak_start;
  logic conv_done;
  logic dw_done;
  logic mem_done;
  logic peak_done;
  logic op_conv;
  logic op_dw;  // DW, DDW, POOL
  logic op_peak;
  logic op_store;
  always_ff @(posedge clk) begin
    op_conv  <= op == isa_pkg::OP_CONV;
    op_dw    <= op == isa_pkg::OP_DW || op == isa_pkg::OP_DDW || op == isa_pkg::OP_POOL;
    op_peak  <= op == isa_pkg::OP_PEAK;
    op_store <= op == isa_pkg::OP_STORE;
  end
  always_ff @(posedge clk) unit_rst <= rst || abort;

  // ---- ring: requests are registered, and avail reads 0 while a pop is under way
  logic [12:0] avail_q;
  logic seq_rd_en;
  logic [12:0] seq_rd_off;
  logic seq_pop;
  logic [12:0] seq_pop_n;
  logic conv_rd_en;
  logic [12:0] conv_rd_off;
  logic conv_pop;
  logic [12:0] conv_pop_n;
  logic dw_rd_en;
  logic pop_d;
  assign pop_d = seq_pop || conv_pop || dw_rd_en;
  always_ff @(posedge clk) begin
    ring_rd_en  <= !rst && (seq_rd_en || conv_rd_en || dw_rd_en);
    ring_rd_off <= op_conv && !seq_rd_en ? conv_rd_off : seq_rd_en ? seq_rd_off : '0;
    ring_pop    <= !rst && pop_d;
    ring_pop_n  <= conv_pop ? conv_pop_n : seq_pop ? seq_pop_n : 13'd1;
    avail_q     <= (rst || pop_d || ring_pop) ? '0 : ring_avail;
  end

  sequencer u_sequencer (
      .clk, .rst,
      .start, .busy, .done, .error, .error_code, .tag, .prog_hash, .mem_error,
      .avail(avail_q),
      .ring_rd_en(seq_rd_en), .ring_rd_off(seq_rd_off), .ring_rd_data,
      .ring_pop(seq_pop), .ring_pop_n(seq_pop_n),
      .op, .geom, .linear, .two_halves, .w8, .to_smap, .k_words, .tiles, .last_oc, .channels,
      .act_addr, .words, .ddr_offset, .region, .classes, .hm, .parts,
      .abort,
      .walk_start, .conv_start, .dw_start, .mem_start, .peak_start,
      .conv_done, .dw_done, .mem_done, .peak_done
  );

  // ---- walk and dilation map
  logic item_valid;
  logic item_take;
  logic conv_take;
  logic dw_take;
  logic peak_take;
  seq_pkg::item_t item;
  logic smap_rd;
  logic [9:0] smap_rd_idx;
  logic smap_rd_half;
  logic [LANES-1:0][2:0] smap_dil;
  logic [7:0] smap_present;
  logic smap_we;
  logic [9:0] smap_idx;
  logic [47:0] smap_data;
  logic units_done;
  assign units_done = conv_done && dw_done && peak_done;
  assign item_take = conv_take || dw_take || peak_take;
  logic walking_q;  // since a start; the walk goes on until its unit is done
  logic walk_stop;
  always_ff @(posedge clk) begin
    if (unit_rst) walking_q <= 1'b0;
    else if (!units_done) walking_q <= 1'b1;
    else walking_q <= 1'b0;
  end
  assign walk_stop = walking_q && units_done;

  walker u_walker (
      .clk, .rst(unit_rst),
      .geom, .linear,
      .start(walk_start), .stop(walk_stop),
      .smap_en(smap_rd), .smap_idx(smap_rd_idx), .smap_half(smap_rd_half),
      .smap_dil, .smap_present,
      .item_valid, .item, .item_take
  );

  smap u_smap (
      .clk,
      .wr_en(smap_we), .wr_idx(smap_idx), .wr_data(smap_data),
      .up(geom.up), .rd_en(smap_rd), .rd_idx(smap_rd_idx), .rd_half(smap_rd_half),
      .dil(smap_dil), .present(smap_present)
  );

  // ---- units
  logic drained;
  logic header_we;
  logic header_bank;
  logic [3:0] header_idx;
  seq_pkg::request_t conv_request;
  logic [95:0] conv_weights;
  logic [1:0] conv_tap_j;
  logic conv_first;
  logic conv_last;
  logic conv_chunk_first;
  logic conv_chunk_last;
  seq_pkg::side_t conv_side;
  seq_conv u_conv (
      .clk, .rst(unit_rst),
      .start(conv_start), .linear, .w8, .k_words, .tiles, .last_oc, .done(conv_done),
      .avail(avail_q), .ring_rd_en(conv_rd_en), .ring_rd_off(conv_rd_off), .ring_rd_data,
      .ring_pop(conv_pop), .ring_pop_n(conv_pop_n),
      .item_valid, .item, .item_take(conv_take),
      .header_we, .header_bank, .header_idx, .drained,
      .request(conv_request), .weights(conv_weights), .tap_j(conv_tap_j),
      .first(conv_first), .last(conv_last),
      .chunk_first(conv_chunk_first), .chunk_last(conv_chunk_last), .side(conv_side)
  );

  seq_pkg::request_t dw_request;
  logic [11:0] dw_weights;
  logic dw_first;
  logic dw_last;
  logic [24:0] dw_bias;
  logic [4:0] dw_shift;
  logic [15:0] dw_addr;
  seq_dw u_dw (
      .clk, .rst(unit_rst),
      .start(dw_start), .deform(op == isa_pkg::OP_DDW), .two_halves, .channels, .done(dw_done),
      .avail(avail_q), .ring_rd_en(dw_rd_en), .ring_rd_data,
      .item_valid, .item, .item_take(dw_take),
      .request(dw_request), .weights(dw_weights), .first(dw_first), .last(dw_last),
      .bias(dw_bias), .shift(dw_shift), .addr(dw_addr)
  );

  seq_pkg::request_t peak_request;
  logic peak_raw;
  logic peak_first;
  logic peak_mid;
  logic peak_last;
  logic peak_raw_valid;
  logic peak_lanes_valid;
  logic [LANES-1:0][8:0] center;
  logic [LANES-1:0] peak_mask;
  logic peak_st_req;
  logic [6:0] peak_st_words;
  logic peak_st_valid;
  logic [127:0] peak_st_data;
  logic [127:0] word;
  peak u_peak (
      .clk, .rst(unit_rst),
      .start(peak_start), .geom, .classes, .hm, .parts, .done(peak_done), .cand_count,
      .item_valid, .item, .item_take(peak_take),
      .request(peak_request), .raw(peak_raw),
      .first(peak_first), .mid(peak_mid), .last(peak_last),
      .raw_valid(peak_raw_valid), .word,
      .lanes_valid(peak_lanes_valid), .lanes_center(center), .lanes_peak(peak_mask),
      .st_req(peak_st_req), .st_words(peak_st_words), .st_ready,
      .st_valid(peak_st_valid), .st_data(peak_st_data), .st_done
  );

  seq_pkg::request_t mem_request;
  logic load_en;
  logic [15:0] load_addr;
  logic mem_st_req;
  seq_mem u_mem (
      .clk, .rst(unit_rst),
      .start(mem_start), .is_store(op == isa_pkg::OP_STORE), .act_addr, .words, .done(mem_done),
      .ld_req, .ld_valid, .wr_en(load_en), .wr_addr(load_addr),
      .st_req(mem_st_req), .st_ready, .st_done, .request(mem_request)
  );

  // ---- read path
  seq_pkg::request_t request;
  engine_pkg::fetch_t fetch_req;
  logic taps_valid;
  logic [2:0][LANES-1:0][engine_pkg::PIX_W-1:0] taps;
  always_comb begin
    if (op_conv) request = conv_request;
    else if (op_dw) request = dw_request;
    else if (op_peak) request = peak_request;
    else request = mem_request;
  end
  window u_window (
      .clk, .rst(unit_rst),
      .geom, .fill_min(op_peak || op == isa_pkg::OP_POOL),
      .request, .fetch(fetch_req)
  );
  fetch #(.WORDS(ACT_WORDS)) u_fetch (
      .clk, .rst(unit_rst),
      .req(fetch_req), .out_valid(taps_valid), .taps, .word,
      .wr_en, .wr_addr, .wr_data
  );

  // ---- CONV
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
  delay #(.WIDTH(96 + 6 + seq_pkg::SIDE_W), .LATENCY(seq_pkg::PIPE_LAT)) u_conv_beside (
      .clk, .rst(1'b0),
      .d({conv_weights, conv_tap_j, conv_first, conv_last, conv_chunk_first, conv_chunk_last,
          conv_side}),
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
      .clk, .rst(unit_rst),
      .valid(taps_valid && op_conv), .first(mac_first), .last(mac_last), .w8,
      .vec(mac_vec), .weights(mac_weights),
      .chunk_first(mac_chunk_first), .chunk_last(mac_chunk_last),
      .n_oc(mac_side.n_oc), .side(mac_side),
      .d_valid, .d_oc, .d_acc, .d_side
  );

  logic [24:0] conv_bias;
  logic [4:0] conv_shift;
  logic [15:0] conv_addr;
  conv_header u_header (
      .clk,
      .we(header_we), .we_bank(header_bank), .we_idx(header_idx), .we_data(ring_rd_data),
      .d_valid, .d_oc, .d_side,
      .bias(conv_bias), .shift(conv_shift), .addr(conv_addr), .drained
  );

  // ---- DW, DDW, POOL, PEAK
  logic lane_first;
  logic lane_mid;
  logic lane_last;
  logic lane_raw;
  logic [11:0] lane_weights;
  logic lanes_valid;
  logic [LANES-1:0][engine_pkg::ACC_W-1:0] lane_acc;
  logic [24:0] lane_bias;
  logic [4:0] lane_shift;
  logic [15:0] lane_addr;
  delay #(.WIDTH(16), .LATENCY(seq_pkg::PIPE_LAT)) u_lanes_beside (
      .clk, .rst(1'b0),
      .d({dw_weights, op_peak ? {peak_first, peak_mid, peak_last, peak_raw}
                              : {dw_first, 1'b0, dw_last, 1'b0}}),
      .q({lane_weights, lane_first, lane_mid, lane_last, lane_raw})
  );
  delay #(.WIDTH(46), .LATENCY(seq_pkg::PIPE_LAT + engine_pkg::DW_LAT)) u_channel_beside (
      .clk, .rst(1'b0),
      .d({dw_bias, dw_shift, dw_addr}),
      .q({lane_bias, lane_shift, lane_addr})
  );
  dw_lanes u_lanes (
      .clk, .rst(unit_rst),
      .valid(taps_valid && (op_dw || (op_peak && !lane_raw))),
      .first(lane_first), .mid(lane_mid), .last(lane_last),
      .max_mode(op_peak || op == isa_pkg::OP_POOL),
      .taps, .weights(lane_weights),
      .out_valid(lanes_valid), .acc(lane_acc), .center, .peak_mask
  );
  assign peak_raw_valid = taps_valid && op_peak && lane_raw;
  assign peak_lanes_valid = lanes_valid && op_peak;

  // ---- write path: the last register is the trace point of the benches
  logic wb_en;
  logic [15:0] wb_addr;
  logic [127:0] wb_data;
  logic wr_en;
  logic [15:0] wr_addr;
  logic [127:0] wr_data;
  logic res_valid_q;
  logic [LANES-1:0][engine_pkg::ACC_W-1:0] res_acc_q;
  logic [24:0] res_bias_q;
  logic [4:0] res_shift_q;
  logic [15:0] res_addr_q;
  logic res_smap_q;
  logic [9:0] res_idx_q;
  always_ff @(posedge clk) begin
    res_valid_q <= !unit_rst && (op_conv ? d_valid : (lanes_valid && op_dw));
    res_acc_q <= op_conv ? d_acc : lane_acc;
    res_bias_q <= op_conv ? conv_bias : lane_bias;
    res_shift_q <= op_conv ? conv_shift : lane_shift;
    res_addr_q <= op_conv ? conv_addr : lane_addr;
    res_smap_q <= op_conv && to_smap && d_side.first_tile && d_oc == '0;
    res_idx_q <= d_side.g[9:0];
  end
  writeback u_writeback (
      .clk, .rst(unit_rst),
      .valid(res_valid_q), .acc(res_acc_q), .bias(res_bias_q), .shift(res_shift_q),
      .out_type(geom.out_type), .addr(res_addr_q),
      .smap_we_in(res_smap_q), .smap_idx_in(res_idx_q),
      .wr_en(wb_en), .wr_addr(wb_addr), .wr_data(wb_data),
      .smap_we, .smap_idx, .smap_data
  );
  always_ff @(posedge clk) begin
    wr_en <= !rst && (wb_en || load_en);
    wr_addr <= wb_en ? wb_addr : load_addr;
    wr_data <= wb_en ? wb_data : ld_data;
  end

  // ---- DDR
  assign ld_region = region;
  assign ld_offset = ddr_offset;
  assign ld_words = words;
  assign st_req = mem_st_req || peak_st_req;
  assign st_region = op_peak ? isa_pkg::REGION_OUTPUT : region;
  assign st_offset = op_peak ? '0 : ddr_offset;
  assign st_words = op_peak ? {9'd0, peak_st_words} : words;
  assign st_valid = op_peak ? peak_st_valid : (taps_valid && op_store);
  assign st_data = op_peak ? peak_st_data : word;
endmodule

`default_nettype wire
