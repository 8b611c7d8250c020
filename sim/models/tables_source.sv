// SPDX-License-Identifier: Apache-2.0
// What the benches of tables have in common: images out of a file, a file for answers, chances.
//
// Plusargs: +images= (binary, `count` rows of IMAGE_W bits, high bits first, filled up to whole bytes at
// the front), +output= (opened for writing), +count=, +stall= (0..255: chance in 256 that something
// waits in a clock), +seed=.
// `image` is that of `index`. stall_a and stall_b come from bits 40 places apart of one shift register.
// Simulation only.
`default_nettype none

module tables_source #(
    parameter int unsigned MOST = 16384,  // images
    parameter int unsigned IMAGE_W = 8
) (
    input  wire logic clk,
    input  wire logic rst,
    input  wire logic [31:0] index,
    output logic [IMAGE_W-1:0] image,
    output logic stall_a,
    output logic stall_b,
    output int count,
    output int output_fd
);
  localparam int unsigned ROW_W = (IMAGE_W + 7) / 8 * 8;
  localparam int unsigned INDEX_W = $clog2(MOST);

  logic [ROW_W-1:0] images[MOST];
  string images_file, output_file;
  int stall, seed, images_fd, got;
  initial begin
    if (!$value$plusargs("images=%s", images_file) || !$value$plusargs("output=%s", output_file)
        || !$value$plusargs("count=%d", count) || !$value$plusargs("stall=%d", stall)
        || !$value$plusargs("seed=%d", seed))
      $fatal(1, "%m: a plusarg is missing");
    images_fd = $fopen(images_file, "rb");
    got = $fread(images, images_fd);
    if (got != count * (ROW_W / 8)) $fatal(1, "%m: %0d bytes of images", got);
    $fclose(images_fd);
    output_fd = $fopen(output_file, "w");
  end

  logic [63:0] random_q;

  assign image = images[INDEX_W'(index)][IMAGE_W-1:0];
  assign stall_a = 32'(random_q[7:0]) < stall;
  assign stall_b = 32'(random_q[47:40]) < stall;

  always_ff @(posedge clk) begin
    if (rst) random_q <= 64'h9e3779b97f4a7c15 ^ {32'd0, seed};
    else random_q <= {random_q[62:0], 1'b0} ^ (random_q[63] ? 64'h1b : 64'd0)
                     ^ {random_q[6:0], 57'd0};
  end
endmodule

`default_nettype wire
