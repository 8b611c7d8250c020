// SPDX-License-Identifier: Apache-2.0
// Candidates on their way out: for each the words of the four regression planes are read (4 cycles),
// the bytes of its lane picked, and a record of isa.py CANDIDATE goes to the writer of DDR.
//
// `room` falls early enough that 8 more candidates may come.
`default_nettype none

module peak_emit (
    input  wire logic             clk,
    input  wire logic             rst,
    // candidates
    input  wire logic             narrow,
    input  wire logic             in_valid,
    input  wire seq_pkg::found_t  in_found,
    output logic                  room,
    // reads: `read_part` 0..3 is w, h, reg_x, reg_y; always granted
    output logic                  read,
    output logic [1:0]            read_part,
    output logic [12:0]           read_g,
    input  wire logic             word_valid,  // PIPE_LAT + 1 after `read`
    input  wire logic [127:0]     word,
    // out
    input  wire logic             st_ready,
    output logic                  st_valid,
    output logic [127:0]          st_data
);
  localparam int unsigned DEPTH = 16;

  logic head_valid;
  seq_pkg::found_t head;
  logic [4:0] level;
  logic in_ready;
  logic [1:0] part_q;
  fifo #(.WIDTH(seq_pkg::FOUND_W), .DEPTH(DEPTH)) u_fifo (
      .clk, .rst,
      .in_valid, .in_data(in_found), .in_ready(in_ready),
      .out_valid(head_valid), .out_data(head), .out_ready(read && part_q == 2'd3),
      .level(level)
  );
  always_ff @(posedge clk) room <= !rst && (level < 5'd8);

  assign read = head_valid && (part_q != 2'd0 || st_ready);
  assign read_part = part_q;
  assign read_g = head.g;
  always_ff @(posedge clk) begin
    if (rst) part_q <= '0;
    else if (read) part_q <= part_q + 2'd1;
  end

  // The candidate travels beside its reads
  logic [7:0] at_logit;
  logic [7:0] at_class;
  logic [9:0] at_y;
  logic [5:0] at_xo;
  logic [3:0] at_lane;
  logic at_end;
  delay #(.WIDTH(37), .LATENCY(seq_pkg::PIPE_LAT + 1)) u_beside (
      .clk, .rst,
      .d({head.logit, head.class_id, head.y, head.xo, head.lane, part_q == 2'd3}),
      .q({at_logit, at_class, at_y, at_xo, at_lane, at_end})
  );

  logic got_q;
  logic got_end_q;
  logic [3:0][7:0] bytes_q;  // the last one read is [3]
  logic [7:0] logit_q;
  logic [7:0] class_q;
  logic [10:0] y_q;
  logic [9:0] x_q;
  always_ff @(posedge clk) begin
    got_q <= word_valid && !rst;
    got_end_q <= at_end;
    if (word_valid) bytes_q <= {word[{at_lane, 3'd0}+:8], bytes_q[3:1]};
    logit_q <= at_logit;
    class_q <= at_class;
    y_q <= {1'b0, at_y} + {10'd0, narrow && at_lane[3]};
    x_q <= {at_xo, at_lane[3] && !narrow, at_lane[2:0]};
  end
  assign st_valid = got_q && got_end_q;
  always_comb begin
    st_data = '0;
    st_data[isa_pkg::CAND_LOGIT_LSB+:8] = logit_q;
    st_data[isa_pkg::CAND_CLASS_LSB+:8] = class_q;
    st_data[isa_pkg::CAND_Y_LSB+:11] = y_q;
    st_data[isa_pkg::CAND_X_LSB+:10] = x_q;
    st_data[isa_pkg::CAND_W_LSB+:8] = bytes_q[0];
    st_data[isa_pkg::CAND_H_LSB+:8] = bytes_q[1];
    st_data[isa_pkg::CAND_REG_X_LSB+:8] = bytes_q[2];
    st_data[isa_pkg::CAND_REG_Y_LSB+:8] = bytes_q[3];
  end
  logic unused;
  assign unused = in_ready;
endmodule

`default_nettype wire
