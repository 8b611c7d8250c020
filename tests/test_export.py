# SPDX-License-Identifier: Apache-2.0
"""The exported QONNX file against torch, through qonnx's own executor."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from brevitas.nn import QuantConv2d
from onnx import numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from torch import Tensor, nn

import hwflow
from hwflow.errors import ConfigError, DataError, GraphError
from hwflow.export import (
    check_bounds,
    enforce_bounds,
    export_qonnx,
    export_vectors,
    extend_classes,
    to_input,
    unit_bounds,
)
from hwflow.models.codenet import CoDeNet, calibrate, config, quantise

SIZE = 96


def pixels(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, SIZE, SIZE), dtype=np.uint8)


def spread_dilations(model: CoDeNet, x: Tensor) -> None:
    """Random scale-map weights under which the dilations of x cover 0..7."""
    for up in (model.up0, model.up1, model.up2):
        seen: list[Tensor] = []
        handle = up.register_forward_pre_hook(lambda m, a, seen=seen: seen.append(a[0]))
        with torch.no_grad():
            model(x)
            handle.remove()
            weight = torch.randn_like(up.scale.conv.weight)
            raw = F.conv2d(seen[0], weight)
            up.scale.conv.weight.copy_(weight * 3 / raw.std())
            up.scale.conv.bias.fill_(3.5 - float(raw.mean() * 3 / raw.std()))


def trained(seed: int) -> CoDeNet:
    """Configuration b, 3 classes: random batch norms and dilations, calibrated, three QAT steps."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = CoDeNet(config("b", 3))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    x = to_input(pixels(seed, 2))
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.4)
        for _ in range(20):
            model(x)
        for norm in norms:
            norm.running_mean.add_(0.3 * torch.randn_like(norm.running_mean))
            norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.6, 1.6))
    model.eval()
    spread_dilations(model, x)
    model = quantise(model)
    calibrate(model, [x])
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), 2e-4)
    for _ in range(3):
        optimiser.zero_grad()
        sum(o.square().mean() for o in model(x)).backward()
        optimiser.step()
    return model.eval()


@pytest.fixture(scope="module")
def model() -> CoDeNet:
    return trained(0)


@pytest.fixture(scope="module")
def path(model: CoDeNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_qonnx(model, path, SIZE)
    return path


@pytest.fixture(scope="module")
def proto(path: Path) -> onnx.ModelProto:
    return onnx.load(path)


def test_qonnx_equals_torch(model: CoDeNet, path: Path, tmp_path: Path) -> None:
    images = pixels(7, 3)
    export_vectors(model, images, tmp_path / "vectors.npz")
    vectors = np.load(tmp_path / "vectors.npz")
    assert np.array_equal(vectors["images"], images)
    wrapper = ModelWrapper(str(path))
    dilations: Counter[int] = Counter()
    for i in range(len(images)):
        feed = {"image": images[i : i + 1].astype(np.float32) / 256}
        context = execute_onnx(wrapper, feed, return_full_exec_context=True)
        for name, channels in (("hm", 3), ("wh", 2), ("reg", 2)):
            expected = vectors[name][i : i + 1]
            assert expected.shape == (1, channels, SIZE // 4, SIZE // 4)
            assert len(np.unique(expected)) > 8, "a constant output proves nothing"
            assert float(np.abs(context[name] - expected).max()) == 0.0
        for k in range(3):
            dilations.update(context[f"up{k}.scale.quant"].astype(int).ravel().tolist())
    assert set(dilations) == set(range(8))


def test_vectors_do_not_depend_on_the_batch(model: CoDeNet, tmp_path: Path) -> None:
    images = pixels(8, 2)
    export_vectors(model, images, tmp_path / "vectors.npz")
    with torch.no_grad():
        outputs = model(to_input(images))
    vectors = np.load(tmp_path / "vectors.npz")
    for name, out in zip(("hm", "wh", "reg"), outputs, strict=True):
        assert np.array_equal(vectors[name], out.numpy())


def test_file_form(proto: onnx.ModelProto, path: Path) -> None:
    assert proto.ir_version <= 13
    assert {o.domain: o.version for o in proto.opset_import}[""] == 20
    (image,) = proto.graph.input
    assert image.name == "image"
    assert [d.dim_value for d in image.type.tensor_type.shape.dim] == [1, 3, SIZE, SIZE]
    assert [o.name for o in proto.graph.output] == ["hm", "wh", "reg"]
    assert str(Path(hwflow.__file__).parent).encode() not in path.read_bytes()
    names = [n.name for n in proto.graph.node]
    assert len(set(names)) == len(names)
    outputs = [o for n in proto.graph.node for o in n.output]
    assert len(set(outputs)) == len(outputs)
    allowed = {"Quant", "Conv", "Relu", "MaxPool", "Concat", "Reshape", "Transpose", "Split",
               "Sub", "Mul", "DeformConv", "Resize"}
    counts = Counter(n.op_type for n in proto.graph.node)
    assert set(counts) == allowed
    assert counts["DeformConv"] == counts["Resize"] == 3
    assert counts["Concat"] == 16
    assert counts["MaxPool"] == 1


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("image.quant", "Quant"),
        ("layer0", "Conv"),
        ("layer0.weight_quant", "Quant"),
        ("layer0.bias_quant", "Quant"),
        ("layer0.relu", "Relu"),
        ("layer0.quant", "Quant"),
        ("pool", "MaxPool"),
        ("layer1.0.b1.dw", "Conv"),
        ("layer1.0.b2.pw1", "Conv"),
        ("layer1.0.concat", "Concat"),
        ("layer1.0.shuffle", "Reshape"),
        ("layer1.0.shuffle.split", "Split"),
        ("layer3.3.shuffle.quant", "Quant"),
        ("up0.scale", "Conv"),
        ("up0.scale.quant", "Quant"),
        ("up0.ddw", "DeformConv"),
        ("up0.ddw.weight_quant", "Quant"),
        ("up2.resize", "Resize"),
        ("hm.pw2.quant", "Quant"),
    ],
)
def test_nodes_carry_the_module_path(proto: onnx.ModelProto, name: str, op: str) -> None:
    assert {n.name: n.op_type for n in proto.graph.node}[name] == op


