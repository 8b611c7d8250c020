# SPDX-License-Identifier: Apache-2.0
"""Where torch trains: the choice, what is refused, and that nothing is made on another device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typer.testing import CliRunner

from hwflow.cli import app
from hwflow.data import samples
from hwflow.errors import ConfigError
from hwflow.models.devices import device_of
from hwflow.models.dtnn import Conv, DtnnConfig, Window
from hwflow.train_tables import TableTraining, train
from hwflow.training_tables import gradient, teachers, torch_wiring
from hwflow.training_tables.encoders import encoder_of

SMALL = (1, 8, 8)
META = torch.device("meta")


@pytest.mark.parametrize(("name", "there", "wanted"), [
    ("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", True, "cuda"),
])  # fmt: skip
def test_auto_is_a_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, name: str, there: bool, wanted: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert device_of(name) == torch.device(wanted)


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    images, labels = np.zeros((64, *SMALL), np.uint8), np.zeros(64, np.int64)
    by_torch = DtnnConfig("x", (20,), SMALL, node="affine", inputs=3)
    with pytest.raises(ConfigError, match="torch finds no such device; use cpu or auto"):
        train(by_torch, images, labels, tmp_path, tmp_path, device="cuda")
    with pytest.raises(ConfigError, match="device 'tpu': must be auto, cpu or cuda"):
        train(by_torch, images, labels, tmp_path / "new", tmp_path, device="tpu")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for cfg in (DtnnConfig("x", (20,), SMALL),
                DtnnConfig("x", (20,), SMALL, convs=(Conv(4, Window(3)),))):
        with pytest.raises(ConfigError, match=r"run on the CPU \(their loops are C\+\+\)"):
            train(cfg, images, labels, tmp_path, tmp_path, device="cuda")


def test_the_command_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for given, what in ((["--method", "gradient"], "torch finds no such device"),
                        ([], "run on the CPU")):  # fmt: skip
        found = CliRunner().invoke(app, [
            "train", "dtnn", "--data", "digits", "--luts", "300", "--device", "cuda", "--out",
            str(tmp_path / "run"), *given,
        ])  # fmt: skip
        assert isinstance(found.exception, ConfigError) and what in str(found.exception)


def test_the_cpu_is_the_default_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    digits = samples.load("digits", "train", tmp_path)
    cfg = DtnnConfig("x", (30, 20), SMALL, levels=2, inputs=3, bits=(2, 1), node="affine")
    options = TableTraining(epochs=2, batch=64, threads=1, distil=0.5, teacher_epochs=1)
    found: list[dict[str, np.ndarray]] = []
    for device in ("auto", "cpu"):
        done = train(cfg, digits.images[:256], digits.labels[:256], tmp_path / device, tmp_path,
                     options, device=device)  # fmt: skip
        found.append(load_file(done.checkpoint))
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        assert np.array_equal(found[0][name], found[1][name])


class _Only(TorchDispatchMode):
    """Refuses tensors that any operation makes on another device; single numbers may be anywhere,
    as with CUDA."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.seen = device, 0

    def __torch_dispatch__(
        self, func: Callable[..., object], types: Sequence[type], args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:  # fmt: skip
        out = func(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, Tensor) and one.dim():
                assert one.device == self.device, f"{func} made a tensor on {one.device}"
                self.seen += 1
        return out


STEPS = {
    "lookup": (DtnnConfig("x", (40, 20), SMALL, levels=2), False),
    "affine": (DtnnConfig("x", (40, 20), SMALL, inputs=3, bits=(2, 1), node="affine"), False),
    "polynomial": (DtnnConfig("x", (40, 10), SMALL, inputs=3, bits=(2, 3), node="polynomial",
                              head="codes"), False),
    "mlp": (DtnnConfig("x", (40, 20), SMALL, inputs=2, bits=(3, 1), node="mlp"), False),
    "thermometer": (DtnnConfig("x", (40,), SMALL, levels=3), True),
    "linear": (DtnnConfig("x", (40,), SMALL, levels=7, encoder="linear"), True),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_a_step_stays_on_its_device(name: str) -> None:
    """On the device without memory: what would be on the CPU cannot be mixed with it."""
    cfg, learn = STEPS[name]
    encoder = encoder_of(cfg, np.arange(256, dtype=np.uint8).repeat(64).reshape(256, *SMALL))
    model = gradient.build(cfg, encoder, 0, None, learn).train().to(META)
    options = TableTraining(learn_thresholds=learn)
    optimiser = gradient._optimiser(model, options)
    x = torch.zeros(64 if learn else encoder.bits, 32, dtype=torch.uint8, device=META)
    q = torch.zeros(32, 10, device=META)
    with _Only(META) as mode:
        torch_wiring.loss_of(model, gradient.bits_of(model, x), q, 2.0).backward()
        optimiser.step()
        found = torch_wiring.signals(model, gradient.bits_of(model, x).detach(), q, 2.0)
    assert mode.seen > 50
    assert all(p.grad is None or p.grad.device == META for p in model.parameters())
    assert {one.gains.device for one in found} == {META} and len(found) == len(cfg.widths)
    assert found[0].gains.shape == (cfg.widths[0] * cfg.inputs, encoder.bits)


@pytest.mark.parametrize("shape", [SMALL, (5, 1, 1)])
def test_a_teacher_stays_on_its_device(shape: tuple[int, int, int]) -> None:
    few = torch.zeros(shape)
    net = teachers._Teacher(shape, 10, few, few + 1).train().to(META)
    with _Only(META) as mode:
        net(torch.zeros(16, *shape, device=META)).sum().backward()
    assert mode.seen > 10


def test_the_guard_sees_what_is_elsewhere() -> None:
    with pytest.raises(AssertionError, match="on cpu"), _Only(META):
        torch.arange(3)
