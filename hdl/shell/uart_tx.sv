// SPDX-License-Identifier: Apache-2.0
// Sender on a serial line: 8 data bits, lowest first, no parity, one stop bit.
//
// A byte is taken when valid and ready; the line changes in the next cycle. Interval: 10 bits and 2
// cycles, so bytes that wait are sent with a stop bit that is a little longer.
`default_nettype none

module uart_tx #(
    parameter int unsigned CYCLES = 104  // of the clock to a bit, at least 2
) (
    input  wire logic       clk,
    input  wire logic       rst,
    input  wire logic       valid,
    input  wire logic [7:0] data,
    output logic            ready,
    output logic            tx  // high when idle
);
  // One bit more than the count: it ends below zero, where its highest bit says so
  localparam int unsigned COUNT_W = $clog2(CYCLES) + 1;
  localparam logic [COUNT_W-1:0] WHOLE = COUNT_W'(CYCLES - 2);

  if (CYCLES < 2) begin : g_illegal
    uart_tx_needs_two_cycles_to_a_bit u_illegal ();
  end

  logic [8:0] rest_q;  // what follows the bit on the line: data, stop
  logic [3:0] bits_q;  // how many of it, and 1 for the bit on the line; 0: idle
  logic [COUNT_W-1:0] left_q;  // cycles the bit on the line still lasts, less one
  logic last;

  assign last = left_q[COUNT_W-1];

  always_ff @(posedge clk) begin
    ready <= bits_q == '0 && !(valid && ready) && !rst;
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      tx <= 1'b1;
      bits_q <= '0;
      left_q <= '1;
    end else if (valid && ready) begin
      tx <= 1'b0;
      bits_q <= 4'd10;
      left_q <= WHOLE;
    end else if (!last) begin
      left_q <= left_q - 1'b1;
    end else if (bits_q != '0) begin
      tx <= bits_q == 4'd1 ? 1'b1 : rest_q[0];
      bits_q <= bits_q - 1'b1;
      if (bits_q != 4'd1) left_q <= WHOLE;
    end
  end

  always_ff @(posedge clk) begin
    if (valid && ready) rest_q <= {1'b1, data};
    else if (last) rest_q <= {1'b1, rest_q[8:1]};
  end
endmodule

`default_nettype wire
