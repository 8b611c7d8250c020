# SPDX-License-Identifier: Apache-2.0
"""Small random networks of everything the engine runs, for the compiler's and the RTL's tests."""

import numpy as np

from hwflow.ir import Graph, GraphBuilder, IntType, Tensor
from hwflow.ops.argmax import ArgmaxAttrs
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.conv2d import Conv2dAttrs
from hwflow.ops.deform_dw import DeformDwAttrs
from hwflow.ops.dw import DwAttrs
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.pw import PwAttrs
from hwflow.ops.rearrange import RearrangeAttrs
from hwflow.ops.shuffle import ShuffleAttrs
from hwflow.ops.slice import SliceAttrs
from hwflow.ops.threshold import ThresholdAttrs
from hwflow.ops.upsample import UpsampleAttrs

U8, I8, U3 = IntType(8, False), IntType(8, True), IntType(3, False)
KINDS = ("plain", "stride", "deform", "deform_up", "up", "pool", "shuffle", "wide", "long")


def consts(
    rng: np.random.Generator, channels: int, shape: tuple[int, ...], top: int = 7
) -> dict[str, np.ndarray]:
    """Weights -top..top and a requantiser that keeps about half of the range."""
    fan_in = int(np.prod(shape))
    spread = max(0, int(np.log2(top * 128 * np.sqrt(fan_in) / 128)))
    return {
        "weight": rng.integers(-top, top + 1, (channels, *shape)).astype(np.int8),
        "bias": rng.integers(-(1 << (spread + 6)), 1 << (spread + 7), channels),
        "mul": np.ones(channels, np.int64),
        "shift": rng.integers(spread - 1, spread + 2, channels).astype(np.int8),
    }


