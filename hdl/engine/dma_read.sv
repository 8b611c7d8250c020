// SPDX-License-Identifier: Apache-2.0
// Reads DDR for the engine: the program stream, prefetched as far as the ring has room, and LOADs,
// which go first. AXI with 64-bit data, INCR bursts of at most 16 beats within 128 bytes (legal in
// AXI3 and AXI4), one ID, so that data comes back in the order of the requests.
//
// stream_start begins a program, ld_req a LOAD (at most one at a time). Words leave as
// stream_valid/stream_data and ld_valid/ld_data, low half first from the bus, 1 cycle after their
// second beat; rready is always high because room has been reserved. stop lets nothing new begin
// and throws away what still comes; idle then says that the bus owes nothing. error pulses for a
// beat with an error response; beat pulses for every beat (for the traffic counter).
`default_nettype none

module dma_read #(
    parameter int unsigned OUTSTANDING = 8,  // bursts in flight, a power of two
    parameter int unsigned SPACE_W = 13      // bits of the ring's count
) (
    input  wire logic               clk,
    input  wire logic               rst,
    input  wire logic               stop,
    output logic                    idle,
    output logic                    error,
    output logic                    beat,
    // program stream
    input  wire logic               stream_start,
    input  wire logic [31:0]        stream_addr,
    input  wire logic [27:0]        stream_words,
    input  wire logic [SPACE_W-1:0] ring_space,
    output logic                    ring_alloc,
    output logic [3:0]              ring_alloc_words,
    output logic                    stream_valid,
    output logic [127:0]            stream_data,
    // LOAD
    input  wire logic               ld_req,
    input  wire logic [31:0]        ld_addr,
    input  wire logic [15:0]        ld_words,
    output logic                    ld_valid,
    output logic [127:0]            ld_data,
    // AXI read channels
    output logic [31:0]             m_axi_araddr,
    output logic [7:0]              m_axi_arlen,
    output logic                    m_axi_arvalid,
    input  wire logic               m_axi_arready,
    input  wire logic [63:0]        m_axi_rdata,
    input  wire logic [1:0]         m_axi_rresp,
    input  wire logic               m_axi_rlast,
    input  wire logic               m_axi_rvalid,
    output logic                    m_axi_rready
);
  localparam int unsigned LEVEL_W = $clog2(OUTSTANDING) + 1;

  logic stream_ready;
  logic [31:0] stream_burst_addr;
  logic [3:0] stream_burst_words;
  logic stream_take;
  logic load_left;
  logic load_ready;
  logic [31:0] load_burst_addr;
  logic [3:0] load_burst_words;
  logic load_take;
  logic unused_stream_left;

  logic slot_free;
  logic owner_ready;
  logic owner_valid;
  logic owner_is_load;
  logic [LEVEL_W-1:0] in_flight;

  logic [31:0] araddr_q;
  logic [3:0] arwords_q;
  logic arvalid_q;

  logic half_q;
  logic [63:0] low_q;
  logic [127:0] word_q;
  logic stream_valid_q;
  logic ld_valid_q;
  logic error_q;
  logic beat_q;

  burst_split #(.WORDS_W(28)) u_stream (
      .clk(clk),
      .rst(rst || stop),
      .load(stream_start),
      .load_addr(stream_addr),
      .load_words(stream_words),
      .left(unused_stream_left),
      .valid(stream_ready),
      .addr(stream_burst_addr),
      .words(stream_burst_words),
      .take(stream_take)
  );

  burst_split #(.WORDS_W(16)) u_load (
      .clk(clk),
      .rst(rst || stop),
      .load(ld_req),
      .load_addr(ld_addr),
      .load_words(ld_words),
      .left(load_left),
      .valid(load_ready),
      .addr(load_burst_addr),
      .words(load_burst_words),
      .take(load_take)
  );

  // Issue: one burst at a time into the address register; its owner is remembered for the data
  assign slot_free = (!arvalid_q || m_axi_arready) && owner_ready && !stop;
  assign load_take = load_ready && slot_free;
  assign stream_take = stream_ready && slot_free && !load_left
                       && (ring_space >= SPACE_W'(stream_burst_words));
  assign ring_alloc = stream_take;
  assign ring_alloc_words = stream_burst_words;

  fifo #(.WIDTH(1), .DEPTH(OUTSTANDING)) u_owner (
      .clk(clk),
      .rst(rst),
      .in_valid(load_take || stream_take),
      .in_data(load_take),
      .in_ready(owner_ready),
      .out_valid(owner_valid),
      .out_data(owner_is_load),
      .out_ready(m_axi_rvalid && m_axi_rlast),
      .level(in_flight)
  );

  always_ff @(posedge clk) begin
    if (rst) begin
      arvalid_q <= 1'b0;
    end else if (load_take || stream_take) begin
      arvalid_q <= 1'b1;
    end else if (m_axi_arready) begin
      arvalid_q <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    if (load_take || stream_take) begin
      araddr_q  <= load_take ? load_burst_addr : stream_burst_addr;
      arwords_q <= load_take ? load_burst_words : stream_burst_words;
    end
  end

  assign m_axi_araddr = araddr_q;
  assign m_axi_arlen = {3'b000, arwords_q, 1'b0} - 8'd1;
  assign m_axi_arvalid = arvalid_q;
  assign m_axi_rready = 1'b1;

  // Data: two beats make a word
  always_ff @(posedge clk) begin
    if (m_axi_rvalid && !half_q) low_q <= m_axi_rdata;
    if (m_axi_rvalid && half_q) word_q <= {m_axi_rdata, low_q};
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      half_q <= 1'b0;
      stream_valid_q <= 1'b0;
      ld_valid_q <= 1'b0;
      error_q <= 1'b0;
      beat_q <= 1'b0;
    end else begin
      if (m_axi_rvalid) half_q <= !half_q && !m_axi_rlast;
      stream_valid_q <= m_axi_rvalid && half_q && !owner_is_load && !stop;
      ld_valid_q <= m_axi_rvalid && half_q && owner_is_load && !stop;
      error_q <= m_axi_rvalid && m_axi_rresp[1] && !stop;
      beat_q <= m_axi_rvalid;
    end
  end

  assign stream_valid = stream_valid_q;
  assign stream_data = word_q;
  assign ld_valid = ld_valid_q;
  assign ld_data = word_q;
  assign error = error_q;
  assign beat = beat_q;
  assign idle = !arvalid_q && (in_flight == '0) && !beat_q;

  logic unused;
  assign unused = &{1'b0, owner_valid, m_axi_rresp[0], unused_stream_left};
endmodule

`default_nettype wire
