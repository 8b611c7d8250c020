// SPDX-License-Identifier: Apache-2.0
// PEAK: finds the best CANDIDATES cells that equal the 3x3 maximum of their class (docs/engine.md) and
// writes them into the list that EMIT sends.
//
// Scan 1 goes over all classes, a word a cycle, and counts the peaks of each value; peak_rank keeps
// the threshold that lets CANDIDATES of them in, and peaks that do not matter any more are left out
// at once. Scan 2 writes every peak above the threshold. If those at the threshold (ties) do not all
// fit, it notes the words that have some; these words are then read one after the other, all classes,
// and their ties taken until one word's do not all fit: this one is read lane by lane, which takes
// them in the exact order: row, column, class.
//
// Cycles: 2 a class and word; 3 a class for each word whose ties are needed, 48 a class for the last
// one; some hundred for the peaks that are counted; up to 256 each to clear the counters and to raise
// the threshold; one a word to find ties.
// The planes of the classes follow one another; y0 = 0 and a row of words spans the map's width.
`default_nettype none

module peak (
    input  wire logic                   clk,
    input  wire logic                   rst,
    input  wire logic                   forget,  // the list, as a frame begins
    // operation: constant while it runs
    input  wire logic                   start,
    input  wire seq_pkg::geom_t         geom,
    input  wire logic [7:0]             classes,
    input  wire logic [15:0]            hm,
    input  wire logic                   hold,
    output logic                        done,
    // walk over the rows of a plane
    input  wire logic                   entry_valid,
    input  wire seq_pkg::entry_t        entry,
    output logic                        entry_take,  // of one that is there
    // to the memory and the lanes
    output      seq_pkg::lane_request_t request,
    // from the lanes, LANE_LAT after the entry that follows the row
    input  wire logic                   lanes_valid,
    input  wire logic [15:0][8:0]       lanes_center,
    input  wire logic [15:0]            lanes_peak,
    // list
    output logic                        list_we,
    output logic [6:0]                  list_index,
    output      seq_pkg::found_t        list_found,
    output logic [6:0]                  list_count
);
  localparam int unsigned RESULT_DEPTH = 32;
  // From the decision on an entry until the result of the one before it is there
  localparam int unsigned RESULT_LAT = 1 + seq_pkg::INSERT_LAT + engine_pkg::LANE_LAT;
  localparam int unsigned FULL = 8;  // RESULT_LAT + 4 more may come
  localparam int unsigned PLACE_W = 8 + 13 + 10 + 6 + 4 + 1;
  localparam int unsigned RESULT_W = 128 + 16 + 8 + 13 + 10 + 6 + 1;
  if (FULL + RESULT_LAT + 4 > RESULT_DEPTH) begin : g_illegal
    peak_results_must_have_room u_illegal ();
  end

  // Where a result belongs
  typedef struct packed {
    logic [7:0]  class_id;
    logic [12:0] g;
    logic [9:0]  y;
    logic [5:0]  xo;
    logic [3:0]  lane;  // EXACT: the one that counts
    logic        last;  // of the phase, or of the word with ties
  } place_t;

  typedef enum logic [2:0] {IDLE, CLEAR, SCAN, FLUSH, WAIT, NEXT, FIND, WORD} state_t;
  typedef enum logic [1:0] {COUNT, WRITE, TIES, EXACT} phase_t;
  state_t state_q;
  phase_t phase_q;
  logic scanning_q;  // state_q is SCAN: the walk waits for it
  logic clearing;
  logic scan_end;
  logic flush;
  logic word_end;
  logic ended;  // the result with `last` has been dealt with
  logic found;
  logic missed;  // no word with ties is left
  logic all_fit_q;
  logic over_q;  // the word's ties do not all fit
  logic [6:0] left_q;  // ties that may still go in
  always_ff @(posedge clk) begin
    if (rst) begin
      state_q <= IDLE;
      phase_q <= COUNT;
    end else begin
      case (state_q)
        IDLE: if (start) begin
          state_q <= CLEAR;
          phase_q <= COUNT;
        end
        CLEAR: if (!clearing) state_q <= SCAN;
        SCAN: if (scan_end) state_q <= FLUSH;
        FLUSH: if (flush) state_q <= WAIT;
        WAIT: if (ended) state_q <= NEXT;
        NEXT: begin
          case (phase_q)
            COUNT: begin
              state_q <= SCAN;
              phase_q <= WRITE;
            end
            WRITE: begin
              state_q <= all_fit_q ? IDLE : FIND;
              phase_q <= TIES;
            end
            TIES: begin
              if (over_q) begin
                state_q <= WORD;
                phase_q <= EXACT;
              end else begin
                state_q <= (left_q == '0) ? IDLE : FIND;
              end
            end
            default: state_q <= IDLE;
          endcase
        end
        FIND: if (found) state_q <= WORD;
              else if (missed) state_q <= IDLE;
        default: if (word_end) state_q <= WAIT;
      endcase
    end
  end
  assign done = state_q == IDLE;
  always_ff @(posedge clk) begin
    if (rst) scanning_q <= 1'b0;
    else scanning_q <= (state_q == CLEAR && !clearing) || (state_q == NEXT && phase_q == COUNT)
                       || (scanning_q && !scan_end);
  end

  // ---- entries: of the walk, or three rows of each class of one word
  logic hold_q;
  logic [5:0] level;  // of the queue of results
  logic room_q;  // neither hold nor too many results
  logic issue;
  logic scan;
  logic word;
  logic [7:0] class_q;
  logic last_class;
  logic last_class_q;
  logic [7:0] class_before_q;  // the one before the last
  logic [15:0] plane_q;
  logic class_end;
  logic [1:0] row_q;
  logic [3:0] lane_q;
  logic [12:0] word_g_q;
  logic [9:0] word_y_q;
  logic [5:0] word_xo_q;
  logic [16:0] word_base8;
  place_t place_d;
  place_t place_q;  // of the entry before
  assign entry_take = scanning_q && room_q;
  assign scan = entry_take && entry_valid;
  assign word = state_q == WORD && room_q;
  assign flush = state_q == FLUSH && !hold_q;
  assign issue = scan || word;
  assign last_class = last_class_q;
  assign class_end = (scan && entry.last) || (word && row_q == 2'd2);
  assign scan_end = scan && entry.last && last_class;
  assign word_end = word && row_q == 2'd2 && last_class && (phase_q == TIES || lane_q == '1);
  always_ff @(posedge clk) begin
    hold_q <= hold;
    room_q <= !rst && !hold && level < 6'(FULL);
    class_before_q <= classes - 8'd2;
    if (state_q == IDLE || (class_end && last_class)) begin
      class_q <= '0;
      last_class_q <= classes == 8'd1;
      plane_q <= hm;
    end else if (class_end) begin
      class_q <= class_q + 8'd1;
      last_class_q <= class_q == class_before_q;
      plane_q <= plane_q + {3'd0, geom.groups};
    end
    if (state_q != WORD) row_q <= '0;
    else if (word) row_q <= (row_q == 2'd2) ? 2'd0 : row_q + 2'd1;
    if (state_q != WORD) lane_q <= '0;
    else if (class_end && last_class) lane_q <= lane_q + 4'd1;
  end
  always_comb begin
    word_base8 = {3'd0, word_g_q, 1'b0};
    if (row_q == 2'd0) word_base8 -= {10'd0, geom.row_words, 1'b0};
    if (row_q == 2'd2) word_base8 += {10'd0, geom.row_words, 1'b0};
    place_d.class_id = class_q;
    place_d.g = scanning_q ? entry.offset[12:0] : word_g_q;
    place_d.y = scanning_q ? entry.v[9:0] : word_y_q;
    place_d.xo = scanning_q ? entry.xo : word_xo_q;
    place_d.lane = lane_q;
    place_d.last = last_class && (scanning_q ? entry.last : (phase_q == TIES || lane_q == '1));
  end

  seq_pkg::lane_request_t request_q;
  always_ff @(posedge clk) begin
    request_q <= '0;
    request_q.read <= issue && !rst;
    request_q.insert <= (issue || flush) && !rst;
    request_q.plane <= plane_q;
    request_q.base8 <= scan ? entry.base8 : word_base8;
    request_q.meta.emit <= scan || (word && row_q == 2'd1);
    request_q.meta.v <= scan ? entry.v : {1'b0, word_y_q};
    request_q.meta.at_left <= scan ? entry.at_left : word_xo_q == '0;
    request_q.meta.at_right <= scan ? entry.at_right : word_xo_q == last_xo_q;
    if (issue) place_q <= place_d;
  end
  assign request = request_q;

  // ---- results: what belongs to a row meets its peaks
  place_t place;
  logic res_valid_q;
  logic [15:0][7:0] res_logits_q;
  logic [15:0] res_peak_q;
  place_t res_place_q;
  logic [7:0] threshold;
  logic [7:0] threshold_q;
  logic [6:0] at;  // peaks at the threshold, as far as they are counted
  logic many_q;  // more than fit
  logic [15:0] equal;
  logic [15:0] mask;
  logic ties;
  delay #(.WIDTH(PLACE_W), .LATENCY(RESULT_LAT)) u_beside (.clk, .rst, .d(place_q), .q(place));
  always_ff @(posedge clk) begin
    res_valid_q <= lanes_valid && !rst;
    res_peak_q <= lanes_peak;
    res_place_q <= place;
    for (int x = 0; x < 16; x++) res_logits_q[x] <= lanes_center[x][7:0];
    if (phase_q == COUNT) threshold_q <= threshold;
    many_q <= at == '1;
  end
  always_comb begin
    for (int x = 0; x < 16; x++) begin
      logic least;
      least = $signed(res_logits_q[x]) >= $signed(threshold_q);
      equal[x] = res_peak_q[x] && res_logits_q[x] == threshold_q;
      case (phase_q)
        COUNT: mask[x] = res_peak_q[x] && least && !(many_q && equal[x]);
        WRITE: mask[x] = res_peak_q[x] && least && (all_fit_q || !equal[x]);
        TIES: mask[x] = equal[x];
        default: mask[x] = equal[x] && res_place_q.lane == 4'(x);
      endcase
    end
  end
  // A cycle later, with what has been found out of them
  logic cut_valid_q;
  logic [15:0][7:0] cut_logits_q;
  logic [15:0] cut_mask_q;
  place_t cut_place_q;
  logic cut_ties_q;
  always_ff @(posedge clk) begin
    cut_valid_q <= res_valid_q && !rst;
    cut_logits_q <= res_logits_q;
    cut_mask_q <= mask;
    cut_place_q <= res_place_q;
    cut_ties_q <= phase_q == WRITE && !all_fit_q && equal != '0;
  end
  assign ties = cut_valid_q && cut_ties_q;

  logic head_valid;
  logic pop;
  logic [15:0][7:0] head_logits;
  logic [15:0] head_mask;
  logic [7:0] head_class;
  logic [12:0] head_g;
  logic [9:0] head_y;
  logic [5:0] head_xo;
  logic head_last;
  logic fifo_ready;
  fifo #(.WIDTH(RESULT_W), .DEPTH(RESULT_DEPTH)) u_results (
      .clk, .rst,
      .in_valid(cut_valid_q && (cut_mask_q != '0 || cut_place_q.last)),
      .in_data({cut_logits_q, cut_mask_q, cut_place_q.class_id, cut_place_q.g, cut_place_q.y,
                cut_place_q.xo, cut_place_q.last}),
      .in_ready(fifo_ready),
      .out_valid(head_valid),
      .out_data({head_logits, head_mask, head_class, head_g, head_y, head_xo, head_last}),
      .out_ready(pop),
      .level(level)
  );

  // Lanes of the oldest result, one a cycle: 1 its number, 2 its logit, 3 what becomes of it
  logic taken_q;
  logic [15:0] pending_q;
  logic any_q;  // pending_q is not 0
  logic head_last_q;
  logic [15:0] lowest;
  logic [15:0] others;
  logic [3:0] lowest_lane;
  logic pick;
  logic picked_q;
  logic [3:0] picked_lane_q;
  logic hit_q;
  seq_pkg::found_t hit_found_q;
  logic rank_busy;
  assign lowest = pending_q & (~pending_q + 16'd1);
  assign others = pending_q & ~lowest;
  always_comb begin
    lowest_lane = '0;
    for (int x = 0; x < 16; x++) if (lowest[x]) lowest_lane |= 4'(x);
  end
  assign pick = taken_q && any_q && !(phase_q == COUNT && rank_busy);
  assign pop = taken_q && !any_q && !(head_last_q && (picked_q || hit_q || rank_busy));
  assign ended = pop && head_last_q;
  always_ff @(posedge clk) begin
    if (rst) taken_q <= 1'b0;
    else taken_q <= taken_q ? !pop : head_valid;
    if (!taken_q) head_last_q <= head_last;
    if (!taken_q) begin
      pending_q <= head_mask;
      any_q <= head_mask != '0;
    end else if (pick) begin
      pending_q <= others;
      any_q <= others != '0;
    end
    picked_q <= pick && !rst;
    picked_lane_q <= lowest_lane;
    hit_q <= picked_q && !rst;
    hit_found_q.logit <= head_logits[picked_lane_q];
    hit_found_q.class_id <= head_class;
    hit_found_q.g <= head_g;
    hit_found_q.y <= head_y;
    hit_found_q.xo <= head_xo;
    hit_found_q.lane <= picked_lane_q;
  end

  logic [6:0] above;
  logic ranked;
  assign ranked = state_q == NEXT && phase_q == COUNT;
  peak_rank u_rank (
      .clk, .rst,
      .clear(ranked),
      .count(hit_q && phase_q == COUNT), .value(hit_found_q.logit),
      .clearing, .busy(rank_busy), .threshold, .above, .equal(at)
  );

  // ---- list; the ties of a word count only when all of them fit
  logic [6:0] count_q;
  logic [6:0] tie_count_q;
  assign list_we = hit_q && (phase_q == WRITE || (phase_q == TIES && tie_count_q != left_q)
                             || (phase_q == EXACT && left_q != '0));
  assign list_index = count_q + tie_count_q;
  assign list_found = hit_found_q;
  assign list_count = count_q;
  always_ff @(posedge clk) begin
    if (rst || forget || start) count_q <= '0;
    else if (list_we && phase_q != TIES) count_q <= count_q + 7'd1;
    else if (ended && phase_q == TIES && !over_q) count_q <= list_index;
    if (start || ended) tie_count_q <= '0;
    else if (list_we && phase_q == TIES) tie_count_q <= tie_count_q + 7'd1;
    if (state_q == FIND) over_q <= 1'b0;
    else if (hit_q && phase_q == TIES && tie_count_q == left_q) over_q <= 1'b1;
    if (ranked) begin
      left_q <= 7'(isa_pkg::CANDIDATES) - above;
      all_fit_q <= {1'b0, above} + {1'b0, at} <= 8'(isa_pkg::CANDIDATES);
    end else if (list_we && phase_q == EXACT) begin
      left_q <= left_q - 7'd1;
    end else if (ended && phase_q == TIES && !over_q) begin
      left_q <= left_q - tie_count_q;
    end
  end

  // ---- words with ties: noted in scan 2, forgotten when found and before
  logic [13:0] wipe_q;
  logic wiping;  // wipe_q is below the number of words
  logic searched_q;  // find_g_q is that number
  logic [13:0] last_g_q;
  logic [5:0] last_xo_q;
  logic mark;
  logic [13:0] find_g_q;
  logic [9:0] find_y_q;
  logic [5:0] find_xo_q;
  logic look;
  logic look_q;
  logic looked;
  logic [12:0] looked_g;
  logic [9:0] looked_y;
  logic [5:0] looked_xo;
  assign look = state_q == FIND && !searched_q && !found;
  assign found = looked && mark;
  assign missed = searched_q && !looked && !look_q;
  ram_sdp #(.WIDTH(1), .DEPTH(8192)) u_marks (
      .clk,
      .wr_en(wiping || ties || found),
      .wr_addr(wiping ? wipe_q[12:0] : ties ? cut_place_q.g : looked_g),
      .wr_data(ties && !wiping),
      .rd_en(look), .rd_addr(find_g_q[12:0]), .rd_data(mark)
  );
  delay #(.WIDTH(1), .LATENCY(2), .RESET(1'b1)) u_looked (
      .clk, .rst(rst || found), .d(look), .q(looked)
  );
  delay #(.WIDTH(29), .LATENCY(2)) u_looked_at (
      .clk, .rst, .d({find_g_q[12:0], find_y_q, find_xo_q}), .q({looked_g, looked_y, looked_xo})
  );
  always_ff @(posedge clk) begin
    look_q <= look;
    last_g_q <= {1'b0, geom.groups} - 14'd1;
    last_xo_q <= geom.row_words - 6'd1;
    if (rst || state_q == IDLE) begin
      wipe_q <= '0;
      wiping <= 1'b1;
    end else if (wiping) begin
      wipe_q <= wipe_q + 14'd1;
      wiping <= wipe_q != last_g_q;
    end
    if (rst || state_q == IDLE || found) searched_q <= 1'b0;
    else if (look) searched_q <= find_g_q == last_g_q;
    if (state_q == IDLE) begin
      find_g_q <= '0;
      find_y_q <= '0;
      find_xo_q <= '0;
    end else if (found) begin
      find_g_q <= {1'b0, looked_g};
      find_y_q <= looked_y;
      find_xo_q <= looked_xo;
      word_g_q <= looked_g;
      word_y_q <= looked_y;
      word_xo_q <= looked_xo;
    end else if (look) begin
      find_g_q <= find_g_q + 14'd1;
      if (find_xo_q == last_xo_q) begin
        find_y_q <= find_y_q + 10'd1;
        find_xo_q <= '0;
      end else begin
        find_xo_q <= find_xo_q + 6'd1;
      end
    end
  end

  logic unused;
  always_comb begin
    unused = &{1'b0, fifo_ready, geom, entry.emit, entry.half, entry.offset[15:13], entry.v[10],
               entry.xo, cut_place_q.lane};
    for (int x = 0; x < 16; x++) unused ^= lanes_center[x][8];
  end
endmodule

`default_nettype wire
