// SPDX-License-Identifier: Apache-2.0
// Inner loops of the training of lookup tables; hwflow/training_tables/kernels.py tells what each
// does and has the same in numpy. Compiled where it runs, for the processor it runs on.
// Tables have six inputs and 64 contents. Columns (bits of many samples) are bytes 0 or 1.

#include "common.h"

#include <cstring>
#include <vector>

namespace {

void columns(const uint8_t* x, long stride, const int32_t* wires, long low, long n, uint8_t* out) {
  const uint8_t* p[PINS];
  for (int j = 0; j < PINS; j++) p[j] = x + wires[j] * stride + low;
  addresses(p, n, out);
}

void gather_sums(const uint8_t* at, const float* g, long n, float* sums) {
  float part[4][CELLS] = {};
  long i = 0;
  for (; i + 4 <= n; i += 4)
    for (int k = 0; k < 4; k++) part[k][at[i + k]] += g[i + k];
  for (; i < n; i++) part[0][at[i]] += g[i];
  for (int k = 0; k < CELLS; k++) sums[k] = part[0][k] + part[1][k] + part[2][k] + part[3][k];
}

uint64_t draw(uint64_t& state) {  // splitmix64
  uint64_t z = (state += 0x9E3779B97F4A7C15ull);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

float within(uint64_t& state, float bound) {
  return (static_cast<float>(draw(state) >> 40) * (1.f / 8388608.f) - 1.f) * bound;
}

// Adds g of the samples begin..end where a bit is set, for N words of 16 bits.
template <int N>
void sum_words(const int32_t* begin, const int32_t* end, const float* g, const uint16_t* rows,
               long stride, float* out) {
#ifdef WIDE
  __m512 sum[N];
#pragma GCC unroll 24
  for (int q = 0; q < N; q++) sum[q] = _mm512_loadu_ps(out + q * 16);
  for (const int32_t* s = begin; s < end; s++) {
    const uint16_t* bits = rows + *s * stride;
    const __m512 v = _mm512_set1_ps(g[*s]);
    if (s + 8 < end) _mm_prefetch(reinterpret_cast<const char*>(rows + s[8] * stride), _MM_HINT_T0);
#pragma GCC unroll 24
    for (int q = 0; q < N; q++) sum[q] = _mm512_mask_add_ps(sum[q], bits[q], sum[q], v);
  }
#pragma GCC unroll 24
  for (int q = 0; q < N; q++) _mm512_storeu_ps(out + q * 16, sum[q]);
#else
  for (const int32_t* s = begin; s < end; s++)
    for (int q = 0; q < N; q++) {
      const uint16_t bits = rows[*s * stride + q];
      for (int p = 0; p < 16; p++) out[q * 16 + p] += g[*s] * static_cast<float>((bits >> p) & 1);
    }
#endif
}

}  // namespace

extern "C" {

void address(const uint8_t* x, long n, const int32_t* wires, uint8_t* out) {
  columns(x, n, wires, 0, n, out);
}

void lookup(const uint8_t* table, const uint8_t* at, long n, uint8_t* out) { look(table, at, n, out); }

void layer(const uint8_t* x, long n, const int32_t* wires, const uint8_t* tables, long count, uint8_t* out) {
  std::vector<uint8_t> at(n);
  for (long t = 0; t < count; t++) {
    columns(x, n, wires + 6 * t, 0, n, at.data());
    look(tables + CELLS * t, at.data(), n, out + t * n);
  }
}

void cell_sums(const uint8_t* at, const float* g, long n, double* out) {
  const Flush flush;
  std::fill(out, out + CELLS, 0.);
  float part[CELLS];
  for (long i = 0; i < n; i += 4096) {
    gather_sums(at + i, g + i, std::min(4096L, n - i), part);
    for (int k = 0; k < CELLS; k++) out[k] += part[k];
  }
}

// rows: bits of a sample, 16 in a word, `stride` words a sample of which `words` are used.
void pack(const uint8_t* x, long n, long count, long stride, uint16_t* rows) {
  std::memset(rows, 0, n * stride * 2);
  for (long p = 0; p < count; p++) {
    const uint8_t* column = x + p * n;
    const long word = p >> 4, place = p & 15;
    for (long i = 0; i < n; i++) rows[i * stride + word] |= static_cast<uint16_t>(column[i]) << place;
  }
}

void put(uint16_t* rows, long stride, long bit, const uint8_t* column, long n) {
  const long word = bit >> 4, place = bit & 15;
  const uint16_t mask = ~(1u << place);
  for (long i = 0; i < n; i++) {
    uint16_t& w = rows[i * stride + word];
    w = (w & mask) | (static_cast<uint16_t>(column[i]) << place);
  }
}

// out[cell][bit]: the sum of g over the samples low..high that are in the cell and have the bit.
void cell_bits(const uint8_t* at, const float* g, long low, long high, const uint16_t* rows,
               long stride, long words, float* out) {
  const Flush flush;
  constexpr long BLOCK = 8192;  // so many rows stay in the cache while their words are summed
  std::fill(out, out + CELLS * words * 16, 0.f);
  std::vector<int32_t> order(std::min(BLOCK, high - low));
  for (long from = low; from < high; from += BLOCK) {
    const long to = std::min(high, from + BLOCK);
    long first[CELLS + 1] = {}, next[CELLS];
    for (long i = from; i < to; i++) first[at[i] + 1] += g[i] != 0;
    for (int k = 0; k < CELLS; k++) first[k + 1] += first[k];
    std::copy(first, first + CELLS, next);
    for (long i = from; i < to; i++)
      if (g[i] != 0) order[next[at[i]]++] = static_cast<int32_t>(i);
    for (int k = 0; k < CELLS; k++) {
      const int32_t *begin = order.data() + first[k], *end = order.data() + first[k + 1];
      if (begin == end) continue;
      float* row = out + k * words * 16;
      for (long w = 0; w < words;) {  // words are a multiple of four
        const long left = words - w;
        const int block = left >= 24 ? 24 : left >= 12 ? 12 : left >= 8 ? 8 : 4;
        if (block == 24) sum_words<24>(begin, end, g, rows + w, stride, row + w * 16);
        if (block == 12) sum_words<12>(begin, end, g, rows + w, stride, row + w * 16);
        if (block == 8) sum_words<8>(begin, end, g, rows + w, stride, row + w * 16);
        if (block == 4) sum_words<4>(begin, end, g, rows + w, stride, row + w * 16);
        w += block;
      }
    }
  }
}

// out[pin][bit]: sum over the cells of |sum of g|, were this pin wired to that bit.
void pin_gains(const float* cells, const double* sums, long words, float* out) {
  const Flush flush;
  const long bits = words * 16;
  std::fill(out, out + 6 * bits, 0.f);
  for (int j = 0; j < 6; j++)
    for (int k = 0; k < CELLS; k++)
      if (!((k >> j) & 1)) {
        const int other = k | (1 << j);
        const float *a = cells + k * bits, *b = cells + other * bits;
        const float both = static_cast<float>(sums[k] + sums[other]);
        float* gain = out + j * bits;
        for (long p = 0; p < bits; p++) {
          const float one = a[p] + b[p];
          gain[p] += std::fabs(one) + std::fabs(both - one);
        }
      }
}

// e: exp(score * scale) of the root's class; z: their sum over classes; q: the class's target.
void root_gain(const float* e, const float* z, const float* q, const uint8_t* y, long n, float scale,
               float* out) {
  const Flush flush;
  const float up = std::exp(scale) - 1, down = std::exp(-scale);
  for (long i = 0; i < n; i++) {
    const float e0 = y[i] ? e[i] * down : e[i], z0 = z[i] - e[i] + e0;
    out[i] = q[i] * scale - std::log((z0 + e0 * up) / z0);
  }
}

void root_change(float* e, float* z, const uint8_t* old, const uint8_t* made, long n, float scale) {
  const Flush flush;
  const float up = std::exp(scale) - 1, down = std::exp(-scale) - 1;
  for (long i = 0; i < n; i++) {
    const int step = static_cast<int>(made[i]) - static_cast<int>(old[i]);
    const float change = step == 0 ? 0.f : e[i] * (step > 0 ? up : down);
    e[i] += change;
    z[i] += change;
  }
}

// readers: roots that read the leaf, sorted by class; pins: the bit of their address it is.
void leaf_gain(long count, const int32_t* readers, const int32_t* pins, const int32_t* classes,
               const uint8_t* at, const uint8_t* tables, const float* e, const float* z, const float* q,
               const uint8_t* y, long n, float scale, float* out) {
  const Flush flush;
  constexpr int CHUNK = 1024;
  alignas(64) int8_t step[CHUNK];
  float change[CHUNK], wanted[CHUNK], factor[257];
  for (int k = -128; k <= 128; k++) factor[k + 128] = std::exp(static_cast<float>(k) * scale) - 1;
  for (long s = 0; s < n; s += CHUNK) {
    const int m = static_cast<int>(std::min<long>(CHUNK, n - s));
    std::fill(change, change + m, 0.f);
    std::fill(wanted, wanted + m, 0.f);
    for (long r = 0; r < count;) {
      const int c = classes[r];
      std::memset(step, 0, sizeof step);
      for (; r < count && classes[r] == c; r++) {
        const uint8_t* a = at + readers[r] * n + s;
        const uint8_t* table = tables + CELLS * readers[r];
        int8_t turn[CELLS];
        for (int k = 0; k < CELLS; k++)
          turn[k] = static_cast<int8_t>(static_cast<int>(table[k ^ pins[r]]) - static_cast<int>(table[k]));
        int i = 0;
#ifdef WIDE
        const __m512i t = _mm512_loadu_si512(turn);
        for (; i + 64 <= m; i += 64) {
          const __m512i v = _mm512_permutexvar_epi8(_mm512_loadu_si512(a + i), t);
          _mm512_store_si512(step + i, _mm512_add_epi8(_mm512_load_si512(step + i), v));
        }
#endif
        for (; i < m; i++) step[i] = static_cast<int8_t>(step[i] + turn[a[i]]);
      }
      const float *ec = e + c * n + s, *qc = q + c * n + s;
      for (int i = 0; i < m; i++) {
        change[i] += ec[i] * factor[step[i] + 128];
        wanted[i] += qc[i] * static_cast<float>(step[i]);
      }
    }
    for (int i = 0; i < m; i++) {
      const float rise = std::log(1 + change[i] / z[s + i]) - wanted[i] * scale;
      out[s + i] = y[s + i] ? rise : -rise;
    }
  }
}

// One pass of minibatches over n samples; the straight-through gradient of the hard network.
double epoch(const uint8_t* x, long n, long leaves, long roots, long classes, const int32_t* leaf_wires,
             float* leaf_values, float* leaf_m, float* leaf_v, uint8_t* leaf_tables,
             const int32_t* root_wires, float* root_values, float* root_m, float* root_v,
             uint8_t* root_tables, const float* q, float scale, long batch, float rate0, float rate1,
             long done, float b1, float b2) {
  const Flush flush;
  const long each = roots / classes, steps = n / batch;
  std::vector<uint8_t> leaf_at(leaves * batch), y(leaves * batch), root_at(roots * batch), out(batch);
  std::vector<float> to_leaf(leaves * batch), g(classes * batch);
  std::vector<int> score(classes * batch);
  double loss = 0;
  for (long s = 0; s < steps; s++) {
    const long low = s * batch;
    const float rate = rate0 + (rate1 - rate0) * static_cast<float>(s) / static_cast<float>(steps);
    const Adam adam(rate, done + s, b1, b2, 1e-8f);
    for (long l = 0; l < leaves; l++) {
      columns(x, n, leaf_wires + 6 * l, low, batch, &leaf_at[l * batch]);
      look(leaf_tables + CELLS * l, &leaf_at[l * batch], batch, &y[l * batch]);
    }
    std::fill(score.begin(), score.end(), 0);
    for (long r = 0; r < roots; r++) {
      uint8_t* at = &root_at[r * batch];
      if (leaves) columns(y.data(), batch, root_wires + 6 * r, 0, batch, at);
      else columns(x, n, root_wires + 6 * r, low, batch, at);
      look(root_tables + CELLS * r, at, batch, out.data());
      int* sum = &score[(r / each) * batch];
      for (long i = 0; i < batch; i++) sum[i] += out[i];
    }
    for (long i = 0; i < batch; i++) {
      int top = 0;
      for (long c = 0; c < classes; c++) top = std::max(top, score[c * batch + i]);
      float z = 0;
      for (long c = 0; c < classes; c++)
        z += g[c * batch + i] = std::exp(static_cast<float>(score[c * batch + i] - top) * scale);
      const float log_z = std::log(z);
      for (long c = 0; c < classes; c++) {
        const float target = q[c * n + low + i];
        loss -= target * (static_cast<float>(score[c * batch + i] - top) * scale - log_z);
        g[c * batch + i] = g[c * batch + i] / z - target;
      }
    }
    std::fill(to_leaf.begin(), to_leaf.end(), 0.f);
    float sums[CELLS];
    for (long r = 0; r < roots; r++) {
      const uint8_t *at = &root_at[r * batch], *table = root_tables + CELLS * r;
      const float* grad = &g[(r / each) * batch];
      gather_sums(at, grad, batch, sums);
      for (int j = 0; leaves && j < 6; j++) {
        float* to = &to_leaf[root_wires[6 * r + j] * batch];
        int8_t slope[CELLS];
        for (int k = 0; k < CELLS; k++)
          slope[k] = static_cast<int8_t>(static_cast<int>(table[k | (1 << j)]) - static_cast<int>(table[k & ~(1 << j)]));
        long i = 0;
#ifdef WIDE
        const __m512i all = _mm512_loadu_si512(slope);
        for (; i + 64 <= batch; i += 64) {
          alignas(64) int8_t here[64];
          _mm512_store_si512(here, _mm512_permutexvar_epi8(_mm512_loadu_si512(at + i), all));
          for (int u = 0; u < 64; u++) to[i + u] += grad[i + u] * static_cast<float>(here[u]);
        }
#endif
        for (; i < batch; i++) to[i] += grad[i] * static_cast<float>(slope[at[i]]);
      }
      adam.step(root_values + CELLS * r, root_m + CELLS * r, root_v + CELLS * r, sums, root_tables + CELLS * r, CELLS);
    }
    for (long l = 0; l < leaves; l++) {
      gather_sums(&leaf_at[l * batch], &to_leaf[l * batch], batch, sums);
      adam.step(leaf_values + CELLS * l, leaf_m + CELLS * l, leaf_v + CELLS * l, sums, leaf_tables + CELLS * l, CELLS);
    }
  }
  return loss / static_cast<double>(std::max(1L, steps * batch));
}

// Affine and elastic copies of gray images (side x side); picked: which image each copy is of.
void augment(const uint8_t* images, const int32_t* picked, long count, long planes, long height, long width,
             float shift, float turn, float scale, float shear, float elastic, float share,
             uint64_t seed, uint8_t* out) {
  const Flush flush;
  const long pitch = width + 4, size = planes * height * width;
  std::vector<uint8_t> framed(planes * (height + 4) * pitch);
  for (long i = 0; i < count; i++) {
    uint64_t state = seed + static_cast<uint64_t>(i) * 0x51ED27Full;
    const uint8_t* image = images + picked[i] * size;
    uint8_t* to = out + i * size;
    if (within(state, 0.5f) + 0.5f >= share) {
      std::memcpy(to, image, size);
      continue;
    }
    std::fill(framed.begin(), framed.end(), 0);
    for (long r = 0; r < planes * height; r++)
      std::memcpy(&framed[(r / height * (height + 4) + r % height + 2) * pitch + 2], image + r * width, width);
    const float angle = within(state, turn), sx = 1 + within(state, scale), sy = 1 + within(state, scale);
    const float skew = within(state, shear), dx = within(state, shift), dy = within(state, shift);
    const float a = std::cos(angle) * sx, b = skew - std::sin(angle) * sx;
    const float c = std::sin(angle) * sy, d = std::cos(angle) * sy;
    const float mx = static_cast<float>(width - 1) / 2, my = static_cast<float>(height - 1) / 2;
    float ex[25], ey[25];
    for (int k = 0; k < 25; k++) {
      ex[k] = within(state, elastic);
      ey[k] = within(state, elastic);
    }
    for (long r = 0; r < height; r++)
      for (long u = 0; u < width; u++) {
        const float x = static_cast<float>(u) - mx, y = static_cast<float>(r) - my;
        float px = a * x + b * y + mx + dx, py = c * x + d * y + my + dy;
        if (elastic > 0) {
          const float gx = static_cast<float>(u) * 4 / static_cast<float>(width);
          const float gy = static_cast<float>(r) * 4 / static_cast<float>(height);
          const int ix = static_cast<int>(gx), iy = static_cast<int>(gy), k = iy * 5 + ix;
          const float fx = gx - static_cast<float>(ix), fy = gy - static_cast<float>(iy);
          px += (ex[k] * (1 - fx) + ex[k + 1] * fx) * (1 - fy) + (ex[k + 5] * (1 - fx) + ex[k + 6] * fx) * fy;
          py += (ey[k] * (1 - fx) + ey[k + 1] * fx) * (1 - fy) + (ey[k + 5] * (1 - fx) + ey[k + 6] * fx) * fy;
        }
        px = std::min(static_cast<float>(width), std::max(-1.f, px)) + 2;
        py = std::min(static_cast<float>(height), std::max(-1.f, py)) + 2;
        const int ix = static_cast<int>(px), iy = static_cast<int>(py);
        const float fx = px - static_cast<float>(ix), fy = py - static_cast<float>(iy);
        for (long p = 0; p < planes; p++) {
          const uint8_t* at = &framed[(p * (height + 4) + iy) * pitch + ix];
          const float v = (at[0] * (1 - fx) + at[1] * fx) * (1 - fy)
                        + (at[pitch] * (1 - fx) + at[pitch + 1] * fx) * fy;
          to[(p * height + r) * width + u] = static_cast<uint8_t>(v + 0.5f);
        }
      }
  }
}

}  // extern "C"
