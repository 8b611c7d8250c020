// SPDX-License-Identifier: Apache-2.0
// The accelerator as a block for a system: the engine, its DMA, its registers.
//
// s_axil: AXI4-Lite slave, 32-bit data, registers of registers.toml. m_axi: AXI4 master, 64-bit
// data, 32-bit addresses, no IDs, bursts that an AXI3 port takes as they are (at most 16 beats,
// INCR, within 128 bytes), up to OUTSTANDING reads and as many writes without an answer. irq: high
// while an enabled event is pending. One clock; aresetn is synchronous and active low. A frame at a
// time; how long it lasts: docs/engine.md, "Cycles".
`default_nettype none

module engine_axi #(
    parameter int unsigned ACT_WORDS = 30720,   // words of the activation memory
    parameter int unsigned RING_WORDS = 4096,   // words of the array stream's ring, a power of two
    parameter int unsigned LANE_RING_WORDS = 512,  // words of the lanes stream's ring
    parameter int unsigned OUTSTANDING = 8      // bursts in flight each way, a power of two
) (
    input  wire logic        aclk,
    input  wire logic        aresetn,
    output logic             irq,
    // registers
    input  wire logic [7:0]  s_axil_awaddr,
    input  wire logic [2:0]  s_axil_awprot,
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
    input  wire logic [2:0]  s_axil_arprot,
    input  wire logic        s_axil_arvalid,
    output logic             s_axil_arready,
    output logic [31:0]      s_axil_rdata,
    output logic [1:0]       s_axil_rresp,
    output logic             s_axil_rvalid,
    input  wire logic        s_axil_rready,
    // memory
    output logic [31:0]      m_axi_awaddr,
    output logic [7:0]       m_axi_awlen,
    output logic [2:0]       m_axi_awsize,
    output logic [1:0]       m_axi_awburst,
    output logic [3:0]       m_axi_awcache,
    output logic [2:0]       m_axi_awprot,
    output logic             m_axi_awvalid,
    input  wire logic        m_axi_awready,
    output logic [63:0]      m_axi_wdata,
    output logic [7:0]       m_axi_wstrb,
    output logic             m_axi_wlast,
    output logic             m_axi_wvalid,
    input  wire logic        m_axi_wready,
    input  wire logic [1:0]  m_axi_bresp,
    input  wire logic        m_axi_bvalid,
    output logic             m_axi_bready,
    output logic [31:0]      m_axi_araddr,
    output logic [7:0]       m_axi_arlen,
    output logic [2:0]       m_axi_arsize,
    output logic [1:0]       m_axi_arburst,
    output logic [3:0]       m_axi_arcache,
    output logic [2:0]       m_axi_arprot,
    output logic             m_axi_arvalid,
    input  wire logic        m_axi_arready,
    input  wire logic [63:0] m_axi_rdata,
    input  wire logic [1:0]  m_axi_rresp,
    input  wire logic        m_axi_rlast,
    input  wire logic        m_axi_rvalid,
    output logic             m_axi_rready
);
  localparam int unsigned A_W = $clog2(RING_WORDS) + 1;
  localparam int unsigned B_W = $clog2(LANE_RING_WORDS) + 1;

  if (ACT_WORDS > 65535 || A_W != 13 || B_W != 10) begin : g_illegal
    engine_axi_act_words_and_ring_words_must_fit_the_fields u_illegal ();
  end

  logic clk;
  logic rst;

  assign clk = aclk;

  always_ff @(posedge aclk) begin
    rst <= !aresetn;
  end

  // Registers and frame control
  logic start;
  logic soft_reset;
  logic [31:0] prog_addr;
  logic [31:0] prog_words;
  logic [31:0] lane_words;
  logic [31:0] image_addr;
  logic [31:0] output_addr;
  logic [31:0] scratch_addr;
  logic [31:0] watchdog;
  logic busy;
  logic done;
  logic error;
  logic irq_done;
  logic irq_error;
  logic [7:0] error_code;
  logic [11:0] error_tag;
  logic [31:0] cycles;
  logic [31:0] rd_bytes;
  logic [31:0] wr_bytes;

  // Memory side
  logic begin_stream;
  logic stop;
  logic read_idle;
  logic write_idle;
  logic read_error;
  logic read_error_array;
  logic write_error;
  logic read_beat;
  logic write_beat;

  // Core
  logic core_rst;
  logic core_start;
  logic unused_core_busy;
  logic core_done;
  logic core_error;
  logic [7:0] core_error_code;
  logic [11:0] core_error_tag;
  logic [11:0] a_tag;
  logic [11:0] b_tag;
  logic [11:0] a_seen_q;
  logic [11:0] b_seen_q;
  logic [63:0] prog_hash;
  logic [6:0] cand_count;
  // Rings
  logic a_alloc;
  logic [3:0] a_alloc_words;
  logic [A_W-1:0] a_space;
  logic a_valid;
  logic a_ring_rd_en;
  logic [A_W-1:0] a_ring_rd_off;
  logic [127:0] a_ring_rd_data;
  logic [A_W-1:0] a_ring_avail;
  logic a_ring_pop;
  logic [A_W-1:0] a_ring_pop_n;
  logic b_alloc;
  logic [3:0] b_alloc_words;
  logic [B_W-1:0] b_space;
  logic b_valid;
  logic b_ring_rd_en;
  logic [B_W-1:0] b_ring_rd_off;
  logic [127:0] b_ring_rd_data;
  logic [B_W-1:0] b_ring_avail;
  logic b_ring_pop;
  logic [B_W-1:0] b_ring_pop_n;
  logic [127:0] stream_data;
  // LOAD and STORE: as the core asks, and with the address worked out
  logic ld_req;
  logic [1:0] ld_region;
  logic [31:0] ld_offset;
  logic [15:0] ld_words;
  logic [15:0] ld_runs;
  logic [23:0] ld_stride;
  logic ld_valid;
  logic [127:0] ld_data;
  logic ld_ready;
  logic st_req;
  logic [1:0] st_region;
  logic [31:0] st_offset;
  logic [15:0] st_words;
  logic [15:0] st_runs;
  logic [23:0] st_stride;
  logic st_valid;
  logic [127:0] st_data;
  logic st_ready;
  logic st_done;
  logic go_ld_req;
  logic [31:0] go_ld_addr;
  logic [15:0] go_ld_words;
  logic [15:0] go_ld_runs;
  logic [23:0] go_ld_stride;
  logic go_st_req;
  logic [31:0] go_st_addr;
  logic [15:0] go_st_words;
  logic [15:0] go_st_runs;
  logic [23:0] go_st_stride;

  axil_regs #(
      .ISA(isa_pkg::ISA_VERSION),
      .LANES(isa_pkg::LANES),
      .OC(isa_pkg::TILE_OC),
      .ACT_WORDS(ACT_WORDS)
  ) u_regs (
      .clk, .rst,
      .s_axil_awaddr, .s_axil_awvalid, .s_axil_awready,
      .s_axil_wdata, .s_axil_wstrb, .s_axil_wvalid, .s_axil_wready,
      .s_axil_bresp, .s_axil_bvalid, .s_axil_bready,
      .s_axil_araddr, .s_axil_arvalid, .s_axil_arready,
      .s_axil_rdata, .s_axil_rresp, .s_axil_rvalid, .s_axil_rready,
      .irq, .start, .soft_reset,
      .prog_addr, .prog_words, .lane_words, .image_addr, .output_addr, .scratch_addr, .watchdog,
      .busy, .done, .error, .irq_done, .irq_error, .error_code, .error_tag,
      .cycles, .rd_bytes, .wr_bytes, .cand_count, .prog_hash,
      .a_tag(a_seen_q), .b_tag(b_seen_q)
  );

  frame_ctl u_frame (
      .clk, .rst,
      .start, .soft_reset, .prog_words, .lane_words,
      .low_bits({prog_addr[3:0], image_addr[3:0], output_addr[3:0], scratch_addr[3:0]}),
      .watchdog,
      .busy, .done, .error, .irq_done, .irq_error, .error_code, .error_tag,
      .cycles, .rd_bytes, .wr_bytes,
      .begin_stream, .stop, .read_idle, .write_idle,
      .read_error, .read_error_array, .write_error, .read_beat, .write_beat,
      .core_rst, .core_start, .core_done, .core_error, .core_error_code, .core_error_tag,
      .a_tag, .b_tag
  );

  // The core's reset after a failed frame clears its tags; the register keeps those of the frame
  always_ff @(posedge clk) begin
    if (rst) begin
      a_seen_q <= '0;
      b_seen_q <= '0;
    end else if (busy && !stop) begin
      a_seen_q <= a_tag;
      b_seen_q <= b_tag;
    end
  end

  // Region bases are those of the start of the frame; the lanes stream follows the array stream.
  // Registers stand still for cycles before a frame begins, so that the sum is settled by then.
  logic [31:0] image_base_q;
  logic [31:0] output_base_q;
  logic [31:0] scratch_base_q;
  logic [31:0] lane_addr_q;

  always_ff @(posedge clk) begin
    lane_addr_q <= prog_addr + {prog_words[27:0], 4'b0000};
    if (begin_stream) begin
      image_base_q <= image_addr;
      output_base_q <= output_addr;
      scratch_base_q <= scratch_addr;
    end
  end

  region_addr u_load_addr (
      .clk, .rst, .stop,
      .image_base(image_base_q), .output_base(output_base_q), .scratch_base(scratch_base_q),
      .req(ld_req), .region(ld_region), .offset(ld_offset),
      .words(ld_words), .runs(ld_runs), .stride(ld_stride),
      .q_req(go_ld_req), .q_addr(go_ld_addr),
      .q_words(go_ld_words), .q_runs(go_ld_runs), .q_stride(go_ld_stride)
  );

  region_addr u_store_addr (
      .clk, .rst, .stop,
      .image_base(image_base_q), .output_base(output_base_q), .scratch_base(scratch_base_q),
      .req(st_req), .region(st_region), .offset(st_offset),
      .words(st_words), .runs(st_runs), .stride(st_stride),
      .q_req(go_st_req), .q_addr(go_st_addr),
      .q_words(go_st_words), .q_runs(go_st_runs), .q_stride(go_st_stride)
  );

  stream_ring #(.DEPTH(RING_WORDS)) u_array_ring (
      .clk, .rst, .flush(begin_stream),
      .alloc(a_alloc), .alloc_words(a_alloc_words), .space(a_space),
      .s_valid(a_valid), .s_data(stream_data),
      .rd_en(a_ring_rd_en), .rd_off(a_ring_rd_off), .rd_data(a_ring_rd_data),
      .avail(a_ring_avail), .pop(a_ring_pop), .pop_n(a_ring_pop_n)
  );

  stream_ring #(.DEPTH(LANE_RING_WORDS)) u_lanes_ring (
      .clk, .rst, .flush(begin_stream),
      .alloc(b_alloc), .alloc_words(b_alloc_words), .space(b_space),
      .s_valid(b_valid), .s_data(stream_data),
      .rd_en(b_ring_rd_en), .rd_off(b_ring_rd_off), .rd_data(b_ring_rd_data),
      .avail(b_ring_avail), .pop(b_ring_pop), .pop_n(b_ring_pop_n)
  );

  dma_read #(.OUTSTANDING(OUTSTANDING), .A_SPACE_W(A_W), .B_SPACE_W(B_W)) u_read (
      .clk, .rst, .stop,
      .idle(read_idle), .error(read_error), .error_array(read_error_array), .beat(read_beat),
      .stream_start(begin_stream),
      .a_addr(prog_addr), .a_words(prog_words[27:0]), .a_space, .a_alloc, .a_alloc_words, .a_valid,
      .b_addr(lane_addr_q), .b_words(lane_words[27:0]), .b_space, .b_alloc, .b_alloc_words,
      .b_valid, .stream_data,
      .ld_req(go_ld_req), .ld_addr(go_ld_addr),
      .ld_words(go_ld_words), .ld_runs(go_ld_runs), .ld_stride(go_ld_stride),
      .ld_valid, .ld_data, .ld_ready,
      .m_axi_araddr, .m_axi_arlen, .m_axi_arvalid, .m_axi_arready,
      .m_axi_rdata, .m_axi_rresp, .m_axi_rlast, .m_axi_rvalid, .m_axi_rready
  );

  dma_write #(.OUTSTANDING(OUTSTANDING)) u_write (
      .clk, .rst, .stop, .flush(begin_stream),
      .idle(write_idle), .error(write_error), .beat(write_beat),
      .st_req(go_st_req), .st_addr(go_st_addr),
      .st_words(go_st_words), .st_runs(go_st_runs), .st_stride(go_st_stride),
      .st_valid, .st_data, .st_ready, .st_done,
      .m_axi_awaddr, .m_axi_awlen, .m_axi_awvalid, .m_axi_awready,
      .m_axi_wdata, .m_axi_wlast, .m_axi_wvalid, .m_axi_wready,
      .m_axi_bresp, .m_axi_bvalid, .m_axi_bready
  );

  engine #(.ACT_WORDS(ACT_WORDS)) u_engine (
      .clk, .rst(core_rst),
      .start(core_start), .busy(unused_core_busy), .done(core_done),
      .error(core_error), .error_code(core_error_code), .error_tag(core_error_tag),
      .a_tag, .b_tag, .prog_hash, .cand_count,
      .mem_error(read_error || write_error),
      .a_ring_rd_en, .a_ring_rd_off, .a_ring_rd_data, .a_ring_avail, .a_ring_pop, .a_ring_pop_n,
      .b_ring_rd_en, .b_ring_rd_off, .b_ring_rd_data, .b_ring_avail, .b_ring_pop, .b_ring_pop_n,
      .ld_req, .ld_region, .ld_offset, .ld_words, .ld_runs, .ld_stride,
      .ld_valid, .ld_data, .ld_ready,
      .st_req, .st_region, .st_offset, .st_words, .st_runs, .st_stride,
      .st_valid, .st_data, .st_ready, .st_done
  );

  assign m_axi_awsize = 3'd3;
  assign m_axi_awburst = 2'b01;
  assign m_axi_awcache = 4'b0011;
  assign m_axi_awprot = 3'b000;
  assign m_axi_wstrb = '1;
  assign m_axi_arsize = 3'd3;
  assign m_axi_arburst = 2'b01;
  assign m_axi_arcache = 4'b0011;
  assign m_axi_arprot = 3'b000;

  logic unused;
  assign unused = &{1'b0, s_axil_awprot, s_axil_arprot, unused_core_busy};
endmodule

`default_nettype wire
