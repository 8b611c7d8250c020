// SPDX-License-Identifier: Apache-2.0
// Bench of the whole accelerator: engine_axi, DDR model, clock and reset (simulation only).
//
// Python (the host driver, through hwflow/sim/host.py) sets the h_* variables and waits for an
// acknowledgement to toggle; between a start and the interrupt it sleeps.
//   h_reg_*    one access of the AXI4-Lite port for each toggle of h_reg_req
//   h_mem_*    the mailbox of the DDR model, which takes its figures from +ddr=
// Written while h_trace is 1, both files or none, little-endian 32-bit words:
//   +trace=FILE   for each write to the activation memory: address + tag * 2**16 + source * 2**28
//                 (source 0 array, 1 lanes, 2 LOAD; the tag is what its queue runs), four of data
//   +events=FILE  kind + queue * 2**16, tag, cycle, writes so far; kind: 0 the frame begins, 1 it is
//                 done, 2 it has failed, 3 a descriptor starts, 4 it is completed (0..2: queue 0)
`default_nettype none

module tb_engine #(
    parameter int unsigned ACT_WORDS = 30720,
    parameter int unsigned DDR_BYTES = 1 << 24,
    parameter logic [31:0] DDR_BASE = 32'h10000000,
    parameter int unsigned RING_WORDS = 4096,
    parameter int unsigned OUTSTANDING = 8
);
  // Set by Python
  logic        h_reset_n = 1'b0;
  logic        h_reg_req = 1'b0;
  logic        h_reg_write = 1'b0;
  logic [7:0]  h_reg_addr = '0;
  logic [31:0] h_reg_wdata = '0;
  logic        h_mem_req = 1'b0;
  logic        h_mem_write = 1'b0;
  logic [31:0] h_mem_addr = '0;
  logic [31:0] h_mem_bytes = '0;
  logic [6:0]  h_stall_percent = '0;
  logic        h_fault_on = 1'b0;
  logic [31:0] h_fault_addr = '0;
  logic [1:0]  h_fault_resp = 2'b10;
  logic        h_trace = 1'b0;
  logic [31:0] h_wait_until = '0;   // h_tick rises when the cycle counter gets there
  // Read by Python
  logic        h_reg_ack = 1'b0;
  logic [31:0] h_reg_rdata = '0;
  logic [1:0]  h_reg_resp = '0;
  logic        h_mem_ack;
  logic        h_irq;
  logic        h_tick = 1'b0;
  logic [31:0] h_cycle = '0;
  logic [4:0]  h_most_reads = '0;   // read bursts in flight at once

  logic clk = 1'b0;
  always #5 clk = !clk;

  logic rst;
  assign rst = !h_reset_n;

  logic [7:0]  s_axil_awaddr = '0;
  logic        s_axil_awvalid = 1'b0;
  logic        s_axil_awready;
  logic [31:0] s_axil_wdata = '0;
  logic        s_axil_wvalid = 1'b0;
  logic        s_axil_wready;
  logic [1:0]  s_axil_bresp;
  logic        s_axil_bvalid;
  logic [7:0]  s_axil_araddr = '0;
  logic        s_axil_arvalid = 1'b0;
  logic        s_axil_arready;
  logic [31:0] s_axil_rdata;
  logic [1:0]  s_axil_rresp;
  logic        s_axil_rvalid;

  logic [31:0] axi_awaddr;
  logic [7:0]  axi_awlen;
  logic [2:0]  axi_awsize;
  logic [1:0]  axi_awburst;
  logic [3:0]  axi_awcache;
  logic [2:0]  axi_awprot;
  logic        axi_awvalid;
  logic        axi_awready;
  logic [63:0] axi_wdata;
  logic [7:0]  axi_wstrb;
  logic        axi_wlast;
  logic        axi_wvalid;
  logic        axi_wready;
  logic [1:0]  axi_bresp;
  logic        axi_bvalid;
  logic        axi_bready;
  logic [31:0] axi_araddr;
  logic [7:0]  axi_arlen;
  logic [2:0]  axi_arsize;
  logic [1:0]  axi_arburst;
  logic [3:0]  axi_arcache;
  logic [2:0]  axi_arprot;
  logic        axi_arvalid;
  logic        axi_arready;
  logic [63:0] axi_rdata;
  logic [1:0]  axi_rresp;
  logic        axi_rlast;
  logic        axi_rvalid;
  logic        axi_rready;

  engine_axi #(
      .ACT_WORDS(ACT_WORDS),
      .RING_WORDS(RING_WORDS),
      .OUTSTANDING(OUTSTANDING)
  ) u_dut (
      .aclk(clk),
      .aresetn(h_reset_n),
      .irq(h_irq),
      .s_axil_awaddr(s_axil_awaddr),
      .s_axil_awprot(3'b000),
      .s_axil_awvalid(s_axil_awvalid),
      .s_axil_awready(s_axil_awready),
      .s_axil_wdata(s_axil_wdata),
      .s_axil_wstrb(4'b1111),
      .s_axil_wvalid(s_axil_wvalid),
      .s_axil_wready(s_axil_wready),
      .s_axil_bresp(s_axil_bresp),
      .s_axil_bvalid(s_axil_bvalid),
      .s_axil_bready(1'b1),
      .s_axil_araddr(s_axil_araddr),
      .s_axil_arprot(3'b000),
      .s_axil_arvalid(s_axil_arvalid),
      .s_axil_arready(s_axil_arready),
      .s_axil_rdata(s_axil_rdata),
      .s_axil_rresp(s_axil_rresp),
      .s_axil_rvalid(s_axil_rvalid),
      .s_axil_rready(1'b1),
      .m_axi_awaddr(axi_awaddr),
      .m_axi_awlen(axi_awlen),
      .m_axi_awsize(axi_awsize),
      .m_axi_awburst(axi_awburst),
      .m_axi_awcache(axi_awcache),
      .m_axi_awprot(axi_awprot),
      .m_axi_awvalid(axi_awvalid),
      .m_axi_awready(axi_awready),
      .m_axi_wdata(axi_wdata),
      .m_axi_wstrb(axi_wstrb),
      .m_axi_wlast(axi_wlast),
      .m_axi_wvalid(axi_wvalid),
      .m_axi_wready(axi_wready),
      .m_axi_bresp(axi_bresp),
      .m_axi_bvalid(axi_bvalid),
      .m_axi_bready(axi_bready),
      .m_axi_araddr(axi_araddr),
      .m_axi_arlen(axi_arlen),
      .m_axi_arsize(axi_arsize),
      .m_axi_arburst(axi_arburst),
      .m_axi_arcache(axi_arcache),
      .m_axi_arprot(axi_arprot),
      .m_axi_arvalid(axi_arvalid),
      .m_axi_arready(axi_arready),
      .m_axi_rdata(axi_rdata),
      .m_axi_rresp(axi_rresp),
      .m_axi_rlast(axi_rlast),
      .m_axi_rvalid(axi_rvalid),
      .m_axi_rready(axi_rready)
  );

  ddr #(
      .BYTES(DDR_BYTES),
      .BASE(DDR_BASE)
  ) u_ddr (
      .clk(clk),
      .rst(rst),
      .stall_percent(h_stall_percent),
      .fault_on(h_fault_on),
      .fault_addr(h_fault_addr),
      .fault_resp(h_fault_resp),
      .host_req(h_mem_req),
      .host_write(h_mem_write),
      .host_addr(h_mem_addr),
      .host_bytes(h_mem_bytes),
      .host_ack(h_mem_ack),
      .s_axi_awaddr(axi_awaddr),
      .s_axi_awlen(axi_awlen),
      .s_axi_awsize(axi_awsize),
      .s_axi_awburst(axi_awburst),
      .s_axi_awvalid(axi_awvalid),
      .s_axi_awready(axi_awready),
      .s_axi_wdata(axi_wdata),
      .s_axi_wstrb(axi_wstrb),
      .s_axi_wlast(axi_wlast),
      .s_axi_wvalid(axi_wvalid),
      .s_axi_wready(axi_wready),
      .s_axi_bresp(axi_bresp),
      .s_axi_bvalid(axi_bvalid),
      .s_axi_bready(axi_bready),
      .s_axi_araddr(axi_araddr),
      .s_axi_arlen(axi_arlen),
      .s_axi_arsize(axi_arsize),
      .s_axi_arburst(axi_arburst),
      .s_axi_arvalid(axi_arvalid),
      .s_axi_arready(axi_arready),
      .s_axi_rdata(axi_rdata),
      .s_axi_rresp(axi_rresp),
      .s_axi_rlast(axi_rlast),
      .s_axi_rvalid(axi_rvalid),
      .s_axi_rready(axi_rready)
  );

  // Register port: one access at a time
  logic seen_req = 1'b0;
  logic waiting = 1'b0;

  always_ff @(posedge clk) begin
    h_cycle <= h_cycle + 1;
    h_tick <= h_cycle == h_wait_until;
    if (!waiting && h_reg_req != seen_req) begin
      seen_req <= h_reg_req;
      waiting <= 1'b1;
      if (h_reg_write) begin
        s_axil_awaddr <= h_reg_addr;
        s_axil_wdata <= h_reg_wdata;
        s_axil_awvalid <= 1'b1;
        s_axil_wvalid <= 1'b1;
      end else begin
        s_axil_araddr <= h_reg_addr;
        s_axil_arvalid <= 1'b1;
      end
    end else begin
      if (s_axil_awready) s_axil_awvalid <= 1'b0;
      if (s_axil_wready) s_axil_wvalid <= 1'b0;
      if (s_axil_arready) s_axil_arvalid <= 1'b0;
    end
    if (s_axil_bvalid || s_axil_rvalid) begin
      h_reg_rdata <= s_axil_rdata;
      h_reg_resp <= s_axil_bvalid ? s_axil_bresp : s_axil_rresp;
      h_reg_ack <= seen_req;
      waiting <= 1'b0;
    end
  end

  // Traces
  string trace_name;
  string events_name;
  int trace_fd = 0;
  int events_fd = 0;
  logic [31:0] writes = '0;
  logic in_frame = 1'b0;
  // What each queue ran in the cycle before: 0 array, 1 lanes
  logic [1:0] running;
  logic [1:0] ran = '0;
  logic [11:0] tag [2];
  logic [11:0] last_tag [2];

  assign running = {u_dut.u_engine.b_running, u_dut.u_engine.a_running};
  assign tag[0] = u_dut.a_tag;
  assign tag[1] = u_dut.b_tag;

  initial begin
    if ($value$plusargs("trace=%s", trace_name)) trace_fd = $fopen(trace_name, "wb");
    if ($value$plusargs("events=%s", events_name)) events_fd = $fopen(events_name, "wb");
  end

  always @(posedge clk) begin
    if (h_trace && events_fd != 0) begin
      writes <= writes + 32'(u_dut.u_engine.tr0_en) + 32'(u_dut.u_engine.tr1_en);
      if (u_dut.u_engine.tr0_en && trace_fd != 0) begin
        $fwrite(trace_fd, "%u%u%u",
                {2'b0, u_dut.u_engine.tr0_src, tag[u_dut.u_engine.tr0_src != 2'd0],
                 u_dut.u_engine.tr0_addr},
                u_dut.u_engine.tr0_data[63:0], u_dut.u_engine.tr0_data[127:64]);
      end
      if (u_dut.u_engine.tr1_en && trace_fd != 0) begin
        $fwrite(trace_fd, "%u%u%u",
                {2'b0, u_dut.u_engine.tr1_src, tag[u_dut.u_engine.tr1_src != 2'd0],
                 u_dut.u_engine.tr1_addr},
                u_dut.u_engine.tr1_data[63:0], u_dut.u_engine.tr1_data[127:64]);
      end
      ran <= running;
      for (int q = 0; q < 2; q++) begin
        last_tag[q] <= tag[q];
        if (in_frame && ran[q] && (!running[q] || tag[q] != last_tag[q])) begin
          $fwrite(events_fd, "%u%u%u%u", 4 + 65536 * q, {20'b0, last_tag[q]}, h_cycle, writes);
        end
        if (in_frame && running[q] && (!ran[q] || tag[q] != last_tag[q])) begin
          $fwrite(events_fd, "%u%u%u%u", 3 + 65536 * q, {20'b0, tag[q]}, h_cycle, writes);
        end
      end
      if (u_dut.core_start) begin
        $fwrite(events_fd, "%u%u%u%u", 32'd0, 32'd0, h_cycle, writes);
        in_frame <= 1'b1;
      end else if (in_frame && (u_dut.core_done || u_dut.core_error)) begin
        $fwrite(events_fd, "%u%u%u%u", u_dut.core_error ? 32'd2 : 32'd1, 32'd0, h_cycle, writes);
        in_frame <= 1'b0;
      end
    end
  end

  // Most read bursts in flight, to show that the DMA hides the latency
  logic [4:0] reads = '0;

  always_ff @(posedge clk) begin
    if (rst) begin
      reads <= '0;
    end else begin
      reads <= reads + 5'(axi_arvalid && axi_arready)
               - 5'(axi_rvalid && axi_rready && axi_rlast);
      if (reads > h_most_reads) h_most_reads <= reads;
    end
  end

  final begin
    if (trace_fd != 0) $fclose(trace_fd);
    if (events_fd != 0) $fclose(events_fd);
  end

  logic unused;
  assign unused = &{1'b0, axi_awcache, axi_awprot, axi_arcache, axi_arprot};
endmodule

`default_nettype wire
