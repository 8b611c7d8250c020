// SPDX-License-Identifier: Apache-2.0
// Bias, shift and destination of the channels of two tiles of CONV: one is filled while the other
// drains. A header word holds the records of two channels. Reading is combinational (distributed
// RAM, 32 x 92 bits), so that the record meets its channel's sums in the cycle they come out.
// Latency 0, a channel a cycle; a record is there from the cycle after `we` on.
`default_nettype none

module conv_header (
    input  wire logic           clk,
    // fill
    input  wire logic           we,
    input  wire logic           we_bank,
    input  wire logic [3:0]     we_idx,
    input  wire logic [127:0]   we_data,
    // drain
    input  wire logic           d_valid,
    input  wire logic [4:0]     d_oc,
    input  wire seq_pkg::side_t d_side,
    // out
    output logic [24:0]         bias,
    output logic [4:0]          shift,
    output logic [15:0]         addr,
    output logic                drained  // the tile's last channel goes out
);
  localparam int unsigned REC_W = 46;

  (* ram_style = "distributed" *) logic [2*REC_W-1:0] records[32];
  logic [2*REC_W-1:0] pair;
  logic [REC_W-1:0] record;
  logic [2*REC_W-1:0] fill;

  assign fill = {we_data[111:96], we_data[93:64], we_data[47:32], we_data[29:0]};
  always_ff @(posedge clk) begin
    if (we) records[{we_bank, we_idx}] <= fill;
  end
  assign pair = records[{d_side.bank, d_oc[4:1]}];
  assign record = d_oc[0] ? pair[2*REC_W-1:REC_W] : pair[REC_W-1:0];
  assign bias = record[24:0];
  assign shift = record[29:25];
  assign addr = record[45:30] + {3'd0, d_side.g};
  assign drained = d_valid && d_side.last_group && (d_oc == d_side.n_oc - 5'd1);

  logic unused;
  assign unused = &{1'b0, d_side, we_data[127:112], we_data[95:94], we_data[63:48], we_data[31:30]};
endmodule

`default_nettype wire
