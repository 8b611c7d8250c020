// SPDX-License-Identifier: Apache-2.0
// AXI-Stream around the generated `tables_core`: a frame of pixels in, one byte with the class out.
//
// A frame is all pixels row-major, BYTES of them a beat (the first one in the low byte), tlast with
// the last beat; where BYTES does not divide the pixels, the high bytes of the last beat are ignored.
// A frame of any other length is dropped whole: frame_error is high for one cycle, when the frame
// turns out too short or too long, and nothing comes out. m_axis_tlast is with every byte.
//
// For a core that takes one position a clock (tables_pkg::STREAMING) all of it is `tables_stream`.
//
// Latency: tables_pkg::LATENCY + 2 cycles from the last beat. Interval: a beat a cycle; with BYTES =
// PIXELS an image a cycle. Resources: a shift register of the bits that the core reads, a counter and
// a fifo of four classes. The core stands still while that fifo is nearly full.
`default_nettype none

module tables_axis #(
    parameter int unsigned BYTES = 1  // pixels a beat
) (
    input  wire logic               clk,
    input  wire logic               rst,
    // in
    input  wire logic [8*BYTES-1:0] s_axis_tdata,
    input  wire logic               s_axis_tvalid,
    output logic                    s_axis_tready,
    input  wire logic               s_axis_tlast,
    // out
    output logic [7:0]              m_axis_tdata,
    output logic                    m_axis_tvalid,
    input  wire logic               m_axis_tready,
    output logic                    m_axis_tlast,
    output logic                    frame_error
);
  if (tables_pkg::STREAMING != 0) begin : g_stream
    tables_stream #(
        .BYTES(BYTES)
    ) u_stream (
        .clk(clk),
        .rst(rst),
        .s_axis_tdata(s_axis_tdata),
        .s_axis_tvalid(s_axis_tvalid),
        .s_axis_tready(s_axis_tready),
        .s_axis_tlast(s_axis_tlast),
        .m_axis_tdata(m_axis_tdata),
        .m_axis_tvalid(m_axis_tvalid),
        .m_axis_tready(m_axis_tready),
        .m_axis_tlast(m_axis_tlast),
        .frame_error(frame_error)
    );
  end else begin : g_whole
    localparam int unsigned BEATS = (tables_pkg::PIXELS + BYTES - 1) / BYTES;
    localparam int unsigned COUNT_W = BEATS > 1 ? $clog2(BEATS) : 1;
    localparam int unsigned BEAT_W = 8 * BYTES;

    if (tables_pkg::PIXEL_W != 8) begin : g_illegal
      tables_axis_takes_pixels_of_eight_bits u_illegal ();
    end

    // Bits on which no table depends go away in synthesis
    /* verilator lint_off UNUSEDSIGNAL */
    (* shreg_extract = "no" *) logic [BEATS*BEAT_W-1:0] frame_q;
    /* verilator lint_on UNUSEDSIGNAL */
    logic [COUNT_W-1:0] count_q;
    logic last_q;  // count_q is that of the last beat
    logic restart;
    logic whole_q;  // frame_q is an image that the core has not taken yet
    logic drop_q;  // the rest of a frame that is too long
    logic error_q;
    logic ready_q;
    logic take;
    logic en_d;
    logic en_q;  // the core moves
    logic whole_d;
    logic [2:0] level;
    logic class_valid;
    logic [tables_pkg::CLASS_W-1:0] class_id;
    logic [tables_pkg::CLASS_W-1:0] class_out;

    // What is in flight when the core is stopped, one word a cycle for two cycles, still has a place
    assign en_d = level < 3'd3;
    assign whole_d = (take && s_axis_tlast && last_q && !drop_q) || (whole_q && !en_q);
    assign s_axis_tready = ready_q;
    assign take = s_axis_tvalid && s_axis_tready;
    assign restart = s_axis_tlast || last_q || drop_q;
    assign frame_error = error_q;
    assign m_axis_tdata = 8'(class_out);
    assign m_axis_tlast = 1'b1;

    if (BEATS > 1) begin : g_shift
      always_ff @(posedge clk) begin
        if (take) frame_q <= {s_axis_tdata, frame_q[BEATS*BEAT_W-1:BEAT_W]};
      end
    end else begin : g_load
      always_ff @(posedge clk) begin
        if (take) frame_q <= s_axis_tdata;
      end
    end

    always_ff @(posedge clk) begin
      if (rst) begin
        count_q <= '0;
        last_q  <= BEATS == 1;
        whole_q <= 1'b0;
        drop_q  <= 1'b0;
        error_q <= 1'b0;
        en_q    <= 1'b1;
        ready_q <= 1'b1;
      end else begin
        en_q    <= en_d;
        ready_q <= !whole_d || en_d;
        whole_q <= whole_d;
        error_q <= take && !drop_q && (s_axis_tlast != last_q);
        if (take) begin
          count_q <= restart ? '0 : count_q + 1'b1;
          last_q  <= BEATS == 1 || (!restart && count_q == COUNT_W'(BEATS - 2));
          drop_q  <= !s_axis_tlast && (drop_q || last_q);
        end
      end
    end

    /* verilator lint_off PINCONNECTEMPTY */
    tables_core u_core (
        .clk(clk),
        .rst(rst),
        .en(en_q),
        .in_valid(whole_q),
        .in_pixels(frame_q[tables_pkg::PIXELS*8-1:0]),
        .out_valid(class_valid),
        .out_class(class_id),
        .out_scores()
    );

    fifo #(
        .WIDTH(tables_pkg::CLASS_W),
        .DEPTH(4)
    ) u_classes (
        .clk(clk),
        .rst(rst),
        .in_valid(class_valid && en_q),
        .in_data(class_id),
        .in_ready(),
        .out_valid(m_axis_tvalid),
        .out_data(class_out),
        .out_ready(m_axis_tready),
        .level(level)
    );
    /* verilator lint_on PINCONNECTEMPTY */
  end
endmodule

`default_nettype wire
