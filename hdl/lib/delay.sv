// SPDX-License-Identifier: Apache-2.0
// A fixed delay of LATENCY cycles. Without RESET it becomes shift-register LUTs; with it, flip-flops
// that come out of reset as zero (for valid bits).
`default_nettype none

module delay #(
    parameter int unsigned WIDTH = 1,  // bits
    parameter int unsigned LATENCY = 1,  // cycles, at least 1
    parameter bit RESET = 1'b0  // cleared by rst
) (
    input  wire logic             clk,
    input  wire logic             rst,
    // in
    input  wire logic [WIDTH-1:0] d,
    // out
    output logic      [WIDTH-1:0] q
);
  logic [LATENCY-1:0][WIDTH-1:0] stages_q;

  if (LATENCY < 1) begin : g_illegal
    delay_needs_at_least_one_cycle u_illegal ();
  end

  for (genvar i = 0; i < LATENCY; i++) begin : g_stage
    always_ff @(posedge clk) begin
      if (RESET && rst) stages_q[i] <= '0;
      else stages_q[i] <= (i == 0) ? d : stages_q[(i == 0) ? 0 : i-1];
    end
  end

  assign q = stages_q[LATENCY-1];
endmodule

`default_nettype wire
