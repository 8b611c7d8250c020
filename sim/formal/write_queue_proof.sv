// SPDX-License-Identifier: Apache-2.0
// write_queue: words leave in order, each with the bank that was shown for it; level and empty tell
// the truth. The design around it never pushes into a full queue and takes only what is offered.
//
// `model` holds the words in order, oldest first, {addr, data} each; (* hierconn *) wires are those
// of the instance u_dut after flattening.
`default_nettype none

module write_queue_proof #(
    parameter int unsigned WIDTH = 2,
    parameter int unsigned DEPTH = 4,
    localparam int unsigned LEVEL_W = $clog2(DEPTH) + 1,
    localparam int unsigned INDEX_W = $clog2(DEPTH),
    localparam int unsigned WORD_W = WIDTH + 16
) (
    input wire logic             clk,
    input wire logic             rst,
    input wire logic             push,
    input wire logic [     15:0] addr,
    input wire logic [WIDTH-1:0] data,
    input wire logic             take
);
  logic head_valid;
  logic [1:0] head_bank;
  logic [15:0] out_addr;
  logic [WIDTH-1:0] out_data;
  logic [LEVEL_W-1:0] level;
  logic empty;

  write_queue #(.WIDTH(WIDTH), .DEPTH(DEPTH)) u_dut (
      .clk, .rst, .push, .addr, .data, .head_valid, .head_bank, .take, .out_addr, .out_data,
      .level, .empty
  );
  (* hierconn *) wire [INDEX_W-1:0] \u_dut.put_q ;
  (* hierconn *) wire [INDEX_W-1:0] \u_dut.head_q ;
  (* hierconn *) wire [INDEX_W-1:0] \u_dut.next_q ;
  (* hierconn *) wire \u_dut.one_q ;
  (* hierconn *) wire [WIDTH+13:0] \u_dut.words[0] ;
  (* hierconn *) wire [WIDTH+13:0] \u_dut.words[1] ;
  (* hierconn *) wire [WIDTH+13:0] \u_dut.words[2] ;
  (* hierconn *) wire [WIDTH+13:0] \u_dut.words[3] ;
  (* hierconn *) wire [1:0] \u_dut.banks[0] ;
  (* hierconn *) wire [1:0] \u_dut.banks[1] ;
  (* hierconn *) wire [1:0] \u_dut.banks[2] ;
  (* hierconn *) wire [1:0] \u_dut.banks[3] ;
  logic [4*(WIDTH+14)-1:0] words;
  logic [7:0] banks;
  assign words = {\u_dut.words[3] , \u_dut.words[2] , \u_dut.words[1] , \u_dut.words[0] };
  assign banks = {\u_dut.banks[3] , \u_dut.banks[2] , \u_dut.banks[1] , \u_dut.banks[0] };

  logic [DEPTH*WORD_W-1:0] model;
  logic [LEVEL_W-1:0] held;
  logic [LEVEL_W-1:0] at;
  logic took;  // in the cycle before
  logic waited;  // no reset since
  logic moved;  // a push or a word held in the cycle before
  logic [WORD_W-1:0] taken;
  assign at = held - LEVEL_W'(take);
  always_ff @(posedge clk) begin
    waited <= !rst;
    if (rst) begin
      held  <= '0;
      took  <= 1'b0;
      moved <= 1'b0;
    end else begin
      held  <= at + LEVEL_W'(push);
      took  <= take;
      moved <= push || held != '0;
      taken <= model[WORD_W-1:0];
      if (take) model <= model >> WORD_W;
      if (push) model[at*WORD_W+:WORD_W] <= {addr, data};
    end
  end

  logic begun = 1'b0;
  logic full_seen = 1'b0;
  always_ff @(posedge clk) begin
    begun <= 1'b1;
    if (begun && !rst && level == LEVEL_W'(DEPTH)) full_seen <= 1'b1;
    if (!begun) begin
      assume (rst);
    end else begin
      if (push) assume (level != LEVEL_W'(DEPTH));
      if (take) assume (head_valid);
      assert (level == held);
      assert (held <= LEVEL_W'(DEPTH));
      assert (head_valid == (held != '0));
      assert (empty == !moved);
      if (head_valid) assert (head_bank == model[WIDTH+:2]);
      if (took) assert ({out_addr, out_data} == taken);
      // State
      assert (\u_dut.next_q == \u_dut.head_q + INDEX_W'(1));
      assert (\u_dut.put_q == \u_dut.head_q + held[INDEX_W-1:0]);
      assert (\u_dut.one_q == (held == LEVEL_W'(1)));
      for (int unsigned i = 0; i < DEPTH; i++) begin
        if (LEVEL_W'(i) < held) begin
          assert (words[(WIDTH+14)*((\u_dut.head_q + INDEX_W'(i)) % DEPTH)+:WIDTH+14]
                  == {model[WORD_W*i+WIDTH+2+:14], model[WORD_W*i+:WIDTH]});
          assert (banks[2*((\u_dut.head_q + INDEX_W'(i)) % DEPTH)+:2]
                  == model[WORD_W*i+WIDTH+:2]);
        end
      end
      cover (full_seen && empty && waited);
    end
  end
endmodule

`default_nettype wire
