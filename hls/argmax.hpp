// SPDX-License-Identifier: Apache-2.0
// argmax: the channel of the greatest number at each pixel; the first of equals, or the last.
#pragma once

#include "wide.hpp"

namespace hwflow {

template <class E>
void argmax(const word_t* params, word_t* acts, const Layer& layer) {
#pragma HLS INLINE off
  const int plane = layer.out_h * words_of(layer.out_w);
argmax_words:
  for (int x = 0; x < plane; x++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = BANKS * E::BAND_DEPTH
    wide_t best[PIX_PAR];
    wide_t channel[PIX_PAR];
  argmax_channels:
    for (int c = 0; c < layer.in_c; c++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
      std::uint32_t planes[MAX_BYTES];
      word_t words[MAX_BYTES];
      read_planes(params, layer.in_map, c, layer.in_bytes, planes);
      read_wide(acts, planes, layer.in_bytes, x, words);
    argmax_pixels:
      for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
        const wide_t number = wide_value(words, layer.in_bytes, p, layer.in_signed != 0);
        if (c == 0 || number > best[p] || (layer.last != 0 && number == best[p])) {
          best[p] = number;
          channel[p] = c;
        }
      }
    }
    write_wide(acts, layer, 0, x, channel);
  }
}

}  // namespace hwflow
