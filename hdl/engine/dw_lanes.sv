// SPDX-License-Identifier: Apache-2.0
// Depthwise lanes: 16 pixels a cycle, nine taps each.
//
// acc[x] + base = sum over (i, j) of weight[3i + j] * taps[i][j][x] + bias. The weights come one
// cycle before their taps. in_signed: the taps are int8, else uint8; constant during an operation.
//
// Multipliers are LUTs: a weight is two digits of -2..2, so a product is the sum of two multiplexed
// copies of the pixel. Copies are negated by inverting them, and one is to be added: for high
// digits it is a carry; for low ones it is the same in all lanes and goes into base. No register
// waits for valid: taps that stand still move nothing behind them.
//
// Latency DW_LAT = 3 from valid to out_valid, one a cycle. About 4.7k LUT, 2.8k FF, no DSP.
`default_nettype none

module dw_lanes (
    input  wire logic                                                  clk,
    input  wire logic                                                  rst,
    input  wire logic                                                  in_signed,
    // in; the weight of tap (0, 0) is the lowest
    input  wire logic        [                                   35:0] weights,
    input  wire logic                                                  valid,
    input  wire logic        [2:0][2:0][engine_pkg::LANES-1:0][   7:0] taps,
    input  wire logic        [                 engine_pkg::BIAS_W-1:0] bias,
    // out
    output logic                                                       out_valid,
    output logic      [engine_pkg::LANES-1:0][engine_pkg::LANE_W-1:0]  acc,
    output logic      [                         engine_pkg::ACC_W-1:0] base
);
  localparam int unsigned LANES = engine_pkg::LANES;
  localparam int unsigned LANE_W = engine_pkg::LANE_W;  // nine products: 9 * 8 * 255 < 2**15
  localparam int unsigned ACC_W = engine_pkg::ACC_W;
  localparam int unsigned BIAS_W = engine_pkg::BIAS_W;

  localparam int unsigned PART_W = 10;  // a digit times a pixel
  localparam int unsigned PROD_W = 12;  // a weight times a pixel: at least -8 * 255 - 1
  localparam int unsigned ROW_W = 14;  // three products

  // The digits of each weight: the low one is its two low bits, 0, 1, -2 or -1; the high one takes
  // the pixel, twice the pixel, or nothing, and then negates
  logic [17:0] low_q;
  logic [8:0] one_q, two_q, neg_q;

  always_ff @(posedge clk) begin
    for (int unsigned t = 0; t < 9; t++) begin
      low_q[2*t+:2] <= weights[4*t+:2];
      one_q[t] <= weights[4*t+2] ^ weights[4*t+1];
      two_q[t] <= (weights[4*t+3] && !weights[4*t+2] && !weights[4*t+1])
                  || (!weights[4*t+3] && weights[4*t+2] && weights[4*t+1]);
      neg_q[t] <= weights[4*t+3] && !(weights[4*t+2] && weights[4*t+1]);
    end
  end

  // 1: products; 2: three of them; 3: all
  logic valid1_q, valid2_q;
  always_ff @(posedge clk) begin
    if (rst) begin
      valid1_q  <= 1'b0;
      valid2_q  <= 1'b0;
      out_valid <= 1'b0;
    end else begin
      valid1_q  <= valid;
      valid2_q  <= valid1_q;
      out_valid <= valid2_q;
    end
  end

  // The bias and one for each low digit that is negated
  logic [3:0] negated, negated1_q, negated2_q;
  logic signed [BIAS_W-1:0] bias1_q, bias2_q;
  always_comb begin
    negated = '0;
    for (int unsigned t = 0; t < 9; t++) negated = negated + 4'(low_q[2*t+1]);
  end
  always_ff @(posedge clk) begin
    negated1_q <= negated;
    negated2_q <= negated1_q;
    bias1_q <= bias;
    bias2_q <= bias1_q;
    base <= ACC_W'(bias2_q) + ACC_W'({1'b0, negated2_q});
  end

  for (genvar x = 0; x < LANES; x++) begin : g_lane
    logic signed [PROD_W-1:0] prod_q[9];
    logic signed [ROW_W-1:0] row_q[3];
    logic signed [LANE_W-1:0] acc_q;

    for (genvar t = 0; t < 9; t++) begin : g_tap
      logic [7:0] tap;
      logic sign;
      logic [PART_W-1:0] once, twice, low, high;
      logic [PART_W:0] sum;
      assign tap = taps[t/3][t%3][x];
      assign sign = in_signed && tap[7];
      assign once = {{2{sign}}, tap};
      assign twice = {sign, tap, 1'b0};
      always_comb begin
        case (low_q[2*t+:2])
          2'd0: low = '0;
          2'd1: low = once;
          2'd2: low = ~twice;
          default: low = ~once;
        endcase
      end
      assign high = (({PART_W{one_q[t]}} & once) | ({PART_W{two_q[t]}} & twice))
                    ^ {PART_W{neg_q[t]}};
      // The lowest bit only makes the carry: a sum of two numbers is one LUT a bit
      assign sum = {{2{low[PART_W-1]}}, low[PART_W-1:2], 1'b1} + {high, neg_q[t]};
      always_ff @(posedge clk) begin
        prod_q[t] <= {sum[PART_W:1], low[1:0]};
      end
      logic unused;
      assign unused = &{1'b0, sum[0]};
    end

    always_ff @(posedge clk) begin
      for (int unsigned i = 0; i < 3; i++) begin
        row_q[i] <= ROW_W'(prod_q[3*i]) + ROW_W'(prod_q[3*i+1]) + ROW_W'(prod_q[3*i+2]);
      end
      acc_q <= LANE_W'(row_q[0]) + LANE_W'(row_q[1]) + LANE_W'(row_q[2]);
    end

    assign acc[x] = acc_q;
  end
endmodule

`default_nettype wire
