// SPDX-License-Identifier: Apache-2.0
// LOAD and STORE: words in order between DDR and the activation memory.
//
// LOAD asks for all its words at once and writes them as they come. STORE reads a word a cycle while
// the writer has room; the words come out of the fetch unit PIPE_LAT later.
`default_nettype none

module seq_mem (
    input  wire logic              clk,
    input  wire logic              rst,
    // operation: constant while it runs
    input  wire logic              start,
    input  wire logic              is_store,
    input  wire logic [15:0]       act_addr,
    input  wire logic [15:0]       words,
    output logic                   done,
    // LOAD
    output logic                   ld_req,
    input  wire logic              ld_valid,
    output logic                   wr_en,
    output logic [15:0]            wr_addr,
    // STORE
    output logic                   st_req,
    input  wire logic              st_ready,
    input  wire logic              st_done,
    output      seq_pkg::request_t request
);
  logic active_q;
  logic reads_left_q;
  logic [15:0] left_q;
  logic [15:0] index_q;
  logic read;
  logic step;
  seq_pkg::request_t request_q;

  assign ld_req = start && !is_store;
  assign st_req = start && is_store;
  assign read = active_q && is_store && reads_left_q && st_ready;
  assign wr_en = active_q && !is_store && ld_valid;
  assign wr_addr = act_addr + index_q;
  assign step = read || wr_en;
  assign done = !active_q;

  always_ff @(posedge clk) begin
    if (rst) active_q <= 1'b0;
    else if (start) active_q <= 1'b1;
    else if (is_store ? st_done : (wr_en && left_q == 16'd1)) active_q <= 1'b0;
  end

  always_ff @(posedge clk) begin
    if (start) begin
      left_q <= words;
      index_q <= '0;
      reads_left_q <= 1'b1;
    end else if (step) begin
      left_q <= left_q - 16'd1;
      index_q <= index_q + 16'd1;
      if (left_q == 16'd1) reads_left_q <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    request_q <= '0;
    request_q.valid <= read && !rst;
    request_q.linear <= 1'b1;
    request_q.plane <= act_addr;
    request_q.base8 <= {index_q, 1'b0};
  end
  assign request = request_q;
endmodule

`default_nettype wire
