// SPDX-License-Identifier: Apache-2.0
// The layer processor: everything but the DMA and the bus (docs/engine.md).
//
//   array stream -> sequencer -> array_side (CONV) ---------------------\
//                       || tokens                                        act_mem
//   lanes stream -> sequencer -> lane_side (DW .. STORE), dilation map --/
//
// Both queues run at the same time; the frame is done when both have reached END. An error in one of
// them, or of the memory, stops both: error, error_code and error_tag stay until the next start.
//
// Words go in and out in the order of the streams and of each LOAD's and STORE's runs. Interval: a
// frame; how long each operation takes is in docs/engine.md, "Cycles".
`default_nettype none

module engine #(
    parameter int unsigned ACT_WORDS = engine_pkg::ACT_WORDS  // words of activation memory
) (
    input  wire logic         clk,
    input  wire logic         rst,
    // host: busy, done and error are levels; start comes only while not busy
    input  wire logic         start,
    output logic              busy,
    output logic              done,
    output logic              error,
    output logic [7:0]        error_code,
    output logic [11:0]       error_tag,
    output logic [11:0]       a_tag,
    output logic [11:0]       b_tag,
    output logic [63:0]       prog_hash,
    output logic [6:0]        cand_count,
    input  wire logic         mem_error,
    // ring of the array stream
    output logic              a_ring_rd_en,
    output logic [12:0]       a_ring_rd_off,
    input  wire logic [127:0] a_ring_rd_data,
    input  wire logic [12:0]  a_ring_avail,
    output logic              a_ring_pop,
    output logic [12:0]       a_ring_pop_n,
    // ring of the lanes stream
    output logic              b_ring_rd_en,
    output logic [9:0]        b_ring_rd_off,
    input  wire logic [127:0] b_ring_rd_data,
    input  wire logic [9:0]   b_ring_avail,
    output logic              b_ring_pop,
    output logic [9:0]        b_ring_pop_n,
    // LOAD
    output logic              ld_req,
    output logic [1:0]        ld_region,
    output logic [31:0]       ld_offset,
    output logic [15:0]       ld_words,
    output logic [15:0]       ld_runs,
    output logic [23:0]       ld_stride,
    input  wire logic         ld_valid,
    input  wire logic [127:0] ld_data,
    output logic              ld_ready,
    // STORE and candidates
    output logic              st_req,
    output logic [1:0]        st_region,
    output logic [31:0]       st_offset,
    output logic [15:0]       st_words,
    output logic [15:0]       st_runs,
    output logic [23:0]       st_stride,
    output logic              st_valid,
    output logic [127:0]      st_data,
    input  wire logic         st_ready,
    input  wire logic         st_done
);
  localparam logic [7:0] ERR_MEMORY = 8'd3;

  // ---- both queues
  logic abort;
  logic unit_rst;
  logic a_busy;
  logic a_done;
  logic a_failed;
  logic [7:0] a_code;
  logic a_running;
  logic [11:0] a_completed;
  logic b_busy;
  logic b_done;
  logic b_failed;
  logic [7:0] b_code;
  logic b_running;
  logic [11:0] b_completed;
  logic error_lanes_q;
  assign busy = a_busy || b_busy;
  assign done = a_done && b_done;
  // `failed` lasts until the sequencers see the registered abort: two cycles, the same in both
  assign abort = a_failed || b_failed || (mem_error && busy);
  assign error_tag = error_lanes_q ? b_tag : a_tag;
  always_ff @(posedge clk) begin
    unit_rst <= rst || abort;
    if (rst || start) begin
      error <= 1'b0;
      error_code <= '0;
      error_lanes_q <= 1'b0;
    end else if (abort) begin
      error <= 1'b1;
      error_code <= a_failed ? a_code : b_failed ? b_code : ERR_MEMORY;
      error_lanes_q <= a_failed ? 1'b0 : b_failed || b_busy;
    end
  end

  // ---- array
  logic [255:0] a_desc;
  seq_pkg::geom_t a_geom;
  logic a_start;
  logic a_issued;
  logic a_unit_done;
  logic [12:0] a_avail;
  logic a_seq_rd_en;
  logic a_seq_rd_off;
  logic a_seq_pop;
  logic a_unit_rd_en;
  logic [12:0] a_unit_rd_off;
  logic a_unit_pop;
  logic [12:0] a_unit_pop_n;
  logic wa_empty;
  sequencer #(.QUEUE(isa_pkg::QUEUE_ARRAY), .ACT_WORDS(ACT_WORDS)) u_array_seq (
      .clk, .rst,
      .start, .abort(unit_rst), .busy(a_busy), .done(a_done), .failed(a_failed),
      .error_code(a_code), .tag(a_tag), .running(a_running), .prog_hash,
      .completed(a_completed), .others(b_completed),
      .avail(a_avail), .ring_rd_en(a_seq_rd_en), .ring_rd_off(a_seq_rd_off),
      .ring_rd_data(a_ring_rd_data), .ring_pop(a_seq_pop),
      .desc(a_desc), .geom(a_geom), .unit_start(a_start),
      .unit_issued(a_issued), .unit_done(a_unit_done),
      .drain(7'(seq_pkg::CONV_DRAIN)), .quiet(wa_empty)
  );
  ring_port #(.COUNT_W(13)) u_array_port (
      .clk, .rst, .avail(a_avail),
      .seq_rd_en(a_seq_rd_en), .seq_rd_off(a_seq_rd_off), .seq_pop(a_seq_pop),
      .unit_rd_en(a_unit_rd_en), .unit_rd_off(a_unit_rd_off),
      .unit_pop(a_unit_pop), .unit_pop_n(a_unit_pop_n),
      .ring_rd_en(a_ring_rd_en), .ring_rd_off(a_ring_rd_off), .ring_avail(a_ring_avail),
      .ring_pop(a_ring_pop), .ring_pop_n(a_ring_pop_n)
  );

  logic a_rd_en;
  logic [15:0] a_rd_center;
  logic [2:0] a_rd_mask;
  logic [383:0] a_window;
  logic wa_valid;
  logic [15:0] wa_addr;
  logic [127:0] wa_data;
  logic smap_we;
  logic [9:0] smap_idx;
  logic [47:0] smap_data;
  array_side u_array (
      .clk, .rst(unit_rst),
      .desc(a_desc), .geom(a_geom), .start(a_start), .issued(a_issued), .done(a_unit_done),
      .avail(a_avail), .ring_rd_en(a_unit_rd_en), .ring_rd_off(a_unit_rd_off),
      .ring_rd_data(a_ring_rd_data), .ring_pop(a_unit_pop), .ring_pop_n(a_unit_pop_n),
      .rd_en(a_rd_en), .rd_center(a_rd_center), .rd_mask(a_rd_mask), .window(a_window),
      .wr_valid(wa_valid), .wr_addr(wa_addr), .wr_data(wa_data),
      .smap_we, .smap_idx, .smap_data
  );

  // ---- lanes
  logic [255:0] b_desc;
  seq_pkg::geom_t b_geom;
  logic b_start;
  logic b_issued;
  logic b_unit_done;
  logic [6:0] b_drain;
  logic [9:0] b_avail;
  logic b_seq_rd_en;
  logic b_seq_rd_off;
  logic b_seq_pop;
  logic b_unit_rd_en;
  logic wb_empty;
  logic wl_empty;
  logic lanes_idle;
  logic [63:0] unused_hash;
  sequencer #(.QUEUE(isa_pkg::QUEUE_LANES), .ACT_WORDS(ACT_WORDS)) u_lanes_seq (
      .clk, .rst,
      .start, .abort(unit_rst), .busy(b_busy), .done(b_done), .failed(b_failed),
      .error_code(b_code), .tag(b_tag), .running(b_running), .prog_hash(unused_hash),
      .completed(b_completed), .others(a_completed),
      .avail(b_avail), .ring_rd_en(b_seq_rd_en), .ring_rd_off(b_seq_rd_off),
      .ring_rd_data(b_ring_rd_data), .ring_pop(b_seq_pop),
      .desc(b_desc), .geom(b_geom), .unit_start(b_start),
      .unit_issued(b_issued), .unit_done(b_unit_done),
      .drain(b_drain), .quiet(wb_empty && wl_empty && lanes_idle)
  );
  ring_port #(.COUNT_W(10)) u_lanes_port (
      .clk, .rst, .avail(b_avail),
      .seq_rd_en(b_seq_rd_en), .seq_rd_off(b_seq_rd_off), .seq_pop(b_seq_pop),
      .unit_rd_en(b_unit_rd_en), .unit_rd_off('0),
      .unit_pop(b_unit_rd_en), .unit_pop_n(10'd1),
      .ring_rd_en(b_ring_rd_en), .ring_rd_off(b_ring_rd_off), .ring_avail(b_ring_avail),
      .ring_pop(b_ring_pop), .ring_pop_n(b_ring_pop_n)
  );

  logic hold_b;
  logic b_rd_en;
  logic [15:0] b_rd_center;
  logic [2:0] b_rd_mask;
  logic [383:0] b_window;
  logic wb_valid;
  logic [15:0] wb_addr;
  logic [127:0] wb_data;
  logic wl_valid;
  logic [15:0] wl_addr;
  logic wl_ready;
  lane_side u_lanes (
      .clk, .rst(unit_rst), .forget(start),
      .desc(b_desc), .geom(b_geom), .start(b_start), .issued(b_issued), .done(b_unit_done),
      .drain(b_drain), .cand_count,
      .avail(b_avail), .ring_rd_en(b_unit_rd_en), .ring_rd_data(b_ring_rd_data),
      .hold(hold_b),
      .rd_en(b_rd_en), .rd_center(b_rd_center), .rd_mask(b_rd_mask), .window(b_window),
      .wb_valid, .wb_addr, .wb_data, .wl_valid, .wl_addr, .wl_ready, .idle(lanes_idle),
      .smap_we, .smap_idx, .smap_data,
      .ld_req, .ld_valid, .ld_ready,
      .st_req, .st_region, .st_offset, .st_words, .st_runs,
      .st_valid, .st_data, .st_ready, .st_done
  );
  assign ld_region = b_desc[isa_pkg::LOAD_REGION_LSB+:2];
  assign ld_offset = b_desc[isa_pkg::LOAD_DDR_OFFSET_LSB+:32];
  assign ld_words = b_desc[isa_pkg::LOAD_WORDS_LSB+:16];
  assign ld_runs = b_desc[isa_pkg::LOAD_RUNS_LSB+:16];
  assign ld_stride = b_desc[isa_pkg::LOAD_DDR_STRIDE_LSB+:24];
  assign st_stride = ld_stride;

  // ---- memory, and the trace that benches look at
  logic tr0_en;
  logic [15:0] tr0_addr;
  logic [127:0] tr0_data;
  logic [1:0] tr0_src;
  logic tr1_en;
  logic [15:0] tr1_addr;
  logic [127:0] tr1_data;
  logic [1:0] tr1_src;
  act_mem #(.WORDS(ACT_WORDS)) u_mem (
      .clk, .rst(unit_rst),
      .a_rd_en, .a_rd_center, .a_rd_mask, .a_window,
      .b_rd_en, .b_rd_center, .b_rd_mask, .b_window,
      .wa_valid, .wa_addr, .wa_data,
      .wb_valid, .wb_addr, .wb_data,
      .wl_valid, .wl_ready, .wl_addr, .wl_data(ld_data),
      .hold_b, .wa_empty, .wb_empty, .wl_empty,
      .tr0_en, .tr0_addr, .tr0_data, .tr0_src, .tr1_en, .tr1_addr, .tr1_data, .tr1_src
  );

  logic unused;
  assign unused = &{1'b0, unused_hash, a_running, b_running, tr0_en, tr0_addr, tr0_data, tr0_src,
                    tr1_en, tr1_addr, tr1_data, tr1_src};
endmodule

`default_nettype wire
