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

/* verilator lint_off UNUSEDPARAM */
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

module SRL16E #(
    parameter logic [15:0] INIT = 0, parameter logic IS_CLK_INVERTED = 0
) (output wire Q, input wire A0, A1, A2, A3, CE, CLK, D);
  logic [15:0] bits = INIT;
  assign Q = bits[{A3, A2, A1, A0}];
  always_ff @(posedge CLK) begin
    if (CE) bits <= {bits[14:0], D};
  end
endmodule

module SRLC32E #(
    parameter logic [31:0] INIT = 0, parameter logic IS_CLK_INVERTED = 0
) (output wire Q, output wire Q31, input wire [4:0] A, input wire CE, CLK, D);
  logic [31:0] bits = INIT;
  assign Q = bits[A];
  assign Q31 = bits[31];
  always_ff @(posedge CLK) begin
    if (CE) bits <= {bits[30:0], D};
  end
endmodule

module RAM32M #(
    parameter logic [63:0] INIT_A = 0, INIT_B = 0, INIT_C = 0, INIT_D = 0,
    parameter logic IS_WCLK_INVERTED = 0
) (
    output wire [1:0] DOA, DOB, DOC, DOD,
    input wire [4:0] ADDRA, ADDRB, ADDRC, ADDRD,
    input wire [1:0] DIA, DIB, DIC, DID,
    input wire WCLK, WE
);
  logic [31:0][1:0] a = INIT_A;
  logic [31:0][1:0] b = INIT_B;
  logic [31:0][1:0] c = INIT_C;
  logic [31:0][1:0] d = INIT_D;
  assign DOA = a[ADDRA];
  assign DOB = b[ADDRB];
  assign DOC = c[ADDRC];
  assign DOD = d[ADDRD];
  always_ff @(posedge WCLK) begin
    if (WE) begin
      a[ADDRD] <= DIA;
      b[ADDRD] <= DIB;
      c[ADDRD] <= DIC;
      d[ADDRD] <= DID;
    end
  end
endmodule
/* verilator lint_on UNUSEDPARAM */
`default_nettype wire
