// SPDX-License-Identifier: Apache-2.0
// burst_split: every offered burst is 1 to 8 words, stays in its 128-byte block and in its run,
// begins where the one before ended (or where the next run begins), and the bursts of a transfer
// cover its words exactly; after the last one nothing more is offered, and while words are left an
// offer comes within two cycles.
`default_nettype none

module burst_split_proof #(
    parameter int unsigned WORDS_W = 6,
    parameter bit TWO_D = 1'b1
) (
    input wire logic               clk,
    input wire logic               rst,
    input wire logic               load,
    input wire logic [31:0]        load_addr,
    input wire logic [WORDS_W-1:0] load_words,
    input wire logic [15:0]        load_runs,
    input wire logic [23:0]        load_stride,
    input wire logic               take
);
  logic left;
  logic valid;
  logic [31:0] addr;
  logic [3:0] words;

  burst_split #(.WORDS_W(WORDS_W), .TWO_D(TWO_D)) u_dut (
      .clk, .rst, .load, .load_addr, .load_words, .load_runs, .load_stride,
      .left, .valid, .addr, .words, .take
  );

  (* hierconn *) wire [27:0] \u_dut.addr_q ;
  (* hierconn *) wire [WORDS_W-1:0] \u_dut.left_q ;
  (* hierconn *) wire \u_dut.run_end_q ;
  // With TWO_D only
  (* hierconn *) wire [27:0] \u_dut.g_runs.next_q ;
  (* hierconn *) wire [23:0] \u_dut.g_runs.stride_q ;
  (* hierconn *) wire [WORDS_W-1:0] \u_dut.g_runs.run_words_q ;
  (* hierconn *) wire [15:0] \u_dut.g_runs.runs_q ;
  (* hierconn *) wire \u_dut.g_runs.final_q ;
  (* hierconn *) wire \u_dut.g_runs.step_q ;

  // The transfer as it ought to be: run by run, word by word
  logic [27:0] run_at;  // first word of the run
  logic [27:0] at;  // next word
  logic [WORDS_W-1:0] run_words;
  logic [WORDS_W-1:0] run_left;
  logic [23:0] stride;
  logic [15:0] runs_left;  // with this one
  logic open;
  logic [1:0] silent;  // cycles without an offer
  logic ends;
  assign ends = {{28{1'b0}}, words} == {{(32-WORDS_W){1'b0}}, run_left};
  always_ff @(posedge clk) begin
    silent <= (valid || rst || load) ? 2'd0 : silent + 2'd1;
    if (rst) begin
      open <= 1'b0;
    end else if (load) begin
      open <= load_words != '0 && (!TWO_D || load_runs != '0);
      run_at <= load_addr[31:4];
      at <= load_addr[31:4];
      run_words <= load_words;
      run_left <= load_words;
      stride <= load_stride;
      runs_left <= TWO_D ? load_runs : 16'd1;
    end else if (take && ends) begin
      run_at <= run_at + 28'(stride);
      at <= run_at + 28'(stride);
      run_left <= run_words;
      runs_left <= runs_left - 16'd1;
      if (runs_left == 16'd1) open <= 1'b0;
    end else if (take) begin
      at <= at + 28'(words);
      run_left <= run_left - WORDS_W'(words);
    end
  end

  logic begun = 1'b0;
  logic [4:0] taken = 5'd0;
  always_ff @(posedge clk) begin
    begun <= 1'b1;
    taken <= (rst || load) ? 5'd0 : taken + 5'(take && taken != 5'd31);
    if (!begun) begin
      assume (rst);
    end else begin
      if (load) assume (load_addr[3:0] == '0);
      if (take) assume (valid && !load && !rst);
      assert (left == open);
      if (open) begin
        assert (runs_left != '0);
        assert (run_left != '0);
        assert (run_words != '0);
        assert (run_left <= run_words);
      end
      if (valid) begin
        assert (open);
        assert (addr == {at, 4'd0});
        assert (words >= 4'd1 && words <= 4'd8);
        assert ({1'b0, addr[6:4]} + words <= 4'd8);
        assert ({{28{1'b0}}, words} <= {{(32-WORDS_W){1'b0}}, run_left});
        // Never smaller than it may be
        assert ({1'b0, addr[6:4]} + words == 4'd8 || ends);
      end
      if (open) assert (silent <= 2'd1);
      // State
      if (open) assert (\u_dut.addr_q == at && \u_dut.left_q == run_left);
      if (valid) assert (\u_dut.run_end_q == ends);
      if (!TWO_D && open) assert (runs_left == 16'd1);
      if (TWO_D && open) begin
        assert (\u_dut.g_runs.next_q == run_at + (\u_dut.g_runs.step_q ? 28'd0 : 28'(stride)));
        assert (\u_dut.g_runs.stride_q == stride);
        assert (\u_dut.g_runs.run_words_q == run_words);
        assert (\u_dut.g_runs.runs_q == runs_left);
        if (valid) assert (!\u_dut.g_runs.step_q );
        if (valid) assert (\u_dut.g_runs.final_q == (runs_left == 16'd1));
      end
      cover (!open && taken == 5'd6);
    end
  end
endmodule

`default_nettype wire
