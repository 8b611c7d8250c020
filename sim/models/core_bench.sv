// SPDX-License-Identifier: Apache-2.0
// The core engine with a program memory, its ring and simple models of the DMA, for sim/test_engine.py.
//
// Plusargs: +program= +image= (hex files for $readmemh, 128-bit words), +words= (of the program),
// +output= (written at the end), +trace= (one line a write: tag, address, data), +ops= (tag and cycle
// of every change of the tag), +stall= (0..255: chance in 256 that a stream, load or store word
// waits), +seed=. `finished` rises when the core is done or has failed.
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
    output logic [11:0]      tag,
    output logic [63:0]      prog_hash,
    output logic [6:0]       cand_count,
    output logic [31:0]      cycles,
    input  wire logic        mem_error
);
  localparam int unsigned WORDS = 65536;
  logic [127:0] program_mem[WORDS];
  logic [127:0] regions[3*WORDS];

  string program_file, image_file, output_file, trace_file, ops_file;
  int words, stall, seed, trace, ops;
  initial begin
    if (!$value$plusargs("program=%s", program_file) || !$value$plusargs("image=%s", image_file)
        || !$value$plusargs("output=%s", output_file) || !$value$plusargs("trace=%s", trace_file)
        || !$value$plusargs("ops=%s", ops_file) || !$value$plusargs("words=%d", words)
        || !$value$plusargs("stall=%d", stall) || !$value$plusargs("seed=%d", seed))
      $fatal(1, "core_bench: a plusarg is missing");
    $readmemh(program_file, program_mem);
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

  // Ring, filled one word a cycle
  logic        rd_en;
  logic [12:0] rd_off;
  logic [127:0] rd_data;
  logic [12:0] avail;
  logic        pop;
  logic [12:0] pop_n;
  logic [12:0] space;
  logic [31:0] fed_q;
  logic        feed;
  assign feed = 32'(fed_q) < words && space != '0 && !stalls(random_q[7:0]) && busy;
  always_ff @(posedge clk) begin
    if (rst || start) fed_q <= '0;
    else if (feed) fed_q <= fed_q + 32'd1;
  end
  stream_ring #(.DEPTH(4096)) u_ring (
      .clk, .rst, .flush(start),
      .alloc(feed), .alloc_words(4'd1), .space,
      .s_valid(feed), .s_data(program_mem[fed_q[15:0]]),
      .rd_en, .rd_off, .rd_data, .avail, .pop, .pop_n
  );

  // LOAD
  logic         ld_req;
  logic [1:0]   ld_region;
  logic [31:0]  ld_offset;
  logic [15:0]  ld_words;
  logic         ld_valid;
  logic [127:0] ld_data;
  logic [17:0]  ld_index_q;
  logic [15:0]  ld_left_q;
  assign ld_valid = ld_left_q != '0 && !stalls(random_q[15:8]);
  assign ld_data = regions[ld_index_q];
  always_ff @(posedge clk) begin
    if (rst || start) ld_left_q <= '0;
    else if (ld_req) begin
      ld_left_q <= ld_words;
      ld_index_q <= {ld_region, 16'd0} + ld_offset[21:4];
    end else if (ld_valid) begin
      ld_left_q <= ld_left_q - 16'd1;
      ld_index_q <= ld_index_q + 18'd1;
    end
  end

  // STORE: after st_ready has fallen 32 words are still taken, as the real one does
  logic         st_req;
  logic [1:0]   st_region;
  logic [31:0]  st_offset;
  logic [15:0]  st_words;
  logic         st_valid;
  logic [127:0] st_data;
  logic         st_ready;
  logic         st_done;
  logic [17:0]  st_index_q;
  logic [15:0]  st_left_q;
  logic [5:0]   skid_q;
  logic         awake = 1'b0;  // has been reset; before that anything may stand anywhere
  always_ff @(posedge clk) begin
    st_ready <= !stalls(random_q[23:16]);
    st_done <= !rst && st_valid && st_left_q == 16'd1;
    skid_q <= (st_ready || rst) ? '0 : skid_q + 6'(st_valid);
    if (rst || start) st_left_q <= '0;
    else if (st_req) begin
      st_left_q <= st_words;
      st_index_q <= {st_region, 16'd0} + st_offset[21:4];
    end else if (st_valid && awake) begin
      if (st_left_q == '0) $fatal(1, "core_bench: a store word nobody announced");
      if (skid_q > 6'd32) $fatal(1, "core_bench: the store buffer ran over");
      regions[st_index_q] <= st_data;
      st_left_q <= st_left_q - 16'd1;
      st_index_q <= st_index_q + 18'd1;
    end
  end

  engine u_engine (
      .clk, .rst, .start, .busy, .done, .error, .error_code, .tag, .prog_hash, .cand_count,
      .mem_error,
      .ring_rd_en(rd_en), .ring_rd_off(rd_off), .ring_rd_data(rd_data), .ring_avail(avail),
      .ring_pop(pop), .ring_pop_n(pop_n),
      .ld_req, .ld_region, .ld_offset, .ld_words, .ld_valid, .ld_data,
      .st_req, .st_region, .st_offset, .st_words, .st_valid, .st_data, .st_ready, .st_done
  );

  // Records
  logic [11:0] tag_q;
  always_ff @(posedge clk) begin
    if (rst || start) cycles <= '0;
    else if (busy) cycles <= cycles + 32'd1;
    tag_q <= tag;
    if (!rst && tag != tag_q) $fwrite(ops, "%0d %0d\n", tag, cycles);
    if (rst) awake <= 1'b1;
    if (awake && u_engine.wr_en)
      $fwrite(trace, "%0d %h %h\n", tag, u_engine.wr_addr, u_engine.wr_data);
    if (awake && rd_en && rd_off >= avail)
      $fatal(1, "core_bench: word %0d of %0d read", rd_off, avail);
    if (awake && pop && pop_n > avail)
      $fatal(1, "core_bench: %0d of %0d words popped", pop_n, avail);
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
