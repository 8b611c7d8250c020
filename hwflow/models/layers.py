# SPDX-License-Identifier: Apache-2.0
"""Quantisers, convolution units and deformable depthwise operators of the torch half.

Every scale is a power of two, so that float32 carries the integers of the hardware exactly.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from brevitas.nn import QuantConv2d, QuantIdentity, QuantReLU
from brevitas.quant import Int32Bias
from brevitas.quant.fixed_point import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerChannelFixedPoint,
    Uint8ActPerTensorFixedPoint,
)
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn

from hwflow.errors import ConfigError

MAX_DILATION = 7
ANCHORS = tuple((i - 1, j - 1) for i in range(3) for j in range(3))
"""Tap positions (row, column) of a 3x3 kernel, row-major."""


class InwardClamp(nn.Module):
    """Clamp whose gradient also passes outside the range when it points back into it."""

    def __init__(self) -> None:  # Brevitas' injector wants an explicit signature
        super().__init__()

    def forward(self, x: Tensor, min_val: Tensor, max_val: Tensor) -> Tensor:
        """Clamp x; min_val and max_val are scalars (tensors)."""
        return _InwardClamp.apply(x, min_val, max_val)


class _InwardClamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor, min_val: Tensor, max_val: Tensor) -> Tensor:
        ctx.save_for_backward((x > max_val).to(torch.int8) - (x < min_val).to(torch.int8))
        return torch.minimum(torch.maximum(x, min_val), max_val)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None, None]:
        (side,) = ctx.saved_tensors
        # Descent moves x against grad: above the range only grad > 0 leads back, below grad < 0.
        keep = (side == 0) | (side.to(grad.dtype) * grad > 0)
        return grad * keep, None, None


class _RoundSte(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad


class BestThreshold(nn.Module):
    """Per channel the power-of-two threshold of least squared error, from three candidates.

    With seven levels the ceiling of the largest weight wastes up to a bit; clipping it costs less.
    """

    def __init__(self, bit_width: int) -> None:
        super().__init__()
        self.steps = 2 ** (bit_width - 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (channels, weights) -> thresholds (channels,), 2**(exponent - 1/2) before the ceiling.

        No gradient flows to the scale; the clamp is straight through.
        """
        x = x.detach()
        peak = x.abs().amax(1).clamp_min(2.0**-40)
        exponents = torch.ceil(torch.log2(peak)) - torch.arange(3, device=x.device).view(3, 1)
        scale = (2.0**exponents / self.steps).unsqueeze(2)
        quantised = torch.clamp(torch.round(x / scale), 1 - self.steps, self.steps - 1) * scale
        best = (quantised - x).square().sum(2).argmin(0)
        return 2.0 ** (exponents.gather(0, best.unsqueeze(0)).squeeze(0) - 0.5)


class W4(Int8WeightPerChannelFixedPoint):
    """int4 weights, narrow (-7..7), one power-of-two scale per output channel."""

    bit_width = 4
    scaling_stats_impl = BestThreshold
    # Without a floor an all-zero channel gets scale 2**-36 and its Int32 bias saturates.
    scaling_min_val = 2.0**-6


class W8(Int8WeightPerChannelFixedPoint):
    """int8 weights, narrow, for the first layer."""

    bit_width = 8
    scaling_min_val = 2.0**-6


class U8(Uint8ActPerTensorFixedPoint):
    """uint8 activations; the exponent is a parameter that `calibrate` sets."""

    scaling_impl_type = "parameter"
    scaling_init = 4.0
    scaling_min_val = 2.0**-8


class I8(Int8ActPerTensorFixedPoint):
    """int8 activations; the exponent is a parameter that `calibrate` sets."""

    scaling_impl_type = "parameter"
    scaling_init = 4.0
    scaling_min_val = 2.0**-8


class InQ(Uint8ActPerTensorFixedPoint):
    """The image: scale 2**-8, so that pixel / 256 becomes the pixel."""

    scaling_impl_type = "const"
    scaling_init = 1.0


