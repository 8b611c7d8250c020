// SPDX-License-Identifier: Apache-2.0
// Reset of a board: high after power-up, while `ready` is low, and 16 cycles longer.
//
// ready is asynchronous: the PLL has locked and nobody presses the button. The chips this is for
// start all registers with what is written here.
`default_nettype none

module power_up (
    input  wire logic clk,
    input  wire logic ready,
    output logic      rst
);
  logic [1:0] sync_q;
  logic [3:0] count_q;
  logic over_q;

  // There is no reset before this one
  initial begin
    sync_q  = '0;
    count_q = '0;
    over_q  = '0;
  end

  assign rst = !over_q;

  always_ff @(posedge clk) begin
    sync_q <= {sync_q[0], ready};
    over_q <= sync_q[1] && count_q == 4'd15;
    if (!sync_q[1]) count_q <= '0;
    else if (count_q != 4'd15) count_q <= count_q + 1'b1;
  end
endmodule

`default_nettype wire
