// SPDX-License-Identifier: Apache-2.0
// CCU2C of an ECP5: two LUTs with a carry chain; for simulation only (Yosys has its own).
//
// A half whose LUT of four is 1 hands the carry on; else its carry is what the lowest four bits of INIT
// say for A and B.
`default_nettype none

module CCU2C #(
    parameter logic [15:0] INIT0 = 16'd0,
    parameter logic [15:0] INIT1 = 16'd0,
    parameter INJECT1_0 = "YES",
    parameter INJECT1_1 = "YES"
) (
    input  wire logic CIN, A0, B0, C0, D0, A1, B1, C1, D1,
    output logic      S0, S1, COUT
);
  if (INJECT1_0 != "NO" || INJECT1_1 != "NO") begin : g_illegal
    ccu2c_is_modelled_with_its_carries u_illegal ();
  end

  logic four0, two0, four1, two1, middle;
  always_comb begin
    four0 = INIT0[{D0, C0, B0, A0}];
    two0 = INIT0[{2'b00, B0, A0}];
    S0 = four0 ^ CIN;
    middle = four0 ? CIN : two0;
    four1 = INIT1[{D1, C1, B1, A1}];
    two1 = INIT1[{2'b00, B1, A1}];
    S1 = four1 ^ middle;
    COUT = four1 ? middle : two1;
  end
endmodule

`default_nettype wire
