// SPDX-License-Identifier: Apache-2.0
// group_sum: sums of equally many consecutive channels.
#pragma once

#include "wide.hpp"

namespace hwflow {

template <class E>
void group_sum(const word_t* params, word_t* acts, const Layer& layer) {
#pragma HLS INLINE off
  const int plane = layer.out_h * words_of(layer.out_w);
  const int size = layer.in_c / layer.out_c;
group_sum_groups:
  for (int g = 0; g < layer.out_c; g++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
  group_sum_words:
    for (int x = 0; x < plane; x++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = BANKS * E::BAND_DEPTH
      wide_t sums[PIX_PAR];
#pragma HLS ARRAY_PARTITION variable = sums complete
    group_sum_clear:
      for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
        sums[p] = 0;
      }
    group_sum_channels:
      for (int c = 0; c < size; c++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
        std::uint32_t planes[MAX_BYTES];
        word_t words[MAX_BYTES];
        read_planes(params, layer.in_map, g * size + c, layer.in_bytes, planes);
        read_wide(acts, planes, layer.in_bytes, x, words);
      group_sum_pixels:
        for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
          sums[p] += wide_value(words, layer.in_bytes, p, layer.in_signed != 0);
        }
      }
      write_wide(acts, layer, g, x, sums);
    }
  }
}

}  // namespace hwflow
