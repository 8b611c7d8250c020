// SPDX-License-Identifier: Apache-2.0
// Reads descriptors from the ring, checks and decodes them, starts the unit that runs each and waits
// until its last word lies in the activation memory.
//
// An operation costs about 12 cycles here and the pipeline's length at its end. On an error the engine
// stops: error, error_code and the tag of the descriptor stay until the next start. busy, done and
// error are levels; start is ignored while busy.
`default_nettype none

module sequencer (
    input  wire logic              clk,
    input  wire logic              rst,
    // host
    input  wire logic              start,
    output logic                   busy,
    output logic                   done,
    output logic                   error,
    output logic [7:0]             error_code,
    output logic [11:0]            tag,
    output logic [63:0]            prog_hash,
    input  wire logic              mem_error,
    // ring
    input  wire logic [12:0]       avail,
    output logic                   ring_rd_en,
    output logic [12:0]            ring_rd_off,
    input  wire logic [127:0]      ring_rd_data,  // RING_LAT after the request
    output logic                   ring_pop,
    output logic [12:0]            ring_pop_n,
    // the operation, constant while it runs
    output logic [3:0]             op,
    output      seq_pkg::geom_t    geom,
    output logic                   linear,
    output logic                   two_halves,
    output logic                   w8,
    output logic                   to_smap,
    output logic [11:0]            k_words,
    output logic [7:0]             tiles,
    output logic [4:0]             last_oc,
    output logic [11:0]            channels,
    output logic [15:0]            act_addr,
    output logic [15:0]            words,
    output logic [31:0]            ddr_offset,
    output logic [1:0]             region,
    output logic [7:0]             classes,
    output logic [15:0]            hm,
    output logic [3:0][15:0]       parts,
    // units: start pulses, and done from 2 cycles after them
    output logic                   abort,  // the units forget what they do
    output logic                   walk_start,
    output logic                   conv_start,
    output logic                   dw_start,
    output logic                   mem_start,
    output logic                   peak_start,
    input  wire logic              conv_done,
    input  wire logic              dw_done,
    input  wire logic              mem_done,
    input  wire logic              peak_done
);
  localparam logic [7:0] ERR_HEAD = 8'd1;  // magic or version
  localparam logic [7:0] ERR_OPCODE = 8'd2;
  localparam logic [7:0] ERR_MEMORY = 8'd3;
  localparam logic [7:0] ERR_FIRST = 8'd4;  // the first descriptor is not HEAD
  localparam logic [7:0] ERR_FIELDS = 8'd5;  // fields that do not go together

  typedef enum logic [3:0] {
    IDLE, READ0, READ1, ARRIVE, CHECK, JUDGE, START, RUN, DRAIN
  } state_t;
  state_t state_q;

  logic [127:0] word0_q;
  logic [127:0] word1_q;
  logic arrive0;
  logic arrive1;
  logic first_q;
  logic [6:0] drain_q;
  logic unit_done;
  logic bad;  // set by JUDGE
  logic [7:0] bad_code;

  assign op = word0_q[isa_pkg::D_OPCODE_LSB+:4];
  logic is_conv;
  logic is_dw;  // DW, DDW or POOL
  logic is_peak;
  logic is_mem;
  assign is_conv = op == isa_pkg::OP_CONV;
  assign is_dw = op == isa_pkg::OP_DW || op == isa_pkg::OP_DDW || op == isa_pkg::OP_POOL;
  assign is_peak = op == isa_pkg::OP_PEAK;
  assign is_mem = op == isa_pkg::OP_LOAD || op == isa_pkg::OP_STORE;

  // Fields
  logic [9:0] in_w;
  assign in_w = word0_q[isa_pkg::G_IN_W_LSB+:10];
  assign linear = is_conv ? !word0_q[isa_pkg::CONV_WINDOWED_LSB] : is_mem;
  always_comb begin
    geom.groups = word0_q[isa_pkg::G_GROUPS_LSB+:13];
    geom.in_signed = word0_q[isa_pkg::G_IN_SIGNED_LSB];
    geom.out_type = word0_q[isa_pkg::G_OUT_TYPE_LSB+:2];
    geom.stride_log2 = word0_q[isa_pkg::G_STRIDE_LOG2_LSB+:2];
    geom.up = word0_q[isa_pkg::G_UP_LSB];
    geom.narrow = word0_q[isa_pkg::G_NARROW_LSB];
    geom.in_w8 = in_w[9:3];
    geom.in_h = word0_q[isa_pkg::G_IN_H_LSB+:10];
    geom.y0 = word0_q[isa_pkg::G_Y0_LSB+:10];
    geom.row_words = word0_q[isa_pkg::G_ROW_WORDS_LSB+:6];
  end
  assign two_halves = geom.narrow && geom.stride_log2 == 2'd1;
  assign w8 = word0_q[isa_pkg::CONV_W8_LSB];
  assign to_smap = word0_q[isa_pkg::CONV_TO_SMAP_LSB];
  assign k_words = word0_q[isa_pkg::CONV_K_WORDS_LSB+:12];
  assign tiles = word0_q[isa_pkg::CONV_TILES_LSB+:8];
  assign last_oc = word0_q[isa_pkg::CONV_LAST_OC_LSB+:5];
  assign channels = word0_q[isa_pkg::DW_CHANNELS_LSB+:12];
  assign act_addr = word0_q[isa_pkg::LOAD_ACT_ADDR_LSB+:16];
  assign words = word0_q[isa_pkg::LOAD_WORDS_LSB+:16];
  assign ddr_offset = word0_q[isa_pkg::LOAD_DDR_OFFSET_LSB+:32];
  assign region = word0_q[isa_pkg::LOAD_REGION_LSB+:2];
  assign classes = word0_q[isa_pkg::PEAK_CLASSES_LSB+:8];
  assign hm = word1_q[isa_pkg::PEAK_HM_LSB-128+:16];
  assign parts = {word1_q[isa_pkg::PEAK_REG_Y_LSB-128+:16], word1_q[isa_pkg::PEAK_REG_X_LSB-128+:16],
                  word1_q[isa_pkg::PEAK_H_LSB-128+:16], word1_q[isa_pkg::PEAK_W_LSB-128+:16]};

  // CHECK registers these, JUDGE decides
  logic bad_head_q;
  logic bad_map_q;  // of whoever walks over a map with windows
  logic bad_conv_q;
  logic bad_dw_q;
  logic bad_peak_q;
  logic bad_mem_q;
  always_ff @(posedge clk) begin
    bad_head_q <= word0_q[isa_pkg::HEAD_MAGIC_LSB+:32] != isa_pkg::MAGIC
                  || word0_q[isa_pkg::HEAD_ISA_VERSION_LSB+:16] != 16'(isa_pkg::ISA_VERSION);
    bad_map_q <= geom.groups == '0 || geom.stride_log2 == 2'd3 || geom.row_words == '0
                 || (geom.up && (geom.stride_log2 != '0 || geom.narrow))
                 || in_w == '0 || in_w[2:0] != '0 || (geom.stride_log2 != '0 && in_w[3])
                 || (geom.narrow && (geom.stride_log2[1] || geom.row_words != 6'd1
                                     || in_w != 10'd8 << geom.stride_log2));
    bad_conv_q <= geom.groups == '0 || k_words == '0 || k_words > 12'(seq_pkg::MAX_K_WORDS)
                  || tiles == '0 || last_oc == '0 || last_oc > (w8 ? 5'd12 : 5'd24)
                  || (to_smap && geom.groups > 13'd1024);
    bad_dw_q <= channels == '0 || geom.stride_log2[1]
                || (op == isa_pkg::OP_DDW && (geom.stride_log2 != '0 || (geom.narrow && geom.y0[0])));
    bad_peak_q <= classes == '0 || geom.stride_log2 != '0 || geom.up || geom.y0 != '0
                  || !geom.in_signed || (!geom.narrow && in_w != {geom.row_words, 4'd0});
    bad_mem_q <= words == '0 || region == 2'd3 || ddr_offset[3:0] != '0;
  end
  always_comb begin
    bad = 1'b0;
    bad_code = ERR_FIELDS;
    if (first_q && op != isa_pkg::OP_HEAD) begin
      bad = 1'b1;
      bad_code = ERR_FIRST;
    end else begin
      case (op)
        isa_pkg::OP_HEAD: begin
          bad = bad_head_q;
          bad_code = ERR_HEAD;
        end
        isa_pkg::OP_END: bad = 1'b0;
        isa_pkg::OP_CONV: bad = bad_conv_q || (!linear && bad_map_q);
        isa_pkg::OP_DW, isa_pkg::OP_DDW, isa_pkg::OP_POOL: bad = bad_map_q || bad_dw_q;
        isa_pkg::OP_PEAK: bad = bad_map_q || bad_peak_q;
        isa_pkg::OP_LOAD, isa_pkg::OP_STORE: bad = bad_mem_q;
        default: begin
          bad = 1'b1;
          bad_code = ERR_OPCODE;
        end
      endcase
    end
  end

  always_comb begin
    if (is_conv) unit_done = conv_done;
    else if (is_dw) unit_done = dw_done;
    else if (is_peak) unit_done = peak_done;
    else unit_done = mem_done;
  end

  logic failed;
  assign failed = busy && (mem_error || (state_q == JUDGE && bad));
  always_ff @(posedge clk) begin
    if (rst || failed) begin
      state_q <= IDLE;
    end else begin
      case (state_q)
        IDLE: if (start) state_q <= READ0;
        READ0: if (avail > 13'd1) state_q <= READ1;
        READ1: state_q <= ARRIVE;
        ARRIVE: if (arrive1) state_q <= CHECK;
        CHECK: state_q <= JUDGE;
        JUDGE: begin
          if (op == isa_pkg::OP_END) state_q <= IDLE;
          else if (op == isa_pkg::OP_HEAD) state_q <= READ0;
          else state_q <= START;
        end
        START: if (drain_q == 7'd1) state_q <= RUN;
        RUN: if (unit_done) state_q <= DRAIN;
        default: if (drain_q == '0) state_q <= READ0;
      endcase
    end
  end
  assign busy = state_q != IDLE;
  assign abort = failed;

  // START lasts two cycles, the pulse is in the first; DRAIN as long as the pipeline
  logic pulse;
  assign pulse = state_q == START && drain_q == '0;
  assign walk_start = pulse && !is_mem;
  assign conv_start = pulse && is_conv;
  assign dw_start = pulse && is_dw;
  assign peak_start = pulse && is_peak;
  assign mem_start = pulse && is_mem;
  always_ff @(posedge clk) begin
    case (state_q)
      START: drain_q <= drain_q + 7'd1;
      RUN: drain_q <= is_conv ? 7'(seq_pkg::CONV_DRAIN) : 7'(seq_pkg::DW_DRAIN);
      DRAIN: drain_q <= drain_q - 7'd1;
      default: drain_q <= '0;
    endcase
  end

  assign ring_rd_en = (state_q == READ0 && avail > 13'd1) || state_q == READ1;
  assign ring_rd_off = (state_q == READ1) ? 13'd1 : 13'd0;
  assign ring_pop = state_q == READ1;
  assign ring_pop_n = 13'd2;
  delay #(.WIDTH(2), .LATENCY(seq_pkg::RING_LAT), .RESET(1'b1)) u_arrive (
      .clk, .rst, .d({state_q == READ1, ring_rd_en && state_q == READ0}), .q({arrive1, arrive0})
  );
  always_ff @(posedge clk) begin
    if (arrive0) word0_q <= ring_rd_data;
    if (arrive1) word1_q <= ring_rd_data;
    if (arrive1) tag <= word0_q[isa_pkg::D_TAG_LSB+:12];
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      done <= 1'b0;
      error <= 1'b0;
      error_code <= '0;
      first_q <= 1'b1;
      prog_hash <= '0;
    end else if (!busy && start) begin
      done <= 1'b0;
      error <= 1'b0;
      error_code <= '0;
      first_q <= 1'b1;
    end else if (failed) begin
      error <= 1'b1;
      error_code <= mem_error ? ERR_MEMORY : bad_code;
    end else if (state_q == JUDGE) begin
      first_q <= 1'b0;
      if (op == isa_pkg::OP_END) done <= 1'b1;
      if (op == isa_pkg::OP_HEAD) prog_hash <= word0_q[isa_pkg::HEAD_HASH_LSB+:64];
    end
  end

  logic unused;
  assign unused = &{1'b0, word1_q[127:80]};
endmodule

`default_nettype wire
