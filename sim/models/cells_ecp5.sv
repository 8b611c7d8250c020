// SPDX-License-Identifier: Apache-2.0
// What the cells of an ECP5 compute, for the simulation of emitted netlists.
`default_nettype none
/* verilator lint_off DECLFILENAME */

module LUT4 #(parameter logic [15:0] INIT = 0) (input wire A, B, C, D, output wire Z);
  assign Z = INIT[{D, C, B, A}];
endmodule

module PFUMX (input wire ALUT, BLUT, C0, output wire Z);
  assign Z = C0 ? ALUT : BLUT;
endmodule

module L6MUX21 (input wire D0, D1, SD, output wire Z);
  assign Z = SD ? D1 : D0;
endmodule
`default_nettype wire