def test_file_keeps_the_integer_contract(proto: onnx.ModelProto) -> None:
    """Read from the file alone: widths, scales and worst-case accumulators of every convolution."""
    values = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    made = {o: n for n in proto.graph.node for o in n.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def quant(node: onnx.NodeProto) -> tuple[np.ndarray, int, bool, bool]:
        attrs = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert attrs["rounding_mode"] == b"ROUND"
        scale, zero, bits = (values[i] for i in node.input[1:])
        assert np.all(zero == 0)
        assert np.all(np.log2(scale) == np.round(np.log2(scale)))
        return scale.astype(np.float64), int(bits), bool(attrs["signed"]), bool(attrs["narrow"])

    def source(name: str) -> onnx.NodeProto:
        """The quantiser behind addressing."""
        node = made[name]
        return node if node.op_type == "Quant" else source(node.input[0])

    convs = [n for n in proto.graph.node if n.op_type in ("Conv", "DeformConv")]
    assert len(convs) == 1 + 3 * 5 + 13 * 3 + 1 + 3 * 3 + 3 * 3
    for conv in convs:
        s_in, bits_in, signed_in, _ = quant(source(conv.input[0]))
        weight_node = made[conv.input[1]]
        s_w, bits_w, signed_w, narrow_w = quant(weight_node)
        assert (bits_w, signed_w, narrow_w) == (8 if conv.name == "layer0" else 4, True, True)
        top = 2 ** (bits_w - 1) - 1
        weight = np.clip(np.round(values[weight_node.input[0]] / s_w), -top, top)
        assert s_w.shape == (len(weight), 1, 1, 1)
        acc = np.abs(weight).sum((1, 2, 3)) * (2**bits_in - 1 if not signed_in else 128)
        if conv.op_type == "Conv":
            bias_node = made[conv.input[2]]
            s_b, bits_b, signed_b, _ = quant(bias_node)
            assert (bits_b, signed_b) == (32, True)
            assert np.array_equal(s_b, s_in * s_w.ravel())
            acc = acc + np.abs(np.round(values[bias_node.input[0]] / s_b))
        assert acc.max() < 2**24, conv.name
        (user,) = users[conv.output[0]]
        relu = user.op_type == "Relu"
        if relu:
            (user,) = users[user.output[0]]
        s_out, bits_out, signed_out, narrow_out = quant(user)
        dilation = conv.name.endswith(".scale")
        assert (bits_out, narrow_out) == (3 if dilation else 8, False)
        assert signed_out == (not relu and not dilation)
        assert np.all(np.log2(s_out / (s_in * s_w)) >= -7), conv.name


def test_bounds_are_proven_for_the_worst_input(model: CoDeNet) -> None:
    """Reaching the bound: the input that drives one channel of a layer as far as it goes."""
    bounds = {u.name: u for u in unit_bounds(model)}
    conv = model.layer4.conv
    weight = conv.quant_weight().int().double().flatten(1)
    assert int(weight.abs().sum(1).max()) * 255 <= bounds["layer4"].acc
    assert len(bounds) == len([m for m in model.modules() if isinstance(m, QuantConv2d)])
    assert all(u.min_shift <= u.max_shift for u in bounds.values())


def test_broken_bounds_are_refused_and_repaired(model: CoDeNet, tmp_path: Path) -> None:
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.layer2.get_submodule("1").b2.pw1.conv.weight[5] *= 2.0**14
        broken.hm.pw1.conv.bias[3] = 1e9
    with pytest.raises(GraphError, match=r"layer2\.1\.b2\.pw1: requantisation shift -"):
        check_bounds(broken)
    with pytest.raises(GraphError, match="enforce_bounds"):
        export_qonnx(broken, tmp_path / "broken.onnx", SIZE)
    assert set(enforce_bounds(broken)) == {"layer2.1.b2.pw1", "hm.pw1"}
    check_bounds(broken)
    assert enforce_bounds(broken) == []


def test_a_huge_bias_alone_is_refused(model: CoDeNet) -> None:
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.wh.pw2.conv.bias[0] = -1e9
    with pytest.raises(GraphError, match=r"wh\.pw2: \|accumulator\|"):
        check_bounds(broken)


def test_enforcing_kept_bounds_changes_nothing(model: CoDeNet) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert enforce_bounds(model) == []
    after = model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_unquantised_parts_are_refused(model: CoDeNet, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ConfigError, match="float phase"):
        export_qonnx(CoDeNet(config("b", 1)), path, SIZE)
    with pytest.raises(ConfigError, match="float phase"):
        export_vectors(CoDeNet(config("b", 1)), pixels(0, 1), path)
    with pytest.raises(ConfigError, match="multiple of 32"):
        export_qonnx(model, path, 100)
    broken = copy.deepcopy(model)
    old = broken.up1.pw.conv
    broken.up1.pw.conv = QuantConv2d(
        old.in_channels, old.out_channels, 1, weight_quant=old.weight_quant, bias=True
    )
    with pytest.raises(GraphError, match=r"up1\.pw\.conv: float bias"):
        export_qonnx(broken, path, SIZE)
    broken.up1.pw.conv = nn.Conv2d(old.in_channels, old.out_channels, 1)
    with pytest.raises(GraphError, match=r"up1\.pw\.conv: convolution without weight quantiser"):
        export_qonnx(broken, path, SIZE)
    assert not path.exists()


def test_images_must_be_bytes(model: CoDeNet, tmp_path: Path) -> None:
    for bad in (np.zeros((1, 3, 32, 32), np.float32), np.zeros((1, 32, 32, 3), np.uint8)):
        with pytest.raises(DataError, match="uint8"):
            export_vectors(model, bad, tmp_path / "vectors.npz")


def test_more_classes_change_the_heat_map_alone(model: CoDeNet, tmp_path: Path) -> None:
    wide = extend_classes(model, 20, seed=4)
    assert (wide.cfg.classes, model.cfg.classes) == (20, 3)
    x = to_input(pixels(9, 1))
    with torch.no_grad():
        hm, wh, reg = wide(x)
        _, old_wh, old_reg = model(x)
        again = extend_classes(model, 20, seed=4)(x)[0]
        other = extend_classes(model, 20, seed=5)(x)[0]
    assert hm.shape[1] == 20
    assert torch.equal(wh, old_wh)
    assert torch.equal(reg, old_reg)
    assert torch.equal(hm, again)
    assert not torch.equal(hm, other)
    assert int(wide.hm.pw2.conv.quant_weight().int().abs().max()) > 1
    check_bounds(wide)
    with pytest.raises(ConfigError, match="at least one class"):
        extend_classes(model, 0)


@pytest.mark.parametrize("plain_dw", [False, True])
def test_other_forms_export_exactly(plain_dw: bool, tmp_path: Path) -> None:
    """Layer 0 of stride 4 and the ablation without deformable layers, at the smallest input."""
    torch.set_num_threads(1)
    torch.manual_seed(6)
    net = quantise(CoDeNet(config("a", 1, plain_dw=plain_dw)).eval())
    generator = np.random.default_rng(6)
    images = generator.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    calibrate(net, [to_input(images)])
    path, vectors = tmp_path / "model.onnx", tmp_path / "vectors.npz"
    export_qonnx(net, path, 32)
    export_vectors(net, images, vectors)
    expected = np.load(vectors)
    wrapper = ModelWrapper(str(path))
    counts = Counter(n.op_type for n in wrapper.graph.node)
    assert (counts["MaxPool"], counts["DeformConv"]) == (0, 0 if plain_dw else 3)
    got = execute_onnx(wrapper, {"image": images[:1].astype(np.float32) / 256})
    for name in ("hm", "wh", "reg"):
        assert np.array_equal(got[name], expected[name][:1])
