// SPDX-License-Identifier: Apache-2.0
// dw: depthwise 3x3 convolution with zero padding, 8 pixels of one channel at a time.
#pragma once

#include "requant.hpp"
#include "window.hpp"

namespace hwflow {

// Parameter words of a depthwise channel: 8 taps, the ninth, then mul and shift, and bias.
constexpr int DW_WORDS = 4;

template <class E>
struct DwChannel {
  ap_int<E::WEIGHT_BITS> weight[9];
  Quant<E> quant;
};

template <class E>
DwChannel<E> read_dw_channel(const word_t* params, int first) {
#pragma HLS INLINE
  DwChannel<E> channel;
#pragma HLS ARRAY_PARTITION variable = channel.weight complete
  const word_t low = params[first];
  const word_t high = params[first + 1];
read_dw_taps:
  for (int i = 0; i < 9; i++) {
#pragma HLS UNROLL
    channel.weight[i] = ap_int<8>(i < 8 ? low >> (8 * i) : high);
  }
  channel.quant = read_quant<E>(params[first + 2], params[first + 3]);
  return channel;
}

template <class E>
struct DwKernel {
  DwChannel<E> now;

  void channel(const word_t* params, const Layer& layer, int c) {
#pragma HLS INLINE
    now = read_dw_channel<E>(params, layer.weights + DW_WORDS * c);
  }

  void word(word_t* acts, const Layer& layer, const Window& window, int c, int y, int x) {
#pragma HLS INLINE
    word_t out = 0;
  dw_pixels:
    for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
      ap_int<E::ACC_BITS> acc = 0;
    dw_taps:
      for (int i = 0; i < 3; i++) {
#pragma HLS UNROLL
        for (int j = 0; j < 3; j++) {
#pragma HLS UNROLL
          acc += now.weight[3 * i + j] * value(window.tap[i][j][p], layer.in_signed != 0);
        }
      }
      const ap_uint<8> byte = ap_uint<8>(requant<E>(acc, now.quant, layer.lo, layer.hi));
      out |= static_cast<word_t>(byte.to_uint()) << (8 * p);
    }
    acts[layer.out + (c * layer.out_h + y) * words_of(layer.out_w) + x] = out;
  }

  void row(const Layer&, int, int) {}
};

template <class E>
void dw(const word_t* params, word_t* acts, const Layer& layer,
        const std::uint32_t map[E::MAC_DEPTH], word_t band[BANKS][E::BAND_DEPTH]) {
#pragma HLS INLINE off
  DwKernel<E> kernel;
  sweep<E>(params, acts, layer, map, band, kernel);
}

}  // namespace hwflow
