// SPDX-License-Identifier: Apache-2.0
// Sixteen requantisers in front of the activation memory's write port and the dilation map's.
//
// q[x] = clamp(round_half_even((acc[x] + bias) / 2**(shift - 7))), one word a cycle. With smap_we
// the low 3 bits of each pixel also go to word smap_idx of the dilation map (type u3).
//
// Latency WB_LAT = 5 from valid to wr_en.
// Resources: 16 x requant, the addresses in shift registers, no DSP.
`default_nettype none

module writeback (
    input  wire logic                                                clk,
    input  wire logic                                                rst,
    // accumulators of 16 pixels, and their channel's constants
    input  wire logic                                                valid,
    input  wire logic [engine_pkg::LANES-1:0][engine_pkg::ACC_W-1:0] acc,
    input  wire logic [                       engine_pkg::BIAS_W-1:0] bias,
    input  wire logic [                      engine_pkg::SHIFT_W-1:0] shift,  // code: shift + 7
    input  wire logic [                                          1:0] out_type,
    input  wire logic [                       engine_pkg::ADDR_W-1:0] addr,
    input  wire logic                                                 smap_we_in,
    input  wire logic [                   engine_pkg::SMAP_IDX_W-1:0] smap_idx_in,
    // activation memory
    output logic                                                     wr_en,
    output logic      [                       engine_pkg::ADDR_W-1:0] wr_addr,
    output logic      [                                        127:0] wr_data,
    // dilation map
    output logic                                                      smap_we,
    output logic      [                   engine_pkg::SMAP_IDX_W-1:0] smap_idx,
    output logic      [                                         47:0] smap_data
);
  localparam int unsigned LANES = engine_pkg::LANES;
  localparam int unsigned ADDR_W = engine_pkg::ADDR_W;
  localparam int unsigned SMAP_IDX_W = engine_pkg::SMAP_IDX_W;
  localparam int unsigned WB_LAT = engine_pkg::WB_LAT;

  logic [WB_LAT:1] valid_q, smap_q;
  logic [ADDR_W-1:0] addr_q[WB_LAT];
  logic [SMAP_IDX_W-1:0] idx_q[WB_LAT];

  always_ff @(posedge clk) begin
    if (rst) begin
      valid_q <= '0;
      smap_q  <= '0;
    end else begin
      valid_q <= {valid_q[WB_LAT-1:1], valid};
      smap_q  <= {smap_q[WB_LAT-1:1], valid && smap_we_in};
    end
    addr_q[0] <= addr;
    idx_q[0]  <= smap_idx_in;
    for (int unsigned i = 1; i < WB_LAT; i++) begin
      addr_q[i] <= addr_q[i-1];
      idx_q[i]  <= idx_q[i-1];
    end
  end

  for (genvar x = 0; x < LANES; x++) begin : g_lane
    requant u_requant (
        .clk(clk),
        .en(valid),
        .acc(acc[x]),
        .bias(bias),
        .shift_code(shift),
        .out_type(out_type),
        .q(wr_data[8*x+:8])
    );
    assign smap_data[3*x+:3] = wr_data[8*x+:3];
  end

  assign wr_en = valid_q[WB_LAT];
  assign wr_addr = addr_q[WB_LAT-1];
  assign smap_we = smap_q[WB_LAT];
  assign smap_idx = idx_q[WB_LAT-1];
endmodule

`default_nettype wire
