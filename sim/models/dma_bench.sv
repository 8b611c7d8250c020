// SPDX-License-Identifier: Apache-2.0
// Bench top: dma_read with both rings, and dma_write, on one full AXI master: for cocotbext-axi, or
// inside dma_ddr.
`default_nettype none

module dma_bench #(
    parameter int unsigned RING_WORDS = 64,       // of the array stream
    parameter int unsigned LANE_RING_WORDS = 16,
    parameter int unsigned OUTSTANDING = 8
) (
    input  wire logic         clk,
    input  wire logic         rst,
    input  wire logic         stop,
    output logic              idle,
    output logic              read_error,
    output logic              read_error_array,
    output logic              write_error,
    output logic              read_beat,
    output logic              write_beat,
    // streams
    input  wire logic         stream_start,
    input  wire logic [31:0]  a_addr,
    input  wire logic [27:0]  a_words,
    input  wire logic         a_rd_en,
    input  wire logic [$clog2(RING_WORDS):0] a_rd_off,
    output logic [127:0]      a_rd_data,
    output logic [$clog2(RING_WORDS):0] a_avail,
    input  wire logic         a_pop,
    input  wire logic [$clog2(RING_WORDS):0] a_pop_n,
    input  wire logic [31:0]  b_addr,
    input  wire logic [27:0]  b_words,
    input  wire logic         b_rd_en,
    input  wire logic [$clog2(LANE_RING_WORDS):0] b_rd_off,
    output logic [127:0]      b_rd_data,
    output logic [$clog2(LANE_RING_WORDS):0] b_avail,
    input  wire logic         b_pop,
    input  wire logic [$clog2(LANE_RING_WORDS):0] b_pop_n,
    // LOAD
    input  wire logic         ld_req,
    input  wire logic [31:0]  ld_addr,
    input  wire logic [15:0]  ld_words,
    input  wire logic [15:0]  ld_runs,
    input  wire logic [23:0]  ld_stride,
    output logic              ld_valid,
    output logic [127:0]      ld_data,
    input  wire logic         ld_ready,
    // STORE
    input  wire logic         st_req,
    input  wire logic [31:0]  st_addr,
    input  wire logic [15:0]  st_words,
    input  wire logic [15:0]  st_runs,
    input  wire logic [23:0]  st_stride,
    input  wire logic         st_valid,
    input  wire logic [127:0] st_data,
    output logic              st_ready,
    output logic              st_done,
    // AXI
    output logic [0:0]        m_axi_awid,
    output logic [31:0]       m_axi_awaddr,
    output logic [7:0]        m_axi_awlen,
    output logic [2:0]        m_axi_awsize,
    output logic [1:0]        m_axi_awburst,
    output logic              m_axi_awvalid,
    input  wire logic         m_axi_awready,
    output logic [63:0]       m_axi_wdata,
    output logic [7:0]        m_axi_wstrb,
    output logic              m_axi_wlast,
    output logic              m_axi_wvalid,
    input  wire logic         m_axi_wready,
    input  wire logic [0:0]   m_axi_bid,
    input  wire logic [1:0]   m_axi_bresp,
    input  wire logic         m_axi_bvalid,
    output logic              m_axi_bready,
    output logic [0:0]        m_axi_arid,
    output logic [31:0]       m_axi_araddr,
    output logic [7:0]        m_axi_arlen,
    output logic [2:0]        m_axi_arsize,
    output logic [1:0]        m_axi_arburst,
    output logic              m_axi_arvalid,
    input  wire logic         m_axi_arready,
    input  wire logic [0:0]   m_axi_rid,
    input  wire logic [63:0]  m_axi_rdata,
    input  wire logic [1:0]   m_axi_rresp,
    input  wire logic         m_axi_rlast,
    input  wire logic         m_axi_rvalid,
    output logic              m_axi_rready
);
  localparam int unsigned A_W = $clog2(RING_WORDS) + 1;
  localparam int unsigned B_W = $clog2(LANE_RING_WORDS) + 1;

  logic a_alloc;
  logic [3:0] a_alloc_words;
  logic [A_W-1:0] a_space;
  logic a_valid;
  logic b_alloc;
  logic [3:0] b_alloc_words;
  logic [B_W-1:0] b_space;
  logic b_valid;
  logic [127:0] stream_data;
  logic read_idle;
  logic write_idle;

  stream_ring #(.DEPTH(RING_WORDS)) u_array_ring (
      .clk, .rst, .flush(stream_start),
      .alloc(a_alloc), .alloc_words(a_alloc_words), .space(a_space),
      .s_valid(a_valid), .s_data(stream_data),
      .rd_en(a_rd_en), .rd_off(a_rd_off), .rd_data(a_rd_data),
      .avail(a_avail), .pop(a_pop), .pop_n(a_pop_n)
  );

  stream_ring #(.DEPTH(LANE_RING_WORDS)) u_lanes_ring (
      .clk, .rst, .flush(stream_start),
      .alloc(b_alloc), .alloc_words(b_alloc_words), .space(b_space),
      .s_valid(b_valid), .s_data(stream_data),
      .rd_en(b_rd_en), .rd_off(b_rd_off), .rd_data(b_rd_data),
      .avail(b_avail), .pop(b_pop), .pop_n(b_pop_n)
  );

  dma_read #(.OUTSTANDING(OUTSTANDING), .A_SPACE_W(A_W), .B_SPACE_W(B_W)) u_read (
      .clk, .rst, .stop,
      .idle(read_idle), .error(read_error), .error_array(read_error_array), .beat(read_beat),
      .stream_start,
      .a_addr, .a_words, .a_space, .a_alloc, .a_alloc_words, .a_valid,
      .b_addr, .b_words, .b_space, .b_alloc, .b_alloc_words, .b_valid, .stream_data,
      .ld_req, .ld_addr, .ld_words, .ld_runs, .ld_stride, .ld_valid, .ld_data, .ld_ready,
      .m_axi_araddr, .m_axi_arlen, .m_axi_arvalid, .m_axi_arready,
      .m_axi_rdata, .m_axi_rresp, .m_axi_rlast, .m_axi_rvalid, .m_axi_rready
  );

  dma_write #(.OUTSTANDING(OUTSTANDING)) u_write (
      .clk, .rst, .stop, .flush(stream_start),
      .idle(write_idle), .error(write_error), .beat(write_beat),
      .st_req, .st_addr, .st_words, .st_runs, .st_stride, .st_valid, .st_data, .st_ready, .st_done,
      .m_axi_awaddr, .m_axi_awlen, .m_axi_awvalid, .m_axi_awready,
      .m_axi_wdata, .m_axi_wlast, .m_axi_wvalid, .m_axi_wready,
      .m_axi_bresp, .m_axi_bvalid, .m_axi_bready
  );

  assign idle = read_idle && write_idle;
  assign m_axi_awid = '0;
  assign m_axi_arid = '0;
  assign m_axi_awsize = 3'd3;
  assign m_axi_arsize = 3'd3;
  assign m_axi_awburst = 2'b01;
  assign m_axi_arburst = 2'b01;
  assign m_axi_wstrb = '1;

  logic unused;
  assign unused = &{1'b0, m_axi_bid, m_axi_rid};
endmodule

`default_nettype wire
