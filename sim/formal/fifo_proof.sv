// SPDX-License-Identifier: Apache-2.0
// fifo: what goes in comes out once, in order, and is held until it is taken.
//
// `model` holds the words in order, oldest first. Induction needs to know that the memory holds
// them too: (* hierconn *) wires are those of the instance u_dut after flattening.
`default_nettype none

module fifo_proof #(
    parameter int unsigned WIDTH = 3,
    parameter int unsigned DEPTH = 4,
    localparam int unsigned LEVEL_W = $clog2(DEPTH) + 1,
    localparam int unsigned INDEX_W = $clog2(DEPTH)
) (
    input wire logic             clk,
    input wire logic             rst,
    input wire logic             in_valid,
    input wire logic [WIDTH-1:0] in_data,
    input wire logic             out_ready
);
  logic in_ready;
  logic out_valid;
  logic [WIDTH-1:0] out_data;
  logic [LEVEL_W-1:0] level;

  fifo #(.WIDTH(WIDTH), .DEPTH(DEPTH)) u_dut (
      .clk, .rst, .in_valid, .in_data, .in_ready, .out_valid, .out_data, .out_ready, .level
  );
  (* hierconn *) wire [INDEX_W-1:0] \u_dut.head_q ;
  (* hierconn *) wire [INDEX_W-1:0] \u_dut.tail_q ;
  (* hierconn *) wire [WIDTH-1:0] \u_dut.words[0] ;
  (* hierconn *) wire [WIDTH-1:0] \u_dut.words[1] ;
  (* hierconn *) wire [WIDTH-1:0] \u_dut.words[2] ;
  (* hierconn *) wire [WIDTH-1:0] \u_dut.words[3] ;
  logic [4*WIDTH-1:0] memory;
  assign memory = {\u_dut.words[3] , \u_dut.words[2] , \u_dut.words[1] , \u_dut.words[0] };

  logic [DEPTH*WIDTH-1:0] model;
  logic [LEVEL_W-1:0] held;
  logic put;
  logic take;
  assign put = in_valid && in_ready;
  assign take = out_valid && out_ready;

  always_ff @(posedge clk) begin
    if (rst) begin
      held <= '0;
    end else begin
      held <= held + LEVEL_W'(put) - LEVEL_W'(take);
      if (take) model <= model >> WIDTH;
      if (put) model[(held-LEVEL_W'(take))*WIDTH+:WIDTH] <= in_data;
    end
  end

  // Before the first reset nothing is promised
  logic begun = 1'b0;
  logic full_seen = 1'b0;
  logic empty_again = 1'b0;
  always_ff @(posedge clk) begin
    begun <= 1'b1;
    if (begun && !rst && level == LEVEL_W'(DEPTH)) full_seen <= 1'b1;
    if (full_seen && !rst && level == '0) empty_again <= 1'b1;
    if (!begun) begin
      assume (rst);
    end else begin
      assert (level == held);
      assert (held <= LEVEL_W'(DEPTH));
      assert (in_ready == (held != LEVEL_W'(DEPTH)));
      assert (out_valid == (held != '0));
      if (out_valid) assert (out_data == model[WIDTH-1:0]);
      // State
      assert (\u_dut.head_q == \u_dut.tail_q + held[INDEX_W-1:0]);
      for (int unsigned i = 0; i < DEPTH; i++) begin
        if (LEVEL_W'(i) < held) begin
          assert (memory[WIDTH*((\u_dut.tail_q + INDEX_W'(i)) % DEPTH)+:WIDTH]
                  == model[WIDTH*i+:WIDTH]);
        end
      end
      cover (empty_again && level == LEVEL_W'(DEPTH));
    end
  end
endmodule

`default_nettype wire
