// SPDX-License-Identifier: Apache-2.0
// Splits runs of 16-byte words into bursts of at most 8 words that never cross 128 bytes.
//
// load starts a transfer of load_runs runs of load_words words (an earlier one is forgotten); each
// run begins load_stride words after the one before. While `valid`, addr and words describe the next
// burst; take accepts it. The first burst is offered 2 cycles after load, each other one 2 cycles
// after the take before it, also when it begins a run, so
// that no adder follows another. left is false when everything has been taken; it stays false for
// no runs or no words.
`default_nettype none

module burst_split #(
    parameter int unsigned WORDS_W = 16,  // bits of a run's length
    parameter bit TWO_D = 1'b1            // without it there is one run, whatever load_runs says
) (
    input  wire logic               clk,
    input  wire logic               rst,
    input  wire logic               load,
    input  wire logic [31:0]        load_addr,   // bytes, a multiple of 16
    input  wire logic [WORDS_W-1:0] load_words,
    input  wire logic [15:0]        load_runs,
    input  wire logic [23:0]        load_stride,
    output logic                    left,        // words not yet taken
    output logic                    valid,
    output logic [31:0]             addr,
    output logic [3:0]              words,       // 1..8
    input  wire logic               take
);
  logic [27:0] addr_q;
  logic [WORDS_W-1:0] left_q;   // words left in the run
  logic [3:0] words_q;
  logic run_end_q;              // the burst ends its run
  logic valid_q;
  logic active_q;
  logic [3:0] to_boundary;
  // Of the run after this one; final_run: there is none
  logic final_run;
  logic no_runs;
  logic [27:0] next_addr;
  logic [WORDS_W-1:0] next_words;

  assign to_boundary = 4'd8 - {1'b0, addr_q[2:0]};
  assign left = active_q;
  assign valid = valid_q;
  assign addr = {addr_q, 4'b0000};
  assign words = words_q;

  if (TWO_D) begin : g_runs
    logic [27:0] next_q;
    logic [23:0] stride_q;
    logic [WORDS_W-1:0] run_words_q;
    logic [15:0] runs_q;          // not yet taken to the end
    logic final_q;
    logic step_q;                 // next_q moves on, in the cycle between two offers

    always_ff @(posedge clk) begin
      step_q <= load || (take && run_end_q);
      final_q <= runs_q == 16'd1;
      if (load) begin
        next_q <= load_addr[31:4];
        stride_q <= load_stride;
        run_words_q <= load_words;
        runs_q <= load_runs;
      end else begin
        if (step_q) next_q <= next_q + 28'(stride_q);
        if (take && run_end_q) runs_q <= runs_q - 16'd1;
      end
    end

    assign final_run = final_q;
    assign no_runs = load_runs == '0;
    assign next_addr = next_q;
    assign next_words = run_words_q;
  end else begin : g_run
    logic unused_runs;
    assign unused_runs = &{1'b0, load_runs, load_stride};
    assign final_run = 1'b1;
    assign no_runs = 1'b0;
    assign next_addr = addr_q;
    assign next_words = left_q;
  end

  always_ff @(posedge clk) begin
    if (load) begin
      addr_q <= load_addr[31:4];
      left_q <= load_words;
    end else if (take && run_end_q) begin
      addr_q <= next_addr;
      left_q <= next_words;
    end else if (take) begin
      addr_q <= addr_q + 28'(words_q);
      left_q <= left_q - WORDS_W'(words_q);
    end
    run_end_q <= left_q <= WORDS_W'(to_boundary);
    words_q <= (left_q < WORDS_W'(to_boundary)) ? left_q[3:0] : to_boundary;
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      active_q <= 1'b0;
      valid_q  <= 1'b0;
    end else if (load) begin
      active_q <= (load_words != '0) && !no_runs;
      valid_q  <= 1'b0;
    end else if (take) begin
      if (run_end_q && final_run) active_q <= 1'b0;
      valid_q <= 1'b0;
    end else begin
      valid_q <= active_q;
    end
  end

  logic unused_low;
  assign unused_low = &{1'b0, load_addr[3:0]};
endmodule

`default_nettype wire
