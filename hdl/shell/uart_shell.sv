// SPDX-License-Identifier: Apache-2.0
// A classifier on a serial line: frames in, answers out (docs/uart.md).
//
// The bytes of a request go to the core as one frame on m_axis while they arrive, a byte a beat in the
// order sent; the last one waits, with tlast, until the code has been found right. If it is not, or
// the request stops, `core_rst` is high for one cycle: the core forgets the frame. The ANSWER beats
// that come back on s_axis (the class first) are the payload of the answer; requests that are not
// right are answered with what was wrong and the size of a frame. A request that begins before the
// one before it has come back from the core is refused, and so is one whose bytes the core does not
// take in time.
// An answer with a class is never lost; one that says what was wrong is dropped while another such
// waits.
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
    output logic            core_rst,
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
  logic byte_valid;
  logic [7:0] byte_data;
  logic byte_last;
  logic done;
  logic good;
  logic [2:0] status;
  logic [7:0] tag;
  logic accept;
  logic late;
  logic pass;
  // The frame that the core works on
  logic busy_q;  // from its acceptance to its answer
  logic [7:0] tag_q;
  logic lost_q;  // of this request the core has not taken every byte
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
      .byte_valid,
      .byte_data,
      .byte_last,
      .done,
      .good,
      .status,
      .tag
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

  assign accept = good && !lost_q;
  assign late   = m_axis_tvalid && !m_axis_tready;
  assign pass   = byte_valid && !busy_q && !lost_q && !late;

  // Bytes to the core. There is one place: a byte that comes while it is taken is lost.
  always_ff @(posedge clk) begin
    core_rst <= rst || (done && !accept && !busy_q);
    if (rst) begin
      m_axis_tvalid <= 1'b0;
      lost_q <= 1'b0;
    end else begin
      if (m_axis_tready) m_axis_tvalid <= 1'b0;
      if (pass) m_axis_tvalid <= !byte_last;
      if (byte_valid && (busy_q || late)) lost_q <= 1'b1;
      if (done) begin
        m_axis_tvalid <= accept || (busy_q && late);
        lost_q <= 1'b0;
      end
    end
  end

  always_ff @(posedge clk) begin
    if (pass) begin
      m_axis_tdata <= byte_data;
      m_axis_tlast <= byte_last;
    end
  end

  // Its answer. tag_q is held until the answer has been taken: until then nothing is accepted.
  assign beat = s_axis_tvalid && s_axis_tready;

  always_ff @(posedge clk) begin
    if (rst) begin
      busy_q <= 1'b0;
      s_axis_tready <= 1'b0;
      beat_q <= '0;
      reply_valid_q <= 1'b0;
      shown <= '0;
    end else begin
      if (accept) begin
        busy_q <= 1'b1;
        s_axis_tready <= 1'b1;
        tag_q  <= tag;
      end
      if (beat) begin
        if (beat_q == '0) shown <= s_axis_tdata;
        beat_q <= beat_q + 1'b1;
        if (beat_q == BEAT_W'(ANSWER - 1)) begin
          beat_q <= '0;
          s_axis_tready <= 1'b0;
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
      wrong_q <= good ? uart_pkg::BUSY : status;
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
