// SPDX-License-Identifier: Apache-2.0
// The layer engine: reads descriptors from the program memory and runs the kernel of each. E holds
// the sizes of the on-chip buffers and the widths of the arithmetic (see net.cpp).
#pragma once

#include "argmax.hpp"
#include "conv.hpp"
#include "conv2d.hpp"
#include "deform_dw.hpp"
#include "dw.hpp"
#include "gather.hpp"
#include "group_sum.hpp"
#include "layer.hpp"
#include "maxpool.hpp"
#include "maxpool2d.hpp"
#include "move.hpp"
#include "peaks.hpp"
#include "pw.hpp"
#include "residual.hpp"
#include "tables.hpp"
#include "threshold.hpp"

namespace hwflow {

// Runs layers first ... first + count - 1. Returns 0, or 1 + the index of a layer of unknown op.
template <class E>
int run_layers(const std::int32_t* program, const word_t* params, word_t* acts, int first,
               int count) {
#pragma HLS INLINE
  static_assert(E::WEIGHT_BITS <= 8 && E::ACC_BITS <= 64 && E::SUM_BITS <= 64,
                "weights are stored in bytes, sums in 64 bits");
  std::uint32_t map[E::MAC_DEPTH];
  word_t in[E::IN_WORDS];
  ap_int<E::WEIGHT_BITS> weight[E::MAC_DEPTH][OC_PAR];
#pragma HLS ARRAY_PARTITION variable = weight complete dim = 2
  word_t band[BANKS][E::BAND_DEPTH];
#pragma HLS ARRAY_PARTITION variable = band complete dim = 1
  word_t plane[OC_PAR][E::PLANE_WORDS];
#pragma HLS ARRAY_PARTITION variable = plane complete dim = 1
  word_t dilation[E::PLANE_WORDS];
  word_t out[OC_PAR][E::OUT_WORDS];
#pragma HLS ARRAY_PARTITION variable = out complete dim = 1
  int status = 0;
run_layers_loop:
  for (int index = first; index < first + count; index++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 128
    const Layer layer = read_layer(program, index);
    load_map<E>(params, layer.in_map, layer.in_c * layer.in_bytes, map);
    switch (layer.op) {
      case CONV:
        conv<E>(params, acts, layer, map, band, in, weight, out);
        break;
      case PW:
        pw<E>(params, acts, layer, map, in, weight, out);
        break;
      case DW:
        dw<E>(params, acts, layer, map, band);
        break;
      case DEFORM_DW:
        deform_dw<E>(params, acts, layer, map, plane, dilation, out);
        break;
      case MAXPOOL:
        maxpool<E>(params, acts, layer, map, band);
        break;
      case MOVE:
        move<E>(acts, layer, map, band);
        break;
      case PEAKS:
        peaks<E>(params, acts, layer, map, band);
        break;
      case CONV2D:
        conv2d<E>(params, acts, layer, map, band, in, weight, out);
        break;
      case MAXPOOL2D:
        maxpool2d<E>(acts, layer, map, band);
        break;
      case RESIDUAL:
        residual<E>(params, acts, layer);
        break;
      case THRESHOLD:
        threshold<E>(params, acts, layer);
        break;
      case ARGMAX:
        argmax<E>(params, acts, layer);
        break;
      case GATHER:
        gather<E>(params, acts, layer);
        break;
      case TABLES:
        tables<E>(params, acts, layer);
        break;
      case GROUP_SUM:
        group_sum<E>(params, acts, layer);
        break;
      default:
        if (status == 0) status = index + 1;
        break;
    }
  }
  return status;
}

}  // namespace hwflow