class DilQ(Uint8ActPerTensorFixedPoint):
    """The dilation: uint3 of scale 1, clamp(round(x), 0, 7)."""

    bit_width = 3
    scaling_impl_type = "const"
    scaling_init = 8.0
    tensor_clamp_impl = InwardClamp


def plain(x: Tensor) -> Tensor:
    """The values of a QuantTensor, or x itself; the export passes plain tensors everywhere."""
    return x.value if hasattr(x, "value") else x


class Dilation(nn.Module):
    """clamp(round_half_even(x), 0, 7), straight through the rounding: DilQ of the float phase."""

    def __init__(self) -> None:
        super().__init__()
        self.clamp = InwardClamp()

    def forward(self, x: Tensor) -> Tensor:
        """x (N, 1, H, W) -> integers 0..7 as floats."""
        zero = x.new_zeros(())
        return self.clamp(_RoundSte.apply(x), zero, zero + MAX_DILATION)


class _Quantise(torch.autograd.Function):
    """Brevitas' ReLU, division, rounding, clamp and product as one node: half the memory traffic.

    Gradients as Brevitas': straight through the rounding, none outside the range, learned scale.
    """

    @staticmethod
    def forward(
        ctx: object, x: Tensor, scale: Tensor, low: int, high: int, relu: bool
    ) -> Tensor:
        steps = x / scale
        integers = torch.round(steps)
        inside = integers <= high
        inside &= (x > 0) if relu else (integers >= low)
        integers.clamp_(0 if relu else low, high)
        steps.mul_(inside).neg_().add_(integers)
        ctx.save_for_backward(inside, steps)
        ctx.scale_shape = scale.shape
        return integers.mul_(scale)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        inside, slope = ctx.saved_tensors
        grad_scale = torch.dot(grad.reshape(-1).to(slope.dtype), slope.reshape(-1))
        return grad * inside, grad_scale.view(ctx.scale_shape), None, None, None


class QuantAct(nn.Module):
    """An activation quantiser of learned power-of-two scale; it can choose the scale from data.

    While `observe` is on, the quantiser widens to what it sees and sums the squared error each
    candidate exponent would make; `settle` then takes the best one.
    """

    def __init__(self, signed: bool, relu: bool) -> None:
        super().__init__()
        if relu:
            self.quant = QuantReLU(act_quant=U8, return_quant_tensor=True)
        else:
            self.quant = QuantIdentity(act_quant=I8 if signed else U8, return_quant_tensor=True)
        self.signed = signed
        self.relu = relu
        self.observe = False
        self.errors: Tensor | None = None

    EXPONENTS = tuple(range(-6, 11))
    """Candidate exponents of the threshold (2**8 or, signed, 2**7 steps)."""

    def exponent_parameter(self) -> nn.Parameter:
        """The learned log2 of the threshold; the quantiser uses its ceiling."""
        return self.quant.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value

    def set_exponent(self, exponent: float) -> None:
        """Set the threshold to 2**exponent, in the middle of the ceiling's interval."""
        with torch.no_grad():
            self.exponent_parameter().fill_(exponent - 0.5)

    def start(self) -> None:
        """Begin observing."""
        self.observe = True
        self.errors = None
        self.set_exponent(self.EXPONENTS[0])

    def settle(self) -> None:
        """End observing: take the exponent of least squared error."""
        self.observe = False
        if self.errors is not None:
            self.set_exponent(self.EXPONENTS[int(self.errors.argmin())])
        self.errors = None

    def _watch(self, x: Tensor) -> None:
        x = F.relu(x) if self.relu else x
        top = float(x.abs().max())
        need = math.ceil(math.log2(top)) if top > 0 else self.EXPONENTS[0]
        now = math.ceil(float(self.exponent_parameter()))
        self.set_exponent(min(max(need, now), self.EXPONENTS[-1]))
        steps, low, high = (128, -128, 127) if self.signed else (256, 0, 255)
        errors = []
        for exponent in self.EXPONENTS:
            scale = 2.0**exponent / steps
            quantised = torch.clamp(torch.round(x / scale), low, high) * scale
            errors.append((quantised - x).square().sum())
        total = torch.stack(errors).double()
        self.errors = total if self.errors is None else self.errors + total

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape -> its quantised values (a QuantTensor outside the export)."""
        if self.observe:
            with torch.no_grad():
                self._watch(plain(x).detach())
        if self.quant.act_quant.export_mode:
            return self.quant(x)
        x = plain(x)
        bits = 8
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if self.signed else (0, 2**bits - 1)
        tensor_quant = self.quant.act_quant.fused_activation_quant_proxy.tensor_quant
        scale = tensor_quant.scaling_impl(x).view(()) / (high + 1)
        values = _Quantise.apply(x, scale, low, high, self.relu)
        return IntQuantTensor(
            values, scale, x.new_zeros(()), x.new_full((), bits), self.signed, self.training
        )


class ConvUnit(nn.Module):
    """Convolution, batch norm and activation that can fold and quantise themselves.

    act: "u8" (ReLU, uint8), "i8" (no ReLU, int8), "dilation" (uint3 of scale 1) or None (the
    caller gives a shared activation to `forward`).
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        *,
        bn: bool = True,
        act: str | None = "u8",
        weight_bits: int = 4,
    ) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv2d(
            cin, cout, kernel, stride, kernel // 2, groups=groups, bias=not bn
        )
        self.bn: nn.Module = nn.BatchNorm2d(cout) if bn else nn.Identity()
        self.act: nn.Module | None = float_act(act) if act else None
        self.kind = act
        self.weight_bits = weight_bits

    def quantise(self) -> None:
        """Fold the batch norm and replace convolution and activation by quantised ones."""
        self.conv = quantise_conv(self.conv, self.bn, self.weight_bits)
        self.bn = nn.Identity()
        if self.kind:
            self.act = quant_act(self.kind)
            self.act.to(self.conv.weight.device)

    def forward(self, x: Tensor, act: nn.Module | None = None) -> Tensor:
        """x (N, cin, H, W) -> (N, cout, H', W'); act replaces the unit's own activation."""
        act = act if act is not None else self.act
        return act(self.bn(self.conv(x)))


