// SPDX-License-Identifier: Apache-2.0
// Sixteen requantisers and the word they make: the lanes' way into the activation memory.
//
// pixel[x] = clamp(round_half_even((acc[x] + base) / 2**(shift - 7))), one word a cycle. With
// `narrow` lanes 0-7 count: a result without `half` waits, and the next one with `half` makes the
// word with it, the first in pixels 0-7. Latency REQUANT_LAT + 1 = 6 from valid (of the later half)
// to wb_valid. Resources: about 2.1k LUT, 1.6k FF, nearly all in 16 x requant.
`default_nettype none

module lane_write (
    input  wire logic                                                  clk,
    input  wire logic                                                  rst,
    // constant during an operation
    input  wire logic                                                  narrow,
    input  wire logic [                                           1:0] out_type,
    // 16 sums, and their channel's constants
    input  wire logic                                                  valid,
    input  wire logic                                                  half,
    input  wire logic [engine_pkg::LANES-1:0][engine_pkg::LANE_W-1:0]  acc,
    input  wire logic [                         engine_pkg::ACC_W-1:0] base,
    input  wire logic [                       engine_pkg::SHIFT_W-1:0] shift,  // code: shift + 7
    input  wire logic [                        engine_pkg::ADDR_W-1:0] addr,
    // activation memory
    output logic                                                       wb_valid,
    output logic      [                        engine_pkg::ADDR_W-1:0] wb_addr,
    output logic      [                                         127:0] wb_data
);
  localparam int unsigned LANES = engine_pkg::LANES;
  localparam int unsigned LANE_W = engine_pkg::LANE_W;
  localparam int unsigned ADDR_W = engine_pkg::ADDR_W;
  localparam int unsigned BIAS_W = engine_pkg::BIAS_W;
  localparam int unsigned REQUANT_LAT = engine_pkg::REQUANT_LAT;

  logic [REQUANT_LAT:1] valid_q;
  logic half_q;
  logic [ADDR_W-1:0] addr_q;
  logic [127:0] pixels;
  logic [63:0] waiting_q;

  always_ff @(posedge clk) begin
    if (rst) begin
      valid_q  <= '0;
      wb_valid <= 1'b0;
    end else begin
      valid_q  <= {valid_q[REQUANT_LAT-1:1], valid};
      wb_valid <= valid_q[REQUANT_LAT] && (half_q || !narrow);
    end
  end
  delay #(
      .WIDTH(1 + ADDR_W),
      .LATENCY(REQUANT_LAT)
  ) u_wait (
      .clk(clk),
      .rst(rst),
      .d({half, addr}),
      .q({half_q, addr_q})
  );

  // The requantiser adds two numbers; base has the width of an accumulator, acc fits in a bias
  for (genvar x = 0; x < LANES; x++) begin : g_lane
    logic signed [LANE_W-1:0] sum;
    assign sum = acc[x];
    requant u_requant (
        .clk(clk),
        .en(valid),
        .acc(base),
        .bias(BIAS_W'(sum)),
        .shift_code(shift),
        .out_type(out_type),
        .q(pixels[8*x+:8])
    );
  end

  always_ff @(posedge clk) begin
    if (valid_q[REQUANT_LAT]) begin
      wb_addr <= addr_q;
      wb_data <= narrow ? {pixels[63:0], waiting_q} : pixels;
      waiting_q <= pixels[63:0];
    end
  end
endmodule

`default_nettype wire
