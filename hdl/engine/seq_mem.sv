// SPDX-License-Identifier: Apache-2.0
// LOAD and STORE: runs of words, in order, between DDR and the activation memory. Run r begins at
// act_addr + r * act_stride; where it lies in DDR is the matter of the DMA.
//
// LOAD asks for all its words at once and hands them on as they come. STORE reads a word a cycle while
// the writer has room and nobody asks it to hold; the words come out of the memory later.
`default_nettype none

module seq_mem (
    input  wire logic                   clk,
    input  wire logic                   rst,
    // operation: constant while it runs
    input  wire logic                   start,
    input  wire logic                   is_store,
    input  wire logic [15:0]            act_addr,
    input  wire logic [15:0]            words,
    input  wire logic [15:0]            runs,
    input  wire logic [15:0]            act_stride,
    input  wire logic                   hold,
    output logic                        done,
    // LOAD
    output logic                        ld_req,
    input  wire logic                   ld_valid,
    output logic                        ld_ready,
    output logic                        wl_valid,
    output logic [15:0]                 wl_addr,
    input  wire logic                   wl_ready,
    // STORE
    output logic                        st_req,
    input  wire logic                   st_ready,
    input  wire logic                   st_done,
    output      seq_pkg::lane_request_t request
);
  logic active_q;
  logic words_left_q;  // some are still to be read or taken
  logic hold_q;
  logic [15:0] left_q;  // words of the run
  logic run_end_q;  // left_q is 1
  logic [15:0] runs_left_q;  // this one counts
  logic last_run_q;
  logic store_q;  // is_store, which is constant from `start` on
  logic [15:0] addr_q;
  logic [15:0] run_addr_q;  // of the next run
  logic read;
  logic step;
  logic last_step;
  seq_pkg::lane_request_t request_q;

  assign ld_req = start && !is_store;
  assign st_req = start && is_store;
  assign read = words_left_q && store_q && st_ready && !hold_q;
  assign wl_valid = words_left_q && !store_q && ld_valid;
  assign wl_addr = addr_q;
  assign ld_ready = words_left_q && !store_q && wl_ready;
  assign step = read || (wl_valid && wl_ready);
  assign last_step = step && run_end_q && last_run_q;
  assign done = !active_q;

  always_ff @(posedge clk) begin
    hold_q <= hold;
    store_q <= is_store;
    if (rst) begin
      active_q <= 1'b0;
      words_left_q <= 1'b0;
    end else if (start) begin
      active_q <= 1'b1;
      words_left_q <= 1'b1;
    end else begin
      if (is_store ? st_done : last_step) active_q <= 1'b0;
      if (last_step) words_left_q <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    if (start) begin
      left_q <= words;
      run_end_q <= words == 16'd1;
      runs_left_q <= runs;
      last_run_q <= runs == 16'd1;
      addr_q <= act_addr;
      run_addr_q <= act_addr + act_stride;
    end else if (step) begin
      if (run_end_q) begin
        left_q <= words;
        run_end_q <= words == 16'd1;
        runs_left_q <= runs_left_q - 16'd1;
        last_run_q <= runs_left_q == 16'd2;
        addr_q <= run_addr_q;
        run_addr_q <= run_addr_q + act_stride;
      end else begin
        left_q <= left_q - 16'd1;
        run_end_q <= left_q == 16'd2;
        addr_q <= addr_q + 16'd1;
      end
    end
  end

  always_ff @(posedge clk) begin
    request_q <= '0;
    request_q.read <= read && !rst;
    request_q.raw <= 1'b1;
    request_q.plane <= addr_q;
  end
  assign request = request_q;
endmodule

`default_nettype wire
