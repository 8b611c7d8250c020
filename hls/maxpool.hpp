// SPDX-License-Identifier: Apache-2.0
// maxpool: greatest value of the pixels of a window that lie inside the map.
#pragma once

#include "window.hpp"

namespace hwflow {

// The greatest pixel inside the window of output pixel p; the least value when there is none.
inline act_t greatest(const Window& window, int p, bool is_signed) {
#pragma HLS INLINE
  act_t best = is_signed ? -128 : 0;
greatest_taps:
  for (int i = 0; i < 3; i++) {
#pragma HLS UNROLL
    for (int j = 0; j < 3; j++) {
#pragma HLS UNROLL
      const act_t tap = value(window.tap[i][j][p], is_signed);
      if (window.inside[i][j][p] && tap > best) best = tap;
    }
  }
  return best;
}

struct MaxpoolKernel {
  void channel(const word_t*, const Layer&, int) {}

  void word(word_t* acts, const Layer& layer, const Window& window, int c, int y, int x) {
#pragma HLS INLINE
    word_t out = 0;
  maxpool_pixels:
    for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
      const ap_uint<8> byte = ap_uint<8>(greatest(window, p, layer.in_signed != 0));
      out |= static_cast<word_t>(byte.to_uint()) << (8 * p);
    }
    acts[layer.out + (c * layer.out_h + y) * words_of(layer.out_w) + x] = out;
  }

  void row(const Layer&, int, int) {}
};

template <class E>
void maxpool(const word_t* params, word_t* acts, const Layer& layer,
             const std::uint32_t map[E::MAC_DEPTH], word_t band[BANKS][E::BAND_DEPTH]) {
#pragma HLS INLINE off
  MaxpoolKernel kernel;
  sweep<E>(params, acts, layer, map, band, kernel);
}

}  // namespace hwflow
