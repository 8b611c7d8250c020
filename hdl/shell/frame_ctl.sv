// SPDX-License-Identifier: Apache-2.0
// Life of one frame: check the addresses, start streams and core, count cycles and bytes, end by
// the core's done or error, a bus error, the watchdog or a soft reset, and let the bus finish.
//
// The descriptor reported is the core's for its own errors, else what the queue of the transfer was
// running: the array's for its stream, the lanes' for everything else and for the watchdog.
//
// `stop` holds the DMA back and `core_rst` the core (only after a frame that did not end well)
// until the bus owes nothing; then STATUS is set and the interrupt pulses. A soft reset outside a
// frame passes the same way. Latency: the core starts 3 cycles after `start`.
`default_nettype none

module frame_ctl (
    input  wire logic        clk,
    input  wire logic        rst,
    // registers
    input  wire logic        start,
    input  wire logic        soft_reset,
    input  wire logic [31:0] prog_words,
    input  wire logic [31:0] lane_words,
    input  wire logic [15:0] low_bits,         // bits 3:0 of the four addresses
    input  wire logic [31:0] watchdog,
    output logic             busy,
    output logic             done,
    output logic             error,
    output logic             irq_done,
    output logic             irq_error,
    output logic [7:0]       error_code,
    output logic [11:0]      error_tag,
    output logic [31:0]      cycles,
    output logic [31:0]      rd_bytes,
    output logic [31:0]      wr_bytes,
    // memory side
    output logic             begin_stream,     // pulse: empty the rings, begin the streams
    output logic             stop,
    input  wire logic        read_idle,
    input  wire logic        write_idle,
    input  wire logic        read_error,
    input  wire logic        read_error_array,  // it was in the array stream
    input  wire logic        write_error,
    input  wire logic        read_beat,
    input  wire logic        write_beat,
    // core
    output logic             core_rst,
    output logic             core_start,
    input  wire logic        core_done,
    input  wire logic        core_error,
    input  wire logic [7:0]  core_error_code,
    input  wire logic [11:0] core_error_tag,
    input  wire logic [11:0] a_tag,            // what each queue runs
    input  wire logic [11:0] b_tag
);
  typedef enum logic [2:0] {
    IDLE,    // no frame
    CHECK,   // the addresses are looked at
    BEGIN,   // rings emptied, streams begun
    KICK,    // core started
    RUN,
    DRAIN,   // the bus finishes
    CLOSE    // one more cycle, so that idle signals have settled; then report
  } state_t;

  state_t state_q;
  state_t state_d;
  logic failed_q;       // why the frame ended
  logic aborted_q;      // by a soft reset
  logic done_q;
  logic error_q;
  logic [7:0] code_q;
  logic [11:0] tag_q;
  logic [31:0] cycles_q;
  logic [28:0] rd_beats_q;
  logic [28:0] wr_beats_q;
  logic config_bad_q;   // the registers do not change from `start` on
  logic expired_q;
  logic fail;
  logic [7:0] fail_code;
  logic [11:0] fail_tag;
  logic quiet;
  logic stop_q;         // in DRAIN and CLOSE
  logic begin_q;        // in BEGIN
  logic kick_q;         // in KICK

  always_ff @(posedge clk) begin
    config_bad_q <= (prog_words[31:28] != '0) || (prog_words == '0) || (low_bits != '0)
                    || (lane_words[31:28] != '0) || (lane_words == '0);
  end
  assign quiet = read_idle && write_idle;

  always_comb begin
    fail = 1'b0;
    fail_code = core_error_code;
    fail_tag = core_error_tag;
    if (state_q == CHECK) begin
      fail = config_bad_q;
      fail_code = regs_pkg::ERR_CONFIG;
      fail_tag = '0;
    end else if (state_q == RUN) begin
      fail = core_error || read_error || write_error || expired_q;
      if (read_error) fail_code = regs_pkg::ERR_BUS_READ;
      else if (write_error) fail_code = regs_pkg::ERR_BUS_WRITE;
      else if (!core_error) fail_code = regs_pkg::ERR_WATCHDOG;
      if (read_error && read_error_array) fail_tag = a_tag;
      else if (read_error || write_error || !core_error) fail_tag = b_tag;
    end
  end

  always_comb begin
    state_d = state_q;
    case (state_q)
      IDLE: if (start) state_d = CHECK;
      CHECK: state_d = config_bad_q ? DRAIN : BEGIN;
      BEGIN: state_d = KICK;
      KICK: state_d = RUN;
      RUN: if (fail || core_done) state_d = DRAIN;
      DRAIN: if (quiet) state_d = CLOSE;
      CLOSE: state_d = quiet ? IDLE : DRAIN;
      default: state_d = IDLE;
    endcase
    if (soft_reset) state_d = DRAIN;
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      state_q <= IDLE;
      stop_q <= 1'b0;
      begin_q <= 1'b0;
      kick_q <= 1'b0;
      failed_q <= 1'b0;
      aborted_q <= 1'b0;
      done_q <= 1'b0;
      error_q <= 1'b0;
      irq_done <= 1'b0;
      irq_error <= 1'b0;
    end else begin
      state_q <= state_d;
      stop_q <= (state_d == DRAIN) || (state_d == CLOSE);
      begin_q <= state_d == BEGIN;
      kick_q <= state_d == KICK;
      irq_done <= 1'b0;
      irq_error <= 1'b0;
      if (soft_reset) begin
        aborted_q <= 1'b1;
        done_q <= 1'b0;
        error_q <= 1'b0;
      end else if (state_q == IDLE && start) begin
        failed_q <= 1'b0;
        aborted_q <= 1'b0;
        done_q <= 1'b0;
        error_q <= 1'b0;
      end else if (fail) begin
        failed_q <= 1'b1;
      end else if (state_q == CLOSE && quiet && !aborted_q) begin
        done_q <= !failed_q;
        error_q <= failed_q;
        irq_done <= !failed_q;
        irq_error <= failed_q;
      end
      if (state_q == CLOSE && quiet) aborted_q <= soft_reset;
    end
  end

  always_ff @(posedge clk) begin
    if (fail && !failed_q) begin
      code_q <= fail_code;
      tag_q <= fail_tag;
    end
  end

  always_ff @(posedge clk) begin
    if (state_q == BEGIN) begin
      cycles_q <= '0;
      rd_beats_q <= '0;
      wr_beats_q <= '0;
      expired_q <= 1'b0;
    end else begin
      if (state_q == KICK || state_q == RUN) begin
        cycles_q <= cycles_q + 32'd1;
        expired_q <= (watchdog != '0) && (cycles_q >= watchdog);
      end
      if (read_beat) rd_beats_q <= rd_beats_q + 29'd1;
      if (write_beat) wr_beats_q <= wr_beats_q + 29'd1;
    end
  end

  assign busy = state_q != IDLE;
  assign done = done_q;
  assign error = error_q;
  assign error_code = code_q;
  assign error_tag = tag_q;
  assign cycles = cycles_q;
  assign rd_bytes = {rd_beats_q, 3'b000};
  assign wr_bytes = {wr_beats_q, 3'b000};
  assign begin_stream = begin_q;
  assign core_start = kick_q;
  assign stop = stop_q;
  assign core_rst = rst || (stop && (failed_q || aborted_q));
endmodule

`default_nettype wire
