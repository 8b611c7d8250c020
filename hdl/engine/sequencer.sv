// SPDX-License-Identifier: Apache-2.0
// One queue: reads descriptors from the ring, checks them, starts the unit that runs each and waits
// until its last word lies in memory. The next descriptor is read and checked while the last words
// of the current one are on their way; it starts when `others` (the operations that the other queue
// has completed) has reached its `wait`.
//
// On an error the engine stops both queues (`abort`); the tag of the descriptor stays until the next
// start. busy and done are levels; start is ignored while busy.
//
// Latency: 9 cycles from the request of a descriptor until its unit starts. Interval: 2 cycles from the
// end of an operation until the next one starts, if that has been read and may start.
`default_nettype none

module sequencer #(
    parameter logic QUEUE = isa_pkg::QUEUE_ARRAY,
    parameter int unsigned ACT_WORDS = engine_pkg::ACT_WORDS,
    localparam int unsigned COUNT_W = (QUEUE == isa_pkg::QUEUE_LANES) ? 10 : 13
) (
    input  wire logic               clk,
    input  wire logic               rst,
    // engine
    input  wire logic               start,
    input  wire logic               abort,  // an error, here or elsewhere
    output logic                    busy,
    output logic                    done,  // END has been reached
    output logic                    failed,  // until abort, with the code; the tag is good one later
    output logic [7:0]              error_code,
    output logic [11:0]             tag,  // of the operation that runs, or failed
    output logic                    running,  // from the unit's start until the operation is completed
    output logic [63:0]             prog_hash,
    // tokens
    output logic [11:0]             completed,  // operations
    input  wire logic [11:0]        others,
    // ring
    input  wire logic [COUNT_W-1:0] avail,
    output logic                    ring_rd_en,
    output logic                    ring_rd_off,
    input  wire logic [127:0]       ring_rd_data,  // RING_LAT after the request
    output logic                    ring_pop,  // of two words
    // the operation, constant while it runs
    output logic [255:0]            desc,
    output      seq_pkg::geom_t     geom,
    // its unit: done from 2 cycles after the pulse
    output logic                    unit_start,
    input  wire logic               unit_issued,  // has taken its last word from the ring
    input  wire logic               unit_done,  // and sent its last request
    input  wire logic [6:0]         drain,  // cycles to wait from then on
    input  wire logic               quiet  // no result is on its way to the memory any more
);
  localparam logic [7:0] ERR_HEAD = 8'd1;  // magic, version or queue
  localparam logic [7:0] ERR_OPCODE = 8'd2;  // unknown, or not one of this queue
  localparam logic [7:0] ERR_FIRST = 8'd4;  // the first descriptor is not HEAD
  localparam logic [7:0] ERR_FIELDS = 8'd5;  // fields that do not go together
  localparam logic ARRAY = QUEUE == isa_pkg::QUEUE_ARRAY;

  // ---- the next descriptor
  typedef enum logic [3:0] {
    IDLE, READ0, READ1, ARRIVE, CHECK0, CHECK1, JUDGE, READY, TAKEN
  } read_t;
  typedef enum logic [2:0] {FREE, START, SETTLE, RUN, DRAIN} run_t;
  read_t read_q;
  run_t run_q;
  logic [127:0] word0_q;
  logic [127:0] word1_q;
  logic arrive0;
  logic arrive1;
  logic first_q;
  logic bad_q;
  logic token_q;  // the other queue is far enough
  logic go;
  logic ends;
  logic [3:0] op;
  assign op = word0_q[isa_pkg::D_OPCODE_LSB+:4];
  assign go = read_q == READY && run_q == FREE && !bad_q && token_q
              && op != isa_pkg::OP_END;
  assign ends = read_q == READY && run_q == FREE && !bad_q && op == isa_pkg::OP_END;
  assign failed = read_q == READY && run_q == FREE && bad_q;

  always_ff @(posedge clk) begin
    if (rst || abort) begin
      read_q <= IDLE;
    end else begin
      case (read_q)
        IDLE: if (start) read_q <= READ0;
        READ0: if (avail > COUNT_W'(1)) read_q <= READ1;
        READ1: read_q <= ARRIVE;
        ARRIVE: if (arrive1) read_q <= CHECK0;
        CHECK0: read_q <= CHECK1;
        CHECK1: read_q <= JUDGE;
        JUDGE: read_q <= READY;
        READY: begin
          if (ends) read_q <= IDLE;
          else if (go) read_q <= (op == isa_pkg::OP_HEAD) ? READ0 : TAKEN;
        end
        default: if (run_q == RUN && unit_issued) read_q <= READ0;
      endcase
    end
  end
  assign busy = read_q != IDLE;

  assign ring_rd_en = (read_q == READ0 && avail > COUNT_W'(1)) || read_q == READ1;
  assign ring_rd_off = read_q == READ1;
  assign ring_pop = read_q == READ1;
  delay #(.WIDTH(2), .LATENCY(seq_pkg::RING_LAT), .RESET(1'b1)) u_arrive (
      .clk, .rst, .d({read_q == READ1, ring_rd_en && read_q == READ0}), .q({arrive1, arrive0})
  );
  always_ff @(posedge clk) begin
    if (arrive0) word0_q <= ring_rd_data;
    if (arrive1) word1_q <= ring_rd_data;
    token_q <= others >= word1_q[isa_pkg::D_WAIT_LSB-128+:12];
  end

  // ---- its checks: CHECK0 and CHECK1 fill registers, JUDGE decides
  logic [12:0] groups;
  logic [1:0] stride_log2;
  logic up;
  logic narrow;
  logic [9:0] in_w;
  logic [9:0] in_h;
  logic [5:0] row_words;
  assign groups = word0_q[isa_pkg::G_GROUPS_LSB+:13];
  assign stride_log2 = word0_q[isa_pkg::G_STRIDE_LOG2_LSB+:2];
  assign up = word0_q[isa_pkg::G_UP_LSB];
  assign narrow = word0_q[isa_pkg::G_NARROW_LSB];
  assign in_w = word0_q[isa_pkg::G_IN_W_LSB+:10];
  assign in_h = word0_q[isa_pkg::G_IN_H_LSB+:10];
  assign row_words = word0_q[isa_pkg::G_ROW_WORDS_LSB+:6];

  logic bad_head_q;
  logic bad_map_q;  // of whoever walks over a map with windows or rows
  always_ff @(posedge clk) begin
    bad_head_q <= word0_q[isa_pkg::HEAD_MAGIC_LSB+:32] != isa_pkg::MAGIC
                  || word0_q[isa_pkg::HEAD_ISA_VERSION_LSB+:16] != 16'(isa_pkg::ISA_VERSION)
                  || word1_q[isa_pkg::HEAD_QUEUE_LSB-128] != QUEUE;
    bad_map_q <= stride_log2 == 2'd3 || row_words == '0 || in_h == '0
                 || (up && (stride_log2 != '0 || narrow))
                 || in_w == '0 || in_w[2:0] != '0 || (stride_log2 != '0 && in_w[3])
                 || (narrow && (stride_log2[1] || row_words != 6'd1
                                || in_w != 10'd8 << stride_log2));
  end

  logic unknown;  // the opcode is none of this queue
  logic bad_op;
  if (ARRAY) begin : g_array
    logic [11:0] k_words;
    logic [4:0] last_oc;
    logic w8;
    logic windowed;
    logic bad_conv_q;
    logic bad_pair_q;
    logic bad_smap_q;
    logic [13:0] smap_end_q;
    assign k_words = word0_q[isa_pkg::CONV_K_WORDS_LSB+:12];
    assign last_oc = word0_q[isa_pkg::CONV_LAST_OC_LSB+:5];
    assign w8 = word0_q[isa_pkg::CONV_W8_LSB];
    assign windowed = word0_q[isa_pkg::CONV_WINDOWED_LSB];
    always_ff @(posedge clk) begin
      bad_conv_q <= groups == '0 || k_words == '0 || k_words > 12'(seq_pkg::MAX_K_WORDS)
                    || word0_q[isa_pkg::CONV_TILES_LSB+:8] == '0
                    || last_oc == '0 || last_oc > (w8 ? 5'(engine_pkg::OC / 2) : 5'(engine_pkg::OC));
      bad_pair_q <= word0_q[isa_pkg::CONV_PAIR_LSB]
                    && (windowed || w8 || groups[0] || last_oc[0]
                        || word0_q[isa_pkg::CONV_TILES_LSB+:8] != 8'd1);
      smap_end_q <= {1'b0, groups} + {4'd0, word0_q[isa_pkg::CONV_SMAP_BASE_LSB+:10]};
      bad_smap_q <= word0_q[isa_pkg::CONV_TO_SMAP_LSB] && smap_end_q > 14'd1024;
    end
    assign unknown = op != isa_pkg::OP_CONV;
    assign bad_op = bad_conv_q || bad_pair_q || bad_smap_q || (windowed && bad_map_q);
  end else begin : g_lanes
    logic [9:0] y0;
    logic [9:0] rows;
    logic bad_dw_q;
    logic bad_peak_q;
    logic bad_mem_q;
    logic bad_rows_q;  // beyond the map
    logic [10:0] last_row_q;
    logic [16:0] map8_q;  // 8-pixel pieces of the map of dilations
    logic bad_deform_q;
    logic [31:0] moved_q;  // from the first run to the one after the last
    logic [16:0] run_end_q;
    logic bad_end_q;
    logic [15:0] more_runs;  // after the first
    assign y0 = word0_q[isa_pkg::G_Y0_LSB+:10];
    assign rows = word0_q[isa_pkg::DW_ROWS_LSB+:10];
    assign more_runs = word1_q[isa_pkg::LOAD_RUNS_LSB-128+:16] - 16'd1;
    always_ff @(posedge clk) begin
      bad_dw_q <= word0_q[isa_pkg::DW_CHANNELS_LSB+:12] == '0 || rows == '0 || stride_log2[1]
                  || (narrow && (y0[0] || rows[0]));
      last_row_q <= {1'b0, y0} + {1'b0, rows} - 11'd1;
      bad_rows_q <= {1'b0, last_row_q} << stride_log2[0] >= {2'd0, in_h};
      map8_q <= 17'(10'(in_h >> up)) * 17'(in_w[9:3]);
      bad_deform_q <= op == isa_pkg::OP_DDW && (stride_log2 != '0 || map8_q > 17'd2048);
      bad_peak_q <= groups == '0 || word0_q[isa_pkg::PEAK_CLASSES_LSB+:8] == '0
                    || stride_log2 != '0 || up || narrow || y0 != '0
                    || !word0_q[isa_pkg::G_IN_SIGNED_LSB] || in_w != {row_words, 4'd0};
      bad_mem_q <= word0_q[isa_pkg::LOAD_WORDS_LSB+:16] == '0
                   || word1_q[isa_pkg::LOAD_RUNS_LSB-128+:16] == '0
                   || word0_q[isa_pkg::LOAD_REGION_LSB+:2] == 2'd3
                   || word0_q[isa_pkg::LOAD_DDR_OFFSET_LSB+:4] != '0;
      moved_q <= 32'(more_runs) * 32'(word1_q[isa_pkg::LOAD_ACT_STRIDE_LSB-128+:16]);
      run_end_q <= {1'b0, word0_q[isa_pkg::LOAD_ACT_ADDR_LSB+:16]}
                   + {1'b0, word0_q[isa_pkg::LOAD_WORDS_LSB+:16]};
      bad_end_q <= {1'b0, moved_q} + {16'd0, run_end_q} > 33'(ACT_WORDS);
    end
    always_comb begin
      unknown = 1'b0;
      bad_op = 1'b0;
      case (op)
        isa_pkg::OP_DW, isa_pkg::OP_DDW, isa_pkg::OP_POOL:
          bad_op = bad_map_q || bad_dw_q || bad_rows_q || bad_deform_q;
        isa_pkg::OP_PEAK: bad_op = bad_map_q || bad_peak_q;
        isa_pkg::OP_LOAD, isa_pkg::OP_STORE: bad_op = bad_mem_q || bad_end_q;
        isa_pkg::OP_EMIT: bad_op = 1'b0;
        default: unknown = 1'b1;
      endcase
    end
  end

  always_ff @(posedge clk) begin
    if (first_q && op != isa_pkg::OP_HEAD) begin
      bad_q <= 1'b1;
      error_code <= ERR_FIRST;
    end else if (op == isa_pkg::OP_HEAD) begin
      bad_q <= bad_head_q;
      error_code <= ERR_HEAD;
    end else if (op == isa_pkg::OP_END) begin
      bad_q <= 1'b0;
      error_code <= ERR_FIELDS;
    end else begin
      bad_q <= unknown || bad_op;
      error_code <= unknown ? ERR_OPCODE : ERR_FIELDS;
    end
  end

  // ---- the operation that runs
  logic [6:0] drain_q;
  logic drained;
  assign drained = run_q == DRAIN && drain_q == '0 && quiet;
  always_ff @(posedge clk) begin
    if (rst || abort) begin
      run_q <= FREE;
    end else begin
      case (run_q)
        FREE: if (go && op != isa_pkg::OP_HEAD) run_q <= START;
        START: run_q <= SETTLE;
        SETTLE: run_q <= RUN;
        RUN: if (unit_done) run_q <= DRAIN;
        default: if (drained) run_q <= FREE;
      endcase
    end
    if (run_q == RUN) drain_q <= drain;
    else if (drain_q != '0) drain_q <= drain_q - 7'd1;
    if (go) desc <= {word1_q, word0_q};
  end
  assign unit_start = run_q == START;
  assign running = run_q != FREE;

  always_comb begin
    geom.groups = desc[isa_pkg::G_GROUPS_LSB+:13];
    geom.in_signed = desc[isa_pkg::G_IN_SIGNED_LSB];
    geom.out_type = desc[isa_pkg::G_OUT_TYPE_LSB+:2];
    geom.stride_log2 = desc[isa_pkg::G_STRIDE_LOG2_LSB+:2];
    geom.up = desc[isa_pkg::G_UP_LSB];
    geom.narrow = desc[isa_pkg::G_NARROW_LSB];
    geom.in_w8 = desc[isa_pkg::G_IN_W_LSB+3+:7];
    geom.in_h = desc[isa_pkg::G_IN_H_LSB+:10];
    geom.y0 = desc[isa_pkg::G_Y0_LSB+:10];
    geom.row_words = desc[isa_pkg::G_ROW_WORDS_LSB+:6];
  end

  // ---- what the host and the other queue see
  always_ff @(posedge clk) begin
    if (rst) begin
      done <= 1'b0;
      first_q <= 1'b1;
      prog_hash <= '0;
      tag <= '0;
      completed <= '0;
    end else if (!busy && start) begin
      done <= 1'b0;
      first_q <= 1'b1;
      completed <= '0;
    end else begin
      if (go || failed) tag <= word0_q[isa_pkg::D_TAG_LSB+:12];
      if (go) first_q <= 1'b0;
      if (go && op == isa_pkg::OP_HEAD) prog_hash <= word0_q[isa_pkg::HEAD_HASH_LSB+:64];
      if (ends) done <= 1'b1;
      if (drained) completed <= completed + 12'd1;
    end
  end
endmodule

`default_nettype wire
