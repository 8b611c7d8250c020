// SPDX-License-Identifier: Apache-2.0
// CONV: turns the request for one tap row of one output word into a read of the fetch unit: address of
// the window, and which lanes lie in the map (docs/engine.md, "Geometry").
//
// L / 8 = base8 + delta' * (in_w / 8), delta' the rows to move in the stored plane; the word is
// plane + L / 16. The second half of a word that takes two passes (stride 4, or stride 2 with rows
// of 8 pixels) adds the constant that brings its pixels to where the fetch unit looks for them.
// Latency seq_pkg::WIN_LAT, one request a cycle. The geometry is constant during an operation.
`default_nettype none

module window (
    input  wire logic               clk,
    input  wire logic               rst,
    // in
    input  wire seq_pkg::geom_t     geom,
    input  wire logic               pair,
    input  wire seq_pkg::request_t  request,
    // out
    output      engine_pkg::fetch_t fetch
);
  logic high;
  logic low;
  assign high = request.half == isa_pkg::HALF_HIGH;
  assign low = request.half == isa_pkg::HALF_LOW;

  logic stride1;
  logic two_rows;  // stride 2, rows of 8 pixels: the high half is the next row
  logic [13:0] row_step;  // rows of the input from Y to Y + 1
  assign stride1 = geom.stride_log2 == 2'd0;
  assign two_rows = geom.narrow && !stride1;
  assign row_step = 14'd1 << geom.stride_log2;

  // Constants of the operation, registered for short paths
  logic [13:0] limit_low_q;  // rows beyond the map, for lanes 0-7
  logic [13:0] limit_high_q;  // and for lanes 8-15, which see a later row when narrow
  logic [13:0] floor_high_q;
  always_ff @(posedge clk) begin
    limit_low_q  <= {4'd0, geom.in_h};
    limit_high_q <= {4'd0, geom.in_h} - (geom.narrow ? row_step : 14'd0);
    floor_high_q <= geom.narrow ? -row_step : 14'd0;
  end

  // 1: the row as seen and the rows to move
  logic [4:0] halved;  // its bits 4:1 are floor((Y + delta) / 2) - floor(Y / 2)
  logic [13:0] row_q;
  logic [3:0] move_q;
  assign halved = {request.delta[3], request.delta} + {4'd0, request.vy[0]};
  always_ff @(posedge clk) begin
    row_q  <= {1'b0, request.vy} + {{10{request.delta[3]}}, request.delta};
    move_q <= geom.up ? halved[4:1] : request.delta;
  end

  // 2: is the row in the map; the offset in the plane
  logic ok_low_q;
  logic ok_high_q;
  logic [16:0] offset_q;
  always_ff @(posedge clk) begin
    ok_low_q  <= row_q < limit_low_q;
    ok_high_q <= ($signed(row_q) >= $signed(floor_high_q))
                 && ($signed(row_q) < $signed(limit_high_q));
    offset_q  <= 17'($signed(move_q) * $signed({1'b0, geom.in_w8}));
  end

  // what only waits for the address
  logic valid_q2;
  logic linear_q2;
  logic [15:0] plane_q2;
  logic [16:0] base8_q2;
  logic [15:0] lanes_q2;
  logic at_left_q2;
  logic at_right_q2;
  logic [1:0] skip_q2;  // words to add for the high half
  logic [15:0] lanes_in;
  logic [1:0] skip_in;
  assign lanes_in = {{8{!low}}, {8{!high}}};
  assign skip_in = !high ? 2'd0 : two_rows ? 2'd1 : 2'd2;
  delay #(.WIDTH(1), .LATENCY(2), .RESET(1'b1)) u_valid (
      .clk, .rst, .d(request.valid), .q(valid_q2)
  );
  delay #(.WIDTH(54), .LATENCY(2)) u_wait (
      .clk, .rst,
      .d({request.linear, request.plane, request.base8, lanes_in,
          request.at_left && !(high && !geom.narrow), request.at_right, skip_in}),
      .q({linear_q2, plane_q2, base8_q2, lanes_q2, at_left_q2, at_right_q2, skip_q2})
  );

  // 3: the pixel address; 4: the word address
  logic [16:0] pixel8_q;
  logic [15:0] plane_q3;
  logic valid_q3;
  logic linear_q3;
  logic [15:0] lanes_q3;
  logic at_left_q3;
  logic at_right_q3;
  always_ff @(posedge clk) begin
    valid_q3 <= valid_q2 && !rst;
    linear_q3 <= linear_q2;
    pixel8_q <= base8_q2 + (linear_q2 ? 17'd0 : offset_q);
    plane_q3 <= plane_q2 + 16'(skip_q2);
    lanes_q3 <= lanes_q2 & {{8{ok_high_q}}, {8{ok_low_q}}};
    at_left_q3 <= at_left_q2;
    at_right_q3 <= at_right_q2;
  end

  logic [1:0] mode_q;
  engine_pkg::fetch_t fetch_q;
  always_ff @(posedge clk) begin
    case (geom.stride_log2)
      2'd0: mode_q <= geom.up ? engine_pkg::MODE_UP : engine_pkg::MODE_STRIDE1;
      2'd1: mode_q <= engine_pkg::MODE_STRIDE2;
      default: mode_q <= engine_pkg::MODE_STRIDE4;
    endcase
  end
  always_ff @(posedge clk) begin
    fetch_q.valid <= valid_q3 && !rst;
    fetch_q.center <= plane_q3 + pixel8_q[16:1];
    fetch_q.pre <= pixel8_q[0];
    fetch_q.mode <= mode_q;
    fetch_q.lane_ok <= lanes_q3;
    fetch_q.at_left <= at_left_q3;
    fetch_q.at_right <= at_right_q3;
    fetch_q.narrow <= geom.narrow;
    fetch_q.linear <= linear_q3;
    fetch_q.pair <= pair;
    fetch_q.in_signed <= geom.in_signed;
  end
  assign fetch = fetch_q;

  logic unused;
  assign unused = &{1'b0, geom, halved[0]};
endmodule

`default_nettype wire
