// SPDX-License-Identifier: Apache-2.0
// Write channels of an AXI4-Lite slave: address and data wait for each other and stand as one request.
//
// One write at a time: `valid` with addr (of a word), data and strb holds until `done`, which answers
// it: OKAY with `okay`, else SLVERR.
//
// Latency: valid 1 cycle after address and data, bvalid 1 cycle after done. Interval: 3 cycles.
`default_nettype none

module axil_write (
    input  wire logic        clk,
    input  wire logic        rst,
    // AXI4-Lite
    input  wire logic [7:0]  s_axil_awaddr,
    input  wire logic        s_axil_awvalid,
    output logic             s_axil_awready,
    input  wire logic [31:0] s_axil_wdata,
    input  wire logic [3:0]  s_axil_wstrb,
    input  wire logic        s_axil_wvalid,
    output logic             s_axil_wready,
    output logic [1:0]       s_axil_bresp,
    output logic             s_axil_bvalid,
    input  wire logic        s_axil_bready,
    // the request
    output logic             valid,
    output logic [7:0]       addr,
    output logic [31:0]      data,
    output logic [3:0]       strb,
    input  wire logic        done,
    input  wire logic        okay
);
  localparam logic [1:0] OKAY = 2'b00;
  localparam logic [1:0] SLVERR = 2'b10;

  logic aw_full_q;
  logic w_full_q;
  logic [5:0] addr_q;
  logic [31:0] data_q;
  logic [3:0] strb_q;
  logic bvalid_q;
  logic [1:0] bresp_q;

  assign valid = aw_full_q && w_full_q && !bvalid_q;
  assign addr = {addr_q, 2'b00};
  assign data = data_q;
  assign strb = strb_q;
  assign s_axil_awready = !aw_full_q;
  assign s_axil_wready = !w_full_q;
  assign s_axil_bvalid = bvalid_q;
  assign s_axil_bresp = bresp_q;

  always_ff @(posedge clk) begin
    if (rst) begin
      aw_full_q <= 1'b0;
      w_full_q <= 1'b0;
      bvalid_q <= 1'b0;
    end else begin
      if (s_axil_awvalid && !aw_full_q) aw_full_q <= 1'b1;
      else if (done) aw_full_q <= 1'b0;
      if (s_axil_wvalid && !w_full_q) w_full_q <= 1'b1;
      else if (done) w_full_q <= 1'b0;
      if (done) bvalid_q <= 1'b1;
      else if (s_axil_bready) bvalid_q <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    if (!aw_full_q) addr_q <= s_axil_awaddr[7:2];
    if (!w_full_q) begin
      data_q <= s_axil_wdata;
      strb_q <= s_axil_wstrb;
    end
    if (done) bresp_q <= okay ? OKAY : SLVERR;
  end

  // Offsets are those of words
  logic unused;
  assign unused = &{1'b0, s_axil_awaddr[1:0]};
endmodule

`default_nettype wire
