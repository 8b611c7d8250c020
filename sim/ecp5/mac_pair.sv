// SPDX-License-Identifier: Apache-2.0
// mac_pair for an ECP5, whose multipliers are 18 x 18: what hdl/lib/mac_pair.sv says of its ports, its
// latencies and the values of `a` holds here as well.
//
// Two multipliers cannot share the one product of 25 x 9 well, so each takes one weight: the first one
// w0 (or the weight of 8 bits), which is the low byte of `a`; the other one w1, which is its upper four
// bits and what the low weight has borrowed of them. Each product has its own sum, and the packed sum
// is put together behind them: p = sum1 * 2**21 + sum0.
`default_nettype none

module mac_pair (
    input  wire logic               clk,
    // operands
    input  wire logic               ab_en,
    input  wire logic signed [24:0] a,
    input  wire logic signed [ 8:0] b,
    // control, in step with the registers it rules
    input  wire logic               m_en,
    input  wire logic               p_en,
    input  wire logic               p_clear,
    // the packed sum
    output logic             [41:0] p
);
  logic [3:0] w1;
  logic [16:0] product0;
  logic [12:0] product1;
  logic [25:0] sum0;  // 587 products of -128 and 255 at most
  logic [21:0] sum1;

  assign w1 = a[24:21] + {3'd0, a[20]};

  mac_half #(.WIDTH(8)) u_low (.clk, .ab_en, .m_en, .a(a[7:0]), .b, .product(product0));
  mac_half #(.WIDTH(4)) u_high (.clk, .ab_en, .m_en, .a(w1), .b, .product(product1));
  mac_sum #(.WIDTH(26)) u_sum0 (
      .clk, .en(p_en), .clear(p_clear), .d({{9{product0[16]}}, product0}), .sum(sum0)
  );
  mac_sum #(.WIDTH(22)) u_sum1 (
      .clk, .en(p_en), .clear(p_clear), .d({{9{product1[12]}}, product1}), .sum(sum1)
  );
  assign p = {sum1[20:0] + {{16{sum0[25]}}, sum0[25:21]}, sum0[20:0]};

  logic unused;
  assign unused = &{1'b0, a[19:8], sum1[21]};
endmodule

`default_nettype wire
