// SPDX-License-Identifier: Apache-2.0
// Receiver of a serial line: 8 data bits, lowest first, no parity, one stop bit.
//
// Each bit is sampled once, in its middle. A byte is given for one cycle, half a bit before its end,
// so that a sender that is a few percent fast or slow and never pauses is still followed. `broken`
// instead of `valid` says that the stop bit was low; then the line must be high before a byte can
// start again. Latency: 9.5 bits and 3 cycles after the start of the byte.
`default_nettype none

module uart_rx #(
    parameter int unsigned CYCLES = 104  // of the clock to a bit, at least 4
) (
    input  wire logic       clk,
    input  wire logic       rst,
    input  wire logic       rx,  // asynchronous, high when idle
    output logic            valid,
    output logic            broken,
    output logic      [7:0] data
);
  // One bit more than the count: it ends below zero, where its highest bit says so
  localparam int unsigned COUNT_W = $clog2(CYCLES) + 1;
  localparam logic [COUNT_W-1:0] WHOLE = COUNT_W'(CYCLES - 2);
  localparam logic [COUNT_W-1:0] HALF = COUNT_W'(CYCLES / 2 - 2);
  localparam logic [3:0] STOP = 4'd9;

  if (CYCLES < 4) begin : g_illegal
    uart_rx_needs_four_cycles_to_a_bit u_illegal ();
  end

  logic [1:0] sync_q;
  logic line;
  logic busy_q;  // within a byte
  logic ready_q;  // the line has been high since the last byte
  logic [3:0] bit_q;  // 0 start, 1..8 data, 9 stop
  logic [COUNT_W-1:0] left_q;  // cycles to the next sample, less one
  logic sample;

  assign sample = busy_q && left_q[COUNT_W-1];
  assign line = sync_q[1];

  // Not reset: a reset in the middle of a byte must not make the line look idle
  always_ff @(posedge clk) begin
    sync_q <= {sync_q[0], rx};
  end

  always_ff @(posedge clk) begin
    valid  <= 1'b0;
    broken <= 1'b0;
    if (rst) begin
      busy_q  <= 1'b0;
      ready_q <= 1'b0;
    end else if (!busy_q) begin
      if (line) ready_q <= 1'b1;
      if (ready_q && !line) begin
        busy_q <= 1'b1;
        bit_q  <= '0;
        left_q <= HALF;
      end
    end else if (!sample) begin
      left_q <= left_q - 1'b1;
    end else begin
      left_q <= WHOLE;
      bit_q  <= bit_q + 1'b1;
      // A start that is gone in its middle was a disturbance
      if (bit_q == '0 && line) busy_q <= 1'b0;
      if (bit_q == STOP) begin
        busy_q  <= 1'b0;
        ready_q <= line;
        valid   <= line;
        broken  <= !line;
      end
    end
  end

  always_ff @(posedge clk) begin
    if (sample && bit_q != STOP) data <= {line, data[7:1]};
  end
endmodule

`default_nettype wire
