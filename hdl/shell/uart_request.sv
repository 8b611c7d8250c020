// SPDX-License-Identifier: Apache-2.0
// Finds requests in the bytes of a serial line and checks them (docs/uart.md).
//
//   A5 5A  tag  length (2 bytes, low first)  payload  CRC-16 (2 bytes, low first; from the tag on)
//
// The payload goes out as writes to a buffer while it arrives; `done` then says with `status` what
// it was worth. Whatever is no request is skipped: the last five bytes are looked at after each
// byte, so a start is found wherever it stands. A start with another length than BYTES is answered
// at once and its payload is skipped. A request that stops in its middle ends after TIMEOUT cycles.
// Latency: done 2 cycles after the last byte. Bytes may come every 6 cycles.
`default_nettype none

module uart_request #(
    parameter int unsigned BYTES   = 784,  // of a payload, 1 to 32768
    parameter int unsigned TIMEOUT = 1200000,  // cycles without a byte, at least 2
    localparam int unsigned ADDR_W = BYTES > 1 ? $clog2(BYTES) : 1
) (
    input  wire logic              clk,
    input  wire logic              rst,
    // bytes of the line
    input  wire logic              valid,
    input  wire logic              broken,
    input  wire logic [       7:0] data,
    // buffer
    output logic                   wr_en,
    output logic      [ADDR_W-1:0] wr_addr,
    output logic      [       7:0] wr_data,
    // what came
    output logic                   done,
    output logic      [       2:0] status,
    output logic      [       7:0] tag
);
  localparam int unsigned LEFT_W = $clog2(BYTES + 2);
  localparam int unsigned IDLE_W = $clog2(TIMEOUT);

  if (BYTES < 1 || BYTES > 32768 || TIMEOUT < 2) begin : g_illegal
    uart_request_takes_1_to_32768_bytes_and_a_timeout u_illegal ();
  end

  logic [31:0] window_q;  // the four bytes before this one, the oldest highest
  logic        start;
  logic [15:0] length;
  logic        taking_q;  // within a request of the right length
  logic [LEFT_W-1:0] left_q;  // bytes that follow this one, those of the code included
  logic [IDLE_W-1:0] idle_q;  // cycles until the sender is given up
  logic        low_equal_q;  // the code's low byte was right
  // The code; the three bytes of the header are fed to it after the header has been recognised
  logic [23:0] fed_q;
  logic [1:0]  feed_q;
  logic [7:0]  crc_data;
  logic [15:0] crc_q;
  logic [15:0] crc_after;
  logic        payload;
  logic        right;

  assign length = {data, window_q[7:0]};
  assign start = window_q[31:16] == {uart_pkg::REQUEST_0, uart_pkg::REQUEST_1};
  assign payload = taking_q && valid && left_q > LEFT_W'(1);
  assign right = low_equal_q && data == crc_q[15:8];
  assign crc_data = feed_q != '0 ? fed_q[7:0] : data;

  uart_crc u_crc (
      .crc_in (crc_q),
      .data   (crc_data),
      .crc_out(crc_after)
  );

  // The bytes of a good request start no other one; those of a wrong one may, a byte may be missing
  always_ff @(posedge clk) begin
    if (rst || broken || (valid && taking_q && left_q == '0 && right)) window_q <= '0;
    else if (valid) window_q <= {window_q[23:0], data};
  end

  always_ff @(posedge clk) begin
    if (valid && !taking_q) begin
      fed_q <= {data, window_q[7:0], window_q[15:8]};
      crc_q <= 16'hFFFF;
    end else begin
      if (feed_q != '0) fed_q <= {8'd0, fed_q[23:8]};
      if (feed_q != '0 || payload) crc_q <= crc_after;
    end
  end

  always_ff @(posedge clk) begin
    if (valid) low_equal_q <= data == crc_q[7:0];
  end

  always_ff @(posedge clk) begin
    done <= 1'b0;
    if (feed_q != '0) feed_q <= feed_q - 1'b1;
    if (idle_q != '0) idle_q <= idle_q - 1'b1;
    if (valid) idle_q <= IDLE_W'(TIMEOUT - 1);
    if (rst) begin
      taking_q <= 1'b0;
      feed_q   <= '0;
      idle_q   <= '0;
    end else if (!taking_q) begin
      if (valid && start) begin
        tag <= window_q[15:8];
        if (length == 16'(BYTES)) begin
          taking_q <= 1'b1;
          feed_q   <= 2'd3;
          left_q   <= LEFT_W'(BYTES + 1);
        end else begin
          done   <= 1'b1;
          status <= uart_pkg::LENGTH;
        end
      end
    end else if (valid) begin
      left_q <= left_q - 1'b1;
      if (left_q == '0) begin
        taking_q <= 1'b0;
        done     <= 1'b1;
        status   <= right ? uart_pkg::OK : uart_pkg::CODE;
      end
    end else if (broken || idle_q == '0) begin
      taking_q <= 1'b0;
      done     <= 1'b1;
      status   <= broken ? uart_pkg::LINE : uart_pkg::SILENCE;
    end
  end

  always_ff @(posedge clk) begin
    wr_en   <= payload;
    wr_data <= data;
    if (!taking_q) wr_addr <= '0;
    else if (wr_en) wr_addr <= wr_addr + 1'b1;
  end
endmodule

`default_nettype wire
