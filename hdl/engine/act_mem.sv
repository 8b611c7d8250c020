// SPDX-License-Identifier: Apache-2.0
// Activation memory: 128-bit words in four banks. Two readers see any three neighbouring words each,
// every cycle; three writers share what the readers leave over.
//
// Word w is in bank w % 4, row w / 4, so a window's words lie in three different banks. A bank is
// built of true dual-port RAMs of a power of two of words, so that nothing but one multiplexer
// follows the RAMs' output registers. Port 0 of every RAM serves reader A, port 1 reader B. `mask`
// says which of the three words are looked at (bit 0: center - 1); the banks of the others stay free.
//
// There is a write bus for each of the two ports. Bus 0 can write where A does not read this cycle,
// bus 1 where B does not; so two writes are done in a cycle, of two different channels, also in one
// bank. wa gets a bus if any fits, then wb if one fits beside it (wa moves over when it can), or wl
// when nothing of wb waits. Writes of one channel keep their order. Words of different channels that
// wait at the same time must have different addresses: the tokens of a legal program see to that.
//
// Writes wait in queues: wl has a `ready`, the others have none. hold_b asks whoever makes B's reads
// to stop: `wa` then always gets its write in, since B reads nothing, and `wb` runs dry because its
// words come of those reads. Neither can overflow while the rules at ACT_HOLD_A in engine_pkg are
// kept and wa gets at most a word a cycle.
//
// Addresses beyond WORDS are not written and read as something undefined: the first and last word
// of the memory have such neighbours, which no tap of a legal program uses.
//
// Latency: a window comes ACT_LAT = 6 cycles after rd_en with center and mask, one a cycle; slots
// that are not in the mask, and the window of a cycle without rd_en, are undefined. A read presented
// in a cycle in which its channel is empty, or later, sees the word. The trace shows a write the
// cycle it enters the RAM, at the latest in the first cycle of `empty`; tr0 is bus 0, tr1 bus 1.
// Resources for 30720 words: 114 RAMB36 (86 for 24576), 3.0k LUT and 0.4k more as queues, 3.4k FF of
// which 2k are the RAMs' output registers.
`default_nettype none

module act_mem #(
    parameter int unsigned WORDS = engine_pkg::ACT_WORDS  // a multiple of 16, at most 65536
) (
    input  wire logic         clk,
    input  wire logic         rst,  // empties the queues
    // reader A
    input  wire logic         a_rd_en,
    input  wire logic [ 15:0] a_rd_center,
    input  wire logic [  2:0] a_rd_mask,
    output logic      [383:0] a_window,  // words center - 1, center, center + 1; pixel 0 low
    // reader B
    input  wire logic         b_rd_en,
    input  wire logic [ 15:0] b_rd_center,
    input  wire logic [  2:0] b_rd_mask,
    output logic      [383:0] b_window,
    // writer: results of the array
    input  wire logic         wa_valid,
    input  wire logic [ 15:0] wa_addr,
    input  wire logic [127:0] wa_data,
    // writer: results of the lanes
    input  wire logic         wb_valid,
    input  wire logic [ 15:0] wb_addr,
    input  wire logic [127:0] wb_data,
    // writer: LOAD
    input  wire logic         wl_valid,
    output logic              wl_ready,
    input  wire logic [ 15:0] wl_addr,
    input  wire logic [127:0] wl_data,
    // state
    output logic              hold_b,
    output logic              wa_empty,
    output logic              wb_empty,
    output logic              wl_empty,
    // trace of what is written
    output logic              tr0_en,
    output logic      [ 15:0] tr0_addr,
    output logic      [127:0] tr0_data,
    output logic      [  1:0] tr0_src,  // 0 wa, 1 wb, 2 wl
    output logic              tr1_en,
    output logic      [ 15:0] tr1_addr,
    output logic      [127:0] tr1_data,
    output logic      [  1:0] tr1_src
);
  localparam int unsigned ROWS = WORDS / 4;
  localparam int unsigned TOP = $clog2(ROWS + 1);  // bits of ROWS
  localparam int unsigned ROW_W = 14;
  localparam int unsigned MAIN_W = 126;  // bits of a word that fill block RAMs of 9, 18 or 36 bits
  localparam int unsigned REST_ADDR_W = $clog2(ROWS);
  localparam int unsigned A_DEPTH = 32;
  localparam int unsigned B_DEPTH = 64;
  localparam int unsigned L_DEPTH = 4;

  if (WORDS % 16 != 0 || WORDS == 0 || WORDS > 65536) begin : g_check
    act_mem_words_must_be_a_multiple_of_16_up_to_65536 u_illegal ();
  end

  // Reader r: 0 is A, 1 is B
  logic [1:0] rd_en;
  logic [15:0] center[2];
  logic [2:0] mask[2];
  assign rd_en = {b_rd_en, a_rd_en};
  assign center[0] = a_rd_center;
  assign center[1] = b_rd_center;
  assign mask[0] = a_rd_mask;
  assign mask[1] = b_rd_mask;

  // 1: row of the first word, and which banks are read
  logic [1:0][3:0] use_d, use1_q, use2_q;
  logic [ROW_W-1:0] row1_q[2];
  logic [1:0] first1_q[2];
  // 2: both rows a window may have
  logic [ROW_W-1:0] row2_q[2], next2_q[2];
  logic [1:0] first2_q[2], first3_q[2], first4_q[2];

  always_comb begin
    for (int unsigned r = 0; r < 2; r++) begin
      for (int unsigned b = 0; b < 4; b++) begin
        use_d[r][b] = rd_en[r] && (mask[r][0] && center[r][1:0] == 2'(b + 1)
                                   || mask[r][1] && center[r][1:0] == 2'(b)
                                   || mask[r][2] && center[r][1:0] == 2'(b + 3));
      end
    end
  end

  always_ff @(posedge clk) begin
    use1_q  <= use_d;
    use2_q  <= use1_q;
    for (int unsigned r = 0; r < 2; r++) begin
      {row1_q[r], first1_q[r]} <= center[r] - 16'd1;
      row2_q[r] <= row1_q[r];
      next2_q[r] <= row1_q[r] + 1'b1;
      first2_q[r] <= first1_q[r];
      first3_q[r] <= first2_q[r];
      first4_q[r] <= first3_q[r];
    end
  end

  // 1: for each bus a write is chosen that fits beside the reads of stage 1
  logic [2:0] head_valid, take;
  logic [1:0][2:0] free, fits, grant_d, grant2_q;
  logic [1:0] head_bank[3];
  logic [15:0] q_addr[3];
  logic [127:0] q_data[3];
  logic [$clog2(A_DEPTH):0] a_level;
  logic [$clog2(B_DEPTH):0] b_level;
  logic [$clog2(L_DEPTH):0] l_level;
  logic hold_q;

  write_queue #(
      .DEPTH(A_DEPTH)
  ) u_wa (
      .clk(clk), .rst(rst), .push(wa_valid), .addr(wa_addr), .data(wa_data),
      .head_valid(head_valid[0]), .head_bank(head_bank[0]), .take(take[0]),
      .out_addr(q_addr[0]), .out_data(q_data[0]), .level(a_level), .empty(wa_empty)
  );
  write_queue #(
      .DEPTH(B_DEPTH)
  ) u_wb (
      .clk(clk), .rst(rst), .push(wb_valid), .addr(wb_addr), .data(wb_data),
      .head_valid(head_valid[1]), .head_bank(head_bank[1]), .take(take[1]),
      .out_addr(q_addr[1]), .out_data(q_data[1]), .level(b_level), .empty(wb_empty)
  );
  write_queue #(
      .DEPTH(L_DEPTH)
  ) u_wl (
      .clk(clk), .rst(rst), .push(wl_valid && wl_ready), .addr(wl_addr), .data(wl_data),
      .head_valid(head_valid[2]), .head_bank(head_bank[2]), .take(take[2]),
      .out_addr(q_addr[2]), .out_data(q_data[2]), .level(l_level), .empty(wl_empty)
  );
  assign wl_ready = !l_level[$clog2(L_DEPTH)];

  always_comb begin
    for (int unsigned p = 0; p < 2; p++) begin
      for (int unsigned c = 0; c < 3; c++) begin
        free[p][c] = !(head_bank[c][1] ? (head_bank[c][0] ? use1_q[p][3] : use1_q[p][2])
                                       : (head_bank[c][0] ? use1_q[p][1] : use1_q[p][0]));
        // wl only when nothing of wb waits: both belong to the lanes, which do one or the other
        fits[p][c] = head_valid[c] && free[p][c] && !(c == 2 && head_valid[1]);
      end
    end
    grant_d = '0;
    if (fits[0][0] && fits[1][1]) {grant_d[0][0], grant_d[1][1]} = 2'b11;
    else if (fits[1][0] && fits[0][1]) {grant_d[1][0], grant_d[0][1]} = 2'b11;
    else if (fits[0][0] && fits[1][2]) {grant_d[0][0], grant_d[1][2]} = 2'b11;
    else if (fits[1][0] && fits[0][2]) {grant_d[1][0], grant_d[0][2]} = 2'b11;
    else if (fits[0][0]) grant_d[0][0] = 1'b1;
    else if (fits[1][0]) grant_d[1][0] = 1'b1;
    else if (fits[0][1]) grant_d[0][1] = 1'b1;
    else if (fits[1][1]) grant_d[1][1] = 1'b1;
    else if (fits[0][2]) grant_d[0][2] = 1'b1;
    else grant_d[1][2] = fits[1][2];
    // The same as grant_d[0] | grant_d[1], said shorter: the queues wait for it
    take[0] = head_valid[0] && (free[0][0] || free[1][0]);
    take[1] = head_valid[1]
              && (!head_valid[0] ? free[0][1] || free[1][1]
                                 : free[0][1] && free[1][1] || free[0][1] && !free[0][0]
                                   || free[1][1] && !free[1][0] || free[0][1] && free[1][0]
                                   || free[1][1] && free[0][0]);
    take[2] = head_valid[2] && !head_valid[1]
              && (!head_valid[0] ? free[0][2] || free[1][2]
                                 : free[0][2] && free[1][2] || free[0][2] && !free[0][0]
                                   || free[1][2] && !free[1][0] || free[0][2] && free[1][0]
                                   || free[1][2] && free[0][0]);
  end

  always_ff @(posedge clk) begin
    if (rst) grant2_q <= '0;
    else grant2_q <= grant_d;
    hold_q <= 32'(a_level) >= engine_pkg::ACT_HOLD_A || 32'(b_level) >= engine_pkg::ACT_HOLD_B;
  end
  assign hold_b = hold_q;

  // 2: the writes chosen
  logic [1:0] wr2;
  logic [15:0] wr_addr2[2];
  logic [127:0] wr_data2[2];
  for (genvar p = 0; p < 2; p++) begin : g_bus
    assign wr2[p] = |grant2_q[p];
    assign {wr_addr2[p], wr_data2[p]} = grant2_q[p][0] ? {q_addr[0], q_data[0]}
                                      : grant2_q[p][1] ? {q_addr[1], q_data[1]}
                                      : {q_addr[2], q_data[2]};
  end

  // 3: at the RAMs
  logic [1:0][3:0] en3_q, wr3_q;
  logic [ROW_W-1:0] row3_q[2][4];
  logic [127:0] wr_data3_q[2];
  logic [1:0] wr3_any_q;
  logic [15:0] wr_addr3_q[2];
  logic [1:0] src3_q[2];

  always_ff @(posedge clk) begin
    for (int unsigned p = 0; p < 2; p++) begin
      for (int unsigned b = 0; b < 4; b++) begin
        logic here;
        here = wr2[p] && wr_addr2[p][1:0] == 2'(b);
        wr3_q[p][b] <= here;
        en3_q[p][b] <= here || use2_q[p][b];
        if (use2_q[p][b]) row3_q[p][b] <= 2'(b) < first2_q[p] ? next2_q[p] : row2_q[p];
        else row3_q[p][b] <= wr_addr2[p][15:2];
      end
      wr_data3_q[p] <= wr_data2[p];
      wr3_any_q[p]  <= wr2[p];
      wr_addr3_q[p] <= wr_addr2[p];
      src3_q[p]     <= {grant2_q[p][2], grant2_q[p][1]};
    end
  end

`ifndef SYNTHESIS
  always_ff @(posedge clk) begin
    if (!rst && &wr3_any_q && wr_addr3_q[0] == wr_addr3_q[1])
      $error("act_mem: two channels write word %0d at once", wr_addr3_q[0]);
  end
