// SPDX-License-Identifier: Apache-2.0
// move: slice, concat, shuffle and upsample where their result must lie in memory as a map of its
// own (outputs of the network); everywhere else they are a channel map and an address shift.
#pragma once

#include "layer.hpp"
#include "memory.hpp"

namespace hwflow {

template <class E>
void move(word_t* acts, const Layer& layer, const std::uint32_t map[E::MAC_DEPTH],
          word_t band[BANKS][E::BAND_DEPTH]) {
#pragma HLS INLINE off
  const int pitch = words_of(layer.in_w);
  const int low_pitch = words_of(layer.in_w >> layer.in_up);
move_channels:
  for (int c = 0; c < layer.in_c * layer.in_bytes; c++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
  move_bands:
    for (int y = 0; y < layer.in_h; y += layer.tile) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
      const int rows = least(layer.tile, layer.in_h - y);
      load_rows<E>(acts, band, map[c], y, rows, pitch, low_pitch, layer.in_up);
      const int to = layer.out + (c * layer.in_h + y) * pitch;
    move_rows:
      for (int r = 0; r < rows; r++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = BANKS * E::BAND_DEPTH
      move_words:
        for (int x = 0; x < pitch; x++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
          acts[to + r * pitch + x] = band[r % BANKS][(r / BANKS) * pitch + x];
        }
      }
    }
  }
}

}  // namespace hwflow
