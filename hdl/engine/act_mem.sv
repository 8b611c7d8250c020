// SPDX-License-Identifier: Apache-2.0
// Activation memory: 128-bit words in four banks; any three neighbouring words are read at once.
//
// Word w is in bank w % 4, row w / 4, so the window's words lie in three different banks. A bank is
// built of RAMs of a power of two of words, so that nothing but one multiplexer follows the RAMs'
// output registers. Addresses beyond WORDS are not written and read as something undefined: the
// first and last word of the memory have such neighbours, which no tap of a legal program uses.
//
// Latency: window comes ACT_LAT = 5 cycles after rd_en with rd_center, one a cycle, and holds while
// there are no reads. A read presented a cycle or more after wr_en sees the word.
// Resources for 24576 words: 90 RAMB36 (96 where parity bits are not used), 1.2k LUT.
`default_nettype none

module act_mem #(
    parameter int unsigned WORDS = engine_pkg::ACT_WORDS  // a multiple of 16, at most 65536
) (
    input  wire logic         clk,
    // read
    input  wire logic         rd_en,
    input  wire logic [ 15:0] rd_center,
    output logic      [383:0] window,  // words rd_center - 1, rd_center, rd_center + 1; pixel 0 low
    // write
    input  wire logic         wr_en,
    input  wire logic [ 15:0] wr_addr,
    input  wire logic [127:0] wr_data
);
  localparam int unsigned ROWS = WORDS / 4;
  localparam int unsigned TOP = $clog2(ROWS + 1);  // bits of ROWS

  if (WORDS % 16 != 0 || WORDS == 0 || WORDS > 65536) begin : g_check
    act_mem_words_must_be_a_multiple_of_16_up_to_65536 u_illegal ();
  end

  // 1: address of the window's first word
  logic [15:0] start_q;
  // 2: row of each bank
  logic [13:0] row_d[4], row_q[4];
  logic [1:0] first_bank2_q, first_bank3_q, first_bank4_q;
  logic en1_q, en2_q, en3_q, en4_q;
  // 4: RAM outputs
  logic [127:0] bank_data[4];
  // 5: in order
  logic [127:0] slot_d[3];
  logic [383:0] window_q;
  // writes
  logic wr_en_q;
  logic [15:0] wr_addr_q;
  logic [127:0] wr_data_q;

  always_comb begin
    for (int unsigned b = 0; b < 4; b++) begin
      row_d[b] = start_q[15:2] + 14'(2'(b) < start_q[1:0]);
    end
  end

  always_ff @(posedge clk) begin
    en1_q <= rd_en;
    en2_q <= en1_q;
    en3_q <= en2_q;
    en4_q <= en3_q;
    if (rd_en) start_q <= rd_center - 16'd1;
    if (en1_q) begin
      row_q <= row_d;
      first_bank2_q <= start_q[1:0];
    end
    first_bank3_q <= first_bank2_q;
    first_bank4_q <= first_bank3_q;
    if (en4_q) window_q <= {slot_d[2], slot_d[1], slot_d[0]};
  end

  always_ff @(posedge clk) begin
    wr_en_q <= wr_en;
    if (wr_en) begin
      wr_addr_q <= wr_addr;
      wr_data_q <= wr_data;
    end
  end

  for (genvar b = 0; b < 4; b++) begin : g_bank
    // One RAM for each bit set in ROWS, the largest first; all but one of them give zeros
    logic [127:0] part_data[TOP];
    always_comb begin
      bank_data[b] = '0;
      for (int unsigned i = 0; i < TOP; i++) bank_data[b] |= part_data[i];
    end

    for (genvar i = 0; i < TOP; i++) begin : g_part
      if (((ROWS >> i) & 1) == 1) begin : g_ram
        localparam logic [13:0] BASE = 14'((ROWS >> (i + 1)) << (i + 1));
        logic rd_here, rd_here3_q, rd_here4_q, wr_here;
        logic [127:0] rd_data;

        assign rd_here = (row_q[b] >> i) == (BASE >> i);
        assign wr_here = (wr_addr_q[15:2] >> i) == (BASE >> i) && wr_addr_q[1:0] == 2'(b);

        ram_sdp #(
            .WIDTH(128),
            .DEPTH(1 << i)
        ) u_ram (
            .clk(clk),
            .wr_en(wr_en_q && wr_here),
            .wr_addr(wr_addr_q[2+:i]),
            .wr_data(wr_data_q),
            .rd_en(en2_q && rd_here),
            .rd_addr(row_q[b][0+:i]),
            .rd_data(rd_data)
        );

        always_ff @(posedge clk) begin
          rd_here3_q <= rd_here;
          rd_here4_q <= rd_here3_q;
        end
        assign part_data[i] = rd_here4_q ? rd_data : '0;
      end else begin : g_none
        assign part_data[i] = '0;
      end
    end
  end

  always_comb begin
    for (int unsigned s = 0; s < 3; s++) slot_d[s] = bank_data[first_bank4_q+2'(s)];
  end

  assign window = window_q;
endmodule

`default_nettype wire
