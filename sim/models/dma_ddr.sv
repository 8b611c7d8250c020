// SPDX-License-Identifier: Apache-2.0
// Bench top: the DMA on the DDR model, for cycles and bandwidth.
`default_nettype none

module dma_ddr #(
    parameter int unsigned RING_WORDS = 4096,
    parameter int unsigned LANE_RING_WORDS = 512,
    parameter int unsigned OUTSTANDING = 8,
    parameter int unsigned BYTES = 1 << 20,
    parameter logic [31:0] BASE = 32'h10000000
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
    // DDR
    input  wire logic [6:0]   stall_percent,
    input  wire logic         fault_on,
    input  wire logic [31:0]  fault_addr,
    input  wire logic [1:0]   fault_resp,
    input  wire logic         host_req,
    input  wire logic         host_write,
    input  wire logic [31:0]  host_addr,
    input  wire logic [31:0]  host_bytes,
    output logic              host_ack,
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
    output logic              st_done
);
  logic [0:0]  axi_awid;
  logic [31:0] axi_awaddr;
  logic [7:0]  axi_awlen;
  logic [2:0]  axi_awsize;
  logic [1:0]  axi_awburst;
  logic        axi_awvalid;
  logic        axi_awready;
  logic [63:0] axi_wdata;
  logic [7:0]  axi_wstrb;
  logic        axi_wlast;
  logic        axi_wvalid;
  logic        axi_wready;
  logic [1:0]  axi_bresp;
  logic        axi_bvalid;
  logic        axi_bready;
  logic [0:0]  axi_arid;
  logic [31:0] axi_araddr;
  logic [7:0]  axi_arlen;
  logic [2:0]  axi_arsize;
  logic [1:0]  axi_arburst;
  logic        axi_arvalid;
  logic        axi_arready;
  logic [63:0] axi_rdata;
  logic [1:0]  axi_rresp;
  logic        axi_rlast;
  logic        axi_rvalid;
  logic        axi_rready;

  dma_bench #(
      .RING_WORDS(RING_WORDS), .LANE_RING_WORDS(LANE_RING_WORDS), .OUTSTANDING(OUTSTANDING)
  ) u_dma (
      .clk, .rst, .stop,
      .idle, .read_error, .read_error_array, .write_error, .read_beat, .write_beat,
      .stream_start,
      .a_addr, .a_words, .a_rd_en, .a_rd_off, .a_rd_data, .a_avail, .a_pop, .a_pop_n,
      .b_addr, .b_words, .b_rd_en, .b_rd_off, .b_rd_data, .b_avail, .b_pop, .b_pop_n,
      .ld_req, .ld_addr, .ld_words, .ld_runs, .ld_stride, .ld_valid, .ld_data, .ld_ready,
      .st_req, .st_addr, .st_words, .st_runs, .st_stride, .st_valid, .st_data, .st_ready, .st_done,
      .m_axi_awid(axi_awid), .m_axi_awaddr(axi_awaddr), .m_axi_awlen(axi_awlen),
      .m_axi_awsize(axi_awsize), .m_axi_awburst(axi_awburst),
      .m_axi_awvalid(axi_awvalid), .m_axi_awready(axi_awready),
      .m_axi_wdata(axi_wdata), .m_axi_wstrb(axi_wstrb), .m_axi_wlast(axi_wlast),
      .m_axi_wvalid(axi_wvalid), .m_axi_wready(axi_wready),
      .m_axi_bid('0), .m_axi_bresp(axi_bresp), .m_axi_bvalid(axi_bvalid),
      .m_axi_bready(axi_bready),
      .m_axi_arid(axi_arid), .m_axi_araddr(axi_araddr), .m_axi_arlen(axi_arlen),
      .m_axi_arsize(axi_arsize), .m_axi_arburst(axi_arburst),
      .m_axi_arvalid(axi_arvalid), .m_axi_arready(axi_arready),
      .m_axi_rid('0), .m_axi_rdata(axi_rdata), .m_axi_rresp(axi_rresp), .m_axi_rlast(axi_rlast),
      .m_axi_rvalid(axi_rvalid), .m_axi_rready(axi_rready)
  );

  ddr #(.BYTES(BYTES), .BASE(BASE)) u_ddr (
      .clk, .rst, .stall_percent, .fault_on, .fault_addr, .fault_resp,
      .host_req, .host_write, .host_addr, .host_bytes, .host_ack,
      .s_axi_awaddr(axi_awaddr), .s_axi_awlen(axi_awlen), .s_axi_awsize(axi_awsize),
      .s_axi_awburst(axi_awburst), .s_axi_awvalid(axi_awvalid), .s_axi_awready(axi_awready),
      .s_axi_wdata(axi_wdata), .s_axi_wstrb(axi_wstrb), .s_axi_wlast(axi_wlast),
      .s_axi_wvalid(axi_wvalid), .s_axi_wready(axi_wready),
      .s_axi_bresp(axi_bresp), .s_axi_bvalid(axi_bvalid), .s_axi_bready(axi_bready),
      .s_axi_araddr(axi_araddr), .s_axi_arlen(axi_arlen), .s_axi_arsize(axi_arsize),
      .s_axi_arburst(axi_arburst), .s_axi_arvalid(axi_arvalid), .s_axi_arready(axi_arready),
      .s_axi_rdata(axi_rdata), .s_axi_rresp(axi_rresp), .s_axi_rlast(axi_rlast),
      .s_axi_rvalid(axi_rvalid), .s_axi_rready(axi_rready)
  );

  logic unused;
  assign unused = &{1'b0, axi_awid, axi_arid};
endmodule

`default_nettype wire