`endif

  assign tr0_en = wr3_any_q[0];
  assign tr0_addr = wr_addr3_q[0];
  assign tr0_data = wr_data3_q[0];
  assign tr0_src = src3_q[0];
  assign tr1_en = wr3_any_q[1];
  assign tr1_addr = wr_addr3_q[1];
  assign tr1_data = wr_data3_q[1];
  assign tr1_src = src3_q[1];

  // 5: RAM outputs
  logic [127:0] bank_data[2][4];

  for (genvar b = 0; b < 4; b++) begin : g_bank
    // One RAM for each bit set in ROWS, the largest at row 0. A chain of choices leads to its word;
    // the smallest RAM is at its end. Block RAMs are 9, 18 or 36 bits wide, so of 128 bits these
    // hold 126; the other two bits of all rows share one small RAM.
    /* verilator lint_off UNOPTFLAT */
    logic [MAIN_W-1:0] chain[2][TOP+1];
    /* verilator lint_on UNOPTFLAT */
    logic [127-MAIN_W:0] rest[2];
    for (genvar r = 0; r < 2; r++) begin : g_read
      assign chain[r][0] = '0;
      assign bank_data[r][b] = {rest[r], chain[r][TOP]};
    end

    ram_tdp #(
        .WIDTH(128 - MAIN_W),
        .DEPTH(1 << REST_ADDR_W)
    ) u_rest (
        .clk(clk),
        .en0(en3_q[0][b] && (row3_q[0][b] >> REST_ADDR_W) == '0),
        .wr0(wr3_q[0][b]),
        .addr0(row3_q[0][b][0+:REST_ADDR_W]),
        .wr_data0(wr_data3_q[0][127:MAIN_W]),
        .rd_data0(rest[0]),
        .en1(en3_q[1][b] && (row3_q[1][b] >> REST_ADDR_W) == '0),
        .wr1(wr3_q[1][b]),
        .addr1(row3_q[1][b][0+:REST_ADDR_W]),
        .wr_data1(wr_data3_q[1][127:MAIN_W]),
        .rd_data1(rest[1])
    );

    for (genvar i = 0; i < TOP; i++) begin : g_part
      if (((ROWS >> i) & 1) == 1) begin : g_ram
        localparam logic [ROW_W-1:0] BASE = ROW_W'((ROWS >> (i + 1)) << (i + 1));
        localparam bit SMALLEST = ROWS % (1 << i) == 0;
        logic [1:0] here, here4_q, here5_q;
        logic [MAIN_W-1:0] rd_data[2];

        assign here[0] = (row3_q[0][b] >> i) == (BASE >> i);
        assign here[1] = (row3_q[1][b] >> i) == (BASE >> i);

        ram_tdp #(
            .WIDTH(MAIN_W),
            .DEPTH(1 << i)
        ) u_ram (
            .clk(clk),
            .en0(en3_q[0][b] && here[0]),
            .wr0(wr3_q[0][b]),
            .addr0(row3_q[0][b][0+:i]),
            .wr_data0(wr_data3_q[0][MAIN_W-1:0]),
            .rd_data0(rd_data[0]),
            .en1(en3_q[1][b] && here[1]),
            .wr1(wr3_q[1][b]),
            .addr1(row3_q[1][b][0+:i]),
            .wr_data1(wr_data3_q[1][MAIN_W-1:0]),
            .rd_data1(rd_data[1])
        );

        always_ff @(posedge clk) begin
          here4_q <= here;
          here5_q <= here4_q;
        end
        for (genvar r = 0; r < 2; r++) begin : g_read
          assign chain[r][i+1] = SMALLEST || here5_q[r] ? rd_data[r] : chain[r][i];
        end
      end else begin : g_none
        for (genvar r = 0; r < 2; r++) begin : g_read
          assign chain[r][i+1] = chain[r][i];
        end
      end
    end
  end

  // 6: in order
  logic [127:0] slot_q[2][3];
  for (genvar r = 0; r < 2; r++) begin : g_reader
    for (genvar s = 0; s < 3; s++) begin : g_slot
      logic [1:0] bank_q;  // that the word is in
      always_ff @(posedge clk) begin
        bank_q <= first4_q[r] + 2'(s);
        // Not a case: Yosys would decode bank_q once and need two LUTs a bit
        slot_q[r][s] <= bank_q[1] ? (bank_q[0] ? bank_data[r][3] : bank_data[r][2])
                                  : (bank_q[0] ? bank_data[r][1] : bank_data[r][0]);
      end
    end
  end
  assign a_window = {slot_q[0][2], slot_q[0][1], slot_q[0][0]};
  assign b_window = {slot_q[1][2], slot_q[1][1], slot_q[1][0]};
endmodule

`default_nettype wire
