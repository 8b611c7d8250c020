// SPDX-License-Identifier: Apache-2.0
// deform_dw: depthwise 3x3 convolution with one dilation per output pixel. Tap (i, j) of output
// (y, x) reads (y + (i - 1) * s, x + (j - 1) * s), 0 outside. OC_PAR planes are held at once: all
// of them share the address of a tap, so that one dilation serves OC_PAR products.
#pragma once

#include "dw.hpp"

namespace hwflow {

template <class E>
void deform_dw(const word_t* params, word_t* acts, const Layer& layer,
               const std::uint32_t map[E::MAC_DEPTH], word_t plane[OC_PAR][E::PLANE_WORDS],
               word_t dilation[E::PLANE_WORDS], word_t out[OC_PAR][E::OUT_WORDS]) {
#pragma HLS INLINE off
  const int pitch = words_of(layer.in_w >> layer.in_up);
  const int plane_words = (layer.in_h >> layer.in_up) * pitch;
  const int s_pitch = words_of(layer.in_w >> layer.up1);
  const int s_words = (layer.in_h >> layer.up1) * s_pitch;
  const int out_pitch = words_of(layer.out_w);
  const int s_plane = static_cast<std::uint32_t>(params[layer.map1]);
deform_load_s:
  for (int i = 0; i < s_words; i++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::PLANE_WORDS
    dilation[i] = acts[s_plane + i];
  }
deform_channels:
  for (int first = 0; first < layer.in_c; first += OC_PAR) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH / OC_PAR
    const int count = least(OC_PAR, layer.in_c - first);
    DwChannel<E> channel[OC_PAR];
#pragma HLS ARRAY_PARTITION variable = channel complete
  deform_load:
    for (int c = 0; c < count; c++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = OC_PAR
      channel[c] = read_dw_channel<E>(params, layer.weights + DW_WORDS * (first + c));
      const int from = map[first + c];
    deform_load_words:
      for (int i = 0; i < plane_words; i++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::PLANE_WORDS
        plane[c][i] = acts[from + i];
      }
    }
  deform_rows:
    for (int y = 0; y < layer.out_h; y++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8 * E::OUT_WORDS
      word_t packed[OC_PAR];
#pragma HLS ARRAY_PARTITION variable = packed complete
    deform_clear:
      for (int c = 0; c < OC_PAR; c++) {
#pragma HLS UNROLL
        packed[c] = 0;
      }
    deform_pixels:
      for (int x = 0; x < layer.out_w; x++) {
#pragma HLS PIPELINE II = 5
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8 * E::OUT_WORDS
        const int s_x = x >> layer.up1;
        const word_t s_word = dilation[(y >> layer.up1) * s_pitch + s_x / PIX_PAR];
        const int s = ap_uint<3>(lane(s_word, s_x % PIX_PAR)).to_int();
        ap_int<E::ACC_BITS> acc[OC_PAR];
#pragma HLS ARRAY_PARTITION variable = acc complete
      deform_zero:
        for (int c = 0; c < OC_PAR; c++) {
#pragma HLS UNROLL
          acc[c] = 0;
        }
      deform_taps:
        for (int tap = 0; tap < 9; tap++) {
#pragma HLS UNROLL
          const int ty = y + (tap / 3 - 1) * s;
          const int tx = x + (tap % 3 - 1) * s;
          const bool inside = ty >= 0 && ty < layer.in_h && tx >= 0 && tx < layer.in_w;
          const int low_x = tx >> layer.in_up;
          const int at = inside ? (ty >> layer.in_up) * pitch + low_x / PIX_PAR : 0;
        deform_lanes:
          for (int c = 0; c < OC_PAR; c++) {
#pragma HLS UNROLL
            const ap_uint<8> byte = inside ? lane(plane[c][at], low_x % PIX_PAR) : ap_uint<8>(0);
            acc[c] += channel[c].weight[tap] * value(byte, layer.in_signed != 0);
          }
        }
        const bool full = x % PIX_PAR == PIX_PAR - 1 || x == layer.out_w - 1;
      deform_requant:
        for (int c = 0; c < OC_PAR; c++) {
#pragma HLS UNROLL
          const ap_uint<8> byte =
              ap_uint<8>(requant<E>(acc[c], channel[c].quant, layer.lo, layer.hi));
          packed[c] |= static_cast<word_t>(byte.to_uint()) << (8 * (x % PIX_PAR));
          if (full) {
            out[c][x / PIX_PAR] = packed[c];
            packed[c] = 0;
          }
        }
      }
    deform_store:
      for (int c = 0; c < count; c++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = OC_PAR
        const int to = layer.out + ((first + c) * layer.out_h + y) * out_pitch;
      deform_store_words:
        for (int x = 0; x < out_pitch; x++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
          acts[to + x] = out[c][x];
        }
      }
    }
  }
}

}  // namespace hwflow
