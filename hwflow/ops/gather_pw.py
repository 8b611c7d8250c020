# SPDX-License-Identifier: Apache-2.0
"""gather_pw: a 1x1 convolution of which every output word picks the words that it is made of.

The words of the inputs, (C, H, W) as C * H words of W values, count through all inputs. With n the
number of an output word and v = variant[n]:
acc[o, n] = sum over t of weight[v, o, t] * word[index[t, n]], where index -1 reads zeros; then
out = clamp(round_half_even((acc + bias[v, o]) / 2**shift[o])). A network whose words are the same
value of several images (passes/engine_form.py) is made of these alone.
"""

from dataclasses import dataclass

import numpy as np

from hwflow.ops.arith import check_conv, requantise
from hwflow.ops.types import Arrays, Consts, IntType, Op, Tensor, int_type, need

ROLES = ("index", "weight", "variant", "bias", "shift")
MOST_VALUES = 1 << 22  # gathered at a time


@dataclass(frozen=True)
class GatherPwAttrs:
    """Widths of weights, accumulator and output; output words that lie together in memory; and
    products that are not with a weight of 0 or a word of zeros, for each value of a word."""

    weight_bits: int
    acc_bits: int
    out: IntType
    block: int
    products: int


def infer(tensors: tuple[Tensor, ...], attrs: GatherPwAttrs, consts: Consts) -> Tensor:
    """(C0, H0, W), (C1, H1, W), ... -> (OC, N, W)."""
    need(len(tensors) >= 1, "takes at least one input")
    first = tensors[0]
    for x in tensors:
        need(len(x.shape) == 3, f"input shape {x.shape} is not (C, H, W)")
        need(x.shape[2] == first.shape[2], f"inputs differ in width: {first.shape}, {x.shape}")
        need(x.dtype == first.dtype, f"inputs differ in type: {first.dtype}, {x.dtype}")
    need(set(consts) == set(ROLES), f"constants are {sorted(consts)}, not {sorted(ROLES)}")
    weight, index, variant = consts["weight"], consts["index"], consts["variant"]
    need(weight.ndim == 3 and weight.size > 0, "weight is not (variants, OC, taps)")
    variants, channels, taps = weight.shape
    need(index.dtype == np.int32 and index.ndim == 2 and index.shape[0] == taps and index.size > 0,
         "index is not int32 (taps, words)")  # fmt: skip
    words = sum(x.shape[0] * x.shape[1] for x in tensors)
    need(int(index.min()) >= -1 and int(index.max()) < words, f"index leaves -1..{words - 1}")
    size = index.shape[1]
    need(variant.dtype == np.int32 and variant.shape == (size,), "variant is not int32 (words,)")
    need(int(variant.min()) >= 0 and int(variant.max()) < variants,
         f"variant leaves 0..{variants - 1}")  # fmt: skip
    need(consts["bias"].shape == (variants, channels), "bias is not (variants, OC)")
    need(consts["shift"].shape == (channels,), "shift is not one a channel")
    need(1 <= attrs.block <= size, f"block {attrs.block} leaves 1..{size}")
    every = _flat(consts)
    check_conv(every, (variants * channels, taps), int_type(first), attrs.weight_bits,
               attrs.acc_bits)  # fmt: skip
    return Tensor("", (channels, size, first.shape[2]), attrs.out)


def _flat(consts: Consts) -> dict[str, np.ndarray]:
    """The variants as channels of one 1x1 convolution."""
    variants, channels, taps = consts["weight"].shape
    return {
        "weight": consts["weight"].reshape(variants * channels, taps),
        "bias": consts["bias"].reshape(-1),
        "mul": np.ones(variants * channels, np.int64),
        "shift": np.tile(consts["shift"], variants),
    }


def golden(arrays: Arrays, attrs: GatherPwAttrs, consts: Consts) -> np.ndarray:
    """One frame; exact in float64 because acc_bits <= 32."""
    width = arrays[0].shape[2]
    words = np.concatenate([a.reshape(-1, width) for a in arrays] + [np.zeros((1, width))])
    words = words.astype(np.float64)
    weight, index = consts["weight"].astype(np.float64), consts["index"]
    _, channels, taps = weight.shape
    out = np.zeros((channels, index.shape[1], width), np.int64)
    some = max(1, MOST_VALUES // (taps * width))
    for v in range(len(weight)):
        where = np.flatnonzero(consts["variant"] == v)
        scales = {"mul": np.ones(channels, np.int64), "bias": consts["bias"][v],
                  "shift": consts["shift"]}  # fmt: skip
        for at in range(0, len(where), some):
            part = where[at : at + some]
            acc = weight[v] @ words[index[:, part]].reshape(taps, -1)
            acc = acc.reshape(channels, len(part), width)
            out[:, part] = requantise(acc, scales, attrs.out, attrs.acc_bits)
    return out


def macs(inputs: tuple[Tensor, ...], output: Tensor, attrs: GatherPwAttrs) -> int:
    """Products of all values of a word."""
    return attrs.products * int(output.shape[2])


OP = Op("gather_pw", GatherPwAttrs, infer, golden, macs, "integer")
