// SPDX-License-Identifier: Apache-2.0
// The core engine with a program memory and a ring for each queue and simple models of the DMA, for
// sim/test_engine.py.
//
// Plusargs: +array= +lanes= +image= (hex files for $readmemh, 128-bit words), +array_words=
// +lanes_words= (of the streams), +output= (written at the end), +trace= (one line a write: source,
// address, data), +ops= (queue, tag, first and last cycle of every operation), +stall= (0..255: chance
// in 256 that a stream, load or store word waits), +seed=. `finished` rises when the core is done or
// has failed.
`default_nettype none

module core_bench (
    input  wire logic        clk,
    input  wire logic        rst,
    input  wire logic        start,
    output logic             finished,
    output logic             busy,
    output logic             done,
    output logic             error,
    output logic [7:0]       error_code,
    output logic [11:0]      error_tag,
    output logic [63:0]      prog_hash,
    output logic [6:0]       cand_count,
    output logic [31:0]      cycles,
    input  wire logic        mem_error
);
  localparam int unsigned WORDS = 65536;
  logic [127:0] array_mem[WORDS];
  logic [127:0] lanes_mem[WORDS];
  logic [127:0] regions[3*WORDS];

  string array_file, lanes_file, image_file, output_file, trace_file, ops_file;
  int array_words, lanes_words, stall, seed, trace, ops;
  initial begin
    if (!$value$plusargs("array=%s", array_file) || !$value$plusargs("lanes=%s", lanes_file)
        || !$value$plusargs("image=%s", image_file)
        || !$value$plusargs("output=%s", output_file) || !$value$plusargs("trace=%s", trace_file)
        || !$value$plusargs("ops=%s", ops_file)
        || !$value$plusargs("array_words=%d", array_words)
        || !$value$plusargs("lanes_words=%d", lanes_words)
        || !$value$plusargs("stall=%d", stall) || !$value$plusargs("seed=%d", seed))
      $fatal(1, "core_bench: a plusarg is missing");
    $readmemh(array_file, array_mem);
    $readmemh(lanes_file, lanes_mem);
    $readmemh(image_file, regions);
    trace = $fopen(trace_file, "w");
    ops = $fopen(ops_file, "w");
  end

  // One random byte a port and cycle
  logic [63:0] random_q;
  always_ff @(posedge clk) begin
    if (rst) random_q <= 64'h9e3779b97f4a7c15 ^ {32'd0, seed};
    else random_q <= {random_q[62:0], 1'b0} ^ (random_q[63] ? 64'h1b : 64'd0)
                     ^ {random_q[6:0], 57'd0};
  end
  function automatic logic stalls(input logic [7:0] byte_value);
    return 32'(byte_value) < stall;
  endfunction

  // Rings, filled one word a cycle
  logic         a_rd_en;
  logic [12:0]  a_rd_off;
  logic [127:0] a_rd_data;
  logic [12:0]  a_avail;
  logic         a_pop;
  logic [12:0]  a_pop_n;
  logic [12:0]  a_space;
  logic [31:0]  a_fed_q;
  logic         a_feed;
  logic         b_rd_en;
  logic [9:0]   b_rd_off;
  logic [127:0] b_rd_data;
  logic [9:0]   b_avail;
  logic         b_pop;
  logic [9:0]   b_pop_n;
  logic [9:0]   b_space;
  logic [31:0]  b_fed_q;
  logic         b_feed;
  assign a_feed = 32'(a_fed_q) < array_words && a_space != '0 && !stalls(random_q[7:0]) && busy;
  assign b_feed = 32'(b_fed_q) < lanes_words && b_space != '0 && !stalls(random_q[31:24]) && busy;
  always_ff @(posedge clk) begin
    if (rst || start) a_fed_q <= '0;
    else if (a_feed) a_fed_q <= a_fed_q + 32'd1;
    if (rst || start) b_fed_q <= '0;
    else if (b_feed) b_fed_q <= b_fed_q + 32'd1;
  end
  stream_ring #(.DEPTH(4096)) u_array_ring (
      .clk, .rst, .flush(start),
      .alloc(a_feed), .alloc_words(4'd1), .space(a_space),
      .s_valid(a_feed), .s_data(array_mem[a_fed_q[15:0]]),
      .rd_en(a_rd_en), .rd_off(a_rd_off), .rd_data(a_rd_data), .avail(a_avail),
      .pop(a_pop), .pop_n(a_pop_n)
  );
  stream_ring #(.DEPTH(512)) u_lanes_ring (
      .clk, .rst, .flush(start),
      .alloc(b_feed), .alloc_words(4'd1), .space(b_space),
      .s_valid(b_feed), .s_data(lanes_mem[b_fed_q[15:0]]),
      .rd_en(b_rd_en), .rd_off(b_rd_off), .rd_data(b_rd_data), .avail(b_avail),
      .pop(b_pop), .pop_n(b_pop_n)
  );

  // LOAD
  logic         ld_req;
  logic [1:0]   ld_region;
  logic [31:0]  ld_offset;
  logic [15:0]  ld_words;
  logic [15:0]  ld_runs;
  logic [23:0]  ld_stride;
  logic         ld_valid;
  logic [127:0] ld_data;
  logic         ld_ready;
  logic         ld_there_q;  // a word that is offered stays
  logic [17:0]  ld_run_q;
  logic [17:0]  ld_index_q;
  logic [15:0]  ld_left_q;
  logic [15:0]  ld_runs_q;
  assign ld_valid = ld_left_q != '0 && (ld_there_q || !stalls(random_q[15:8]));
  assign ld_data = ld_valid ? regions[ld_index_q] : 'x;
  always_ff @(posedge clk) begin
    ld_there_q <= ld_valid && !ld_ready && !rst && !start;
    if (rst || start) ld_left_q <= '0;
    else if (ld_req) begin
      ld_left_q <= ld_words;
      ld_runs_q <= ld_runs;
      ld_run_q <= {ld_region, 16'd0} + ld_offset[21:4];
      ld_index_q <= {ld_region, 16'd0} + ld_offset[21:4];
    end else if (ld_valid && ld_ready) begin
      ld_left_q <= ld_left_q - 16'd1;
      ld_index_q <= ld_index_q + 18'd1;
      if (ld_left_q == 16'd1 && ld_runs_q != 16'd1) begin
        ld_left_q <= ld_words;
        ld_runs_q <= ld_runs_q - 16'd1;
        ld_run_q <= ld_run_q + ld_stride[17:0];
        ld_index_q <= ld_run_q + ld_stride[17:0];
      end
    end
  end

  // STORE: after st_ready has fallen 32 words are still taken, as the real one does
  logic         st_req;
  logic [1:0]   st_region;
  logic [31:0]  st_offset;
  logic [15:0]  st_words;
  logic [15:0]  st_runs;
  logic [23:0]  st_stride;
  logic         st_valid;
  logic [127:0] st_data;
  logic         st_ready;
  logic         st_done;
  logic [17:0]  st_run_q;
  logic [17:0]  st_index_q;
  logic [15:0]  st_left_q;
  logic [15:0]  st_runs_q;
  logic [5:0]   skid_q;
  logic         awake = 1'b0;  // has been reset; before that anything may stand anywhere
  always_ff @(posedge clk) begin
    st_ready <= !stalls(random_q[23:16]);
    st_done <= !rst && st_valid && st_left_q == 16'd1 && st_runs_q == 16'd1;
    skid_q <= (st_ready || rst) ? '0 : skid_q + 6'(st_valid);
    if (rst || start) st_left_q <= '0;
    else if (st_req) begin
      st_left_q <= st_words;
      st_runs_q <= st_runs;
      st_run_q <= {st_region, 16'd0} + st_offset[21:4];
      st_index_q <= {st_region, 16'd0} + st_offset[21:4];
    end else if (st_valid && awake) begin
      if (st_left_q == '0) $fatal(1, "core_bench: a store word nobody announced");
      if (skid_q > 6'd32) $fatal(1, "core_bench: the store buffer ran over");
      regions[st_index_q] <= st_data;
      st_left_q <= st_left_q - 16'd1;
      st_index_q <= st_index_q + 18'd1;
      if (st_left_q == 16'd1 && st_runs_q != 16'd1) begin
        st_left_q <= st_words;
        st_runs_q <= st_runs_q - 16'd1;
        st_run_q <= st_run_q + st_stride[17:0];
        st_index_q <= st_run_q + st_stride[17:0];
      end
    end
  end

  logic [11:0] a_tag;
  logic [11:0] b_tag;
  engine u_engine (
      .clk, .rst, .start, .busy, .done, .error, .error_code, .error_tag, .a_tag, .b_tag,
      .prog_hash, .cand_count, .mem_error,
      .a_ring_rd_en(a_rd_en), .a_ring_rd_off(a_rd_off), .a_ring_rd_data(a_rd_data),
      .a_ring_avail(a_avail), .a_ring_pop(a_pop), .a_ring_pop_n(a_pop_n),
      .b_ring_rd_en(b_rd_en), .b_ring_rd_off(b_rd_off), .b_ring_rd_data(b_rd_data),
      .b_ring_avail(b_avail), .b_ring_pop(b_pop), .b_ring_pop_n(b_pop_n),
      .ld_req, .ld_region, .ld_offset, .ld_words, .ld_runs, .ld_stride,
      .ld_valid, .ld_data, .ld_ready,
      .st_req, .st_region, .st_offset, .st_words, .st_runs, .st_stride,
      .st_valid, .st_data, .st_ready, .st_done
  );

  // Records
  logic [1:0] running;
  logic [1:0] running_q;
  logic [31:0] since_q[2];
  assign running = {u_engine.b_running, u_engine.a_running};
  always_ff @(posedge clk) begin
    if (rst || start) cycles <= '0;
    else if (busy) cycles <= cycles + 32'd1;
    running_q <= rst ? '0 : running;
    for (int q = 0; q < 2; q++) begin
      if (running[q] && !running_q[q]) since_q[q] <= cycles;
      if (!running[q] && running_q[q] && !rst)
        $fwrite(ops, "%0d %0d %0d %0d\n", q, q == 0 ? a_tag : b_tag, since_q[q], cycles);
    end
    if (rst) awake <= 1'b1;
    if (awake && u_engine.tr0_en)
      $fwrite(trace, "%0d %h %h\n", u_engine.tr0_src, u_engine.tr0_addr, u_engine.tr0_data);
    if (awake && u_engine.tr1_en)
      $fwrite(trace, "%0d %h %h\n", u_engine.tr1_src, u_engine.tr1_addr, u_engine.tr1_data);
    if (awake && a_rd_en && a_rd_off >= a_avail)
      $fatal(1, "core_bench: array word %0d of %0d read", a_rd_off, a_avail);
    if (awake && a_pop && a_pop_n > a_avail)
      $fatal(1, "core_bench: %0d of %0d array words popped", a_pop_n, a_avail);
    if (awake && b_rd_en && b_rd_off >= b_avail)
      $fatal(1, "core_bench: lanes word %0d of %0d read", b_rd_off, b_avail);
    if (awake && b_pop && b_pop_n > b_avail)
      $fatal(1, "core_bench: %0d of %0d lanes words popped", b_pop_n, b_avail);
  end

  logic ended_q;
  always_ff @(posedge clk) begin
    if (rst || start) begin
      finished <= 1'b0;
      ended_q <= 1'b0;
    end else if ((done || error) && !ended_q) begin
      ended_q <= 1'b1;
      $writememh(output_file, regions);
      $fflush(trace);
      $fflush(ops);
      finished <= 1'b1;
    end
  end
endmodule

`default_nettype wire
