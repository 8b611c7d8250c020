// SPDX-License-Identifier: Apache-2.0
// The requantiser: clamp(round_half_even((acc * mul + bias) / 2^shift), lo, hi); a negative shift
// multiplies.
#pragma once

#include "memory.hpp"

namespace hwflow {

template <class E>
struct Quant {
  ap_int<E::MUL_BITS> mul;
  ap_int<E::SUM_BITS> bias;
  std::int8_t shift;
};

// Two parameter words: mul (low half) with shift (byte 4), then bias.
template <class E>
Quant<E> read_quant(word_t scale, word_t bias) {
#pragma HLS INLINE
  return Quant<E>{ap_int<E::MUL_BITS>(scale & 0xffffffffu),
                  ap_int<E::SUM_BITS>(static_cast<std::int64_t>(bias)),
                  static_cast<std::int8_t>(scale >> 32)};
}

// OUT_BITS holds every limit with a sign: 9 for bytes, 33 where outputs are wider.
template <class E>
ap_int<E::OUT_BITS> requant(ap_int<E::ACC_BITS> acc, const Quant<E>& quant, int lo, int hi) {
#pragma HLS INLINE
  using sum_t = ap_int<E::SUM_BITS>;
  const sum_t product = acc * quant.mul;
  const sum_t sum = product + quant.bias;
  sum_t rounded;
  if (quant.shift > 0) {
    // Half less one rounds to nearest with ties down; one more for an odd quotient makes them even.
    const int right = quant.shift;
    const sum_t odd = (sum >> right) & 1;
    const sum_t nudge = (sum_t(1) << (right - 1)) - 1 + odd;
    const sum_t nudged = sum + nudge;
    rounded = nudged >> right;
  } else {
    rounded = sum << -quant.shift;
  }
  const ap_int<E::OUT_BITS> low = lo;
  const ap_int<E::OUT_BITS> high = hi;
  if (rounded < low) return low;
  if (rounded > high) return high;
  return ap_int<E::OUT_BITS>(rounded);
}

}  // namespace hwflow
