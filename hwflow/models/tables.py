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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwflow.errors import ConfigError
from hwflow.models.layers import InwardClamp
from hwflow.models.table_codes import (
    PIXEL_SCALE,
    Code,
    CodeQuantiser,
    LinearCodes,
    Straight,
    Thresholds,
    column,
)

__all__ = [
    "MOST_ADDRESS_BITS", "MOST_SPREAD_BITS", "PIXEL_SCALE", "AffineNode", "ArithmeticNode", "Code",
    "CodeQuantiser", "GroupSum", "LinearCodes", "LookupNode", "MlpNode", "NodeNorm",
    "PolynomialNode", "TableConv", "TableLayer", "TableNetwork", "Thresholds", "freeze",
    "monomials", "slopes", "spread",
]  # fmt: skip

MOST_ADDRESS_BITS = 16
MOST_SPREAD_BITS = 8
"""Up to here the gradient of a lookup looks at every address, not only at neighbours."""


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
    return place.to(torch.int64) + column(row, place)


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
        table = Straight.apply(limited, limited.detach().round())
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
        return z * column(gain, z) + column(offset, z)


class _Fixed(nn.Module):
    """A NodeNorm whose gain and offset are constants: what the export sees."""

    def __init__(self, gain: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain)
        self.register_buffer("offset", offset)

    def forward(self, z: Tensor) -> Tensor:
        return z * column(self.gain, z) + column(self.offset, z)


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
    total = parts[0] * column(weights[:, 0], parts[0])
    for place, part in enumerate(parts[1:], 1):
        total = total + part * column(weights[:, place], part)
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
            F.relu(_weighted(children, self.first[:, h]) + column(self.bias[:, h], children[0]))
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
