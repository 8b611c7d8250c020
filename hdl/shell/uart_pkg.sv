// SPDX-License-Identifier: Apache-2.0
// Constants of the serial line's protocol (docs/uart.md); hwflow/driver/uart.py has the same ones.
`default_nettype none

package uart_pkg;
  localparam logic [7:0] REQUEST_0 = 8'hA5;
  localparam logic [7:0] REQUEST_1 = 8'h5A;
  localparam logic [7:0] ANSWER_0 = 8'h5A;
  localparam logic [7:0] ANSWER_1 = 8'hA5;
  // What became of a request
  localparam logic [2:0] OK = 3'd0;
  localparam logic [2:0] CODE = 3'd1;  // its CRC is wrong
  localparam logic [2:0] LENGTH = 3'd2;  // another length than a frame has
  localparam logic [2:0] SILENCE = 3'd3;  // it stopped in the middle
  localparam logic [2:0] BUSY = 3'd4;  // the frame before it is not answered yet
  localparam logic [2:0] LINE = 3'd5;  // a stop bit was missing
endpackage

`default_nettype wire
