// SPDX-License-Identifier: Apache-2.0
// The multiply array of pw and conv: OC_PAR output channels x PIX_PAR pixels, one input channel
// (or one tap of a dense kernel) a cycle, accumulated in place; then requantised and stored.
#pragma once

#include "layer.hpp"
#include "memory.hpp"
#include "requant.hpp"
#include "wide.hpp"

namespace hwflow {

// The weights of OC_PAR output channels: one word (4 bits) or two (8 bits) a step.
template <class E>
void load_weights(const word_t* params, int first, int depth, bool narrow,
                  ap_int<E::WEIGHT_BITS> weight[E::MAC_DEPTH][OC_PAR]) {
  const int words = narrow ? depth : 2 * depth;
load_weights_loop:
  for (int i = 0; i < words; i++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 2 * E::MAC_DEPTH
    const word_t word = params[first + i];
    const int step = narrow ? i : i / 2;
  load_weight_lanes:
    for (int o = 0; o < OC_PAR; o++) {
#pragma HLS UNROLL
      if (narrow) {
        weight[step][o] = ap_int<4>(word >> (4 * o));
      } else if (o / 8 == i % 2) {
        weight[step][o] = ap_int<8>(word >> (8 * (o % 8)));
      }
    }
  }
}

// acc[o][p] = sum over steps of weight[step][o] * pixel p of word in[step * tile + t].
template <class E>
void accumulate(const word_t in[E::IN_WORDS],
                const ap_int<E::WEIGHT_BITS> weight[E::MAC_DEPTH][OC_PAR], int depth, int tile,
                int t, bool is_signed, ap_int<E::ACC_BITS> acc[OC_PAR][PIX_PAR]) {
#pragma HLS INLINE
accumulate_clear:
  for (int o = 0; o < OC_PAR; o++) {
#pragma HLS UNROLL
    for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
      acc[o][p] = 0;
    }
  }
accumulate_steps:
  for (int step = 0; step < depth; step++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
    const word_t word = in[step * tile + t];
    act_t pixel[PIX_PAR];
#pragma HLS ARRAY_PARTITION variable = pixel complete
  accumulate_unpack:
    for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
      pixel[p] = value(lane(word, p), is_signed);
    }
  accumulate_lanes:
    for (int o = 0; o < OC_PAR; o++) {
#pragma HLS UNROLL
      for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
        acc[o][p] += weight[step][o] * pixel[p];
      }
    }
  }
}

// All output channels of `tile` words of pixels, whose inputs are in `in`; word t of channel c
// goes to activation word layer.out + c * out_plane + out_word + t (each byte to a plane of its own
// where outputs are wider than 8 bits).
template <class E>
void mac_tile(const word_t* params, word_t* acts, const Layer& layer, const word_t in[E::IN_WORDS],
              ap_int<E::WEIGHT_BITS> weight[E::MAC_DEPTH][OC_PAR], word_t out[OC_PAR][E::OUT_WORDS],
              int depth, int tile, int out_word) {
#pragma HLS INLINE off
  constexpr int OUT_BYTES = E::OUT_BITS > 9 ? MAX_BYTES : 1;
  const bool narrow = layer.weight_bits == 4;
  const int out_plane = layer.out_h * words_of(layer.out_w);
mac_channels:
  for (int c = 0; c < layer.out_c; c += OC_PAR) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH / OC_PAR
    load_weights<E>(params, layer.weights + (c / OC_PAR) * depth * (narrow ? 1 : 2), depth, narrow,
                    weight);
    Quant<E> quant[OC_PAR];
  mac_quant:
    for (int o = 0; o < OC_PAR; o++) {
#pragma HLS PIPELINE II = 2
      const int from = layer.quant + 2 * (c + o);
      quant[o] = read_quant<E>(params[from], params[from + 1]);
    }
  mac_words:
    for (int t = 0; t < tile; t++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
      ap_int<E::ACC_BITS> acc[OC_PAR][PIX_PAR];
#pragma HLS ARRAY_PARTITION variable = acc complete dim = 0
      accumulate<E>(in, weight, depth, tile, t, layer.in_signed != 0, acc);
    mac_requant:
      for (int o = 0; o < OC_PAR; o++) {
#pragma HLS PIPELINE II = 1
        word_t words[MAX_BYTES] = {0, 0, 0, 0};
      mac_requant_lanes:
        for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
          const wide_t number = requant<E>(acc[o][p], quant[o], layer.lo, layer.hi);
        mac_requant_bytes:
          for (int b = 0; b < OUT_BYTES; b++) {
#pragma HLS UNROLL
            words[b] |= byte_of(number, b) << (8 * p);
          }
        }
      mac_requant_words:
        for (int b = 0; b < OUT_BYTES; b++) {
#pragma HLS UNROLL
          if (b < layer.out_bytes) out[o][t * layer.out_bytes + b] = words[b];
        }
      }
    }
  mac_store:
    for (int o = 0; o < least(OC_PAR, layer.out_c - c); o++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = OC_PAR
    mac_store_words:
      for (int i = 0; i < tile * layer.out_bytes; i++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
        // All words of a plane before the next plane: bursts stay long.
        const int b = i / tile;
        const int t = i % tile;
        acts[layer.out + ((c + o) * layer.out_bytes + b) * out_plane + out_word + t] =
            out[o][t * layer.out_bytes + b];
      }
    }
  }
}

}  // namespace hwflow
