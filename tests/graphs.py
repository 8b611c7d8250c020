# SPDX-License-Identifier: Apache-2.0
"""Sample integer graphs for tests: the whole CoDeNet with random weights, and small random nets."""

from collections.abc import Mapping

import numpy as np

from hwflow.ir import Graph, GraphBuilder, IntType, Tensor
from hwflow.ops import OPS
from hwflow.ops.arith import proven_acc_bits
from hwflow.ops.concat import ConcatAttrs
from hwflow.ops.conv import ConvAttrs
from hwflow.ops.deform_dw import DeformDwAttrs
from hwflow.ops.dw import DwAttrs
from hwflow.ops.maxpool import MaxpoolAttrs
from hwflow.ops.peaks import PeaksAttrs
from hwflow.ops.pw import PwAttrs
from hwflow.ops.shuffle import ShuffleAttrs
from hwflow.ops.slice import SliceAttrs
from hwflow.ops.upsample import UpsampleAttrs

U8, I8, U3, I32 = (IntType.parse(t) for t in ("u8", "i8", "u3", "i32"))
STAGES = {1: (58, 116, 232, 1024), 2: (122, 244, 488, 2153)}
UNITS = (4, 8, 4)
# config: (input side, width, layer 0 has stride 2 and a max pool behind it)
CONFIGS = {
    "a": (256, 1, False),
    "b": (256, 1, True),
    "c": (512, 1, False),
    "d": (512, 2, False),
    "e": (512, 2, True),
    "f": (512, 1, True),
    "g": (256, 2, True),
}


