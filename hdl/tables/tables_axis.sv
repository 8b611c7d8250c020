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
// Latency: tables_pkg::LATENCY + 4 cycles from the last beat, one less with BYTES = PIXELS. Interval:
// a beat a cycle; with BYTES = PIXELS an image a cycle. Resources: a shift register of the bits that
// the core reads, two counters and a fifo with a place for every image that can be under way. An image
// enters only when such a place is free: the core itself never stands still, so no signal has to
// reach all its registers.
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
    // Images between their last beat and their class, and two that wait to be taken
    localparam int unsigned UNDER_WAY = (tables_pkg::LATENCY + 3) / BEATS + 3;
    localparam int unsigned PLACES = 1 << $clog2(UNDER_WAY);
    localparam int unsigned TWIN_PIXELS = 128;  // that one enable shifts
    localparam int unsigned HELD_W = $clog2(PLACES) + 1;

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
    logic whole;  // an image is complete with this beat
    logic whole_q;
    logic image;  // frame_q is one
    logic drop_q;  // the rest of a frame that is too long
    logic error_q;
    logic take;
    logic [HELD_W-1:0] held_q;  // images whose class has not been taken yet
    logic room_q;  // held_q is not PLACES
    logic leave;
    logic class_valid;
    logic [tables_pkg::CLASS_W-1:0] class_id;
    logic class_valid_q;
    logic [tables_pkg::CLASS_W-1:0] class_q;
    logic [tables_pkg::CLASS_W-1:0] class_out;

    assign s_axis_tready = room_q;
    assign take = s_axis_tvalid && s_axis_tready;
    assign whole = take && s_axis_tlast && last_q && !drop_q;
    assign leave = m_axis_tvalid && m_axis_tready;
    assign restart = s_axis_tlast || last_q || drop_q;
    assign frame_error = error_q;
    assign m_axis_tdata = 8'(class_out);
    assign m_axis_tlast = 1'b1;

    if (BEATS > 1) begin : g_shift
      // Registers of its own, and several of them, have the time to reach all bits of the frame.
      // keep: to synthesis they are one
      localparam int unsigned REACH = (TWIN_PIXELS + BYTES - 1) / BYTES;  // beats
      localparam int unsigned TWINS = (BEATS + REACH - 1) / REACH;
      logic [BEAT_W-1:0] beat_q;
      logic [TWINS-1:0] taken_q;
      logic image_q;
      assign image = image_q;
      for (genvar i = 0; i < TWINS; i++) begin : g_twin
        (* keep *)
        always_ff @(posedge clk) begin
          taken_q[i] <= take && !rst;
        end
      end
      always_ff @(posedge clk) begin
        image_q <= whole_q && !rst;
        beat_q  <= s_axis_tdata;
        if (taken_q[(BEATS-1)/REACH]) frame_q[(BEATS-1)*BEAT_W+:BEAT_W] <= beat_q;
      end
      for (genvar i = 0; i < BEATS - 1; i++) begin : g_beat
        always_ff @(posedge clk) begin
          if (taken_q[i/REACH]) frame_q[i*BEAT_W+:BEAT_W] <= frame_q[(i+1)*BEAT_W+:BEAT_W];
        end
      end
    end else begin : g_load
      assign image = whole_q;
      always_ff @(posedge clk) begin
        frame_q <= s_axis_tdata;
      end
    end

    always_ff @(posedge clk) begin
      if (rst) begin
        count_q <= '0;
        last_q  <= BEATS == 1;
        whole_q <= 1'b0;
        drop_q  <= 1'b0;
        error_q <= 1'b0;
      end else begin
        whole_q <= whole;
        error_q <= take && !drop_q && (s_axis_tlast != last_q);
        if (take) begin
          count_q <= restart ? '0 : count_q + 1'b1;
          last_q  <= BEATS == 1 || (!restart && count_q == COUNT_W'(BEATS - 2));
          drop_q  <= !s_axis_tlast && (drop_q || last_q);
        end
      end
    end

    always_ff @(posedge clk) begin
      if (rst) begin
        held_q <= '0;
        room_q <= 1'b1;
      end else if (whole && !leave) begin
        held_q <= held_q + 1'b1;
        room_q <= held_q != HELD_W'(PLACES - 1);
      end else if (leave && !whole) begin
        held_q <= held_q - 1'b1;
        room_q <= 1'b1;
      end
    end

    /* verilator lint_off PINCONNECTEMPTY */
    tables_core u_core (
        .clk(clk),
        .rst(rst),
        .en(1'b1),
        .in_valid(image),
        .in_pixels(frame_q[tables_pkg::PIXELS*8-1:0]),
        .out_valid(class_valid),
        .out_class(class_id),
        .out_scores()
    );

    // The core may lie far from the fifo
    always_ff @(posedge clk) begin
      class_valid_q <= class_valid && !rst;
      class_q <= class_id;
    end

    fifo #(
        .WIDTH(tables_pkg::CLASS_W),
        .DEPTH(PLACES)
    ) u_classes (
        .clk(clk),
        .rst(rst),
        .in_valid(class_valid_q),
        .in_data(class_q),
        .in_ready(),
        .out_valid(m_axis_tvalid),
        .out_data(class_out),
        .out_ready(m_axis_tready),
        .level()
    );
    /* verilator lint_on PINCONNECTEMPTY */
  end
endmodule

`default_nettype wire
