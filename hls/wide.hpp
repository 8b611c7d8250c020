// SPDX-License-Identifier: Apache-2.0
// Numbers of more than 8 bits: a tensor of 16 or 32 bits lies in memory as 2 or 4 planes a channel,
// the plane of the low bytes first.
#pragma once

#include "layer.hpp"
#include "memory.hpp"

namespace hwflow {

constexpr int MAX_BYTES = 4;
using wide_t = ap_int<33>;

// Pixel p of a word of 8 pixels whose bytes are in `words`.
inline wide_t wide_value(const word_t words[MAX_BYTES], int bytes, int p, bool is_signed) {
#pragma HLS INLINE
  std::uint32_t bits = 0;
wide_bytes:
  for (int b = 0; b < MAX_BYTES; b++) {
#pragma HLS UNROLL
    if (b < bytes) bits |= static_cast<std::uint32_t>(lane(words[b], p).to_uint()) << (8 * b);
  }
  const int unused = 32 - 8 * bytes;
  const std::int32_t number = static_cast<std::int32_t>(bits << unused) >> unused;
  return is_signed ? wide_t(number) : wide_t(bits);
}

// Byte b of a number.
inline word_t byte_of(wide_t number, int b) {
#pragma HLS INLINE
  return static_cast<word_t>((number.to_int64() >> (8 * b)) & 0xff);
}

// Reads word x of the planes of one channel, which `map` finds.
inline void read_wide(const word_t* acts, const std::uint32_t planes[MAX_BYTES], int bytes, int x,
                      word_t words[MAX_BYTES]) {
#pragma HLS INLINE
read_wide_loop:
  for (int b = 0; b < MAX_BYTES; b++) {
#pragma HLS PIPELINE II = 1
    words[b] = b < bytes ? acts[planes[b] + x] : 0;
  }
}

// The addresses of the planes of channel c, out of a channel map in the parameters.
inline void read_planes(const word_t* params, int first, int c, int bytes,
                        std::uint32_t planes[MAX_BYTES]) {
#pragma HLS INLINE
read_planes_loop:
  for (int b = 0; b < MAX_BYTES; b++) {
#pragma HLS PIPELINE II = 1
    const int index = c * bytes + b;
    planes[b] = b < bytes
                    ? static_cast<std::uint32_t>(params[first + index / 2] >> (32 * (index % 2)))
                    : 0;
  }
}

// Writes word x of channel c of a layer's output.
inline void write_wide(word_t* acts, const Layer& layer, int c, int x,
                       const wide_t numbers[PIX_PAR]) {
#pragma HLS INLINE
  const int plane = layer.out_h * words_of(layer.out_w);
write_wide_bytes:
  for (int b = 0; b < layer.out_bytes; b++) {
#pragma HLS PIPELINE II = 1
#pragma HLS LOOP_TRIPCOUNT min = 1 max = MAX_BYTES
    word_t word = 0;
  write_wide_lanes:
    for (int p = 0; p < PIX_PAR; p++) {
#pragma HLS UNROLL
      word |= byte_of(numbers[p], b) << (8 * p);
    }
    acts[layer.out + (c * layer.out_bytes + b) * plane + x] = word;
  }
}

}  // namespace hwflow