def random_image(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A smooth picture with noise, uint8 (3, H, W): neighbouring pixels are alike as in a photo."""
    rng = np.random.default_rng(seed)
    c, h, w = shape
    coarse = rng.uniform(0, 255, (c, (h + 15) // 16 + 1, (w + 15) // 16 + 1))
    smooth = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :h, :w]
    return np.clip(smooth + rng.normal(0, 25, shape), 0, 255).astype(np.uint8)


class CalibratedBuilder(GraphBuilder):
    """A builder that runs an image along, to choose shifts and biases that keep values alive."""

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name)
        self.rng = np.random.default_rng(seed)
        self.values: dict[str, np.ndarray] = {}

    def add(
        self,
        name: str,
        op: str,
        inputs: list[Tensor],
        attrs: object,
        consts: Mapping[str, np.ndarray] | None = None,
    ) -> Tensor:
        out = super().add(name, op, inputs, attrs, consts or {})
        arrays = tuple(self.values[x.name] for x in inputs)
        self.values[name] = OPS[op].golden(arrays, attrs, consts or {})
        return out

    def weights(self, shape: tuple[int, ...], bits: int) -> np.ndarray:
        """Narrow-range weights, bell-shaped, with both ends of the range used now and then."""
        limit = (1 << (bits - 1)) - 1
        drawn = np.rint(self.rng.normal(0, limit / 3, shape))
        return np.clip(drawn, -limit, limit).astype(np.int8)

    def conv(
        self,
        name: str,
        op: str,
        inputs: list[Tensor],
        shape: tuple[int, ...],
        out: IntType,
        bits: int = 4,
        **fields: int,
    ) -> Tensor:
        """A convolution of any kind whose outputs spread over the range of `out`."""
        weight = self.weights(shape, bits)
        oc = shape[0]
        one = np.ones(oc, dtype=np.int64)
        raw = {"weight": weight, "bias": 0 * one, "mul": one, "shift": np.zeros(oc, np.int8)}
        kind = OPS[op].attrs
        wide = kind(weight_bits=bits, acc_bits=32, out=I32, **fields)
        acc = OPS[op].golden(tuple(self.values[x.name] for x in inputs), wide, raw)
        acc = acc.reshape(oc, -1)
        mean, spread = acc.mean(axis=1), np.maximum(acc.std(axis=1), 1)
        if out.signed:
            target, centre = (out.hi + 1) / 4, 0.0
        elif out == U3:
            target, centre = 2.0, 3.5
        else:
            target, centre = (out.hi + 1) / 5, (out.hi + 1) / 8
        shift = np.rint(np.log2(spread / target)).astype(np.int64)
        wanted = (centre * np.exp2(shift) - mean) * (0.0 if out.signed else 1.0)
        jitter = self.rng.normal(0, 0.1, oc) * spread
        bias = np.rint(wanted + jitter).astype(np.int64)
        consts = {"weight": weight, "bias": bias, "mul": one, "shift": shift.astype(np.int8)}
        acc_bits = proven_acc_bits(weight, bias, one, inputs[0].dtype)
        attrs = kind(weight_bits=bits, acc_bits=acc_bits, out=out, **fields)
        return self.add(name, op, inputs, attrs, consts)

    def pw(self, name: str, x: Tensor, oc: int, out: IntType) -> Tensor:
        return self.conv(name, "pw", [x], (oc, x.shape[0]), out)

    def dw(self, name: str, x: Tensor, stride: int, out: IntType) -> Tensor:
        return self.conv(name, "dw", [x], (x.shape[0], 3, 3), out, stride=stride)

    def up(self, name: str, x: Tensor) -> Tensor:
        return self.add(name, "upsample", [x], UpsampleAttrs(2))


def random_codenet_graph(
    config: str, classes: int, seed: int, size: int | None = None, k: int = 100
) -> Graph:
    """CoDeNet of configuration a to g with random weights, lowered, with peaks.

    `size` replaces the configuration's input side (a multiple of 32). Requantisers are calibrated
    on one random image, so that activations neither saturate nor vanish and dilations spread.
    """
    side, width, pool = CONFIGS[config]
    side = size or side
    b = CalibratedBuilder(f"codenet-{config}", seed)
    x = b.input("image", (3, side, side), U8)
    b.values["image"] = random_image(x.shape, seed).astype(np.int64)
    b.meta.update({"scale.image": 2.0**-8})
    stride = 2 if pool else 4
    x = b.conv("layer0.conv", "conv", [x], (24, 3, 3, 3), U8, 8, kernel=3, stride=stride, pad=1)
    if pool:
        x = b.add("layer0.pool", "maxpool", [x], MaxpoolAttrs(3, 2, 1))
    *branches, last = STAGES[width]
    for stage, (half, units) in enumerate(zip(branches, UNITS, strict=True), 1):
        for unit in range(units):
            x = _unit(b, f"layer{stage}.{unit}", x, half, first=unit == 0)
    x = b.pw("layer4", x, last, U8)
    low = x
    for i, oc in enumerate((256, 128, 64)):
        s = b.pw(f"up{i}.scale", low, 1, U3)
        if i > 0:
            s = b.up(f"up{i}.scale.up", s)
        y = b.conv(f"up{i}.ddw", "deform_dw", [x, s], (x.shape[0], 3, 3), I8)
        low = b.pw(f"up{i}.pw", y, oc, U8)
        if i < 2:
            x = b.up(f"up{i}.up", low)
    heads = []
    for head, oc in (("hm", classes), ("wh", 2), ("reg", 2)):
        y = b.up(f"{head}.pw1.up", b.pw(f"{head}.pw1", low, 64, U8))
        y = b.pw(f"{head}.pw2", b.dw(f"{head}.dw", y, 1, U8), oc, I8)
        b.meta.update({f"output.{head}": y.name, f"scale.{head}": 2.0**-4})
        heads.append(y)
    peaks = b.add("peaks", "peaks", heads, PeaksAttrs(k))
    return b.build([*heads, peaks])


def _unit(b: CalibratedBuilder, name: str, x: Tensor, half: int, first: bool) -> Tensor:
    """One ShuffleNetV2 unit."""
    if first:
        left = b.pw(f"{name}.b1.pw", b.dw(f"{name}.b1.dw", x, 2, I8), half, U8)
        right = x
    else:
        left = b.add(f"{name}.split0", "slice", [x], SliceAttrs(0, half))
        right = b.add(f"{name}.split1", "slice", [x], SliceAttrs(half, 2 * half))
    y = b.pw(f"{name}.b2.pw1", right, half, U8)
    y = b.dw(f"{name}.b2.dw", y, 2 if first else 1, I8)
    y = b.pw(f"{name}.b2.pw2", y, half, U8)
    y = b.add(f"{name}.concat", "concat", [left, y], ConcatAttrs())
    return b.add(f"{name}.shuffle", "shuffle", [y], ShuffleAttrs(2))


def random_small_graph(seed: int, max_side: int = 13, max_channels: int = 19) -> Graph:
    """A chain of all ops with random legal shapes: odd, prime and single-pixel ones included."""
    rng = np.random.default_rng(seed)
    b = CalibratedBuilder(f"small-{seed}", seed)
    h, w = (int(n) for n in rng.integers(1, max_side + 1, 2))
    x = b.input("image", (int(rng.integers(1, 4)), h, w), U8)
    b.values["image"] = rng.integers(0, 256, x.shape)
    b.meta.update({"scale.image": 2.0**-8})
    oc = int(rng.integers(1, max_channels + 1))
    stride = int(rng.choice([1, 2, 4]))
    x = b.conv("first", "conv", [x], (oc, x.shape[0], 3, 3), U8, 8, kernel=3, stride=stride, pad=1)
    for step in range(int(rng.integers(2, 6))):
        x = _random_step(b, f"n{step}", x, max_channels)
    s = b.pw("scale", x, 1, U3)
    x = b.conv("ddw", "deform_dw", [x, s], (x.shape[0], 3, 3), I8)
    x = b.pw("last", x, int(rng.integers(1, max_channels + 1)), U8)
    heads = [b.pw(n, x, c, I8) for n, c in (("hm", int(rng.integers(1, 6))), ("wh", 2), ("reg", 2))]
    peaks = b.add("peaks", "peaks", heads, PeaksAttrs(int(rng.integers(1, 30))))
    return b.build([*heads, peaks])


def _random_step(b: CalibratedBuilder, name: str, x: Tensor, max_channels: int) -> Tensor:
    """One random op, or a split with concat and shuffle, behind x."""
    kind = str(b.rng.choice(["pw", "dw", "maxpool", "upsample", "split", "shuffle"]))
    out = U8 if b.rng.random() < 0.5 else I8
    if kind == "pw":
        return b.pw(name, x, int(b.rng.integers(1, max_channels + 1)), out)
    if kind == "dw":
        return b.dw(name, x, int(b.rng.integers(1, 3)), out)
    if kind == "maxpool":
        return b.add(name, "maxpool", [x], MaxpoolAttrs(3, 2, 1))
    if kind == "upsample" and max(x.shape[1:]) <= 16:
        return b.up(name, x)
    if kind == "split" and x.shape[0] > 1:
        cut = int(b.rng.integers(1, x.shape[0]))
        left = b.add(f"{name}.split0", "slice", [x], SliceAttrs(0, cut))
        right = b.add(f"{name}.split1", "slice", [x], SliceAttrs(cut, x.shape[0]))
        y = b.pw(f"{name}.pw", right, int(b.rng.integers(1, max_channels + 1)), x.dtype)
        return b.add(f"{name}.concat", "concat", [left, y], ConcatAttrs())
    groups = [g for g in range(1, x.shape[0] + 1) if x.shape[0] % g == 0]
    return b.add(name, "shuffle", [x], ShuffleAttrs(int(b.rng.choice(groups))))


__all__ = [
    "ConvAttrs",
    "DeformDwAttrs",
    "DwAttrs",
    "PwAttrs",
    "random_codenet_graph",
    "random_image",
    "random_small_graph",
]
