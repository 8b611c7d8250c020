// SPDX-License-Identifier: Apache-2.0
// AXI4-Lite around `tables_axis`: a processor writes pictures as words and reads classes.
//
// offset      access  content
// 0x00 ID      read    0x4C425448, "HTBL"
// 0x04 PIXELS  read    bytes of a picture
// 0x08 STATUS  read    bit 0: a class waits; bit 1: a word was refused; 31..16: words of this picture
//              write   1 to bit 1 clears it
// 0x0C RESULT  read    7..0: the class, taken by this read; bit 31: there was one
// 0x10 CONTROL write   bit 0: forget everything, for one cycle; bit 1: interrupt while a class waits
// 0x80..0xFC   write   DATA: the next four pixels, the first in the low byte; at any of these offsets
//
// A picture is ceil(PIXELS / 4) words, row-major; what the last word has too much is ignored. Up to
// four classes wait; a word for which there is no room within 255 cycles is refused with SLVERR, so
// that a program that reads no classes cannot stop the bus. Other offsets, and words of less than
// four bytes: SLVERR.
//
// Latency: a write answers 1 cycle after address and data (DATA: when the word is taken), a read 1
// cycle after its address. Interval: a word in 3 cycles.
`default_nettype none

module tables_axil (
    input  wire logic        aclk,
    input  wire logic        aresetn,
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
    output logic             irq
);
  localparam logic [1:0] OKAY = 2'b00;
  localparam logic [1:0] SLVERR = 2'b10;
  localparam logic [31:0] ID = 32'h4C425448;
  localparam int unsigned WORDS = (tables_pkg::PIXELS + 3) / 4;

  logic rst;
  logic forget_q;
  logic core_rst;

  // Write channels: address and data wait for each other
  logic aw_full_q;
  logic w_full_q;
  logic [5:0] awaddr_q;
  logic [31:0] wdata_q;
  logic [3:0] wstrb_q;
  logic bvalid_q;
  logic [1:0] bresp_q;
  logic pending;
  logic to_data;
  logic whole;  // all four bytes are written
  logic word_valid;
  logic word_ready;
  logic refuse;
  logic finish;
  logic [7:0] waited_q;
  logic [15:0] words_q;
  logic last_word;
  logic refused_q;
  logic enable_q;
  logic class_valid;
  logic [7:0] class_id;
  logic take_class;

  assign rst = !aresetn;
  assign core_rst = rst || forget_q;
  assign s_axil_awready = !aw_full_q;
  assign s_axil_wready = !w_full_q;
  assign s_axil_bvalid = bvalid_q;
  assign s_axil_bresp = bresp_q;
  assign pending = aw_full_q && w_full_q && !bvalid_q;
  assign to_data = awaddr_q[5];
  assign whole = wstrb_q == 4'hF;
  assign word_valid = pending && to_data && whole && waited_q != 8'hFF;
  assign refuse = pending && to_data && whole && waited_q == 8'hFF;
  assign finish = pending && (!to_data || !whole || refuse || word_ready);
  assign last_word = words_q == 16'(WORDS - 1);
  assign irq = enable_q && class_valid;

  always_ff @(posedge aclk) begin
    if (!aw_full_q) awaddr_q <= s_axil_awaddr[7:2];
    if (!w_full_q) begin
      wdata_q <= s_axil_wdata;
      wstrb_q <= s_axil_wstrb;
    end
    if (finish) begin
      bresp_q <= (whole && !refuse && (to_data || awaddr_q == 6'h02 || awaddr_q == 6'h04)) ? OKAY
                                                                                          : SLVERR;
    end
  end

  always_ff @(posedge aclk) begin
    if (rst) begin
      aw_full_q <= 1'b0;
      w_full_q  <= 1'b0;
      bvalid_q  <= 1'b0;
      waited_q  <= '0;
      words_q   <= '0;
      refused_q <= 1'b0;
      enable_q  <= 1'b0;
      forget_q  <= 1'b0;
    end else begin
      if (s_axil_awvalid && !aw_full_q) aw_full_q <= 1'b1;
      else if (finish) aw_full_q <= 1'b0;
      if (s_axil_wvalid && !w_full_q) w_full_q <= 1'b1;
      else if (finish) w_full_q <= 1'b0;
      if (finish) bvalid_q <= 1'b1;
      else if (s_axil_bready) bvalid_q <= 1'b0;
      waited_q <= (word_valid && !word_ready) ? waited_q + 1'b1 : '0;
      forget_q <= 1'b0;
      if (word_valid && word_ready) words_q <= last_word ? '0 : words_q + 1'b1;
      if (refuse) refused_q <= 1'b1;
      if (finish && whole && !to_data) begin
        if (awaddr_q == 6'h02 && wdata_q[1]) refused_q <= 1'b0;
        if (awaddr_q == 6'h04) begin
          enable_q <= wdata_q[1];
          forget_q <= wdata_q[0];
        end
      end
      if (forget_q) words_q <= '0;
    end
  end

  // Reads
  logic [31:0] rdata_q;
  logic [1:0] rresp_q;
  logic rvalid_q;
  logic take_address;

  assign s_axil_arready = !rvalid_q;
  assign s_axil_rvalid = rvalid_q;
  assign s_axil_rdata = rdata_q;
  assign s_axil_rresp = rresp_q;
  assign take_address = s_axil_arvalid && !rvalid_q;
  assign take_class = take_address && s_axil_araddr[7:2] == 6'h03 && class_valid;

  always_ff @(posedge aclk) begin
    if (rst) rvalid_q <= 1'b0;
    else if (take_address) rvalid_q <= 1'b1;
    else if (s_axil_rready) rvalid_q <= 1'b0;
  end

  always_ff @(posedge aclk) begin
    if (take_address) begin
      rresp_q <= OKAY;
      case (s_axil_araddr[7:2])
        6'h00: rdata_q <= ID;
        6'h01: rdata_q <= 32'(tables_pkg::PIXELS);
        6'h02: rdata_q <= {words_q, 14'd0, refused_q, class_valid};
        6'h03: rdata_q <= class_valid ? {1'b1, 23'd0, class_id} : 32'd0;
        default: begin
          rdata_q <= 32'd0;
          rresp_q <= SLVERR;
        end
      endcase
    end
  end

  tables_axis #(
      .BYTES(4)
  ) u_axis (
      .clk(aclk),
      .rst(core_rst),
      .s_axis_tdata(wdata_q),
      .s_axis_tvalid(word_valid),
      .s_axis_tready(word_ready),
      .s_axis_tlast(last_word),
      .m_axis_tdata(class_id),
      .m_axis_tvalid(class_valid),
      .m_axis_tready(take_class),
      .m_axis_tlast(),
      .frame_error()
  );

  // Offsets are those of words
  logic unused;
  assign unused = &{1'b0, s_axil_awaddr[1:0], s_axil_araddr[1:0]};
endmodule

`default_nettype wire
