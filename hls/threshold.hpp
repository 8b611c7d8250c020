// SPDX-License-Identifier: Apache-2.0
// threshold: lo + how many of the channel's thresholds a number reaches. They never fall, so a
// binary search of k places finds it (2 to 2^8, a power of two); unused places hold a threshold that
// nothing reaches.
#pragma once

#include "wide.hpp"

namespace hwflow {

constexpr int LEVELS = 256;

template <class E>
void threshold(const word_t* params, word_t* acts, const Layer& layer) {
#pragma HLS INLINE off
  const int plane = layer.out_h * words_of(layer.out_w);
  std::int32_t table[LEVELS];
threshold_channels:
  for (int c = 0; c < layer.out_c; c++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
    std::uint32_t planes[MAX_BYTES];
    read_planes(params, layer.in_map, c, layer.in_bytes, planes);
  threshold_load:
    for (int i = 0; i < layer.k / 2; i++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = LEVELS / 2
      const word_t pair = params[layer.weights + c * (layer.k / 2) + i];
      table[2 * i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(pair));
      table[2 * i + 1] = static_cast<std::int32_t>(static_cast<std::uint32_t>(pair >> 32));
    }
  threshold_words:
    for (int x = 0; x < plane; x++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = BANKS * E::BAND_DEPTH
      word_t words[MAX_BYTES];
      read_wide(acts, planes, layer.in_bytes, x, words);
      wide_t numbers[PIX_PAR];
    threshold_pixels:
      for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS LOOP_TRIPCOUNT min = 8 max = 8
        const wide_t number = wide_value(words, layer.in_bytes, p, layer.in_signed != 0);
        int count = 0;
      threshold_search:
        for (int half = layer.k / 2; half > 0; half /= 2) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8
          if (number >= wide_t(table[count + half - 1])) count += half;
        }
        if (count == layer.k - 1 && number >= wide_t(table[layer.k - 1])) count++;
        numbers[p] = layer.lo + count;
      }
      write_wide(acts, layer, c, x, numbers);
    }
  }
}

}  // namespace hwflow
