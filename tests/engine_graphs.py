# SPDX-License-Identifier: Apache-2.0
"""Small random networks of everything the engine runs, for the compiler's and the RTL's tests."""

import numpy as np

from hwflow.ir import Graph, GraphBuilder, IntType, Tensor
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.deform_dw import DeformDwAttrs
from hwflow.ops.dw import DwAttrs
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.pw import PwAttrs
from hwflow.ops.shuffle import ShuffleAttrs
from hwflow.ops.slice import SliceAttrs
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
