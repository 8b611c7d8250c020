// SPDX-License-Identifier: Apache-2.0
// pw: 1x1 convolution. A tile holds the same few words of all input channels; weights are read
// once a tile.
#pragma once

#include "mac.hpp"

namespace hwflow {

template <class E>
void pw(const word_t* params, word_t* acts, const Layer& layer,
        const std::uint32_t map[E::MAC_DEPTH], word_t in[E::IN_WORDS],
        ap_int<E::WEIGHT_BITS> weight[E::MAC_DEPTH][OC_PAR], word_t out[OC_PAR][E::OUT_WORDS]) {
#pragma HLS INLINE off
  const int plane = layer.in_h * words_of(layer.in_w);
pw_tiles:
  for (int first = 0; first < plane; first += layer.tile) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = BANKS * E::BAND_DEPTH
    const int tile = least(layer.tile, plane - first);
  pw_load:
    for (int c = 0; c < layer.in_c; c++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
      const int from = map[c] + first;
    pw_load_words:
      for (int t = 0; t < tile; t++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
        in[c * tile + t] = acts[from + t];
      }
    }
    mac_tile<E>(params, acts, layer, in, weight, out, layer.in_c, tile, first);
  }
}

}  // namespace hwflow
