// SPDX-License-Identifier: Apache-2.0
// conv: dense k x k convolution with zero padding. The taps of the window are laid out as
// IC * k * k input channels of the multiply array, one output row (or part of it) at a time.
#pragma once

#include "mac.hpp"

namespace hwflow {

template <class E>
void conv(const word_t* params, word_t* acts, const Layer& layer,
          const std::uint32_t map[E::MAC_DEPTH], word_t band[BANKS][E::BAND_DEPTH],
          word_t in[E::IN_WORDS], ap_int<E::WEIGHT_BITS> weight[E::MAC_DEPTH][OC_PAR],
          word_t out[OC_PAR][E::OUT_WORDS]) {
#pragma HLS INLINE off
  const int in_pitch = words_of(layer.in_w);
  const int out_pitch = words_of(layer.out_w);
  const int depth = layer.in_c * layer.kernel * layer.kernel;
conv_rows:
  for (int y = 0; y < layer.out_h; y++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8 * E::OUT_WORDS
    const int top = y * layer.stride - layer.pad;
    // Row i of channel c lies at word (c * kernel + i) * in_pitch, words dealt to the banks.
    int at = 0;
  conv_load:
    for (int c = 0; c < layer.in_c; c++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 3
    conv_load_rows:
      for (int i = 0; i < layer.kernel; i++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 3
        const bool inside = top + i >= 0 && top + i < layer.in_h;
        const int from = map[c] + (inside ? (top + i) * in_pitch : 0);
      conv_load_words:
        for (int x = 0; x < in_pitch; x++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
          const word_t word = acts[from + x];
          band[at % BANKS][at / BANKS] = inside ? word : 0;
          at++;
        }
      }
    }
  conv_tiles:
    for (int first = 0; first < out_pitch; first += layer.tile) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
      const int tile = least(layer.tile, out_pitch - first);
      int step = 0;
    conv_taps:
      for (int row = 0; row < layer.in_c * layer.kernel; row++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 9
      conv_taps_x:
        for (int j = 0; j < layer.kernel; j++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 3
        conv_words:
          for (int t = 0; t < tile; t++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
            word_t word = 0;
          conv_pixels:
            for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS PIPELINE II = 1
              const int x = ((first + t) * PIX_PAR + p) * layer.stride - layer.pad + j;
              if (x >= 0 && x < layer.in_w) {
                const int from = row * in_pitch + x / PIX_PAR;
                const ap_uint<8> byte = lane(band[from % BANKS][from / BANKS], x % PIX_PAR);
                word |= static_cast<word_t>(byte.to_uint()) << (8 * p);
              }
            }
            in[step * tile + t] = word;
          }
          step++;
        }
      }
      mac_tile<E>(params, acts, layer, in, weight, out, depth, tile, y * out_pitch + first);
    }
  }
}

}  // namespace hwflow
