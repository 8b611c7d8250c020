# SPDX-License-Identifier: Apache-2.0
"""Codes between layers of lookup tables, their quantiser, and the encoders in front of them.

A code is an integer of a few bits times a fixed scale. Shapes: (B, C) for vectors, (B, C, H, W) for
maps; `...` below stands for the pixels of a map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from brevitas.nn import QuantIdentity
from brevitas.quant.fixed_point import Int8ActPerTensorFixedPoint, Uint8ActPerTensorFixedPoint
from brevitas.quant.scaled_int import Int8ActPerTensorFloat, Uint8ActPerTensorFloat
from torch import Tensor, nn

from hwflow.errors import ConfigError
from hwflow.models.layers import InwardClamp, plain

PIXEL_SCALE = 2.0**-8
SCALINGS = ("const", "power_of_two", "free")


@dataclass(frozen=True)
class Code:
    """The codes of a layer: `bits` wide, unsigned or two's complement."""

    bits: int
    signed: bool = False

    def __post_init__(self) -> None:
        least = 2 if self.signed else 1
        if not least <= self.bits <= 8:
            raise ConfigError(f"codes of {self.bits} bits: give {least} to 8")

    @property
    def lo(self) -> int:
        """The least code."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        """The greatest code."""
        return self.lo + (1 << self.bits) - 1


class CodeQuantiser(nn.Module):
    """Reals to codes times a scale, by a Brevitas activation quantiser, straight through.

    scaling: "const" (the scale stays what `scale` says), "power_of_two" or "free" (learned, from
    `scale` on). A constant one loses nothing behind a batch norm, which learns its gain.
    """

    def __init__(self, code: Code, scaling: str = "const", scale: float = 1.0) -> None:
        super().__init__()
        if scaling not in SCALINGS:
            raise ConfigError(f"scaling {scaling!r}: choose {', '.join(SCALINGS)}")
        if scale <= 0 or (scaling != "free" and math.frexp(scale)[0] != 0.5):
            raise ConfigError(f"scale {scale}: give a power of two, or scaling 'free'")
        free = scaling == "free"
        bases = {
            (False, False): Uint8ActPerTensorFixedPoint, (True, False): Int8ActPerTensorFixedPoint,
            (False, True): Uint8ActPerTensorFloat, (True, True): Int8ActPerTensorFloat,
        }  # fmt: skip
        steps = (1 << code.bits) >> code.signed  # Brevitas' scale is its threshold / steps
        top = scale * (steps - (free and not code.signed))
        if scaling == "power_of_two":
            top *= 2**-0.5  # the middle of what its ceiling takes to this exponent
        chosen = {
            "bit_width": code.bits,
            "scaling_impl_type": "const" if scaling == "const" else "parameter",
            "scaling_init": top,
            "tensor_clamp_impl": InwardClamp,
        }
        if free and code.signed:
            chosen["narrow_range"] = False
        quantiser = type("CodeQuant", (bases[code.signed, free],), chosen)
        self.code, self.scaling = code, scaling
        self.quant = QuantIdentity(act_quant=quantiser, return_quant_tensor=False)

    def scale(self) -> Tensor:
        """The real value of code 1, 0-dimensional."""
        return self.quant.act_quant.scale().reshape(())

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape -> codes times the scale."""
        return plain(self.quant(x))


def column(values: Tensor, like: Tensor) -> Tensor:
    """values (N,) beside a tensor (B, N, ...)."""
    return values.reshape(1, -1, *[1] * (like.dim() - 2))


class Straight(torch.autograd.Function):
    """The value is that of `used`, the gradient goes to `real`."""

    @staticmethod
    def forward(ctx: object, real: Tensor, used: Tensor) -> Tensor:
        return used.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class Compare(torch.autograd.Function):
    """x >= threshold as 0 or 1; its gradient is that of a ramp of width `width` (a tensor: one for
    each threshold)."""

    @staticmethod
    def forward(
        ctx: object, x: Tensor, threshold: Tensor, width: float | Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, threshold)
        ctx.width = width
        return (x >= threshold).to(x.dtype)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, threshold = ctx.saved_tensors
        slope = grad * ((x - threshold).abs() < ctx.width / 2) / ctx.width
        return slope, (-slope).sum_to_size(threshold.shape), None


