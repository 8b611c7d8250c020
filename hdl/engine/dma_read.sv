// SPDX-License-Identifier: Apache-2.0
// Reads DDR for the engine: the streams of both queues, prefetched as far as their rings have room,
// and LOADs. AXI with 64-bit data, INCR bursts of at most 16 beats within 128 bytes (legal in AXI3
// and AXI4), one ID, so that data comes back in the order of the requests.
//
// Who asks next: the lanes stream (short, and its queue waits for nothing else), then the array
// stream and LOAD in turn. Bursts are asked for without waiting for data, also over the runs of a
// LOAD: one in 3 cycles for each of the three, one in 2 cycles together.
//
// stream_start begins both streams, ld_req a LOAD (at most one at a time). Stream words leave as
// a_valid or b_valid with stream_data, low half first from the bus, 1 cycle after their second beat.
// LOAD words wait in a FIFO until ld_ready takes them; room in rings and FIFO is reserved before a
// burst is asked for, so that rready is always high. stop lets nothing new begin and throws away
// what still comes; idle then says that the bus owes nothing. error pulses for a beat with an error
// response (error_array: in the array stream); beat pulses for every beat (for the traffic counter).
// Interval: a beat a cycle.
`default_nettype none

module dma_read #(
    parameter int unsigned OUTSTANDING = 8,   // bursts in flight, a power of two
    parameter int unsigned A_SPACE_W = 13,    // bits of the array ring's count
    parameter int unsigned B_SPACE_W = 10,    // bits of the lanes ring's count
    parameter int unsigned LOAD_DEPTH = 64    // words of the LOAD FIFO, a power of two
) (
    input  wire logic                 clk,
    input  wire logic                 rst,
    input  wire logic                 stop,
    output logic                      idle,
    output logic                      error,
    output logic                      error_array,
    output logic                      beat,
    // streams
    input  wire logic                 stream_start,
    input  wire logic [31:0]          a_addr,
    input  wire logic [27:0]          a_words,
    input  wire logic [A_SPACE_W-1:0] a_space,
    output logic                      a_alloc,
    output logic [3:0]                a_alloc_words,
    output logic                      a_valid,
    input  wire logic [31:0]          b_addr,
    input  wire logic [27:0]          b_words,
    input  wire logic [B_SPACE_W-1:0] b_space,
    output logic                      b_alloc,
    output logic [3:0]                b_alloc_words,
    output logic                      b_valid,
    output logic [127:0]              stream_data,
    // LOAD
    input  wire logic                 ld_req,
    input  wire logic [31:0]          ld_addr,
    input  wire logic [15:0]          ld_words,
    input  wire logic [15:0]          ld_runs,
    input  wire logic [23:0]          ld_stride,
    output logic                      ld_valid,
    output logic [127:0]              ld_data,
    input  wire logic                 ld_ready,
    // AXI read channels
    output logic [31:0]               m_axi_araddr,
    output logic [7:0]                m_axi_arlen,
    output logic                      m_axi_arvalid,
    input  wire logic                 m_axi_arready,
    input  wire logic [63:0]          m_axi_rdata,
    input  wire logic [1:0]           m_axi_rresp,
    input  wire logic                 m_axi_rlast,
    input  wire logic                 m_axi_rvalid,
    output logic                      m_axi_rready
);
  localparam int unsigned LEVEL_W = $clog2(OUTSTANDING) + 1;
  localparam int unsigned LOAD_W = $clog2(LOAD_DEPTH) + 1;
  // Whose burst
  localparam logic [1:0] ARRAY = 2'd0;
  localparam logic [1:0] LANES = 2'd1;
  localparam logic [1:0] LOAD = 2'd2;

  if (LOAD_DEPTH < 16) begin : g_illegal
    dma_read_load_fifo_must_hold_two_bursts u_illegal ();
  end

  logic a_offer;
  logic [31:0] a_burst_addr;
  logic [3:0] a_burst_words;
  logic b_offer;
  logic [31:0] b_burst_addr;
  logic [3:0] b_burst_words;
  logic ld_offer;
  logic [31:0] ld_burst_addr;
  logic [3:0] ld_burst_words;
  logic unused_a_left;
  logic unused_b_left;
  logic unused_ld_left;

  logic a_ready_q;       // has a burst and room for it
  logic b_ready_q;
  logic ld_ready_q;
  logic slot_free;
  logic a_take;
  logic b_take;
  logic ld_take;
  logic any_take;
  logic load_turn_q;     // LOAD goes before the array stream
  logic [LOAD_W-1:0] ld_space_q;
  logic ld_pop;

  logic owner_ready;
  logic owner_valid;
  logic [1:0] owner;
  logic [LEVEL_W-1:0] in_flight;

  logic [31:0] araddr_q;
  logic [3:0] arwords_q;
  logic arvalid_q;

  logic half_q;
  logic [63:0] low_q;
  logic [127:0] word_q;
  logic a_valid_q;
  logic b_valid_q;
  logic ld_valid_q;
  logic error_q;
  logic error_array_q;
  logic beat_q;

  burst_split #(.WORDS_W(28), .TWO_D(1'b0)) u_array (
      .clk(clk),
      .rst(rst || stop),
      .load(stream_start),
      .load_addr(a_addr),
      .load_words(a_words),
      .load_runs('0),
      .load_stride('0),
      .left(unused_a_left),
      .valid(a_offer),
      .addr(a_burst_addr),
      .words(a_burst_words),
      .take(a_take)
  );

  burst_split #(.WORDS_W(28), .TWO_D(1'b0)) u_lanes (
      .clk(clk),
      .rst(rst || stop),
      .load(stream_start),
      .load_addr(b_addr),
      .load_words(b_words),
      .load_runs('0),
      .load_stride('0),
      .left(unused_b_left),
      .valid(b_offer),
      .addr(b_burst_addr),
      .words(b_burst_words),
      .take(b_take)
  );

  burst_split u_load (
      .clk(clk),
      .rst(rst || stop),
      .load(ld_req),
      .load_addr(ld_addr),
      .load_words(ld_words),
      .load_runs(ld_runs),
      .load_stride(ld_stride),
      .left(unused_ld_left),
      .valid(ld_offer),
      .addr(ld_burst_addr),
      .words(ld_burst_words),
      .take(ld_take)
  );

  // Issue: one burst at a time into the address register; its owner is remembered for the data
  // Room only shrinks with a burst of one's own, after which there is no offer for a cycle
  always_ff @(posedge clk) begin
    if (rst || stop) begin
      a_ready_q <= 1'b0;
      b_ready_q <= 1'b0;
      ld_ready_q <= 1'b0;
    end else begin
      a_ready_q <= a_offer && !a_take && !stream_start && (a_space >= A_SPACE_W'(a_burst_words));
      b_ready_q <= b_offer && !b_take && !stream_start && (b_space >= B_SPACE_W'(b_burst_words));
      ld_ready_q <= ld_offer && !ld_take && !ld_req && (ld_space_q >= LOAD_W'(ld_burst_words));
    end
  end

  // Not in the cycle of arready as well: that comes late, and a burst has two beats or more
  assign slot_free = !arvalid_q && owner_ready && !stop;
  assign b_take = slot_free && b_ready_q;
  assign ld_take = slot_free && !b_ready_q && ld_ready_q && (load_turn_q || !a_ready_q);
  assign a_take = slot_free && !b_ready_q && a_ready_q && !(load_turn_q && ld_ready_q);
  assign any_take = slot_free && (a_ready_q || b_ready_q || ld_ready_q);  // one of the three
  assign a_alloc = a_take;
  assign a_alloc_words = a_burst_words;
  assign b_alloc = b_take;
  assign b_alloc_words = b_burst_words;

  fifo #(.WIDTH(2), .DEPTH(OUTSTANDING)) u_owner (
      .clk(clk),
      .rst(rst),
      .in_valid(any_take),
      .in_data(b_take ? LANES : ld_take ? LOAD : ARRAY),
      .in_ready(owner_ready),
      .out_valid(owner_valid),
      .out_data(owner),
      .out_ready(m_axi_rvalid && m_axi_rlast),
      .level(in_flight)
  );

  always_ff @(posedge clk) begin
    if (rst) begin
      arvalid_q <= 1'b0;
      load_turn_q <= 1'b0;
    end else begin
      if (any_take) arvalid_q <= 1'b1;
      else if (m_axi_arready) arvalid_q <= 1'b0;
      if (a_take) load_turn_q <= 1'b1;
      else if (ld_take) load_turn_q <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    if (any_take) begin
      araddr_q  <= b_take ? b_burst_addr : ld_take ? ld_burst_addr : a_burst_addr;
      arwords_q <= b_take ? b_burst_words : ld_take ? ld_burst_words : a_burst_words;
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
      a_valid_q <= 1'b0;
      b_valid_q <= 1'b0;
      ld_valid_q <= 1'b0;
      error_q <= 1'b0;
      error_array_q <= 1'b0;
      beat_q <= 1'b0;
    end else begin
      if (m_axi_rvalid) half_q <= !half_q && !m_axi_rlast;
      a_valid_q <= m_axi_rvalid && half_q && (owner == ARRAY) && !stop;
      b_valid_q <= m_axi_rvalid && half_q && (owner == LANES) && !stop;
      ld_valid_q <= m_axi_rvalid && half_q && (owner == LOAD) && !stop;
      error_q <= m_axi_rvalid && m_axi_rresp[1] && !stop;
      error_array_q <= owner == ARRAY;
      beat_q <= m_axi_rvalid;
    end
  end

  // Words of LOAD on their way to the activation memory
  logic [LOAD_W-1:0] unused_ld_level;
  logic unused_ld_in_ready;

  fifo #(.WIDTH(128), .DEPTH(LOAD_DEPTH)) u_words (
      .clk(clk),
      .rst(rst || stop),
      .in_valid(ld_valid_q),
      .in_data(word_q),
      .in_ready(unused_ld_in_ready),
      .out_valid(ld_valid),
      .out_data(ld_data),
      .out_ready(ld_ready),
      .level(unused_ld_level)
  );
  assign ld_pop = ld_valid && ld_ready;

  always_ff @(posedge clk) begin
    if (rst || stop) ld_space_q <= LOAD_W'(LOAD_DEPTH);
    else ld_space_q <= ld_space_q + LOAD_W'(ld_pop) - (ld_take ? LOAD_W'(ld_burst_words) : '0);
  end

  assign a_valid = a_valid_q;
  assign b_valid = b_valid_q;
  assign stream_data = word_q;
  assign error = error_q;
  assign error_array = error_array_q;
  assign beat = beat_q;
  assign idle = !arvalid_q && (in_flight == '0) && !beat_q;

  logic unused;
  assign unused = &{1'b0, owner_valid, m_axi_rresp[0], unused_a_left, unused_b_left,
                    unused_ld_left, unused_ld_level, unused_ld_in_ready};
endmodule

`default_nettype wire
