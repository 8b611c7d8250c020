// SPDX-License-Identifier: Apache-2.0
// residual: the sum of two maps, each times a factor, requantised.
#pragma once

#include "requant.hpp"
#include "wide.hpp"

namespace hwflow {

template <class E>
void residual(const word_t* params, word_t* acts, const Layer& layer) {
#pragma HLS INLINE off
  const int plane = layer.out_h * words_of(layer.out_w);
residual_channels:
  for (int c = 0; c < layer.out_c; c++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
    std::uint32_t planes0[MAX_BYTES];
    std::uint32_t planes1[MAX_BYTES];
    read_planes(params, layer.in_map, c, layer.in_bytes, planes0);
    read_planes(params, layer.map1, c, layer.bytes1, planes1);
    const Quant<E> quant =
        read_quant<E>(params[layer.quant + 2 * c], params[layer.quant + 2 * c + 1]);
  residual_words:
    for (int x = 0; x < plane; x++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = BANKS * E::BAND_DEPTH
      word_t words0[MAX_BYTES];
      word_t words1[MAX_BYTES];
      read_wide(acts, planes0, layer.in_bytes, x, words0);
      read_wide(acts, planes1, layer.bytes1, x, words1);
      wide_t numbers[PIX_PAR];
    residual_pixels:
      for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
        const wide_t a = wide_value(words0, layer.in_bytes, p, layer.in_signed != 0);
        const wide_t b = wide_value(words1, layer.bytes1, p, layer.signed1 != 0);
        const ap_int<E::ACC_BITS> acc = a.to_int64() * layer.coef0 + b.to_int64() * layer.coef1;
        numbers[p] = requant<E>(acc, quant, layer.lo, layer.hi);
      }
      write_wide(acts, layer, c, x, numbers);
    }
  }
}

}  // namespace hwflow
