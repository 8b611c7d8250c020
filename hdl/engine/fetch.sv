// SPDX-License-Identifier: Apache-2.0
// Reads a window of three words and gives each of the 16 lanes the three taps of one kernel row.
//
// docs/engine.md, "Geometry": lane x, tap j picks pixel 16 + 8 pre + x + (j-1) dil of the window
// (stride 1), 16 + 8 pre + floor((x + (j-1) dil) / 2) (up), 16 + 2x + (j-1) (stride 2),
// 16 + 4 (x & 7) + (j-1) (stride 4). Lanes that are not ok and columns outside of the map (at_left,
// at_right) read the fill. With `linear` tap 1 is the word itself: its bytes are also on `word`,
// which STORE uses.
//
// Latency FETCH_LAT = 8, one a cycle: address and memory 5, then upsampling and strides become 30
// plain pixels and 48 strided ones, then two four-way choices, then the last three-way choice.
// Outputs hold while there are no reads. Resources: those of act_mem, about 1.8k LUT more.
`default_nettype none

module fetch #(
    parameter int unsigned WORDS = engine_pkg::ACT_WORDS  // of the activation memory
) (
    input  wire logic                      clk,
    input  wire logic                      rst,
    // read
    input  wire engine_pkg::fetch_t        req,
    output logic                           out_valid,
    output logic      [2:0][15:0][8:0]     taps,
    output logic      [127:0]              word,  // slot 1 of a linear read
    // write
    input  wire logic                      wr_en,
    input  wire logic [ 15:0]              wr_addr,
    input  wire logic [127:0]              wr_data
);
  localparam int unsigned FETCH_LAT = engine_pkg::FETCH_LAT;

  // What the later stages need of a request
  typedef struct packed {
    logic             pre;
    logic [1:0]       mode;
    logic [15:0][2:0] dil;
    logic [15:0]      lane_ok;
    logic             at_left;
    logic             at_right;
    logic             narrow;
    logic             linear;
    logic             in_signed;
    logic             fill_min;
  } pick_t;

  localparam int unsigned PIXELS = 30;  // plain pixels: -7..22 from the word's first
  localparam logic [1:0] SEL_NEAR = 2'd0;  // distance 0..3
  localparam logic [1:0] SEL_FAR = 2'd1;  // distance 4..7
  localparam logic [1:0] SEL_STRIDED = 2'd2;
  localparam logic [1:0] SEL_FILL = 2'd3;

  logic [383:0] window;
  logic [FETCH_LAT:1] valid_q;
  pick_t pick_d, pick1_q, pick2_q, pick3_q, pick4_q, pick5_q, pick6_q;

  act_mem #(
      .WORDS(WORDS)
  ) u_mem (
      .clk(clk),
      .rd_en(req.valid),
      .rd_center(req.center),
      .window(window),
      .wr_en(wr_en),
      .wr_addr(wr_addr),
      .wr_data(wr_data)
  );

  always_comb begin
    pick_d.pre = req.pre && !req.linear;
    pick_d.mode = req.linear ? engine_pkg::MODE_STRIDE1 : req.mode;
    pick_d.dil = req.dil;
    pick_d.lane_ok = req.lane_ok;
    pick_d.at_left = req.at_left;
    pick_d.at_right = req.at_right;
    pick_d.narrow = req.narrow;
    pick_d.linear = req.linear;
    pick_d.in_signed = req.in_signed;
    pick_d.fill_min = req.fill_min;
  end

  always_ff @(posedge clk) begin
    if (rst) valid_q <= '0;
    else valid_q <= {valid_q[FETCH_LAT-1:1], req.valid};
  end

  always_ff @(posedge clk) begin
    pick1_q <= pick_d;
    pick2_q <= pick1_q;
    pick3_q <= pick2_q;
    pick4_q <= pick3_q;
    pick5_q <= pick4_q;
    pick6_q <= pick5_q;
  end

  // 6: the plain pixels, and the strided taps
  logic [7:0] plain_q[PIXELS];
  logic [7:0] strided_q[3][16];

  for (genvar e = 0; e < PIXELS; e++) begin : g_plain
    localparam int unsigned ONE = 16 + e - 7;  // pixel -7 + e
    localparam int unsigned HALF = 16 + (e + 1) / 2 - 4;  // pixel floor((-7 + e) / 2)
    always_ff @(posedge clk) begin
      if (valid_q[5]) begin
        case ({pick5_q.mode == engine_pkg::MODE_UP, pick5_q.pre})
          2'b00: plain_q[e] <= window[8*ONE+:8];
          2'b01: plain_q[e] <= window[8*(ONE+8)+:8];
          2'b10: plain_q[e] <= window[8*HALF+:8];
          default: plain_q[e] <= window[8*(HALF+8)+:8];
        endcase
      end
    end
  end

  for (genvar j = 0; j < 3; j++) begin : g_strided
    for (genvar x = 0; x < 16; x++) begin : g_lane
      localparam int unsigned TWO = 16 + 2 * x + j - 1;
      localparam int unsigned FOUR = 16 + 4 * (x % 8) + j - 1;
      always_ff @(posedge clk) begin
        if (valid_q[5] && pick5_q.mode[1]) begin
          strided_q[j][x] <= pick5_q.mode[0] ? window[8*FOUR+:8] : window[8*TWO+:8];
        end
      end
    end
  end

  // 7 and 8: the taps of each lane
  logic in_signed7_q, fill_min7_q;

  always_ff @(posedge clk) begin
    if (valid_q[6]) begin
      in_signed7_q <= pick6_q.in_signed;
      fill_min7_q  <= pick6_q.fill_min && pick6_q.in_signed;
    end
  end

  for (genvar x = 0; x < 16; x++) begin : g_lane
    logic [2:0] dil;
    logic strided, ok, left_ok, right_ok;
    logic [7:0] near0_q, far0_q, strided0_q, near2_q, far2_q, strided2_q, middle_q;
    logic [1:0] sel0_q, sel2_q;
    logic ok_q;
    logic [7:0] tap0_d, tap1_d, tap2_d;
    logic [7:0] tap0_q, tap1_q, tap2_q;
    logic sign0_q, sign1_q, sign2_q;

    assign dil = pick6_q.dil[x];
    assign strided = pick6_q.mode[1];
    assign ok = pick6_q.linear || pick6_q.lane_ok[x];

    // Column dil (or 1) to the left of lane x, or to the right, is inside the row
    always_comb begin
      logic [3:0] reach;
      logic out_left, out_right;
      reach = strided ? 4'd1 : 4'(dil);
      out_left = (pick6_q.narrow || x < 8) && 4'(x % 8) < reach;
      out_right = (pick6_q.narrow || x >= 8) && 4'(7 - x % 8) < reach;
      left_ok = ok && (pick6_q.linear || !(pick6_q.at_left && out_left));
      // A strided row of even width has its last right-hand tap inside
      right_ok = ok && (pick6_q.linear || strided || !(pick6_q.at_right && out_right));
    end

    always_ff @(posedge clk) begin
      if (valid_q[6]) begin
        case (dil[1:0])
          2'd0: begin
            near0_q <= plain_q[7+x];
            far0_q  <= plain_q[7+x-4];
            near2_q <= plain_q[7+x];
            far2_q  <= plain_q[7+x+4];
          end
          2'd1: begin
            near0_q <= plain_q[7+x-1];
            far0_q  <= plain_q[7+x-5];
            near2_q <= plain_q[7+x+1];
            far2_q  <= plain_q[7+x+5];
          end
          2'd2: begin
            near0_q <= plain_q[7+x-2];
            far0_q  <= plain_q[7+x-6];
            near2_q <= plain_q[7+x+2];
            far2_q  <= plain_q[7+x+6];
          end
          default: begin
            near0_q <= plain_q[7+x-3];
            far0_q  <= plain_q[7+x-7];
            near2_q <= plain_q[7+x+3];
            far2_q  <= plain_q[7+x+7];
          end
        endcase
        strided0_q <= strided_q[0][x];
        strided2_q <= strided_q[2][x];
        middle_q <= strided ? strided_q[1][x] : plain_q[7+x];
        sel0_q <= !left_ok ? SEL_FILL : strided ? SEL_STRIDED : dil[2] ? SEL_FAR : SEL_NEAR;
        sel2_q <= !right_ok ? SEL_FILL : strided ? SEL_STRIDED : dil[2] ? SEL_FAR : SEL_NEAR;
        ok_q <= ok;
      end
    end

    always_comb begin
      case (sel0_q)
        SEL_NEAR: tap0_d = near0_q;
        SEL_FAR: tap0_d = far0_q;
        SEL_STRIDED: tap0_d = strided0_q;
        default: tap0_d = {fill_min7_q, 7'd0};
      endcase
      case (sel2_q)
        SEL_NEAR: tap2_d = near2_q;
        SEL_FAR: tap2_d = far2_q;
        SEL_STRIDED: tap2_d = strided2_q;
        default: tap2_d = {fill_min7_q, 7'd0};
      endcase
      tap1_d = ok_q ? middle_q : {fill_min7_q, 7'd0};
    end

    always_ff @(posedge clk) begin
      if (valid_q[7]) begin
        tap0_q  <= tap0_d;
        tap1_q  <= tap1_d;
        tap2_q  <= tap2_d;
        sign0_q <= in_signed7_q && tap0_d[7];
        sign1_q <= in_signed7_q && tap1_d[7];
        sign2_q <= in_signed7_q && tap2_d[7];
      end
    end

    assign taps[0][x] = {sign0_q, tap0_q};
    assign taps[1][x] = {sign1_q, tap1_q};
    assign taps[2][x] = {sign2_q, tap2_q};
    assign word[8*x+:8] = tap1_q;
  end

  assign out_valid = valid_q[FETCH_LAT];

  // No tap reaches more than 7 pixels to the left; the last stage looks at neither mode bit 0 nor pre
  logic unused;
  assign unused = &{1'b0, window[71:0], pick6_q.pre, pick6_q.mode[0]};
endmodule

`default_nettype wire
