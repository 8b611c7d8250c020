// SPDX-License-Identifier: Apache-2.0
// A classifier on a serial line: frames in, answers out (docs/uart.md).
//
// A request with a right code becomes one frame on m_axis, a byte a beat in the order sent, tlast on
// the last one; the ANSWER beats that come back on s_axis (the class first) are the payload of its
// answer. Requests that are not right are answered with what was wrong and the size of a frame, and
// reach no core. A request may arrive while the one before it is worked on: there are two buffers. A
// request that is complete before the one before it has come back from the core is refused.
// An answer with a class is never lost; one that says what was wrong is dropped while another such
// waits. Interval of the stream: 3 cycles a byte. Resources: 2 frames of block RAM.
`default_nettype none

module uart_shell #(
    parameter int unsigned CYCLES  = 104,  // of the clock to a bit, at least 4
    parameter int unsigned BYTES   = 784,  // of a frame, 1 to 32768
    parameter int unsigned ANSWER  = 1,  // bytes that the core answers, 1 to 255
    parameter int unsigned TIMEOUT = 1200000  // cycles of silence that end a request
) (
    input  wire logic       clk,
    input  wire logic       rst,
    // serial line
    input  wire logic       rx,
    output logic            tx,
    // frames to the core
    output logic      [7:0] m_axis_tdata,
    output logic            m_axis_tvalid,
    output logic            m_axis_tlast,
    input  wire logic       m_axis_tready,
    // its answers
    input  wire logic [7:0] s_axis_tdata,
    input  wire logic       s_axis_tvalid,
    output logic            s_axis_tready,
    // for people: the last class
    output logic      [7:0] shown
);
  localparam int unsigned ADDR_W = BYTES > 1 ? $clog2(BYTES) : 1;
  localparam int unsigned REPLY = ANSWER > 2 ? ANSWER : 2;  // bytes; a refusal has 2
  localparam int unsigned BEAT_W = ANSWER > 1 ? $clog2(ANSWER) : 1;

  // The line
  logic rx_valid;
  logic rx_broken;
  logic [7:0] rx_data;
  logic tx_valid;
  logic [7:0] tx_data;
  logic tx_ready;
  // What came
  logic wr_en;
  logic [ADDR_W-1:0] wr_addr;
  logic [7:0] wr_data;
  logic done;
  logic [2:0] status;
  logic [7:0] tag;
  logic accept;
  // The frame that the core works on
  logic bank_q;  // of the two buffers, the one the line writes to
  logic busy_q;  // from its acceptance to its answer
  logic [7:0] tag_q;
  logic sending_q;
  logic [1:0] phase_q;  // read, wait, offer
  logic [ADDR_W-1:0] pos_q;
  logic rd_en;
  logic [BEAT_W-1:0] beat_q;
  logic beat;
  // Answers that wait: one of the core, one that says what was wrong
  logic [8*REPLY-1:0] reply_q;
  logic reply_valid_q;
  logic [2:0] wrong_q;
  logic [7:0] wrong_tag_q;
  logic wrong_valid_q;
  logic wrong_taken;
  logic answer_valid;
  logic answer_ready;
  logic [2:0] answer_status;
  logic [7:0] answer_tag;
  logic [7:0] answer_length;
  logic [8*REPLY-1:0] answer_payload;

  uart_rx #(
      .CYCLES(CYCLES)
  ) u_rx (
      .clk,
      .rst,
      .rx,
      .valid (rx_valid),
      .broken(rx_broken),
      .data  (rx_data)
  );

  uart_request #(
      .BYTES  (BYTES),
      .TIMEOUT(TIMEOUT)
  ) u_request (
      .clk,
      .rst,
      .valid (rx_valid),
      .broken(rx_broken),
      .data  (rx_data),
      .wr_en,
      .wr_addr,
      .wr_data,
      .done,
      .status,
      .tag
  );

  ram_sdp #(
      .WIDTH(8),
      .DEPTH(2 << ADDR_W)
  ) u_frames (
      .clk,
      .wr_en,
      .wr_addr({bank_q, wr_addr}),
      .wr_data,
      .rd_en,
      .rd_addr({!bank_q, pos_q}),
      .rd_data(m_axis_tdata)
  );

  uart_answer #(
      .BYTES(REPLY)
  ) u_answer (
      .clk,
      .rst,
      .valid     (answer_valid),
      .status    (answer_status),
      .tag       (answer_tag),
      .length    (answer_length),
      .payload   (answer_payload),
      .ready     (answer_ready),
      .byte_valid(tx_valid),
      .byte_data (tx_data),
      .byte_ready(tx_ready)
  );

  uart_tx #(
      .CYCLES(CYCLES)
  ) u_tx (
      .clk,
      .rst,
      .valid(tx_valid),
      .data (tx_data),
      .ready(tx_ready),
      .tx
  );

  assign accept = done && status == uart_pkg::OK && !busy_q;

  // Frames to the core, from the buffer that the line does not write
  assign rd_en = sending_q && phase_q == 2'd0;
  assign m_axis_tvalid = phase_q == 2'd2;
  assign m_axis_tlast = pos_q == ADDR_W'(BYTES - 1);

  always_ff @(posedge clk) begin
    if (rst) begin
      bank_q <= 1'b0;
      sending_q <= 1'b0;
      phase_q <= '0;
    end else if (accept) begin
      bank_q <= !bank_q;
      sending_q <= 1'b1;
      phase_q <= '0;
      pos_q <= '0;
    end else if (sending_q && phase_q != 2'd2) begin
      phase_q <= phase_q + 1'b1;
    end else if (m_axis_tvalid && m_axis_tready) begin
      phase_q <= '0;
      pos_q <= pos_q + 1'b1;
      if (m_axis_tlast) sending_q <= 1'b0;
    end
  end

  // Its answer. tag_q is held until the answer has been taken: until then nothing is accepted.
  assign s_axis_tready = busy_q && !reply_valid_q;
  assign beat = s_axis_tvalid && s_axis_tready;

  always_ff @(posedge clk) begin
    if (rst) begin
      busy_q <= 1'b0;
      beat_q <= '0;
      reply_valid_q <= 1'b0;
      shown <= '0;
    end else begin
      if (accept) begin
        busy_q <= 1'b1;
        tag_q  <= tag;
      end
      if (beat) begin
        if (beat_q == '0) shown <= s_axis_tdata;
        beat_q <= beat_q + 1'b1;
        if (beat_q == BEAT_W'(ANSWER - 1)) begin
          beat_q <= '0;
          reply_valid_q <= 1'b1;
        end
      end
      if (reply_valid_q && answer_ready) begin
        reply_valid_q <= 1'b0;
        busy_q <= 1'b0;
      end
    end
  end

  for (genvar i = 0; i < REPLY; i++) begin : g_reply
    if (i < ANSWER) begin : g_beat
      always_ff @(posedge clk) begin
        if (beat && beat_q == BEAT_W'(i)) reply_q[8*i+:8] <= s_axis_tdata;
      end
    end else begin : g_none
      assign reply_q[8*i+:8] = '0;
    end
  end

  assign wrong_taken = answer_ready && !reply_valid_q;

  always_ff @(posedge clk) begin
    if (rst) begin
      wrong_valid_q <= 1'b0;
    end else if (done && !accept) begin
      wrong_valid_q <= 1'b1;
    end else if (wrong_taken) begin
      wrong_valid_q <= 1'b0;
    end
    if (done && !accept && (!wrong_valid_q || wrong_taken)) begin
      wrong_q <= status == uart_pkg::OK ? uart_pkg::BUSY : status;
      wrong_tag_q <= tag;
    end
  end

  // The core's answer goes first
  assign answer_valid = reply_valid_q || wrong_valid_q;
  assign answer_status = reply_valid_q ? uart_pkg::OK : wrong_q;
  assign answer_tag = reply_valid_q ? tag_q : wrong_tag_q;
  assign answer_length = reply_valid_q ? 8'(ANSWER) : 8'd2;
  assign answer_payload = reply_valid_q ? reply_q : (8 * REPLY)'(BYTES);
endmodule

`default_nettype wire
