# SPDX-License-Identifier: Apache-2.0
"""The torch modules of table networks against plain loops over tables, pixels and addresses."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from hwflow.errors import ConfigError
from hwflow.models.tables import (
    AffineNode,
    ArithmeticNode,
    Code,
    CodeQuantiser,
    GroupSum,
    LookupNode,
    MlpNode,
    PolynomialNode,
    TableConv,
    TableLayer,
    TableNetwork,
    Thresholds,
    freeze,
    monomials,
    slopes,
    spread,
)

torch.set_num_threads(1)


def pixels(seed: int, *shape: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, shape).astype(np.float32)) / 256


@pytest.mark.parametrize("scaling", ["const", "power_of_two", "free"])
@pytest.mark.parametrize("code", [Code(1), Code(3), Code(8), Code(2, True), Code(5, True)])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_every_code_is_reached(scaling: str, code: Code, scale: float) -> None:
    quant = CodeQuantiser(code, scaling, scale).eval()
    with torch.no_grad():
        found = quant(torch.linspace(-300, 300, 40001) * scale) / quant.scale()
    assert math.isclose(float(quant.scale().detach()), scale, rel_tol=1e-6)
    assert sorted({round(v) for v in found.tolist()}) == list(range(code.lo, code.hi + 1))


def test_quantiser_refuses() -> None:
    with pytest.raises(ConfigError, match="choose const"):
        CodeQuantiser(Code(2), "learned")
    with pytest.raises(ConfigError, match="power of two"):
        CodeQuantiser(Code(2), "const", 0.3)
    with pytest.raises(ConfigError, match="give 2 to 8"):
        Code(1, True)


@pytest.mark.parametrize("shape", [(5, 7), (2, 7, 3, 4)])
@pytest.mark.parametrize("levels", [1, 2, 3, 5])
def test_thresholds_count(shape: tuple[int, ...], levels: int) -> None:
    rng = np.random.default_rng(levels)
    wanted = rng.uniform(0, 256, (7, levels))
    x = pixels(1, *shape)
    coded, bits = Thresholds(torch.tensor(wanted)), Thresholds(torch.tensor(wanted), True)
    with torch.no_grad():
        count, thermometer = coded(x).numpy(), bits(x).numpy()
    assert coded.code == Code(levels.bit_length()) and bits.channels == 7 * levels
    ordered = np.sort(wanted, axis=1)
    for place in np.ndindex(*shape):
        pixel = float(x[place]) * 256
        above = [pixel >= t for t in ordered[place[1]]]
        assert count[place] == sum(above)
        for level in range(levels):
            channel = level * 7 + place[1]
            assert thermometer[(place[0], channel, *place[2:])] == above[level]


def test_learned_thresholds_move() -> None:
    """More pixels above the threshold are wanted: it must fall."""
    layer = Thresholds(torch.full((3, 1), 128.0), learn=True)
    x = pixels(0, 400, 3)
    layer(x).sum().neg().backward()
    assert (layer.thresholds.grad > 0).all()


@pytest.mark.parametrize(("inputs", "bits", "signed"), [(6, 1, False), (3, 2, False), (2, 3, True)])
@pytest.mark.parametrize("shape", [(9, 11), (2, 11, 2, 3)])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_lookups_are_lookups(
    inputs: int, bits: int, signed: bool, shape: tuple[int, ...], scale: float
) -> None:
    rng = np.random.default_rng(inputs)
    source, code = Code(bits, signed), Code(3, True)
    values = torch.tensor(rng.uniform(-6, 5, (8, 1 << (inputs * bits))))
    node = LookupNode(values, inputs, source, code, scale)
    wires = torch.tensor(rng.integers(0, 11, (8, inputs)))
    codes = rng.integers(source.lo, source.hi + 1, shape)
    layer = TableLayer(wires, node)
    x = torch.tensor(codes * scale, dtype=torch.float32)
    with torch.no_grad():
        found = layer(x).numpy()
    assert np.array_equal(layer(x).detach().numpy(), found)
    contents = np.clip(np.rint(values.numpy()), -4, 3)
    for place in np.ndindex(found.shape):
        b, n, *pixel = place
        digits = [int(codes[(b, int(wires[n, j]), *pixel)]) - source.lo for j in range(inputs)]
        address = sum(d * (2**bits) ** j for j, d in enumerate(digits))
        assert found[place] == contents[n, address]


def test_slopes_are_differences() -> None:
    table = torch.randn(2, 64)
    for inputs, bits in ((6, 1), (3, 2), (2, 3)):
        levels, found = 1 << bits, slopes(table, inputs, bits)
        for address, j in product(range(64), range(inputs)):
            digit, step = (address >> (bits * j)) % levels, 1 << (bits * j)
            up = address + step if digit < levels - 1 else address
            down = address - step if digit > 0 else address
            wanted = (table[:, up] - table[:, down]) / (2 if 0 < digit < levels - 1 else 1)
            assert torch.equal(found[:, j, address], wanted)


def test_spread_weighs_by_distance() -> None:
    weights = spread(3, 2)
    for a, b, j in product(range(64), range(64), range(3)):
        digits = [((a >> (2 * i)) % 4, (b >> (2 * i)) % 4) for i in range(3)]
        others = sum(p != q for i, (p, q) in enumerate(digits) if i != j)
        wanted = 1 / (1 + others) if digits[j][0] == digits[j][1] else 0
        assert weights[j, a, b] == torch.tensor(wanted, dtype=torch.float32)


def test_lookups_learn_a_function() -> None:
    """Contents and, through the slopes, the layer before: (a and b) or (c and not d)."""
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0, 2, (512, 4), generator=generator).float()
    a, b, c, d = bits.bool().T
    wanted = (a & b | c & ~d).float().unsqueeze(1)
    first = LookupNode(torch.rand(2, 4, generator=generator), 2, Code(1), Code(1))
    second = LookupNode(torch.rand(1, 4, generator=generator), 2, Code(1), Code(1))
    wires = torch.tensor([[0, 1], [2, 3]])
    net = nn.Sequential(TableLayer(wires, first), TableLayer(wires[:1], second))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.03)
    for _ in range(400):
        optimiser.zero_grad()
        (net(bits) - wanted).square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        assert torch.equal(net(bits), wanted)


def node_of(kind: str, count: int, inputs: int, code: Code, **more: object) -> ArithmeticNode:
    kinds = {"affine": AffineNode, "polynomial": PolynomialNode, "mlp": MlpNode}
    node = kinds[kind](count, inputs, code, **more)
    with torch.no_grad():  # as after some training
        node.norm.bn.running_mean.normal_()
        node.norm.bn.running_var.uniform_(0.5, 2)
        node.norm.bn.weight.mul_(torch.randn(count))
    return node


@pytest.mark.parametrize("kind", ["affine", "polynomial", "mlp"])
def test_arithmetic_nodes_compute(kind: str) -> None:
    """In double precision, node by node; the float32 values lie within rounding of it."""
    torch.manual_seed(3)
    node = node_of(kind, 5, 3, Code(3)).eval()
    x = torch.randint(0, 4, (7, 5, 3)).float()
    with torch.no_grad():
        found = node.norm(node.value(x)).double()
    for b, n in np.ndindex(7, 5):
        c = x[b, n].double()
        if kind == "affine":
            z = (node.weight[n].double() * c).sum()
        elif kind == "polynomial":
            parts = [math.prod(float(c[j]) for j in m) for m in monomials(3, 2)]
            z = (node.weight[n].double() * torch.tensor(parts).double()).sum()
        else:
            hidden = torch.relu(node.first[n].double() @ c + node.bias[n].double())
            z = node.second[n].double() @ hidden + node.skip[n].double() @ c
        bn = node.norm.bn
        norm = (z - bn.running_mean[n]) / torch.sqrt(bn.running_var[n].double() + bn.eps)
        assert torch.isclose(found[b, n], norm * bn.weight[n] + bn.bias[n], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["affine", "polynomial", "mlp"])
@pytest.mark.parametrize("shape", [(64, 9), (8, 9, 3, 2)])
def test_training_mode_is_eval_mode_with_batch_statistics(
    kind: str, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(4)
    node = node_of(kind, 5, 3, Code(4, True), scale=0.5)
    layer = TableLayer(torch.randint(0, 9, (5, 3)), node)
    x = torch.randint(0, 4, shape).float()
    children = x[:, layer.wires.reshape(-1)].reshape(shape[0], 5, 3, *shape[2:])
    trained = node.value(children).detach()
    node.eval()
    with torch.no_grad():
        assert torch.allclose(trained, node.value(children), rtol=1e-4, atol=1e-4)
        before = layer(x)
        freeze(layer)
        assert torch.equal(layer(x), before)


def network(kind: str) -> TableNetwork:
    torch.manual_seed(5)
    code = Code(2)
    layers = []
    before, encoder = 50, Thresholds(torch.rand(50, 3) * 256)
    for count in (40, 20):
        wires = torch.randint(0, before, (count, 3))
        if kind == "lookup":
            node: nn.Module = LookupNode(torch.rand(count, 64) * 3, 3, code, code)
        else:
            node = node_of(kind, count, 3, code)
        layers.append(TableLayer(wires, node))
        before = count
    return TableNetwork(encoder, layers, GroupSum(10))


@pytest.mark.parametrize("kind", ["lookup", "affine", "polynomial", "mlp"])
def test_networks_train(kind: str) -> None:
    """Every parameter gets a gradient, and the loss falls."""
    net = network(kind)
    x, y = pixels(0, 128, 2, 5, 5), torch.arange(128) % 10
    optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.3
    assert net(x).shape == (128, 10)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [((1, 1), (1, 1), (0, 0)), ((3, 2), (2, 1), (1, 0))]
)
def test_sliding_nodes_look_at_their_windows(
    kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> None:
    rng = np.random.default_rng(1)
    taps = 3 * kernel[0] * kernel[1]
    wires = rng.integers(0, taps, (4, 2))
    values = rng.integers(0, 4, (4, 16))
    node = LookupNode(torch.tensor(values), 2, Code(2), Code(2))
    layer = TableConv(torch.tensor(wires), node, 3, kernel, stride, pad)
    codes = rng.integers(0, 4, (2, 3, 6, 5))
    with torch.no_grad():
        found = layer(torch.tensor(codes).float()).numpy()
        freeze(layer)
        assert np.array_equal(layer(torch.tensor(codes).float()).numpy(), found)
    for b, n, y, x in np.ndindex(found.shape):
        address = 0
        for place, wire in enumerate(wires[n]):
            c, tap = divmod(int(wire), kernel[0] * kernel[1])
            i, j = divmod(tap, kernel[1])
            row, column = y * stride[0] + i - pad[0], x * stride[1] + j - pad[1]
            inside = 0 <= row < 6 and 0 <= column < 5
            address += (int(codes[b, c, row, column]) if inside else 0) << (2 * place)
        assert found[b, n, y, x] == values[n, address]
    with pytest.raises(ConfigError, match="no tap"):
        TableConv(torch.full((4, 2), taps), node, 3, kernel)


def test_group_sum_sums_neighbours() -> None:
    x = torch.arange(12.0).reshape(2, 6)
    assert torch.equal(GroupSum(3)(x), torch.tensor([[1.0, 5, 9], [13, 17, 21]]))
    with pytest.raises(ConfigError, match="6 channels are not 4"):
        GroupSum(4)(x)


def test_bad_networks_are_refused() -> None:
    with pytest.raises(ConfigError, match="18 address bits; at most 16"):
        LookupNode(torch.zeros(1, 1 << 18), 6, Code(3), Code(1))
    with pytest.raises(ConfigError, match=r"give \(tables, 16\)"):
        LookupNode(torch.zeros(1, 8), 4, Code(1), Code(1))
    node = LookupNode(torch.zeros(2, 16), 4, Code(1), Code(1))
    with pytest.raises(ConfigError, match="2 nodes of 4 children"):
        TableLayer(torch.zeros(2, 3, dtype=torch.int64), node)
    layer = TableLayer(torch.zeros(2, 4, dtype=torch.int64), node)
    with pytest.raises(ConfigError, match="layer 0 looks up"):
        TableNetwork(Thresholds(torch.zeros(3, 3)), [layer])
    affine = AffineNode(3, 2, Code(1), "free", 0.7)
    wires = torch.zeros(3, 2, dtype=torch.int64)
    with pytest.raises(ConfigError, match="constant scale"):
        TableNetwork(Thresholds(torch.zeros(3, 1)), [TableLayer(wires, affine), layer])
