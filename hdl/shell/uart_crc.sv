// SPDX-License-Identifier: Apache-2.0
// One byte into a CRC-16 with the polynomial x^16 + x^12 + x^5 + 1, highest bit first.
//
// Combinational. Begun with 16'hFFFF this is the code known as CRC-16/IBM-3740: the text
// "123456789" gives 16'h29B1.
`default_nettype none

module uart_crc (
    input  wire logic [15:0] crc_in,
    input  wire logic [ 7:0] data,
    output logic      [15:0] crc_out
);
  logic [7:0] mixed;
  logic [7:0] folded;

  // The eight steps of the shift register at once: bit i of the byte meets bit 8 + i of the code,
  // and the polynomial spreads it to 0, 5 and 12; what falls on 12..15 comes round again.
  assign mixed = data ^ crc_in[15:8];
  assign folded = mixed ^ {4'd0, mixed[7:4]};
  assign crc_out = {crc_in[7:0], 8'd0} ^ {8'd0, folded} ^ {3'd0, folded, 5'd0}
                 ^ {folded[3:0], 12'd0};
endmodule

`default_nettype wire
