// SPDX-License-Identifier: Apache-2.0
// Writes the words of STORE and of the candidates to DDR. AXI with 64-bit data, INCR bursts of at
// most 16 beats within 128 bytes (legal in AXI3 and AXI4), one ID.
//
// st_req announces st_runs runs of st_words words, st_stride words apart, from st_addr on (one STORE
// at a time); they follow in order as st_valid with st_data. st_ready falls while the buffer still
// has room for SKID words, which whoever fills it may have under way. A burst's address goes out
// only when all of its data is in the buffer, so that an abort never leaves the bus waiting; it goes
// out before the data of earlier bursts has gone, so that the memory sees what is to come and
// turns its bus less often. st_done pulses once all responses are in (also for 0 words or runs).
// stop lets nothing new begin; idle then says that the bus owes nothing; flush empties the buffer.
// Interval: a beat a cycle over bursts and runs, but 3 cycles for a burst of one word.
`default_nettype none

module dma_write #(
    parameter int unsigned DEPTH = 64,       // words of the buffer, a power of two
    parameter int unsigned SKID = 32,        // words still taken after st_ready has fallen
    parameter int unsigned OUTSTANDING = 8   // bursts without a response, a power of two
) (
    input  wire logic         clk,
    input  wire logic         rst,
    input  wire logic         stop,
    input  wire logic         flush,
    output logic              idle,
    output logic              error,
    output logic              beat,
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
    // AXI write channels
    output logic [31:0]       m_axi_awaddr,
    output logic [7:0]        m_axi_awlen,
    output logic              m_axi_awvalid,
    input  wire logic         m_axi_awready,
    output logic [63:0]       m_axi_wdata,
    output logic              m_axi_wlast,
    output logic              m_axi_wvalid,
    input  wire logic         m_axi_wready,
    input  wire logic [1:0]   m_axi_bresp,
    input  wire logic         m_axi_bvalid,
    output logic              m_axi_bready
);
  localparam int unsigned LEVEL_W = $clog2(DEPTH) + 1;
  localparam int unsigned FLIGHT_W = $clog2(OUTSTANDING) + 1;

  if (SKID + 8 > DEPTH) begin : g_illegal
    dma_write_buffer_must_hold_a_burst_beside_the_skid u_illegal ();
  end

  logic [LEVEL_W-1:0] level;
  logic [127:0] head;
  logic pop;
  logic unused_in_ready;
  logic unused_out_valid;

  logic left;
  logic offer;
  logic [31:0] burst_addr;
  logic [3:0] burst_words;
  logic take;
  logic ready_q;                 // a burst is offered and its words are here

  logic awvalid_q;
  logic [31:0] awaddr_q;
  logic [3:0] awwords_q;
  logic [LEVEL_W-1:0] loose_q;   // words of the buffer that no burst has been asked for yet
  logic next_valid;              // a burst whose data has not begun
  logic [3:0] next_words;
  logic next_take;
  logic [FLIGHT_W-1:0] unused_next_level;
  logic unused_next_ready;
  logic sending_q;               // a burst's data is going out
  logic [3:0] beats_q;           // beats left in it, less one
  logic [FLIGHT_W-1:0] flight_q;
  logic active_q;                // a STORE has been announced and not finished
  logic st_ready_q;
  logic st_done_q;
  logic error_q;
  logic beat_q;
  logic sent;
  logic answered;
  logic finished;

  fifo #(.WIDTH(128), .DEPTH(DEPTH)) u_buffer (
      .clk(clk),
      .rst(rst || flush),
      .in_valid(st_valid),
      .in_data(st_data),
      .in_ready(unused_in_ready),
      .out_valid(unused_out_valid),
      .out_data(head),
      .out_ready(pop),
      .level(level)
  );

  burst_split u_split (
      .clk(clk),
      .rst(rst || stop),
      .load(st_req),
      .load_addr(st_addr),
      .load_words(st_words),
      .load_runs(st_runs),
      .load_stride(st_stride),
      .left(left),
      .valid(offer),
      .addr(burst_addr),
      .words(burst_words),
      .take(take)
  );

  // Addresses
  // Not in the cycle of awready as well: that comes late, and a burst has two beats or more
  assign take = ready_q && !awvalid_q && !stop && (flight_q != FLIGHT_W'(OUTSTANDING));
  assign answered = m_axi_bvalid;
  assign finished = active_q && !left && (flight_q == '0);

  // loose_q only shrinks with a burst, after which there is no offer for a cycle
  always_ff @(posedge clk) begin
    if (rst || stop) ready_q <= 1'b0;
    else ready_q <= offer && !take && !st_req && (loose_q >= LEVEL_W'(burst_words));
  end

  always_ff @(posedge clk) begin
    if (take) begin
      awaddr_q  <= burst_addr;
      awwords_q <= burst_words;
    end
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      awvalid_q <= 1'b0;
    end else if (take) begin
      awvalid_q <= 1'b1;
    end else if (m_axi_awready) begin
      awvalid_q <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    if (rst || flush) loose_q <= '0;
    else loose_q <= loose_q + LEVEL_W'(st_valid) - (take ? LEVEL_W'(burst_words) : '0);
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      flight_q <= '0;
    end else if (take && !answered) begin
      flight_q <= flight_q + 1'b1;
    end else if (answered && !take) begin
      flight_q <= flight_q - 1'b1;
    end
  end

  // Data, in the order of the addresses
  fifo #(.WIDTH(4), .DEPTH(OUTSTANDING)) u_next (
      .clk(clk),
      .rst(rst),
      .in_valid(take),
      .in_data(burst_words),
      .in_ready(unused_next_ready),
      .out_valid(next_valid),
      .out_data(next_words),
      .out_ready(next_take),
      .level(unused_next_level)
  );

  assign sent = sending_q && m_axi_wready;
  assign pop = sent && !beats_q[0];
  assign next_take = next_valid && (!sending_q || (sent && beats_q == 4'd0));

  always_ff @(posedge clk) begin
    if (rst) begin
      sending_q <= 1'b0;
      beats_q <= '0;
    end else if (next_take) begin
      sending_q <= 1'b1;
      beats_q <= 4'({next_words, 1'b0} - 5'd1);
    end else if (sent) begin
      beats_q <= beats_q - 4'd1;
      if (beats_q == 4'd0) sending_q <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    if (rst || stop) begin
      active_q  <= 1'b0;
      st_done_q <= 1'b0;
    end else begin
      st_done_q <= finished;
      if (st_req) active_q <= 1'b1;
      else if (finished) active_q <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      st_ready_q <= 1'b0;
      error_q <= 1'b0;
      beat_q <= 1'b0;
    end else begin
      // One word may come in the cycle in which this is computed
      st_ready_q <= level < LEVEL_W'(DEPTH - SKID);
      error_q <= m_axi_bvalid && m_axi_bresp[1] && !stop;
      beat_q <= sent;
    end
  end

  assign m_axi_awaddr = awaddr_q;
  assign m_axi_awlen = {3'b000, awwords_q, 1'b0} - 8'd1;
  assign m_axi_awvalid = awvalid_q;
  assign m_axi_wdata = beats_q[0] ? head[63:0] : head[127:64];
  assign m_axi_wlast = beats_q == 4'd0;
  assign m_axi_wvalid = sending_q;
  assign m_axi_bready = 1'b1;
  assign st_ready = st_ready_q;
  assign st_done = st_done_q;
  assign error = error_q;
  assign beat = beat_q;
  assign idle = !awvalid_q && (flight_q == '0);  // a burst is in flight until its response

  logic unused;
  assign unused = &{1'b0, m_axi_bresp[0], unused_in_ready, unused_out_valid, unused_next_ready,
                    unused_next_level};
endmodule

`default_nettype wire
