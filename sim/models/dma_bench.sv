// SPDX-License-Identifier: Apache-2.0
// Bench top: dma_read with its ring, and dma_write, on one full AXI master for cocotbext-axi.
`default_nettype none

module dma_bench #(
    parameter int unsigned RING_WORDS = 64,
    parameter int unsigned OUTSTANDING = 8
) (
    input  wire logic         clk,
    input  wire logic         rst,
    input  wire logic         stop,
    output logic              idle,
    output logic              read_error,
    output logic              write_error,
    output logic              read_beat,
    output logic              write_beat,
    // program stream
    input  wire logic         stream_start,
    input  wire logic [31:0]  stream_addr,
    input  wire logic [27:0]  stream_words,
    input  wire logic         rd_en,
    input  wire logic [$clog2(RING_WORDS):0] rd_off,
    output logic [127:0]      rd_data,
    output logic [$clog2(RING_WORDS):0] avail,
    input  wire logic         pop,
    input  wire logic [$clog2(RING_WORDS):0] pop_n,
    // LOAD
    input  wire logic         ld_req,
    input  wire logic [31:0]  ld_addr,
    input  wire logic [15:0]  ld_words,
    output logic              ld_valid,
    output logic [127:0]      ld_data,
    // STORE
    input  wire logic         st_req,
    input  wire logic [31:0]  st_addr,
    input  wire logic [15:0]  st_words,
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
  localparam int unsigned COUNT_W = $clog2(RING_WORDS) + 1;

  logic alloc;
  logic [3:0] alloc_words;
  logic [COUNT_W-1:0] space;
  logic s_valid;
  logic [127:0] s_data;
  logic read_idle;
  logic write_idle;

  stream_ring #(.DEPTH(RING_WORDS)) u_ring (
      .clk(clk),
      .rst(rst),
      .flush(stream_start),
      .alloc(alloc),
      .alloc_words(alloc_words),
      .space(space),
      .s_valid(s_valid),
      .s_data(s_data),
      .rd_en(rd_en),
      .rd_off(rd_off),
      .rd_data(rd_data),
      .avail(avail),
      .pop(pop),
      .pop_n(pop_n)
  );

  dma_read #(.OUTSTANDING(OUTSTANDING), .SPACE_W(COUNT_W)) u_read (
      .clk(clk),
      .rst(rst),
      .stop(stop),
      .idle(read_idle),
      .error(read_error),
      .beat(read_beat),
      .stream_start(stream_start),
      .stream_addr(stream_addr),
      .stream_words(stream_words),
      .ring_space(space),
      .ring_alloc(alloc),
      .ring_alloc_words(alloc_words),
      .stream_valid(s_valid),
      .stream_data(s_data),
      .ld_req(ld_req),
      .ld_addr(ld_addr),
      .ld_words(ld_words),
      .ld_valid(ld_valid),
      .ld_data(ld_data),
      .m_axi_araddr(m_axi_araddr),
      .m_axi_arlen(m_axi_arlen),
      .m_axi_arvalid(m_axi_arvalid),
      .m_axi_arready(m_axi_arready),
      .m_axi_rdata(m_axi_rdata),
      .m_axi_rresp(m_axi_rresp),
      .m_axi_rlast(m_axi_rlast),
      .m_axi_rvalid(m_axi_rvalid),
      .m_axi_rready(m_axi_rready)
  );

  dma_write #(.OUTSTANDING(OUTSTANDING)) u_write (
      .clk(clk),
      .rst(rst),
      .stop(stop),
      .flush(stream_start),
      .idle(write_idle),
      .error(write_error),
      .beat(write_beat),
      .st_req(st_req),
      .st_addr(st_addr),
      .st_words(st_words),
      .st_valid(st_valid),
      .st_data(st_data),
      .st_ready(st_ready),
      .st_done(st_done),
      .m_axi_awaddr(m_axi_awaddr),
      .m_axi_awlen(m_axi_awlen),
      .m_axi_awvalid(m_axi_awvalid),
      .m_axi_awready(m_axi_awready),
      .m_axi_wdata(m_axi_wdata),
      .m_axi_wlast(m_axi_wlast),
      .m_axi_wvalid(m_axi_wvalid),
      .m_axi_wready(m_axi_wready),
      .m_axi_bresp(m_axi_bresp),
      .m_axi_bvalid(m_axi_bvalid),
      .m_axi_bready(m_axi_bready)
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
