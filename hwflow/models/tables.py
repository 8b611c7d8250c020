# SPDX-License-Identifier: Apache-2.0
"""Networks of lookup tables ("DTNN-style", docs/tables.md): encoder, layers of nodes, heads.

Between layers a value is a code, an integer of a few bits times a fixed scale. A node reads a few
codes and gives one; whatever it computes, on so few bits it is a table. In eval mode a node uses
elementwise float32 operations alone (no sum whose order a runtime may choose), so that torch,
onnxruntime and the tables agree bit by bit.

Shapes: (B, C) for vectors, (B, C, H, W) for maps; `...` below stands for the pixels of a map.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from brevitas.nn import QuantIdentity
from brevitas.quant.fixed_point import Int8ActPerTensorFixedPoint, Uint8ActPerTensorFixedPoint
from brevitas.quant.scaled_int import Int8ActPerTensorFloat, Uint8ActPerTensorFloat
from torch import Tensor, nn

from hwflow.errors import ConfigError
from hwflow.models.layers import InwardClamp, plain

PIXEL_SCALE = 2.0**-8
MOST_ADDRESS_BITS = 16
MOST_SPREAD_BITS = 8
"""Up to here the gradient of a lookup looks at every address, not only at neighbours."""
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


def _column(values: Tensor, like: Tensor) -> Tensor:
    """values (N,) beside a tensor (B, N, ...)."""
    return values.reshape(1, -1, *[1] * (like.dim() - 2))


class _Straight(torch.autograd.Function):
    """The value is that of `used`, the gradient goes to `real`."""

    @staticmethod
    def forward(ctx: object, real: Tensor, used: Tensor) -> Tensor:
        return used.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _Compare(torch.autograd.Function):
    """x >= threshold as 0 or 1; its gradient is that of a ramp of width `width`."""

    @staticmethod
    def forward(ctx: object, x: Tensor, threshold: Tensor, width: float) -> Tensor:
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
            bits = [(x >= _column(at, x)).to(x.dtype) for at in self.fixed.T]
        elif torch.is_grad_enabled():
            ordered = self.thresholds.sort(dim=1).values
            ordered = _Straight.apply(ordered, self.whole().to(x.dtype)) * PIXEL_SCALE
            width = self.width * PIXEL_SCALE
            bits = [_Compare.apply(x, _column(at, x), width) for at in ordered.T]
        else:
            ordered = self.whole().to(x.dtype) * PIXEL_SCALE
            bits = [(x >= _column(at, x)).to(x.dtype) for at in ordered.T]
        if self.thermometer:
            return torch.cat([self.quant(bit) for bit in bits], dim=1)
        total = bits[0]
        for bit in bits[1:]:
            total = total + bit
        return self.quant(total)


# --- node functions ----------------------------------------------------------------------------


def slopes(table: Tensor, inputs: int, bits: int) -> Tensor:
    """How a table changes with the code of each child: (N, k, 2**(k * bits)).

    The central difference of the neighbouring codes, one-sided at the ends; table (N, 2**(k*bits)).
    """
    levels = 1 << bits
    found = []
    for child in range(inputs):
        view = table.reshape(-1, levels ** (inputs - 1 - child), levels, levels**child)
        inner = torch.cat([view[:, :, :1], view, view[:, :, -1:]], dim=2)
        step = inner[:, :, 2:] - inner[:, :, :-2]
        step[:, :, 1:-1] *= 0.5
        found.append(step.reshape(table.shape))
    return torch.stack(found, dim=1)


def spread(inputs: int, bits: int) -> Tensor:
    """Weights (k, A, A) by which a slope at address a counts at address b: 1 / (1 + how many of
    the other children differ), 0 unless child j has the same code in both. A = 2**(k * bits)."""
    size = 1 << (inputs * bits)
    codes = torch.arange(size)[:, None] >> (bits * torch.arange(inputs)) & ((1 << bits) - 1)
    differ = (codes[:, None] != codes[None]).float()  # (A, A, k)
    weights = 1 / (1 + differ.sum(2, keepdim=True) - differ) * (differ == 0)
    return weights.permute(2, 0, 1).contiguous()


class _Lookup(torch.autograd.Function):
    """out = table[n, address]; the gradient to the addresses is by differences of the table."""

    @staticmethod
    def forward(
        ctx: object, codes: Tensor, table: Tensor, bits: int, weights: Tensor | None
    ) -> Tensor:
        index = _index(codes, bits, table.shape[1])
        ctx.save_for_backward(index, table, weights)
        ctx.inputs, ctx.bits = codes.shape[2], bits
        return table.reshape(-1)[index]

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        index, table, weights = ctx.saved_tensors
        flat, rows = index.reshape(-1), grad.reshape(-1)
        to_table = to_codes = None
        if ctx.needs_input_grad[1]:
            to_table = table.new_zeros(table.numel()).index_add_(0, flat, rows).reshape(table.shape)
        if ctx.needs_input_grad[0]:
            slope = slopes(table, ctx.inputs, ctx.bits)
            if weights is not None:
                slope = torch.einsum("nka,kab->nkb", slope, weights)
            per_child = slope.transpose(0, 1).reshape(ctx.inputs, -1)
            parts = [(rows * row[flat]).reshape(index.shape) for row in per_child]
            to_codes = torch.stack(parts, dim=2)
        return to_codes, to_table, None, None


def _index(codes: Tensor, bits: int, size: int) -> Tensor:
    """Places in the flattened tables, int64 (B, N, ...), of codes 0.. (B, N, k, ...)."""
    place = codes[:, :, 0]
    for child in range(1, codes.shape[2]):
        place = place + codes[:, :, child] * float(1 << (bits * child))
    row = torch.arange(codes.shape[1], device=codes.device) * size
    return place.to(torch.int64) + _column(row, place)


class LookupNode(nn.Module):
    """N tables whose contents are the parameter (DWN-style for six children of one bit).

    values (N, 2**(k * b)): contents in units of the output code, rounded and limited where used.
    The address of a table is the sum over its children j of (code_j - lo) << (b * j), where lo is
    the least code of the input. in_scale: the real value of the children's code 1.
    """

    def __init__(
        self, values: Tensor, inputs: int, in_code: Code, code: Code, in_scale: float = 1.0
    ) -> None:
        super().__init__()
        width = inputs * in_code.bits
        if width > MOST_ADDRESS_BITS:
            raise ConfigError(
                f"a lookup of {inputs} x {in_code.bits} bits has {width} address bits; at most "
                f"{MOST_ADDRESS_BITS}: give it fewer or narrower inputs"
            )
        if values.dim() != 2 or values.shape[1] != 1 << width:
            raise ConfigError(f"contents {tuple(values.shape)}: give (tables, {1 << width})")
        self.values = nn.Parameter(values.float())
        self.inputs, self.in_code, self.code, self.in_scale = inputs, in_code, code, in_scale
        weights = spread(inputs, in_code.bits) if width <= MOST_SPREAD_BITS else None
        self.register_buffer("weights", weights, persistent=False)
        self.clamp = InwardClamp()
        self.quant = CodeQuantiser(code)
        self.fixed: Tensor | None = None

    @property
    def count(self) -> int:
        """How many tables."""
        return int(self.values.shape[0])

    def scale(self) -> Tensor:
        """The real value of code 1."""
        return self.quant.scale()

    def contents(self) -> Tensor:
        """The codes in the tables, int64 (N, 2**(k * b))."""
        return self.values.detach().round().clamp(self.code.lo, self.code.hi).long()

    def freeze(self) -> None:
        """Turn the contents into constants, for the export."""
        self.fixed = self.contents().float().reshape(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Children (B, N, k, ...) -> codes (B, N, ...)."""
        bits = self.in_code.bits
        codes = x if self.in_scale == 1.0 else torch.round(x / self.in_scale)
        codes = codes if self.in_code.lo == 0 else codes - float(self.in_code.lo)
        if self.fixed is not None or not torch.is_grad_enabled():
            flat = self.fixed if self.fixed is not None else self.contents().to(x.dtype).reshape(-1)
            return self.quant(flat[_index(codes, bits, self.values.shape[1])])
        low, high = (self.values.new_tensor(float(n)) for n in (self.code.lo, self.code.hi))
        limited = self.clamp(self.values, low, high)
        table = _Straight.apply(limited, limited.detach().round())
        return self.quant(_Lookup.apply(codes, table, bits, self.weights))


