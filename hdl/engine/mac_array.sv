// SPDX-License-Identifier: Apache-2.0
// The multiplier array: 24 output channels x 16 pixels accumulate one input channel's tap a cycle.
//
// Every cycle with `valid` does acc[oc][lane] += weight[oc] * vec[lane] for the 24 int4 weights
// (narrow, -7..7), or the 12 int8 weights of w8. A chunk runs from `first` (the sums start anew) to
// `last`, at most 512 words (engine.md: no packed field overflows; both may be in one cycle). With
// `last` come what concerns the chunk: chunk_first (its sums start the channel's total, else they
// are added to the partial sums kept here), chunk_last (the totals are complete and come out, else
// they are kept), n_oc (channels to drain, 1..24, or 1..12 with w8), side (comes out with them).
//
// Rule between two `last`: the next may come n_oc cycles after the previous one or later, n_oc being
// that of the previous one. (The snapshot of the sums drains one channel a cycle while the next
// chunk runs.) Nothing else is required: gaps in `valid` are free anywhere, a chunk may begin in the
// cycle after `last`. `w8` comes with each word and stays the same for all the words of a chunk.
//
// Latency: channel c comes out MAC_LAT + c = 9 + c cycles after its `last`; d_acc holds otherwise.
// Out: totals modulo 2**ACC_W, without bias.
// Resources: 192 DSP48E1 with A, B, M, P inside; 8.1k FF of snapshot, 4k FF and 4k LUT (320 of
// them RAM for the partial sums) to read it out.
`default_nettype none

module mac_array #(
    parameter int unsigned SIDE_W = 16  // bits carried from `last` to the output
) (
    input  wire logic                                            clk,
    input  wire logic                                            rst,
    // one weight word and its pixels
    input  wire logic                                            valid,
    input  wire logic                                            first,
    input  wire logic                                            last,
    input  wire logic                                            w8,
    input  wire logic [engine_pkg::LANES-1:0][engine_pkg::PIX_W-1:0] vec,  // columns 0..11
    input  wire logic [engine_pkg::LANES-1:0][engine_pkg::PIX_W-1:0] vec_hi,  // columns 12..23
    input  wire logic [                                     95:0] weights,
    // with `last`
    input  wire logic                                            chunk_first,
    input  wire logic                                            chunk_last,
    input  wire logic                                            pair,
    input  wire logic [                     engine_pkg::OC_W-1:0] n_oc,
    input  wire logic [                               SIDE_W-1:0] side,
    // one channel a cycle
    output logic                                                 d_valid,
    output logic [                          engine_pkg::OC_W-1:0] d_oc,
    output logic [engine_pkg::LANES-1:0][engine_pkg::ACC_W-1:0]   d_acc,
    output logic [                                    SIDE_W-1:0] d_side
);
  localparam int unsigned LANES = engine_pkg::LANES;
  localparam int unsigned OC = engine_pkg::OC;
  localparam int unsigned OC_W = engine_pkg::OC_W;
  localparam int unsigned PIX_W = engine_pkg::PIX_W;
  localparam int unsigned ACC_W = engine_pkg::ACC_W;

  localparam int unsigned PAIRS = OC / 2;
  localparam int unsigned QUADS = (PAIRS + 3) / 4;
  localparam int unsigned SUM_W = 25;  // an unpacked sum: 512 * 128 * 255 < 2**24

  if (OC != 4 && (OC % 8 != 0 || OC > 24)) begin : g_illegal
    mac_array_has_4_8_16_or_24_channels u_illegal ();
  end

  typedef struct packed {
    logic              w8;
    logic              chunk_first;
    logic              chunk_last;
    logic              pair;
    logic [OC_W-1:0]   n_oc;
    logic [SIDE_W-1:0] side;
  } chunk_t;

  // What a stage of the read-out works on
  typedef struct packed {
    logic              chunk_first;
    logic              chunk_last;
    logic [OC_W-1:0]   oc;
    logic [SIDE_W-1:0] side;
  } drain_t;

  // 1: packed weights and pixels; 2: A, B; 3: M; 4: P
  logic [3:1] valid_q, first_q;
  logic [4:1] last_q;
  chunk_t chunk_d, chunk1_q, chunk2_q, chunk3_q, chunk4_q, chunk5_q;
  logic signed [24:0] pack_d[PAIRS], pack_q[PAIRS];
  logic signed [PIX_W-1:0] vec_q[2][LANES];  // of the lower and of the upper columns
  logic [41:0] sums[4*QUADS][LANES];  // beyond PAIRS: never looked at

  always_comb begin
    chunk_d.w8 = w8;
    chunk_d.chunk_first = chunk_first;
    chunk_d.chunk_last = chunk_last;
    chunk_d.pair = pair;
    chunk_d.n_oc = n_oc;
    chunk_d.side = side;
  end

  // w1 * 2**21 + w0: a negative w0 borrows one from w1
  always_comb begin
    for (int unsigned p = 0; p < PAIRS; p++) begin
      logic [3:0] w0, w1;
      w0 = weights[8*p+:4];
      w1 = weights[8*p+4+:4];
      if (w8) pack_d[p] = {{17{w1[3]}}, w1, w0};
      else pack_d[p] = {w1 - {3'd0, w0[3]}, {17{w0[3]}}, w0};
    end
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      valid_q <= '0;
      last_q  <= '0;
    end else begin
      valid_q <= {valid_q[2:1], valid};
      last_q  <= {last_q[3:1], valid && last};
    end
    first_q  <= {first_q[2:1], first};
    chunk1_q <= chunk_d;
    chunk2_q <= chunk1_q;
    chunk3_q <= chunk2_q;
    chunk4_q <= chunk3_q;
  end

  always_ff @(posedge clk) begin
    if (valid) begin
      pack_q <= pack_d;
      for (int unsigned x = 0; x < LANES; x++) begin
        vec_q[0][x] <= vec[x];
        vec_q[1][x] <= vec_hi[x];
      end
    end
  end

  for (genvar p = 0; p < PAIRS; p++) begin : g_pair
    for (genvar x = 0; x < LANES; x++) begin : g_lane
      mac_pair u_mac (
          .clk(clk),
          .ab_en(valid_q[1]),
          .a(pack_q[p]),
          .b(vec_q[2*p/PAIRS][x]),
          .m_en(valid_q[2]),
          .p_en(valid_q[3]),
          .p_clear(first_q[3]),
          .p(sums[p][x])
      );
    end
  end

  for (genvar p = PAIRS; p < 4 * QUADS; p++) begin : g_none
    for (genvar x = 0; x < LANES; x++) begin : g_lane
      assign sums[p][x] = '0;
    end
  end

  // 5: the snapshot, read out one channel a cycle while `run_q`
  logic run_q;
  logic [OC_W-1:0] oc_q;
  logic [OC_W-1:0] column_q;  // of channel oc_q
  logic half_end_q;  // pair: oc_q is the last channel of the lower columns
  drain_t drain_d, drain6_q, drain7_q, drain8_q;
  logic valid6_q, valid7_q, valid8_q, w8_6_q, w8_7_q;
  logic high6_q, high7_q;  // the upper field of the packed sum
  logic [3:0] pair_d;
  logic [1:0] pair_high_q;

  always_ff @(posedge clk) begin
    if (rst) run_q <= 1'b0;
    else if (last_q[4]) run_q <= 1'b1;
    else if (oc_q == chunk5_q.n_oc - 1'b1) run_q <= 1'b0;
  end

  always_ff @(posedge clk) begin
    if (last_q[4]) begin
      chunk5_q <= chunk4_q;
      oc_q <= '0;
      column_q <= '0;
      half_end_q <= chunk4_q.pair && chunk4_q.n_oc[OC_W-1:1] == (OC_W - 1)'(1);
    end else begin
      oc_q <= oc_q + 1'b1;
      column_q <= half_end_q ? OC_W'(OC / 2) : column_q + 1'b1;
      half_end_q <= chunk5_q.pair && oc_q + OC_W'(2) == {1'b0, chunk5_q.n_oc[OC_W-1:1]};
    end
  end

  always_comb begin
    drain_d.chunk_first = chunk5_q.chunk_first;
    drain_d.chunk_last = chunk5_q.chunk_last;
    drain_d.oc = oc_q;
    drain_d.side = chunk5_q.side;
    pair_d = chunk5_q.w8 ? column_q[3:0] : column_q[4:1];
  end

  always_ff @(posedge clk) begin
    if (rst) {valid6_q, valid7_q, valid8_q, d_valid} <= '0;
    else begin
      valid6_q <= run_q;
      valid7_q <= valid6_q;
      valid8_q <= valid7_q;
      d_valid  <= valid8_q && drain8_q.chunk_last;
    end
    drain6_q <= drain_d;
    w8_6_q <= chunk5_q.w8;
    w8_7_q <= w8_6_q;
    high6_q <= column_q[0];
    high7_q <= high6_q;
    drain7_q <= drain6_q;
    drain8_q <= drain7_q;
    pair_high_q <= pair_d[3:2];
    if (valid8_q) begin
      d_oc   <= drain8_q.oc;
      d_side <= drain8_q.side;
    end
  end

  // The partial sum read in this cycle is the one written in it: only after a chunk of one channel
  logic again;
  assign again = valid8_q && !drain8_q.chunk_last && drain8_q.oc == drain7_q.oc;

  for (genvar x = 0; x < LANES; x++) begin : g_drain
    logic [41:0] snap_q[4*QUADS];
    logic [41:0] quad_q[QUADS];  // 6: one of four pairs, QUADS times
    logic [41:0] pair_q;  // 7: one of these
    logic [SUM_W-1:0] sum_d, sum_q;  // 8: unpacked
    logic [ACC_W-1:0] before_q;  // 8: the partial sum
    logic [ACC_W-1:0] total_d, total_q;  // 9: with it
    (* ram_style = "distributed" *) logic [ACC_W-1:0] partial[1 << OC_W];

    always_ff @(posedge clk) begin
      if (last_q[4]) begin
        for (int unsigned p = 0; p < 4 * QUADS; p++) snap_q[p] <= sums[p][x];
      end
    end

    always_ff @(posedge clk) begin
      if (run_q) begin
        for (int unsigned k = 0; k < QUADS; k++) begin
          case (pair_d[1:0])
            2'd0: quad_q[k] <= snap_q[4*k];
            2'd1: quad_q[k] <= snap_q[4*k+1];
            2'd2: quad_q[k] <= snap_q[4*k+2];
            default: quad_q[k] <= snap_q[4*k+3];
          endcase
        end
      end
      if (valid6_q) begin
        pair_q <= quad_q[QUADS-1];
        for (int k = 0; k < int'(QUADS) - 1; k++) begin
          if (pair_high_q == 2'(k)) pair_q <= quad_q[k];
        end
      end
    end

    // The low field is signed and has borrowed from the high one
    always_comb begin
      logic [20:0] high;
      high = pair_q[41:21] + {20'd0, pair_q[20]};
      if (w8_7_q) sum_d = pair_q[SUM_W-1:0];
      else if (high7_q) sum_d = SUM_W'($signed(high));
      else sum_d = SUM_W'($signed(pair_q[20:0]));
    end

    assign total_d = ACC_W'($signed(sum_q)) + before_q;

    always_ff @(posedge clk) begin
      if (valid7_q) sum_q <= sum_d;
      if (drain7_q.chunk_first) before_q <= '0;
      else if (again) before_q <= total_d;
      else before_q <= partial[drain7_q.oc];
      if (valid8_q) total_q <= total_d;
      if (valid8_q && !drain8_q.chunk_last) partial[drain8_q.oc] <= total_d;
    end

    assign d_acc[x] = total_q;
  end

  logic unused;
  assign unused = &{1'b0, drain8_q.chunk_first};
endmodule

`default_nettype wire
