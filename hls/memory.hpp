// SPDX-License-Identifier: Apache-2.0
// What all kernels share about memory: the word, its lanes, and the on-chip buffers.
//
// A feature map lies in memory as one plane a channel: rows of 8-pixel words, pixel 0 in the low
// byte, the last word of a row filled up with bytes of no meaning. A kernel finds the planes of
// its input through a channel map (one word address a channel), so that slice, concat and shuffle
// move no data: they only order the map. Nearest upsampling is an address shift.
#pragma once

#include <ap_int.h>

#include <cstdint>

namespace hwflow {

using word_t = std::uint64_t;

// Pixels in a word of 8-bit activations, and output channels a 4-bit weight word serves.
constexpr int PIX_PAR = 8;
constexpr int OC_PAR = 16;
// Banks of the row buffer: the three rows of a window lie in three different ones.
constexpr int BANKS = 4;

// One activation, unsigned or signed 8 bits, as a number.
using act_t = ap_int<9>;

inline ap_uint<8> lane(word_t word, int index) {
#pragma HLS INLINE
  return ap_uint<8>(word >> (8 * index));
}

inline act_t value(ap_uint<8> byte, bool is_signed) {
#pragma HLS INLINE
  return is_signed ? act_t(ap_int<8>(byte)) : act_t(byte);
}

inline int words_of(int pixels) {
#pragma HLS INLINE
  return (pixels + PIX_PAR - 1) / PIX_PAR;
}

inline int least(int a, int b) {
#pragma HLS INLINE
  return a < b ? a : b;
}

// Fills `map` with `count` plane addresses, two in each parameter word.
template <class E>
void load_map(const word_t* params, int first, int count, std::uint32_t map[E::MAC_DEPTH]) {
load_map_loop:
  for (int i = 0; i < (count + 1) / 2; i++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::MAC_DEPTH / 2
    const word_t pair = params[first + i];
    map[2 * i] = static_cast<std::uint32_t>(pair);
    map[2 * i + 1] = static_cast<std::uint32_t>(pair >> 32);
  }
}

// Word `index` of a row whose pixels are repeated 2^up times, out of the word that holds them.
inline word_t enlarge(word_t word, int index, int up) {
#pragma HLS INLINE
  const int part = index & ((1 << up) - 1);
  word_t wide = 0;
enlarge_lanes:
  for (int l = 0; l < PIX_PAR; l++) {
#pragma HLS UNROLL
    wide |= static_cast<word_t>(lane(word, (part * PIX_PAR + l) >> up).to_uint()) << (8 * l);
  }
  return wide;
}

// Copies `rows` rows of one plane, enlarged 2^up times both ways, into the row buffer; row r of
// the band is in bank r % BANKS. `pitch` is the enlarged row in words.
template <class E>
void load_rows(const word_t* acts, word_t band[BANKS][E::BAND_DEPTH], int plane, int first_row,
               int rows, int pitch, int low_pitch, int up) {
load_rows_loop:
  for (int r = 0; r < rows; r++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = BANKS * E::BAND_DEPTH
    const int from = plane + ((first_row + r) >> up) * low_pitch;
  load_words:
    for (int x = 0; x < pitch; x++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = E::OUT_WORDS
      band[r % BANKS][(r / BANKS) * pitch + x] = enlarge(acts[from + (x >> up)], x, up);
    }
  }
}

}  // namespace hwflow
