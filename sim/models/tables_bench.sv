// SPDX-License-Identifier: Apache-2.0
// All images of a file through `tables_core`, one a clock, or through `tables_stream_core`, one
// position a clock, for hwflow.sim.tables.
//
// Plusargs are those of tables_source: an image is its elements from the last to the first, each in as
// many bits as it has, elements of a position side by side; the output is one line an image: class,
// scores as one hexadecimal number; stalls are that the core does not move in a clock, and that no
// position is offered.
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
  localparam int unsigned SCORES_W = tables_pkg::CLASSES * tables_pkg::SCORE_W;
  localparam int unsigned LAG = tables_pkg::SCORE_LAG;

  int count, output_fd;
  logic stall_move;
  logic stall_offer;
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

  assign en = !stall_move;
  assign offer = (sent_q < count) && !stall_offer;
  assign scores_q[0] = out_scores;

  tables_source #(
      .MOST(MOST),
      .IMAGE_W(BITS)
  ) u_source (
      .clk(clk),
      .rst(rst),
      .index(sent_q),
      .image(image),
      .stall_a(stall_move),
      .stall_b(stall_offer),
      .count(count),
      .output_fd(output_fd)
  );

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
