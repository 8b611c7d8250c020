// SPDX-License-Identifier: Apache-2.0
// Finds requests in the bytes of a serial line and checks them (docs/uart.md).
//
//   A5 5A  tag  length (2 bytes, low first)  payload  CRC-16 (2 bytes, low first; from the tag on)
//
// The payload goes out while it arrives; `done` then says with `status` what it was worth. Whatever
// is no request is skipped: the last five bytes are looked at after each byte, so a start is found
// wherever it stands. A start with another length than BYTES is answered
// at once and its payload is skipped. A request that stops in its middle ends after TIMEOUT cycles.
// Latency: done 4 cycles after the last byte. Bytes may come every 8 cycles.
`default_nettype none

module uart_request #(
    parameter int unsigned BYTES   = 784,  // of a payload, 1 to 32768
    parameter int unsigned TIMEOUT = 1200000  // cycles without a byte, at least 2
) (
    input  wire logic       clk,
    input  wire logic       rst,
    // bytes of the line
    input  wire logic       valid,
    input  wire logic       broken,
    input  wire logic [7:0] data,
    // bytes of a payload
    output logic            byte_valid,
    output logic      [7:0] byte_data,
    output logic            byte_last,
    // what came
    output logic            done,
    output logic            good,  // done, and status is OK
    output logic      [2:0] status,
    output logic      [7:0] tag
);
  localparam int unsigned LEFT_W = $clog2(BYTES + 2);
  // One bit more than the count: it ends below zero, where its highest bit says so
  localparam int unsigned IDLE_W = $clog2(TIMEOUT) + 1;

  if (BYTES < 1 || BYTES > 32768 || TIMEOUT < 2) begin : g_illegal
    uart_request_takes_1_to_32768_bytes_and_a_timeout u_illegal ();
  end

  logic [39:0] window_q;  // the last five bytes, the oldest highest
  logic fresh_q;  // a byte has come into it
  logic still_q;  // ... two cycles ago
  logic look_q;  // and has been looked at:
  logic start_q;  // a request starts with it ...
  logic fits_q;  // ... that has the right length
  logic taking_q;  // within a request of the right length
  logic [LEFT_W-1:0] left_q;  // bytes that follow the next one, those of the code included
  // What left_q is, a cycle later: 2 (the last byte of the payload), 1 and 0 (those of the code)
  logic last_q;
  logic low_q;
  logic high_q;
  logic payload;
  logic [IDLE_W-1:0] idle_q;  // cycles until the sender is given up, less one
  logic ended_q;  // the last byte has come
  logic verdict_q;  // ... two cycles ago, and right_q is known
  logic low_right_q;
  logic high_right_q;
  logic right_q;
  // The code; the three bytes of the header are fed to it after the header has been recognised
  logic [23:0] fed_q;
  logic [1:0] feed_q;
  logic [7:0] crc_data;
  logic [15:0] crc_q;
  logic [15:0] crc_after;

  assign payload = taking_q && valid && !low_q && !high_q;
  assign crc_data = feed_q != '0 ? fed_q[7:0] : data;

  uart_crc u_crc (
      .crc_in (crc_q),
      .data   (crc_data),
      .crc_out(crc_after)
  );

  // The bytes of a good request start no other one; those of a wrong one may, a byte may be missing
  always_ff @(posedge clk) begin
    if (rst || broken || (verdict_q && right_q)) window_q <= '0;
    else if (valid) window_q <= {window_q[31:0], data};
  end

  always_ff @(posedge clk) begin
    fresh_q <= valid && !rst;
    still_q <= fresh_q && !rst;
    look_q  <= still_q && !rst && !(verdict_q && right_q);
    start_q <= window_q[39:24] == {uart_pkg::REQUEST_0, uart_pkg::REQUEST_1};
    fits_q  <= {window_q[7:0], window_q[15:8]} == 16'(BYTES);
    last_q  <= left_q == LEFT_W'(2);
    low_q   <= left_q == LEFT_W'(1);
    high_q  <= left_q == '0;
  end

  always_ff @(posedge clk) begin
    if (!taking_q) begin
      fed_q <= {window_q[7:0], window_q[15:8], window_q[23:16]};
      crc_q <= 16'hFFFF;
    end else begin
      if (feed_q != '0) fed_q <= {8'd0, fed_q[23:8]};
      if (feed_q != '0 || payload) crc_q <= crc_after;
    end
  end

  always_ff @(posedge clk) begin
    if (valid && low_q) low_right_q <= data == crc_q[7:0];
    if (valid) high_right_q <= data == crc_q[15:8];
    right_q <= low_right_q && high_right_q;
  end

  always_ff @(posedge clk) begin
    done <= 1'b0;
    good <= 1'b0;
    ended_q <= taking_q && valid && high_q;
    verdict_q <= ended_q;
    if (feed_q != '0) feed_q <= feed_q - 1'b1;
    if (rst) begin
      taking_q  <= 1'b0;
      feed_q    <= '0;
      ended_q   <= 1'b0;
      verdict_q <= 1'b0;
    end else if (!taking_q) begin
      left_q <= LEFT_W'(BYTES + 1);
      if (look_q && start_q) begin
        tag <= window_q[23:16];
        if (fits_q) begin
          taking_q <= 1'b1;
          feed_q   <= 2'd3;
        end else begin
          done   <= 1'b1;
          status <= uart_pkg::LENGTH;
        end
      end
    end else if (valid) begin
      left_q <= left_q - 1'b1;
    end else if (verdict_q) begin
      taking_q <= 1'b0;
      done     <= 1'b1;
      good     <= right_q;
      status   <= right_q ? uart_pkg::OK : uart_pkg::CODE;
    end else if (broken || idle_q[IDLE_W-1]) begin
      taking_q <= 1'b0;
      done     <= 1'b1;
      status   <= broken ? uart_pkg::LINE : uart_pkg::SILENCE;
    end
  end

  // Begins anew with every byte
  always_ff @(posedge clk) begin
    idle_q <= valid || !taking_q ? IDLE_W'(TIMEOUT - 2) : idle_q - 1'b1;
  end

  always_ff @(posedge clk) begin
    byte_valid <= payload && !rst;
    byte_data  <= data;
    byte_last  <= last_q;
  end
endmodule

`default_nettype wire
