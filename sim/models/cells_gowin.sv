// SPDX-License-Identifier: Apache-2.0
// What the cells of a Gowin chip compute, for the simulation of emitted netlists.
`default_nettype none
/* verilator lint_off DECLFILENAME */

module LUT1 #(parameter logic [1:0] INIT = 0) (output wire F, input wire I0);
  assign F = INIT[I0];
endmodule

module LUT2 #(parameter logic [3:0] INIT = 0) (output wire F, input wire I0, I1);
  assign F = INIT[{I1, I0}];
endmodule

module LUT3 #(parameter logic [7:0] INIT = 0) (output wire F, input wire I0, I1, I2);
  assign F = INIT[{I2, I1, I0}];
endmodule

module LUT4 #(parameter logic [15:0] INIT = 0) (output wire F, input wire I0, I1, I2, I3);
  assign F = INIT[{I3, I2, I1, I0}];
endmodule

module MUX2_LUT5 (output wire O, input wire I0, I1, S0);
  assign O = S0 ? I1 : I0;
endmodule

module MUX2_LUT6 (output wire O, input wire I0, I1, S0);
  assign O = S0 ? I1 : I0;
endmodule

module MUX2_LUT7 (output wire O, input wire I0, I1, S0);
  assign O = S0 ? I1 : I0;
endmodule

module MUX2_LUT8 (output wire O, input wire I0, I1, S0);
  assign O = S0 ? I1 : I0;
endmodule
`default_nettype wire
