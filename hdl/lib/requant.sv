// SPDX-License-Identifier: Apache-2.0
// One lane of the requantiser: q = clamp(round_half_even((acc + bias) / 2**shift)).
//
// shift_code = shift + 7, so shifts of -7..24. Types: OUT_U8 0..255, OUT_I8 -128..127, OUT_U3 0..7.
// Exact for every acc and bias. The sum is taken times 2**7 and shifted right by the code: first
// by whole bytes, then by bits, keeping ten bits, a guard bit, "any bit lost below" (sticky) and
// "the rest above is not sign" (overflow).
//
// Latency 5 (engine_pkg::REQUANT_LAT), one a cycle; bias, shift_code and out_type come with acc.
// `en` of the cycle lets the first register move; later ones follow by themselves.
// Resources: about 120 LUT, 85 FF, no DSP; three LUT levels or a carry chain between registers.
`default_nettype none

module requant (
    input  wire logic                                      clk,
    input  wire logic                                      en,
    input  wire logic signed [ engine_pkg::ACC_W-1:0] acc,
    input  wire logic signed [engine_pkg::BIAS_W-1:0] bias,
    input  wire logic        [engine_pkg::SHIFT_W-1:0] shift_code,
    input  wire logic        [                    1:0] out_type,
    output logic             [                    7:0] q
);
  localparam int unsigned SUM_W = engine_pkg::ACC_W + 1;

  // 1: the sum
  logic signed [SUM_W-1:0] sum_q;
  logic [4:0] code1_q;
  logic [1:0] type1_q, type2_q, type3_q, type4_q;
  logic en1_q, en2_q, en3_q, en4_q;

  // 2: sum * 2**7 with a guard bit below, moved right by 8 * code[4:3]
  logic [17:0] coarse_d, coarse_q;  // ten bits, seven more for the fine shift, guard
  logic above_low, above_mid, above_top;
  logic coarse_ovf_d, coarse_ovf_q, coarse_sticky_d, coarse_sticky_q;
  logic sign2_q, sign3_q, sign4_q;
  logic [2:0] fine_q;
  logic [7:0] kept_d, kept_q;  // bit i: bit 17 - i stays above the ten bits after the fine shift

  // 3: moved right by code[2:0]
  logic [10:0] fine_d, fine_r_q;  // ten bits and guard
  logic fine_ovf_d, fine_ovf_q, sticky_d, sticky_q;

  // 4: rounded
  logic signed [9:0] round_q;
  logic ovf4_q;

  // 5: clamped
  logic [7:0] clamp_d;

  // sum * 2**8: bit i of the guarded value is bit i - 8 of the sum
  always_comb begin
    case (code1_q[4:3])
      2'd0: coarse_d = {sum_q[9:0], 8'd0};
      2'd1: coarse_d = sum_q[17:0];
      2'd2: coarse_d = sum_q[25:8];
      default: coarse_d = 18'(sum_q >>> 16);
    endcase
    // bits above the window that differ from the sign, in the three parts the window moves over
    above_low = sum_q[16:9] != {8{sum_q[SUM_W-1]}};
    above_mid = sum_q[24:17] != {8{sum_q[SUM_W-1]}};
    above_top = sum_q[SUM_W-2:25] != {(SUM_W - 26) {sum_q[SUM_W-1]}};
    case (code1_q[4:3])
      2'd0: coarse_ovf_d = above_low || above_mid || above_top;
      2'd1: coarse_ovf_d = above_mid || above_top;
      2'd2: coarse_ovf_d = above_top;
      default: coarse_ovf_d = 1'b0;
    endcase
    case (code1_q[4:3])
      2'd2: coarse_sticky_d = |sum_q[7:0];
      2'd3: coarse_sticky_d = |sum_q[15:0];
      default: coarse_sticky_d = 1'b0;
    endcase
  end

  assign kept_d = 8'hff >> code1_q[2:0];

  // What is not kept is lost below, from the other end: bit i if i < fine
  logic [7:0] above_ten;
  logic [6:0] lost;
  assign above_ten = {coarse_q[10], coarse_q[11], coarse_q[12], coarse_q[13], coarse_q[14],
                      coarse_q[15], coarse_q[16], coarse_q[17]} ^ {8{sign2_q}};
  assign lost = ~{kept_q[1], kept_q[2], kept_q[3], kept_q[4], kept_q[5], kept_q[6], kept_q[7]};

  always_comb begin
    fine_d = 11'(coarse_q >> fine_q);
    // Bit 10 + fine is the highest one kept; it and all above must be the sign
    fine_ovf_d = coarse_ovf_q || (kept_q & above_ten) != '0;
    sticky_d = coarse_sticky_q || (lost & coarse_q[6:0]) != '0;
  end

  // A negative sum rounds to at most 0; 511 + 1 wraps to -512, so bit 9 counts as above
  always_comb begin
    case (type4_q)
      2'd0: begin  // u8
        if (sign4_q) clamp_d = 8'd0;
        else clamp_d = ovf4_q || round_q[9:8] != 2'd0 ? 8'd255 : round_q[7:0];
      end
      2'd1: begin  // i8
        if (sign4_q) clamp_d = ovf4_q || (round_q[9] && !(&round_q[8:7])) ? 8'h80 : round_q[7:0];
        else clamp_d = ovf4_q || round_q[9:7] != 3'd0 ? 8'h7f : round_q[7:0];
      end
      default: begin  // u3
        if (sign4_q) clamp_d = 8'd0;
        else clamp_d = ovf4_q || round_q[9:3] != 7'd0 ? 8'd7 : round_q[7:0];
      end
    endcase
  end

  always_ff @(posedge clk) begin
    en1_q <= en;
    en2_q <= en1_q;
    en3_q <= en2_q;
    en4_q <= en3_q;
    if (en) begin
      sum_q   <= SUM_W'(acc) + SUM_W'(bias);
      code1_q <= shift_code;
      type1_q <= out_type;
    end
    if (en1_q) begin
      coarse_q <= coarse_d;
      coarse_ovf_q <= coarse_ovf_d;
      coarse_sticky_q <= coarse_sticky_d;
      sign2_q <= sum_q[SUM_W-1];
      fine_q <= code1_q[2:0];
      kept_q <= kept_d;
      type2_q <= type1_q;
    end
    if (en2_q) begin
      fine_r_q <= fine_d;
      fine_ovf_q <= fine_ovf_d;
      sticky_q <= sticky_d;
      sign3_q <= sign2_q;
      type3_q <= type2_q;
    end
    if (en3_q) begin
      round_q <= fine_r_q[10:1] + 10'(fine_r_q[0] && (sticky_q || fine_r_q[1]));
      ovf4_q  <= fine_ovf_q;
      sign4_q <= sign3_q;
      type4_q <= type3_q;
    end
    if (en4_q) q <= clamp_d;
  end
endmodule

`default_nettype wire
