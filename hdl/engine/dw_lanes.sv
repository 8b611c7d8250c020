// SPDX-License-Identifier: Apache-2.0
// Depthwise lanes: 16 pixels, three taps of one kernel row a cycle; sums, maxima and peaks.
//
// The rows of one output word run from `first` to `last` (both may be in one cycle; the next word's
// may follow at once, gaps are free). acc[x] = sum of weight[j] * tap[j][x] over the rows; a lane
// that takes no part in a row has zeros as its taps. With max_mode: acc[x] = maximum of all taps;
// `center` is the middle tap of the row marked `mid`, and `peak_mask` says where it equals the
// maximum. max_mode stays the same from first to last.
//
// Multipliers are LUTs: the weight is two digits of -2..2, so a product is two multiplexed copies
// of the pixel; the ones that complete their negation enter as carries.
//
// Latency DW_LAT = 6 from `last` to out_valid; the outputs are good in that one cycle.
// Resources: about 3.1k LUT, 4.6k FF, no DSP.
`default_nettype none

module dw_lanes (
    input  wire logic                                                 clk,
    input  wire logic                                                 rst,
    // one kernel row
    input  wire logic                                                 valid,
    input  wire logic                                                 first,
    input  wire logic                                                 mid,
    input  wire logic                                                 last,
    input  wire logic                                                 max_mode,
    input  wire logic [2:0][engine_pkg::LANES-1:0][engine_pkg::PIX_W-1:0] taps,
    input  wire logic [                                         11:0] weights,  // tap 0 lowest
    // the group
    output logic                                                      out_valid,
    output logic      [engine_pkg::LANES-1:0][engine_pkg::ACC_W-1:0]  acc,
    output logic      [engine_pkg::LANES-1:0][engine_pkg::PIX_W-1:0]  center,
    output logic      [                       engine_pkg::LANES-1:0]  peak_mask
);
  localparam int unsigned LANES = engine_pkg::LANES;
  localparam int unsigned PIX_W = engine_pkg::PIX_W;
  localparam int unsigned ACC_W = engine_pkg::ACC_W;

  localparam int unsigned PART_W = PIX_W + 1;  // a digit times a pixel
  localparam int unsigned PROD_W = 13;  // 4-bit weight times pixel
  localparam int unsigned ROW_W = 15;  // three products
  localparam int unsigned SUM_W = 16;  // nine products: 9 * 8 * 255 < 2**15

  // 1: taps and digits; 2: parts; 3: products; 4, 5: sum of the row; 6: accumulated
  logic [5:1] valid_q, first_q, mid_q, last_q;
  logic [6:1] max_q;
  // The digits of each weight: take the pixel, twice the pixel, or nothing; then negate
  logic [2:0] low_one_d, low_two_d, low_neg_d, high_one_d, high_two_d, high_neg_d;
  logic [2:0] low_one_q, low_two_q, low_neg_q, high_one_q, high_two_q, high_neg_q;
  logic [2:0] low_neg2_q, high_neg2_q, low_neg3_q;
  logic low_neg4_q;

  // Digit -2..2 of the bit pair {b1, b0} with the bit below it
  always_comb begin
    for (int unsigned j = 0; j < 3; j++) begin
      logic [3:0] w;
      w = weights[4*j+:4];
      low_one_d[j] = w[0];
      low_two_d[j] = w[1] && !w[0];
      low_neg_d[j] = w[1];
      high_one_d[j] = w[2] ^ w[1];
      high_two_d[j] = (w[3] && !w[2] && !w[1]) || (!w[3] && w[2] && w[1]);
      high_neg_d[j] = w[3] && !(w[2] && w[1]);
    end
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      valid_q   <= '0;
      out_valid <= 1'b0;
    end else begin
      valid_q   <= {valid_q[4:1], valid};
      out_valid <= valid_q[5] && last_q[5];
    end
    first_q <= {first_q[4:1], first};
    mid_q   <= {mid_q[4:1], mid};
    last_q  <= {last_q[4:1], last};
    max_q   <= {max_q[5:1], max_mode};
  end

  always_ff @(posedge clk) begin
    if (valid) begin
      low_one_q  <= low_one_d;
      low_two_q  <= low_two_d;
      low_neg_q  <= low_neg_d;
      high_one_q <= high_one_d;
      high_two_q <= high_two_d;
      high_neg_q <= high_neg_d;
    end
    low_neg2_q  <= low_neg_q;
    high_neg2_q <= high_neg_q;
    low_neg3_q <= low_neg2_q;
    low_neg4_q <= low_neg3_q[2];
  end

  for (genvar x = 0; x < LANES; x++) begin : g_lane
    logic signed [PIX_W-1:0] tap_q[3];
    logic [PART_W-1:0] low_part_q[3], high_part_q[3];
    logic signed [PROD_W-1:0] prod_q[3];
    logic signed [ROW_W-1:0] two_q, row_q;
    logic signed [PROD_W-1:0] third_q;
    logic signed [SUM_W-1:0] sum_d, sum_q;

    // maxima, in step with the sums
    logic signed [PIX_W-1:0] max01_q, max2_q, max3_q, max4_q, max5_q;
    logic signed [PIX_W-1:0] mid2_q, mid3_q, mid4_q, mid5_q, best_d, best_q;
    logic signed [PIX_W-1:0] held_q;

    always_ff @(posedge clk) begin
      if (valid) begin
        for (int unsigned j = 0; j < 3; j++) tap_q[j] <= taps[j][x];
      end
    end

    always_ff @(posedge clk) begin
      if (valid_q[1] && !max_q[1]) begin
        for (int unsigned j = 0; j < 3; j++) begin
          low_part_q[j] <= (({PART_W{low_one_q[j]}} & PART_W'(tap_q[j])) |
                            ({PART_W{low_two_q[j]}} & {tap_q[j], 1'b0})) ^
                           {PART_W{low_neg_q[j]}};
          high_part_q[j] <= (({PART_W{high_one_q[j]}} & PART_W'(tap_q[j])) |
                             ({PART_W{high_two_q[j]}} & {tap_q[j], 1'b0})) ^
                            {PART_W{high_neg_q[j]}};
        end
      end
      if (valid_q[2] && !max_q[2]) begin
        // low + 4 * (high + carry); the carry of low waits
        for (int unsigned j = 0; j < 3; j++) begin
          prod_q[j][1:0] <= low_part_q[j][1:0];
          prod_q[j][PROD_W-1:2] <= (PROD_W-2)'($signed(low_part_q[j][PART_W-1:2])) +
              (PROD_W-2)'($signed(high_part_q[j])) + (PROD_W-2)'(high_neg2_q[j]);
        end
      end
      if (valid_q[3] && !max_q[3]) begin
        two_q   <= ROW_W'(prod_q[0]) + ROW_W'(prod_q[1]) + ROW_W'(low_neg3_q[0]);
        third_q <= prod_q[2] + PROD_W'(low_neg3_q[1]);
      end
      if (valid_q[4] && !max_q[4]) begin
        row_q <= two_q + ROW_W'(third_q) + ROW_W'(low_neg4_q);
      end
    end

    assign sum_d = (first_q[5] ? '0 : sum_q) + SUM_W'(row_q);
    assign best_d = first_q[5] || max5_q > best_q ? max5_q : best_q;

    always_ff @(posedge clk) begin
      if (valid_q[1] && max_q[1]) begin
        max01_q <= tap_q[0] > tap_q[1] ? tap_q[0] : tap_q[1];
        max2_q  <= tap_q[2];
        mid2_q  <= tap_q[1];
      end
      if (valid_q[2] && max_q[2]) begin
        max3_q <= max01_q > max2_q ? max01_q : max2_q;
        mid3_q <= mid2_q;
      end
      if (valid_q[3] && max_q[3]) begin
        max4_q <= max3_q;
        mid4_q <= mid3_q;
      end
      if (valid_q[4] && max_q[4]) begin
        max5_q <= max4_q;
        mid5_q <= mid4_q;
      end
    end

    always_ff @(posedge clk) begin
      if (valid_q[5]) begin
        if (max_q[5]) best_q <= best_d;
        if (max_q[5] && mid_q[5]) held_q <= mid5_q;
        if (!max_q[5]) sum_q <= sum_d;
      end
    end

    assign acc[x] = max_q[6] ? ACC_W'(best_q) : ACC_W'(sum_q);
    assign center[x] = held_q;
    assign peak_mask[x] = held_q == best_q;
  end
endmodule

`default_nettype wire
