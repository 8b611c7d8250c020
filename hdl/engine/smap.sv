// SPDX-License-Identifier: Apache-2.0
// The dilation map: 1024 words of 16 dilations (u3). A look-up gives the dilations of the 16 lanes of
// a row of 16 (narrow: 8) pixels that begins at pixel 8 * half of the word. When the input is
// upsampled, lane x takes pixel 8 * half + x / 2.
// Latency seq_pkg::SMAP_LAT = 3, one look-up a cycle; 1.5 block RAMs.
`default_nettype none

module smap (
    input  wire logic              clk,
    // write
    input  wire logic              wr_en,
    input  wire logic [9:0]        wr_idx,
    input  wire logic [47:0]       wr_data,
    // look-up
    input  wire logic              up,  // constant during an operation
    input  wire logic              rd_en,
    input  wire logic [9:0]        rd_idx,
    input  wire logic              rd_half,
    // out
    output logic      [15:0][2:0]  dil
);
  logic [15:0][2:0] word;
  ram_sdp #(.WIDTH(48), .DEPTH(1024)) u_ram (
      .clk,
      .wr_en, .wr_addr(wr_idx), .wr_data,
      .rd_en, .rd_addr(rd_idx), .rd_data(word)
  );

  logic half_q2;
  delay #(.WIDTH(1), .LATENCY(2)) u_half (.clk, .rst(1'b0), .d(rd_half), .q(half_q2));

  logic [15:0][2:0] dil_q;
  always_ff @(posedge clk) begin
    for (int x = 0; x < 16; x++) begin
      if (up) dil_q[x] <= half_q2 ? word[8+x/2] : word[x/2];
      else dil_q[x] <= half_q2 ? word[8+x%8] : word[x];
    end
  end
  assign dil = dil_q;
endmodule

`default_nettype wire
