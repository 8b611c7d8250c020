// SPDX-License-Identifier: Apache-2.0
// stream_ring: the counts are those of an abstract stream, no word is overwritten while it is kept,
// and a word below `avail` is read two cycles later as it was written.
//
// The reader of DDR reserves before it sends and sends only what is reserved; the sequencers read and
// pop only below `avail`. A word of the stream chosen by the solver (any_index) is followed.
`default_nettype none

module stream_ring_proof #(
    parameter int unsigned DEPTH = 8,
    localparam int unsigned COUNT_W = $clog2(DEPTH) + 1,
    localparam int unsigned INDEX_W = $clog2(DEPTH)
) (
    input wire logic               clk,
    input wire logic               rst,
    input wire logic               flush,
    input wire logic               alloc,
    input wire logic [3:0]         alloc_words,
    input wire logic               s_valid,
    input wire logic [127:0]       s_data,
    input wire logic               rd_en,
    input wire logic [COUNT_W-1:0] rd_off,
    input wire logic               pop,
    input wire logic [COUNT_W-1:0] pop_n
);
  logic [COUNT_W-1:0] space;
  logic [127:0] rd_data;
  logic [COUNT_W-1:0] avail;

  stream_ring #(.DEPTH(DEPTH)) u_dut (
      .clk, .rst, .flush, .alloc, .alloc_words, .space, .s_valid, .s_data,
      .rd_en, .rd_off, .rd_data, .avail, .pop, .pop_n
  );
  (* hierconn *) wire [INDEX_W-1:0] \u_dut.head_q ;
  (* hierconn *) wire [INDEX_W-1:0] \u_dut.base_q ;
  (* hierconn *) wire [127:0] \u_dut.read_q ;
  (* hierconn *) wire [127:0] \u_dut.words[0] ;
  (* hierconn *) wire [127:0] \u_dut.words[1] ;
  (* hierconn *) wire [127:0] \u_dut.words[2] ;
  (* hierconn *) wire [127:0] \u_dut.words[3] ;
  (* hierconn *) wire [127:0] \u_dut.words[4] ;
  (* hierconn *) wire [127:0] \u_dut.words[5] ;
  (* hierconn *) wire [127:0] \u_dut.words[6] ;
  (* hierconn *) wire [127:0] \u_dut.words[7] ;
  logic [8*128-1:0] words;
  assign words = {\u_dut.words[7] , \u_dut.words[6] , \u_dut.words[5] , \u_dut.words[4] ,
                  \u_dut.words[3] , \u_dut.words[2] , \u_dut.words[1] , \u_dut.words[0] };

  // Words on their way: reserved, not arrived
  logic [COUNT_W-1:0] coming;
  // The followed word: the one written when the ring's index was any_index; live while it is kept
  (* anyconst *) logic [INDEX_W-1:0] any_index;
  logic live;
  logic [127:0] word;
  logic [COUNT_W-1:0] offset;  // of it, from the base, while it is live
  assign offset = {1'b0, any_index - \u_dut.base_q };
  logic asked1 = 1'b0;
  logic asked2 = 1'b0;
  logic [127:0] expect1, expect2;

  logic [COUNT_W-1:0] popped;
  assign popped = pop ? pop_n : '0;

  always_ff @(posedge clk) begin
    asked1 <= rd_en && live && rd_off == offset;
    expect1 <= word;
    asked2 <= asked1;
    expect2 <= expect1;
    if (rst || flush) begin
      coming <= '0;
      live <= 1'b0;
    end else begin
      coming <= coming + (alloc ? COUNT_W'(alloc_words) : '0) - COUNT_W'(s_valid);
      if (s_valid && \u_dut.head_q == any_index) begin
        live <= 1'b1;
        word <= s_data;
      end else if (live && popped > offset) begin
        live <= 1'b0;
      end
    end
  end

  logic begun = 1'b0;
  logic full_seen = 1'b0;
  always_ff @(posedge clk) begin
    begun <= 1'b1;
    if (begun && !rst && avail == COUNT_W'(DEPTH)) full_seen <= 1'b1;
    if (!begun) begin
      assume (rst);
      assume (!rd_en);
    end else begin
      // The two sides
      if (alloc) assume (alloc_words <= space);
      if (s_valid) assume (coming != '0);
      if (rd_en) assume (rd_off < avail);
      if (pop) assume (pop_n <= avail);
      // Counts
      assert (space + avail + coming == DEPTH);
      assert (\u_dut.head_q == \u_dut.base_q + avail[INDEX_W-1:0]);
      assert (space <= COUNT_W'(DEPTH));
      assert (avail <= COUNT_W'(DEPTH));
      assert (coming <= COUNT_W'(DEPTH));
      // A word that is kept is not written over, and is where it was put
      assert (live == (offset < avail));
      if (live) assert (words[128*any_index+:128] == word);
      if (live && s_valid) assert (\u_dut.head_q != any_index);
      if (asked1) assert (\u_dut.read_q == expect1);
      if (asked2) assert (rd_data == expect2);
      cover (full_seen && asked2 && !live);
    end
  end
endmodule

`default_nettype wire
