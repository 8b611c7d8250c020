// SPDX-License-Identifier: Apache-2.0
// tables: a lookup table for each output channel, addressed by bits of the input's codes.
//
// The parameters of a table are its wires, two a word (word address of a plane * 8 + bit of the
// code, the lowest address bit first), then its codes, eight a word.
#pragma once

#include "layer.hpp"
#include "memory.hpp"

namespace hwflow {

constexpr int MAX_ADDRESS_BITS = 16;

template <class E>
void tables(const word_t* params, word_t* acts, const Layer& layer) {
#pragma HLS INLINE off
  const int plane = layer.out_h * words_of(layer.out_w);
  const int wire_words = (layer.k + 1) / 2;
  const int code_words = layer.k > 3 ? 1 << (layer.k - 3) : 1;
  std::uint32_t wires[MAX_ADDRESS_BITS];
tables_channels:
  for (int n = 0; n < layer.out_c; n++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
    const int first = layer.weights + n * (wire_words + code_words);
  tables_wires:
    for (int i = 0; i < wire_words; i++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = MAX_ADDRESS_BITS / 2
      wires[2 * i] = static_cast<std::uint32_t>(params[first + i]);
      wires[2 * i + 1] = static_cast<std::uint32_t>(params[first + i] >> 32);
    }
  tables_words:
    for (int x = 0; x < plane; x++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = BANKS * E::BAND_DEPTH
      std::uint32_t address[PIX_PAR] = {};
#pragma HLS ARRAY_PARTITION variable = address complete
    tables_bits:
      for (int j = 0; j < layer.k; j++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = MAX_ADDRESS_BITS
        const word_t codes = acts[wires[j] / 8 + x] >> (wires[j] % 8);
      tables_lanes:
        for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
          address[p] |= static_cast<std::uint32_t>((codes >> (8 * p)) & 1) << j;
        }
      }
      word_t word = 0;
    tables_lookups:
      for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS PIPELINE II = 1
        const word_t codes = params[first + wire_words + address[p] / 8];
        word |= ((codes >> (8 * (address[p] % 8))) & 0xff) << (8 * p);
      }
      acts[layer.out + n * plane + x] = word;
    }
  }
}

}  // namespace hwflow
