// SPDX-License-Identifier: Apache-2.0
// One DSP: two 4-bit weights, packed into `a`, times one pixel, accumulated; or one 8-bit weight.
//
// a = w1 * 2**21 + w0 with w in -7..7 (25 bits), b a pixel of -128..255. After n products
// p = sum1 * 2**21 + sum0: low = signed p[20:0], high = signed p[41:21] + p[20]. Exact while
// |sum0| < 2**20, that is for 587 products of a uint8 pixel. With a = w8 in -128..127 the sum is
// all of p.
//
// Latency: a, b presented in a cycle with ab_en are in p three cycles later; m_en and p_en (p_clear)
// are given 1 and 2 cycles after ab_en. p_clear starts a new sum with this product.
// Resources: one DSP48E1 with its A, B, M and P registers; a multiplier of 25 x 9.
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
  logic signed [24:0] a_q;
  logic signed [ 8:0] b_q;
  logic signed [33:0] m_q;
  logic signed [41:0] p_q;

  always_ff @(posedge clk) begin
    if (ab_en) begin
      a_q <= a;
      b_q <= b;
    end
    if (m_en) m_q <= a_q * b_q;
    // This form, not an if, is what goes into the DSP's own adder and P register
    if (p_en) p_q <= (p_clear ? 42'sd0 : p_q) + 42'(m_q);
  end

  assign p = p_q;
endmodule

`default_nettype wire
