// SPDX-License-Identifier: Apache-2.0
// The accelerator as a block for a system: the engine, its DMA, its registers.
//
// s_axil: AXI4-Lite slave, 32-bit data, registers of registers.toml. m_axi: AXI4 master, 64-bit
// data, 32-bit addresses, no IDs, bursts that an AXI3 port takes as they are (at most 16 beats,
// INCR, within 128 bytes), up to OUTSTANDING reads and as many writes without an answer. irq: high
// while an enabled event is pending. One clock; aresetn is synchronous and active low.
`default_nettype none

module engine_axi #(
    parameter int unsigned ACT_WORDS = 24576,   // words of the activation memory
    parameter int unsigned RING_WORDS = 4096,   // words of the stream ring, a power of two
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
  localparam int unsigned COUNT_W = $clog2(RING_WORDS) + 1;

  if (ACT_WORDS > 65535 || COUNT_W != 13) begin : g_illegal
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

  // Core and memory side
  logic begin_stream;
  logic stop;
  logic read_idle;
  logic write_idle;
  logic read_error;
  logic write_error;
  logic read_beat;
  logic write_beat;
  logic core_rst;
  logic core_start;
  logic unused_core_busy;
  logic core_done;
  logic core_error;
  logic [7:0] core_error_code;
  logic [11:0] tag;
  logic [63:0] prog_hash;
  logic [6:0] cand_count;
  logic ring_alloc;
  logic [3:0] ring_alloc_words;
  logic [COUNT_W-1:0] ring_space;
  logic stream_valid;
  logic [127:0] stream_data;
  logic ring_rd_en;
  logic [COUNT_W-1:0] ring_rd_off;
  logic [127:0] ring_rd_data;
  logic [COUNT_W-1:0] ring_avail;
  logic ring_pop;
  logic [COUNT_W-1:0] ring_pop_n;
  logic ld_req;
  logic [1:0] ld_region;
  logic [31:0] ld_offset;
  logic [15:0] ld_words;
  logic ld_valid;
  logic [127:0] ld_data;
  logic st_req;
  logic [1:0] st_region;
  logic [31:0] st_offset;
  logic [15:0] st_words;
  logic st_valid;
  logic [127:0] st_data;
  logic st_ready;
  logic st_done;

  axil_regs #(
      .ISA(isa_pkg::ISA_VERSION),
      .LANES(isa_pkg::LANES),
      .OC(isa_pkg::TILE_OC),
      .ACT_WORDS(ACT_WORDS)
  ) u_regs (
      .clk(clk),
      .rst(rst),
      .s_axil_awaddr(s_axil_awaddr),
      .s_axil_awvalid(s_axil_awvalid),
      .s_axil_awready(s_axil_awready),
      .s_axil_wdata(s_axil_wdata),
      .s_axil_wstrb(s_axil_wstrb),
      .s_axil_wvalid(s_axil_wvalid),
      .s_axil_wready(s_axil_wready),
      .s_axil_bresp(s_axil_bresp),
      .s_axil_bvalid(s_axil_bvalid),
      .s_axil_bready(s_axil_bready),
      .s_axil_araddr(s_axil_araddr),
      .s_axil_arvalid(s_axil_arvalid),
      .s_axil_arready(s_axil_arready),
      .s_axil_rdata(s_axil_rdata),
      .s_axil_rresp(s_axil_rresp),
      .s_axil_rvalid(s_axil_rvalid),
      .s_axil_rready(s_axil_rready),
      .irq(irq),
      .start(start),
      .soft_reset(soft_reset),
      .prog_addr(prog_addr),
      .prog_words(prog_words),
      .image_addr(image_addr),
      .output_addr(output_addr),
      .scratch_addr(scratch_addr),
      .watchdog(watchdog),
      .busy(busy),
      .done(done),
      .error(error),
      .irq_done(irq_done),
      .irq_error(irq_error),
      .error_code(error_code),
      .error_tag(error_tag),
      .cycles(cycles),
      .rd_bytes(rd_bytes),
      .wr_bytes(wr_bytes),
      .cand_count(cand_count),
      .prog_hash(prog_hash),
      .tag(tag)
  );

  frame_ctl u_frame (
      .clk(clk),
      .rst(rst),
      .start(start),
      .soft_reset(soft_reset),
      .prog_words(prog_words),
      .low_bits({prog_addr[3:0], image_addr[3:0], output_addr[3:0], scratch_addr[3:0]}),
      .watchdog(watchdog),
      .busy(busy),
      .done(done),
      .error(error),
      .irq_done(irq_done),
      .irq_error(irq_error),
      .error_code(error_code),
      .error_tag(error_tag),
      .cycles(cycles),
      .rd_bytes(rd_bytes),
      .wr_bytes(wr_bytes),
      .begin_stream(begin_stream),
      .stop(stop),
      .read_idle(read_idle),
      .write_idle(write_idle),
      .read_error(read_error),
      .write_error(write_error),
      .read_beat(read_beat),
      .write_beat(write_beat),
      .core_rst(core_rst),
      .core_start(core_start),
      .core_done(core_done),
      .core_error(core_error),
      .core_error_code(core_error_code),
      .core_tag(tag)
  );

  // Region bases are those of the start of the frame
  logic [31:0] image_base_q;
  logic [31:0] output_base_q;
  logic [31:0] scratch_base_q;

  always_ff @(posedge clk) begin
    if (begin_stream) begin
      image_base_q <= image_addr;
      output_base_q <= output_addr;
      scratch_base_q <= scratch_addr;
    end
  end

  // Requests of the core with their address worked out, 2 cycles later
  logic ld_req_q;
  logic ld_req_qq;
  logic [31:0] ld_base_q;
  logic [31:0] ld_offset_q;
  logic [31:0] ld_addr_q;
  logic [15:0] ld_words_q;
  logic st_req_q;
  logic st_req_qq;
  logic [31:0] st_base_q;
  logic [31:0] st_offset_q;
  logic [31:0] st_addr_q;
  logic [15:0] st_words_q;

  always_ff @(posedge clk) begin
    if (rst || stop) begin
      ld_req_q <= 1'b0;
      ld_req_qq <= 1'b0;
      st_req_q <= 1'b0;
      st_req_qq <= 1'b0;
    end else begin
      ld_req_q <= ld_req;
      ld_req_qq <= ld_req_q;
      st_req_q <= st_req;
      st_req_qq <= st_req_q;
    end
  end

  always_ff @(posedge clk) begin
    if (ld_req) begin
      ld_offset_q <= ld_offset;
      ld_words_q <= ld_words;
      case (ld_region)
        isa_pkg::REGION_IMAGE: ld_base_q <= image_base_q;
        isa_pkg::REGION_OUTPUT: ld_base_q <= output_base_q;
        default: ld_base_q <= scratch_base_q;
      endcase
    end
    if (st_req) begin
      st_offset_q <= st_offset;
      st_words_q <= st_words;
      case (st_region)
        isa_pkg::REGION_IMAGE: st_base_q <= image_base_q;
        isa_pkg::REGION_OUTPUT: st_base_q <= output_base_q;
        default: st_base_q <= scratch_base_q;
      endcase
    end
    ld_addr_q <= ld_base_q + ld_offset_q;
    st_addr_q <= st_base_q + st_offset_q;
  end

  stream_ring #(.DEPTH(RING_WORDS)) u_ring (
      .clk(clk),
      .rst(rst),
      .flush(begin_stream),
      .alloc(ring_alloc),
      .alloc_words(ring_alloc_words),
      .space(ring_space),
      .s_valid(stream_valid),
      .s_data(stream_data),
      .rd_en(ring_rd_en),
      .rd_off(ring_rd_off),
      .rd_data(ring_rd_data),
      .avail(ring_avail),
      .pop(ring_pop),
      .pop_n(ring_pop_n)
  );

  dma_read #(.OUTSTANDING(OUTSTANDING), .SPACE_W(COUNT_W)) u_read (
      .clk(clk),
      .rst(rst),
      .stop(stop),
      .idle(read_idle),
      .error(read_error),
      .beat(read_beat),
      .stream_start(begin_stream),
      .stream_addr(prog_addr),
      .stream_words(prog_words[27:0]),
      .ring_space(ring_space),
      .ring_alloc(ring_alloc),
      .ring_alloc_words(ring_alloc_words),
      .stream_valid(stream_valid),
      .stream_data(stream_data),
      .ld_req(ld_req_qq),
      .ld_addr(ld_addr_q),
      .ld_words(ld_words_q),
      .ld_valid(ld_valid),
      .ld_data(ld_data),
      .m_axi_araddr(m_axi_araddr),
      .m_axi_arlen(m_axi_arlen),
      .m_axi_arvalid(m_axi_arvalid),
      .m_axi_arready(m_axi_arready),
      .m_axi_rdata(m_axi_rdata),
      .m_axi_rresp(m_axi_rresp),
      .m_axi_rlast(m_axi_rlast),
      .m_axi_rvalid(m_axi_rvalid),
      .m_axi_rready(m_axi_rready)
  );

  dma_write #(.OUTSTANDING(OUTSTANDING)) u_write (
      .clk(clk),
      .rst(rst),
      .stop(stop),
      .flush(begin_stream),
      .idle(write_idle),
      .error(write_error),
      .beat(write_beat),
      .st_req(st_req_qq),
      .st_addr(st_addr_q),
      .st_words(st_words_q),
      .st_valid(st_valid),
      .st_data(st_data),
      .st_ready(st_ready),
      .st_done(st_done),
      .m_axi_awaddr(m_axi_awaddr),
      .m_axi_awlen(m_axi_awlen),
      .m_axi_awvalid(m_axi_awvalid),
      .m_axi_awready(m_axi_awready),
      .m_axi_wdata(m_axi_wdata),
      .m_axi_wlast(m_axi_wlast),
      .m_axi_wvalid(m_axi_wvalid),
      .m_axi_wready(m_axi_wready),
      .m_axi_bresp(m_axi_bresp),
      .m_axi_bvalid(m_axi_bvalid),
      .m_axi_bready(m_axi_bready)
  );

  engine #(.ACT_WORDS(ACT_WORDS)) u_engine (
      .clk(clk),
      .rst(core_rst),
      .start(core_start),
      .busy(unused_core_busy),
      .done(core_done),
      .error(core_error),
      .error_code(core_error_code),
      .tag(tag),
      .prog_hash(prog_hash),
      .cand_count(cand_count),
      .ring_rd_en(ring_rd_en),
      .ring_rd_off(ring_rd_off),
      .ring_rd_data(ring_rd_data),
      .ring_avail(ring_avail),
      .ring_pop(ring_pop),
      .ring_pop_n(ring_pop_n),
      .ld_req(ld_req),
      .ld_region(ld_region),
      .ld_offset(ld_offset),
      .ld_words(ld_words),
      .ld_valid(ld_valid),
      .ld_data(ld_data),
      .st_req(st_req),
      .st_region(st_region),
      .st_offset(st_offset),
      .st_words(st_words),
      .st_valid(st_valid),
      .st_data(st_data),
      .st_ready(st_ready),
      .st_done(st_done),
      .mem_error(read_error || write_error)
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
