// SPDX-License-Identifier: Apache-2.0
// gather: every byte of the output comes from a place the compiler knows: rearrange, resize, and
// upsampling by factors that are no powers of two; patches. A parameter word holds two byte addresses.
// NOWHERE stands for 0, outside of the map.
#pragma once

#include "layer.hpp"
#include "memory.hpp"

namespace hwflow {

constexpr std::uint32_t NOWHERE = 0xffffffff;

template <class E>
void gather(const word_t* params, word_t* acts, const Layer& layer) {
#pragma HLS INLINE off
  const int pitch = words_of(layer.out_w);
  const int rows = layer.out_c * layer.out_bytes * layer.out_h;
  int index = 0;
gather_rows:
  for (int r = 0; r < rows; r++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
  gather_words:
    for (int t = 0; t < pitch; t++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
      word_t word = 0;
    gather_pixels:
      for (int p = 0; p < least(PIX_PAR, layer.out_w - t * PIX_PAR); p++) {
#pragma HLS PIPELINE II = 2
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8
        const std::uint32_t from =
            static_cast<std::uint32_t>(params[layer.weights + index / 2] >> (32 * (index % 2)));
        index++;
        const bool inside = from != NOWHERE;
        const word_t all = acts[inside ? from / 8 : 0];
        const ap_uint<8> byte = inside ? lane(all, static_cast<int>(from % 8)) : ap_uint<8>(0);
        word |= static_cast<word_t>(byte.to_uint()) << (8 * p);
      }
      acts[layer.out + r * pitch + t] = word;
    }
  }
}

}  // namespace hwflow
