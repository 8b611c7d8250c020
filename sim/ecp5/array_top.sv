// SPDX-License-Identifier: Apache-2.0
// The array queue on pins that exist: for place and route on an ECP5 (docs/timing.md), not for use.
//
// Sequencer, ring, array side and activation memory of the engine, as engine.sv has them. Words of
// the stream and of the memory come in bit by bit (pin `d`), results go out as one parity, so that
// nothing can be left out and no pin is near a critical path.
`default_nettype none

module array_top #(
    parameter int unsigned ACT_WORDS = 4096,
    parameter int unsigned RING_WORDS = 512
) (
    input  wire logic       clk,
    input  wire logic       rst_n,
    input  wire logic       d,
    input  wire logic [2:0] what,  // what the bits that have come are for
    output logic            busy,
    output logic            parity
);
  localparam int unsigned COUNT_W = 13;  // of the engine's ring
  localparam int unsigned RING_W = $clog2(RING_WORDS) + 1;

  // Pins, registered
  logic rst;
  logic d_q;
  logic [2:0] what_q;
  logic [143:0] shift_q;
  logic start_q;
  logic fill_q;
  logic write_q;
  logic alloc_q;
  logic look_q;
  always_ff @(posedge clk) begin
    rst <= !rst_n;
    d_q <= d;
    what_q <= what;
    shift_q <= {shift_q[142:0], d_q};
    start_q <= what_q == 3'd1;
    fill_q <= what_q == 3'd2;
    write_q <= what_q == 3'd3;
    alloc_q <= what_q == 3'd4;
    look_q <= what_q == 3'd5;
  end

  // Ring
  logic [RING_W-1:0] space;
  logic [RING_W-1:0] ring_level;
  logic ring_rd_en;
  logic [COUNT_W-1:0] ring_rd_off;
  logic [127:0] ring_rd_data;
  logic [COUNT_W-1:0] ring_avail;
  logic ring_pop;
  logic [COUNT_W-1:0] ring_pop_n;
  stream_ring #(.DEPTH(RING_WORDS)) u_ring (
      .clk, .rst, .flush(start_q),
      .alloc(alloc_q), .alloc_words(shift_q[3:0]), .space,
      .s_valid(fill_q), .s_data(shift_q[127:0]),
      .rd_en(ring_rd_en), .rd_off(ring_rd_off[RING_W-1:0]), .rd_data(ring_rd_data),
      .avail(ring_level), .pop(ring_pop), .pop_n(ring_pop_n[RING_W-1:0])
  );
  assign ring_avail = COUNT_W'(ring_level);

  // Queue
  logic done;
  logic failed;
  logic [7:0] error_code;
  logic [11:0] tag;
  logic running;
  logic [63:0] prog_hash;
  logic [11:0] completed;
  logic [COUNT_W-1:0] avail;
  logic seq_rd_en;
  logic seq_rd_off;
  logic seq_pop;
  logic unit_rd_en;
  logic [COUNT_W-1:0] unit_rd_off;
  logic unit_pop;
  logic [COUNT_W-1:0] unit_pop_n;
  logic [255:0] desc;
  seq_pkg::geom_t geom;
  logic unit_start;
  logic unit_issued;
  logic unit_done;
  logic wa_empty;
  sequencer #(.QUEUE(isa_pkg::QUEUE_ARRAY), .ACT_WORDS(ACT_WORDS)) u_seq (
      .clk, .rst, .start(start_q), .abort(failed), .busy, .done, .failed, .error_code, .tag,
      .running, .prog_hash, .completed, .others(shift_q[11:0]),
      .avail, .ring_rd_en(seq_rd_en), .ring_rd_off(seq_rd_off), .ring_rd_data,
      .ring_pop(seq_pop), .desc, .geom, .unit_start, .unit_issued, .unit_done,
      .drain(7'(seq_pkg::CONV_DRAIN)), .quiet(wa_empty)
  );
  ring_port #(.COUNT_W(COUNT_W)) u_port (
      .clk, .rst, .avail, .seq_rd_en, .seq_rd_off, .seq_pop,
      .unit_rd_en, .unit_rd_off, .unit_pop, .unit_pop_n,
      .ring_rd_en, .ring_rd_off, .ring_avail, .ring_pop, .ring_pop_n
  );

  // Array and memory
  logic rd_en;
  logic [15:0] rd_center;
  logic [2:0] rd_mask;
  logic [383:0] window;
  logic wr_valid;
  logic [15:0] wr_addr;
  logic [127:0] wr_data;
  logic smap_we;
  logic [9:0] smap_idx;
  logic [47:0] smap_data;
  array_side u_array (
      .clk, .rst, .desc, .geom, .start(unit_start), .issued(unit_issued), .done(unit_done),
      .avail, .ring_rd_en(unit_rd_en), .ring_rd_off(unit_rd_off), .ring_rd_data,
      .ring_pop(unit_pop), .ring_pop_n(unit_pop_n),
      .rd_en, .rd_center, .rd_mask, .window, .wr_valid, .wr_addr, .wr_data,
      .smap_we, .smap_idx, .smap_data
  );
  logic [383:0] unused_b_window;  // for the lanes, which are not here
  logic wl_ready;
  logic hold_b;
  logic wb_empty;
  logic wl_empty;
  act_mem #(.WORDS(ACT_WORDS)) u_mem (
      .clk, .rst,
      .a_rd_en(rd_en), .a_rd_center(rd_center), .a_rd_mask(rd_mask), .a_window(window),
      .b_rd_en(look_q), .b_rd_center(shift_q[15:0]), .b_rd_mask(shift_q[18:16]),
      .b_window(unused_b_window),
      .wa_valid(wr_valid), .wa_addr(wr_addr), .wa_data(wr_data),
      .wb_valid(1'b0), .wb_addr('0), .wb_data('0),
      .wl_valid(write_q), .wl_ready, .wl_addr(shift_q[143:128]), .wl_data(shift_q[127:0]),
      .hold_b, .wa_empty, .wb_empty, .wl_empty
  );

  // Everything that comes out, folded into one bit a stage at a time
  logic [255:0] out_q;
  logic [15:0] fold_q;
  always_ff @(posedge clk) begin
    out_q <= {smap_we, smap_idx, smap_data, wr_data ^ {112'd0, wr_addr},
              {53'd0, hold_b, wb_empty, wl_empty, wl_ready, done, error_code[5:0]}
              ^ {prog_hash ^ {52'd0, tag}} ^ {51'd0, COUNT_W'(space)} ^ {52'd0, completed}, wr_valid,
              running, error_code[7:6], 1'b0};
    for (int unsigned i = 0; i < 16; i++) fold_q[i] <= ^out_q[16*i+:16];
    parity <= ^fold_q;
  end
endmodule

`default_nettype wire
