// SPDX-License-Identifier: Apache-2.0
// dma_write on its channels: an address, and that a beat is the last, stay until taken, `stop` or
// not; no more bursts are without a response than OUTSTANDING; nothing new begins while `stop` holds;
// `idle` is only said when the bus owes nothing.
//
// The STORE and the bus are free, but that the bus answers no burst that has not been sent, and that
// the buffer is not emptied under the bus (`flush` comes with idle, as in engine.sv).
`default_nettype none

module dma_write_proof #(
    parameter int unsigned OUTSTANDING = 2,
    parameter int unsigned DEPTH = 16
) (
    input wire logic         clk,
    input wire logic         rst,
    input wire logic         stop,
    input wire logic         flush,
    input wire logic         st_req,
    input wire logic [ 31:0] st_addr,
    input wire logic [ 15:0] st_words,
    input wire logic [ 15:0] st_runs,
    input wire logic [ 23:0] st_stride,
    input wire logic         st_valid,
    input wire logic [127:0] st_data,
    input wire logic         m_axi_awready,
    input wire logic         m_axi_wready,
    input wire logic [  1:0] m_axi_bresp,
    input wire logic         m_axi_bvalid
);
  logic idle;
  logic error;
  logic beat;
  logic st_ready;
  logic st_done;
  logic [31:0] m_axi_awaddr;
  logic [7:0] m_axi_awlen;
  logic m_axi_awvalid;
  logic [63:0] m_axi_wdata;
  logic m_axi_wlast;
  logic m_axi_wvalid;
  logic m_axi_bready;

  dma_write #(.OUTSTANDING(OUTSTANDING), .DEPTH(DEPTH), .SKID(8)) u_dut (
      .clk, .rst, .stop, .flush, .idle, .error, .beat,
      .st_req, .st_addr, .st_words, .st_runs, .st_stride, .st_valid, .st_data, .st_ready, .st_done,
      .m_axi_awaddr, .m_axi_awlen, .m_axi_awvalid, .m_axi_awready,
      .m_axi_wdata, .m_axi_wlast, .m_axi_wvalid, .m_axi_wready,
      .m_axi_bresp, .m_axi_bvalid, .m_axi_bready
  );
  (* hierconn *) wire [1:0] \u_dut.flight_q ;

  logic [2:0] unanswered;  // addresses that were taken, without a response
  logic aw_waited = 1'b0;
  logic w_waited = 1'b0;
  logic stopped = 1'b0;
  logic [39:0] aw_before;
  logic w_before;
  always_ff @(posedge clk) begin
    aw_waited <= m_axi_awvalid && !m_axi_awready && !rst;
    w_waited <= m_axi_wvalid && !m_axi_wready && !rst;
    stopped <= stop && !rst;
    aw_before <= {m_axi_awaddr, m_axi_awlen};
    w_before <= m_axi_wlast;
    if (rst) unanswered <= '0;
    else unanswered <= unanswered + 3'(m_axi_awvalid && m_axi_awready) - 3'(m_axi_bvalid);
  end

  logic begun = 1'b0;
  logic reset_before = 1'b1;
  always_ff @(posedge clk) begin
    begun <= 1'b1;
    reset_before <= rst;
    if (!begun) begin
      assume (rst);
    end else begin
      if (m_axi_bvalid) assume (unanswered != '0);
      if (flush) assume (idle && !m_axi_wvalid);
      assert (m_axi_bready);
      if (!reset_before) begin
        if (aw_waited) begin
          assert (m_axi_awvalid && {m_axi_awaddr, m_axi_awlen} == aw_before);
        end
        if (w_waited) assert (m_axi_wvalid && m_axi_wlast == w_before);
        assert (4'(\u_dut.flight_q ) == 4'(unanswered) + 4'(m_axi_awvalid));
        assert (\u_dut.flight_q <= 2'(OUTSTANDING));
        if (stopped && !aw_waited) assert (!m_axi_awvalid);
        if (idle) assert (unanswered == '0 && !m_axi_awvalid);
      end
      cover (unanswered == 3'd1 && m_axi_bvalid && m_axi_awvalid);
    end
  end
endmodule

`default_nettype wire
