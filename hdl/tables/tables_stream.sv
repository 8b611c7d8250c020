// SPDX-License-Identifier: Apache-2.0
// AXI-Stream around the generated `tables_stream_core`, a network of tables whose convolutions look at
// one position a clock: a frame of pixels in, one byte with the class out. Ports and frames are those
// of `tables_axis`, which instantiates this module for such networks.
//
// A frame is its channels one after the other, each row-major, as in `tables_axis`; BYTES bytes a
// beat. Channels but the last are kept in a memory; with each byte of the last one, the core gets the
// position of all. A frame of any other length is dropped whole: frame_error is high for one cycle
// when that turns out. One that is too short is filled up with anything before the next.
//
// Interval: a byte a cycle, so that a frame takes PIXELS cycles. Latency: tables_pkg::LATENCY cycles
// from the last byte, when no frame follows; rows that hang out of the map wait for the first rows of
// the next frame when that has begun. Resources: a beat, a position, two fifos, and for each channel
// but the last a memory of a byte a position (block or distributed).
`default_nettype none

module tables_stream #(
    parameter int unsigned BYTES = 1  // a beat
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
  localparam int unsigned CHANNELS = tables_pkg::CHANNELS;
  localparam int unsigned PLACE_W = $clog2(tables_pkg::PIXELS + 1);
  localparam int unsigned LANE_W = $clog2(BYTES + 1);
  localparam int unsigned AREA = tables_pkg::PIXELS / CHANNELS;
  localparam int unsigned MARK_W = $clog2(tables_pkg::IN_FLIGHT) + 1;

  if (tables_pkg::PIXEL_W != 8) begin : g_illegal
    tables_stream_takes_pixels_of_eight_bits u_illegal ();
  end

  // The beat that is being taken apart
  logic [8*BYTES-1:0] beat_q;
  logic [LANE_W-1:0] lanes_q;  // bytes of it that are left
  logic last_q;  // it is a frame's last
  logic take;
  logic use_byte;
  logic is_last_byte;
  // The frame
  logic [PLACE_W-1:0] place_q;  // bytes of the frame that the core has
  logic fill_q;  // a frame that ended too soon is being filled up
  logic drop_q;  // the rest of a frame that is too long
  logic bad_q;  // the core's frame is to be dropped
  logic error_q;
  logic whole;  // this byte completes the frame
  logic feed;
  logic short_frame;
  logic long_frame;
  logic good_end;  // the bytes that are left of the beat are none of the frame
  logic en_q;
  logic [2:0] level;
  logic [MARK_W-1:0] marks;

  assign take = s_axis_tvalid && s_axis_tready;
  assign is_last_byte = last_q && lanes_q == LANE_W'(1);
  assign whole = place_q == PLACE_W'(tables_pkg::PIXELS - 1);
  // Room for the frame's mark is needed only with its last byte
  assign feed = en_q && (fill_q || (lanes_q != '0 && !drop_q))
                && !(whole && marks == MARK_W'(tables_pkg::IN_FLIGHT));
  assign use_byte = lanes_q != '0 && (drop_q || (feed && !fill_q));
  assign s_axis_tready = !fill_q && (lanes_q == '0 || (lanes_q == LANE_W'(1) && use_byte)
                                     || good_end);
  assign frame_error = error_q;
  assign m_axis_tlast = 1'b1;

  always_ff @(posedge clk) begin
    if (take) beat_q <= s_axis_tdata;
    else if (use_byte) beat_q <= beat_q >> 8;
    if (take) last_q <= s_axis_tlast;
  end

  assign good_end = feed && !fill_q && last_q && whole;
  assign long_frame = feed && !fill_q && whole && !last_q;
  assign short_frame = feed && !fill_q && is_last_byte && !whole;

  always_ff @(posedge clk) begin
    if (rst) begin
      lanes_q <= '0;
      place_q <= '0;
      fill_q <= 1'b0;
      drop_q <= 1'b0;
      bad_q <= 1'b0;
      error_q <= 1'b0;
      en_q <= 1'b1;
    end else begin
      en_q <= level < 3'd3;
      error_q <= short_frame || long_frame;
      if (take) lanes_q <= LANE_W'(BYTES);
      else if (good_end) lanes_q <= '0;
      else if (use_byte) lanes_q <= lanes_q - 1'b1;
      if (feed) place_q <= whole ? '0 : place_q + 1'b1;
      if (short_frame) fill_q <= 1'b1;
      else if (feed && whole) fill_q <= 1'b0;
      if (long_frame) drop_q <= 1'b1;
      else if (drop_q && use_byte && is_last_byte) drop_q <= 1'b0;
      if (short_frame) bad_q <= 1'b1;
      else if (feed && whole) bad_q <= 1'b0;
    end
  end

  // Bytes to positions
  logic [8*CHANNELS-1:0] position;
  logic position_valid_q;
  logic [7:0] byte_q;
  assign position[8*CHANNELS-1-:8] = byte_q;
  always_ff @(posedge clk) begin
    if (feed) byte_q <= beat_q[7:0];
  end
  if (CHANNELS > 1) begin : g_channels
    localparam int unsigned CHANNEL_W = $clog2(CHANNELS);
    localparam int unsigned ADDR_W = AREA > 1 ? $clog2(AREA) : 1;
    logic [CHANNEL_W-1:0] channel_q;  // of the next byte
    logic [ADDR_W-1:0] at_q;  // its position
    logic last_at;
    logic last_channel;
    assign last_at = at_q == ADDR_W'(AREA - 1);
    assign last_channel = channel_q == CHANNEL_W'(CHANNELS - 1);
    always_ff @(posedge clk) begin
      if (rst) begin
        channel_q <= '0;
        at_q <= '0;
      end else if (feed) begin
        at_q <= last_at ? '0 : at_q + 1'b1;
        if (last_at) channel_q <= last_channel ? '0 : channel_q + 1'b1;
      end
    end
    always_ff @(posedge clk) begin
      if (rst) position_valid_q <= 1'b0;
      else if (en_q) position_valid_q <= feed && last_channel;
    end
    for (genvar c = 0; c < CHANNELS - 1; c++) begin : g_plane
      // Written and read in cycles of different channels
      (* no_rw_check *) logic [7:0] plane[AREA];
      logic [7:0] read_q;
      always_ff @(posedge clk) begin
        if (feed && channel_q == CHANNEL_W'(c)) plane[at_q] <= beat_q[7:0];
      end
      always_ff @(posedge clk) begin
        if (feed) read_q <= plane[at_q];
      end
      assign position[8*c+:8] = read_q;
    end
  end else begin : g_single
    logic unused_area;
    assign unused_area = &{1'b0, 32'(AREA)};
    always_ff @(posedge clk) begin
      if (rst) position_valid_q <= 1'b0;
      else if (en_q) position_valid_q <= feed;
    end
  end

  logic class_valid;
  logic mark_valid;
  logic mark_bad;
  logic waiting;  // a class; where no window takes the last rows it may be there before its mark
  logic pop;
  logic [tables_pkg::CLASS_W-1:0] class_id;
  logic [tables_pkg::CLASS_W-1:0] class_out;

  /* verilator lint_off PINCONNECTEMPTY */
  tables_stream_core u_core (
      .clk(clk),
      .rst(rst),
      .en(en_q),
      .in_valid(position_valid_q),
      .in_position(position),
      .out_valid(class_valid),
      .out_class(class_id),
      .out_scores()
  );

  assign pop = waiting && mark_valid && (mark_bad || m_axis_tready);
  assign m_axis_tvalid = waiting && mark_valid && !mark_bad;

  // One mark for each frame in the core: it is dropped
  fifo #(
      .WIDTH(1),
      .DEPTH(tables_pkg::IN_FLIGHT)
  ) u_marks (
      .clk(clk),
      .rst(rst),
      .in_valid(feed && whole),
      .in_data(bad_q || long_frame),
      .in_ready(),
      .out_valid(mark_valid),
      .out_data(mark_bad),
      .out_ready(pop),
      .level(marks)
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
      .out_valid(waiting),
      .out_data(class_out),
      .out_ready(pop),
      .level(level)
  );
  /* verilator lint_on PINCONNECTEMPTY */
  assign m_axis_tdata = 8'(class_out);
endmodule

`default_nettype wire
