// SPDX-License-Identifier: Apache-2.0
// What the lanes queue runs: DW, DDW, POOL, PEAK, EMIT, LOAD and STORE.
//
//   row_walker (rows of each column) + channel record -> request -> memory -> lane_path -> memory
//   PEAK the same, its results go to the list of candidates; EMIT, STORE: plain words -> DDR
//
// Nothing stalls behind a request: what belongs to it travels in delays of fixed length beside it.
// One operation runs at a time, so that the kind of everything in the pipeline is the operation's.
// Order in: channels, columns of words of a channel, rows of a column. Latency: an entry is in the
// lanes INSERT_LAT = 7 cycles after its request, a result on wb_valid LANE_WB_LAT = 12 cycles after
// the entry that brings it to the centre. Interval: a row a cycle.
`default_nettype none

module lane_side (
    input  wire logic           clk,
    input  wire logic           rst,
    input  wire logic           forget,  // a frame begins
    // the operation, constant while it runs
    input  wire logic [255:0]   desc,
    input  wire seq_pkg::geom_t geom,
    input  wire logic           start,
    output logic                issued,
    output logic                done,
    output logic [6:0]          drain,  // cycles from done until its words wait at the memory
    output logic [6:0]          cand_count,
    // ring
    input  wire logic [9:0]     avail,
    output logic                ring_rd_en,  // and pop, of one word
    input  wire logic [127:0]   ring_rd_data,
    // activation memory
    input  wire logic           hold,
    output logic                rd_en,
    output logic [15:0]         rd_center,
    output logic [2:0]          rd_mask,
    input  wire logic [383:0]   window,
    output logic                wb_valid,
    output logic [15:0]         wb_addr,
    output logic [127:0]        wb_data,
    output logic                wl_valid,
    output logic [15:0]         wl_addr,
    input  wire logic           wl_ready,
    output logic                idle,  // no result is in the lanes
    // dilation map
    input  wire logic           smap_we,
    input  wire logic [9:0]     smap_idx,
    input  wire logic [47:0]    smap_data,
    // LOAD
    output logic                ld_req,
    input  wire logic           ld_valid,
    output logic                ld_ready,
    // STORE and candidates
    output logic                st_req,
    output logic [1:0]          st_region,
    output logic [31:0]         st_offset,
    output logic [15:0]         st_words,
    output logic [15:0]         st_runs,
    output logic                st_valid,
    output logic [127:0]        st_data,
    input  wire logic           st_ready,
    input  wire logic           st_done
);
  if (seq_pkg::INSERT_LAT != seq_pkg::LANE_REQ_LAT + engine_pkg::ACT_LAT) begin : g_illegal_insert
    insert_lat_is_lane_req_lat_plus_act_lat u_illegal ();
  end
  if (seq_pkg::LANE_DRAIN < seq_pkg::INSERT_LAT + engine_pkg::LANE_WB_LAT) begin : g_illegal_drain
    lane_drain_must_cover_the_lanes u_illegal ();
  end

  // ---- operation
  logic [3:0] op;
  logic op_rows;  // DW, DDW, POOL
  logic op_deform;
  logic op_max;
  logic op_peak;
  logic op_emit;
  logic op_store;
  logic is_rows;  // the same in the cycle of the start
  logic is_peak;
  logic is_emit;
  logic is_mem;
  logic is_store;
  assign op = desc[isa_pkg::D_OPCODE_LSB+:4];
  assign is_rows = op == isa_pkg::OP_DW || op == isa_pkg::OP_DDW || op == isa_pkg::OP_POOL;
  assign is_peak = op == isa_pkg::OP_PEAK;
  assign is_emit = op == isa_pkg::OP_EMIT;
  assign is_store = op == isa_pkg::OP_STORE;
  assign is_mem = op == isa_pkg::OP_LOAD || is_store;
  always_ff @(posedge clk) begin
    op_rows <= is_rows;
    op_deform <= op == isa_pkg::OP_DDW;
    op_max <= is_peak || op == isa_pkg::OP_POOL;
    op_peak <= is_peak;
    op_emit <= is_emit;
    op_store <= is_store;
  end
  logic [2:0] reach;
  seq_pkg::mode_t mode;
  assign reach = op_deform ? 3'd7 : 3'd1;
  always_comb begin
    mode.reach7 = op_deform;
    mode.stride2 = geom.stride_log2[0];
    mode.narrow = geom.narrow;
    mode.max_mode = op_max;
    mode.fill_min = op_max;
    mode.in_signed = geom.in_signed;
    mode.out_type = geom.out_type;
    mode.in_h = geom.in_h;
  end

  // ---- walk
  logic entry_valid;
  seq_pkg::entry_t entry;
  logic rows_take;
  logic peak_take;
  logic rows_done;
  logic peak_done;
  logic emit_done;
  logic mem_done;
  logic walking_q;  // since a start; the walk goes on until its unit is done
  always_ff @(posedge clk) walking_q <= !rst && !(rows_done && peak_done);
  row_walker u_walker (
      .clk, .rst,
      .geom, .rows(op_peak ? geom.in_h : desc[isa_pkg::DW_ROWS_LSB+:10]), .reach,
      .start(start && (is_rows || is_peak)), .stop(walking_q && rows_done && peak_done),
      .entry_valid, .entry, .entry_take(rows_take || peak_take)
  );

  // ---- units
  seq_pkg::lane_request_t rows_request;
  seq_lane u_rows (
      .clk, .rst,
      .start(start && is_rows), .reach, .channels(desc[isa_pkg::DW_CHANNELS_LSB+:12]), .hold,
      .done(rows_done),
      .avail, .ring_rd_en, .ring_rd_data,
      .entry_valid, .entry, .entry_take(rows_take),
      .request(rows_request)
  );

  seq_pkg::lane_request_t peak_request;
  logic lanes_valid;
  logic [15:0][engine_pkg::PIX_W-1:0] center;
  logic [15:0] peak_mask;
  logic list_we;
  logic [6:0] list_index;
  seq_pkg::found_t list_found;
  peak u_peak (
      .clk, .rst, .forget,
      .start(start && is_peak), .geom, .classes(desc[isa_pkg::PEAK_CLASSES_LSB+:8]),
      .hm(desc[isa_pkg::PEAK_HM_LSB+:16]), .hold, .done(peak_done),
      .entry_valid, .entry, .entry_take(peak_take),
      .request(peak_request),
      .lanes_valid, .lanes_center(center), .lanes_peak(peak_mask),
      .list_we, .list_index, .list_found, .list_count(cand_count)
  );

  seq_pkg::lane_request_t emit_request;
  logic raw_valid;
  logic [127:0] raw_word;
  logic emit_st_req;
  logic emit_st_valid;
  logic [127:0] emit_st_data;
  peak_emit u_emit (
      .clk, .rst,
      .we(list_we), .we_index(list_index), .we_found(list_found), .count(cand_count),
      .start(start && is_emit),
      .planes({desc[isa_pkg::EMIT_REG_Y_LSB+:16], desc[isa_pkg::EMIT_REG_X_LSB+:16],
               desc[isa_pkg::EMIT_H_LSB+:16], desc[isa_pkg::EMIT_W_LSB+:16]}),
      .hold, .done(emit_done),
      .request(emit_request), .word_valid(raw_valid && op_emit), .word(raw_word),
      .st_req(emit_st_req), .st_ready, .st_valid(emit_st_valid), .st_data(emit_st_data), .st_done
  );

  seq_pkg::lane_request_t mem_request;
  logic mem_st_req;
  seq_mem u_mem (
      .clk, .rst,
      .start(start && is_mem), .is_store,
      .act_addr(desc[isa_pkg::LOAD_ACT_ADDR_LSB+:16]), .words(desc[isa_pkg::LOAD_WORDS_LSB+:16]),
      .runs(desc[isa_pkg::LOAD_RUNS_LSB+:16]), .act_stride(desc[isa_pkg::LOAD_ACT_STRIDE_LSB+:16]),
      .hold, .done(mem_done),
      .ld_req, .ld_valid, .ld_ready, .wl_valid, .wl_addr, .wl_ready,
      .st_req(mem_st_req), .st_ready, .st_done, .request(mem_request)
  );
  assign issued = rows_done;
  assign done = rows_done && peak_done && emit_done && mem_done;
  assign drain = op_rows ? 7'(seq_pkg::LANE_DRAIN) : 7'd1;

  // ---- read path
  seq_pkg::lane_request_t request;
  logic raw_q;
  logic [2:0] mask_q;
  logic [15:0] center_q;
  logic pre_q;
  logic left_q;
  logic right_q;
  always_comb begin
    if (op_rows) request = rows_request;
    else if (op_peak) request = peak_request;
    else if (op_emit) request = emit_request;
    else request = mem_request;
  end
  always_ff @(posedge clk) begin  // LANE_REQ_LAT
    rd_en <= request.read && !rst;
    raw_q <= request.raw;
    center_q <= request.plane + request.base8[16:1];
    pre_q <= request.base8[0];
    // Words whose pixels the row chain looks at; what is left out is free for writes
    mask_q[0] <= !request.raw && !request.meta.at_left && (!request.base8[0] || geom.stride_log2[0]);
    mask_q[1] <= 1'b1;
    mask_q[2] <= !request.raw && (geom.stride_log2[0] || (geom.up ? request.base8[0] : 1'b1)
                                  && !(request.meta.at_right && (!request.base8[0] || geom.up
                                                                 || geom.narrow)));
    left_q <= request.meta.at_left;
    right_q <= request.meta.at_right;
  end
  assign rd_center = center_q;
  assign rd_mask = mask_q;
  delay #(.WIDTH(1), .LATENCY(engine_pkg::ACT_LAT), .RESET(1'b1)) u_raw (
      .clk, .rst, .d(rd_en && raw_q), .q(raw_valid)
  );
  assign raw_word = window[255:128];

  // ---- the entry, and the dilations of its row
  logic ins_valid;
  seq_pkg::meta_t ins_meta;
  seq_pkg::pick_t ins_pick;
  seq_pkg::meta_t late_meta;
  logic [15:0][2:0] map_dil;
  logic [15:0][2:0] dil_q;
  logic [15:0][2:0] late_dil;
  logic [1:0] mode_q;
  always_ff @(posedge clk) begin
    mode_q <= geom.up ? engine_pkg::MODE_UP
                      : geom.stride_log2[0] ? engine_pkg::MODE_STRIDE2 : engine_pkg::MODE_STRIDE1;
  end
  smap u_smap (
      .clk,
      .wr_en(smap_we), .wr_idx(smap_idx), .wr_data(smap_data),
      .up(geom.up), .rd_en(request.insert && op_deform), .rd_idx(request.base8[10:1]),
      .rd_half(request.base8[0]), .dil(map_dil)
  );
  always_ff @(posedge clk) begin
    for (int x = 0; x < 16; x++) dil_q[x] <= op_deform ? map_dil[x] : 3'd1;
  end
  delay #(.WIDTH(48), .LATENCY(seq_pkg::INSERT_LAT - seq_pkg::SMAP_LAT - 1)) u_dil (
      .clk, .rst, .d(dil_q), .q(late_dil)
  );
  delay #(.WIDTH(1), .LATENCY(seq_pkg::INSERT_LAT), .RESET(1'b1)) u_insert (
      .clk, .rst, .d(request.insert), .q(ins_valid)
  );
  delay #(.WIDTH(seq_pkg::META_W), .LATENCY(seq_pkg::INSERT_LAT)) u_meta (
      .clk, .rst, .d(request.meta), .q(late_meta)
  );
  delay #(.WIDTH(3), .LATENCY(engine_pkg::ACT_LAT)) u_pick (
      .clk, .rst, .d({pre_q, left_q, right_q}),
      .q({ins_pick.pre, ins_pick.at_left, ins_pick.at_right})
  );
  assign ins_pick.mode = mode_q;
  always_comb begin
    ins_meta = late_meta;
    ins_meta.dil = late_dil;
  end

  // ---- lanes
  lane_path u_lanes (
      .clk, .rst,
      .mode, .to_peak(op_peak), .ins_valid, .ins_meta, .ins_pick, .window,
      .wb_valid, .wb_addr, .wb_data,
      .lanes_valid, .center, .peak_mask, .idle
  );

  // ---- DDR
  assign st_req = mem_st_req || emit_st_req;
  assign st_region = is_emit ? isa_pkg::REGION_OUTPUT : desc[isa_pkg::STORE_REGION_LSB+:2];
  assign st_offset = is_emit ? '0 : desc[isa_pkg::STORE_DDR_OFFSET_LSB+:32];
  assign st_words = is_emit ? {9'd0, cand_count} : desc[isa_pkg::STORE_WORDS_LSB+:16];
  assign st_runs = is_emit ? 16'd1 : desc[isa_pkg::STORE_RUNS_LSB+:16];
  assign st_valid = op_emit ? emit_st_valid : (raw_valid && op_store);
  assign st_data = op_emit ? emit_st_data : raw_word;

  logic unused;
  assign unused = &{1'b0, desc};
endmodule

`default_nettype wire