def float_act(kind: str) -> nn.Module:
    """The float-phase activation of a kind (see ConvUnit)."""
    return {"u8": nn.ReLU, "i8": nn.Identity, "dilation": Dilation}[kind]()


def quant_act(kind: str) -> nn.Module:
    """The quantised activation of a kind (see ConvUnit)."""
    if kind == "dilation":
        return QuantIdentity(act_quant=DilQ, return_quant_tensor=True)
    return QuantAct(signed=kind == "i8", relu=kind == "u8")


def quantise_conv(conv: nn.Conv2d, bn: nn.Module, weight_bits: int) -> QuantConv2d:
    """conv followed by bn (frozen statistics) as one quantised convolution with an Int32 bias."""
    weight = conv.weight.detach()
    bias = conv.bias.detach() if conv.bias is not None else None
    if isinstance(bn, nn.BatchNorm2d):
        factor = bn.weight.detach() / torch.sqrt(bn.running_var + bn.eps)
        weight = weight * factor[:, None, None, None]
        bias = bn.bias.detach() + ((0 if bias is None else bias) - bn.running_mean) * factor
    out = QuantConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        groups=conv.groups,
        bias=bias is not None,
        weight_quant=W8 if weight_bits == 8 else W4,
        bias_quant=Int32Bias if bias is not None else None,
        return_quant_tensor=True,
    )
    with torch.no_grad():
        out.weight.copy_(weight)
        if bias is not None:
            out.bias.copy_(bias)
    return out.to(weight.device)


