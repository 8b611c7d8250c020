// SPDX-License-Identifier: Apache-2.0
// mac_pair for an ECP5, whose multipliers are 18 x 18: what hdl/lib/mac_pair.sv says of its ports and
// latencies holds here as well.
//
// The 25-bit operand is cut at bit 17. Both halves are multiplied at once in two MULT18X18D with
// registers at their inputs and outputs; the sum of the halves is made where they are accumulated.
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
  logic signed [35:0] low;
  logic signed [35:0] high;
  logic signed [41:0] p_q;

  mac_half u_low (.clk, .ab_en, .m_en, .a({1'b0, a[16:0]}), .b({{9{b[8]}}, b}), .p(low));
  mac_half u_high (
      .clk, .ab_en, .m_en, .a({{10{a[24]}}, a[24:17]}), .b({{9{b[8]}}, b}), .p(high)
  );

  always_ff @(posedge clk) begin
    if (p_en) p_q <= (p_clear ? 42'sd0 : p_q) + 42'(low) + (42'(high) << 17);
  end

  assign p = p_q;
endmodule

`default_nettype wire
