// SPDX-License-Identifier: Apache-2.0
// The descriptor of one layer: 48 words of the program memory. The emitter writes them by name
// and the generated net.cpp asserts that both sides agree on every place.
#pragma once

#include <cstdint>

namespace hwflow {

enum Opcode : std::int32_t {
  CONV = 1,
  PW = 2,
  DW = 3,
  DEFORM_DW = 4,
  MAXPOOL = 5,
  MOVE = 6,
  PEAKS = 7,
  CONV2D = 8,
  MAXPOOL2D = 9,
  RESIDUAL = 10,
  THRESHOLD = 11,
  ARGMAX = 12,
  GATHER = 13,
  TABLES = 14,
  GROUP_SUM = 15
};

constexpr int LAYER_WORDS = 48;

struct Layer {
  std::int32_t op;
  std::int32_t in_map;       // parameter word of the channel map of input 0
  std::int32_t in_c;
  std::int32_t in_h;         // size as the layer sees it, after `in_up`
  std::int32_t in_w;
  std::int32_t in_up;        // input 0 is enlarged 2^in_up times while it is read
  std::int32_t in_signed;
  std::int32_t map1;         // maps of inputs 1 and 2 (dilations; size and offset of peaks)
  std::int32_t up1;
  std::int32_t signed1;
  std::int32_t map2;
  std::int32_t up2;
  std::int32_t signed2;
  std::int32_t out;          // activation word of the output; its planes follow one another
  std::int32_t out_c;
  std::int32_t out_h;
  std::int32_t out_w;
  std::int32_t lo;           // the output is clamped to lo..hi
  std::int32_t hi;
  std::int32_t weights;      // parameter words: weights, then mul, bias and shift
  std::int32_t quant;
  std::int32_t weight_bits;  // 4 or 8 in memory
  std::int32_t kernel;
  std::int32_t stride;
  std::int32_t pad;
  std::int32_t tile;         // words of a plane (pw), of a row (conv) or output rows at a time
  std::int32_t k;            // candidates of peaks; address bits of tables; threshold
  std::int32_t groups;
  std::int32_t kernel_w;     // of windows that are no squares: the other numbers are those of rows
  std::int32_t stride_w;
  std::int32_t pad_left;
  std::int32_t dilation;
  std::int32_t dilation_w;
  std::int32_t pad_value;    // what lies outside the map
  std::int32_t in_bytes;     // of a number of input 0, input 1 and the output
  std::int32_t bytes1;
  std::int32_t out_bytes;
  std::int32_t coef0;        // factors of residual
  std::int32_t coef1;
  std::int32_t last;         // of equals, argmax takes the last
  std::int32_t reserved[8];
};

static_assert(sizeof(Layer) == 4 * LAYER_WORDS, "a layer is 48 words");

inline Layer read_layer(const std::int32_t* program, int index) {
#pragma HLS INLINE off
  std::int32_t w[LAYER_WORDS];
#pragma HLS ARRAY_PARTITION variable = w complete
read_layer_loop:
  for (int i = 0; i < LAYER_WORDS; i++) {
#pragma HLS PIPELINE II = 1
    w[i] = program[index * LAYER_WORDS + i];
  }
  return Layer{w[0],  w[1],  w[2],  w[3],  w[4],  w[5],  w[6],  w[7],  w[8],
               w[9],  w[10], w[11], w[12], w[13], w[14], w[15], w[16], w[17],
               w[18], w[19], w[20], w[21], w[22], w[23], w[24], w[25], w[26],
               w[27], w[28], w[29], w[30], w[31], w[32], w[33], w[34], w[35],
               w[36], w[37], w[38], w[39],
               {w[40], w[41], w[42], w[43], w[44], w[45], w[46], w[47]}};
}

}  // namespace hwflow