class _Taps:
    """The pixels of a map as rows of channels, and which row each tap reads.

    A last row of zeros stands for everything outside the map.
    """

    def __init__(self, x: Tensor, dilation: Tensor) -> None:
        n, c, h, w = x.shape
        self.shape = (n, h, w, c)
        self.rows = x.new_zeros(n * h * w + 1, c)
        self.rows[:-1].view(n, h, w, c).copy_(x.permute(0, 2, 3, 1))
        self.dilation = dilation.view(n, h, w).long()
        device = x.device
        self.first = torch.arange(n, device=device).view(n, 1, 1) * (h * w)
        self.y = torch.arange(h, device=device).view(1, h, 1)
        self.x = torch.arange(w, device=device).view(1, 1, w)

    def index(self, anchor: tuple[int, int], step: int = 0) -> Tensor:
        """Row numbers (N*H*W,) of the tap at this anchor, at dilation + step."""
        n, h, w, _ = self.shape
        s = self.dilation + step if step else self.dilation
        y, x = self.y + anchor[0] * s, self.x + anchor[1] * s
        outside = (y < 0) | (y >= h) | (x < 0) | (x >= w)
        return (self.first + y * w + x).masked_fill_(outside, n * h * w).view(-1)

    def gather(self, anchor: tuple[int, int], step: int = 0) -> Tensor:
        """Values (N*H*W, C) of the tap at this anchor, at dilation + step."""
        return self.rows.index_select(0, self.index(anchor, step))


