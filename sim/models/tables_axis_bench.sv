// SPDX-License-Identifier: Apache-2.0
// All images of a file through `tables_axis`, gaps before beats and back-pressure behind it, for
// hwflow.sim.tables.
//
// Plusargs are those of tables_source: an image is its bytes from the last to the first; the output is
// one line an image: class; stalls are that no class is taken in a clock, and that the next beat is not
// offered.
// `finished` rises when the last line is written; `clocks` is how many it took from the first image.
`default_nettype none

module tables_axis_bench #(
    parameter int unsigned MOST  = 16384,  // images
    parameter int unsigned BYTES = 1       // a beat
) (
    input  wire logic  clk,
    input  wire logic  rst,
    output logic       finished,
    output logic [31:0] clocks
);
  localparam int unsigned PIXELS = tables_pkg::PIXELS;
  localparam int unsigned BEATS = (PIXELS + BYTES - 1) / BYTES;

  int count, output_fd;
  logic stall_take;
  logic stall_offer;
  logic [8*PIXELS-1:0] pixels;
  logic [31:0] sent_q;
  logic [31:0] beat_q;
  logic [31:0] seen_q;
  logic [8*BEATS*BYTES-1:0] image;  // with rubbish behind its last byte
  logic s_valid_q;
  logic s_ready;
  logic m_valid;
  logic m_ready;
  logic m_last;
  logic [7:0] class_id;
  logic frame_error;
  logic last_beat;
  logic taken;

  if (BEATS * BYTES > PIXELS) begin : g_rubbish
    assign image = {{(BEATS * BYTES - PIXELS) {8'hA5}}, pixels};
  end else begin : g_whole
    assign image = pixels;
  end
  assign m_ready = !stall_take;
  assign last_beat = beat_q == BEATS - 1;
  assign taken = s_valid_q && s_ready;

  tables_axis #(
      .BYTES(BYTES)
  ) u_axis (
      .clk(clk),
      .rst(rst),
      .s_axis_tdata(image[8*BYTES*beat_q+:8*BYTES]),
      .s_axis_tvalid(s_valid_q),
      .s_axis_tready(s_ready),
      .s_axis_tlast(last_beat),
      .m_axis_tdata(class_id),
      .m_axis_tvalid(m_valid),
      .m_axis_tready(m_ready),
      .m_axis_tlast(m_last),
      .frame_error(frame_error)
  );

  tables_source #(
      .MOST(MOST),
      .IMAGE_W(8 * PIXELS)
  ) u_source (
      .clk(clk),
      .rst(rst),
      .index(sent_q),
      .image(pixels),
      .stall_a(stall_take),
      .stall_b(stall_offer),
      .count(count),
      .output_fd(output_fd)
  );

  always_ff @(posedge clk) begin
    if (rst) begin
      sent_q <= 0;
      beat_q <= 0;
      s_valid_q <= 1'b0;
      seen_q <= 0;
      clocks <= 0;
      finished <= 1'b0;
    end else if (!finished) begin
      clocks <= clocks + 1;
      if (frame_error) $fatal(1, "tables_axis_bench: frame_error");
      if (taken) begin
        beat_q <= last_beat ? 0 : beat_q + 1;
        if (last_beat) sent_q <= sent_q + 1;
      end
      if (!s_valid_q || s_ready) begin
        s_valid_q <= (sent_q + 32'(taken && last_beat) < count) && !stall_offer;
      end
      if (m_valid && m_ready) begin
        if (!m_last) $fatal(1, "tables_axis_bench: a class without tlast");
        $fwrite(output_fd, "%0d\n", class_id);
        seen_q <= seen_q + 1;
        if (seen_q == count - 1) begin
          finished <= 1'b1;
          $fclose(output_fd);
        end
      end
    end
  end
endmodule

`default_nettype wire
