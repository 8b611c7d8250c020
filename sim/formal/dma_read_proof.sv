// SPDX-License-Identifier: Apache-2.0
// dma_read on its address channel: a request that has been made stays as it is until it is taken,
// also when `stop` comes meanwhile; each has its owner, and no more are under way than OUTSTANDING;
// nothing new begins while `stop` holds; and `idle` is only said when the bus owes nothing. (Which
// words a burst has is burst_split's matter, which has a proof of its own.)
//
// What the streams, LOAD and the bus do is free, but for one thing: the bus ends no burst that has
// not been asked for.
`default_nettype none

module dma_read_proof #(
    parameter int unsigned OUTSTANDING = 4
) (
    input wire logic        clk,
    input wire logic        rst,
    input wire logic        stop,
    input wire logic        stream_start,
    input wire logic [31:0] a_addr,
    input wire logic [27:0] a_words,
    input wire logic [12:0] a_space,
    input wire logic [31:0] b_addr,
    input wire logic [27:0] b_words,
    input wire logic [ 9:0] b_space,
    input wire logic        ld_req,
    input wire logic [31:0] ld_addr,
    input wire logic [15:0] ld_words,
    input wire logic [15:0] ld_runs,
    input wire logic [23:0] ld_stride,
    input wire logic        ld_ready,
    input wire logic        m_axi_arready,
    input wire logic [63:0] m_axi_rdata,
    input wire logic [ 1:0] m_axi_rresp,
    input wire logic        m_axi_rlast,
    input wire logic        m_axi_rvalid
);
  logic idle;
  logic error;
  logic error_array;
  logic beat;
  logic a_alloc;
  logic [3:0] a_alloc_words;
  logic a_valid;
  logic b_alloc;
  logic [3:0] b_alloc_words;
  logic b_valid;
  logic [127:0] stream_data;
  logic ld_valid;
  logic [127:0] ld_data;
  logic [31:0] m_axi_araddr;
  logic [7:0] m_axi_arlen;
  logic m_axi_arvalid;
  logic m_axi_rready;

  dma_read #(.OUTSTANDING(OUTSTANDING), .LOAD_DEPTH(16)) u_dut (
      .clk, .rst, .stop, .idle, .error, .error_array, .beat,
      .stream_start, .a_addr, .a_words, .a_space, .a_alloc, .a_alloc_words, .a_valid,
      .b_addr, .b_words, .b_space, .b_alloc, .b_alloc_words, .b_valid, .stream_data,
      .ld_req, .ld_addr, .ld_words, .ld_runs, .ld_stride, .ld_valid, .ld_data, .ld_ready,
      .m_axi_araddr, .m_axi_arlen, .m_axi_arvalid, .m_axi_arready,
      .m_axi_rdata, .m_axi_rresp, .m_axi_rlast, .m_axi_rvalid, .m_axi_rready
  );
  (* hierconn *) wire [2:0] \u_dut.in_flight ;
  (* hierconn *) wire \u_dut.owner_valid ;
  (* hierconn *) wire \u_dut.owner_ready ;

  // Bursts: asked for of the bus and not ended; one more waits while arvalid is high
  logic [3:0] open;
  logic waited = 1'b0;
  logic stopped = 1'b0;
  logic [31:0] addr_before;
  logic [7:0] len_before;
  always_ff @(posedge clk) begin
    waited <= m_axi_arvalid && !m_axi_arready && !rst;
    stopped <= stop && !rst;
    addr_before <= m_axi_araddr;
    len_before <= m_axi_arlen;
    if (rst) open <= '0;
    else open <= open + 4'(m_axi_arvalid && m_axi_arready)
                 - 4'(m_axi_rvalid && m_axi_rlast);
  end

  logic begun = 1'b0;
  logic reset_before = 1'b1;
  always_ff @(posedge clk) begin
    begun <= 1'b1;
    reset_before <= rst;
    if (!begun) begin
      assume (rst);
    end else begin
      if (m_axi_rvalid) assume (open != '0);
      assert (m_axi_rready);
      if (waited && !reset_before) begin
        assert (m_axi_arvalid);
        assert (m_axi_araddr == addr_before && m_axi_arlen == len_before);
      end
      if (!reset_before) begin
        assert (\u_dut.owner_valid == (\u_dut.in_flight != '0));
        assert (\u_dut.owner_ready == (\u_dut.in_flight != 3'(OUTSTANDING)));
        assert (5'(\u_dut.in_flight ) == 5'(open) + 5'(m_axi_arvalid));
        assert (\u_dut.in_flight <= 3'(OUTSTANDING));
        if (stopped && !waited) assert (!m_axi_arvalid);
        if (idle) assert (open == '0 && !m_axi_arvalid);
      end
      cover (open == 4'd3 && m_axi_rvalid && m_axi_rlast && m_axi_arvalid);
    end
  end
endmodule

`default_nettype wire
