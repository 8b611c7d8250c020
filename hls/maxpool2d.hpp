// SPDX-License-Identifier: Apache-2.0
// maxpool2d: greatest value of the pixels of any window that lie inside the map.
#pragma once

#include "layer.hpp"
#include "memory.hpp"

namespace hwflow {

template <class E>
void maxpool2d(word_t* acts, const Layer& layer, const std::uint32_t map[E::MAC_DEPTH],
               word_t band[BANKS][E::BAND_DEPTH]) {
#pragma HLS INLINE off
  const int in_pitch = words_of(layer.in_w);
  const int out_pitch = words_of(layer.out_w);
maxpool2d_channels:
  for (int c = 0; c < layer.in_c; c++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
  maxpool2d_rows:
    for (int y = 0; y < layer.out_h; y++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8 * E::OUT_WORDS
      const int top = y * layer.stride - layer.pad;
    maxpool2d_load:
      for (int i = 0; i < layer.kernel; i++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 7
        const int row = top + i * layer.dilation;
        if (row < 0 || row >= layer.in_h) continue;
      maxpool2d_load_words:
        for (int x = 0; x < in_pitch; x++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
          const int at = i * in_pitch + x;
          band[at % BANKS][at / BANKS] = acts[map[c] + row * in_pitch + x];
        }
      }
    maxpool2d_words:
      for (int t = 0; t < out_pitch; t++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
        word_t word = 0;
      maxpool2d_pixels:
        for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS LOOP_TRIPCOUNT min = 8 max = 8
          act_t best = layer.in_signed ? -128 : 0;
        maxpool2d_taps:
          for (int tap = 0; tap < layer.kernel * layer.kernel_w; tap++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 49
            const int i = tap / layer.kernel_w;
            const int row = top + i * layer.dilation;
            const int x = (t * PIX_PAR + p) * layer.stride_w - layer.pad_left +
                          (tap % layer.kernel_w) * layer.dilation_w;
            if (row >= 0 && row < layer.in_h && x >= 0 && x < layer.in_w) {
              const int at = i * in_pitch + x / PIX_PAR;
              const act_t pixel =
                  value(lane(band[at % BANKS][at / BANKS], x % PIX_PAR), layer.in_signed != 0);
              if (pixel > best) best = pixel;
            }
          }
          word |= static_cast<word_t>(ap_uint<8>(best).to_uint()) << (8 * p);
        }
        acts[layer.out + (c * layer.out_h + y) * out_pitch + t] = word;
      }
    }
  }
}

}  // namespace hwflow
