// SPDX-License-Identifier: Apache-2.0
// EMIT: sends the candidates that PEAK has put into the list. For each the words of the four
// regression planes are read (4 cycles), the bytes of its lane picked, and a record of isa.py
// CANDIDATE goes to the writer of DDR.
//
// Reads start while the writer has room and nobody asks to hold. Candidates leave in the order of the
// list. Latency: a record leaves INSERT_LAT + 2 = 9 cycles after its last read is decided. Interval: 4
// cycles a candidate.
// Resources: 128 candidates of distributed RAM.
`default_nettype none

module peak_emit (
    input  wire logic                   clk,
    input  wire logic                   rst,
    // list
    input  wire logic                   we,
    input  wire logic [6:0]             we_index,
    input  wire seq_pkg::found_t        we_found,
    input  wire logic [6:0]             count,
    // operation: constant while it runs
    input  wire logic                   start,
    input  wire logic [3:0][15:0]       planes,  // w, h, reg_x, reg_y
    input  wire logic                   hold,
    output logic                        done,
    // reads
    output      seq_pkg::lane_request_t request,
    input  wire logic                   word_valid,  // INSERT_LAT after the request
    input  wire logic [127:0]           word,
    // out
    output logic                        st_req,
    input  wire logic                   st_ready,
    output logic                        st_valid,
    output logic [127:0]                st_data,
    input  wire logic                   st_done
);
  (* ram_style = "distributed" *) logic [seq_pkg::FOUND_W-1:0] list[128];
  logic active_q;
  logic reading_q;
  logic hold_q;
  logic [6:0] index_q;
  logic [6:0] last_q;
  logic [1:0] part_q;
  logic read;
  seq_pkg::found_t head;

  always_ff @(posedge clk) begin
    if (we) list[we_index] <= we_found;
  end
  assign head = list[index_q];

  assign st_req = start && count != '0;
  assign read = reading_q && st_ready && !hold_q;
  assign done = !active_q;
  always_ff @(posedge clk) begin
    hold_q <= hold;
    if (rst) begin
      active_q <= 1'b0;
      reading_q <= 1'b0;
    end else if (start) begin
      active_q <= count != '0;
      reading_q <= count != '0;
    end else begin
      if (st_done) active_q <= 1'b0;
      if (read && part_q == 2'd3 && index_q == last_q) reading_q <= 1'b0;
    end
    last_q <= count - 7'd1;
    if (start) begin
      index_q <= '0;
      part_q <= '0;
    end else if (read) begin
      part_q <= part_q + 2'd1;
      if (part_q == 2'd3) index_q <= index_q + 7'd1;
    end
  end

  seq_pkg::lane_request_t request_q;
  always_ff @(posedge clk) begin
    request_q <= '0;
    request_q.read <= read && !rst;
    request_q.raw <= 1'b1;
    request_q.plane <= planes[part_q];
    request_q.base8 <= {3'd0, head.g, 1'b0};
  end
  assign request = request_q;

  // The candidate travels beside its reads
  logic [7:0] at_logit;
  logic [7:0] at_class;
  logic [9:0] at_y;
  logic [5:0] at_xo;
  logic [3:0] at_lane;
  logic at_end;
  delay #(.WIDTH(37), .LATENCY(seq_pkg::INSERT_LAT + 1)) u_beside (
      .clk, .rst,
      .d({head.logit, head.class_id, head.y, head.xo, head.lane, part_q == 2'd3}),
      .q({at_logit, at_class, at_y, at_xo, at_lane, at_end})
  );

  logic got_q;
  logic got_end_q;
  logic [3:0][7:0] bytes_q;  // the last one read is [3]
  logic [7:0] logit_q;
  logic [7:0] class_q;
  logic [9:0] y_q;
  logic [9:0] x_q;
  always_ff @(posedge clk) begin
    got_q <= word_valid && !rst;
    got_end_q <= at_end;
    if (word_valid) bytes_q <= {word[{at_lane, 3'd0}+:8], bytes_q[3:1]};
    logit_q <= at_logit;
    class_q <= at_class;
    y_q <= at_y;
    x_q <= {at_xo, at_lane};
  end
  assign st_valid = got_q && got_end_q;
  always_comb begin
    st_data = '0;
    st_data[isa_pkg::CAND_LOGIT_LSB+:8] = logit_q;
    st_data[isa_pkg::CAND_CLASS_LSB+:8] = class_q;
    st_data[isa_pkg::CAND_Y_LSB+:10] = y_q;
    st_data[isa_pkg::CAND_X_LSB+:10] = x_q;
    st_data[isa_pkg::CAND_W_LSB+:8] = bytes_q[0];
    st_data[isa_pkg::CAND_H_LSB+:8] = bytes_q[1];
    st_data[isa_pkg::CAND_REG_X_LSB+:8] = bytes_q[2];
    st_data[isa_pkg::CAND_REG_Y_LSB+:8] = bytes_q[3];
  end
endmodule

`default_nettype wire
