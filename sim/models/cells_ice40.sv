// SPDX-License-Identifier: Apache-2.0
// What the table of an iCE40 computes, for the simulation of emitted netlists.
`default_nettype none
/* verilator lint_off DECLFILENAME */

module SB_LUT4 #(parameter logic [15:0] LUT_INIT = 0) (output wire O, input wire I0, I1, I2, I3);
  assign O = LUT_INIT[{I3, I2, I1, I0}];
endmodule
`default_nettype wire
