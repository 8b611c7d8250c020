// SPDX-License-Identifier: Apache-2.0
// Gives each of the 16 lanes the three taps of one kernel row out of a window of three words.
//
// docs/engine.md, "Geometry", with a dilation of 1: lane x, tap j picks pixel 16 + 8 pre + x + (j-1)
// of the window (stride 1), 16 + 8 pre + floor((x + (j-1)) / 2) (up), 16 + 2x + (j-1) (stride 2),
// 16 + 4 (x & 7) + (j-1) (stride 4). Lanes that are not ok and columns outside of the map (at_left,
// at_right) read 0. With `linear` tap 1 is the word itself, and with `pair` tap 2 the next one; the
// other taps are undefined.
//
// Latency FETCH_LAT = 8, one a cycle: memory 6, then upsampling and strides become 18 plain pixels
// and 48 strided ones, then the choice of each tap. Outputs hold while there are no reads.
// Resources: 1k LUT, 1k FF.
`default_nettype none

module fetch (
    input  wire logic                      clk,
    input  wire logic                      rst,
    input  wire engine_pkg::fetch_t        req,
    // memory
    output logic                           rd_en,
    output logic      [ 15:0]              rd_center,
    output logic      [  2:0]              rd_mask,
    input  wire logic [383:0]              window,  // ACT_LAT after rd_en
    // taps
    output logic                           out_valid,
    output logic      [2:0][15:0][8:0]     taps
);
  localparam int unsigned ACT_LAT = engine_pkg::ACT_LAT;
  localparam int unsigned FETCH_LAT = engine_pkg::FETCH_LAT;

  assign rd_en = req.valid;
  assign rd_center = req.center;
  assign rd_mask = !req.linear ? 3'b111 : req.pair ? 3'b110 : 3'b010;

  // What the later stages need of a request
  typedef struct packed {
    logic        pre;
    logic [1:0]  mode;
    logic [15:0] lane_ok;
    logic        at_left;
    logic        at_right;
    logic        narrow;
    logic        pair;
    logic        in_signed;
  } pick_t;
  localparam int unsigned PICK_W = 1 + 2 + 16 + 1 + 1 + 1 + 1 + 1;

  localparam int unsigned PIXELS = 18;  // plain pixels: -1..16 from the word's first

  logic [FETCH_LAT:1] valid_q;
  pick_t pick_d;
  pick_t pick;  // in step with the window

  // The plain word is a stride of 1 inside of a map
  always_comb begin
    pick_d.pre = req.pre && !req.linear;
    pick_d.mode = req.linear ? engine_pkg::MODE_STRIDE1 : req.mode;
    pick_d.lane_ok = req.linear ? '1 : req.lane_ok;
    pick_d.at_left = req.at_left && !req.linear;
    pick_d.at_right = req.at_right && !req.linear;
    pick_d.narrow = req.narrow;
    pick_d.pair = req.pair && req.linear;
    pick_d.in_signed = req.in_signed;
  end

  always_ff @(posedge clk) begin
    if (rst) valid_q <= '0;
    else valid_q <= {valid_q[FETCH_LAT-1:1], req.valid};
  end

  delay #(
      .WIDTH(PICK_W),
      .LATENCY(ACT_LAT)
  ) u_pick (
      .clk(clk),
      .rst(rst),
      .d(pick_d),
      .q(pick)
  );

  // The plain pixels, and the strided taps
  logic [7:0] plain_q[PIXELS];
  logic [7:0] strided_q[3][16];
  logic pick_en;
  assign pick_en = valid_q[ACT_LAT];

  for (genvar e = 0; e < PIXELS; e++) begin : g_plain
    localparam int unsigned ONE = 16 + e - 1;  // pixel -1 + e
    localparam int unsigned HALF = 16 + (e + 1) / 2 - 1;  // pixel floor((-1 + e) / 2)
    always_ff @(posedge clk) begin
      if (pick_en) begin
        case ({pick.mode == engine_pkg::MODE_UP, pick.pre})
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
      localparam int unsigned NEXT = 32 + x;
      always_ff @(posedge clk) begin
        if (pick_en) begin
          if (j == 2 && pick.pair) strided_q[j][x] <= window[8*NEXT+:8];
          else strided_q[j][x] <= pick.mode[0] ? window[8*FOUR+:8] : window[8*TWO+:8];
        end
      end
    end
  end

  // The taps of each lane
  logic strided_sel_q, next_sel_q, in_signed_q;
  logic choose_en;
  assign choose_en = valid_q[ACT_LAT+1];

  always_ff @(posedge clk) begin
    if (pick_en) begin
      strided_sel_q <= pick.mode[1];
      next_sel_q <= pick.mode[1] || pick.pair;
      in_signed_q <= pick.in_signed;
    end
  end

  for (genvar x = 0; x < 16; x++) begin : g_lane
    logic [2:0] ok_q;
    logic [7:0] tap_d[3];

    // The first column of a row has none to its left, the last plain one none to its right (a
    // strided row of even width has its last right-hand tap inside)
    always_ff @(posedge clk) begin
      if (pick_en) begin
        ok_q[0] <= pick.lane_ok[x]
                   && !(pick.at_left && (x == 0 || (x == 8 && pick.narrow)));
        ok_q[1] <= pick.lane_ok[x];
        ok_q[2] <= pick.lane_ok[x]
                   && !(pick.at_right && !pick.mode[1] && (x == 15 || (x == 7 && pick.narrow)));
      end
    end

    always_comb begin
      for (int unsigned j = 0; j < 3; j++) begin
        tap_d[j] = (j == 2 ? next_sel_q : strided_sel_q) ? strided_q[j][x] : plain_q[x+j];
        if (!ok_q[j]) tap_d[j] = '0;
      end
    end

    always_ff @(posedge clk) begin
      if (choose_en) begin
        for (int unsigned j = 0; j < 3; j++) begin
          taps[j][x] <= {in_signed_q && tap_d[j][7], tap_d[j]};
        end
      end
    end
  end

  assign out_valid = valid_q[FETCH_LAT];

  // No tap reaches more than one pixel to the left
  logic unused;
  assign unused = &{1'b0, window[119:0]};
endmodule

`default_nettype wire
