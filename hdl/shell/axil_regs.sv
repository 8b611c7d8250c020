// SPDX-License-Identifier: Apache-2.0
// AXI4-Lite slave with the registers of registers.toml.
//
// One read and one write at a time, each with a response: OKAY, or SLVERR for an offset without a
// register and for a write to a read-only one (which then changes nothing). Byte strobes are
// honoured. A read answers 2 cycles after its address, a write 2 after the later of address and data.
// start and soft_reset pulse for one cycle.
`default_nettype none

module axil_regs #(
    parameter int unsigned ISA = 1,            // version of the instruction stream
    parameter int unsigned LANES = 16,         // pixels in an activation word
    parameter int unsigned OC = 24,            // output channels in a weight tile
    parameter int unsigned ACT_WORDS = 30720   // words of the activation memory
) (
    input  wire logic        clk,
    input  wire logic        rst,
    // AXI4-Lite
    input  wire logic [7:0]  s_axil_awaddr,
    input  wire logic        s_axil_awvalid,
    output logic             s_axil_awready,
    input  wire logic [31:0] s_axil_wdata,
    input  wire logic [3:0]  s_axil_wstrb,
    input  wire logic        s_axil_wvalid,
    output logic             s_axil_wready,
    output logic [1:0]       s_axil_bresp,
    output logic             s_axil_bvalid,
    input  wire logic        s_axil_bready,
    input  wire logic [7:0]  s_axil_araddr,
    input  wire logic        s_axil_arvalid,
    output logic             s_axil_arready,
    output logic [31:0]      s_axil_rdata,
    output logic [1:0]       s_axil_rresp,
    output logic             s_axil_rvalid,
    input  wire logic        s_axil_rready,
    output logic             irq,
    // to the engine
    output logic             start,
    output logic             soft_reset,
    output logic [31:0]      prog_addr,
    output logic [31:0]      prog_words,
    output logic [31:0]      lane_words,
    output logic [31:0]      image_addr,
    output logic [31:0]      output_addr,
    output logic [31:0]      scratch_addr,
    output logic [31:0]      watchdog,
    // from the engine
    input  wire logic        busy,
    input  wire logic        done,
    input  wire logic        error,
    input  wire logic        irq_done,         // pulse
    input  wire logic        irq_error,        // pulse
    input  wire logic [7:0]  error_code,
    input  wire logic [11:0] error_tag,
    input  wire logic [31:0] cycles,
    input  wire logic [31:0] rd_bytes,
    input  wire logic [31:0] wr_bytes,
    input  wire logic [6:0]  cand_count,
    input  wire logic [63:0] prog_hash,
    input  wire logic [11:0] a_tag,
    input  wire logic [11:0] b_tag
);
  localparam logic [1:0] OKAY = 2'b00;
  localparam logic [1:0] SLVERR = 2'b10;

  // Write channels: address and data wait for each other
  logic aw_full_q;
  logic w_full_q;
  logic [7:0] awaddr_q;
  logic [31:0] wdata_q;
  logic [3:0] wstrb_q;
  logic bvalid_q;
  logic [1:0] bresp_q;
  logic act;
  logic writable;
  logic [31:0] mask;

  assign act = aw_full_q && w_full_q && !bvalid_q;
  assign mask = {{8{wstrb_q[3]}}, {8{wstrb_q[2]}}, {8{wstrb_q[1]}}, {8{wstrb_q[0]}}};
  assign s_axil_awready = !aw_full_q;
  assign s_axil_wready = !w_full_q;
  assign s_axil_bvalid = bvalid_q;
  assign s_axil_bresp = bresp_q;

  always_ff @(posedge clk) begin
    if (rst) begin
      aw_full_q <= 1'b0;
      w_full_q <= 1'b0;
      bvalid_q <= 1'b0;
    end else begin
      if (s_axil_awvalid && !aw_full_q) aw_full_q <= 1'b1;
      else if (act) aw_full_q <= 1'b0;
      if (s_axil_wvalid && !w_full_q) w_full_q <= 1'b1;
      else if (act) w_full_q <= 1'b0;
      if (act) bvalid_q <= 1'b1;
      else if (s_axil_bready) bvalid_q <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    if (!aw_full_q) awaddr_q <= {s_axil_awaddr[7:2], 2'b00};
    if (!w_full_q) begin
      wdata_q <= s_axil_wdata;
      wstrb_q <= s_axil_wstrb;
    end
    if (act) bresp_q <= writable ? OKAY : SLVERR;
  end

  always_comb begin
    case (awaddr_q)
      regs_pkg::ADDR_CTRL, regs_pkg::ADDR_IRQ_ENABLE, regs_pkg::ADDR_IRQ_STATUS,
      regs_pkg::ADDR_PROG_ADDR, regs_pkg::ADDR_PROG_WORDS, regs_pkg::ADDR_IMAGE_ADDR,
      regs_pkg::ADDR_OUTPUT_ADDR, regs_pkg::ADDR_SCRATCH_ADDR, regs_pkg::ADDR_WATCHDOG,
      regs_pkg::ADDR_LANE_WORDS: begin
        writable = 1'b1;
      end
      default: writable = 1'b0;
    endcase
  end

  // Registers
  logic [1:0] irq_enable_q;  // {error, done}
  logic [1:0] irq_status_q;
  logic [1:0] irq_set;
  logic [1:0] irq_clear;
  logic ctrl;  // a write to CTRL
  logic irq_q;

  assign irq_set = {irq_error, irq_done};
  assign irq_clear = (act && awaddr_q == regs_pkg::ADDR_IRQ_STATUS && wstrb_q[0]) ? wdata_q[1:0]
                                                                                 : 2'b00;
  assign ctrl = act && awaddr_q == regs_pkg::ADDR_CTRL && wstrb_q[0];
  assign irq = irq_q;

  always_ff @(posedge clk) begin
    if (rst) begin
      irq_enable_q <= '0;
      irq_status_q <= '0;
      irq_q <= 1'b0;
      start <= 1'b0;
      soft_reset <= 1'b0;
    end else begin
      irq_status_q <= (irq_status_q & ~irq_clear) | irq_set;
      irq_q <= (irq_status_q & irq_enable_q) != '0;
      if (act && awaddr_q == regs_pkg::ADDR_IRQ_ENABLE && wstrb_q[0]) begin
        irq_enable_q <= wdata_q[1:0];
      end
      start <= ctrl && wdata_q[regs_pkg::CTRL_START_LSB];
      soft_reset <= ctrl && wdata_q[regs_pkg::CTRL_RESET_LSB];
    end
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      prog_addr <= '0;
      prog_words <= '0;
      lane_words <= '0;
      image_addr <= '0;
      output_addr <= '0;
      scratch_addr <= '0;
      watchdog <= '0;
    end else if (act) begin
      case (awaddr_q)
        regs_pkg::ADDR_PROG_ADDR: prog_addr <= (prog_addr & ~mask) | (wdata_q & mask);
        regs_pkg::ADDR_PROG_WORDS: prog_words <= (prog_words & ~mask) | (wdata_q & mask);
        regs_pkg::ADDR_IMAGE_ADDR: image_addr <= (image_addr & ~mask) | (wdata_q & mask);
        regs_pkg::ADDR_OUTPUT_ADDR: output_addr <= (output_addr & ~mask) | (wdata_q & mask);
        regs_pkg::ADDR_SCRATCH_ADDR: scratch_addr <= (scratch_addr & ~mask) | (wdata_q & mask);
        regs_pkg::ADDR_WATCHDOG: watchdog <= (watchdog & ~mask) | (wdata_q & mask);
        regs_pkg::ADDR_LANE_WORDS: lane_words <= (lane_words & ~mask) | (wdata_q & mask);
        default: ;
      endcase
    end
  end

  // Read channel: address, then data
  logic ar_full_q;
  logic rvalid_q;
  logic [7:0] araddr_q;
  logic [31:0] rdata_q;
  logic [1:0] rresp_q;
  logic [31:0] value;
  logic mapped;

  assign s_axil_arready = !ar_full_q;
  assign s_axil_rvalid = rvalid_q;
  assign s_axil_rdata = rdata_q;
  assign s_axil_rresp = rresp_q;

  always_ff @(posedge clk) begin
    if (rst) begin
      ar_full_q <= 1'b0;
      rvalid_q <= 1'b0;
    end else begin
      if (s_axil_arvalid && !ar_full_q) ar_full_q <= 1'b1;
      else if (rvalid_q && s_axil_rready) ar_full_q <= 1'b0;
      if (ar_full_q && !rvalid_q) rvalid_q <= 1'b1;
      else if (s_axil_rready) rvalid_q <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    if (!ar_full_q) araddr_q <= {s_axil_araddr[7:2], 2'b00};
    if (!rvalid_q) begin
      rdata_q <= value;
      rresp_q <= mapped ? OKAY : SLVERR;
    end
  end

  always_comb begin
    value = '0;
    mapped = 1'b1;
    case (araddr_q)
      regs_pkg::ADDR_ID: value = regs_pkg::ID_VALUE;
      regs_pkg::ADDR_VERSION: value = {regs_pkg::MAP_VERSION, 16'(ISA)};
      regs_pkg::ADDR_CAPS: value = {16'(ACT_WORDS), 8'(OC), 8'(LANES)};
      regs_pkg::ADDR_CTRL: value = '0;
      regs_pkg::ADDR_STATUS: value = {29'b0, error, done, busy};
      regs_pkg::ADDR_ERROR: value = {4'b0, error_tag, 8'b0, error_code};
      regs_pkg::ADDR_IRQ_ENABLE: value = {30'b0, irq_enable_q};
      regs_pkg::ADDR_IRQ_STATUS: value = {30'b0, irq_status_q};
      regs_pkg::ADDR_PROG_ADDR: value = prog_addr;
      regs_pkg::ADDR_PROG_WORDS: value = prog_words;
      regs_pkg::ADDR_IMAGE_ADDR: value = image_addr;
      regs_pkg::ADDR_OUTPUT_ADDR: value = output_addr;
      regs_pkg::ADDR_SCRATCH_ADDR: value = scratch_addr;
      regs_pkg::ADDR_WATCHDOG: value = watchdog;
      regs_pkg::ADDR_CYCLES: value = cycles;
      regs_pkg::ADDR_RD_BYTES: value = rd_bytes;
      regs_pkg::ADDR_WR_BYTES: value = wr_bytes;
      regs_pkg::ADDR_CAND_COUNT: value = {25'b0, cand_count};
      regs_pkg::ADDR_PROG_HASH_LO: value = prog_hash[31:0];
      regs_pkg::ADDR_PROG_HASH_HI: value = prog_hash[63:32];
      regs_pkg::ADDR_TAG: value = {4'b0, b_tag, 4'b0, a_tag};
      regs_pkg::ADDR_LANE_WORDS: value = lane_words;
      default: mapped = 1'b0;
    endcase
  end

  logic unused;
  assign unused = &{1'b0, s_axil_awaddr[1:0], s_axil_araddr[1:0]};
endmodule

`default_nettype wire
