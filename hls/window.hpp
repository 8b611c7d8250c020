// SPDX-License-Identifier: Apache-2.0
// The 3x3 window of 8 neighbouring outputs, and the sweep of a plane by it: shared by dw, maxpool
// and peaks. Strides 1 and 2, padding 0 and 1.
#pragma once

#include "layer.hpp"
#include "memory.hpp"

namespace hwflow {

struct Window {
  ap_uint<8> tap[3][3][PIX_PAR];  // row, column, output pixel; 0 outside the map
  bool inside[3][3][PIX_PAR];
};

// The window of outputs 8 * word ... 8 * word + 7; its first row is row `top` of the band, which
// holds rows 0 ... rows - 1.
template <class E>
Window read_window(const word_t band[BANKS][E::BAND_DEPTH], const Layer& layer, int top, int rows,
                   int word, int pitch) {
#pragma HLS INLINE
  const bool two = layer.stride == 2;
  const bool padded = layer.pad == 1;
  const int first = (two ? 2 * word : word) - (padded ? 1 : 0);
  word_t bank_word[BANKS][3];
#pragma HLS ARRAY_PARTITION variable = bank_word complete dim = 0
window_banks:
  for (int b = 0; b < BANKS; b++) {
#pragma HLS UNROLL
    const int row = top + ((b - top) & (BANKS - 1));
  window_words:
    for (int k = 0; k < 3; k++) {
#pragma HLS UNROLL
      const int column = first + k;
      const bool held = row >= 0 && row < rows && column >= 0 && column < pitch;
      bank_word[b][k] = held ? band[b][(row / BANKS) * pitch + column] : 0;
    }
  }
  Window window;
#pragma HLS ARRAY_PARTITION variable = window.tap complete dim = 0
#pragma HLS ARRAY_PARTITION variable = window.inside complete dim = 0
window_rows:
  for (int i = 0; i < 3; i++) {
#pragma HLS UNROLL
    const int row = top + i;
    const int bank = row & (BANKS - 1);
    ap_uint<8> pixel[3 * PIX_PAR];
#pragma HLS ARRAY_PARTITION variable = pixel complete
  window_unpack:
    for (int p = 0; p < 3 * PIX_PAR; p++) {
#pragma HLS UNROLL
      pixel[p] = lane(bank_word[bank][p / PIX_PAR], p % PIX_PAR);
    }
  window_columns:
    for (int j = 0; j < 3; j++) {
#pragma HLS UNROLL
      for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
        const int x = (two ? 2 : 1) * (word * PIX_PAR + p) - layer.pad + j;
        const bool in_map = row >= 0 && row < rows && x >= 0 && x < layer.in_w &&
                            i < layer.kernel && j < layer.kernel;
        // Four places, all known when the circuit is made: a small multiplexer.
        const int narrow = p + j;
        const int wide = 2 * p + j;
        const ap_uint<8> byte = two ? (padded ? pixel[wide + PIX_PAR - 1] : pixel[wide])
                                    : (padded ? pixel[narrow + PIX_PAR - 1] : pixel[narrow]);
        window.inside[i][j][p] = in_map;
        window.tap[i][j][p] = in_map ? byte : ap_uint<8>(0);
      }
    }
  }
  return window;
}

// Calls of a kernel: channel(params, layer, c) before each channel, word(acts, layer, window, c, y,
// x) for each 8 outputs, row(layer, c, y) after each row of outputs.
template <class E, class Kernel>
void sweep(const word_t* params, word_t* acts, const Layer& layer,
           const std::uint32_t map[E::MAC_DEPTH], word_t band[BANKS][E::BAND_DEPTH],
           Kernel& kernel) {
#pragma HLS INLINE
  const int pitch = words_of(layer.in_w);
  const int low_pitch = words_of(layer.in_w >> layer.in_up);
  const int out_pitch = words_of(layer.out_w);
sweep_channels:
  for (int c = 0; c < layer.in_c; c++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH
    kernel.channel(params, layer, c);
  sweep_bands:
    for (int y = 0; y < layer.out_h; y += layer.tile) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
      const int height = least(layer.tile, layer.out_h - y);
      const int above = y * layer.stride - layer.pad;
      const int first = above < 0 ? 0 : above;
      const int below = least(layer.in_h, above + (height - 1) * layer.stride + layer.kernel);
      const int rows = below - first;
      load_rows<E>(acts, band, map[c], first, rows, pitch, low_pitch, layer.in_up);
    sweep_rows:
      for (int r = 0; r < height; r++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = BANKS * E::BAND_DEPTH
        const int top = above + r * layer.stride - first;
      sweep_words:
        for (int word = 0; word < out_pitch; word++) {
#pragma HLS PIPELINE II = 2
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
          const Window window = read_window<E>(band, layer, top, rows, word, pitch);
          kernel.word(acts, layer, window, c, y + r, word);
        }
        kernel.row(layer, c, y + r);
      }
    }
  }
}

}  // namespace hwflow
