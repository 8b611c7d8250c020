// SPDX-License-Identifier: Apache-2.0
// Inner loops of the training of six-input tables that slide over maps; hwflow/training_tables/windows.py
// tells what each does and has the same in numpy. Compiled where it runs, for the processor it runs on.
// A map is bytes 0 or 1 (gradients: float) of LANES samples: [position][channel][sample].

#include "common.h"

#include <cstring>
#include <vector>

namespace {

constexpr int LANES = 64;

// Sums of g by address, those of even and odd samples apart; behind a pool most of g is 0
void gather(const uint8_t* at, const float* g, float* sums) {
#ifdef WIDE
  for (int from = 0; from < LANES; from += 16) {
    unsigned left = _mm512_cmp_ps_mask(_mm512_loadu_ps(g + from), _mm512_setzero_ps(), _CMP_NEQ_OQ);
    for (; left; left &= left - 1) {
      const int i = from + __builtin_ctz(left);
      sums[(i & 1) * CELLS + at[i]] += g[i];
    }
  }
#else
  for (int i = 0; i < LANES; i++) sums[(i & 1) * CELLS + at[i]] += g[i];
#endif
}

// to[i] += g[i] * slope[at[i]]
void spread(const int8_t* slope, const uint8_t* at, const float* g, float* to) {
#ifdef WIDE
  alignas(64) int8_t here[LANES];
  _mm512_store_si512(here, _mm512_permutexvar_epi8(_mm512_loadu_si512(at), _mm512_loadu_si512(slope)));
  for (int i = 0; i < LANES; i += 16) {
    const __m512i wide = _mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(here + i)));
    _mm512_storeu_ps(to + i, _mm512_fmadd_ps(_mm512_cvtepi32_ps(wide), _mm512_loadu_ps(g + i), _mm512_loadu_ps(to + i)));
  }
#else
  for (int i = 0; i < LANES; i++) to[i] += g[i] * static_cast<float>(slope[at[i]]);
#endif
}

// channels, height and width of the map; kernel, stride, pads above and left; height and width made
struct Geometry { long c, h, w, kh, kw, sh, sw, top, left, oh, ow; };

struct Tap { int32_t channel, i, j; };

std::vector<Tap> taps_of(const int32_t* wires, long count, const Geometry& g) {
  std::vector<Tap> taps(count);
  for (long n = 0; n < count; n++) {
    const long tap = wires[n];
    taps[n] = {static_cast<int32_t>(tap / (g.kh * g.kw)), static_cast<int32_t>(tap / g.kw % g.kh),
               static_cast<int32_t>(tap % g.kw)};
  }
  return taps;
}

// Where the tap of the window at (y, x) starts in a map, or -1 outside of it
long offset(const Geometry& g, const Tap& tap, long y, long x) {
  const long row = y * g.sh - g.top + tap.i, column = x * g.sw - g.left + tap.j;
  if (row < 0 || row >= g.h || column < 0 || column >= g.w) return -1;
  return ((row * g.w + column) * g.c + tap.channel) * LANES;
}

const uint8_t ZERO[LANES] = {};

}  // namespace

