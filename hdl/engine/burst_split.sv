// SPDX-License-Identifier: Apache-2.0
// Splits a run of 16-byte words into bursts of at most 8 words that never cross 128 bytes.
//
// load starts a run (an earlier one is forgotten). While `valid`, addr and words describe the next
// burst; take accepts it. The next burst is offered 2 cycles later: bursts last up to 16 beats, so
// nothing is lost and no adder follows another. left is false when the whole run has been taken.
`default_nettype none

module burst_split #(
    parameter int unsigned WORDS_W = 28  // bits of a run's length
) (
    input  wire logic               clk,
    input  wire logic               rst,
    input  wire logic               load,
    input  wire logic [31:0]        load_addr,   // bytes, a multiple of 16
    input  wire logic [WORDS_W-1:0] load_words,
    output logic                    left,        // words not yet taken
    output logic                    valid,
    output logic [31:0]             addr,
    output logic [3:0]              words,       // 1..8
    input  wire logic               take
);
  logic [27:0] addr_q;
  logic [WORDS_W-1:0] left_q;
  logic [3:0] words_q;
  logic valid_q;
  logic [3:0] to_boundary;

  assign to_boundary = 4'd8 - {1'b0, addr_q[2:0]};
  assign left = left_q != '0;
  assign valid = valid_q;
  assign addr = {addr_q, 4'b0000};
  assign words = words_q;

  always_ff @(posedge clk) begin
    if (load) begin
      addr_q <= load_addr[31:4];
    end else if (take) begin
      addr_q <= addr_q + 28'(words_q);
    end
    words_q <= (left_q < WORDS_W'(to_boundary)) ? left_q[3:0] : to_boundary;
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      left_q  <= '0;
      valid_q <= 1'b0;
    end else if (load) begin
      left_q  <= load_words;
      valid_q <= 1'b0;
    end else if (take) begin
      left_q  <= left_q - WORDS_W'(words_q);
      valid_q <= 1'b0;
    end else begin
      valid_q <= left_q != '0;
    end
  end

  logic unused_low;
  assign unused_low = &{1'b0, load_addr[3:0]};
endmodule

`default_nettype wire
