// SPDX-License-Identifier: Apache-2.0
// Makes an answer into bytes for the serial line (docs/uart.md).
//
//   5A A5  status  tag  length (1 byte)  payload  CRC-16 (2 bytes, low first; from the status on)
//
// An answer is taken when valid and ready; its payload is the low `length` bytes, lowest first.
// Interval: 7 + length bytes of the line. The sender takes a byte every 3 cycles at most.
`default_nettype none

module uart_answer #(
    parameter int unsigned BYTES = 2  // most of a payload, 1 to 255
) (
    input  wire logic               clk,
    input  wire logic               rst,
    // answer
    input  wire logic               valid,
    input  wire logic [        2:0] status,
    input  wire logic [        7:0] tag,
    input  wire logic [        7:0] length,
    input  wire logic [8*BYTES-1:0] payload,
    output logic                    ready,
    // to the sender
    output logic                    byte_valid,
    output logic      [        7:0] byte_data,
    input  wire logic               byte_ready
);
  if (BYTES < 1 || BYTES > 255) begin : g_illegal
    uart_answer_takes_1_to_255_bytes u_illegal ();
  end

  // Two bytes of start, then status, tag and length, then the payload: one queue, the next byte low
  localparam int unsigned HEAD = 5;
  localparam int unsigned QUEUE = BYTES + HEAD;

  logic [8*QUEUE-1:0] queue_q;
  logic [8:0] left_q;  // bytes after this one, those of the code included
  logic [1:0] mark_q;  // bytes of the start that are still to go
  logic busy_q;
  // What left_q is, a cycle later: 1 and 0 (the bytes of the code)
  logic low_q;
  logic high_q;
  logic [15:0] crc_q;
  logic [15:0] crc_after;
  logic take;

  assign ready = !busy_q;
  assign byte_valid = busy_q;
  assign byte_data = low_q ? crc_q[7:0] : high_q ? crc_q[15:8] : queue_q[7:0];
  assign take = byte_valid && byte_ready;

  uart_crc u_crc (
      .crc_in (crc_q),
      .data   (queue_q[7:0]),
      .crc_out(crc_after)
  );

  always_ff @(posedge clk) begin
    if (rst) begin
      busy_q <= 1'b0;
    end else if (!busy_q) begin
      busy_q <= valid;
    end else if (take && high_q) begin
      busy_q <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    low_q  <= busy_q && left_q == 9'd1;
    high_q <= busy_q && left_q == 9'd0;
  end

  always_ff @(posedge clk) begin
    if (!busy_q) begin
      queue_q <= {payload, length, tag, 5'd0, status, uart_pkg::ANSWER_1, uart_pkg::ANSWER_0};
      left_q  <= {1'b0, length} + 9'(HEAD + 1);
      mark_q  <= 2'd2;
      crc_q   <= 16'hFFFF;
    end else if (take) begin
      queue_q <= {8'd0, queue_q[8*QUEUE-1:8]};
      left_q  <= left_q - 1'b1;
      if (mark_q != '0) mark_q <= mark_q - 1'b1;
      else if (!low_q && !high_q) crc_q <= crc_after;
    end
  end
endmodule

`default_nettype wire
