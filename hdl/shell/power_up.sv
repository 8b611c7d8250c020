// SPDX-License-Identifier: Apache-2.0
// Reset of a board: high after power-up, while `ready` is low, and 15 cycles longer.
//
// ready is asynchronous: the PLL has locked and nobody presses the button. The chips this is for
// start all registers with what is written here.
`default_nettype none

module power_up (
    input  wire logic clk,
    input  wire logic ready,
    output logic      rst
);
  logic [1:0] sync_q = 2'b00;
  logic [3:0] count_q = 4'd0;

  assign rst = count_q != 4'd15;

  always_ff @(posedge clk) begin
    sync_q <= {sync_q[0], ready};
    if (!sync_q[1]) count_q <= '0;
    else if (rst) count_q <= count_q + 1'b1;
  end
endmodule

`default_nettype wire
