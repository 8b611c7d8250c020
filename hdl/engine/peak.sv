// SPDX-License-Identifier: Apache-2.0
// PEAK: the best CANDIDATES cells that equal the 3x3 maximum of their class (docs/engine.md).
//
// Both scans go position-major: for every word all classes, three kernel rows each. Scan 1 counts
// the peaks of each value, peak_rank finds threshold and room for ties. Scan 2 sends every peak above
// the threshold; ties of a word are collected and sent when the word is complete, if they all fit.
// In the one word where they do not (noted while scan 2 goes on) a third scan, lane by lane, takes
// them in the exact order: row, column, class.
//
// Interval: 3 cycles a class and word, or 1 a peak where peaks are dense; 4 a candidate.
// The planes of the classes follow one another; y0 = 0 and a row of words spans the map's width.
`default_nettype none

module peak (
    input  wire logic               clk,
    input  wire logic               rst,
    // operation: constant while it runs
    input  wire logic               start,
    input  wire seq_pkg::geom_t     geom,
    input  wire logic [7:0]         classes,
    input  wire logic [15:0]        hm,
    input  wire logic [3:0][15:0]   parts,  // planes w, h, reg_x, reg_y
    output logic                    done,
    output logic [6:0]              cand_count,
    // walk
    input  wire logic               item_valid,
    input  wire seq_pkg::item_t     item,
    output logic                    item_take,
    // to the window; a `raw` read (one word) bypasses the lanes
    output      seq_pkg::request_t  request,
    output logic                    raw,
    output logic                    first,
    output logic                    mid,
    output logic                    last,
    // from the fetch unit and the lanes
    input  wire logic               raw_valid,
    input  wire logic [127:0]       word,
    input  wire logic               lanes_valid,
    input  wire logic [15:0][8:0]   lanes_center,
    input  wire logic [15:0]        lanes_peak,
    // store
    output logic                    st_req,
    output logic [6:0]              st_words,
    input  wire logic               st_ready,
    output logic                    st_valid,
    output logic [127:0]            st_data,
    input  wire logic               st_done
);
  localparam int unsigned RESULT_DEPTH = 32;
  // From the cycle a word's last row is asked for until its result is in the buffer
  localparam int unsigned RESULT_LAT = 1 + seq_pkg::PIPE_LAT + engine_pkg::DW_LAT;
  localparam int unsigned BESIDE_W = 8 + 13 + 10 + 6 + 1 + 1 + 4;
  localparam int unsigned RESULT_W = 128 + 16 + 8 + 13 + 10 + 6 + 1;

  typedef enum logic [3:0] {
    IDLE, CLEAR, SCAN1, SETTLE1, SEARCH, ASK, SCAN2, SETTLE2, EXACT, SETTLE3, SEND
  } state_t;
  state_t state_q;

  logic scan_end;
  logic settled;
  logic search;
  logic found;
  logic clearing;
  logic [7:0] threshold;
  logic [6:0] ties;
  logic [6:0] total;
  logic overflow_q;  // some word's ties did not all fit
  logic st_done_q;

  always_ff @(posedge clk) begin
    if (rst) begin
      state_q <= IDLE;
    end else begin
      case (state_q)
        IDLE: if (start) state_q <= CLEAR;
        CLEAR: if (!clearing) state_q <= SCAN1;
        SCAN1: if (scan_end) state_q <= SETTLE1;
        SETTLE1: if (settled) state_q <= SEARCH;
        SEARCH: if (found) state_q <= ASK;
        ASK: state_q <= (total == '0) ? IDLE : SCAN2;
        SCAN2: if (scan_end) state_q <= SETTLE2;
        SETTLE2: if (settled) state_q <= overflow_q ? EXACT : SEND;
        EXACT: if (scan_end) state_q <= SETTLE3;
        SETTLE3: if (settled) state_q <= SEND;
        default: if (st_done_q) state_q <= IDLE;
      endcase
    end
  end
  assign done = state_q == IDLE;
  assign search = (state_q == SETTLE1) && settled;
  assign st_req = (state_q == ASK) && (total != '0);
  assign st_words = total;
  assign cand_count = total;
  always_ff @(posedge clk) begin
    if (rst || start) st_done_q <= 1'b0;
    else if (st_done) st_done_q <= 1'b1;
  end

  // Requests: the reads of candidates first, else the next kernel row of the scan
  logic read;
  logic [1:0] read_part;
  logic [12:0] read_g;
  logic exact;
  logic scanning;
  logic hold_q;
  logic issue;
  logic [1:0] row_q;
  logic [7:0] class_q;
  logic [15:0] plane_q;
  logic [3:0] lane_q;
  logic class_end;
  seq_pkg::item_t tied_q;  // the word whose ties did not fit; not all of its fields are kept
  seq_pkg::item_t at;
  assign exact = state_q == EXACT;
  assign scanning = state_q == SCAN1 || state_q == SCAN2 || exact;
  assign at = exact ? tied_q : item;
  assign issue = scanning && !hold_q && !read && (exact || item_valid);
  assign class_end = issue && row_q == 2'd2 && class_q == classes - 8'd1;
  assign item_take = class_end && !exact;
  assign scan_end = class_end && (exact ? lane_q == 4'd15 : item.last);

  always_ff @(posedge clk) begin
    if (state_q == IDLE) begin
      row_q <= '0;
      class_q <= '0;
      plane_q <= hm;
      lane_q <= '0;
    end else if (issue) begin
      row_q <= (row_q == 2'd2) ? 2'd0 : row_q + 2'd1;
      if (class_end) begin
        class_q <= '0;
        plane_q <= hm;
        if (exact) lane_q <= lane_q + 4'd1;
      end else if (row_q == 2'd2) begin
        class_q <= class_q + 8'd1;
        plane_q <= plane_q + {3'd0, geom.groups};
      end
    end
  end

  seq_pkg::request_t request_q;
  always_ff @(posedge clk) begin
    request_q.valid <= (issue || read) && !rst;
    request_q.linear <= read;
    request_q.plane <= read ? parts[read_part] : plane_q;
    request_q.vy <= at.vy;
    request_q.base8 <= read ? {3'd0, read_g, 1'b0} : at.base8;
    request_q.at_left <= at.at_left;
    request_q.at_right <= at.at_right;
    request_q.delta <= {{3{row_q == 2'd0}}, row_q != 2'd1};  // -1, 0, 1
    request_q.half <= isa_pkg::HALF_ALL;
    request_q.lanes <= '1;
    for (int x = 0; x < 16; x++) request_q.dil[x] <= 3'd1;
    raw <= read;
    first <= row_q == 2'd0;
    mid <= row_q == 2'd1;
    last <= row_q == 2'd2;
  end
  assign request = request_q;

  // Results: what belongs to a word and class meets its peaks
  logic [7:0] res_class;
  logic [12:0] res_g;
  logic [9:0] res_y;
  logic [5:0] res_xo;
  logic res_end;
  logic res_high_ok;  // lanes 8-15 lie in the map
  logic [3:0] res_lane;
  logic [15:0] res_mask;
  logic res_exact;
  logic [127:0] res_logits;
  logic [5:0] level;
  logic fifo_ready;
  delay #(.WIDTH(BESIDE_W), .LATENCY(RESULT_LAT)) u_beside (
      .clk, .rst,
      .d({class_q, at.g, at.vy[9:0], at.xo, class_end,
          !geom.narrow || ({1'b0, at.vy[9:0]} + 11'd1 < {1'b0, geom.in_h}), lane_q}),
      .q({res_class, res_g, res_y, res_xo, res_end, res_high_ok, res_lane})
  );
  assign res_exact = exact || state_q == SETTLE3;
  always_comb begin
    for (int x = 0; x < 16; x++) begin
      res_logits[8*x+:8] = lanes_center[x][7:0];
      res_mask[x] = lanes_peak[x] && (x < 8 || res_high_ok)
                    && (!res_exact || res_lane == 4'(x));
    end
  end

  logic head_valid;
  logic pop;
  logic [127:0] head_logits;
  logic [15:0] head_mask;
  logic [7:0] head_class;
  logic [12:0] head_g;
  logic [9:0] head_y;
  logic [5:0] head_xo;
  logic head_end;
  fifo #(.WIDTH(RESULT_W), .DEPTH(RESULT_DEPTH)) u_results (
      .clk, .rst,
      .in_valid(lanes_valid),
      .in_data({res_logits, res_mask, res_class, res_g, res_y, res_xo, res_end}),
      .in_ready(fifo_ready),
      .out_valid(head_valid),
      .out_data({head_logits, head_mask, head_class, head_g, head_y, head_xo, head_end}),
      .out_ready(pop),
      .level(level)
  );
  // At most 8 more results are on their way when the scan stops
  always_ff @(posedge clk) hold_q <= rst || (level >= 6'd16);

  // Lanes of the oldest result, one a cycle: 1 its number, 2 its logit, 3 what becomes of it
  typedef enum logic [1:0] {TAKE, LANES, TIES} pick_t;
  pick_t pick_q;
  logic [15:0] pending_q;
  logic [15:0] lowest;
  logic [3:0] lowest_lane;
  logic room;
  logic pick;
  logic picked_q;
  logic [3:0] picked_lane_q;
  logic hit_q;
  seq_pkg::found_t hit_found_q;
  logic [7:0] tie_count_q;  // in the word so far
  logic tie_end;
  logic scan2;
  assign scan2 = state_q == SCAN2 || state_q == SETTLE2;
  assign lowest = pending_q & (~pending_q + 16'd1);
  always_comb begin
    lowest_lane = '0;
    for (int x = 0; x < 16; x++) if (lowest[x]) lowest_lane |= 4'(x);
  end
  assign pick = (pick_q == LANES) && (pending_q != '0) && room;
  always_comb begin
    pop = 1'b0;
    if (pick_q == LANES && pending_q == '0) begin
      if (!(scan2 && head_end)) pop = 1'b1;
      else pop = !picked_q && !hit_q && (tie_count_q == '0);
    end else if (pick_q == TIES) begin
      pop = tie_end;
    end
  end
  always_ff @(posedge clk) begin
    if (rst) begin
      pick_q <= TAKE;
    end else begin
      case (pick_q)
        TAKE: if (head_valid) pick_q <= LANES;
        LANES: begin
          if (pop) pick_q <= TAKE;
          else if (pending_q == '0 && !picked_q && !hit_q) pick_q <= TIES;
        end
        default: if (tie_end) pick_q <= TAKE;
      endcase
    end
    if (pick_q == TAKE) pending_q <= head_mask;
    else if (pick) pending_q <= pending_q & ~lowest;
    picked_q <= pick && !rst;
    picked_lane_q <= lowest_lane;
    hit_q <= picked_q && !rst;
    hit_found_q.logit <= head_logits[{picked_lane_q, 3'd0}+:8];
    hit_found_q.class_id <= head_class;
    hit_found_q.g <= head_g;
    hit_found_q.y <= head_y;
    hit_found_q.xo <= head_xo;
    hit_found_q.lane <= picked_lane_q;
  end

  // Everything asked for has been dealt with
  logic [4:0] quiet_q;
  always_ff @(posedge clk) begin
    if (scanning || head_valid || pick_q != TAKE || picked_q || hit_q) quiet_q <= '0;
    else if (!settled) quiet_q <= quiet_q + 5'd1;
  end
  assign settled = quiet_q == 5'(RESULT_LAT + 4);

  // Ties of the word: remembered until it is complete
  logic above;
  logic equal;
  logic tie;
  logic take_exact;
  logic [6:0] left_q;  // ties that may still go in
  logic [6:0] tie_index_q;
  logic fits_q;  // they can all go in
  logic tie_send;
  (* ram_style = "distributed" *) logic [11:0] tied[128];
  logic [7:0] tie_class;
  logic [3:0] tie_lane;
  assign above = $signed(hit_found_q.logit) > $signed(threshold);
  assign equal = hit_found_q.logit == threshold;
  assign tie = hit_q && scan2 && equal && left_q != '0 && !overflow_q;
  assign take_exact = hit_q && res_exact && equal && left_q != '0;
  assign tie_send = (pick_q == TIES) && fits_q && room;
  assign tie_end = (pick_q == TIES)
                   && (!fits_q || (tie_send && {1'b0, tie_index_q} == tie_count_q - 8'd1));
  assign {tie_class, tie_lane} = tied[tie_index_q];
  always_ff @(posedge clk) begin
    if (tie && !tie_count_q[7]) tied[tie_count_q[6:0]] <= {hit_found_q.class_id, hit_found_q.lane};
  end
  always_ff @(posedge clk) begin
    if (start || tie_end) tie_count_q <= '0;
    else if (tie && tie_count_q != '1) tie_count_q <= tie_count_q + 8'd1;
    if (pick_q != TIES) fits_q <= tie_count_q <= {1'b0, left_q};
    if (pick_q != TIES) tie_index_q <= '0;
    else if (tie_send) tie_index_q <= tie_index_q + 7'd1;
    if (found) left_q <= ties;
    else if (tie_send || take_exact) left_q <= left_q - 7'd1;
    if (start) overflow_q <= 1'b0;
    else if (tie_end && !fits_q) overflow_q <= 1'b1;
    if (tie_end && !fits_q) begin
      tied_q <= '0;
      tied_q.g <= head_g;
      tied_q.vy <= {3'd0, head_y};
      tied_q.xo <= head_xo;
      tied_q.base8 <= {3'd0, head_g, 1'b0};
      tied_q.at_left <= head_xo == '0;
      tied_q.at_right <= head_xo == geom.row_words - 6'd1;
    end
  end

  peak_rank u_rank (
      .clk, .rst,
      .clear(state_q == ASK),
      .count(hit_q && (state_q == SCAN1 || state_q == SETTLE1)),
      .value(hit_found_q.logit),
      .search(search),
      .clearing(clearing),
      .found(found),
      .threshold(threshold),
      .ties(ties),
      .total(total)
  );

  logic emit;
  seq_pkg::found_t emit_found;
  assign emit = (hit_q && scan2 && above) || take_exact || tie_send;
  always_comb begin
    emit_found = hit_found_q;
    if (pick_q == TIES) begin
      emit_found.logit = threshold;
      emit_found.class_id = tie_class;
      emit_found.lane = tie_lane;
    end
  end
  peak_emit u_emit (
      .clk, .rst,
      .narrow(geom.narrow),
      .in_valid(emit), .in_found(emit_found), .room(room),
      .read, .read_part, .read_g,
      .word_valid(raw_valid), .word,
      .st_ready, .st_valid, .st_data
  );

  logic unused;
  always_comb begin
    unused = &{1'b0, fifo_ready, geom, at.vy[12:10], at.dil, at.present, at.last};
    for (int x = 0; x < 16; x++) unused ^= lanes_center[x][8];
  end
endmodule

`default_nettype wire