extern "C" {

void forward(const uint8_t* in, const long* geometry, const int32_t* wires, const uint8_t* tables, long count,
             uint8_t* out) {
  const Geometry& g = *reinterpret_cast<const Geometry*>(geometry);
  const std::vector<Tap> taps = taps_of(wires, count * PINS, g);
  alignas(64) uint8_t at[LANES];
  for (long y = 0; y < g.oh; y++)
    for (long x = 0; x < g.ow; x++)
      for (long n = 0; n < count; n++) {
        const uint8_t* p[PINS];
        for (int j = 0; j < PINS; j++) {
          const long from = offset(g, taps[n * PINS + j], y, x);
          p[j] = from < 0 ? ZERO : in + from;
        }
        addresses(p, LANES, at);
        look(tables + n * CELLS, at, LANES, out + ((y * g.ow + x) * count + n) * LANES);
      }
}

// How a table's output changes with each pin at each address, times 127: the difference of its contents
// there, and `share` of it at addresses that differ by one more pin, its square by two ...
void slopes(const uint8_t* tables, long count, float share, int8_t* out) {
  for (long n = 0; n < count; n++)
    for (int j = 0; j < PINS; j++) {
      const uint8_t* table = tables + n * CELLS;
      float d[CELLS];
      for (int k = 0; k < CELLS; k++)
        d[k] = static_cast<float>(table[k | (1 << j)]) - static_cast<float>(table[k & ~(1 << j)]);
      for (int other = 0; other < PINS; other++) {
        const int bit = 1 << other;
        for (int k = 0; k < CELLS && other != j; k++)
          if (!(k & bit)) {
            const float a = d[k], b = d[k | bit];
            d[k] = (a + share * b) / (1 + share);
            d[k | bit] = (b + share * a) / (1 + share);
          }
      }
      for (int k = 0; k < CELLS; k++)
        out[(n * PINS + j) * CELLS + k] = static_cast<int8_t>(std::nearbyint(d[k] * 127));
    }
}

// sums: of the gradient by table and address, added to; to: that of the input times 127, added to, or null
void backward(const uint8_t* in, const long* geometry, const int32_t* wires, const int8_t* slopes, long count,
              const float* grad, float* sums, float* to) {
  const Flush flush;
  const Geometry& g = *reinterpret_cast<const Geometry*>(geometry);
  const std::vector<Tap> taps = taps_of(wires, count * PINS, g);
  alignas(64) uint8_t at[LANES];
  std::vector<float> part(count * 2 * CELLS, 0.f);
  for (long y = 0; y < g.oh; y++)
    for (long x = 0; x < g.ow; x++)
      for (long n = 0; n < count; n++) {
        const float* mine = grad + ((y * g.ow + x) * count + n) * LANES;
        const uint8_t* p[PINS];
        long from[PINS];
        for (int j = 0; j < PINS; j++) {
          from[j] = offset(g, taps[n * PINS + j], y, x);
          p[j] = from[j] < 0 ? ZERO : in + from[j];
        }
        addresses(p, LANES, at);
        gather(at, mine, &part[n * 2 * CELLS]);
        if (to)
          for (int j = 0; j < PINS; j++)
            if (from[j] >= 0) spread(slopes + (n * PINS + j) * CELLS, at, mine, to + from[j]);
      }
  for (long n = 0; n < count; n++)
    for (int k = 0; k < CELLS; k++) sums[n * CELLS + k] += part[n * 2 * CELLS + k] + part[n * 2 * CELLS + CELLS + k];
}

// The greatest of size x size; channels c of a map h x w
void pool(const uint8_t* in, long c, long h, long w, long size, uint8_t* out) {
  const long oh = h / size, ow = w / size;
  std::memset(out, 0, oh * ow * c * LANES);
  for (long y = 0; y < oh * size; y++)
    for (long x = 0; x < ow * size; x++) {
      const uint8_t* from = in + (y * w + x) * c * LANES;
      uint8_t* to = out + (y / size * ow + x / size) * c * LANES;
      for (long i = 0; i < c * LANES; i++) to[i] |= from[i];
    }
}

// An element gets the gradient where no other of its window is set: where it decides.
void pool_back(const uint8_t* in, long c, long h, long w, long size, const float* grad, float* to) {
  const long oh = h / size, ow = w / size;
  std::fill(to, to + h * w * c * LANES, 0.f);
  std::vector<uint8_t> set(c * LANES);
  for (long y = 0; y < oh; y++)
    for (long x = 0; x < ow; x++) {
      std::fill(set.begin(), set.end(), 0);
      for (long k = 0; k < size * size; k++) {
        const uint8_t* from = in + ((y * size + k / size) * w + x * size + k % size) * c * LANES;
        for (long i = 0; i < c * LANES; i++) set[i] += from[i];
      }
      const float* g = grad + (y * ow + x) * c * LANES;
      for (long k = 0; k < size * size; k++) {
        const long at = ((y * size + k / size) * w + x * size + k % size) * c * LANES;
        for (long i = 0; i < c * LANES; i++) to[at + i] = set[i] == in[at + i] ? g[i] : 0.f;
      }
    }
}

void adam(float* values, float* m, float* v, uint8_t* tables, const float* g, long count, float rate, long done,
          float b1, float b2) {
  const Flush flush;
  Adam(rate, done, b1, b2, 1e-12f).step(values, m, v, g, tables, count * CELLS);
}

}  // extern "C"
