// SPDX-License-Identifier: Apache-2.0
// Max pooling of codes on a stream of positions: the windows of `line_window`, the greatest code of
// each channel. Codes outside of the map are the least there is, that is, ignored.
//
// Latency 2 cycles from the element that completes a window, 3 with padding; interval 1.
// Resources: those of `line_window`, and KERNEL * KERNEL - 1 comparators a channel.
`default_nettype none

module code_pool #(
    parameter int unsigned CHANNELS = 1,
    parameter int unsigned CODE_W = 1,  // bits of a code
    parameter bit SIGNED = 1'b0,
    parameter int unsigned MAP_H = 8,
    parameter int unsigned MAP_W = 8,
    parameter int unsigned KH = 2,
    parameter int unsigned KW = 2,
    parameter int unsigned STRIDE_H = 2,
    parameter int unsigned STRIDE_W = 2,
    parameter int unsigned TOP = 0,  // elements of padding
    parameter int unsigned LEFT = 0,
    parameter int unsigned BOTTOM = 0,
    parameter int unsigned RIGHT = 0
) (
    input  wire logic                        clk,
    input  wire logic                        rst,
    input  wire logic                        en,
    // in
    input  wire logic                        in_valid,
    input  wire logic [CHANNELS*CODE_W-1:0]  in_data,
    // out
    output logic                             out_valid,
    output logic      [CHANNELS*CODE_W-1:0]  out_data
);
  // Signed codes with their sign inverted are in the order of unsigned ones
  localparam bit [CODE_W-1:0] SIGN = CODE_W'(SIGNED) << (CODE_W - 1);

  logic window_valid;
  logic [KH*KW-1:0][CHANNELS-1:0][CODE_W-1:0] taps;
  logic [KH*KW-1:0][CHANNELS-1:0][CODE_W-1:0] best;
  logic [CHANNELS-1:0][CODE_W-1:0] most;
  logic [CHANNELS-1:0][CODE_W-1:0] most_q;

  line_window #(
      .BITS(CHANNELS * CODE_W),
      .MAP_H(MAP_H),
      .MAP_W(MAP_W),
      .KH(KH),
      .KW(KW),
      .STRIDE_H(STRIDE_H),
      .STRIDE_W(STRIDE_W),
      .TOP(TOP),
      .LEFT(LEFT),
      .BOTTOM(BOTTOM),
      .RIGHT(RIGHT),
      .FILL({CHANNELS{SIGN}})
  ) u_window (
      .clk(clk),
      .rst(rst),
      .en(en),
      .in_valid(in_valid),
      .in_data(in_data),
      .out_valid(window_valid),
      .window(taps)
  );

  // best[t] is the greatest of taps 0 to t
  for (genvar c = 0; c < CHANNELS; c++) begin : g_channel
    assign best[0][c] = taps[0][c] ^ SIGN;
    for (genvar t = 1; t < KH * KW; t++) begin : g_tap
      assign best[t][c] = ((taps[t][c] ^ SIGN) > best[t-1][c]) ? taps[t][c] ^ SIGN : best[t-1][c];
    end
    assign most[c] = best[KH*KW-1][c] ^ SIGN;
  end

  always_ff @(posedge clk) begin
    if (en) most_q <= most;
  end
  always_ff @(posedge clk) begin
    if (rst) out_valid <= 1'b0;
    else if (en) out_valid <= window_valid;
  end
  assign out_data = most_q;
endmodule

`default_nettype wire
