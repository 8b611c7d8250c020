// SPDX-License-Identifier: Apache-2.0
// Turns a request of the core (region and offset) into a bus address.
//
// Latency 2: q_req follows req two cycles later, with q_addr and the sizes that came with it. A
// request that stop meets on its way is dropped.
`default_nettype none

module region_addr (
    input  wire logic        clk,
    input  wire logic        rst,
    input  wire logic        stop,
    // bases of the regions, constant in a frame
    input  wire logic [31:0] image_base,
    input  wire logic [31:0] output_base,
    input  wire logic [31:0] scratch_base,
    // from the core
    input  wire logic        req,
    input  wire logic [1:0]  region,
    input  wire logic [31:0] offset,
    input  wire logic [15:0] words,
    input  wire logic [15:0] runs,
    input  wire logic [23:0] stride,
    // to the DMA
    output logic             q_req,
    output logic [31:0]      q_addr,
    output logic [15:0]      q_words,
    output logic [15:0]      q_runs,
    output logic [23:0]      q_stride
);
  logic req_q;
  logic [31:0] base_q;
  logic [31:0] offset_q;

  always_ff @(posedge clk) begin
    if (rst || stop) begin
      req_q <= 1'b0;
      q_req <= 1'b0;
    end else begin
      req_q <= req;
      q_req <= req_q;
    end
  end

  always_ff @(posedge clk) begin
    if (req) begin
      offset_q <= offset;
      q_words <= words;
      q_runs <= runs;
      q_stride <= stride;
      case (region)
        isa_pkg::REGION_IMAGE: base_q <= image_base;
        isa_pkg::REGION_OUTPUT: base_q <= output_base;
        default: base_q <= scratch_base;
      endcase
    end
    q_addr <= base_q + offset_q;
  end
endmodule

`default_nettype wire