class Thresholds(nn.Module):
    """The encoder: how many of its channel's thresholds a pixel reaches, per channel.

    thresholds (F, L): in pixels (0..256), L = 1 to 255 of them; rounded up to whole ones where
    they are used. `thermometer=False`: one code of ceil(log2(L + 1)) bits a channel, the count.
    `thermometer=True`: L channels of one bit for each, level by level: channel l * F + f is pixel f
    at its threshold l. `learn`: thresholds are trained, by a ramp of `width` pixels.
    """

    def __init__(
        self,
        thresholds: Tensor,
        thermometer: bool = False,
        learn: bool = False,
        width: float = 64.0,
    ) -> None:
        super().__init__()
        if thresholds.dim() != 2 or not 1 <= thresholds.shape[1] <= 255:
            raise ConfigError(f"thresholds {tuple(thresholds.shape)}: give (channels, 1 to 255)")
        self.thresholds = nn.Parameter(thresholds.float(), requires_grad=learn)
        self.thermometer, self.width = thermometer, width
        self.fixed: Tensor | None = None
        levels = thresholds.shape[1]
        self.code = Code(1 if thermometer else levels.bit_length())
        self.quant = CodeQuantiser(self.code)

    @property
    def channels(self) -> int:
        """Channels of the output."""
        count, levels = self.thresholds.shape
        return int(count * levels) if self.thermometer else int(count)

    def scale(self) -> Tensor:
        """The real value of code 1."""
        return self.quant.scale()

    def whole(self) -> Tensor:
        """The thresholds as they act: whole pixels, rising within a channel, int64 (F, L)."""
        rounded = self.thresholds.detach().ceil().clamp(0, 256)
        return rounded.sort(dim=1).values.long()

    def freeze(self) -> None:
        """Turn the thresholds into constants, for the export."""
        self.fixed = self.whole().float() * PIXEL_SCALE

    def forward(self, x: Tensor) -> Tensor:
        """x (B, F, ...) of pixel / 256 -> codes (B, F or L * F, ...)."""
        if self.fixed is not None:
            bits = [(x >= column(at, x)).to(x.dtype) for at in self.fixed.T]
        elif torch.is_grad_enabled():
            ordered = self.thresholds.sort(dim=1).values
            ordered = Straight.apply(ordered, self.whole().to(x.dtype)) * PIXEL_SCALE
            width = self.width * PIXEL_SCALE
            bits = [Compare.apply(x, column(at, x), width) for at in ordered.T]
        else:
            ordered = self.whole().to(x.dtype) * PIXEL_SCALE
            bits = [(x >= column(at, x)).to(x.dtype) for at in ordered.T]
        if self.thermometer:
            return torch.cat([self.quant(bit) for bit in bits], dim=1)
        total = bits[0]
        for bit in bits[1:]:
            total = total + bit
        return self.quant(total)


class LinearCodes(nn.Module):
    """The linear encoder in training: a uniform quantiser of `bits` bits, whose bits are channels.

    low, high (F,), or (1,) for all elements together: the range, in pixels (0..256), that is parted
    into 2**bits steps; thresholds are multiples of `grid`. Channel f * bits + b is bit b of the
    step that pixel f is in; pixels outside of the range are in the first or the last one. `learn`:
    the range is trained: a bit changes at thresholds, up at some and down at others, and each
    passes on the gradient of a ramp as wide as a step.
    """

    def __init__(
        self, low: Tensor, high: Tensor, bits: int, features: int, learn: bool = False,
        grid: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 1 <= bits <= 8 or low.shape != high.shape or low.shape not in ((1,), (features,)):
            raise ConfigError(f"a linear encoder of {bits} bits over ranges {tuple(low.shape)}: "
                              f"give 1 to 8 bits, and one range or {features}")
        if not bool((low < high).all()):
            raise ConfigError("a linear encoder over an empty range: give low < high")
        self.low = nn.Parameter(low.float(), requires_grad=learn)
        self.high = nn.Parameter(high.float(), requires_grad=learn)
        self.bits, self.features, self.grid = bits, features, grid
        codes = torch.arange(1 << bits)[:, None] >> torch.arange(bits) & 1
        self.register_buffer("turns", codes.diff(dim=0).float(), persistent=False)  # (L, bits)
        self.code = Code(1)
        self.quant = CodeQuantiser(self.code)

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return self.features * self.bits

    def scale(self) -> Tensor:
        """The real value of code 1."""
        return self.quant.scale()

    def real(self) -> Tensor:
        """The thresholds as they are trained, in pixels, rising: (F or 1, 2**bits - 1)."""
        steps = 1 << self.bits
        places = torch.arange(1, steps, device=self.low.device) / steps
        # a range that training turned around is the same range
        first, last = torch.minimum(self.low, self.high), torch.maximum(self.low, self.high)
        return first[:, None] + places * (last - first)[:, None]

    def whole(self) -> Tensor:
        """The thresholds as they act: whole pixels, int64 (F, 2**bits - 1)."""
        rounded = self.grid * (self.real().detach() / self.grid).ceil()
        return rounded.clamp(0, 256).long().expand(self.features, -1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, F) of pixel / 256 -> bits (B, F * bits)."""
        at = self.whole().to(x.dtype)
        if torch.is_grad_enabled() and self.low.requires_grad:
            at = Straight.apply(self.real().expand(self.features, -1), at)
        at = at * PIXEL_SCALE
        width = ((self.high - self.low).detach().abs() / (1 << self.bits)).clamp(min=1)
        total = torch.zeros(*x.shape, self.bits, dtype=x.dtype, device=x.device)
        for threshold, turn in zip(at.T, self.turns, strict=True):
            total = total + Compare.apply(x, threshold[None], width * PIXEL_SCALE)[..., None] * turn
        return self.quant(total.flatten(1))
