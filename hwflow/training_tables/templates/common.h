// SPDX-License-Identifier: Apache-2.0
// What the loops of six-input tables share (kernels.cpp, windows.cpp): addresses, the look-up, Adam.
// Columns and maps are bytes 0 or 1 of many samples; a table is 64 of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#if defined(__AVX512F__) && defined(__AVX512VBMI__) && defined(__AVX512BW__)
#include <immintrin.h>
#define WIDE 1
#endif
#ifdef __SSE__
#include <xmmintrin.h>
#endif

namespace {

constexpr int CELLS = 64, PINS = 6;

// Numbers next to 0 are 0 while a loop runs (they cost a hundred times as much), and what they were before
// afterwards: the state belongs to the whole process, other code in it computes by the standard.
struct Flush {
#ifdef __SSE__
  unsigned before = _mm_getcsr();
  Flush() { _mm_setcsr(before | 0x8040); }
  ~Flush() { _mm_setcsr(before); }
#else
  Flush() {}
#endif
};

// p: the six inputs of a table, n samples each
inline void addresses(const uint8_t* const* p, long n, uint8_t* at) {
  const uint8_t *a = p[0], *b = p[1], *c = p[2], *d = p[3], *e = p[4], *f = p[5];
  for (long i = 0; i < n; i++)
    at[i] = a[i] | (b[i] << 1) | (c[i] << 2) | (d[i] << 3) | (e[i] << 4) | (f[i] << 5);
}

inline void look(const uint8_t* table, const uint8_t* at, long n, uint8_t* out) {
  long i = 0;
#ifdef WIDE
  const __m512i t = _mm512_loadu_si512(table);
  for (; i + 64 <= n; i += 64)
    _mm512_storeu_si512(out + i, _mm512_permutexvar_epi8(_mm512_loadu_si512(at + i), t));
#endif
  for (; i < n; i++) out[i] = table[at[i]];
}

// A step on contents in -1..1, tables are their signs; tiny: what a size of 0 counts
struct Adam {
  float rate, correct1, correct2, b1, b2, tiny;
  Adam(float rate, long done, float b1, float b2, float tiny)
      : rate(rate), correct1(1 / (1 - std::pow(b1, static_cast<float>(done + 1)))),
        correct2(1 / (1 - std::pow(b2, static_cast<float>(done + 1)))), b1(b1), b2(b2), tiny(tiny) {}

  void step(float* value, float* m, float* v, const float* g, uint8_t* table, long count) const {
    for (long k = 0; k < count; k++) {
      m[k] = b1 * m[k] + (1 - b1) * g[k];
      v[k] = b2 * v[k] + (1 - b2) * g[k] * g[k];
      const float next = value[k] - rate * (m[k] * correct1) / (std::sqrt(v[k] * correct2) + tiny);
      value[k] = std::min(1.f, std::max(-1.f, next));
      table[k] = value[k] > 0;
    }
  }
};

}  // namespace
