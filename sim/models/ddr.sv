// SPDX-License-Identifier: Apache-2.0
// Model of the DDR behind one 64-bit port at the engine's clock (simulation only).
//
// The figures are the board's (boards/NAME.toml, section memory) and come with the plusarg
//   +ddr=NUM,DEN,LATENCY,TURN,REFRESH_EVERY,REFRESH_FOR,OUTSTANDING
// without which the simulation ends, so that one build serves every board and rate:
//   NUM / DEN      bytes a cycle that reads and writes have together, at most 8
//   LATENCY        cycles from a read address to its first beat, and from a write's last beat to its
//                  response (controller, interconnect and the DRAM's own CL + tRCD)
//   TURN           cycles of silence when the direction changes
//   REFRESH_EVERY  cycles between two refreshes (tREFI), 0 for none; REFRESH_FOR cycles of silence
//   OUTSTANDING    bursts each way that wait or are being served, 1 to 16; no more are accepted
// For the PYNQ-Z2 (16-bit DDR3 at 1050 MT/s, engine at 150 MHz): 7 bytes a cycle = 1.05 GB/s, half of
// the peak; 40 cycles; 10 for a turn, where the DRAM needs CWL + BL/2 + tWTR = 27 ns = 4 cycles from
// write to read; 40 cycles (tRFC = 260 ns) every 7.8 us = 1170 cycles. Refresh and turns come on top
// of the rate, which rests meanwhile: the real average is below it. Up to 4 beats that the bus could
// have moved and did not are made good.
//
// Bursts: INCR, 8 bytes a beat, at most 16 beats; anything else ends the simulation. Reads and
// writes are answered in order of their addresses; a burst may follow another without a gap. A
// direction keeps the bus for at most 4 bursts while the other waits. Writes reach the memory with
// their beats.
//
// `stall_percent` holds every channel back at random; an access to the 128 bytes at `fault_addr`
// is answered with `fault_resp` while `fault_on`. Addresses beyond the memory get DECERR.
// Mailbox for the host: a toggle of `host_req` reads the file into the memory (host_write) or
// writes it from the memory, host_bytes from host_addr on (multiples of 8), then host_ack follows.
`default_nettype none

module ddr #(
    parameter int unsigned BYTES = 1 << 24,     // size, from BASE on
    parameter logic [31:0] BASE = 32'h10000000
) (
    input  wire logic        clk,
    input  wire logic        rst,
    // host
    input  wire logic [6:0]  stall_percent,
    input  wire logic        fault_on,
    input  wire logic [31:0] fault_addr,
    input  wire logic [1:0]  fault_resp,
    input  wire logic        host_req,
    input  wire logic        host_write,
    input  wire logic [31:0] host_addr,
    input  wire logic [31:0] host_bytes,
    output logic             host_ack,
    // AXI
    input  wire logic [31:0] s_axi_awaddr,
    input  wire logic [7:0]  s_axi_awlen,
    input  wire logic [2:0]  s_axi_awsize,
    input  wire logic [1:0]  s_axi_awburst,
    input  wire logic        s_axi_awvalid,
    output logic             s_axi_awready,
    input  wire logic [63:0] s_axi_wdata,
    input  wire logic [7:0]  s_axi_wstrb,
    input  wire logic        s_axi_wlast,
    input  wire logic        s_axi_wvalid,
    output logic             s_axi_wready,
    output logic [1:0]       s_axi_bresp,
    output logic             s_axi_bvalid,
    input  wire logic        s_axi_bready,
    input  wire logic [31:0] s_axi_araddr,
    input  wire logic [7:0]  s_axi_arlen,
    input  wire logic [2:0]  s_axi_arsize,
    input  wire logic [1:0]  s_axi_arburst,
    input  wire logic        s_axi_arvalid,
    output logic             s_axi_arready,
    output logic [63:0]      s_axi_rdata,
    output logic [1:0]       s_axi_rresp,
    output logic             s_axi_rlast,
    output logic             s_axi_rvalid,
    input  wire logic        s_axi_rready
);
  localparam int unsigned WORDS = BYTES / 8;
  localparam int unsigned INDEX_W = $clog2(WORDS);
  localparam int unsigned PLACES = 16;   // more than any OUTSTANDING
  localparam int unsigned Q_W = $clog2(PLACES);
  localparam int unsigned BATCH = 4;
  localparam logic [1:0] OKAY = 2'b00;
  localparam logic [1:0] DECERR = 2'b11;

  // Figures
  string figures;
  int unsigned num;
  int unsigned den;
  int unsigned latency;
  int unsigned turn;
  int unsigned refresh_every;
  int unsigned refresh_for;
  int unsigned outstanding;

  initial begin
    if (!$value$plusargs("ddr=%s", figures)) $fatal(1, "ddr: +ddr= with the figures is missing");
    if ($sscanf(figures, "%d,%d,%d,%d,%d,%d,%d", num, den, latency, turn, refresh_every,
                refresh_for, outstanding) != 7) begin
      $fatal(1, "ddr: +ddr=%s does not have seven figures", figures);
    end
    if (den == 0 || num == 0 || num > 8 * den || latency < 3 || turn > 255 || refresh_for > 255
        || (refresh_every != 0 && refresh_every <= refresh_for) || outstanding < 1
        || outstanding > PLACES) begin
      $fatal(1, "ddr: +ddr=%s is out of range", figures);
    end
  end

  logic [63:0] mem [WORDS];
  logic [31:0] now;

  // Random stalls: one draw a channel and cycle, only when wanted
  logic [4:0] go;

  always_ff @(posedge clk) begin
    if (stall_percent == '0) begin
      go <= '1;
    end else begin
      for (int i = 0; i < 5; i++) go[i] <= ($urandom_range(99) >= 32'(stall_percent));
    end
  end

  // Addresses that wait
  logic [31:0] r_addr [PLACES];
  logic [31:0] r_due [PLACES];
  logic [4:0] r_beats [PLACES];
  logic [Q_W:0] r_in;
  logic [Q_W:0] r_out;
  logic [31:0] w_addr [PLACES];
  logic [4:0] w_beats [PLACES];
  logic [Q_W:0] w_in;
  logic [Q_W:0] w_out;
  // Responses that wait
  logic [31:0] b_due [PLACES];
  logic [1:0] b_resp [PLACES];
  logic [Q_W:0] b_in;
  logic [Q_W:0] b_out;

  logic [Q_W:0] r_level;
  logic [Q_W:0] w_level;
  logic [Q_W:0] b_level;
  assign r_level = r_in - r_out;
  assign w_level = w_in - w_out;
  assign b_level = b_in - b_out;
  // A read takes a place until its last beat, a write until its response
  logic [Q_W:0] r_ended;
  logic [Q_W:0] r_places;
  logic [Q_W:0] w_places;
  assign r_places = r_in - r_ended;
  assign w_places = w_in - b_out;
  assign s_axi_arready = (32'(r_places) < outstanding) && go[0];
  assign s_axi_awready = (32'(w_places) < outstanding) && go[1];

  always_ff @(posedge clk) begin
    if (!rst && s_axi_arvalid) begin
      if (s_axi_arburst != 2'b01 || s_axi_arsize != 3'd3 || s_axi_arlen > 8'd15) begin
        $fatal(1, "ddr: read burst outside AXI3: addr %h len %0d", s_axi_araddr, s_axi_arlen);
      end
    end
    if (!rst && s_axi_awvalid) begin
      if (s_axi_awburst != 2'b01 || s_axi_awsize != 3'd3 || s_axi_awlen > 8'd15) begin
        $fatal(1, "ddr: write burst outside AXI3: addr %h len %0d", s_axi_awaddr, s_axi_awlen);
      end
    end
  end

  // The data bus of the DRAM: one beat at most each cycle, paid from `credit`
  logic writing;         // its direction
  logic busy;            // in a burst
  logic [4:0] beats;     // left in the burst
  logic [31:0] addr;     // of the next beat
  logic [1:0] resp;
  logic [7:0] pause;     // cycles of silence left
  int unsigned credit;   // bytes times den, at most 32 bytes
  int unsigned earned;
  logic [2:0] batch;     // bursts in this direction since the other began to wait
  logic [31:0] refresh;
  logic r_ready;
  logic w_ready;
  logic pay;
  logic beat;
  logic [31:0] next_addr;

  function automatic logic [1:0] answer(input logic [31:0] at);
    if (fault_on && at[31:7] == fault_addr[31:7]) return fault_resp;
    if (at - BASE >= BYTES) return DECERR;
    return OKAY;
  endfunction

  assign earned = credit + (pause == '0 ? num : 0) - (beat ? 8 * den : 0);
  assign pay = (credit >= 8 * den) && (pause == '0);
  assign r_ready = (r_level != '0) && (now - r_due[r_out[Q_W-1:0]] < 32'h80000000);
  assign w_ready = w_level != '0;
  assign s_axi_wready = busy && writing && pay && go[3];
  assign beat = busy && (writing ? s_axi_wvalid && s_axi_wready
                                 : pay && go[2] && (!s_axi_rvalid || s_axi_rready));

  logic free;            // a burst may begin
  logic other_first;     // the other direction has waited for a whole batch
  logic begin_read;
  logic begin_write;
  assign free = (!busy || (beat && beats == 5'd1)) && pause == '0;
  assign other_first = batch == 3'(BATCH);
  assign begin_read = free && r_ready && (!w_ready || (writing ? other_first : !other_first));
  assign begin_write = free && w_ready && !begin_read;
  assign next_addr = begin_write ? w_addr[w_out[Q_W-1:0]] : r_addr[r_out[Q_W-1:0]];

  always_ff @(posedge clk) begin
    if (rst) begin
      now <= '0;
      r_in <= '0;
      r_out <= '0;
      w_in <= '0;
      w_out <= '0;
      b_in <= '0;
      b_out <= '0;
      r_ended <= '0;
      busy <= 1'b0;
      writing <= 1'b0;
      pause <= '0;
      credit <= '0;
      batch <= '0;
      refresh <= '0;
      s_axi_rvalid <= 1'b0;
      s_axi_bvalid <= 1'b0;
    end else begin
      now <= now + 1;
      // Addresses
      if (s_axi_arvalid && s_axi_arready) begin
        r_addr[r_in[Q_W-1:0]] <= s_axi_araddr;
        r_due[r_in[Q_W-1:0]] <= now + latency - 2;
        r_beats[r_in[Q_W-1:0]] <= s_axi_arlen[4:0] + 5'd1;
        r_in <= r_in + 1'b1;
      end
      if (s_axi_awvalid && s_axi_awready) begin
        w_addr[w_in[Q_W-1:0]] <= s_axi_awaddr;
        w_beats[w_in[Q_W-1:0]] <= s_axi_awlen[4:0] + 5'd1;
        w_in <= w_in + 1'b1;
      end
      // Bus
      credit <= (earned > 32 * den) ? 32 * den : earned;
      if (beat) begin
        addr <= addr + 8;
        beats <= beats - 1'b1;
        if (beats == 5'd1) busy <= 1'b0;
        if (beats == 5'd1 && !writing) r_ended <= r_ended + 1'b1;
      end
      if (pause != '0) pause <= pause - 1'b1;
      refresh <= refresh + 1;
      if (refresh_every != 0 && refresh >= refresh_every && free) begin
        refresh <= refresh - refresh_every + 1;
        pause <= 8'(refresh_for);
      end else if (begin_read || begin_write) begin
        writing <= begin_write;
        if (begin_write != writing) batch <= '0;
        if (begin_write != writing && turn != 0) begin
          pause <= 8'(turn - 1);
        end else begin
          busy <= 1'b1;
          addr <= next_addr;
          resp <= answer(next_addr);
          beats <= begin_write ? w_beats[w_out[Q_W-1:0]] : r_beats[r_out[Q_W-1:0]];
          if (begin_write) w_out <= w_out + 1'b1;
          else r_out <= r_out + 1'b1;
          if (begin_write == writing && !other_first) begin
            batch <= (writing ? r_ready : w_ready) ? batch + 1'b1 : '0;
          end
        end
      end
      // Read data
      if (s_axi_rready) s_axi_rvalid <= 1'b0;
      if (beat && !writing) begin
        s_axi_rvalid <= 1'b1;
        s_axi_rlast <= beats == 5'd1;
        s_axi_rresp <= resp;
        s_axi_rdata <= mem[addr[INDEX_W+2:3] - BASE[INDEX_W+2:3]];
      end
      // Write responses
      if (beat && writing && beats == 5'd1) begin
        b_due[b_in[Q_W-1:0]] <= now + latency - 1;
        b_resp[b_in[Q_W-1:0]] <= resp;
        b_in <= b_in + 1'b1;
      end
      if (beat && writing && s_axi_wlast != (beats == 5'd1)) begin
        $fatal(1, "ddr: wlast in the wrong beat at %h", addr);
      end
      if (s_axi_bready) s_axi_bvalid <= 1'b0;
      if (b_level != '0 && (!s_axi_bvalid || s_axi_bready) && go[4]
          && now - b_due[b_out[Q_W-1:0]] < 32'h80000000) begin
        s_axi_bvalid <= 1'b1;
        s_axi_bresp <= b_resp[b_out[Q_W-1:0]];
        b_out <= b_out + 1'b1;
      end
    end
  end

  always_ff @(posedge clk) begin
    if (beat && writing && resp == OKAY) begin
      for (int i = 0; i < 8; i++) begin
        if (s_axi_wstrb[i]) begin
          mem[addr[INDEX_W+2:3] - BASE[INDEX_W+2:3]][8*i+:8] <= s_axi_wdata[8*i+:8];
        end
      end
    end
  end

  // Mailbox. Files hold the bytes in order of address.
  string host_file;
  int fd;
  int got;
  logic [7:0] bytes [8];

  initial begin
    host_ack = 1'b0;
    if (!$value$plusargs("host_file=%s", host_file)) host_file = "";
  end

  always @(host_req) begin
    if (host_file == "") $fatal(1, "ddr: +host_file= is missing");
    fd = $fopen(host_file, host_write ? "rb" : "wb");
    if (fd == 0) $fatal(1, "ddr: cannot open %s", host_file);
    for (int unsigned i = 0; i < host_bytes / 8; i++) begin
      if (host_write) begin
        got = $fread(bytes, fd);
        if (got != 8) $fatal(1, "ddr: %s is too short", host_file);
        for (int b = 0; b < 8; b++) mem[(host_addr - BASE) / 8 + i][8*b+:8] = bytes[b];
      end else begin
        $fwrite(fd, "%u", mem[(host_addr - BASE) / 8 + i]);
      end
    end
    $fclose(fd);
    host_ack = host_req;
  end

  logic unused;
  assign unused = &{1'b0, s_axi_arlen[7:5], s_axi_awlen[7:5], fault_addr[6:0]};
endmodule

`default_nettype wire
