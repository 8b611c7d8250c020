// SPDX-License-Identifier: Apache-2.0
// Words that wait for a cycle in which their bank of the activation memory can be written.
//
// A word pushed in cycle t is at the head (head_valid, head_bank) in t + 1 or later; `take` in a cycle
// with head_valid removes it, and its address and data are on out_addr, out_data in the next cycle.
// `level` counts the words not taken yet. `empty` falls the cycle after a push and rises two cycles
// after the last `take`. There is no ready: a push into a full queue, even one with a `take`, is an
// error of the design around it.
// Resources: (WIDTH + 16) x DEPTH bits of distributed RAM, about 40 LUT.
`default_nettype none

module write_queue #(
    parameter int unsigned DEPTH = 32,  // a power of two
    parameter int unsigned WIDTH = 128,
    localparam int unsigned LEVEL_W = $clog2(DEPTH) + 1
) (
    input  wire logic                clk,
    input  wire logic                rst,
    // in
    input  wire logic                push,
    input  wire logic [        15:0] addr,
    input  wire logic [   WIDTH-1:0] data,
    // head
    output logic                     head_valid,
    output logic      [         1:0] head_bank,
    input  wire logic                take,
    // out, the cycle after `take`
    output logic      [        15:0] out_addr,
    output logic      [   WIDTH-1:0] out_data,
    // state
    output logic      [LEVEL_W-1:0]  level,
    output logic                     empty
);
  localparam int unsigned INDEX_W = $clog2(DEPTH);

  if (DEPTH != (1 << INDEX_W) || DEPTH < 2) begin : g_illegal
    write_queue_depth_must_be_a_power_of_two u_illegal ();
  end

  (* ram_style = "distributed" *) logic [WIDTH+13:0] words[DEPTH];
  // The bank is known a cycle before the rest
  (* ram_style = "distributed" *) logic [1:0] banks[DEPTH];
  logic [INDEX_W-1:0] put_q;
  logic [INDEX_W-1:0] head_q;
  logic [INDEX_W-1:0] next_q;  // head_q + 1
  logic [INDEX_W-1:0] out_q;
  logic [1:0] head_bank_q;
  logic [1:0] out_bank_q;
  logic one_q;  // level_q is 1
  logic [LEVEL_W-1:0] level_q;
  logic valid_q;
  logic empty_q;

  always_ff @(posedge clk) begin
    if (push) begin
      words[put_q] <= {addr[15:2], data};
      banks[put_q] <= addr[1:0];
    end
    out_q <= head_q;
    out_bank_q <= head_bank_q;
    // `take` comes late: it only enables. Without a next word it is the one pushed now, if any
    if (take || !valid_q) head_bank_q <= one_q || !valid_q ? addr[1:0] : banks[next_q];
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      put_q   <= '0;
      head_q  <= '0;
      next_q  <= INDEX_W'(1);
      level_q <= '0;
      one_q   <= 1'b0;
      valid_q <= 1'b0;
      empty_q <= 1'b1;
    end else begin
      if (push) put_q <= put_q + 1'b1;
      if (take) begin
        head_q <= next_q;
        next_q <= next_q + 1'b1;
      end
      if (push != take) begin
        level_q <= push ? level_q + 1'b1 : level_q - 1'b1;
        valid_q <= push || !one_q;
        one_q   <= push ? !valid_q : level_q == LEVEL_W'(2);
      end
      empty_q <= !valid_q && !push;
    end
  end

`ifndef SYNTHESIS
  always_ff @(posedge clk) begin
    if (!rst && push && level_q == LEVEL_W'(DEPTH)) $error("write_queue: overflow");
  end
`endif

  assign head_valid = valid_q;
  assign head_bank = head_bank_q;
  assign {out_addr[15:2], out_data} = words[out_q];
  assign out_addr[1:0] = out_bank_q;
  assign level = level_q;
  assign empty = empty_q;
endmodule

`default_nettype wire
