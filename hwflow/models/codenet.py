# SPDX-License-Identifier: Apache-2.0
"""CoDeNet: ShuffleNetV2 backbone, deformable decoder and three heads, in float and in W4A8.

Architecture after Dong et al., "CoDeNet: Efficient Deployment of Input-Adaptive Object Detection
on Embedded FPGAs" (FPGA 2021), with the dilation of the deformable layers rounded to 0..7.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from brevitas.nn import QuantIdentity
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hwflow.errors import ConfigError, DataError
from hwflow.models import shapes
from hwflow.models.layers import (
    ConvUnit,
    DeformDw,
    InQ,
    QuantAct,
    float_act,
    plain,
    quant_act,
)
from hwflow.models.shapes import (
    DECODER_CHANNELS,
    HEAD_CHANNELS,
    LAYER4_CHANNELS,
    PAPER_CLASSES,
    STAGE_CHANNELS,
    STAGE_UNITS,
    STEM_CHANNELS,
    CodenetConfig,
)

HM_BIAS = -2.19
STRIDE = 32
FORMAT = 1
MOST_CLASSES = 10_000


def config(name: str, classes: int = PAPER_CLASSES, plain_dw: bool = False) -> CodenetConfig:
    """A configuration of hwflow/models/shapes.py; raises ConfigError for another name."""
    return shapes.codenet(name, classes, plain_dw)


class Branch1(nn.Module):
    """Depthwise stride 2, then 1x1: the left branch of a stage's first unit."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.dw = ConvUnit(cin, cin, 3, 2, cin, act="i8")
        self.pw = ConvUnit(cin, cout, act=None)

    def forward(self, x: Tensor, act: nn.Module) -> Tensor:
        """x (N, cin, H, W) -> (N, cout, H/2, W/2)."""
        return self.pw(self.dw(x), act)


class Branch2(nn.Module):
    """1x1, depthwise, 1x1: the right branch of every unit."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.pw1 = ConvUnit(cin, cout)
        self.dw = ConvUnit(cout, cout, 3, stride, cout, act="i8")
        self.pw2 = ConvUnit(cout, cout, act=None)

    def forward(self, x: Tensor, act: nn.Module) -> Tensor:
        """x (N, cin, H, W) -> (N, cout, H/stride, W/stride)."""
        return self.pw2(self.dw(self.pw1(x)), act)


class ShuffleUnit(nn.Module):
    """A ShuffleNetV2 unit; cin is None for a unit of stride 1."""

    def __init__(self, cin: int | None, cout: int) -> None:
        super().__init__()
        half = cout // 2
        if cin is None:
            self.b2 = Branch2(half, half, 1)
        else:
            self.b1 = Branch1(cin, half)
            self.b2 = Branch2(cin, half, 2)
        self.downsample = cin is not None

    def forward(self, x: Tensor, act: nn.Module) -> Tensor:
        """x -> plain tensor (N, cout, H', W'), all values on act's grid."""
        if self.downsample:
            left = plain(self.b1(x, act))
            right = plain(self.b2(x, act))
        else:
            left, half = torch.chunk(plain(x), 2, dim=1)
            # A split loses the scale: the stage's own quantiser gives it back, changing nothing.
            right = plain(self.b2(act(half), act))
        n, c, h, w = left.shape
        both = torch.cat((left, right), dim=1).reshape(n, 2, c, h, w)
        return both.transpose(1, 2).reshape(n, 2 * c, h, w)


class Stage(nn.Module):
    """ShuffleNetV2 units around one shared output quantiser."""

    def __init__(self, cin: int, cout: int, units: int) -> None:
        super().__init__()
        self.act: nn.Module = float_act("u8")
        self.units = units
        for i in range(units):
            self.add_module(str(i), ShuffleUnit(cin if i == 0 else None, cout))

    def quantise(self) -> None:
        """Replace the shared activation by its quantiser."""
        self.act = quant_act("u8")

    def forward(self, x: Tensor) -> Tensor:
        """x (N, cin, H, W) -> (N, cout, H/2, W/2)."""
        for i in range(self.units):
            x = self.get_submodule(str(i))(x, self.act)
        return self.act(x)


class Up(nn.Module):
    """A decoder stage: dilation map, deformable depthwise, 1x1, nearest upsampling by two."""

    def __init__(self, cin: int, cout: int, plain_dw: bool) -> None:
        super().__init__()
        self.plain_dw = plain_dw
        if plain_dw:
            self.ddw: nn.Module = ConvUnit(cin, cin, 3, 1, cin, bn=False, act="i8")
            self.ddw.conv.bias = None
        else:
            self.scale = ConvUnit(cin, 1, bn=False, act="dilation")
            nn.init.zeros_(self.scale.conv.weight)
            nn.init.ones_(self.scale.conv.bias)
            self.ddw = DeformDw(cin)
        self.pw = ConvUnit(cin, cout)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, cin, H, W) -> (N, cout, 2H, 2W)."""
        y = self.ddw(x) if self.plain_dw else self.ddw(x, self.scale(x))
        return F.interpolate(self.pw(y), scale_factor=2, mode="nearest")


class Head(nn.Module):
    """1x1, depthwise, 1x1 with bias."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.pw1 = ConvUnit(cin, HEAD_CHANNELS)
        self.dw = ConvUnit(HEAD_CHANNELS, HEAD_CHANNELS, 3, 1, HEAD_CHANNELS)
        self.pw2 = ConvUnit(HEAD_CHANNELS, cout, bn=False, act="i8")

    def forward(self, x: Tensor) -> Tensor:
        """x (N, cin, H, W) -> plain tensor (N, cout, H, W)."""
        return plain(self.pw2(self.dw(self.pw1(x))))


