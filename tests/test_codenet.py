# SPDX-License-Identifier: Apache-2.0
"""CoDeNet against its published size tables, and its way from float to quantised."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hwflow.errors import ConfigError, DataError
from hwflow.models.codenet import (
    CoDeNet,
    CodenetConfig,
    calibrate,
    config,
    load_checkpoint,
    quantise,
    save_checkpoint,
)
from hwflow.models.layers import ConvUnit, DeformDw, QuantAct

# True MACs and parameters (batch norm included, 20 classes) of the published configurations.
# b and e differ from a and d in layer 0 alone: 3 * 24 * 9 MACs at each output pixel.
MACS = {
    "a": 279_844_352,
    "b": 279_844_352 - 2_654_208 + 10_616_832,
    "c": 1_119_377_408,
    "d": 3_507_274_240,
    "e": 3_507_274_240 - 10_616_832 + 42_467_328,
    # Never published: c with the first layer of e, and e on a quarter of the pixels.
    "f": 1_119_377_408 - 10_616_832 + 42_467_328,
    "g": (3_507_274_240 - 10_616_832 + 42_467_328) // 4,
}
NARROW, WIDE = 1_588_031, 6_082_427
PARAMETERS = dict(zip("abcdefg", (NARROW, NARROW, NARROW, WIDE, WIDE, NARROW, WIDE), strict=True))
CONV_WEIGHTS = {1: 1_570_160, 2: 6_046_810}
STAGE_PARAMETERS = {
    1: {
        "layer0": 696, "layer1": 30_192, "layer2": 244_180, "layer3": 501_352, "layer4": 477_184,
        "up0": 272_897, "up1": 35_585, "up2": 9_601, "hm": 6_228, "wh": 5_058, "reg": 5_058,
    },
    2: {
        "layer0": 696, "layer1": 117_872, "layer2": 1_044_564, "layer3": 2_178_920,
        "layer4": 2_105_634, "up0": 573_211, "up1": 35_585, "up2": 9_601, "hm": 6_228,
        "wh": 5_058, "reg": 5_058,
    },
}
# One row of each kind from the published layer table of configuration a.
LAYER_MACS_A = {
    "layer0": 2_654_208,
    "layer1.0.b1.dw": 221_184,
    "layer1.0.b1.pw": 1_425_408,
    "layer1.0.b2.pw1": 5_701_632,
    "layer1.0.b2.dw": 534_528,
    "layer2.0.b2.pw1": 13_778_944,
    "layer3.0.b2.pw2": 3_444_736,
    "layer4": 30_408_704,
    "up0.scale": 65_536,
    "up0.ddw": 589_824,
    "up0.pw": 16_777_216,
    "up1.ddw": 589_824,
    "up2.scale": 131_072,
    "up2.ddw": 1_179_648,
    "up2.pw": 8_388_608,
    "hm.pw1": 16_777_216,
    "hm.dw": 2_359_296,
    "hm.pw2": 5_242_880,
    "wh.pw2": 524_288,
    "reg.pw2": 524_288,
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def count_macs(model: CoDeNet) -> Counter[str]:
    """MACs of each unit from the shapes of one forward pass on the meta device."""
    macs: Counter[str] = Counter()
    names = {m: n for n, m in model.named_modules()}

    def conv(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        macs[names[module].removesuffix(".conv")] += out.numel() * module.weight[0].numel()

    def deform(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        macs[names[module]] += out.numel() * 9

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(conv)
        elif isinstance(module, DeformDw):
            module.register_forward_hook(deform)
    size = model.cfg.input_size
    outputs = model(torch.empty(1, 3, size, size, device="meta"))
    side = size // 4
    assert [tuple(o.shape) for o in outputs] == [
        (1, model.cfg.classes, side, side), (1, 2, side, side), (1, 2, side, side)
    ]
    return macs


@pytest.mark.parametrize("name", "abcdefg")
def test_macs_and_parameters_are_the_published_ones(name: str) -> None:
    model = CoDeNet(config(name)).to("meta").eval()
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert sum(c.weight.numel() for c in convs) == CONV_WEIGHTS[model.cfg.width]
    for stage, parameters in STAGE_PARAMETERS[model.cfg.width].items():
        assert sum(p.numel() for p in model.get_submodule(stage).parameters()) == parameters
    macs = count_macs(model)
    assert macs.total() == MACS[name]
    if name == "a":
        assert {k: macs[k] for k in LAYER_MACS_A} == LAYER_MACS_A


def test_the_ablation_only_loses_the_scale_maps() -> None:
    model = CoDeNet(config("a", plain_dw=True)).to("meta").eval()
    scale_maps = 65_536 + 65_536 + 131_072
    assert count_macs(model).total() == MACS["a"] - scale_maps
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS["a"] - 1025 - 257 - 129


def test_unknown_configurations_are_refused() -> None:
    with pytest.raises(ConfigError, match="a, b, c, d, e, f, g"):
        config("h")
    with pytest.raises(ConfigError, match="at least one class"):
        config("a", classes=0)


def test_input_that_is_no_multiple_of_32_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiples of 32"):
        CoDeNet(config("b", 1))(torch.zeros(1, 3, 64, 72))


def images(seed: int, n: int = 2, h: int = 64, w: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, h, w), generator=generator) / 256


def settled(cfg: CodenetConfig, seed: int = 0) -> CoDeNet:
    """A float model in evaluation mode whose batch norms have seen data."""
    torch.manual_seed(seed)
    model = CoDeNet(cfg)
    with torch.no_grad():
        for step in range(20):
            model(images(step))
    return model.eval()


def test_it_starts_as_the_plain_network() -> None:
    deform = settled(config("b", 3))
    ablation = CoDeNet(config("b", 3, plain_dw=True)).eval()
    own = ablation.state_dict()
    ablation.load_state_dict({k: v for k, v in deform.state_dict().items() if k in own})
    x = images(9, h=64, w=96)
    with torch.no_grad():
        for a, b in zip(deform(x), ablation(x), strict=True):
            assert a.shape[2:] == (16, 24)
            torch.testing.assert_close(a, b, rtol=0, atol=1e-4)
    assert torch.all(deform.up1.scale(torch.rand(1, 256, 8, 8)) == 1)


def test_the_heat_map_starts_rare() -> None:
    assert CoDeNet(config("b", 4)).hm.pw2.conv.bias.tolist() == pytest.approx([-2.19] * 4)


def test_shuffle_interleaves_the_halves() -> None:
    stage = CoDeNet(config("b", 1)).layer1
    unit = stage.get_submodule("1")
    unit.b2 = _Negate()
    x = torch.arange(116.0).view(1, 116, 1, 1).expand(1, 116, 2, 2)
    out = unit(x, nn.Identity())[0, :, 0, 0]
    assert torch.equal(out[0::2], torch.arange(58.0))
    assert torch.equal(out[1::2], -torch.arange(58.0, 116.0))


class _Negate(nn.Module):
    def forward(self, x: Tensor, act: nn.Module) -> Tensor:
        return -x


@pytest.fixture(scope="module")
def quantised() -> CoDeNet:
    torch.set_num_threads(1)
    model = quantise(settled(config("b", 2)))
    calibrate(model, [images(50), images(51)])
    return model


def test_quantised_layers_stay_near_the_float_ones(quantised: CoDeNet) -> None:
    """Each unit, fed the quantised network's own input, against the float unit it came from."""
    reference, model = settled(config("b", 2)), quantised.eval()
    checked = 0

    def compare(unit: ConvUnit, args: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal checked
        twin = reference.get_submodule(names[unit])
        shared = () if twin.act is not None else (nn.ReLU(),)
        exact = twin(args[0].value, *shared).flatten()
        correlation = torch.corrcoef(torch.stack((exact, out.value.flatten())))[0, 1]
        assert float(correlation) > 0.93, names[unit]
        checked += 1

    names = {m: n for n, m in model.named_modules() if isinstance(m, ConvUnit)}
    units = [m for m in names if m.kind != "dilation"]
    handles = [unit.register_forward_hook(compare) for unit in units]
    with torch.no_grad():
        outputs = model(images(50))
    for handle in handles:
        handle.remove()
    assert checked == len(units)
    assert all(type(out) is Tensor for out in outputs)


def test_quantise_leaves_the_float_model_alone() -> None:
    model = settled(config("b", 1))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert not model.quantised
    assert quantise(model).quantised
    assert not model.quantised
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_phases_are_checked(quantised: CoDeNet) -> None:
    with pytest.raises(ConfigError, match="quantised already"):
        quantise(quantised)
    with pytest.raises(ConfigError, match="quantise"):
        calibrate(CoDeNet(config("b", 1)), [images(0)])
    with pytest.raises(DataError, match="at least one batch"):
        calibrate(quantise(CoDeNet(config("b", 1))), [])


def test_quantisers_follow_the_contract(quantised: CoDeNet) -> None:
    model = quantised.eval()
    seen: dict[str, Tensor] = {}
    owner = {m: n for n, m in model.named_modules()}
    handles = [
        m.register_forward_hook(lambda m, a, out: seen.__setitem__(owner[m], out))
        for m in model.modules()
        if isinstance(m, ConvUnit | DeformDw | QuantAct)
    ]
    with torch.no_grad():
        model(images(60))
    for handle in handles:
        handle.remove()
    for name, out in seen.items():
        unit = model.get_submodule(name)
        if not isinstance(unit, ConvUnit | DeformDw):
            continue
        relu = ".dw" not in name and "ddw" not in name and not name.endswith(("scale", "hm.pw2"))
        relu = (relu and name not in ("wh.pw2", "reg.pw2")) or name in ("hm.dw", "wh.dw", "reg.dw")
        bits = 3 if name.endswith(".scale") else 8
        assert int(out.bit_width) == bits, name
        assert bool(out.signed) == (not relu and bits == 8), name
        exponent = torch.log2(out.scale)
        assert torch.equal(exponent, exponent.round()), name
        integers = out.value / out.scale
        assert torch.equal(integers, integers.round()), name
        weight = unit.conv.quant_weight()
        limit = 127 if name == "layer0" else 7
        assert int(weight.int().abs().max()) <= limit, name
        assert weight.scale.numel() == unit.conv.out_channels, name
        exponent = torch.log2(weight.scale)
        assert torch.equal(exponent, exponent.round()), name
        if bits == 3:
            assert float(out.scale) == 1.0
    for stage in ("layer1", "layer2", "layer3"):
        names = [n for n in seen if n.startswith(stage) and n.endswith(("b1.pw", "pw2"))]
        finals = [seen[n].scale for n in names]
        assert len(finals) == {"layer1": 5, "layer2": 9, "layer3": 5}[stage]
        assert all(torch.equal(s, finals[0]) for s in finals)


def test_every_parameter_trains(quantised: CoDeNet) -> None:
    model = quantised.train()
    model.zero_grad()
    sum(o.square().sum() for o in model(images(61))).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    model.zero_grad()
    # A quantiser without clipped values has no gradient to its scale; all else must have one.
    assert [n for n in without if "scaling_impl" not in n] == []


def test_checkpoints_come_back_equal(quantised: CoDeNet, tmp_path: Path) -> None:
    meta = {"epoch": 3, "ap50": 0.5, "note": "x"}
    for model in (settled(config("b", 2, plain_dw=True)), quantised.eval()):
        path = tmp_path / "model.safetensors"
        save_checkpoint(model, path, meta)
        loaded, got = load_checkpoint(path)
        assert got == meta
        assert (loaded.cfg, loaded.quantised) == (model.cfg, model.quantised)
        x = images(70)
        with torch.no_grad():
            for a, b in zip(model(x), loaded(x), strict=True):
                assert torch.equal(a, b)


def test_bad_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(DataError, match="no such checkpoint"):
        load_checkpoint(path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="hwflow train"):
        load_checkpoint(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="hwflow train"):
        load_checkpoint(path)
    save_checkpoint(CoDeNet(config("b", 1)), path, {})
    tensors = load_file(path)
    del tensors["layer4.conv.weight"]
    header = {
        "format": 1, "model": "codenet", "phase": "float", "meta": {},
        "config": config("b", 1).__dict__,
    }
    save_file(tensors, path, metadata={"hwflow": json.dumps(header)})
    with pytest.raises(DataError, match=r"layer4\.conv\.weight"):
        load_checkpoint(path)
    save_file(tensors, path, metadata={"hwflow": json.dumps(header | {"format": 99})})
    with pytest.raises(DataError, match="format 99"):
        load_checkpoint(path)