def small_network(kind: str, seed: int) -> Graph:
    """A network of three to eight nodes around one feature of the engine (one of KINDS)."""
    rng = np.random.default_rng(seed)
    width = int(rng.choice([16, 32] if kind in ("stride", "pool") else [8, 16, 32, 48]))
    if kind in ("deform_up", "up"):
        width = int(rng.choice([8, 16, 32]))
    height = 4 * int(rng.integers(1, 5))
    ic, mid, oc = (int(n) for n in rng.choice([1, 3, 24, 25, 29], 3))
    if kind == "long":
        mid = int(rng.choice([511, 512, 513, 1030]))
        width, height = 8, 4
    b = GraphBuilder(f"{kind}-{seed}")
    image = b.input("image", (ic, height, width), U8)

    def pw(name: str, x: Tensor, channels: int, out: IntType, top: int = 7) -> Tensor:
        bits = 8 if top > 7 else 4
        return b.add(name, "pw", [x], PwAttrs(bits, 26, out),
                     consts(rng, channels, (x.shape[0],), top))  # fmt: skip

    def dw(name: str, x: Tensor, stride: int = 1) -> Tensor:
        return b.add(name, "dw", [x], DwAttrs(stride, 4, 24, I8), consts(rng, x.shape[0], (3, 3)))

    x = pw("first", image, mid, U8, 127 if kind == "wide" else 7)
    if kind == "plain":
        x = dw("dw", x)
    elif kind == "stride":
        x = dw("dw", x, 2)
    elif kind == "up":
        x = dw("dw", b.add("up", "upsample", [x], UpsampleAttrs(2)))
    elif kind in ("deform", "deform_up"):
        spread = consts(rng, 1, (mid,))
        spread["shift"] = np.array([int(np.log2(np.abs(spread["weight"]).sum() * 16 + 1))], np.int8)
        spread["bias"] = np.array([3 << int(spread["shift"][0])])
        s = b.add("scale", "pw", [x], PwAttrs(4, 26, U3), spread)
        if kind == "deform_up":
            x = b.add("up", "upsample", [x], UpsampleAttrs(2))
            s = b.add("scale.up", "upsample", [s], UpsampleAttrs(2))
        x = b.add("deform", "deform_dw", [x, s], DeformDwAttrs(4, 24, I8),
                  consts(rng, mid, (3, 3)))  # fmt: skip
    elif kind == "pool":
        x = b.add("pool", "maxpool", [x], MaxpoolAttrs())
    elif kind == "shuffle":
        y = pw("second", image, mid, U8)
        both = b.add("concat", "concat", [x, y], ConcatAttrs())
        mixed = b.add("shuffle", "shuffle", [both], ShuffleAttrs(2))
        x = b.add("slice", "slice", [mixed], SliceAttrs(mid // 2, 2 * mid))
    return b.build([pw("last", x, oc, I8)])


def random_mlp(seed: int) -> Graph:
    """A dense network of odd widths: activations of two to four levels with free scales, as limits
    of a requantiser or as thresholds, or eight bits by shifts; perhaps the image is quantised too.
    """
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"mlp-{seed}")
    shape = tuple(int(rng.choice(sides)) for sides in ([1, 2, 3], [1, 3, 5], [3, 7]))
    kind = (U8, I8, IntType(4, False), IntType(2, True))[int(rng.integers(4))]
    x = b.input("image", shape, kind)
    ends = (kind.lo, kind.hi)
    if rng.random() < 0.5:
        x, ends = _activation(b, "early", x, ends, rng, pixelwise=True)
    if rng.random() < 0.5:
        size = int(np.prod(shape))
        turned = (size, 1, 1)
        attrs = RearrangeAttrs(shape, (1, 2, 0) if rng.random() < 0.5 else (0, 1, 2), turned)
        x = b.add("flat", "rearrange", [x], attrs)
    for index in range(int(rng.integers(1, 4))):
        x, ends = _activation(b, f"dense{index}", x, ends, rng, int(rng.choice([2, 5, 13, 29])))
    weight = rng.integers(-1, 2, (5, *x.shape))
    reach = np.abs(weight).reshape(5, -1).sum(axis=1).max() * max(map(abs, ends))
    shift = max(0, int(reach).bit_length() - 7)
    scores = b.add("scores", "conv2d", [x], _whole(x, -128, 127, IntType(8, True), weight),
                   _free(weight, np.zeros(5), np.ones(5), np.full(5, shift)))  # fmt: skip
    if rng.random() < 0.3:
        return b.build([scores, b.add("class", "argmax", [scores], ArgmaxAttrs(bool(seed % 2)))])
    return b.build([scores])


def _activation(
    b: GraphBuilder, name: str, x: Tensor, ends: tuple[int, int], rng: np.random.Generator,
    out: int = 0, pixelwise: bool = False,
) -> tuple[Tensor, tuple[int, int]]:  # fmt: skip
    """A sum and its quantiser; the limits of what comes out."""
    top = int(rng.choice([1, 1, 3, 7]))
    channels = x.shape[0] if pixelwise else out
    shape = (channels, 1, 1, 1) if pixelwise else (channels, *x.shape)
    weight = rng.integers(-top, top + 1, shape)
    flat = weight.reshape(channels, -1)
    up, down = np.maximum(flat, 0).sum(axis=1), np.minimum(flat, 0).sum(axis=1)
    low, high = up * ends[0] + down * ends[1], up * ends[1] + down * ends[0]
    room = np.maximum(high - low, 1)
    middle = low + (rng.uniform(0.3, 0.7, channels) * room).astype(np.int64)
    spread = np.maximum(1, (room * rng.uniform(0.05, 0.4, channels)).astype(np.int64))
    levels = int(rng.choice([2, 3, 4]))
    least = int(rng.integers(-3, 2))
    attrs = _pixels if pixelwise else _whole
    how = str(rng.choice(["limits", "limits", "thresholds", "eight"]))
    if how == "thresholds":
        one = np.ones(channels)
        x = b.add(f"{name}.sum", "conv2d", [x],
                  attrs(x, -(1 << 23), (1 << 23) - 1, IntType(24, True), weight),
                  _free(weight, 0 * one, one, 0 * one))  # fmt: skip
        table = np.sort(rng.integers(low[:, None] - 1, high[:, None] + 2, (channels, levels - 1)))
        x = b.add(name, "threshold", [x], ThresholdAttrs(least, IntType(4, True)),
                  {"thresholds": table.astype(np.int64)})  # fmt: skip
        return x, (least, least + levels - 1)
    if how == "eight" and not pixelwise:
        shift = np.maximum(0, np.ceil(np.log2(room / 200))).astype(np.int64)
        x = b.add(name, "conv2d", [x], attrs(x, 0, 255, IntType(8, False), weight),
                  _free(weight, -middle, np.ones(channels), shift))  # fmt: skip
        return x, (0, 255)
    mul = rng.integers(1, 60, channels)
    shift = np.ceil(np.log2(spread * mul)).astype(np.int64)
    centre = (2 * least + levels - 1 << shift) >> 1
    bias = centre - middle * mul + rng.integers(0, 1 << 3, channels)
    x = b.add(name, "conv2d", [x],
              attrs(x, least, least + levels - 1, IntType(4, True), weight),
              _free(weight, bias, mul, shift))  # fmt: skip
    return x, (least, least + levels - 1)


def _free(
    weight: np.ndarray, bias: np.ndarray, mul: np.ndarray, shift: np.ndarray
) -> dict[str, np.ndarray]:
    return {
        "weight": weight.astype(np.int8), "bias": bias.astype(np.int64),
        "mul": mul.astype(np.int64), "shift": shift.astype(np.int8),
    }  # fmt: skip


def _whole(x: Tensor, lo: int, hi: int, out: IntType, weight: np.ndarray) -> Conv2dAttrs:
    kernel = (x.shape[1], x.shape[2])
    return Conv2dAttrs(kernel, (1, 1), (0,) * 4, (1, 1), 1, 0, 4, 30, lo, hi, out)


def _pixels(x: Tensor, lo: int, hi: int, out: IntType, weight: np.ndarray) -> Conv2dAttrs:
    return Conv2dAttrs((1, 1), (1, 1), (0,) * 4, (1, 1), x.shape[0], 0, 4, 30, lo, hi, out)