class CoDeNet(nn.Module):
    """The detector in its float phase; `quantise` makes the quantised one."""

    def __init__(self, cfg: CodenetConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.quantised = False
        self.input_quant: nn.Module = nn.Identity()
        self.layer0 = ConvUnit(
            3, STEM_CHANNELS, 3, 4 if cfg.layer0 == "s4" else 2, weight_bits=8
        )
        self.pool = nn.Identity() if cfg.layer0 == "s4" else nn.MaxPool2d(3, 2, 1)
        c1, c2, c3 = STAGE_CHANNELS[cfg.width]
        self.layer1 = Stage(STEM_CHANNELS, c1, STAGE_UNITS[0])
        self.layer2 = Stage(c1, c2, STAGE_UNITS[1])
        self.layer3 = Stage(c2, c3, STAGE_UNITS[2])
        self.layer4 = ConvUnit(c3, LAYER4_CHANNELS[cfg.width])
        d0, d1, d2 = DECODER_CHANNELS
        self.up0 = Up(LAYER4_CHANNELS[cfg.width], d0, cfg.plain_dw)
        self.up1 = Up(d0, d1, cfg.plain_dw)
        self.up2 = Up(d1, d2, cfg.plain_dw)
        self.hm = Head(d2, cfg.classes)
        self.wh = Head(d2, 2)
        self.reg = Head(d2, 2)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, ConvUnit) and module.kind != "dilation":
                nn.init.kaiming_uniform_(module.conv.weight, nonlinearity="relu")
        for head in (self.hm, self.wh, self.reg):
            nn.init.normal_(head.pw2.conv.weight, std=0.03)
            nn.init.zeros_(head.pw2.conv.bias)
        nn.init.constant_(self.hm.pw2.conv.bias, HM_BIAS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (N, 3, H, W), pixel / 256 -> hm logits, wh, reg, each (N, ., H/4, W/4)."""
        if x.shape[-1] % STRIDE or x.shape[-2] % STRIDE:
            raise ConfigError(
                f"CoDeNet input of {x.shape[-2]} x {x.shape[-1]} pixels: "
                f"both sides must be multiples of {STRIDE}; pad or resize the image"
            )
        x = self.pool(self.layer0(self.input_quant(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.up2(self.up1(self.up0(self.layer4(x))))
        return self.hm(x), self.wh(x), self.reg(x)


def quantise(model: CoDeNet) -> CoDeNet:
    """A quantised copy of a float-phase model, batch norm folded; build a new optimiser after it.

    Activation scales are arbitrary until `calibrate`. Raises ConfigError if it is quantised.
    """
    if model.quantised:
        raise ConfigError("this CoDeNet is quantised already: give quantise() a float-phase model")
    model = copy.deepcopy(model)
    device = model.layer0.conv.weight.device
    for module in list(model.modules()):
        if isinstance(module, ConvUnit | DeformDw | Stage):
            module.quantise()
    model.input_quant = QuantIdentity(act_quant=InQ, return_quant_tensor=True)
    model.quantised = True
    return model.to(device)


def calibrate(model: CoDeNet, batches: Iterable[Tensor]) -> None:
    """Choose every activation scale of a quantised model from images (N, 3, H, W), pixel / 256.

    Each quantiser takes the power of two of least squared error over all it saw.
    """
    if not model.quantised:
        raise ConfigError("calibrate() needs a quantised CoDeNet: call quantise() first")
    quantisers = [m for m in model.modules() if isinstance(m, QuantAct)]
    training = model.training
    model.eval()
    for quantiser in quantisers:
        quantiser.start()
    with torch.no_grad():
        count = sum(1 for _ in (model(batch) for batch in batches))
    for quantiser in quantisers:
        quantiser.settle()
    model.train(training)
    if not count:
        raise DataError("calibrate() was given no images: pass at least one batch")


def save_checkpoint(model: CoDeNet, path: Path, meta: dict) -> None:
    """Write tensors, configuration, phase and meta (JSON values) to one safetensors file."""
    header = {
        "format": FORMAT,
        "model": "codenet",
        "config": asdict(model.cfg),
        "phase": "quantised" if model.quantised else "float",
        "meta": meta,
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, path, metadata={"hwflow": json.dumps(header)})


def load_checkpoint(path: Path) -> tuple[CoDeNet, dict]:
    """The model (on the CPU, evaluation mode) and meta; DataError if the file is not of ours."""
    rule = "expected a checkpoint that `hwflow train` wrote"
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = json.loads((file.metadata() or {})["hwflow"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["format"] != FORMAT or header["model"] != "codenet":
            raise DataError(f"{path}: a {header['model']} checkpoint of format {header['format']}, "
                            f"{rule} of format {FORMAT}")
        cfg = CodenetConfig(**header["config"])
        if cfg != config(cfg.name, cfg.classes, cfg.plain_dw) or cfg.classes > MOST_CLASSES:
            raise DataError(f"{path}: {rule}: {cfg} is none of the configurations a to g")
        if not isinstance(header["meta"], dict):
            raise DataError(f"{path}: {rule}: its meta is no table")
        model = CoDeNet(cfg)
        if header["phase"] == "quantised":
            model = quantise(model)
        model.load_state_dict(tensors, strict=True)
        meta = header["meta"]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such checkpoint; train the model first") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError,
            ConfigError) as error:
        raise DataError(f"{path}: {rule}: {error}") from error
    return model.eval(), meta
