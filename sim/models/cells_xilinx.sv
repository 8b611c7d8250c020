// SPDX-License-Identifier: Apache-2.0
// What the cells of a 7-series chip compute (UG953), for the simulation of emitted and of mapped
// netlists. Several modules in one file, because they are nothing but a library.
`default_nettype none
/* verilator lint_off DECLFILENAME */

module LUT1 #(parameter logic [1:0] INIT = 0) (output wire O, input wire I0);
  assign O = INIT[I0];
endmodule

module LUT2 #(parameter logic [3:0] INIT = 0) (output wire O, input wire I0, I1);
  assign O = INIT[{I1, I0}];
endmodule

module LUT3 #(parameter logic [7:0] INIT = 0) (output wire O, input wire I0, I1, I2);
  assign O = INIT[{I2, I1, I0}];
endmodule

module LUT4 #(parameter logic [15:0] INIT = 0) (output wire O, input wire I0, I1, I2, I3);
  assign O = INIT[{I3, I2, I1, I0}];
endmodule

module LUT5 #(parameter logic [31:0] INIT = 0) (output wire O, input wire I0, I1, I2, I3, I4);
  assign O = INIT[{I4, I3, I2, I1, I0}];
endmodule

module LUT6 #(parameter logic [63:0] INIT = 0) (output wire O, input wire I0, I1, I2, I3, I4, I5);
  assign O = INIT[{I5, I4, I3, I2, I1, I0}];
endmodule

module LUT6_2 #(parameter logic [63:0] INIT = 0) (
    output wire O6, output wire O5, input wire I0, I1, I2, I3, I4, I5
);
  assign O6 = INIT[{I5, I4, I3, I2, I1, I0}];
  assign O5 = INIT[{1'b0, I4, I3, I2, I1, I0}];
endmodule

module MUXF7 (output wire O, input wire I0, I1, S);
  assign O = S ? I1 : I0;
endmodule

module MUXF8 (output wire O, input wire I0, I1, S);
  assign O = S ? I1 : I0;
endmodule

module CARRY4 (
    output wire [3:0] CO, output wire [3:0] O, input wire CI, CYINIT, input wire [3:0] DI, S
);
  wire c0 = CI | CYINIT;
  wire c1 = S[0] ? c0 : DI[0];
  wire c2 = S[1] ? c1 : DI[1];
  wire c3 = S[2] ? c2 : DI[2];
  wire c4 = S[3] ? c3 : DI[3];
  assign CO = {c4, c3, c2, c1};
  assign O  = S ^ {c3, c2, c1, c0};
endmodule

module INV (output wire O, input wire I);
  assign O = ~I;
endmodule

module BUFG (output wire O, input wire I);
  assign O = I;
endmodule

module VCC (output wire P);
  assign P = 1'b1;
endmodule

module GND (output wire G);
  assign G = 1'b0;
endmodule

module FDRE #(
    parameter logic INIT = 0, IS_C_INVERTED = 0, IS_D_INVERTED = 0, IS_R_INVERTED = 0
) (output logic Q, input wire C, CE, D, R);
  initial Q = INIT;
  always_ff @(posedge C) begin
    if (R ^ IS_R_INVERTED) Q <= 1'b0;
    else if (CE) Q <= D ^ IS_D_INVERTED;
  end
endmodule

module FDSE #(
    parameter logic INIT = 1, IS_C_INVERTED = 0, IS_D_INVERTED = 0, IS_S_INVERTED = 0
) (output logic Q, input wire C, CE, D, S);
  initial Q = INIT;
  always_ff @(posedge C) begin
    if (S ^ IS_S_INVERTED) Q <= 1'b1;
    else if (CE) Q <= D ^ IS_D_INVERTED;
  end
endmodule
`default_nettype wire
