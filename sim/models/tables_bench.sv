// SPDX-License-Identifier: Apache-2.0
// All images of a file through `tables_core`, one a clock, or through `tables_stream_core`, one
// position a clock, for hwflow.sim.tables.
//
// Plusargs: +images= (binary; an image is its elements from the last to the first, each in as many
// bits as it has, high bits first, filled up to whole bytes at the front; elements of a position side
// by side), +count=, +output= (one line an image: class, scores as one hexadecimal number), +stall=
// (0..255: chance in 256 that the core does not move in a clock, and the same again that no position
// is offered), +seed=.
// `finished` rises when the last line is written; `clocks` is how many it took from the first image.
`default_nettype none

module tables_bench #(
    parameter int unsigned MOST = 16384  // images
) (
    input  wire logic  clk,
    input  wire logic  rst,
    output logic       finished,
    output logic [31:0] clocks
);
  localparam int unsigned BITS = tables_pkg::PIXELS * tables_pkg::PIXEL_W;
  localparam int unsigned POSITION_W = tables_pkg::CHANNELS * tables_pkg::PIXEL_W;
  localparam int unsigned POSITIONS = tables_pkg::PIXELS / tables_pkg::CHANNELS;
  localparam int unsigned ROW_W = (BITS + 7) / 8 * 8;
  localparam int unsigned SCORES_W = tables_pkg::CLASSES * tables_pkg::SCORE_W;
  localparam int unsigned LAG = tables_pkg::SCORE_LAG;

  logic [ROW_W-1:0] images[MOST];
  string images_file, output_file;
  int count, stall, seed, images_fd, output_fd, got;
  initial begin
    if (!$value$plusargs("images=%s", images_file) || !$value$plusargs("output=%s", output_file)
        || !$value$plusargs("count=%d", count) || !$value$plusargs("stall=%d", stall)
        || !$value$plusargs("seed=%d", seed))
      $fatal(1, "tables_bench: a plusarg is missing");
    images_fd = $fopen(images_file, "rb");
    got = $fread(images, images_fd);
    if (got != count * (ROW_W / 8)) $fatal(1, "tables_bench: %0d bytes of images", got);
    $fclose(images_fd);
    output_fd = $fopen(output_file, "w");
  end

  logic [63:0] random_q;
  logic en;
  logic offer;
  logic [31:0] sent_q;
  logic [31:0] place_q;
  logic [BITS-1:0] image;
  logic [31:0] seen_q;
  logic out_valid;
  logic [tables_pkg::CLASS_W-1:0] out_class;
  logic [SCORES_W-1:0] out_scores;
  logic [LAG:0][SCORES_W-1:0] scores_q;  // as late as the class

  assign en = 32'(random_q[7:0]) >= stall;
  assign offer = (sent_q < count) && (32'(random_q[47:40]) >= stall);
  assign image = images[14'(sent_q)][BITS-1:0];
  assign scores_q[0] = out_scores;

  always_ff @(posedge clk) begin
    if (rst) random_q <= 64'h9e3779b97f4a7c15 ^ {32'd0, seed};
    else random_q <= {random_q[62:0], 1'b0} ^ (random_q[63] ? 64'h1b : 64'd0)
                     ^ {random_q[6:0], 57'd0};
  end

  for (genvar i = 0; i < LAG; i++) begin : g_lag
    always_ff @(posedge clk) begin
      if (en) scores_q[i+1] <= scores_q[i];
    end
  end

  if (tables_pkg::STREAMING != 0) begin : g_stream
    tables_stream_core u_core (
        .clk(clk),
        .rst(rst),
        .en(en),
        .in_valid(offer),
        .in_position(image[place_q*POSITION_W+:POSITION_W]),
        .out_valid(out_valid),
        .out_class(out_class),
        .out_scores(out_scores)
    );
  end else begin : g_whole
    tables_core u_core (
        .clk(clk),
        .rst(rst),
        .en(en),
        .in_valid(offer),
        .in_pixels(image),
        .out_valid(out_valid),
        .out_class(out_class),
        .out_scores(out_scores)
    );
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      sent_q <= 0;
      place_q <= 0;
      seen_q <= 0;
      clocks <= 0;
      finished <= 1'b0;
    end else if (!finished) begin
      clocks <= clocks + 1;
      if (en && offer) begin
        place_q <= (place_q == POSITIONS - 1) ? 0 : place_q + 1;
        if (place_q == POSITIONS - 1) sent_q <= sent_q + 1;
      end
      if (en && out_valid) begin
        $fwrite(output_fd, "%0d %h\n", out_class, scores_q[LAG]);
        seen_q <= seen_q + 1;
        if (seen_q == count - 1) begin
          finished <= 1'b1;
          $fclose(output_fd);
        end
      end
    end
  end
endmodule

`default_nettype wire