def _to_rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _from_rows(rows: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    return rows.view(shape).permute(0, 3, 1, 2).contiguous()


@torch.library.custom_op("hwflow::deform_dw", mutates_args=())
def deform_dw(x: Tensor, weight: Tensor, dilation: Tensor) -> Tensor:
    """Depthwise 3x3 convolution with one integer dilation 0..7 per output pixel.

    x (N, C, H, W), weight (C, 1, 3, 3), dilation (N, 1, H, W) of integers 0..7 as floats; tap
    (i, j) of output (y, x) reads (y + (i-1)*s, x + (j-1)*s), zero outside the map.
    """
    taps = _Taps(x, dilation)
    weights = weight.reshape(-1, 9).t().contiguous()
    out = _to_rows(x) * weights[4]
    for k, anchor in enumerate(ANCHORS):
        if anchor != (0, 0):
            out.addcmul_(taps.gather(anchor), weights[k])
    return _from_rows(out, taps.shape)


@deform_dw.register_fake
def _(x: Tensor, weight: Tensor, dilation: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _deform_dw_setup(ctx: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _deform_dw_backward(ctx: object, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients; that of the dilation is the central difference of the gathered taps.

    d out / d s ~ sum over taps of weight * (x at dilation s+1 - x at dilation s-1) / 2.
    """
    x, weight, dilation = ctx.saved_tensors
    n, _, h, w = x.shape
    taps = _Taps(x, dilation)
    weights = weight.reshape(-1, 9).t().contiguous()
    g = _to_rows(grad)
    grad_weights = torch.empty_like(weights)
    grad_rows = torch.zeros_like(taps.rows)
    grad_s = torch.zeros_like(g)
    for k, anchor in enumerate(ANCHORS):
        index = taps.index(anchor)
        grad_weights[k] = (taps.rows.index_select(0, index) * g).sum(0)
        grad_rows.index_add_(0, index, g * weights[k])
        if anchor != (0, 0):
            grad_s.addcmul_(taps.gather(anchor, 1) - taps.gather(anchor, -1), weights[k])
    return (
        _from_rows(grad_rows[:-1], taps.shape),
        grad_weights.t().reshape(weight.shape),
        (grad_s.mul_(g).sum(1) / 2).view(n, 1, h, w),
    )


deform_dw.register_autograd(_deform_dw_backward, setup_context=_deform_dw_setup)
deform_dw.register_autocast("cpu", torch.float32)
deform_dw.register_autocast("cuda", torch.float32)


class DeformDw(nn.Module):
    """The deformable depthwise layer: no bias, no batch norm, int8 output when quantised."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv2d(
            channels, channels, 3, padding=1, groups=channels, bias=False
        )
        self.act: nn.Module = nn.Identity()

    def quantise(self) -> None:
        """Replace weights and activation by quantised ones."""
        self.conv = quantise_conv(self.conv, nn.Identity(), 4)
        self.act = quant_act("i8").to(self.conv.weight.device)

    def forward(self, x: Tensor, dilation: Tensor) -> Tensor:
        """x (N, C, H, W), dilation (N, 1, H, W) -> (N, C, H, W)."""
        quantised = isinstance(self.conv, QuantConv2d)
        weight = plain(self.conv.quant_weight()) if quantised else self.conv.weight
        return self.act(torch.ops.hwflow.deform_dw(plain(x), weight, plain(dilation)))


VARIANTS = ("original", "bounded", "rounded", "square")
OFFSET_BOUND = 8.0


def sample_taps(x: Tensor, offset: Tensor) -> Tensor:
    """The nine bilinear samples of every pixel of a deformable 3x3 convolution, pad 1.

    x (N, C, H, W), offset (N, 18, H, W) in (dy, dx) pairs of row-major taps -> (N, C, 9, H, W).
    Corners outside the map count as zero.
    """
    n, c, h, w = x.shape
    pairs = offset.view(n, 9, 2, h, w)
    anchors = torch.tensor(ANCHORS, dtype=offset.dtype, device=offset.device)
    rows = torch.arange(h, dtype=offset.dtype, device=offset.device).view(1, 1, h, 1)
    cols = torch.arange(w, dtype=offset.dtype, device=offset.device).view(1, 1, 1, w)
    y = pairs[:, :, 0] + anchors[:, 0].view(1, 9, 1, 1) + rows
    z = pairs[:, :, 1] + anchors[:, 1].view(1, 9, 1, 1) + cols
    y0, z0 = torch.floor(y).detach(), torch.floor(z).detach()
    flat = x.flatten(2)
    out = x.new_zeros(n, c, 9 * h * w)
    for down in (0, 1):
        for right in (0, 1):
            yi, zi = y0 + down, z0 + right
            share = (1 - (y - yi).abs()) * (1 - (z - zi).abs())
            inside = (yi >= 0) & (yi < h) & (zi >= 0) & (zi < w)
            index = yi.clamp(0, h - 1).long() * w + zi.clamp(0, w - 1).long()
            values = flat.gather(2, index.view(n, 1, -1).expand(n, c, -1))
            out = out + values * (share * inside).view(n, 1, -1)
    return out.view(n, c, 9, h, w)


class DeformVariant(nn.Module):
    """The other deformable 3x3 operators of the paper, float only, for the ablation.

    "original": free offsets. "bounded": each offset clamped to [-8, 8]. "rounded": each offset
    rounded (straight through, so that its generator learns). "square": one s in [0, 8] per pixel,
    taps at anchor * (1 + s). With depthwise, a 1x1 convolution comes first and the offsets are
    made from its output. Source: the operator ablation of the CoDeNet authors.
    """

    def __init__(self, cin: int, cout: int, variant: str, depthwise: bool) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ConfigError(f"unknown deformable variant {variant!r}: choose one of {VARIANTS}")
        self.variant = variant
        self.depthwise = depthwise
        self.pw: nn.Module = nn.Conv2d(cin, cout, 1, bias=False) if depthwise else nn.Identity()
        channels = cout if depthwise else cin
        kernel = 1 if depthwise or variant == "original" else 3
        fields = 1 if variant == "square" else 18
        self.offset = nn.Conv2d(channels, fields, kernel, padding=kernel // 2)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        groups = channels if depthwise else 1
        self.conv = nn.Conv2d(channels, cout, 3, padding=1, groups=groups, bias=False)

    def offsets(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> offsets (N, 18, H, W)."""
        raw = self.offset(x)
        if self.variant == "bounded":
            return raw.clamp(-OFFSET_BOUND, OFFSET_BOUND)
        if self.variant == "rounded":
            return _RoundSte.apply(raw)
        if self.variant == "square":
            anchors = torch.tensor(ANCHORS, dtype=raw.dtype, device=raw.device).view(1, 18, 1, 1)
            return anchors * raw.clamp(0.0, OFFSET_BOUND)
        return raw

    def forward(self, x: Tensor) -> Tensor:
        """x (N, cin, H, W) -> (N, cout, H, W)."""
        x = self.pw(x)
        taps = sample_taps(x, self.offsets(x))
        weight = self.conv.weight.flatten(2)
        if self.depthwise:
            return (taps * weight[:, 0, :, None, None]).sum(2)
        return torch.einsum("nckhw,ock->nohw", taps, weight)