class NodeNorm(nn.Module):
    """Batch norm of N node values; in eval mode a gain and an offset a node."""

    def __init__(self, count: int, gain: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(count)
        nn.init.constant_(self.bn.weight, gain)
        nn.init.constant_(self.bn.bias, offset)

    def constants(self) -> tuple[Tensor, Tensor]:
        """Gain and offset (N,) of eval mode."""
        gain = self.bn.weight / torch.sqrt(self.bn.running_var + self.bn.eps)
        return gain, self.bn.bias - self.bn.running_mean * gain

    def forward(self, z: Tensor) -> Tensor:
        """z (B, N, ...) -> the same shape."""
        if self.training:
            return self.bn(z.flatten(2) if z.dim() > 3 else z).reshape(z.shape)
        gain, offset = self.constants()
        return z * _column(gain, z) + _column(offset, z)


class _Fixed(nn.Module):
    """A NodeNorm whose gain and offset are constants: what the export sees."""

    def __init__(self, gain: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain)
        self.register_buffer("offset", offset)

    def forward(self, z: Tensor) -> Tensor:
        return z * _column(self.gain, z) + _column(self.offset, z)


class ArithmeticNode(nn.Module):
    """Base of nodes that compute: value -> batch norm -> quantiser. A child class gives `value`."""

    def __init__(
        self, count: int, inputs: int, code: Code, scaling: str = "const", scale: float = 1.0
    ) -> None:
        super().__init__()
        self.count, self.inputs, self.code = count, inputs, code
        # a spread of two standard deviations over the codes
        gain = scale * max(1.0, (code.hi - code.lo) / 4)
        self.norm: nn.Module = NodeNorm(count, gain, scale * (code.hi + code.lo) / 2)
        self.quant = CodeQuantiser(code, scaling, scale)

    def scale(self) -> Tensor:
        """The real value of code 1."""
        return self.quant.scale()

    def freeze(self) -> None:
        """Turn the batch norm into constants, for the export."""
        if isinstance(self.norm, NodeNorm):
            gain, offset = (t.detach().clone() for t in self.norm.constants())
            self.norm = _Fixed(gain, offset)

    def value(self, x: Tensor) -> Tensor:
        """Children (B, N, k, ...) -> reals (B, N, ...)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Children (B, N, k, ...) -> codes (B, N, ...)."""
        return self.quant(self.norm(self.value(x)))


def _weighted(parts: Sequence[Tensor], weights: Tensor) -> Tensor:
    """The sum of parts (B, N, ...) times the columns of weights (N, M), in their order."""
    total = parts[0] * _column(weights[:, 0], parts[0])
    for place, part in enumerate(parts[1:], 1):
        total = total + part * _column(weights[:, place], part)
    return total


class AffineNode(ArithmeticNode):
    """A weighted sum of the children."""

    def __init__(
        self, count: int, inputs: int, code: Code, scaling: str = "const", scale: float = 1.0
    ) -> None:
        super().__init__(count, inputs, code, scaling, scale)
        self.weight = nn.Parameter(torch.randn(count, inputs) / math.sqrt(inputs))

    def value(self, x: Tensor) -> Tensor:
        """Children (B, N, k, ...) -> reals (B, N, ...)."""
        if self.training:
            return torch.einsum("bnk...,nk->bn...", x, self.weight)
        return _weighted([x[:, :, j] for j in range(self.inputs)], self.weight)


def monomials(inputs: int, degree: int) -> tuple[tuple[int, ...], ...]:
    """The children of each monomial of degree 1 to `degree`: (0,), (1,), (0, 0), (0, 1) ..."""
    places = range(inputs)
    return tuple(
        m for d in range(1, degree + 1) for m in itertools.combinations_with_replacement(places, d)
    )


class PolynomialNode(ArithmeticNode):
    """A polynomial of the children: every monomial up to a degree has a weight."""

    def __init__(
        self, count: int, inputs: int, code: Code, degree: int = 2, scaling: str = "const",
        scale: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(count, inputs, code, scaling, scale)
        if not 1 <= degree <= 6:
            raise ConfigError(f"polynomials of degree {degree}: give 1 to 6")
        self.terms = monomials(inputs, degree)
        self.weight = nn.Parameter(torch.randn(count, len(self.terms)) / math.sqrt(len(self.terms)))

    def value(self, x: Tensor) -> Tensor:
        """Children (B, N, k, ...) -> reals (B, N, ...)."""
        made: dict[tuple[int, ...], Tensor] = {}
        for term in self.terms:
            child = x[:, :, term[-1]]
            made[term] = child if len(term) == 1 else made[term[:-1]] * child
        return _weighted(list(made.values()), self.weight)


class MlpNode(ArithmeticNode):
    """A perceptron of one hidden layer (ReLU) with a weighted sum of the children beside it."""

    def __init__(
        self, count: int, inputs: int, code: Code, hidden: int = 8, scaling: str = "const",
        scale: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(count, inputs, code, scaling, scale)
        if hidden < 1:
            raise ConfigError(f"{hidden} hidden units: give at least 1")
        self.first = nn.Parameter(torch.randn(count, hidden, inputs) * math.sqrt(2 / inputs))
        self.bias = nn.Parameter(torch.randn(count, hidden) * 0.5)
        self.second = nn.Parameter(torch.randn(count, hidden) / math.sqrt(hidden))
        self.skip = nn.Parameter(torch.randn(count, inputs) / math.sqrt(inputs))

    def value(self, x: Tensor) -> Tensor:
        """Children (B, N, k, ...) -> reals (B, N, ...)."""
        if self.training:
            hidden = torch.einsum("bnk...,nhk->bnh...", x, self.first)
            hidden = F.relu(hidden + self.bias.reshape(1, *self.bias.shape, *[1] * (x.dim() - 3)))
            total = torch.einsum("bnh...,nh->bn...", hidden, self.second)
            return total + torch.einsum("bnk...,nk->bn...", x, self.skip)
        children = [x[:, :, j] for j in range(self.inputs)]
        units = [
            F.relu(_weighted(children, self.first[:, h]) + _column(self.bias[:, h], children[0]))
            for h in range(self.second.shape[1])
        ]
        return _weighted(units + children, torch.cat([self.second, self.skip], dim=1))


# --- layers and networks -----------------------------------------------------------------------


class TableLayer(nn.Module):
    """N nodes, each with k children among the channels: wires int64 (N, k)."""

    def __init__(self, wires: Tensor, node: nn.Module) -> None:
        super().__init__()
        if wires.dim() != 2 or wires.shape != (node.count, node.inputs):
            raise ConfigError(
                f"wires {tuple(wires.shape)} for {node.count} nodes of {node.inputs} children"
            )
        self.register_buffer("wires", wires.long())
        self.node = node
        self.code = node.code

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return int(self.node.count)

    def scale(self) -> Tensor:
        """The real value of code 1."""
        return self.node.scale()

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, ...) -> codes (B, N, ...)."""
        count, inputs = self.wires.shape
        children = torch.index_select(x, 1, self.wires.reshape(-1))
        return self.node(children.reshape(x.shape[0], count, inputs, *x.shape[2:]))


class TableConv(nn.Module):
    """Nodes that slide over a map: N nodes, each with k children in a window of the channels.

    wires int64 (N, k): children are taps, numbered (c * kh + i) * kw + j for tap (i, j) of channel
    c. Outside of the map the codes are 0.
    """

    def __init__(
        self, wires: Tensor, node: nn.Module, channels: int, kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1), pad: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        super().__init__()
        taps = channels * kernel[0] * kernel[1]
        if wires.numel() and not 0 <= int(wires.min()) <= int(wires.max()) < taps:
            raise ConfigError(f"a wire is no tap 0..{taps - 1}")
        self.layer = TableLayer(wires, node)
        self.kernel, self.stride, self.pad = kernel, stride, pad
        self.code, self.inputs = node.code, channels
        self.fixed: Tensor | None = None

    @property
    def node(self) -> nn.Module:
        """The node function."""
        return self.layer.node

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return self.layer.channels

    def scale(self) -> Tensor:
        """The real value of code 1."""
        return self.layer.scale()

    def freeze(self) -> None:
        """Take patches by a convolution with weights 0 and 1, for the export."""
        count = self.kernel[0] * self.kernel[1]
        self.fixed = torch.eye(count).repeat(self.inputs, 1).reshape(-1, 1, *self.kernel)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> codes (B, N, H', W')."""
        if self.fixed is not None:
            patches = F.conv2d(x, self.fixed, None, self.stride, self.pad, 1, self.inputs)
        else:
            rows = F.unfold(x, self.kernel, 1, self.pad, self.stride)
            sides = [
                (n + 2 * p - k) // s + 1
                for n, p, k, s in zip(x.shape[2:], self.pad, self.kernel, self.stride, strict=True)
            ]
            patches = rows.reshape(*rows.shape[:2], *sides)
        return self.layer(patches)


class GroupSum(nn.Module):
    """Sums of equally many consecutive channels: the head that counts votes."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """x (B, groups * n, ...) -> (B, groups, ...)."""
        if x.shape[1] % self.groups:
            raise ConfigError(f"{x.shape[1]} channels are not {self.groups} equal groups")
        size = x.shape[1] // self.groups
        return x.reshape(x.shape[0], self.groups, size, *x.shape[2:]).sum(2)


class TableNetwork(nn.Module):
    """Encoder, layers and head in a row.

    forward takes images (B, C, H, W) of pixel / 256 and gives scores (B, classes): the sums of a
    GroupSum, or without a head the codes of the last layer (root codes). `flat`: pixels become
    channels (channel = (c * H + y) * W + x) before the encoder.
    """

    def __init__(
        self,
        encoder: nn.Module,
        layers: Sequence[nn.Module],
        head: nn.Module | None = None,
        flat: bool = True,
    ) -> None:
        super().__init__()
        self.encoder, self.layers, self.head = encoder, nn.ModuleList(layers), head
        self.flat = flat
        before: nn.Module = encoder
        for place, layer in enumerate(layers):
            node = getattr(layer, "node", None)
            if isinstance(node, LookupNode):
                _check_lookup(place, node, before)
            if hasattr(layer, "scale"):
                before = layer

    def codes(self, x: Tensor) -> list[Tensor]:
        """The codes (times their scale) behind the encoder and behind each layer."""
        x = self.encoder(torch.flatten(x, 1) if self.flat else x)
        found = [x]
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) of pixel / 256 -> scores (B, classes)."""
        x = self.codes(x)[-1]
        x = self.head(x) if self.head is not None else x
        return x.flatten(1)


def _check_lookup(place: int, node: LookupNode, before: nn.Module) -> None:
    """ConfigError unless the codes a lookup expects are those that come."""
    if before.code != node.in_code:
        raise ConfigError(f"layer {place} looks up {node.in_code}, but gets {before.code}")
    quant = next(m for m in before.modules() if isinstance(m, CodeQuantiser))
    if quant.scaling != "const" or float(quant.scale()) != node.in_scale:
        raise ConfigError(
            f"layer {place} looks up codes of the constant scale {node.in_scale}; the layer before "
            "it has another: give it scaling 'const' and that scale"
        )


def freeze(model: nn.Module) -> None:
    """Turn batch norms, thresholds and contents into constants; eval mode stays the same."""
    for module in model.modules():
        if isinstance(module, ArithmeticNode | LookupNode | TableConv | Thresholds):
            module.freeze()
