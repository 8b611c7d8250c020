// SPDX-License-Identifier: Apache-2.0
// peaks: the k best cells that equal the greatest of their 3x3 neighbours of the same class, with
// size and offset read at each. A candidate is one number, so ordered that greater is better:
// logit, then earlier row, earlier column, lower class. Rows of 8 16-bit numbers go out:
// logit, class, y, x, w, h, reg_x, reg_y; an unused row is 0 with class -1.
#pragma once

#include "maxpool.hpp"

namespace hwflow {

constexpr int PLACE_BITS = 15;
constexpr int KEY_BITS = 10 + 3 * PLACE_BITS;
using key_t = ap_uint<KEY_BITS>;

inline key_t make_key(act_t logit, int y, int x, int label) {
#pragma HLS INLINE
  constexpr int LAST = (1 << PLACE_BITS) - 1;
  const word_t rank = static_cast<word_t>((logit + 256).to_int());
  return key_t((rank << (3 * PLACE_BITS)) | (static_cast<word_t>(LAST - y) << (2 * PLACE_BITS)) |
               (static_cast<word_t>(LAST - x) << PLACE_BITS) | static_cast<word_t>(LAST - label));
}

template <class E>
struct PeaksKernel {
  key_t best[E::PEAKS];  // sorted, greatest first; 0 is free
  key_t found[PIX_PAR][E::OUT_WORDS];  // the peaks of one row, 0 where there is none

  void channel(const word_t*, const Layer&, int) {}

  void word(word_t*, const Layer& layer, const Window& window, int c, int y, int x) {
#pragma HLS INLINE
  peaks_pixels:
    for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
      const act_t logit = value(window.tap[1][1][p], layer.in_signed != 0);
      const bool peak = x * PIX_PAR + p < layer.in_w &&
                        logit == greatest(window, p, layer.in_signed != 0);
      found[p][x] = peak ? make_key(logit, y, x * PIX_PAR + p, c) : key_t(0);
    }
  }

  // One candidate a cycle: each place of the list takes its neighbour, the key, or stays.
  void row(const Layer& layer, int, int) {
#pragma HLS INLINE
  peaks_row:
    for (int x = 0; x < layer.in_w; x++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = PIX_PAR * E::OUT_WORDS
      const key_t key = found[x % PIX_PAR][x / PIX_PAR];
      if (key > best[E::PEAKS - 1]) {
      peaks_insert:
        for (int i = E::PEAKS - 1; i >= 0; i--) {
#pragma HLS UNROLL
          const key_t above = best[i > 0 ? i - 1 : 0];
          if (key > best[i]) best[i] = i > 0 && key > above ? above : key;
        }
      }
    }
  }
};

// Pixel (y, x) of a plane seen enlarged 2^up times.
inline int read_pixel(const word_t* acts, int plane, int y, int x, int width, int up,
                      bool is_signed) {
#pragma HLS INLINE
  const int low_x = x >> up;
  const word_t word = acts[plane + (y >> up) * words_of(width >> up) + low_x / PIX_PAR];
  return value(lane(word, low_x % PIX_PAR), is_signed).to_int();
}

template <class E>
void peaks(const word_t* params, word_t* acts, const Layer& layer,
           const std::uint32_t map[E::MAC_DEPTH], word_t band[BANKS][E::BAND_DEPTH]) {
#pragma HLS INLINE off
  PeaksKernel<E> kernel;
#pragma HLS ARRAY_PARTITION variable = kernel.best complete
#pragma HLS ARRAY_PARTITION variable = kernel.found complete dim = 1
peaks_clear:
  for (int i = 0; i < E::PEAKS; i++) {
#pragma HLS UNROLL
    kernel.best[i] = 0;
  }
  sweep<E>(params, acts, layer, map, band, kernel);
  constexpr int LAST = (1 << PLACE_BITS) - 1;
  const word_t size = params[layer.map1];
  const word_t offset = params[layer.map2];
peaks_rows:
  for (int i = 0; i < layer.k; i++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::PEAKS
    int row[8] = {0, -1, 0, 0, 0, 0, 0, 0};
#pragma HLS ARRAY_PARTITION variable = row complete
    const word_t key = kernel.best[i].to_uint64();
    if (key != 0) {
      const int y = LAST - static_cast<int>((key >> (2 * PLACE_BITS)) & LAST);
      const int x = LAST - static_cast<int>((key >> PLACE_BITS) & LAST);
      row[0] = static_cast<int>(key >> (3 * PLACE_BITS)) - 256;
      row[1] = LAST - static_cast<int>(key & LAST);
      row[2] = y;
      row[3] = x;
    peaks_read:
      for (int n = 0; n < 2; n++) {
#pragma HLS UNROLL
        row[4 + n] = read_pixel(acts, static_cast<std::uint32_t>(size >> (32 * n)), y, x,
                                layer.in_w, layer.up1, layer.signed1 != 0);
        row[6 + n] = read_pixel(acts, static_cast<std::uint32_t>(offset >> (32 * n)), y, x,
                                layer.in_w, layer.up2, layer.signed2 != 0);
      }
    }
  peaks_write:
    for (int n = 0; n < 2; n++) {
#pragma HLS UNROLL
      word_t word = 0;
    peaks_pack:
      for (int m = 0; m < 4; m++) {
#pragma HLS UNROLL
        word |= static_cast<word_t>(static_cast<std::uint16_t>(row[4 * n + m])) << (16 * m);
      }
      acts[layer.out + 2 * i + n] = word;
    }
  }
}

}  // namespace hwflow
