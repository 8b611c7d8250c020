// SPDX-License-Identifier: Apache-2.0
// A sum in the carry chain of an ECP5: sum <= (clear ? 0 : sum) + d in a cycle with en.
//
// One CCU2C for two bits and no other LUT: `clear` is the third input of the chain's own LUTs, which
// Yosys would put in front of the chain. With D = 1 a LUT is d ^ sum, or d alone with clear; with C and D
// at 0 (what the chain makes the next carry of when the LUT is 0) it is d.
`default_nettype none

module mac_sum #(
    parameter int unsigned WIDTH = 26  // even
) (
    input  wire logic             clk,
    input  wire logic             en,
    input  wire logic             clear,
    input  wire logic [WIDTH-1:0] d,
    output logic      [WIDTH-1:0] sum
);
  localparam logic [15:0] INIT = 16'b1010_0110_1010_1010;

  logic [WIDTH-1:0] next;
  logic [WIDTH/2:0] carry;
  assign carry[0] = 1'b0;

  for (genvar i = 0; i < WIDTH / 2; i++) begin : g_chain
    CCU2C #(.INIT0(INIT), .INIT1(INIT), .INJECT1_0("NO"), .INJECT1_1("NO")) u_carry (
        .CIN(carry[i]),
        .A0(d[2*i]), .B0(sum[2*i]), .C0(clear), .D0(1'b1),
        .A1(d[2*i+1]), .B1(sum[2*i+1]), .C1(clear), .D1(1'b1),
        .S0(next[2*i]), .S1(next[2*i+1]), .COUT(carry[i+1])
    );
  end

  always_ff @(posedge clk) begin
    if (en) sum <= next;
  end

  logic unused;
  assign unused = &{1'b0, carry[WIDTH/2]};
endmodule

`default_nettype wire
