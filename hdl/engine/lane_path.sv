// SPDX-License-Identifier: Apache-2.0
// From rows of pixels to result words: depthwise and deformable convolution, max pool, and the
// maxima that PEAK looks at. One row of 16 (narrow: 8) output pixels a cycle, in every mode.
//
// An entry is a row of one word's column and what belongs to its output row (docs/engine.md,
// "Lanes"). It enters the chain of rows; when the chain has brought an entry with `emit` to its
// centre, a result is computed: a word on wb (narrow: a word for two rows, the one with `half`
// second), or with to_peak the 16 pixels at the centre and which of them are the maximum of their
// 3x3. Only entries move the chain: after the last row of an operation come as many without `emit`
// as the chain reaches (7 with reach7, else 1), whatever their window.
//
// `mode` and to_peak are constant from the cycle before the first entry until idle; rst forgets all
// entries. Latencies from the entry that brings the centre to its place: LANE_LAT to lanes_valid,
// LANE_WB_LAT to wb_valid. Nothing stalls. Resources: about 12k LUT, 12k FF, no DSP, no block RAM.
`default_nettype none

module lane_path (
    input  wire logic                   clk,
    input  wire logic                   rst,
    // constants of the operation
    input  wire seq_pkg::mode_t         mode,
    input  wire logic                   to_peak,  // results go to `lanes`, not to wb
    // an entry, and the window read for it
    input  wire logic                   ins_valid,
    input  wire seq_pkg::meta_t         ins_meta,
    input  wire seq_pkg::pick_t         ins_pick,
    input  wire logic           [383:0] window,
    // results of DW, DDW and POOL
    output logic                        wb_valid,
    output logic                [ 15:0] wb_addr,
    output logic                [127:0] wb_data,
    // results for PEAK
    output logic                        lanes_valid,
    output logic     [15:0][engine_pkg::PIX_W-1:0] center,
    output logic                [ 15:0] peak_mask,
    // nothing is on its way to an output
    output logic                        idle
);
  localparam int unsigned LANES = engine_pkg::LANES;
  localparam int unsigned LANE_W = engine_pkg::LANE_W;
  localparam int unsigned BIAS_W = engine_pkg::BIAS_W;
  localparam int unsigned SHIFT_W = engine_pkg::SHIFT_W;
  localparam int unsigned ADDR_W = engine_pkg::ADDR_W;

  logic row_valid;
  logic [2:0][15:0][7:0] row;
  logic [35:0] weights;
  logic valid, above, below, half;
  logic [2:0][2:0][15:0][7:0] taps;
  logic [BIAS_W-1:0] bias;
  logic [SHIFT_W-1:0] shift;
  logic [ADDR_W-1:0] addr;
  row_chain u_chain (
      .clk, .rst, .mode, .ins_valid, .ins_meta, .ins_pick, .window,
      .row_valid, .row, .weights,
      .valid, .taps, .above, .below, .half, .bias, .shift, .addr
  );

  logic sum_valid;
  logic [LANES-1:0][LANE_W-1:0] sums;
  logic [engine_pkg::ACC_W-1:0] base;
  dw_lanes u_dw (
      .clk, .rst, .in_signed(mode.in_signed),
      .weights(mode.max_mode ? 36'd0 : weights), .valid, .taps, .bias,
      .out_valid(sum_valid), .acc(sums), .base
  );

  logic [15:0][7:0] best, middle;
  logic [15:0] peak;
  row_max u_max (
      .clk, .in_signed(mode.in_signed), .row_valid(row_valid && mode.max_mode), .row,
      .above, .below,
      .best, .center(middle), .peak
  );

  logic half_q;
  logic [SHIFT_W-1:0] shift_q;
  logic [ADDR_W-1:0] addr_q;
  delay #(.WIDTH(1 + SHIFT_W + ADDR_W), .LATENCY(engine_pkg::DW_LAT)) u_wait (
      .clk, .rst, .d({half, shift, addr}), .q({half_q, shift_q, addr_q})
  );

  logic [LANES-1:0][LANE_W-1:0] results;
  for (genvar x = 0; x < LANES; x++) begin : g_lane
    assign results[x] = mode.max_mode
                        ? {{(LANE_W - 8) {mode.in_signed && best[x][7]}}, best[x]} : sums[x];
  end
  lane_write u_write (
      .clk, .rst, .narrow(mode.narrow), .out_type(mode.out_type),
      .valid(sum_valid && !to_peak), .half(half_q), .acc(results), .base, .shift(shift_q),
      .addr(addr_q),
      .wb_valid, .wb_addr, .wb_data
  );

  always_ff @(posedge clk) begin
    if (rst) lanes_valid <= 1'b0;
    else lanes_valid <= sum_valid && to_peak;
    peak_mask <= peak;
    for (int unsigned x = 0; x < LANES; x++) begin
      center[x] <= {mode.in_signed && middle[x][7], middle[x]};
    end
  end

  // Cycles until the last entry has left, whatever becomes of it
  logic [3:0] left_q;
  always_ff @(posedge clk) begin
    if (rst) left_q <= '0;
    else if (ins_valid) left_q <= 4'(engine_pkg::LANE_WB_LAT);
    else if (left_q != '0) left_q <= left_q - 4'd1;
  end
  assign idle = left_q == '0;
endmodule

`default_nettype wire
