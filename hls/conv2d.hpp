// SPDX-License-Identifier: Apache-2.0
// conv2d: any convolution. The taps of a window are laid out as IC / groups * kh * kw input channels
// of the multiply array, one output row (or part of it) at a time, one group after the other. The
// rows of as many channels as the row buffer holds are loaded at once.
#pragma once

#include "mac.hpp"

namespace hwflow {

template <class E>
void conv2d(const word_t* params, word_t* acts, const Layer& layer,
            const std::uint32_t map[E::MAC_DEPTH], word_t band[BANKS][E::BAND_DEPTH],
            word_t in[E::IN_WORDS], ap_int<E::WEIGHT_BITS> weight[E::MAC_DEPTH][OC_PAR],
            word_t out[OC_PAR][E::OUT_WORDS]) {
#pragma HLS INLINE off
  const int in_pitch = words_of(layer.in_w);
  const int out_pitch = words_of(layer.out_w);
  const int in_c = layer.in_c / layer.groups;
  const int depth = in_c * layer.kernel * layer.kernel_w;
  const int out_c = layer.out_c / layer.groups;
  const int tiles = (out_c + OC_PAR - 1) / OC_PAR;
  const int rows = layer.kernel * in_pitch;
  const int held = BANKS * E::BAND_DEPTH / rows;
  const ap_uint<8> outside = ap_uint<8>(layer.pad_value);
  Layer part = layer;
  part.out_c = out_c;
conv2d_groups:
  for (int g = 0; g < layer.groups; g++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
  conv2d_rows:
    for (int y = 0; y < layer.out_h; y++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8 * E::OUT_WORDS
      const int top = y * layer.stride - layer.pad;
    conv2d_tiles:
      for (int first = 0; first < out_pitch; first += layer.tile) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
        const int tile = least(layer.tile, out_pitch - first);
        int step = 0;
      conv2d_parts:
        for (int from = 0; from < in_c; from += held) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 4
          const int count = least(held, in_c - from);
        conv2d_load:
          for (int c = 0; c < count; c++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
          conv2d_load_rows:
            for (int i = 0; i < layer.kernel; i++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 7
              const int row = top + i * layer.dilation;
              if (row < 0 || row >= layer.in_h) continue;
              const int source = map[g * in_c + from + c] + row * in_pitch;
              const int at = (c * layer.kernel + i) * in_pitch;
            conv2d_load_words:
              for (int x = 0; x < in_pitch; x++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
                band[(at + x) % BANKS][(at + x) / BANKS] = acts[source + x];
              }
            }
          }
        conv2d_taps:
          for (int r = 0; r < count * layer.kernel; r++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
            const int row = top + (r % layer.kernel) * layer.dilation;
            const bool row_inside = row >= 0 && row < layer.in_h;
          conv2d_taps_x:
            for (int j = 0; j < layer.kernel_w; j++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 7
            conv2d_words:
              for (int t = 0; t < tile; t++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
                word_t word = 0;
              conv2d_pixels:
                for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS PIPELINE II = 1
                  const int x = ((first + t) * PIX_PAR + p) * layer.stride_w - layer.pad_left +
                                j * layer.dilation_w;
                  ap_uint<8> byte = outside;
                  if (row_inside && x >= 0 && x < layer.in_w) {
                    const int at = r * in_pitch + x / PIX_PAR;
                    byte = lane(band[at % BANKS][at / BANKS], x % PIX_PAR);
                  }
                  word |= static_cast<word_t>(byte.to_uint()) << (8 * p);
                }
                in[step * tile + t] = word;
              }
              step++;
            }
          }
        }
        mac_tile<E>(params, acts, part, in, weight, out, depth, tile, y * out_pitch + first);
      }
    }
    part.out += out_c * layer.out_bytes * layer.out_h * out_pitch;
    part.weights += tiles * depth * (layer.weight_bits == 4 ? 1 : 2);
    part.quant += 2 * tiles * OC_PAR;
  }
}

}  // namespace hwflow
